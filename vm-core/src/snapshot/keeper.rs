//! The snapshots of one machine, held by the process that runs or changes it.
//!
//! A machine's folder has `snapshots/` (tree, states, packs of memory) and `disks/` (overlays). Frozen files are never written again;
//! the machine always runs on overlays above them. All changes go through `tree.ron`:
//! - **Take** (`take`): new overlays are made and named in the tree while the guest runs. They are right from then on, whether or not the
//!   machine has switched to them: an empty overlay shows what is below. The switch needs no commit, so the guest stands still only for it.
//! - **Restore** (`restore`): everything is checked, new overlays above the snapshot's disks are made, and one commit names them.
//! - **Clone** (`clone`): a snapshot is copied into the folder of a new machine, or its files get second names there. Either way that needs
//!   nothing of the old one.
//! - **Delete** (`delete`): the commit takes the snapshot out; what nobody needs any more is then removed or merged, in steps that each
//!   leave everything readable.

mod clone;
mod delete;
mod restore;
mod take;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::files::Files;
use super::manifest::{Device, Hardware};
use super::memory::{self, Index};
use super::store::{ADVICE_READ, StateError, host};
use super::tree::{
    FrozenFile, PresentDisk, SavedMedium, SnapshotId, SnapshotRecord, TreeFile, packs_folder, snapshot_folder,
    snapshots_folder, text_checksum, tops, tree_path,
};
use crate::config::{DriveKind, DriveSlot, ImageFormat, MachineConfig};
use crate::disk::identity::MediumIdentity;
use crate::disk::image;
use crate::disk::lock::{self, Lock, LockError};

pub use clone::{CloneKind, Cloned};
pub use delete::Tidied;
pub use restore::{Restored, RestoredMedium, RestoredState};
pub use take::{Captured, MediumNow, Prepared, Wish};

/// What to do where the host refused a file of a snapshot.
const ADVICE_SNAPSHOT: &str =
    "Nothing was lost: the machine goes on as before and older snapshots are as they were. Make room, then try again.";
/// Longest file `state.ron` of a snapshot.
const MOST_STATE: u64 = 64 << 20;

/// `state.ron` of a snapshot.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct SnapshotState {
    /// Version of the file as a whole; devices count their own.
    pub format: u32,
    /// Version of Hako that wrote it.
    pub hako: String,
    /// What must be the same again.
    pub hardware: Hardware,
    /// Bytes of guest RAM.
    pub ram: u64,
    /// Bytes of all memories, RAM first.
    pub len: u64,
    /// Guest time in nanoseconds.
    pub guest_time: u64,
    /// The host's time then, in seconds since 1970 (UTC); 0: written by a version that did not keep it.
    #[serde(default)]
    pub host_time: u64,
    /// Processor and devices.
    pub devices: Vec<Device>,
}

/// Version of [`SnapshotState`].
const STATE_FORMAT: u32 = 1;

/// The snapshots of a machine. Nobody else changes them while it lives.
#[derive(Debug)]
pub struct Keeper {
    home: PathBuf,
    files: Files,
    tree: Mutex<TreeFile>,
    _lock: Lock,
    notice: Option<String>,
}

impl Keeper {
    /// Whether the machine in `home` has, or has had, snapshots.
    pub fn is_there(home: &Path) -> bool {
        tree_path(home).exists()
    }

    /// Takes hold of the snapshots of the machine in `home`, and removes what an interrupted action has left.
    ///
    /// # Errors
    /// In words: another process has them, or a file cannot be used.
    pub fn open(home: &Path, files: Files) -> Result<Self, StateError> {
        let home = std::path::absolute(home).map_err(host("could not find", home, ADVICE_READ))?;
        for folder in [snapshots_folder(&home), packs_folder(&home), home.join("disks")] {
            if !folder.is_dir() {
                files.create_folder(&folder).map_err(host("could not make the folder", &folder, ADVICE_SNAPSHOT))?;
            }
        }
        let home = fs::canonicalize(&home).map_err(host("could not find", &home, ADVICE_READ))?;
        let path = snapshots_folder(&home).join("lock");
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(host("could not open", &path, ADVICE_READ))?;
        let lock = lock::acquire(&file, true).map_err(|error| match error {
            LockError::InUse => StateError::InUse(home.clone()),
            LockError::Host(error) => host("could not lock", &path, ADVICE_READ)(error),
        })?;
        let mut tree = TreeFile::read(&home)?;
        let notice = tree.taking.take().map(|taking| {
            format!(
                "The snapshot “{}” was not finished when the machine's process ended, so it is not there. The disks are whole: they are as the guest last wrote them.",
                taking.name
            )
        });
        let keeper = Self { home, files, tree: Mutex::new(tree), _lock: lock, notice };
        if keeper.notice.is_some() {
            keeper.commit(|_| ())?;
        }
        keeper.settle_merges()?;
        keeper.sweep();
        Ok(keeper)
    }

