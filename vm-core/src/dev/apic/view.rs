//! Its registers at one moment, to be looked at: nothing changes by it.

use super::bits::Bits;
use super::{Entry, LocalApic};

/// The registers of a local APIC, as the manual names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalApicView {
    /// APIC ID.
    pub id: u8,
    /// Task priority.
    pub task_priority: u8,
    /// Processor priority.
    pub processor_priority: u8,
    /// Logical destination.
    pub logical_destination: u8,
    /// Destination format.
    pub destination_format: u32,
    /// Spurious interrupt vector; bit 8: the APIC is on.
    pub spurious: u32,
    /// Errors, those included that the register does not show yet.
    pub errors: u32,
    /// Interrupt command, low and high.
    pub command: [u32; 2],
    /// The entries of the local vector table that there are, with their names.
    pub table: Vec<(&'static str, u32)>,
    /// Timer: initial count, current count, and what the bus clock is divided by.
    pub timer: (u32, u32, u64),
    /// Vectors that are served; true: triggered by level.
    pub in_service: Vec<(u8, bool)>,
    /// Vectors that are requested.
    pub requests: Vec<(u8, bool)>,
}

impl LocalApic {
    /// The registers now.
    pub fn view(&self) -> LocalApicView {
        let state = &self.state;
        let vectors = |bits: &Bits| {
            let set = (0..=u8::MAX).filter(|vector| bits.has(*vector));
            set.map(|vector| (vector, state.trigger_mode.has(vector))).collect()
        };
        let entries = Entry::ALL.into_iter().filter(|entry| self.has_entry(*entry));
        let timer = &state.timer;
        LocalApicView {
            id: state.id,
            task_priority: state.task_priority,
            processor_priority: self.processor_priority(),
            logical_destination: state.logical_destination,
            destination_format: state.destination_format,
            spurious: state.spurious,
            errors: state.errors | state.shown_errors,
            command: state.command,
            table: entries.map(|entry| (entry.name(), self.entry(entry))).collect(),
            timer: (timer.initial(), timer.current(self.wires.clock.now()), timer.divisor()),
            in_service: vectors(&state.in_service),
            requests: vectors(&state.requests),
        }
    }
}
