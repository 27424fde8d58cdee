//! The address decoder of the board: which chip answers at a physical address, a port, a place on PCI.

use std::ptr::NonNull;

use super::board::{Board, SERIAL};
use crate::bus::clock::Nanos;
use crate::bus::ram::{GuestRam, PAGE_SIZE};
use crate::bus::signals::Signals;
use crate::bus::{Bus, CodePolicy, PhysPage, PortRegisters, Width};
use crate::dev::pci::{ConfigAddress, PciFunction};
use crate::dev::pm::{PM_PORTS, SMBUS_PORTS};
use crate::dev::vga::{MMIO_SIZE, VRAM_SIZE};
use crate::dev::vmmouse;
use crate::dev::{apic, hpet, ioapic};

/// Physical address of the VGA's window.
const VGA_WINDOW: u64 = 0xa_0000;
/// End of what PAM registers steer, and of the first MiB.
const MIB: u64 = 0x10_0000;
/// End of the 32-bit address space; firmware ends there.
const TOP: u64 = 1 << 32;

/// Where the I/O APIC and the event timers are.
const IOAPIC_BASE: u64 = 0xfec0_0000;
const IOAPIC_END: u64 = IOAPIC_BASE + ioapic::PAGE;
const HPET_BASE: u64 = 0xfed0_0000;
const HPET_END: u64 = HPET_BASE + hpet::SIZE;

/// What a physical address reaches, with the offset in it.
#[derive(Clone, Copy)]
enum Place {
    Ram,
    Bios(u64),
    VgaWindow(u32),
    VgaFramebuffer(u32),
    VgaRegisters(u32),
    VgaRom(u32),
    Apic(u32),
    IoApic(u32),
    Hpet(u32),
    Nothing,
}

impl Board {
    fn decode(&self, address: u64, write: bool) -> Place {
        match address {
            // The processor looks here first; nothing of it is seen outside.
            _ if self.socket.page == Some(address & !(apic::PAGE - 1)) => {
                Place::Apic((address & apic::PAGE - 1) as u32)
            }
            VGA_WINDOW..0xc_0000 if self.smram() && address < self.ram.len() => Place::Ram,
            VGA_WINDOW..0xc_0000 => Place::VgaWindow((address - VGA_WINDOW) as u32),
            0xc_0000..MIB => self.decode_shadow(address, write),
            _ if address < self.ram.len() => Place::Ram,
            _ => self.decode_pci(address),
        }
    }

    /// Whether there is RAM at 0xA0000–0xBFFFF: opened for everybody, or in system management mode.
    fn smram(&self) -> bool {
        self.host_bridge.smram_open() || self.smi_active && self.host_bridge.smram_enabled()
    }

    /// 0xC0000–0xFFFFF: RAM or the bus, as PAM says for reads and for writes. On the bus there is the end of the firmware.
    fn decode_shadow(&self, address: u64, write: bool) -> Place {
        let (reads_ram, writes_ram) = self.host_bridge.pam((address - 0xc_0000 >> 14) as u8);
        let ram = if write { writes_ram } else { reads_ram };
        let from_end = MIB - address;
        if ram && address < self.ram.len() {
            Place::Ram
        } else if address >= 0xe_0000 && from_end <= self.bios.len() as u64 {
            Place::Bios(self.bios.len() as u64 - from_end)
        } else {
            Place::Nothing
        }
    }

    fn decode_pci(&self, address: u64) -> Place {
        let from_end = TOP.saturating_sub(address);
        if from_end != 0 && from_end <= self.bios.len() as u64 {
            return Place::Bios(self.bios.len() as u64 - from_end);
        }
        match address {
            IOAPIC_BASE..IOAPIC_END => return Place::IoApic((address - IOAPIC_BASE) as u32),
            HPET_BASE..HPET_END if self.hpet.is_some() => return Place::Hpet((address - HPET_BASE) as u32),
            _ => {}
        }
        let Some(vga) = &self.vga else { return Place::Nothing };
        let within = |base: Option<u32>, size: u64| {
            let offset = address.checked_sub(u64::from(base?))?;
            (offset < size).then_some(offset as u32)
        };
        let (rom, rom_size) = vga.rom_window().unzip();
        if let Some(offset) = within(vga.lfb_base(), VRAM_SIZE as u64) {
            Place::VgaFramebuffer(offset)
        } else if let Some(offset) = within(vga.mmio_base(), u64::from(MMIO_SIZE)) {
            Place::VgaRegisters(offset)
        } else if let Some(offset) = within(rom, u64::from(rom_size.unwrap_or(0))) {
            Place::VgaRom(offset)
        } else {
            Place::Nothing
        }
    }

