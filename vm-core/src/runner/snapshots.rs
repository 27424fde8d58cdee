//! Snapshots of a running machine: one job at a time, on a thread of its own; only the switch is on the machine's.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::command::{CommandError, Reply};
use super::event::{Event, RunState, SnapshotAction, SnapshotEvent};
use super::worker::Worker;
use crate::bus::Bus as _;
use crate::bus::signals::Signals;
use crate::config::{DriveSlot, MachineConfig};
use crate::machine::run::Machine;
use crate::snapshot::files::Files;
use crate::snapshot::keeper::{Captured, Keeper, MediumNow, Prepared, Wish};
use crate::snapshot::manifest::Hardware;
use crate::snapshot::tree::{SnapshotId, SnapshotKind, SnapshotTree};
use crate::snapshot::{self, StateError, thin};

/// Whoever waits for the end of a job.
type Asker = Sender<Result<Reply, CommandError>>;

/// What the machine's thread has to do with snapshots.
pub(super) struct Snapshots {
    /// The machine's folder.
    home: Option<PathBuf>,
    keeper: Option<Arc<Keeper>>,
    /// The images that a person chose, where other files are used in their place.
    configured: Vec<(DriveSlot, Option<PathBuf>)>,
    job: Option<Job>,
    /// What is to be done after the job at hand.
    waiting: VecDeque<Work>,
    numbers: u32,
    /// The job that the command at hand has started: its answer comes when that ends.
    started: Option<u32>,
    checkpoints: Option<Duration>,
    next_checkpoint: Instant,
}

/// Something to do.
struct Work {
    number: u32,
    label: Option<String>,
    askers: Vec<Asker>,
    task: SnapshotTask,
}

/// What a job's thread says.
enum Step {
    /// Overlays are ready: switch to them.
    Switch(Vec<(DriveSlot, PathBuf)>),
    Progress(u64, u64),
    Done(Result<Option<SnapshotId>, String>),
}

struct Job {
    number: u32,
    label: Option<String>,
    askers: Vec<Asker>,
    steps: Receiver<Step>,
    captured: Sender<Result<Captured, String>>,
    pause: Option<Duration>,
    thread: Option<JoinHandle<()>>,
}

/// The end of a job's thread that speaks.
#[derive(Clone)]
struct Teller {
    steps: Sender<Step>,
    signals: Arc<Signals>,
}

impl Teller {
    fn say(&self, step: Step) {
        // The machine may have gone.
        let _ = self.steps.send(step);
        self.signals.raise();
    }

    fn progress(&self) -> impl FnMut(u64, u64) + use<> {
        let teller = self.clone();
        let mut told = Instant::now();
        move |done, all| {
            if told.elapsed() > Duration::from_millis(50) || done == all {
                told = Instant::now();
                teller.say(Step::Progress(done, all));
            }
        }
    }
}

/// What `Worker` starts with.
pub(super) struct Opened {
    pub snapshots: Snapshots,
    /// The machine goes on from here.
    pub restored: Option<snapshot::keeper::Restored>,
}

impl Snapshots {
    /// Finds the snapshots of a machine that is about to start, and changes its drives to what they hold now, or in the snapshot that it is
    /// to start from.
    pub fn open(
        home: Option<PathBuf>,
        from: Option<SnapshotId>,
        checkpoints: Option<Duration>,
        config: &mut MachineConfig,
    ) -> Result<Opened, StateError> {
        let configured = config.drives.iter().map(|drive| (drive.slot, drive.path.clone())).collect();
        let mut snapshots = Self {
            home,
            keeper: None,
            configured,
            job: None,
            waiting: VecDeque::new(),
            numbers: 0,
            started: None,
            checkpoints,
            next_checkpoint: Instant::now() + checkpoints.unwrap_or_default(),
        };
        let Some(home) = snapshots.home.clone() else { return Ok(Opened { snapshots, restored: None }) };
        if !Keeper::is_there(&home) {
            return match from {
                Some(id) => Err(StateError::NoSnapshot(id.to_string())),
                None => Ok(Opened { snapshots, restored: None }),
            };
        }
        let keeper = Keeper::open(&home, Files::default())?;
        let wanted = from.or(keeper.tree().next_start);
        let restored = match wanted {
            None => {
                keeper.configure(config)?;
                None
            }
            Some(id) => Some(keeper.restore_off(id, config)?),
        };
        snapshots.keeper = Some(Arc::new(keeper));
        Ok(Opened { snapshots, restored })
    }

