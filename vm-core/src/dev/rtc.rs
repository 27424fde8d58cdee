//! MC146818 real-time clock with 256 bytes of CMOS memory.
//!
//! Motorola MC146818A data sheet; the use of the memory is that of the PC/AT and of SeaBIOS.
//!
//! | port | offset | what |
//! |---|---|---|
//! | 0x70 | 0 | address (bit 7 masks NMI) |
//! | 0x71 | 1 | data |
//! | 0x72, 0x73 | 2, 3 | the same for the upper 128 bytes |
//!
//! Seconds and periodic interrupts are counted from absolute origins. Periods that pass before the guest has read register C are owed to
//! it and follow at up to twice the rate.

mod host_time;
mod setup;
#[cfg(test)]
mod tests;
mod time;

pub use host_time::seconds;

use serde::{Deserialize, Serialize};

use crate::bus::clock::{Clock, Nanos, SECOND, nanos_to_ticks, tick_deadline};
use crate::bus::irq::IrqLine;
use crate::config::RtcBase;
use crate::dev::Device;
use crate::snapshot::section::{LoadError, Section};
pub use setup::CmosSetup;
use time::Time;

/// Addresses of the clock's registers.
const SECONDS: usize = 0x00;
const SECONDS_ALARM: usize = 0x01;
const MINUTES: usize = 0x02;
const MINUTES_ALARM: usize = 0x03;
const HOURS: usize = 0x04;
const HOURS_ALARM: usize = 0x05;
const WEEKDAY: usize = 0x06;
const DAY: usize = 0x07;
const MONTH: usize = 0x08;
const YEAR: usize = 0x09;
const A: usize = 0x0a;
const B: usize = 0x0b;
const C: usize = 0x0c;
const D: usize = 0x0d;
/// The century, where the PC/AT and ACPI's default put it, and where the PS/2 has it.
const CENTURY: usize = 0x32;
const CENTURY_PS2: usize = 0x37;

/// Register A: an update is near or under way.
const A_UPDATE_IN_PROGRESS: u8 = 1 << 7;
/// Register A: the divider; 010 runs from 32,768 Hz, 11x holds it in reset.
const A_DIVIDER: u8 = 0x70;
const A_DIVIDER_RUN: u8 = 0x20;
const A_DIVIDER_RESET: u8 = 0x60;
/// Register A: the periodic rate.
const A_RATE: u8 = 0x0f;

/// Register B.
const B_SET: u8 = 1 << 7;
const B_PERIODIC: u8 = 1 << 6;
const B_ALARM: u8 = 1 << 5;
const B_UPDATE: u8 = 1 << 4;
const B_SQUARE_WAVE: u8 = 1 << 3;
const B_BINARY: u8 = 1 << 2;
const B_24_HOURS: u8 = 1 << 1;

/// Register C: flags, in the places of their enables in B.
const C_IRQ: u8 = 1 << 7;
const C_FLAGS: u8 = B_PERIODIC | B_ALARM | B_UPDATE;

/// Register D: the battery is good.
const D_VALID: u8 = 1 << 7;

/// An alarm byte from here up matches everything.
const ANY: u8 = 0xc0;

/// The crystal.
const HERTZ: u64 = 32_768;
/// An update takes 1,984 µs and is announced 244 µs before.
const UPDATE_TIME: Nanos = 1_984_000 + 244_000;
/// Least distance of two periodic interrupts that are made up for.
const LEAST_SPACING: Nanos = 50_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RtcState {
    /// Selected addresses: lower and upper bank.
    index: u8,
    upper_index: u8,
    #[serde(with = "crate::dev::bytes")]
    cmos: [u8; 256],
    /// When the first update was or will be; the others follow a second apart.
    first_update: Nanos,
    /// Updates that have passed.
    updates: u64,
    /// When the divider of the periodic interrupt began to run.
    divider_start: Nanos,
    /// Periods that have passed since.
    periods: u64,
    /// Periodic interrupts that the guest still gets, and when the next of them may come.
    owed: u64,
    owed_from: Nanos,
    /// Periodic interrupts that came late, in all.
    late: u64,
}

#[derive(Debug)]
struct RtcWires {
    irq: IrqLine,
    clock: Clock,
}

