//! PCI configuration space: the ports that reach it, and the 256 bytes of a function.
//!
//! PCI Local Bus Specification 2.1, chapter 6 (header type 0) and 3.7.4.1 (configuration mechanism #1).
//!
//! | port | width | what |
//! |---|---|---|
//! | 0xCF8 | 32 | address: enable, bus, device, function, register |
//! | 0xCFC–0xCFF | 8, 16, 32 | data at that register, plus the low two bits of the port |
//!
//! A function keeps its bytes ([`PciConfig`]) in its state and what may be done with them ([`PciLayout`]) in its wires:
//!
//! ```
//! use vm_core::bus::Width;
//! use vm_core::dev::pci::{Identity, PciLayout};
//!
//! let layout = PciLayout::new(Identity { vendor: 0x1234, device: 0x1111, revision: 2, class: 0x030000 })
//!     .memory_bar(0, 16 << 20, true);
//! let mut config = layout.reset();
//! config.write(&layout, 0x10, Width::Dword, 0xffff_ffff);
//! assert_eq!(config.read(0x10, Width::Dword), 0xff00_0008);
//! ```

use serde::{Deserialize, Serialize};

use crate::bus::Width;
use crate::dev::Device;
use crate::snapshot::section::{LoadError, Section};

/// Offsets in the header of a function.
pub mod register {
    /// Vendor, 16 bits.
    pub const VENDOR: u8 = 0x00;
    /// Device, 16 bits.
    pub const DEVICE: u8 = 0x02;
    /// Command, 16 bits: [`super::Command`].
    pub const COMMAND: u8 = 0x04;
    /// Status, 16 bits.
    pub const STATUS: u8 = 0x06;
    /// Revision, then three bytes of class code.
    pub const REVISION: u8 = 0x08;
    /// Cache line size.
    pub const CACHE_LINE: u8 = 0x0c;
    /// Latency timer.
    pub const LATENCY: u8 = 0x0d;
    /// Header type; bit 7: the device has several functions.
    pub const HEADER_TYPE: u8 = 0x0e;
    /// The first of six base address registers.
    pub const BAR0: u8 = 0x10;
    /// Subsystem vendor, then subsystem, 16 bits each.
    pub const SUBSYSTEM: u8 = 0x2c;
    /// Base address of the expansion ROM.
    pub const ROM: u8 = 0x30;
    /// Interrupt line, a note that firmware leaves for drivers.
    pub const INTERRUPT_LINE: u8 = 0x3c;
    /// Interrupt pin: 1 for INTA# … 4 for INTD#.
    pub const INTERRUPT_PIN: u8 = 0x3d;
}

bitflags::bitflags! {
    /// The command register.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Command: u16 {
        /// Answers in I/O space.
        const IO = 1 << 0;
        /// Answers in memory space.
        const MEMORY = 1 << 1;
        /// May be a bus master.
        const MASTER = 1 << 2;
        /// Takes part in special cycles.
        const SPECIAL = 1 << 3;
        /// Reports parity errors.
        const PARITY = 1 << 6;
        /// Drives SERR#.
        const SERR = 1 << 8;
    }
}

/// Who a function says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Vendor.
    pub vendor: u16,
    /// Device.
    pub device: u16,
    /// Revision.
    pub revision: u8,
    /// Class code: base class, sub-class, programming interface, in the low 24 bits.
    pub class: u32,
}

/// The 256 bytes of a function's configuration space, as a saved state holds them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PciConfig {
    #[serde(with = "crate::dev::bytes")]
    bytes: [u8; 256],
}

/// What a function's configuration bytes are after a reset, and which bits of them can change.
#[derive(Clone, Debug)]
pub struct PciLayout {
    /// Values after a reset.
    values: [u8; 256],
    /// Bits that a guest can write.
    writable: [u8; 256],
    /// Bits that a guest clears by writing ones.
    clearable: [u8; 256],
    /// Bits that the chip itself changes.
    volatile: [u8; 256],
}

