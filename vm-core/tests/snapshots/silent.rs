//! Taking, restoring and deleting, without a processor.

use std::fs;

use vm_core::config::{ImageFormat, MachineConfig};
use vm_core::snapshot::StateError;
use vm_core::snapshot::files::Files;
use vm_core::snapshot::keeper::Keeper;
use vm_core::snapshot::tree::{SnapshotId, SnapshotTree};

use crate::rig::{Rig, World, take, wish, write};

#[test]
fn each_snapshot_comes_back_with_the_disk_of_its_moment() {
    let rig = Rig::new("tree", ImageFormat::Qcow2);
    let keeper = rig.open().unwrap();
    let mut medium = rig.medium(&keeper);
    let mut ids = Vec::new();
    for world in 1..5 {
        ids.push(take(&rig, &keeper, &mut *medium, World(world), World(world + 100), false).unwrap().id);
    }
    drop(medium);
    assert_eq!(rig.disk_now(&keeper), World(104));
    for (id, world) in ids.iter().zip(1..5).rev() {
        assert_eq!(rig.restore(&keeper, *id, false).unwrap().0, World(world));
        // What is written after it changes nothing of it.
        write(&mut *rig.medium(&keeper), World(200));
        assert_eq!(rig.restore(&keeper, *id, false).unwrap().0, World(world));
    }
    // A branch: from the second, one more.
    rig.restore(&keeper, ids[1], false).unwrap();
    let mut medium = rig.medium(&keeper);
    let branch = take(&rig, &keeper, &mut *medium, World(9), World(10), false).unwrap().id;
    drop(medium);
    let tree = SnapshotTree::read(&rig.home).unwrap();
    assert_eq!(tree.get(branch).unwrap().parent, Some(ids[1]));
    assert_eq!((tree.present, tree.snapshots.len()), (Some(branch), 5));
    // RAM that the parent has is not stored again: 10 chunks differ, 2 of video memory.
    let sizes: Vec<u64> = tree.snapshots.iter().map(|one| one.own_bytes >> 10).collect();
    assert!(sizes.iter().all(|size| *size < 1200), "{sizes:?} KiB");
    let comparison = tree.compare(ids[0], ids[1]).unwrap();
    assert_eq!(comparison.memory_bytes, Some(7 << 16));
    assert!(comparison.hardware.is_empty() && comparison.disks[0].1 > 0, "{comparison:?}");
    assert_eq!(tree.compare(ids[0], ids[0]).unwrap().memory_bytes, Some(0));
    assert_eq!(rig.restore(&keeper, ids[3], false).unwrap().0, World(4));
    // Opened anew, and moved.
    drop(keeper);
    let moved = rig.copy("moved");
    drop(rig);
    let keeper = moved.open().unwrap();
    for (id, world) in ids.iter().zip(1..) {
        assert_eq!(moved.restore(&keeper, *id, false).unwrap().0, World(world));
    }
}

#[test]
fn the_present_is_kept_before_it_is_left() {
    let rig = Rig::new("keep", ImageFormat::Qcow2);
    let keeper = rig.open().unwrap();
    let mut medium = rig.medium(&keeper);
    let first = take(&rig, &keeper, &mut *medium, World(1), World(2), false).unwrap().id;
    drop(medium);
    let (world, restored) = rig.restore(&keeper, first, true).unwrap();
    assert_eq!(world, World(1));
    // Killed here, before its memory was written, it is there as it would be after a power cut.
    let copy = rig.copy("keep-killed");
    let mut captured = crate::rig::captured(World(2));
    captured.hardware = vm_core::snapshot::manifest::Hardware::of(&rig.config());
    let kept = restored.kept.unwrap();
    keeper.write(&kept, captured, &mut |_, _| true).unwrap();
    assert_eq!(rig.restore(&keeper, kept.id, false).unwrap().0, World(2));
    assert!(rig.restore(&keeper, kept.id, false).unwrap().1.state.is_some());
    let keeper = copy.open().unwrap();
    let (world, restored) = copy.restore(&keeper, kept.id, false).unwrap();
    assert_eq!((world, restored.state.is_none()), (World(2), true));
}

