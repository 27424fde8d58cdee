//! What the monitor says of itself (VESA E-EDID 1.4): 128 bytes at the start of BAR 2.
//!
//! A flat panel without a size, so that no system guesses at tiny letters, that shows all the resolutions this adapter has.

/// Bytes of the base block.
pub const SIZE: usize = 128;

/// Manufacturer, five bits a letter: "HKO".
const MANUFACTURER: [u8; 2] = letters(*b"HKO");
/// Established timings: 640 × 480, 800 × 600 and 1024 × 768 at 60 Hz.
const ESTABLISHED: [u8; 3] = [0x20 | 0x01, 0x08, 0x00];

/// Shape of a standard timing, as bits 6 and 7 of its second byte.
mod aspect {
    pub const WIDE_16_10: u8 = 0;
    pub const NARROW_4_3: u8 = 1;
    pub const NARROW_5_4: u8 = 2;
    pub const WIDE_16_9: u8 = 3;
}

/// Standard timings, all at 60 Hz: pixels across, and shape.
const STANDARD: [(u16, u8); 8] = [
    (1920, aspect::WIDE_16_10),
    (1920, aspect::WIDE_16_9),
    (1680, aspect::WIDE_16_10),
    (1600, aspect::NARROW_4_3),
    (1440, aspect::WIDE_16_10),
    (1280, aspect::NARROW_5_4),
    (1280, aspect::WIDE_16_10),
    (1152, aspect::NARROW_4_3),
];

/// The preferred mode, 1024 × 768 at 60 Hz (VESA DMT 10h): 65 MHz; 320 pixels and 38 lines are blank; pulses of 136 pixels, 24
/// later, and of 6 lines, 3 later; both negative.
const PREFERRED: [u8; 18] =
    [0x64, 0x19, 0x00, 0x40, 0x41, 0x00, 0x26, 0x30, 0x18, 0x88, 0x36, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x18];
/// Range limits: 50–75 Hz, 30–100 kHz, up to 250 MHz; no formula.
const LIMITS: [u8; 18] = [0, 0, 0, 0xfd, 0, 50, 75, 30, 100, 25, 0x01, 0x0a, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20];
/// The monitor's name.
const NAME: [u8; 18] = *b"\0\0\0\xfc\0Hako display\n";
/// A descriptor without contents.
const DUMMY: [u8; 18] = [0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

const fn letters(text: [u8; 3]) -> [u8; 2] {
    let word = ((text[0] - b'@') as u16) << 10 | ((text[1] - b'@') as u16) << 5 | (text[2] - b'@') as u16;
    word.to_be_bytes()
}

/// The base block with its check sum.
pub const BLOCK: [u8; SIZE] = block();

const fn block() -> [u8; SIZE] {
    let mut block = [0; SIZE];
    let header = [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0];
    let mut at = 0;
    while at < 8 {
        block[at] = header[at];
        at += 1;
    }
    [block[8], block[9]] = MANUFACTURER;
    block[10] = 1;
    // Model year 2026.
    block[16] = 0xff;
    block[17] = (2026_u16 - 1990) as u8;
    // Version 1.4; digital, 8 bits a colour, DisplayPort.
    (block[18], block[19], block[20]) = (1, 4, 0xa5);
    // No size; gamma 2.2; sRGB, and the first detailed timing is the native mode.
    block[23] = 120;
    block[24] = 0x06;
    let srgb = [0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54];
    at = 0;
    while at < srgb.len() {
        block[25 + at] = srgb[at];
        at += 1;
    }
    at = 0;
    while at < 3 {
        block[35 + at] = ESTABLISHED[at];
        at += 1;
    }
    at = 0;
    while at < STANDARD.len() {
        block[38 + 2 * at] = (STANDARD[at].0 / 8 - 31) as u8;
        block[39 + 2 * at] = STANDARD[at].1 << 6;
        at += 1;
    }
    let descriptors = [PREFERRED, LIMITS, NAME, DUMMY];
    at = 0;
    while at < 4 * 18 {
        block[54 + at] = descriptors[at / 18][at % 18];
        at += 1;
    }
    let mut sum = 0_u8;
    at = 0;
    while at < SIZE - 1 {
        sum = sum.wrapping_add(block[at]);
        at += 1;
    }
    block[SIZE - 1] = 0_u8.wrapping_sub(sum);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_adds_up_and_offers_what_the_adapter_can_show() {
        assert_eq!(BLOCK.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0);
        assert_eq!(BLOCK[..8], [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]);
        let sizes: Vec<_> = BLOCK[38..54]
            .chunks(2)
            .map(|timing| {
                let width = (u32::from(timing[0]) + 31) * 8;
                let (across, down) = [(16, 10), (4, 3), (5, 4), (16, 9)][usize::from(timing[1] >> 6)];
                (width, width * down / across)
            })
            .collect();
        let expected = [
            (1920, 1200),
            (1920, 1080),
            (1680, 1050),
            (1600, 1200),
            (1440, 900),
            (1280, 1024),
            (1280, 800),
            (1152, 864),
        ];
        assert_eq!(sizes, expected);
        let timing = &BLOCK[54..72];
        let twelve =
            |low: usize, high: usize, shift: u32| u32::from(timing[low]) | u32::from(timing[high] >> shift & 15) << 8;
        assert_eq!((twelve(2, 4, 4), twelve(5, 7, 4)), (1024, 768));
        let (across, down) = (1024 + twelve(3, 4, 0), 768 + twelve(6, 7, 0));
        let clock = u32::from(u16::from_le_bytes([timing[0], timing[1]])) * 10_000;
        assert_eq!((across, down, clock / (across * down)), (1344, 806, 60));
        assert_eq!(&BLOCK[95..107], b"Hako display");
    }
}
