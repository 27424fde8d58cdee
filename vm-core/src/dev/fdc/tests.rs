//! The controller, byte by byte.

use std::sync::Mutex;

use super::commands::{ID_TIME, ROUND_TIME};
use super::*;
use crate::bus::irq::IrqLines;
use crate::bus::ram::GuestRam;
use crate::dev::dma::Dma;
use crate::dev::suite;
use crate::disk::memory::{Control, Memory};

struct Rig {
    fdc: Fdc,
    dma: Dma,
    ram: Arc<GuestRam>,
    clock: Clock,
    lines: Arc<IrqLines>,
    media: Vec<Arc<Mutex<Control>>>,
}

/// Sector n is full of the byte n + 1.
fn image(sectors: usize) -> Vec<u8> {
    (0..sectors).flat_map(|n| [(n + 1) as u8; 512]).collect()
}

impl Rig {
    fn new(sectors: usize) -> Self {
        let signals = Arc::new(Signals::new());
        let lines = Arc::new(IrqLines::default());
        let ram = Arc::new(GuestRam::new(1 << 20, &signals).unwrap());
        let dma = Dma::new(&ram);
        let clock = Clock::manual();
        let mut fdc = Fdc::new(IrqLine::new(&lines, &signals, 6), dma.handle(), clock.clone(), &signals);
        let (medium, control) = Memory::new(image(sectors), false);
        fdc.attach(0, Some(medium));
        Self { fdc, dma, ram, clock, lines, media: vec![control] }
    }

    /// Out of reset, interrupt taken, head at track 0, data rate set.
    fn ready(sectors: usize, rate: u8) -> Self {
        let mut rig = Self::new(sectors);
        rig.fdc.write(2, 0x1c);
        assert!(rig.wait());
        for unit in 0..4 {
            assert_eq!(rig.command(&[8]), [0xc0 | unit, 0]);
        }
        assert_eq!(rig.command(&[8]), [0x80]);
        rig.fdc.write(7, rate);
        rig.command(&[3, 0xdf, 2]);
        rig.command(&[7, 0]);
        assert!(rig.wait());
        assert_eq!(rig.command(&[8]), [0x20, 0]);
        rig
    }

    /// Lets time pass until an interrupt comes.
    fn wait(&mut self) -> bool {
        for _ in 0..8 {
            if let Some(at) = self.fdc.next_event() {
                self.clock.set(at.max(self.clock.now()));
            }
            self.fdc.advance(self.clock.now());
            if self.lines.level() == 1 << 6 {
                return true;
            }
        }
        false
    }

    /// Sends a command; its result, if there is one.
    fn command(&mut self, bytes: &[u8]) -> Vec<u8> {
        for byte in bytes {
            assert_eq!(self.fdc.read(4) & 0xc0, 0x80, "it takes a byte");
            self.fdc.write(5, *byte);
        }
        self.result()
    }

    fn result(&mut self) -> Vec<u8> {
        let mut result = Vec::new();
        while self.fdc.read(4) & 0xc0 == 0xc0 {
            result.push(self.fdc.read(5));
        }
        result
    }

    fn program(&mut self, mode: u8, address: u32, bytes: u32) {
        let count = (bytes - 1) as u16;
        self.dma.write(0x0a, 6);
        self.dma.write(0x0c, 0);
        self.dma.write(0x0b, mode | 2);
        for (port, value) in [(4, address as u16), (5, count)] {
            self.dma.write(port, value as u8);
            self.dma.write(port, (value >> 8) as u8);
        }
        self.dma.write(0x81, (address >> 16) as u8);
        self.dma.write(0x0a, 2);
    }

    fn memory(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.ram.read(address, &mut bytes);
        bytes
    }

    fn transfer(&mut self, bytes: &[u8]) -> Vec<u8> {
        for byte in bytes {
            self.fdc.write(5, *byte);
        }
        assert!(self.wait(), "the interrupt at the end");
        let result = self.result();
        assert_eq!(self.lines.level(), 0);
        result
    }
}

const TO_MEMORY: u8 = 0x44;
const FROM_MEMORY: u8 = 0x48;

