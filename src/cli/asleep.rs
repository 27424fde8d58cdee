//! Saved states of machines of `hako run`. A state belongs to its disk, so it lies beside it, and the disk sleeps with it: the next start
//! goes on from there, or gives the state up in so many words.

use std::fs;
use std::path::{Path, PathBuf};

use vm_core::config::{DriveConfig, DriveKind, MachineConfig};
use vm_core::snapshot;

use super::{CliError, refuse};

/// Hard disks that the guest writes, and whose writes stay.
fn disks(config: &MachineConfig) -> impl Iterator<Item = &Path> {
    // Where two engines are compared nothing stays.
    let stays = |drive: &&DriveConfig| {
        drive.kind == DriveKind::Disk && !drive.read_only && !drive.temporary && config.second.is_none()
    };
    config.drives.iter().filter(stays).filter_map(|drive| drive.path.as_deref())
}

/// `x.img.state` beside `x.img`.
fn beside(disk: &Path) -> PathBuf {
    let mut name = disk.as_os_str().to_owned();
    name.push(".state");
    let path = PathBuf::from(name);
    std::path::absolute(&path).unwrap_or(path)
}

/// Where Save & Close of this machine goes: beside its first hard disk. `None`: it has none.
pub fn folder(config: &MachineConfig) -> Option<PathBuf> {
    disks(config).next().map(beside)
}

/// Looks whether a disk of this machine sleeps with a state that is not `resumed`; with `discard` such a state is given up.
pub fn look(config: &MachineConfig, resumed: Option<&Path>, discard: bool) -> Result<(), CliError> {
    let real = |path: &Path| fs::canonicalize(path).ok();
    for disk in disks(config) {
        let folder = beside(disk);
        if !snapshot::exists(&folder) || resumed.is_some_and(|resumed| real(resumed) == real(&folder)) {
            continue;
        }
        if !discard {
            return refuse(format!(
                "{disk} sleeps with a saved state, which fits it only as it is now.\n\
                 To go on from there: -loadvm {folder}\n\
                 To give up what was in memory and start the disk as it is: -discard-state",
                disk = disk.display(),
                folder = folder.display()
            ));
        }
        snapshot::discard(&folder).map_err(|error| CliError(format!("{}: {error}", folder.display())))?;
        eprintln!("hako: the saved state in {} is given up", folder.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_core::config::DriveSlot;

    #[test]
    fn a_disk_that_sleeps_is_not_started_by_mistake() {
        let home = std::env::temp_dir().join(format!("hako-asleep-{}", std::process::id()));
        let disk = home.join("x.img");
        let state = home.join("x.img.state");
        fs::create_dir_all(&state).unwrap();
        fs::write(state.join("state.ron"), "()").unwrap();
        let drive = DriveConfig {
            slot: DriveSlot::Ide(0),
            kind: DriveKind::Disk,
            path: Some(disk),
            format: None,
            read_only: false,
            temporary: false,
        };
        let mut config = MachineConfig { drives: vec![drive], ..MachineConfig::default() };
        assert_eq!(folder(&config), Some(state.clone()));
        let refusal = look(&config, None, false).unwrap_err().to_string();
        assert!(refusal.contains("x.img sleeps") && refusal.contains("-discard-state"), "{refusal}");
        assert!(refusal.contains(&format!("-loadvm {}", state.display())), "{refusal}");
        assert!(look(&config, Some(&home), false).is_err(), "another state");
        look(&config, Some(&home.join(".").join("x.img.state")), false).unwrap();
        // What is not written to may be looked at.
        config.drives[0].temporary = true;
        look(&config, None, false).unwrap();
        config.drives[0].temporary = false;
        look(&config, None, true).unwrap();
        look(&config, None, false).unwrap();
        assert!(!snapshot::exists(&state));
        fs::remove_dir_all(home).unwrap();
    }
}
