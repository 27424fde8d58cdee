//! Locks on images, so that two machines never write one disk, whoever runs them.
//!
//! On Linux: open-file-description locks in the layout that QEMU uses ("Disk image file locking" in
//! qemu-block-drivers(7)). For each permission n (0 consistent read, 1 write, 2 write unchanged, 3 resize, 4 change
//! the graph) a shared lock on byte 100 + n says "I use it", and one on byte 200 + n says "nobody else may". One takes
//! one's own locks first and then looks whether anybody holds the opposite one.
//!
//! Elsewhere: a whole-file lock, which other emulators may or may not respect.

use std::fs::File;
use std::io;

/// Why an image cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody holds it in a way that does not go together with ours.
    #[error("in use")]
    InUse,
    /// The host failed.
    #[error("{0}")]
    Host(#[from] io::Error),
}

/// A locked image. Dropping it unlocks: closing the file would not, where a process that is just being started holds a copy of the
/// descriptor until it has become another program.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Makes a writer's lock a reader's, without a moment between.
    pub fn downgrade(&self) {
        platform::downgrade(&self.0);
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        platform::release(&self.0);
    }
}

/// Locks the image in `file`. Readers go together with readers. Whatever is written must be written before the lock goes.
///
/// A file system without locks (some network ones) is taken as it is, with a warning in the log.
///
/// # Errors
/// Where somebody else uses the image, or the host fails; nothing is locked then.
pub fn acquire(file: &File, writable: bool) -> Result<Lock, LockError> {
    // From here on, so that half of the locks go again where the other half is refused.
    let lock = Lock(file.try_clone()?);
    platform::acquire(&lock.0, writable)?;
    Ok(lock)
}

#[cfg(target_os = "linux")]
mod platform {
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;

    use super::LockError;

    const USED: i64 = 100;
    const UNSHARED: i64 = 200;

    const READ: u8 = 1 << 0;
    const WRITE: u8 = 1 << 1;
    const RESIZE: u8 = 1 << 3;

    pub fn acquire(file: &File, writable: bool) -> Result<(), LockError> {
        let used = if writable { READ | WRITE } else { READ };
        let unshared = WRITE | RESIZE;
        match take(file, used, unshared) {
            Err(LockError::Host(error)) if is_unsupported(&error) => {
                tracing::warn!(%error, "this file system has no locks: nothing keeps another machine from the image");
                Ok(())
            }
            result => result,
        }
    }

    pub fn release(file: &File) {
        let mut range = range(libc::F_UNLCK, USED);
        range.l_len = UNSHARED + 100 - USED;
        // What had no locks has none to give back.
        let _ = call(file, libc::F_OFD_SETLK, &mut range);
    }

    pub fn downgrade(file: &File) {
        for bit in bits_of(WRITE | RESIZE) {
            let mut range = range(libc::F_UNLCK, USED + bit);
            // What had no locks has none to give back.
            let _ = call(file, libc::F_OFD_SETLK, &mut range);
        }
    }

    fn take(file: &File, used: u8, unshared: u8) -> Result<(), LockError> {
        for (base, bits) in [(USED, used), (UNSHARED, unshared)] {
            for bit in bits_of(bits) {
                let mut range = range(libc::F_RDLCK, base + bit);
                call(file, libc::F_OFD_SETLK, &mut range)?;
            }
        }
        // Whoever refuses to share what we use, and whoever uses what we refuse to share.
        for (base, bits) in [(UNSHARED, used), (USED, unshared)] {
            for bit in bits_of(bits) {
                let mut range = range(libc::F_WRLCK, base + bit);
                call(file, libc::F_OFD_GETLK, &mut range)?;
                if i32::from(range.l_type) != libc::F_UNLCK {
                    return Err(LockError::InUse);
                }
            }
        }
        Ok(())
    }

    fn bits_of(bits: u8) -> impl Iterator<Item = i64> {
        (0..8).filter(move |bit| bits >> bit & 1 != 0)
    }

    fn range(kind: i32, start: i64) -> libc::flock {
        // SAFETY: `flock` is plain numbers; all zeros is a value of it (and what OFD locks want in `l_pid`).
        let mut range: libc::flock = unsafe { std::mem::zeroed() };
        range.l_type = kind as _;
        range.l_whence = libc::SEEK_SET as _;
        range.l_start = start as _;
        range.l_len = 1;
        range
    }

