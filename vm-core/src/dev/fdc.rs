//! 82077AA floppy disk controller with two drives.
//!
//! Intel 82077AA data sheet (290166-007): 2.1 registers, 4 controller phases, 5 commands, 6 status registers.
//!
//! | offset | read | write |
//! |---|---|---|
//! | 0 | SRA | |
//! | 1 | SRB | |
//! | 2 | DOR: motors, DMA gate, reset, drive | the same |
//! | 3 | TDR | the same |
//! | 4 | MSR: may the FIFO be used, and which way | DSR: reset, power-down, data rate |
//! | 5 | FIFO: commands, data, results | the same |
//! | 7 | DIR: the disk was changed (bit 7) | CCR: data rate |
//!
//! Sectors have 512 bytes. A track side is one request to the medium. The head steps faster than a real one; the disk
//! turns at its 300 rounds a minute where a guest can see it (READ ID). Deleted data marks and SCAN are not there.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Device;
use super::dma::DmaHandle;
use super::medium::{Answer, MediumSlot};
use crate::bus::clock::{Clock, Nanos};
use crate::bus::irq::IrqLine;
use crate::bus::signals::Signals;
use crate::disk::{BlockBackend, Operation};
use crate::snapshot::section::{LoadError, Section};

const CHANNEL: u8 = 2;
const SECTOR: usize = 512;
/// The size code of 512-byte sectors.
const SIZE_CODE: u8 = 2;

const DOR_RESET: u8 = 0x04;
const DOR_DMA: u8 = 0x08;
const DSR_RESET: u8 = 0x80;

const MSR_RQM: u8 = 0x80;
const MSR_DIO: u8 = 0x40;
const MSR_NON_DMA: u8 = 0x20;
const MSR_BUSY: u8 = 0x10;

const ST0_ABNORMAL: u8 = 0x40;
const ST0_INVALID: u8 = 0x80;
const ST0_SEEK_END: u8 = 0x20;
const ST0_EQUIPMENT: u8 = 0x10;
const ST1_END: u8 = 0x80;
const ST1_DATA: u8 = 0x20;
const ST1_OVERRUN: u8 = 0x10;
const ST1_NO_DATA: u8 = 0x04;
const ST1_NOT_WRITABLE: u8 = 0x02;
const ST1_NO_MARK: u8 = 0x01;
const ST2_CONTROL_MARK: u8 = 0x40;
const ST2_DATA: u8 = 0x20;
const ST2_WRONG_CYLINDER: u8 = 0x10;
const ST3_PROTECTED: u8 = 0x40;
const ST3_READY: u8 = 0x20;
const ST3_TRACK_0: u8 = 0x10;
const ST3_TWO_SIDES: u8 = 0x08;

const CONFIGURE_IMPLIED_SEEK: u8 = 0x40;
/// CONFIGURE after a reset: FIFO off, polling on.
const CONFIGURE_DEFAULT: u8 = 0x20;

const MULTI_TRACK: u8 = 0x80;
const MFM: u8 = 0x40;

/// From the end of a reset to its interrupt.
const RESET_TIME: Nanos = 20_000;
/// A seek that goes nowhere.
const SETTLE_TIME: Nanos = 50_000;
/// One step of the head. A real drive takes milliseconds.
const STEP_TIME: Nanos = 20_000;
/// Until a command that cannot be done has an answer.
const FAIL_TIME: Nanos = 500_000;
/// Until READ ID has seen the next sector.
const ID_TIME: Nanos = 100_000;
/// One round of the disk: 300 a minute.
const ROUND_TIME: Nanos = 200_000_000;

/// What a disk looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Cylinders.
    pub cylinders: u8,
    /// Sides.
    pub heads: u8,
    /// Sectors of a track, from 1 on.
    pub sectors: u8,
    /// Data rates at which it can be read: bit n for rate code n (0: 500, 1: 300, 2: 250, 3: 1000 kbit/s).
    pub rates: u8,
    /// The drive that a PC has for it, as the CMOS names it.
    pub drive_type: u8,
}

const HIGH: u8 = 1 << 0;
const DOUBLE: u8 = 1 << 1 | 1 << 2;
const EXTRA: u8 = 1 << 3;

/// Formats by size. Other sizes get the smallest format that holds them.
#[rustfmt::skip]
const FORMATS: [Geometry; 12] = [
    Geometry { cylinders: 40, heads: 1, sectors:  8, rates: DOUBLE, drive_type: 1 }, // 160 K
    Geometry { cylinders: 40, heads: 1, sectors:  9, rates: DOUBLE, drive_type: 1 }, // 180 K
    Geometry { cylinders: 40, heads: 2, sectors:  8, rates: DOUBLE, drive_type: 1 }, // 320 K
    Geometry { cylinders: 40, heads: 2, sectors:  9, rates: DOUBLE, drive_type: 1 }, // 360 K
    Geometry { cylinders: 80, heads: 2, sectors:  9, rates: DOUBLE, drive_type: 3 }, // 720 K
    Geometry { cylinders: 80, heads: 2, sectors: 10, rates: DOUBLE, drive_type: 3 }, // 800 K
    Geometry { cylinders: 80, heads: 2, sectors: 15, rates: HIGH,   drive_type: 2 }, // 1.2 M
    Geometry { cylinders: 80, heads: 2, sectors: 18, rates: HIGH,   drive_type: 4 }, // 1.44 M
    Geometry { cylinders: 80, heads: 2, sectors: 20, rates: HIGH,   drive_type: 4 }, // 1.6 M
    Geometry { cylinders: 80, heads: 2, sectors: 21, rates: HIGH,   drive_type: 4 }, // 1.68 M
    Geometry { cylinders: 82, heads: 2, sectors: 21, rates: HIGH,   drive_type: 4 }, // 1.72 M
    Geometry { cylinders: 80, heads: 2, sectors: 36, rates: EXTRA,  drive_type: 5 }, // 2.88 M
];

