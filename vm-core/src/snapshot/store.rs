//! Writing a state to its folder and reading it back.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use twox_hash::XxHash3_64;

use super::manifest::{Device, FORMAT, Hardware, Manifest, Medium, MemoryFile};
use super::section::{LoadError, Memory, Section};
use crate::bus::Bus as _;
use crate::config::{DriveSlot, ImageFormat, MachineConfig};
use crate::disk::identity::{IdentityStep, Measured};
use crate::disk::image;
use crate::disk::sums::{self, FileSums};
use crate::machine::board::Drive;
use crate::machine::run::Machine;

/// The file whose rename makes a state.
const MANIFEST: &str = "state.ron";
/// A manifest larger than this is not one of ours.
const MOST_MANIFEST: u64 = 64 << 20;
/// Granularity of check sums and of reading and writing.
const CHUNK: usize = 1 << 20;
/// How long the host may take to finish what the guest had asked of its disks.
const DRAIN_TIME: Duration = Duration::from_mins(1);

/// Told about bytes done and bytes in all; says whether to go on.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

/// Why a state cannot be written or used. The text is for the person.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The host refused a file.
    #[error("{what} {path}: {source}. {advice}", path = path.display())]
    Host {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// Disk requests did not end.
    #[error(
        "a disk of the host did not answer for a minute, so nothing was saved. The machine is paused: see to the disk, then save again."
    )]
    Undrained,
    /// A running machine with a disk that cannot be frozen.
    #[error(
        "this machine writes to {0} in place, and its contents cannot be kept together with a state while it goes on. Use Save & Close."
    )]
    NotFreezable(PathBuf),
    /// A medium whose writes do not outlive the machine.
    #[error("what the guest wrote to “{}” is gone when the machine ends (it is attached as temporary), so a state would not fit it any more. Attach it as usual to save states.", .0.display())]
    Temporary(PathBuf),
    /// No state there.
    #[error("there is no saved state in {}", .0.display())]
    Missing(PathBuf),
    /// Not one of ours, or damaged.
    #[error("the saved state {path} cannot be used: {reason}. Its disks are untouched; discard the state to start the machine afresh.", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What and where.
        reason: String,
    },
    /// Written by a later version.
    #[error("the saved state {path} was written by Hako {hako}, which is newer than this one. Update Hako to open it.", path = path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version that wrote it.
        hako: String,
    },
    /// The machine is not the saved one.
    #[error("the machine has changed since it was saved, so the state does not fit it:\n{}\nPut it back as it was, or discard the saved state and start afresh.", .0.join("\n"))]
    Hardware(Vec<String>),
    /// A medium is not the one of the state.
    #[error("{}\nResuming would damage it, so nothing was started and nothing was written. Put back the disk as it was, or discard the saved state and start afresh.", .0.join("\n"))]
    Media(Vec<String>),
    /// The list of snapshots cannot be used.
    #[error("the list of snapshots {path} cannot be used: {reason}. Nothing was changed. Put it back from a backup of the machine's folder; the disks' files are in “disks” beside it.", path = path.display())]
    Tree {
        /// The file.
        path: PathBuf,
        /// What and where.
        reason: String,
    },
    /// There is no such snapshot.
    #[error("there is no snapshot “{0}” of this machine: “info snapshots” lists what there is")]
    NoSnapshot(String),
    /// A part of a snapshot cannot be used.
    #[error("the snapshot “{name}” cannot be restored: {path}: {reason}. Nothing was changed; the machine and its other snapshots are as they were.", path = path.display())]
    Snapshot {
        /// The snapshot.
        name: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A plain image that is written in place.
    #[error("“{}” is a raw image that this machine writes in place: its contents cannot be kept together with a snapshot. Save & Close works; for snapshots let the machine adopt it (the image itself is then only read, and what is written goes to the machine's folder).", .0.display())]
    InPlace(PathBuf),
    /// Another process has the machine.
    #[error("the machine in {} is in use by another process: close it there, or ask it", .0.display())]
    InUse(PathBuf),
    /// A disk could not be switched, made or opened.
    #[error("{0}")]
    Disk(String),
    /// A machine in one file cannot be taken over.
    #[error("{path} cannot be imported: {reason}. Nothing was added.", path = path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What and where.
        reason: String,
    },
    /// The person did not want it any more.
    #[error("it was cancelled; nothing was changed and nothing is lost")]
    Cancelled,
    /// Not possible now.
    #[error("{0}")]
    Refused(String),
    /// A device refused its part.
    #[error("{0}. The disks are untouched; discard the saved state to start the machine afresh.")]
    Device(#[from] LoadError),
}