impl PciLayout {
    /// A function of header type 0 without base addresses. I/O, memory and master bits of the command register, cache
    /// line size, latency and interrupt line are writable; error bits of the status register are write-one-to-clear.
    pub fn new(identity: Identity) -> Self {
        let layout = Self { values: [0; 256], writable: [0; 256], clearable: [0; 256], volatile: [0; 256] };
        let command = Command::IO | Command::MEMORY | Command::MASTER;
        let mut layout = layout
            .value(register::VENDOR, &identity.vendor.to_le_bytes())
            .value(register::DEVICE, &identity.device.to_le_bytes())
            .value(register::REVISION, &(identity.class << 8 | u32::from(identity.revision)).to_le_bytes())
            .writable(register::COMMAND, &command.bits().to_le_bytes())
            .writable(register::CACHE_LINE, &[0xff])
            .writable(register::LATENCY, &[0xff])
            .writable(register::INTERRUPT_LINE, &[0xff]);
        layout.clearable[usize::from(register::STATUS) + 1] = 0xf9;
        layout
    }

    fn put(field: &mut [u8; 256], offset: u8, bytes: &[u8]) {
        for (at, byte) in field.iter_mut().skip(usize::from(offset)).zip(bytes) {
            *at = *byte;
        }
    }

    /// Sets bytes from `offset` on that stand there after a reset.
    #[must_use]
    pub fn value(mut self, offset: u8, bytes: &[u8]) -> Self {
        Self::put(&mut self.values, offset, bytes);
        self
    }

    /// Makes the bits of `mask` from `offset` on writable.
    #[must_use]
    pub fn writable(mut self, offset: u8, mask: &[u8]) -> Self {
        Self::put(&mut self.writable, offset, mask);
        self
    }

    /// Makes the bits of `mask` from `offset` on write-one-to-clear.
    #[must_use]
    pub fn clearable(mut self, offset: u8, mask: &[u8]) -> Self {
        Self::put(&mut self.clearable, offset, mask);
        self
    }

    /// Says that the chip itself changes the bits of `mask` from `offset` on.
    #[must_use]
    pub fn volatile(mut self, offset: u8, mask: &[u8]) -> Self {
        Self::put(&mut self.volatile, offset, mask);
        self
    }

    /// The device has more than one function.
    #[must_use]
    pub fn multifunction(mut self) -> Self {
        self.values[usize::from(register::HEADER_TYPE)] |= 0x80;
        self
    }

    /// Subsystem vendor and subsystem.
    #[must_use]
    pub fn subsystem(self, vendor: u16, subsystem: u16) -> Self {
        self.value(register::SUBSYSTEM, &(u32::from(subsystem) << 16 | u32::from(vendor)).to_le_bytes())
    }

    /// The interrupt pin: 1 for INTA# … 4 for INTD#.
    #[must_use]
    pub fn interrupt_pin(self, pin: u8) -> Self {
        self.value(register::INTERRUPT_PIN, &[pin])
    }

    /// Base address register `index` (0–5) asks for `size` bytes of 32-bit memory, a power of two of at least 16.
    #[must_use]
    pub fn memory_bar(self, index: u8, size: u32, prefetchable: bool) -> Self {
        let offset = register::BAR0 + 4 * index;
        let flags = if prefetchable { 0x08_u32 } else { 0 };
        self.value(offset, &flags.to_le_bytes()).writable(offset, &(!(size - 1) & !0xf).to_le_bytes())
    }

    /// Base address register `index` (0–5) asks for `size` ports, a power of two of at least 4.
    #[must_use]
    pub fn io_bar(self, index: u8, size: u16) -> Self {
        let offset = register::BAR0 + 4 * index;
        // PIIX3 wires the upper half to zero; firmware of this board sizes 32 bits all the same.
        let mask = !(u32::from(size) - 1) & 0xffff_fffc;
        self.value(offset, &1_u32.to_le_bytes()).writable(offset, &mask.to_le_bytes())
    }

    /// An expansion ROM of `size` bytes, a power of two of at least 2 KiB.
    #[must_use]
    pub fn rom_bar(self, size: u32) -> Self {
        self.writable(register::ROM, &(!(size - 1) & !0x7ff | 1).to_le_bytes())
    }

    /// The bytes after a reset.
    pub fn reset(&self) -> PciConfig {
        PciConfig { bytes: self.values }
    }

