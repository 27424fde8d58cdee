//! Check sums of each MiB of a file, kept from one Save & Close to the next: only what was written since is read again.
//!
//! They hold as long as length and time of the last write are as they were when they were taken, as everywhere ([`super::identity`]), and
//! for what this process has not written itself since it opened the file.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;
use twox_hash::xxhash3_128::Hasher;

use super::host_file::read_at;

/// Bytes with one check sum. Part of the meaning of the hash.
pub const PART: u64 = 1 << 20;
/// Before the hash of a file that is made of the sums of its parts.
pub const MARK: &str = "mib-";
/// The file of sums in a folder.
const FILE: &str = "sums.ron";
/// More is not read: everything is measured anew then.
const MOST: u64 = 256 << 20;

/// Which parts of a file were written since it was opened. Clones are of the same file.
#[derive(Clone, Debug, Default)]
pub struct Written(Arc<Mutex<WrittenParts>>);

#[derive(Debug, Default)]
struct WrittenParts {
    all: HashSet<u64>,
    /// The newest: most writes are beside the one before.
    newest: Option<u64>,
}

impl Written {
    /// `len` bytes from `offset` on are about to be written.
    pub fn add(&self, offset: u64, len: u64) {
        if len == 0 {
            return;
        }
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for part in offset / PART..=offset.saturating_add(len - 1) / PART {
            if parts.newest != Some(part) {
                parts.newest = Some(part);
                parts.all.insert(part);
            }
        }
    }

    fn has(&self, part: u64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).all.contains(&part)
    }
}

/// What only decides whether one has to look at a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Its bytes.
    pub size: u64,
    /// Seconds and nanoseconds of its last write since 1970; `None`: the host does not say.
    pub modified: Option<(u64, u32)>,
}

impl Stamp {
    /// As the file is now; all zero where the host does not say.
    pub fn of(file: &File) -> Self {
        let Ok(metadata) = file.metadata() else { return Self { size: 0, modified: None } };
        let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Self { size: metadata.len(), modified: since.map(|since| (since.as_secs(), since.subsec_nanos())) }
    }
}

/// The sums of a file's parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSums {
    /// The file.
    pub path: PathBuf,
    /// What it was when they were taken.
    pub stamp: Stamp,
    /// By number; parts that are not here are all zeros.
    pub parts: BTreeMap<u64, u128>,
}

impl FileSums {
    /// The hash of the whole, which names how it is made.
    pub fn hash(&self) -> String {
        let mut hasher = Hasher::new();
        for (part, sum) in &self.parts {
            hasher.write(&part.to_le_bytes());
            hasher.write(&sum.to_le_bytes());
        }
        format!("{MARK}{:032x}", hasher.finish_128())
    }

    /// Whether a part of the file, which has `size` bytes now, has the bytes that it had.
    fn covers(&self, part: u64, size: u64) -> bool {
        size == self.stamp.size || (part + 1) * PART <= self.stamp.size.min(size)
    }
}

/// Sums that were right when a file was opened, and what was written since.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The sums.
    pub sums: &'a FileSums,
    /// Written since.
    pub written: &'a Written,
}

/// Measures the parts of `file`, which has `size` bytes; the bytes that had to be read too. `progress` gets (done, all) in bytes and says
/// whether to go on.
///
/// # Errors
/// What the host says; [`ErrorKind::Interrupted`] where `progress` said no.
pub fn measure(
    file: &File,
    size: u64,
    known: Option<Known<'_>>,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> io::Result<(BTreeMap<u64, u128>, u64)> {
    let mut parts = BTreeMap::new();
    let mut buffer = vec![0; PART as usize];
    // Nothing but holes lies before it.
    let (mut data, mut at, mut read) = (0, 0, 0);
    while at < size {
        if !progress(at, size) {
            return Err(ErrorKind::Interrupted.into());
        }
        let part = at / PART;
        let bytes = &mut buffer[..(size - at).min(PART) as usize];
        let end = at + bytes.len() as u64;
        if let Some(known) = known.filter(|known| known.sums.covers(part, size) && !known.written.has(part)) {
            parts.extend(known.sums.parts.get(&part).map(|sum| (part, *sum)));
        } else {
            if data <= at {
                data = next_data(file, at, size);
            }
            if data < end {
                read_at(file, at, bytes)?;
                read += bytes.len() as u64;
                // A hole and a part full of zeros are the same medium.
                if !is_zero(bytes) {
                    parts.insert(part, XxHash3_128::oneshot(bytes));
                }
            }
        }
        at = end;
    }
    progress(size, size);
    Ok((parts, read))
}

