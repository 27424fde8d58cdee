//! Machines that come from elsewhere, of a snapshot or out of a file, and machines into a file.
//!
//! A new machine's folder is invisible until `machine.ron` is in it, which comes last. Until then the file `.unfinished` says so, and a
//! lock on it that somebody is at work; what a crash has left is removed when the next machine comes.

use std::fs::{File, TryLockError};
use std::path::{Component, Path, PathBuf};

use vm_core::config::DriveKind;
use vm_core::disk::image;
use vm_core::snapshot::StateError;
use vm_core::snapshot::archive::{self, Parcel};
use vm_core::snapshot::files::Files;
use vm_core::snapshot::keeper::{CloneKind, Cloned, Keeper};
use vm_core::snapshot::tree::SnapshotId;

use super::{Drive, Hold, Library, Machine, Place, Trouble, cannot_write, slug};

const UNFINISHED: &str = ".unfinished";

/// Told bytes done and in all; says whether to go on.
type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn words(error: StateError) -> Trouble {
    Trouble::new(error.to_string(), "Nothing was changed.")
}

/// The folder of a machine that is coming. Dropped without [`Reserved::commit`] it goes again.
#[derive(Debug)]
pub struct Reserved {
    id: String,
    folder: PathBuf,
    /// Locked. `None`: the machine is there.
    marker: Option<File>,
}

impl Reserved {
    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The machine is there from now on; says its id.
    ///
    /// # Errors
    /// Where the disk does not let us.
    pub fn commit(mut self, machine: &Machine) -> Result<String, Trouble> {
        machine.write(&self.folder.join("machine.ron"))?;
        let machines = self.folder.parent().unwrap_or(&self.folder);
        let synced = File::open(machines).and_then(|folder| folder.sync_all());
        synced.map_err(|error| cannot_write(machines, &error))?;
        self.marker = None;
        // Left behind it says nothing beside a machine.ron.
        let _ = std::fs::remove_file(self.folder.join(UNFINISHED));
        Ok(self.id.clone())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.marker.is_some()
            && let Err(error) = std::fs::remove_dir_all(&self.folder)
        {
            tracing::warn!("{}: {error}", self.folder.display());
        }
    }
}

impl Library {
    /// Makes a folder for a machine that will be called `name`, and removes what a crash has left of others.
    ///
    /// # Errors
    /// Where the disk does not let us.
    pub fn reserve(&self, name: &str) -> Result<Reserved, Trouble> {
        let machines = self.machines();
        std::fs::create_dir_all(&machines).map_err(|error| cannot_write(&machines, &error))?;
        sweep(&machines);
        let wish = slug(name);
        for number in 1..10_000 {
            let id = if number == 1 { wish.clone() } else { format!("{wish}-{number}") };
            let folder = machines.join(&id);
            match std::fs::create_dir(&folder) {
                Ok(()) => {
                    // Locked before it has its name, so that nobody sweeps it away in between.
                    let (early, path) = (folder.join(".unfinished.new"), folder.join(UNFINISHED));
                    let made = File::create(&early).and_then(|marker| {
                        // A host without locks has no second Hako that could sweep.
                        let _ = marker.try_lock();
                        std::fs::rename(&early, &path).map(|()| marker)
                    });
                    let marker = made.map_err(|error| cannot_write(&path, &error))?;
                    return Ok(Reserved { id, folder, marker: Some(marker) });
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(cannot_write(&folder, &error)),
            }
        }
        Err(Trouble::new(format!("There are too many machines called “{name}”."), "Choose another name."))
    }
}

/// Removes folders of machines that never came, and whose maker is gone.
fn sweep(machines: &Path) {
    for entry in std::fs::read_dir(machines).into_iter().flatten().flatten() {
        let (folder, marker) = (entry.path(), entry.path().join(UNFINISHED));
        let Ok(file) = File::open(&marker) else { continue };
        if folder.join("machine.ron").exists() || matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            continue;
        }
        if let Err(error) = std::fs::remove_dir_all(&folder) {
            tracing::warn!("{}: {error}", folder.display());
        }
    }
}

/// The definition of a machine that was made of a snapshot of `base`, whose folder is `base_folder`.
///
/// # Errors
/// In words, where the snapshot has hardware that no machine of the library has.
pub fn machine_of_clone(base: &Machine, base_folder: &Path, cloned: &Cloned, name: &str) -> Result<Machine, Trouble> {
    let whole = |path: &PathBuf| base_folder.join(path);
    let mut machine = Machine {
        name: name.trim().to_owned(),
        kernel: base.kernel.as_ref().map(whole),
        initrd: base.initrd.as_ref().map(whole),
        ..base.clone()
    };
    let place = |slot| Place::ALL.into_iter().find(|place| place.slot() == slot);
    if let Some(hardware) = &cloned.hardware {
        machine.memory_mib = hardware.memory_mib;
        machine.processor.clone_from(&hardware.cpu);
        machine.drives = hardware
            .drives
            .iter()
            .filter_map(|(slot, kind)| Some(Drive::new(place(*slot)?, *kind == DriveKind::Cd, None)))
            .collect();
        let now = vm_core::snapshot::manifest::Hardware::of(&machine.to_config(Path::new("")));
        let differences = hardware.differences(&now);
        if !differences.is_empty() {
            return Err(Trouble::new(
                format!("A machine of the library cannot be what this one was: {}.", differences.join("; ")),
                "Start the snapshot with “hako run -loadvm” and the same options as then.",
            ));
        }
    }
    for drive in &mut machine.drives {
        let medium = cloned.media.iter().find(|medium| medium.slot == drive.place.slot());
        drive.path = medium.map(|medium| medium.path.clone());
        drive.format = medium.map(|medium| medium.format);
        drive.read_only = drive.cd || medium.is_some_and(|medium| medium.read_only);
        drive.temporary = false;
    }
    Ok(machine)
}

