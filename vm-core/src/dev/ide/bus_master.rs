//! The bus master of a channel: it moves data between a drive and the regions of memory that a table names.
//!
//! Intel 82371AB PIIX4 (290562-001), 4.2: registers; Programming Interface for Bus Master IDE Controller, revision 1.0.
//!
//! | offset | register | bits |
//! |---|---|---|
//! | 0 | BMICX, command | 0 start; 3 to memory |
//! | 2 | BMISX, status | 0 active; 1 error; 2 interrupt (1 and 2: written ones clear); 5, 6 drives that can |
//! | 4–7 | BMIDTPX | physical address of the table |
//!
//! A row of the table (PRD) has 8 bytes: address (even), count (even; 0 is 64 KiB), and bit 31 in the last row. The address
//! counters of regions and table have 16 bits: neither leaves its 64 KiB.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::bus::Width;
use crate::bus::ram::GuestRam;

const COMMAND_START: u8 = 0x01;
const COMMAND_TO_MEMORY: u8 = 0x08;

const STATUS_ACTIVE: u8 = 0x01;
const STATUS_ERROR: u8 = 0x02;
const STATUS_INTERRUPT: u8 = 0x04;
/// The drives that can do DMA: for firmware to write and drivers to read.
const STATUS_DRIVES: u8 = 0x60;

/// Bytes of a row of the table.
const ROW: usize = 8;
const LAST_ROW: u32 = 1 << 31;

/// Where data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the drive.
    ToMemory,
    /// To the drive.
    FromMemory,
}

/// Whether the PCI function may master the bus (bit 2 of its command register), as a wire to the channels. Clones are the same wire.
#[derive(Clone, Debug, Default)]
pub struct MasterEnable(Arc<AtomicBool>);

impl MasterEnable {
    /// Drives the wire; whether it rose.
    pub fn set(&self, enabled: bool) -> bool {
        !self.0.swap(enabled, Ordering::Relaxed) && enabled
    }

    /// Its level.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The registers, and how far the table has been worked off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BusMaster {
    command: u8,
    status: u8,
    table: u32,
    /// The next row of the table.
    row: u32,
    /// Where the present region goes on, and bytes left of it.
    address: u32,
    left: u32,
    /// The present region is the last.
    last: bool,
}

/// The sum in 16 bits: the upper half of `address` stays.
fn within_64k(address: u32, bytes: u32) -> u32 {
    address & 0xffff_0000 | address.wrapping_add(bytes) & 0xffff
}

impl BusMaster {
    /// Reads the block, `offset` 0–7.
    pub fn read(&self, offset: u16, width: Width) -> u32 {
        let low = u32::from(self.command) | u32::from(self.status) << 16;
        let both = u64::from(low) | u64::from(self.table) << 32;
        (both >> (8 * (offset & 7)) & width.mask()) as u32
    }

    /// Writes the block, `offset` 0–7.
    pub fn write(&mut self, offset: u16, width: Width, value: u32) {
        for n in 0..width.bytes().min(4) as u16 {
            let byte = (value >> (8 * n)) as u8;
            match (offset & 7) + n {
                0 => self.write_command(byte),
                2 => self.write_status(byte),
                at @ 4..=7 => self.write_table(at - 4, byte),
                _ => {}
            }
        }
    }

    fn write_command(&mut self, value: u8) {
        let was_started = self.command & COMMAND_START != 0;
        self.command = value & (COMMAND_START | COMMAND_TO_MEMORY);
        if value & COMMAND_START == 0 {
            // What has been moved is forgotten: nothing goes on from here.
            self.status &= !STATUS_ACTIVE;
            self.forget_region();
        } else if !was_started {
            self.status |= STATUS_ACTIVE;
            self.row = self.table;
            self.forget_region();
        }
    }

