//! What a person does with the media of a machine that runs.

use std::path::PathBuf;

use crate::config::{DriveKind, DriveSlot, ImageFormat};

/// Whether the guest may write to a medium that is put in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MediumAccess {
    /// As with the medium before.
    #[default]
    Retain,
    /// It may not.
    ReadOnly,
    /// It may. (Never to a CD.)
    ReadWrite,
}

impl MediumAccess {
    /// The access of this name, as QMP and the monitor have it.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "retain" => Some(Self::Retain),
            "read-only" => Some(Self::ReadOnly),
            "read-write" => Some(Self::ReadWrite),
            _ => None,
        }
    }
}

/// What to do with the medium of a removable drive.
///
/// A tray that the guest has locked opens only with `force`: without, the guest is asked to let go, and the change is refused. A
/// floppy drive has no tray and no lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediumChange {
    /// Open the tray and take the medium out.
    Eject {
        /// Also where the guest has locked it.
        force: bool,
    },
    /// Open the tray, put another medium in and close it. Where that one cannot be opened, the old one stays in.
    Insert {
        /// The image.
        path: PathBuf,
        /// Its format; `None`: found out by looking.
        format: Option<ImageFormat>,
        /// Whether it may be written.
        access: MediumAccess,
        /// Also where the guest has locked the tray.
        force: bool,
    },
    /// Open the tray; the medium lies in it.
    OpenTray {
        /// Also where the guest has locked it.
        force: bool,
    },
    /// Close the tray with what lies in it.
    CloseTray,
    /// Take the medium out of the open tray, or out of a drive without a tray.
    Remove,
}

impl MediumChange {
    /// Puts `path` in, in the format that it begins with.
    pub fn insert(path: impl Into<PathBuf>) -> Self {
        Self::Insert { path: path.into(), format: None, access: MediumAccess::Retain, force: false }
    }
}

/// A drive and what is in it, for people and QMP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockInfo {
    /// Where it sits.
    pub slot: DriveSlot,
    /// What it is.
    pub kind: DriveKind,
    /// The image; `None`: the drive is empty.
    pub path: Option<PathBuf>,
    /// How the image holds its bytes.
    pub format: ImageFormat,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Writes are gone at the end.
    pub temporary: bool,
    /// Size of the medium in bytes, 0 where there is none.
    pub bytes: u64,
    /// Whether the tray is open; `None`: it has none.
    pub tray_open: Option<bool>,
    /// The guest has locked the tray.
    pub locked: bool,
}

impl BlockInfo {
    /// The name that monitors use: `floppy0`, `ide0-hd0`, `ide1-cd0`.
    pub fn name(&self) -> String {
        self.slot.monitor_name(self.kind)
    }

    /// Whether the medium can be changed while the machine runs.
    pub fn is_removable(&self) -> bool {
        self.kind != DriveKind::Disk
    }

    /// The drive called `name` among `drives`.
    ///
    /// # Errors
    /// In words, with the names that there are.
    pub fn named<'a>(drives: &'a [Self], name: &str) -> Result<&'a Self, String> {
        drives.iter().find(|drive| drive.name() == name).ok_or_else(|| {
            let names: Vec<_> = drives.iter().map(Self::name).collect();
            if names.is_empty() {
                format!("{name}: no such drive; this machine has none")
            } else {
                format!("{name}: no such drive; there are: {}", names.join(", "))
            }
        })
    }
}
