//! The place in a drive where its medium sits, and the one request that the drive has under way.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;

use crate::bus::signals::{Signals, StopReason};
use crate::disk::{BlockBackend, Completion, Operation, SECTOR, failure_text};

/// What came of a request.
#[derive(Debug)]
pub enum Answer {
    /// Done; here is the operation with its buffer.
    Done(Operation),
    /// The medium has no such place.
    NoSuchPlace,
    /// A read failed again after a person had resumed: a bad sector.
    Unreadable,
}

/// A medium (or none) and the request under way. A host error stops the machine; the request waits for [`MediumSlot::retry`].
pub struct MediumSlot {
    medium: Option<Box<dyn BlockBackend>>,
    signals: Arc<Signals>,
    /// Of the newest request; answers to others are nobody's any more.
    tag: u64,
    waiting: bool,
    /// Failed on the host, to be tried again.
    failed: Option<Operation>,
    tried_again: bool,
    /// Media that were taken out while they still worked: closing one waits for its thread.
    leaving: VecDeque<Box<dyn BlockBackend>>,
    requests: u64,
}

impl std::fmt::Debug for MediumSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.medium.as_ref().and_then(|medium| medium.path());
        f.debug_struct("MediumSlot").field("path", &path).field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

impl MediumSlot {
    /// A slot with a medium, or without.
    pub fn new(medium: Option<Box<dyn BlockBackend>>, signals: &Arc<Signals>) -> Self {
        Self {
            medium,
            signals: Arc::clone(signals),
            tag: 0,
            waiting: false,
            failed: None,
            tried_again: false,
            leaving: VecDeque::new(),
            requests: 0,
        }
    }

    /// The medium.
    pub fn medium(&mut self) -> Option<&mut (dyn BlockBackend + 'static)> {
        self.medium.as_deref_mut()
    }

    /// Whether there is a medium.
    pub fn is_present(&self) -> bool {
        self.medium.is_some()
    }

    /// Whether there is one that must not be written.
    pub fn is_read_only(&self) -> bool {
        self.medium.as_ref().is_some_and(|medium| medium.read_only())
    }

    /// Sectors of 512 bytes on it; 0 without a medium.
    pub fn sectors(&self) -> u64 {
        self.medium.as_ref().map_or(0, |medium| medium.sectors())
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Whether a request is under way. One that failed and waits for a person is not: it is part of the drive's state, and a
    /// loaded drive asks for it again.
    pub fn busy(&self) -> bool {
        self.waiting || self.medium.as_ref().is_some_and(|medium| medium.in_flight() != 0)
    }

    /// Puts another medium in, or none. What was under way is forgotten; what was written reaches the old medium.
    pub fn change(&mut self, medium: Option<Box<dyn BlockBackend>>) {
        self.abandon();
        if let Some(old) = std::mem::replace(&mut self.medium, medium) {
            self.leaving.push_back(old);
            self.close_leaving();
        }
    }

    /// Reads `sectors` from `sector` on.
    pub fn read(&mut self, sector: u64, sectors: u32) {
        self.submit(Operation::Read { sector, buffer: vec![0; sectors as usize * SECTOR as usize] });
    }

    /// Writes `buffer` from `sector` on.
    pub fn write(&mut self, sector: u64, buffer: Vec<u8>) {
        self.submit(Operation::Write { sector, buffer });
    }

    /// Brings what was written to stable storage.
    pub fn flush(&mut self) {
        self.submit(Operation::Flush);
    }

    fn submit(&mut self, operation: Operation) {
        self.abandon();
        self.requests += 1;
        self.send(operation);
    }

    fn send(&mut self, operation: Operation) {
        self.tag += 1;
        if let Some(medium) = &mut self.medium {
            medium.submit(self.tag, operation);
            self.waiting = true;
        }
    }

    /// Forgets the request under way: nobody waits for it any more.
    pub fn abandon(&mut self) {
        self.tag += 1;
        self.waiting = false;
        self.failed = None;
        self.tried_again = false;
    }

    /// Tries a failed request again. Nothing happens where none has failed.
    pub fn retry(&mut self) {
        if let Some(operation) = self.failed.take() {
            self.tried_again = true;
            self.send(operation);
        }
    }

    /// Takes the answer to the request under way, once it is there. A failure of the host stops the machine instead.
    pub fn poll(&mut self) -> Option<Answer> {
        self.close_leaving();
        loop {
            let Completion { tag, operation, result } = self.medium.as_mut()?.poll()?;
            if tag != self.tag {
                if let Err(error) = result {
                    tracing::warn!(%error, "a request that the guest has given up has failed");
                }
                continue;
            }
            self.waiting = false;
            match result {
                Ok(()) => {
                    self.tried_again = false;
                    return Some(Answer::Done(operation));
                }
                Err(error) if error.kind() == ErrorKind::InvalidInput => return Some(Answer::NoSuchPlace),
                Err(_) if self.tried_again && matches!(operation, Operation::Read { .. }) => {
                    self.tried_again = false;
                    return Some(Answer::Unreadable);
                }
                Err(error) => {
                    let path = self.medium.as_ref().and_then(|medium| medium.path());
                    let text = failure_text(path, &operation, &error);
                    self.failed = Some(operation);
                    self.signals.request_stop(StopReason::DiskError(text));
                    return None;
                }
            }
        }
    }

    /// Closes media that have nothing left to do.
    fn close_leaving(&mut self) {
        for old in &mut self.leaving {
            while let Some(completion) = old.poll() {
                if let Err(error) = completion.result {
                    tracing::error!(path = ?old.path(), %error, "a request of a medium that was taken out has failed");
                }
            }
        }
        self.leaving.retain(|old| old.in_flight() != 0);
    }
}