/// Whether all bytes are zeros, many at a time.
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(256).all(|part| part.iter().fold(0, |all, byte| all | byte) == 0)
}

/// Where the next byte at or behind `at` lies that is in no hole; `at` where the host cannot tell.
fn next_data(file: &File, at: u64, size: u64) -> u64 {
    #[cfg(target_os = "linux")]
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
        Ok(data) => return data.max(at),
        Err(rustix::io::Errno::NXIO) if file.metadata().is_ok_and(|metadata| metadata.is_file()) => return size,
        Err(_) => {}
    }
    let _ = (file, size);
    at
}

/// Sums as they stand in the file.
#[derive(Serialize, Deserialize)]
struct Kept {
    path: PathBuf,
    stamp: Stamp,
    hash: String,
    /// Number and sum, in hexadecimal.
    parts: Vec<(u64, String)>,
}

/// Reads what [`write()`] has left in `folder`. What is not there, or damaged, is not known.
pub fn read(folder: &Path) -> Vec<FileSums> {
    let mut text = String::new();
    let path = folder.join(FILE);
    match File::open(&path).and_then(|file| file.take(MOST + 1).read_to_string(&mut text)) {
        Ok(_) if text.len() as u64 <= MOST => {}
        _ => return Vec::new(),
    }
    let kept: Vec<Kept> = ron::from_str(&text).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "all disks are measured anew");
        Vec::new()
    });
    let whole = |kept: Kept| {
        let parts = kept.parts.into_iter().map(|(part, sum)| Some((part, u128::from_str_radix(&sum, 16).ok()?)));
        let sums = FileSums { path: kept.path, stamp: kept.stamp, parts: parts.collect::<Option<_>>()? };
        (sums.hash() == kept.hash).then_some(sums)
    };
    kept.into_iter().filter_map(whole).collect()
}

/// Keeps sums in `folder`, instead of those that it has.
///
/// # Errors
/// What the host says.
pub fn write(folder: &Path, sums: &[FileSums]) -> io::Result<()> {
    let keep = |sums: &FileSums| Kept {
        path: sums.path.clone(),
        stamp: sums.stamp,
        hash: sums.hash(),
        parts: sums.parts.iter().map(|(part, sum)| (*part, format!("{sum:x}"))).collect(),
    };
    let kept: Vec<Kept> = sums.iter().map(keep).collect();
    let text = ron::to_string(&kept).map_err(io::Error::other)?;
    crate::snapshot::write_atomically(&folder.join(FILE), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::host_file::write_at;

    fn all(_: u64, _: u64) -> bool {
        true
    }

    #[test]
    fn only_what_was_written_is_read_again_and_nothing_is_believed_that_may_have_changed() {
        let folder = std::env::temp_dir().join(format!("hako-sums-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("disk.img");
        // Data, a hole of 40 MiB, data, and an end within a part.
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        let size = 44 * PART + 777;
        file.set_len(size).unwrap();
        for at in [0, PART + 9, 42 * PART, 44 * PART + 770] {
            write_at(&file, at, b"data").unwrap();
        }
        let (parts, read) = measure(&file, size, None, &mut all).unwrap();
        assert_eq!(parts.keys().copied().collect::<Vec<_>>(), [0, 1, 42, 44]);
        assert!(read <= 8 * PART, "holes were read: {read}");
        let sums = FileSums { path: path.clone(), stamp: Stamp::of(&file), parts };
        write(&folder, std::slice::from_ref(&sums)).unwrap();
        assert_eq!(self::read(&folder), std::slice::from_ref(&sums));

        // A session writes in three parts, one of them a hole before, and over a border.
        let written = Written::default();
        for at in [5 * PART + 1, 42 * PART - 2] {
            written.add(at, 4);
            write_at(&file, at, b"more").unwrap();
        }
        let known = Known { sums: &sums, written: &written };
        let (parts, read) = measure(&file, size, Some(known), &mut all).unwrap();
        assert_eq!(read, 3 * PART);
        assert_eq!(parts, measure(&file, size, None, &mut all).unwrap().0);

        // The file has grown: its last part is another.
        file.set_len(size + PART).unwrap();
        let (parts, _) = measure(&file, size + PART, Some(known), &mut all).unwrap();
        assert_eq!(parts, measure(&file, size + PART, None, &mut all).unwrap().0);

        // A sum that is not what was kept.
        let text = std::fs::read_to_string(folder.join(FILE)).unwrap();
        std::fs::write(folder.join(FILE), text.replacen("(0,\"", "(0,\"1", 1)).unwrap();
        assert_eq!(self::read(&folder), []);
        std::fs::write(folder.join(FILE), "nonsense").unwrap();
        assert_eq!(self::read(&folder), []);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
