//! The channel with its drives, register by register.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};

use super::*;
use crate::bus::Width;
use crate::bus::irq::{IrqLine, IrqLines};
use crate::bus::ram::GuestRam;
use crate::bus::signals::{Signals, StopReason};
use crate::dev::pci::PciFunction;
use crate::dev::{Device, suite};
use crate::disk::memory::{Control, Memory};

mod dma;

/// A channel, its wires, and the media behind it.
pub struct Rig {
    pub ide: IdeChannel,
    pub lines: Arc<IrqLines>,
    pub ram: Arc<GuestRam>,
    pub enable: MasterEnable,
    pub signals: Arc<Signals>,
    pub media: Vec<Arc<Mutex<Control>>>,
}

/// Sector n is full of the byte n + 1.
pub fn image(sectors: usize) -> Vec<u8> {
    (0..sectors).flat_map(|n| [(n + 1) as u8; 512]).collect()
}

impl Rig {
    pub fn empty() -> Self {
        let signals = Arc::new(Signals::new());
        let lines = Arc::new(IrqLines::default());
        let ram = Arc::new(GuestRam::new(1 << 20, &signals).unwrap());
        let enable = MasterEnable::default();
        enable.set(true);
        let ide = IdeChannel::new("ide0", IrqLine::new(&lines, &signals, 14), &ram, &enable, &signals);
        Self { ide, lines, ram, enable, signals, media: Vec::new() }
    }

    pub fn disk(bytes: Vec<u8>) -> Self {
        let mut rig = Self::empty();
        let (medium, control) = Memory::new(bytes, false);
        rig.ide.attach_disk(0, medium);
        rig.media.push(control);
        rig
    }

    pub fn set(&mut self, registers: [u8; 6]) {
        for (offset, value) in (1..).zip(registers) {
            self.ide.write(offset, Width::Byte, u32::from(value));
        }
    }

    pub fn command(&mut self, command: u8) {
        self.ide.write(7, Width::Byte, u32::from(command));
    }

    /// Waits for the end of BSY; the status, and whether the line was high.
    pub fn wait(&mut self) -> (u8, bool) {
        for _ in 0..8 {
            self.ide.advance(0);
            if self.ide.alternate_status() & status::BSY == 0 {
                break;
            }
        }
        let irq = self.lines.level() == 1 << 14;
        let value = self.ide.read(7, Width::Byte) as u8;
        assert_eq!(self.lines.level(), 0, "reading the status takes the interrupt back");
        (value, irq)
    }

    pub fn words(&mut self, count: usize) -> Vec<u8> {
        (0..count).flat_map(|_| (self.ide.read(0, Width::Word) as u16).to_le_bytes()).collect()
    }

    pub fn registers(&mut self) -> [u8; 6] {
        std::array::from_fn(|n| self.ide.read(n as u16 + 1, Width::Byte) as u8)
    }

    fn put(&mut self, byte: u8, sectors: usize) {
        for _ in 0..sectors * 128 {
            self.ide.write(0, Width::Dword, u32::from_le_bytes([byte; 4]));
        }
    }
}

#[test]
fn a_read_by_lba_gives_an_interrupt_before_each_sector_and_none_after_the_last() {
    let mut rig = Rig::disk(image(1000));
    rig.set([0, 2, 0x2c, 1, 0, 0xe0]);
    rig.command(0x20);
    assert_eq!(rig.ide.alternate_status(), status::BSY);
    assert_eq!(rig.wait(), (0x58, true));
    assert_eq!(rig.words(256), [45; 512]);
    assert_eq!(rig.wait(), (0x58, true));
    assert_eq!(rig.words(256), [46; 512]);
    assert_eq!(rig.wait(), (0x50, false));
    assert_eq!(rig.registers(), [0, 0, 0x2d, 1, 0, 0xe0], "the last sector");
    assert_eq!(rig.media[0].lock().unwrap().requests, 1);
}