/// The clock.
#[derive(Debug)]
pub struct Rtc {
    state: RtcState,
    wires: RtcWires,
}

impl Rtc {
    /// A clock that drives `irq` (IRQ 8), starts from `base`, and tells firmware what `setup` says.
    pub fn new(irq: IrqLine, clock: Clock, base: RtcBase, setup: &CmosSetup) -> Self {
        let mut cmos = [0; 256];
        cmos[A] = A_DIVIDER_RUN | 6;
        cmos[B] = B_24_HOURS;
        cmos[D] = D_VALID;
        setup.write_to(&mut cmos);
        let now = clock.now();
        let state = RtcState {
            index: 0,
            upper_index: 0,
            cmos,
            first_update: now.saturating_add(SECOND),
            updates: 0,
            divider_start: now,
            periods: 0,
            owed: 0,
            owed_from: 0,
            late: 0,
        };
        let mut rtc = Self { state, wires: RtcWires { irq, clock } };
        rtc.put_time(Time::from_unix(host_time::seconds(base)));
        rtc
    }

    /// Reads the register at `offset` (0–3).
    pub fn read(&mut self, offset: u16) -> u8 {
        self.update(self.wires.clock.now());
        match offset {
            0 => self.state.index,
            1 => self.read_memory(self.state.index),
            2 => self.state.upper_index & 0x7f,
            3 => self.read_memory(self.state.upper_index),
            _ => 0xff,
        }
    }

    /// Writes the register at `offset` (0–3).
    pub fn write(&mut self, offset: u16, value: u8) {
        self.update(self.wires.clock.now());
        match offset {
            0 => self.state.index = value & 0x7f,
            1 => self.write_memory(self.state.index, value),
            2 => self.state.upper_index = value | 0x80,
            3 => self.write_memory(self.state.upper_index, value),
            _ => {}
        }
    }

    /// The time of day goes on by so many seconds at once, as after a time in which only the battery's clock ran. Alarms within it are
    /// seen as one.
    pub fn catch_up(&mut self, seconds: u64) {
        /// The calendar repeats after 400 years.
        const MOST: u64 = 146_097 * 86_400;
        self.update(self.wires.clock.now());
        if seconds > 0 && self.is_counting() {
            self.count_seconds(seconds.min(MOST));
            self.drive();
        }
    }

    /// The periodic interrupts that came late, and those still owed.
    pub fn late_ticks(&self) -> (u64, u64) {
        (self.state.late, self.state.owed)
    }

    fn read_memory(&mut self, address: u8) -> u8 {
        match usize::from(address) {
            A => self.read_a(),
            C => self.read_c(),
            CENTURY_PS2 => self.state.cmos[CENTURY],
            other => self.state.cmos[other],
        }
    }

    fn write_memory(&mut self, address: u8, value: u8) {
        match usize::from(address) {
            A => self.write_a(value),
            B => self.write_b(value),
            C | D => {}
            CENTURY_PS2 => self.state.cmos[CENTURY] = value,
            other => self.state.cmos[other] = value,
        }
    }

    fn read_a(&self) -> u8 {
        let next = self.update_time(self.state.updates);
        let near = self.is_counting() && self.wires.clock.now().saturating_add(UPDATE_TIME) >= next;
        self.state.cmos[A] | if near { A_UPDATE_IN_PROGRESS } else { 0 }
    }

    fn write_a(&mut self, value: u8) {
        let now = self.wires.clock.now();
        let held = |a: u8| a & A_DIVIDER_RESET == A_DIVIDER_RESET;
        let before = std::mem::replace(&mut self.state.cmos[A], value & !A_UPDATE_IN_PROGRESS);
        if held(before) && !held(value) {
            // The first update comes half a second after the divider is let go.
            self.state.first_update = now.saturating_add(SECOND / 2);
            self.state.updates = 0;
            self.state.divider_start = now;
        }
        if (before ^ value) & (A_RATE | A_DIVIDER) != 0 {
            self.state.periods = self.periods(now);
            self.state.owed = 0;
        }
    }

    fn write_b(&mut self, value: u8) {
        // Setting the time ends the update interrupt (data sheet, "SET").
        let value = if value & B_SET != 0 { value & !B_UPDATE } else { value };
        self.state.cmos[B] = value;
        if value & B_PERIODIC == 0 {
            self.state.owed = 0;
        }
        self.drive();
    }

