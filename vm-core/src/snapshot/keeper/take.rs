//! Taking a snapshot: prepare while the guest runs, switch while it stands still, write while it runs again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{ADVICE_SNAPSHOT, Keeper, STATE_FORMAT, SnapshotState};
use crate::bus::ram::Capture;
use crate::bus::ram::transfer::{CHUNK, Saved};
use crate::config::{DriveKind, DriveSlot, ImageFormat};
use crate::disk::identity::MediumIdentity;
use crate::disk::image;
use crate::frame::Frame;
use crate::snapshot::host_seconds;
use crate::snapshot::manifest::{Device, Hardware};
use crate::snapshot::memory::Packer;
use crate::snapshot::pack::pack_path;
use crate::snapshot::section::Section;
use crate::snapshot::store::{StateError, host};
use crate::snapshot::tree::{
    FrozenFile, PresentDisk, SavedMedium, SavedMemory, SnapshotId, SnapshotKind, SnapshotRecord, TreeFile, Unfinished,
    packs_folder, picture_path, snapshot_folder, snapshots_folder, text_checksum,
};

/// Longest chain of disk files below a machine.
const MOST_LAYERS: usize = crate::disk::MAX_LAYERS - 4;
/// Longest name of a snapshot in characters.
const LONGEST_NAME: usize = 200;

/// What a person wants.
#[derive(Clone, Debug)]
pub struct Wish {
    /// `None`: made from the number.
    pub name: Option<String>,
    /// For people.
    pub note: String,
    /// Why.
    pub kind: SnapshotKind,
    /// Raw images may be adopted: they are only read from then on.
    pub adopt: bool,
}

/// A medium in a drive now.
#[derive(Clone, Debug)]
pub struct MediumNow {
    /// The drive.
    pub slot: DriveSlot,
    /// What it is.
    pub kind: DriveKind,
    /// The image that the machine was made with.
    pub configured: PathBuf,
    /// The file that is written or read.
    pub path: PathBuf,
    /// Its format.
    pub format: ImageFormat,
    /// Only read.
    pub read_only: bool,
    /// What is written is gone at the end.
    pub temporary: bool,
}

/// A snapshot that is under way.
#[derive(Debug)]
pub struct Prepared {
    /// Its number.
    pub id: SnapshotId,
    /// Its name.
    pub name: String,
    /// For each writable medium: the overlay that takes the writes from the switch on.
    pub overlays: Vec<(DriveSlot, PathBuf)>,
    note: String,
    kind: SnapshotKind,
    parent: Option<SnapshotId>,
    media: Vec<MediumNow>,
    /// The present comes from this snapshot once it is there.
    becomes_parent: bool,
    /// It stands in the tree already, without its memories.
    is_listed: bool,
}

/// The machine at the instant of the switch.
#[derive(Debug)]
pub struct Captured {
    /// RAM.
    pub ram: Capture,
    /// Bytes of RAM.
    pub ram_len: u64,
    /// Processor and devices.
    pub sections: Vec<Section>,
    /// Guest time.
    pub guest_time: u64,
    /// The host's time, in seconds since 1970 (UTC).
    pub host_time: u64,
    /// The hardware.
    pub hardware: Hardware,
    /// What was on the screen.
    pub picture: Option<Arc<Frame>>,
}

/// What was frozen.
pub(super) struct Frozen {
    /// Files that were not listed yet.
    files: Vec<FrozenFile>,
    /// The media as the snapshot has them.
    media: Vec<(DriveSlot, SavedMedium)>,
}

