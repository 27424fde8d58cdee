//! Every change that snapshots make to the host's files, one call a step.
//!
//! A test can let step number n fail, or end the world there: from then on nothing reaches the disk any more, as after `kill -9`.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::sync_folder;
use crate::config::ImageFormat;
use crate::disk::image::{self, Backing, ImageError};

/// What happens at the chosen step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The step fails as on a full disk, and all that follow work.
    Fails,
    /// Half of a write arrives, and nothing after it.
    Killed,
}

#[derive(Debug)]
struct Faults {
    /// Steps until it happens.
    left: AtomicU64,
    done: AtomicU64,
    fault: Fault,
}

/// The host's files.
#[derive(Clone, Debug, Default)]
pub struct Files(Option<Arc<Faults>>);

impl Files {
    /// The host's files, with something that goes wrong at step number `step`, from 0. For tests.
    pub fn faulty(step: u64, fault: Fault) -> Self {
        Self(Some(Arc::new(Faults { left: AtomicU64::new(step), done: AtomicU64::new(0), fault })))
    }

    /// Steps so far, where they are counted.
    pub fn steps(&self) -> u64 {
        self.0.as_ref().map_or(0, |faults| faults.done.load(Ordering::SeqCst))
    }

    /// Whether the chosen step has been reached.
    pub fn is_struck(&self) -> bool {
        self.0.as_ref().is_some_and(|faults| faults.left.load(Ordering::SeqCst) == u64::MAX)
    }

    /// A step of work that somebody else does, such as a part of a copy.
    ///
    /// # Errors
    /// Only where a test lets it fail.
    pub fn step(&self) -> io::Result<()> {
        let Some(faults) = &self.0 else { return Ok(()) };
        let struck = || io::Error::from(io::ErrorKind::StorageFull);
        faults.done.fetch_add(1, Ordering::SeqCst);
        match faults.left.load(Ordering::SeqCst) {
            u64::MAX if faults.fault == Fault::Killed => Err(struck()),
            u64::MAX => Ok(()),
            0 => {
                faults.left.store(u64::MAX, Ordering::SeqCst);
                Err(struck())
            }
            left => {
                faults.left.store(left - 1, Ordering::SeqCst);
                Ok(())
            }
        }
    }

    /// Makes a folder and all above it.
    ///
    /// # Errors
    /// What the host says.
    pub fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        fs::create_dir_all(path)
    }

    /// Brings the names in a folder to stable storage.
    ///
    /// # Errors
    /// What the host says.
    pub fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        sync_folder(path)
    }

    /// A new file, to be written from its start.
    ///
    /// # Errors
    /// What the host says; where there is one of that name, too.
    pub fn create(&self, path: &Path) -> io::Result<Output> {
        self.step()?;
        Ok(Output { file: File::create_new(path)?, files: self.clone() })
    }

    /// A new file with these bytes, on stable storage (its name is not, before [`Files::sync_folder`]).
    ///
    /// # Errors
    /// What the host says.
    pub fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.create(path)?;
        file.write(bytes)?;
        file.sync()
    }

    /// Puts `bytes` into the place of the file at `path` in one step; all of it is on stable storage then.
    ///
    /// # Errors
    /// What the host says; the file is then as it was (or, where only the folder could not be synced, as it should be).
    pub fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let temporary = path.with_extension("new");
        self.remove(&temporary)?;
        self.write_new(&temporary, bytes)?;
        self.rename(&temporary, path)
    }

    /// Gives the file at `from` the name `to`, which may be another's, and brings the name to stable storage.
    ///
    /// # Errors
    /// What the host says.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        fs::rename(from, to)?;
        self.sync_folder(to.parent().unwrap_or(Path::new(".")))
    }

    /// Gives the file at `from` a second name `to`. Both are the same file; it is there for as long as one of its names is.
    ///
    /// # Errors
    /// What the host says: also where the two places are not on one file system, or it knows no second names.
    pub fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        fs::hard_link(from, to)
    }

    /// Removes a file, if there is one.
    ///
    /// # Errors
    /// What the host says.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        gone(fs::remove_file(path))
    }

    /// Removes a folder with all in it, if there is one.
    ///
    /// # Errors
    /// What the host says.
    pub fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        gone(fs::remove_dir_all(path))
    }

    /// Makes an empty qcow2 image at `path` for a medium of `bytes`.
    ///
    /// # Errors
    /// In words.
    pub fn image(&self, path: &Path, bytes: u64) -> Result<(), ImageError> {
        let host = |error| ImageError::Host { path: path.to_owned(), error };
        self.step().map_err(host)?;
        image::create(path, Some(bytes), ImageFormat::Qcow2, None)?;
        self.step().map_err(host)
    }

    /// Makes an empty qcow2 image at `path` over `backing`, as it is named in the image.
    ///
    /// # Errors
    /// In words.
    pub fn overlay(&self, path: &Path, backing: &Path, format: ImageFormat) -> Result<(), ImageError> {
        let host = |error| ImageError::Host { path: path.to_owned(), error };
        self.step().map_err(host)?;
        image::create(path, None, ImageFormat::Qcow2, Some(Backing { path: backing, format: Some(format) }))?;
        // A kill after it was made.
        self.step().map_err(host)
    }
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// A file that is being written.
#[derive(Debug)]
pub struct Output {
    file: File,
    files: Files,
}

impl Output {
    /// Writes on.
    ///
    /// # Errors
    /// What the host says.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.files.step() {
            let _ = self.file.write_all(&bytes[..bytes.len() / 2]);
            return Err(error);
        }
        self.file.write_all(bytes)
    }

    /// Brings it to stable storage.
    ///
    /// # Errors
    /// What the host says.
    pub fn sync(&self) -> io::Result<()> {
        self.files.step()?;
        self.file.sync_all()
    }

    /// The open file, for whoever fills it in another way.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Output::write(self, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
