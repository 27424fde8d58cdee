//! IDE channel: the register blocks that two drives share, and the PCI function in front of two channels.
//!
//! ATA/ATAPI-6 (T13/1410D), 5.2 and 7: registers; 9.2: resets. Intel PIIX3 (290550-002), 2.4: the function's registers.
//!
//! | block | offset | read | write |
//! |---|---|---|---|
//! | command | 0 | data (16 or 32 bits) | data |
//! | | 1 | error | features |
//! | | 2 | sector count; ATAPI: interrupt reason | sector count |
//! | | 3 | LBA low, sector number | the same |
//! | | 4 | LBA mid, cylinder low; ATAPI: byte count low | the same |
//! | | 5 | LBA high, cylinder high; ATAPI: byte count high | the same |
//! | | 6 | device: LBA, drive, head | the same |
//! | | 7 | status (takes the interrupt back) | command |
//! | control | 2 | alternate status | device control: HOB, SRST, nIEN |
//!
//! Transfers are PIO. The bus-master registers exist and do nothing: no drive says that it could.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Device;
use super::ata::{Disk, DiskState};
use super::atapi::{Cd, CdState};
use super::pci::{Identity, PciConfig, PciFunction, PciLayout, register};
use crate::bus::Width;
use crate::bus::clock::Nanos;
use crate::bus::irq::IrqLine;
use crate::bus::signals::Signals;
use crate::disk::BlockBackend;
use crate::snapshot::section::{LoadError, Section};

/// Bits of the status register.
pub mod status {
    /// The drive is busy; no other bit counts.
    pub const BSY: u8 = 0x80;
    /// The drive takes commands.
    pub const DRDY: u8 = 0x40;
    /// Device fault.
    pub const DF: u8 = 0x20;
    /// Seek complete; ATAPI: service.
    pub const DSC: u8 = 0x10;
    /// Data can be moved.
    pub const DRQ: u8 = 0x08;
    /// The error register says more; ATAPI: check condition.
    pub const ERR: u8 = 0x01;
}

/// Bits of the error register.
pub mod error {
    /// Uncorrectable data.
    pub const UNC: u8 = 0x40;
    /// No such address.
    pub const IDNF: u8 = 0x10;
    /// The command was aborted.
    pub const ABRT: u8 = 0x04;
}

/// Device register, bit 6: addresses are LBA.
pub const DEVICE_LBA: u8 = 0x40;
/// Device register, bit 4: the second drive.
pub const DEVICE_1: u8 = 0x10;

const CONTROL_HOB: u8 = 0x80;
const CONTROL_SRST: u8 = 0x04;
const CONTROL_NIEN: u8 = 0x02;

const EXECUTE_DIAGNOSTIC: u8 = 0x90;

/// What a channel without drives reads as: DD7 is pulled down (ATA/ATAPI-6, 6.1).
const FLOATING: u8 = 0x7f;

/// Most bytes that a drive's buffer holds: 256 sectors.
pub const BUFFER: usize = 256 * 512;

/// The registers of one drive. 16-bit ones keep the value written before in their high half (ATA/ATAPI-6, 6.20).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFile {
    /// Status.
    pub status: u8,
    /// Error.
    pub error: u8,
    /// Features.
    pub features: u16,
    /// Sector count.
    pub count: u16,
    /// LBA low.
    pub low: u16,
    /// LBA mid.
    pub mid: u16,
    /// LBA high.
    pub high: u16,
    /// Device.
    pub device: u8,
    /// The drive wants an interrupt.
    pub interrupt: bool,
}

impl TaskFile {
    fn read(&self, offset: u16, previous: bool) -> u8 {
        let half = |value: u16| if previous { (value >> 8) as u8 } else { value as u8 };
        match offset {
            1 => self.error,
            2 => half(self.count),
            3 => half(self.low),
            4 => half(self.mid),
            5 => half(self.high),
            6 => self.device | 0xa0,
            _ => self.status,
        }
    }

