//! 8254 interval timer.
//!
//! Intel 8254 data sheet (231164-005).
//!
//! | port | offset | what |
//! |---|---|---|
//! | 0x40 | 0 | counter 0: drives IRQ 0 |
//! | 0x41 | 1 | counter 1: memory refresh |
//! | 0x42 | 2 | counter 2: gate and output at port 0x61 |
//! | 0x43 | 3 | control word, write only |
//!
//! Nothing counts here. A counter remembers the tick of its clock at which it was loaded; its value, its output and its next edge
//! are functions of that and of guest time. Ticks of counter 0 that the guest could not take in time are owed to it: they follow
//! at up to twice the programmed rate, and are counted ([`Pit::ticks`]).

mod counter;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::bus::clock::{Clock, Nanos, nanos_to_ticks, tick_deadline};
use crate::bus::irq::IrqLine;
use crate::dev::Device;
use crate::snapshot::section::{LoadError, Section};
use counter::Counter;

/// The frequency of the chip's clock in hertz.
pub const HERTZ: u64 = 1_193_182;

/// Least distance of two events of counter 0, in ticks of the clock (about 50 µs).
const LEAST_SPACING: u64 = 60;
/// Ticks are owed for at most so many ticks of the clock (two seconds); older ones are lost.
const MOST_OWED: u64 = 2 * HERTZ;

/// What became of the ticks of counter 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticks {
    /// Rising edges passed on.
    pub delivered: u64,
    /// Ticks that the guest still gets.
    pub owed: u64,
    /// Ticks that came late.
    pub late: u64,
    /// Ticks given up because too many were owed.
    pub lost: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PitState {
    counters: [Counter; 3],
    ticks: Ticks,
    /// Clock tick before which no owed tick is passed on.
    owed_from: u64,
    /// The level that counter 0 drives.
    line: bool,
}

impl PitState {
    fn after_reset() -> Self {
        let mut counters = [(); 3].map(|()| Counter::after_reset());
        counters[2].gate = false;
        Self { counters, ticks: Ticks::default(), owed_from: 0, line: false }
    }
}

#[derive(Debug)]
struct PitWires {
    irq: IrqLine,
    clock: Clock,
}

/// The timer.
#[derive(Debug)]
pub struct Pit {
    state: PitState,
    wires: PitWires,
}

impl Pit {
    /// A timer whose counter 0 drives `irq`.
    pub fn new(irq: IrqLine, clock: Clock) -> Self {
        Self { state: PitState::after_reset(), wires: PitWires { irq, clock } }
    }

    fn tick(&self) -> u64 {
        nanos_to_ticks(self.wires.clock.now(), HERTZ)
    }

    /// Reads the register at `offset` (0–3).
    pub fn read(&mut self, offset: u16) -> u8 {
        let tick = self.tick();
        self.settle(tick);
        match offset {
            0..=2 => self.state.counters[usize::from(offset)].read(tick),
            // The control word cannot be read.
            _ => 0xff,
        }
    }

    /// Writes the register at `offset` (0–3).
    pub fn write(&mut self, offset: u16, value: u8) {
        let tick = self.tick();
        self.settle(tick);
        self.pass_on(tick);
        match offset {
            0..=2 => self.write_count(usize::from(offset), value, tick),
            3 if value >= 0xc0 => self.read_back(value, tick),
            3 if value & 0x30 == 0 => self.state.counters[usize::from(value >> 6)].latch_count(tick),
            3 => self.write_control(value, tick),
            _ => {}
        }
    }

    fn settle(&mut self, tick: u64) {
        for counter in &mut self.state.counters {
            counter.settle(tick);
        }
    }

    fn write_count(&mut self, number: usize, value: u8, tick: u64) {
        self.state.counters[number].write_count(value, tick);
        if number == 0 {
            self.follow_output(tick);
        }
    }

    fn write_control(&mut self, value: u8, tick: u64) {
        let number = usize::from(value >> 6);
        self.state.counters[number].write_control(value);
        if number == 0 {
            // A new rate owes nothing for the old one.
            self.state.ticks.owed = 0;
            self.follow_output(tick);
        }
    }

    /// After the guest has written to counter 0: the line is where the output is. Between edges of the periodic modes it stays
    /// high, so that a tick is a request until it is acknowledged or the next one comes.
    fn follow_output(&mut self, tick: u64) {
        let counter = &self.state.counters[0];
        let high = counter.is_periodic() || counter.output(tick);
        self.drive(high);
    }