#[test]
fn a_raw_disk_in_place_is_refused_and_an_adopted_one_is_only_read() {
    let rig = Rig::new("raw", ImageFormat::Raw);
    let keeper = rig.open().unwrap();
    let mut medium = rig.medium(&keeper);
    let error = take(&rig, &keeper, &mut *medium, World(1), World(2), false).unwrap_err();
    assert!(matches!(error, StateError::InPlace(_)) && error.to_string().contains("Save & Close"), "{error}");
    let id = take(&rig, &keeper, &mut *medium, World(1), World(2), true).unwrap().id;
    drop(medium);
    let before = fs::read(rig.disk()).unwrap();
    assert_eq!((before[0], rig.disk_now(&keeper)), (1, World(2)));
    assert_eq!(rig.restore(&keeper, id, false).unwrap().0, World(1));
    write(&mut *rig.medium(&keeper), World(3));
    assert!(fs::read(rig.disk()).unwrap() == before, "the image itself is not written");
    // Another program writes to it.
    let mut bad = before.clone();
    bad[1 << 20] ^= 1;
    fs::write(rig.disk(), &bad).unwrap();
    let error = rig.restore(&keeper, id, false).unwrap_err();
    assert!(matches!(error, StateError::Media(_)) && error.to_string().contains("disk.img"), "{error}");
    let error = keeper.configure(&mut rig.config()).unwrap_err().to_string();
    assert!(error.contains("changed"), "{error}");
    fs::write(rig.disk(), &before).unwrap();
    assert_eq!(rig.restore(&keeper, id, false).unwrap().0, World(1), "the content decides");
}

#[test]
fn other_hardware_and_other_disks_are_refused_with_both_values() {
    let rig = Rig::new("hardware", ImageFormat::Qcow2);
    let keeper = rig.open().unwrap();
    let mut medium = rig.medium(&keeper);
    let id = take(&rig, &keeper, &mut *medium, World(1), World(2), false).unwrap().id;
    drop(medium);
    let tree = keeper.tree();
    let refused = |config: &MachineConfig| {
        let error = keeper.restore(id, config, None, |_| Ok(())).map(drop).unwrap_err();
        assert!(matches!(error, StateError::Hardware(_)), "{error}");
        error.to_string()
    };
    let text = refused(&MachineConfig { memory_mib: 128, ..rig.config() });
    assert!(text.contains("memory: saved 1 MiB, now 128 MiB"), "{text}");
    let mut other = rig.config();
    other.drives[0].path = Some(rig.home.join("another.qcow2"));
    fs::copy(rig.disk(), rig.home.join("another.qcow2")).unwrap();
    let text = refused(&other);
    assert!(text.contains("disk.img") && text.contains("another.qcow2"), "{text}");
    other.drives.clear();
    assert!(refused(&other).contains("drive 1"), "no drive");
    assert_eq!(keeper.tree(), tree, "nothing has changed");
    let error = keeper.restore(SnapshotId(99), &rig.config(), None, |_| Ok(())).map(drop).unwrap_err();
    assert!(error.to_string().contains("99"), "{error}");
}

#[test]
fn one_process_at_a_time_has_the_snapshots() {
    let rig = Rig::new("lock", ImageFormat::Qcow2);
    let keeper = rig.open().unwrap();
    assert!(matches!(rig.open(), Err(StateError::InUse(_))));
    drop(keeper);
    rig.open().unwrap();
}

