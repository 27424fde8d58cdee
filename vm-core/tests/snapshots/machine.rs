//! A guest that compares its memory with its disk, and snapshots of it while it runs.

use std::fs;
use std::path::PathBuf;
use std::process::Command as Process;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use vm_core::bus::signals::Signals;
use vm_core::config::{DriveConfig, DriveKind, DriveSlot, ImageFormat, MachineConfig};
use vm_core::disk::convert;
use vm_core::runner::event::EndReason;
use vm_core::runner::{Command, Event, Reply, RunState, SnapshotEvent, StartOptions, VmHandle, start};
use vm_core::snapshot::tree::{SnapshotId, SnapshotTree};

struct Guest {
    home: PathBuf,
    memory_mib: u32,
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.home);
    }
}

impl Guest {
    fn new(name: &str, memory_mib: u32) -> Self {
        let home = std::env::temp_dir().join(format!("hako-counter-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&home);
        fs::create_dir_all(&home).expect("a folder");
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/counter.asm");
        let raw = home.join("counter.img");
        let status = Process::new("nasm").args(["-f", "bin", "-o"]).arg(&raw).arg(source).status();
        assert!(status.expect("the package nasm is installed").success());
        fs::File::options().write(true).open(&raw).and_then(|file| file.set_len(4 << 20)).expect("a disk");
        convert::convert(&raw, Some(ImageFormat::Raw), &home.join("disk.qcow2"), ImageFormat::Qcow2, &mut |_, _| {})
            .expect("a disk");
        Self { home, memory_mib }
    }

    fn config(&self) -> MachineConfig {
        let drive = DriveConfig {
            slot: DriveSlot::Ide(0),
            kind: DriveKind::Disk,
            path: Some(self.home.join("disk.qcow2")),
            format: None,
            read_only: false,
            temporary: false,
        };
        MachineConfig {
            memory_mib: self.memory_mib,
            drives: vec![drive],
            boot: "c".to_owned(),
            debug_exit: Some((0xf4, 1)),
            ..MachineConfig::default()
        }
    }

    fn start(&self, snapshot: Option<SnapshotId>) -> Running {
        let options = StartOptions {
            signals: Arc::new(Signals::new()),
            home: Some(self.home.clone()),
            snapshot,
            ..StartOptions::default()
        };
        let machine = start(self.config(), options).expect("a thread");
        Running { events: machine.events(), machine }
    }
}

struct Running {
    machine: VmHandle,
    events: Receiver<Event>,
}

impl Running {
    fn monitor(&self, line: &str) -> String {
        match self.machine.call(Command::Monitor(line.to_owned())) {
            Ok(Reply::Text(text)) => text,
            Ok(Reply::Done) => String::new(),
            other => panic!("{line}: {other:?}, the machine is {:?}", self.machine.state()),
        }
    }

    fn count(&self) -> u32 {
        let text = self.monitor("xp/1xw 0x600");
        let word = text.trim().rsplit(' ').next().and_then(|word| word.strip_prefix("0x")).expect("a word");
        u32::from_str_radix(word, 16).expect("a number")
    }

    /// Waits until the guest has counted on by `steps`.
    fn wait(&self, steps: u32) -> u32 {
        let until = Instant::now() + Duration::from_mins(3);
        let start = self.count();
        loop {
            let now = self.count();
            if now >= start + steps && now < 1 << 30 {
                return now;
            }
            assert!(Instant::now() < until, "the guest stands still at {now}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn take(&self, name: &str) -> Duration {
        let take =
            Command::TakeSnapshot { name: Some(name.to_owned()), note: String::new(), adopt: false, label: None };
        self.machine.call(take).unwrap_or_else(|error| panic!("{name}: {error}"));
        self.done()
    }

    fn done(&self) -> Duration {
        loop {
            match self.events.recv_timeout(Duration::from_mins(1)).expect("an event") {
                Event::Snapshot(SnapshotEvent::Done { pause, .. }) => return pause.unwrap_or_default(),
                Event::Snapshot(SnapshotEvent::Failed { text, .. }) => panic!("{text}"),
                _ => {}
            }
        }
    }

    fn restore(&self, id: SnapshotId) {
        self.machine.call(Command::RestoreSnapshot { id, keep: true, label: None }).expect("restored");
        self.done();
    }

    fn off(self) {
        self.machine.send(Command::PowerOff);
        self.ended(&EndReason::PowerOff);
    }

    fn ended(&self, expected: &EndReason) {
        let until = Instant::now() + Duration::from_mins(1);
        loop {
            if let RunState::Ended(reason) = self.machine.state() {
                assert_eq!(reason, *expected);
                return;
            }
            assert!(Instant::now() < until, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn a_running_guest_never_sees_memory_and_disk_of_two_moments() {
    let guest = Guest::new("moments", 8);
    let running = guest.start(None);
    running.wait(20);
    let mut counts = Vec::new();
    for round in 0..6 {
        let before = running.count();
        running.take(&format!("round {round}"));
        counts.push(before..=running.count());
        running.wait(15);
    }
    let tree = SnapshotTree::read(&guest.home).unwrap();
    let ids: Vec<_> = tree.snapshots.iter().map(|snapshot| snapshot.id).collect();
    assert!(tree.snapshots.iter().all(|snapshot| snapshot.has_memory && snapshot.picture.is_some()), "{tree:?}");
    // Back and forth, each time writing on.
    for round in [5, 0, 3, 3, 1] {
        running.machine.send(Command::Pause);
        running.restore(ids[round]);
        assert!(counts[round].contains(&running.count()), "{} is not of {:?}", running.count(), counts[round]);
        running.machine.send(Command::Resume);
        running.wait(10);
    }
    // One taken of a restored machine, and the present that was kept four times.
    running.take("branch");
    let branch = running.count();
    assert_eq!(SnapshotTree::read(&guest.home).unwrap().snapshots.len(), 6 + 5 + 1);
    running.monitor("delvm round 2");
    running.done();
    running.wait(5);
    running.off();
    // Started again: the present is a cold start; the snapshot goes on where it was.
    let last = SnapshotTree::read(&guest.home).unwrap().find("branch").unwrap().id;
    let running = guest.start(Some(last));
    assert!(running.count() <= branch + 1000 && running.count() > 0);
    running.wait(10);
    let text = running.monitor("info snapshots");
    assert!(text.contains("branch") && text.contains("← now") && !text.contains("round 2"), "{text}");
    running.off();
}

#[test]
fn the_monitor_saves_and_loads_by_name() {
    let guest = Guest::new("monitor", 8);
    let running = guest.start(None);
    running.wait(10);
    running.monitor("stop");
    running.monitor("savevm before lunch");
    let then = running.count();
    running.monitor("cont");
    running.wait(20);
    running.monitor("stop");
    running.monitor("loadvm before lunch");
    assert_eq!(running.count(), then);
    running.monitor("cont");
    running.wait(10);
    let error = running.machine.call(Command::Monitor("loadvm after lunch".to_owned())).unwrap_err().to_string();
    assert!(error.contains("after lunch"), "{error}");
    running.monitor("delvm before lunch");
    running.wait(10);
    running.off();
}

#[test]
fn damaged_memory_stops_the_machine_before_it_goes_wrong() {
    let guest = Guest::new("damage", 8);
    let running = guest.start(None);
    running.wait(10);
    running.take("one");
    running.off();
    let pack = guest.home.join("snapshots/memory/1.bin");
    let bytes = fs::read(&pack).unwrap();
    // Every byte of guest RAM that is not zero lies there; one bit of each chunk turns.
    let mut bad = bytes.clone();
    bad.iter_mut().step_by(1 << 16).for_each(|byte| *byte ^= 1);
    fs::write(&pack, &bad).unwrap();
    let id = SnapshotTree::read(&guest.home).unwrap().snapshots[0].id;
    let running = guest.start(Some(id));
    let until = Instant::now() + Duration::from_mins(1);
    loop {
        match running.machine.state() {
            RunState::Stopped(reason) => {
                let text = format!("{reason:?}");
                assert!(text.contains("1.bin") && text.contains("Damaged"), "{text}");
                running.machine.send(Command::Resume);
                running.machine.send(Command::Reset);
                let _ = running.machine.call(Command::Query);
                assert!(matches!(running.machine.state(), RunState::Stopped(_)), "it does not go on");
                running.off();
                break;
            }
            // Video memory is looked at before the start.
            RunState::Ended(EndReason::Failed(text)) => {
                assert!(text.contains("1.bin"), "{text}");
                break;
            }
            _ => assert!(Instant::now() < until, "it runs on"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // Cut off: found before anything starts.
    fs::write(&pack, &bytes[..bytes.len() / 2]).unwrap();
    let running = guest.start(Some(id));
    let until = Instant::now() + Duration::from_mins(1);
    while !matches!(running.machine.state(), RunState::Ended(EndReason::Failed(_))) {
        assert!(Instant::now() < until, "{:?}", running.machine.state());
        std::thread::sleep(Duration::from_millis(5));
    }
    // The disk is untouched by all this.
    fs::write(&pack, &bytes).unwrap();
    let running = guest.start(Some(id));
    running.wait(10);
    running.off();
}

#[test]
fn automatic_snapshots_are_taken_while_it_runs() {
    let guest = Guest::new("checkpoints", 8);
    let running = guest.start(None);
    running.wait(5);
    running.machine.call(Command::SetCheckpoints(Some(Duration::ZERO))).unwrap();
    running.done();
    running.machine.call(Command::SetCheckpoints(None)).unwrap();
    let tree = SnapshotTree::read(&guest.home).unwrap();
    assert_eq!(tree.snapshots[0].kind, vm_core::snapshot::tree::SnapshotKind::Checkpoint);
    running.restore(tree.snapshots[0].id);
    running.wait(10);
    running.off();
}