    fn drive(&mut self, high: bool) {
        self.state.line = high;
        self.wires.irq.set(high);
    }

    fn read_back(&mut self, value: u8, tick: u64) {
        for (number, counter) in self.state.counters.iter_mut().enumerate() {
            if value >> (number + 1) & 1 == 0 {
                continue;
            }
            if value & 0x20 == 0 {
                counter.latch_count(tick);
            }
            if value & 0x10 == 0 && counter.status.is_none() {
                counter.status = Some(counter.status_byte(tick));
            }
        }
    }

    /// Passes edges of counter 0 on to its interrupt line.
    fn pass_on(&mut self, tick: u64) {
        let counter = &mut self.state.counters[0];
        let edges = counter.edges(tick);
        let fresh = edges.saturating_sub(counter.passed).saturating_add(counter.left);
        counter.passed = edges;
        counter.left = 0;
        let periodic = counter.is_periodic();
        let count = u64::from(counter.count);
        if !periodic {
            if fresh > 0 {
                self.edge();
            }
            return;
        }
        let ticks = &mut self.state.ticks;
        let waiting = self.wires.irq.is_pending();
        let owed_due = ticks.owed > 0 && tick >= self.state.owed_from;
        // One of the new ticks goes out at once where the line is free; the rest is owed.
        let mut now = u64::from(fresh > 0 && !waiting);
        let late = fresh - now;
        if late > 0 {
            ticks.late = ticks.late.saturating_add(late);
            let most = (MOST_OWED / count).max(1);
            let owed = ticks.owed.saturating_add(late);
            ticks.owed = owed.min(most);
            ticks.lost = ticks.lost.saturating_add(owed - ticks.owed);
        } else if owed_due && now == 0 && !waiting {
            ticks.owed -= 1;
            now = 1;
        }
        if ticks.owed > 0 && (fresh > 0 || owed_due) {
            self.state.owed_from = tick.saturating_add((count / 2).max(LEAST_SPACING));
        }
        if now > 0 {
            self.edge();
        }
    }

    fn edge(&mut self) {
        self.state.ticks.delivered = self.state.ticks.delivered.saturating_add(1);
        self.drive(false);
        self.drive(true);
    }

    /// The level of OUT 2.
    pub fn output_2(&mut self) -> bool {
        let tick = self.tick();
        self.settle(tick);
        self.state.counters[2].output(tick)
    }

    /// Drives GATE 2.
    pub fn set_gate_2(&mut self, high: bool) {
        let tick = self.tick();
        self.settle(tick);
        self.state.counters[2].set_gate(high, tick);
    }

    /// Frequency in hertz of the square wave that counter 2 makes now, for the speaker.
    pub fn tone(&self) -> Option<f64> {
        let counter = &self.state.counters[2];
        (counter.mode == 3 && counter.origin.is_some()).then(|| HERTZ as f64 / f64::from(counter.count))
    }

    /// What became of the ticks of counter 0.
    pub fn ticks(&self) -> Ticks {
        self.state.ticks
    }
}

impl Device for Pit {
    fn name(&self) -> &'static str {
        "pit"
    }

    fn reset(&mut self) {
        self.state = PitState::after_reset();
        self.wires.irq.set(false);
    }

    fn next_event(&self) -> Option<Nanos> {
        let counter = &self.state.counters[0];
        let edge = counter.next_at.into_iter().chain(counter.next_edge()).min();
        let owed = (self.state.ticks.owed > 0 && counter.is_periodic()).then_some(self.state.owed_from);
        edge.into_iter().chain(owed).min().map(|tick| tick_deadline(tick, HERTZ))
    }

    fn advance(&mut self, now: Nanos) {
        let tick = nanos_to_ticks(now, HERTZ);
        self.settle(tick);
        self.pass_on(tick);
    }

    fn save(&self) -> Section {
        Section::encode(self.name(), 1, &self.state)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let state: PitState = section.decode(self.name(), 1)?;
        if !state.counters.iter().all(Counter::is_possible) {
            return Err(LoadError::invalid(self.name(), "a counter has a mode or a count that does not exist"));
        }
        self.state = state;
        self.wires.irq.restore(self.state.line);
        Ok(())
    }
}
