//! Days and dates of the Gregorian calendar.

/// A day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Date {
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 1 is Sunday.
    pub weekday: u8,
}

impl Date {
    /// The day that is this many days after 1 January 1970; at most some billions of days from it.
    pub fn from_days(days: i64) -> Self {
        // Days since 1 March of year 0, in eras of 400 years.
        let shifted = days + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month: month as u8,
            day: (of_year - (153 * march_month + 2) / 5 + 1) as u8,
            // 1 January 1970 was a Thursday.
            weekday: ((days + 4).rem_euclid(7) + 1) as u8,
        }
    }
}

/// Seconds since 1970 as date and time, in UTC. A damaged file may say anything: what is after the year 9999 is its last second.
pub(crate) fn utc(seconds: u64) -> String {
    let seconds = seconds.min(253_402_300_799);
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let Date { year, month, day, .. } = Date::from_days(days as i64);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", rest / 3_600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_around_leap_days_have_their_dates() {
        let date = |days| {
            let Date { year, month, day, weekday } = Date::from_days(days);
            (year, month, day, weekday)
        };
        assert_eq!(date(0), (1970, 1, 1, 5));
        assert_eq!(date(-1), (1969, 12, 31, 4));
        assert_eq!(date(11_016), (2000, 2, 29, 3));
        assert_eq!(date(11_017), (2000, 3, 1, 4));
        assert_eq!(utc(1_795_690_641), "2026-11-26 10:57:21");
        assert_eq!(utc(u64::MAX), "9999-12-31 23:59:59");
    }
}