/// The 1.44 MB drive.
const USUAL_TYPE: u8 = 4;

impl Geometry {
    /// The format of a disk with `sectors` sectors of 512 bytes. What is larger than 2.88 MB is cut there.
    pub fn of(sectors: u64) -> Self {
        // A boot floppy that was never filled up is a 1.44 MB one, unless its size is a format of its own.
        let exact = FORMATS.iter().find(|format| u64::from(format.total()) == sectors);
        let usual =
            FORMATS.iter().find(|format| format.drive_type == USUAL_TYPE && u64::from(format.total()) >= sectors);
        *exact.or(usual).unwrap_or(&FORMATS[FORMATS.len() - 1])
    }

    fn total(self) -> u32 {
        u32::from(self.cylinders) * u32::from(self.heads) * u32::from(self.sectors)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    /// Bytes of a command come in.
    #[default]
    Command,
    /// The medium reads a track side.
    Reading,
    /// The medium writes a track side.
    Writing,
    /// The guest takes data from the FIFO.
    DataIn,
    /// The guest puts data into the FIFO.
    DataOut,
    /// The guest puts the IDs of a track to format into the FIFO.
    IdsOut,
    /// The result is there after a while.
    Waiting,
    /// The guest takes the result.
    Result,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    #[default]
    Read,
    /// READ DELETED DATA: the first sector shows that its mark is another.
    ReadDeleted,
    Verify,
    Write,
    Format,
}

/// A data transfer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Transfer {
    kind: Kind,
    unit: u8,
    multi_track: bool,
    cylinder: u8,
    head: u8,
    record: u8,
    end_of_track: u8,
    /// The side that is really under the head; `head` runs ahead of it in a result.
    side: u8,
    /// Sectors of the present request.
    run: u8,
    /// The guest's count ends in this request.
    last: bool,
    /// Sectors that VERIFY still has to see; `None`: up to the end.
    count: Option<u8>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Unit {
    /// Where the head is.
    cylinder: u8,
    /// DSKCHG: set until the head steps with a disk in the drive.
    changed: bool,
    /// The head arrives then.
    arrives: Option<Nanos>,
    /// ST0 of the seek that ends with `arrives`, and then waits for SENSE INTERRUPT STATUS.
    status: u8,
    /// The seek has ended and nobody has asked yet.
    ended: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct FdcState {
    dor: u8,
    tdr: u8,
    /// Data rate code, of DSR or CCR.
    rate: u8,
    precompensation: u8,
    specify: [u8; 2],
    configure: u8,
    precompensation_track: u8,
    perpendicular: u8,
    lock: bool,
    phase: Phase,
    command: Vec<u8>,
    result: Vec<u8>,
    /// Next byte of the result.
    result_at: u8,
    /// When the result is there.
    ready_at: Option<Nanos>,
    /// When the interrupt after a reset comes.
    reset_at: Option<Nanos>,
    /// Drives whose state after the reset nobody has asked for yet.
    reset_senses: u8,
    transfer: Transfer,
    /// Bytes of the buffer, and how many have gone through the FIFO.
    buffer_len: u32,
    buffer_at: u32,
    #[serde(skip)]
    buffer: Vec<u8>,
    interrupt: bool,
    units: [Unit; 4],
}

/// The longest command, in bytes.
const MOST_COMMAND: usize = 9;
/// The longest result, in bytes (DUMPREG).
const MOST_RESULT: usize = 10;

impl FdcState {
    fn power_on() -> Self {
        let units = std::array::from_fn(|_| Unit { changed: true, ..Unit::default() });
        Self {
            dor: 0,
            tdr: 0,
            rate: 2,
            precompensation: 0,
            specify: [0; 2],
            configure: CONFIGURE_DEFAULT,
            precompensation_track: 0,
            perpendicular: 0,
            lock: false,
            phase: Phase::Command,
            command: Vec::new(),
            result: Vec::new(),
            result_at: 0,
            ready_at: None,
            reset_at: None,
            reset_senses: 0,
            transfer: Transfer::default(),
            buffer_len: 0,
            buffer_at: 0,
            buffer: Vec::new(),
            interrupt: false,
            units,
        }
    }
}

/// The controller with its drives.
#[derive(Debug)]
pub struct Fdc {
    state: FdcState,
    drives: [Option<MediumSlot>; 2],
    irq: IrqLine,
    dma: DmaHandle,
    clock: Clock,
    signals: Arc<Signals>,
}

impl Fdc {
    /// A controller without drives; it moves data over DMA channel 2.
    pub fn new(irq: IrqLine, dma: DmaHandle, clock: Clock, signals: &Arc<Signals>) -> Self {
        let signals = Arc::clone(signals);
        Self { state: FdcState::power_on(), drives: [None, None], irq, dma, clock, signals }
    }

    /// Puts a drive at `unit` (0 for A, 1 for B), with a disk in it or empty.
    pub fn attach(&mut self, unit: usize, medium: Option<Box<dyn BlockBackend>>) {
        self.drives[unit & 1] = Some(MediumSlot::new(medium, &self.signals));
    }

    /// The type of the drive at `unit` for the CMOS: 0 none, 1 360 K, 2 1.2 M, 3 720 K, 4 1.44 M, 5 2.88 M. It is the
    /// one that fits the disk in it.
    pub fn drive_type(&self, unit: usize) -> u8 {
        match &self.drives[unit & 1] {
            None => 0,
            Some(slot) if slot.is_present() => Geometry::of(slot.sectors()).drive_type,
            Some(_) => USUAL_TYPE,
        }
    }

    /// The medium at `unit`.
    pub fn medium(&mut self, unit: usize) -> Option<&mut (dyn BlockBackend + 'static)> {
        self.drives[unit & 1].as_mut()?.medium()
    }

    /// Puts another disk into the drive at `unit`, or takes it out.
    ///
    /// # Errors
    /// In words, where there is no such drive.
    pub fn change_medium(&mut self, unit: usize, medium: Option<Box<dyn BlockBackend>>) -> Result<(), String> {
        let unit = unit & 1;
        let slot = self.drives[unit].as_mut().ok_or("there is no such drive in this machine")?;
        slot.change(medium);
        self.state.units[unit].changed = true;
        let working = matches!(self.state.phase, Phase::Reading | Phase::Writing);
        if working && usize::from(self.state.transfer.unit) == unit {
            self.finish(ST0_ABNORMAL, ST1_NO_MARK | ST1_NO_DATA, 0);
            self.update_irq();
        }
        Ok(())
    }

    /// Whether a request to a medium is under way: a save waits until it is not. One that failed on the host and waits for
    /// a person does not count; a loaded state asks for it again.
    pub fn busy(&self) -> bool {
        self.drives.iter().flatten().any(MediumSlot::busy)
    }

    /// Tries requests that failed on the host again.
    pub fn retry(&mut self) {
        self.drives.iter_mut().flatten().for_each(MediumSlot::retry);
    }

    /// Requests of the drive at `unit` so far.
    pub fn requests(&self, unit: usize) -> u64 {
        self.drives[unit & 1].as_ref().map_or(0, MediumSlot::requests)
    }

    /// Reads the register at `offset` (0–5, 7).
    pub fn read(&mut self, offset: u16) -> u8 {
        match offset {
            0 => self.read_status_a(),
            1 => self.read_status_b(),
            2 => self.state.dor,
            3 => self.state.tdr,
            4 => self.read_main_status(),
            5 => self.read_fifo(),
            7 => self.read_digital_input(),
            _ => 0xff,
        }
    }

    /// Writes the register at `offset` (0–5, 7).
    pub fn write(&mut self, offset: u16, value: u8) {
        match offset {
            2 => self.write_digital_output(value),
            3 => self.state.tdr = value & 3,
            4 => self.write_data_rate_select(value),
            5 => self.write_fifo(value),
            7 => self.state.rate = value & 3,
            _ => {}
        }
        self.update_irq();
    }

    fn selected(&self) -> usize {
        usize::from(self.state.dor & 3)
    }

    fn slot(&mut self, unit: u8) -> Option<&mut MediumSlot> {
        self.drives.get_mut(usize::from(unit))?.as_mut()
    }

    fn geometry(&self, unit: u8) -> Option<Geometry> {
        let slot = self.drives.get(usize::from(unit))?.as_ref()?;
        slot.is_present().then(|| Geometry::of(slot.sectors()))
    }

    fn read_status_a(&self) -> u8 {
        let selected = self.selected();
        let slot = self.drives.get(selected).and_then(Option::as_ref);
        let not_track_0 = u8::from(self.state.units[selected].cylinder != 0) << 4;
        let not_protected = u8::from(!slot.is_some_and(MediumSlot::is_read_only)) << 1;
        let no_second = u8::from(self.drives[1].is_none()) << 6;
        u8::from(self.is_interrupting()) << 7 | no_second | not_track_0 | 0x04 | not_protected
    }

    fn read_status_b(&self) -> u8 {
        0xc0 | (self.state.dor & 1) << 5 | self.state.dor >> 4 & 3
    }

    fn read_main_status(&self) -> u8 {
        if self.state.dor & DOR_RESET == 0 {
            return 0;
        }
        let seeking = (0..4).filter(|n| self.state.units[*n].arrives.is_some() || self.state.units[*n].ended);
        let seeking: u8 = seeking.map(|n| 1 << n).sum();
        let phase = match self.state.phase {
            Phase::Command if self.state.command.is_empty() => MSR_RQM,
            Phase::Command => MSR_RQM | MSR_BUSY,
            Phase::Reading | Phase::Writing | Phase::Waiting => MSR_BUSY,
            Phase::DataIn => MSR_RQM | MSR_DIO | MSR_NON_DMA | MSR_BUSY,
            Phase::DataOut | Phase::IdsOut => MSR_RQM | MSR_NON_DMA | MSR_BUSY,
            Phase::Result => MSR_RQM | MSR_DIO | MSR_BUSY,
        };
        phase | seeking
    }

    fn read_digital_input(&self) -> u8 {
        let changed = self.drives.get(self.selected()).is_some_and(|drive| {
            let present = drive.as_ref().is_some_and(MediumSlot::is_present);
            !present || self.state.units[self.selected()].changed
        });
        u8::from(changed) << 7
    }

    fn write_digital_output(&mut self, value: u8) {
        let before = self.state.dor;
        self.state.dor = value;
        if value & DOR_RESET == 0 {
            self.software_reset();
            self.state.reset_at = None;
        } else if before & DOR_RESET == 0 {
            self.state.reset_at = Some(self.clock.now().saturating_add(RESET_TIME));
        }
    }

    fn write_data_rate_select(&mut self, value: u8) {
        self.state.rate = value & 3;
        self.state.precompensation = value >> 2 & 7;
        if value & DSR_RESET != 0 && self.state.dor & DOR_RESET != 0 {
            self.software_reset();
            self.state.reset_at = Some(self.clock.now().saturating_add(RESET_TIME));
        }
    }

    /// A reset by DOR or DSR (2.2 and 5.2.9): the command ends; LOCK keeps the configuration.
    fn software_reset(&mut self) {
        self.drives.iter_mut().flatten().for_each(MediumSlot::abandon);
        self.enter_command_phase();
        let state = &mut self.state;
        state.interrupt = false;
        state.reset_senses = 0;
        state.perpendicular &= 0x3c;
        if !state.lock {
            state.configure = CONFIGURE_DEFAULT;
            state.precompensation_track = 0;
        }
        for unit in &mut state.units {
            (unit.arrives, unit.ended) = (None, false);
        }
    }

    fn enter_command_phase(&mut self) {
        let state = &mut self.state;
        state.phase = Phase::Command;
        state.command.clear();
        state.result.clear();
        state.result_at = 0;
        state.ready_at = None;
        state.transfer = Transfer::default();
        self.set_buffer(Vec::new());
    }

    fn set_buffer(&mut self, bytes: Vec<u8>) {
        self.state.buffer_len = bytes.len() as u32;
        self.state.buffer_at = 0;
        self.state.buffer = bytes;
    }

    fn is_interrupting(&self) -> bool {
        self.state.interrupt && self.state.dor & DOR_DMA != 0
    }

    fn update_irq(&self) {
        let high = self.is_interrupting();
        if high != self.irq.is_high() {
            self.irq.set(high);
        }
    }

    fn read_fifo(&mut self) -> u8 {
        let value = match self.state.phase {
            Phase::Result => self.next_result(),
            Phase::DataIn => self.next_data_in(),
            _ => 0,
        };
        self.update_irq();
        value
    }

    fn next_result(&mut self) -> u8 {
        self.state.interrupt = false;
        let value = self.state.result.get(usize::from(self.state.result_at)).copied().unwrap_or(0);
        self.state.result_at += 1;
        if usize::from(self.state.result_at) >= self.state.result.len() {
            self.enter_command_phase();
            self.state.interrupt = self.state.units.iter().any(|unit| unit.ended);
        }
        value
    }

    fn write_fifo(&mut self, value: u8) {
        if self.state.dor & DOR_RESET == 0 {
            return;
        }
        match self.state.phase {
            Phase::Command => self.command_byte(value),
            Phase::DataOut | Phase::IdsOut => self.next_data_out(value),
            Phase::Reading | Phase::Writing | Phase::DataIn | Phase::Waiting | Phase::Result => {}
        }
    }

    fn command_byte(&mut self, value: u8) {
        self.state.command.push(value);
        if self.state.command.len() >= command_length(self.state.command[0]) {
            let command = std::mem::take(&mut self.state.command);
            let mut bytes = [0; MOST_COMMAND];
            for (into, from) in bytes.iter_mut().zip(command) {
                *into = from;
            }
            self.execute(&bytes);
        }
    }

    #[rustfmt::skip]
    fn execute(&mut self, c: &[u8; MOST_COMMAND]) {
        match c[0] {
            0x0e               => self.dump_registers(),
            0x10               => self.result(&[0x90]),         // VERSION: an enhanced controller
            0x14 | 0x94        => self.set_lock(c[0] & 0x80 != 0),
            0x13               => self.configure(c),
            0x12               => self.set_perpendicular(c[1]),
            0x03               => self.specify(c),
            0x04               => self.sense_drive_status(c[1]),
            0x08               => self.sense_interrupt_status(),
            0x07               => self.recalibrate(c[1]),
            0x0f               => self.seek(c[1], c[2]),
            0x8f               => self.relative_seek(c[1], c[2], false),
            0xcf               => self.relative_seek(c[1], c[2], true),
            0x0a | 0x4a        => self.read_id(c),
            _ => match c[0] & 0x1f {
                0x06           => self.begin(Kind::Read, c),        // READ DATA
                0x0c           => self.begin(Kind::ReadDeleted, c), // READ DELETED DATA
                0x02           => self.read_track(c),               // READ TRACK
                0x16           => self.begin(Kind::Verify, c),      // VERIFY
                0x05 | 0x09    => self.begin(Kind::Write, c),       // WRITE DATA, WRITE DELETED DATA
                0x0d           => self.format(c),                   // FORMAT TRACK
                _              => self.result(&[ST0_INVALID]),      // among them PART ID, which came with the 82078
            },
        }
    }

    /// A result that is there at once and asks for no interrupt.
    fn result(&mut self, bytes: &[u8]) {
        self.state.result = bytes.to_vec();
        self.state.result_at = 0;
        self.state.phase = Phase::Result;
    }

    /// A result that is there after `delay` and asks for an interrupt.
    fn result_after(&mut self, bytes: &[u8], delay: Nanos) {
        self.state.result = bytes.to_vec();
        self.state.result_at = 0;
        self.state.phase = Phase::Waiting;
        self.state.ready_at = Some(self.clock.now().saturating_add(delay));
    }

    fn dump_registers(&mut self) {
        let state = &self.state;
        let lock = u8::from(state.lock) << 7 | state.perpendicular & 0x3f;
        let [a, b, c, d] = std::array::from_fn(|n| state.units[n].cylinder);
        let [specify_0, specify_1] = state.specify;
        let bytes = [
            a,
            b,
            c,
            d,
            specify_0,
            specify_1,
            state.transfer.end_of_track,
            lock,
            state.configure,
            state.precompensation_track,
        ];
        self.result(&bytes);
    }

    fn set_lock(&mut self, lock: bool) {
        self.state.lock = lock;
        self.result(&[u8::from(lock) << 4]);
    }

    fn configure(&mut self, c: &[u8; MOST_COMMAND]) {
        self.state.configure = c[2] & 0x7f;
        self.state.precompensation_track = c[3];
    }

    fn set_perpendicular(&mut self, value: u8) {
        // OW (bit 7) lets the drive bits be written (5.2.5).
        let drives = if value & 0x80 != 0 { value & 0x3c } else { self.state.perpendicular & 0x3c };
        self.state.perpendicular = drives | value & 3;
    }

    fn specify(&mut self, c: &[u8; MOST_COMMAND]) {
        self.state.specify = [c[1], c[2]];
    }

    fn sense_drive_status(&mut self, select: u8) {
        let unit = select & 3;
        let slot = self.drives.get(usize::from(unit)).and_then(Option::as_ref);
        let protected = slot.is_some_and(MediumSlot::is_read_only);
        let at_track_0 = slot.is_some() && self.state.units[usize::from(unit)].cylinder == 0;
        let mut status = select & 7 | ST3_READY | ST3_TWO_SIDES;
        status |= if protected { ST3_PROTECTED } else { 0 };
        status |= if at_track_0 { ST3_TRACK_0 } else { 0 };
        self.result(&[status]);
    }

    fn sense_interrupt_status(&mut self) {
        let state = &mut self.state;
        if state.reset_senses != 0 {
            let unit = 4 - state.reset_senses.min(4);
            state.reset_senses -= 1;
            state.interrupt = false;
            let cylinder = state.units[usize::from(unit)].cylinder;
            return self.result(&[0xc0 | unit, cylinder]);
        }
        match state.units.iter_mut().position(|unit| unit.ended) {
            Some(unit) => {
                state.units[unit].ended = false;
                state.interrupt = false;
                let (status, cylinder) = (state.units[unit].status, state.units[unit].cylinder);
                self.result(&[status, cylinder]);
            }
            None => self.result(&[ST0_INVALID]),
        }
    }

    fn start_seek(&mut self, select: u8, cylinder: u8, status: u8) {
        let unit = usize::from(select & 3);
        let present = self.geometry(select & 3).is_some();
        let now = self.clock.now();
        let state = &mut self.state.units[unit];
        let steps = Nanos::from(state.cylinder.abs_diff(cylinder));
        state.cylinder = cylinder;
        state.changed &= !present;
        state.status = status | ST0_SEEK_END | select & 7;
        state.ended = false;
        state.arrives = Some(now.saturating_add(SETTLE_TIME + steps * STEP_TIME));
    }

    fn recalibrate(&mut self, select: u8) {
        // Without a drive track 0 never shows; from beyond track 79 it is not reached in 79 steps (5.2.2).
        let exists = self.slot(select & 3).is_some();
        let cylinder = self.state.units[usize::from(select & 3)].cylinder.saturating_sub(79);
        let status = if exists && cylinder == 0 { 0 } else { ST0_ABNORMAL | ST0_EQUIPMENT };
        self.start_seek(select & 3, cylinder, status);
    }

    fn seek(&mut self, select: u8, cylinder: u8) {
        self.start_seek(select, cylinder, 0);
    }

    fn relative_seek(&mut self, select: u8, steps: u8, inwards: bool) {
        let now = self.state.units[usize::from(select & 3)].cylinder;
        let cylinder = if inwards { now.saturating_add(steps) } else { now.saturating_sub(steps) };
        self.start_seek(select, cylinder, 0);
    }

    /// Whether a disk can be read at all with this command and the present data rate.
    fn readable(&self, command: u8, select: u8) -> Option<Geometry> {
        let geometry = self.geometry(select & 3)?;
        let cylinder = self.state.units[usize::from(select & 3)].cylinder;
        let fits = geometry.rates >> self.state.rate & 1 != 0 && command & MFM != 0;
        (fits && cylinder < geometry.cylinders && (select >> 2 & 1) < geometry.heads).then_some(geometry)
    }

    fn read_id(&mut self, c: &[u8; MOST_COMMAND]) {
        let select = c[1] & 7;
        let cylinder = self.state.units[usize::from(select & 3)].cylinder;
        let head = select >> 2;
        let Some(geometry) = self.readable(c[0], select) else {
            let bytes = [ST0_ABNORMAL | select, ST1_NO_MARK | ST1_NO_DATA, 0, cylinder, head, 1, SIZE_CODE];
            return self.result_after(&bytes, FAIL_TIME);
        };
        let turned = self.clock.now() % ROUND_TIME;
        let record = (turned * Nanos::from(geometry.sectors) / ROUND_TIME) as u8 + 1;
        self.result_after(&[select, 0, 0, cylinder, head, record, SIZE_CODE], ID_TIME);
    }

    fn read_track(&mut self, c: &[u8; MOST_COMMAND]) {
        // From the index hole on, whatever the sector number says.
        let mut c = *c;
        c[0] &= !MULTI_TRACK;
        c[4] = 1;
        self.begin(Kind::Read, &c);
    }

    fn begin(&mut self, kind: Kind, c: &[u8; MOST_COMMAND]) {
        let select = c[1] & 7;
        self.state.transfer = Transfer {
            kind,
            unit: select & 3,
            multi_track: c[0] & MULTI_TRACK != 0,
            cylinder: c[2],
            head: c[3],
            record: c[4],
            end_of_track: c[6],
            side: select >> 2,
            run: 0,
            last: false,
            count: (kind == Kind::Verify && c[1] & 0x80 != 0).then_some(c[8]),
        };
        if self.state.configure & CONFIGURE_IMPLIED_SEEK != 0 {
            let present = self.geometry(select & 3).is_some();
            let unit = &mut self.state.units[usize::from(select & 3)];
            unit.cylinder = c[2];
            unit.changed &= !present;
        }
        let Some(_) = self.readable(c[0], select) else {
            return self.fail(ST1_NO_MARK | ST1_NO_DATA, 0);
        };
        if self.state.units[usize::from(select & 3)].cylinder != c[2] {
            return self.fail(ST1_NO_DATA, ST2_WRONG_CYLINDER);
        }
        if c[3] != select >> 2 || c[5] != SIZE_CODE {
            return self.fail(ST1_NO_DATA, 0);
        }
        if kind == Kind::Write && self.slot(select & 3).is_some_and(|slot| slot.is_read_only()) {
            return self.fail(ST1_NOT_WRITABLE, 0);
        }
        self.next_run();
    }

    /// The command fails before anything moves.
    fn fail(&mut self, status_1: u8, status_2: u8) {
        let bytes = self.standard_result(ST0_ABNORMAL, status_1, status_2);
        self.result_after(&bytes, FAIL_TIME);
    }

    fn standard_result(&self, status_0: u8, status_1: u8, status_2: u8) -> [u8; 7] {
        let transfer = &self.state.transfer;
        let select = transfer.unit | (transfer.side & 1) << 2;
        let Transfer { cylinder, head, record, .. } = *transfer;
        [status_0 | select, status_1, status_2, cylinder, head, record, SIZE_CODE]
    }

    /// The command ends with an interrupt now.
    fn finish(&mut self, status_0: u8, status_1: u8, status_2: u8) {
        let bytes = self.standard_result(status_0, status_1, status_2);
        self.set_buffer(Vec::new());
        self.result(&bytes);
        self.state.interrupt = true;
    }

    fn uses_dma(&self) -> bool {
        self.state.specify[1] & 1 == 0
    }

    /// The first sector of the present run on the medium, and how many sectors it has there.
    fn place(&self) -> Option<(u64, u64)> {
        let transfer = &self.state.transfer;
        let geometry = self.geometry(transfer.unit)?;
        let fits = transfer.cylinder < geometry.cylinders
            && transfer.head < geometry.heads
            && (1..=geometry.sectors).contains(&transfer.record);
        let track = u64::from(transfer.cylinder) * u64::from(geometry.heads) + u64::from(transfer.head);
        let sector = track * u64::from(geometry.sectors) + u64::from(transfer.record) - 1;
        let there = self.drives[usize::from(transfer.unit)].as_ref().map_or(0, MediumSlot::sectors);
        fits.then(|| (sector, there.saturating_sub(sector).min(u64::from(transfer.run))))
    }

    /// Starts on the rest of the present side of the track.
    fn next_run(&mut self) {
        let sectors = self.geometry(self.state.transfer.unit).map_or(0, |geometry| geometry.sectors);
        let transfer = &mut self.state.transfer;
        if transfer.record == 0 || transfer.record > sectors {
            return self.finish(ST0_ABNORMAL, ST1_NO_DATA, 0);
        }
        // Past the end the chip goes on with the very sector it was told.
        let end = transfer.end_of_track.clamp(transfer.record, sectors);
        transfer.run = end - transfer.record + 1;
        if transfer.kind == Kind::ReadDeleted {
            transfer.run = 1;
        }
        if let Some(count @ 1..) = transfer.count {
            transfer.run = transfer.run.min(count);
        }
        let kind = transfer.kind;
        match kind {
            Kind::Read | Kind::ReadDeleted | Kind::Verify => self.read_run(),
            Kind::Write if self.uses_dma() => self.gather_run(),
            Kind::Write => {
                let bytes = usize::from(self.state.transfer.run) * SECTOR;
                self.set_buffer(vec![0; bytes]);
                self.state.phase = Phase::DataOut;
                self.state.interrupt = true;
            }
            Kind::Format => self.finish(ST0_ABNORMAL, ST1_NO_DATA, 0),
        }
    }

    fn read_run(&mut self) {
        let Some((sector, there)) = self.place() else { return self.finish(ST0_ABNORMAL, ST1_NO_DATA, 0) };
        self.state.phase = Phase::Reading;
        let unit = self.state.transfer.unit;
        if there == 0 {
            // The image ends before the disk does: the rest of the disk is zeros.
            return self.take_run(Vec::new());
        }
        if let Some(slot) = self.slot(unit) {
            slot.read(sector, there as u32);
        }
    }

    /// The medium has read the present run.
    fn take_run(&mut self, mut bytes: Vec<u8>) {
        bytes.resize(usize::from(self.state.transfer.run) * SECTOR, 0);
        match self.state.transfer.kind {
            Kind::Verify => self.verified(),
            _ if self.uses_dma() => self.deliver_run(&bytes),
            _ => {
                self.set_buffer(bytes);
                self.state.phase = Phase::DataIn;
                self.state.interrupt = true;
            }
        }
    }

    fn deliver_run(&mut self, bytes: &[u8]) {
        for sector in bytes.chunks(SECTOR) {
            let moved = self.dma.write_memory(CHANNEL, sector);
            if !moved.terminal_count && moved.moved < sector.len() {
                return self.finish(ST0_ABNORMAL, ST1_OVERRUN, 0);
            }
            if moved.terminal_count {
                self.count_sectors(1);
                let mark = if self.state.transfer.kind == Kind::ReadDeleted { ST2_CONTROL_MARK } else { 0 };
                return self.finish(0, 0, mark);
            }
            self.step_sector();
        }
        self.run_done();
    }

    fn verified(&mut self) {
        let run = self.state.transfer.run;
        if let Some(count) = self.state.transfer.count {
            let left = count.wrapping_sub(run);
            if left == 0 {
                self.count_sectors(run);
                return self.finish(0, 0, 0);
            }
            self.state.transfer.count = Some(left);
        }
        for _ in 0..run {
            self.step_sector();
        }
        self.run_done();
    }

    /// Fetches the sectors of the present run from memory, up to the end of the guest's count.
    fn gather_run(&mut self) {
        let mut bytes = Vec::with_capacity(usize::from(self.state.transfer.run) * SECTOR);
        let mut sectors = 0;
        while sectors < self.state.transfer.run && !self.state.transfer.last {
            let mut sector = [0; SECTOR];
            let moved = self.dma.read_memory(CHANNEL, &mut sector);
            if !moved.terminal_count && moved.moved < SECTOR {
                // No driver takes the channel away in the middle: nothing of the run is written.
                return self.finish(ST0_ABNORMAL, ST1_OVERRUN, 0);
            }
            // Where the count ends within a sector, the chip fills it up with zeros (5.1.3).
            sector[moved.moved.min(SECTOR)..].fill(0);
            bytes.extend_from_slice(&sector);
            sectors += 1;
            self.state.transfer.last = moved.terminal_count;
        }
        self.state.transfer.run = sectors;
        self.write_run(bytes);
    }

    fn write_run(&mut self, bytes: Vec<u8>) {
        let unit = self.state.transfer.unit;
        match self.place() {
            Some((sector, there)) if there == u64::from(self.state.transfer.run) => {
                self.set_buffer(bytes.clone());
                self.state.phase = Phase::Writing;
                if let Some(slot) = self.slot(unit) {
                    slot.write(sector, bytes);
                }
            }
            // The image ends before the disk does: what cannot be kept is not taken.
            _ => self.finish(ST0_ABNORMAL, ST1_NO_DATA, 0),
        }
    }

    fn written(&mut self) {
        let Transfer { kind, run, last, .. } = self.state.transfer;
        self.set_buffer(Vec::new());
        if kind == Kind::Format {
            self.finish(0, 0, 0);
        } else if last {
            self.count_sectors(run);
            self.finish(0, 0, 0);
        } else {
            for _ in 0..run {
                self.step_sector();
            }
            self.run_done();
        }
    }

    fn step_sector(&mut self) {
        let transfer = &mut self.state.transfer;
        transfer.record = transfer.record.saturating_add(1);
    }

    /// The address after `sectors` more, as the result shows it after the guest's count has ended (5.1.1, table 5-3).
    fn count_sectors(&mut self, sectors: u8) {
        let transfer = &mut self.state.transfer;
        let last = transfer.record.saturating_add(sectors - 1);
        if last < transfer.end_of_track {
            transfer.record = last.saturating_add(1);
            return;
        }
        transfer.record = 1;
        if transfer.multi_track && transfer.head == 0 {
            transfer.head = 1;
        } else {
            transfer.cylinder = transfer.cylinder.wrapping_add(1);
            if transfer.multi_track {
                transfer.head = 0;
            }
        }
    }

    /// A side is through and the guest's count has not ended.
    fn run_done(&mut self) {
        let two_sided = self.geometry(self.state.transfer.unit).is_some_and(|geometry| geometry.heads == 2);
        let transfer = &mut self.state.transfer;
        if transfer.kind == Kind::ReadDeleted {
            return self.finish(ST0_ABNORMAL, 0, ST2_CONTROL_MARK);
        }
        if transfer.record <= transfer.end_of_track {
            // The guest believes in longer tracks than there are.
            return self.finish(ST0_ABNORMAL, ST1_NO_DATA, 0);
        }
        if transfer.multi_track && transfer.head == 0 && two_sided {
            (transfer.head, transfer.side) = (1, 1);
            transfer.record = 1;
            return self.next_run();
        }
        let verify_to_the_end = transfer.kind == Kind::Verify && transfer.count.is_none();
        transfer.record = transfer.record.saturating_sub(1);
        self.count_sectors(1);
        if verify_to_the_end { self.finish(0, 0, 0) } else { self.finish(ST0_ABNORMAL, ST1_END, 0) }
    }

    fn format(&mut self, c: &[u8; MOST_COMMAND]) {
        let select = c[1] & 7;
        let unit = select & 3;
        let cylinder = self.state.units[usize::from(unit)].cylinder;
        self.state.transfer = Transfer {
            kind: Kind::Format,
            unit,
            cylinder,
            head: select >> 2,
            side: select >> 2,
            record: 1,
            end_of_track: c[3],
            run: c[3],
            ..Transfer::default()
        };
        let Some(geometry) = self.readable(c[0], select) else {
            return self.fail(ST1_NO_MARK, 0);
        };
        if self.slot(unit).is_some_and(|slot| slot.is_read_only()) {
            return self.fail(ST1_NOT_WRITABLE, 0);
        }
        if c[2] != SIZE_CODE || c[3] != geometry.sectors {
            // Another format than the image has.
            return self.fail(ST1_NO_DATA, 0);
        }
        // The filler byte waits in the buffer behind the IDs.
        let mut ids = vec![0; usize::from(c[3]) * 4];
        if self.uses_dma() {
            let moved = self.dma.read_memory(CHANNEL, &mut ids);
            if moved.moved < ids.len() {
                return self.finish(ST0_ABNORMAL, ST1_OVERRUN, 0);
            }
            self.format_track(&ids, c[5]);
        } else {
            ids.push(c[5]);
            self.set_buffer(ids);
            self.state.phase = Phase::IdsOut;
            self.state.interrupt = true;
        }
    }

    /// Writes the filler over the track, if its IDs are those that the image can have.
    fn format_track(&mut self, ids: &[u8], filler: u8) {
        let Transfer { cylinder, head, run, .. } = self.state.transfer;
        let mut seen = 0_u64;
        for id in ids.chunks_exact(4) {
            if id[0] != cylinder || id[1] != head || id[3] != SIZE_CODE || id[2] == 0 || id[2] > run {
                return self.finish(ST0_ABNORMAL, ST1_NO_DATA, 0);
            }
            seen |= 1 << (id[2] & 63);
        }
        if seen.count_ones() != u32::from(run) {
            return self.finish(ST0_ABNORMAL, ST1_NO_DATA, 0);
        }
        self.write_run(vec![filler; usize::from(run) * SECTOR]);
    }

    fn next_data_in(&mut self) -> u8 {
        let value = self.state.buffer.get(self.state.buffer_at as usize).copied().unwrap_or(0);
        self.state.buffer_at += 1;
        // An edge for each byte.
        self.state.interrupt = false;
        self.update_irq();
        if self.state.buffer_at < self.state.buffer_len {
            self.state.interrupt = true;
        } else {
            let run = self.state.transfer.run;
            for _ in 0..run {
                self.step_sector();
            }
            self.set_buffer(Vec::new());
            self.run_done();
        }
        value
    }

    fn next_data_out(&mut self, value: u8) {
        // In a track to format the last byte is the filler.
        let end = self.state.buffer_len - u32::from(self.state.phase == Phase::IdsOut);
        if let Some(at) = self.state.buffer.get_mut(self.state.buffer_at as usize) {
            *at = value;
        }
        self.state.buffer_at += 1;
        self.state.interrupt = false;
        self.update_irq();
        if self.state.buffer_at < end {
            self.state.interrupt = true;
            return;
        }
        let bytes = std::mem::take(&mut self.state.buffer);
        self.set_buffer(Vec::new());
        match (self.state.phase, bytes.split_last()) {
            (Phase::IdsOut, Some((filler, ids))) => self.format_track(ids, *filler),
            _ => self.write_run(bytes),
        }
    }

    fn poll(&mut self) {
        for unit in 0..2 {
            let Some(answer) = self.slot(unit).and_then(MediumSlot::poll) else { continue };
            if self.state.transfer.unit != unit {
                continue;
            }
            match (answer, self.state.phase) {
                (Answer::Done(Operation::Read { buffer, .. }), Phase::Reading) => self.take_run(buffer),
                (Answer::Done(_), Phase::Writing) => self.written(),
                (Answer::Unreadable, Phase::Reading) => self.finish(ST0_ABNORMAL, ST1_DATA, ST2_DATA),
                (Answer::NoSuchPlace, Phase::Reading | Phase::Writing) => self.finish(ST0_ABNORMAL, ST1_NO_DATA, 0),
                _ => {}
            }
        }
    }

    fn check(&self, state: &FdcState) -> Result<(), String> {
        if state.command.len() >= MOST_COMMAND || state.result.len() > MOST_RESULT {
            return Err("a command or result is too long".to_owned());
        }
        if !state.command.is_empty() && state.command.len() >= command_length(state.command[0]) {
            return Err("a command is complete and not carried out".to_owned());
        }
        let has_result = matches!(state.phase, Phase::Result | Phase::Waiting);
        if has_result == state.result.is_empty() || usize::from(state.result_at) > state.result.len() {
            return Err(format!("byte {} of a result of {}", state.result_at, state.result.len()));
        }
        if (state.phase == Phase::Waiting) != state.ready_at.is_some() {
            return Err("it waits for nothing".to_owned());
        }
        if state.rate > 3 || state.reset_senses > 4 || state.tdr > 3 {
            return Err(format!("data rate {}, {} answers after a reset", state.rate, state.reset_senses));
        }
        let transfer = &state.transfer;
        let run = usize::from(transfer.run);
        let buffer = match state.phase {
            Phase::DataIn | Phase::DataOut | Phase::Writing => run * SECTOR,
            Phase::IdsOut => run * 4 + 1,
            Phase::Command | Phase::Reading | Phase::Waiting | Phase::Result => 0,
        };
        if state.buffer_len as usize != buffer || state.buffer_at > state.buffer_len {
            return Err(format!("a buffer of {} bytes while {:?}", state.buffer_len, state.phase));
        }
        let moving = match state.phase {
            Phase::Reading | Phase::Writing | Phase::DataIn | Phase::DataOut | Phase::IdsOut => true,
            Phase::Command | Phase::Waiting | Phase::Result => false,
        };
        if moving {
            let geometry = self.geometry(transfer.unit).ok_or("it moves data without a disk")?;
            let end = usize::from(transfer.record) + run;
            let fits = transfer.cylinder < geometry.cylinders
                && transfer.head < geometry.heads
                && transfer.record != 0
                && run != 0
                && end <= usize::from(geometry.sectors) + 1;
            if !fits {
                return Err(format!("{run} sectors from {} on, of a track that has fewer", transfer.record));
            }
        }
        Ok(())
    }
}

/// Bytes of the command that begins with `opcode`.
fn command_length(opcode: u8) -> usize {
    match opcode {
        0x07 | 0x04 | 0x12 | 0x0a | 0x4a => 2,
        0x03 | 0x0f | 0x8f | 0xcf => 3,
        0x13 => 4,
        0x08 | 0x0e | 0x10 | 0x14 | 0x94 => 1,
        _ => match opcode & 0x1f {
            0x02 | 0x05 | 0x06 | 0x09 | 0x0c | 0x16 => 9,
            0x0d => 6,
            _ => 1,
        },
    }
}

impl Device for Fdc {
    fn name(&self) -> &'static str {
        "fdc"
    }

    fn reset(&mut self) {
        self.drives.iter_mut().flatten().for_each(MediumSlot::abandon);
        self.state = FdcState::power_on();
        self.update_irq();
    }

    fn next_event(&self) -> Option<Nanos> {
        let state = &self.state;
        let units = state.units.iter().filter_map(|unit| unit.arrives);
        units.chain(state.ready_at).chain(state.reset_at).min()
    }

    fn advance(&mut self, now: Nanos) {
        let due = |at: &mut Option<Nanos>| at.take_if(|at| *at <= now).is_some();
        if due(&mut self.state.reset_at) {
            self.state.reset_senses = 4;
            self.state.interrupt = true;
        }
        for unit in &mut self.state.units {
            if due(&mut unit.arrives) {
                unit.ended = true;
                self.state.interrupt = true;
            }
        }
        if due(&mut self.state.ready_at) {
            self.state.phase = Phase::Result;
            self.state.interrupt = true;
        }
        self.poll();
        self.update_irq();
    }

    fn save(&self) -> Section {
        let section = Section::encode(self.name(), 1, &self.state);
        if self.state.buffer.is_empty() { section } else { section.with_memory("buffer", self.state.buffer.clone()) }
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let mut state: FdcState = section.decode(self.name(), 1)?;
        self.check(&state).map_err(|reason| LoadError::invalid(self.name(), reason))?;
        if state.buffer_len != 0 {
            state.buffer = section.memory("buffer", state.buffer_len as usize)?.to_vec();
        }
        self.drives.iter_mut().flatten().for_each(MediumSlot::abandon);
        self.state = state;
        match self.state.phase {
            Phase::Reading => self.read_run(),
            Phase::Writing => {
                let bytes = self.state.buffer.clone();
                self.write_run(bytes);
            }
            _ => {}
        }
        self.irq.restore(self.is_interrupting());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

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
            (720, (80, 2, 9, 3)),
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
        assert_eq!(rig.fdc.drive_type(0), 3);
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
}
