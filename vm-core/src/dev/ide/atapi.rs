//! A CD-ROM drive: packets over PIO and DMA, and the commands in them. A disc that is too large for a CD is a DVD.
//!
//! ATA/ATAPI-6 (T13/1410D), 9.8 (packet protocol); SFF-8020i and MMC-3 (T10/1363-D) for the commands; SPC-2 for sense.
//!
//! A packet of 12 bytes names a command. Data goes to the guest in blocks of at most the byte count that it left in LBA mid and
//! high. The sector count register says what the drive wants: bit 0 command, bit 1 to the guest.
//! This file moves packets and data; what packets mean is in `commands` and the files that its table names.

mod commands;
mod disc;
mod dvd;
mod features;
mod sector;
mod sense;
#[cfg(test)]
mod tests;
mod tray;

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::buffer::DataBuffer;
use super::bus_master::Direction;
use super::task_file::TaskFile;
use super::transfer_mode::TransferMode;
use super::{error, status};
use crate::bus::signals::Signals;
use crate::dev::medium::{Answer, MediumSlot};
use crate::disk::{BlockBackend, Operation};
use sense::Sense;
use tray::MediaEvent;
pub use tray::Tray;

/// Bytes of a block of a CD.
const BLOCK: u64 = 2048;
/// Sectors of the medium's interface in a block.
const SECTORS: u64 = 4;
/// Most blocks of one request to the medium.
const CHUNK: u32 = 32;
const PACKET: usize = 12;

/// Interrupt reason: the drive wants a command.
const REASON_COMMAND: u16 = 1;
/// Interrupt reason: data goes to the guest.
const REASON_IN: u16 = 2;

const READY: u8 = status::DRDY | status::DSC;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    #[default]
    Idle,
    /// The guest writes the packet.
    Packet,
    /// The medium reads.
    Reading,
    /// The guest takes data.
    DataIn,
    /// The bus master takes data.
    DmaIn,
    /// The guest sends what belongs to the packet.
    DataOut,
    /// The bus master brings it.
    DmaOut,
}

/// The state of a CD-ROM drive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CdState {
    pub(super) task: TaskFile,
    #[serde(alias = "pio")]
    pub(super) data: DataBuffer,
    phase: Phase,
    /// Most bytes of a block of data, from the guest; even.
    limit: u32,
    /// Next block to read, and how many are left.
    block: u32,
    blocks: u32,
    /// Bytes that only fill the last word of the data up.
    padding: u32,
    sense: Sense,
    /// What the guest must hear before anything else (at most two: reset, medium).
    attention: VecDeque<Sense>,
    event: MediaEvent,
    locked: bool,
    tray_open: bool,
    /// The parts of a sector that READ CD wants; 0: the user data.
    #[serde(default)]
    fields: u8,
    /// Bytes of the header before the pages that the guest sends.
    #[serde(default)]
    header: u8,
    /// The data of this packet goes by DMA.
    #[serde(default)]
    dma: bool,
    #[serde(default)]
    mode: TransferMode,
}

/// A CD-ROM drive.
#[derive(Debug)]
pub struct Cd {
    pub(super) state: CdState,
    pub(super) slot: MediumSlot,
    serial: String,
    /// Moves of the tray that nobody has been told of.
    tray_moves: Vec<bool>,
}

/// How a packet ends.
type Packet = Result<Reply, Sense>;

enum Reply {
    /// Well, without data.
    Done,
    /// These bytes, of which the guest wants so many.
    Data(Vec<u8>, usize),
    /// The guest sends so many bytes, of which so many are a header.
    Parameters(usize, u8),
    /// The medium is at work.
    Reading,
}

impl Cd {
    pub(super) fn new(medium: Option<Box<dyn BlockBackend>>, serial: String, signals: &Arc<Signals>) -> Self {
        Self { state: Self::power_on(), slot: MediumSlot::new(medium, signals), serial, tray_moves: Vec::new() }
    }