    /// Host address of the page at `place`, where it is plain memory for reading, or for writing.
    fn host_page(&self, page: u64, place: Place, write: bool) -> Option<NonNull<u8>> {
        match place {
            Place::Ram if write => self.ram.page_to_write(page),
            Place::Ram => self.ram.page_to_read(page),
            Place::Bios(_) if write => None,
            Place::Bios(offset) => {
                let rom = self.bios.get(offset as usize..offset as usize + PAGE_SIZE as usize)?;
                Some(NonNull::from(rom).cast())
            }
            Place::VgaWindow(offset) => self.vga.as_ref()?.legacy_page(offset),
            Place::VgaFramebuffer(offset) => self.vga.as_ref()?.lfb_page(offset),
            Place::VgaRegisters(_)
            | Place::VgaRom(_)
            | Place::Apic(_)
            | Place::IoApic(_)
            | Place::Hpet(_)
            | Place::Nothing => None,
        }
    }
}

impl Bus for Board {
    fn page(&self, address: u64) -> PhysPage {
        let page = address & !(PAGE_SIZE - 1);
        let (read, write) = (self.decode(page, false), self.decode(page, true));
        let code = match read {
            Place::Ram => CodePolicy::Ram,
            Place::Bios(_) => CodePolicy::Rom,
            _ => CodePolicy::Volatile,
        };
        PhysPage { read: self.host_page(page, read, false), write: self.host_page(page, write, true), code }
    }

    fn page_to_read(&self, address: u64) -> Option<NonNull<u8>> {
        let page = address & !(PAGE_SIZE - 1);
        self.host_page(page, self.decode(page, false), false)
    }

    fn ram(&self) -> &GuestRam {
        &self.ram
    }

    fn random(&mut self) -> Option<u64> {
        getrandom::u64().ok()
    }

    fn read(&mut self, address: u64, width: Width) -> u64 {
        let plain = |bytes: &[u8]| {
            let mut value = [0xff; 8];
            value.iter_mut().zip(bytes).for_each(|(to, &from)| *to = from);
            u64::from_le_bytes(value) & width.mask()
        };
        match (self.decode(address, false), &mut self.vga) {
            (Place::Ram, _) => {
                let mut bytes = [0; 8];
                self.ram.read(address, &mut bytes);
                plain(&bytes)
            }
            (Place::Bios(offset), _) => plain(self.bios.get(offset as usize..).unwrap_or_default()),
            (Place::VgaWindow(offset), Some(vga)) => vga.memory_read(offset, width),
            (Place::VgaFramebuffer(offset), Some(vga)) => vga.lfb_read(offset, width),
            (Place::VgaRegisters(offset), Some(vga)) => vga.mmio_read(offset, width),
            (Place::VgaRom(offset), Some(vga)) => vga.rom_read(offset, width),
            (Place::Apic(offset), _) => self.read_apic(offset, width),
            (Place::IoApic(offset), _) => self.ioapic.read(offset, width),
            (Place::Hpet(offset), _) => self.hpet.as_mut().map_or(width.mask(), |hpet| hpet.read(offset, width)),
            _ => {
                tracing::trace!("read from {address:#x}, where nothing is");
                width.mask()
            }
        }
    }

    fn write(&mut self, address: u64, width: Width, value: u64) {
        match (self.decode(address, true), &mut self.vga) {
            _ if self.ram.has_failed() => {}
            (Place::Ram, _) => self.ram.write(address, &value.to_le_bytes()[..width.bytes() as usize]),
            (Place::VgaWindow(offset), Some(vga)) => vga.memory_write(offset, width, value),
            (Place::VgaFramebuffer(offset), Some(vga)) => vga.lfb_write(offset, width, value),
            (Place::VgaRegisters(offset), Some(vga)) => vga.mmio_write(offset, width, value),
            (Place::Apic(offset), _) => self.write_apic(offset, width, value as u32),
            (Place::IoApic(offset), _) => self.write_ioapic(offset, value as u32),
            (Place::Hpet(offset), _) => {
                if let Some(hpet) = &mut self.hpet {
                    hpet.write(offset, width, value);
                }
            }
            _ => tracing::trace!("write of {value:#x} to {address:#x}, where nothing takes it"),
        }
    }

