//! Every step of taking, restoring and deleting fails once, and is the last one once: the old set or the new set is there, whole.

use vm_core::config::ImageFormat;
use vm_core::snapshot::files::{Fault, Files};
use vm_core::snapshot::keeper::Keeper;
use vm_core::snapshot::tree::SnapshotId;

use crate::rig::{Rig, World, take};

/// A machine with snapshots of the worlds 1 to `count`; its disk is in world 100.
fn filled(name: &str, count: u8) -> (Rig, Vec<SnapshotId>) {
    let rig = Rig::new(name, ImageFormat::Qcow2);
    let keeper = rig.open().expect("a new folder");
    let mut medium = rig.medium(&keeper);
    let ids =
        (1..=count).map(|world| take(&rig, &keeper, &mut *medium, World(world), World(100), false).expect("taken").id);
    let ids = ids.collect();
    (rig, ids)
}

/// All snapshots of the tree are right, and so is the disk, which is in one of `worlds`. Gives the worlds of the snapshots.
fn look(rig: &Rig, worlds: &[World], what: &str) -> Vec<(SnapshotId, World)> {
    let keeper = rig.open().unwrap_or_else(|error| panic!("{what}: {error}"));
    let now = rig.disk_now(&keeper);
    assert!(worlds.contains(&now), "{what}: the disk is in {now:?}");
    let tree = keeper.tree();
    assert_eq!(tree.taking, None);
    tree.snapshots
        .iter()
        .map(|record| {
            let restored = rig.restore(&keeper, record.id, false);
            (record.id, restored.unwrap_or_else(|error| panic!("{what}: snapshot {}: {error}", record.id)).0)
        })
        .collect()
}

/// Does `action` with a fault at each of its steps; `check` looks at what is left.
fn each_step(name: &str, filled: &Rig, action: &dyn Fn(&Rig, &Keeper), check: &dyn Fn(&Rig, &str)) {
    for fault in [Fault::Fails, Fault::Killed] {
        let mut step = 0;
        loop {
            let rig = filled.copy(name);
            let files = Files::faulty(step, fault);
            if let Ok(keeper) = Keeper::open(&rig.home, files.clone()) {
                action(&rig, &keeper);
            }
            check(&rig, &format!("{fault:?} at step {step}"));
            if !files.is_struck() {
                break;
            }
            step += 1;
            assert!(step < 1000, "it does not end");
        }
        assert!(step > 5, "{step} steps were tried");
    }
}

#[test]
fn a_snapshot_that_is_not_finished_takes_nothing_with_it() {
    let (filled, ids) = filled("crash-take", 2);
    each_step(
        "step-take",
        &filled,
        &|rig, keeper| {
            let mut medium = rig.medium(keeper);
            let taken = take(rig, keeper, &mut *medium, World(3), World(4), false);
            // Whatever came of it, the machine goes on, on a disk of one moment.
            let now = crate::rig::world_of(&mut *medium);
            assert!(now == World(4) || now == World(3), "{now:?}");
            if taken.is_err() {
                crate::rig::write(&mut *medium, World(4));
            }
        },
        &|rig, what| {
            let found = look(rig, &[World(4), World(100)], what);
            assert_eq!(found[..2], [(ids[0], World(1)), (ids[1], World(2))], "{what}");
            assert!(found[2..].iter().all(|(_, world)| *world == World(3)), "{what}: {found:?}");
        },
    );
}

#[test]
fn a_restore_that_is_not_finished_takes_nothing_with_it() {
    let (filled, ids) = filled("crash-restore", 2);
    each_step(
        "step-restore",
        &filled,
        &|rig, keeper| {
            let Ok((_, restored)) = rig.restore(keeper, ids[0], true) else { return };
            let mut captured = crate::rig::captured(World(100));
            captured.hardware = vm_core::snapshot::manifest::Hardware::of(&rig.config());
            // It may fail; then the disks are kept without memory.
            let _ = keeper.write(&restored.kept.expect("it was asked for"), captured, &mut |_, _| true);
        },
        &|rig, what| {
            let keeper = rig.open().unwrap_or_else(|error| panic!("{what}: {error}"));
            let now = rig.disk_now(&keeper);
            drop(keeper);
            let found = look(rig, &[World(100), World(1)], what);
            assert_eq!(found[..2], [(ids[0], World(1)), (ids[1], World(2))], "{what}");
            assert!(found[2..].iter().all(|(_, world)| *world == World(100)), "{what}: {found:?}");
            // The present before it is either the present still, or kept.
            assert!(now == World(100) || found.len() == 3, "{what}: the present is lost");
        },
    );
}

