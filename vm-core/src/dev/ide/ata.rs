//! A hard disk: the ATA command set.
//!
//! ATA/ATAPI-6 (T13/1410D), 6 (addresses, identification) and 8 (commands); ATA-3 (X3T10/2008D) for the older ones.
//!
//! A command that moves sectors goes in chunks of up to 256 of them: one request to the medium each. Between chunks, and
//! until the medium has answered, the drive is busy. A DMA command moves each chunk when the bus master is started; until then
//! the drive asks for it with DRQ.

mod identify;
mod transfer;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::buffer::DataBuffer;
use super::task_file::TaskFile;
use super::transfer_mode::TransferMode;
use super::{DEVICE_1, DEVICE_LBA, error, status};
use crate::bus::signals::Signals;
use crate::dev::medium::MediumSlot;
use crate::disk::BlockBackend;

/// Most sectors of one block of READ and WRITE MULTIPLE.
const MOST_MULTIPLE: u8 = 16;
/// Most sectors of one request to the medium.
const CHUNK: u32 = 256;
/// Most sectors that cylinders, heads and sectors can name (ATA/ATAPI-6, 6.2.1): 16383 × 16 × 63.
const MOST_CHS: u64 = 16383 * 16 * 63;
/// Most sectors that 28-bit addresses can name.
const MOST_LBA28: u64 = (1 << 28) - 1;

const READY: u8 = status::DRDY | status::DSC;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    /// Waiting for a command.
    #[default]
    Idle,
    /// The medium reads a chunk for the guest.
    Reading,
    /// The medium reads a chunk that nobody wants to see.
    Verifying,
    /// The guest takes blocks out of the buffer.
    DataIn,
    /// The guest fills the buffer with blocks.
    DataOut,
    /// The bus master takes the buffer.
    DmaIn,
    /// The bus master fills the buffer.
    DmaOut,
    /// The medium writes the buffer.
    Writing,
    /// The medium brings everything to stable storage.
    Flushing,
}

impl Phase {
    /// The medium is at work.
    fn is_busy(self) -> bool {
        match self {
            Self::Reading | Self::Verifying | Self::Writing | Self::Flushing => true,
            Self::Idle | Self::DataIn | Self::DataOut | Self::DmaIn | Self::DmaOut => false,
        }
    }
}

/// A transfer of sectors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Transfer {
    /// First sector of the chunk.
    sector: u64,
    /// Sectors of the chunk.
    chunk: u32,
    /// Sectors left, with the chunk.
    left: u32,
    /// Sectors between two interrupts.
    block: u32,
    /// A 48-bit command.
    extended: bool,
    /// The sector is the drive's own (IDENTIFY DEVICE).
    own: bool,
    /// The bus master moves the data.
    #[serde(default)]
    dma: bool,
}

/// The state of a disk drive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiskState {
    pub(super) task: TaskFile,
    #[serde(alias = "pio")]
    pub(super) data: DataBuffer,
    phase: Phase,
    transfer: Transfer,
    /// The translation set by INITIALIZE DEVICE PARAMETERS.
    heads: u8,
    sectors_per_track: u8,
    /// Sectors of a block of READ and WRITE MULTIPLE; 0: not set.
    multiple: u8,
    write_cache: bool,
    look_ahead: bool,
    standby: bool,
    /// Only a reset wakes it.
    #[serde(default)]
    asleep: bool,
    #[serde(default)]
    mode: TransferMode,
}

/// A hard disk.
#[derive(Debug)]
pub struct Disk {
    pub(super) state: DiskState,
    pub(super) slot: MediumSlot,
    second: bool,
    serial: String,
}

/// How a command ends.
enum Outcome {
    /// At once, and well.
    Done,
    /// At once, with these bits in the error register.
    Error(u8),
    /// Later, or in the data phase.
    Pending,
}

/// Cylinders, heads and sectors of a disk with `sectors` sectors, as it names them by itself.
pub fn default_geometry(sectors: u64) -> (u16, u8, u8) {
    let sectors = sectors.min(MOST_CHS);
    if sectors >= 16 * 63 {
        return ((sectors / (16 * 63)) as u16, 16, 63);
    }
    let per_track = sectors.clamp(1, 63);
    (1, (sectors / per_track).clamp(1, 16) as u8, per_track as u8)
}

