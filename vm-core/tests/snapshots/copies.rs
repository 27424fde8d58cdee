//! Snapshots that leave their machine: made into another one, or with it into a file and back.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use vm_core::config::ImageFormat;
use vm_core::disk::convert;
use vm_core::snapshot::archive::{self, Parcel};
use vm_core::snapshot::files::{Fault, Files};
use vm_core::snapshot::keeper::{CloneKind, Keeper};
use vm_core::snapshot::tree::{SnapshotId, SnapshotTree};

use crate::rig::{DISK, Rig, World, take, write};

/// A machine with snapshots of the worlds 1, 2 and 3; its disk is in world 50.
fn filled(name: &str, format: ImageFormat) -> (Rig, Vec<SnapshotId>) {
    let rig = Rig::new(name, format);
    let keeper = rig.open().unwrap();
    let mut medium = rig.medium(&keeper);
    let adopt = format == ImageFormat::Raw;
    let ids =
        (1..4).map(|world| take(&rig, &keeper, &mut *medium, World(world), World(50), adopt).unwrap().id).collect();
    (rig, ids)
}

/// An empty machine's folder.
fn empty(name: &str) -> Rig {
    let home = std::env::temp_dir().join(format!("hako-snapshots-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&home);
    fs::create_dir_all(&home).unwrap();
    Rig { home, disk: PathBuf::from("disk.img") }
}

fn all(_: u64, _: u64) -> bool {
    true
}

#[test]
fn a_clone_is_the_snapshot_and_needs_nothing_of_its_machine() {
    let formats = [ImageFormat::Qcow2, ImageFormat::Raw];
    for (kind, format) in
        [CloneKind::Full, CloneKind::Linked].into_iter().flat_map(|kind| formats.map(|format| (kind, format)))
    {
        let (rig, ids) = filled("clone-of", format);
        for (id, world) in ids.iter().zip(1..) {
            let mut clone = empty("clone");
            let keeper = rig.open().unwrap();
            keeper.clone_to(*id, &clone.home, kind, &mut all).unwrap();
            drop(keeper);
            let cloned = Keeper::cloned(&clone.home).unwrap();
            assert_eq!(cloned.hardware.as_ref().unwrap().memory_mib, 1);
            assert_eq!(cloned.media[0].slot, DISK);
            clone.disk.clone_from(&cloned.media[0].path);
            assert!(kind == CloneKind::Linked || clone.disk == Path::new("hda.qcow2"));
            let keeper = clone.open().unwrap();
            assert_eq!(keeper.tree().next_start, Some(SnapshotId(1)));
            let mut config = clone.config();
            let restored = keeper.restore_off(SnapshotId(1), &mut config).unwrap();
            assert!(restored.state.is_some());
            assert_eq!(keeper.tree().snapshots.len(), 1, "there was nothing to keep");
            assert_eq!(clone.restore(&keeper, SnapshotId(1), false).unwrap().0, World(world));
            write(&mut *clone.medium(&keeper), World(99));
            assert_eq!(clone.restore(&keeper, SnapshotId(1), false).unwrap().0, World(world));
        }
        // And the machine is as it was.
        let keeper = rig.open().unwrap();
        assert_eq!(rig.disk_now(&keeper), World(50));
        assert_eq!(SnapshotTree::read(&rig.home).unwrap().snapshots.len(), 3);
    }
}

/// Bytes of all files below a folder, those with several names once.
fn room(folder: &Path, seen: &mut Vec<(u64, u64)>) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let mut bytes = 0;
    for entry in entries {
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            bytes += room(&entry.path(), seen);
        } else if !seen.contains(&(metadata.dev(), metadata.ino())) {
            seen.push((metadata.dev(), metadata.ino()));
            bytes += metadata.len();
        }
    }
    bytes
}