#[test]
fn sizes_have_their_formats() {
    for (kilobytes, expected) in [
        (160, (40, 1, 8, 1)),
        (180, (40, 1, 9, 1)),
        (320, (40, 2, 8, 1)),
        (360, (40, 2, 9, 1)),
        (720, (80, 2, 9, 4)),
        (800, (80, 2, 10, 4)),
        (1200, (80, 2, 15, 2)),
        (1440, (80, 2, 18, 4)),
        (1680, (80, 2, 21, 4)),
        (2880, (80, 2, 36, 5)),
        (33, (80, 2, 18, 4)),
        (1000, (80, 2, 18, 4)),
        (2000, (80, 2, 36, 5)),
    ] {
        let format = Geometry::of(kilobytes * 2);
        let found = (format.cylinders, format.heads, format.sectors, format.drive_type);
        assert_eq!(found, expected, "{kilobytes} K");
    }
}

#[test]
fn a_read_ends_with_the_count_and_says_where_it_would_go_on() {
    let mut rig = Rig::ready(2880, 0);
    assert_eq!(rig.fdc.drive_type(0), 4);
    assert!(rig.command(&[0x0f, 4, 2]).is_empty());
    assert!(rig.wait());
    assert_eq!(rig.command(&[8]), [0x24, 2]);
    rig.program(TO_MEMORY, 0x1000, 1024);
    // Cylinder 2, head 1, sectors 17 and 18.
    assert_eq!(rig.transfer(&[0xe6, 4, 2, 1, 17, 2, 18, 27, 255]), [4, 0, 0, 3, 0, 1, 2]);
    let first = ((2 * 2 + 1) * 18 + 16 + 1) as u8;
    let memory = rig.memory(0x1000, 1025);
    assert_eq!(
        (memory[0], memory[511], memory[512], memory[1023], memory[1024]),
        (first, first, first + 1, first + 1, 0)
    );
    // Across both sides: the rest of side 0 and the whole of side 1.
    rig.program(TO_MEMORY, 0x2000, 19 * 512);
    assert_eq!(rig.transfer(&[0xe6, 0, 2, 0, 18, 2, 18, 27, 255]), [4, 0, 0, 3, 0, 1, 2]);
    assert_eq!(rig.memory(0x2000 + 18 * 512, 1), [((2 * 2 + 1) * 18 + 18) as u8]);
    // Without multi-track the count does not end there.
    rig.program(TO_MEMORY, 0x2000, 19 * 512);
    assert_eq!(rig.transfer(&[0x46, 0, 2, 0, 18, 2, 18, 27, 255])[..3], [0x40, 0x80, 0]);
}

#[test]
fn what_is_not_there_is_said_in_the_status_registers() {
    let mut rig = Rig::ready(2880, 0);
    rig.program(TO_MEMORY, 0x1000, 512);
    let read = |cylinder, head: u8, sector| [0x46, head << 2, cylinder, head, sector, 2, 18, 27, 255];
    assert_eq!(rig.transfer(&read(0, 0, 19))[..3], [0x40, 4, 0], "no such sector");
    assert_eq!(rig.transfer(&read(5, 0, 1))[..3], [0x40, 4, 0x10], "another cylinder than the head is at");
    rig.fdc.write(7, 2);
    assert_eq!(rig.transfer(&read(0, 0, 1))[..3], [0x40, 5, 0], "the wrong data rate");
    assert_eq!(rig.transfer(&[0x4a, 0])[..3], [0x40, 5, 0]);
    rig.fdc.write(7, 0);
    assert_eq!(rig.transfer(&[0x4a, 0])[3..], [0, 0, rig_record(&rig), 2]);
    assert_eq!(rig.transfer(&[0x46, 1, 0, 0, 1, 2, 18, 27, 255])[..2], [0x41, 5], "no such drive");
    assert_eq!(rig.command(&[0x18]), [0x80], "PART ID: not an 82078");
    for scan in [0x11, 0x19, 0x1d, 0xd1] {
        assert_eq!(rig.command(&[scan]), [0x80], "SCAN: not an 8272");
    }
    assert_eq!(rig.command(&[0x10]), [0x90]);
    rig.dma.write(0x0a, 6);
    assert_eq!(rig.transfer(&read(0, 0, 1))[..3], [0x40, 0x10, 0], "no DMA: overrun");
}

fn rig_record(rig: &Rig) -> u8 {
    let at = (rig.clock.now() - ID_TIME) % ROUND_TIME;
    (at * 18 / ROUND_TIME) as u8 + 1
}

