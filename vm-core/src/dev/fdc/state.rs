//! What is saved of the controller, and what of it cannot be.

use serde::{Deserialize, Serialize};

use super::bits::CONFIGURE_DEFAULT;
use super::commands::command_length;
use super::geometry::LARGEST_TYPE;
use super::{Fdc, SECTOR};
use crate::bus::clock::Nanos;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
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
pub enum Kind {
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
pub struct Transfer {
    pub kind: Kind,
    pub unit: u8,
    pub multi_track: bool,
    pub cylinder: u8,
    pub head: u8,
    pub record: u8,
    pub end_of_track: u8,
    /// The side that is really under the head; `head` runs ahead of it in a result.
    pub side: u8,
    /// Sectors of the present request.
    pub run: u8,
    /// The guest's count ends in this request.
    pub last: bool,
    /// Sectors that VERIFY still has to see; `None`: up to the end.
    pub count: Option<u8>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Where the head is.
    pub cylinder: u8,
    /// DSKCHG: set until the head steps with a disk in the drive.
    pub changed: bool,
    /// The head arrives then.
    pub arrives: Option<Nanos>,
    /// ST0 of the seek that ends with `arrives`, and then waits for SENSE INTERRUPT STATUS.
    pub status: u8,
    /// The seek has ended and nobody has asked yet.
    pub ended: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FdcState {
    pub dor: u8,
    pub tdr: u8,
    /// Data rate code, of DSR or CCR.
    pub rate: u8,
    pub precompensation: u8,
    pub specify: [u8; 2],
    pub configure: u8,
    pub precompensation_track: u8,
    pub perpendicular: u8,
    pub lock: bool,
    pub phase: Phase,
    pub command: Vec<u8>,
    pub result: Vec<u8>,
    /// Next byte of the result.
    pub result_at: u8,
    /// When the result is there.
    pub ready_at: Option<Nanos>,
    /// When the interrupt after a reset comes.
    pub reset_at: Option<Nanos>,
    /// Drives whose state after the reset nobody has asked for yet.
    pub reset_senses: u8,
    pub transfer: Transfer,
    /// Bytes of the buffer, and how many have gone through the FIFO.
    pub buffer_len: u32,
    pub buffer_at: u32,
    #[serde(skip)]
    pub buffer: Vec<u8>,
    pub interrupt: bool,
    pub units: [Unit; 4],
    /// Types of drives A and B, as the CMOS names them; 0: none, or a state that does not say.
    #[serde(default)]
    pub drive_types: [u8; 2],
}

/// The longest command, in bytes.
pub const MOST_COMMAND: usize = 9;
/// The longest result, in bytes (DUMPREG).
pub const MOST_RESULT: usize = 10;

impl FdcState {
    pub fn power_on() -> Self {
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
            drive_types: [0; 2],
        }
    }
}

impl Fdc {
    pub(super) fn check(&self, state: &FdcState) -> Result<(), String> {
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
        for (unit, drive_type) in state.drive_types.into_iter().enumerate() {
            if drive_type > LARGEST_TYPE || drive_type != 0 && self.slots[unit].is_none() {
                return Err(format!("floppy drive {unit} is of type {drive_type}"));
            }
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