    /// What a person should know from the start.
    pub fn notice(&self) -> Option<&str> {
        self.keeper.as_ref()?.notice()
    }

    fn keeper(&mut self) -> Result<Arc<Keeper>, StateError> {
        if let Some(keeper) = &self.keeper {
            return Ok(Arc::clone(keeper));
        }
        let home = self.home.as_ref().ok_or_else(|| {
            StateError::Refused(
                "this machine has no folder for snapshots: start it from the library, or with a name".to_owned(),
            )
        })?;
        let keeper = Arc::new(Keeper::open(home, Files::default())?);
        self.keeper = Some(Arc::clone(&keeper));
        Ok(keeper)
    }

    /// The image to open where a person puts `path` into a drive.
    pub fn medium_for(&self, slot: DriveSlot, path: &Path) -> Result<PathBuf, String> {
        let Some(keeper) = &self.keeper else { return Ok(path.to_owned()) };
        let other = keeper.medium_for(slot, path).map_err(|error| error.to_string())?;
        Ok(other.unwrap_or_else(|| path.to_owned()))
    }

    /// A person has put another medium into a drive.
    pub fn changed(&mut self, slot: DriveSlot, path: Option<PathBuf>) {
        self.configured.retain(|(at, _)| *at != slot);
        self.configured.push((slot, path));
    }

    /// The job that the command at hand has started, if it has.
    pub fn take_started(&mut self) -> Option<u32> {
        self.started.take()
    }

    /// Lets `asker` wait for the end of a job.
    pub fn answer_later(&mut self, number: u32, asker: Asker) {
        if let Some(job) = self.job.as_mut().filter(|job| job.number == number) {
            job.askers.push(asker);
        } else if let Some(work) = self.waiting.iter_mut().find(|work| work.number == number) {
            work.askers.push(asker);
        } else {
            let _ = asker.send(Ok(Reply::Done));
        }
    }

    /// Gives a snapshot another name or note.
    pub fn describe(&mut self, id: SnapshotId, name: Option<&str>, note: Option<&str>) -> Result<(), String> {
        self.keeper().and_then(|keeper| keeper.describe(id, name, note)).map_err(|error| error.to_string())
    }

    pub fn is_busy(&self) -> bool {
        self.job.is_some() || !self.waiting.is_empty()
    }

    pub fn tree(&self) -> Result<SnapshotTree, StateError> {
        self.home.as_deref().map_or_else(|| Ok(SnapshotTree::default()), SnapshotTree::read)
    }

    fn spawn(
        &mut self,
        work: Work,
        signals: Arc<Signals>,
        run: impl FnOnce(&Teller, &Receiver<Result<Captured, String>>) -> Result<Option<SnapshotId>, String>
        + Send
        + 'static,
    ) -> Result<(), String> {
        let (steps, incoming) = unbounded();
        let (captured, receiver) = bounded(1);
        let teller = Teller { steps, signals };
        let thread = std::thread::Builder::new().name("snapshot".to_owned()).spawn(move || {
            let result = run(&teller, &receiver);
            teller.say(Step::Done(result));
        });
        let thread = thread.map_err(|error| format!("the host gives no thread for the snapshot: {error}"))?;
        self.job = Some(Job {
            number: work.number,
            label: work.label,
            askers: work.askers,
            steps: incoming,
            captured,
            pause: None,
            thread: Some(thread),
        });
        Ok(())
    }
}

/// Puts what was restored into a machine: memory, then processor and devices.
pub(super) fn load_restored(
    machine: &mut Machine,
    state: Option<snapshot::keeper::RestoredState>,
    fresh: bool,
) -> Result<(), String> {
    let Some(state) = state else {
        machine.reset();
        return Ok(());
    };
    let ram = machine.parts().1.shared_ram();
    ram.load_from(state.chunks, fresh).map_err(|error| format!("the host gives no thread to load memory: {error}"))?;
    machine.clock().set(state.guest_time);
    machine.load_sections(&state.sections).map_err(|error| error.to_string())?;
    machine.parts().0.tlb.flush();
    machine.release_keys();
    Ok(())
}

