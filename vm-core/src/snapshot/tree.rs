//! The snapshots of a machine as a tree, and `snapshots/tree.ron`, the one file that says what there is.
//!
//! Replacing that file by rename is the moment at which anything changes. It ends with a check sum over all before it.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::memory::{self, Index, Place};
use super::pack::Pack;
use super::store::StateError;
use crate::config::{DriveSlot, ImageFormat};
use crate::disk::identity::MediumIdentity;

/// Version of the file.
pub const FORMAT: u32 = 1;
/// A tree larger than this is not one of ours.
const MOST: u64 = 64 << 20;
/// Before the check sum at the end.
const MARK: &str = "// checksum ";

/// A snapshot's number in its machine. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SnapshotId(pub u32);

impl std::fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Why there is a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotKind {
    /// A person took it.
    Manual,
    /// The present before another snapshot was restored.
    BeforeRestore,
    /// Taken by the clock; thinned as it ages.
    Checkpoint,
}

/// A medium as a snapshot has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SavedMedium {
    /// Frozen: the topmost file of its chain, which stands in [`TreeFile::files`].
    Frozen {
        /// The image that the machine was made with.
        configured: PathBuf,
        /// The topmost file.
        top: PathBuf,
    },
    /// A medium that is only read; the file stays where it is.
    ReadOnly(Box<MediumIdentity>),
}

/// A file of a disk that is not written any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrozenFile {
    /// Relative to the machine's folder where it lies in there.
    pub path: PathBuf,
    /// How it holds its bytes.
    pub format: ImageFormat,
    /// The file below it.
    pub below: Option<PathBuf>,
    /// Made by us: it goes when nobody needs it.
    pub ours: bool,
    /// What it was when it was frozen; `None`: it was not measured before the process ended.
    pub identity: Option<MediumIdentity>,
    /// While a merge puts another file with the same content in its place: what that one is.
    #[serde(default)]
    pub becomes: Option<MediumIdentity>,
}

/// A disk of the machine as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresentDisk {
    /// The drive.
    pub slot: DriveSlot,
    /// The image that the machine says.
    pub configured: PathBuf,
    /// The image that is used in its place.
    pub top: PathBuf,
    /// The file below that.
    pub below: PathBuf,
}

/// Where the machine is now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Present {
    /// The snapshot that it came from.
    pub parent: Option<SnapshotId>,
    /// Disks that lie over frozen ones.
    pub disks: Vec<PresentDisk>,
}

/// A snapshot that is being taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// Its number.
    pub id: SnapshotId,
    /// Its name.
    pub name: String,
}

/// The memories of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedMemory {
    /// Check sum of `state.ron`, in hexadecimal.
    pub state: String,
    /// Check sum of all chunks ([`Index::content`]), in hexadecimal.
    pub content: String,
}

/// A snapshot as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// Its number.
    pub id: SnapshotId,
    /// The snapshot before it.
    pub parent: Option<SnapshotId>,
    /// For people.
    pub name: String,
    /// For people, of any length.
    pub note: String,
    /// Seconds since 1970 (UTC).
    pub taken_at: u64,
    /// Why it is there.
    pub kind: SnapshotKind,
    /// What was in the drives.
    pub media: Vec<(DriveSlot, SavedMedium)>,
    /// RAM, processor and devices; `None`: the machine was off.
    pub memory: Option<SavedMemory>,
}

/// `tree.ron`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeFile {
    /// [`FORMAT`] when it was written.
    pub format: u32,
    /// Version of Hako that wrote it.
    pub hako: String,
    /// The next number for a snapshot, a disk file or a pack.
    pub next: u32,
    /// Now.
    pub present: Present,
    /// A snapshot that is being taken, or was when the machine's process ended.
    #[serde(default)]
    pub taking: Option<Unfinished>,
    /// The next start goes to this snapshot.
    #[serde(default)]
    pub next_start: Option<SnapshotId>,
    /// Where Save & Close has left a state of the present. While one is there, the disks below the present stay the files that they are.
    #[serde(default)]
    pub asleep: Option<PathBuf>,
    /// Something was deleted, and what nobody needs any more may still be there.
    #[serde(default)]
    pub untidy: bool,
    /// Files of disks that are not written any more.
    pub files: Vec<FrozenFile>,
    /// All snapshots, oldest first.
    pub snapshots: Vec<SnapshotRecord>,
}

impl Default for TreeFile {
    fn default() -> Self {
        Self {
            format: FORMAT,
            hako: env!("CARGO_PKG_VERSION").to_owned(),
            next: 1,
            present: Present::default(),
            taking: None,
            next_start: None,
            asleep: None,
            untidy: false,
            files: Vec::new(),
            snapshots: Vec::new(),
        }
    }
}

