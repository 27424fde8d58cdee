//! fw_cfg: how the machine hands facts and files to its firmware.
//!
//! Specification: `docs/specs/fw_cfg.rst` of QEMU (the interface that SeaBIOS expects on this board).
//!
//! | port | offset | width | what |
//! |---|---|---|---|
//! | 0x510 | 0 | 16, write | selects an item |
//! | 0x511 | 1 | 8, read | next byte of the item |
//! | 0x514 | 4 | 32 | high half of a DMA descriptor's address, big-endian |
//! | 0x518 | 8 | 32 | low half; writing it starts the transfer |

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::bus::Width;
use crate::bus::ram::GuestRam;
use crate::dev::Device;
use crate::snapshot::section::{LoadError, Section};

/// Keys of the items that every machine has.
pub mod key {
    /// The text "QEMU".
    pub const SIGNATURE: u16 = 0x00;
    /// Features: bit 0 the ports, bit 1 DMA.
    pub const ID: u16 = 0x01;
    /// Sixteen bytes that name the machine.
    pub const UUID: u16 = 0x02;
    /// Bytes of memory, 64 bits.
    pub const RAM_SIZE: u16 = 0x03;
    /// 1: there is no display, 16 bits.
    pub const NO_GRAPHIC: u16 = 0x04;
    /// Processors, 16 bits.
    pub const CPUS: u16 = 0x05;
    /// NUMA nodes, 64 bits.
    pub const NUMA: u16 = 0x0d;
    /// 1: offer a boot menu, 16 bits.
    pub const BOOT_MENU: u16 = 0x0e;
    /// Most processors there can be, 16 bits.
    pub const MAX_CPUS: u16 = 0x0f;
    /// The directory of files.
    pub const FILE_DIRECTORY: u16 = 0x19;
    /// The first file.
    pub const FILE_FIRST: u16 = 0x20;
    /// 1: the timer's interrupt is on input 2 of an I/O APIC, 32 bits.
    pub const IRQ0_OVERRIDE: u16 = 0x8002;
}

/// Features in item [`key::ID`].
const FEATURES: u32 = 0b11;
/// Bytes of a file's name in the directory, with a 0 at the end.
const NAME_LEN: usize = 56;
/// Most files: item keys end at 0x3fff.
const MAX_FILES: usize = 0x3fe0;

/// What reading the DMA register gives: "QEMU CFG", big-endian.
const DMA_SIGNATURE: u64 = 0x5145_4d55_2043_4647;

const DMA_ERROR: u32 = 1 << 0;
const DMA_READ: u32 = 1 << 1;
const DMA_SKIP: u32 = 1 << 2;
const DMA_SELECT: u32 = 1 << 3;
const DMA_WRITE: u32 = 1 << 4;

/// Bytes copied at a time.
const CHUNK: u64 = 4096;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct FwCfgState {
    selected: u16,
    offset: u32,
    /// High half of the descriptor's address, until the low half comes.
    dma_high: u32,
}

#[derive(Debug)]
struct FwCfgWires {
    ram: Arc<GuestRam>,
    items: BTreeMap<u16, Vec<u8>>,
    names: Vec<String>,
}

/// The configuration port. Its items are hardware: they are put in when the machine is built and are not part of its state.
#[derive(Debug)]
pub struct FwCfg {
    state: FwCfgState,
    wires: FwCfgWires,
}

impl FwCfg {
    /// A port that offers the standard items for a machine of one processor with all of `ram` and a display, and no files.
    pub fn new(ram: &Arc<GuestRam>) -> Self {
        let wires = FwCfgWires { ram: Arc::clone(ram), items: BTreeMap::new(), names: Vec::new() };
        let mut port = Self { state: FwCfgState::default(), wires };
        port.set_item(key::SIGNATURE, b"QEMU");
        port.set_item(key::ID, &FEATURES.to_le_bytes());
        port.set_item(key::UUID, &[0; 16]);
        port.set_item(key::RAM_SIZE, &ram.len().to_le_bytes());
        port.set_item(key::NO_GRAPHIC, &0_u16.to_le_bytes());
        port.set_item(key::CPUS, &1_u16.to_le_bytes());
        port.set_item(key::NUMA, &0_u64.to_le_bytes());
        port.set_item(key::BOOT_MENU, &0_u16.to_le_bytes());
        port.set_item(key::MAX_CPUS, &1_u16.to_le_bytes());
        port.list_files();
        port
    }

    /// Puts in an item, or another in its place.
    pub fn set_item(&mut self, key: u16, bytes: &[u8]) {
        self.wires.items.insert(key, bytes.to_vec());
    }