#[test]
fn deleting_frees_what_nobody_needs_and_nothing_else() {
    let rig = Rig::new("delete", ImageFormat::Qcow2);
    let keeper = rig.open().unwrap();
    let mut medium = rig.medium(&keeper);
    let ids: Vec<_> = (1..6)
        .map(|world| take(&rig, &keeper, &mut *medium, World(world), World(50 + world), false).unwrap().id)
        .collect();
    drop(medium);
    let says = SnapshotTree::read(&rig.home).unwrap().deletion(ids[2]).unwrap();
    assert!(says.frees > 0 && says.text.contains("One snapshot came from it"), "{}", says.text);
    // In any order, and the others stay right after each.
    let mut left: Vec<(SnapshotId, u8)> = ids.iter().copied().zip(1..).collect();
    for gone in [2, 0, 1, 1] {
        let (id, _) = left.remove(gone);
        keeper.delete(id).unwrap();
        keeper.tidy(false, &mut |_, _| true).unwrap();
        assert_eq!(rig.disk_now(&keeper), World(55));
        for (id, world) in &left {
            let here = rig.copy("delete-look");
            let keeper = here.open().unwrap();
            assert_eq!(here.restore(&keeper, *id, false).unwrap().0, World(*world), "after {gone}");
        }
    }
    let disks = fs::read_dir(rig.home.join("disks")).unwrap().count();
    assert!(disks <= 3, "{disks} files of disks are left");
    let packs = fs::read_dir(rig.home.join("snapshots/memory")).unwrap().count();
    assert!(packs <= 2, "{packs} packs are left");
    keeper.delete(left[0].0).unwrap();
    keeper.tidy(false, &mut |_, _| true).unwrap();
    assert_eq!(rig.disk_now(&keeper), World(55));
    assert_eq!(fs::read_dir(rig.home.join("snapshots/memory")).unwrap().count(), 0);
    assert!(!keeper.is_untidy() || keeper.tree().snapshots.is_empty());
}

#[test]
fn a_machine_that_is_off_is_kept_by_its_disks() {
    let rig = Rig::new("off", ImageFormat::Qcow2);
    let keeper = Keeper::open(&rig.home, Files::default()).unwrap();
    write(&mut *rig.medium(&keeper), World(1));
    let id = keeper.take_off(keeper.media_of(&rig.config()).unwrap(), wish("off")).unwrap();
    write(&mut *rig.medium(&keeper), World(2));
    let mut config = rig.config();
    let restored = keeper.restore_off(id, &mut config).unwrap();
    assert!(restored.state.is_none());
    assert_eq!(rig.disk_now(&keeper), World(1));
    // The present had been written to: it was kept.
    let tree = SnapshotTree::read(&rig.home).unwrap();
    assert_eq!(tree.snapshots.len(), 2);
    assert_eq!(rig.restore(&keeper, tree.snapshots[1].id, false).unwrap().0, World(2));
    assert!(!tree.snapshots[1].has_memory);
}

#[test]
fn a_disk_that_is_part_of_a_snapshot_is_never_opened_for_writing() {
    let rig = Rig::new("base", ImageFormat::Qcow2);
    let keeper = rig.open().unwrap();
    let mut medium = rig.medium(&keeper);
    let id = take(&rig, &keeper, &mut *medium, World(1), World(2), false).unwrap().id;
    drop(medium);
    // Put into another drive, and after the list of present disks has forgotten it.
    let slot = vm_core::config::DriveSlot::Ide(1);
    let other = keeper.medium_for(slot, &rig.disk()).unwrap().expect("a file above it");
    assert_ne!(other, rig.disk());
    write(&mut *crate::rig::open(&other), World(3));
    assert_eq!(rig.restore(&keeper, id, false).unwrap().0, World(1));
}

/// All that a restore reads, without writing anything: what the machine would see, or why it is refused.
fn read_all(rig: &Rig) -> Result<Vec<World>, String> {
    use vm_core::bus::ram::transfer::{CHUNK, ChunkSource as _};
    use vm_core::snapshot::keeper;
    use vm_core::snapshot::memory::Chunks;
    use vm_core::snapshot::tree::{TreeFile, packs_folder, snapshot_folder};
    let tree = TreeFile::read(&rig.home).map_err(|error| error.to_string())?;
    let mut worlds = Vec::new();
    for record in &tree.snapshots {
        let state = keeper::state(&rig.home, record).map_err(|error| error.to_string())?.expect("it has memory");
        let index = keeper::index(&rig.home, record).map_err(|error| error.to_string())?;
        let origin = snapshot_folder(&rig.home, record.id).join("index.bin");
        let chunks = Chunks::open(index, &origin, &packs_folder(&rig.home))
            .map_err(|(path, error)| format!("{}: {error}", path.display()))?;
        let world = World(u8::try_from(state.guest_time).expect("a world"));
        let expected = crate::rig::memory(world);
        let mut bytes = vec![0; CHUNK as usize];
        for (number, expected) in expected.chunks(CHUNK as usize).enumerate() {
            if chunks.is_zero(number) {
                bytes.fill(0);
            } else {
                chunks.fill(number, &mut bytes)?;
            }
            assert!(bytes == expected, "another guest: chunk {number} of {world:?}");
        }
        let beyond = chunks.beyond_ram()?;
        assert!(beyond == vec![world.0; beyond.len()], "another guest: video memory");
        worlds.push(world);
    }
    Ok(worlds)
}

