//! Deleting, and tidying up after it. Each step leaves everything readable, so that it can end anywhere and be taken up again.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::{ADVICE_SNAPSHOT, Keeper, needed};
use crate::bus::ram::transfer::CHUNK;
use crate::config::ImageFormat;
use crate::disk::convert;
use crate::disk::identity::MediumIdentity;
use crate::snapshot::memory::{Entry, Index, Place};
use crate::snapshot::pack::{self, Pack, pack_path};
use crate::snapshot::store::{StateError, host};
use crate::snapshot::tree::{FrozenFile, SnapshotId, TreeFile, packs_folder, snapshot_folder, tops, used_bytes};

/// End of the name of a file that is being merged.
pub(super) const MERGING: &str = ".merging";

/// What tidying has brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tidied {
    /// Bytes that are free now.
    pub freed: u64,
    /// Files of disks that could not be merged because the machine writes above them: they are when it is off.
    pub waiting: u32,
}

impl Keeper {
    /// Takes a snapshot out of the tree; its children become its parent's. What only it needs goes with [`Keeper::tidy`].
    ///
    /// # Errors
    /// In words; nothing has changed then.
    pub fn delete(&self, id: SnapshotId) -> Result<(), StateError> {
        self.commit(|tree| {
            let record = tree.snapshot(id).cloned()?;
            tree.snapshots.retain(|other| other.id != id);
            tree.snapshots
                .iter_mut()
                .filter(|other| other.parent == Some(id))
                .for_each(|other| other.parent = record.parent);
            if tree.present.parent == Some(id) {
                tree.present.parent = record.parent;
            }
            if tree.next_start == Some(id) {
                tree.next_start = None;
            }
            tree.untidy = true;
            Some(())
        })?
        .ok_or(StateError::NoSnapshot(id.to_string()))
    }

    /// Whether there is something left to tidy.
    pub fn is_untidy(&self) -> bool {
        self.lock().untidy
    }

    /// Removes what nobody needs any more, and merges disk files and packs of memory of which only a part is needed. May take long; the
    /// machine may run meanwhile (`running`), but no snapshot may be taken or restored. `progress` gets (done, all) in bytes of the file at
    /// hand, and says whether to go on.
    ///
    /// # Errors
    /// In words. What was not done is done the next time.
    pub fn tidy(&self, running: bool, progress: &mut dyn FnMut(u64, u64) -> bool) -> Result<Tidied, StateError> {
        let mut tidied = Tidied::default();
        self.settle_merges()?;
        self.drop_unneeded(&mut tidied)?;
        self.sweep();
        while let Some((upper, lower)) = self.mergeable() {
            if !self.merge(&upper, &lower, &mut tidied, progress)? {
                return Ok(tidied);
            }
        }
        if !self.compact_packs(&mut tidied, progress)? {
            return Ok(tidied);
        }
        if running {
            tidied.waiting = self.waiting();
        }
        if tidied.waiting == 0 && !self.is_asleep() {
            self.commit(|tree| tree.untidy = false)?;
        }
        Ok(tidied)
    }

    /// Takes files out of the list that no snapshot and not the present needs; ours are removed.
    fn drop_unneeded(&self, tidied: &mut Tidied) -> Result<(), StateError> {
        let tree = self.tree();
        let needed = needed(&tree);
        let unneeded: Vec<FrozenFile> = tree.files.into_iter().filter(|file| !needed.contains(&file.path)).collect();
        if unneeded.is_empty() {
            return Ok(());
        }
        self.commit(|tree| tree.files.retain(|file| needed.contains(&file.path)))?;
        for file in unneeded.iter().filter(|file| file.ours) {
            let path = self.home.join(&file.path);
            let bytes = used_bytes(&path);
            let removed = self.files.remove(&path);
            tidied.freed += if removed.is_ok() { bytes } else { 0 };
            self.forget(removed, &path);
        }
        Ok(())
    }

    /// A frozen file of ours, and the one below it, which is ours too and only there for it.
    fn mergeable(&self) -> Option<(PathBuf, PathBuf)> {
        let tree = self.tree();
        // A saved state knows the files below its disks.
        if self.is_asleep() {
            return None;
        }
        // What such a file lies over is not what the tree says: a merge below it would take that away.
        if tree.files.iter().any(|file| file.becomes.is_some()) {
            return None;
        }
        // One that was not measured may still be written to: a snapshot of it was given up.
        let settled = |file: &FrozenFile| file.ours && file.identity.is_some();
        tree.files.iter().filter(|upper| settled(upper)).find_map(|upper| {
            let lower = tree.files.iter().find(|file| Some(&file.path) == upper.below.as_ref())?;
            (settled(lower) && is_only_below(&tree, &lower.path)).then(|| (upper.path.clone(), lower.path.clone()))
        })
    }

