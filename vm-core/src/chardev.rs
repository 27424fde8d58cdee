//! Where the bytes of a serial line, a debug port or a monitor go to and come from on the host.
//!
//! A chip holds a [`CharBackend`] and never waits for it. What can wait (terminals, files, sockets) has a named thread
//! behind it, with bounded buffers between; the thread tells through a [`Waker`] when bytes have come or there is room again.

pub mod memory;
pub mod mux;
pub mod null;
#[cfg(unix)]
pub mod pump;
#[cfg(unix)]
pub mod stream;
pub mod tee;
#[cfg(unix)]
pub mod terminal;
#[cfg(unix)]
pub mod unix_socket;

use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::{Receiver, bounded};

use crate::bus::signals::Signals;

/// Bytes that wait on either way of a backend at most.
pub const BUFFER: usize = 64 * 1024;

/// One end of a byte stream. Neither call ever waits.
pub trait CharBackend: Send {
    /// Takes as many bytes as it can now and says how many. A backend with nobody at its end swallows them. Where it took
    /// fewer, its waker tells once there is room again.
    fn write(&mut self, bytes: &[u8]) -> usize;
    /// Gives bytes that have arrived; 0 where there are none. Arrival raises the machine's attention flag.
    fn read(&mut self, into: &mut [u8]) -> usize;
    /// Which connection this is: 0 while nobody is at the other end, then another number for each that comes. Backends
    /// that are always connected say 1.
    fn connection(&self) -> u64 {
        1
    }
    /// [`CharBackend::write`] for whoever is `connection`; where somebody else is there by now, the bytes vanish.
    fn write_to(&mut self, connection: u64, bytes: &[u8]) -> usize {
        let _ = connection;
        self.write(bytes)
    }
    /// [`CharBackend::read`] of what `connection` sent, also after it has left; 0 where somebody else is there by now.
    fn read_from(&mut self, connection: u64, into: &mut [u8]) -> usize {
        let _ = connection;
        self.read(into)
    }
}

/// Whom to tell that bytes have come, that there is room again, or that somebody connected. Clones tell the same.
#[derive(Clone)]
pub struct Waker(Arc<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waker")
    }
}

impl Waker {
    /// Tells by calling `tell`, which must not wait.
    pub fn new(tell: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// Raises the attention of a machine.
    pub fn machine(signals: Arc<Signals>) -> Self {
        Self::new(move || signals.raise())
    }

    /// For a thread that waits: each call leaves one message (never more) in the channel.
    pub fn bell() -> (Self, Receiver<()>) {
        let (ring, bell) = bounded(1);
        let ring = move || {
            // A full channel already holds the message.
            let _ = ring.try_send(());
        };
        (Self::new(ring), bell)
    }

    /// Tells both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::new(move || {
            self.wake();
            other.wake();
        })
    }

    /// Tells.
    pub fn wake(&self) {
        (self.0)();
    }
}

/// Why a backend could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The host refused.
    #[error("{path}: {source}", path = .path.display())]
    Host {
        /// The file or socket.
        path: PathBuf,
        /// What the host said.
        source: std::io::Error,
    },
    /// Somebody listens there already.
    #[error("{}: another program listens on this socket; end it or take another path", .0.display())]
    InUse(PathBuf),
    /// There is something at the path that is not a socket.
    #[error("{}: exists and is not a socket; take another path", .0.display())]
    NotASocket(PathBuf),
    /// The terminal has only one keyboard.
    #[error("stdio is asked for twice; use mon:stdio to share it between a serial line and the monitor")]
    StdioTwice,
    /// The terminal could not be put into raw mode, or a thread could not be started.
    #[error("the terminal cannot be used: {0}")]
    Terminal(std::io::Error),
}

impl OpenError {
    /// The host refused `path`.
    pub fn host(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Host { path: path.into(), source }
    }
}