/// The folder of snapshots in a machine's folder.
pub fn snapshots_folder(home: &Path) -> PathBuf {
    home.join("snapshots")
}

/// The folder of one snapshot.
pub fn snapshot_folder(home: &Path, id: SnapshotId) -> PathBuf {
    snapshots_folder(home).join(id.to_string())
}

/// The folder of packs.
pub fn packs_folder(home: &Path) -> PathBuf {
    snapshots_folder(home).join("memory")
}

/// The file.
pub fn tree_path(home: &Path) -> PathBuf {
    snapshots_folder(home).join("tree.ron")
}

/// The picture of a snapshot.
pub fn picture_path(home: &Path, id: SnapshotId) -> PathBuf {
    snapshot_folder(home, id).join("screen.png")
}

/// Hexadecimal check sum of a text.
pub fn text_checksum(text: &str) -> String {
    format!("{:032x}", memory::checksum(text.as_bytes()))
}

/// What every version of the file has.
#[derive(Deserialize)]
struct Head {
    format: u32,
    hako: String,
}

impl TreeFile {
    /// As a file.
    ///
    /// # Errors
    /// Never, as far as RON can hold plain data.
    pub fn to_text(&self) -> Result<String, ron::Error> {
        let mut text = ron::ser::to_string_pretty(self, ron::ser::PrettyConfig::new().depth_limit(4))?;
        text.push('\n');
        let checksum = text_checksum(&text);
        text.push_str(MARK);
        text.push_str(&checksum);
        text.push('\n');
        Ok(text)
    }

    /// Reads the tree of the machine in `home`; one without snapshots where there is no file.
    ///
    /// # Errors
    /// In words that name the file.
    pub fn read(home: &Path) -> Result<Self, StateError> {
        let path = tree_path(home);
        let damaged = |reason: String| StateError::Tree { path: path.clone(), reason };
        let mut text = String::new();
        match File::open(&path).and_then(|file| file.take(MOST + 1).read_to_string(&mut text)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(damaged("it is not text".to_owned()));
            }
            Err(error) => return Err(damaged(error.to_string())),
            Ok(_) if text.len() as u64 > MOST => return Err(damaged("it is larger than 64 MiB".to_owned())),
            Ok(_) => {}
        }
        // Newer ones may have another check sum.
        if let Ok(head) = ron::from_str::<Head>(&text)
            && head.format > FORMAT
        {
            return Err(StateError::Newer { path, hako: head.hako });
        }
        let body = text.strip_suffix('\n').and_then(|text| text.rfind(MARK)).map(|at| text.split_at(at));
        let whole = body.is_some_and(|(body, mark)| mark[MARK.len()..].trim_end() == text_checksum(body));
        if !whole {
            return Err(damaged("its check sum is wrong: it was cut off or changed".to_owned()));
        }
        let tree: Self = ron::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        tree.check().map_err(damaged)?;
        Ok(tree)
    }

    /// Whether it makes sense in itself.
    fn check(&self) -> Result<(), String> {
        for (index, snapshot) in self.snapshots.iter().enumerate() {
            let before = &self.snapshots[..index];
            if before.iter().any(|other| other.id == snapshot.id) || snapshot.id.0 >= self.next {
                return Err(format!("the number {} stands there twice or is not possible", snapshot.id));
            }
            if snapshot.parent.is_some_and(|parent| before.iter().all(|other| other.id != parent)) {
                return Err(format!("snapshot {} has a parent that is not there", snapshot.id));
            }
            for (_, medium) in &snapshot.media {
                if let SavedMedium::Frozen { top, .. } = medium {
                    self.chain(top).ok_or_else(|| format!("a disk of snapshot {} is not listed", snapshot.id))?;
                }
            }
        }
        let known = |id: SnapshotId| self.snapshots.iter().any(|snapshot| snapshot.id == id);
        if self.present.parent.into_iter().chain(self.next_start).any(|id| !known(id)) {
            return Err("it names a snapshot that is not there".to_owned());
        }
        Ok(())
    }

    /// The files of a disk from `top` down; `None`: one is not listed, or they lie in a ring.
    pub fn chain(&self, top: &Path) -> Option<Vec<&FrozenFile>> {
        let mut chain: Vec<&FrozenFile> = Vec::new();
        let mut next = Some(top);
        while let Some(path) = next {
            let file = self.files.iter().find(|file| file.path == path)?;
            if chain.len() > self.files.len() {
                return None;
            }
            next = file.below.as_deref();
            chain.push(file);
        }
        Some(chain)
    }

    /// The snapshot with this number.
    pub fn snapshot(&self, id: SnapshotId) -> Option<&SnapshotRecord> {
        self.snapshots.iter().find(|snapshot| snapshot.id == id)
    }

    /// A new number.
    pub fn number(&mut self) -> u32 {
        let number = self.next;
        self.next += 1;
        number
    }
}

