//! Standard input and output, and files.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use super::pump::{Link, Pump};
use super::terminal::{self, Claim};
use super::{OpenError, Waker};

/// Descriptors that are there from the beginning.
struct Fixed {
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
    /// Given back at the end, after the last byte.
    _claim: Option<Claim>,
}

impl Link for Fixed {
    fn input(&self) -> Option<BorrowedFd<'_>> {
        self.input.as_ref().map(OwnedFd::as_fd)
    }

    fn output(&self) -> Option<BorrowedFd<'_>> {
        self.output.as_ref().map(OwnedFd::as_fd)
    }

    fn input_lost(&mut self) {
        self.input = None;
    }

    fn output_lost(&mut self) {
        self.output = None;
    }
}

/// Standard input and output; a terminal becomes raw (see [`terminal::raw`] for `signal_keys`) until the backend is dropped.
///
/// # Errors
/// Where another backend has them, or the terminal refuses.
pub fn stdio(signal_keys: bool, waker: Waker) -> Result<Pump, OpenError> {
    let claim = Claim::take().ok_or(OpenError::StdioTwice)?;
    let open = || -> io::Result<Pump> {
        let link = Fixed {
            input: Some(io::stdin().as_fd().try_clone_to_owned()?),
            output: Some(io::stdout().as_fd().try_clone_to_owned()?),
            _claim: Some(claim),
        };
        terminal::raw(signal_keys)?;
        Pump::start("stdio", link, waker)
    };
    open().map_err(OpenError::Terminal)
}

/// A new file (an old one of that name is emptied) that takes what is written.
///
/// # Errors
/// Where the file cannot be written.
pub fn file(path: &Path, waker: Waker) -> Result<Pump, OpenError> {
    let open = || {
        let output = OwnedFd::from(File::create(path)?);
        Pump::start("file", Fixed { input: None, output: Some(output), _claim: None }, waker)
    };
    open().map_err(|source| OpenError::host(path, source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chardev::CharBackend as _;

    #[test]
    fn a_file_has_every_byte_when_its_backend_is_dropped() {
        let path = std::env::temp_dir().join(format!("hako-chardev-file-{}", std::process::id()));
        let (waker, bell) = Waker::bell();
        let mut backend = file(&path, waker).unwrap();
        let text: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
        let mut rest = &text[..];
        while !rest.is_empty() {
            let taken = backend.write(rest);
            rest = &rest[taken..];
            if !rest.is_empty() {
                bell.recv_timeout(std::time::Duration::from_secs(10)).unwrap();
            }
        }
        drop(backend);
        let written = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(written == text);
    }

    #[test]
    fn a_file_that_cannot_be_made_is_named() {
        let (waker, _bell) = Waker::bell();
        let message = file(Path::new("/nonexistent/folder/log"), waker).unwrap_err().to_string();
        assert!(message.contains("/nonexistent/folder/log"), "{message}");
    }
}
