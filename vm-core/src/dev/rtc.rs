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

pub use host_time::seconds;

use serde::{Deserialize, Serialize};

use crate::bus::clock::{Clock, Nanos, SECOND, nanos_to_ticks, tick_deadline};
use crate::bus::irq::IrqLine;
use crate::config::RtcBase;
use crate::dev::Device;
use crate::snapshot::section::{LoadError, Section};

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

/// What firmware wants to know from the CMOS memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CmosSetup {
    /// Bytes of memory below 4 GiB, from 0 on.
    pub memory: u64,
    /// Bytes of memory from 4 GiB on.
    pub memory_above_4g: u64,
    /// Types of floppy drives A and B: 0 none, 1 360 KiB, 2 1.2 MiB, 3 720 KiB, 4 1.44 MiB, 5 2.88 MiB.
    pub floppy_types: [u8; 2],
    /// The order of boot devices: 0 none, 1 floppy, 2 hard disk, 3 CD, 4 network.
    pub boot_order: [u8; 3],
    /// There is a floating-point unit.
    pub fpu: bool,
}

impl CmosSetup {
    /// The first three of the letters of a boot order, as QEMU's `-boot` has them: a or b floppy, c disk, d CD, n network. Others count for
    /// nothing.
    pub fn boot_order_of(letters: &str) -> [u8; 3] {
        let mut codes = letters.chars().filter_map(|letter| match letter {
            'a' | 'b' => Some(1),
            'c' => Some(2),
            'd' => Some(3),
            'n' => Some(4),
            _ => None,
        });
        std::array::from_fn(|_| codes.next().unwrap_or(0))
    }

    fn write_to(&self, cmos: &mut [u8; 256]) {
        let mut word = |at: usize, value: u64| {
            cmos[at] = value as u8;
            cmos[at + 1] = (value >> 8) as u8;
        };
        let kib = self.memory >> 10;
        let extended = kib.saturating_sub(1024).min(0xffff);
        let above_16m = (self.memory.saturating_sub(16 << 20) >> 16).min(0xffff);
        let above_4g = self.memory_above_4g >> 16;
        word(0x15, kib.min(640));
        word(0x17, extended);
        word(0x30, extended);
        word(0x34, above_16m);
        word(0x5b, above_4g);
        cmos[0x5d] = (above_4g >> 16) as u8;
        let [first, second] = self.floppy_types.map(|kind| kind & 15);
        cmos[0x10] = first << 4 | second;
        let floppies = u8::from(first != 0) + u8::from(second != 0);
        // Equipment: PS/2 mouse, display with its own ROM.
        cmos[0x14] = 1 << 2 | u8::from(self.fpu) << 1 | u8::from(floppies > 0) | floppies.saturating_sub(1) << 6;
        let [one, two, three] = self.boot_order.map(|code| code & 15);
        cmos[0x3d] = two << 4 | one;
        // Bit 0: start floppies without the signature 55 AA too.
        cmos[0x38] = three << 4 | 1;
        let sum: u16 = cmos[0x10..=0x2d].iter().map(|byte| u16::from(*byte)).sum();
        [cmos[0x2e], cmos[0x2f]] = sum.to_be_bytes();
    }
}

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

/// Civil time as the registers hold it. A guest may have written anything: it counts on from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Time {
    second: u8,
    minute: u8,
    hour: u8,
    /// 1 is Sunday.
    weekday: u8,
    day: u8,
    month: u8,
    year: u16,
}

impl Time {
    /// Seconds since 1970 in the Gregorian calendar, within the years 0–9999.
    fn from_unix(seconds: i64) -> Self {
        // The first second of year 0 and the last of year 9999.
        let seconds = seconds.clamp(-62_167_219_200, 253_402_300_799);
        let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Days since 1 March of year 0, in eras of 400 years.
        let shifted = days + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        Self {
            second: (rest % 60) as u8,
            minute: (rest / 60 % 60) as u8,
            hour: (rest / 3_600) as u8,
            // 1 January 1970 was a Thursday.
            weekday: ((days + 4).rem_euclid(7) + 1) as u8,
            day: (of_year - (153 * march_month + 2) / 5 + 1) as u8,
            month: month as u8,
            year: (year_of_era + era * 400 + i64::from(month <= 2)) as u16,
        }
    }

    fn add_second(&mut self) {
        for (field, limit) in [(&mut self.second, 60), (&mut self.minute, 60), (&mut self.hour, 24)] {
            *field = field.saturating_add(1);
            if *field < limit {
                return;
            }
            *field = 0;
        }
        self.add_day();
    }