    /// Puts in a file (`"bootorder"`, `"etc/…"`, `"genroms/…"`, `"vgaroms/…"`), or other contents for one that is there.
    ///
    /// # Panics
    /// Where the name is longer than 55 bytes, or the directory is full: names are the board's own.
    pub fn add_file(&mut self, name: &str, bytes: Vec<u8>) {
        assert!(name.len() < NAME_LEN, "the name of a firmware file has at most 55 bytes");
        let index = self.wires.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.wires.names.push(name.to_owned());
            self.wires.names.len() - 1
        });
        assert!(index < MAX_FILES, "a firmware directory has a limit");
        self.wires.items.insert(key::FILE_FIRST + index as u16, bytes);
        self.list_files();
    }

    fn list_files(&mut self) {
        let mut directory = (self.wires.names.len() as u32).to_be_bytes().to_vec();
        for (index, name) in self.wires.names.iter().enumerate() {
            let key = key::FILE_FIRST + index as u16;
            let size = self.wires.items.get(&key).map_or(0, Vec::len) as u32;
            directory.extend(size.to_be_bytes());
            directory.extend(key.to_be_bytes());
            directory.extend([0; 2]);
            let mut padded = [0; NAME_LEN];
            padded[..name.len()].copy_from_slice(name.as_bytes());
            directory.extend(padded);
        }
        self.wires.items.insert(key::FILE_DIRECTORY, directory);
    }

    /// Reads the register at `offset` (0–11).
    pub fn read(&mut self, offset: u16, width: Width) -> u32 {
        match offset {
            1 => u32::from(self.next_byte()),
            4..=11 => read_signature(offset - 4, width),
            _ => width.mask() as u32,
        }
    }

    /// Writes the register at `offset` (0–11).
    pub fn write(&mut self, offset: u16, width: Width, value: u32) {
        match (offset, width) {
            (0, Width::Word) => self.select(value as u16),
            (4, Width::Dword) => self.state.dma_high = value.swap_bytes(),
            (8, Width::Dword) => self.start_dma(value.swap_bytes()),
            // Written data is ignored.
            _ => {}
        }
    }

    fn select(&mut self, key: u16) {
        self.state.selected = key;
        self.state.offset = 0;
    }

    fn item(&self) -> &[u8] {
        self.wires.items.get(&self.state.selected).map_or(&[], Vec::as_slice)
    }

    fn next_byte(&mut self) -> u8 {
        let byte = self.item().get(self.state.offset as usize).copied();
        if byte.is_some() {
            self.state.offset += 1;
        }
        // Past the end, and where there is no such item, it reads as zeros.
        byte.unwrap_or(0)
    }

    /// Carries out the descriptor: control, length (32 bits each), address (64 bits), all big-endian. Its control word is set to 0,
    /// or to the error bit.
    fn start_dma(&mut self, low: u32) {
        let descriptor = u64::from(self.state.dma_high) << 32 | u64::from(low);
        self.state.dma_high = 0;
        let mut bytes = [0; 16];
        self.wires.ram.read(descriptor, &mut bytes);
        let [c0, c1, c2, c3, l0, l1, l2, l3, address @ ..] = bytes;
        let control = u32::from_be_bytes([c0, c1, c2, c3]);
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        if control & DMA_SELECT != 0 {
            self.select((control >> 16) as u16);
        }
        let result = if control & DMA_READ != 0 {
            self.copy_out(u64::from_be_bytes(address), length);
            0
        } else if control & DMA_WRITE != 0 {
            // No item can be written.
            DMA_ERROR
        } else {
            if control & DMA_SKIP != 0 {
                self.skip(length);
            }
            0
        };
        self.wires.ram.write(descriptor, &result.to_be_bytes());
    }

    fn skip(&mut self, length: u32) {
        let end = self.item().len() as u32;
        self.state.offset = self.state.offset.saturating_add(length).min(end.max(self.state.offset));
    }

    fn copy_out(&mut self, address: u64, length: u32) {
        let rest = self.item().get(self.state.offset as usize..).unwrap_or(&[]);
        let present = &rest[..rest.len().min(length as usize)];
        self.wires.ram.write(address, present);
        // What is asked for past the end comes as zeros, as far as there is memory.
        let mut at = address.saturating_add(present.len() as u64);
        let end = address.saturating_add(u64::from(length)).min(self.wires.ram.len());
        while at < end {
            let step = CHUNK.min(end - at);
            self.wires.ram.write(at, &[0; CHUNK as usize][..step as usize]);
            at += step;
        }
        self.skip(length);
    }
}

fn read_signature(at: u16, width: Width) -> u32 {
    let bytes = DMA_SIGNATURE.to_be_bytes();
    (0..width.bytes().min(4) as usize)
        .map(|n| u32::from(bytes.get(usize::from(at) + n).copied().unwrap_or(0)) << (8 * n))
        .sum()
}

