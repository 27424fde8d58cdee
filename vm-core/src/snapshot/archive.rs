//! A machine with all its snapshots as one file: a plain tar archive.
//!
//! ```text
//! hako.ron      first: the version, each file that follows with its bytes, and which image lies over which
//! machine.ron   what the machine is made of, with paths within the archive
//! …             disks, memories, the tree of snapshots (with paths within the archive)
//! checksums     last: XXH3 (128 bits, hexadecimal) of each file
//! ```
//!
//! Files of the machine's folder keep their places; those from elsewhere (an adopted image, a CD, a kernel) lie in `disks/`. Names have at
//! most [`LONGEST_NAME`] bytes, so that no extension of tar is needed and none is read.

mod import;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write as _};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use twox_hash::xxhash3_128::Hasher;

use super::files::Files;
use super::host_seconds;
use super::keeper::Keeper;
use super::store::{StateError, host};
use super::tree::{SavedMedium, TreeFile, packs_folder, picture_path, snapshot_folder};
use crate::config::ImageFormat;
use crate::disk::image;

pub use import::import;

/// Version of the archive.
const FORMAT: u32 = 1;
const CONTENTS: &str = "hako.ron";
const MACHINE: &str = "machine.ron";
const CHECKSUMS: &str = "checksums";
const TREE: &str = "snapshots/tree.ron";
/// What a plain tar header has room for.
pub const LONGEST_NAME: usize = 99;
/// Bytes read and written at a time.
const PART: usize = 1 << 20;

const ADVICE: &str =
    "No file was made, and the machine is as it was. Make room or choose another folder, then export again.";

/// `hako.ron`.
#[derive(Debug, Serialize, Deserialize)]
struct Contents {
    format: u32,
    hako: String,
    /// Names and bytes.
    files: Vec<(PathBuf, u64)>,
    images: Vec<Image>,
}

/// An image of the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Image {
    path: PathBuf,
    format: ImageFormat,
    /// The image below it.
    below: Option<PathBuf>,
}

struct Member {
    name: PathBuf,
    source: PathBuf,
    bytes: u64,
}

/// All that belongs to a machine that is off, to be written into one file.
pub struct Parcel<'a> {
    keeper: &'a Keeper,
    tree: TreeFile,
    members: Vec<Member>,
    names: HashMap<PathBuf, PathBuf>,
    images: Vec<Image>,
}

impl<'a> Parcel<'a> {
    /// Gathers the snapshots and their disks.
    ///
    /// # Errors
    /// In words, where a file is missing.
    pub fn new(keeper: &'a Keeper) -> Result<Self, StateError> {
        let home = keeper.home();
        let tree = keeper.tree();
        let mut parcel =
            Self { keeper, tree: tree.clone(), members: Vec::new(), names: HashMap::new(), images: Vec::new() };
        for file in &tree.files {
            parcel.add_image(&home.join(&file.path), Some(file.format))?;
        }
        for disk in &tree.present.disks {
            parcel.add_image(&home.join(&disk.top), Some(ImageFormat::Qcow2))?;
        }
        for record in &tree.snapshots {
            if record.memory.is_some() {
                let folder = snapshot_folder(home, record.id);
                parcel.add(&folder.join("state.ron"))?;
                parcel.add(&folder.join("index.bin"))?;
            }
            let picture = picture_path(home, record.id);
            if picture.is_file() {
                parcel.add(&picture)?;
            }
        }
        for entry in std::fs::read_dir(packs_folder(home)).into_iter().flatten().flatten() {
            parcel.add(&entry.path())?;
        }
        Ok(parcel)
    }