    fn add_day(&mut self) {
        self.weekday = self.weekday % 7 + 1;
        self.day = self.day.saturating_add(1);
        let leap = self.year.is_multiple_of(4) && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400));
        let days = match self.month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        if self.day > days {
            self.day = 1;
            self.month = self.month.saturating_add(1);
        }
        if self.month > 12 {
            self.month = 1;
            self.year = (self.year + 1) % 10_000;
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::irq::IrqLines;
    use crate::bus::signals::Signals;
    use crate::dev::suite;
    use std::sync::Arc;

    struct Bench {
        rtc: Rtc,
        clock: Clock,
        lines: Arc<IrqLines>,
    }

    impl Bench {
        fn at(seconds: i64) -> Self {
            let (lines, clock) = (Arc::new(IrqLines::default()), Clock::manual());
            let irq = IrqLine::new(&lines, &Arc::new(Signals::new()), 8);
            let setup = CmosSetup {
                memory: 128 << 20,
                memory_above_4g: 0,
                floppy_types: [4, 0],
                boot_order: CmosSetup::boot_order_of("cad"),
                fpu: true,
            };
            Self { rtc: Rtc::new(irq, clock.clone(), RtcBase::At(seconds), &setup), clock, lines }
        }

        fn read(&mut self, address: usize) -> u8 {
            self.rtc.write(0, address as u8);
            self.rtc.read(1)
        }

        fn write(&mut self, address: usize, value: u8) {
            self.rtc.write(0, address as u8 | 0x80);
            self.rtc.write(1, value);
        }

        fn now(&mut self) -> [u8; 8] {
            [CENTURY, YEAR, MONTH, DAY, HOURS, MINUTES, SECONDS, WEEKDAY].map(|at| self.read(at))
        }

        fn go(&mut self, to: Nanos) {
            self.clock.set(to);
            self.rtc.advance(to);
        }
    }

    #[test]
    fn the_time_of_day_catches_up_over_days_and_alarms() {
        // Saturday, 29 February 2020, 23:59:58.
        let mut bench = Bench::at(1_583_020_798);
        bench.write(HOURS_ALARM, 0x07);
        bench.write(MINUTES_ALARM, 0x30);
        bench.write(SECONDS_ALARM, 0x00);
        bench.write(B, B_24_HOURS | B_ALARM);
        bench.rtc.catch_up(0);
        assert_eq!(bench.now(), [0x20, 0x20, 0x02, 0x29, 0x23, 0x59, 0x58, 0x07]);
        bench.rtc.catch_up(3 * 86_400 + 4);
        assert_eq!(bench.now(), [0x20, 0x20, 0x03, 0x04, 0x00, 0x00, 0x02, 0x04]);
        assert!(bench.lines.level() & 1 << 8 != 0, "the alarm of half past seven was missed");
        // It goes on from there, a second a second.
        bench.go(SECOND);
        assert_eq!(bench.now()[6], 0x03);
        // Held by the guest it stands.
        bench.write(B, B_SET | B_24_HOURS);
        bench.rtc.catch_up(50);
        assert_eq!(bench.now()[6], 0x03);
    }

    #[test]
    fn the_time_is_told_in_every_format() {
        // Saturday, 29 February 2020, 23:59:58.
        let mut bench = Bench::at(1_583_020_798);
        assert_eq!(bench.now(), [0x20, 0x20, 0x02, 0x29, 0x23, 0x59, 0x58, 0x07]);
        bench.go(2 * SECOND);
        assert_eq!(bench.now(), [0x20, 0x20, 0x03, 0x01, 0x00, 0x00, 0x00, 0x01]);
        bench.write(B, B_BINARY);
        let mut bench = Bench::at(946_684_799);
        bench.write(B, B_SET | B_BINARY);
        for (at, value) in
            [(YEAR, 99), (CENTURY, 19), (MONTH, 12), (DAY, 31), (HOURS, 0x8b), (MINUTES, 59), (SECONDS, 59)]
        {
            bench.write(at, value);
        }
        bench.go(10 * SECOND);
        assert_eq!(bench.read(SECONDS), 59, "it stands while it is set");
        bench.write(B, B_BINARY);
        bench.go(11 * SECOND);
        assert_eq!(bench.now()[..7], [20, 0, 1, 1, 12, 0, 0]);
        assert_eq!(Time::from_unix(0).weekday, 5);
        for seconds in [i64::MIN, i64::MAX] {
            assert!(Time::from_unix(seconds).year <= 9999);
        }
    }

    #[test]
    fn an_update_is_announced_and_interrupts() {
        let mut bench = Bench::at(0);
        bench.write(B, B_24_HOURS | B_UPDATE);
        bench.clock.set(SECOND - UPDATE_TIME - 1);
        assert_eq!(bench.read(A), 0x26);
        bench.clock.set(SECOND - UPDATE_TIME);
        assert_eq!(bench.read(A), 0xa6);
        assert_eq!(bench.rtc.next_event(), Some(SECOND));
        bench.go(SECOND);
        assert_eq!((bench.read(A), bench.lines.level()), (0x26, 1 << 8));
        assert_eq!(bench.read(C), 0xd0, "the periodic flag is set too, without an interrupt of its own");
        assert_eq!((bench.read(C), bench.lines.level()), (0, 0));
        // Divider held and let go: the next update is half a second later.
        bench.write(A, 0x66);
        bench.go(5 * SECOND + 7);
        bench.write(A, 0x26);
        assert_eq!(bench.rtc.next_event(), Some(5 * SECOND + 7 + SECOND / 2));
    }

    #[test]
    fn alarms_match_with_wild_cards() {
        let mut bench = Bench::at(0);
        bench.write(HOURS_ALARM, 0xff);
        bench.write(MINUTES_ALARM, 0x01);
        bench.write(SECONDS_ALARM, 0x30);
        bench.write(B, B_24_HOURS | B_ALARM);
        bench.go(89 * SECOND);
        assert_eq!(bench.lines.level(), 0);
        bench.go(90 * SECOND);
        assert_eq!((bench.lines.level(), bench.read(C) & 0xa0), (1 << 8, 0xa0));
        bench.go(5000 * SECOND);
        assert_eq!(bench.read(C) & B_ALARM, B_ALARM, "one of the seconds that were caught up with");
    }

    #[test]
    fn periodic_interrupts_do_not_drift_and_late_ones_are_owed() {
        let mut bench = Bench::at(0);
        bench.write(A, 0x26);
        bench.write(B, B_24_HOURS | B_PERIODIC);
        let mut count = 0;
        while bench.rtc.next_event().is_some_and(|at| at <= 10 * SECOND) {
            let at = bench.rtc.next_event().expect("periodic");
            bench.go(at);
            assert_eq!(bench.read(C) & 0xc0, 0xc0);
            count += 1;
        }
        assert_eq!(count, 10_240);
        bench.go(10 * SECOND + 5 * SECOND / 1024 + 1);
        assert_eq!(bench.rtc.late_ticks(), (4, 4));
        let end = 10 * SECOND + SECOND / 2;
        while let Some(at) = bench.rtc.next_event().filter(|at| *at <= end) {
            bench.go(at.max(bench.clock.now()));
            count += u64::from(bench.read(C) & B_PERIODIC != 0);
        }
        assert_eq!((count, bench.rtc.late_ticks().1), (10_240 + 512, 0));
    }

    #[test]
    fn firmware_finds_memory_drives_and_boot_order() {
        let mut bench = Bench::at(0);
        let word = |bench: &mut Bench, at: usize| u16::from(bench.read(at)) | u16::from(bench.read(at + 1)) << 8;
        assert_eq!(word(&mut bench, 0x15), 640);
        assert_eq!(word(&mut bench, 0x30), 0xffff);
        assert_eq!(word(&mut bench, 0x34), 112 * 16);
        assert_eq!((bench.read(0x10), bench.read(0x14)), (0x40, 0x07));
        assert_eq!((bench.read(0x3d), bench.read(0x38)), (0x12, 0x31));
        assert_eq!(bench.read(D), 0x80);
        bench.rtc.write(2, 0x05);
        bench.rtc.write(3, 0x77);
        assert_eq!((bench.rtc.read(3), bench.read(5)), (0x77, 0));
    }

    #[test]
    fn any_guest_and_any_file() {
        suite::check(
            || Bench::at(1_000_000_000).rtc,
            |rtc| {
                rtc.write(0, B as u8);
                rtc.write(1, B_PERIODIC | B_24_HOURS);
                rtc.advance(SECOND);
            },
        );
        let Bench { rtc, clock, .. } = Bench::at(0);
        suite::hammer(rtc, 40_000, |rtc, random, now| {
            clock.set(now);
            rtc.write(0, random.below(0x18) as u8);
            rtc.write(random.below(4) as u16, random.next() as u8);
            rtc.read(random.below(5) as u16);
        });
    }
}
