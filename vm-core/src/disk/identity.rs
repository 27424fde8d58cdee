//! Which medium a saved state belongs to, and whether it is still as it was.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use twox_hash::xxhash3_128::Hasher;

use super::MediumError;
use super::qcow2::chain;
use super::sums::{self, FileSums, Known, Stamp};
use crate::calendar::utc;
use crate::config::ImageFormat;

/// Bytes hashed at a time. Part of the meaning of the hash.
const PART: usize = sums::PART as usize;

/// A medium as it was when a state was saved.
///
/// Length and time of the last write only decide whether one has to look: where the length is the same and the time is not, the
/// content decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediumIdentity {
    /// The file.
    pub path: PathBuf,
    /// Its bytes.
    pub size: u64,
    /// Seconds and nanoseconds of its last write since 1970; `None`: the host does not say.
    pub modified: Option<(u64, u32)>,
    /// XXH3 (128 bits, hexadecimal) over number and XXH3 of each MiB that is not all zeros ([`FileSums::hash`]); from versions before over
    /// number and bytes.
    pub hash: String,
    /// How the file holds the medium's bytes; `None`: written by a version that knew plain images only.
    #[serde(default)]
    pub format: Option<ImageFormat>,
    /// The images below it, topmost first; none of them has any below by itself here.
    #[serde(default)]
    pub below: Vec<MediumIdentity>,
}

/// How far a measurement is.
#[derive(Debug)]
pub enum IdentityStep {
    /// Bytes done so far and in all.
    Progress {
        /// Done.
        done: u64,
        /// In all.
        all: u64,
    },
    /// The end. [`ErrorKind::Interrupted`]: cancelled.
    Done(io::Result<Measured>),
}

/// A medium that was measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// What it is.
    pub identity: MediumIdentity,
    /// The sums of its files, topmost first: the next time only what is written in between needs to be read.
    pub sums: Vec<FileSums>,
    /// Bytes that had to be read.
    pub read: u64,
}

/// A file to be measured.
#[derive(Clone, Copy, Debug)]
pub struct FileToMeasure<'a> {
    /// Where it is.
    pub path: &'a Path,
    /// Open.
    pub file: &'a File,
    /// What is known of it.
    pub known: Option<Known<'a>>,
}

/// Why a medium is not the one that a state was saved with.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It is gone.
    #[error("“{}” does not exist any more", .0.display())]
    Missing(PathBuf),
    /// It has another length.
    #[error("“{}” has changed since the state was saved: it had {was} bytes and now has {now}{}", path.display(), last_write(*written))]
    Size {
        /// The file.
        path: PathBuf,
        /// Bytes then.
        was: u64,
        /// Bytes now.
        now: u64,
        /// When it was written to last, in seconds since 1970.
        written: Option<u64>,
    },
    /// Its content is another.
    #[error("“{}” has changed since the state was saved: something has written to it{}", path.display(), last_write(*written))]
    Content {
        /// The file.
        path: PathBuf,
        /// When it was written to last, in seconds since 1970.
        written: Option<u64>,
    },
    /// The same bytes, read another way.
    #[error("“{}” was attached as {was} when the state was saved, and now as {now}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The format then.
        was: ImageFormat,
        /// The format now.
        now: ImageFormat,
    },
    /// It lies over other files than before.
    #[error("“{}” has changed since the state was saved: it lay over {was} other images and now lies over {now}", path.display())]
    Below {
        /// The file.
        path: PathBuf,
        /// Files below it then.
        was: usize,
        /// Files below it now.
        now: usize,
    },
    /// It cannot be opened as it was.
    #[error("{0}")]
    Unusable(MediumError),
    /// It cannot be read, or the check was cancelled.
    #[error("“{}” cannot be compared with the saved state: {error}", path.display())]
    Host {
        /// The file.
        path: PathBuf,
        /// What the host says.
        error: io::Error,
    },
}

