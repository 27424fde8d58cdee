//! Taking a machine over from an archive. Nothing in it is trusted: names stay within the new folder, sizes are those that it has said
//! and the disk has room for, images name only each other.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use twox_hash::xxhash3_128::Hasher;

use super::{CHECKSUMS, CONTENTS, Contents, FORMAT, MACHINE, PART, TREE, is_safe};
use crate::config::ImageFormat;
use crate::disk::identity::MediumIdentity;
use crate::disk::image;
use crate::snapshot::files::Files;
use crate::snapshot::store::{StateError, host};
use crate::snapshot::tree::{SavedMedium, TreeFile, tree_path};

/// Longest text in an archive: contents, definition, check sums.
const MOST_TEXT: u64 = 16 << 20;
/// Most files in an archive.
const MOST_FILES: usize = 100_000;
const ADVICE: &str = "Nothing was added. Make room, then import again.";

/// What every version of `hako.ron` has.
#[derive(serde::Deserialize)]
struct Head {
    format: u32,
    hako: String,
}

/// Unpacks the archive `from` into the folder `home`, which is there and empty. Gives `machine.ron`, which the caller looks at and writes
/// last. `progress` gets (done, all) in bytes, and says whether to go on.
///
/// # Errors
/// In words; what is in `home` then is of no use.
pub fn import(
    from: &Path,
    home: &Path,
    files: &Files,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<String, StateError> {
    let home = std::fs::canonicalize(home).map_err(host("could not find", home, ADVICE))?;
    let import = Import { from, home: &home, files };
    let (contents, machine) = import.unpack(progress)?;
    import.settle_images(&contents)?;
    import.settle_tree(&contents)?;
    for folder in contents.files.iter().filter_map(|(name, _)| name.parent()).collect::<HashSet<_>>() {
        let folder = home.join(folder);
        files.sync_folder(&folder).map_err(host("could not bring to stable storage", &folder, ADVICE))?;
    }
    Ok(machine)
}

struct Import<'a> {
    from: &'a Path,
    home: &'a Path,
    files: &'a Files,
}

