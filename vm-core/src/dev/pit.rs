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

use serde::{Deserialize, Serialize};

use crate::bus::clock::{Clock, Nanos, nanos_to_ticks, tick_deadline};
use crate::bus::irq::IrqLine;
use crate::dev::Device;
use crate::snapshot::section::{LoadError, Section};

/// The frequency of the chip's clock in hertz.
pub const HERTZ: u64 = 1_193_182;

/// Least distance of two events of counter 0, in ticks of the clock (about 50 µs).
const LEAST_SPACING: u64 = 60;
/// Ticks are owed for at most so many ticks of the clock (two seconds); older ones are lost.
const MOST_OWED: u64 = 2 * HERTZ;

/// Which bytes of a count the guest reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Bytes {
    Low,
    High,
    LowHigh,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Counter {
    /// 0–5.
    mode: u8,
    bcd: bool,
    bytes: Bytes,
    gate: bool,
    /// The count in use, 1–0x10000.
    count: u32,
    /// A count that takes effect later: at the end of the (half) period, or at the next trigger.
    next: Option<u32>,
    /// Tick at which `next` takes effect; `None`: at the next trigger.
    next_at: Option<u64>,
    /// A count has been written since the control word.
    loaded: bool,
    /// Tick from which it counts; `None`: it stands.
    origin: Option<u64>,
    /// Ticks counted before `origin`.
    before: u64,
    /// Rising edges of the output since `origin` that were passed on.
    passed: u64,
    /// Rising edges that happened before the last change of count and were not passed on yet.
    left: u64,
    /// The low byte of a two-byte count that is being written.
    low: Option<u8>,
    /// The next byte read of a two-byte count is the high one.
    read_high: bool,
    latch: Option<u16>,
    status: Option<u8>,
}

impl Counter {
    fn after_reset() -> Self {
        Self {
            mode: 3,
            bcd: false,
            bytes: Bytes::LowHigh,
            gate: true,
            count: 0x10000,
            next: None,
            next_at: None,
            loaded: false,
            origin: None,
            before: 0,
            passed: 0,
            left: 0,
            low: None,
            read_high: false,
            latch: None,
            status: None,
        }
    }

    fn is_periodic(&self) -> bool {
        matches!(self.mode, 2 | 3)
    }

    /// Ticks counted since the load.
    fn elapsed(&self, tick: u64) -> u64 {
        self.before.saturating_add(self.origin.map_or(0, |origin| tick.saturating_sub(origin)))
    }

    /// Ticks for which mode 3 is high in a period of `count`.
    fn high_part(count: u32) -> u64 {
        u64::from(count.div_ceil(2))
    }

    /// Brings in a count whose time has come. At most one can wait.
    fn settle(&mut self, tick: u64) {
        let (Some(next), Some(at)) = (self.next, self.next_at) else { return };
        if tick < at {
            return;
        }
        let (edges, high) = (self.edges(at), self.output(at));
        self.left = self.left.saturating_add(edges.saturating_sub(self.passed));
        self.load(next, at);
        if self.mode == 3 && !high {
            // The new count starts with the low half (data sheet, mode 3).
            self.before = Self::high_part(next);
        }
    }

    /// Starts over with `count` at `tick`.
    fn load(&mut self, count: u32, tick: u64) {
        self.count = count;
        self.next = None;
        self.next_at = None;
        self.before = 0;
        self.passed = 0;
        self.origin = Some(tick);
    }

    /// The level of OUT.
    fn output(&self, tick: u64) -> bool {
        let elapsed = self.elapsed(tick);
        let count = u64::from(self.count);
        if !self.loaded || (self.origin.is_none() && self.is_periodic()) {
            return self.mode != 0;
        }
        match self.mode {
            0 => elapsed >= count,
            // Before its first trigger a one-shot stands high.
            1 => self.origin.is_none() || elapsed >= count,
            2 => elapsed % count != count - 1 || count == 1,
            3 => elapsed % count < Self::high_part(self.count),
            _ => self.origin.is_none() && elapsed == 0 || elapsed != count,
        }
    }

    /// Rising edges of OUT since the load.
    fn edges(&self, tick: u64) -> u64 {
        let elapsed = self.elapsed(tick);
        let count = u64::from(self.count);
        if !self.loaded {
            return 0;
        }
        match self.mode {
            0 | 1 => u64::from(self.origin.is_some() && elapsed >= count),
            2 | 3 => elapsed / count,
            _ => u64::from(self.origin.is_some() && elapsed > count),
        }
    }

