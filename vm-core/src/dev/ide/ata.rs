//! A hard disk: the ATA command set.
//!
//! ATA/ATAPI-6 (T13/1410D), 6 (addresses, identification) and 8 (commands); ATA-3 (X3T10/2008D) for the older ones.
//!
//! A command that moves sectors goes in chunks of up to 256 of them: one request to the medium each. Between chunks, and
//! until the medium has answered, the drive is busy. A DMA command moves each chunk when the bus master is started; until then
//! the drive asks for it with DRQ.

mod identify;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::buffer::DataBuffer;
use super::bus_master::Direction;
use super::task_file::TaskFile;
use super::transfer_mode::TransferMode;
use super::{DEVICE_1, DEVICE_LBA, error, status};
use crate::bus::signals::Signals;
use crate::dev::medium::{Answer, MediumSlot};
use crate::disk::{BlockBackend, Operation};

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

    /// Takes address and count from the registers; `None`: no such address.
    fn begin(&mut self, extended: bool, block: u8) -> Option<()> {
        self.state.standby = false;
        let count = self.state.task.count;
        let left = match (extended, if extended { count } else { count & 0xff }) {
            (true, 0) => 65536,
            (false, 0) => 256,
            (_, sectors) => u32::from(sectors),
        };
        let sector = self.address(extended)?;
        self.state.transfer =
            Transfer { sector, chunk: 0, left, block: u32::from(block), extended, own: false, dma: false };
        Some(())
    }

    /// Makes a chunk of what is left, up to the end of the disk.
    fn next_chunk(&mut self) -> bool {
        let transfer = &mut self.state.transfer;
        let there = self.slot.sectors().saturating_sub(transfer.sector);
        transfer.chunk = there.min(u64::from(transfer.left.min(CHUNK))) as u32;
        transfer.chunk != 0
    }

    fn next_read(&mut self, phase: Phase) -> Outcome {
        if !self.next_chunk() {
            return Outcome::Error(error::IDNF);
        }
        self.state.phase = phase;
        self.state.task.status = status::BSY;
        self.slot.read(self.state.transfer.sector, self.state.transfer.chunk);
        Outcome::Pending
    }

    fn next_write(&mut self) -> Outcome {
        if !self.next_chunk() {
            return Outcome::Error(error::IDNF);
        }
        let transfer = &self.state.transfer;
        self.state.phase = if transfer.dma { Phase::DmaOut } else { Phase::DataOut };
        self.state.data.start(vec![0; transfer.chunk as usize * 512]);
        self.state.data.open(transfer.block * 512);
        self.state.task.status = READY | status::DRQ;
        Outcome::Pending
    }

    /// The next word for the guest.
    pub(super) fn read_data(&mut self) -> u16 {
        if self.state.phase != Phase::DataIn {
            return u16::MAX;
        }
        let value = self.state.data.read();
        if self.state.data.is_block_done() {
            if self.state.data.rest() != 0 {
                self.state.data.open(self.state.transfer.block * 512);
                self.state.task.interrupt = true;
            } else if self.chunk_done() {
                self.read_on();
            } else {
                // The last block of data in has had its interrupt before it (ATA/ATAPI-6, 9.5).
                self.end_transfer();
                self.state.task.status = READY;
            }
        }
        value
    }

    fn read_on(&mut self) {
        match self.next_read(Phase::Reading) {
            Outcome::Error(bits) => self.fail(bits),
            Outcome::Done | Outcome::Pending => {}
        }
    }

    /// Which way the drive wants the bus master to move its buffer now.
    pub(super) fn dma_direction(&self) -> Option<Direction> {
        match self.state.phase {
            Phase::DmaIn => Some(Direction::ToMemory),
            Phase::DmaOut => Some(Direction::FromMemory),
            _ => None,
        }
    }

    /// The bus master has moved the whole buffer.
    pub(super) fn dma_done(&mut self) {
        if self.state.phase == Phase::DmaOut {
            self.write_out();
        } else if self.chunk_done() {
            self.read_on();
        } else {
            self.finish();
        }
    }

    fn write_out(&mut self) {
        self.state.phase = Phase::Writing;
        self.state.task.status = status::BSY;
        self.slot.write(self.state.transfer.sector, self.state.data.bytes().to_vec());
    }

    /// The next word from the guest.
    pub(super) fn write_data(&mut self, value: u16) {
        if self.state.phase != Phase::DataOut {
            return;
        }
        self.state.data.write(value);
        if !self.state.data.is_block_done() {
            return;
        }
        if self.state.data.rest() != 0 {
            self.state.data.open(self.state.transfer.block * 512);
            self.state.task.interrupt = true;
        } else {
            self.write_out();
        }
    }

    /// Takes in what the medium has finished.
    pub(super) fn poll(&mut self) {
        let Some(answer) = self.slot.poll() else { return };
        let outcome = match (answer, self.state.phase) {
            (Answer::NoSuchPlace, _) => Outcome::Error(error::IDNF),
            (Answer::Unreadable, _) => Outcome::Error(error::UNC),
            (Answer::Done(Operation::Read { buffer, .. }), Phase::Reading) => self.show(buffer),
            (Answer::Done(_), Phase::Verifying) => {
                if self.chunk_done() {
                    self.next_read(Phase::Verifying)
                } else {
                    Outcome::Done
                }
            }
            (Answer::Done(_), Phase::Writing) => self.written(),
            (Answer::Done(_), Phase::Flushing) => Outcome::Done,
            (Answer::Done(_), _) => return,
        };
        match outcome {
            Outcome::Done => self.finish(),
            Outcome::Error(bits) => self.fail(bits),
            Outcome::Pending => {}
        }
    }

    /// Lets the guest take `bytes`.
    fn show(&mut self, bytes: Vec<u8>) -> Outcome {
        self.state.data.start(bytes);
        self.state.task.status = READY | status::DRQ;
        if self.state.transfer.dma {
            self.state.phase = Phase::DmaIn;
        } else {
            self.state.data.open(self.state.transfer.block * 512);
            self.state.phase = Phase::DataIn;
            self.state.task.interrupt = true;
        }
        Outcome::Pending
    }

    fn written(&mut self) -> Outcome {
        if self.chunk_done() {
            let outcome = self.next_write();
            self.state.task.interrupt |= !self.state.transfer.dma;
            return outcome;
        }
        if self.state.write_cache { Outcome::Done } else { self.flush_cache() }
    }

    /// Counts a finished chunk; whether more is to come. The registers name the last sector done.
    fn chunk_done(&mut self) -> bool {
        let transfer = &mut self.state.transfer;
        if transfer.chunk == 0 || transfer.left == 0 {
            return false;
        }
        let last = transfer.sector + u64::from(transfer.chunk) - 1;
        transfer.sector += u64::from(transfer.chunk);
        transfer.left = transfer.left.saturating_sub(transfer.chunk);
        transfer.chunk = 0;
        let (left, extended) = (transfer.left, transfer.extended);
        if !transfer.own {
            self.store_address(last, extended);
            self.state.task.count = left as u16;
        }
        left != 0
    }

    fn finish(&mut self) {
        self.end_transfer();
        self.state.task.status = READY;
        self.state.task.interrupt = true;
    }

    fn fail(&mut self, bits: u8) {
        let transfer = &self.state.transfer;
        if bits & (error::IDNF | error::UNC) != 0 && transfer.left != 0 {
            let (sector, extended) = (transfer.sector, transfer.extended);
            self.state.task.count = transfer.left as u16;
            self.store_address(sector, extended);
        }
        self.end_transfer();
        self.state.task.error = bits;
        self.state.task.status = READY | status::ERR;
        self.state.task.interrupt = true;
    }

    fn end_transfer(&mut self) {
        self.state.phase = Phase::Idle;
        self.state.transfer = Transfer::default();
        self.state.data.clear();
    }

    /// The sector that the registers name; `None`: none.
    fn address(&self, extended: bool) -> Option<u64> {
        let task = &self.state.task;
        let bytes = |register: u16| (u64::from(register & 0xff), u64::from(register >> 8));
        let (low, mid, high) = (bytes(task.low), bytes(task.mid), bytes(task.high));
        if extended {
            return Some(low.0 | mid.0 << 8 | high.0 << 16 | low.1 << 24 | mid.1 << 32 | high.1 << 40);
        }
        let head = u64::from(task.device & 0x0f);
        if task.device & DEVICE_LBA != 0 {
            return Some(low.0 | mid.0 << 8 | high.0 << 16 | head << 24);
        }
        let (heads, sectors) = (u64::from(self.state.heads), u64::from(self.state.sectors_per_track));
        let cylinder = mid.0 | high.0 << 8;
        let fits = head < heads && (1..=sectors).contains(&low.0);
        fits.then(|| (cylinder * heads + head) * sectors + low.0 - 1)
    }

    /// Lets the registers name `sector`, in the way that the guest names sectors.
    fn store_address(&mut self, sector: u64, extended: bool) {
        let (heads, sectors) = (u64::from(self.state.heads), u64::from(self.state.sectors_per_track));
        let task = &mut self.state.task;
        let byte = |shift: u32| (sector >> shift & 0xff) as u16;
        if extended {
            task.low = byte(0) | byte(24) << 8;
            task.mid = byte(8) | byte(32) << 8;
            task.high = byte(16) | byte(40) << 8;
        } else if task.device & DEVICE_LBA != 0 {
            (task.low, task.mid, task.high) = (byte(0), byte(8), byte(16));
            task.device = task.device & 0xf0 | byte(24) as u8 & 0x0f;
        } else {
            let track = sector / sectors;
            let cylinder = track / heads;
            task.low = (sector % sectors) as u16 + 1;
            task.mid = (cylinder & 0xff) as u16;
            task.high = (cylinder >> 8 & 0xff) as u16;
            task.device = task.device & 0xf0 | (track % heads) as u8;
        }
    }
}