    /// What a person should know about an action that was interrupted.
    pub fn notice(&self) -> Option<&str> {
        self.notice.as_deref()
    }

    /// The machine's folder.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The tree as it is now.
    pub fn tree(&self) -> TreeFile {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, TreeFile> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the tree: on stable storage, then here.
    fn commit<T>(&self, change: impl FnOnce(&mut TreeFile) -> T) -> Result<T, StateError> {
        let mut tree = self.lock();
        let mut new = tree.clone();
        let result = change(&mut new);
        env!("CARGO_PKG_VERSION").clone_into(&mut new.hako);
        let path = tree_path(&self.home);
        let text = new.to_text().map_err(|error| StateError::Tree { path: path.clone(), reason: error.to_string() })?;
        let written = self.files.replace(&path, text.as_bytes());
        if let Err(error) = written {
            // Only the sync of the folder may have failed: then the new one is there.
            match TreeFile::read(&self.home) {
                Ok(now) if now == new => {}
                _ => return Err(host("could not write", &path, ADVICE_SNAPSHOT)(error)),
            }
        }
        *tree = new;
        Ok(result)
    }

    /// A path as it stands in the tree: relative where it lies in the machine's folder, so that the folder can move.
    fn relative(&self, path: &Path) -> PathBuf {
        let absolute = || std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let path = fs::canonicalize(path).unwrap_or_else(|_| absolute());
        path.strip_prefix(&self.home).map_or_else(|_| path.clone(), Path::to_owned)
    }

    /// Changes the drives of a machine that is about to start to the images that hold their present content. Checks that what lies below
    /// has not changed.
    ///
    /// # Errors
    /// In words: a file has changed or is gone.
    pub fn configure(&self, config: &mut MachineConfig) -> Result<(), StateError> {
        for drive in config.drives.iter_mut().filter(|drive| !drive.read_only && drive.kind != DriveKind::Cd) {
            let Some(path) = &drive.path else { continue };
            if let Some(top) = self.medium_for(drive.slot, path)? {
                drive.path = Some(top);
                drive.format = Some(ImageFormat::Qcow2);
            }
        }
        Ok(())
    }

    /// The image to open for writing where a person says `path`: the one that holds its present content, or a new one above it where it
    /// is frozen. `None`: itself.
    ///
    /// # Errors
    /// In words: a file below has changed or is gone, or the host refused.
    pub fn medium_for(&self, slot: DriveSlot, path: &Path) -> Result<Option<PathBuf>, StateError> {
        let tree = self.tree();
        let configured = self.relative(path);
        let check = |below: &Path| {
            let problems = self.check_chain(&tree, below);
            let texts = problems.into_iter().map(|text| format!("{slot}: {text}.")).collect::<Vec<_>>();
            if texts.is_empty() { Ok(()) } else { Err(StateError::Media(texts)) }
        };
        let present = tree.present.disks.iter().find(|disk| disk.slot == slot && disk.configured == configured);
        if let Some(disk) = present {
            check(&disk.below)?;
            return Ok(Some(self.home.join(&disk.top)));
        }
        let Some(file) = tree.files.iter().find(|file| file.path == configured) else { return Ok(None) };
        check(&file.path)?;
        let number = self.commit(TreeFile::number)?;
        let top = self.overlay(slot, number, path, file.format)?;
        self.sync_disks()?;
        let disk = PresentDisk { slot, configured, top: top.clone(), below: file.path.clone() };
        self.commit(|tree| {
            tree.present.disks.retain(|other| other.slot != slot);
            tree.present.disks.push(disk);
        })?;
        Ok(Some(self.home.join(top)))
    }

    /// What is wrong with the frozen files from `top` down, a text each.
    fn check_chain(&self, tree: &TreeFile, top: &Path) -> Vec<String> {
        let mut problems = Vec::new();
        let mut next = Some(top.to_owned());
        let mut left = tree.files.len() + 1;
        while let Some(path) = next.take() {
            let Some(file) = tree.files.iter().find(|file| file.path == path) else { break };
            if let Err(text) = self.check_file(file) {
                problems.push(text);
            }
            left -= 1;
            next = if left == 0 { None } else { file.below.clone() };
        }
        problems
    }

    fn check_file(&self, file: &FrozenFile) -> Result<(), String> {
        let path = self.home.join(&file.path);
        let check = |identity: &MediumIdentity| {
            MediumIdentity { path: path.clone(), below: Vec::new(), ..identity.clone() }.check(&mut |_, _| true)
        };
        let Some(identity) = &file.identity else {
            // Not measured before the process ended; that it is there is all that can be known.
            return if path.is_file() {
                Ok(())
            } else {
                Err(format!("“{}” does not exist any more", path.display()))
            };
        };
        match (check(identity), &file.becomes) {
            (Err(error), None) => Err(error.to_string()),
            (Err(error), Some(becomes)) => check(becomes).map_err(|_| error.to_string()),
            (Ok(()), _) => Ok(()),
        }
    }

    /// Removes what no file of the tree names: the rest of an action that did not come to its commit.
    fn sweep(&self) {
        let tree = self.tree();
        let mut indexes = Vec::new();
        for record in tree.snapshots.iter().filter(|record| record.memory.is_some()) {
            indexes.push(memory::read_index(&snapshot_folder(&self.home, record.id).join("index.bin")));
        }
        for path in listing(&snapshots_folder(&self.home)) {
            let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            if number.is_some_and(|number| tree.snapshot(SnapshotId(number)).is_none()) {
                self.forget(self.files.remove_folder(&path), &path);
            }
        }
        // Whatever the tree says: what really lies below the present stays. Where that cannot be seen, everything does.
        let below = tree
            .present
            .disks
            .iter()
            .map(|disk| image::info(&self.home.join(&disk.top), Some(ImageFormat::Qcow2)).map(|info| info.below));
        let below = below.collect::<Result<Vec<_>, _>>().map(|chains| -> Vec<PathBuf> {
            chains.into_iter().flatten().map(|(path, _)| self.relative(&path)).collect()
        });
        for path in listing(&self.home.join("disks")) {
            let relative = self.relative(&path);
            let frozen = tree.files.iter().any(|file| file.path == relative);
            let present = tree.present.disks.iter().any(|disk| disk.top == relative || disk.below == relative);
            // Only what was made here; others may keep their own disks in this folder.
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let ours = take::is_overlay_name(&name) || name.ends_with(delete::MERGING) || is_unfinished(&name);
            let is_below = below.as_ref().map_or(true, |below| below.contains(&relative));
            if ours && !frozen && !present && !is_below {
                self.forget(self.files.remove(&path), &path);
            }
        }
        // A damaged index may name any pack.
        if indexes.iter().all(Result::is_ok) {
            let used: Vec<u32> = indexes.into_iter().flatten().flat_map(|index| index.packs().into_keys()).collect();
            for path in listing(&packs_folder(&self.home)) {
                let number = path.file_stem().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
                // A compressed one beside the plain one may not be finished.
                let double = path.extension().is_some_and(|end| end == "zst") && path.with_extension("bin").exists();
                if number.is_some_and(|number: u32| double || !used.contains(&number)) {
                    self.forget(self.files.remove(&path), &path);
                }
            }
        }
    }

    /// What could not be removed costs room and nothing else.
    #[expect(clippy::unused_self, reason = "reads as what the keeper does")]
    fn forget(&self, result: std::io::Result<()>, path: &Path) {
        if let Err(error) = result {
            tracing::warn!(path = %path.display(), %error, "could not be removed; it is not needed any more");
        }
    }

    /// Gives a snapshot another name, or another note.
    ///
    /// # Errors
    /// In words.
    pub fn describe(&self, id: SnapshotId, name: Option<&str>, note: Option<&str>) -> Result<(), StateError> {
        self.commit(|tree| {
            let record = tree.snapshots.iter_mut().find(|record| record.id == id)?;
            if let Some(name) = name {
                name.clone_into(&mut record.name);
            }
            if let Some(note) = note {
                note.clone_into(&mut record.note);
            }
            Some(())
        })?
        .ok_or(StateError::NoSnapshot(id.to_string()))
    }

    /// The present is about to be saved into a state in `folder`: while it is there, nothing is merged.
    ///
    /// # Errors
    /// In words.
    pub fn set_asleep(&self, folder: &Path) -> Result<(), StateError> {
        let folder = self.relative(folder);
        if self.lock().asleep.as_ref() == Some(&folder) {
            return Ok(());
        }
        self.commit(|tree| tree.asleep = Some(folder))
    }

    /// The machine with its disks as they are now, if it can go on from the state in `folder`.
    ///
    /// # Errors
    /// In words, where it cannot.
    pub fn wakes(&self, config: &MachineConfig, folder: &Path) -> Result<MachineConfig, StateError> {
        let mut now = config.clone();
        self.configure(&mut now)?;
        super::fits(&now, folder)?;
        Ok(now)
    }

    fn is_asleep(&self) -> bool {
        self.lock().asleep.as_ref().is_some_and(|folder| super::exists(&self.home.join(folder)))
    }

    /// The next start goes to this snapshot (`None`: to the present, as usual).
    ///
    /// # Errors
    /// In words.
    pub fn set_next_start(&self, id: Option<SnapshotId>) -> Result<(), StateError> {
        if let Some(id) = id.filter(|id| self.lock().snapshot(*id).is_none()) {
            return Err(StateError::NoSnapshot(id.to_string()));
        }
        self.commit(|tree| tree.next_start = id)
    }
}

/// Whether an image of ours was being made under this name ([`image::create`]): `.hda-7.qcow2.4711.new`. Nobody else makes any while the
/// keeper has its lock.
fn is_unfinished(name: &str) -> bool {
    let inner = name.strip_prefix('.').and_then(|name| name.strip_suffix(".new"));
    let inner = inner.and_then(|name| name.rsplit_once('.')).map(|(name, _)| name);
    inner.is_some_and(|name| take::is_overlay_name(name.strip_suffix(delete::MERGING).unwrap_or(name)))
}

fn listing(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).map_or_else(|_| Vec::new(), |entries| entries.flatten().map(|entry| entry.path()).collect())
}

