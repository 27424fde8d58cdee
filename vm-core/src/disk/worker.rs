//! The I/O thread of one medium.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::identity::{FileToMeasure, IdentityStep, MediumIdentity};
use super::qcow2::chain;
use super::raw::Image;
use super::sums::{FileSums, Known, Stamp, Written};
use super::{BlockBackend, Completion, HeldFile, MediumError, Operation, SECTOR};
use crate::bus::signals::Signals;
use crate::config::ImageFormat;

/// What is known of a medium once it is open.
#[derive(Debug)]
pub struct About {
    /// The file.
    pub path: PathBuf,
    /// How it holds the bytes.
    pub format: ImageFormat,
    /// Bytes of the medium.
    pub bytes: u64,
    /// Writes are refused.
    pub read_only: bool,
    /// Writes are gone at the end.
    pub temporary: bool,
}

enum Job {
    Operation(u64, Operation),
    Identify(Arc<Vec<FileSums>>, Sender<IdentityStep>),
    Sync(Sender<io::Result<()>>),
    Freeze(PathBuf, Sender<Result<(), MediumError>>),
}

/// A medium with its thread. Dropping it finishes all that is queued, brings it to stable storage and lets go of the lock.
#[derive(Debug)]
pub struct Worker {
    about: About,
    /// `None` only while being dropped.
    jobs: Option<Sender<Job>>,
    done: Receiver<Completion>,
    /// Operations that came back because the thread is gone.
    lost: VecDeque<Completion>,
    in_flight: usize,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread. `files` are the image itself and all below it, for its identity.
    ///
    /// # Errors
    /// Where the host has no thread to give.
    pub fn start(
        about: About,
        files: Vec<HeldFile>,
        image: Box<dyn Image>,
        signals: &Arc<Signals>,
    ) -> io::Result<Self> {
        let (jobs, work) = unbounded();
        let (finished, done) = unbounded();
        let name = about.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().replace('\0', ""));
        let thread = Thread {
            path: about.path.clone(),
            read_only: about.read_only,
            format: about.format,
            image,
            files,
            finished,
            signals: Arc::clone(signals),
            dirty: false,
        };
        let thread = std::thread::Builder::new().name(format!("disk {name}")).spawn(move || thread.run(&work))?;
        Ok(Self { about, jobs: Some(jobs), done, lost: VecDeque::new(), in_flight: 0, thread: Some(thread) })
    }
}

impl BlockBackend for Worker {
    fn sectors(&self) -> u64 {
        self.about.bytes.div_ceil(SECTOR)
    }

    fn read_only(&self) -> bool {
        self.about.read_only
    }

    fn submit(&mut self, tag: u64, operation: Operation) {
        self.in_flight += 1;
        let job = Job::Operation(tag, operation);
        let returned = match &self.jobs {
            Some(jobs) => jobs.send(job).err().map(|error| error.0),
            None => Some(job),
        };
        if let Some(Job::Operation(tag, operation)) = returned {
            let result = Err(io::Error::other(GONE));
            self.lost.push_back(Completion { tag, operation, result });
        }
    }

    fn poll(&mut self) -> Option<Completion> {
        let completion = self.done.try_recv().ok().or_else(|| self.lost.pop_front())?;
        self.in_flight = self.in_flight.saturating_sub(1);
        Some(completion)
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.about.path)
    }

    fn format(&self) -> Option<ImageFormat> {
        Some(self.about.format)
    }

    fn temporary(&self) -> bool {
        self.about.temporary
    }

    fn identify(&mut self, known: &Arc<Vec<FileSums>>) -> Option<Receiver<IdentityStep>> {
        let (steps, receiver) = unbounded();
        self.jobs.as_ref()?.send(Job::Identify(Arc::clone(known), steps)).ok()?;
        Some(receiver)
    }

    fn sync(&mut self) -> Option<Receiver<io::Result<()>>> {
        let (done, receiver) = unbounded();
        self.jobs.as_ref()?.send(Job::Sync(done)).ok()?;
        Some(receiver)
    }

    fn freeze(&mut self, overlay: &Path) -> Result<(), MediumError> {
        let gone = || MediumError::Host { path: overlay.to_owned(), error: io::Error::other(GONE) };
        let (done, receiver) = unbounded();
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        jobs.send(Job::Freeze(overlay.to_owned(), done)).map_err(|_| gone())?;
        receiver.recv().map_err(|_| gone())??;
        overlay.clone_into(&mut self.about.path);
        self.about.format = ImageFormat::Qcow2;
        Ok(())
    }
}

