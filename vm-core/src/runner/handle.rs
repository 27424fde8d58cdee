//! The handle of a running machine.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::command::{Command, CommandError, Reply};
use super::event::{Event, RunState, Statistics};
use crate::bus::signals::Signals;
use crate::frame::{Frame, FrameSlot};

/// A command on its way to the machine's thread.
#[derive(Debug)]
pub(crate) struct Request {
    pub command: Command,
    pub reply: Option<Sender<Result<Reply, CommandError>>>,
}

/// What the machine's thread and its handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub signals: Arc<Signals>,
    pub frame: FrameSlot,
    pub state: Mutex<RunState>,
    pub statistics: Mutex<Statistics>,
    /// The guest takes places of the pointer.
    pub absolute_pointer: AtomicBool,
    /// The person does not want the save under way any more.
    pub cancel_save: AtomicBool,
    pub listeners: Mutex<Vec<Sender<Event>>>,
}

/// A running machine, seen from outside. Clones are handles of the same machine.
#[derive(Clone, Debug)]
pub struct VmHandle {
    pub(crate) requests: Sender<Request>,
    pub(crate) shared: Arc<Shared>,
}

impl VmHandle {
    /// Sends a command and returns at once. Nothing is dropped: commands wait in order.
    pub fn send(&self, command: Command) {
        // A machine that has ended needs no commands.
        let _ = self.requests.send(Request { command, reply: None });
        self.shared.signals.raise();
    }

    /// Sends a command; the answer comes on the channel. For threads that may wait.
    pub fn request(&self, command: Command) -> Receiver<Result<Reply, CommandError>> {
        let (reply, answer) = bounded(1);
        let _ = self.requests.send(Request { command, reply: Some(reply) });
        self.shared.signals.raise();
        answer
    }

    /// Sends a command and waits for the answer.
    ///
    /// # Errors
    /// What the machine said, or [`CommandError::Gone`].
    pub fn call(&self, command: Command) -> Result<Reply, CommandError> {
        self.request(command).recv().unwrap_or(Err(CommandError::Gone))
    }

    /// Events from now on.
    pub fn events(&self) -> Receiver<Event> {
        let (sender, receiver) = unbounded();
        self.shared.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }

    /// The newest picture.
    pub fn frame(&self) -> Option<Arc<Frame>> {
        self.shared.frame.latest()
    }

    /// What the machine is doing.
    pub fn state(&self) -> RunState {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the guest takes the places that the pointer is at: then send [`Command::AbsolutePointer`], else [`Command::Pointer`].
    pub fn takes_absolute_pointer(&self) -> bool {
        self.shared.absolute_pointer.load(Ordering::Relaxed)
    }

    /// Ends the save under way, if there is one ([`RunState::Saving`]): the machine goes on as before, and an older state is as it was.
    /// A save that is past its last step stays saved.
    pub fn cancel_save(&self) {
        self.shared.cancel_save.store(true, Ordering::Relaxed);
    }

    /// Figures of about the last second.
    pub fn statistics(&self) -> Statistics {
        *self.shared.statistics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
