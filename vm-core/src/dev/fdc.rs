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
//! turns at its 300 rounds a minute where a guest can see it (READ ID). An image has no place for deleted data marks: they are
//! taken and forgotten. SCAN EQUAL and its like are invalid commands, as on this chip: only its forerunner had them.

mod bits;
mod commands;
mod format;
mod geometry;
mod state;
#[cfg(test)]
mod tests;
mod transfer;

use std::sync::Arc;

use super::Device;
use super::dma::DmaHandle;
use super::medium::MediumSlot;
use crate::bus::clock::{Clock, Nanos};
use crate::bus::irq::IrqLine;
use crate::bus::signals::Signals;
use crate::disk::BlockBackend;
use crate::snapshot::section::{LoadError, Section};
use bits::{
    CONFIGURE_DEFAULT, DOR_DMA, DOR_RESET, DSR_RESET, MSR_BUSY, MSR_DIO, MSR_NON_DMA, MSR_RQM, ST0_ABNORMAL,
    ST1_NO_DATA, ST1_NO_MARK,
};
pub use geometry::Geometry;
use geometry::USUAL_TYPE;
use state::{FdcState, Phase, Transfer};

/// The DMA channel.
const CHANNEL: u8 = 2;
const SECTOR: usize = 512;
/// The size code of 512-byte sectors.
const SIZE_CODE: u8 = 2;

/// From the end of a reset to its interrupt.
const RESET_TIME: Nanos = 20_000;

/// The controller with its drives.
#[derive(Debug)]
pub struct Fdc {
    state: FdcState,
    /// Drives A and B; their types are in the state.
    slots: [Option<MediumSlot>; 2],
    irq: IrqLine,
    dma: DmaHandle,
    clock: Clock,
    signals: Arc<Signals>,
}

impl Fdc {
    /// A controller without drives; it moves data over DMA channel 2.
    pub fn new(irq: IrqLine, dma: DmaHandle, clock: Clock, signals: &Arc<Signals>) -> Self {
        let signals = Arc::clone(signals);
        Self { state: FdcState::power_on(), slots: [None, None], irq, dma, clock, signals }
    }

    /// Puts a drive at `unit` (0 for A, 1 for B), with a disk in it or empty. It is of the type that fits the disk.
    pub fn attach(&mut self, unit: usize, medium: Option<Box<dyn BlockBackend>>) {
        let fits = medium.as_ref().map_or(USUAL_TYPE, |medium| Geometry::of(medium.sectors()).drive_type);
        self.state.drive_types[unit & 1] = fits;
        self.slots[unit & 1] = Some(MediumSlot::new(medium, &self.signals));
    }

    /// The type of the drive at `unit` for the CMOS: 0 none, 1 360 K, 2 1.2 M, 3 720 K, 4 1.44 M, 5 2.88 M.
    pub fn drive_type(&self, unit: usize) -> u8 {
        self.state.drive_types[unit & 1]
    }

    /// The medium at `unit`.
    pub fn medium(&mut self, unit: usize) -> Option<&mut (dyn BlockBackend + 'static)> {
        self.slots[unit & 1].as_mut()?.medium()
    }

    /// Puts another disk into the drive at `unit`, or takes it out.
    ///
    /// # Errors
    /// In words, where there is no such drive, or where it could not read such a disk.
    pub fn change_medium(&mut self, unit: usize, medium: Option<Box<dyn BlockBackend>>) -> Result<(), String> {
        let unit = unit & 1;
        let slot = self.slots[unit].as_mut().ok_or("there is no such drive in this machine")?;
        if let Some(medium) = &medium {
            geometry::check_drive(self.state.drive_types[unit], Geometry::of(medium.sectors()))?;
        }
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
        self.slots.iter().flatten().any(MediumSlot::busy)
    }

    /// Tries requests that failed on the host again.
    pub fn retry(&mut self) {
        self.slots.iter_mut().flatten().for_each(MediumSlot::retry);
    }

    /// Requests of the drive at `unit` so far.
    pub fn requests(&self, unit: usize) -> u64 {
        self.slots[unit & 1].as_ref().map_or(0, MediumSlot::requests)
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
        self.slots.get_mut(usize::from(unit))?.as_mut()
    }

    /// The slot of a drive, to look at.
    fn seen(&self, unit: usize) -> Option<&MediumSlot> {
        self.slots.get(unit)?.as_ref()
    }

    fn abandon(&mut self) {
        self.slots.iter_mut().flatten().for_each(MediumSlot::abandon);
    }

    fn geometry(&self, unit: u8) -> Option<Geometry> {
        let slot = self.seen(usize::from(unit))?;
        slot.is_present().then(|| Geometry::of(slot.sectors()))
    }

    fn read_status_a(&self) -> u8 {
        let selected = self.selected();
        let slot = self.seen(selected);
        let not_track_0 = u8::from(self.state.units[selected].cylinder != 0) << 4;
        let not_protected = u8::from(!slot.is_some_and(MediumSlot::is_read_only)) << 1;
        let no_second = u8::from(self.slots[1].is_none()) << 6;
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
        let selected = self.selected();
        // Nothing drives the line of drives that cannot be there.
        let changed = selected < self.slots.len()
            && (!self.seen(selected).is_some_and(MediumSlot::is_present) || self.state.units[selected].changed);
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
        self.abandon();
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
}

impl Device for Fdc {
    fn name(&self) -> &'static str {
        "fdc"
    }

    fn reset(&mut self) {
        self.abandon();
        self.state = FdcState { drive_types: self.state.drive_types, ..FdcState::power_on() };
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
        for unit in 0..2 {
            // A state that does not say is of the time when the disk in it decided.
            if state.drive_types[unit] == 0 && self.slots[unit].is_some() {
                let disk = self.geometry(unit as u8);
                state.drive_types[unit] = disk.map_or(USUAL_TYPE, Geometry::former_drive_type);
            }
        }
        if state.buffer_len != 0 {
            state.buffer = section.memory("buffer", state.buffer_len as usize)?.to_vec();
        }
        self.abandon();
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