impl Disk {
    /// A disk drive with `medium`, the second of its channel or the first.
    pub(super) fn new(medium: Box<dyn BlockBackend>, second: bool, serial: String, signals: &Arc<Signals>) -> Self {
        let slot = MediumSlot::new(Some(medium), signals);
        Self { state: Self::power_on(slot.sectors(), second), slot, second, serial }
    }

    fn power_on(sectors: u64, second: bool) -> DiskState {
        let (_, heads, sectors_per_track) = default_geometry(sectors);
        let device = if second { DEVICE_1 } else { 0 };
        let mut task = TaskFile { status: READY, error: 1, device, ..TaskFile::default() };
        task.sign(0, 0);
        DiskState {
            task,
            data: DataBuffer::default(),
            phase: Phase::Idle,
            transfer: Transfer::default(),
            heads,
            sectors_per_track,
            multiple: 0,
            write_cache: true,
            look_ahead: true,
            standby: false,
            asleep: false,
            mode: TransferMode::default(),
        }
    }

    pub(super) fn hard_reset(&mut self) {
        self.slot.abandon();
        self.state = Self::power_on(self.slot.sectors(), self.second);
    }

    /// SRST: the command under way ends; translation and features stay (ATA/ATAPI-6, 9.3).
    pub(super) fn soft_reset(&mut self) {
        self.slot.abandon();
        self.end_transfer();
        // From sleep it comes into standby (ATA/ATAPI-6, 6.10).
        self.state.standby |= std::mem::take(&mut self.state.asleep);
        let task = &mut self.state.task;
        task.status = READY;
        task.error = 1;
        task.interrupt = false;
        task.sign(0, 0);
    }

    pub(super) fn check(&self, saved: &DiskState) -> Result<(), String> {
        let transfer = &saved.transfer;
        if saved.heads == 0 || saved.heads > 16 || saved.sectors_per_track == 0 {
            return Err(format!("{} heads, {} sectors a track", saved.heads, saved.sectors_per_track));
        }
        if saved.multiple > MOST_MULTIPLE || saved.multiple != 0 && !saved.multiple.is_power_of_two() {
            return Err(format!("{} sectors a block", saved.multiple));
        }
        if transfer.chunk > CHUNK || transfer.chunk > transfer.left || transfer.left > 65536 {
            return Err(format!("a chunk of {} sectors of {}", transfer.chunk, transfer.left));
        }
        if transfer.sector.saturating_add(u64::from(transfer.chunk)) > self.slot.sectors() {
            return Err(format!("sector {} of {}", transfer.sector, self.slot.sectors()));
        }
        let moves = saved.phase != Phase::Idle && saved.phase != Phase::Flushing;
        if moves && (transfer.chunk == 0 || transfer.block == 0 || transfer.block > u32::from(MOST_MULTIPLE)) {
            return Err(format!("{:?} {} sectors in blocks of {}", saved.phase, transfer.chunk, transfer.block));
        }
        let buffered = match saved.phase {
            Phase::DataIn | Phase::DataOut | Phase::DmaIn | Phase::DmaOut | Phase::Writing => true,
            Phase::Idle | Phase::Reading | Phase::Verifying | Phase::Flushing => false,
        };
        if buffered && saved.data.bytes().len() != transfer.chunk as usize * 512 {
            return Err("the buffer is of another length than the transfer".to_owned());
        }
        if matches!(saved.phase, Phase::DmaIn | Phase::DmaOut) && !transfer.dma || !saved.mode.is_valid() {
            return Err(format!("{:?} in mode {:?}", saved.phase, saved.mode));
        }
        if saved.phase.is_busy() != (saved.task.status & status::BSY != 0) {
            return Err(format!("status {:#04x} while {:?}", saved.task.status, saved.phase));
        }
        Ok(())
    }

