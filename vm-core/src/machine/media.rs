//! Drives and media while the machine runs: what is in them, and how a person changes it.

use std::path::Path;

use super::board::{Board, Drive, MediumInfo};
use crate::config::{DriveKind, DriveSlot, ImageFormat};
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
        if self.drives[at].kind == DriveKind::Disk {
            return Err("a hard disk cannot be changed while the machine runs: power it off first".to_owned());
        }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::bus::signals::Signals;
    use crate::config::{DriveConfig, MachineConfig};
    use crate::disk::tests::Folder;
    use crate::firmware::FirmwareChoice;
    use crate::machine::run::Machine;

    const FLOPPY: DriveSlot = DriveSlot::Floppy(0);
    const CD: DriveSlot = DriveSlot::Ide(2);

    /// A machine with a floppy that may be written, a CD, and a hard disk.
    fn machine(folder: &Folder) -> Machine {
        let drive = |slot, kind, path| DriveConfig {
            slot,
            kind,
            path: Some(path),
            format: None,
            read_only: kind == DriveKind::Cd,
            temporary: false,
        };
        let drives = vec![
            drive(FLOPPY, DriveKind::Floppy, folder.file("a.img", &vec![1; 1_474_560])),
            drive(DriveSlot::Ide(0), DriveKind::Disk, folder.file("disk.img", &vec![2; 1 << 20])),
            drive(CD, DriveKind::Cd, folder.file("a.iso", &vec![3; 40_960])),
        ];
        let config = MachineConfig { memory_mib: 4, drives, ..MachineConfig::default() };
        let choice = FirmwareChoice::default();
        Machine::new(config, Arc::new(Signals::new()), &choice, Vec::new(), Vec::new()).expect("SeaBIOS is installed")
    }

    fn block(machine: &mut Machine, slot: DriveSlot) -> BlockInfo {
        machine.parts().1.blocks().into_iter().find(|block| block.slot == slot).unwrap()
    }

    #[test]
    fn media_go_out_and_in_and_the_drives_say_so() {
        let folder = Folder::new("media");
        let mut machine = machine(&folder);
        let other = folder.file("b.iso", &vec![4; 20_480]);
        machine.change_medium(CD, &MediumChange::insert(&other)).unwrap();
        let cd = block(&mut machine, CD);
        assert_eq!((cd.path, cd.bytes, cd.read_only, cd.tray_open), (Some(other), 20_480, true, Some(false)));
        assert_eq!(machine.parts().1.take_tray_moves(), [(CD, true), (CD, false)]);
        machine.change_medium(CD, &MediumChange::Eject { force: false }).unwrap();
        let cd = block(&mut machine, CD);
        assert_eq!((cd.path, cd.tray_open), (None, Some(true)));
        assert!(machine.config().drives.iter().any(|drive| drive.slot == CD && drive.path.is_none()));
        machine.change_medium(CD, &MediumChange::CloseTray).unwrap();
        assert_eq!(machine.parts().1.take_tray_moves(), [(CD, true), (CD, false)]);
        let closed = machine.change_medium(CD, &MediumChange::Remove).unwrap_err();
        assert!(closed.contains("tray is closed"), "{closed}");

        let disk = folder.file("b.img", &vec![5; 737_280]);
        let insert = |access| MediumChange::Insert { path: disk.clone(), format: None, access, force: false };
        machine.change_medium(FLOPPY, &insert(MediumAccess::ReadOnly)).unwrap();
        let floppy = block(&mut machine, FLOPPY);
        assert_eq!((floppy.bytes, floppy.read_only, floppy.tray_open), (737_280, true, None));
        // Retained is what was said last.
        machine.change_medium(FLOPPY, &MediumChange::Remove).unwrap();
        machine.change_medium(FLOPPY, &insert(MediumAccess::Retain)).unwrap();
        assert!(block(&mut machine, FLOPPY).read_only);
        machine.change_medium(FLOPPY, &MediumChange::Eject { force: false }).unwrap();
        machine.change_medium(FLOPPY, &insert(MediumAccess::ReadWrite)).unwrap();
        assert!(!block(&mut machine, FLOPPY).read_only);
    }

    #[test]
    fn what_cannot_be_is_refused_in_words_and_the_old_medium_stays() {
        let folder = Folder::new("refused");
        let mut machine = machine(&folder);
        let mut refuse = |slot, change: MediumChange, words: &str| {
            let before = machine.parts().1.blocks();
            let text = machine.change_medium(slot, &change).unwrap_err();
            assert!(text.contains(words), "{text}");
            assert_eq!(machine.parts().1.blocks(), before, "{text}");
        };
        let zipped = folder.file("c.iso", b"PK\x03\x04");
        let large = folder.file("large.img", &vec![0; 2_949_120]);
        refuse(CD, MediumChange::insert(folder.0.join("none.iso")), "does not exist");
        refuse(CD, MediumChange::insert(zipped), "ZIP");
        refuse(FLOPPY, MediumChange::insert(large), "1.44 MB");
        refuse(FLOPPY, MediumChange::insert(folder.0.join("a.img")), "is in floppy drive A of this machine already");
        refuse(FLOPPY, MediumChange::OpenTray { force: true }, "no tray");
        refuse(DriveSlot::Ide(0), MediumChange::Eject { force: true }, "hard disk cannot be changed");
        refuse(DriveSlot::Ide(0), MediumChange::insert(folder.0.join("a.iso")), "hard disk cannot be changed");
        refuse(DriveSlot::Ide(1), MediumChange::CloseTray, "no such drive");
        assert!(machine.parts().1.take_tray_moves().is_empty());
    }
}