impl Worker {
    /// Queues something to do with snapshots; it may begin at once.
    pub(super) fn snapshot_work(&mut self, task: SnapshotTask, label: Option<String>) -> Result<(), String> {
        let number = self.snapshots.numbers + 1;
        self.snapshots.numbers = number;
        let work = Work { number, label, askers: Vec::new(), task };
        if self.snapshots.is_busy() {
            self.snapshots.waiting.push_back(work);
        } else {
            self.begin(work)?;
        }
        self.snapshots.started = Some(number);
        Ok(())
    }

    fn begin(&mut self, work: Work) -> Result<(), String> {
        let action = match &work.task {
            SnapshotTask::Take(_) => SnapshotAction::Take,
            SnapshotTask::Restore { .. } => SnapshotAction::Restore,
            SnapshotTask::Delete(_) => SnapshotAction::Delete,
        };
        let (number, label) = (work.number, work.label.clone());
        self.tell(SnapshotEvent::Started { job: number, label: label.clone(), action });
        let begun = self.try_begin(work);
        if let Err(text) = &begun {
            self.tell(SnapshotEvent::Failed { job: number, label, text: text.clone() });
        }
        begun
    }

    fn tell(&self, event: SnapshotEvent) {
        self.shared.publish(&Event::Snapshot(event));
    }

    fn try_begin(&mut self, work: Work) -> Result<(), String> {
        let keeper = self.snapshots.keeper().map_err(|error| error.to_string())?;
        let signals = self.signals();
        match &work.task {
            SnapshotTask::Take(wish) => {
                if self.machine.parts().1.ram().has_failed() {
                    return Err(
                        "a part of the guest's memory could not be loaded, so there is nothing to keep".to_owned()
                    );
                }
                let wish = wish.clone();
                let media = self.media_now();
                // Most of what is to be synced is, before the guest stands still.
                let synced = self.machine.parts().1.sync_media();
                self.snapshots.spawn(work, signals, move |teller, captured| {
                    for media in synced {
                        // What cannot be synced now fails at the switch, in words.
                        let _ = media.recv();
                    }
                    let prepared = keeper.prepare(media, wish).map_err(|error| error.to_string())?;
                    teller.say(Step::Switch(prepared.overlays.clone()));
                    let captured = captured.recv().unwrap_or_else(|_| Err("the machine has ended".to_owned()));
                    let captured = captured.inspect_err(|_| drop(keeper.give_up(&prepared)))?;
                    let written = keeper.write(&prepared, captured, &mut teller.progress());
                    written.map(|()| Some(prepared.id)).map_err(|error| error.to_string())
                })
            }
            SnapshotTask::Restore { id, keep } => {
                let (id, keep) = (*id, *keep);
                let kept = self.restore_now(&keeper, id, keep)?;
                let Some((prepared, captured)) = kept else {
                    self.finish(work.number, work.label, work.askers, None, Ok(Some(id)));
                    return Ok(());
                };
                self.snapshots.spawn(work, signals, move |teller, _| {
                    let written = keeper.write(&prepared, captured, &mut teller.progress());
                    written.map(|()| Some(id)).map_err(|error| {
                        format!(
                            "The snapshot was restored. What was before it could be kept only as disks, without memory: {error}"
                        )
                    })
                })
            }
            SnapshotTask::Delete(ids) => {
                let ids = ids.clone();
                for id in &ids {
                    keeper.delete(*id).map_err(|error| error.to_string())?;
                }
                self.snapshots.spawn(work, signals, move |teller, _| {
                    let mut tell = teller.progress();
                    let tidied = keeper.tidy(true, &mut |done, all| {
                        tell(done, all);
                        true
                    });
                    tidied.map(|_| None).map_err(|error| error.to_string())
                })
            }
        }
    }

    fn signals(&self) -> Arc<Signals> {
        Arc::clone(&self.shared.signals)
    }

    fn media_now(&mut self) -> Vec<MediumNow> {
        let configured = self.snapshots.configured.clone();
        let (_, board) = self.machine.parts();
        let chosen = |slot| configured.iter().find(|(at, _)| *at == slot).and_then(|(_, path)| path.clone());
        let medium = |(slot, kind, info): (DriveSlot, _, &crate::machine::board::MediumInfo)| MediumNow {
            slot,
            kind,
            configured: chosen(slot).unwrap_or_else(|| info.path.clone()),
            path: info.path.clone(),
            format: info.format,
            read_only: info.read_only,
            temporary: info.temporary,
        };
        board.media().map(medium).collect()
    }

