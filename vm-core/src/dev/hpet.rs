//! High precision event timers: a counter of 64 bits and three comparators.
//!
//! IA-PC HPET specification 1.0a. Registers of 64 bits in 1 KiB (0xFED00000); halves can be accessed by themselves.
//!
//! | offset | what |
//! |---|---|
//! | 0x000 | capabilities, ID, period of the counter |
//! | 0x010 | enable, legacy replacement |
//! | 0x020 | interrupt status, of timers triggered by level |
//! | 0x0F0 | main counter |
//! | 0x100 + 0x20 n | timer n: configuration and capabilities; comparator |
//!
//! The counter is a function of guest time. With legacy replacement timer 0 is the PC's timer (IRQ 0) and timer 1 its clock (IRQ 8), whose own
//! lines the board then takes off; else a timer drives the input of the I/O APIC that it is routed to. Messages to the front-side bus are not there.

use serde::{Deserialize, Serialize};

use crate::bus::Width;
use crate::bus::clock::{Clock, Nanos, nanos_to_ticks, tick_deadline, ticks_to_nanos};
use crate::bus::irq::{IrqLine, IrqRoutes};
use crate::dev::Device;
use crate::dev::backlog::Backlog;
use crate::snapshot::section::{LoadError, Section};

/// The rate of the main counter.
pub const HERTZ: u64 = 100_000_000;
/// Bytes of registers.
pub const SIZE: u64 = 0x400;
/// Comparators.
pub const TIMERS: usize = 3;
/// First of the inputs of the I/O APIC that timers can be routed to, and how many there are.
pub const FIRST_ROUTE: u32 = 20;
/// See [`FIRST_ROUTE`].
pub const ROUTES: usize = 4;

/// Femtoseconds of a count, in the upper half; Intel's ID, legacy replacement, 64 bits, three timers, revision 1.
const CAPABILITIES: u64 =
    (1_000_000_000_000_000 / HERTZ) << 32 | 0x8086_0000 | 1 << 15 | 1 << 13 | (TIMERS as u64 - 1) << 8 | 1;

/// General configuration.
const ENABLE: u64 = 1 << 0;
const LEGACY: u64 = 1 << 1;

/// Timer configuration: what can be written …
const LEVEL: u64 = 1 << 1;
const INTERRUPT: u64 = 1 << 2;
const PERIODIC: u64 = 1 << 3;
const SET_VALUE: u64 = 1 << 6;
const NARROW: u64 = 1 << 8;
const ROUTE: u64 = 0x1f << 9;
const WRITABLE: u64 = LEVEL | INTERRUPT | PERIODIC | SET_VALUE | NARROW | ROUTE;
/// … and what is wired: 64 bits, periodic mode, the inputs of the I/O APIC that it can reach.
const WIRED: u64 = 1 << 4 | 1 << 5 | (((1 << ROUTES) - 1) << FIRST_ROUTE) << 32;

/// Of a shorter period than 20 µs only so many late ticks are owed as if it were this: they could not be served anyway.
const SHORTEST: u64 = HERTZ / 50_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Timer {
    config: u64,
    comparator: u64,
    period: u64,
    /// Tick of guest time at which counter and comparator are next equal, while the counter runs.
    next: Option<u64>,
    ticks: Backlog,
}

impl Timer {
    fn after_reset() -> Self {
        Self { comparator: u64::MAX, ..Self::default() }
    }

    fn mask(&self) -> u64 {
        if self.config & NARROW != 0 { 0xffff_ffff } else { u64::MAX }
    }

    fn is_periodic(&self) -> bool {
        self.config & PERIODIC != 0 && self.period & self.mask() != 0
    }

    /// Finds the next match, where the counter is at `counter` at `tick`.
    fn aim(&mut self, counter: u64, tick: u64) {
        self.ticks.forget();
        self.next = tick.checked_add(self.comparator.wrapping_sub(counter) & self.mask());
    }

