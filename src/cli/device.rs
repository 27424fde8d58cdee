//! `-device`, and the words of `-rtc`, `-m`, `-boot`.

use vm_core::config::{MAX_MEMORY_MIB, MIN_MEMORY_MIB, RtcBase};

use super::keyval::{KeyVal, number};
use super::options::Request;
use super::{CliError, refuse};

/// Adds a device.
pub fn add(request: &mut Request, text: &str) -> Result<(), CliError> {
    let mut pairs = KeyVal::parse("-device", text, Some("driver"))?;
    match pairs.need("driver")?.as_str() {
        "isa-debug-exit" => {
            let base = pairs.number("iobase")?.unwrap_or(0x501);
            let size = pairs.number("iosize")?.unwrap_or(2);
            if !(1..=4).contains(&size) {
                return refuse(format!("-device isa-debug-exit,iosize={size}: must be 1 to 4"));
            }
            pairs.finish("iobase, iosize")?;
            request.config.debug_exit = Some((base, size));
        }
        "isa-debugcon" => {
            let port = pairs.number("iobase")?.unwrap_or(0xe9);
            let id = pairs.need("chardev")?;
            pairs.finish("iobase, chardev")?;
            request.debug_ports.push((port, super::chardev::Target::Shared(id)));
        }
        other => {
            return refuse(format!(
                "-device {other}: not there; -device knows isa-debug-exit and isa-debugcon, and what every PC has is built in"
            ));
        }
    }
    Ok(())
}

/// `-m`: MiB, or with a unit.
pub fn memory(text: &str) -> Result<u32, CliError> {
    let mut pairs = KeyVal::parse("-m", text, Some("size"))?;
    let size = pairs.need("size")?;
    pairs.finish("size")?;
    let (digits, shift) = match size.char_indices().last() {
        Some((at, 'k' | 'K')) => (&size[..at], 10),
        Some((at, 'm' | 'M')) => (&size[..at], 20),
        Some((at, 'g' | 'G')) => (&size[..at], 30),
        Some((at, 't' | 'T')) => (&size[..at], 40),
        _ => (size.as_str(), 20),
    };
    let bytes = number(digits).and_then(|count| count.checked_mul(1 << shift));
    let mebibytes = bytes.filter(|bytes| bytes.is_multiple_of(1 << 20)).map(|bytes| bytes >> 20);
    mebibytes
        .and_then(|mebibytes| u32::try_from(mebibytes).ok())
        .filter(|mebibytes| (MIN_MEMORY_MIB..=MAX_MEMORY_MIB).contains(mebibytes))
        .ok_or_else(|| {
            CliError(format!(
                "-m {text}: memory is {MIN_MEMORY_MIB} to {MAX_MEMORY_MIB} whole MiB, such as -m 128 or -m 1G"
            ))
        })
}

/// `-rtc base=utc|localtime|2006-06-17T16:01:21`.
/// Where the clock starts, and whether it keeps the saved time after a snapshot.
pub fn rtc(text: &str) -> Result<(RtcBase, bool), CliError> {
    let mut pairs = KeyVal::parse("-rtc", text, None)?;
    let (base, clock) = (pairs.take("base"), pairs.take("clock"));
    pairs.finish("base, clock")?;
    let base = match base.as_deref() {
        None | Some("utc") => RtcBase::Utc,
        Some("localtime") => RtcBase::LocalTime,
        Some(date) => date_to_unix(date).map(RtcBase::At).ok_or_else(|| {
            CliError(format!("-rtc base={date}: must be utc, localtime or a date such as 2006-06-17T16:01:21"))
        })?,
    };
    match clock.as_deref() {
        None | Some("host") => Ok((base, false)),
        Some("vm") => Ok((base, true)),
        Some(other) => refuse(format!(
            "-rtc clock={other}: there are host (after a snapshot it follows the host again) and vm (it shows the saved time)"
        )),
    }
}

/// Seconds since 1970 of `YYYY-MM-DD` or `YYYY-MM-DDThh:mm:ss`, UTC.
fn date_to_unix(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00:00"));
    let [year, month, day] = three_numbers(date, '-')?;
    let [hour, minute, second] = three_numbers(time, ':')?;
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days_of = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let valid = (1970..=2199).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_of[(month as usize - 1) % 12]).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !valid {
        return None;
    }
    let before = i64::from(year) - 1;
    // Days from the first day of year 1 to 1970.
    let years = before * 365 + before / 4 - before / 100 + before / 400 - 719_162;
    let days = years + i64::from(days_of[..month as usize - 1].iter().sum::<u32>()) + i64::from(day) - 1;
    Some(days * 86_400 + i64::from(hour * 3600 + minute * 60 + second))
}

fn three_numbers(text: &str, separator: char) -> Option<[u32; 3]> {
    let numbers = text.split(separator).map(|part| part.parse().ok()).collect::<Option<Vec<u32>>>()?;
    numbers.try_into().ok()
}

/// `-boot order=cad`, or the letters alone.
pub fn boot(text: &str) -> Result<String, CliError> {
    let mut pairs = KeyVal::parse("-boot", text, Some("order"))?;
    let order = pairs.need("order")?;
    // Without a splash picture there is no menu to wait for.
    if pairs.switch("menu")? == Some(true) {
        return refuse("-boot menu=on: not there yet; -boot order= says which drive comes first");
    }
    pairs.finish("order")?;
    let repeated = order.chars().enumerate().any(|(at, letter)| order[..at].contains(letter));
    match order.chars().find(|letter| !matches!(letter, 'a' | 'b' | 'c' | 'd')) {
        Some('n') => refuse("-boot n: there is no network yet; letters are a (floppy), c (disk) and d (CD)"),
        Some(other) => {
            refuse(format!("-boot {text}: “{other}” is no drive; letters are a (floppy), c (disk) and d (CD)"))
        }
        None if order.is_empty() || repeated => {
            refuse(format!("-boot {text}: name each drive once, such as -boot cad"))
        }
        None => Ok(order),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_units_and_bounds() {
        assert_eq!(memory("64").unwrap(), 64);
        assert_eq!(memory("size=1G").unwrap(), 1024);
        assert_eq!(memory("65536k").unwrap(), 64);
        for absurd in ["0", "-1", "4G", "1000000000000T", "lots", "1k", "", "64,slots=2"] {
            assert!(memory(absurd).unwrap_err().to_string().contains("-m"), "{absurd}");
        }
    }

    #[test]
    fn dates_are_unix_times() {
        assert_eq!(rtc("base=1970-01-01").unwrap(), (RtcBase::At(0), false));
        assert_eq!(rtc("base=2006-06-17T16:01:21,clock=vm").unwrap(), (RtcBase::At(1_150_560_081), true));
        assert_eq!(rtc("base=2000-02-29T23:59:59").unwrap(), (RtcBase::At(951_868_799), false));
        for bad in ["base=2001-02-29", "base=yesterday", "base=2001-13-01", "base=2001-01", "clock=rt"] {
            assert!(rtc(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn boot_letters_are_checked() {
        assert_eq!(boot("dc").unwrap(), "dc");
        assert_eq!(boot("order=a").unwrap(), "a");
        for bad in ["n", "x", "", "cc", "order=c,splash=x"] {
            assert!(boot(bad).is_err(), "{bad}");
        }
    }
}