pub(super) fn host(what: &'static str, path: &Path, advice: &'static str) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Host { what, path, source, advice }
}

pub(super) const ADVICE_WRITE: &str = "Nothing was lost: the machine is paused and an older saved state is as it was. Make room or choose another folder, then save again.";
pub(super) const ADVICE_READ: &str = "Its disks are untouched. See that the file can be read, then start again.";

/// Whether `folder` holds a saved state.
pub fn exists(folder: &Path) -> bool {
    folder.join(MANIFEST).is_file()
}

/// Removes the state in `folder`, if there is one.
///
/// # Errors
/// Where the host refuses.
pub fn discard(folder: &Path) -> io::Result<()> {
    match fs::remove_file(folder.join(MANIFEST)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => result?,
    }
    sweep(folder, None);
    Ok(())
}

/// Writes the state of a paused machine into `folder`, replacing an older one in one step.
///
/// `closing` says that the machine ends with this save; only then may a medium be in use that cannot be frozen.
///
/// # Errors
/// In words; the machine is whole and an older state is as it was. [`StateError::Cancelled`] where `progress` said no.
pub fn save(machine: &mut Machine, folder: &Path, closing: bool, progress: Progress) -> Result<(), StateError> {
    for drive in machine.parts().1.drives() {
        let Some(medium) = &drive.medium else { continue };
        if medium.temporary {
            return Err(StateError::Temporary(medium.path.clone()));
        }
        if !closing && !medium.read_only {
            return Err(StateError::NotFreezable(medium.path.clone()));
        }
    }
    drain(machine)?;
    let host_time = super::host_seconds();
    fs::create_dir_all(folder).map_err(host("could not make the folder", folder, ADVICE_WRITE))?;
    let known = Arc::new(sums::read(folder));
    let (media, measured) = record_media(machine, &known, progress)?;
    let sections = machine.sections();
    let name = unused_name(folder);
    let path = folder.join(&name);
    let result = write_memories(machine, &sections, &path, name.clone(), progress).and_then(|memories| {
        let mut offset = memories.ram;
        let mut devices = Vec::with_capacity(sections.len());
        for section in &sections {
            devices.push(Device::from_section(section, offset)?);
            offset += section.memories.iter().map(|memory| memory.bytes.len() as u64).sum::<u64>();
        }
        let manifest = Manifest {
            format: FORMAT,
            hako: env!("CARGO_PKG_VERSION").to_owned(),
            saved_at: super::host_seconds(),
            hardware: Hardware::of(machine.config()),
            media,
            memories,
            guest_time: machine.clock().now(),
            host_time,
            devices,
        };
        commit(&manifest, folder)
    });
    match &result {
        Ok(()) => {
            sweep(folder, Some(&name));
            // Without them the next one reads everything.
            if let Err(error) = sums::write(folder, &measured) {
                tracing::warn!(folder = %folder.display(), %error, "check sums of disks could not be kept");
            }
        }
        Err(_) => drop(fs::remove_file(&path)),
    }
    result
}