const GONE: &str = "its I/O thread has ended";

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(path = %self.about.path.display(), "the I/O thread has panicked");
        }
    }
}

struct Thread {
    path: PathBuf,
    read_only: bool,
    format: ImageFormat,
    image: Box<dyn Image>,
    /// Declared after `image`, which may write when it goes: with them go the locks.
    files: Vec<HeldFile>,
    finished: Sender<Completion>,
    signals: Arc<Signals>,
    /// Written since the last flush.
    dirty: bool,
}

impl Thread {
    fn run(mut self, work: &Receiver<Job>) {
        while let Ok(job) = work.recv() {
            match job {
                Job::Operation(tag, operation) => self.operation(tag, operation),
                Job::Identify(known, steps) => self.identify(&known, &steps),
                // Whoever asked may have gone away.
                Job::Sync(done) => drop(done.send(self.flush())),
                Job::Freeze(overlay, done) => drop(done.send(self.freeze(&overlay))),
            }
        }
        if let Err(error) = self.flush() {
            tracing::error!(path = %self.path.display(), %error, "what was written last may not be on stable storage");
        }
    }

    fn operation(&mut self, tag: u64, mut operation: Operation) {
        let result = match &mut operation {
            Operation::Read { sector, buffer } => offset(*sector).and_then(|at| self.image.read(at, buffer)),
            Operation::Write { sector, buffer } => offset(*sector).and_then(|at| self.write(at, buffer)),
            Operation::Flush => self.flush(),
        };
        if let Err(error) = &result {
            tracing::warn!(path = %self.path.display(), %error, "a request failed");
        }
        // Nobody takes it where the medium is being closed.
        let _ = self.finished.send(Completion { tag, operation, result });
        self.signals.raise();
    }

    fn write(&mut self, offset: u64, buffer: &[u8]) -> io::Result<()> {
        if self.read_only {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the medium is read-only"));
        }
        self.dirty = true;
        self.image.write(offset, buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.dirty {
            self.image.flush()?;
            self.dirty = false;
        }
        Ok(())
    }

    fn freeze(&mut self, overlay: &Path) -> Result<(), MediumError> {
        let host = |path: &Path, error| MediumError::Host { path: path.to_owned(), error };
        self.flush().map_err(|error| host(&self.path, error))?;
        let layer = self.image.layer().map_err(|error| host(&self.path, error))?;
        let (image, file) = chain::open_over(overlay, layer)?;
        self.image.freeze();
        self.image = Box::new(image);
        if let Some(lock) = self.files.first().and_then(|file| file.lock.as_ref()) {
            lock.downgrade();
        }
        self.files.insert(0, file.into());
        overlay.clone_into(&mut self.path);
        self.format = ImageFormat::Qcow2;
        Ok(())
    }

    /// The files below the image, as a start would find them now. They need not be those that are open: a merge of snapshots puts others
    /// with the same content in their places.
    fn below_now(&self) -> io::Result<Vec<chain::ChainFile>> {
        if self.format == ImageFormat::Raw {
            return Ok(Vec::new());
        }
        let mut files = chain::files(&self.path, false, false).map_err(io::Error::other)?;
        files.remove(0);
        Ok(files)
    }

    fn identify(&mut self, known: &[FileSums], steps: &Sender<IdentityStep>) {
        let flushed = self.flush();
        let mut progress = |done, all| steps.send(IdentityStep::Progress { done, all }).is_ok();
        let (below, untouched) = (self.below_now(), Written::default());
        let result = flushed.and(below).and_then(|below| {
            let top = self.files.iter().take(1);
            let top = top.map(|held| (held.path.as_path(), &held.file, held.opened, &held.written));
            let below = below.iter().map(|file| (file.path.as_path(), &file.file, Stamp::of(&file.file), &untouched));
            let files: Vec<_> = top
                .chain(below)
                .map(|(path, file, stamp, written)| {
                    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
                    let fits =
                        |sums: &&FileSums| sums.path == absolute && sums.stamp == stamp && stamp.modified.is_some();
                    FileToMeasure { path, file, known: known.iter().find(fits).map(|sums| Known { sums, written }) }
                })
                .collect();
            MediumIdentity::measure_with(self.format, &files, &mut progress)
        });
        if let Ok(measured) = &result {
            tracing::debug!(path = %self.path.display(), read = measured.read, "measured");
        }
        let _ = steps.send(IdentityStep::Done(result));
    }
}

fn offset(sector: u64) -> io::Result<u64> {
    sector.checked_mul(SECTOR).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}