/// A snapshot, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its number.
    pub id: SnapshotId,
    /// The snapshot before it.
    pub parent: Option<SnapshotId>,
    /// Its name.
    pub name: String,
    /// Its note.
    pub note: String,
    /// Seconds since 1970 (UTC).
    pub taken_at: u64,
    /// Why it is there.
    pub kind: SnapshotKind,
    /// It holds RAM, processor and devices; else the machine was off.
    pub has_memory: bool,
    /// Bytes of memories and disk files that only this snapshot needs: what deleting it frees in the end.
    pub own_bytes: u64,
    /// Bytes of memories and disk files that others need too.
    pub shared_bytes: u64,
    /// The picture, where there is one.
    pub picture: Option<PathBuf>,
    /// Snapshots that came directly from it.
    pub children: Vec<SnapshotId>,
}

/// What deleting a snapshot means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Bytes that become free, about.
    pub frees: u64,
    /// In words: what it frees, and what stays because others need it.
    pub text: String,
}

/// How two snapshots differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Hardware that differs, a line each.
    pub hardware: Vec<String>,
    /// Bytes of memory that differ, in chunks of 64 KiB; `None`: one of them has no memory.
    pub memory_bytes: Option<u64>,
    /// For each disk: whether anything differs, and bytes of the files that only one of them has.
    pub disks: Vec<(DriveSlot, u64)>,
}

/// All snapshots of a machine, as they are now. Made from files alone, whether the machine runs or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotTree {
    /// The machine's folder.
    pub home: PathBuf,
    /// Oldest first; a parent comes before its children.
    pub snapshots: Vec<SnapshotInfo>,
    /// The snapshot that the present came from.
    pub present: Option<SnapshotId>,
    /// The next start goes to this snapshot.
    pub next_start: Option<SnapshotId>,
    /// The name of a snapshot that is being taken, or was when the machine's process ended.
    pub unfinished: Option<String>,
}

impl SnapshotTree {
    /// Reads the tree of the machine in `home`. May wait for the disk.
    ///
    /// # Errors
    /// In words that name the file.
    pub fn read(home: &Path) -> Result<Self, StateError> {
        let tree = TreeFile::read(home)?;
        let usage = Usage::of(home, &tree);
        let info = |record: &SnapshotRecord| {
            let (own_bytes, shared_bytes) = usage.bytes(record);
            let picture = picture_path(home, record.id);
            SnapshotInfo {
                id: record.id,
                parent: record.parent,
                name: record.name.clone(),
                note: record.note.clone(),
                taken_at: record.taken_at,
                kind: record.kind,
                has_memory: record.memory.is_some(),
                own_bytes,
                shared_bytes,
                picture: picture.is_file().then_some(picture),
                children: tree.snapshots.iter().filter(|one| one.parent == Some(record.id)).map(|one| one.id).collect(),
            }
        };
        Ok(Self {
            home: home.to_owned(),
            snapshots: tree.snapshots.iter().map(info).collect(),
            present: tree.present.parent,
            next_start: tree.next_start,
            unfinished: tree.taking.as_ref().map(|taking| taking.name.clone()),
        })
    }

    /// The snapshot with this number.
    pub fn get(&self, id: SnapshotId) -> Option<&SnapshotInfo> {
        self.snapshots.iter().find(|snapshot| snapshot.id == id)
    }

    /// The snapshot that a person means: by name (the newest of several), else by number.
    pub fn find(&self, text: &str) -> Option<&SnapshotInfo> {
        let named = self.snapshots.iter().rev().find(|snapshot| snapshot.name == text);
        named.or_else(|| self.get(SnapshotId(text.parse().ok()?)))
    }

    /// What deleting it means.
    pub fn deletion(&self, id: SnapshotId) -> Option<Deletion> {
        let snapshot = self.get(id)?;
        let mut text = format!("Deleting “{}” frees about {}.", snapshot.name, words(snapshot.own_bytes));
        if snapshot.shared_bytes > 0 {
            let stay = words(snapshot.shared_bytes);
            let _ = write!(text, " {stay} stay, because other snapshots, the present or a linked machine need them.");
        }
        match snapshot.children.len() {
            0 => {}
            1 => text.push_str(" One snapshot came from it and keeps all that it needs."),
            count => {
                let _ = write!(text, " {count} snapshots came from it and keep all that they need.");
            }
        }
        if self.present == Some(id) {
            text.push_str(" The machine as it is now came from it and is not touched.");
        }
        Some(Deletion { frees: snapshot.own_bytes, text })
    }