#[test]
fn linked_machines_take_nothing_from_each_other_whatever_becomes_of_one() {
    for format in [ImageFormat::Qcow2, ImageFormat::Raw] {
        let (rig, ids) = filled("linked-of", format);
        let keeper = rig.open().unwrap();
        let mut clones: Vec<Rig> = Vec::new();
        let before = room(&rig.home, &mut Vec::new());
        for (id, name) in ids.iter().zip(["linked-1", "linked-2", "linked-3"]) {
            let mut clone = empty(name);
            keeper.clone_to(*id, &clone.home, CloneKind::Linked, &mut all).unwrap();
            clone.disk.clone_from(&Keeper::cloned(&clone.home).unwrap().media[0].path);
            clones.push(clone);
        }
        let mut seen = Vec::new();
        let together =
            room(&rig.home, &mut seen) + clones.iter().map(|clone| room(&clone.home, &mut seen)).sum::<u64>();
        assert!(together - before < 100 << 10, "{format:?}: three linked machines take {} bytes", together - before);

        // What others have too would not be free.
        let seen = SnapshotTree::read(&rig.home).unwrap();
        let costs = seen.get(ids[2]).unwrap();
        assert!(costs.own_bytes == 0 && costs.shared_bytes > 0, "{costs:?}");

        // The machine goes on, and loses its snapshots one after the other; everything is merged that can be.
        let mut medium = rig.medium(&keeper);
        take(&rig, &keeper, &mut *medium, World(60), World(61), true).unwrap();
        drop(medium);
        for id in &ids {
            keeper.delete(*id).unwrap();
            keeper.tidy(false, &mut all).unwrap();
            keeper.compress(&mut all).unwrap();
        }
        assert_eq!(rig.disk_now(&keeper), World(61));
        // A clone does the same: takes snapshots, deletes the one that it was made of, tidies up.
        let first = clones[0].open().unwrap();
        let mut config = clones[0].config();
        first.restore_off(SnapshotId(1), &mut config).unwrap();
        let mut medium = clones[0].medium(&first);
        write(&mut *medium, World(70));
        let later = take(&clones[0], &first, &mut *medium, World(70), World(71), false).unwrap().id;
        drop(medium);
        first.delete(SnapshotId(1)).unwrap();
        first.tidy(false, &mut all).unwrap();
        first.compress(&mut all).unwrap();
        drop(first);
        let first = clones[0].open().unwrap();
        assert_eq!(clones[0].disk_now(&first), World(71));
        assert_eq!(clones[0].restore(&first, later, false).unwrap().0, World(70));
        // A clone is moved, and another goes away as a whole; so does the machine.
        let mut moved = empty("linked-moved");
        fs::remove_dir(&moved.home).unwrap();
        fs::rename(&clones[1].home, &moved.home).unwrap();
        moved.disk.clone_from(&clones[1].disk);
        drop(first);
        clones.truncate(1);
        drop(keeper);
        drop(rig);
        let second = moved.open().unwrap();
        assert_eq!(moved.restore(&second, SnapshotId(1), false).unwrap().0, World(2));
        let first = clones[0].open().unwrap();
        assert_eq!(clones[0].restore(&first, later, false).unwrap().0, World(70));
        fs::remove_dir_all(&moved.home).unwrap();
    }
}

#[test]
fn a_clone_that_is_cancelled_or_fails_harms_nobody() {
    let (rig, ids) = filled("clone-fails", ImageFormat::Qcow2);
    let clone = empty("clone-failed");
    let mut calls = 0;
    let mut twice = |_, _| {
        calls += 1;
        calls < 3
    };
    let error = rig.open().unwrap().clone_to(ids[2], &clone.home, CloneKind::Full, &mut twice).unwrap_err();
    assert!(error.to_string().contains("cancelled"), "{error}");
    for kind in [CloneKind::Full, CloneKind::Linked] {
        for step in 0.. {
            let clone = empty("clone-step");
            let files = Files::faulty(step, Fault::Killed);
            let Ok(keeper) = Keeper::open(&rig.home, files.clone()) else { continue };
            let made = keeper.clone_to(ids[1], &clone.home, kind, &mut all);
            assert_eq!(made.is_ok(), !files.is_struck(), "{kind:?}, step {step}");
            drop(keeper);
            let keeper = rig.open().unwrap();
            assert_eq!(rig.disk_now(&keeper), World(50));
            if !files.is_struck() {
                assert!(step > 15, "{kind:?}: {step} steps");
                break;
            }
        }
    }
}