    /// The matches up to `tick`; goes on to the one after.
    fn matches(&mut self, tick: u64) -> u64 {
        let Some(next) = self.next.filter(|next| *next <= tick) else { return 0 };
        if self.is_periodic() {
            let period = self.period & self.mask();
            let count = (tick - next) / period + 1;
            self.comparator = self.comparator.wrapping_add(period.wrapping_mul(count)) & self.mask();
            self.next = count.checked_mul(period).and_then(|forward| next.checked_add(forward));
            count
        } else {
            // Equal again when the counter has been round once.
            let round = u128::from(self.mask()) + 1;
            self.next = u64::try_from(u128::from(next) + (u128::from(tick - next) / round + 1) * round).ok();
            1
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct HpetState {
    config: u64,
    status: u8,
    /// The main counter while it stands; while it runs, what it is ahead of the ticks of guest time.
    counter: u64,
    timers: [Timer; TIMERS],
}

impl HpetState {
    fn after_reset() -> Self {
        Self { config: 0, status: 0, counter: 0, timers: [Timer::after_reset(); TIMERS] }
    }
}

/// The interrupt lines of the timers.
#[derive(Debug)]
pub struct HpetLines {
    /// In place of the timer's IRQ 0 and the clock's IRQ 8.
    pub legacy: [IrqLine; 2],
    /// To inputs of the I/O APIC, from [`FIRST_ROUTE`] up.
    pub routed: [IrqLine; ROUTES],
}

#[derive(Debug)]
struct HpetWires {
    lines: HpetLines,
    routes: IrqRoutes,
    clock: Clock,
}

/// The timers.
#[derive(Debug)]
pub struct Hpet {
    state: HpetState,
    wires: HpetWires,
}

impl Hpet {
    /// Timers that drive `lines` and tell `routes` when they stand for the PC's timer and clock.
    pub fn new(lines: HpetLines, routes: &IrqRoutes, clock: Clock) -> Self {
        let wires = HpetWires { lines, routes: routes.clone(), clock };
        Self { state: HpetState::after_reset(), wires }
    }

    fn tick(&self) -> u64 {
        nanos_to_ticks(self.wires.clock.now(), HERTZ)
    }

    fn runs(&self) -> bool {
        self.state.config & ENABLE != 0
    }

    fn is_legacy(&self) -> bool {
        self.state.config & (ENABLE | LEGACY) == ENABLE | LEGACY
    }

    fn counter(&self, tick: u64) -> u64 {
        if self.runs() { self.state.counter.wrapping_add(tick) } else { self.state.counter }
    }

    /// The line of a timer now.
    fn line(&self, number: usize) -> Option<&IrqLine> {
        if self.is_legacy() && number < 2 {
            return Some(&self.wires.lines.legacy[number]);
        }
        let route = (self.state.timers[number].config & ROUTE) >> 9;
        self.wires.lines.routed.get((route as usize).checked_sub(FIRST_ROUTE as usize)?)
    }

    /// Reads at `offset` (below [`SIZE`]).
    pub fn read(&mut self, offset: u32, width: Width) -> u64 {
        let tick = self.tick();
        self.pass(tick);
        let register = match offset & 0x3f8 {
            0x000 => CAPABILITIES,
            0x010 => self.state.config,
            0x020 => u64::from(self.state.status),
            0x0f0 => self.counter(tick),
            at => match Self::timer_register(at) {
                Some((number, 0)) => self.state.timers[number].config | WIRED,
                Some((number, 8)) => self.state.timers[number].comparator,
                _ => 0,
            },
        };
        register >> (8 * (offset & 7)) & width.mask()
    }

    /// The timer and the offset in its block.
    fn timer_register(offset: u32) -> Option<(usize, u32)> {
        let number = (offset.checked_sub(0x100)? >> 5) as usize;
        (number < TIMERS).then_some((number, offset & 0x18))
    }

    /// Writes at `offset` (below [`SIZE`]), 32 or 64 bits; other widths are not defined and do nothing.
    pub fn write(&mut self, offset: u32, width: Width, value: u64) {
        if !matches!(width, Width::Dword | Width::Qword) {
            return;
        }
        let tick = self.tick();
        self.pass(tick);
        let shift = 8 * (offset & 4);
        // The register's bits that are written, and their place in it.
        let (mask, value) = (width.mask() << shift, (value & width.mask()) << shift);
        match offset & 0x3f8 {
            0x010 => self.write_config(self.state.config & !mask | value, tick),
            0x020 => self.clear_status(value as u8),
            0x0f0 => self.write_counter(self.counter(tick) & !mask | value, tick),
            at => match Self::timer_register(at) {
                Some((number, 0)) => self.write_timer_config(number, mask, value, tick),
                Some((number, 8)) => self.write_comparator(number, mask, value, tick),
                _ => {}
            },
        }
    }

    fn write_config(&mut self, value: u64, tick: u64) {
        let counter = self.counter(tick);
        self.state.config = value & (ENABLE | LEGACY);
        self.write_counter(counter, tick);
        self.wires.routes.set_legacy_replacement(self.is_legacy());
        self.drive();
    }

    fn write_counter(&mut self, value: u64, tick: u64) {
        let runs = self.runs();
        self.state.counter = if runs { value.wrapping_sub(tick) } else { value };
        for timer in &mut self.state.timers {
            if runs {
                timer.aim(value, tick);
            } else {
                timer.next = None;
                timer.ticks.forget();
            }
        }
    }

    fn write_timer_config(&mut self, number: usize, mask: u64, value: u64, tick: u64) {
        let counter = self.counter(tick);
        let runs = self.runs();
        let timer = &mut self.state.timers[number];
        timer.config = (timer.config & !mask | value) & WRITABLE;
        if timer.config & NARROW != 0 {
            timer.comparator &= 0xffff_ffff;
            timer.period &= 0xffff_ffff;
        }
        if timer.config & LEVEL == 0 {
            self.state.status &= !(1 << number);
        }
        let timer = &mut self.state.timers[number];
        if runs {
            timer.aim(counter, tick);
        }
        self.drive();
    }

    /// 2.3.9.2.2: a write sets the comparator; in periodic mode it sets the period, and the comparator only with `SET_VALUE`, once.
    fn write_comparator(&mut self, number: usize, mask: u64, value: u64, tick: u64) {
        let counter = self.counter(tick);
        let runs = self.runs();
        let timer = &mut self.state.timers[number];
        let limit = timer.mask();
        let periodic = timer.config & PERIODIC != 0;
        if !periodic || timer.config & SET_VALUE != 0 {
            timer.comparator = (timer.comparator & !mask | value) & limit;
        }
        if periodic {
            timer.period = (timer.period & !mask | value) & limit;
        }
        // The two halves of a write of 64 bits belong together.
        if mask >> 32 != 0 || timer.config & NARROW != 0 {
            timer.config &= !SET_VALUE;
        }
        if runs {
            timer.aim(counter, tick);
        }
    }

    fn clear_status(&mut self, bits: u8) {
        self.state.status &= !bits;
        self.drive();
    }

    /// Takes in what the timers have done up to `tick`.
    fn pass(&mut self, tick: u64) {
        if !self.runs() {
            return;
        }
        let now = self.wires.clock.now();
        for number in 0..TIMERS {
            let fresh = self.state.timers[number].matches(tick);
            let timer = &self.state.timers[number];
            let (level, open) = (timer.config & LEVEL != 0, timer.config & INTERRUPT != 0);
            if level {
                if fresh > 0 {
                    self.state.status |= 1 << number;
                    self.drive();
                }
                continue;
            }
            let line = self.line(number);
            let waiting = line.is_some_and(IrqLine::is_pending);
            let due = if !open {
                self.state.timers[number].ticks.forget();
                false
            } else if timer.is_periodic() {
                let period = ticks_to_nanos((timer.period & timer.mask()).max(SHORTEST), HERTZ);
                self.state.timers[number].ticks.offer(fresh, waiting, period, now)
            } else {
                fresh > 0
            };
            if due && let Some(line) = self.line(number) {
                line.set(true);
                line.set(false);
            }
        }
    }

    /// The level that a line should have: timers triggered by level whose status is set.
    fn level_of(&self, line: &IrqLine) -> bool {
        (0..TIMERS).any(|number| {
            let config = self.state.timers[number].config;
            config & LEVEL != 0
                && config & INTERRUPT != 0
                && self.state.status >> number & 1 != 0
                && self.line(number).is_some_and(|own| std::ptr::eq(own, line))
        })
    }

    fn drive(&self) {
        for line in self.all_lines() {
            line.set(self.level_of(line));
        }
    }

    fn all_lines(&self) -> impl Iterator<Item = &IrqLine> {
        self.wires.lines.legacy.iter().chain(&self.wires.lines.routed)
    }
}

impl Device for Hpet {
    fn name(&self) -> &'static str {
        "hpet"
    }

    fn reset(&mut self) {
        self.state = HpetState::after_reset();
        self.wires.routes.set_legacy_replacement(false);
        self.drive();
    }

    fn next_event(&self) -> Option<Nanos> {
        let due = |timer: &Timer| {
            let wanted = timer.config & (INTERRUPT | LEVEL) != 0;
            let next = timer.next.filter(|_| wanted).map(|tick| tick_deadline(tick, HERTZ));
            next.into_iter().chain(timer.ticks.next_event()).min()
        };
        self.state.timers.iter().filter_map(due).min()
    }

    fn advance(&mut self, now: Nanos) {
        self.pass(nanos_to_ticks(now, HERTZ));
    }

    fn save(&self) -> Section {
        Section::encode(self.name(), 1, &self.state)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let state: HpetState = section.decode(self.name(), 1)?;
        let timer = |timer: &Timer| {
            timer.config & !WRITABLE == 0
                && (timer.comparator | timer.period) & !timer.mask() == 0
                && (timer.next.is_none() || state.config & ENABLE != 0)
        };
        if state.config & !(ENABLE | LEGACY) != 0 || state.status >> TIMERS != 0 || !state.timers.iter().all(timer) {
            return Err(LoadError::invalid(self.name(), "a register has bits that do not exist"));
        }
        self.state = state;
        self.wires.routes.set_legacy_replacement(self.is_legacy());
        for line in self.all_lines() {
            line.restore(self.level_of(line));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
