//! Snapshots of a running machine: one job at a time, on a thread of its own; only the switch is on the machine's.

mod switch;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::command::{CommandError, Reply};
use super::event::{Event, SnapshotAction, SnapshotEvent};
use super::worker::Worker;
use crate::bus::Bus as _;
use crate::bus::signals::Signals;
use crate::config::{DriveSlot, MachineConfig};
use crate::snapshot::files::Files;
use crate::snapshot::keeper::{Captured, CloneKind, Keeper, Wish};
use crate::snapshot::tree::{SnapshotId, SnapshotKind, SnapshotTree};
use crate::snapshot::{self, StateError, thin};

pub(super) use switch::load_restored;

/// How long after the last job the machine tidies up behind snapshots.
const TEND_AFTER: Duration = Duration::from_secs(20);

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
    /// When to look for what is left to tidy and for cold packs.
    tend_at: Option<Instant>,
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
    /// [`SnapshotTask::Tend`].
    is_quiet: bool,
    /// The person does not want it any more.
    cancel: Arc<AtomicBool>,
    pause: Option<Duration>,
    thread: Option<JoinHandle<()>>,
}

/// The end of a job's thread that speaks.
#[derive(Clone)]
struct Teller {
    steps: Sender<Step>,
    signals: Arc<Signals>,
    cancel: Arc<AtomicBool>,
}

impl Teller {
    fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    fn say(&self, step: Step) {
        // The machine may have gone.
        let _ = self.steps.send(step);
        self.signals.raise();
    }

    /// Tells how far it is, and whether to go on.
    fn progress(&self) -> impl FnMut(u64, u64) -> bool + use<> {
        let teller = self.clone();
        let mut told = Instant::now();
        move |done, all| {
            if told.elapsed() > Duration::from_millis(50) || done == all {
                told = Instant::now();
                teller.say(Step::Progress(done, all));
            }
            !teller.is_cancelled()
        }
    }
}

/// What `Worker` starts with.
pub(super) struct Opened {
    pub snapshots: Snapshots,
    pub start: Start,
}

/// Where a machine starts.
pub(super) enum Start {
    /// With its disks as they are.
    Plain,
    /// In a snapshot. `given_up`: why the state that it slept with could not be woken.
    Restored { restored: Box<snapshot::keeper::Restored>, given_up: Option<StateError> },
    /// In the state that it sleeps with, to go to this snapshot from there.
    Awake(SnapshotId),
}

impl Snapshots {
    /// Finds the snapshots of a machine that is about to start, and changes its drives to what they hold now, or in the snapshot that it is
    /// to start from. A machine that sleeps with a state that fits, in the folder `asleep`, has its drives as they are now: it goes to the
    /// snapshot when it is awake, so that its memory can be kept, too.
    pub fn open(
        home: Option<PathBuf>,
        from: Option<SnapshotId>,
        asleep: Option<&Path>,
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
            tend_at: Some(Instant::now() + TEND_AFTER),
        };
        let opened = |snapshots, start| Ok(Opened { snapshots, start });
        let Some(home) = snapshots.home.clone() else { return opened(snapshots, Start::Plain) };
        if !Keeper::is_there(&home) {
            return match from {
                Some(id) => Err(StateError::NoSnapshot(id.to_string())),
                None => opened(snapshots, Start::Plain),
            };
        }
        let keeper = Keeper::open(&home, Files::default())?;
        let wanted = from.or(keeper.tree().next_start);
        let start = match (wanted, asleep.filter(|folder| snapshot::exists(folder))) {
            (None, _) => {
                keeper.configure(config)?;
                Start::Plain
            }
            (Some(id), None) => Start::Restored { restored: Box::new(keeper.restore_off(id, config)?), given_up: None },
            (Some(id), Some(folder)) => match keeper.wakes(config, folder) {
                Ok(now) => {
                    *config = now;
                    Start::Awake(id)
                }
                // These stay as they are until somebody puts the disks back; nobody could go on from here before.
                Err(error @ (StateError::Media(_) | StateError::Hardware(_) | StateError::Damaged { .. })) => {
                    Start::Restored { restored: Box::new(keeper.restore_off(id, config)?), given_up: Some(error) }
                }
                Err(error) => return Err(error),
            },
        };
        snapshots.keeper = Some(Arc::new(keeper));
        opened(snapshots, start)
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

    /// The present is about to be saved into `folder`.
    pub fn fall_asleep(&self, folder: &Path) -> Result<(), String> {
        self.keeper.as_ref().map_or(Ok(()), |keeper| keeper.set_asleep(folder)).map_err(|error| error.to_string())
    }

    /// What nobody has asked for ends at once.
    fn stop_tending(&self) {
        if let Some(job) = self.job.as_ref().filter(|job| job.is_quiet) {
            job.cancel.store(true, Ordering::Relaxed);
        }
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
        let cancel = Arc::new(AtomicBool::new(false));
        let teller = Teller { steps, signals, cancel: Arc::clone(&cancel) };
        let thread = std::thread::Builder::new().name("snapshot".to_owned()).spawn(move || {
            let result = run(&teller, &receiver);
            teller.say(Step::Done(result));
        });
        let thread = thread.map_err(|error| format!("the host gives no thread for the snapshot: {error}"))?;
        self.job = Some(Job {
            is_quiet: matches!(work.task, SnapshotTask::Tend),
            number: work.number,
            label: work.label,
            askers: work.askers,
            steps: incoming,
            captured,
            cancel,
            pause: None,
            thread: Some(thread),
        });
        Ok(())
    }
}

