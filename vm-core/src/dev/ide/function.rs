//! The PCI function in front of both channels: that of a PIIX4.
//!
//! Intel 82371AB PIIX4 (290562-001), 4.1: configuration registers. The timings are kept and change nothing.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bus_master::MasterEnable;
use crate::bus::Width;
use crate::bus::signals::Signals;
use crate::dev::Device;
use crate::dev::pci::{Command, Identity, PciConfig, PciFunction, PciLayout, register};
use crate::snapshot::section::{LoadError, Section};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct PciIdeState {
    config: PciConfig,
}

/// The PCI function of the two channels: 8086:7111, both at their ISA addresses.
#[derive(Debug)]
pub struct PciIde {
    state: PciIdeState,
    layout: PciLayout,
    enable: MasterEnable,
    signals: Arc<Signals>,
}

/// IDETIM (16 bits a channel) and SIDETIM: timing, and whether a channel is decoded.
const IDETIM: u8 = 0x40;
/// UDMACTL: which drives move data in Ultra DMA.
const UDMACTL: u8 = 0x48;
/// UDMATIM: their cycle times, 8 bits a channel.
const UDMATIM: u8 = 0x4a;

impl PciIde {
    /// The function after power-on. It tells the channels by `enable` whether they may master the bus.
    pub fn new(enable: &MasterEnable, signals: &Arc<Signals>) -> Self {
        let layout = PciLayout::new(Identity { vendor: 0x8086, device: 0x7111, revision: 1, class: 0x010180 })
            .value(register::STATUS, &[0x80, 0x02])
            .writable(register::COMMAND, &[0x05, 0x00])
            .io_bar(4, 16)
            .writable(IDETIM, &[0xff, 0xff, 0xff, 0xff, 0xff])
            .writable(UDMACTL, &[0x0f])
            .writable(UDMATIM, &[0x33, 0x33]);
        let state = PciIdeState { config: layout.reset() };
        Self { state, layout, enable: enable.clone(), signals: Arc::clone(signals) }
    }

    fn wire(&self) {
        if self.enable.set(self.state.config.command().contains(Command::MASTER)) {
            // A transfer may have waited for it.
            self.signals.raise();
        }
    }

    /// Where the 16 bus-master ports answer now: 8 of channel 0, then 8 of channel 1.
    pub fn bus_master_base(&self) -> Option<u16> {
        self.state.config.io_bar(4)
    }
}

impl PciFunction for PciIde {
    fn config_read(&mut self, offset: u8, width: Width) -> u32 {
        self.state.config.read(offset, width)
    }

    fn config_write(&mut self, offset: u8, width: Width, value: u32) {
        self.state.config.write(&self.layout, offset, width, value);
        self.wire();
    }
}

impl Device for PciIde {
    fn name(&self) -> &'static str {
        "piix4-ide"
    }

    fn reset(&mut self) {
        self.state.config = self.layout.reset();
        self.wire();
    }

    fn save(&self) -> Section {
        Section::encode(self.name(), 1, &self.state)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let state: PciIdeState = section.decode(self.name(), 1)?;
        self.layout.check(&state.config).map_err(|reason| LoadError::invalid(self.name(), reason))?;
        self.state = state;
        self.wire();
        Ok(())
    }
}