/// Whether a file has a name that [`Keeper::prepare`] gives.
pub fn is_overlay_name(name: &str) -> bool {
    let stem = name.strip_suffix(".qcow2").and_then(|stem| stem.rsplit_once('-'));
    stem.is_some_and(|(slot, number)| {
        matches!(slot, "fda" | "fdb" | "hda" | "hdb" | "hdc" | "hdd")
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// `fda`, `hdc` …
pub(super) fn slot_name(slot: DriveSlot) -> String {
    let letter = |number: u8| char::from(b'a' + number % 4);
    match slot {
        DriveSlot::Floppy(unit) => format!("fd{}", letter(unit)),
        DriveSlot::Ide(unit) => format!("hd{}", letter(unit)),
    }
}

fn overlay_name(slot: DriveSlot, number: u32) -> String {
    format!("{}-{number}.qcow2", slot_name(slot))
}

impl Keeper {
    /// Refuses media that cannot be frozen.
    fn check_media(media: &[MediumNow], adopt: bool) -> Result<(), StateError> {
        for medium in media.iter().filter(|medium| !medium.read_only) {
            if medium.temporary {
                return Err(StateError::Temporary(medium.path.clone()));
            }
            // A floppy is small: it is adopted without asking.
            if medium.format == ImageFormat::Raw && medium.kind == DriveKind::Disk && !adopt {
                return Err(StateError::InPlace(medium.path.clone()));
            }
            if medium.format == ImageFormat::Qcow2 {
                let info = image::info(&medium.path, Some(medium.format))
                    .map_err(|error| StateError::Disk(error.to_string()))?;
                if info.below.len() >= MOST_LAYERS {
                    return Err(StateError::Refused(format!(
                        "“{}” lies over {} other files, which is the most: delete some snapshots first, so that they can be merged",
                        medium.path.display(),
                        info.below.len()
                    )));
                }
            }
        }
        Ok(())
    }

    fn name(wish: &Wish, number: u32) -> Result<String, StateError> {
        let name = wish.name.as_deref().map(str::trim).filter(|name| !name.is_empty());
        let name = name.map_or_else(|| format!("Snapshot {number}"), str::to_owned);
        if name.chars().count() > LONGEST_NAME || name.chars().any(char::is_control) {
            return Err(StateError::Refused(format!(
                "a snapshot's name has at most {LONGEST_NAME} characters, in one line"
            )));
        }
        Ok(name)
    }

    /// Makes an overlay for `slot` over the image at `below`, and says how it stands in the tree.
    pub(super) fn overlay(
        &self,
        slot: DriveSlot,
        number: u32,
        below: &Path,
        format: ImageFormat,
    ) -> Result<PathBuf, StateError> {
        let path = self.home.join("disks").join(overlay_name(slot, number));
        let relative = self.relative(below);
        // Named from the folder of the overlay, so that the machine's folder can move.
        let backing = if relative.is_absolute() { relative } else { Path::new("..").join(relative) };
        self.files.overlay(&path, &backing, format).map_err(|error| StateError::Disk(error.to_string()))?;
        Ok(self.relative(&path))
    }

    /// Makes overlays and names them in the tree: the machine may switch to them at any time from then on.
    ///
    /// # Errors
    /// In words; nothing has changed for the machine.
    pub fn prepare(&self, media: Vec<MediumNow>, wish: Wish) -> Result<Prepared, StateError> {
        Self::check_media(&media, wish.adopt)?;
        let mut tree = self.tree();
        let id = SnapshotId(tree.number());
        let name = Self::name(&wish, id.0)?;
        let mut overlays = Vec::new();
        for medium in media.iter().filter(|medium| !medium.read_only) {
            let top = self.overlay(medium.slot, tree.number(), &medium.path, medium.format)?;
            overlays.push((medium.slot, self.home.join(&top)));
            let disk = PresentDisk {
                slot: medium.slot,
                configured: self.relative(&medium.configured),
                top,
                below: self.relative(&medium.path),
            };
            tree.present.disks.retain(|other| other.slot != medium.slot);
            tree.present.disks.push(disk);
        }
        // From now on these lie below the present, whether or not a snapshot ever needs them: what the tree lists nobody sweeps away. They
        // are measured when the snapshot is finished; until then the machine may still be writing to the topmost one.
        let writable: Vec<MediumNow> = media.iter().filter(|medium| !medium.read_only).cloned().collect();
        let Frozen { files, .. } = self.freeze(&writable, true)?;
        tree.files.retain(|file| files.iter().all(|new| new.path != file.path));
        tree.files.extend(files);
        self.sync_disks()?;
        tree.taking = Some(Unfinished { id, name: name.clone() });
        let parent = tree.present.parent;
        self.commit(|now| *now = tree)?;
        Ok(Prepared {
            id,
            name,
            overlays,
            note: wish.note,
            kind: wish.kind,
            parent,
            media,
            becomes_parent: true,
            is_listed: false,
        })
    }

    pub(super) fn sync_disks(&self) -> Result<(), StateError> {
        let disks = self.home.join("disks");
        self.files.sync_folder(&disks).map_err(host("could not bring to stable storage", &disks, ADVICE_SNAPSHOT))
    }

    /// The snapshot will not come: the machine could not switch.
    ///
    /// # Errors
    /// In words.
    pub fn give_up(&self, prepared: &Prepared) -> Result<(), StateError> {
        self.commit(|tree| {
            if tree.taking.as_ref().is_some_and(|taking| taking.id == prepared.id) {
                tree.taking = None;
            }
        })
    }

    /// Keeps the disks of a machine that is off, as a snapshot without memory.
    ///
    /// # Errors
    /// In words.
    pub fn take_off(&self, media: Vec<MediumNow>, wish: Wish) -> Result<SnapshotId, StateError> {
        let prepared = self.prepare(media, wish)?;
        let id = prepared.id;
        self.finish(&prepared, None)?;
        Ok(id)
    }

    /// The frozen files of the media that are not listed yet, measured, and the media as the snapshot has them. `quick`: not measured.
    pub(super) fn freeze(&self, media: &[MediumNow], quick: bool) -> Result<Frozen, StateError> {
        let tree = self.tree();
        let mut files: Vec<FrozenFile> = Vec::new();
        let mut saved = Vec::new();
        for medium in media {
            if medium.read_only {
                let identity = match Self::known_identity(&tree, medium) {
                    Some(identity) => identity,
                    None => measure(&medium.path, medium.format)?,
                };
                saved.push((medium.slot, SavedMedium::ReadOnly(Box::new(identity))));
                continue;
            }
            let info =
                image::info(&medium.path, Some(medium.format)).map_err(|error| StateError::Disk(error.to_string()))?;
            let mut chain: Vec<(PathBuf, ImageFormat)> = vec![(medium.path.clone(), medium.format)];
            chain.extend(info.below);
            let paths: Vec<PathBuf> = chain.iter().map(|(path, _)| self.relative(path)).collect();
            for (number, (path, format)) in chain.iter().enumerate() {
                let relative = paths[number].clone();
                let known =
                    tree.files.iter().find(|file| file.path == relative).is_some_and(|file| file.identity.is_some());
                if known || files.iter().any(|file| file.path == relative) {
                    continue;
                }
                let name = relative.file_name().unwrap_or_default().to_string_lossy().into_owned();
                files.push(FrozenFile {
                    ours: relative.starts_with("disks") && is_overlay_name(&name),
                    path: relative,
                    format: *format,
                    below: paths.get(number + 1).cloned(),
                    identity: if quick { None } else { Some(measure(path, *format)?) },
                    becomes: None,
                });
            }
            let configured = self.relative(&medium.configured);
            saved.push((medium.slot, SavedMedium::Frozen { configured, top: paths[0].clone() }));
        }
        Ok(Frozen { files, media: saved })
    }

    /// The identity of a read-only medium, where a snapshot has measured it and it has not been written since.
    fn known_identity(tree: &TreeFile, medium: &MediumNow) -> Option<MediumIdentity> {
        let known =
            tree.snapshots.iter().rev().flat_map(|record| &record.media).find_map(|(_, saved)| match saved {
                SavedMedium::ReadOnly(identity)
                    if identity.path == medium.path && identity.format == Some(medium.format) =>
                {
                    Some(identity)
                }
                SavedMedium::ReadOnly(_) | SavedMedium::Frozen { .. } => None,
            })?;
        // Where the time differs the content would be read: then it can be measured anew as well.
        (known.below.is_empty() && known.check(&mut |_, _| false).is_ok()).then(|| (**known).clone())
    }

    /// Writes the memories of a machine that has switched, and commits. `progress` gets (done, all) in bytes, and says whether to go on.
    ///
    /// # Errors
    /// In words, also where `progress` said no; the snapshot is not there then, and everything else is as it was.
    pub fn write(
        &self,
        prepared: &Prepared,
        captured: Captured,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<(), StateError> {
        let result =
            self.write_memory(prepared, captured, progress).and_then(|memory| self.finish(prepared, Some(memory)));
        if result.is_err() {
            // What was written is swept at the next start; the room is wanted now.
            let pack = pack_path(&packs_folder(&self.home), prepared.id.0);
            self.forget(self.files.remove(&pack), &pack);
            let folder = snapshot_folder(&self.home, prepared.id);
            self.forget(self.files.remove_folder(&folder), &folder);
            if let Err(error) = self.give_up(prepared) {
                tracing::warn!(%error, "the tree still names a snapshot that is not coming");
            }
        }
        result
    }

    fn write_memory(
        &self,
        prepared: &Prepared,
        captured: Captured,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<SavedMemory, StateError> {
        let Captured { mut ram, ram_len, sections, guest_time, host_time, hardware, picture } = captured;
        let id = prepared.id;
        let folder = snapshot_folder(&self.home, id);
        let pack = pack_path(&packs_folder(&self.home), id.0);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| host("could not write", &path, ADVICE_SNAPSHOT)(error)
        };
        let extra: u64 =
            sections.iter().flat_map(|section| &section.memories).map(|memory| memory.bytes.len() as u64).sum();
        let len = ram_len + extra;
        let parent = prepared.parent.and_then(|parent| {
            let tree = self.tree();
            super::index(&self.home, tree.snapshot(parent)?).ok()
        });
        let mut packer = Packer::new(ram_len, len, id.0, parent.map(Arc::new));
        let mut out = self.files.create(&pack).map_err(failed(&pack))?;
        let mut padded = vec![0; CHUNK as usize];
        let mut put = |packer: &mut Packer, number: usize, bytes: &[u8]| {
            let Some(bytes) = packer.put(number, bytes) else { return Ok(()) };
            if bytes.len() == padded.len() {
                return out.write(bytes);
            }
            padded.fill(0);
            padded[..bytes.len()].copy_from_slice(bytes);
            out.write(&padded)
        };
        let mut done = 0;
        let mut from_source = vec![0; CHUNK as usize];
        while let Some((number, saved)) = ram.take_next() {
            let written = match (saved, ram.source()) {
                (Saved::Bytes(bytes), _) => put(&mut packer, number, &bytes),
                (Saved::AsLoaded, Some(source)) => {
                    let bytes = &mut from_source[..packer.index.chunk_len(number)];
                    source.fill(number, bytes).map_err(StateError::Refused)?;
                    put(&mut packer, number, bytes)
                }
                (Saved::AsLoaded, None) => Ok(()),
            };
            written.map_err(failed(&pack))?;
            done += CHUNK;
            if !progress(done.min(len), len) {
                return Err(StateError::Cancelled);
            }
        }
        drop(ram);
        let mut beyond: Vec<u8> = Vec::with_capacity(extra as usize);
        sections.iter().flat_map(|section| &section.memories).for_each(|memory| beyond.extend(&memory.bytes));
        for (number, bytes) in ((ram_len / CHUNK) as usize..).zip(beyond.chunks(CHUNK as usize)) {
            put(&mut packer, number, bytes).map_err(failed(&pack))?;
        }
        out.sync().map_err(failed(&pack))?;
        drop(out);
        let folder_of_packs = packs_folder(&self.home);
        self.files.sync_folder(&folder_of_packs).map_err(failed(&folder_of_packs))?;

        let mut offset = ram_len;
        let mut devices = Vec::with_capacity(sections.len());
        for section in &sections {
            devices.push(Device::from_section(section, offset)?);
            offset += section.memories.iter().map(|memory| memory.bytes.len() as u64).sum::<u64>();
        }
        let hako = env!("CARGO_PKG_VERSION").to_owned();
        let state =
            SnapshotState { format: STATE_FORMAT, hako, hardware, ram: ram_len, len, guest_time, host_time, devices };
        let path = folder.join("state.ron");
        let text = ron::ser::to_string_pretty(&state, ron::ser::PrettyConfig::new().depth_limit(3))
            .map_err(|error| StateError::Damaged { path: path.clone(), reason: error.to_string() })?;
        self.files.create_folder(&folder).map_err(failed(&folder))?;
        self.files.write_new(&path, text.as_bytes()).map_err(failed(&path))?;
        let index = folder.join("index.bin");
        self.files.write_new(&index, &packer.index.to_bytes()).map_err(failed(&index))?;
        if let Some(picture) = picture.as_deref().and_then(png) {
            let path = picture_path(&self.home, id);
            self.files.write_new(&path, &picture).map_err(failed(&path))?;
        }
        self.files.sync_folder(&folder).map_err(failed(&folder))?;
        let snapshots = snapshots_folder(&self.home);
        self.files.sync_folder(&snapshots).map_err(failed(&snapshots))?;
        if !progress(len, len) {
            return Err(StateError::Cancelled);
        }
        Ok(SavedMemory { state: text_checksum(&text), content: format!("{:032x}", packer.index.content()) })
    }

    /// What was kept of a machine that is off: measures it.
    pub(super) fn settle(&self, kept: &Prepared) -> Result<(), StateError> {
        self.finish(kept, None)
    }

    /// Measures what was frozen and commits.
    fn finish(&self, prepared: &Prepared, memory: Option<SavedMemory>) -> Result<(), StateError> {
        let Frozen { files, media } = self.freeze(&prepared.media, false)?;
        self.commit(|tree| {
            tree.files.retain(|file| files.iter().all(|new| new.path != file.path));
            tree.files.extend(files);
            tree.taking = None;
            if prepared.is_listed {
                if let Some(record) = tree.snapshots.iter_mut().find(|record| record.id == prepared.id) {
                    record.memory = memory;
                    record.media = media;
                }
                return;
            }
            tree.snapshots.push(SnapshotRecord {
                id: prepared.id,
                parent: prepared.parent.filter(|parent| tree.snapshot(*parent).is_some()),
                name: prepared.name.clone(),
                note: prepared.note.clone(),
                taken_at: host_seconds(),
                kind: prepared.kind,
                media,
                memory,
            });
            if prepared.becomes_parent {
                tree.present.parent = Some(prepared.id);
            }
        })
    }

    /// Puts the present into `tree` as a snapshot without memory, to which [`Keeper::write`] adds it.
    pub(super) fn list_present(
        &self,
        tree: &mut TreeFile,
        media: Vec<MediumNow>,
        note: String,
    ) -> Result<Prepared, StateError> {
        Self::check_media(&media, true)?;
        let id = SnapshotId(tree.number());
        let Frozen { files, media: saved } = self.freeze(&media, true)?;
        let parent = tree.present.parent;
        let name = "Before going back".to_owned();
        tree.files.retain(|file| files.iter().all(|new| new.path != file.path));
        tree.files.extend(files);
        tree.snapshots.push(SnapshotRecord {
            id,
            parent,
            name: name.clone(),
            note: note.clone(),
            taken_at: host_seconds(),
            kind: SnapshotKind::BeforeRestore,
            media: saved,
            memory: None,
        });
        Ok(Prepared {
            id,
            name,
            overlays: Vec::new(),
            note,
            kind: SnapshotKind::BeforeRestore,
            parent,
            media,
            becomes_parent: false,
            is_listed: true,
        })
    }
}

pub(super) fn measure(path: &Path, format: ImageFormat) -> Result<MediumIdentity, StateError> {
    let failed = |error| host("could not read", path, ADVICE_SNAPSHOT)(error);
    let file = std::fs::File::open(path).map_err(failed)?;
    MediumIdentity::measure(format, &[(path, &file)], &mut |_, _| true).map_err(failed)
}

/// A small picture for the browser: at most 320 points wide.
fn png(frame: &Frame) -> Option<Vec<u8>> {
    const WIDTH: u32 = 320;
    let step = frame.width.div_ceil(WIDTH).max(1);
    let (width, height) = (frame.width / step, frame.height / step);
    if width == 0 || height == 0 {
        return None;
    }
    let mut rgb = Vec::with_capacity((width * height * 3) as usize);
    for y in 0..height {
        for x in 0..width {
            // The mean of the points that fall together.
            let mut sum = [0_u32; 3];
            for (row, column) in (0..step).flat_map(|row| (0..step).map(move |column| (row, column))) {
                let at = (((y * step + row) * frame.width + x * step + column) * 4) as usize;
                let point = frame.rgba.get(at..at + 3)?;
                sum.iter_mut().zip(point).for_each(|(sum, &byte)| *sum += u32::from(byte));
            }
            rgb.extend(sum.map(|sum| (sum / (step * step)) as u8));
        }
    }
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().ok()?;
    writer.write_image_data(&rgb).ok()?;
    writer.finish().ok()?;
    Some(bytes)
}
