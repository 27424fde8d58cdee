//! `kill -9` of a running machine at any moment of a snapshot, a restore, a deletion, or Save & Close: nothing is lost.
//!
//! The guest compares memory with disk before it counts on, and ends the process where they are of two moments.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use vm_core::bus::ram::transfer::{CHUNK, ChunkSource as _};
use vm_core::bus::signals::Signals;
use vm_core::config::{DriveConfig, DriveKind, DriveSlot, ImageFormat, MachineConfig};
use vm_core::disk::{self, Access, Operation, convert};
use vm_core::snapshot::files::Files;
use vm_core::snapshot::keeper::{self, Keeper};
use vm_core::snapshot::memory::Chunks;
use vm_core::snapshot::tree::{SavedMedium, SnapshotRecord, TreeFile, packs_folder, snapshot_folder};

use crate::files::{Folder, long, tool};
use crate::guest::{Guest, HAKO, PATIENCE, word};

/// What is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Take,
    Restore(u32),
    Delete(u32),
    SaveAndClose,
}

const KINDS: [&str; 4] = ["take", "restore", "delete", "Save & Close"];

impl Action {
    /// Its place in [`KINDS`].
    fn kind(self) -> usize {
        match self {
            Action::Take => 0,
            Action::Restore(_) => 1,
            Action::Delete(_) => 2,
            Action::SaveAndClose => 3,
        }
    }
}

/// How many kills of a kind of action came when.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    before: u32,
    inside: u32,
    after: u32,
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit.max(1)
    }
}

struct Victim {
    guest: Guest,
    disk: PathBuf,
    home: PathBuf,
}

/// Where the guest writes its count last ([`counter.asm`](../../vm-core/tests/snapshots/counter.asm)).
const HEAD: u64 = 15;

fn head(path: &Path, format: ImageFormat) -> u32 {
    let access = Access { format: Some(format), read_only: true, temporary: false };
    let mut medium = disk::open(path, access, DriveKind::Disk, &Arc::new(Signals::new()))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    medium.submit(1, Operation::Read { sector: HEAD, buffer: vec![0; 512] });
    loop {
        if let Some(done) = medium.poll() {
            done.result.unwrap();
            let Operation::Read { buffer, .. } = done.operation else { panic!("another operation") };
            return u32::from_le_bytes(buffer[..4].try_into().unwrap());
        }
        std::thread::yield_now();
    }
}

/// A raw disk of 4 MiB with the guest that counts.
pub fn counter(folder: &Folder) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("vm-core/tests/snapshots/counter.asm");
    let raw = folder.join("counter.img");
    tool("nasm", &["-f", "bin", "-o", word(&raw), word(&source)]);
    tool("truncate", &["-s", "4M", word(&raw)]);
    raw
}

/// How far that guest has counted.
pub fn count(guest: &mut Guest) -> u32 {
    let said = guest.monitor("xp/1xw 0x600");
    let word = said.trim().rsplit(' ').next().and_then(|word| word.strip_prefix("0x"));
    word.and_then(|word| u32::from_str_radix(word, 16).ok()).unwrap_or_else(|| panic!("a word: {said}"))
}