/// Exports the machine; its disk is called this in the archive.
fn export(rig: &Rig, to: &Path, files: &Files) -> Result<PathBuf, String> {
    let keeper = rig.open().map_err(|error| error.to_string())?;
    let mut parcel = Parcel::new(&keeper).map_err(|error| error.to_string())?;
    let disk = parcel.add_image(&rig.disk(), None).map_err(|error| error.to_string())?;
    parcel.write("(machine)", to, files, &mut all).map_err(|error| error.to_string())?;
    Ok(disk)
}

#[test]
fn a_machine_comes_back_from_its_file_with_all_snapshots() {
    let (rig, ids) = filled("export", ImageFormat::Qcow2);
    let outside = empty("export-outside");
    let file = outside.home.join("machine.tar");
    let disk = export(&rig, &file, &Files::default()).unwrap();
    assert!(export(&rig, &file, &Files::default()).unwrap_err().contains("is there already"));
    // Another tar can read it, too.
    let listed = std::process::Command::new("tar").arg("-tf").arg(&file).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.starts_with("hako.ron\nmachine.ron\n") && listed.ends_with("checksums\n"), "{listed}");
    drop(rig);
    let mut there = empty("imported");
    let machine = archive::import(&file, &there.home, &Files::default(), &mut all).unwrap();
    assert_eq!(machine, "(machine)");
    there.disk = disk;
    let keeper = there.open().unwrap();
    assert_eq!(there.disk_now(&keeper), World(50));
    for (id, world) in ids.iter().zip(1..) {
        assert_eq!(there.restore(&keeper, *id, false).unwrap().0, World(world));
    }
    // It lives on: what is taken and deleted there is right.
    there.restore(&keeper, ids[1], false).unwrap();
    let mut medium = there.medium(&keeper);
    let new = take(&there, &keeper, &mut *medium, World(7), World(8), false).unwrap().id;
    drop(medium);
    keeper.delete(ids[0]).unwrap();
    keeper.tidy(false, &mut all).unwrap();
    for (id, world) in [(ids[1], 2), (ids[2], 3), (new, 7)] {
        assert_eq!(there.restore(&keeper, id, false).unwrap().0, World(world));
    }
}

#[test]
fn an_adopted_image_and_one_over_another_come_from_anywhere() {
    let elsewhere = empty("export-elsewhere");
    let mut rig = Rig::new("export-adopts", ImageFormat::Raw);
    let moved = elsewhere.home.join("a disk with a long name, somewhere else.img");
    fs::rename(rig.disk(), &moved).unwrap();
    rig.disk = moved;
    let keeper = rig.open().unwrap();
    let mut medium = rig.medium(&keeper);
    let ids: Vec<_> =
        (1..3).map(|world| take(&rig, &keeper, &mut *medium, World(world), World(50), true).unwrap().id).collect();
    drop(medium);
    drop(keeper);
    let file = elsewhere.home.join("machine.tar");
    let disk = export(&rig, &file, &Files::default()).unwrap();
    assert!(disk.is_relative());
    // Whatever happens to it afterwards.
    fs::write(rig.disk(), "gone").unwrap();
    drop(rig);
    let mut there = empty("imported-adopted");
    archive::import(&file, &there.home, &Files::default(), &mut all).unwrap();
    there.disk = disk;
    let keeper = there.open().unwrap();
    assert_eq!(there.disk_now(&keeper), World(50));
    for (id, world) in ids.iter().zip(1..) {
        assert_eq!(there.restore(&keeper, *id, false).unwrap().0, World(world));
    }
    let present = there.medium(&keeper).path().unwrap().to_owned();
    convert::check(&present, None).unwrap();
}