impl Device for FwCfg {
    fn name(&self) -> &'static str {
        "fw_cfg"
    }

    fn reset(&mut self) {
        self.state = FwCfgState::default();
    }

    fn save(&self) -> Section {
        Section::encode(self.name(), 1, &self.state)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        self.state = section.decode(self.name(), 1)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::signals::Signals;
    use crate::dev::suite;

    fn port() -> (FwCfg, Arc<GuestRam>) {
        let ram = Arc::new(GuestRam::new(1 << 20, &Arc::new(Signals::new())).expect("memory"));
        let mut port = FwCfg::new(&ram);
        port.add_file("bootorder", b"/pci@i0cf8/ide@1,1/drive@0/disk@0\n\0".to_vec());
        port.add_file("etc/show-boot-menu", vec![0, 0]);
        port.add_file("genroms/kernel.bin", vec![0x55; 5000]);
        (port, ram)
    }

    fn read(port: &mut FwCfg, key: u16, count: usize) -> Vec<u8> {
        port.write(0, Width::Word, u32::from(key));
        (0..count).map(|_| port.read(1, Width::Byte) as u8).collect()
    }

    fn dma(port: &mut FwCfg, ram: &GuestRam, control: u32, length: u32, address: u64) -> u32 {
        let mut descriptor = Vec::new();
        descriptor.extend(control.to_be_bytes());
        descriptor.extend(length.to_be_bytes());
        descriptor.extend(address.to_be_bytes());
        ram.write(0x1000, &descriptor);
        port.write(4, Width::Dword, 0);
        port.write(8, Width::Dword, 0x1000_u32.swap_bytes());
        let mut control = [0; 4];
        ram.read(0x1000, &mut control);
        u32::from_be_bytes(control)
    }

    #[test]
    fn firmware_finds_the_port_its_items_and_its_files() {
        let (mut port, _) = port();
        assert_eq!(read(&mut port, key::SIGNATURE, 6), b"QEMU\0\0");
        assert_eq!(read(&mut port, key::ID, 4), [3, 0, 0, 0]);
        assert_eq!(read(&mut port, key::RAM_SIZE, 8), (1_u64 << 20).to_le_bytes());
        assert_eq!(read(&mut port, 0x3fff, 2), [0, 0]);
        let directory = read(&mut port, key::FILE_DIRECTORY, 4 + 3 * 64);
        assert_eq!(directory[..4], [0, 0, 0, 3]);
        let second = &directory[4 + 64..4 + 128];
        assert_eq!(second[..8], [0, 0, 0, 2, 0, 0x21, 0, 0]);
        assert_eq!(&second[8..8 + 19], b"etc/show-boot-menu\0");
        port.add_file("etc/show-boot-menu", vec![1, 0]);
        assert_eq!(read(&mut port, 0x21, 2), [1, 0]);
        // As SeaBIOS looks for DMA: two doublewords, each big-endian.
        assert_eq!(port.read(4, Width::Dword).swap_bytes(), 0x5145_4d55);
        assert_eq!(port.read(8, Width::Dword).swap_bytes(), 0x2043_4647);
    }

    #[test]
    fn dma_selects_skips_reads_and_pads() {
        let (mut port, ram) = port();
        ram.write(0x2000, &[0xee; 16]);
        assert_eq!(dma(&mut port, &ram, 0x20 << 16 | DMA_SELECT | DMA_SKIP, 5, 0), 0);
        assert_eq!(dma(&mut port, &ram, DMA_READ, 3, 0x2000), 0);
        let mut bytes = [0; 4];
        ram.read(0x2000, &mut bytes);
        assert_eq!(&bytes, b"i0c\xee");
        assert_eq!(port.read(1, Width::Byte), u32::from(b'f'), "DMA and the data port share the offset");
        assert_eq!(dma(&mut port, &ram, 0x22 << 16 | DMA_SELECT | DMA_READ, 5002, 0x1_0000), 0);
        ram.read(0x1_0000 + 4998, &mut bytes);
        assert_eq!(bytes, [0x55, 0x55, 0, 0]);
        assert_eq!(dma(&mut port, &ram, DMA_WRITE, 4, 0x2000), DMA_ERROR);
        assert_eq!(dma(&mut port, &ram, DMA_READ, u32::MAX, u64::MAX - 5), 0);
    }

    #[test]
    fn any_guest_and_any_file() {
        suite::check(|| port().0, |port| _ = read(port, 0x20, 7));
        let (port, ram) = port();
        suite::hammer(port, 5_000, |port, random, _| {
            let control = random.next() as u32 & 0xff_001f;
            dma(port, &ram, control, random.below(1 << 14) as u32, random.below(1 << 21));
            port.write(random.below(16) as u16, Width::Dword, random.next() as u32);
            port.write(0, Width::Word, random.below(0x30) as u32);
            port.read(random.below(16) as u16, Width::Dword);
        });
    }
}
