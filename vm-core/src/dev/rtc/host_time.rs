//! The host's civil time, looked at once when a machine is built.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::RtcBase;

/// Seconds since 1970 that a clock which starts from `base` shows now.
pub fn seconds(base: RtcBase) -> i64 {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    match base {
        RtcBase::Utc => now(),
        RtcBase::LocalTime => {
            let utc = now();
            utc.saturating_add(zone_file().and_then(|bytes| offset_at(&bytes, utc)).unwrap_or(0))
        }
        RtcBase::At(seconds) => seconds,
    }
}

/// The host's time zone: `TZ` where it names a zone, else `/etc/localtime`.
fn zone_file() -> Option<Vec<u8>> {
    let named = std::env::var("TZ").ok().map(|name| name.trim_start_matches(':').to_owned());
    let path = match named {
        Some(name) if !name.is_empty() => PathBuf::from("/usr/share/zoneinfo").join(name),
        _ => PathBuf::from("/etc/localtime"),
    };
    std::fs::read(path).or_else(|_| std::fs::read("/etc/localtime")).ok()
}

/// The offset from UTC in seconds that a zone file (RFC 8536) gives for `time`; `None`: it is not one.
fn offset_at(file: &[u8], time: i64) -> Option<i64> {
    let first = Header::parse(file)?;
    // From version 2 on a second block with 64-bit times follows.
    let (header, data, wide) = if first.version >= b'2' {
        let rest = file.get(44 + first.data_len(4)?..)?;
        (Header::parse(rest)?, rest.get(44..)?, 8)
    } else {
        (first, file.get(44..)?, 4)
    };
    let times = data.get(..header.times.checked_mul(wide)?)?;
    let kinds = data.get(times.len()..times.len().checked_add(header.times)?)?;
    let types = data.get(times.len() + kinds.len()..)?;
    let passed = times.chunks_exact(wide).take_while(|bytes| big_endian(bytes) <= time).count();
    let kind = passed.checked_sub(1).map_or(Some(0), |last| kinds.get(last).copied())?;
    let record = types.get(..header.types.checked_mul(6)?)?.chunks_exact(6).nth(usize::from(kind))?;
    Some(big_endian(&record[..4]))
}

fn big_endian(bytes: &[u8]) -> i64 {
    let sign = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { -1 } else { 0 };
    bytes.iter().fold(sign, |value: i64, byte| value << 8 | i64::from(*byte))
}

struct Header {
    version: u8,
    is_ut: usize,
    is_std: usize,
    leaps: usize,
    times: usize,
    types: usize,
    chars: usize,
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..44).filter(|bytes| bytes.starts_with(b"TZif"))?;
        let count = |n: usize| big_endian(&bytes[20 + 4 * n..24 + 4 * n]) as u32 as usize;
        Some(Self {
            version: bytes[4],
            is_ut: count(0),
            is_std: count(1),
            leaps: count(2),
            times: count(3),
            types: count(4),
            chars: count(5),
        })
    }

    fn data_len(&self, wide: usize) -> Option<usize> {
        [
            (self.times, wide + 1),
            (self.types, 6),
            (self.chars, 1),
            (self.leaps, wide + 4),
            (self.is_std, 1),
            (self.is_ut, 1),
        ]
        .into_iter()
        .try_fold(0_usize, |sum, (count, size)| sum.checked_add(count.checked_mul(size)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A zone with one change, at time 1000, from +1 h to −2 h.
    fn zone() -> Vec<u8> {
        let header = |times: u32, types: u32| {
            let mut bytes = b"TZif2".to_vec();
            bytes.extend([0; 15]);
            for count in [0, 0, 0, times, types, 4] {
                bytes.extend(u32::to_be_bytes(count));
            }
            bytes
        };
        let mut file = header(0, 1);
        file.extend([0, 0, 0, 0, 0, 0]);
        file.extend(b"UTC\0");
        file.extend(header(1, 2));
        file.extend(1000_i64.to_be_bytes());
        file.push(1);
        file.extend(3600_i32.to_be_bytes());
        file.extend([0, 0]);
        file.extend((-7200_i32).to_be_bytes());
        file.extend([1, 0]);
        file.extend(b"XYZ\0\n\n");
        file
    }

    #[test]
    fn a_zone_file_gives_the_offset_of_a_time() {
        let file = zone();
        assert_eq!(offset_at(&file, 999), Some(3600));
        assert_eq!(offset_at(&file, 1000), Some(-7200));
        for len in 0..file.len() - 6 {
            assert_eq!(offset_at(&file[..len], 1000).filter(|offset| *offset != -7200), None);
        }
    }
}
