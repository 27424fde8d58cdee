//! What a machine tells.

use std::path::PathBuf;

use super::media::BlockInfo;
use crate::bus::signals::StopReason;
use crate::config::{Accelerator, DriveSlot};
use crate::cpu::block::CodeStats;

/// What a machine is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Being put together.
    Starting,
    /// The guest runs.
    Running,
    /// The person paused it.
    Paused,
    /// It stopped by itself and can go on (disk error) or be reset (triple fault).
    Stopped(StopReason),
    /// A state is being written.
    Saving,
    /// The thread has ended; nothing more comes.
    Ended(EndReason),
}

/// Why a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The guest or the person switched it off.
    PowerOff,
    /// Saved and closed; the next start resumes.
    Saved(PathBuf),
    /// The guest asked for a reset and `no_reboot` is set.
    NoReboot,
    /// `isa-debug-exit`; the process leaves with (value << 1) | 1.
    DebugExit(u32),
    /// It could not start or go on, in words.
    Failed(String),
}

/// Figures of a running machine, for the status line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Guest instructions executed since power-on.
    pub instructions: u64,
    /// Millions of instructions a second over the last second of work.
    pub mips: f64,
    /// Guest time in nanoseconds.
    pub guest_time: u64,
    /// How late the latest timer event was, or how far guest time is behind on a busy host if that is more, in nanoseconds.
    pub timer_lateness: u64,
    /// Caps, Num and Scroll Lock as the guest set them: bits 2, 1, 0 as in the keyboard's ED command.
    pub leds: u8,
    /// Requests so far, per slot: floppy 0, 1, then IDE 0 – 3.
    pub disk_requests: [u64; 6],
    /// What executes the guest's instructions; `None`: nothing has run yet.
    pub engine: Option<Accelerator>,
    /// Linear addresses that the processor had to look up in the guest's page tables.
    pub tlb_misses: u64,
    /// What the processor has translated.
    pub code: CodeStats,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The state changed.
    State(RunState),
    /// The guest (or a person) reset the machine.
    Reset,
    /// The guest was asked to shut down.
    PowerButton,
    /// From now on the guest takes the places that the pointer is at (true), so that no window needs to keep the pointer; or it wants
    /// motion again. See [`VmHandle::takes_absolute_pointer`](super::VmHandle::takes_absolute_pointer) for what holds now.
    AbsolutePointer(bool),
    /// The tray of a drive moved, by the guest or a person: open or closed.
    TrayMoved(DriveSlot, bool),
    /// A person changed the medium of a drive; the drive as it is now.
    MediumChanged(BlockInfo),
    /// A state is being written: done so far and in all, in bytes.
    SaveProgress(u64, u64),
    /// A save failed, in words; the machine is paused and whole.
    SaveFailed(String),
    /// Something that a person should know and that stopped nothing.
    Notice(String),
    /// A snapshot is being taken, restored or deleted.
    Snapshot(SnapshotEvent),
}

/// What is done with a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotAction {
    /// Taken.
    Take,
    /// Restored.
    Restore,
    /// Deleted.
    Delete,
    /// Copied into another machine.
    Clone,
}

/// How far a job with snapshots is. One is done at a time; `label` is what the asker called it.
#[derive(Clone, Debug, PartialEq)]
pub enum SnapshotEvent {
    /// It has begun.
    Started {
        /// The job's number.
        job: u32,
        /// The asker's name for it.
        label: Option<String>,
        /// What is done.
        action: SnapshotAction,
    },
    /// Bytes done so far and in all.
    Progress {
        /// The job's number.
        job: u32,
        /// The asker's name for it.
        label: Option<String>,
        /// Done.
        done: u64,
        /// In all.
        all: u64,
    },
    /// It is done, on stable storage; the tree is another now.
    Done {
        /// The job's number.
        job: u32,
        /// The asker's name for it.
        label: Option<String>,
        /// The snapshot that was taken or restored.
        id: Option<crate::snapshot::tree::SnapshotId>,
        /// How long the guest stood still for it.
        pause: Option<std::time::Duration>,
    },
    /// It failed, in words. The machine and all other snapshots are as they were.
    Failed {
        /// The job's number.
        job: u32,
        /// The asker's name for it.
        label: Option<String>,
        /// Why, and what to do.
        text: String,
    },
}