#[test]
fn chs_reaches_the_same_sectors_under_the_translation_of_the_day() {
    let mut rig = Rig::disk(image(3000));
    // 16 heads, 63 sectors: cylinder 1, head 2, sector 3.
    rig.set([0, 1, 3, 1, 0, 0xa2]);
    rig.command(0x20);
    rig.wait();
    assert_eq!(rig.words(1), [((1008 + 2 * 63 + 2 + 1) & 0xff) as u8; 2]);
    // INITIALIZE DEVICE PARAMETERS: 4 heads, 17 sectors.
    rig.set([0, 17, 0, 0, 0, 0xa3]);
    rig.command(0x91);
    assert_eq!(rig.wait(), (0x50, true));
    rig.set([0, 1, 17, 2, 0, 0xa3]);
    rig.command(0x20);
    rig.wait();
    assert_eq!(rig.words(1), [((2 * 4 * 17 + 3 * 17 + 16 + 1) & 0xff) as u8; 2]);
    for registers in [[0, 1, 18, 0, 0, 0xa0], [0, 1, 0, 0, 0, 0xa0], [0, 1, 1, 0, 0, 0xa4]] {
        rig.set(registers);
        rig.command(0x20);
        assert_eq!(rig.wait(), (0x51, true));
        assert_eq!(rig.registers()[0], error::IDNF);
    }
}

#[test]
fn the_end_of_the_disk_is_an_error_at_its_very_sector() {
    let mut rig = Rig::disk(image(10));
    rig.set([0, 4, 8, 0, 0, 0xe0]);
    rig.command(0x20);
    rig.wait();
    rig.words(256);
    rig.wait();
    assert_eq!(rig.words(256), [10; 512]);
    assert_eq!(rig.wait(), (0x51, true));
    assert_eq!(rig.registers(), [error::IDNF, 2, 10, 0, 0, 0xe0]);
    // A full count from the last sector that LBA28 can name.
    rig.set([0, 0, 0xff, 0xff, 0xff, 0xef]);
    rig.command(0x40);
    assert_eq!(rig.wait(), (0x51, true));
}

#[test]
fn writes_reach_the_medium_in_blocks_and_flush_waits_for_it() {
    let mut rig = Rig::disk(image(600));
    rig.set([0, 8, 0, 0, 0, 0xe0]);
    rig.command(0xc6);
    assert_eq!(rig.wait(), (0x50, true));
    // WRITE MULTIPLE, 20 sectors from 5 on: blocks of 8, 8 and 4.
    rig.set([0, 20, 5, 0, 0, 0xe0]);
    rig.command(0xc5);
    assert_eq!(rig.wait(), (0x58, false), "no interrupt before the first block");
    rig.put(0xaa, 8);
    assert_eq!(rig.wait(), (0x58, true));
    rig.put(0xbb, 8);
    assert_eq!(rig.wait(), (0x58, true));
    rig.media[0].lock().unwrap().held = true;
    rig.put(0xcc, 4);
    assert_eq!(rig.wait().0, status::BSY);
    assert!(rig.ide.busy());
    rig.media[0].lock().unwrap().held = false;
    assert_eq!(rig.wait(), (0x50, true));
    let bytes = rig.media[0].lock().unwrap().bytes.clone();
    let at = |sector: usize| bytes[sector * 512];
    assert_eq!((at(4), at(5), at(12), at(13), at(24), at(25)), (5, 0xaa, 0xaa, 0xbb, 0xcc, 26));
    rig.command(0xe7);
    assert_eq!(rig.ide.alternate_status(), status::BSY);
    assert_eq!(rig.wait(), (0x50, true));
    assert_eq!(rig.media[0].lock().unwrap().flushes, 1);
    // Without the write cache each write is flushed by itself.
    rig.set([0x82, 0, 0, 0, 0, 0xe0]);
    rig.command(0xef);
    rig.wait();
    rig.set([0, 1, 0, 0, 0, 0xe0]);
    rig.command(0x30);
    rig.put(1, 1);
    rig.wait();
    assert_eq!(rig.media[0].lock().unwrap().flushes, 3);
}

#[test]
fn a_48_bit_count_of_zero_is_65536_sectors_in_many_chunks() {
    let mut rig = Rig::disk(vec![7; 66_000 * 512]);
    // High bytes first, then low ones: count 0x0000, LBA 0x000000000100.
    rig.set([0, 0, 0, 0, 0, 0xe0]);
    rig.set([0, 0, 0, 1, 0, 0xe0]);
    rig.command(0x42);
    for _ in 0..256 {
        rig.ide.advance(0);
    }
    assert_eq!(rig.wait(), (0x50, true));
    assert_eq!(rig.media[0].lock().unwrap().requests, 256);
    assert_eq!(rig.registers()[2..5], [0xff, 0, 1]);
    rig.ide.write_control(CONTROL_HOB);
    assert_eq!(rig.registers()[2..5], [0, 0, 0], "the last sector is 0x0000100FF");
}