fn last_write(seconds: Option<u64>) -> String {
    seconds.map(|seconds| format!(" (its last write: {} UTC)", utc(seconds))).unwrap_or_default()
}

impl MediumIdentity {
    /// Reads the whole of `files`: an image and all below it, with their paths. `progress` gets (done, all) in bytes and says whether
    /// to go on. The positions of the files move.
    ///
    /// # Errors
    /// What the host says; [`ErrorKind::Interrupted`] where `progress` said no; an error too where somebody writes a file meanwhile.
    pub fn measure(
        format: ImageFormat,
        files: &[(&Path, &File)],
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> io::Result<Self> {
        let files: Vec<_> = files.iter().map(|&(path, file)| FileToMeasure { path, file, known: None }).collect();
        Ok(Self::measure_with(format, &files, progress)?.identity)
    }

    /// The same, where only a part of the files needs to be read.
    ///
    /// # Errors
    /// As for [`MediumIdentity::measure`].
    pub fn measure_with(
        format: ImageFormat,
        files: &[FileToMeasure<'_>],
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> io::Result<Measured> {
        let (mut sums, mut identities, mut read) = (Vec::new(), Vec::new(), 0);
        for file in files {
            let (measured, bytes) = Self::measure_file(file, progress)?;
            read += bytes;
            identities.push(Self {
                path: measured.path.clone(),
                size: measured.stamp.size,
                modified: measured.stamp.modified,
                hash: measured.hash(),
                format: None,
                below: Vec::new(),
            });
            sums.push(measured);
        }
        let mut identities = identities.into_iter();
        let top = identities.next().ok_or(ErrorKind::NotFound)?;
        let identity = Self { format: Some(format), below: identities.collect(), ..top };
        Ok(Measured { identity, sums, read })
    }

    fn measure_file(
        file: &FileToMeasure<'_>,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> io::Result<(FileSums, u64)> {
        let FileToMeasure { path, mut file, known } = *file;
        let before = Stamp::of(file).modified;
        let size = file.seek(SeekFrom::End(0))?;
        let (parts, read) = sums::measure(file, size, known, progress)?;
        let after = Stamp::of(file).modified;
        if before != after {
            return Err(io::Error::other("something else writes to it at the same time"));
        }
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Ok((FileSums { path, stamp: Stamp { size, modified: after }, parts }, read))
    }

    /// Whether the image is still as it was, and all below it, now that it is at `path` and attached as `format`.
    ///
    /// # Errors
    /// In words, where it is not.
    pub fn check_at(
        &self,
        path: PathBuf,
        format: ImageFormat,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<(), IdentityError> {
        if let Some(was) = self.format.filter(|was| *was != format) {
            return Err(IdentityError::Format { path, was, now: format });
        }
        Self { path: path.clone(), ..self.clone() }.check(progress)?;
        if format == ImageFormat::Raw {
            return Ok(());
        }
        // The names of the files below stand in the image, which is the same: they may have moved together with it.
        let now = chain::files(&path, false, false).map_err(IdentityError::Unusable)?;
        if now.len() != self.below.len() + 1 {
            return Err(IdentityError::Below { path, was: self.below.len(), now: now.len() - 1 });
        }
        for (then, now) in self.below.iter().zip(now.into_iter().skip(1)) {
            Self { path: now.path, ..then.clone() }.check(progress)?;
        }
        Ok(())
    }

    /// Whether the file alone is still as it was.
    ///
    /// # Errors
    /// In words, where it is not.
    pub(crate) fn check(&self, progress: &mut dyn FnMut(u64, u64) -> bool) -> Result<(), IdentityError> {
        let host = |error: io::Error| match error.kind() {
            ErrorKind::NotFound => IdentityError::Missing(self.path.clone()),
            _ => IdentityError::Host { path: self.path.clone(), error },
        };
        // Looked at before it is opened: opening a pipe in its place would wait.
        super::check_kind_of_file(&self.path, false).map_err(|error| match error {
            MediumError::Missing(path) => IdentityError::Missing(path),
            MediumError::Host { path, error } => IdentityError::Host { path, error },
            other => IdentityError::Host { path: self.path.clone(), error: io::Error::other(other) },
        })?;
        let file = File::open(&self.path).map_err(host)?;
        let now = (&file).seek(SeekFrom::End(0)).map_err(host)?;
        let modified = Stamp::of(&file).modified;
        let written = modified.map(|(seconds, _)| seconds);
        if now != self.size {
            return Err(IdentityError::Size { path: self.path.clone(), was: self.size, now, written });
        }
        if self.modified.is_some() && modified == self.modified {
            return Ok(());
        }
        let hash = if self.hash.starts_with(sums::MARK) {
            let (parts, _) = sums::measure(&file, now, None, progress).map_err(host)?;
            FileSums { path: self.path.clone(), stamp: Stamp { size: now, modified: None }, parts }.hash()
        } else {
            hash_of_old(&file, now, progress).map_err(host)?
        };
        if hash == self.hash {
            return Ok(());
        }
        Err(IdentityError::Content { path: self.path.clone(), written })
    }
}

/// The hash as versions before wrote it.
fn hash_of_old(mut file: &File, size: u64, progress: &mut dyn FnMut(u64, u64) -> bool) -> io::Result<String> {
    let mut hasher = Hasher::new();
    let mut part = vec![0; PART];
    file.seek(SeekFrom::Start(0))?;
    let mut done = 0;
    while done < size {
        if !progress(done, size) {
            return Err(ErrorKind::Interrupted.into());
        }
        let bytes = &mut part[..(size - done).min(PART as u64) as usize];
        file.read_exact(bytes)?;
        // A hole and a part full of zeros are the same medium.
        if bytes.iter().any(|byte| *byte != 0) {
            hasher.write(&(done / PART as u64).to_le_bytes());
            hasher.write(bytes);
        }
        done += bytes.len() as u64;
    }
    progress(size, size);
    Ok(format!("{:032x}", hasher.finish_128()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    #[test]
    fn the_time_alone_changes_nothing_and_the_content_decides() {
        let path = std::env::temp_dir().join(format!("hako-identity-{}.img", std::process::id()));
        std::fs::write(&path, vec![1; 2 * PART + 5]).unwrap();
        let mut steps = 0;
        let identity =
            MediumIdentity::measure(ImageFormat::Raw, &[(path.as_path(), &File::open(&path).unwrap())], &mut |_, _| {
                steps += 1;
                true
            })
            .unwrap();
        assert_eq!(steps, 4);
        // As a version before had it.
        let old = hash_of_old(&File::open(&path).unwrap(), 2 * PART as u64 + 5, &mut |_, _| true).unwrap();
        let old = MediumIdentity { hash: old, modified: None, ..identity.clone() };
        old.check(&mut |_, _| true).unwrap();
        let text = ron::to_string(&identity).unwrap();
        assert_eq!(ron::from_str::<MediumIdentity>(&text).unwrap(), identity);

        // Equal content under another time.
        let later = SystemTime::now() + Duration::from_mins(1);
        File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
        identity.check(&mut |_, _| true).unwrap();
        // One byte.
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[PART + 1] = 2;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(identity.check(&mut |_, _| true), Err(IdentityError::Content { .. })));
        assert!(matches!(old.check(&mut |_, _| true), Err(IdentityError::Content { .. })));
        assert!(matches!(identity.check(&mut |_, _| false), Err(IdentityError::Host { .. })));
        std::fs::write(&path, b"short").unwrap();
        assert!(matches!(identity.check(&mut |_, _| true), Err(IdentityError::Size { now: 5, .. })));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(identity.check(&mut |_, _| true), Err(IdentityError::Missing(_))));
    }
}