    fn port_in(&mut self, port: u16, width: Width) -> u32 {
        match port {
            0x1f0 => self.ide[0].read(0, width),
            0x170 => self.ide[1].read(0, width),
            0x1ce..=0x1d0 => self.vga.as_mut().map_or(u32::MAX, |vga| vga.vbe_read(port - 0x1ce, width)),
            0x510..=0x51b => self.fw_cfg.read(port - 0x510, width),
            0xcf8 if width == Width::Dword => self.pci.read_address(width),
            0xcfc..=0xcff if within_dword(port, width) => self.config_read(port, width),
            _ => {
                if let Some(offset) = within(port, self.pm.pm_base(), PM_PORTS) {
                    return self.pm.read(offset, width);
                }
                if let Some((at, exit)) = &self.debug_exit
                    && port == *at
                {
                    return exit.read();
                }
                if let Some(offset) = within(port, self.ide_function.bus_master_base(), 16) {
                    return self.ide[usize::from(offset >> 3)].read_bus_master(offset & 7, width);
                }
                let bytes = (0..width.bytes() as u16).map(|index| self.byte_in(port.wrapping_add(index)));
                bytes.enumerate().fold(0, |value, (index, byte)| value | u32::from(byte) << (8 * index))
            }
        }
    }

    fn port_in_registers(&mut self, port: u16, registers: &mut PortRegisters) -> bool {
        port == vmmouse::PORT && self.vmmouse.call(registers)
    }

    fn port_out(&mut self, port: u16, width: Width, value: u32) {
        match port {
            // What the guest has read may be wrong: nothing of it leaves the machine, which stops.
            _ if self.ram.has_failed() => {}
            0x1f0 => self.ide[0].write(0, width, value),
            0x170 => self.ide[1].write(0, width, value),
            0x1ce..=0x1d0 => {
                if let Some(vga) = &mut self.vga {
                    vga.vbe_write(port - 0x1ce, width, value);
                }
            }
            0x510..=0x51b => self.fw_cfg.write(port - 0x510, width, value),
            0xcf8 if width == Width::Dword => self.pci.write_address(width, value),
            0xcfc..=0xcff if within_dword(port, width) => self.config_write(port, width, value),
            _ => {
                if let Some(offset) = within(port, self.pm.pm_base(), PM_PORTS) {
                    return self.pm.write(offset, width, value);
                }
                if let Some((at, exit)) = &mut self.debug_exit
                    && port == *at
                {
                    return exit.write(width, value);
                }
                if let Some(offset) = within(port, self.ide_function.bus_master_base(), 16) {
                    return self.ide[usize::from(offset >> 3)].write_bus_master(offset & 7, width, value);
                }
                for (index, byte) in value.to_le_bytes()[..width.bytes() as usize].iter().enumerate() {
                    self.byte_out(port.wrapping_add(index as u16), *byte);
                }
            }
        }
    }

    fn interrupt_pending(&mut self) -> bool {
        self.intr()
    }

    fn acknowledge_interrupt(&mut self) -> u8 {
        self.acknowledge()
    }

    fn set_apic_base(&mut self, value: u64) {
        self.move_apic(value);
    }

    fn set_smi_active(&mut self, active: bool) {
        self.smi_active = active;
    }

    fn signals(&self) -> &Signals {
        &self.signals
    }

    fn now(&self) -> Nanos {
        self.clock.now()
    }
}

/// Ports whose registers are bytes. A wider access is one access to each byte, as ISA does it.
impl Board {
    fn byte_in(&mut self, port: u16) -> u8 {
        match port {
            0x00..=0x1f => self.dma.read(port & 0xf),
            0x20..=0x21 => self.read_pic(port - 0x20),
            0x40..=0x43 => self.pit.read(port - 0x40),
            0x60 | 0x64 => self.i8042.read(port >> 2 & 1),
            0x61 => self.speaker.read(self.pit.output_2()),
            0x70..=0x77 => self.rtc.read(port & 3),
            0x92 => self.i8042.read(2),
            0xa0..=0xa1 => self.read_pic(port - 0xa0 + 2),
            0xb2..=0xb3 => self.pm.read_apm(port - 0xb2),
            0x80..=0x8f | 0xc0..=0xdf => self.dma.read(port),
            0x170..=0x177 => self.ide[1].read(port - 0x170, Width::Byte) as u8,
            0x1f0..=0x1f7 => self.ide[0].read(port - 0x1f0, Width::Byte) as u8,
            0x376 => self.ide[1].alternate_status(),
            0x3f6 => self.ide[0].alternate_status(),
            0x3f0..=0x3f5 | 0x3f7 => self.fdc.read(port - 0x3f0),
            0x3b0..=0x3df => self.vga.as_mut().map_or(0xff, |vga| vga.read(port - 0x3b0)),
            0x4d0..=0x4d1 => self.read_pic(port - 0x4d0 + 4),
            0xafe0..=0xafe3 => self.pm.read_gpe(port - 0xafe0),
            0xcf9 => self.isa_bridge.read_reset_control(),
            0xcfc..=0xcff => self.config_read(port, Width::Byte) as u8,
            _ => self.option_in(port),
        }
    }

