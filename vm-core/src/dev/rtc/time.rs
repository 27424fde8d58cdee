//! Civil time, counted as the chip counts it.

use crate::calendar::Date;

/// Civil time as the registers hold it. A guest may have written anything: it counts on from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Time {
    pub second: u8,
    pub minute: u8,
    pub hour: u8,
    /// 1 is Sunday.
    pub weekday: u8,
    pub day: u8,
    pub month: u8,
    pub year: u16,
}

impl Time {
    /// Seconds since 1970 in the Gregorian calendar, within the years 0–9999.
    pub fn from_unix(seconds: i64) -> Self {
        // The first second of year 0 and the last of year 9999.
        let seconds = seconds.clamp(-62_167_219_200, 253_402_300_799);
        let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let Date { year, month, day, weekday } = Date::from_days(days);
        Self {
            second: (rest % 60) as u8,
            minute: (rest / 60 % 60) as u8,
            hour: (rest / 3_600) as u8,
            weekday,
            day,
            month,
            year: year as u16,
        }
    }

    pub fn add_second(&mut self) {
        for (field, limit) in [(&mut self.second, 60), (&mut self.minute, 60), (&mut self.hour, 24)] {
            *field = field.saturating_add(1);
            if *field < limit {
                return;
            }
            *field = 0;
        }
        self.add_day();
    }

    pub fn add_day(&mut self) {
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
