//! A snapshot as a machine of its own.
//!
//! A full clone is a copy. A linked one has the snapshot's own files: each gets a second name (a hard link) in the new machine's folder, at
//! the same place, so that what the images say of each other holds there too. Frozen files and packs are never written again, and a deletion
//! removes a name only, so neither machine can take anything from the other: not by deleting or merging snapshots, not by going away, not by
//! being moved or backed up. Files outside of the machine's folder (an image that was adopted there) stay where they are, for both.

use std::path::{Path, PathBuf};

use super::take::{measure, slot_name};
use super::{ADVICE_SNAPSHOT, Keeper};
use crate::bus::ram::transfer::{CHUNK, ChunkSource as _};
use crate::config::{DriveSlot, ImageFormat};
use crate::disk::identity::MediumIdentity;
use crate::disk::{convert, image};
use crate::snapshot::manifest::Hardware;
use crate::snapshot::memory::{Chunks, Entry, Index, Place};
use crate::snapshot::pack::{Pack, pack_path};
use crate::snapshot::store::{StateError, host};
use crate::snapshot::tree::{
    FrozenFile, Present, SavedMedium, SnapshotId, SnapshotKind, SnapshotRecord, TreeFile, packs_folder, picture_path,
    snapshot_folder, snapshots_folder, tree_path,
};

/// The number of the one snapshot of a clone.
const ONLY: SnapshotId = SnapshotId(1);

/// How a machine is made of a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CloneKind {
    /// Each disk is copied into one image, all memory into one pack.
    #[default]
    Full,
    /// The snapshot's files get second names; nothing is copied. Both folders must be on one file system.
    Linked,
}

/// What a machine made of a snapshot must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cloned {
    /// Its hardware; `None`: the machine was off, and what it is made of is not kept in the snapshot.
    pub hardware: Option<Hardware>,
    /// What is in its drives.
    pub media: Vec<ClonedMedium>,
}

/// A medium of a clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClonedMedium {
    /// The drive.
    pub slot: DriveSlot,
    /// The image; relative to the new machine's folder where it lies in it.
    pub path: PathBuf,
    /// Its format.
    pub format: ImageFormat,
    /// It is only read.
    pub read_only: bool,
}

impl Keeper {
    /// Brings snapshot `id` into the folder `home` of a new machine, which is there and empty: its disks, and the memory, to which the
    /// machine's first start goes. On stable storage. `progress` gets (done, all) in bytes of the file at hand, and says whether to go on.
    ///
    /// # Errors
    /// In words; what is in `home` then is of no use. [`StateError::Refused`]: it cannot be linked.
    pub fn clone_to(
        &self,
        id: SnapshotId,
        home: &Path,
        kind: CloneKind,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<(), StateError> {
        let tree = self.tree();
        let record = tree.snapshot(id).cloned().ok_or_else(|| StateError::NoSnapshot(id.to_string()))?;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| host("could not write", &path, ADVICE_SNAPSHOT)(error)
        };
        for folder in [snapshots_folder(home), packs_folder(home), snapshot_folder(home, ONLY), home.join("disks")] {
            self.files.create_folder(&folder).map_err(failed(&folder))?;
        }
        let (mut files, mut media) = (Vec::new(), Vec::new());
        for (slot, medium) in &record.media {
            let SavedMedium::Frozen { top, .. } = medium else {
                media.push((*slot, medium.clone()));
                continue;
            };
            let problems = self.check_chain(&tree, top);
            if !problems.is_empty() {
                return Err(StateError::Media(problems.into_iter().map(|text| format!("{slot}: {text}.")).collect()));
            }
            let top = match kind {
                CloneKind::Full => {
                    let file = self.copy_disk(&tree, *slot, top, home, progress)?;
                    let top = file.path.clone();
                    files.push(file);
                    top
                }
                CloneKind::Linked => {
                    self.link_disk(&tree, top, home, &mut files)?;
                    top.clone()
                }
            };
            media.push((*slot, SavedMedium::Frozen { configured: top.clone(), top }));
        }
        if record.memory.is_some() {
            match kind {
                CloneKind::Full => self.copy_memory(&record, home, progress)?,
                CloneKind::Linked => self.link_memory(&record, home)?,
            }
        }
        let picture = picture_path(&self.home, id);
        if let Ok(bytes) = std::fs::read(&picture) {
            let path = picture_path(home, ONLY);
            self.files.write_new(&path, &bytes).map_err(failed(&path))?;
        }
        let disks = home.join("disks");
        for folder in [home.to_owned(), disks, snapshots_folder(home), packs_folder(home), snapshot_folder(home, ONLY)]
        {
            self.files.sync_folder(&folder).map_err(failed(&folder))?;
        }
        let clone = TreeFile {
            // Numbers of linked files and packs are not given again.
            next: match kind {
                CloneKind::Full => ONLY.0 + 1,
                CloneKind::Linked => tree.next.max(ONLY.0 + 1),
            },
            present: Present { parent: Some(ONLY), disks: Vec::new() },
            next_start: record.memory.is_some().then_some(ONLY),
            files,
            snapshots: vec![SnapshotRecord {
                id: ONLY,
                parent: None,
                kind: SnapshotKind::Manual,
                media,
                ..record.clone()
            }],
            ..TreeFile::default()
        };
        let path = tree_path(home);
        let text =
            clone.to_text().map_err(|error| StateError::Tree { path: path.clone(), reason: error.to_string() })?;
        self.files.replace(&path, text.as_bytes()).map_err(failed(&path))
    }

