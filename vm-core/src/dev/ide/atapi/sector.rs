//! A sector as it stands on a CD: what READ CD can show beside the user data.
//!
//! ECMA-130, 14 (sectors of mode 1), annex A (error correction) and 14.3 (error detection); MMC-3, 5.26 (READ CD).
//!
//! | bytes | what |
//! |---|---|
//! | 0–11 | synchronization |
//! | 12–15 | header: minute, second, frame (BCD), mode |
//! | 16–2063 | user data |
//! | 2064–2067 | EDC: a check sum of all before it |
//! | 2068–2075 | zeros |
//! | 2076–2247 | P parity of bytes 12–2075 |
//! | 2248–2351 | Q parity of bytes 12–2247 |

use super::{BLOCK, Sense};

/// Bytes of a whole sector.
const SECTOR: usize = 2352;
const HEADER: usize = 12;
const USER: usize = 16;
const EDC: usize = 2064;
const P: usize = 2076;
const Q: usize = 2248;

const SHOW_SYNC: u8 = 0x80;
const SHOW_HEADER: u8 = 0x20;
const SHOW_SUBHEADER: u8 = 0x40;
const SHOW_USER: u8 = 0x10;
const SHOW_EDC: u8 = 0x08;

/// The parts of a sector that READ CD wants: byte 9 of its packet.
///
/// # Errors
/// Where they do not lie side by side, or the bits of errors are wanted, too.
pub fn check_fields(fields: u8) -> Result<(), Sense> {
    let has = |bits: u8| fields & bits != 0;
    let gaps =
        has(SHOW_EDC) && !has(SHOW_USER) || has(SHOW_SYNC) && !has(SHOW_HEADER) && has(SHOW_USER | SHOW_SUBHEADER);
    if gaps || fields & 0x07 != 0 { Err(Sense::INVALID_FIELD) } else { Ok(()) }
}

/// Only the user data is wanted.
pub fn is_plain(fields: u8) -> bool {
    fields & !SHOW_SUBHEADER == SHOW_USER
}

/// The `fields` of the sectors from `block` on that hold `data` (whole blocks of user data).
pub fn show(block: u32, data: &[u8], fields: u8) -> Vec<u8> {
    let mut shown = Vec::new();
    for (block, user) in (block..).zip(data.chunks_exact(BLOCK as usize)) {
        let sector = whole(block, user);
        for (bit, bytes) in
            [(SHOW_SYNC, 0..HEADER), (SHOW_HEADER, HEADER..USER), (SHOW_USER, USER..EDC), (SHOW_EDC, EDC..SECTOR)]
        {
            if fields & bit != 0 {
                shown.extend_from_slice(&sector[bytes]);
            }
        }
    }
    shown
}

/// The sector of `block` with this user data.
fn whole(block: u32, user: &[u8]) -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    sector[1..11].fill(0xff);
    let [_, minute, second, frame] = super::Cd::address(block, true);
    let bcd = |value: u8| value / 10 % 16 << 4 | value % 10;
    sector[HEADER..USER].copy_from_slice(&[bcd(minute), bcd(second), bcd(frame), 1]);
    sector[USER..EDC].copy_from_slice(user);
    let sum = check_sum(&sector[..EDC]);
    sector[EDC..EDC + 4].copy_from_slice(&sum.to_le_bytes());
    // Words of two bytes, columns of the low and of the high bytes: 43 columns of 24, then 26 diagonals of 43.
    parity(&mut sector, P, 86, 24, |column, row| 2 * 43 * row + column);
    parity(&mut sector, Q, 52, 43, |column, row| {
        let word = (column / 2 * 43 + row * 44) % (26 * 43);
        2 * word + column % 2
    });
    sector
}

/// The polynomial (x¹⁶ + x¹⁵ + x² + 1)(x¹⁶ + x² + x + 1), lowest bits first.
fn check_sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum: u32, byte| {
        let sum = sum ^ u32::from(*byte);
        (0..8).fold(sum, |sum, _| sum >> 1 ^ (0xd801_8001 & (sum & 1).wrapping_neg()))
    })
}

/// Multiplied by α in GF(2⁸) with x⁸ + x⁴ + x³ + x² + 1.
fn times_alpha(value: u8) -> u8 {
    value << 1 ^ (0x1d & (value >> 7).wrapping_neg())
}