/// Reads and checks `state.ron` of a snapshot; `None`: the machine was off.
///
/// # Errors
/// In words that name the file.
pub fn state(home: &Path, record: &SnapshotRecord) -> Result<Option<SnapshotState>, StateError> {
    let Some(memory) = &record.memory else { return Ok(None) };
    let path = snapshot_folder(home, record.id).join("state.ron");
    let broken = |reason: String| StateError::Snapshot { name: record.name.clone(), path: path.clone(), reason };
    let metadata = path.metadata().map_err(|error| broken(error.to_string()))?;
    if metadata.len() > MOST_STATE {
        return Err(broken("it is larger than 64 MiB".to_owned()));
    }
    let text = fs::read_to_string(&path).map_err(|error| broken(error.to_string()))?;
    if text_checksum(&text) != memory.state {
        return Err(broken("its check sum is wrong: it has changed since it was written".to_owned()));
    }
    let state: SnapshotState = ron::from_str(&text).map_err(|error| broken(error.to_string()))?;
    if state.format > STATE_FORMAT {
        return Err(StateError::Newer { path, hako: state.hako });
    }
    Ok(Some(state))
}

/// The hardware of a snapshot; `None`: the machine was off.
///
/// # Errors
/// In words that name the file.
pub fn hardware(home: &Path, record: &SnapshotRecord) -> Result<Option<Hardware>, StateError> {
    Ok(state(home, record)?.map(|state| state.hardware))
}