    /// How two snapshots differ. May wait for the disk.
    ///
    /// # Errors
    /// In words that name the file, or the snapshot that is not there.
    pub fn compare(&self, one: SnapshotId, other: SnapshotId) -> Result<Comparison, StateError> {
        let tree = TreeFile::read(&self.home)?;
        let record = |id| tree.snapshot(id).ok_or(StateError::NoSnapshot(id.to_string()));
        let (first, second) = (record(one)?, record(other)?);
        let hardware = match (super::keeper::hardware(&self.home, first)?, super::keeper::hardware(&self.home, second)?)
        {
            (Some(first), Some(second)) => first.differences(&second),
            _ => Vec::new(),
        };
        let index = |record: &SnapshotRecord| {
            record.memory.as_ref().map(|_| super::keeper::index(&self.home, record)).transpose()
        };
        let memory_bytes = match (index(first)?, index(second)?) {
            (Some(first), Some(second)) => Some(different(&first, &second)),
            _ => None,
        };
        let mut disks = Vec::new();
        for (slot, medium) in &first.media {
            let (SavedMedium::Frozen { top, .. }, Some((_, SavedMedium::Frozen { top: now, .. }))) =
                (medium, second.media.iter().find(|(at, _)| at == slot))
            else {
                continue;
            };
            let chain = |top: &Path| tree.chain(top).unwrap_or_default();
            let (then, now) = (chain(top), chain(now));
            let only = |one: &[&FrozenFile], other: &[&FrozenFile]| -> u64 {
                let alone = one.iter().filter(|file| other.iter().all(|there| there.path != file.path));
                alone.map(|file| used_bytes(&self.home.join(&file.path))).sum()
            };
            disks.push((*slot, only(&then, &now) + only(&now, &then)));
        }
        Ok(Comparison { hardware, memory_bytes, disks })
    }
}

fn different(one: &Index, other: &Index) -> u64 {
    let count = one.entries.len().max(other.entries.len());
    let checksum = |index: &Index, number: usize| index.entries.get(number).map(|entry| entry.checksum);
    let differing = (0..count).filter(|&number| checksum(one, number) != checksum(other, number)).count();
    differing as u64 * crate::bus::ram::transfer::CHUNK
}