#[test]
fn a_deletion_that_is_not_finished_is_taken_up_again() {
    let (filled, ids) = filled("crash-delete", 4);
    each_step(
        "step-delete",
        &filled,
        &|rig, keeper| {
            assert_eq!(rig.disk_now(keeper), World(100));
            if keeper.delete(ids[1]).is_ok() {
                let _ = keeper.tidy(false, &mut |_, _| true);
            }
        },
        &|rig, what| {
            for round in 0..2 {
                let found = look(rig, &[World(100), World(4)], what);
                let all = [(ids[0], World(1)), (ids[1], World(2)), (ids[2], World(3)), (ids[3], World(4))];
                let left = [all[0], all[2], all[3]];
                assert!(found == all || found == left, "{what}, round {round}: {found:?}");
                let keeper = rig.open().unwrap();
                keeper.tidy(false, &mut |_, _| true).unwrap_or_else(|error| panic!("{what}: {error}"));
            }
        },
    );
}

#[test]
fn a_merge_that_is_not_finished_loses_nothing_when_its_neighbours_are_merged_next() {
    let (filled, ids) = filled("crash-neighbours", 5);
    let kept = [(ids[0], World(1)), (ids[3], World(4)), (ids[4], World(5))];
    let orders = [(2, 1), (1, 2)];
    let orders = if std::env::var_os("HAKO_LONG").is_some() { &orders[..] } else { &orders[..1] };
    // The file that a merge has put in place lies over another than the tree says, until the last commit.
    for &(first, then) in orders {
        let delete = |keeper: &Keeper, number: usize| {
            let gone = keeper.tree().snapshot(ids[number]).is_none() || keeper.delete(ids[number]).is_ok();
            gone && keeper.tidy(false, &mut |_, _| true).is_ok()
        };
        each_step(
            "step-neighbours",
            &filled,
            &|_, keeper| {
                delete(keeper, first);
                delete(keeper, then);
            },
            &|rig, what| {
                let what = format!("{first} before {then}, {what}");
                for number in [then, first] {
                    let keeper = rig.open().unwrap_or_else(|error| panic!("{what}: {error}"));
                    assert!(delete(&keeper, number), "{what}");
                }
                assert_eq!(look(rig, &[World(100)], &what), kept, "{what}");
                let left = std::fs::read_dir(rig.home.join("disks")).expect("a folder").flatten();
                let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
                assert!(left.iter().all(|name| !name.to_string_lossy().contains(".merging")), "{what}: {left:?}");
            },
        );
    }
}

#[test]
fn snapshots_given_up_one_after_the_other_leave_the_disk_whole() {
    let (rig, ids) = filled("crash-again", 3);
    for round in 0..5 {
        let keeper = rig.open().expect("a keeper");
        let mut medium = rig.medium(&keeper);
        let media = keeper.media_of(&rig.config()).expect("the media");
        let prepared = keeper.prepare(media, crate::rig::wish("never")).expect("prepared");
        // In one round it is given up before the machine has switched: that goes on writing where it did.
        if round != 2 {
            medium.freeze(&prepared.overlays[0].1).expect("a switch");
        }
        crate::rig::write(&mut *medium, World(200 + round));
        if round % 2 == 0 {
            keeper.give_up(&prepared).expect("given up");
        }
        if round == 2 {
            // What is merged meanwhile is nothing that it writes to.
            keeper.delete(ids[1]).expect("deleted");
            keeper.tidy(true, &mut |_, _| true).expect("tidy");
            crate::rig::write(&mut *medium, World(100));
            crate::rig::write(&mut *medium, World(200 + round));
        }
        drop(medium);
        // In the other rounds the process was killed here.
        drop(keeper);
        let left = look(&rig.copy("crash-again-look"), &[World(200 + round)], &format!("round {round}")).len();
        assert_eq!(left, if round < 2 { 3 } else { 2 });
    }
    let keeper = rig.open().expect("a keeper");
    keeper.delete(ids[0]).expect("deleted");
    keeper.tidy(false, &mut |_, _| true).expect("tidy");
    assert_eq!(rig.disk_now(&keeper), World(204));
    assert_eq!(rig.restore(&keeper, ids[2], false).expect("restored").0, World(3));
}