    /// Adds a file; says its name in the archive.
    ///
    /// # Errors
    /// In words, where it cannot be read.
    pub fn add(&mut self, source: &Path) -> Result<PathBuf, StateError> {
        let failed = |error| host("could not read", source, ADVICE)(error);
        let source = std::fs::canonicalize(source).map_err(failed)?;
        if let Some(name) = self.names.get(&source) {
            return Ok(name.clone());
        }
        let metadata = source.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(StateError::Refused(format!("“{}” is not a file, so it cannot be exported", source.display())));
        }
        let name = self.name_for(&source);
        self.names.insert(source.clone(), name.clone());
        self.members.push(Member { name: name.clone(), source, bytes: metadata.len() });
        Ok(name)
    }

    /// Adds an image and all below it; says its name in the archive.
    ///
    /// # Errors
    /// In words, where one cannot be read.
    pub fn add_image(&mut self, source: &Path, format: Option<ImageFormat>) -> Result<PathBuf, StateError> {
        let info = image::info(source, format).map_err(|error| StateError::Disk(error.to_string()))?;
        let mut chain = vec![(source.to_owned(), info.format)];
        chain.extend(info.below);
        let names = chain.iter().map(|(path, _)| self.add(path)).collect::<Result<Vec<_>, _>>()?;
        for (number, (path, (_, format))) in names.iter().zip(&chain).enumerate() {
            if self.images.iter().all(|image| image.path != *path) {
                let below = names.get(number + 1).cloned();
                self.images.push(Image { path: path.clone(), format: *format, below });
            }
        }
        Ok(names.into_iter().next().unwrap_or_default())
    }

    /// Whether an image is put elsewhere that lies over another, or under one: its name stands in an image then, which becomes another file.
    pub fn changes_images(&self) -> bool {
        let moves = |name: &Path| !self.keeper.home().join(name).is_file();
        let pairs = self.images.iter().filter_map(|image| Some((&image.path, image.below.as_ref()?)));
        pairs.into_iter().any(|(path, below)| moves(path) || moves(below))
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.members.iter().map(|member| member.bytes).sum()
    }

    fn name_for(&self, source: &Path) -> PathBuf {
        let inside = source.strip_prefix(self.keeper.home()).ok().map(Path::to_owned);
        let last = source.file_name().unwrap_or_default().to_string_lossy();
        let other = |number: usize| {
            let safe: String = last.chars().filter(|c| c.is_ascii_alphanumeric() || ".-_".contains(*c)).collect();
            let end = &safe[safe.len().saturating_sub(40)..];
            PathBuf::from(format!("disks/from-elsewhere-{number}-{end}"))
        };
        let fits = |name: &PathBuf| {
            is_safe(name) && self.members.iter().all(|member| member.name != *name) && name.as_path() != Path::new(TREE)
        };
        let number = self.members.len();
        inside.filter(fits).unwrap_or_else(|| other(number))
    }

    /// A path of the tree as it stands in the archive.
    fn renamed(&self, path: &Path) -> PathBuf {
        let place = self.keeper.home().join(path);
        let name = std::fs::canonicalize(place).ok().and_then(|place| self.names.get(&place));
        // An image that is not there any more is only a name.
        name.cloned().unwrap_or_else(|| PathBuf::from("disks").join(path.file_name().unwrap_or_default()))
    }

    fn renamed_tree(&self) -> TreeFile {
        let mut tree = self.tree.clone();
        for file in &mut tree.files {
            file.path = self.renamed(&file.path);
            file.below = file.below.as_deref().map(|path| self.renamed(path));
        }
        for disk in &mut tree.present.disks {
            disk.configured = self.renamed(&disk.configured);
            disk.top = self.renamed(&disk.top);
            disk.below = self.renamed(&disk.below);
        }
        for (_, medium) in tree.snapshots.iter_mut().flat_map(|record| &mut record.media) {
            match medium {
                SavedMedium::Frozen { configured, top } => {
                    *configured = self.renamed(configured);
                    *top = self.renamed(top);
                }
                SavedMedium::ReadOnly(identity) => identity.path = self.renamed(&identity.path),
            }
        }
        tree
    }

    /// Writes all of it, and `machine` as `machine.ron`, to the new file `to`, as a whole or not at all. `progress` gets (done, all) in
    /// bytes, and says whether to go on.
    ///
    /// # Errors
    /// In words; there is no file then.
    pub fn write(
        &self,
        machine: &str,
        to: &Path,
        files: &Files,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<(), StateError> {
        if to.symlink_metadata().is_ok() {
            return Err(StateError::Refused(format!(
                "“{}” is there already and was not touched: choose another name",
                to.display()
            )));
        }
        let mut name = std::ffi::OsString::from(".");
        name.push(to.file_name().unwrap_or_default());
        name.push(".part");
        let draft = to.with_file_name(name);
        let mut cancelled = false;
        let written = files.remove(&draft).and_then(|()| {
            self.write_draft(machine, &draft, files, &mut |done, all| {
                cancelled = !progress(done, all);
                !cancelled
            })
        });
        let put = written.and_then(|()| files.rename(&draft, to));
        put.map_err(|error| {
            // What is left of it is swept by the next export.
            let _ = files.remove(&draft);
            if cancelled { StateError::Cancelled } else { host("could not write", to, ADVICE)(error) }
        })
    }

    fn write_draft(
        &self,
        machine: &str,
        draft: &Path,
        files: &Files,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> io::Result<()> {
        let has_tree = !self.tree.snapshots.is_empty() || !self.tree.files.is_empty();
        let tree = if has_tree { self.renamed_tree().to_text().map_err(io::Error::other)? } else { String::new() };
        let mut listed: Vec<(PathBuf, u64)> = vec![(MACHINE.into(), machine.len() as u64)];
        if has_tree {
            listed.push((TREE.into(), tree.len() as u64));
        }
        listed.extend(self.members.iter().map(|member| (member.name.clone(), member.bytes)));
        let contents = Contents {
            format: FORMAT,
            hako: env!("CARGO_PKG_VERSION").to_owned(),
            files: listed,
            images: self.images.clone(),
        };
        let contents = ron::ser::to_string_pretty(&contents, ron::ser::PrettyConfig::new().depth_limit(3))
            .map_err(io::Error::other)?;
        let mut out = tar::Builder::new(BufWriter::with_capacity(PART, files.create(draft)?));
        let mut checksums = String::new();
        append(&mut out, Path::new(CONTENTS), contents.len() as u64, contents.as_bytes())?;
        let mut text = |out: &mut tar::Builder<_>, name: &str, text: &str| {
            let _ = writeln!(checksums, "{:032x}  {name}", super::memory::checksum(text.as_bytes()));
            append(out, Path::new(name), text.len() as u64, text.as_bytes())
        };
        text(&mut out, MACHINE, machine)?;
        if has_tree {
            text(&mut out, TREE, &tree)?;
        }
        let all = self.bytes();
        let mut done = 0;
        for member in &self.members {
            let file = File::open(&member.source)?;
            let mut source = Watched { file, hasher: Hasher::new(), done: &mut done, all, progress };
            append(&mut out, &member.name, member.bytes, &mut source)?;
            let _ = writeln!(checksums, "{:032x}  {}", source.hasher.finish_128(), member.name.display());
        }
        append(&mut out, Path::new(CHECKSUMS), checksums.len() as u64, checksums.as_bytes())?;
        let mut out = out.into_inner()?;
        out.flush()?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync()
    }
}

/// Puts a file of exactly so many bytes into the archive.
fn append(out: &mut tar::Builder<impl io::Write>, name: &Path, bytes: u64, source: impl Read) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_size(bytes);
    header.set_mode(0o644);
    header.set_mtime(host_seconds());
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    let mut source = Exactly { source, left: bytes };
    out.append(&header, &mut source)
}

/// A source that has so many bytes, or fails.
struct Exactly<R> {
    source: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = (into.len() as u64).min(self.left) as usize;
        if most == 0 {
            return Ok(0);
        }
        let count = self.source.read(&mut into[..most])?;
        if count == 0 {
            return Err(io::Error::other("a file became shorter while it was read: something else writes to it"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// A file that is being read, measured and told about.
struct Watched<'a, 'b> {
    file: File,
    hasher: Hasher,
    done: &'a mut u64,
    all: u64,
    progress: &'a mut (dyn FnMut(u64, u64) -> bool + 'b),
}

impl Read for Watched<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(into)?;
        self.hasher.write(&into[..count]);
        *self.done += count as u64;
        if (self.progress)(*self.done, self.all) { Ok(count) } else { Err(io::Error::other("cancelled")) }
    }
}

/// Whether a name stays within the folder, and no extension of tar is needed for it.
fn is_safe(name: &Path) -> bool {
    let plain = name.to_str().is_some_and(|text| {
        (1..=LONGEST_NAME).contains(&text.len()) && !text.contains(['\\', '\0', '\n']) && !text.ends_with('/')
    });
    plain && name.components().all(|part| matches!(part, Component::Normal(_)))
}
