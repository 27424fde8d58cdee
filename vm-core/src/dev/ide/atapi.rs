//! A CD-ROM drive: packets over PIO, and the commands in them.
//!
//! ATA/ATAPI-6 (T13/1410D), 9.8 (packet protocol); SFF-8020i and MMC-3 (T10/1363-D) for the commands; SPC-2 for sense.
//!
//! A packet of 12 bytes names a command. Data goes to the guest in blocks of at most the byte count that it left in LBA mid and
//! high. The sector count register says what the drive wants: bit 0 command, bit 1 to the guest.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::buffer::DataBuffer;
use super::bus_master::Direction;
use super::task_file::TaskFile;
use super::transfer_mode::TransferMode;
use super::{error, put_text, status};
use crate::bus::signals::Signals;
use crate::dev::medium::{Answer, MediumSlot};
use crate::disk::{BlockBackend, Operation};

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

/// Why a command failed: sense key, additional sense code and its qualifier (SPC-2, 7.20).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Sense {
    key: u8,
    asc: u8,
    ascq: u8,
}

#[rustfmt::skip]
impl Sense {
    const NONE:            Self = Self { key: 0, asc: 0x00, ascq: 0 };
    const NO_MEDIUM:       Self = Self { key: 2, asc: 0x3a, ascq: 1 };
    const TRAY_OPEN:       Self = Self { key: 2, asc: 0x3a, ascq: 2 };
    const UNREADABLE:      Self = Self { key: 3, asc: 0x11, ascq: 0 };
    const INVALID_OPCODE:  Self = Self { key: 5, asc: 0x20, ascq: 0 };
    const OUT_OF_RANGE:    Self = Self { key: 5, asc: 0x21, ascq: 0 };
    const INVALID_FIELD:   Self = Self { key: 5, asc: 0x24, ascq: 0 };
    const SAVING_PAGES:    Self = Self { key: 5, asc: 0x39, ascq: 0 };
    const LOCKED:          Self = Self { key: 5, asc: 0x53, ascq: 2 };
    const WRONG_MODE:      Self = Self { key: 5, asc: 0x64, ascq: 0 };
    const MEDIUM_CHANGED:  Self = Self { key: 6, asc: 0x28, ascq: 0 };
    const RESET:           Self = Self { key: 6, asc: 0x29, ascq: 0 };
}

/// What GET EVENT STATUS NOTIFICATION tells next (MMC-3, 5.6.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum MediaEvent {
    #[default]
    None,
    EjectRequest,
    NewMedia,
    Removal,
}

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
}

/// How a packet ends.
type Packet = Result<Reply, Sense>;

enum Reply {
    /// Well, without data.
    Done,
    /// These bytes, of which the guest wants so many.
    Data(Vec<u8>, usize),
    /// The medium is at work.
    Reading,
}