    /// The machine's hardware, with the images that a person chose.
    fn chosen_config(&self) -> MachineConfig {
        let mut config = self.machine.config().clone();
        for drive in &mut config.drives {
            if let Some((_, path)) = self.snapshots.configured.iter().find(|(slot, _)| *slot == drive.slot) {
                drive.path.clone_from(path);
            }
        }
        config
    }

    /// Looks after the job at hand. Called between slices.
    pub(super) fn attend_snapshots(&mut self) {
        while let Some(job) = &mut self.snapshots.job {
            let Ok(step) = job.steps.try_recv() else { break };
            match step {
                Step::Progress(done, all) => {
                    let (job, label) = (job.number, job.label.clone());
                    self.tell(SnapshotEvent::Progress { job, label, done, all });
                }
                Step::Switch(overlays) => {
                    let begun = Instant::now();
                    let was_running = self.running;
                    if was_running {
                        self.machine.pause();
                    }
                    let captured = self.switch(&overlays);
                    if was_running {
                        self.machine.resume();
                    }
                    if let Some(job) = &mut self.snapshots.job {
                        job.pause = Some(begun.elapsed());
                        let _ = job.captured.send(captured);
                    }
                }
                Step::Done(result) => {
                    let Some(mut job) = self.snapshots.job.take() else { break };
                    if let Some(thread) = job.thread.take() {
                        let _ = thread.join();
                    }
                    self.finish(job.number, job.label, job.askers, job.pause, result);
                    self.next_work();
                }
            }
        }
        self.checkpoint();
    }

    fn next_work(&mut self) {
        while self.snapshots.job.is_none()
            && let Some(mut work) = self.snapshots.waiting.pop_front()
        {
            let askers = std::mem::take(&mut work.askers);
            let number = work.number;
            match self.begin(work) {
                Ok(()) => {
                    for asker in askers {
                        self.snapshots.answer_later(number, asker);
                    }
                }
                Err(text) => {
                    for asker in askers {
                        let _ = asker.send(Err(CommandError::Refused(text.clone())));
                    }
                }
            }
        }
    }

    fn finish(
        &mut self,
        job: u32,
        label: Option<String>,
        askers: Vec<Asker>,
        pause: Option<Duration>,
        result: Result<Option<SnapshotId>, String>,
    ) {
        let answer = result.as_ref().map(|_| Reply::Done).map_err(|text| CommandError::Refused(text.clone()));
        self.tell(match result {
            Ok(id) => SnapshotEvent::Done { job, label, id, pause },
            Err(text) => SnapshotEvent::Failed { job, label, text },
        });
        for asker in askers {
            let _ = asker.send(answer.clone());
        }
    }

    /// Switches the media to their overlays and captures everything else at the same instant. The machine stands still.
    fn switch(&mut self, overlays: &[(DriveSlot, PathBuf)]) -> Result<Captured, String> {
        snapshot::drain(&mut self.machine).map_err(|error| error.to_string())?;
        for (slot, overlay) in overlays {
            let frozen = self.machine.parts().1.freeze_medium(*slot, overlay);
            frozen.map_err(|error| {
                format!("The snapshot was not taken, and the machine goes on as before: {slot}: {error}")
            })?;
        }
        self.capture()
    }

    fn capture(&mut self) -> Result<Captured, String> {
        let picture = self.shared.frame.latest();
        let ram = self.machine.parts().1.shared_ram();
        let capture = ram.capture().ok_or("a snapshot is being taken already")?;
        self.machine.parts().0.tlb.flush();
        Ok(Captured {
            ram: capture,
            ram_len: ram.len(),
            sections: self.machine.sections(),
            guest_time: self.machine.clock().now(),
            hardware: Hardware::of(self.machine.config()),
            picture,
        })
    }

    /// Goes to a snapshot. On an error the machine is as it was.
    fn restore_now(
        &mut self,
        keeper: &Keeper,
        id: SnapshotId,
        keep: bool,
    ) -> Result<Option<(Prepared, Captured)>, String> {
        let was = self.run_state();
        self.pause_machine();
        let result = self.replace_by(keeper, id, keep);
        let go_on = match (&result, was) {
            (Ok(_), RunState::Stopped(_)) => {
                self.shared.publish_state(RunState::Paused);
                true
            }
            (_, RunState::Running) => true,
            _ => false,
        };
        if go_on {
            self.resume_machine();
        }
        result
    }