    fn write(&mut self, offset: u16, value: u8) {
        let push = |register: &mut u16| *register = *register << 8 | u16::from(value);
        match offset {
            1 => push(&mut self.features),
            2 => push(&mut self.count),
            3 => push(&mut self.low),
            4 => push(&mut self.mid),
            5 => push(&mut self.high),
            _ => self.device = value,
        }
    }

    /// Puts the signature of a kind of drive into the registers (ATA/ATAPI-6, 9.12).
    pub fn sign(&mut self, mid: u8, high: u8) {
        self.count = 1;
        self.low = 1;
        self.mid = u16::from(mid);
        self.high = u16::from(high);
        self.device &= DEVICE_1;
    }
}

/// Data on its way through the data port, in blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pio {
    len: u32,
    position: u32,
    /// Where the present block ends.
    end: u32,
    #[serde(skip)]
    bytes: Vec<u8>,
}

impl Pio {
    /// Starts over with these bytes, rounded up to whole words; no block is open.
    pub fn start(&mut self, mut bytes: Vec<u8>) {
        bytes.truncate(BUFFER);
        bytes.resize(bytes.len().next_multiple_of(2), 0);
        *self = Self { len: bytes.len() as u32, position: 0, end: 0, bytes };
    }

    /// Opens the next block of at most `most` bytes (even).
    pub fn open(&mut self, most: u32) {
        self.end = self.len.min(self.position.saturating_add(most));
    }

    /// Bytes not yet moved.
    pub fn rest(&self) -> u32 {
        self.len - self.position
    }

    /// Whether the present block has been moved.
    pub fn is_block_done(&self) -> bool {
        self.position >= self.end
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The next word for the guest; ones past the end of the block.
    pub fn read(&mut self) -> u16 {
        let at = self.position as usize;
        match self.bytes.get(at..at + 2) {
            Some(word) if self.position < self.end => {
                self.position += 2;
                u16::from_le_bytes([word[0], word[1]])
            }
            _ => u16::MAX,
        }
    }

    /// The next word from the guest; dropped past the end of the block.
    pub fn write(&mut self, value: u16) {
        let at = self.position as usize;
        if self.position < self.end
            && let Some(word) = self.bytes.get_mut(at..at + 2)
        {
            word.copy_from_slice(&value.to_le_bytes());
            self.position += 2;
        }
    }

    fn load(&mut self, section: &Section, name: &str) -> Result<(), LoadError> {
        let sound = self.len as usize <= BUFFER
            && self.len.is_multiple_of(2)
            && self.position.is_multiple_of(2)
            && self.end.is_multiple_of(2)
            && self.position <= self.end
            && self.end <= self.len;
        if !sound {
            return Err(LoadError::invalid(&section.kind, format!("the buffer of {name}")));
        }
        if self.len != 0 {
            self.bytes = section.memory(name, self.len as usize)?.to_vec();
        }
        Ok(())
    }
}

/// A drive on the channel.
#[derive(Debug)]
enum Drive {
    Disk(Disk),
    Cd(Cd),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum DriveState {
    Disk(DiskState),
    Cd(CdState),
}

impl DriveState {
    fn pio(&mut self) -> &mut Pio {
        match self {
            Self::Disk(state) => &mut state.pio,
            Self::Cd(state) => &mut state.pio,
        }
    }
}

/// Calls the same method of whichever drive it is.
macro_rules! each {
    ($drive:expr, $name:ident => $call:expr) => {
        match $drive {
            Drive::Disk($name) => $call,
            Drive::Cd($name) => $call,
        }
    };
}

/// The bus-master registers of a channel (PIIX3, 2.7): they hold what is written, and start nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct BusMaster {
    command: u8,
    status: u8,
    table: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct ChannelState {
    /// The drive that answers.
    selected: u8,
    control: u8,
    bus_master: BusMaster,
    units: [Option<DriveState>; 2],
}

/// One channel with up to two drives.
#[derive(Debug)]
pub struct IdeChannel {
    state: ChannelState,
    drives: [Option<Drive>; 2],
    name: &'static str,
    irq: IrqLine,
    signals: Arc<Signals>,
}

impl IdeChannel {
    /// A channel without drives. `name` is that of its section (`"ide0"`, `"ide1"`), `irq` its INTRQ.
    pub fn new(name: &'static str, irq: IrqLine, signals: &Arc<Signals>) -> Self {
        Self { state: ChannelState::default(), drives: [None, None], name, irq, signals: Arc::clone(signals) }
    }