/// Puts the state in `folder` into a machine that has not run yet.
///
/// Everything that can be checked is checked before the machine is touched.
///
/// # Errors
/// In words; nothing has been written to any disk. The machine must then be thrown away.
pub fn load(machine: &mut Machine, folder: &Path) -> Result<(), StateError> {
    let manifest = manifest_for(machine.config(), folder)?;
    let now = machine.parts().1.drives().map(|drive| {
        let format = drive.medium.as_ref().map_or(ImageFormat::Raw, |medium| medium.format);
        (drive.slot, drive.path().map(|path| (path.clone(), format)))
    });
    check_media(now, &manifest.media)?;
    let sections = read_memories(machine, &manifest, folder)?;
    // Devices compute their wires from the time that it is.
    machine.clock().set(manifest.guest_time);
    machine.load_sections(&sections)?;
    machine.follow_host(if manifest.host_time == 0 { manifest.saved_at } else { manifest.host_time });
    machine.release_keys();
    Ok(())
}

/// Whether the state in `folder` fits a machine that is made like this. Its memory is not looked at.
///
/// # Errors
/// In words, where it does not.
pub(crate) fn fits(config: &MachineConfig, folder: &Path) -> Result<(), StateError> {
    let manifest = manifest_for(config, folder)?;
    let mut now = Vec::new();
    for drive in &config.drives {
        let format = |path: &PathBuf| drive.format.map_or_else(|| image::probe(path), Ok);
        let medium = drive.path.as_ref().map(|path| format(path).map(|format| (path.clone(), format))).transpose();
        now.push((drive.slot, medium.map_err(|error| StateError::Disk(error.to_string()))?));
    }
    check_media(now.into_iter(), &manifest.media)
}

/// The manifest in `folder`, which is of the same hardware.
fn manifest_for(config: &MachineConfig, folder: &Path) -> Result<Manifest, StateError> {
    let manifest = read_manifest(&folder.join(MANIFEST))?;
    let differences = manifest.hardware.differences(&Hardware::of(config));
    if differences.is_empty() { Ok(manifest) } else { Err(StateError::Hardware(differences)) }
}

/// Waits until every disk request has ended and is on stable storage.
pub(crate) fn drain(machine: &mut Machine) -> Result<(), StateError> {
    let deadline = Instant::now() + DRAIN_TIME;
    loop {
        machine.service_stopped();
        if !machine.parts().1.disks_busy() {
            break;
        }
        if Instant::now() > deadline {
            return Err(StateError::Undrained);
        }
        machine.signals().wait(Duration::from_millis(20));
        machine.signals().take_raised();
    }
    Ok(())
}

/// Brings every medium to stable storage and measures it, as far as it has changed since `known`.
fn record_media(
    machine: &mut Machine,
    known: &Arc<Vec<FileSums>>,
    progress: Progress,
) -> Result<(Vec<Medium>, Vec<FileSums>), StateError> {
    let (mut media, mut all_sums) = (Vec::new(), Vec::new());
    let (_, board) = machine.parts();
    for (slot, steps) in board.identify_media(known) {
        let path = board.drives().find(|drive| drive.slot == slot).and_then(Drive::path).unwrap_or_default();
        let failed = |source| host("could not read or bring to stable storage", &path, ADVICE_WRITE)(source);
        loop {
            match steps.recv_timeout(DRAIN_TIME) {
                // Whoever measures ends when nobody listens.
                Ok(IdentityStep::Progress { done, all }) if !progress(done, all) => return Err(StateError::Cancelled),
                Ok(IdentityStep::Progress { .. }) => {}
                Ok(IdentityStep::Done(measured)) => {
                    let Measured { identity, sums, .. } = measured.map_err(failed)?;
                    media.push(Medium { slot, identity });
                    all_sums.extend(sums);
                    break;
                }
                Err(_) => return Err(StateError::Undrained),
            }
        }
    }
    Ok((media, all_sums))
}