    fn power_on() -> CdState {
        let mut task = TaskFile { error: 1, ..TaskFile::default() };
        task.sign(0x14, 0xeb);
        CdState {
            task,
            data: DataBuffer::default(),
            phase: Phase::Idle,
            limit: 0,
            block: 0,
            blocks: 0,
            padding: 0,
            fields: 0,
            header: 0,
            sense: Sense::NONE,
            attention: VecDeque::from([Sense::RESET]),
            event: MediaEvent::None,
            locked: false,
            tray_open: false,
            dma: false,
            mode: TransferMode::default(),
        }
    }

    pub(super) fn hard_reset(&mut self) {
        self.slot.abandon();
        // A tray that an installer has opened stays open: the disc is not booted from again.
        let tray_open = self.state.tray_open;
        self.state = CdState { tray_open, ..Self::power_on() };
    }

    /// SRST and DEVICE RESET: only the packet under way ends (ATA/ATAPI-6, 9.3).
    pub(super) fn soft_reset(&mut self) {
        self.slot.abandon();
        self.end_transfer();
        let task = &mut self.state.task;
        task.status = 0;
        task.error = 1;
        task.interrupt = false;
        task.sign(0x14, 0xeb);
    }

    pub(super) fn check(&self, saved: &CdState) -> Result<(), String> {
        if saved.attention.len() > 2 {
            return Err("too many unit attentions".to_owned());
        }
        if saved.phase == Phase::Reading
            && (saved.blocks == 0 || u64::from(saved.block) + u64::from(saved.blocks) > self.blocks())
        {
            return Err(format!("it reads {} blocks from {} on", saved.blocks, saved.block));
        }
        if matches!(saved.phase, Phase::DataIn | Phase::DmaIn)
            && saved.blocks != 0
            && u64::from(saved.block) + u64::from(saved.blocks) > self.blocks()
        {
            return Err(format!("it will read {} blocks from {} on", saved.blocks, saved.block));
        }
        if saved.phase == Phase::Packet && saved.data.bytes().len() != PACKET {
            return Err("the packet has another length".to_owned());
        }
        let sends = matches!(saved.phase, Phase::DataOut | Phase::DmaOut);
        if sends && !matches!(saved.header, 4 | 8) || saved.fields != 0 && sector::check_fields(saved.fields).is_err() {
            return Err(format!("a header of {} bytes, sectors shown as {:#04x}", saved.header, saved.fields));
        }
        let limit_fits = (2..=0xfffe).contains(&saved.limit) && saved.limit.is_multiple_of(2);
        if saved.phase != Phase::Idle && !limit_fits || saved.padding > 1 {
            return Err(format!("blocks of {} bytes", saved.limit));
        }
        if matches!(saved.phase, Phase::DmaIn | Phase::DmaOut) && !saved.dma || !saved.mode.is_valid() {
            return Err(format!("{:?} in mode {:?}", saved.phase, saved.mode));
        }
        if (saved.phase == Phase::Reading) != (saved.task.status & status::BSY != 0) {
            return Err(format!("status {:#04x} while {:?}", saved.task.status, saved.phase));
        }
        Ok(())
    }

    /// Takes over a checked state. What its medium was working on is asked for again.
    pub(super) fn take_over(&mut self, saved: CdState) {
        self.slot.abandon();
        self.tray_moves.clear();
        self.state = saved;
        if self.state.phase == Phase::Reading {
            self.read_chunk();
        }
    }

    /// Blocks on the disc.
    fn blocks(&self) -> u64 {
        self.slot.sectors().div_ceil(SECTORS).min(u64::from(u32::MAX))
    }

    /// A command from the guest.
    pub(super) fn command(&mut self, command: u8) {
        const DEVICE_RESET: u8 = 0x08;
        if command == DEVICE_RESET {
            return self.soft_reset();
        }
        if self.state.task.status & status::BSY != 0 {
            return;
        }
        self.slot.abandon();
        self.end_transfer();
        let task = &mut self.state.task;
        task.interrupt = false;
        task.error = 0;
        task.status = READY;
        match command {
            0xa0 => self.begin_packet(),
            0xa1 => self.identify(),
            0xec | 0x20 => {
                // IDENTIFY DEVICE and READ SECTORS show who is here (ATA/ATAPI-6, 8.15.5.2 and 8.34.5.2).
                self.state.task.sign(0x14, 0xeb);
                self.abort();
            }
            // IDLE IMMEDIATE, STANDBY IMMEDIATE, SLEEP.
            0xe0 | 0xe1 | 0xe6 => self.finish_command(),
            0xe5 => {
                self.state.task.count = 0xff;
                self.finish_command();
            }
            0xef if self.accepts_feature() => self.finish_command(),
            _ => self.abort(),
        }
    }