#[test]
fn a_write_reaches_the_medium_before_the_interrupt() {
    let mut rig = Rig::ready(2880, 0);
    rig.ram.write(0x3000, &[0x77; 700]);
    rig.program(FROM_MEMORY, 0x3000, 700);
    rig.media[0].lock().unwrap().held = true;
    assert!(rig.command(&[0xc5, 0, 0, 0, 3, 2, 18, 27, 255]).is_empty());
    assert!(!rig.wait() && rig.fdc.busy());
    assert_eq!(rig.fdc.read(4), MSR_BUSY);
    rig.media[0].lock().unwrap().held = false;
    assert!(rig.wait());
    assert_eq!(rig.result(), [0, 0, 0, 0, 0, 5, 2]);
    let bytes = rig.media[0].lock().unwrap().bytes.clone();
    assert_eq!(
        (bytes[1023], bytes[1024], bytes[1723], bytes[1724], bytes[2047], bytes[2048]),
        (2, 0x77, 0x77, 0, 0, 5)
    );
}

#[test]
fn a_track_is_formatted_with_its_filler() {
    let mut rig = Rig::ready(1440, 2);
    assert_eq!(rig.fdc.drive_type(0), 4);
    let ids: Vec<u8> = (1..=9).flat_map(|record| [0, 1, record, 2]).collect();
    rig.ram.write(0x3000, &ids);
    rig.program(FROM_MEMORY, 0x3000, 36);
    assert_eq!(rig.transfer(&[0x4d, 4, 2, 9, 80, 0xf6])[..3], [4, 0, 0]);
    let bytes = rig.media[0].lock().unwrap().bytes.clone();
    assert_eq!((bytes[9 * 512 - 1], bytes[9 * 512], bytes[18 * 512 - 1], bytes[18 * 512]), (9, 0xf6, 0xf6, 19));
    rig.program(FROM_MEMORY, 0x3000, 72);
    assert_eq!(rig.transfer(&[0x4d, 4, 2, 18, 80, 0xf6])[..2], [0x44, 4], "another format");
}

#[test]
fn without_dma_bytes_go_through_the_fifo() {
    let mut rig = Rig::ready(2880, 0);
    rig.command(&[3, 0xdf, 3]);
    for byte in [0x46, 0, 0, 0, 18, 2, 18, 27, 255] {
        rig.fdc.write(5, byte);
    }
    assert!(rig.wait());
    for _ in 0..512 {
        assert_eq!(rig.fdc.read(4), 0xf0);
        assert_eq!(rig.fdc.read(5), 18);
    }
    assert_eq!(rig.result(), [0x40, 0x80, 0, 1, 0, 1, 2]);
    for byte in [0x45, 0, 0, 0, 18, 2, 18, 27, 255] {
        rig.fdc.write(5, byte);
    }
    for _ in 0..512 {
        assert_eq!(rig.fdc.read(4), 0xb0);
        rig.fdc.write(5, 0xee);
    }
    assert!(rig.wait());
    rig.result();
    assert_eq!(rig.media[0].lock().unwrap().bytes[17 * 512..18 * 512], [0xee; 512]);
}

#[test]
fn verify_counts_what_it_is_told_to() {
    let mut rig = Rig::ready(2880, 0);
    assert_eq!(rig.transfer(&[0xf6, 0x80, 0, 0, 1, 2, 18, 27, 20]), [4, 0, 0, 0, 1, 3, 2]);
    assert_eq!(rig.transfer(&[0x56, 0, 0, 0, 1, 2, 18, 27, 255])[..3], [0, 0, 0]);
    assert_eq!(rig.transfer(&[0x56, 0, 0, 0, 1, 2, 19, 27, 255])[..3], [0x40, 4, 0]);
}

