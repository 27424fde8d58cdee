//! Reading and writing at a place of a file.

use std::fs::File;
use std::io;

/// Fills `buffer` from byte `offset` on.
///
/// # Errors
/// What the host says; [`io::ErrorKind::UnexpectedEof`] where the file is shorter.
pub fn read_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset);
    #[cfg(not(unix))]
    {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = file;
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(buffer)
    }
}

/// Writes `bytes` from byte `offset` on.
///
/// # Errors
/// What the host says.
pub fn write_at(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    #[cfg(test)]
    if full::now() {
        // Some of it arrives.
        put_at(file, offset, &bytes[..bytes.len() / 1024 * 512])?;
        return Err(io::ErrorKind::StorageFull.into());
    }
    put_at(file, offset, bytes)
}

fn put_at(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    #[cfg(test)]
    log::add(|| log::Step::Write(offset, bytes.to_vec()));
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::write_all_at(file, bytes, offset);
    #[cfg(not(unix))]
    {
        use std::io::{Seek, SeekFrom, Write};
        let mut file = file;
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(bytes)
    }
}

/// Makes the file longer, with zeros.
///
/// # Errors
/// What the host says.
pub fn grow(file: &File, bytes: u64) -> io::Result<()> {
    #[cfg(test)]
    full::check()?;
    #[cfg(test)]
    log::add(|| log::Step::Grow(bytes));
    file.set_len(bytes)
}

/// Brings what was written to stable storage.
///
/// # Errors
/// What the host says.
pub fn sync(file: &File) -> io::Result<()> {
    #[cfg(test)]
    full::check()?;
    #[cfg(test)]
    log::add(|| log::Step::Sync);
    file.sync_data()
}

/// A host's disk that is full, for this thread.
#[cfg(test)]
pub mod full {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// After `steps` more steps there is no room; `None`: there always is.
    pub fn after(steps: Option<u64>) {
        LEFT.set(steps);
    }

    /// Counts a step: whether there is no room for it.
    pub fn now() -> bool {
        let left = LEFT.get();
        LEFT.set(left.map(|left| left.saturating_sub(1)));
        left == Some(0)
    }

    pub fn check() -> io::Result<()> {
        if now() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

/// What a thread did to its files, for tests that cut the power.
#[cfg(test)]
pub mod log {
    use std::cell::RefCell;

    /// One step.
    #[derive(Clone, Debug)]
    pub enum Step {
        Write(u64, Vec<u8>),
        Grow(u64),
        Sync,
    }

    thread_local! {
        static LOG: RefCell<Option<Vec<Step>>> = const { RefCell::new(None) };
    }

    pub fn add(step: impl FnOnce() -> Step) {
        LOG.with_borrow_mut(|log| log.as_mut().map(|log| log.push(step())));
    }

    /// Starts to keep what this thread does.
    pub fn start() {
        LOG.set(Some(Vec::new()));
    }

    /// How many steps there were since the start.
    pub fn steps() -> usize {
        LOG.with_borrow(|log| log.as_ref().map_or(0, Vec::len))
    }

    /// Gives them.
    pub fn take() -> Vec<Step> {
        LOG.take().unwrap_or_default()
    }
}