#[test]
fn identify_tells_what_the_drive_can() {
    let mut rig = Rig::disk(image(20_000));
    rig.set([0, 0, 0, 0, 0, 0xa0]);
    rig.command(0xec);
    assert_eq!(rig.wait(), (0x58, true));
    let bytes = rig.words(256);
    assert_eq!(rig.wait(), (0x50, false));
    let word = |n: usize| u16::from_le_bytes([bytes[2 * n], bytes[2 * n + 1]]);
    assert_eq!((word(1), word(3), word(6)), (19, 16, 63));
    assert_eq!(u32::from(word(57)) | u32::from(word(58)) << 16, 19 * 16 * 63);
    assert_eq!((word(60), word(61), word(100)), (20_000, 0, 20_000));
    assert_eq!(word(49) & 0x0300, 0x0300, "LBA and DMA");
    assert_eq!((word(53) & 6, word(63), word(88)), (6, 7, 7), "modes 0 to 2, none chosen");
    assert_eq!(bytes[54..58], *b"AHOK");
    assert_eq!(bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0, "the check sum");
    for refused in [0xa0, 0xa1, 0x08, 0xb0, 0xff] {
        rig.command(refused);
        assert_eq!(rig.wait(), (0x51, true));
        assert_eq!(rig.registers()[0], error::ABRT);
    }
}

#[test]
fn a_failing_host_stops_the_machine_and_a_retry_goes_on() {
    let mut rig = Rig::disk(image(10));
    rig.media[0].lock().unwrap().failures = [ErrorKind::StorageFull, ErrorKind::StorageFull].into();
    rig.set([0, 1, 3, 0, 0, 0xe0]);
    rig.command(0x30);
    rig.put(0x99, 1);
    for _ in 0..2 {
        assert_eq!(rig.wait(), (status::BSY, false));
        let Some(StopReason::DiskError(text)) = rig.signals.take_stop() else { panic!("no stop") };
        assert!(text.contains("/memory.img") && text.contains("Make room"), "{text}");
        assert!(!rig.ide.busy(), "a save need not wait for it");
        let mut other = Rig::disk(image(10));
        other.ide.load(&rig.ide.save()).unwrap();
        assert_eq!(other.wait(), (0x50, true));
        assert_eq!(other.media[0].lock().unwrap().bytes[3 * 512], 0x99, "a loaded drive does it");
        rig.ide.retry();
    }
    assert_eq!(rig.wait(), (0x50, true));
    assert_eq!(rig.media[0].lock().unwrap().bytes[3 * 512], 0x99);
    // A read that fails twice is a bad sector.
    rig.media[0].lock().unwrap().failures = [ErrorKind::Other, ErrorKind::Other].into();
    rig.command(0x20);
    assert_eq!(rig.wait(), (status::BSY, false));
    assert!(rig.signals.take_stop().is_some());
    rig.ide.retry();
    assert_eq!(rig.wait(), (0x51, true));
    assert_eq!(rig.registers()[0], error::UNC);
    assert!(rig.signals.take_stop().is_none() && !rig.ide.busy());
}

#[test]
fn a_reset_forgets_the_command_and_a_late_answer_disturbs_nobody() {
    let mut rig = Rig::disk(image(10));
    rig.media[0].lock().unwrap().held = true;
    rig.set([0, 1, 3, 0, 0, 0xf0]);
    rig.set([0, 1, 3, 0, 0, 0xe0]);
    rig.command(0x20);
    rig.ide.write_control(CONTROL_SRST);
    assert_eq!(rig.ide.alternate_status(), status::BSY);
    rig.ide.write_control(CONTROL_NIEN);
    assert_eq!(rig.registers(), [1, 1, 1, 0, 0, 0xa0], "the signature");
    rig.media[0].lock().unwrap().held = false;
    assert_eq!(rig.wait(), (0x50, false));
    rig.command(0xe7);
    assert_eq!(rig.wait(), (0x50, false), "nIEN");
}

#[test]
fn an_absent_drive_is_seen_to_be_absent() {
    let mut none = Rig::empty();
    assert_eq!((none.ide.read(7, Width::Byte), none.ide.alternate_status()), (0x7f, 0x7f));
    let mut rig = Rig::disk(image(10));
    rig.set([0, 0x55, 0xaa, 0, 0, 0xb0]);
    assert_eq!(rig.registers()[5], 0xb0);
    assert_eq!(rig.ide.read(7, Width::Byte), 0);
    rig.command(0xec);
    assert_eq!((rig.ide.read(7, Width::Byte), rig.lines.level()), (0, 0));
}