    /// Puts a hard disk at `unit` (0 or 1).
    pub fn attach_disk(&mut self, unit: usize, medium: Box<dyn BlockBackend>) {
        let serial = format!("HK-{}-{}", self.name, unit & 1);
        self.drives[unit & 1] = Some(Drive::Disk(Disk::new(medium, unit & 1 != 0, serial, &self.signals)));
    }

    /// Puts a CD-ROM drive at `unit` (0 or 1), with a disc in it or empty.
    pub fn attach_cd(&mut self, unit: usize, medium: Option<Box<dyn BlockBackend>>) {
        let serial = format!("HK-{}-{}", self.name, unit & 1);
        self.drives[unit & 1] = Some(Drive::Cd(Cd::new(medium, serial, &self.signals)));
    }

    /// Whether something is attached at `unit`.
    pub fn is_attached(&self, unit: usize) -> bool {
        self.drives[unit & 1].is_some()
    }

    /// The medium at `unit`.
    pub fn medium(&mut self, unit: usize) -> Option<&mut (dyn BlockBackend + 'static)> {
        each!(self.drives[unit & 1].as_mut()?, drive => drive.slot.medium())
    }

    /// Puts another disc into the CD-ROM drive at `unit`, or takes it out.
    ///
    /// # Errors
    /// In words: where there is no such drive, or the guest has locked it (it is asked to let go).
    pub fn change_medium(&mut self, unit: usize, medium: Option<Box<dyn BlockBackend>>) -> Result<(), String> {
        match &mut self.drives[unit & 1] {
            Some(Drive::Cd(cd)) => cd.change_medium(medium),
            Some(Drive::Disk(_)) => {
                Err("a hard disk cannot be changed while the machine runs: power it off first".to_owned())
            }
            None => Err("there is no such drive in this machine".to_owned()),
        }
    }

    /// Whether the guest has opened the tray of the CD-ROM drive at `unit`.
    pub fn is_tray_open(&self, unit: usize) -> bool {
        matches!(&self.drives[unit & 1], Some(Drive::Cd(cd)) if cd.is_tray_open())
    }

    /// Whether a request to a medium is under way: a save waits until it is not. One that failed on the host and waits for
    /// a person does not count; a loaded state asks for it again.
    pub fn busy(&self) -> bool {
        self.drives.iter().flatten().any(|drive| each!(drive, drive => drive.slot.busy()))
    }

    /// Tries requests that failed on the host again.
    pub fn retry(&mut self) {
        for drive in self.drives.iter_mut().flatten() {
            each!(drive, drive => drive.slot.retry());
        }
    }

    /// Requests of the drive at `unit` so far.
    pub fn requests(&self, unit: usize) -> u64 {
        self.drives[unit & 1].as_ref().map_or(0, |drive| each!(drive, drive => drive.slot.requests()))
    }

    /// Reads the command block, `offset` 0–7.
    pub fn read(&mut self, offset: u16, width: Width) -> u32 {
        match offset & 7 {
            0 => self.read_data(width),
            7 => self.read_status(),
            offset => u32::from(self.read_register(offset)),
        }
    }

    /// Writes the command block, `offset` 0–7.
    pub fn write(&mut self, offset: u16, width: Width, value: u32) {
        match offset & 7 {
            0 => self.write_data(width, value),
            6 => self.write_device(value as u8),
            7 => self.write_command(value as u8),
            offset => self.write_register(offset, value as u8),
        }
        self.update_irq();
    }