#[test]
fn a_changed_disk_shows_until_the_head_steps() {
    let mut rig = Rig::ready(2880, 0);
    assert_eq!(rig.fdc.read(7), 0);
    rig.fdc.change_medium(0, None).unwrap();
    assert_eq!(rig.fdc.read(7), 0x80);
    rig.command(&[0x0f, 0, 1]);
    rig.wait();
    assert_eq!(rig.fdc.read(7), 0x80, "no disk");
    rig.command(&[8]);
    let (medium, _) = Memory::new(image(2880), true);
    rig.fdc.change_medium(0, Some(medium)).unwrap();
    assert_eq!(rig.fdc.read(7), 0x80);
    rig.command(&[0x0f, 0, 0]);
    rig.wait();
    assert_eq!(rig.command(&[8]), [0x20, 0]);
    assert_eq!(rig.fdc.read(7), 0);
    assert_eq!(rig.command(&[4, 0]), [0x78], "write-protected, at track 0");
    rig.program(FROM_MEMORY, 0x3000, 512);
    assert_eq!(rig.transfer(&[0x45, 0, 0, 0, 1, 2, 18, 27, 255])[..3], [0x40, 2, 0]);
}

#[test]
fn a_drive_takes_the_disks_that_it_could_read() {
    let disk = |kilobytes: usize| Some(Memory::new(vec![0; kilobytes * 1024], false).0 as Box<dyn BlockBackend>);
    for (drive, taken, refused) in [
        (360, &[160, 320, 360][..], &[720, 1200, 1440, 2880][..]),
        (720, &[720, 1440, 720], &[2880]),
        (1200, &[360, 720, 1200], &[2880]),
        (1440, &[720, 1440, 1680], &[2880]),
        (2880, &[720, 1440, 2880], &[]),
    ] {
        let mut rig = Rig::new(drive * 2);
        let kind = rig.fdc.drive_type(0);
        for size in taken {
            rig.fdc.change_medium(0, disk(*size)).unwrap();
            assert_eq!(rig.fdc.drive_type(0), kind, "the drive stays what it is");
        }
        for size in refused {
            let text = rig.fdc.change_medium(0, disk(*size)).unwrap_err();
            assert!(text.contains(&format!("{size} KB")) && text.contains("power the machine off"), "{text}");
        }
        assert_eq!(rig.fdc.medium(0).map(|medium| medium.sectors()), taken.last().map(|size| *size as u64 * 2));
    }
    assert!(Rig::new(2880).fdc.change_medium(1, None).unwrap_err().contains("no such drive"));
}

#[test]
fn a_saved_drive_stays_what_it_is_whatever_disk_is_in_it() {
    let mut rig = Rig::new(2880);
    rig.fdc.change_medium(0, Some(Memory::new(image(720), false).0)).unwrap();
    let saved = rig.fdc.save();
    let mut later = Rig::new(720);
    assert_eq!(later.fdc.drive_type(0), 1, "a drive for 360 KB, as its disk says");
    later.fdc.load(&saved).unwrap();
    later.fdc.reset();
    assert_eq!(later.fdc.drive_type(0), 4);
    // A state of the time when a disk of 720 KB had a drive that reads no more.
    let mut old = saved.clone();
    old.body = old.body.lines().filter(|line| !line.contains("drive_types")).collect::<Vec<_>>().join("\n");
    assert_ne!(old.body, saved.body);
    for (sectors, drive_type) in [(720, 1), (1440, 3), (2880, 4), (5760, 5)] {
        let mut rig = Rig::new(sectors);
        rig.fdc.load(&old).unwrap();
        assert_eq!(rig.fdc.drive_type(0), drive_type);
    }
    for wrong in ["(6, 0)", "(4, 4)"] {
        let body = saved.body.replace("drive_types: (4, 0)", &format!("drive_types: {wrong}"));
        assert_ne!(body, saved.body);
        let error = rig.fdc.load(&Section { body, ..saved.clone() }).unwrap_err().to_string();
        assert!(error.contains("is of type"), "{error}");
    }
}

#[test]
fn a_disk_taken_out_under_a_transfer_ends_it() {
    let mut rig = Rig::ready(2880, 0);
    rig.program(TO_MEMORY, 0x1000, 512);
    rig.media[0].lock().unwrap().held = true;
    rig.command(&[0x46, 0, 0, 0, 1, 2, 18, 27, 255]);
    assert_eq!(rig.fdc.read(4), MSR_BUSY);
    rig.fdc.change_medium(0, None).unwrap();
    assert_eq!(rig.result()[..3], [0x40, 5, 0]);
    assert_eq!(rig.transfer(&[0x46, 0, 0, 0, 1, 2, 18, 27, 255])[..3], [0x40, 5, 0], "no disk");
    // A disk of another format in its place.
    rig.fdc.change_medium(0, Some(Memory::new(image(1440), false).0)).unwrap();
    rig.fdc.write(7, 2);
    rig.program(TO_MEMORY, 0x1000, 512);
    assert_eq!(rig.transfer(&[0x46, 4, 0, 1, 9, 2, 9, 27, 255])[..3], [4, 0, 0]);
    assert_eq!(rig.memory(0x1000, 512), [18; 512]);
}

