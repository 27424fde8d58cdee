//! Interrupt request lines between chips and the interrupt controller.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::signals::Signals;

/// The interrupt request wires of a board. The board feeds them to the interrupt controller.
#[derive(Debug, Default)]
pub struct IrqLines {
    level: AtomicU32,
    rose: AtomicU32,
}

impl IrqLines {
    /// The level of every line, bit n for line n.
    pub fn level(&self) -> u32 {
        self.level.load(Ordering::Relaxed)
    }

    /// Lines that rose since the last call, whatever their level is now.
    pub fn take_rose(&self) -> u32 {
        self.rose.swap(0, Ordering::Relaxed)
    }
}

/// One line, held by the device that drives it.
#[derive(Clone, Debug)]
pub struct IrqLine {
    lines: Arc<IrqLines>,
    signals: Arc<Signals>,
    bit: u32,
}

impl IrqLine {
    /// Line `number` (0–31) of `lines`; a change asks the processor for attention.
    ///
    /// # Panics
    /// Where `number` is above 31.
    pub fn new(lines: &Arc<IrqLines>, signals: &Arc<Signals>, number: u32) -> Self {
        assert!(number < 32, "a board has 32 interrupt lines");
        Self { lines: Arc::clone(lines), signals: Arc::clone(signals), bit: 1 << number }
    }

    /// Drives the line.
    pub fn set(&self, high: bool) {
        if high {
            let before = self.lines.level.fetch_or(self.bit, Ordering::Relaxed);
            if before & self.bit == 0 {
                self.lines.rose.fetch_or(self.bit, Ordering::Relaxed);
                self.signals.raise();
            }
        } else {
            let before = self.lines.level.fetch_and(!self.bit, Ordering::Relaxed);
            if before & self.bit != 0 {
                self.signals.raise();
            }
        }
    }

    /// Puts the line at a level without an edge: for a restored device.
    pub fn restore(&self, high: bool) {
        if high {
            self.lines.level.fetch_or(self.bit, Ordering::Relaxed);
        } else {
            self.lines.level.fetch_and(!self.bit, Ordering::Relaxed);
        }
    }

    /// The level now.
    pub fn is_high(&self) -> bool {
        self.lines.level() & self.bit != 0
    }
}