#[test]
fn a_read_only_disk_refuses_writes() {
    let mut rig = Rig::empty();
    rig.ide.attach_disk(0, Memory::new(image(10), true).0);
    rig.set([0, 1, 0, 0, 0, 0xe0]);
    rig.command(0x30);
    assert_eq!(rig.wait(), (0x51, true));
}

fn both() -> IdeChannel {
    let mut rig = Rig::disk(image(300));
    rig.ide.attach_cd(1, Some(Memory::new(image(64), true).0));
    rig.ide
}

#[test]
fn it_does_what_every_chip_does_in_any_phase() {
    // In the middle of a sector that goes to the guest.
    suite::check(both, |ide| {
        for (offset, value) in [(2, 3), (3, 1), (6, 0xe0), (7, 0x20)] {
            ide.write(offset, Width::Byte, value);
        }
        ide.advance(0);
        for _ in 0..100 {
            ide.read(0, Width::Word);
        }
    });
    // While the medium writes.
    suite::check(both, |ide| {
        for (offset, value) in [(2, 1), (3, 1), (6, 0xe0), (7, 0x30)] {
            ide.write(offset, Width::Byte, value);
        }
        for _ in 0..128 {
            ide.write(0, Width::Dword, 0x12345678);
        }
        assert!(ide.busy());
    });
    // In the middle of a packet.
    suite::check(both, |ide| {
        for (offset, value) in [(6, 0xb0), (7, 0xa0), (0, 0x1234)] {
            ide.write(offset, Width::Word, value);
        }
    });
}

#[test]
fn a_write_under_way_is_done_again_by_the_loaded_drive() {
    let mut rig = Rig::disk(image(10));
    rig.media[0].lock().unwrap().held = true;
    rig.set([0, 1, 3, 0, 0, 0xe0]);
    rig.command(0x30);
    rig.put(0x42, 1);
    let saved = rig.ide.save();
    let mut other = Rig::disk(image(10));
    other.ide.load(&saved).unwrap();
    assert_eq!(other.wait(), (0x50, true));
    assert_eq!(other.media[0].lock().unwrap().bytes[3 * 512], 0x42);
    // Into a smaller disk it does not go.
    assert!(Rig::disk(image(3)).ide.load(&saved).is_err());
    assert!(Rig::empty().ide.load(&saved).is_err());
}

#[test]
fn random_accesses_harm_nothing() {
    suite::hammer(both(), 200_000, |ide, random, _| {
        let value = random.next() as u32;
        let width = [Width::Byte, Width::Word, Width::Dword][random.below(3) as usize];
        match random.below(16) {
            0 => ide.write_control(value as u8 & !CONTROL_SRST | u8::from(random.below(16) == 0) << 2),
            1 => ide.write_bus_master(random.below(8) as u16, width, value),
            2 => _ = ide.read_bus_master(random.below(8) as u16, width),
            3..=6 => _ = ide.read(random.below(8) as u16, width),
            7..=9 => ide.write(0, width, value),
            10 => {
                for _ in 0..256 {
                    ide.read(0, Width::Word);
                }
            }
            _ => ide.write(random.below(7) as u16 + 1, width, value),
        }
        ide.retry();
    });
}

/// The PCI function and its wire.
fn function() -> (PciIde, MasterEnable) {
    let enable = MasterEnable::default();
    (PciIde::new(&enable, &Arc::new(Signals::new())), enable)
}

#[test]
fn the_pci_function_decodes_its_bus_master_block_and_enables_it() {
    suite::check(|| function().0, |pci| pci.config_write(0x20, Width::Dword, 0xffff_ffff));
    let (mut pci, enable) = function();
    assert_eq!(pci.config_read(0, Width::Dword), 0x7111_8086);
    assert_eq!(pci.config_read(8, Width::Dword), 0x0101_8001);
    assert_eq!(pci.bus_master_base(), None);
    pci.config_write(0x20, Width::Dword, 0xc041);
    pci.config_write(4, Width::Word, 1);
    assert_eq!((pci.bus_master_base(), enable.get()), (Some(0xc040), false));
    pci.config_write(4, Width::Word, 5);
    assert!(enable.get());
    let saved = pci.save();
    pci.reset();
    assert!(!enable.get());
    pci.load(&saved).unwrap();
    assert!(enable.get());
    pci.config_write(0x48, Width::Dword, 0xffff_ffff);
    assert_eq!(pci.config_read(0x48, Width::Dword), 0x3333_000f);
}
