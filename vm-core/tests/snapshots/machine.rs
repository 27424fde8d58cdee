//! A guest that compares its memory with its disk, and snapshots of it while it runs.

use std::fs;
use std::io::Write as _;
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
use vm_core::snapshot::exists;
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

    fn state(&self) -> PathBuf {
        self.home.join("state")
    }

    fn start(&self, snapshot: Option<SnapshotId>) -> Running {
        let options = StartOptions {
            signals: Arc::new(Signals::new()),
            home: Some(self.home.clone()),
            resume_from: exists(&self.state()).then(|| self.state()),
            state: Some(self.state()),
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
fn a_machine_that_sleeps_is_kept_with_its_memory_before_it_goes_to_a_snapshot() {
    let guest = Guest::new("sleeps", 8);
    let snapshots = || SnapshotTree::read(&guest.home).unwrap().snapshots;
    let sleep = |running: Running| {
        running.machine.send(Command::SaveAndClose(None));
        running.ended(&EndReason::Saved(guest.state()));
    };
    let running = guest.start(None);
    running.wait(20);
    running.take("early");
    let early = snapshots()[0].id;
    let late = running.wait(400);
    sleep(running);
    let running = guest.start(Some(early));
    running.wait(5);
    assert!(running.count() < late, "it is not at the snapshot");
    // The kept one is written behind the guest.
    let until = Instant::now() + Duration::from_mins(1);
    while snapshots().len() < 2 {
        assert!(Instant::now() < until, "nothing was kept");
        std::thread::sleep(Duration::from_millis(5));
    }
    let kept = snapshots()[1].clone();
    assert!(kept.has_memory, "{kept:?}");
    running.restore(kept.id);
    assert!(running.count() >= late, "{} is before {late}", running.count());
    running.wait(5);
    sleep(running);

    // One whose disk is another by now cannot be woken. Its disks are kept, its state stays nobody's.
    let overlays = fs::read_dir(guest.home.join("disks")).unwrap().map(|entry| entry.unwrap().path());
    let top = overlays.max_by_key(|path| path.metadata().unwrap().modified().unwrap()).unwrap();
    fs::OpenOptions::new().append(true).open(&top).unwrap().write_all(&vec![0; 65536]).unwrap();
    let count = snapshots().len();
    let running = guest.start(Some(early));
    running.wait(5);
    assert!(running.count() < late, "it is not at the snapshot");
    assert_eq!(snapshots().len(), count + 1);
    assert!(!snapshots().last().unwrap().has_memory);
    running.off();
}

#[test]
fn a_machine_that_has_no_place_to_sleep_says_so_and_goes_on() {
    let guest = Guest::new("nowhere", 8);
    let machine = start(guest.config(), StartOptions { home: Some(guest.home.clone()), ..StartOptions::default() });
    let machine = machine.expect("a thread");
    let running = Running { events: machine.events(), machine };
    running.wait(5);
    running.machine.send(Command::SaveAndClose(None));
    let told = |event| match event {
        Event::SaveFailed(text) => Some(text),
        Event::Notice(text) => panic!("told as something without a next step: {text}"),
        _ => None,
    };
    let until = Instant::now() + Duration::from_mins(1);
    let text = std::iter::from_fn(|| running.events.recv_deadline(until).ok()).find_map(told).expect("told");
    assert!(text.contains("no place"), "{text}");
    assert_eq!(running.machine.state(), RunState::Paused);
    running.machine.send(Command::Resume);
    running.wait(5);
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

/// Seconds of the day and guest time of a snapshot, as they stand in its state.
fn time_of(guest: &Guest, name: &str) -> (u32, u64) {
    use vm_core::snapshot::keeper;
    use vm_core::snapshot::tree::TreeFile;
    let tree = TreeFile::read(&guest.home).expect("a tree");
    let record = tree.snapshots.iter().find(|record| record.name == name).expect("it was taken");
    let state = keeper::state(&guest.home, record).expect("a state").expect("it has memory");
    let rtc = state.devices.iter().find(|device| device.kind == "rtc").expect("a clock").state.get_ron().to_owned();
    let at = rtc.find("cmos:").expect("its memory") + 5;
    let digits = rtc[at..].trim_start().trim_start_matches('"');
    let register = |number: usize| digits[number * 2..][..2].parse::<u32>().expect("binary coded decimal");
    (register(4) * 3600 + register(2) * 60 + register(0), state.guest_time)
}

#[test]
fn after_a_restore_the_clock_follows_the_host_or_keeps_the_saved_time() {
    for keep in [false, true] {
        let guest = Guest::new(if keep { "time-kept" } else { "time" }, 8);
        let config = MachineConfig { keep_saved_time: keep, ..guest.config() };
        let options = StartOptions { home: Some(guest.home.clone()), ..StartOptions::default() };
        let machine = start(config, options).expect("a thread");
        let running = Running { events: machine.events(), machine };
        running.wait(10);
        running.monitor("stop");
        running.take("then");
        std::thread::sleep(Duration::from_millis(2100));
        running.monitor("loadvm then");
        running.take("now");
        let (then, now) = (time_of(&guest, "then"), time_of(&guest, "now"));
        // To the guest no time has passed: its monotonic clocks go on without a jump.
        assert_eq!(now.1, then.1);
        let passed = (now.0 + 86_400 - then.0) % 86_400;
        assert!(if keep { passed == 0 } else { (2..60).contains(&passed) }, "{passed} seconds, keep: {keep}");
        running.monitor("cont");
        running.wait(10);
        running.off();
    }
}

#[test]
fn a_snapshot_can_be_cancelled_while_it_is_written() {
    let guest = Guest::new("cancel", 256);
    let running = guest.start(None);
    running.wait(5);
    assert!(running.machine.call(Command::CancelSnapshot { label: None }).is_err(), "there is nothing to cancel");
    // One under way, and one behind it.
    for label in ["one", "two"] {
        let (name, label) = (Some(label.to_owned()), Some(label.to_owned()));
        running.machine.send(Command::TakeSnapshot { name, note: String::new(), adopt: false, label });
    }
    let cancel = |label: &str| running.machine.call(Command::CancelSnapshot { label: Some(label.to_owned()) });
    cancel("two").expect("it waits");
    cancel("one").expect("it is under way");
    let mut failed = Vec::new();
    while failed.len() < 2 {
        match running.events.recv_timeout(Duration::from_mins(1)).expect("an event") {
            Event::Snapshot(SnapshotEvent::Failed { label, text, .. }) => {
                assert!(text.contains("cancelled"), "{text}");
                failed.extend(label);
            }
            Event::Snapshot(SnapshotEvent::Done { label, .. }) => panic!("{label:?} was taken"),
            _ => {}
        }
    }
    assert_eq!(failed, ["two", "one"]);
    // Nothing of it is left, and the next one works.
    running.wait(10);
    running.take("three");
    let tree = SnapshotTree::read(&guest.home).unwrap();
    assert_eq!(tree.snapshots.len(), 1);
    assert_eq!(fs::read_dir(guest.home.join("snapshots/memory")).unwrap().count(), 1);
    running.restore(tree.snapshots[0].id);
    running.wait(10);
    running.off();
}
