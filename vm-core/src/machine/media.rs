//! Drives and media while the machine runs: what is in them, and how a person changes it.

use std::path::Path;

use super::board::{Board, Drive, MediumInfo};
use crate::config::{DriveSlot, ImageFormat};
use crate::dev::ide::Tray;
use crate::disk::{self, Access, BlockBackend, MediumError};
use crate::runner::{BlockInfo, MediumAccess, MediumChange};

/// Channel and unit of an IDE drive.
fn ide_place(number: u8) -> (usize, usize) {
    (usize::from(number / 2 & 1), usize::from(number % 2))
}

impl Board {
    /// The drives and what is in them.
    pub fn blocks(&self) -> Vec<BlockInfo> {
        self.drives.iter().map(|drive| self.block_info(drive)).collect()
    }

    fn block_info(&self, drive: &Drive) -> BlockInfo {
        let medium = drive.medium.as_ref();
        let tray = self.tray(drive.slot);
        BlockInfo {
            slot: drive.slot,
            kind: drive.kind,
            path: drive.path(),
            format: medium.map_or(ImageFormat::Raw, |medium| medium.format),
            read_only: medium.is_some_and(|medium| medium.read_only),
            temporary: medium.is_some_and(|medium| medium.temporary),
            bytes: medium.map_or(0, |medium| medium.bytes),
            tray_open: tray.map(|tray| tray.open),
            locked: tray.is_some_and(|tray| tray.locked),
        }
    }

    fn tray(&self, slot: DriveSlot) -> Option<Tray> {
        match slot {
            DriveSlot::Floppy(_) => None,
            DriveSlot::Ide(number) => {
                let (channel, unit) = ide_place(number);
                self.ide[channel].tray(unit)
            }
        }
    }

    /// How trays have moved since the last call, by the guest or a person: true is open.
    pub fn take_tray_moves(&mut self) -> Vec<(DriveSlot, bool)> {
        let mut moves = Vec::new();
        for number in 0..4 {
            let (channel, unit) = ide_place(number);
            let moved = self.ide[channel].take_tray_moves(unit);
            moves.extend(moved.into_iter().map(|open| (DriveSlot::Ide(number), open)));
        }
        moves
    }

    /// Does with the medium of a drive what a person wants. A medium that is put in may be written, or loses its writes at the end, as
    /// `kept` says, unless the change says otherwise.
    ///
    /// # Errors
    /// In words: there is no such drive, the guest has locked it, or the new medium cannot be opened; the old one then stays.
    pub fn change_medium(&mut self, slot: DriveSlot, change: &MediumChange, kept: Access) -> Result<(), String> {
        let at = self.drives.iter().position(|drive| drive.slot == slot);
        let at = at.ok_or("there is no such drive in this machine")?;
        match (change, slot) {
            (MediumChange::Insert { path, format, access, force }, _) => {
                let read_only = match access {
                    MediumAccess::Retain => kept.read_only,
                    MediumAccess::ReadOnly => true,
                    MediumAccess::ReadWrite => false,
                };
                let medium = self.open_medium(at, path, Access { format: *format, read_only, ..kept })?;
                let info = MediumInfo::of(&*medium);
                self.insert(slot, medium, *force)?;
                self.drives[at].medium = info;
            }
            (MediumChange::Eject { .. } | MediumChange::Remove, DriveSlot::Floppy(unit)) => {
                self.fdc.change_medium(usize::from(unit), None)?;
                self.drives[at].medium = None;
            }
            (MediumChange::OpenTray { .. } | MediumChange::CloseTray, DriveSlot::Floppy(_)) => {
                return Err("a floppy drive has no tray: eject the disk, or put another in".to_owned());
            }
            (change, DriveSlot::Ide(number)) => {
                let (channel, unit) = ide_place(number);
                let channel = &mut self.ide[channel];
                if let MediumChange::Eject { force } | MediumChange::OpenTray { force } = change {
                    channel.open_tray(unit, *force)?;
                }
                if let MediumChange::CloseTray = change {
                    channel.close_tray(unit)?;
                }
                if let MediumChange::Eject { .. } | MediumChange::Remove = change {
                    channel.remove_medium(unit)?;
                    self.drives[at].medium = None;
                }
            }
        }
        Ok(())
    }

    fn insert(&mut self, slot: DriveSlot, medium: Box<dyn BlockBackend>, force: bool) -> Result<(), String> {
        match slot {
            DriveSlot::Floppy(unit) => self.fdc.change_medium(usize::from(unit), Some(medium)),
            DriveSlot::Ide(number) => {
                let (channel, unit) = ide_place(number);
                self.ide[channel].change_medium(unit, medium, force)
            }
        }
    }

    /// Opens an image for the drive at `at`.
    fn open_medium(&self, at: usize, path: &Path, access: Access) -> Result<Box<dyn BlockBackend>, String> {
        let result = disk::open(path, access, self.drives[at].kind, &self.signals);
        result.map_err(|error| {
            let whole = |path: &Path| std::fs::canonicalize(path).ok();
            let ours = |drive: &&Drive| drive.path().is_some_and(|other| whole(&other) == whole(path));
            match (&error, self.drives.iter().find(ours)) {
                (MediumError::InUse(_), Some(drive)) => {
                    format!("“{}” is in {} of this machine already: eject it there first", path.display(), drive.slot)
                }
                _ => error.to_string(),
            }
        })
    }
}