    /// Checks that `config` can be a state of this function.
    ///
    /// # Errors
    /// The first byte that holds a value it cannot have, in words.
    pub fn check(&self, config: &PciConfig) -> Result<(), String> {
        for (offset, (now, fixed)) in config.bytes.iter().zip(&self.values).enumerate() {
            let free = self.writable[offset] | self.clearable[offset] | self.volatile[offset];
            if (now ^ fixed) & !free != 0 {
                return Err(format!("PCI configuration byte {offset:#04x} is {now:#04x}"));
            }
        }
        Ok(())
    }
}

impl PciConfig {
    /// Reads the register at `offset`; bytes past the end read as ones.
    pub fn read(&self, offset: u8, width: Width) -> u32 {
        (0..width.bytes().min(4) as usize)
            .map(|n| u32::from(self.bytes.get(usize::from(offset) + n).copied().unwrap_or(0xff)) << (8 * n))
            .sum()
    }

    /// A write by the guest: changes what `layout` lets it change.
    pub fn write(&mut self, layout: &PciLayout, offset: u8, width: Width, value: u32) {
        for n in 0..width.bytes().min(4) as usize {
            let at = usize::from(offset) + n;
            let byte = (value >> (8 * n)) as u8;
            if let Some(now) = self.bytes.get_mut(at) {
                *now = *now & !layout.writable[at] | byte & layout.writable[at];
                *now &= !(byte & layout.clearable[at]);
            }
        }
    }

    /// One byte.
    pub fn byte(&self, offset: u8) -> u8 {
        self.bytes[usize::from(offset)]
    }

    /// Sets one byte from the chip's side, whatever the layout says.
    pub fn set_byte(&mut self, offset: u8, value: u8) {
        self.bytes[usize::from(offset)] = value;
    }

    /// The command register.
    pub fn command(&self) -> Command {
        Command::from_bits_retain(self.read(register::COMMAND, Width::Word) as u16)
    }

    /// Where memory BAR `index` (0–5) answers now; `None` where memory decoding is off or the address is 0.
    pub fn memory_bar(&self, index: u8) -> Option<u32> {
        let base = self.read(register::BAR0 + 4 * (index % 6), Width::Dword) & !0xf;
        (self.command().contains(Command::MEMORY) && base != 0).then_some(base)
    }

    /// Where I/O BAR `index` (0–5) answers now; `None` where I/O decoding is off or the address is 0.
    pub fn io_bar(&self, index: u8) -> Option<u16> {
        let base = self.read(register::BAR0 + 4 * (index % 6), Width::Dword) as u16 & !3;
        (self.command().contains(Command::IO) && base != 0).then_some(base)
    }

    /// Where the expansion ROM answers now; `None` where it or memory decoding is off.
    pub fn rom_bar(&self) -> Option<u32> {
        let rom = self.read(register::ROM, Width::Dword);
        (self.command().contains(Command::MEMORY) && rom & 1 != 0).then_some(rom & !0x7ff)
    }
}

/// A function on the bus. The board holds them and dispatches by (device, function).
pub trait PciFunction {
    /// Reads the configuration register at `offset`. Never crosses a doubleword.
    fn config_read(&mut self, offset: u8, width: Width) -> u32;
    /// Writes the configuration register at `offset`. Never crosses a doubleword.
    fn config_write(&mut self, offset: u8, width: Width, value: u32);
}

/// One access to configuration space, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigAddress {
    /// Bus; the root bus is 0.
    pub bus: u8,
    /// Device, 0–31.
    pub device: u8,
    /// Function, 0–7.
    pub function: u8,
    /// Offset of the first byte accessed.
    pub offset: u8,
}

/// The address port's bits that exist: enable, bus, device, function, register.
const ADDRESS_BITS: u32 = 0x80ff_fffc;
const ENABLE: u32 = 1 << 31;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct PciPortsState {
    address: u32,
}

/// Configuration mechanism #1: the address latch behind 0xCF8.
#[derive(Debug, Default)]
pub struct PciPorts {
    state: PciPortsState,
}

impl PciPorts {
    /// A latch that addresses nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// IN from 0xCF8: only a doubleword reaches the latch. Byte and word accesses belong to whatever ISA device is there
    /// (PIIX3's reset control at 0xCF9).
    pub fn read_address(&self, width: Width) -> u32 {
        if width == Width::Dword { self.state.address } else { u32::MAX }
    }