    /// Takes over a checked state. What its medium was working on is asked for again.
    pub(super) fn take_over(&mut self, saved: DiskState) {
        self.slot.abandon();
        self.state = saved;
        let Transfer { sector, chunk, .. } = self.state.transfer;
        match self.state.phase {
            Phase::Reading | Phase::Verifying => self.slot.read(sector, chunk),
            Phase::Writing => self.slot.write(sector, self.state.data.bytes().to_vec()),
            Phase::Flushing => self.slot.flush(),
            Phase::Idle | Phase::DataIn | Phase::DataOut | Phase::DmaIn | Phase::DmaOut => {}
        }
    }

    /// A command from the guest. A busy drive takes none, and one that sleeps neither.
    pub(super) fn command(&mut self, command: u8) {
        if self.state.task.status & status::BSY != 0 || self.state.asleep {
            return;
        }
        self.slot.abandon();
        self.end_transfer();
        let task = &mut self.state.task;
        task.interrupt = false;
        task.error = 0;
        task.status = READY;
        match self.execute(command) {
            Outcome::Done => self.finish(),
            Outcome::Error(bits) => self.fail(bits),
            Outcome::Pending => {}
        }
    }

    #[allow(clippy::match_same_arms, reason = "one row a command")]
    #[rustfmt::skip]
    fn execute(&mut self, command: u8) -> Outcome {
        match command {
            0x00        => Outcome::Error(error::ABRT),            // NOP
            0x10..=0x1f => self.recalibrate(),                     // RECALIBRATE
            0x20 | 0x21 => self.read_sectors(false, 1),            // READ SECTOR(S), with and without retries
            0x24        => self.read_sectors(true, 1),             // READ SECTOR(S) EXT
            0x25        => self.read_dma(true),                    // READ DMA EXT
            0x27        => self.read_native_max(true),             // READ NATIVE MAX ADDRESS EXT
            0x29        => self.read_multiple(true),               // READ MULTIPLE EXT
            0x30 | 0x31 => self.write_sectors(false, 1),           // WRITE SECTOR(S), with and without retries
            0x34        => self.write_sectors(true, 1),            // WRITE SECTOR(S) EXT
            0x35        => self.write_dma(true),                   // WRITE DMA EXT
            0x39        => self.write_multiple(true),              // WRITE MULTIPLE EXT
            0x40 | 0x41 => self.verify(false),                     // READ VERIFY SECTOR(S), with and without retries
            0x42        => self.verify(true),                      // READ VERIFY SECTOR(S) EXT
            0x70..=0x7f => self.seek(),                            // SEEK
            0x91        => self.initialize_parameters(),           // INITIALIZE DEVICE PARAMETERS
            0x94 | 0xe0 | 0x96 | 0xe2 => self.set_standby(true),   // STANDBY IMMEDIATE, STANDBY
            0x95 | 0xe1 | 0x97 | 0xe3 => self.set_standby(false),  // IDLE IMMEDIATE, IDLE
            0x98 | 0xe5 => self.check_power_mode(),                // CHECK POWER MODE
            0x99 | 0xe6 => self.sleep(),                           // SLEEP
            0xc4        => self.read_multiple(false),              // READ MULTIPLE
            0xc5        => self.write_multiple(false),             // WRITE MULTIPLE
            0xc6        => self.set_multiple(),                    // SET MULTIPLE MODE
            0xc8 | 0xc9 => self.read_dma(false),                   // READ DMA, with and without retries
            0xca | 0xcb => self.write_dma(false),                  // WRITE DMA, with and without retries
            0xe7 | 0xea => self.flush_cache(),                     // FLUSH CACHE, FLUSH CACHE EXT
            0xec        => self.identify(),                        // IDENTIFY DEVICE
            0xef        => self.set_features(),                    // SET FEATURES
            0xf8        => self.read_native_max(false),            // READ NATIVE MAX ADDRESS
            _           => Outcome::Error(error::ABRT),
        }
    }

    fn recalibrate(&mut self) -> Outcome {
        self.state.task.mid = 0;
        self.state.task.high = 0;
        Outcome::Done
    }