    /// The tick of the next rising edge after those passed on.
    fn next_edge(&self) -> Option<u64> {
        let origin = self.origin.filter(|_| self.loaded)?;
        let count = u64::from(self.count);
        let at = match self.mode {
            0 | 1 => (self.passed == 0).then_some(count),
            // Faster than the least spacing, edges come in bunches.
            2 | 3 => Some(self.passed.saturating_add(LEAST_SPACING.div_ceil(count)).saturating_mul(count)),
            _ => (self.passed == 0).then_some(count + 1),
        }?;
        Some(origin.saturating_add(at.saturating_sub(self.before)))
    }

    /// The counting element as the guest reads it.
    fn value(&self, tick: u64) -> u16 {
        let modulus = if self.bcd { 10_000 } else { 0x10000 };
        let elapsed = self.elapsed(tick);
        let count = u64::from(self.count);
        let value = match self.mode {
            2 => count - elapsed % count,
            3 => {
                let (phase, high) = (elapsed % count, Self::high_part(self.count));
                let phase = if phase < high { phase } else { phase - high };
                (count & !1).saturating_sub(2 * phase)
            }
            // The others count on through zero.
            _ => (count + modulus - elapsed % modulus) % modulus,
        } % modulus;
        if self.bcd { to_bcd(value as u16) } else { value as u16 }
    }

    fn status_byte(&self, tick: u64) -> u8 {
        let bytes = match self.bytes {
            Bytes::Low => 0x10,
            Bytes::High => 0x20,
            Bytes::LowHigh => 0x30,
        };
        // Null count: what was written has not reached the counting element.
        let null = !self.loaded || self.next.is_some() || self.origin.is_some_and(|origin| tick < origin);
        u8::from(self.output(tick)) << 7 | u8::from(null) << 6 | bytes | self.mode << 1 | u8::from(self.bcd)
    }

    fn write_control(&mut self, value: u8) {
        let mode = value >> 1 & 7;
        *self = Self {
            mode: if mode > 5 { mode & 3 } else { mode },
            bcd: value & 1 != 0,
            bytes: match value >> 4 & 3 {
                1 => Bytes::Low,
                2 => Bytes::High,
                _ => Bytes::LowHigh,
            },
            gate: self.gate,
            ..Self::after_reset()
        };
    }

    fn write_count(&mut self, value: u8, tick: u64) {
        let raw = match (self.bytes, self.low) {
            (Bytes::Low, _) => u16::from(value),
            (Bytes::High, _) => u16::from(value) << 8,
            (Bytes::LowHigh, None) => {
                self.low = Some(value);
                if self.mode == 0 {
                    // The first byte stops the counting and drops the output at once.
                    self.loaded = false;
                    self.origin = None;
                    self.before = 0;
                    self.passed = 0;
                }
                return;
            }
            (Bytes::LowHigh, Some(low)) => {
                self.low = None;
                u16::from(value) << 8 | u16::from(low)
            }
        };
        let count = self.count_of(raw);
        // The count moves to the counting element with the next clock.
        let start = tick.saturating_add(1);
        match self.mode {
            1 | 5 => {
                self.next = Some(count);
                self.next_at = None;
                self.loaded = true;
            }
            2 | 3 if self.loaded => match self.origin {
                Some(_) => {
                    self.next = Some(count);
                    self.next_at = Some(self.period_end(tick));
                }
                None => self.count = count,
            },
            _ => {
                self.loaded = true;
                self.load(count, start);
                if !self.gate {
                    self.origin = None;
                }
            }
        }
    }

    /// The tick at which the running period (mode 2) or half period (mode 3) ends.
    fn period_end(&self, tick: u64) -> u64 {
        let count = u64::from(self.count);
        let phase = self.elapsed(tick) % count;
        let high = Self::high_part(self.count);
        let end = if self.mode == 3 && phase < high { high } else { count };
        let start = self.origin.map_or(tick, |origin| origin.max(tick));
        start.saturating_add(end - phase)
    }

    fn count_of(&self, raw: u16) -> u32 {
        if self.bcd {
            let digits = (0..4).rev().fold(0, |sum, digit| sum * 10 + u32::from(raw >> (4 * digit) & 15));
            // Digits above 9 are not defined; anything that stays in range will do.
            if digits == 0 { 10_000 } else { digits.min(10_000) }
        } else if raw == 0 {
            0x10000
        } else {
            u32::from(raw)
        }
    }

    fn latch_count(&mut self, tick: u64) {
        if self.latch.is_none() {
            self.latch = Some(self.value(tick));
            self.read_high = false;
        }
    }

    fn read(&mut self, tick: u64) -> u8 {
        if let Some(status) = self.status.take() {
            return status;
        }
        let [low, high] = self.latch.unwrap_or_else(|| self.value(tick)).to_le_bytes();
        let (byte, last) = match self.bytes {
            Bytes::Low => (low, true),
            Bytes::High => (high, true),
            Bytes::LowHigh if self.read_high => (high, true),
            Bytes::LowHigh => (low, false),
        };
        self.read_high = !last;
        if last {
            self.latch = None;
        }
        byte
    }

