//! qcow2 images: the crate `imago` translates places, everything around it is here.
//!
//! | what imago leaves open | where it is kept |
//! |---|---|
//! | order of data and tables, syncs | `storage` |
//! | tables that point anywhere | `tables` looks through them before anything is used |
//! | features that it does not know | `header` refuses them in words |
//! | which backing files are opened, locks | `chain` |
//! | panics | [`Qcow2Image`] turns them into errors and touches the file no more |

pub mod chain;
pub mod header;
pub mod make;
mod storage;
mod tables;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder};

use super::SECTOR;
use super::raw::{Image, no_such_place};
use storage::Storage;

/// An image that others can lie over.
pub type Layer = Arc<FormatAccess<Storage>>;

/// A qcow2 image over its chain of backing files.
#[derive(Debug)]
pub struct Qcow2Image {
    /// Declared before `storage`: it writes its caches when it goes.
    access: Layer,
    /// The file that is written.
    storage: Storage,
    bytes: u64,
    /// imago has panicked: what it holds in memory may be anything.
    broken: bool,
}

/// Runs a part of imago; a panic becomes an error.
fn guarded<T>(part: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(part)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(io::Error::other(format!("its tables make no sense ({text})")))
    })
}

/// A layer over `backing`.
fn qcow2_layer(storage: Storage, writable: bool, backing: Option<Layer>) -> io::Result<Layer> {
    guarded(|| {
        let image = imago::qcow2::Qcow2::<Storage, Layer>::builder(storage)
            .write(writable)
            .backing(backing)
            .data_file(None)
            .open(DenyImplicitOpenGate::default())?;
        Ok(Arc::new(FormatAccess::new(image)))
    })
}

/// The lowest layer, where it is a plain image.
fn raw_layer(storage: Storage) -> io::Result<Layer> {
    guarded(|| Ok(Arc::new(FormatAccess::new(imago::raw::Raw::open_image(storage, false)?))))
}

/// A plain image that is open, as a layer below others.
///
/// # Errors
/// What the host says.
pub fn layer_of(file: File, bytes: u64) -> io::Result<Layer> {
    raw_layer(Storage::read_only(file, Path::new(""), bytes))
}

impl Qcow2Image {
    fn run<T>(&mut self, part: impl FnOnce(&FormatAccess<Storage>) -> io::Result<T>) -> io::Result<T> {
        if self.broken {
            return Err(io::Error::other("its tables made no sense before; the file is not touched any more"));
        }
        let mut finished = false;
        let result = guarded(|| {
            let result = part(&self.access);
            finished = true;
            result
        });
        if !finished {
            self.broken = true;
            self.storage.freeze();
        }
        result
    }

    /// Forgets what was written to this image there: what is below shows again.
    fn discard(&mut self, offset: u64, bytes: u64) -> io::Result<()> {
        if self.broken {
            return self.run(|_| Ok(()));
        }
        let Some(access) = Arc::get_mut(&mut self.access) else { return Err(ErrorKind::ResourceBusy.into()) };
        let result = catch_unwind(AssertUnwindSafe(|| access.discard_to_backing(offset, bytes)));
        result.unwrap_or_else(|_| {
            self.broken = true;
            self.storage.freeze();
            Err(io::Error::other("its tables make no sense"))
        })
    }

    /// How many of `len` bytes from `offset` on the medium has; an error past its last sector.
    fn inside(&self, offset: u64, len: usize) -> io::Result<usize> {
        let end = offset.checked_add(len as u64).ok_or_else(no_such_place)?;
        if end > self.bytes.div_ceil(SECTOR) * SECTOR {
            return Err(no_such_place());
        }
        Ok(self.bytes.saturating_sub(offset).min(len as u64) as usize)
    }
}

impl Image for Qcow2Image {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let inside = self.inside(offset, buffer.len())?;
        let (present, absent) = buffer.split_at_mut(inside);
        absent.fill(0);
        if present.is_empty() {
            return Ok(());
        }
        self.run(|access| access.read(present, offset))
    }

    fn write(&mut self, offset: u64, buffer: &[u8]) -> io::Result<()> {
        let inside = self.inside(offset, buffer.len())?;
        let (present, absent) = buffer.split_at(inside);
        if absent.iter().any(|byte| *byte != 0) {
            return Err(no_such_place());
        }
        if present.is_empty() {
            return Ok(());
        }
        self.run(|access| access.write(present, offset))?;
        // A new table: what points to it must not wait until imago frees something.
        if self.storage.waits() { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.run(FormatAccess::flush)?;
        self.storage.commit().map_err(|error| match error.kind() {
            // That kind is for places that the medium does not have.
            ErrorKind::InvalidInput => io::Error::other(error),
            _ => error,
        })
    }

    fn layer(&mut self) -> io::Result<Layer> {
        if self.broken {
            return Err(io::Error::other("its tables make no sense"));
        }
        Ok(Arc::clone(&self.access))
    }

    fn freeze(&mut self) {
        self.storage.freeze();
    }
}