/// `drives`: all that there are now, with what is in them.
fn check_media(
    drives: impl Iterator<Item = (DriveSlot, Option<(PathBuf, ImageFormat)>)>,
    saved: &[Medium],
) -> Result<(), StateError> {
    let mut problems = Vec::new();
    for (slot, medium) in drives {
        let then = saved.iter().find(|medium| medium.slot == slot).map(|medium| &medium.identity);
        match (then, medium) {
            (None, None) => {}
            (Some(then), None) => {
                problems.push(format!("{slot}: “{}” was in it, and now it is empty.", then.path.display()));
            }
            (None, Some((path, _))) => {
                problems.push(format!("{slot}: it was empty, and now “{}” is in it.", path.display()));
            }
            (Some(then), Some((path, format))) => {
                // The file may have moved: what counts is what is in it.
                if let Err(error) = then.check_at(path, format, &mut |_, _| true) {
                    problems.push(format!("{slot}: {error}."));
                }
            }
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(StateError::Media(problems)) }
}

/// A name for the memory file that nothing in `folder` has.
fn unused_name(folder: &Path) -> String {
    let stamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    (0..1_000_000_u32)
        .map(|n| format!("memory-{stamp}-{n}.bin"))
        .find(|name| !folder.join(name).exists())
        .unwrap_or_default()
}

fn write_memories(
    machine: &mut Machine,
    sections: &[Section],
    path: &Path,
    name: String,
    progress: Progress,
) -> Result<MemoryFile, StateError> {
    let ram = machine.parts().1.ram().len();
    let extra: u64 =
        sections.iter().flat_map(|section| &section.memories).map(|memory| memory.bytes.len() as u64).sum();
    let len = ram + extra;
    let failed = |error| host("could not write", path, ADVICE_WRITE)(error);
    let mut out = ChunkWriter::create(path, len).map_err(failed)?;
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    while at < ram {
        let count = (ram - at).min(CHUNK as u64) as usize;
        machine.parts().1.ram().read(at, &mut buffer[..count]);
        out.write(&buffer[..count]).map_err(failed)?;
        at += count as u64;
        if !progress(at, len) {
            return Err(StateError::Cancelled);
        }
    }
    for memory in sections.iter().flat_map(|section| &section.memories) {
        out.write(&memory.bytes).map_err(failed)?;
    }
    let checksums = out.finish().map_err(failed)?;
    if !progress(len, len) {
        return Err(StateError::Cancelled);
    }
    Ok(MemoryFile { file: name, ram, len, checksums })
}

/// Writes a sparse file in chunks of [`CHUNK`] with a check sum each; blocks of zeros become holes.
struct ChunkWriter {
    file: File,
    chunk: Vec<u8>,
    at: u64,
    checksums: Vec<u64>,
}

impl ChunkWriter {
    fn create(path: &Path, len: u64) -> io::Result<Self> {
        let file = File::create_new(path)?;
        file.set_len(len)?;
        Ok(Self { file, chunk: Vec::with_capacity(CHUNK), at: 0, checksums: Vec::new() })
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let take = bytes.len().min(CHUNK - self.chunk.len());
            let (now, rest) = bytes.split_at(take);
            self.chunk.extend_from_slice(now);
            bytes = rest;
            if self.chunk.len() == CHUNK {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        const HOLE: usize = 64 << 10;
        self.checksums.push(XxHash3_64::oneshot(&self.chunk));
        for (index, block) in self.chunk.chunks(HOLE).enumerate() {
            if block.iter().any(|&byte| byte != 0) {
                self.file.seek(SeekFrom::Start(self.at + (index * HOLE) as u64))?;
                self.file.write_all(block)?;
            }
        }
        self.at += self.chunk.len() as u64;
        self.chunk.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<Vec<u64>> {
        if !self.chunk.is_empty() {
            self.flush()?;
        }
        self.file.sync_all()?;
        Ok(self.checksums)
    }
}

/// Brings the manifest to stable storage under its name in one step.
fn commit(manifest: &Manifest, folder: &Path) -> Result<(), StateError> {
    let path = folder.join(MANIFEST);
    let text = ron::ser::to_string_pretty(manifest, ron::ser::PrettyConfig::new().depth_limit(3))
        .map_err(|error| StateError::Damaged { path: path.clone(), reason: error.to_string() })?;
    crate::snapshot::write_atomically(&path, text.as_bytes()).map_err(host("could not write", &path, ADVICE_WRITE))
}

/// Removes memory files that no manifest names; an interrupted save leaves one.
fn sweep(folder: &Path, keep: Option<&str>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let ours = name.starts_with("memory-") && Path::new(name).extension().is_some_and(|end| end == "bin");
        if ours && Some(name) != keep {
            // Left behind it costs room and nothing else.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// What every version of the manifest has.
#[derive(serde::Deserialize)]
struct Head {
    format: u32,
    hako: String,
}

/// Reads and checks a manifest as far as it can be without a machine.
fn read_manifest(path: &Path) -> Result<Manifest, StateError> {
    let damaged = |reason: String| StateError::Damaged { path: path.to_owned(), reason };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(StateError::Missing(path.to_owned())),
        result => result.map_err(host("could not open", path, ADVICE_READ))?,
    };
    let mut text = String::new();
    let read = file.take(MOST_MANIFEST + 1).read_to_string(&mut text);
    match read {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(damaged("it is not text".to_owned())),
        result => result.map_err(host("could not read", path, ADVICE_READ))?,
    };
    if text.len() as u64 > MOST_MANIFEST {
        return Err(damaged(format!("it is larger than {} MiB", MOST_MANIFEST >> 20)));
    }
    let head: Head = ron::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    if head.format > FORMAT {
        return Err(StateError::Newer { path: path.to_owned(), hako: head.hako });
    }
    ron::from_str(&text).map_err(|error| damaged(error.to_string()))
}

/// Checks the whole file of memories, then fills RAM and gives the devices' sections.
fn read_memories(machine: &mut Machine, manifest: &Manifest, folder: &Path) -> Result<Vec<Section>, StateError> {
    let record = &manifest.memories;
    let path = folder.join(Path::new(&record.file).file_name().unwrap_or_default());
    let damaged = |reason: String| StateError::Damaged { path: path.clone(), reason };
    let mut file = File::open(&path).map_err(host("could not open", &path, ADVICE_READ))?;
    let len = file.metadata().map_err(host("could not read", &path, ADVICE_READ))?.len();
    let ram = machine.parts().1.ram().len();
    if record.ram != ram || record.len < ram || len != record.len {
        return Err(damaged(format!("it has {len} bytes, and {} of them for memory are expected", record.len)));
    }
    if record.len.div_ceil(CHUNK as u64) != record.checksums.len() as u64 {
        return Err(damaged("its check sums are not complete".to_owned()));
    }
    let largest = crate::machine::board::MOST_DEVICE_MEMORY;
    if record.len - ram > largest {
        return Err(damaged("it has more device memory than a machine can have".to_owned()));
    }
    let mut beyond = Vec::with_capacity((record.len - ram) as usize);
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    for (index, &expected) in record.checksums.iter().enumerate() {
        let count = (len - at).min(CHUNK as u64) as usize;
        let chunk = &mut buffer[..count];
        file.read_exact(chunk).map_err(host("could not read", &path, ADVICE_READ))?;
        if XxHash3_64::oneshot(chunk) != expected {
            return Err(damaged(format!(
                "the check sum of MiB {index} is wrong: the file has changed since it was saved"
            )));
        }
        let in_ram = ram.saturating_sub(at).min(count as u64) as usize;
        // Untouched memory stays untouched: it costs the host nothing.
        if chunk[..in_ram].iter().any(|&byte| byte != 0) {
            machine.parts().1.ram().write(at, &chunk[..in_ram]);
        }
        beyond.extend_from_slice(&chunk[in_ram..]);
        at += count as u64;
    }
    let slice = |&(ref name, at, len): &(String, u64, u64)| {
        let start = at.checked_sub(ram)?;
        let bytes = beyond.get(start as usize..start.checked_add(len)? as usize)?.to_vec();
        Some(Memory { name: name.clone(), bytes })
    };
    let section = |device: &Device| {
        let memories = device.memories.iter().map(slice).collect::<Option<Vec<_>>>();
        let memories = memories.ok_or_else(|| damaged(format!("a memory of “{}” is outside of it", device.kind)))?;
        Ok(Section {
            kind: device.kind.clone(),
            version: device.version,
            body: device.state.get_ron().to_owned(),
            memories,
        })
    };
    manifest.devices.iter().map(section).collect()
}