    fn seek(&mut self) -> Outcome {
        match self.address(false) {
            Some(sector) if sector < self.slot.sectors() => Outcome::Done,
            _ => Outcome::Error(error::IDNF),
        }
    }

    fn initialize_parameters(&mut self) -> Outcome {
        let sectors = self.state.task.count as u8;
        if sectors == 0 {
            return Outcome::Error(error::ABRT);
        }
        self.state.heads = (self.state.task.device & 0x0f) + 1;
        self.state.sectors_per_track = sectors;
        Outcome::Done
    }

    fn set_standby(&mut self, standby: bool) -> Outcome {
        self.state.standby = standby;
        Outcome::Done
    }

    fn sleep(&mut self) -> Outcome {
        self.state.asleep = true;
        Outcome::Done
    }

    fn check_power_mode(&mut self) -> Outcome {
        self.state.task.count = if self.state.standby { 0x00 } else { 0xff };
        Outcome::Done
    }

    fn set_multiple(&mut self) -> Outcome {
        let sectors = self.state.task.count as u8;
        if sectors > MOST_MULTIPLE || sectors != 0 && !sectors.is_power_of_two() {
            return Outcome::Error(error::ABRT);
        }
        self.state.multiple = sectors;
        Outcome::Done
    }

    fn set_features(&mut self) -> Outcome {
        match self.state.task.features as u8 {
            0x02 => self.state.write_cache = true,
            0x82 => {
                self.state.write_cache = false;
                return self.flush_cache();
            }
            0x55 => self.state.look_ahead = false,
            0xaa => self.state.look_ahead = true,
            0x03 if self.state.mode.select(self.state.task.count as u8) => {}
            // Whether a soft reset reverts to defaults: it never does.
            0x66 => {}
            _ => return Outcome::Error(error::ABRT),
        }
        Outcome::Done
    }

    fn read_native_max(&mut self, extended: bool) -> Outcome {
        let last = self.slot.sectors().saturating_sub(1);
        self.state.task.device |= DEVICE_LBA;
        self.store_address(if extended { last } else { last.min(MOST_LBA28 - 1) }, extended);
        Outcome::Done
    }

    fn flush_cache(&mut self) -> Outcome {
        self.state.phase = Phase::Flushing;
        self.state.task.status = status::BSY;
        self.slot.flush();
        Outcome::Pending
    }

    fn read_multiple(&mut self, extended: bool) -> Outcome {
        match self.state.multiple {
            0 => Outcome::Error(error::ABRT),
            sectors => self.read_sectors(extended, sectors),
        }
    }

    fn write_multiple(&mut self, extended: bool) -> Outcome {
        match self.state.multiple {
            0 => Outcome::Error(error::ABRT),
            sectors => self.write_sectors(extended, sectors),
        }
    }

    fn read_sectors(&mut self, extended: bool, block: u8) -> Outcome {
        self.begin(extended, block).map_or(Outcome::Error(error::IDNF), |()| self.next_read(Phase::Reading))
    }

    fn read_dma(&mut self, extended: bool) -> Outcome {
        let Some(()) = self.begin(extended, 1) else { return Outcome::Error(error::IDNF) };
        self.state.transfer.dma = true;
        self.next_read(Phase::Reading)
    }

    fn write_dma(&mut self, extended: bool) -> Outcome {
        if self.slot.is_read_only() {
            return Outcome::Error(error::ABRT);
        }
        let Some(()) = self.begin(extended, 1) else { return Outcome::Error(error::IDNF) };
        self.state.transfer.dma = true;
        self.next_write()
    }

    fn verify(&mut self, extended: bool) -> Outcome {
        self.begin(extended, 1).map_or(Outcome::Error(error::IDNF), |()| self.next_read(Phase::Verifying))
    }

    fn write_sectors(&mut self, extended: bool, block: u8) -> Outcome {
        if self.slot.is_read_only() {
            return Outcome::Error(error::ABRT);
        }
        self.begin(extended, block).map_or(Outcome::Error(error::IDNF), |()| self.next_write())
    }
}