/// Waits until it has compared memory and disk some times. Gives its count.
pub fn works(guest: &mut Guest) -> u32 {
    let until = Instant::now() + PATIENCE;
    let first = count(guest);
    loop {
        let now = count(guest);
        // Before its first sector runs, anything may stand there.
        if now > first + 2 && now < 1 << 24 {
            return now;
        }
        assert!(Instant::now() < until, "the guest stands still at {now}: {}", guest.errors());
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Victim {
    fn new(name: &str) -> (Self, Vec<String>) {
        let folder = Folder::new(name);
        let (raw, disk) = (counter(&folder), folder.join("disk.qcow2"));
        convert::convert(&raw, Some(ImageFormat::Raw), &disk, ImageFormat::Qcow2, &mut |_, _| {}).unwrap();
        let home = folder.join("states/victim");
        let drive = format!("file={},format=qcow2,if=ide,index=0", disk.display());
        let arguments = ["-name", "victim", "-m", "8", "-nodefaults", "-boot", "c", "-drive", &drive]
            .into_iter()
            .chain(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x1"])
            .map(str::to_owned)
            .collect::<Vec<_>>();
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        (Self { guest: Guest::start_in(folder, &words), disk, home }, arguments)
    }

    fn works(&mut self) {
        works(&mut self.guest);
    }

    fn state(&self) -> PathBuf {
        self.home.join("state")
    }

    /// Whether the present comes from this snapshot. Without it, it comes from one before, from which it may have been started from power-on:
    /// then it has counted anew.
    fn comes_from(&self, id: u32) -> bool {
        TreeFile::read(&self.home).unwrap().present.parent.is_some_and(|parent| parent.0 == id)
    }

    /// A file of memories is there, finished or not.
    fn was_saving(&self) -> bool {
        let files = std::fs::read_dir(self.state()).into_iter().flatten().flatten();
        files.into_iter().any(|file| file.file_name().to_string_lossy().starts_with("memory-"))
    }

    fn send(&mut self, action: Action, round: u32) {
        let job = format!("job {round} {action:?}");
        let (name, arguments) = match action {
            Action::Take => ("snapshot-save", json!({ "job-id": job, "tag": format!("s{round}") })),
            Action::Restore(id) => ("snapshot-load", json!({ "job-id": job, "tag": id.to_string() })),
            Action::Delete(id) => ("snapshot-delete", json!({ "job-id": job, "tag": id.to_string() })),
            Action::SaveAndClose => ("x-save-and-close", json!({ "folder": self.state() })),
        };
        self.guest.qmp().send(name, &arguments).unwrap();
    }

    /// Waits for the end of what was sent.
    fn done(&mut self, action: Action) {
        if action == Action::SaveAndClose {
            assert_eq!(self.guest.ended(), 0, "{}", self.guest.errors());
            return;
        }
        while self.guest.qmp().event("JOB_STATUS_CHANGE", PATIENCE)["data"]["status"] != "concluded" {}
        let jobs = self.guest.command("query-jobs", json!({}));
        assert!(jobs[0].get("error").is_none(), "{jobs}");
    }

    /// What a start would find; every snapshot is of one moment. Gives the ids, and whether the start has something to tell.
    fn look(&self, resumed: bool, what: &str) -> (BTreeSet<u32>, bool) {
        if !Keeper::is_there(&self.home) {
            return (BTreeSet::new(), false);
        }
        let keeper = Keeper::open(&self.home, Files::default()).unwrap_or_else(|error| panic!("{what}: {error}"));
        let tree = keeper.tree();
        assert_eq!(tree.taking, None);
        for record in &tree.snapshots {
            let (SavedMedium::Frozen { top, .. }, Some(_)) = (&record.media[0].1, &record.memory) else { continue };
            let count = self.check_memory(&tree, record, top, what);
            // The machine had gone on from there: its disk is not older.
            if resumed && tree.present.parent == Some(record.id) {
                let drive = DriveConfig {
                    slot: DriveSlot::Ide(0),
                    kind: DriveKind::Disk,
                    path: Some(self.disk.clone()),
                    format: Some(ImageFormat::Qcow2),
                    read_only: false,
                    temporary: false,
                };
                let mut config = MachineConfig { drives: vec![drive], ..MachineConfig::default() };
                keeper.configure(&mut config).unwrap_or_else(|error| panic!("{what}: {error}"));
                let now = head(config.drives[0].path.as_ref().unwrap(), ImageFormat::Qcow2);
                assert!(now + 1 >= count, "{what}: the present is at {now}, and comes from {count}");
            }
        }
        (tree.snapshots.iter().map(|record| record.id.0).collect(), keeper.notice().is_some())
    }

    /// Memory and disk of a snapshot are of one moment. Gives its count.
    fn check_memory(&self, tree: &TreeFile, record: &SnapshotRecord, top: &Path, what: &str) -> u32 {
        let what = format!("{what}, snapshot {} “{}”", record.id, record.name);
        let fail = |error: &dyn std::fmt::Display| -> ! { panic!("{what}: {error}") };
        keeper::state(&self.home, record).unwrap_or_else(|error| fail(&error));
        let index = keeper::index(&self.home, record).unwrap_or_else(|error| fail(&error));
        let origin = snapshot_folder(&self.home, record.id).join("index.bin");
        let chunks = Chunks::open(index, &origin, &packs_folder(&self.home)).unwrap_or_else(|(_, error)| fail(&error));
        let mut bytes = vec![0; CHUNK as usize];
        let mut word = |at: usize| {
            chunks.fill(at / bytes.len(), &mut bytes).unwrap_or_else(|error| fail(&error));
            let at = at % bytes.len();
            u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
        };
        let count = word(0x600);
        // It writes them one after the other.
        let near = |value: u32| value == count || value + 1 == count;
        for segment in (0x1000..0x9000).step_by(0x1000) {
            let there = word(segment * 16 + 0x10);
            assert!(near(there), "{what}: memory has {count} and {there}");
        }
        let format = tree.files.iter().find(|file| file.path == top).map_or(ImageFormat::Qcow2, |file| file.format);
        let disk = head(&self.home.join(top), format);
        assert!(near(disk), "{what}: memory has {count}, the disk {disk}");
        count
    }
}

/// Kills the process `rounds` times, and on until a quarter of `rounds` kills came in the middle of an action, at most
/// four times as often.
fn kill_again_and_again(name: &str, rounds: u32) {
    let (mut victim, arguments) = Victim::new(name);
    let mut random = Random(0x5eed_0009);
    let mut ids: BTreeSet<u32> = BTreeSet::new();
    let (mut new_sets, mut old_sets, mut told) = (0, 0, 0);
    let mut moments = [Moments::default(); 4];
    // How long each action takes here, as far as it has been seen; moments of kills are chosen within.
    let mut spans = [None; 4];
    let mut resumed = false;
    let mut round = 0;
    let inside = |moments: &[Moments]| moments.iter().map(|moment| moment.inside).sum::<u32>();
    while round < rounds || inside(&moments) * 4 < rounds && round < rounds * 4 {
        victim.works();
        let any = |ids: &BTreeSet<u32>, random: &mut Random| {
            ids.iter().copied().nth(random.below(ids.len() as u64) as usize).unwrap_or_default()
        };
        // Each start keeps what was there before.
        while ids.len() > 7 {
            let id = any(&ids, &mut random);
            resumed &= !victim.comes_from(id);
            victim.send(Action::Delete(id), round);
            victim.done(Action::Delete(id));
            ids.remove(&id);
        }
        let action = match random.below(10) {
            _ if ids.len() < 2 => Action::Take,
            0..3 => Action::Take,
            3..5 => Action::Restore(any(&ids, &mut random)),
            5..8 => Action::Delete(any(&ids, &mut random)),
            _ => Action::SaveAndClose,
        };
        if let Action::Delete(id) = action {
            resumed &= !victim.comes_from(id);
        }
        let kind = action.kind();
        let what = format!("round {round}, {action:?}");
        // One of each kind is seen to its end first, and some later: how long they take changes.
        let whole = spans[kind].is_none() || random.below(12) == 0;
        let begun = Instant::now();
        victim.send(action, round);
        if whole {
            victim.done(action);
            let took = begun.elapsed();
            spans[kind] = Some(spans[kind].map_or(took, |span: Duration| (span * 3 + took) / 4));
        } else {
            let span = spans[kind].map_or(0, |span| span.as_micros() as u64);
            std::thread::sleep(Duration::from_micros(random.below(span + span / 8)));
        }
        let waited = begun.elapsed();
        let events = victim.guest.kill();
        let had = |name: &str, status: &str| {
            events
                .iter()
                .any(|event| event["event"] == name && (status.is_empty() || event["data"]["status"] == status))
        };
        let saved = vm_core::snapshot::exists(&victim.state());
        let moment = &mut moments[kind];
        if whole || saved || had("JOB_STATUS_CHANGE", "concluded") {
            moment.after += 1;
            if !whole {
                // It takes less than was thought.
                spans[kind] = spans[kind].map(|span| span.min(waited));
            }
        } else if had("JOB_STATUS_CHANGE", "running") || action == Action::SaveAndClose && victim.was_saving() {
            moment.inside += 1;
        } else {
            moment.before += 1;
            spans[kind] = spans[kind].map(|span| span + waited);
        }

        let (now, tells) = victim.look(resumed, &what);
        told += u32::from(tells);
        let is_new = match action {
            Action::Take | Action::Restore(_) => {
                assert!(now.is_superset(&ids) && now.len() <= ids.len() + 1, "{what}: {ids:?} became {now:?}");
                now.len() > ids.len()
            }
            Action::Delete(id) => {
                let without: BTreeSet<u32> = ids.iter().copied().filter(|other| *other != id).collect();
                assert!(now == ids || now == without, "{what}: {ids:?} became {now:?}");
                now == without
            }
            Action::SaveAndClose => {
                assert_eq!(now, ids, "{what}");
                saved
            }
        };
        assert!(is_new || !whole, "{what}: it had said that it was done");
        if is_new {
            new_sets += 1;
        } else {
            old_sets += 1;
        }
        ids = now;

        // The next start: the state that it sleeps in, or one of the snapshots, or the present from power-on.
        let mut line: Vec<String> = arguments.clone();
        // A saved present that had begun at power-on, and so counted anew, still does so.
        resumed &= saved;
        if saved {
            line.extend(["-loadvm".to_owned(), word(&victim.state()).to_owned()]);
        } else if random.below(12) != 0 && !ids.is_empty() {
            let id = any(&ids, &mut random);
            line.extend(["-loadvm".to_owned(), id.to_string()]);
            let tree = TreeFile::read(&victim.home).unwrap();
            resumed = tree.snapshots.iter().any(|record| record.id.0 == id && record.memory.is_some());
        }
        let words: Vec<&str> = line.iter().map(String::as_str).collect();
        victim.guest.launch(&words);
        victim.works();
        if saved {
            // It goes on from there, so that state has been used.
            vm_core::snapshot::discard(&victim.state()).unwrap();
        }
        // The start may have kept what was there before.
        let tree = TreeFile::read(&victim.home).unwrap();
        let now: BTreeSet<u32> = tree.snapshots.iter().map(|record| record.id.0).collect();
        assert!(now.is_superset(&ids) && now.len() <= ids.len() + 1, "{what}, started: {ids:?} became {now:?}");
        ids = now;
        round += 1;
    }
    println!(
        "{round} kills: {new_sets} times the new set was there, {old_sets} times the old one; {told} starts told of it"
    );
    for (kind, Moments { before, inside, after }) in KINDS.into_iter().zip(moments) {
        println!(
            "{kind}: {before} kills before it had begun, {inside} inside, {after} when it had said that it was done"
        );
    }
    assert!(inside(&moments) * 4 >= rounds, "too few kills came in the middle of anything: {moments:?}");
    victim.guest.quit();
}

#[test]
fn a_kill_at_any_moment_leaves_the_old_set_or_the_new_one() {
    kill_again_and_again("kills", if long() { 1000 } else { 12 });
}

#[test]
fn a_saved_state_outlives_what_is_merged_before_it_and_deleted_after_it() {
    let (mut victim, arguments) = Victim::new("merged");
    for round in 0..4 {
        victim.works();
        victim.send(Action::Take, round);
        victim.done(Action::Take);
    }
    let tree = TreeFile::read(&victim.home).unwrap();
    let ids: Vec<u32> = tree.snapshots.iter().map(|record| record.id.0).collect();
    // The files of the third are merged while they lie below the running machine.
    victim.send(Action::Delete(ids[2]), 4);
    victim.done(Action::Delete(ids[2]));
    victim.works();
    let before = count(&mut victim.guest);
    victim.send(Action::SaveAndClose, 5);
    victim.done(Action::SaveAndClose);
    // Those of the second could be now; the state knows them.
    tool(HAKO, &["snapshot", "delete", word(&victim.home), &ids[1].to_string()]);
    let mut line = arguments;
    line.extend(["-loadvm".to_owned(), word(&victim.state()).to_owned()]);
    let words: Vec<&str> = line.iter().map(String::as_str).collect();
    victim.guest.launch(&words);
    assert!(count(&mut victim.guest) >= before);
    victim.works();
    victim.guest.quit();
    assert_eq!(victim.look(false, "the end").0.len(), 2);
}
