//! 82441FX host bridge (PMC): which parts of the first megabyte are RAM.
//!
//! Intel 440FX PCIset data sheet (290549), 3.2.
//!
//! | register | what |
//! |---|---|
//! | 0x59–0x5F | PAM: reads and writes of 0xC0000–0xFFFFF go to DRAM or to PCI (ROM) |
//! | 0x72 | SMRAM control |

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::pci::{Identity, PciConfig, PciFunction, PciLayout, register};
use crate::bus::Width;
use crate::bus::signals::Signals;
use crate::dev::Device;
use crate::snapshot::section::{LoadError, Section};

/// First of the seven PAM registers.
const PAM0: u8 = 0x59;
/// System management RAM control.
const SMRAM: u8 = 0x72;
/// SMRAM at 0xA0000 is seen by everybody.
const SMRAM_OPEN: u8 = 1 << 6;
/// SMRAM is closed for good: its open bit no longer changes.
const SMRAM_LOCK: u8 = 1 << 4;
/// SMRAM exists.
const SMRAM_ENABLE: u8 = 1 << 3;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct I440fxState {
    config: PciConfig,
}

#[derive(Debug)]
struct I440fxWires {
    layout: PciLayout,
    signals: Arc<Signals>,
}

/// The host bridge, function 00.0.
#[derive(Debug)]
pub struct I440fx {
    state: I440fxState,
    wires: I440fxWires,
}

impl I440fx {
    /// A bridge that tells `signals` when the memory map changes.
    pub fn new(signals: &Arc<Signals>) -> Self {
        let layout = PciLayout::new(Identity { vendor: 0x8086, device: 0x1237, revision: 2, class: 0x060000 })
            // Memory and master are hard-wired on a host bridge.
            .value(register::COMMAND, &[0x06])
            .writable(register::COMMAND, &[0x40, 0x01])
            .value(register::STATUS, &[0x80, 0x02])
            .writable(register::CACHE_LINE, &[0])
            .writable(register::INTERRUPT_LINE, &[0])
            // PMC configuration, deturbo, buffer control, DRAM control and timing: kept, of no effect.
            .writable(0x50, &[0xff, 0xff, 0, 0xff, 0, 0, 0, 0xff, 0xff])
            .writable(0x57, &[0xff, 0xff])
            .writable(PAM0, &[0x30, 0x33, 0x33, 0x33, 0x33, 0x33, 0x33])
            .writable(0x60, &[0xff; 8])
            .value(0x60, &[0x01; 8])
            .value(SMRAM, &[0x02])
            .writable(SMRAM, &[0x78]);
        Self {
            state: I440fxState { config: layout.reset() },
            wires: I440fxWires { layout, signals: Arc::clone(signals) },
        }
    }

    /// Where accesses to the 16 KiB at 0xC0000 + `segment` × 0x4000 (`segment` 0–15) go: (reads, writes) to DRAM, or else to PCI.
    pub fn pam(&self, segment: u8) -> (bool, bool) {
        let segment = segment & 15;
        let bits = if segment >= 12 {
            // 0xF0000–0xFFFFF is one.
            self.state.config.byte(PAM0) >> 4
        } else {
            self.state.config.byte(PAM0 + 1 + segment / 2) >> (4 * (segment & 1))
        };
        (bits & 1 != 0, bits & 2 != 0)
    }

    /// Whether DRAM shows at 0xA0000–0xBFFFF outside system management mode.
    pub fn smram_open(&self) -> bool {
        self.state.config.byte(SMRAM) & (SMRAM_OPEN | SMRAM_ENABLE) == SMRAM_OPEN | SMRAM_ENABLE
    }

    /// Whether that DRAM shows in system management mode.
    pub fn smram_enabled(&self) -> bool {
        self.state.config.byte(SMRAM) & SMRAM_ENABLE != 0
    }

    fn map(&self) -> ([u8; 7], u8) {
        (std::array::from_fn(|n| self.state.config.byte(PAM0 + n as u8)), self.state.config.byte(SMRAM))
    }
}

impl PciFunction for I440fx {
    fn config_read(&mut self, offset: u8, width: Width) -> u32 {
        self.state.config.read(offset, width)
    }

    fn config_write(&mut self, offset: u8, width: Width, value: u32) {
        let before = self.map();
        self.state.config.write(&self.wires.layout, offset, width, value);
        if before.1 & SMRAM_LOCK != 0 {
            self.state.config.set_byte(SMRAM, before.1);
        }
        if self.map() != before {
            self.wires.signals.map_changed();
        }
    }
}

impl Device for I440fx {
    fn name(&self) -> &'static str {
        "i440fx"
    }

    fn reset(&mut self) {
        self.state.config = self.wires.layout.reset();
        self.wires.signals.map_changed();
    }

    fn save(&self) -> Section {
        Section::encode(self.name(), 1, &self.state)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let state: I440fxState = section.decode(self.name(), 1)?;
        self.wires.layout.check(&state.config).map_err(|reason| LoadError::invalid(self.name(), reason))?;
        self.state = state;
        self.wires.signals.map_changed();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::suite;

    #[test]
    fn pam_registers_map_their_segments() {
        let signals = Arc::new(Signals::new());
        let mut bridge = I440fx::new(&signals);
        assert_eq!(bridge.config_read(0, Width::Dword), 0x1237_8086);
        let generation = signals.map_generation();
        bridge.config_write(0x5a, Width::Byte, 0x21);
        assert_eq!(signals.map_generation(), generation + 1);
        assert_eq!((bridge.pam(0), bridge.pam(1), bridge.pam(2)), ((true, false), (false, true), (false, false)));
        bridge.config_write(0x59, Width::Byte, 0x30);
        assert_eq!(bridge.pam(15), (true, true));
        assert_eq!(bridge.pam(11), (false, false));
        bridge.config_write(0x5d, Width::Word, 0x0000);
        assert_eq!(signals.map_generation(), generation + 2, "no change, no flush");
        bridge.config_write(SMRAM, Width::Byte, 0x4a);
        assert!(bridge.smram_open());
        bridge.config_write(SMRAM, Width::Byte, 0x0a);
        assert!(bridge.smram_enabled() && !bridge.smram_open());
        bridge.config_write(SMRAM, Width::Byte, 0x4a);
        bridge.config_write(SMRAM, Width::Byte, 0x1a);
        bridge.config_write(SMRAM, Width::Byte, 0x4a);
        assert!(!bridge.smram_open(), "locked");
    }

    #[test]
    fn any_guest_and_any_file() {
        let make = || I440fx::new(&Arc::new(Signals::new()));
        suite::check(make, |bridge| bridge.config_write(0x58, Width::Dword, u32::MAX));
        suite::hammer(make(), 10_000, |bridge, random, _| {
            bridge.config_write(random.next() as u8, Width::Dword, random.next() as u32);
            bridge.config_read(random.next() as u8, Width::Dword);
        });
    }
}
