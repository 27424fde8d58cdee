//! Interrupt request lines between chips and the interrupt controller.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::signals::Signals;

/// The interrupt request wires of a board: 0–15 are the inputs of the 8259s, 16–19 PIRQA#–PIRQD#, 20–23 inputs that only the I/O APIC has,
/// 24 and 25 the timers that can stand in place of lines 0 and 8.
#[derive(Debug, Default)]
pub struct IrqLines {
    level: AtomicU32,
    /// Lines that rose and that the 8259s, or the I/O APIC, have not looked at since.
    rose: AtomicU32,
    rose_for_apic: AtomicU32,
    /// What the controllers say of their requests: unmasked, and not yet acknowledged.
    pending: AtomicU32,
    apic_pending: AtomicU32,
    moved: AtomicBool,
}

impl IrqLines {
    /// The level of every line, bit n for line n.
    pub fn level(&self) -> u32 {
        self.level.load(Ordering::Relaxed)
    }

    /// Lines that rose since the last call, whatever their level is now: for the 8259s.
    pub fn take_rose(&self) -> u32 {
        self.rose.swap(0, Ordering::Relaxed)
    }

    /// The same for the I/O APIC.
    pub fn take_rose_for_apic(&self) -> u32 {
        self.rose_for_apic.swap(0, Ordering::Relaxed)
    }

    /// Whether a line has moved since the last call.
    pub fn take_moved(&self) -> bool {
        self.moved.load(Ordering::Relaxed) && self.moved.swap(false, Ordering::Relaxed)
    }

    /// The 8259s publish which lines have requests that wait, unmasked, for the processor to acknowledge them.
    pub fn set_pending(&self, lines: u32) {
        self.pending.store(lines, Ordering::Relaxed);
    }

    /// The same for the I/O APIC.
    pub fn set_apic_pending(&self, lines: u32) {
        self.apic_pending.store(lines, Ordering::Relaxed);
    }
}

/// The number of the first of the four lines that stand for the PCI interrupt requests PIRQA#–PIRQD#.
pub const FIRST_PIRQ: u32 = 16;

/// The number of the first of the inputs that only the I/O APIC has.
pub const FIRST_APIC_ONLY: u32 = 20;
const APIC_ONLY: u32 = 0x00f0_0000;

/// The numbers of the lines that stand in place of lines 0 and 8 with the HPET's legacy replacement.
pub const LEGACY_LINES: [u32; 2] = [24, 25];
/// The lines that they replace.
const REPLACED: u32 = 1 << 0 | 1 << 8;

/// How lines reach the inputs of the interrupt controllers: which input each of PIRQA#–PIRQD# is steered to (written by the ISA bridge), and
/// who drives inputs 0 and 8 (said by the HPET). Clones are the same wires.
#[derive(Clone, Debug, Default)]
pub struct IrqRoutes(Arc<Routes>);

#[derive(Debug, Default)]
struct Routes {
    pirq: AtomicU32,
    legacy_replacement: AtomicBool,
}

impl IrqRoutes {
    /// Steers each PIRQ to an input (0–15) or to none.
    pub fn set(&self, routes: [Option<u8>; 4]) {
        let bytes = routes.map(|route| route.map_or(0, |input| input & 15 | 0x80));
        self.0.pirq.store(u32::from_le_bytes(bytes), Ordering::Relaxed);
    }

    /// Puts the lines [`LEGACY_LINES`] in place of lines 0 and 8.
    pub fn set_legacy_replacement(&self, on: bool) {
        self.0.legacy_replacement.store(on, Ordering::Relaxed);
    }

    fn replaced(&self) -> bool {
        self.0.legacy_replacement.load(Ordering::Relaxed)
    }

    /// `lines` as the I/O APIC's 24 inputs see them: as the 8259s do, but the timer is on input 2, and 20–23 are its own.
    pub fn apic_inputs(&self, lines: u32) -> u32 {
        let inputs = u32::from(self.apply(lines));
        inputs & !0b101 | (inputs & 1) << 2 | lines & APIC_ONLY
    }

    /// The lines that drive these inputs of the 8259s; of PIRQs it says nothing.
    pub fn lines_of_inputs(&self, inputs: u32) -> u32 {
        let [timer, clock] = LEGACY_LINES;
        if self.replaced() { inputs & !REPLACED | (inputs & 1) << timer | (inputs >> 8 & 1) << clock } else { inputs }
    }

    /// The same for inputs of the I/O APIC.
    pub fn lines_of_apic_inputs(&self, inputs: u32) -> u32 {
        self.lines_of_inputs(inputs & !0b101 | inputs >> 2 & 1)
    }

    /// `lines` as the 16 inputs of the 8259s see them: 0–15 as they are (or what replaces them), and 16–19 where they are steered to.
    pub fn apply(&self, lines: u32) -> u16 {
        let mut inputs = lines as u16;
        if self.replaced() {
            let [timer, clock] = LEGACY_LINES;
            inputs = inputs & !(REPLACED as u16) | (lines >> timer & 1) as u16 | ((lines >> clock & 1) << 8) as u16;
        }
        for (pirq, route) in self.0.pirq.load(Ordering::Relaxed).to_le_bytes().into_iter().enumerate() {
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
                self.lines.rose_for_apic.fetch_or(self.bit, Ordering::Relaxed);
                self.lines.moved.store(true, Ordering::Relaxed);
                self.signals.raise();
            }
        } else {
            let before = self.lines.level.fetch_and(!self.bit, Ordering::Relaxed);
            if before & self.bit != 0 {
                self.lines.moved.store(true, Ordering::Relaxed);
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
        (self.lines.pending.load(Ordering::Relaxed) | self.lines.apic_pending.load(Ordering::Relaxed)) & self.bit != 0
    }
}
