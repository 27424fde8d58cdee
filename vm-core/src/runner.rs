//! The worker thread that owns a machine, and the handle that everybody else holds.
//!
//! The window must never wait for the engine: it sends [`Command`]s, which always returns at once, and reads [`Event`]s and the
//! newest frame when it draws. Threads that may wait (QMP, command line, tests) use [`VmHandle::request`].

pub mod command;
mod console;
pub mod event;
pub mod handle;
pub mod media;
mod snapshots;
mod worker;

pub use command::{Command, CommandError, Reply};
pub use event::{Event, RunState, SnapshotAction, SnapshotEvent, Statistics};
pub use handle::VmHandle;
pub use media::{BlockInfo, MediumAccess, MediumChange};
pub use worker::{StartOptions, start};