/// Reads and checks the index of a snapshot's memories.
///
/// # Errors
/// In words that name the file.
pub fn index(home: &Path, record: &SnapshotRecord) -> Result<Index, StateError> {
    let path = snapshot_folder(home, record.id).join("index.bin");
    let broken = |reason: String| StateError::Snapshot { name: record.name.clone(), path: path.clone(), reason };
    let index = memory::read_index(&path).map_err(|error| broken(error.to_string()))?;
    let content = record.memory.as_ref().map(|memory| memory.content.as_str());
    if content != Some(format!("{:032x}", index.content()).as_str()) {
        return Err(broken("it is not the index that was written for this snapshot".to_owned()));
    }
    Ok(index)
}

/// Every file of `tree` that a snapshot or the present needs.
fn needed(tree: &TreeFile) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = Vec::new();
    let frozen = tree.snapshots.iter().flat_map(tops).map(Path::to_owned);
    let present = tree.present.disks.iter().map(|disk| disk.below.clone());
    for top in frozen.chain(present) {
        for file in tree.chain(&top).unwrap_or_default() {
            if !paths.contains(&file.path) {
                paths.push(file.path.clone());
            }
        }
    }
    paths
}

/// The medium of a snapshot in words, for tables.
fn medium_words(medium: &SavedMedium) -> String {
    match medium {
        SavedMedium::Frozen { configured, .. } => format!("“{}”", configured.display()),
        SavedMedium::ReadOnly(identity) => format!("“{}”", identity.path.display()),
    }
}
