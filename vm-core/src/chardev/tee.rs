//! One backend for two machines that run side by side: the first uses it, the second is given what the first was given.
//!
//! The two must make the same calls in the same order. Where they do not, [`Watch::apart`] says so.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::CharBackend;

/// Calls of the first that the second has not made yet, at most: beyond that nobody listens, and none is remembered.
const MOST: usize = 1 << 16;

/// A call and what came of it.
#[derive(Debug, PartialEq, Eq)]
enum Call {
    Read(Vec<u8>),
    Write(Vec<u8>, usize),
}

#[derive(Debug, Default)]
struct Shared {
    calls: Mutex<VecDeque<Call>>,
    apart: AtomicBool,
}

/// The first machine's end.
pub struct Tee {
    inner: Box<dyn CharBackend>,
    shared: Arc<Shared>,
}

/// The second machine's end.
#[derive(Debug)]
pub struct Echo(Arc<Shared>);

/// Whether the two machines still make the same calls.
#[derive(Clone, Debug)]
pub struct Watch(Arc<Shared>);

/// The two ends of a backend, and somebody who watches them.
pub fn tee(inner: Box<dyn CharBackend>) -> (Tee, Echo, Watch) {
    let shared = Arc::new(Shared::default());
    (Tee { inner, shared: Arc::clone(&shared) }, Echo(Arc::clone(&shared)), Watch(shared))
}

impl Shared {
    fn push(&self, call: Call) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.len() < MOST {
            calls.push_back(call);
        } else {
            self.apart.store(true, Ordering::Relaxed);
        }
    }

    fn take(&self) -> Option<Call> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn part(&self) {
        self.apart.store(true, Ordering::Relaxed);
    }
}

impl Watch {
    /// The second machine wrote something else than the first, or looked at another moment.
    pub fn apart(&self) -> bool {
        self.0.apart.load(Ordering::Relaxed)
    }
}

impl CharBackend for Tee {
    fn write(&mut self, bytes: &[u8]) -> usize {
        let taken = self.inner.write(bytes);
        self.shared.push(Call::Write(bytes.to_owned(), taken));
        taken
    }

    fn read(&mut self, into: &mut [u8]) -> usize {
        let count = self.inner.read(into).min(into.len());
        self.shared.push(Call::Read(into[..count].to_owned()));
        count
    }

    fn connection(&self) -> u64 {
        self.inner.connection()
    }
}

impl CharBackend for Echo {
    fn write(&mut self, bytes: &[u8]) -> usize {
        match self.0.take() {
            Some(Call::Write(written, taken)) if written == bytes => taken,
            _ => {
                self.0.part();
                bytes.len()
            }
        }
    }

    fn read(&mut self, into: &mut [u8]) -> usize {
        match self.0.take() {
            Some(Call::Read(given)) if given.len() <= into.len() => {
                into[..given.len()].copy_from_slice(&given);
                given.len()
            }
            _ => {
                self.0.part();
                0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chardev::{Waker, memory};

    #[test]
    fn the_second_is_given_what_the_first_was() {
        let (pipe, peer) = memory::pipe(Waker::new(|| {}));
        let (mut first, mut second, watch) = tee(Box::new(pipe));
        peer.send(b"ab");
        let mut bytes = [0; 4];
        assert_eq!(first.read(&mut bytes), 2);
        assert_eq!(first.write(b"x"), 1);
        bytes = [0; 4];
        assert_eq!((second.read(&mut bytes), &bytes[..2]), (2, &b"ab"[..]));
        assert_eq!(second.write(b"x"), 1);
        assert!(!watch.apart());
        assert_eq!(peer.received(), b"x", "once");
        first.write(b"y");
        second.write(b"z");
        assert!(watch.apart());
    }
}
