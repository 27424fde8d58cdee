//! `hako snapshot list|take|restore|delete|clone|export`: the snapshots of a machine that is off.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use vm_core::config::{DriveKind, DriveSlot, ImageFormat, MachineConfig};
use vm_core::debug::monitor;
use vm_core::disk::convert;
use vm_core::snapshot::StateError;
use vm_core::snapshot::files::Files;
use vm_core::snapshot::keeper::{CloneKind, Keeper, Wish};
use vm_core::snapshot::tree::{SavedMedium, SnapshotInfo, SnapshotKind, SnapshotTree};

use super::{CliError, refuse};
use crate::library::{Library, Machine, Trouble};

const HELP: &str = "\
hako snapshot list MACHINE              all snapshots as a tree, with what deleting each would free
hako snapshot take MACHINE [NAME] [--adopt]
                                        keep the disks of a machine that is off; with --adopt raw disks too, whose images
                                        are only read from then on (a running machine: “savevm” in its monitor)
hako snapshot restore MACHINE NAME      the next start goes to this snapshot; what is there now is kept as one
hako snapshot delete MACHINE NAME       delete a snapshot and free what only it needs
hako snapshot clone MACHINE NAME NEW-NAME [--linked]
                                        make a new machine of a snapshot, whose first start goes on there: its disks and memory are
                                        copied, or with --linked shared (nobody writes them any more; neither machine needs the other)
hako snapshot export MACHINE NAME FOLDER
                                        write the disks of a snapshot into a new folder: hard disks as qcow2, floppies as raw
                                        images (“hako export” writes a whole machine into one file)

From its first snapshot on a machine only reads the image of a floppy; what the guest writes goes to the machine's folder.

MACHINE is the name of a machine of the library, or a machine's folder. NAME is a snapshot's name, or its number.
";

/// A machine that is off.
struct Target {
    home: PathBuf,
    /// `None`: it is a machine of “hako run”, whose command line says what it is made of.
    config: Option<MachineConfig>,
}