/// Makes a machine called `name` of a snapshot of the machine in `home`, which is off; says its id. A linked one needs nothing of `home`
/// either.
///
/// # Errors
/// In words; there is no new machine then.
pub fn clone_off(
    library: &Library,
    home: &Path,
    base: &Machine,
    snapshot: SnapshotId,
    (name, kind): (&str, CloneKind),
    progress: Progress<'_>,
) -> Result<String, Trouble> {
    let reserved = library.reserve(name)?;
    let keeper = Keeper::open(home, Files::default()).map_err(words)?;
    keeper.clone_to(snapshot, reserved.folder(), kind, progress).map_err(words)?;
    let cloned = Keeper::cloned(reserved.folder()).map_err(words)?;
    let machine = machine_of_clone(base, home, &cloned, name)?;
    reserved.commit(&machine)
}

/// Writes the machine in `home`, which is off, with all its snapshots and every file that it needs, into the new file `to`.
///
/// # Errors
/// In words; there is no file then.
pub fn export(home: &Path, to: &Path, progress: Progress<'_>) -> Result<(), Trouble> {
    let _held = Hold::keep_off(home)?;
    let mut machine = Machine::read(&home.join("machine.ron"))?;
    let keeper = Keeper::open(home, Files::default()).map_err(words)?;
    let home = keeper.home();
    let mut parcel = Parcel::new(&keeper).map_err(words)?;
    for drive in &mut machine.drives {
        if let Some(path) = &mut drive.path {
            *path = parcel.add_image(&home.join(&*path), drive.format).map_err(words)?;
        }
    }
    for path in [&mut machine.kernel, &mut machine.initrd].into_iter().flatten() {
        *path = parcel.add(&home.join(&*path)).map_err(words)?;
    }
    let state = home.join("state");
    if vm_core::snapshot::exists(&state) {
        if parcel.changes_images() {
            return Err(Trouble::new(
                "The machine sleeps in a saved state that belongs to disks outside of its folder, and would not fit them elsewhere.",
                "Resume it, take a snapshot, switch it off, then export it.",
            ));
        }
        for entry in std::fs::read_dir(&state).into_iter().flatten().flatten() {
            parcel.add(&entry.path()).map_err(words)?;
        }
    }
    let picture = home.join("screen.png");
    if picture.is_file() {
        parcel.add(&picture).map_err(words)?;
    }
    parcel.write(&machine.text(), to, &Files::default(), progress).map_err(words)
}

/// Takes a machine over from a file that [`export`] wrote; says its id.
///
/// # Errors
/// In words; there is no new machine then.
pub fn import(library: &Library, from: &Path, progress: Progress<'_>) -> Result<String, Trouble> {
    let name = from.file_stem().unwrap_or_default().to_string_lossy();
    let reserved = library.reserve(&name)?;
    let text = archive::import(from, reserved.folder(), &Files::default(), progress).map_err(words)?;
    let mut machine = Machine::from_text(&text, &from.join("machine.ron"))?;
    check_paths(&machine, reserved.folder())?;
    machine.settle_formats(reserved.folder());
    reserved.commit(&machine)
}

/// A machine from elsewhere may use only what came with it.
fn check_paths(machine: &Machine, folder: &Path) -> Result<(), Trouble> {
    let refused = |what: &str, path: &Path| {
        Err(Trouble::new(
            format!("{what}: “{}” is not in the file that was to be imported. Nothing was added.", path.display()),
            "Ask whoever made it for another one.",
        ))
    };
    let drives = machine.drives.iter().filter_map(|drive| Some((drive.words(), drive.path.as_deref()?)));
    let kernel = machine.kernel.as_deref().map(|path| ("kernel".to_owned(), path));
    let initrd = machine.initrd.as_deref().map(|path| ("initial RAM disk".to_owned(), path));
    for (what, path) in drives.chain(kernel).chain(initrd) {
        let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        if !inside || !folder.join(path).symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
            return refused(&what, path);
        }
    }
    let folder = std::fs::canonicalize(folder).map_err(|error| cannot_write(folder, &error))?;
    for drive in &machine.drives {
        let Some(path) = &drive.path else { continue };
        // One that cannot be opened harms nobody: the machine says so when it starts.
        let Ok(info) = image::info(&folder.join(path), drive.format) else { continue };
        let stays = |below: &Path| std::fs::canonicalize(below).is_ok_and(|below| below.starts_with(&folder));
        if let Some((below, _)) = info.below.iter().find(|(below, _)| !stays(below)) {
            return refused(&drive.words(), below);
        }
    }
    Ok(())
}