    fn replace_by(
        &mut self,
        keeper: &Keeper,
        id: SnapshotId,
        keep: bool,
    ) -> Result<Option<(Prepared, Captured)>, String> {
        let keep = keep && !self.machine.parts().1.ram().has_failed();
        let now = keep.then(|| self.media_now());
        snapshot::drain(&mut self.machine).map_err(|error| error.to_string())?;
        for synced in self.machine.parts().1.sync_media() {
            if let Ok(Err(error)) = synced.recv() {
                return Err(format!("a disk of the host failed ({error}), so nothing was restored"));
            }
        }
        let config = self.chosen_config();
        let captured = if keep { Some(self.capture()?) } else { None };
        let board = &mut *self.machine.parts().1;
        let restored = keeper.restore(id, &config, now, |media| {
            let open = |medium: &snapshot::keeper::RestoredMedium| {
                board.open_for(medium.slot, &medium.path, Some(medium.format), medium.read_only)
            };
            media.iter().map(open).collect::<Result<Vec<_>, _>>().map_err(StateError::Disk)
        });
        let (restored, media) = restored.map_err(|error| error.to_string())?;
        for (slot, _) in &media {
            let read_only = restored.media.iter().find(|medium| medium.slot == *slot && medium.read_only);
            if let Some(medium) = read_only {
                self.snapshots.changed(*slot, Some(medium.path.clone()));
            }
        }
        self.machine.parts().1.replace_media(media);
        if let Err(text) = load_restored(&mut self.machine, restored.state, false) {
            // Neither the old machine nor the new one.
            self.end = Some(super::event::EndReason::Failed(format!(
                "The snapshot “{}” could not be put into the machine: {text}. Its disks are whole; the machine before it is in the snapshots.",
                restored.name
            )));
        }
        if let Some(folder) = self.resumed_from.take() {
            // That state belongs to disks that are not the present any more.
            if let Err(error) = snapshot::discard(&folder) {
                tracing::warn!("the used state in {} could not be removed: {error}", folder.display());
            }
        }
        self.show_frame();
        Ok(restored.kept.zip(captured))
    }

    /// Lets all jobs end; for the end of the machine. The guest stands still.
    pub(super) fn finish_snapshots(&mut self) {
        self.snapshots.checkpoints = None;
        while self.snapshots.is_busy() {
            self.attend_snapshots();
            if self.snapshots.is_busy() {
                self.machine.signals().wait(Duration::from_millis(20));
                self.machine.signals().take_raised();
            }
        }
    }

    /// Takes a checkpoint when it is time, and drops old ones.
    fn checkpoint(&mut self) {
        let Some(interval) = self.snapshots.checkpoints else { return };
        if Instant::now() < self.snapshots.next_checkpoint || !self.running || self.snapshots.is_busy() {
            return;
        }
        self.snapshots.next_checkpoint = Instant::now() + interval;
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let wish = Wish {
            name: Some("Checkpoint".to_owned()),
            note: String::new(),
            kind: SnapshotKind::Checkpoint,
            adopt: false,
        };
        let taken = self.snapshot_work(SnapshotTask::Take(wish), None);
        let dropped = self.snapshots.tree().map_err(|error| error.to_string()).and_then(|tree| {
            let gone = thin::superfluous(&tree.snapshots, seconds);
            if gone.is_empty() { Ok(()) } else { self.snapshot_work(SnapshotTask::Delete(gone), None) }
        });
        self.snapshots.started = None;
        if let Err(text) = taken.and(dropped) {
            self.shared.publish(&Event::Notice(format!("No automatic snapshot was taken: {text}")));
        }
    }

    /// Sets how often an automatic snapshot is taken.
    pub(super) fn set_checkpoints(&mut self, interval: Option<Duration>) {
        self.snapshots.checkpoints = interval.map(|interval| interval.max(Duration::from_secs(10)));
        self.snapshots.next_checkpoint = Instant::now() + interval.unwrap_or_default();
    }
}

/// What to do with snapshots, from the outside.
pub(super) enum SnapshotTask {
    Take(Wish),
    Restore { id: SnapshotId, keep: bool },
    Delete(Vec<SnapshotId>),
}