    /// Ends merges that were interrupted while either of two files could lie in a place: what the file is says which. Where it is neither, it
    /// is damaged; whoever needs it says so, and nothing is merged.
    pub(super) fn settle_merges(&self) -> Result<(), StateError> {
        let tree = self.tree();
        let is = |file: &FrozenFile, identity: Option<&MediumIdentity>| {
            let path = self.home.join(&file.path);
            // By its content: both may have been written within one tick of the host's clock.
            identity.is_some_and(|identity| {
                let identity = MediumIdentity { path, modified: None, below: Vec::new(), ..identity.clone() };
                identity.check(&mut |_, _| true).is_ok()
            })
        };
        let mut settled: Vec<(PathBuf, bool)> = Vec::new();
        for file in tree.files.iter().filter(|file| file.becomes.is_some()) {
            let is_merged = is(file, file.becomes.as_ref());
            if is_merged || is(file, file.identity.as_ref()) {
                settled.push((file.path.clone(), is_merged));
            }
        }
        if settled.is_empty() {
            return Ok(());
        }
        self.commit(|tree| {
            for (path, is_merged) in settled {
                let find = |path: &Path| tree.files.iter().find(|file| file.path == path).cloned();
                let lower = find(&path).and_then(|file| file.below).and_then(|lower| find(&lower));
                let Some(file) = tree.files.iter_mut().find(|file| file.path == path) else { continue };
                let becomes = file.becomes.take();
                if let (true, Some(lower)) = (is_merged, lower) {
                    file.identity = becomes;
                    file.below = lower.below;
                    // The sweep removes it.
                    let needed = needed(tree);
                    tree.files.retain(|file| file.path != lower.path || needed.contains(&file.path));
                }
            }
        })
    }

    /// Files that are only there for the present.
    fn waiting(&self) -> u32 {
        let tree = self.tree();
        let below = |path: &Path| tree.present.disks.iter().any(|disk| disk.below == path);
        let saved = |path: &Path| tree.snapshots.iter().flat_map(tops).any(|top| top == path);
        tree.files.iter().filter(|file| file.ours && below(&file.path) && !saved(&file.path)).count() as u32
    }

    /// Puts what `lower` holds into `upper`, by a new file that takes the place of `upper`. False: `progress` said no.
    fn merge(
        &self,
        upper: &Path,
        lower: &Path,
        tidied: &mut Tidied,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<bool, StateError> {
        let tree = self.tree();
        let find = |path: &Path| tree.files.iter().find(|file| file.path == path).cloned();
        let (Some(above), Some(below)) = (find(upper), find(lower)) else { return Ok(true) };
        let path = self.home.join(upper);
        let draft = path.with_extension(format!("qcow2{MERGING}"));
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| host("could not write", &path, ADVICE_SNAPSHOT)(error)
        };
        self.files.remove(&draft).map_err(failed(&draft))?;
        let base = below.below.as_deref().and_then(find);
        if let Some(base) = &base {
            // Same folder, same names.
            let backing = if base.path.is_absolute() { base.path.clone() } else { Path::new("..").join(&base.path) };
            self.files.overlay(&draft, &backing, base.format).map_err(|error| StateError::Disk(error.to_string()))?;
        } else {
            let bytes = crate::disk::image::info(&path, Some(ImageFormat::Qcow2))
                .map_err(|error| StateError::Disk(error.to_string()))?;
            let made = self.files.image(&draft, bytes.medium_bytes);
            made.map_err(|error| StateError::Disk(error.to_string()))?;
        }
        let base = base.map(|base| (self.home.join(&base.path), base.format));
        let mut refused = None;
        let below_that = base.as_ref().map(|(path, format)| (&**path, *format));
        let copied = convert::differences((&path, ImageFormat::Qcow2), below_that, &draft, &mut |done, all| {
            refused = self.files.step().err();
            refused.is_none() && progress(done, all)
        });
        let copied = match refused {
            Some(error) => Err(failed(&draft)(error)),
            None => copied.map_err(|error| StateError::Disk(error.to_string())),
        };
        if !matches!(copied, Ok(true)) {
            self.forget(self.files.remove(&draft), &draft);
            return copied;
        }
        let file = File::open(&draft).map_err(failed(&draft))?;
        let identity = MediumIdentity::measure(ImageFormat::Qcow2, &[(&draft, &file)], &mut |_, _| true)
            .map_err(failed(&draft))?;
        let change = |tree: &mut TreeFile, change: &dyn Fn(&mut FrozenFile)| {
            tree.files.iter_mut().filter(|file| file.path == upper).for_each(change);
        };
        // From here on either of the two files is right in that place.
        self.commit(|tree| change(tree, &|file| file.becomes = Some(identity.clone())))?;
        let before = used_bytes(&path) + used_bytes(&self.home.join(lower));
        self.files.rename(&draft, &path).map_err(failed(&path))?;
        self.commit(|tree| {
            change(tree, &|file| {
                file.identity = Some(identity.clone());
                file.becomes = None;
                file.below.clone_from(&below.below);
            });
            tree.files.retain(|file| file.path != lower);
        })?;
        let lower = self.home.join(lower);
        self.forget(self.files.remove(&lower), &lower);
        tidied.freed += before.saturating_sub(used_bytes(&path));
        tracing::debug!(upper = %above.path.display(), lower = %below.path.display(), "merged");
        Ok(true)
    }

