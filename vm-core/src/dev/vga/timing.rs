//! Where the beam is: a function of the registers and guest time, from the absolute origin 0.

use super::registers::Registers;
use crate::bus::clock::{Nanos, nanos_to_ticks};

/// Dots a second of the two crystals.
const DOT_CLOCKS: [u64; 2] = [25_175_000, 28_322_000];

/// Input status 1: outside of the displayed picture.
const STATUS_BLANK: u8 = 0x01;
/// Input status 1: vertical retrace.
const STATUS_RETRACE: u8 = 0x08;

/// Dots of one line, blanking included, at least 1.
fn line_dots(registers: &Registers) -> u64 {
    u64::from(registers.crtc.horizontal_total()) * character_dots(registers)
}

fn character_dots(registers: &Registers) -> u64 {
    let dots = if registers.sequencer.eight_dots() { 8 } else { 9 };
    if registers.sequencer.half_clock() { 2 * dots } else { dots }
}

fn dots(registers: &Registers, now: Nanos) -> u64 {
    let crystal = usize::from(registers.misc >> 2 & 3 == 1);
    nanos_to_ticks(now, DOT_CLOCKS[crystal])
}

/// Input status 1 (0x3DA) without the bits that no program reads.
pub fn status(registers: &Registers, now: Nanos) -> u8 {
    let crtc = &registers.crtc;
    let line_dots = line_dots(registers);
    let position = dots(registers, now) % (line_dots * u64::from(crtc.vertical_total()));
    let (line, dot) = ((position / line_dots) as u32, position % line_dots);
    let (start, length) = crtc.retrace();
    let mut status = 0;
    if line >= crtc.lines() || dot >= u64::from(crtc.columns()) * character_dots(registers) {
        status |= STATUS_BLANK;
    }
    if (start..start + length).contains(&line) {
        status |= STATUS_RETRACE;
    }
    status
}

/// Whole frames since power-on; cursor and characters blink by it.
pub fn frames(registers: &Registers, now: Nanos) -> u64 {
    dots(registers, now) / (line_dots(registers) * u64::from(registers.crtc.vertical_total()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::clock::SECOND;
    use crate::dev::vga::tests::{mode_3, mode_13h};

    #[test]
    fn text_mode_has_70_frames_a_second_and_two_lines_of_retrace() {
        for registers in [mode_3(), mode_13h()] {
            assert_eq!(frames(&registers, SECOND), 70);
            let samples: Vec<u8> = (0..100_000).map(|n| status(&registers, n * 1000)).collect();
            let rises = samples.windows(2).filter(|pair| pair[0] & 8 == 0 && pair[1] & 8 != 0).count();
            assert_eq!(rises, 7, "retraces in 100 ms");
            let retrace = samples.iter().filter(|status| *status & 8 != 0).count();
            // Two of 449 lines.
            assert!((400..=500).contains(&retrace), "{retrace} µs of 100,000");
            let shown = samples.iter().filter(|status| *status & 1 == 0).count();
            // 400 of 449 lines, 80 of 100 characters.
            assert!((70_000..=72_500).contains(&shown), "{shown} µs of 100,000");
        }
    }

    #[test]
    fn no_register_value_divides_by_zero() {
        let mut registers = Registers::default();
        for value in [0, 0xff] {
            registers.crtc.data = [value; 25];
            let _ = status(&registers, u64::MAX);
            let _ = frames(&registers, u64::MAX);
        }
    }
}
