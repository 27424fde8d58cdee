//! Figures of snapshots: how long the guest stands still, how long all of it takes, and how soon a restored machine runs.
//!
//! `cargo run --release -p vm-core --example snapshots -- 64 512 2048`: one line for each amount of memory in MiB. The guest is the firmware
//! that finds nothing to start; its disk is an empty qcow2 image.

use std::time::{Duration, Instant};

use vm_core::config::{DriveConfig, DriveKind, DriveSlot, ImageFormat, MachineConfig};
use vm_core::disk::image;
use vm_core::runner::{Command, Event, RunState, SnapshotEvent, StartOptions, VmHandle, start};
use vm_core::snapshot::tree::{SnapshotTree, words};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    for argument in std::env::args().skip(1) {
        measure(argument.parse()?)?;
    }
    Ok(())
}

fn measure(memory_mib: u32) -> Result<(), Failure> {
    let home = std::env::temp_dir().join(format!("hako-figures-{}-{memory_mib}", std::process::id()));
    std::fs::create_dir_all(&home)?;
    let disk = home.join("disk.qcow2");
    image::create(&disk, Some(8 << 30), ImageFormat::Qcow2, None)?;
    let drive = DriveConfig {
        slot: DriveSlot::Ide(0),
        kind: DriveKind::Disk,
        path: Some(disk),
        format: Some(ImageFormat::Qcow2),
        read_only: false,
        temporary: false,
    };
    let config = MachineConfig { memory_mib, drives: vec![drive], ..MachineConfig::default() };
    let options = |snapshot| StartOptions { home: Some(home.clone()), snapshot, ..StartOptions::default() };

    let machine = start(config.clone(), options(None))?;
    let events = machine.events();
    std::thread::sleep(Duration::from_secs(3));
    let begun = Instant::now();
    machine.call(Command::TakeSnapshot { name: None, note: String::new(), adopt: false, label: None })?;
    let whole = begun.elapsed();
    let pause = events.try_iter().find_map(|event| match event {
        Event::Snapshot(SnapshotEvent::Done { pause, .. }) => pause,
        _ => None,
    });
    let tree = SnapshotTree::read(&home)?;
    let first = tree.snapshots.first().ok_or("no snapshot was taken")?;
    let begun = Instant::now();
    machine.call(Command::RestoreSnapshot { id: first.id, keep: false, label: None })?;
    let back = begun.elapsed();
    off(&machine);

    let begun = Instant::now();
    let machine = start(config, options(Some(first.id)))?;
    while machine.state() == RunState::Starting {
        std::thread::sleep(Duration::from_micros(200));
    }
    let started = begun.elapsed();
    off(&machine);
    println!(
        "{memory_mib} MiB: the guest stands still {:?}; taken in {whole:?}, {}; restored in place in {back:?}; started from it in {started:?}",
        pause.unwrap_or_default(),
        words(first.own_bytes)
    );
    std::fs::remove_dir_all(home)?;
    Ok(())
}

fn off(machine: &VmHandle) {
    machine.send(Command::PowerOff);
    while !matches!(machine.state(), RunState::Ended(_)) {
        std::thread::sleep(Duration::from_millis(2));
    }
}