    /// Reads the alternate status register: the status, and the interrupt stays.
    pub fn alternate_status(&self) -> u8 {
        if self.drives.iter().all(Option::is_none) {
            return FLOATING;
        }
        if self.state.control & CONTROL_SRST != 0 {
            return status::BSY;
        }
        match &self.drives[self.selected()] {
            Some(drive) => each!(drive, drive => drive.state.task.status),
            // Drive 0 answers for an absent drive 1 (ATA/ATAPI-6, 9.16.1).
            None if self.selected() == 1 => 0,
            None => FLOATING,
        }
    }

    /// Writes the device control register.
    pub fn write_control(&mut self, value: u8) {
        let before = self.state.control;
        self.state.control = value & (CONTROL_HOB | CONTROL_SRST | CONTROL_NIEN);
        if before & !value & CONTROL_SRST != 0 {
            self.soft_reset();
        }
        self.update_irq();
    }

    /// Reads the bus-master block of the channel, `offset` 0–7.
    pub fn read_bus_master(&self, offset: u16, width: Width) -> u32 {
        let block = &self.state.bus_master;
        let low = u32::from(block.command) | u32::from(block.status) << 16;
        let both = u64::from(low) | u64::from(block.table) << 32;
        (both >> (8 * (offset & 7)) & width.mask()) as u32
    }

    /// Writes the bus-master block of the channel, `offset` 0–7. Nothing starts.
    pub fn write_bus_master(&mut self, offset: u16, width: Width, value: u32) {
        for n in 0..width.bytes().min(4) as u16 {
            let byte = (value >> (8 * n)) as u8;
            let block = &mut self.state.bus_master;
            match (offset & 7) + n {
                0 => block.command = byte & 0x08,
                2 => block.status = byte & 0x60 | block.status & !byte & 0x06,
                at @ 4..=7 => {
                    let shift = 8 * (at - 4);
                    let table = block.table & !(0xff << shift) | u32::from(byte) << shift;
                    block.table = table & !3;
                }
                _ => {}
            }
        }
    }

    fn selected(&self) -> usize {
        usize::from(self.state.selected & 1)
    }

    fn read_data(&mut self, width: Width) -> u32 {
        let selected = self.selected();
        let Some(drive) = &mut self.drives[selected] else { return width.mask() as u32 };
        let mut word = || u32::from(each!(drive, drive => drive.read_data()));
        let value = match width {
            Width::Byte => word() & 0xff,
            Width::Word => word(),
            Width::Dword | Width::Qword => {
                let low = word();
                low | word() << 16
            }
        };
        self.update_irq();
        value
    }

    fn write_data(&mut self, width: Width, value: u32) {
        let selected = self.selected();
        let Some(drive) = &mut self.drives[selected] else { return };
        each!(drive, drive => drive.write_data(value as u16));
        if width >= Width::Dword {
            each!(drive, drive => drive.write_data((value >> 16) as u16));
        }
    }

    fn read_register(&self, offset: u16) -> u8 {
        let previous = self.state.control & CONTROL_HOB != 0;
        // Drive 0 answers for an absent drive 1.
        let answering =
            self.drives[self.selected()].as_ref().or(self.drives[0].as_ref().filter(|_| self.selected() == 1));
        match answering {
            Some(drive) if offset == 6 => {
                each!(drive, drive => drive.state.task.read(6, false) & !DEVICE_1) | self.state.selected << 4
            }
            Some(drive) => each!(drive, drive => drive.state.task.read(offset, previous)),
            None => FLOATING,
        }
    }

    fn read_status(&mut self) -> u32 {
        let value = self.alternate_status();
        let selected = self.selected();
        if let Some(drive) = &mut self.drives[selected] {
            each!(drive, drive => drive.state.task.interrupt = false);
        }
        self.update_irq();
        u32::from(value)
    }

    /// Both drives take in what is written, unless they are busy.
    fn write_register(&mut self, offset: u16, value: u8) {
        self.state.control &= !CONTROL_HOB;
        for drive in self.drives.iter_mut().flatten() {
            each!(drive, drive => if drive.state.task.status & status::BSY == 0 {
                drive.state.task.write(offset, value);
            });
        }
    }