#[test]
fn each_step_of_an_export_leaves_a_whole_file_or_none() {
    let (filled, _) = filled("export-steps", ImageFormat::Qcow2);
    let outside = empty("export-steps-outside");
    let file = outside.home.join("machine.tar");
    for fault in [Fault::Fails, Fault::Killed] {
        for step in 0.. {
            let _ = fs::remove_file(&file);
            let files = Files::faulty(step, fault);
            let written = export(&filled, &file, &files);
            if file.exists() {
                let there = empty("export-steps-there");
                archive::import(&file, &there.home, &Files::default(), &mut all).unwrap();
            } else {
                assert!(written.is_err(), "{fault:?} at {step}");
            }
            if !files.is_struck() {
                assert!(step > 4 && written.is_ok(), "{step} steps");
                break;
            }
        }
    }
}

#[test]
fn an_archive_is_never_believed() {
    let (rig, _) = filled("hostile", ImageFormat::Qcow2);
    let outside = empty("hostile-outside");
    let file = outside.home.join("machine.tar");
    export(&rig, &file, &Files::default()).unwrap();
    let good = fs::read(&file).unwrap();
    let import = |bytes: &[u8]| {
        let there = empty("hostile-there");
        let path = outside.home.join("bad.tar");
        fs::write(&path, bytes).unwrap();
        let result = archive::import(&path, &there.home, &Files::default(), &mut all);
        // Nothing leaves the folder, and what is there is files and folders only.
        let names: Vec<_> = fs::read_dir(&outside.home).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        result.map_err(|error| error.to_string())
    };
    import(&good).unwrap();
    // Cut off anywhere before the padding at its end, and changed anywhere.
    for at in (0..good.len() - 2048).step_by(good.len() / 40) {
        let error = import(&good[..at]).unwrap_err();
        assert!(error.contains("bad.tar"), "cut at {at}: {error}");
    }
    let mut seed = 0x5eed_u64;
    let mut accepted = 0;
    for round in 0..150 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // The heads of files more often than their bytes, for these are most.
        let at = (seed >> 20) as usize % if round % 2 == 0 { 6000 } else { good.len() };
        let mut bad = good.clone();
        bad[at] ^= 1 << (seed >> 60 & 7);
        match import(&bad) {
            Ok(machine) => {
                // In a name of an owner, a time, or padding: nothing that counts.
                assert_eq!(machine, "(machine)");
                accepted += 1;
            }
            Err(error) => assert!(!error.is_empty()),
        }
    }
    assert!(accepted < 110, "{accepted} of 150 changes made no difference");
    // Made up with care.
    let contents =
        |files: &str, images: &str| format!("(format: 1, hako: \"0\", files: [{files}], images: [{images}])");
    for (files, images, what) in [
        ("(\"../evil\", 4)", "", "leads out"),
        ("(\"/tmp/evil\", 4)", "", "leads out"),
        ("(\"a/../../evil\", 4)", "", "leads out"),
        ("(\"x\", 18446744073709551615), (\"y\", 1)", "", "larger than any disk"),
        ("(\"x\", 1152921504606846976)", "", "left"),
        ("(\"x\", 4), (\"x\", 4)", "", "twice"),
        ("(\"x\", 4)", "(path: \"/etc/passwd\", format: Raw, below: None)", "is not in it"),
        ("(\"x\", 4)", "(path: \"x\", format: Qcow2, below: Some(\"../../etc/passwd\"))", "is not in it"),
    ] {
        let error = import(&archive_of(&[("hako.ron", contents(files, images).as_bytes())])).unwrap_err();
        assert!(error.contains(what), "{files}: {error}");
    }
    let listed = contents("(\"machine.ron\", 4), (\"x\", 4)", "");
    let error = import(&archive_of(&[("hako.ron", listed.as_bytes()), ("machine.ron", b"text"), ("y", b"text")]));
    assert!(error.unwrap_err().contains("does not belong"));
    let error = import(&archive_of(&[("hako.ron", listed.as_bytes()), ("machine.ron", b"text"), ("checksums", b"")]));
    assert!(error.unwrap_err().contains("is missing"));
    // An image that says something else than the list.
    let mut image = Vec::new();
    fs::File::open(rig.home.join(newest_overlay(&rig))).unwrap().read_to_end(&mut image).unwrap();
    let listed = format!("(\"machine.ron\", 4), (\"x\", {})", image.len());
    let listed = contents(&listed, "(path: \"x\", format: Qcow2, below: None)");
    let sums = |bytes: &[u8]| format!("{:032x}", vm_core::snapshot::memory::checksum(bytes));
    let checksums = format!("{}  machine.ron\n{}  x\n", sums(b"text"), sums(&image));
    let bytes = archive_of(&[
        ("hako.ron", listed.as_bytes()),
        ("machine.ron", b"text"),
        ("x", &image),
        ("checksums", checksums.as_bytes()),
    ]);
    let error = import(&bytes).unwrap_err();
    assert!(error.contains("does not belong to it"), "{error}");
    let newer = "(format: 9, hako: \"77.0\", shape: [])";
    assert!(import(&archive_of(&[("hako.ron", newer.as_bytes())])).unwrap_err().contains("77.0"));
    // A link in place of a file.
    let mut header = tar::Header::new_ustar();
    header.set_path("hako.ron").unwrap();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_link_name("/etc/passwd").unwrap();
    header.set_size(0);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(bytes.len() + 1024, 0);
    assert!(import(&bytes).unwrap_err().contains("other than plain files"));
}