    /// What the machine in `home`, which [`Keeper::clone_to`] made, must be.
    ///
    /// # Errors
    /// In words that name the file.
    pub fn cloned(home: &Path) -> Result<Cloned, StateError> {
        let tree = TreeFile::read(home)?;
        let record = tree.snapshot(ONLY).ok_or_else(|| StateError::NoSnapshot(ONLY.to_string()))?;
        let hardware = super::hardware(home, record)?;
        let medium = |(slot, medium): &(DriveSlot, SavedMedium)| match medium {
            SavedMedium::Frozen { top, .. } => {
                let format = tree.files.iter().find(|file| file.path == *top).map(|file| file.format);
                let format = format.unwrap_or(ImageFormat::Qcow2);
                ClonedMedium { slot: *slot, path: top.clone(), format, read_only: false }
            }
            SavedMedium::ReadOnly(identity) => ClonedMedium {
                slot: *slot,
                path: identity.path.clone(),
                format: identity.format.unwrap_or(ImageFormat::Raw),
                read_only: true,
            },
        };
        Ok(Cloned { hardware, media: record.media.iter().map(medium).collect() })
    }

    /// One image of all that the disk shows.
    fn copy_disk(
        &self,
        tree: &TreeFile,
        slot: DriveSlot,
        top: &Path,
        home: &Path,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<FrozenFile, StateError> {
        let words = |error: &dyn std::fmt::Display| StateError::Disk(error.to_string());
        let from = self.home.join(top);
        let format = tree.files.iter().find(|file| file.path == top).map_or(ImageFormat::Qcow2, |file| file.format);
        let path = PathBuf::from(format!("{}.qcow2", slot_name(slot)));
        let to = home.join(&path);
        let info = image::info(&from, Some(format)).map_err(|error| words(&error))?;
        self.files.image(&to, info.medium_bytes).map_err(|error| words(&error))?;
        let mut refused = None;
        let copied = convert::differences((&from, format), None, &to, &mut |done, all| {
            refused = self.files.step().err();
            refused.is_none() && progress(done, all)
        });
        if let Some(error) = refused {
            return Err(host("could not write", &to, ADVICE_SNAPSHOT)(error));
        }
        if !copied.map_err(|error| words(&error))? {
            return Err(StateError::Cancelled);
        }
        let identity = Some(measure(&to, ImageFormat::Qcow2)?);
        Ok(FrozenFile { path, format: ImageFormat::Qcow2, below: None, ours: false, identity, becomes: None })
    }

    /// Gives the files of a disk their second names, and adds them to `files`. The new machine never removes or merges them.
    fn link_disk(
        &self,
        tree: &TreeFile,
        top: &Path,
        home: &Path,
        files: &mut Vec<FrozenFile>,
    ) -> Result<(), StateError> {
        let words = |error: &dyn std::fmt::Display| StateError::Disk(error.to_string());
        let chain = tree.chain(top).unwrap_or_default();
        for file in &chain {
            if files.iter().any(|known| known.path == file.path) {
                continue;
            }
            let (from, to) = (self.home.join(&file.path), home.join(&file.path));
            if file.path.is_relative() {
                if let Some(folder) = to.parent() {
                    self.files.create_folder(folder).map_err(host(
                        "could not make the folder",
                        folder,
                        ADVICE_SNAPSHOT,
                    ))?;
                }
                self.link(&from, &to)?;
            }
            // While a merge was interrupted it may be either.
            let is = |identity: &MediumIdentity| {
                MediumIdentity { path: from.clone(), ..identity.clone() }.check(&mut |_, _| true).is_ok()
            };
            let identity = [&file.becomes, &file.identity].into_iter().flatten().find(|identity| is(identity)).cloned();
            files.push(FrozenFile { ours: false, identity, becomes: None, ..(*file).clone() });
        }
        // What the images say of each other must lead to the same files.
        let format = chain.first().map_or(ImageFormat::Qcow2, |file| file.format);
        let found = image::info(&home.join(top), Some(format)).map_err(|error| words(&error))?.below;
        let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let expected = chain.iter().skip(1).map(|file| real(&home.join(&file.path)));
        if !found.iter().map(|(path, _)| real(path)).eq(expected) {
            return Err(StateError::Refused(format!(
                "“{}” lies over files that its new place would not lead to, so it cannot be linked: make a full copy instead",
                self.home.join(top).display()
            )));
        }
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> Result<(), StateError> {
        self.files.link(from, to).map_err(|error| {
            StateError::Refused(format!(
                "“{}” cannot be shared with a machine in {} ({error}): both must be on one disk of this computer, whose file system knows links. Make a full copy instead",
                from.display(),
                to.parent().unwrap_or(to).display()
            ))
        })
    }

    /// The same packs.
    fn link_memory(&self, record: &SnapshotRecord, home: &Path) -> Result<(), StateError> {
        let index = self.copy_state(record, home)?;
        for number in index.packs().into_keys() {
            let pack = Pack::open(&packs_folder(&self.home), number).map_err(|(path, error)| StateError::Snapshot {
                name: record.name.clone(),
                path,
                reason: error.to_string(),
            })?;
            self.link(&pack.path, &packs_folder(home).join(pack.path.file_name().unwrap_or_default()))?;
        }
        let path = snapshot_folder(home, ONLY).join("index.bin");
        self.files
            .write_new(&path, &index.to_bytes())
            .map_err(|error| host("could not write", &path, ADVICE_SNAPSHOT)(error))
    }

    /// Takes `state.ron` over as it is, checked by its sum, and gives the index, checked too.
    fn copy_state(&self, record: &SnapshotRecord, home: &Path) -> Result<Index, StateError> {
        super::state(&self.home, record)?;
        let state = snapshot_folder(&self.home, record.id).join("state.ron");
        let text = std::fs::read(&state).map_err(|error| StateError::Snapshot {
            name: record.name.clone(),
            path: state.clone(),
            reason: error.to_string(),
        })?;
        let path = snapshot_folder(home, ONLY).join("state.ron");
        self.files.write_new(&path, &text).map_err(|error| host("could not write", &path, ADVICE_SNAPSHOT)(error))?;
        super::index(&self.home, record)
    }

    /// All chunks in one pack; what they are and their check sums stay.
    fn copy_memory(
        &self,
        record: &SnapshotRecord,
        home: &Path,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<(), StateError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| host("could not write", &path, ADVICE_SNAPSHOT)(error)
        };
        let broken = |path: &Path, reason: String| StateError::Snapshot {
            name: record.name.clone(),
            path: path.to_owned(),
            reason,
        };
        let index = self.copy_state(record, home)?;
        let origin = snapshot_folder(&self.home, record.id).join("index.bin");
        let chunks = Chunks::open(index, &origin, &packs_folder(&self.home));
        let chunks = chunks.map_err(|(path, error)| broken(&path, error.to_string()))?;
        let pack = pack_path(&packs_folder(home), ONLY.0);
        let mut out = self.files.create(&pack).map_err(failed(&pack))?;
        let mut index = Index::empty(chunks.index.ram, chunks.index.len);
        let mut bytes = vec![0; CHUNK as usize];
        let mut slot = 0;
        for (number, entry) in chunks.index.entries.iter().enumerate() {
            if entry.place == Place::Zero {
                continue;
            }
            if !progress(number as u64 * CHUNK, index.len) {
                return Err(StateError::Cancelled);
            }
            let len = index.chunk_len(number);
            bytes.fill(0);
            chunks.fill(number, &mut bytes[..len]).map_err(|text| broken(&pack, text))?;
            out.write(&bytes).map_err(failed(&pack))?;
            index.entries[number] = Entry { place: Place::Pack { pack: ONLY.0, slot }, checksum: entry.checksum };
            slot += 1;
        }
        out.sync().map_err(failed(&pack))?;
        let path = snapshot_folder(home, ONLY).join("index.bin");
        self.files.write_new(&path, &index.to_bytes()).map_err(failed(&path))
    }
}
