//! What one can ask of a running machine.

use std::path::PathBuf;
use std::time::Duration;

use super::media::{BlockInfo, MediumChange};
use crate::config::DriveSlot;
use crate::input::{AbsolutePointerEvent, Key, KeyEvent, PointerEvent};
use crate::snapshot::keeper::CloneKind;
use crate::snapshot::tree::{SnapshotId, SnapshotTree};

/// A request to a machine.
#[derive(Clone, Debug)]
pub enum Command {
    /// Stop the processor and guest time.
    Pause,
    /// Go on (and try a failed disk request again).
    Resume,
    /// Press the reset button.
    Reset,
    /// Press the power button: the guest is asked to shut down.
    PowerButton,
    /// Pull the plug: the machine ends. What the guest has flushed is on its disks.
    PowerOff,
    /// A key.
    Key(KeyEvent),
    /// Press all, wait, release all in reverse order: `sendkey ctrl-alt-delete`.
    SendKeys {
        /// In the order of pressing.
        keys: Vec<Key>,
        /// How long they are down, in milliseconds.
        hold_ms: u32,
    },
    /// Let go of every key the guest believes is down.
    ReleaseKeys,
    /// The pointer.
    Pointer(PointerEvent),
    /// The pointer is at a place of the picture: for a guest that takes places ([`Event::AbsolutePointer`](super::Event::AbsolutePointer)).
    /// Of another guest only buttons and wheel reach the mouse.
    AbsolutePointer(AbsolutePointerEvent),
    /// Stop → save → quit as one action into the folder (`None`: where the state of this machine belongs); the machine ends only if all of it
    /// is on stable storage.
    SaveAndClose(Option<PathBuf>),
    /// Save the state into the folder and go on as before (refused where a medium could not be frozen with it).
    SaveState(PathBuf),
    /// Keep memory, devices and all writable media as they are at one instant; the guest goes on. Answered when all of it is on stable
    /// storage.
    TakeSnapshot {
        /// `None`: one is made up.
        name: Option<String>,
        /// For people.
        note: String,
        /// Raw disks may be adopted: their images are only read from then on.
        adopt: bool,
        /// What the asker calls this job in events.
        label: Option<String>,
    },
    /// Go to a snapshot. Answered when the machine is there and what was before is kept.
    RestoreSnapshot {
        /// Which.
        id: SnapshotId,
        /// Keep the present as a snapshot first.
        keep: bool,
        /// What the asker calls this job in events.
        label: Option<String>,
    },
    /// Delete a snapshot. Answered when it is gone and what only it needed is free.
    DeleteSnapshot {
        /// Which.
        id: SnapshotId,
        /// What the asker calls this job in events.
        label: Option<String>,
    },
    /// Make a new machine of a snapshot in its folder ([`Keeper::clone_to`](crate::snapshot::keeper::Keeper::clone_to)). Answered when all
    /// of it is on stable storage.
    CloneSnapshot {
        /// Which.
        id: SnapshotId,
        /// The new machine's folder, which is there and empty.
        home: PathBuf,
        /// Copied, or by second names of its files.
        kind: CloneKind,
        /// What the asker calls this job in events.
        label: Option<String>,
    },
    /// Cancel what is being done with snapshots, or waits for its turn. What was asked for then fails, in words; a deletion has taken the
    /// snapshot away already, and only what is left to tidy is left for another time.
    CancelSnapshot {
        /// What its asker called it; `None`: whatever is under way.
        label: Option<String>,
    },
    /// Give a snapshot another name or note.
    DescribeSnapshot {
        /// Which.
        id: SnapshotId,
        /// `None`: as it is.
        name: Option<String>,
        /// `None`: as it is.
        note: Option<String>,
    },
    /// All snapshots of the machine.
    Snapshots,
    /// Take a snapshot by itself so often, and thin the old ones (`None`: not any more).
    SetCheckpoints(Option<Duration>),
    /// Change what is in a removable drive.
    ChangeMedium {
        /// The drive.
        slot: DriveSlot,
        /// What to do.
        change: MediumChange,
    },
    /// The newest picture at once, for `screendump`.
    Screen,
    /// A line to the monitor; the reply is its output.
    Monitor(String),
    /// The state in words and figures.
    Query,
    /// What is in the drives.
    Blocks,
}

/// The answer to a [`Command`].
#[derive(Clone, Debug)]
pub enum Reply {
    /// Done.
    Done,
    /// Text (monitor).
    Text(String),
    /// A picture; `None`: there is no display adapter, or it has shown nothing yet.
    Screen(Option<std::sync::Arc<crate::frame::Frame>>),
    /// State.
    Status(super::event::RunState, Box<super::event::Statistics>),
    /// Drives.
    Blocks(Vec<BlockInfo>),
    /// Snapshots.
    Snapshots(Box<SnapshotTree>),
}

/// Why a command was not carried out; the text says what to do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommandError {
    /// The machine's thread has ended.
    #[error("the machine is not running any more")]
    Gone,
    /// Refused or failed, in words.
    #[error("{0}")]
    Refused(String),
}