impl Cd {
    pub(super) fn new(medium: Option<Box<dyn BlockBackend>>, serial: String, signals: &Arc<Signals>) -> Self {
        Self { state: Self::power_on(), slot: MediumSlot::new(medium, signals), serial }
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
        let limit_fits = (2..=0xfffe).contains(&saved.limit) && saved.limit.is_multiple_of(2);
        if saved.phase != Phase::Idle && !limit_fits || saved.padding > 1 {
            return Err(format!("blocks of {} bytes", saved.limit));
        }
        if saved.phase == Phase::DmaIn && !saved.dma || !saved.mode.is_valid() {
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
        self.state = saved;
        if self.state.phase == Phase::Reading {
            self.read_chunk();
        }
    }

    /// Another disc from the person, or none.
    pub(super) fn change_medium(&mut self, medium: Option<Box<dyn BlockBackend>>) -> Result<(), String> {
        if self.state.locked && self.slot.is_present() {
            self.state.event = MediaEvent::EjectRequest;
            return Err("the guest is using the disc and has locked the drive: it has been asked to let go. Eject it \
                        in the guest, then try again"
                .to_owned());
        }
        let present = medium.is_some();
        if self.state.phase == Phase::Reading {
            self.slot.change(medium);
            self.fail(Sense::NO_MEDIUM);
        } else {
            self.slot.change(medium);
        }
        self.state.tray_open = false;
        if present {
            self.state.event = MediaEvent::NewMedia;
            self.attend(Sense::MEDIUM_CHANGED);
        } else {
            self.state.event = MediaEvent::Removal;
            self.state.attention.retain(|sense| *sense != Sense::MEDIUM_CHANGED);
        }
        Ok(())
    }

    /// Whether the guest has opened the tray.
    pub(super) fn is_tray_open(&self) -> bool {
        self.state.tray_open
    }

    fn attend(&mut self, sense: Sense) {
        if !self.state.attention.contains(&sense) {
            self.state.attention.push_back(sense);
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
        if self.state.phase != Phase::Packet {
            return;
        }
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

    /// Which way the drive wants the bus master to move its buffer now.
    pub(super) fn dma_direction(&self) -> Option<Direction> {
        (self.state.phase == Phase::DmaIn).then_some(Direction::ToMemory)
    }

    /// The bus master has moved the whole buffer.
    pub(super) fn dma_done(&mut self) {
        if self.state.blocks != 0 {
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
        task.count = REASON_IN;
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

    /// IDENTIFY PACKET DEVICE (ATA/ATAPI-6, 8.16).
    fn identify(&mut self) {
        let mut words = [0; 256];
        words[0] = 0x85c0; // CD-ROM, removable, DRQ within 50 µs, packets of 12 bytes
        put_text(&mut words[10..20], &self.serial);
        put_text(&mut words[23..27], "1.0");
        put_text(&mut words[27..47], "HAKO CD-ROM");
        words[49] = 0x0b00; // IORDY, LBA, DMA
        words[51] = 0x0200;
        words[53] = 0x0006; // words 64–70 and 88 count
        words[63] = self.state.mode.multiword();
        words[64] = 0x0003; // PIO modes 3 and 4
        words[65..69].fill(120); // nanoseconds a cycle, of multiword DMA and of PIO
        words[80] = 0x0078; // ATA-3 … ATA/ATAPI-6
        words[82] = 0x4210; // NOP, DEVICE RESET, PACKET
        words[83] = 0x4000;
        words[84] = 0x4000;
        words[85] = 0x4210;
        words[87] = 0x4000;
        words[88] = self.state.mode.ultra();
        self.state.limit = 512;
        self.show(words.iter().flat_map(|word: &u16| word.to_le_bytes()).collect());
    }

    #[allow(clippy::match_same_arms, reason = "one row a command")]
    #[rustfmt::skip]
    fn packet(&mut self, packet: &[u8; PACKET]) -> Packet {
        // These never wait behind a unit attention (MMC-3, 4.1.6.1; SPC-2, 5.6).
        match packet[0] {
            0x03 => return Ok(self.request_sense(packet)),
            0x12 => return Self::inquiry(packet),
            0x46 => return Ok(self.get_configuration(packet)),
            0x4a => return self.get_event_status(packet),
            _    => {}
        }
        if let Some(sense) = self.state.attention.pop_front() {
            return Err(sense);
        }
        match packet[0] {
            0x00 => self.test_unit_ready(),             // TEST UNIT READY
            0x1a => self.mode_sense(packet, false),     // MODE SENSE(6)
            0x1b => self.start_stop(packet),            // START STOP UNIT
            0x1e => Ok(self.prevent_removal(packet)),   // PREVENT ALLOW MEDIUM REMOVAL
            0x25 => self.read_capacity(),               // READ CAPACITY
            0x28 => self.read(be32(packet, 2), u32::from(be16(packet, 7))), // READ(10)
            0x2b => self.seek(packet),                  // SEEK(10)
            0x35 => self.test_unit_ready(),             // SYNCHRONIZE CACHE
            0x42 => self.read_subchannel(packet),       // READ SUB-CHANNEL
            0x43 => self.read_toc(packet),              // READ TOC/PMA/ATIP
            0x51 => self.read_disc_information(packet), // READ DISC INFORMATION
            0x5a => self.mode_sense(packet, true),      // MODE SENSE(10)
            0xa8 => self.read(be32(packet, 2), be32(packet, 6)), // READ(12)
            0xbb => self.test_unit_ready(),             // SET CD SPEED
            0xbd => Ok(self.mechanism_status(packet)),  // MECHANISM STATUS
            0xbe => self.read_cd(packet),               // READ CD
            _    => Err(Sense::INVALID_OPCODE),
        }
    }

    fn no_medium(&self) -> Sense {
        if self.state.tray_open { Sense::TRAY_OPEN } else { Sense::NO_MEDIUM }
    }

    fn is_ready(&self) -> bool {
        self.slot.is_present() && !self.state.tray_open
    }

    fn ready(&self) -> Result<(), Sense> {
        if self.is_ready() { Ok(()) } else { Err(self.no_medium()) }
    }

    fn test_unit_ready(&self) -> Packet {
        self.ready().map(|()| Reply::Done)
    }

    fn request_sense(&mut self, packet: &[u8; PACKET]) -> Reply {
        let pending = (self.state.sense == Sense::NONE).then(|| self.state.attention.pop_front()).flatten();
        let sense = pending.unwrap_or(self.state.sense);
        let mut bytes = vec![0; 18];
        bytes[0] = 0x70;
        bytes[2] = sense.key;
        bytes[7] = 10;
        bytes[12] = sense.asc;
        bytes[13] = sense.ascq;
        Reply::Data(bytes, usize::from(packet[4]))
    }

    fn inquiry(packet: &[u8; PACKET]) -> Packet {
        if packet[1] & 3 != 0 || packet[2] != 0 {
            return Err(Sense::INVALID_FIELD);
        }
        let mut bytes = vec![0x05, 0x80, 0x00, 0x21, 31, 0, 0, 0];
        bytes.extend_from_slice(b"HAKO    CD-ROM          1.0 ");
        Ok(Reply::Data(bytes, usize::from(packet[4])))
    }

    fn start_stop(&mut self, packet: &[u8; PACKET]) -> Packet {
        let (load_eject, start) = (packet[4] & 2 != 0, packet[4] & 1 != 0);
        match (load_eject, start) {
            (true, false) if self.state.locked => Err(Sense::LOCKED),
            (true, false) => {
                // The disc lies in the open tray: closing it brings it back.
                if !std::mem::replace(&mut self.state.tray_open, true) {
                    self.state.event = MediaEvent::Removal;
                }
                Ok(Reply::Done)
            }
            (true, true) => {
                if std::mem::take(&mut self.state.tray_open) && self.slot.is_present() {
                    self.state.event = MediaEvent::NewMedia;
                    self.attend(Sense::MEDIUM_CHANGED);
                }
                Ok(Reply::Done)
            }
            (false, _) => self.test_unit_ready(),
        }
    }

    fn prevent_removal(&mut self, packet: &[u8; PACKET]) -> Reply {
        self.state.locked = packet[4] & 1 != 0;
        Reply::Done
    }

    fn read_capacity(&self) -> Packet {
        self.ready()?;
        let last = (self.blocks() as u32).saturating_sub(1);
        Ok(Reply::Data([last.to_be_bytes(), (BLOCK as u32).to_be_bytes()].concat(), 8))
    }

    fn read(&mut self, block: u32, blocks: u32) -> Packet {
        self.ready()?;
        if u64::from(block) + u64::from(blocks) > self.blocks() {
            return Err(Sense::OUT_OF_RANGE);
        }
        if blocks == 0 {
            return Ok(Reply::Done);
        }
        self.state.block = block;
        self.state.blocks = blocks;
        Ok(Reply::Reading)
    }

    fn read_cd(&mut self, packet: &[u8; PACKET]) -> Packet {
        const USER_DATA: u8 = 0x10;
        let blocks = u32::from(packet[6]) << 16 | u32::from(be16(packet, 7));
        match (packet[1] >> 2 & 7, packet[9] & 0xf8) {
            (_, 0) => self.test_unit_ready(),
            // Any type, or mode 1.
            (0 | 2, USER_DATA) if packet[10].trailing_zeros() >= 3 => self.read(be32(packet, 2), blocks),
            (0 | 2, _) => Err(Sense::INVALID_FIELD),
            _ => Err(Sense::WRONG_MODE),
        }
    }

    fn seek(&self, packet: &[u8; PACKET]) -> Packet {
        self.ready()?;
        if u64::from(be32(packet, 2)) >= self.blocks() {
            return Err(Sense::OUT_OF_RANGE);
        }
        Ok(Reply::Done)
    }

    /// The address of `block` as the guest wants it: minutes, seconds and frames, or a number.
    fn address(block: u32, msf: bool) -> [u8; 4] {
        if !msf {
            return block.to_be_bytes();
        }
        // The first two seconds of a disc come before block 0.
        let frames = block.saturating_add(150);
        [0, (frames / 75 / 60).min(255) as u8, (frames / 75 % 60) as u8, (frames % 75) as u8]
    }

    fn read_toc(&self, packet: &[u8; PACKET]) -> Packet {
        self.ready()?;
        let msf = packet[1] & 2 != 0;
        let end = self.blocks() as u32;
        // Older drivers put the format into the last byte (SFF-8020i, 10.8.17).
        let format = match packet[2] & 0x0f {
            0 => packet[9] >> 6,
            format => format,
        };
        let wanted = usize::from(be16(packet, 7));
        let mut bytes = match (format, packet[6]) {
            (0, 0 | 1 | 0xaa) => {
                let mut bytes = vec![0, 0, 1, 1];
                if packet[6] != 0xaa {
                    bytes.extend([0, 0x14, 1, 0]);
                    bytes.extend(Self::address(0, msf));
                }
                bytes.extend([0, 0x14, 0xaa, 0]);
                bytes.extend(Self::address(end, msf));
                bytes
            }
            (1, _) => {
                let mut bytes = vec![0, 0, 1, 1, 0, 0x14, 1, 0];
                bytes.extend(Self::address(0, msf));
                bytes
            }
            (2, 0 | 1) => {
                let mut bytes = vec![0, 0, 1, 1];
                let [_, minute, second, frame] = Self::address(end, true);
                for (point, minute, second, frame) in
                    [(0xa0, 1, 0, 0), (0xa1, 1, 0, 0), (0xa2, minute, second, frame), (1, 0, 2, 0)]
                {
                    bytes.extend([1, 0x14, 0, point, 0, 0, 0, 0, minute, second, frame]);
                }
                bytes
            }
            _ => return Err(Sense::INVALID_FIELD),
        };
        let length = bytes.len() as u16 - 2;
        bytes[..2].copy_from_slice(&length.to_be_bytes());
        Ok(Reply::Data(bytes, wanted))
    }

    fn read_subchannel(&self, packet: &[u8; PACKET]) -> Packet {
        self.ready()?;
        let wanted = usize::from(be16(packet, 7));
        // No audio is playing: status 0x15.
        if packet[2] & 0x40 == 0 {
            return Ok(Reply::Data(vec![0, 0x15, 0, 0], wanted));
        }
        let bytes = match packet[3] {
            1 => {
                let mut bytes = vec![0, 0x15, 0, 12, 1, 0x14, 1, 1];
                bytes.extend([0; 8]);
                bytes
            }
            format @ 2..=3 => {
                let mut bytes = vec![0, 0x15, 0, 20, format, 0x14, 1, 0];
                bytes.extend([0; 16]);
                bytes
            }
            _ => return Err(Sense::INVALID_FIELD),
        };
        Ok(Reply::Data(bytes, wanted))
    }

    fn read_disc_information(&self, packet: &[u8; PACKET]) -> Packet {
        self.ready()?;
        let mut bytes = vec![0; 34];
        bytes[1] = 32;
        bytes[2] = 0x0e; // the disc and its last session are complete
        bytes[3..7].fill(1); // first track, sessions, first and last track of the last session
        bytes[7] = 0x20;
        bytes[16..24].fill(0xff);
        Ok(Reply::Data(bytes, usize::from(be16(packet, 7))))
    }

    /// Mode pages 01 (error recovery), 0E (audio) and 2A (capabilities) (SFF-8020i, 10.8.6).
    fn mode_sense(&self, packet: &[u8; PACKET], long: bool) -> Packet {
        let wanted = if long { usize::from(be16(packet, 7)) } else { usize::from(packet[4]) };
        let page = packet[2] & 0x3f;
        let control = packet[2] >> 6;
        if control == 3 {
            return Err(Sense::SAVING_PAGES);
        }
        let mut pages = Vec::new();
        if matches!(page, 0x01 | 0x3f) {
            pages.extend([0x01, 6, 0, 5, 0, 0, 0, 0]);
        }
        if matches!(page, 0x0e | 0x3f) {
            pages.extend([0x0e, 14, 4, 0, 0, 0, 0, 75, 1, 255, 2, 255, 0, 0, 0, 0]);
        }
        if matches!(page, 0x2a | 0x3f) {
            let lock = 0x29 | u8::from(self.state.locked) << 1; // tray, can eject, can lock, is locked
            let speed = 0x02c2_u16.to_be_bytes(); // 706 kB/s: four times
            pages.extend([
                0x2a, 18, 0x03, 0, 0x70, 0, lock, 0, speed[0], speed[1], 0, 2, 2, 0, speed[0], speed[1], 0, 0, 0, 0,
            ]);
        }
        if pages.is_empty() {
            return Err(Sense::INVALID_FIELD);
        }
        if control == 1 {
            // Nothing can be changed.
            let mut at = 0;
            while at + 2 <= pages.len() {
                let end = (at + 2 + usize::from(pages[at + 1])).min(pages.len());
                pages[at + 2..end].fill(0);
                at = end;
            }
        }
        let medium = match (self.state.tray_open, self.slot.is_present()) {
            (true, _) => 0x71,
            (false, true) => 0x01,
            (false, false) => 0x70,
        };
        let mut bytes = if long { vec![0, 0, medium, 0, 0, 0, 0, 0] } else { vec![0, medium, 0, 0] };
        bytes.extend(pages);
        if long {
            let length = bytes.len() as u16 - 2;
            bytes[..2].copy_from_slice(&length.to_be_bytes());
        } else {
            bytes[0] = bytes.len() as u8 - 1;
        }
        Ok(Reply::Data(bytes, wanted))
    }

    /// GET CONFIGURATION (MMC-3, 5.5): profile list, core, removable medium, CD read.
    fn get_configuration(&self, packet: &[u8; PACKET]) -> Reply {
        const CD_ROM: [u8; 2] = [0, 8];
        let current = self.is_ready();
        let profile = if current { CD_ROM } else { [0, 0] };
        let mut bytes = vec![0, 0, 0, 0, 0, 0, profile[0], profile[1]];
        let (first, kind) = (be16(packet, 2), packet[1] & 3);
        let features: [(u16, bool, Vec<u8>); 4] = [
            (0x0000, true, vec![0x03, 4, CD_ROM[0], CD_ROM[1], u8::from(current), 0]),
            (0x0001, true, vec![0x0b, 8, 0, 0, 0, 2, 1, 0, 0, 0]),
            (0x0003, true, vec![0x03, 4, 0x29, 0, 0, 0]),
            (0x001e, current, vec![0x08 | u8::from(current), 4, 0, 0, 0, 0]),
        ];
        for (code, is_current, body) in features {
            let wanted = match kind {
                0 => code >= first,
                1 => code >= first && is_current,
                _ => code == first,
            };
            if wanted {
                bytes.extend(code.to_be_bytes());
                bytes.extend(body);
            }
        }
        let length = bytes.len() as u32 - 4;
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        Reply::Data(bytes, usize::from(be16(packet, 7)))
    }

    fn get_event_status(&mut self, packet: &[u8; PACKET]) -> Packet {
        const MEDIA: u8 = 1 << 4;
        if packet[1] & 1 == 0 {
            // Only polling is there.
            return Err(Sense::INVALID_FIELD);
        }
        let wanted = usize::from(be16(packet, 7));
        if packet[4] & MEDIA == 0 {
            return Ok(Reply::Data(vec![0, 2, 0x80, MEDIA], wanted));
        }
        let event = match std::mem::take(&mut self.state.event) {
            MediaEvent::None => 0,
            MediaEvent::EjectRequest => 1,
            MediaEvent::NewMedia => 2,
            MediaEvent::Removal => 3,
        };
        let present = u8::from(self.is_ready()) << 1 | u8::from(self.state.tray_open);
        Ok(Reply::Data(vec![0, 6, 0x04, MEDIA, event, present, 0, 0], wanted))
    }

    fn mechanism_status(&self, packet: &[u8; PACKET]) -> Reply {
        let door = u8::from(self.state.tray_open) << 4;
        Reply::Data(vec![0, door, 0, 0, 0, 1, 0, 0], usize::from(be16(packet, 8)))
    }
}

fn be16(packet: &[u8; PACKET], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

fn be32(packet: &[u8; PACKET], at: usize) -> u32 {
    u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::super::tests::{Rig, image};
    use super::*;
    use crate::bus::Width;
    use crate::disk::memory::{Control, Memory};

    fn rig(sectors: usize) -> (Rig, Arc<Mutex<Control>>) {
        let mut rig = Rig::empty();
        let (medium, control) = Memory::new(image(sectors), true);
        rig.ide.attach_cd(0, Some(medium));
        (rig, control)
    }

    /// Sends a packet; data or the sense key.
    fn packet(rig: &mut Rig, limit: u16, packet: &[u8]) -> Result<Vec<u8>, u8> {
        let [low, high] = limit.to_le_bytes();
        rig.set([0, 0, 0, low, high, 0xa0]);
        rig.command(0xa0);
        assert_eq!(rig.wait(), (0x48, false), "no interrupt before the packet");
        assert_eq!(rig.registers()[1], 1);
        let mut bytes = [0; PACKET];
        bytes[..packet.len()].copy_from_slice(packet);
        for word in bytes.chunks(2) {
            rig.ide.write(0, Width::Word, u32::from(word[0]) | u32::from(word[1]) << 8);
        }
        let mut data = Vec::new();
        loop {
            let (state, irq) = rig.wait();
            assert!(irq);
            let [error, reason, _, low, high, _] = rig.registers();
            if state & status::DRQ == 0 {
                assert_eq!(reason & 3, 3);
                return if state & status::ERR == 0 { Ok(data) } else { Err(error >> 4) };
            }
            assert_eq!(reason & 3, 2);
            let count = usize::from(u16::from_le_bytes([low, high]));
            assert!(count <= usize::from(limit.max(2)));
            let words = rig.words(count.div_ceil(2));
            data.extend_from_slice(&words[..count]);
        }
    }

    fn sense(rig: &mut Rig) -> (u8, u8) {
        let data = packet(rig, 18, &[3, 0, 0, 0, 18]).unwrap();
        (data[2], data[12])
    }

    #[test]
    fn after_power_on_the_guest_hears_of_it_once_and_then_reads() {
        let (mut rig, control) = rig(400);
        assert_eq!(rig.registers(), [1, 1, 1, 0x14, 0xeb, 0xa0]);
        assert_eq!(packet(&mut rig, 8, &[0]), Err(6));
        assert_eq!(sense(&mut rig), (6, 0x29));
        assert_eq!(packet(&mut rig, 8, &[0]), Ok(Vec::new()));
        assert_eq!(packet(&mut rig, 8, &[0x25]), Ok(vec![0, 0, 0, 99, 0, 0, 8, 0]));
        // READ(10): 40 blocks from 16 on, in blocks of 1,000 bytes and two requests.
        let before = control.lock().unwrap().requests;
        let data = packet(&mut rig, 1001, &[0x28, 0, 0, 0, 0, 16, 0, 0, 40]).unwrap();
        assert_eq!(data, control.lock().unwrap().bytes[16 * 2048..56 * 2048]);
        assert_eq!(control.lock().unwrap().requests - before, 2);
        let data = packet(&mut rig, 0xfffe, &[0xa8, 0, 0, 0, 0, 99, 0, 0, 0, 1]).unwrap();
        assert_eq!(data.len(), 2048);
        assert_eq!(packet(&mut rig, 0xfffe, &[0x28, 0, 0, 0, 0, 99, 0, 0, 2]), Err(5));
        assert_eq!(sense(&mut rig), (5, 0x21));
        assert_eq!(packet(&mut rig, 0xfffe, &[0xa8, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Err(5));
    }

    #[test]
    fn a_short_last_block_is_filled_up() {
        let (mut rig, _) = rig(9);
        sense(&mut rig);
        assert_eq!(packet(&mut rig, 8, &[0x25]).unwrap()[3], 2);
        let data = packet(&mut rig, 2048, &[0x28, 0, 0, 0, 0, 2, 0, 0, 1]).unwrap();
        assert_eq!((&data[..512], &data[512..]), (&[9; 512][..], &[0; 1536][..]));
    }

    #[test]
    fn answers_end_where_the_guest_wants_them_to() {
        let (mut rig, _) = rig(400);
        sense(&mut rig);
        assert_eq!(packet(&mut rig, 64, &[0x12, 0, 0, 0, 36]).unwrap().len(), 36);
        assert_eq!(packet(&mut rig, 64, &[0x12, 0, 0, 0, 5]), Ok(vec![5, 0x80, 0, 0x21, 31]));
        assert_eq!(packet(&mut rig, 64, &[0x12, 0, 0, 0, 0]), Ok(Vec::new()));
        // TOC: one data track from block 0, lead-out at block 100; as MSF 00:02:00 and 00:03:25.
        let toc = packet(&mut rig, 64, &[0x43, 0, 0, 0, 0, 0, 0, 0, 20]).unwrap();
        assert_eq!(toc, [0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xaa, 0, 0, 0, 0, 100]);
        let toc = packet(&mut rig, 64, &[0x43, 2, 0, 0, 0, 0, 0xaa, 0, 20]).unwrap();
        assert_eq!(toc, [0, 10, 1, 1, 0, 0x14, 0xaa, 0, 0, 0, 3, 25]);
        let page = packet(&mut rig, 64, &[0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 64]).unwrap();
        assert_eq!((page.len(), page[1], page[8]), (28, 26, 0x2a));
        let features = packet(&mut rig, 64, &[0x46, 0, 0, 0, 0, 0, 0, 0, 64]).unwrap();
        assert_eq!((features.len(), features[3], features[7]), (44, 40, 8));
        assert_eq!(packet(&mut rig, 64, &[0x2a]), Err(5));
        assert_eq!(sense(&mut rig), (5, 0x20));
        assert_eq!(sense(&mut rig), (0, 0), "sense is told once");
    }

    #[test]
    fn a_changed_disc_is_heard_of_and_a_locked_drive_keeps_its_own() {
        let (mut rig, _) = rig(400);
        sense(&mut rig);
        packet(&mut rig, 8, &[0x1e, 0, 0, 0, 1]).unwrap();
        let refusal = rig.ide.change_medium(0, None).unwrap_err();
        assert!(refusal.contains("locked"), "{refusal}");
        assert_eq!(packet(&mut rig, 8, &[0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8]).unwrap()[4..6], [1, 2], "eject request");
        packet(&mut rig, 8, &[0x1e, 0, 0, 0, 0]).unwrap();
        rig.ide.change_medium(0, None).unwrap();
        assert_eq!(packet(&mut rig, 8, &[0]), Err(2));
        assert_eq!(sense(&mut rig), (2, 0x3a));
        rig.ide.change_medium(0, Some(Memory::new(image(8), true).0)).unwrap();
        assert_eq!(packet(&mut rig, 8, &[0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8]).unwrap()[4..6], [2, 2], "new medium");
        assert_eq!(packet(&mut rig, 8, &[0]), Err(6));
        assert_eq!(sense(&mut rig), (6, 0x28));
        assert_eq!(packet(&mut rig, 8, &[0x25]).unwrap()[3], 1);
        // The guest opens and closes the tray.
        packet(&mut rig, 8, &[0x1b, 0, 0, 0, 2]).unwrap();
        assert!(rig.ide.is_tray_open(0));
        assert_eq!(packet(&mut rig, 8, &[0x25]), Err(2));
        packet(&mut rig, 8, &[0x1b, 0, 0, 0, 3]).unwrap();
        assert_eq!(packet(&mut rig, 8, &[0]), Err(6));
        assert_eq!(packet(&mut rig, 8, &[0]), Ok(Vec::new()));
    }

    #[test]
    fn data_goes_by_dma_where_the_guest_wants_it() {
        let (mut rig, control) = rig(400);
        sense(&mut rig);
        // 40 blocks (two requests) into two regions, of which the second is too long.
        for (n, row) in [0x1_0000_u64, 0x8000_0000_0002_0000].into_iter().enumerate() {
            rig.ram.write(0x8000 + 8 * n as u64, &row.to_le_bytes());
        }
        rig.ide.write_bus_master(4, Width::Dword, 0x8000);
        let dma = |rig: &mut Rig, packet: [u8; PACKET]| {
            rig.set([1, 0, 0, 0, 0, 0xa0]);
            rig.command(0xa0);
            rig.wait();
            rig.ide.write_bus_master(0, Width::Byte, 0x09);
            for word in packet.chunks(2) {
                rig.ide.write(0, Width::Word, u32::from(word[0]) | u32::from(word[1]) << 8);
            }
            let (state, irq) = rig.wait();
            let master = rig.ide.read_bus_master(2, Width::Byte) & 7;
            rig.ide.write_bus_master(0, Width::Byte, 0);
            rig.ide.write_bus_master(2, Width::Byte, 4);
            assert!(irq && rig.registers()[1] == 3, "the interrupt at the end");
            (state, master)
        };
        assert_eq!(dma(&mut rig, [0x28, 0, 0, 0, 0, 16, 0, 0, 40, 0, 0, 0]), (0x50, 5));
        let mut memory = vec![0; 40 * 2048 + 1];
        rig.ram.read(0x1_0000, &mut memory);
        assert!(memory[..40 * 2048] == control.lock().unwrap().bytes[16 * 2048..56 * 2048] && memory[40 * 2048] == 0);
        assert_eq!(dma(&mut rig, [0x28, 0, 0, 0, 0, 99, 0, 0, 2, 0, 0, 0]), (0x51, 5), "out of range");
        assert_eq!(dma(&mut rig, [0; PACKET]), (0x50, 5), "nothing to move");
        assert_eq!(dma(&mut rig, [0x12, 0, 0, 0, 36, 0, 0, 0, 0, 0, 0, 0]), (0x50, 5));
        rig.ram.read(0x1_0000, &mut memory);
        assert_eq!(memory[8..12], *b"HAKO");
    }
}