    fn write_status(&mut self, value: u8) {
        let kept = self.status & !value & (STATUS_ERROR | STATUS_INTERRUPT);
        self.status = self.status & STATUS_ACTIVE | kept | value & STATUS_DRIVES;
    }

    fn write_table(&mut self, byte: u16, value: u8) {
        let shift = 8 * byte;
        self.table = (self.table & !(0xff << shift) | u32::from(value) << shift) & !3;
    }

    /// The drive's interrupt line has risen.
    pub fn note_interrupt(&mut self) {
        self.status |= STATUS_INTERRUPT;
    }

    /// Takes `bytes` from the drive to memory; how many of them (an even number).
    pub fn write_memory(&mut self, ram: &GuestRam, bytes: &[u8]) -> usize {
        if self.command & COMMAND_TO_MEMORY == 0 {
            return 0;
        }
        self.run(ram, bytes.len(), |address, at, len| ram.write(address, &bytes[at..at + len]))
    }

    /// Fills `bytes` for the drive from memory; how many of them (an even number).
    pub fn read_memory(&mut self, ram: &GuestRam, bytes: &mut [u8]) -> usize {
        if self.command & COMMAND_TO_MEMORY != 0 {
            return 0;
        }
        self.run(ram, bytes.len(), |address, at, len| ram.read(address, &mut bytes[at..at + len]))
    }

    /// Walks the table until `len` bytes (an even number) have been moved or it ends. Each row moves at least two bytes.
    fn run(&mut self, ram: &GuestRam, len: usize, mut copy: impl FnMut(u64, usize, usize)) -> usize {
        let mut moved = 0;
        while moved + 1 < len && self.status & STATUS_ACTIVE != 0 {
            if self.left == 0 {
                self.next_region(ram);
                continue;
            }
            let straight = 0x1_0000 - (self.address & 0xffff);
            let bytes = self.left.min(straight).min((len - moved) as u32 & !1);
            if u64::from(self.address) + u64::from(bytes) > ram.len() {
                self.abort();
                break;
            }
            copy(u64::from(self.address), moved, bytes as usize);
            moved += bytes as usize;
            self.address = within_64k(self.address, bytes);
            self.left -= bytes;
            if self.left == 0 && self.last {
                self.status &= !STATUS_ACTIVE;
            }
        }
        moved
    }

    /// Reads the next row of the table.
    fn next_region(&mut self, ram: &GuestRam) {
        if u64::from(self.row) + ROW as u64 > ram.len() {
            return self.abort();
        }
        let mut row = [0; ROW];
        ram.read(u64::from(self.row), &mut row);
        let [a, b, c, d, e, f, g, h] = row;
        let (address, count) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        self.address = address & !1;
        self.left = match count & 0xfffe {
            0 => 0x1_0000,
            bytes => bytes,
        };
        self.last = count & LAST_ROW != 0;
        self.row = within_64k(self.row, ROW as u32);
    }

    /// Nothing answers at an address: a master abort.
    fn abort(&mut self) {
        self.status = self.status & !STATUS_ACTIVE | STATUS_ERROR;
        self.forget_region();
    }

    fn forget_region(&mut self) {
        (self.address, self.left, self.last) = (0, 0, false);
    }

    /// Whether this can be a state.
    ///
    /// # Errors
    /// What cannot be, in words.
    pub fn check(&self) -> Result<(), String> {
        let bits = self.command & !(COMMAND_START | COMMAND_TO_MEMORY) == 0
            && self.status & !(STATUS_ACTIVE | STATUS_ERROR | STATUS_INTERRUPT | STATUS_DRIVES) == 0
            && (self.status & STATUS_ACTIVE == 0 || self.command & COMMAND_START != 0);
        let region = self.left <= 0x1_0000 && self.left.is_multiple_of(2) && self.address.is_multiple_of(2);
        if !bits || !region || self.table & 3 != 0 || self.row & 3 != 0 {
            return Err(format!("its bus master is {self:?}"));
        }
        Ok(())
    }
}