#[test]
fn lock_keeps_the_configuration_over_a_reset_and_implied_seeks_work() {
    let mut rig = Rig::ready(2880, 0);
    rig.command(&[0x13, 0, 0x57, 0]);
    assert_eq!(rig.command(&[0x94]), [0x10]);
    rig.fdc.write(4, 0x80);
    assert!(rig.wait());
    assert_eq!(rig.command(&[8]), [0xc0, 0]);
    let registers = rig.command(&[0x0e]);
    assert_eq!((registers.len(), registers[7] & 0x80, registers[8]), (10, 0x80, 0x57));
    rig.program(TO_MEMORY, 0x1000, 512);
    assert_eq!(rig.transfer(&[0x46, 0, 40, 0, 1, 2, 18, 27, 255])[..4], [0, 0, 0, 40]);
    assert_eq!(rig.command(&[0x14]), [0]);
    rig.fdc.write(2, 0x18);
    rig.fdc.write(2, 0x1c);
    rig.wait();
    assert_eq!(rig.command(&[0x0e])[8], 0x20);
}

#[test]
fn a_short_image_reads_as_zeros_behind_its_end_and_takes_no_writes_there() {
    let mut rig = Rig::ready(10, 0);
    rig.ram.write(0x1000, &[9; 1024]);
    rig.program(TO_MEMORY, 0x1000, 1024);
    assert_eq!(rig.transfer(&[0xc6, 0, 0, 0, 10, 2, 18, 27, 255])[..3], [0, 0, 0]);
    assert_eq!(rig.memory(0x1000, 1024), [[10; 512], [0; 512]].concat());
    rig.program(FROM_MEMORY, 0x1000, 1024);
    assert_eq!(rig.transfer(&[0xc5, 0, 0, 0, 10, 2, 18, 27, 255])[..2], [0x40, 4]);
}

#[test]
fn it_does_what_every_chip_does_in_any_phase() {
    suite::check(
        || Rig::new(2880).fdc,
        |fdc| {
            // In the middle of a command.
            for (offset, value) in [(2, 0x1c), (7, 0), (5, 0x46), (5, 0)] {
                fdc.write(offset, value);
            }
        },
    );
    suite::check(
        || Rig::new(2880).fdc,
        |fdc| {
            // In the middle of a write through the FIFO.
            fdc.write(2, 0x1c);
            fdc.write(7, 0);
            for value in [3, 0xdf, 3, 0x45, 0, 0, 0, 1, 2, 18, 27, 255, 1, 2, 3] {
                fdc.write(5, value);
            }
        },
    );
    suite::check(
        || Rig::new(2880).fdc,
        |fdc| {
            // While the medium reads.
            fdc.write(2, 0x1c);
            fdc.write(7, 0);
            for value in [0x46, 0, 0, 0, 1, 2, 18, 27, 255] {
                fdc.write(5, value);
            }
            assert!(fdc.busy());
        },
    );
}

#[test]
fn random_accesses_harm_nothing() {
    let rig = Rig::new(2880);
    let clock = rig.clock.clone();
    let mut dma = rig.dma;
    suite::hammer(rig.fdc, 300_000, |fdc, random, now| {
        clock.set(now);
        let value = random.next() as u8;
        match random.below(40) {
            0 => fdc.write(2, value),
            1 => fdc.write(2, 0x1c),
            2 => fdc.write(random.below(8) as u16, value),
            3 => dma.write([0x0a, 0x0b, 0x04, 0x05, 0x0c][random.below(5) as usize], value),
            4..=9 => fdc.write(5, [0x46, 0xe6, 0xc5, 0x4d, 0x0f, 0x07, 0x08, 0x56][random.below(8) as usize]),
            10..=19 => fdc.write(5, random.below(4) as u8),
            20 => fdc.write(7, 0),
            _ => _ = fdc.read(random.below(8) as u16),
        }
    });
}
