//! What one can ask of a running machine.

use std::path::PathBuf;

use super::media::{BlockInfo, MediumChange};
use crate::config::DriveSlot;
use crate::input::{Key, KeyEvent, PointerEvent};

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
    /// Stop → save → quit as one action into the folder; the machine ends only if all of it is on stable storage.
    SaveAndClose(PathBuf),
    /// Save the state into the folder and go on as before (refused where a medium could not be frozen with it).
    SaveState(PathBuf),
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