#[test]
fn a_changed_file_is_refused_by_name_and_never_another_guest() {
    let rig = Rig::new("mutations", ImageFormat::Qcow2);
    let keeper = rig.open().unwrap();
    let mut medium = rig.medium(&keeper);
    let ids: Vec<_> =
        (1..3).map(|world| take(&rig, &keeper, &mut *medium, World(world), World(50), false).unwrap().id).collect();
    drop(medium);
    // One of the packs is cold.
    keeper.compress(&mut |_, _| true).unwrap();
    drop(keeper);
    let all = read_all(&rig).unwrap();
    assert_eq!(all, [World(1), World(2)]);
    let snapshots = rig.home.join("snapshots");
    let mut files = vec![snapshots.join("tree.ron")];
    for (id, end) in ids.iter().zip(["zst", "bin"]) {
        let folder = snapshots.join(id.to_string());
        let pack = snapshots.join(format!("memory/{id}.{end}"));
        files.extend([folder.join("state.ron"), folder.join("index.bin"), pack]);
    }
    let good: Vec<Vec<u8>> = files.iter().map(|path| fs::read(path).unwrap()).collect();
    let times = if std::env::var_os("HAKO_LONG").is_some() { 100_000 } else { 3_000 };
    let mut seed = 0x5eed_0004_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 11) as usize % below.max(1)
    };
    let mut refused = 0;
    for round in 0..times {
        let which = random(files.len());
        let mut bad = good[which].clone();
        let (at, other, count) = (random(bad.len()), random(bad.len()), 1 + random(64));
        match random(7) {
            0 => bad[at] ^= 1 << random(8),
            1 => bad.truncate(at),
            2 => bad.extend(vec![at as u8; count]),
            3 => bad.swap(at, other),
            4 => drop(bad.drain(at..(at + count).min(good[which].len()))),
            5 => {
                let end = (at + count).min(bad.len());
                bad[at..end].fill(random(256) as u8);
            }
            // A part of another file, or of another snapshot's.
            _ => {
                let from = &good[random(files.len())];
                let part = &from[other.min(from.len())..(other + count).min(from.len())];
                bad.splice(at..(at + part.len()).min(good[which].len()), part.iter().copied());
            }
        }
        let name = files[which].file_name().unwrap().to_string_lossy().into_owned();
        fs::write(&files[which], &bad).unwrap();
        match read_all(&rig) {
            Err(text) => {
                refused += 1;
                assert!(text.contains(&name), "round {round}: {name} was changed: {text}");
            }
            Ok(worlds) => assert_eq!(worlds, all, "round {round}: {name}"),
        }
        fs::write(&files[which], &good[which]).unwrap();
    }
    assert!(refused > times / 2, "{refused} of {times}: most changes matter");
    assert_eq!(read_all(&rig).unwrap(), all);
}

#[test]
fn a_snapshot_of_a_newer_version_is_refused_by_its_version() {
    use vm_core::snapshot::tree::{text_checksum, tree_path};
    let rig = Rig::new("newer", ImageFormat::Qcow2);
    let keeper = rig.open().unwrap();
    let mut medium = rig.medium(&keeper);
    take(&rig, &keeper, &mut *medium, World(1), World(2), false).unwrap();
    drop(medium);
    drop(keeper);
    let text = fs::read_to_string(tree_path(&rig.home)).unwrap();
    let (body, _) = text.split_at(text.rfind("// checksum").unwrap());
    let body = body.replacen("format: 1", "format: 99", 1).replacen(env!("CARGO_PKG_VERSION"), "77.0", 1);
    fs::write(tree_path(&rig.home), format!("{body}// checksum {}\n", text_checksum(&body))).unwrap();
    let error = rig.open().map(drop).unwrap_err().to_string();
    assert!(error.contains("77.0") && error.contains("tree.ron"), "{error}");
}