    fn write_device(&mut self, value: u8) {
        self.state.selected = value >> 4 & 1;
        self.write_register(6, value);
    }

    fn write_command(&mut self, command: u8) {
        self.state.control &= !CONTROL_HOB;
        if self.state.control & CONTROL_SRST != 0 {
            return;
        }
        if command == EXECUTE_DIAGNOSTIC {
            self.execute_diagnostic();
        } else {
            let selected = self.selected();
            if let Some(drive) = &mut self.drives[selected] {
                each!(drive, drive => drive.command(command));
            }
        }
    }

    /// EXECUTE DEVICE DIAGNOSTIC goes to both drives; drive 0 asks for the interrupt (ATA/ATAPI-6, 8.11).
    fn execute_diagnostic(&mut self) {
        self.soft_reset();
        if let Some(drive) = &mut self.drives[0] {
            each!(drive, drive => drive.state.task.interrupt = true);
        }
    }

    fn soft_reset(&mut self) {
        self.state.selected = 0;
        for drive in self.drives.iter_mut().flatten() {
            each!(drive, drive => drive.soft_reset());
        }
    }

    fn wants_interrupt(&self) -> bool {
        let pending = self.drives[self.selected()].as_ref();
        let pending = pending.is_some_and(|drive| each!(drive, drive => drive.state.task.interrupt));
        pending && self.state.control & CONTROL_NIEN == 0
    }

    fn update_irq(&mut self) {
        let high = self.wants_interrupt();
        if high && !self.irq.is_high() {
            self.state.bus_master.status |= 0x04;
        }
        if high != self.irq.is_high() {
            self.irq.set(high);
        }
    }
}

impl Device for IdeChannel {
    fn name(&self) -> &'static str {
        self.name
    }

    fn reset(&mut self) {
        self.state = ChannelState::default();
        for drive in self.drives.iter_mut().flatten() {
            each!(drive, drive => drive.hard_reset());
        }
        self.update_irq();
    }

    fn advance(&mut self, _now: Nanos) {
        for drive in self.drives.iter_mut().flatten() {
            each!(drive, drive => drive.poll());
        }
        self.update_irq();
    }