impl Import<'_> {
    fn broken(&self, reason: impl Into<String>) -> StateError {
        StateError::Archive { path: self.from.to_owned(), reason: reason.into() }
    }

    /// What tar or the host says of the archive.
    #[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
    fn unreadable(&self, error: io::Error) -> StateError {
        self.broken(format!("it is cut off, damaged or no archive ({error})"))
    }

    fn unpack(&self, progress: &mut dyn FnMut(u64, u64) -> bool) -> Result<(Contents, String), StateError> {
        let file = File::open(self.from).map_err(|error| self.broken(error.to_string()))?;
        let mut archive = tar::Archive::new(BufReader::with_capacity(PART, file));
        // Raw: no extension is followed, so that no name or size comes from anywhere but a plain header.
        let mut entries = archive.entries().map_err(|error| self.unreadable(error))?.raw(true);
        let mut next = || entries.next().transpose().map_err(|error| self.unreadable(error));
        let first = next()?.ok_or_else(|| self.broken("it is empty"))?;
        if self.name_of(&first)? != Path::new(CONTENTS) {
            return Err(self.broken("it is not a machine that Hako has exported"));
        }
        let contents = self.contents(&self.text(first)?)?;
        let all: u64 = contents.files.iter().map(|(_, bytes)| bytes).sum();
        let mut left: HashMap<&Path, u64> =
            contents.files.iter().map(|(name, bytes)| (name.as_path(), *bytes)).collect();
        let (mut machine, mut checksums) = (None, None);
        let mut sums: HashMap<PathBuf, u128> = HashMap::new();
        let mut done = 0;
        while checksums.is_none() {
            let entry = next()?.ok_or_else(|| self.broken("it is cut off: its check sums are missing"))?;
            let name = self.name_of(&entry)?;
            if name == Path::new(CHECKSUMS) {
                checksums = Some(self.text(entry)?);
                continue;
            }
            let bytes = left.remove(name.as_path());
            let bytes = bytes.ok_or_else(|| self.broken(format!("“{}” does not belong into it", name.display())))?;
            if entry.header().size().map_err(|error| self.unreadable(error))? != bytes {
                return Err(self.broken(format!("“{}” does not have the length that was said", name.display())));
            }
            if name == Path::new(MACHINE) {
                let text = self.text(entry)?;
                sums.insert(name, crate::snapshot::memory::checksum(text.as_bytes()));
                machine = Some(text);
                continue;
            }
            let sum = self.extract(entry, &name, bytes, &mut |count| {
                done += count;
                progress(done, all)
            })?;
            sums.insert(name, sum);
        }
        if let Some(missing) = left.keys().next() {
            return Err(self.broken(format!("“{}” is missing", missing.display())));
        }
        self.check_sums(&sums, &checksums.unwrap_or_default())?;
        let machine = machine.ok_or_else(|| self.broken("it does not say what the machine is made of"))?;
        Ok((contents, machine))
    }

    fn name_of(&self, entry: &tar::Entry<'_, impl Read>) -> Result<PathBuf, StateError> {
        let header = entry.header();
        if header.entry_type() != tar::EntryType::Regular {
            return Err(self.broken("it has something other than plain files in it"));
        }
        let name = header.path().map_err(|error| self.unreadable(error))?.into_owned();
        if !is_safe(&name) {
            return Err(self.broken(format!("the name “{}” in it leads out of it, or is too long", name.display())));
        }
        Ok(name)
    }

    fn text(&self, mut entry: tar::Entry<'_, impl Read>) -> Result<String, StateError> {
        if entry.header().size().map_err(|error| self.unreadable(error))? > MOST_TEXT {
            return Err(self.broken("a text in it is longer than any"));
        }
        let mut text = String::new();
        entry.read_to_string(&mut text).map_err(|error| self.unreadable(error))?;
        Ok(text)
    }

    fn contents(&self, text: &str) -> Result<Contents, StateError> {
        let head: Head = ron::from_str(text).map_err(|error| self.broken(format!("{CONTENTS}: {error}")))?;
        if head.format > FORMAT {
            return Err(StateError::Newer { path: self.from.to_owned(), hako: head.hako });
        }
        let contents: Contents = ron::from_str(text).map_err(|error| self.broken(format!("{CONTENTS}: {error}")))?;
        if contents.files.len() > MOST_FILES {
            return Err(self.broken("it has more files than any machine"));
        }
        let names: HashSet<&Path> = contents.files.iter().map(|(name, _)| name.as_path()).collect();
        if names.len() != contents.files.len() {
            return Err(self.broken("a file stands twice in its list"));
        }
        if let Some(name) = names.iter().find(|name| !is_safe(name)) {
            return Err(self.broken(format!("the name “{}” in it leads out of it, or is too long", name.display())));
        }
        let images = contents.images.iter().flat_map(|image| [Some(&image.path), image.below.as_ref()]).flatten();
        if let Some(path) = images.into_iter().find(|path| !names.contains(path.as_path())) {
            return Err(self.broken(format!("the image “{}” is not in it", path.display())));
        }
        let needed = contents.files.iter().try_fold(0_u64, |all, (_, bytes)| all.checked_add(*bytes));
        let needed = needed.ok_or_else(|| self.broken("it says that it is larger than any disk"))?;
        if let Some(free) = free_bytes(self.home)
            && needed > free
        {
            let size = crate::snapshot::tree::words;
            return Err(self.broken(format!("it needs {}, and the disk has {} left", size(needed), size(free))));
        }
        Ok(contents)
    }

    /// Writes a file, on stable storage. Gives its check sum.
    fn extract(
        &self,
        mut entry: tar::Entry<'_, impl Read>,
        name: &Path,
        bytes: u64,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<u128, StateError> {
        let path = self.home.join(name);
        let failed = |error| host("could not write", &path, ADVICE)(error);
        if let Some(folder) = path.parent().filter(|folder| !folder.is_dir()) {
            self.files.create_folder(folder).map_err(failed)?;
        }
        let mut out = self.files.create(&path).map_err(failed)?;
        let mut hasher = Hasher::new();
        let mut part = vec![0; PART];
        let mut left = bytes;
        while left > 0 {
            let most = left.min(PART as u64) as usize;
            let count = entry.read(&mut part[..most]).map_err(|error| self.unreadable(error))?;
            if count == 0 {
                return Err(self.broken(format!("it is cut off in “{}”", name.display())));
            }
            hasher.write(&part[..count]);
            out.write(&part[..count]).map_err(failed)?;
            left -= count as u64;
            if !progress(count as u64) {
                return Err(StateError::Cancelled);
            }
        }
        out.sync().map_err(failed)?;
        Ok(hasher.finish_128())
    }

    fn check_sums(&self, sums: &HashMap<PathBuf, u128>, text: &str) -> Result<(), StateError> {
        let mut said = HashMap::new();
        for line in text.lines() {
            let pair = line.split_once("  ").and_then(|(sum, name)| Some((name, u128::from_str_radix(sum, 16).ok()?)));
            let (name, sum) = pair.ok_or_else(|| self.broken("its list of check sums is damaged"))?;
            said.insert(Path::new(name), sum);
        }
        let wrong = sums.iter().find(|(name, sum)| said.get(name.as_path()) != Some(sum));
        match wrong {
            None => Ok(()),
            Some((name, _)) => {
                Err(self.broken(format!("the check sum of “{}” is wrong: the archive has changed", name.display())))
            }
        }
    }

    /// Every image lies over the one that was said, at its new place, and over nothing else.
    fn settle_images(&self, contents: &Contents) -> Result<(), StateError> {
        let wrong = |error: &dyn std::fmt::Display| self.broken(error.to_string());
        for one in contents.images.iter().filter(|image| image.format == ImageFormat::Qcow2) {
            let below = one.below.as_deref().map(|below| way(&one.path, below));
            image::set_backing_name(&self.home.join(&one.path), below.as_deref()).map_err(|error| wrong(&error))?;
        }
        for one in &contents.images {
            let mut expected = Vec::new();
            let mut next = one.below.as_ref();
            while let Some(path) = next {
                let below = contents.images.iter().find(|image| image.path == *path);
                let below = below.filter(|_| expected.len() < contents.images.len());
                let below = below.ok_or_else(|| self.broken("its images lie in a ring, or one is missing"))?;
                expected.push((self.home.join(path), below.format));
                next = below.below.as_ref();
            }
            let info = image::info(&self.home.join(&one.path), Some(one.format)).map_err(|error| wrong(&error))?;
            let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
            let found: Vec<_> = info.below.iter().map(|(path, format)| (real(path), *format)).collect();
            if found != expected {
                return Err(self.broken(format!("the image “{}” does not lie over what was said", one.path.display())));
            }
        }
        Ok(())
    }

    /// The tree names only what is here, and knows its files at their new places.
    fn settle_tree(&self, contents: &Contents) -> Result<(), StateError> {
        if contents.files.iter().all(|(name, _)| name != Path::new(TREE)) {
            return Ok(());
        }
        let mut tree = TreeFile::read(self.home)?;
        let known = |path: &Path| contents.images.iter().any(|image| image.path == path);
        let frozen = tree.files.iter().flat_map(|file| [Some(&file.path), file.below.as_ref()]).flatten();
        let present = tree.present.disks.iter().flat_map(|disk| [&disk.top, &disk.below]);
        let tops = tree.snapshots.iter().flat_map(crate::snapshot::tree::tops).map(Path::to_owned);
        let all: Vec<PathBuf> = frozen.cloned().chain(present.cloned()).chain(tops).collect();
        if let Some(path) = all.iter().find(|path| !known(path)) {
            return Err(self.broken(format!("the disk “{}” of its snapshots is not in it", path.display())));
        }
        for file in &mut tree.files {
            let path = self.home.join(&file.path);
            let failed = |error| host("could not read", &path, ADVICE)(error);
            let measured = File::open(&path)
                .and_then(|open| MediumIdentity::measure(file.format, &[(&path, &open)], &mut |_, _| true));
            // What it holds has its check sum; where it was renamed below, it is another file than before.
            file.identity = Some(measured.map_err(failed)?);
            file.becomes = None;
        }
        for (_, medium) in tree.snapshots.iter_mut().flat_map(|record| &mut record.media) {
            if let SavedMedium::ReadOnly(identity) = medium {
                identity.path = self.home.join(&identity.path);
            }
        }
        let path = tree_path(self.home);
        let text = tree.to_text().map_err(|error| self.broken(error.to_string()))?;
        self.files.replace(&path, text.as_bytes()).map_err(host("could not write", &path, ADVICE))
    }
}

/// The way from an image to the one below it, as it stands in the image.
fn way(from: &Path, to: &Path) -> PathBuf {
    let up = from.parent().map_or(0, |folder| folder.components().count());
    let mut way: PathBuf = std::iter::repeat_n("..", up).collect();
    way.push(to);
    way
}

/// Bytes that the disk with `folder` has left; `None`: it does not say.
fn free_bytes(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    return rustix::fs::statvfs(folder).ok().map(|about| about.f_bavail.saturating_mul(about.f_frsize));
    #[cfg(not(unix))]
    None
}