    /// Writes packs anew of which only a part is needed. False: `progress` said no.
    fn compact_packs(
        &self,
        tidied: &mut Tidied,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<bool, StateError> {
        let tree = self.tree();
        let mut indexes: Vec<(SnapshotId, Index)> = Vec::new();
        for record in tree.snapshots.iter().filter(|record| record.memory.is_some()) {
            // A damaged one may need anything: nothing is moved then.
            let Ok(index) = super::index(&self.home, record) else { return Ok(true) };
            indexes.push((record.id, index));
        }
        let mut slots: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in indexes.iter().flat_map(|(_, index)| &index.entries) {
            if let Place::Pack { pack, slot } = entry.place {
                slots.entry(pack).or_default().push(slot);
            }
        }
        for (pack, mut used) in slots {
            used.sort_unstable();
            used.dedup();
            // One that cannot be opened is left as it is: whoever needs it will say so.
            let Ok(open) = Pack::open(&packs_folder(&self.home), pack) else { continue };
            let bytes = open.bytes();
            let kept: u64 = used.iter().map(|slot| open.bytes_of(*slot)).sum();
            if bytes < kept + kept / 4 + (1 << 20) {
                continue;
            }
            if !self.compact(pack, &used, &mut indexes, progress)? {
                return Ok(false);
            }
            tidied.freed += bytes - kept;
        }
        Ok(true)
    }

    /// Compresses the packs that are not the newest snapshot's own: those are cold. False: `progress` (bytes of the pack at hand) said no.
    ///
    /// # Errors
    /// In words; all packs are whole.
    pub fn compress(&self, progress: &mut dyn FnMut(u64, u64) -> bool) -> Result<bool, StateError> {
        let newest = self.lock().snapshots.iter().map(|record| record.id.0).max();
        let folder = packs_folder(&self.home);
        for path in super::listing(&folder) {
            let number = path.file_stem().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            let Some(number) = number.filter(|number| Some(*number) != newest && pack_path(&folder, *number) == path)
            else {
                continue;
            };
            let done = pack::compress(&self.files, &folder, number, progress);
            if !done.map_err(|(path, error)| host("could not write", &path, ADVICE_SNAPSHOT)(error))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether there is a pack that [`Keeper::compress`] would compress.
    pub fn has_cold_packs(&self) -> bool {
        let newest = self.lock().snapshots.iter().map(|record| record.id.0).max();
        let name = newest.map(|newest| format!("{newest}.bin"));
        let is_cold = |path: &PathBuf| {
            path.extension().is_some_and(|end| end == "bin")
                && path.file_name().and_then(|name| name.to_str()) != name.as_deref()
        };
        super::listing(&packs_folder(&self.home)).iter().any(is_cold)
    }

    fn compact(
        &self,
        pack: u32,
        used: &[u32],
        indexes: &mut [(SnapshotId, Index)],
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<bool, StateError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| host("could not write", &path, ADVICE_SNAPSHOT)(error)
        };
        let folder = packs_folder(&self.home);
        let number = self.commit(TreeFile::number)?;
        let source = Pack::open(&folder, pack).map_err(|(path, error)| failed(&path)(error))?;
        let (old, new) = (source.path.clone(), pack_path(&folder, number));
        let mut out = self.files.create(&new).map_err(failed(&new))?;
        let mut bytes = vec![0; CHUNK as usize];
        for (done, &slot) in used.iter().enumerate() {
            if !progress(done as u64 * CHUNK, used.len() as u64 * CHUNK) {
                self.forget(self.files.remove(&new), &new);
                return Ok(false);
            }
            if source.covers(slot, CHUNK).is_err() || source.read(slot, &mut bytes).is_err() {
                // Damaged: whoever needs it will say so; it is not made to look whole.
                self.forget(self.files.remove(&new), &new);
                return Ok(true);
            }
            out.write(&bytes).map_err(failed(&new))?;
        }
        out.sync().map_err(failed(&new))?;
        self.files.sync_folder(&folder).map_err(failed(&folder))?;
        let places: HashMap<u32, u32> = used.iter().copied().zip(0..).collect();
        for (id, index) in indexes.iter_mut().filter(|(_, index)| index.packs().contains_key(&pack)) {
            for entry in &mut index.entries {
                if let Entry { place: Place::Pack { pack: at, slot }, .. } = entry
                    && *at == pack
                {
                    (*at, *slot) = (number, places[slot]);
                }
            }
            let path = snapshot_folder(&self.home, *id).join("index.bin");
            self.files.replace(&path, &index.to_bytes()).map_err(failed(&path))?;
        }
        self.forget(self.files.remove(&old), &old);
        Ok(true)
    }
}

/// Whether a file is there for exactly one other frozen file, and for nothing else.
fn is_only_below(tree: &TreeFile, path: &Path) -> bool {
    let above = tree.files.iter().filter(|file| file.below.as_deref() == Some(path)).count();
    let present = tree.present.disks.iter().any(|disk| disk.below == path || disk.top == path);
    let saved = tree.snapshots.iter().flat_map(tops).any(|top| top == path);
    above == 1 && !present && !saved
}
