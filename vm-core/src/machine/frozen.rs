//! The media in the drives, as snapshots and saved states need them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::board::{Board, Drive, MediumInfo};
use crate::bus::ram::GuestRam;
use crate::config::{DriveKind, DriveSlot, ImageFormat};
use crate::disk::{self, BlockBackend, MediumError};

/// A medium that is open and waits to be put into a drive.
pub type OpenMedium = (DriveSlot, Box<dyn BlockBackend>);

impl Board {
    /// Guest RAM, to be shared with threads that load and save it.
    pub fn shared_ram(&self) -> Arc<GuestRam> {
        Arc::clone(&self.ram)
    }

    pub(super) fn medium(&mut self, slot: DriveSlot) -> Option<&mut (dyn BlockBackend + 'static)> {
        match slot {
            DriveSlot::Floppy(unit) => self.fdc.medium(usize::from(unit)),
            DriveSlot::Ide(number) => self.ide[usize::from(number / 2 & 1)].medium(usize::from(number % 2)),
        }
    }

    /// Asks the thread of every medium to bring what was written so far to stable storage.
    pub fn sync_media(&mut self) -> Vec<Receiver<io::Result<()>>> {
        let slots: Vec<_> = self.drives.iter().map(|drive| drive.slot).collect();
        slots.into_iter().filter_map(|slot| self.medium(slot)?.sync()).collect()
    }

    /// Lets the medium at `slot` write to `overlay` from now on ([`BlockBackend::freeze`]).
    ///
    /// # Errors
    /// In words; nothing has changed then.
    pub fn freeze_medium(&mut self, slot: DriveSlot, overlay: &Path) -> Result<(), MediumError> {
        let gone = || MediumError::Missing(overlay.to_owned());
        self.medium(slot).ok_or_else(gone)?.freeze(overlay)?;
        let info = self.drives.iter_mut().find(|drive| drive.slot == slot).and_then(|drive| drive.medium.as_mut());
        if let Some(info) = info {
            overlay.clone_into(&mut info.path);
            info.format = ImageFormat::Qcow2;
        }
        Ok(())
    }

    /// Opens a medium for the drive at `slot`, which keeps its own.
    ///
    /// # Errors
    /// In words.
    pub fn open_for(
        &self,
        slot: DriveSlot,
        path: &Path,
        format: Option<ImageFormat>,
        read_only: bool,
    ) -> Result<OpenMedium, String> {
        let drive =
            self.drives.iter().find(|drive| drive.slot == slot).ok_or("there is no such drive in this machine")?;
        let access = disk::Access { format, read_only, temporary: false };
        let medium = disk::open(path, access, drive.kind, &self.signals).map_err(|error| error.to_string())?;
        Ok((slot, medium))
    }

    /// Puts these media into the drives and takes all others out. The drives' state is to be loaded after it.
    pub fn replace_media(&mut self, media: Vec<OpenMedium>) {
        let mut media: Vec<(DriveSlot, Option<Box<dyn BlockBackend>>)> =
            media.into_iter().map(|(slot, medium)| (slot, Some(medium))).collect();
        let mut drives = std::mem::take(&mut self.drives);
        for Drive { slot, kind, medium: info } in &mut drives {
            let medium = media.iter_mut().find(|(at, _)| at == slot).and_then(|(_, medium)| medium.take());
            *info = medium.as_deref().and_then(MediumInfo::of);
            match (*slot, *kind, medium) {
                (DriveSlot::Floppy(unit), _, medium) => self.fdc.attach(usize::from(unit), medium),
                (DriveSlot::Ide(number), DriveKind::Disk, Some(medium)) => {
                    self.ide[usize::from(number / 2 & 1)].attach_disk(usize::from(number % 2), medium);
                }
                // A hard disk without a medium cannot be: the snapshot was checked to have one.
                (DriveSlot::Ide(_), DriveKind::Disk, None) => {}
                (DriveSlot::Ide(number), _, medium) => {
                    self.ide[usize::from(number / 2 & 1)].attach_cd(usize::from(number % 2), medium);
                }
            }
        }
        self.drives = drives;
    }

    /// The files in the drives, with what is known of them.
    pub fn media(&self) -> impl Iterator<Item = (DriveSlot, DriveKind, &MediumInfo)> {
        self.drives.iter().filter_map(|drive| Some((drive.slot, drive.kind, drive.medium.as_ref()?)))
    }

    /// The file in the drive at `slot`.
    pub fn medium_path(&self, slot: DriveSlot) -> Option<PathBuf> {
        self.drives.iter().find(|drive| drive.slot == slot).and_then(Drive::path)
    }
}