    fn byte_out(&mut self, port: u16, value: u8) {
        match port {
            0x00..=0x1f => self.dma.write(port & 0xf, value),
            0x20..=0x21 => self.write_pic(port - 0x20, value),
            0x40..=0x43 => self.pit.write(port - 0x40, value),
            0x60 | 0x64 => self.i8042.write(port >> 2 & 1, value),
            0x61 => {
                self.speaker.write(value);
                self.pit.set_gate_2(self.speaker.gate_2());
            }
            0x70..=0x77 => self.rtc.write(port & 3, value),
            0x92 => self.i8042.write(2, value),
            0xa0..=0xa1 => self.write_pic(port - 0xa0 + 2, value),
            0xb2..=0xb3 => self.pm.write_apm(port - 0xb2, value),
            0x80..=0x8f | 0xc0..=0xdf => self.dma.write(port, value),
            0x170..=0x177 => self.ide[1].write(port - 0x170, Width::Byte, u32::from(value)),
            0x1f0..=0x1f7 => self.ide[0].write(port - 0x1f0, Width::Byte, u32::from(value)),
            0xf0 => {
                self.ignne = true;
                self.signals.raise();
            }
            0x376 => self.ide[1].write_control(value),
            0x3f6 => self.ide[0].write_control(value),
            0x3f0..=0x3f5 | 0x3f7 => self.fdc.write(port - 0x3f0, value),
            0x3b0..=0x3df => {
                if let Some(vga) = &mut self.vga {
                    vga.write(port - 0x3b0, value);
                }
            }
            0x4d0..=0x4d1 => self.write_pic(port - 0x4d0 + 4, value),
            0xafe0..=0xafe3 => self.pm.write_gpe(port - 0xafe0, value),
            0xcf9 => self.isa_bridge.write_reset_control(value),
            0xcfc..=0xcff => self.config_write(port, Width::Byte, u32::from(value)),
            _ => self.option_out(port, value),
        }
    }

    /// Chips whose place or presence firmware or a person chooses.
    fn option_in(&mut self, port: u16) -> u8 {
        if let Some(offset) = within(port, self.pm.smbus_base(), SMBUS_PORTS) {
            return self.pm.read_smbus(offset);
        }
        if let Some((index, offset)) = self.serial_at(port) {
            return self.serial[index].read(offset);
        }
        if let Some((_, console)) = self.debug_ports.iter().find(|&&(at, _)| at == port) {
            return console.read();
        }
        tracing::trace!("read from port {port:#x}, where nothing is");
        0xff
    }

    fn option_out(&mut self, port: u16, value: u8) {
        if let Some(offset) = within(port, self.pm.smbus_base(), SMBUS_PORTS) {
            return self.pm.write_smbus(offset, value);
        }
        if let Some((index, offset)) = self.serial_at(port) {
            return self.serial[index].write(offset, value);
        }
        if let Some((_, console)) = self.debug_ports.iter_mut().find(|&&mut (at, _)| at == port) {
            console.write(value);
        } else {
            tracing::trace!("write of {value:#x} to port {port:#x}, where nothing is");
        }
    }

    fn serial_at(&self, port: u16) -> Option<(usize, u16)> {
        let index = SERIAL.iter().take(self.serial.len()).position(|&(base, _)| port & !7 == base)?;
        Some((index, port & 7))
    }
}

/// PCI: configuration mechanism #1 on bus 0.
impl Board {
    fn function(&mut self, at: ConfigAddress) -> Option<&mut dyn PciFunction> {
        match (at.bus, at.device, at.function) {
            (0, 0, 0) => Some(&mut self.host_bridge),
            (0, 1, 0) => Some(&mut self.isa_bridge),
            (0, 1, 1) => Some(&mut self.ide_function),
            (0, 1, 3) => Some(&mut self.pm),
            (0, 2, 0) => self.vga.as_mut().map(|vga| vga as &mut dyn PciFunction),
            _ => None,
        }
    }

    fn config_read(&mut self, port: u16, width: Width) -> u32 {
        let Some(at) = self.pci.target(port & 3) else { return width.mask() as u32 };
        self.function(at).map_or(width.mask() as u32, |function| function.config_read(at.offset, width))
    }

    fn config_write(&mut self, port: u16, width: Width, value: u32) {
        let Some(at) = self.pci.target(port & 3) else { return };
        if let Some(function) = self.function(at) {
            function.config_write(at.offset, width, value);
        }
        // A PIRQ may have been steered elsewhere.
        self.intr.stale = true;
    }
}

/// Whether an access of `width` at `port` stays within the four data ports.
fn within_dword(port: u16, width: Width) -> bool {
    u64::from(port & 3) + width.bytes() <= 4
}

/// The offset of `port` in a block of `count` ports at `base`.
fn within(port: u16, base: Option<u16>, count: u16) -> Option<u16> {
    port.checked_sub(base?).filter(|&offset| offset < count)
}