/// Carries out what follows `hako snapshot`.
pub fn run(arguments: &[String]) -> Result<ExitCode, CliError> {
    let (options, plain): (Vec<&str>, Vec<&str>) =
        arguments.iter().map(String::as_str).partition(|word| word.starts_with("--"));
    let adopt = options.contains(&"--adopt");
    let linked = options.contains(&"--linked");
    if let Some(option) = options.iter().find(|option| !matches!(**option, "--adopt" | "--linked" | "--help")) {
        return refuse(format!("hako snapshot: {option} is not known\n\n{HELP}"));
    }
    if options.contains(&"--help") || plain.first() == Some(&"help") {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    if adopt && plain.first() != Some(&"take") {
        return refuse("--adopt belongs to “hako snapshot take”");
    }
    if linked && plain.first() != Some(&"clone") {
        return refuse("--linked belongs to “hako snapshot clone”");
    }
    match plain[..] {
        [] => return refuse(format!("hako snapshot: what is to be done?\n\n{HELP}")),
        ["list", machine] => {
            let tree = SnapshotTree::read(&home(machine)?).map_err(error)?;
            print!("{}", monitor::snapshots_in_words(&tree));
        }
        ["take", machine, ref name @ ..] if name.len() < 2 => take(&target(machine)?, name.first().copied(), adopt)?,
        ["restore", machine, name] => {
            let target = target(machine)?;
            refuse_saved(&target, machine)?;
            let keeper = open(&target)?;
            keeper.set_next_start(Some(find(&target.home, name)?.id)).map_err(error)?;
            println!("the next start of {machine} goes to “{name}”; what is there now is kept as a snapshot then");
        }
        ["delete", machine, name] => {
            let target = target(machine)?;
            let keeper = open(&target)?;
            keeper.delete(find(&target.home, name)?.id).map_err(error)?;
            let tidied = keeper.tidy(false, &mut |_, _| true).map_err(error)?;
            println!("“{name}” is deleted; {} bytes are free", tidied.freed);
        }
        ["clone", machine, name, new] => {
            let home = home(machine)?;
            let definition = home.join("machine.ron");
            // A machine of “hako run” has none: what the snapshot says is enough.
            let base =
                if definition.exists() { Machine::read(&definition).map_err(trouble)? } else { Machine::default() };
            let id = find(&home, name)?.id;
            let kind = if linked { CloneKind::Linked } else { CloneKind::Full };
            let library = Library::of_person().map_err(|error| CliError(format!("{error:#}")))?;
            let made = crate::library::clone_off(&library, &home, &base, id, (new, kind), &mut |_, _| true)
                .map_err(trouble)?;
            println!("{}", library.folder(&made).display());
        }
        ["export", machine, name, folder] => export(&target(machine)?, name, Path::new(folder))?,
        [command @ ("list" | "take" | "restore" | "delete" | "clone" | "export"), ..] => {
            return refuse(format!("hako snapshot {command}: too few or too many words\n\n{HELP}"));
        }
        [other, ..] => {
            return refuse(format!(
                "hako snapshot {other}: not known; there are list, take, restore, delete, clone and export"
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn error(error: StateError) -> CliError {
    CliError(error.to_string())
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
pub(super) fn trouble(trouble: Trouble) -> CliError {
    CliError(format!("{} {}", trouble.what, trouble.next))
}

/// The folder of a machine: a folder, or by its name (or id) in the library.
pub(super) fn home(machine: &str) -> Result<PathBuf, CliError> {
    let path = Path::new(machine);
    if path.join("machine.ron").is_file() || path.join("snapshots").is_dir() {
        return Ok(path.to_owned());
    }
    let library = Library::of_person().map_err(|error| CliError(format!("{error:#}")))?;
    let entries = library.list().map_err(|trouble| CliError(trouble.to_string()))?;
    let mut found = entries.iter().filter(|entry| entry.id == machine || entry.name() == machine);
    match (found.next(), found.next()) {
        (Some(entry), None) => Ok(entry.folder.clone()),
        (Some(_), Some(_)) => refuse(format!("{machine}: several machines are called so; give the folder of one")),
        (None, _) => {
            refuse(format!("{machine}: there is no such machine in {}, and no such folder", library.data().display()))
        }
    }
}

fn target(machine: &str) -> Result<Target, CliError> {
    let home = home(machine)?;
    let definition = home.join("machine.ron");
    // A machine of “hako run” has none; what it is made of matters only where its disks are to be kept.
    if !definition.exists() && home.join("snapshots").is_dir() {
        return Ok(Target { home, config: None });
    }
    let read = Machine::read(&definition).map_err(trouble)?;
    let config = Some(read.to_config(&home));
    Ok(Target { home, config })
}

fn open(target: &Target) -> Result<Keeper, CliError> {
    Keeper::open(&target.home, Files::default()).map_err(|failed| match failed {
        StateError::InUse(_) => CliError(
            "the machine is running: use its window, or “savevm”, “loadvm” and “delvm” in its monitor".to_owned(),
        ),
        other => error(other),
    })
}

fn find(home: &Path, name: &str) -> Result<SnapshotInfo, CliError> {
    let tree = SnapshotTree::read(home).map_err(error)?;
    tree.find(name).cloned().ok_or_else(|| error(StateError::NoSnapshot(name.to_owned())))
}

/// A machine that sleeps in a saved state has memory that belongs to its disks as they are.
fn refuse_saved(target: &Target, machine: &str) -> Result<(), CliError> {
    if vm_core::snapshot::exists(&target.home.join("state")) {
        return refuse(format!("{machine} sleeps in a saved state: resume it first, or discard the state"));
    }
    Ok(())
}

fn take(target: &Target, name: Option<&str>, adopt: bool) -> Result<(), CliError> {
    let saved = vm_core::snapshot::exists(&target.home.join("state"));
    if saved {
        return refuse(
            "the machine sleeps in a saved state, which belongs to its disks: resume it, then take the snapshot",
        );
    }
    let Some(config) = &target.config else {
        return refuse("this machine belongs to “hako run”: start it and say “savevm” in its monitor");
    };
    let keeper = open(target)?;
    let media = keeper.media_of(config).map_err(error)?;
    let wish = Wish { name: name.map(str::to_owned), note: String::new(), kind: SnapshotKind::Manual, adopt };
    let id = keeper.take_off(media, wish).map_err(|failed| match failed {
        StateError::InPlace(_) => CliError(format!("{failed} Say --adopt for that.")),
        other => error(other),
    })?;
    println!("snapshot {id}: the disks as they are now");
    for drive in config.drives.iter().filter(|drive| drive.kind == DriveKind::Floppy && !drive.read_only) {
        if let Some(path) = &drive.path {
            println!(
                "{}: only read from now on; what the guest writes goes to {}",
                path.display(),
                target.home.display()
            );
        }
    }
    Ok(())
}

fn export(target: &Target, name: &str, folder: &Path) -> Result<(), CliError> {
    let keeper = open(target)?;
    let id = find(&target.home, name)?.id;
    let tree = keeper.tree();
    let record = tree.snapshot(id).ok_or_else(|| error(StateError::NoSnapshot(name.to_owned())))?;
    std::fs::create_dir(folder)
        .map_err(|error| CliError(format!("{}: {error}; choose a new folder", folder.display())))?;
    for (slot, medium) in &record.media {
        let SavedMedium::Frozen { top, .. } = medium else { continue };
        let from = target.home.join(top);
        let format = tree.files.iter().find(|file| file.path == *top).map(|file| file.format);
        // A floppy is wanted as others read it.
        let (end, wanted) = match slot {
            DriveSlot::Floppy(_) => ("img", ImageFormat::Raw),
            DriveSlot::Ide(_) => ("qcow2", ImageFormat::Qcow2),
        };
        let to = folder.join(format!("{}.{end}", slot.to_string().replace(' ', "-")));
        convert::convert(&from, format, &to, wanted, &mut |_, _| ()).map_err(|error| CliError(error.to_string()))?;
        println!("{}", to.display());
    }
    Ok(())
}
