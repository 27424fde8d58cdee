//! The chips of a PC, one a file.
//!
//! A chip is `{ state, wires }`: `state` is plain data that serde writes out; `wires` are its interrupt lines, clock
//! and memory. A chip gets offsets and never learns where it sits; it knows no other chip. Only
//! [`crate::machine::board`] knows who sits where.

pub mod apic;
pub mod backlog;
pub mod bytes;
pub mod debug_exit;
pub mod debug_port;
pub mod dma;
pub mod fdc;
pub mod fw_cfg;
pub mod hpet;
pub mod i440fx;
pub mod i8042;
pub mod ide;
pub mod ioapic;
pub mod keyboard;
pub mod medium;
pub mod mouse;
pub mod pci;
pub mod pic;
pub mod piix3;
pub mod pit;
pub mod pm;
pub mod rtc;
pub mod serial;
pub mod speaker;
#[cfg(test)]
pub mod suite;
pub mod vga;
pub mod vmmouse;

use crate::bus::clock::Nanos;
use crate::snapshot::section::{LoadError, Section};

/// What every chip can do, whatever it is.
pub trait Device {
    /// The name of its section in a saved state: unique on a board, never changed (`"pic"`, `"ide0"` …).
    fn name(&self) -> &'static str;

    /// Puts the chip into its state after power-on or a reset of the board. Doing it twice is doing it once.
    fn reset(&mut self);

    /// When the chip next has to do something by itself, in guest time. Computed from an absolute origin.
    fn next_event(&self) -> Option<Nanos> {
        None
    }

    /// Does all that is due at `now`, and takes in what the host has ready (finished disk requests, bytes from a
    /// serial line). Called when the deadline has passed and whenever somebody raised attention.
    fn advance(&mut self, now: Nanos) {
        let _ = now;
    }

    /// The chip's state.
    fn save(&self) -> Section;

    /// Takes over a saved state: decodes, validates everything, only then assigns, then puts its wires at the right
    /// level without raising edges. On an error nothing has changed.
    ///
    /// # Errors
    /// Where the section is of another kind, of a newer version, or holds a value that the chip cannot have.
    fn load(&mut self, section: &Section) -> Result<(), LoadError>;
}
