//! The command phase: the bytes of a command, the table of commands, and those that move no data.

use super::bits::{
    MFM, ST0_ABNORMAL, ST0_EQUIPMENT, ST0_INVALID, ST0_SEEK_END, ST1_NO_DATA, ST1_NO_MARK, ST3_PROTECTED, ST3_READY,
    ST3_TRACK_0, ST3_TWO_SIDES,
};
use super::geometry::Geometry;
use super::state::{Kind, MOST_COMMAND, Phase};
use super::{Fdc, SIZE_CODE};
use crate::bus::clock::Nanos;
use crate::dev::medium::MediumSlot;

/// A seek that goes nowhere.
const SETTLE_TIME: Nanos = 50_000;
/// One step of the head. A real drive takes milliseconds.
const STEP_TIME: Nanos = 20_000;
/// Until a command that cannot be done has an answer.
pub const FAIL_TIME: Nanos = 500_000;
/// Until READ ID has seen the next sector.
pub const ID_TIME: Nanos = 100_000;
/// One round of the disk: 300 a minute.
pub const ROUND_TIME: Nanos = 200_000_000;

impl Fdc {
    pub(super) fn command_byte(&mut self, value: u8) {
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
    pub(super) fn execute(&mut self, c: &[u8; MOST_COMMAND]) {
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
    pub(super) fn result(&mut self, bytes: &[u8]) {
        self.state.result = bytes.to_vec();
        self.state.result_at = 0;
        self.state.phase = Phase::Result;
    }

    /// A result that is there after `delay` and asks for an interrupt.
    pub(super) fn result_after(&mut self, bytes: &[u8], delay: Nanos) {
        self.state.result = bytes.to_vec();
        self.state.result_at = 0;
        self.state.phase = Phase::Waiting;
        self.state.ready_at = Some(self.clock.now().saturating_add(delay));
    }

    pub(super) fn dump_registers(&mut self) {
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

    pub(super) fn set_lock(&mut self, lock: bool) {
        self.state.lock = lock;
        self.result(&[u8::from(lock) << 4]);
    }

    pub(super) fn configure(&mut self, c: &[u8; MOST_COMMAND]) {
        self.state.configure = c[2] & 0x7f;
        self.state.precompensation_track = c[3];
    }

    pub(super) fn set_perpendicular(&mut self, value: u8) {
        // OW (bit 7) lets the drive bits be written (5.2.5).
        let drives = if value & 0x80 != 0 { value & 0x3c } else { self.state.perpendicular & 0x3c };
        self.state.perpendicular = drives | value & 3;
    }

    pub(super) fn specify(&mut self, c: &[u8; MOST_COMMAND]) {
        self.state.specify = [c[1], c[2]];
    }

    pub(super) fn sense_drive_status(&mut self, select: u8) {
        let unit = select & 3;
        let slot = self.seen(usize::from(unit));
        let protected = slot.is_some_and(MediumSlot::is_read_only);
        let at_track_0 = slot.is_some() && self.state.units[usize::from(unit)].cylinder == 0;
        let mut status = select & 7 | ST3_READY | ST3_TWO_SIDES;
        status |= if protected { ST3_PROTECTED } else { 0 };
        status |= if at_track_0 { ST3_TRACK_0 } else { 0 };
        self.result(&[status]);
    }

    pub(super) fn sense_interrupt_status(&mut self) {
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

    pub(super) fn start_seek(&mut self, select: u8, cylinder: u8, status: u8) {
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

    pub(super) fn recalibrate(&mut self, select: u8) {
        // Without a drive track 0 never shows; from beyond track 79 it is not reached in 79 steps (5.2.2).
        let exists = self.slot(select & 3).is_some();
        let cylinder = self.state.units[usize::from(select & 3)].cylinder.saturating_sub(79);
        let status = if exists && cylinder == 0 { 0 } else { ST0_ABNORMAL | ST0_EQUIPMENT };
        self.start_seek(select & 3, cylinder, status);
    }

    pub(super) fn seek(&mut self, select: u8, cylinder: u8) {
        self.start_seek(select, cylinder, 0);
    }

    pub(super) fn relative_seek(&mut self, select: u8, steps: u8, inwards: bool) {
        let now = self.state.units[usize::from(select & 3)].cylinder;
        let cylinder = if inwards { now.saturating_add(steps) } else { now.saturating_sub(steps) };
        self.start_seek(select, cylinder, 0);
    }

    /// Whether a disk can be read at all with this command and the present data rate.
    pub(super) fn readable(&self, command: u8, select: u8) -> Option<Geometry> {
        let geometry = self.geometry(select & 3)?;
        let cylinder = self.state.units[usize::from(select & 3)].cylinder;
        let fits = geometry.rates >> self.state.rate & 1 != 0 && command & MFM != 0;
        (fits && cylinder < geometry.cylinders && (select >> 2 & 1) < geometry.heads).then_some(geometry)
    }

    pub(super) fn read_id(&mut self, c: &[u8; MOST_COMMAND]) {
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
}

/// Bytes of the command that begins with `opcode`.
pub fn command_length(opcode: u8) -> usize {
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