    /// SET FEATURES: the transfer mode.
    fn accepts_feature(&mut self) -> bool {
        let task = &self.state.task;
        task.features as u8 == 0x03 && self.state.mode.select(task.count as u8)
    }

    fn finish_command(&mut self) {
        self.state.task.status = READY;
        self.state.task.interrupt = true;
    }

    fn abort(&mut self) {
        self.state.task.error = error::ABRT;
        self.state.task.status = READY | status::ERR;
        self.state.task.interrupt = true;
    }

    fn begin_packet(&mut self) {
        const DMA: u16 = 1;
        self.state.dma = self.state.task.features & DMA != 0;
        let task = &self.state.task;
        let limit = u32::from(task.mid & 0xff | (task.high & 0xff) << 8);
        // 0 means all that fits; odd counts are rounded down (ATA/ATAPI-6, 8.24.4).
        self.state.limit = if limit < 2 { 0xfffe } else { limit & 0xfffe };
        self.state.data.start(vec![0; PACKET]);
        self.state.data.open(PACKET as u32);
        self.state.phase = Phase::Packet;
        // The first block asks for no interrupt (IDENTIFY PACKET DEVICE says so).
        self.state.task.count = REASON_COMMAND;
        self.state.task.status = status::DRDY | status::DRQ;
    }

    /// The next word from the guest.
    pub(super) fn write_data(&mut self, value: u16) {
        match self.state.phase {
            Phase::Packet => self.packet_word(value),
            Phase::DataOut => {
                self.state.data.write(value);
                if self.state.data.is_block_done() {
                    if self.state.data.rest() != 0 { self.open_block() } else { self.take_parameters() }
                }
            }
            _ => {}
        }
    }

    fn packet_word(&mut self, value: u16) {
        self.state.data.write(value);
        if self.state.data.is_block_done() {
            let mut packet = [0; PACKET];
            packet.copy_from_slice(&self.state.data.bytes()[..PACKET]);
            let dma = self.state.dma;
            self.end_transfer();
            self.state.dma = dma;
            let result = self.packet(&packet);
            self.conclude(result);
        }
    }

    /// The next word for the guest.
    pub(super) fn read_data(&mut self) -> u16 {
        if self.state.phase != Phase::DataIn {
            return u16::MAX;
        }
        let value = self.state.data.read();
        if self.state.data.is_block_done() {
            if self.state.data.rest() != 0 {
                self.open_block();
            } else if self.state.blocks != 0 {
                self.read_chunk();
            } else {
                self.succeed();
            }
        }
        value
    }

    /// Takes in what the medium has finished.
    pub(super) fn poll(&mut self) {
        let Some(answer) = self.slot.poll() else { return };
        if self.state.phase != Phase::Reading {
            return;
        }
        match answer {
            Answer::Done(Operation::Read { mut buffer, .. }) => {
                buffer.resize(buffer.len().next_multiple_of(BLOCK as usize), 0);
                let blocks = (buffer.len() as u64 / BLOCK) as u32;
                if self.state.fields != 0 {
                    buffer = sector::show(self.state.block, &buffer, self.state.fields);
                }
                self.state.block = self.state.block.saturating_add(blocks);
                self.state.blocks = self.state.blocks.saturating_sub(blocks);
                self.show(buffer);
            }
            Answer::Unreadable => self.fail(Sense::UNREADABLE),
            Answer::NoSuchPlace | Answer::Done(_) => self.fail(Sense::OUT_OF_RANGE),
        }
    }

