//! Interrupt request lines between chips and the interrupt controller.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::signals::Signals;

/// The interrupt request wires of a board. The board feeds them to the interrupt controller.
#[derive(Debug, Default)]
pub struct IrqLines {
    level: AtomicU32,
    rose: AtomicU32,
    /// What the interrupt controller says of its requests: unmasked, and not yet acknowledged.
    pending: AtomicU32,
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

    /// The interrupt controller publishes which requests wait, unmasked, for the processor to acknowledge them.
    pub fn set_pending(&self, requests: u32) {
        self.pending.store(requests, Ordering::Relaxed);
    }
}

/// The number of the first of the four lines that stand for the PCI interrupt requests PIRQA#–PIRQD#.
pub const FIRST_PIRQ: u32 = 16;

/// Which of the interrupt controller's inputs each of PIRQA#–PIRQD# is steered to: written by the ISA bridge,
/// read by the interrupt controller. Clones are the same wires.
#[derive(Clone, Debug, Default)]
pub struct PirqRoutes(Arc<AtomicU32>);

impl PirqRoutes {
    /// Steers each PIRQ to an input (0–15) or to none.
    pub fn set(&self, routes: [Option<u8>; 4]) {
        let bytes = routes.map(|route| route.map_or(0, |input| input & 15 | 0x80));
        self.0.store(u32::from_le_bytes(bytes), Ordering::Relaxed);
    }

    /// `lines` as the controller's 16 inputs see them: 0–15 as they are, and 16–19 where they are steered to.
    pub fn apply(&self, lines: u32) -> u16 {
        let mut inputs = lines as u16;
        for (pirq, route) in self.0.load(Ordering::Relaxed).to_le_bytes().into_iter().enumerate() {
            if route & 0x80 != 0 && lines >> (FIRST_PIRQ as usize + pirq) & 1 != 0 {
                inputs |= 1 << (route & 15);
            }
        }
        inputs
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

    /// Whether the last rise still waits, unmasked, for the processor to acknowledge it.
    pub fn is_pending(&self) -> bool {
        self.lines.pending.load(Ordering::Relaxed) & self.bit != 0
    }
}