    /// Reading register C clears it and ends the interrupt.
    fn read_c(&mut self) -> u8 {
        let value = std::mem::take(&mut self.state.cmos[C]);
        self.drive();
        if self.state.owed > 0 {
            let spacing = self.period_ticks().map_or(0, |ticks| tick_deadline(ticks, HERTZ) / 2);
            self.state.owed_from = self.wires.clock.now().saturating_add(spacing.max(LEAST_SPACING));
        }
        value
    }

    fn drive(&mut self) {
        let wanted = self.state.cmos[B] & self.state.cmos[C] & C_FLAGS != 0;
        self.state.cmos[C] = self.state.cmos[C] & C_FLAGS | if wanted { C_IRQ } else { 0 };
        self.wires.irq.set(wanted);
    }

    fn is_counting(&self) -> bool {
        self.state.cmos[A] & A_DIVIDER == A_DIVIDER_RUN && self.state.cmos[B] & B_SET == 0
    }

    /// When update number `number` is.
    fn update_time(&self, number: u64) -> Nanos {
        self.state.first_update.saturating_add(number.saturating_mul(SECOND))
    }

    /// Ticks of the crystal in a period of the periodic interrupt.
    fn period_ticks(&self) -> Option<u64> {
        if self.state.cmos[A] & A_DIVIDER != A_DIVIDER_RUN {
            return None;
        }
        match self.state.cmos[A] & A_RATE {
            0 => None,
            // From this crystal the two fastest rates are those of 8 and 9.
            rate @ 1..=2 => Some(1 << (rate + 6)),
            rate => Some(1 << (rate - 1)),
        }
    }

    fn periods(&self, now: Nanos) -> u64 {
        let ticks = nanos_to_ticks(now.saturating_sub(self.state.divider_start), HERTZ);
        self.period_ticks().map_or(0, |period| ticks / period)
    }

    /// Brings everything up to `now`.
    fn update(&mut self, now: Nanos) {
        let updates = now.checked_sub(self.state.first_update).map_or(0, |since| since / SECOND + 1);
        let new_updates = updates.saturating_sub(self.state.updates);
        self.state.updates = updates;
        if new_updates > 0 && self.is_counting() {
            self.count_seconds(new_updates);
        }
        let periods = self.periods(now);
        let new_periods = periods.saturating_sub(self.state.periods);
        self.state.periods = periods;
        self.count_periods(new_periods, now);
        self.drive();
    }

    fn count_seconds(&mut self, seconds: u64) {
        const DAY_SECONDS: u64 = 86_400;
        let mut time = self.time();
        // An alarm can be missed only in a whole day, which it would have fitted once too.
        let days = (seconds / DAY_SECONDS).saturating_sub(1);
        for _ in 0..days {
            time.add_day();
        }
        for _ in 0..seconds - days * DAY_SECONDS {
            time.add_second();
            self.put_clock(time);
            if self.alarm_matches() {
                self.state.cmos[C] |= B_ALARM;
            }
        }
        self.put_time(time);
        self.state.cmos[C] |= B_UPDATE;
    }

    fn alarm_matches(&self) -> bool {
        let cmos = &self.state.cmos;
        [(SECONDS, SECONDS_ALARM), (MINUTES, MINUTES_ALARM), (HOURS, HOURS_ALARM)]
            .iter()
            .all(|(time, alarm)| cmos[*alarm] >= ANY || cmos[*alarm] == cmos[*time])
    }

    fn count_periods(&mut self, new: u64, now: Nanos) {
        let state = &mut self.state;
        let enabled = state.cmos[B] & B_PERIODIC != 0;
        let mut free = state.cmos[C] & B_PERIODIC == 0;
        let mut late = new;
        if new > 0 && free {
            state.cmos[C] |= B_PERIODIC;
            free = false;
            late -= 1;
        }
        if enabled && late > 0 {
            state.late = state.late.saturating_add(late);
            state.owed = state.owed.saturating_add(late);
            if let Some(ticks) = self.period_ticks() {
                self.state.owed = self.state.owed.min((HERTZ / ticks).max(1));
            }
        }
        let state = &mut self.state;
        if free && enabled && state.owed > 0 && now >= state.owed_from {
            state.owed -= 1;
            state.cmos[C] |= B_PERIODIC;
        }
    }