/// Bytes in words.
pub fn words(bytes: u64) -> String {
    match bytes {
        0..0x2800 => format!("{bytes} bytes"),
        0x2800..0xa0_0000 => format!("{} KiB", bytes >> 10),
        0xa0_0000..0x2_8000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

/// Bytes that a file takes on the host.
pub fn used_bytes(path: &Path) -> u64 {
    let Ok(metadata) = path.metadata() else { return 0 };
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::blocks(&metadata) * 512;
    #[cfg(not(unix))]
    metadata.len()
}

/// Whether a file has names elsewhere too, in the folder of a linked machine: to remove this one frees nothing.
fn has_other_names(path: &Path) -> bool {
    #[cfg(unix)]
    return path.metadata().is_ok_and(|metadata| std::os::unix::fs::MetadataExt::nlink(&metadata) > 1);
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

/// Who needs which chunk and which file.
struct Usage<'a> {
    home: &'a Path,
    tree: &'a TreeFile,
    /// How many snapshots need a chunk of a pack.
    chunks: HashMap<(u32, u32), u32>,
    /// Packs that are compressed: what a chunk takes is less.
    compressed: HashMap<u32, Pack>,
    /// Packs that a linked machine has too.
    linked: HashSet<u32>,
    indexes: HashMap<SnapshotId, Index>,
}

impl<'a> Usage<'a> {
    fn of(home: &'a Path, tree: &'a TreeFile) -> Self {
        let mut usage = Self {
            home,
            tree,
            chunks: HashMap::new(),
            compressed: HashMap::new(),
            linked: HashSet::new(),
            indexes: HashMap::new(),
        };
        for record in tree.snapshots.iter().filter(|record| record.memory.is_some()) {
            // One that is damaged costs nothing here; restoring it says what is wrong.
            let Ok(index) = memory::read_index(&snapshot_folder(home, record.id).join("index.bin")) else { continue };
            for entry in &index.entries {
                if let Place::Pack { pack, slot } = entry.place {
                    *usage.chunks.entry((pack, slot)).or_insert(0) += 1;
                }
            }
            usage.indexes.insert(record.id, index);
        }
        let packs: HashSet<u32> = usage.chunks.keys().map(|(pack, _)| *pack).collect();
        for pack in packs {
            let Ok(open) = Pack::open(&packs_folder(home), pack) else { continue };
            if has_other_names(&open.path) {
                usage.linked.insert(pack);
            }
            if open.is_compressed() {
                usage.compressed.insert(pack, open);
            }
        }
        usage
    }

    /// Bytes that only `record` needs, and bytes that others need too.
    fn bytes(&self, record: &SnapshotRecord) -> (u64, u64) {
        let (mut own, mut shared) = (0, 0);
        if let Some(index) = self.indexes.get(&record.id) {
            for (number, entry) in index.entries.iter().enumerate() {
                if let Place::Pack { pack, slot } = entry.place {
                    let plain = index.chunk_len(number) as u64;
                    let bytes = self.compressed.get(&pack).map_or(plain, |pack| pack.bytes_of(slot));
                    let alone =
                        self.chunks.get(&(pack, slot)).is_none_or(|&users| users <= 1) && !self.linked.contains(&pack);
                    *if alone { &mut own } else { &mut shared } += bytes;
                }
            }
        }
        let mut needed: Vec<&Path> = Vec::new();
        for other in self.tree.snapshots.iter().filter(|other| other.id != record.id) {
            needed.extend(tops(other).flat_map(|top| self.tree.chain(top).unwrap_or_default()).map(|file| &*file.path));
        }
        let present = self.tree.present.disks.iter();
        needed
            .extend(present.flat_map(|disk| self.tree.chain(&disk.below).unwrap_or_default()).map(|file| &*file.path));
        for file in tops(record).flat_map(|top| self.tree.chain(top).unwrap_or_default()) {
            let path = self.home.join(&file.path);
            let bytes = used_bytes(&path);
            let alone = file.ours && !needed.contains(&&*file.path) && !has_other_names(&path);
            *if alone { &mut own } else { &mut shared } += bytes;
        }
        (own, shared)
    }
}

/// The topmost files of a snapshot's disks.
pub fn tops(record: &SnapshotRecord) -> impl Iterator<Item = &Path> {
    record.media.iter().filter_map(|(_, medium)| match medium {
        SavedMedium::Frozen { top, .. } => Some(&**top),
        SavedMedium::ReadOnly(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_comes_back_and_any_change_of_it_is_found() {
        let home = std::env::temp_dir().join(format!("hako-tree-{}", std::process::id()));
        std::fs::create_dir_all(snapshots_folder(&home)).unwrap();
        let record = |id, parent: Option<u32>| SnapshotRecord {
            id: SnapshotId(id),
            parent: parent.map(SnapshotId),
            name: format!("“{id}”"),
            note: "a\nb".to_owned(),
            taken_at: 7,
            kind: SnapshotKind::Manual,
            media: Vec::new(),
            memory: None,
        };
        let mut tree =
            TreeFile { next: 4, snapshots: vec![record(1, None), record(3, Some(1))], ..TreeFile::default() };
        let text = tree.to_text().unwrap();
        std::fs::write(tree_path(&home), &text).unwrap();
        assert_eq!(TreeFile::read(&home).unwrap(), tree);
        let seen = SnapshotTree::read(&home).unwrap();
        assert_eq!(seen.find("“3”").map(|one| one.id), Some(SnapshotId(3)));
        assert_eq!(seen.find("1").map(|one| one.children.clone()), Some(vec![SnapshotId(3)]));
        assert!(seen.deletion(SnapshotId(1)).unwrap().text.contains("keeps all that it needs"));
        for at in 0..text.len() {
            let mut bad = text.clone().into_bytes();
            bad[at] ^= 1;
            std::fs::write(tree_path(&home), &bad).unwrap();
            let error = TreeFile::read(&home).expect_err("changed").to_string();
            assert!(error.contains("tree.ron"), "{error}");
            std::fs::write(tree_path(&home), &text.as_bytes()[..at]).unwrap();
            assert!(TreeFile::read(&home).is_err(), "cut at {at}");
        }
        tree.snapshots[1].parent = Some(SnapshotId(2));
        std::fs::write(tree_path(&home), tree.to_text().unwrap()).unwrap();
        assert!(TreeFile::read(&home).unwrap_err().to_string().contains("parent"));
        std::fs::remove_dir_all(home).unwrap();
    }
}
