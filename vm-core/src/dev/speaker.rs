//! System control port B (0x61): gate and output of the timer's counter 2, the speaker's switch, the refresh toggle.
//!
//! 82371SB (PIIX3) data sheet, 2.5.5 (NMI status and control). The board carries the two wires between this chip and the
//! timer: after a write, `pit.set_gate_2(speaker.gate_2())`; a read is given `pit.output_2()`.

use serde::{Deserialize, Serialize};

use crate::bus::clock::{Clock, nanos_to_ticks};
use crate::dev::Device;
use crate::snapshot::section::{LoadError, Section};

/// Bit 0: gate of counter 2.
const GATE_2: u8 = 1 << 0;
/// Bit 1: counter 2 reaches the speaker.
const SPEAKER_DATA: u8 = 1 << 1;
/// Bit 4: toggles with each refresh request, every 15 µs.
const REFRESH: u8 = 1 << 4;
/// Bit 5: output of counter 2.
const OUTPUT_2: u8 = 1 << 5;
/// Bits that can be written: gate, speaker, parity and channel check enables.
const WRITABLE: u8 = 0x0f;

/// Refresh requests a second: the timer's clock divided by 18.
const REFRESH_HERTZ: u64 = 1_193_182 / 18;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct SpeakerState {
    control: u8,
}

/// The port.
#[derive(Debug)]
pub struct Speaker {
    state: SpeakerState,
    clock: Clock,
}

impl Speaker {
    /// A port whose refresh bit follows `clock`.
    pub fn new(clock: Clock) -> Self {
        Self { state: SpeakerState::default(), clock }
    }

    /// Reads the port; `output_2` is the level of the timer's OUT 2.
    pub fn read(&self, output_2: bool) -> u8 {
        let refresh = nanos_to_ticks(self.clock.now(), REFRESH_HERTZ) & 1 != 0;
        self.state.control | if refresh { REFRESH } else { 0 } | if output_2 { OUTPUT_2 } else { 0 }
    }

    /// Writes the port. The board then drives GATE 2 with [`Speaker::gate_2`].
    pub fn write(&mut self, value: u8) {
        self.state.control = value & WRITABLE;
    }

    /// The level of the timer's GATE 2.
    pub fn gate_2(&self) -> bool {
        self.state.control & GATE_2 != 0
    }

    /// Whether the timer's output reaches the speaker.
    pub fn is_on(&self) -> bool {
        self.state.control & SPEAKER_DATA != 0
    }
}

impl Device for Speaker {
    fn name(&self) -> &'static str {
        "speaker"
    }

    fn reset(&mut self) {
        self.state = SpeakerState::default();
    }

    fn save(&self) -> Section {
        Section::encode(self.name(), 1, &self.state)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let state: SpeakerState = section.decode(self.name(), 1)?;
        if state.control & !WRITABLE != 0 {
            return Err(LoadError::invalid(self.name(), format!("control is {:#x}", state.control)));
        }
        self.state = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::suite;

    #[test]
    fn the_port_shows_gate_output_and_refresh() {
        let clock = Clock::manual();
        let mut speaker = Speaker::new(clock.clone());
        speaker.write(0xff);
        assert!(speaker.gate_2() && speaker.is_on());
        assert_eq!(speaker.read(true) & !REFRESH, 0x2f);
        speaker.write(0x02);
        assert!(!speaker.gate_2());
        let first = speaker.read(false);
        clock.set(15_200);
        assert_eq!(first ^ speaker.read(false), REFRESH);
    }

    #[test]
    fn state_is_kept() {
        suite::check(|| Speaker::new(Clock::manual()), |speaker| speaker.write(3));
    }
}
