//! Going to a snapshot: all checks first, then new overlays above its disks, then one commit.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Keeper, SnapshotState, medium_words};
use crate::config::{DriveKind, DriveSlot, ImageFormat, MachineConfig};
use crate::disk::image;
use crate::machine::board::MOST_DEVICE_MEMORY;
use crate::snapshot::manifest::{Device, Hardware};
use crate::snapshot::memory::Chunks;
use crate::snapshot::section::{Memory, Section};
use crate::snapshot::store::StateError;
use crate::snapshot::tree::{
    PresentDisk, SavedMedium, SnapshotId, SnapshotRecord, TreeFile, packs_folder, snapshot_folder,
};

use super::take::{MediumNow, Prepared};

/// Length of an overlay in which nothing was written.
const NEW_OVERLAY: u64 = 4 << 16;

/// What to put into the machine.
#[derive(Debug)]
pub struct Restored {
    /// The snapshot.
    pub id: SnapshotId,
    /// Its name.
    pub name: String,
    /// For each drive with a medium: the image. Drives that are not here are empty.
    pub media: Vec<RestoredMedium>,
    /// RAM, processor and devices; `None`: the machine starts afresh on these disks.
    pub state: Option<RestoredState>,
    /// The present, which is listed as a snapshot and waits for its memories.
    pub kept: Option<Prepared>,
}

/// A medium of a restored machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredMedium {
    /// The drive.
    pub slot: DriveSlot,
    /// The image.
    pub path: PathBuf,
    /// Its format.
    pub format: ImageFormat,
    /// It is only read.
    pub read_only: bool,
}

/// What goes into processor, devices and RAM.
#[derive(Debug)]
pub struct RestoredState {
    /// Processor and devices.
    pub sections: Vec<Section>,
    /// RAM.
    pub chunks: Arc<Chunks>,
    /// Guest time in nanoseconds.
    pub guest_time: u64,
    /// The host's time then, in seconds since 1970 (UTC).
    pub host_time: u64,
}

impl Keeper {
    /// Checks the snapshot against the machine that `config` describes (with the images that a person has chosen), and makes it the
    /// present. `keep`: the media as they are now, which become a snapshot of their own first.
    ///
    /// `open` opens the media, just before the commit.
    ///
    /// # Errors
    /// In words; nothing has changed then.
    pub fn restore<T>(
        &self,
        id: SnapshotId,
        config: &MachineConfig,
        keep: Option<Vec<MediumNow>>,
        open: impl FnOnce(&[RestoredMedium]) -> Result<T, StateError>,
    ) -> Result<(Restored, T), StateError> {
        let mut tree = self.tree();
        let record = tree.snapshot(id).cloned().ok_or_else(|| StateError::NoSnapshot(id.to_string()))?;
        let state = super::state(&self.home, &record)?;
        let mut differences =
            state.as_ref().map_or_else(Vec::new, |state| state.hardware.differences(&Hardware::of(config)));
        differences.extend(self.other_disks(&tree, &record, config));
        if !differences.is_empty() {
            return Err(StateError::Hardware(differences));
        }
        let mut problems = Vec::new();
        let mut media = Vec::new();
        for (slot, medium) in &record.media {
            match medium {
                SavedMedium::Frozen { top, .. } => {
                    problems.extend(self.check_chain(&tree, top).into_iter().map(|text| format!("{slot}: {text}.")));
                }
                SavedMedium::ReadOnly(identity) => {
                    // The one that is in the drive now, which may have moved, or the one that was.
                    let there =
                        config.drives.iter().find(|drive| drive.slot == *slot).and_then(|drive| drive.path.clone());
                    let format = identity.format.unwrap_or(ImageFormat::Raw);
                    let fits = |path: PathBuf| identity.check_at(path.clone(), format, &mut |_, _| true).map(|()| path);
                    let found = there.map(fits).and_then(Result::ok).map_or_else(|| fits(identity.path.clone()), Ok);
                    match found {
                        Ok(path) => media.push(RestoredMedium { slot: *slot, path, format, read_only: true }),
                        Err(error) => problems.push(format!("{slot}: {error}.")),
                    }
                }
            }
        }
        if !problems.is_empty() {
            return Err(StateError::Media(problems));
        }
        let state = state.map(|state| self.open_state(&record, &state)).transpose()?;

        let kept = keep.map(|now| {
            self.list_present(&mut tree, now, format!("The machine before it went back to “{}”.", record.name))
        });
        let kept = kept.transpose()?;
        tree.present = crate::snapshot::tree::Present { parent: Some(id), disks: Vec::new() };
        tree.next_start = None;
        for (slot, medium) in &record.media {
            let SavedMedium::Frozen { configured, top } = medium else { continue };
            let format =
                tree.files.iter().find(|file| file.path == *top).map_or(ImageFormat::Qcow2, |file| file.format);
            let overlay = self.overlay(*slot, tree.number(), &self.home.join(top), format)?;
            let path = self.home.join(&overlay);
            media.push(RestoredMedium { slot: *slot, path, format: ImageFormat::Qcow2, read_only: false });
            let now = config.drives.iter().find(|drive| drive.slot == *slot).and_then(|drive| drive.path.as_deref());
            let configured = now.map_or_else(|| configured.clone(), |path| self.relative(path));
            tree.present.disks.push(PresentDisk { slot: *slot, configured, top: overlay, below: top.clone() });
        }
        self.sync_disks()?;
        let opened = open(&media)?;
        self.commit(|now| *now = tree)?;
        Ok((Restored { id, name: record.name, media, state, kept }, opened))
    }