/// Two parity bytes for each of `columns` columns of `rows` bytes, of which `place` says where they lie behind byte 12. With them,
/// both Σ vᵢ and Σ αⁿ⁻ⁱ vᵢ over a column are 0.
fn parity(sector: &mut [u8; SECTOR], to: usize, columns: usize, rows: usize, place: impl Fn(usize, usize) -> usize) {
    for column in 0..columns {
        let (mut sum, mut weighted) = (0_u8, 0_u8);
        for row in 0..rows {
            let value = sector[HEADER + place(column, row)];
            sum ^= value;
            weighted = times_alpha(weighted ^ value);
        }
        // α·p + q = α·(weighted) and p + q = sum, solved for p: (α + 1)·p = α·weighted + sum.
        let first = divide_by_alpha_plus_one(times_alpha(weighted) ^ sum);
        sector[to + column] = first;
        sector[to + columns + column] = first ^ sum;
    }
}

/// Divided by α + 1, whose inverse is α²⁵⁵⁻²⁵ = 0xf4: multiplied by it.
fn divide_by_alpha_plus_one(value: u8) -> u8 {
    let mut product = 0;
    let (mut factor, mut bits) = (value, 0xf4_u8);
    while bits != 0 {
        if bits & 1 != 0 {
            product ^= factor;
        }
        factor = times_alpha(factor);
        bits >>= 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sector() -> [u8; SECTOR] {
        let user: Vec<u8> = (0..BLOCK as u32).map(|n| (n * n >> 3) as u8).collect();
        whole(16, &user)
    }

    #[test]
    fn the_inverse_is_one() {
        for value in 0..=255_u8 {
            let quotient = divide_by_alpha_plus_one(value);
            assert_eq!(times_alpha(quotient) ^ quotient, value);
        }
    }

    #[test]
    fn the_header_names_the_place_in_decimal() {
        assert_eq!(sector()[..16], [0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 2, 0x16, 1]);
        assert_eq!(whole(4500 * 59 + 75 * 59 + 70, &[0; 2048])[12..16], [0x60, 0x01, 0x70, 1]);
    }

    /// ECMA-130, 14.3 and annex A, read as what a reader of discs checks.
    #[test]
    fn check_sum_and_parity_are_those_of_the_standard() {
        let sector = sector();
        assert_eq!(check_sum(&sector[..EDC + 4]), 0, "the remainder over data and EDC");
        assert_eq!(sector[2068..2076], [0; 8]);
        // P: columns of 24 data words and two of parity, 43 words from row to row. Q: from word 44·row + 43·column on.
        let at = |word: usize, half: usize| sector[HEADER + 2 * word + half];
        for half in 0..2 {
            for column in 0..43 {
                syndromes(&(0..26).map(|row| at(43 * row + column, half)).collect::<Vec<_>>());
            }
            for column in 0..26 {
                let mut word: Vec<_> = (0..43).map(|row| at((44 * row + 43 * column) % 1118, half)).collect();
                word.extend([at(1118 + column, half), at(1118 + 26 + column, half)]);
                syndromes(&word);
            }
        }
    }

    /// Both rows of the check matrix: ones, and falling powers of α.
    fn syndromes(word: &[u8]) {
        assert_eq!(word.iter().fold(0, |sum, value| sum ^ value), 0);
        assert_eq!(word.iter().fold(0, |sum, value| times_alpha(sum) ^ value), 0);
    }

    #[test]
    fn parts_lie_side_by_side() {
        for (fields, bytes) in [(0xf8, 2352), (0x10, 2048), (0x20, 4), (0x30, 2052), (0x18, 2336), (0xa0, 16), (0, 0)] {
            assert_eq!(check_fields(fields), Ok(()), "{fields:#x}");
            assert_eq!(show(0, &[7; 4096], fields).len(), 2 * bytes, "{fields:#x}");
        }
        for fields in [0x08, 0x28, 0x90, 0xc0, 0xd8, 0x12, 0xfa] {
            assert_eq!(check_fields(fields), Err(Sense::INVALID_FIELD), "{fields:#x}");
        }
        assert!(is_plain(0x10) && is_plain(0x50) && !is_plain(0x18));
    }
}