impl Worker {
    /// Queues something to do with snapshots; it may begin at once.
    pub(super) fn snapshot_work(&mut self, task: SnapshotTask, label: Option<String>) -> Result<(), String> {
        let number = self.snapshots.numbers + 1;
        self.snapshots.numbers = number;
        let work = Work { number, label, askers: Vec::new(), task };
        if self.snapshots.is_busy() {
            self.snapshots.stop_tending();
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
            SnapshotTask::Clone { .. } => SnapshotAction::Clone,
            SnapshotTask::Tend => return self.try_begin(work),
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
                    if teller.is_cancelled() {
                        return Err(StateError::Cancelled.to_string());
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
                    // What is left to tidy when it is cancelled is tidied another time.
                    let tidied = keeper.tidy(true, &mut teller.progress());
                    tidied.map(|_| None).map_err(|error| error.to_string())
                })
            }
            SnapshotTask::Clone { id, home, kind } => {
                let (id, home, kind) = (*id, home.clone(), *kind);
                self.snapshots.spawn(work, signals, move |teller, _| {
                    let copied = keeper.clone_to(id, &home, kind, &mut teller.progress());
                    copied.map(|()| None).map_err(|error| error.to_string())
                })
            }
            SnapshotTask::Tend => self.snapshots.spawn(work, signals, move |teller, _| {
                let mut go_on = |_, _| !teller.is_cancelled();
                let tidied = if keeper.is_untidy() { keeper.tidy(true, &mut go_on).map(drop) } else { Ok(()) };
                let tended = tidied.and_then(|()| keeper.compress(&mut go_on));
                tended.map(|_| None).map_err(|error| error.to_string())
            }),
        }
    }

    fn signals(&self) -> Arc<Signals> {
        Arc::clone(&self.shared.signals)
    }

    /// Cancels the job with this label, whether it is under way or waits; without a label the one under way.
    pub(super) fn cancel_snapshot(&mut self, label: Option<&str>) -> Result<(), String> {
        let is_meant = |of: &Option<String>| label.is_none() || of.as_deref() == label;
        if let Some(job) = self.snapshots.job.as_ref().filter(|job| !job.is_quiet && is_meant(&job.label)) {
            job.cancel.store(true, Ordering::Relaxed);
            return Ok(());
        }
        let Some(at) = self.snapshots.waiting.iter().position(|work| label.is_some() && is_meant(&work.label)) else {
            return Err("nothing is being done with snapshots now".to_owned());
        };
        if let Some(work) = self.snapshots.waiting.remove(at) {
            self.finish(work.number, work.label, work.askers, None, Err(StateError::Cancelled.to_string()));
        }
        Ok(())
    }

    /// Looks after the job at hand. Called between slices.
    pub(super) fn attend_snapshots(&mut self) {
        while let Some(job) = &mut self.snapshots.job {
            let Ok(step) = job.steps.try_recv() else { break };
            match step {
                Step::Progress(..) if job.is_quiet => {}
                Step::Done(result) if job.is_quiet => {
                    if let Some(thread) = job.thread.take() {
                        let _ = thread.join();
                    }
                    self.snapshots.job = None;
                    if let Err(text) = result {
                        tracing::warn!("tidying up behind snapshots: {text}");
                    }
                    self.next_work();
                }
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
                    let pause = begun.elapsed();
                    tracing::debug!(microseconds = pause.as_micros(), "the guest stood still for a snapshot");
                    if let Some(job) = &mut self.snapshots.job {
                        job.pause = Some(pause);
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
        self.tend();
    }

    /// Tidies up and compresses what is cold, some time after the last job.
    fn tend(&mut self) {
        if self.snapshots.tend_at.is_none_or(|at| Instant::now() < at) || self.snapshots.is_busy() {
            return;
        }
        self.snapshots.tend_at = None;
        let needed = |keeper: &Arc<Keeper>| keeper.is_untidy() || keeper.has_cold_packs();
        if !self.snapshots.keeper.as_ref().is_some_and(needed) {
            return;
        }
        let number = self.snapshots.numbers + 1;
        self.snapshots.numbers = number;
        let work = Work { number, label: None, askers: Vec::new(), task: SnapshotTask::Tend };
        if let Err(text) = self.begin(work) {
            tracing::warn!("tidying up behind snapshots: {text}");
        }
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
        self.snapshots.tend_at = Some(Instant::now() + TEND_AFTER);
        let answer = result.as_ref().map(|_| Reply::Done).map_err(|text| CommandError::Refused(text.clone()));
        self.tell(match result {
            Ok(id) => SnapshotEvent::Done { job, label, id, pause },
            Err(text) => SnapshotEvent::Failed { job, label, text },
        });
        for asker in askers {
            let _ = asker.send(answer.clone());
        }
    }

    /// Lets all jobs end; for the end of the machine. The guest stands still.
    pub(super) fn finish_snapshots(&mut self) {
        self.snapshots.checkpoints = None;
        self.snapshots.tend_at = None;
        self.snapshots.stop_tending();
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
        let seconds = snapshot::host_seconds();
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
    Restore {
        id: SnapshotId,
        keep: bool,
    },
    Delete(Vec<SnapshotId>),
    Clone {
        id: SnapshotId,
        home: PathBuf,
        kind: CloneKind,
    },
    /// What is left to tidy, and cold packs. Nobody has asked for it, so nobody is told.
    Tend,
}