    fn encode(&self, value: u8) -> u8 {
        if self.state.cmos[B] & B_BINARY != 0 { value } else { ((value / 10 % 10) << 4) | (value % 10) }
    }

    fn decode(&self, value: u8) -> u8 {
        if self.state.cmos[B] & B_BINARY != 0 { value } else { (value >> 4) * 10 + (value & 15) }
    }

    fn time(&self) -> Time {
        let field = |at: usize| self.decode(self.state.cmos[at]);
        let hours = if self.state.cmos[B] & B_24_HOURS != 0 {
            field(HOURS)
        } else {
            let raw = self.state.cmos[HOURS];
            self.decode(raw & 0x7f) % 12 + if raw & 0x80 != 0 { 12 } else { 0 }
        };
        Time {
            second: field(SECONDS),
            minute: field(MINUTES),
            hour: hours,
            weekday: field(WEEKDAY),
            day: field(DAY),
            month: field(MONTH),
            year: u16::from(field(CENTURY)) * 100 + u16::from(field(YEAR)),
        }
    }

    fn put_clock(&mut self, time: Time) {
        self.state.cmos[SECONDS] = self.encode(time.second);
        self.state.cmos[MINUTES] = self.encode(time.minute);
        self.state.cmos[HOURS] = if self.state.cmos[B] & B_24_HOURS != 0 {
            self.encode(time.hour)
        } else {
            let hour = if time.hour.is_multiple_of(12) { 12 } else { time.hour % 12 };
            self.encode(hour) | if time.hour >= 12 { 0x80 } else { 0 }
        };
    }

    fn put_time(&mut self, time: Time) {
        self.put_clock(time);
        self.state.cmos[WEEKDAY] = self.encode(time.weekday);
        self.state.cmos[DAY] = self.encode(time.day);
        self.state.cmos[MONTH] = self.encode(time.month);
        self.state.cmos[YEAR] = self.encode((time.year % 100) as u8);
        self.state.cmos[CENTURY] = self.encode((time.year / 100) as u8);
    }
}

impl Device for Rtc {
    fn name(&self) -> &'static str {
        "rtc"
    }

    /// The battery keeps time and memory; only interrupts are switched off.
    fn reset(&mut self) {
        self.state.cmos[B] &= !(B_PERIODIC | B_ALARM | B_UPDATE | B_SQUARE_WAVE);
        self.state.cmos[C] = 0;
        self.state.index = 0;
        self.state.upper_index = 0;
        self.state.owed = 0;
        self.state.owed_from = 0;
        self.drive();
    }

    fn next_event(&self) -> Option<Nanos> {
        let state = &self.state;
        let (enabled, flags) = (state.cmos[B], state.cmos[C]);
        let seconds =
            (self.is_counting() && enabled & (B_ALARM | B_UPDATE) != 0).then(|| self.update_time(state.updates));
        let periodic = self.period_ticks().filter(|_| enabled & B_PERIODIC != 0).map(|ticks| {
            let tick = state.periods.saturating_add(1).saturating_mul(ticks);
            state.divider_start.saturating_add(tick_deadline(tick, HERTZ))
        });
        let owed = (state.owed > 0 && flags & B_PERIODIC == 0).then_some(state.owed_from);
        seconds.into_iter().chain(periodic).chain(owed).min()
    }

    fn advance(&mut self, now: Nanos) {
        self.update(now);
    }

    fn save(&self) -> Section {
        Section::encode(self.name(), 1, &self.state)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        let state: RtcState = section.decode(self.name(), 1)?;
        let indices = state.index < 0x80 && (state.upper_index >= 0x80 || state.upper_index == 0);
        if !indices || state.cmos[A] & A_UPDATE_IN_PROGRESS != 0 || state.cmos[C] & !(C_IRQ | C_FLAGS) != 0 {
            return Err(LoadError::invalid(self.name(), "a register has bits that it cannot have"));
        }
        self.state = state;
        self.wires.irq.restore(self.state.cmos[C] & C_IRQ != 0);
        Ok(())
    }
}
