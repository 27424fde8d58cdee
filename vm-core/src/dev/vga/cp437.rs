//! Code page 437, the character set of a PC's text screen.

/// Characters 0x00–0x1F as the screen shows them.
const LOW: &str = " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼";
/// Characters 0x7F–0xFF.
const HIGH: &str = concat!(
    "⌂ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒ",
    "áíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐",
    "└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀",
    "αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}",
);

/// The table of all 256 characters. 0x00 and 0xFF, which show nothing, are blanks.
pub fn table() -> [char; 256] {
    let mut table = [' '; 256];
    for (entry, character) in table.iter_mut().zip(LOW.chars()) {
        *entry = character;
    }
    for (entry, code) in table.iter_mut().zip(0_u8..0x7f).skip(0x20) {
        *entry = char::from(code);
    }
    for (entry, character) in table.iter_mut().skip(0x7f).zip(HIGH.chars()) {
        *entry = if character == '\u{a0}' { ' ' } else { character };
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_complete() {
        assert_eq!(LOW.chars().count(), 32);
        assert_eq!(HIGH.chars().count(), 129);
        let table = table();
        for (code, character) in
            [(0x01, '☺'), (0x1f, '▼'), (0x41, 'A'), (0x7e, '~'), (0x7f, '⌂'), (0xb0, '░'), (0xc4, '─'), (0xdb, '█')]
        {
            assert_eq!(table[code], character);
        }
        assert_eq!(table[0xe1], 'ß');
        assert_eq!(table[0xfe], '■');
        assert_eq!((table[0], table[0xff]), (' ', ' '));
    }
}