    /// The same for a machine that is about to start: its drives are changed to what the snapshot has. The present is kept, as far as
    /// anything was written since the snapshot that it came from.
    ///
    /// # Errors
    /// In words; nothing has changed then.
    pub fn restore_off(&self, id: SnapshotId, config: &mut MachineConfig) -> Result<Restored, StateError> {
        let tree = self.tree();
        let is_new = |path: &Path| path.metadata().is_ok_and(|metadata| metadata.len() <= NEW_OVERLAY);
        let untouched = if tree.present.disks.is_empty() {
            // A clone that has not run yet: all its disks are the snapshot's own.
            let mut written = config.drives.iter().filter(|drive| !drive.read_only && drive.kind != DriveKind::Cd);
            written.all(|drive| {
                drive.path.as_ref().is_none_or(|path| tree.files.iter().any(|file| file.path == self.relative(path)))
            })
        } else {
            tree.present.disks.iter().all(|disk| is_new(&self.home.join(&disk.top)))
        };
        let keep = if untouched { None } else { Some(self.media_of(config)?) };
        let (mut restored, ()) = self.restore(id, config, keep, |_| Ok(()))?;
        for drive in &mut config.drives {
            let medium = restored.media.iter().find(|medium| medium.slot == drive.slot);
            drive.path = medium.map(|medium| medium.path.clone());
            drive.format = medium.map(|medium| medium.format);
        }
        if let Some(kept) = restored.kept.take() {
            self.settle(&kept)?;
        }
        Ok(restored)
    }

    /// The media of a machine that is off, as they are now.
    ///
    /// # Errors
    /// In words, where an image cannot be read.
    pub fn media_of(&self, config: &MachineConfig) -> Result<Vec<MediumNow>, StateError> {
        let mut now = config.clone();
        self.configure(&mut now)?;
        let mut media = Vec::new();
        for (drive, now) in config.drives.iter().zip(now.drives) {
            let (Some(configured), Some(path)) = (drive.path.clone(), now.path) else { continue };
            let format = now.format.map_or_else(|| image::probe(&path), Ok);
            let format = format.map_err(|error| StateError::Disk(error.to_string()))?;
            let read_only = drive.read_only || drive.kind == DriveKind::Cd;
            let temporary = drive.temporary && !read_only;
            media.push(MediumNow {
                slot: drive.slot,
                kind: drive.kind,
                configured,
                path,
                format,
                read_only,
                temporary,
            });
        }
        Ok(media)
    }

    /// Disks of the machine that are others than the snapshot's, a line each.
    fn other_disks(&self, tree: &TreeFile, record: &SnapshotRecord, config: &MachineConfig) -> Vec<String> {
        let mut lines = Vec::new();
        for (slot, medium) in &record.media {
            let SavedMedium::Frozen { configured, top } = medium else { continue };
            let Some(drive) = config.drives.iter().find(|drive| drive.slot == *slot) else {
                lines.push(format!("{slot}: saved {}, now there is no such drive", medium_words(medium)));
                continue;
            };
            // A removable disk goes back in.
            let Some(path) = &drive.path else { continue };
            let now = self.relative(path);
            let chain = tree.chain(top).unwrap_or_default();
            if now != *configured && chain.iter().all(|file| file.path != now) && !matches!(slot, DriveSlot::Floppy(_))
            {
                lines.push(format!("{slot}: saved {}, now “{}”", medium_words(medium), path.display()));
            }
        }
        lines
    }

    fn open_state(&self, record: &SnapshotRecord, state: &SnapshotState) -> Result<RestoredState, StateError> {
        let broken = |path: &Path, reason: String| StateError::Snapshot {
            name: record.name.clone(),
            path: path.to_owned(),
            reason,
        };
        let index = super::index(&self.home, record)?;
        let path = snapshot_folder(&self.home, record.id).join("index.bin");
        let (ram, len) = (state.ram, state.len);
        if index.ram != ram || index.len != len || ram != u64::from(state.hardware.memory_mib) << 20 {
            return Err(broken(&path, "it is for another amount of memory".to_owned()));
        }
        if len - ram > MOST_DEVICE_MEMORY {
            return Err(broken(&path, "it has more device memory than a machine can have".to_owned()));
        }
        let chunks = Chunks::open(index, &path, &packs_folder(&self.home));
        let chunks = chunks.map_err(|(path, error)| broken(&path, error.to_string()))?;
        let beyond = chunks.beyond_ram().map_err(|text| broken(&path, text))?;
        let slice = |&(ref name, at, len): &(String, u64, u64)| {
            let start = at.checked_sub(ram)?;
            let bytes = beyond.get(start as usize..start.checked_add(len)? as usize)?.to_vec();
            Some(Memory { name: name.clone(), bytes })
        };
        let section = |device: &Device| {
            let memories = device.memories.iter().map(slice).collect::<Option<Vec<_>>>();
            let reason = || broken(&path, format!("a memory of “{}” is outside of it", device.kind));
            Ok(Section {
                kind: device.kind.clone(),
                version: device.version,
                body: device.state.get_ron().to_owned(),
                memories: memories.ok_or_else(reason)?,
            })
        };
        let sections = state.devices.iter().map(section).collect::<Result<Vec<_>, StateError>>()?;
        // Older versions kept only when it was finished.
        let host_time = if state.host_time == 0 { record.taken_at } else { state.host_time };
        Ok(RestoredState { sections, chunks: Arc::new(chunks), guest_time: state.guest_time, host_time })
    }
}
