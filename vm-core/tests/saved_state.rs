//! A state goes back only into the machine and onto the disks that it was taken with.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vm_core::bus::Bus;
use vm_core::bus::signals::Signals;
use vm_core::config::{DriveConfig, DriveKind, DriveSlot, MachineConfig};
use vm_core::firmware::FirmwareChoice;
use vm_core::machine::run::Machine;
use vm_core::snapshot::{self, StateError};

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("hako-state-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a scratch folder");
        fs::write(folder.join("disk.img"), vec![7; 3 << 20]).expect("a disk");
        Self(folder)
    }

    fn disk(&self) -> PathBuf {
        self.0.join("disk.img")
    }

    fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    fn config(&self) -> MachineConfig {
        let path = Some(self.disk());
        let slot = DriveSlot::Ide(0);
        let drive = DriveConfig { slot, kind: DriveKind::Disk, path, format: None, read_only: false, temporary: false };
        MachineConfig { memory_mib: 4, drives: vec![drive], ..MachineConfig::default() }
    }

    fn machine(&self) -> Machine {
        build(self.config())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn build(config: MachineConfig) -> Machine {
    let search = FirmwareChoice::default();
    Machine::new(config, Arc::new(Signals::new()), &search, Vec::new(), Vec::new()).expect("SeaBIOS is installed")
}

fn run(machine: &mut Machine, slices: u32) {
    machine.resume();
    for _ in 0..slices {
        machine.slice();
    }
    machine.pause();
}

fn save(machine: &mut Machine, folder: &Path) -> Result<(), StateError> {
    snapshot::save(machine, folder, true, &mut |_, _| true)
}

fn ram(machine: &mut Machine) -> Vec<u8> {
    let mut bytes = vec![0; 4 << 20];
    machine.parts().1.ram().read(0, &mut bytes);
    bytes
}

#[test]
fn a_save_that_is_cancelled_at_any_point_leaves_the_older_state() {
    let scratch = Scratch::new("cancelled");
    let mut machine = scratch.machine();
    run(&mut machine, 20);
    let mut steps = 0;
    snapshot::save(&mut machine, &scratch.state(), true, &mut |_, _| {
        steps += 1;
        true
    })
    .unwrap();
    let manifest = || fs::read(scratch.state().join("state.ron")).unwrap();
    let files = || fs::read_dir(scratch.state()).unwrap().count();
    let (older, count) = (manifest(), files());
    run(&mut machine, 20);
    for last in 0..steps {
        let mut left = last;
        let mut go_on = |_, _| {
            left -= 1;
            left >= 0
        };
        let error = snapshot::save(&mut machine, &scratch.state(), true, &mut go_on).expect_err("cancelled");
        assert!(matches!(error, StateError::Cancelled), "step {last} of {steps}: {error}");
        assert_eq!((manifest(), files()), (older.clone(), count), "step {last} of {steps}");
    }
    assert!(steps > 2, "{steps}");
}

#[test]
fn a_state_comes_back_byte_for_byte() {
    let scratch = Scratch::new("roundtrip");
    // Else it shows the host's time again, and a second may have gone by.
    let config = || MachineConfig { keep_saved_time: true, ..scratch.config() };
    let mut machine = build(config());
    run(&mut machine, 300);
    save(&mut machine, &scratch.state()).expect("saved");
    let (sections, memory) = (machine.sections(), ram(&mut machine));
    drop(machine);
    let mut again = build(config());
    snapshot::load(&mut again, &scratch.state()).expect("loaded");
    assert_eq!(again.sections(), sections);
    assert!(ram(&mut again) == memory, "memory differs");
    run(&mut again, 50);
}

#[test]
fn a_disk_that_changed_is_refused_and_not_touched() {
    let scratch = Scratch::new("changed");
    save(&mut scratch.machine(), &scratch.state()).expect("saved");
    let mut bytes = fs::read(scratch.disk()).expect("the disk");
    bytes[1 << 20] ^= 1;
    fs::write(scratch.disk(), &bytes).expect("another program writes");
    let error = snapshot::load(&mut scratch.machine(), &scratch.state()).expect_err("refused").to_string();
    assert!(error.contains("disk.img") && error.contains("changed"), "{error}");
    assert_eq!(fs::read(scratch.disk()).expect("the disk"), bytes);
}

#[test]
fn a_copied_disk_with_the_same_content_is_the_same_disk() {
    let scratch = Scratch::new("copied");
    save(&mut scratch.machine(), &scratch.state()).expect("saved");
    let bytes = fs::read(scratch.disk()).expect("the disk");
    fs::remove_file(scratch.disk()).expect("removed");
    fs::write(scratch.disk(), &bytes).expect("restored from a backup");
    snapshot::load(&mut scratch.machine(), &scratch.state()).expect("the content decides");
}

#[test]
fn other_hardware_is_refused_with_both_values() {
    let scratch = Scratch::new("hardware");
    save(&mut scratch.machine(), &scratch.state()).expect("saved");
    let mut other = build(MachineConfig { memory_mib: 8, ..scratch.config() });
    let error = snapshot::load(&mut other, &scratch.state()).expect_err("refused").to_string();
    assert!(error.contains("memory: saved 4 MiB, now 8 MiB"), "{error}");
}

#[test]
fn a_running_machine_with_a_disk_in_place_is_not_saved() {
    let scratch = Scratch::new("in-place");
    let mut machine = scratch.machine();
    let error = snapshot::save(&mut machine, &scratch.state(), false, &mut |_, _| true).expect_err("refused");
    assert!(matches!(error, StateError::NotFreezable(_)), "{error}");
    assert!(!snapshot::exists(&scratch.state()));
}

#[test]
fn damaged_files_are_refused_by_name() {
    let scratch = Scratch::new("damaged");
    save(&mut scratch.machine(), &scratch.state()).expect("saved");
    let manifest = scratch.state().join("state.ron");
    let good = fs::read(&manifest).expect("the manifest");
    let refused = |what: &str| {
        let error = snapshot::load(&mut scratch.machine(), &scratch.state()).expect_err(what).to_string();
        assert!(error.contains("state.ron") || error.contains("memory-") || error.contains('“'), "{what}: {error}");
    };
    // A seeded walk over single-byte damage; what still is the same state may load, nothing may panic.
    let mut seed = 0x4841_4b4f_u64;
    for _ in 0..200 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut bad = good.clone();
        let at = (seed >> 33) as usize % bad.len();
        bad[at] ^= 1 << (seed >> 29 & 7);
        fs::write(&manifest, &bad).expect("damage");
        let _ = snapshot::load(&mut scratch.machine(), &scratch.state());
    }
    fs::write(&manifest, &good[..good.len() / 2]).expect("cut");
    refused("a cut manifest");
    fs::write(&manifest, String::from_utf8_lossy(&good).replacen("format: 1", "format: 99", 1)).expect("newer");
    refused("a newer manifest");
    fs::write(&manifest, &good).expect("whole again");
    let memory = fs::read_dir(scratch.state())
        .expect("the folder")
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|end| end == "bin"))
        .expect("the memory file");
    let mut bytes = fs::read(&memory).expect("the memory");
    bytes[12_345] ^= 0x10;
    fs::write(&memory, &bytes).expect("a bit has turned");
    refused("damaged memory");
    fs::write(&memory, &bytes[..bytes.len() - 1]).expect("cut");
    refused("cut memory");
    fs::remove_file(&memory).expect("lost");
    refused("lost memory");
    fs::remove_file(&manifest).expect("lost");
    let error = snapshot::load(&mut scratch.machine(), &scratch.state()).expect_err("nothing there");
    assert!(matches!(error, StateError::Missing(_)), "{error}");
}

#[test]
fn a_failed_save_leaves_the_older_state_whole() {
    let scratch = Scratch::new("failed");
    let mut machine = scratch.machine();
    save(&mut machine, &scratch.state()).expect("saved");
    let good = fs::read(scratch.state().join("state.ron")).expect("the manifest");
    // A folder in place of the temporary manifest's target makes the commit fail at its very end.
    let blocked = scratch.0.join("blocked");
    fs::create_dir_all(blocked.join("state.ron").join("in the way")).expect("a folder");
    assert!(save(&mut machine, &blocked).is_err());
    assert_eq!(fs::read(scratch.state().join("state.ron")).expect("the manifest"), good);
    assert_eq!(fs::read_dir(&blocked).expect("the folder").count(), 1, "nothing is left behind");
}