    fn save(&self) -> Section {
        let mut state = self.state.clone();
        for (unit, drive) in state.units.iter_mut().zip(&self.drives) {
            *unit = drive.as_ref().map(|drive| match drive {
                Drive::Disk(disk) => DriveState::Disk(disk.state.clone()),
                Drive::Cd(cd) => DriveState::Cd(cd.state.clone()),
            });
        }
        let mut section = Section::encode(self.name, 1, &state);
        for (name, unit) in ["unit0", "unit1"].into_iter().zip(&mut state.units) {
            let bytes = unit.as_mut().map_or(Vec::new(), |unit| std::mem::take(&mut unit.pio().bytes));
            if !bytes.is_empty() {
                section = section.with_memory(name, bytes);
            }
        }
        section
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let mut state: ChannelState = section.decode(self.name, 1)?;
        let invalid = |reason: String| LoadError::invalid(self.name, reason);
        if state.selected > 1 {
            return Err(invalid(format!("drive {} is selected", state.selected)));
        }
        for (unit, drive) in self.drives.iter().enumerate() {
            match (drive, &mut state.units[unit]) {
                (None, None) => {}
                (Some(Drive::Disk(disk)), Some(DriveState::Disk(saved))) => {
                    saved.pio.load(section, ["unit0", "unit1"][unit])?;
                    disk.check(saved).map_err(|reason| invalid(format!("drive {unit}: {reason}")))?;
                }
                (Some(Drive::Cd(cd)), Some(DriveState::Cd(saved))) => {
                    saved.pio.load(section, ["unit0", "unit1"][unit])?;
                    cd.check(saved).map_err(|reason| invalid(format!("drive {unit}: {reason}")))?;
                }
                _ => return Err(invalid(format!("drive {unit} is of another kind than in this machine"))),
            }
        }
        for (drive, saved) in self.drives.iter_mut().zip(&mut state.units) {
            match (drive, saved.take()) {
                (Some(Drive::Disk(disk)), Some(DriveState::Disk(saved))) => disk.take_over(saved),
                (Some(Drive::Cd(cd)), Some(DriveState::Cd(saved))) => cd.take_over(saved),
                _ => {}
            }
        }
        self.state = state;
        self.irq.restore(self.wants_interrupt());
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct PciIdeState {
    config: PciConfig,
}

/// The PCI function of the two channels: 8086:7010, both at their ISA addresses.
#[derive(Debug)]
pub struct PciIde {
    state: PciIdeState,
    layout: PciLayout,
}

/// IDETIM: timing and decode enable of both channels, 16 bits each.
const IDETIM: u8 = 0x40;

impl PciIde {
    /// The function after power-on.
    pub fn new() -> Self {
        let layout = PciLayout::new(Identity { vendor: 0x8086, device: 0x7010, revision: 0, class: 0x010180 })
            .value(register::STATUS, &[0x80, 0x02])
            .writable(register::COMMAND, &[0x05, 0x00])
            .io_bar(4, 16)
            .writable(IDETIM, &[0xff, 0xff, 0xff, 0xff, 0xff]);
        Self { state: PciIdeState { config: layout.reset() }, layout }
    }

    /// Where the 16 bus-master ports answer now: 8 of channel 0, then 8 of channel 1.
    pub fn bus_master_base(&self) -> Option<u16> {
        self.state.config.io_bar(4)
    }
}

impl Default for PciIde {
    fn default() -> Self {
        Self::new()
    }
}

impl PciFunction for PciIde {
    fn config_read(&mut self, offset: u8, width: Width) -> u32 {
        self.state.config.read(offset, width)
    }

    fn config_write(&mut self, offset: u8, width: Width, value: u32) {
        self.state.config.write(&self.layout, offset, width, value);
    }
}

impl Device for PciIde {
    fn name(&self) -> &'static str {
        "piix3-ide"
    }

    fn reset(&mut self) {
        self.state.config = self.layout.reset();
    }

    fn save(&self) -> Section {
        Section::encode(self.name(), 1, &self.state)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let state: PciIdeState = section.decode(self.name(), 1)?;
        self.layout.check(&state.config).map_err(|reason| LoadError::invalid(self.name(), reason))?;
        self.state = state;
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::ErrorKind;
    use std::sync::Mutex;

    use super::*;
    use crate::bus::irq::IrqLines;
    use crate::bus::signals::StopReason;
    use crate::dev::suite;
    use crate::disk::memory::{Control, Memory};

    /// A channel, its wires, and the media behind it.
    pub struct Rig {
        pub ide: IdeChannel,
        pub lines: Arc<IrqLines>,
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
            let ide = IdeChannel::new("ide0", IrqLine::new(&lines, &signals, 14), &signals);
            Self { ide, lines, signals, media: Vec::new() }
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
        assert_eq!(word(49) & 0x0300, 0x0200, "LBA, no DMA");
        assert_eq!((word(63), word(88)), (0, 0));
        assert_eq!(bytes[54..58], *b"AHOK");
        assert_eq!(bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0, "the check sum");
        for refused in [0xc8, 0xca, 0xa0, 0xa1, 0x08, 0xb0, 0xff] {
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

    #[test]
    fn the_pci_function_decodes_its_bus_master_block() {
        suite::check(PciIde::new, |pci| pci.config_write(0x20, Width::Dword, 0xffff_ffff));
        let mut pci = PciIde::new();
        assert_eq!(pci.config_read(8, Width::Dword), 0x0101_8000);
        assert_eq!(pci.bus_master_base(), None);
        pci.config_write(0x20, Width::Dword, 0xc041);
        pci.config_write(4, Width::Word, 1);
        assert_eq!(pci.bus_master_base(), Some(0xc040));
    }
}
