//! Which medium a saved state belongs to, and whether it is still as it was.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use twox_hash::xxhash3_128::Hasher;

use super::MediumError;
use super::qcow2::chain;
use crate::config::ImageFormat;

/// Bytes hashed at a time. Part of the meaning of the hash.
const PART: usize = 1 << 20;

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
    /// XXH3 (128 bits, hexadecimal) over number and bytes of each MiB that is not all zeros.
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
    Done(io::Result<MediumIdentity>),
}

/// Why a medium is not the one that a state was saved with.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It is gone.
    #[error("“{}” does not exist any more: put it back, or discard the saved state", .0.display())]
    Missing(PathBuf),
    /// It has another length.
    #[error("“{}” has changed since the state was saved: it had {was} bytes and now has {now}. Put the old one back, or discard the saved state", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// Bytes then.
        was: u64,
        /// Bytes now.
        now: u64,
    },
    /// Its content is another.
    #[error("“{}” has changed since the state was saved: something has written to it. Put the old one back, or discard the saved state", .0.display())]
    Content(PathBuf),
    /// The same bytes, read another way.
    #[error("“{}” was attached as {was} when the state was saved, and now as {now}. Attach it as {was} again, or discard the saved state", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The format then.
        was: ImageFormat,
        /// The format now.
        now: ImageFormat,
    },
    /// It lies over other files than before.
    #[error("“{}” has changed since the state was saved: it lay over {was} other images and now lies over {now}. Put the old one back, or discard the saved state", path.display())]
    Below {
        /// The file.
        path: PathBuf,
        /// Files below it then.
        was: usize,
        /// Files below it now.
        now: usize,
    },
    /// It cannot be opened as it was.
    #[error("{0}. Put it back as it was, or discard the saved state")]
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
        let mut measured = Vec::with_capacity(files.len());
        for (path, file) in files {
            measured.push(Self::measure_file(path, file, progress)?);
        }
        let mut measured = measured.into_iter();
        let top = measured.next().ok_or(ErrorKind::NotFound)?;
        Ok(Self { format: Some(format), below: measured.collect(), ..top })
    }

    fn measure_file(path: &Path, file: &File, progress: &mut dyn FnMut(u64, u64) -> bool) -> io::Result<Self> {
        let before = modified(&file.metadata()?);
        let size = (&*file).seek(SeekFrom::End(0))?;
        let hash = hash(file, size, progress)?;
        let after = modified(&file.metadata()?);
        if before != after {
            return Err(io::Error::other("something else writes to it at the same time"));
        }
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Ok(Self { path, size, modified: after, hash, format: None, below: Vec::new() })
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
        if now != self.size {
            return Err(IdentityError::Size { path: self.path.clone(), was: self.size, now });
        }
        if self.modified.is_some() && modified(&file.metadata().map_err(host)?) == self.modified {
            return Ok(());
        }
        if hash(&file, now, progress).map_err(host)? == self.hash {
            return Ok(());
        }
        Err(IdentityError::Content(self.path.clone()))
    }
}

fn modified(metadata: &Metadata) -> Option<(u64, u32)> {
    let since = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some((since.as_secs(), since.subsec_nanos()))
}

fn hash(mut file: &File, size: u64, progress: &mut dyn FnMut(u64, u64) -> bool) -> io::Result<String> {
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
        assert!(matches!(identity.check(&mut |_, _| true), Err(IdentityError::Content(_))));
        assert!(matches!(identity.check(&mut |_, _| false), Err(IdentityError::Host { .. })));
        std::fs::write(&path, b"short").unwrap();
        assert!(matches!(identity.check(&mut |_, _| true), Err(IdentityError::Size { now: 5, .. })));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(identity.check(&mut |_, _| true), Err(IdentityError::Missing(_))));
    }
}