    fn set_gate(&mut self, gate: bool, tick: u64) {
        let rises = gate && !self.gate;
        let falls = !gate && self.gate;
        self.gate = gate;
        if !self.loaded {
            return;
        }
        match self.mode {
            0 | 4 if falls => {
                self.before = self.elapsed(tick);
                self.origin = None;
            }
            0 | 4 if rises => self.origin = Some(tick),
            2 | 3 if falls => {
                self.before = self.elapsed(tick) % u64::from(self.count);
                self.passed = 0;
                self.origin = None;
                self.next_at = None;
            }
            1 | 2 | 3 | 5 if rises => self.load(self.next.unwrap_or(self.count), tick.saturating_add(1)),
            _ => {}
        }
    }

    fn is_possible(&self) -> bool {
        self.mode <= 5
            && (1..=0x10000).contains(&self.count)
            && self.next.is_none_or(|next| (1..=0x10000).contains(&next))
            && (self.next.is_some() || self.next_at.is_none())
    }
}

fn to_bcd(value: u16) -> u16 {
    (value % 10) | ((value / 10 % 10) << 4) | (value / 100 % 10) << 8 | (value / 1000 % 10) << 12
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::clock::SECOND;
    use crate::bus::irq::{IrqLines, IrqRoutes};
    use crate::bus::signals::Signals;
    use crate::dev::pic::Pic;
    use crate::dev::suite;
    use std::sync::Arc;

    struct Bench {
        pit: Pit,
        clock: Clock,
        lines: Arc<IrqLines>,
    }

    impl Bench {
        fn new() -> Self {
            let (lines, clock) = (Arc::new(IrqLines::default()), Clock::manual());
            let irq = IrqLine::new(&lines, &Arc::new(Signals::new()), 0);
            Self { pit: Pit::new(irq, clock.clone()), clock, lines }
        }

        /// Control word and two bytes of count.
        fn program(&mut self, counter: u16, mode: u8, count: u16) {
            self.pit.write(3, (counter as u8) << 6 | 0x30 | mode << 1);
            self.pit.write(counter, count as u8);
            self.pit.write(counter, (count >> 8) as u8);
        }

        fn at(&mut self, tick: u64) -> &mut Self {
            self.clock.set(tick_deadline(tick, HERTZ));
            self.pit.advance(self.clock.now());
            self
        }

        fn value(&mut self, counter: u16) -> u16 {
            self.pit.write(3, (counter as u8) << 6);
            u16::from(self.pit.read(counter)) | u16::from(self.pit.read(counter)) << 8
        }

        fn output(&mut self, counter: u8) -> bool {
            self.pit.write(3, 0xe0 | 2 << counter);
            self.pit.read(u16::from(counter)) & 0x80 != 0
        }

        fn rose(&self) -> bool {
            self.lines.take_rose() & 1 != 0
        }
    }

    #[test]
    fn waveforms_are_those_of_the_data_sheet() {
        // Mode, count, ticks after the load at which OUT is high, of the first ten. The load is one clock after the write.
        let waves: [(u8, u16, &str); 5] = [
            (0, 4, "____------"),
            (2, 3, "--_--_--_-"),
            (3, 4, "--__--__--"),
            (3, 5, "---__---__"),
            (4, 3, "---_------"),
        ];
        for (mode, count, wave) in waves {
            let mut bench = Bench::new();
            bench.program(0, mode, count);
            for (n, level) in wave.chars().enumerate() {
                assert_eq!(bench.at(1 + n as u64).output(0), level == '-', "mode {mode}, count {count}, clock {n}");
            }
        }
        let mut bench = Bench::new();
        for (mode, wave) in [(1, "___-----"), (5, "---_----")] {
            bench.pit.set_gate_2(false);
            bench.program(2, mode, 3);
            assert!(bench.output(2), "waits for its trigger");
            let start = bench.pit.tick();
            bench.pit.set_gate_2(true);
            for (n, level) in wave.chars().enumerate() {
                assert_eq!(bench.at(start + 1 + n as u64).pit.output_2(), level == '-', "mode {mode}, clock {n}");
            }
        }
    }

    #[test]
    fn counts_are_read_whole_in_binary_and_bcd() {
        let mut bench = Bench::new();
        bench.program(1, 2, 0);
        assert_eq!(bench.at(1).value(1), 0);
        assert_eq!(bench.at(2).value(1), 0xffff);
        bench.program(0, 0, 10);
        assert_eq!(bench.at(2 + 1 + 12).value(0), 0xfffe, "mode 0 counts on through zero");
        bench.pit.write(3, 0x35);
        bench.pit.write(0, 0x00);
        bench.pit.write(0, 0x10);
        assert_eq!(bench.at(15 + 1 + 1).value(0), 0x0999);
        // A latched count stays until it is read.
        bench.pit.write(3, 0x00);
        bench.at(100);
        assert_eq!((bench.pit.read(0), bench.pit.read(0)), (0x99, 0x09));
        // Read back status and count: status comes first.
        bench.pit.write(3, 0xc2);
        assert_eq!(bench.pit.read(0), 0x80 | 0x30 | 2 << 1 | 1);
        assert_eq!((bench.pit.read(0), bench.pit.read(0)), (0x16, 0x09));
        let mut odd = Bench::new();
        odd.program(0, 3, 5);
        let values: Vec<_> = (1..7).map(|tick| odd.at(tick).value(0)).collect();
        assert_eq!(values, [4, 2, 0, 4, 2, 4]);
    }

    #[test]
    fn an_hour_of_ticks_has_no_drift() {
        let mut bench = Bench::new();
        bench.program(0, 2, 11932);
        let mut last = 0;
        while let Some(at) = bench.pit.next_event().filter(|at| *at <= 3600 * SECOND) {
            assert!(at > last);
            last = at;
            bench.clock.set(at);
            bench.pit.advance(at);
            assert!(bench.rose());
        }
        assert_eq!(bench.pit.ticks().delivered, (3600 * HERTZ - 1) / 11932);
        assert_eq!(bench.pit.ticks().late, 0);
    }

    #[test]
    fn late_ticks_are_delivered_late_and_not_lost() {
        let mut bench = Bench::new();
        bench.program(0, 2, 1000);
        bench.rose();
        bench.at(1 + 4000);
        assert_eq!(bench.pit.ticks(), Ticks { delivered: 1, owed: 3, late: 3, lost: 0 });
        let mut events = 0;
        while bench.pit.ticks().owed > 0 {
            let at = bench.pit.next_event().expect("ticks are owed");
            bench.clock.set(at);
            bench.pit.advance(at);
            assert!(bench.rose());
            events += 1;
        }
        assert_eq!(events, 5, "three owed ones among the regular ones, at most twice as fast");
        assert_eq!(bench.pit.ticks().delivered, bench.pit.state.counters[0].edges(bench.pit.tick()));
        bench.at(HERTZ * 100);
        assert!(bench.pit.ticks().owed <= 2 * HERTZ / 1000 && bench.pit.ticks().lost > 0, "but not for ever");
    }

    #[test]
    fn a_tick_that_the_processor_has_not_taken_is_owed() {
        let mut bench = Bench::new();
        let mut pic = Pic::new(&bench.lines, &IrqRoutes::default());
        bench.program(0, 3, 1000);
        pic.sync();
        pic.acknowledge();
        pic.write(0, 0x20);
        for tick in 1..=3 {
            bench.at(1 + 1000 * tick);
            pic.sync();
        }
        assert_eq!(bench.pit.ticks(), Ticks { delivered: 1, owed: 2, late: 2, lost: 0 });
        pic.write(1, 1);
        bench.at(4001);
        assert_eq!(bench.pit.ticks().owed, 2, "a masked input owes nothing new");
    }

    #[test]
    fn a_new_count_waits_for_the_end_of_the_period() {
        let mut bench = Bench::new();
        bench.program(0, 2, 100);
        bench.at(51);
        bench.pit.write(0, 40);
        bench.pit.write(0, 0);
        assert_eq!(bench.value(0), 50);
        assert_eq!(bench.at(101).value(0), 40);
        let before = bench.pit.ticks().delivered;
        bench.at(141);
        assert_eq!(bench.pit.ticks().delivered, before + 1);
        bench.program(2, 3, 100);
        bench.pit.set_gate_2(true);
        assert!(bench.at(142 + 49).pit.output_2());
        bench.pit.write(2, 20);
        bench.pit.write(2, 0);
        assert!(!bench.at(142 + 50).pit.output_2());
        assert!(bench.at(142 + 60).pit.output_2(), "the low half is already the new one");
    }

    #[test]
    fn any_guest_and_any_file() {
        let bench = || {
            let mut bench = Bench::new();
            bench.clock.set(12345);
            bench.program(1, 2, 7);
            bench.pit
        };
        suite::check(bench, |pit| {
            for (offset, value) in [(3, 0x34), (0, 0x9c), (0, 0x2e), (3, 0xb6), (2, 5), (3, 0xce)] {
                pit.write(offset, value);
            }
        });
        let Bench { pit, clock, .. } = Bench::new();
        suite::hammer(pit, 40_000, |pit, random, now| {
            clock.set(now);
            match random.below(4) {
                0 => pit.set_gate_2(random.below(2) == 0),
                1 => _ = pit.read(random.below(5) as u16),
                _ => pit.write(random.below(5) as u16, random.next() as u8),
            }
            pit.output_2();
        });
    }
}
