//! A pipe inside the program: for tests, and for windows that show a serial line.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{BUFFER, CharBackend, Waker};

#[derive(Debug, Default)]
struct Queues {
    /// From the peer to the machine.
    input: VecDeque<u8>,
    /// From the machine to the peer.
    output: VecDeque<u8>,
    /// The machine found no room.
    refused: bool,
}

/// The machine's end.
#[derive(Debug)]
pub struct MemoryPipe(Arc<Mutex<Queues>>);

/// The other end.
#[derive(Clone, Debug)]
pub struct MemoryPeer {
    queues: Arc<Mutex<Queues>>,
    waker: Waker,
}

/// A pipe; `waker` hears when the peer has sent something or made room.
pub fn pipe(waker: Waker) -> (MemoryPipe, MemoryPeer) {
    let queues = Arc::new(Mutex::new(Queues::default()));
    (MemoryPipe(Arc::clone(&queues)), MemoryPeer { queues, waker })
}

fn lock(queues: &Mutex<Queues>) -> MutexGuard<'_, Queues> {
    queues.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Moves as much as fits into a queue of [`BUFFER`] bytes.
pub(super) fn offer(queue: &mut VecDeque<u8>, bytes: &[u8]) -> usize {
    let taken = bytes.len().min(BUFFER.saturating_sub(queue.len()));
    queue.extend(&bytes[..taken]);
    taken
}

/// Moves as much as there is, or as `into` holds.
pub(super) fn take(queue: &mut VecDeque<u8>, into: &mut [u8]) -> usize {
    let taken = into.len().min(queue.len());
    for (slot, byte) in into.iter_mut().zip(queue.drain(..taken)) {
        *slot = byte;
    }
    taken
}

impl CharBackend for MemoryPipe {
    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut queues = lock(&self.0);
        let taken = offer(&mut queues.output, bytes);
        queues.refused |= taken < bytes.len();
        taken
    }

    fn read(&mut self, into: &mut [u8]) -> usize {
        take(&mut lock(&self.0).input, into)
    }
}

impl MemoryPeer {
    /// Sends as much as there is room for, and says how much.
    pub fn send(&self, bytes: &[u8]) -> usize {
        let taken = offer(&mut lock(&self.queues).input, bytes);
        self.waker.wake();
        taken
    }

    /// Takes all that has come.
    pub fn received(&self) -> Vec<u8> {
        let mut queues = lock(&self.queues);
        let bytes = queues.output.drain(..).collect();
        if std::mem::take(&mut queues.refused) {
            drop(queues);
            self.waker.wake();
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_pipe_takes_no_more_and_tells_when_there_is_room() {
        let (waker, bell) = Waker::bell();
        let (mut pipe, peer) = pipe(waker);
        assert_eq!(pipe.write(&vec![7; BUFFER + 10]), BUFFER);
        assert_eq!(pipe.write(&[7]), 0);
        assert!(bell.try_recv().is_err());
        assert_eq!(peer.received().len(), BUFFER);
        bell.try_recv().unwrap();
        assert_eq!(peer.send(b"hello"), 5);
        bell.try_recv().unwrap();
        let mut buffer = [0; 3];
        assert_eq!(pipe.read(&mut buffer), 3);
        assert_eq!(&buffer, b"hel");
        assert_eq!(pipe.read(&mut buffer), 2);
        assert_eq!(pipe.read(&mut buffer), 0);
    }
}