    /// OUT to 0xCF8: only a doubleword reaches the latch.
    pub fn write_address(&mut self, width: Width, value: u32) {
        if width == Width::Dword {
            self.state.address = value & ADDRESS_BITS;
        }
    }

    /// What an access to data port 0xCFC + `offset` (0–3) reaches; `None`: the latch is not enabled.
    pub fn target(&self, offset: u16) -> Option<ConfigAddress> {
        let address = self.state.address;
        (address & ENABLE != 0).then_some(ConfigAddress {
            bus: (address >> 16) as u8,
            device: (address >> 11) as u8 & 0x1f,
            function: (address >> 8) as u8 & 7,
            offset: address as u8 & 0xfc | offset as u8 & 3,
        })
    }
}

impl Device for PciPorts {
    fn name(&self) -> &'static str {
        "pci"
    }

    fn reset(&mut self) {
        self.state = PciPortsState::default();
    }

    fn save(&self) -> Section {
        Section::encode(self.name(), 1, &self.state)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let state: PciPortsState = section.decode(self.name(), 1)?;
        if state.address & !ADDRESS_BITS != 0 {
            return Err(LoadError::invalid(self.name(), format!("the address is {:#x}", state.address)));
        }
        self.state = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::suite;

    const IDENTITY: Identity = Identity { vendor: 0x8086, device: 0x1237, revision: 2, class: 0x060000 };

    #[test]
    fn sizing_a_bar_shows_its_size_and_its_kind() {
        let layout = PciLayout::new(IDENTITY).memory_bar(0, 1 << 24, true).io_bar(4, 16).rom_bar(0x10000);
        let mut config = layout.reset();
        for (offset, sized) in [(0x10, 0xff00_0008), (0x14, 0), (0x20, 0xffff_fff1), (0x30, 0xffff_0001)] {
            config.write(&layout, offset, Width::Dword, u32::MAX);
            assert_eq!(config.read(offset, Width::Dword), sized);
        }
        assert_eq!(config.memory_bar(0), None, "decoding is off");
        config.write(&layout, register::COMMAND, Width::Word, 0xffff);
        assert_eq!(config.command(), Command::IO | Command::MEMORY | Command::MASTER);
        config.write(&layout, 0x10, Width::Dword, 0xe123_4567);
        config.write(&layout, 0x20, Width::Dword, 0xc04f);
        assert_eq!((config.memory_bar(0), config.io_bar(4)), (Some(0xe100_0000), Some(0xc040)));
        assert!(layout.check(&config).is_ok());
    }

    #[test]
    fn identity_is_read_only_and_status_is_write_one_to_clear() {
        let layout = PciLayout::new(IDENTITY).multifunction();
        let mut config = layout.reset();
        config.write(&layout, 0, Width::Dword, 0);
        assert_eq!(config.read(0, Width::Dword), 0x1237_8086);
        assert_eq!(config.read(8, Width::Dword), 0x0600_0002);
        assert_eq!(config.read(0x0e, Width::Byte), 0x80);
        config.set_byte(register::STATUS + 1, 0x20);
        config.write(&layout, register::STATUS, Width::Word, 0x1000);
        assert_eq!(config.byte(register::STATUS + 1), 0x20);
        config.write(&layout, register::STATUS, Width::Word, 0x2000);
        assert_eq!(config.byte(register::STATUS + 1), 0);
        config.set_byte(0, 1);
        assert!(layout.check(&config).is_err());
    }

    #[test]
    fn the_latch_takes_only_doublewords_and_decodes() {
        let mut ports = PciPorts::new();
        assert_eq!(ports.target(0), None);
        ports.write_address(Width::Byte, 0xff);
        ports.write_address(Width::Dword, 0x8001_0b43);
        assert_eq!(ports.read_address(Width::Dword), 0x8001_0b40);
        assert_eq!(ports.target(2), Some(ConfigAddress { bus: 1, device: 1, function: 3, offset: 0x42 }));
    }

    #[test]
    fn state_is_kept() {
        suite::check(PciPorts::new, |ports| ports.write_address(Width::Dword, 0x8000_1234));
    }
}