fn newest_overlay(rig: &Rig) -> PathBuf {
    rig.open().unwrap().tree().present.disks[0].top.clone()
}

fn archive_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        // Where the library refuses a name, it is put in by hand.
        if header.set_path(name).is_err() {
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        }
        header.set_size(bytes.len() as u64);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        out.append(&header, *bytes).unwrap();
    }
    out.into_inner().unwrap()
}

#[test]
fn cold_packs_are_compressed_and_every_snapshot_stays_right() {
    let (rig, ids) = filled("cold", ImageFormat::Qcow2);
    let keeper = rig.open().unwrap();
    let before: Vec<u64> = SnapshotTree::read(&rig.home).unwrap().snapshots.iter().map(|one| one.own_bytes).collect();
    assert!(keeper.has_cold_packs() && keeper.compress(&mut all).unwrap() && !keeper.has_cold_packs());
    let tree = SnapshotTree::read(&rig.home).unwrap();
    let after: Vec<u64> = tree.snapshots.iter().map(|one| one.own_bytes).collect();
    assert!(after[0] < before[0] && after[1] < before[1] && after[2] == before[2], "{before:?} became {after:?}");
    for (id, world) in ids.iter().zip(1..) {
        assert_eq!(rig.restore(&keeper, *id, false).unwrap().0, World(world));
    }
    // Chunks of compressed packs are shared, moved and counted like others.
    rig.restore(&keeper, ids[0], false).unwrap();
    let mut medium = rig.medium(&keeper);
    let child = take(&rig, &keeper, &mut *medium, World(9), World(10), false).unwrap().id;
    drop(medium);
    keeper.delete(ids[0]).unwrap();
    keeper.tidy(false, &mut all).unwrap();
    for (id, world) in [(ids[1], 2), (ids[2], 3), (child, 9)] {
        assert_eq!(rig.restore(&keeper, id, false).unwrap().0, World(world));
    }
}