    fn call(file: &File, command: i32, range: &mut libc::flock) -> Result<(), LockError> {
        // SAFETY: the descriptor is open, and both commands take a pointer to one `flock` that outlives the call.
        let result = unsafe { libc::fcntl(file.as_raw_fd(), command, std::ptr::from_mut(range)) };
        if result != -1 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EACCES) => Err(LockError::InUse),
            _ => Err(LockError::Host(error)),
        }
    }

    fn is_unsupported(error: &io::Error) -> bool {
        matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOLCK | libc::EOPNOTSUPP | libc::ENOSYS))
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::fs::{File, TryLockError};

    use super::LockError;

    pub fn acquire(file: &File, writable: bool) -> Result<(), LockError> {
        let result = if writable { file.try_lock() } else { file.try_lock_shared() };
        result.map_err(|error| match error {
            TryLockError::WouldBlock => LockError::InUse,
            TryLockError::Error(error) => LockError::Host(error),
        })
    }

    pub fn downgrade(_file: &File) {
        // A whole-file lock would have to be given back first: it stays as it is until the machine ends.
    }

    pub fn release(file: &File) {
        // Closing it, which follows, does the same.
        let _ = file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};

    fn image(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("hako-lock-{name}-{}.img", std::process::id()));
        std::fs::write(&path, vec![0; 1 << 20]).unwrap();
        path
    }

    fn open(path: &Path, writable: bool) -> File {
        File::options().read(true).write(writable).open(path).unwrap()
    }

    #[test]
    fn one_writer_or_many_readers() {
        let path = image("own");
        let writer = open(&path, true);
        let lock = acquire(&writer, true).unwrap();
        assert!(matches!(acquire(&open(&path, true), true), Err(LockError::InUse)));
        assert!(matches!(acquire(&open(&path, false), false), Err(LockError::InUse)));
        // The file stays open, as it does in a process that is being started.
        drop(lock);
        let readers = [open(&path, false), open(&path, false)].map(|file| acquire(&file, false).unwrap());
        assert!(matches!(acquire(&open(&path, true), true), Err(LockError::InUse)));
        drop(readers);
        // What was refused has left nothing locked.
        let refused = open(&path, false);
        let lock = acquire(&writer, true).unwrap();
        assert!(matches!(acquire(&refused, false), Err(LockError::InUse)));
        drop(lock);
        acquire(&open(&path, true), true).unwrap();
        std::fs::remove_file(path).unwrap();
    }

    /// A QEMU that opens the image; its monitor is on its standard streams.
    fn qemu(path: &Path, read_only: bool) -> Option<std::process::Child> {
        let drive =
            format!("file={},format=raw,if=virtio,readonly={}", path.display(), if read_only { "on" } else { "off" });
        Command::new("qemu-system-x86_64")
            .args(["-nodefaults", "-display", "none", "-S", "-m", "16", "-monitor", "stdio", "-drive", &drive])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .ok()
    }

    /// What a QEMU says on its error stream when it opens the image and ends.
    fn qemu_complaint(path: &Path, read_only: bool) -> Option<String> {
        let mut child = qemu(path, read_only)?;
        let _ = child.stdin.take().unwrap().write_all(b"quit\n");
        let mut text = String::new();
        child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        child.wait().unwrap();
        Some(text)
    }

    #[test]
    fn a_qemu_refuses_what_we_hold_and_we_refuse_what_it_holds() {
        let path = image("qemu");
        let ours = open(&path, true);
        let lock = acquire(&ours, true).unwrap();
        let Some(text) = qemu_complaint(&path, false) else {
            eprintln!("no QEMU here: only our own side of the locks is tested");
            return;
        };
        assert!(text.contains("lock"), "a second writer: {text}");
        let text = qemu_complaint(&path, true).unwrap();
        assert!(text.contains("lock"), "a reader beside a writer: {text}");
        drop(lock);
        let lock = acquire(&open(&path, false), false).unwrap();
        assert_eq!(qemu_complaint(&path, true).unwrap(), "", "two readers");
        assert!(qemu_complaint(&path, false).unwrap().contains("lock"), "a writer beside a reader");
        drop(lock);

        let mut theirs = qemu(&path, false).unwrap();
        // It answers only once everything is set up.
        let mut commands = theirs.stdin.take().unwrap();
        commands.write_all(b"info block\n").unwrap();
        let mut lines = BufReader::new(theirs.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("hako-lock-qemu")), "it has opened the image");
        assert!(matches!(acquire(&open(&path, true), true), Err(LockError::InUse)));
        assert!(matches!(acquire(&open(&path, false), false), Err(LockError::InUse)));
        let _ = commands.write_all(b"quit\n");
        theirs.wait().unwrap();
        acquire(&open(&path, true), true).unwrap();
        std::fs::remove_file(path).unwrap();
    }
}