    fn conclude(&mut self, result: Packet) {
        match result {
            Ok(Reply::Done) => self.succeed(),
            Ok(Reply::Data(mut bytes, wanted)) => {
                bytes.truncate(wanted);
                if bytes.is_empty() { self.succeed() } else { self.show(bytes) }
            }
            Ok(Reply::Parameters(bytes, header)) => self.ask(bytes, header),
            Ok(Reply::Reading) => self.read_chunk(),
            Err(sense) => self.fail(sense),
        }
    }

    fn succeed(&mut self) {
        self.end_transfer();
        self.state.sense = Sense::NONE;
        self.state.task.error = 0;
        self.state.task.count = REASON_COMMAND | REASON_IN;
        self.finish_command();
    }

    fn fail(&mut self, sense: Sense) {
        self.end_transfer();
        self.state.sense = sense;
        self.state.task.count = REASON_COMMAND | REASON_IN;
        self.state.task.error = sense.key << 4 | error::ABRT;
        self.state.task.status = READY | status::ERR;
        self.state.task.interrupt = true;
    }

    fn end_transfer(&mut self) {
        self.state.phase = Phase::Idle;
        self.state.blocks = 0;
        self.state.padding = 0;
        self.state.fields = 0;
        self.state.header = 0;
        self.state.dma = false;
        self.state.data.clear();
    }

    fn show(&mut self, bytes: Vec<u8>) {
        self.state.padding = bytes.len() as u32 % 2;
        self.state.data.start(bytes);
        if self.state.dma {
            self.state.phase = Phase::DmaIn;
            self.state.task.count = REASON_IN;
            self.state.task.status = READY | status::DRQ;
        } else {
            self.state.phase = Phase::DataIn;
            self.open_block();
        }
    }

    /// Asks the guest for `bytes`, the first `header` of which are a header.
    fn ask(&mut self, bytes: usize, header: u8) {
        self.state.header = header;
        self.state.padding = bytes as u32 % 2;
        self.state.data.start(vec![0; bytes]);
        if self.state.dma {
            self.state.phase = Phase::DmaOut;
            self.state.task.count = 0;
            self.state.task.status = READY | status::DRQ;
        } else {
            self.state.phase = Phase::DataOut;
            self.open_block();
        }
    }

    /// All that the guest sends with its packet is there.
    fn take_parameters(&mut self) {
        let bytes = self.state.data.bytes();
        let bytes = &bytes[..bytes.len().saturating_sub(self.state.padding as usize)];
        let result = self.take_mode_pages(bytes, usize::from(self.state.header));
        self.conclude(result);
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
            self.take_parameters();
        } else if self.state.blocks != 0 {
            self.read_chunk();
        } else {
            self.succeed();
        }
    }

    fn open_block(&mut self) {
        let rest = self.state.data.rest();
        let most = self.state.limit;
        self.state.data.open(most);
        let bytes = if rest <= most { rest - self.state.padding } else { most };
        let task = &mut self.state.task;
        task.mid = (bytes & 0xff) as u16;
        task.high = (bytes >> 8 & 0xff) as u16;
        task.count = if self.state.phase == Phase::DataOut { 0 } else { REASON_IN };
        task.status = READY | status::DRQ;
        task.interrupt = true;
    }

    fn read_chunk(&mut self) {
        let blocks = self.state.blocks.min(CHUNK);
        // The last block of an image may be short: whole sectors of it are read, and the rest shows as zeros.
        if u64::from(self.state.block) + u64::from(blocks) > self.blocks() {
            return self.fail(Sense::OUT_OF_RANGE);
        }
        self.state.data.clear();
        self.state.phase = Phase::Reading;
        self.state.task.status = status::BSY;
        let first = u64::from(self.state.block) * SECTORS;
        let there = self.slot.sectors().saturating_sub(first);
        let sectors = (u64::from(blocks) * SECTORS).min(there);
        self.slot.read(first, sectors as u32);
    }
}

fn be16(packet: &[u8; PACKET], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

fn be32(packet: &[u8; PACKET], at: usize) -> u32 {
    u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
}
