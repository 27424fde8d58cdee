//! The machine's thread: carries out commands, runs slices, shows frames, saves.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError, unbounded};

use super::command::{Command, CommandError, Reply};
use super::event::{EndReason, Event, RunState, Statistics};
use super::handle::{Request, Shared, VmHandle};
use super::media::{BlockInfo, MediumChange};
use super::snapshots::{Opened, SnapshotTask, Snapshots, Start, load_restored};
use crate::bus::Bus as _;
use crate::bus::signals::{Signals, StopReason};
use crate::chardev::CharBackend;
use crate::config::{DriveSlot, MachineConfig};
use crate::debug::monitor;
use crate::firmware::FirmwareChoice;
use crate::frame::FrameSlot;
use crate::input::{Key, KeyEvent};
use crate::machine::run::{Machine, Slice};
use crate::snapshot::keeper::Wish;
use crate::snapshot::tree::{SnapshotId, SnapshotKind};
use crate::snapshot::{self, StateError};

/// How often a new picture is looked for.
const FRAME_INTERVAL: Duration = Duration::from_micros(16_667);
/// How late the picture of a guest that does nothing may be: so it goes along with the guest's own next tick, and wakes nobody.
const FRAME_PATIENCE: Duration = Duration::from_millis(10);
/// Where nobody has done anything to a guest for so long, no request of it has ended, and its picture has not changed,
const QUIET: Duration = Duration::from_millis(500);
/// its timer ticks may wait for each other for so long. Waking up costs a host more than the ticks do: its caches are cold every time.
const PATIENCE: Duration = Duration::from_millis(40);
/// How often statistics are renewed.
const STATISTICS_INTERVAL: Duration = Duration::from_millis(500);
/// How long a paused machine sleeps between looks at its commands; a command wakes it at once.
const PAUSED_WAIT: Duration = Duration::from_millis(250);
/// Pause between two actions of `sendkey`, so that a guest that polls its keyboard sees each.
const SENDKEY_GAP: Duration = Duration::from_millis(2);

/// What a machine is started with beside its hardware.
pub struct StartOptions {
    /// Attention of the machine; character backends are made with the same one.
    pub signals: Arc<Signals>,
    /// Where to look for the firmware.
    pub firmware: FirmwareChoice,
    /// COM1, COM2 …; `None`: the port exists and leads nowhere.
    pub serial: Vec<Option<Box<dyn CharBackend>>>,
    /// Debug console ports.
    pub debug_ports: Vec<(u16, Box<dyn CharBackend>)>,
    /// A folder written by [`Command::SaveAndClose`] to resume from.
    pub resume_from: Option<PathBuf>,
    /// Where [`Command::SaveAndClose`] goes that names no folder.
    pub state: Option<PathBuf>,
    /// Stand still at the first instruction (`-S`).
    pub paused: bool,
    /// Folder of the states that older versions of the monitor's `savevm` wrote by name.
    pub states: Option<PathBuf>,
    /// The machine's folder, with its snapshots and the disks that belong to them; `None`: it has none.
    pub home: Option<PathBuf>,
    /// A snapshot to start from, instead of the present.
    pub snapshot: Option<SnapshotId>,
    /// How often a snapshot is taken by itself.
    pub checkpoints: Option<Duration>,
}

impl Default for StartOptions {
    fn default() -> Self {
        Self {
            signals: Arc::new(Signals::new()),
            firmware: FirmwareChoice::default(),
            serial: Vec::new(),
            debug_ports: Vec::new(),
            resume_from: None,
            state: None,
            paused: false,
            states: None,
            home: None,
            snapshot: None,
            checkpoints: None,
        }
    }
}

/// Starts a machine on a thread of its own, named for it, and returns at once. Whatever keeps it from
/// starting comes as [`RunState::Ended`] with the reason in words.
///
/// # Errors
/// Where the host gives no thread.
pub fn start(config: MachineConfig, options: StartOptions) -> std::io::Result<VmHandle> {
    let (requests, incoming) = unbounded();
    let shared = Arc::new(Shared {
        signals: Arc::clone(&options.signals),
        frame: FrameSlot::default(),
        state: Mutex::new(RunState::Starting),
        statistics: Mutex::default(),
        absolute_pointer: AtomicBool::new(false),
        cancel_save: AtomicBool::new(false),
        listeners: Mutex::default(),
    });
    let handle = VmHandle { requests, shared: Arc::clone(&shared) };
    std::thread::Builder::new().name(format!("vm {}", config.name)).spawn(move || {
        let guard = EndGuard(Arc::clone(&shared));
        let reason = Worker::start(config, options, incoming, shared).map_or_else(EndReason::Failed, Worker::run);
        guard.end(reason);
    })?;
    Ok(handle)
}

/// Tells the world that the thread has ended, also where it panicked.
struct EndGuard(Arc<Shared>);

impl EndGuard {
    fn end(self, reason: EndReason) {
        self.0.publish_state(RunState::Ended(reason));
    }
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text =
                "the engine met an error in itself and stopped this machine; its disks are as the guest left them";
            self.0.publish_state(RunState::Ended(EndReason::Failed(text.to_owned())));
        }
    }
}

impl Shared {
    pub(super) fn publish(&self, event: &Event) {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| listener.send(event.clone()).is_ok());
    }

    pub(super) fn publish_state(&self, state: RunState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state.clone();
        self.publish(&Event::State(state));
    }
}

/// Keys that wait for their turn.
pub(super) enum KeyChord {
    /// One `sendkey`.
    Press {
        /// All at once.
        keys: Vec<Key>,
        /// How long they are down.
        hold: Duration,
    },
    /// A key that came while a `sendkey` was under way: it stays behind that.
    Event(KeyEvent),
}

/// The steps that are left of the chord in progress.
#[derive(Default)]
pub(super) struct ChordPlayer {
    pub(super) waiting: VecDeque<KeyChord>,
    steps: VecDeque<(Duration, KeyEvent)>,
    next: Option<Instant>,
}

impl ChordPlayer {
    /// The key events that are due.
    fn due(&mut self, now: Instant) -> Vec<KeyEvent> {
        let mut events = Vec::new();
        loop {
            if self.steps.is_empty() {
                let Some(chord) = self.waiting.pop_front() else {
                    self.next = None;
                    return events;
                };
                self.load(&chord, now);
            }
            match (self.next, self.steps.front()) {
                (Some(at), Some(_)) if at > now => return events,
                (_, Some(&(_, event))) => {
                    self.steps.pop_front();
                    events.push(event);
                    let gap = self.steps.front().map_or(SENDKEY_GAP, |&(gap, _)| gap);
                    self.next = Some(now + gap);
                    if self.steps.is_empty() {
                        return events;
                    }
                }
                (_, None) => return events,
            }
        }
    }

    fn load(&mut self, chord: &KeyChord, now: Instant) {
        self.steps = match chord {
            KeyChord::Event(event) => VecDeque::from([(SENDKEY_GAP, *event)]),
            KeyChord::Press { keys, hold } => {
                let down = keys.iter().map(|&key| (SENDKEY_GAP, KeyEvent { key, down: true }));
                let up =
                    keys.iter().rev().enumerate().map(|(index, &key)| {
                        (if index == 0 { *hold } else { SENDKEY_GAP }, KeyEvent { key, down: false })
                    });
                down.chain(up).collect()
            }
        };
        self.next = Some(self.next.map_or(now, |at| at.max(now)));
    }

    fn idle(&self) -> bool {
        self.steps.is_empty() && self.waiting.is_empty()
    }
}

pub(super) struct Worker {
    pub(super) machine: Machine,
    incoming: Receiver<Request>,
    pub(super) shared: Arc<Shared>,
    pub(super) states: Option<PathBuf>,
    pub(super) resumed_from: Option<PathBuf>,
    state: Option<PathBuf>,
    pub(super) snapshots: Snapshots,
    pub(super) running: bool,
    pub(super) chords: ChordPlayer,
    next_frame: Instant,
    /// When something happened last that a person or the host has to do with: see [`PATIENCE`].
    stirred: Instant,
    next_statistics: Instant,
    counted: (Instant, u64, Duration),
    worked: Duration,
    pub(super) end: Option<EndReason>,
    /// Why the command at hand failed is known to the person already.
    failure_told: bool,
}

impl Worker {
    fn start(
        mut config: MachineConfig,
        options: StartOptions,
        incoming: Receiver<Request>,
        shared: Arc<Shared>,
    ) -> Result<Self, String> {
        let begun = Instant::now();
        let StartOptions {
            signals,
            firmware,
            serial,
            debug_ports,
            resume_from,
            state,
            paused,
            states,
            home,
            snapshot,
            checkpoints,
        } = options;
        let opened = Snapshots::open(home, snapshot, resume_from.as_deref(), checkpoints, &mut config);
        let Opened { snapshots, start } = opened.map_err(|error| error.to_string())?;
        let mut machine =
            Machine::new(config, signals, &firmware, serial, debug_ports).map_err(|error| error.to_string())?;
        let mut go_to = None;
        match (start, &resume_from) {
            (Start::Restored { restored, given_up }, _) => {
                load_restored(&mut machine, restored.state, true)?;
                if let Some(error) = given_up {
                    let text =
                        format!("The state that the machine slept with could not be kept as a snapshot:\n{error}");
                    shared.publish(&Event::Notice(text));
                }
            }
            (start, Some(folder)) => {
                snapshot::load(&mut machine, folder).map_err(|error| error.to_string())?;
                if let Start::Awake(id) = start {
                    go_to = Some(id);
                }
            }
            (_, None) => {}
        }
        if let Some(text) = snapshots.notice() {
            shared.publish(&Event::Notice(text.to_owned()));
        }
        let now = Instant::now();
        let counted = (now, machine.retired(), Duration::ZERO);
        let mut worker = Self {
            machine,
            incoming,
            shared,
            states,
            state,
            resumed_from: resume_from,
            snapshots,
            running: false,
            chords: ChordPlayer::default(),
            next_frame: now,
            stirred: now,
            next_statistics: now,
            counted,
            worked: Duration::ZERO,
            end: None,
            failure_told: false,
        };
        if let Some(id) = go_to {
            worker.snapshot_work(SnapshotTask::Restore { id, keep: true }, None)?;
            worker.snapshots.take_started();
        }
        if paused {
            worker.shared.publish_state(RunState::Paused);
        } else {
            worker.resume_machine();
        }
        tracing::debug!(microseconds = begun.elapsed().as_micros(), "the machine is ready");
        Ok(worker)
    }

    fn run(mut self) -> EndReason {
        self.machine.clock().own();
        loop {
            if !self.take_commands() {
                return EndReason::PowerOff;
            }
            let now = Instant::now();
            for event in self.chords.due(now) {
                self.machine.key(event);
                self.stirred = now;
            }
            if self.running {
                let slice = self.machine.slice();
                self.worked += now.elapsed();
                self.tell_tray_moves();
                self.after(&slice);
            } else {
                self.machine.signals().wait(PAUSED_WAIT);
                self.machine.signals().take_raised();
                self.machine.service_stopped();
            }
            self.publish_pointer();
            self.attend_snapshots();
            self.show(Instant::now());
            if let Some(reason) = self.end.take() {
                self.show_frame();
                self.finish_snapshots();
                self.forget_used_state(&reason);
                return reason;
            }
        }
    }

    /// Tells where the guest has changed its mind about places of the pointer.
    fn publish_pointer(&self) {
        let absolute = self.machine.takes_absolute_pointer();
        if self.shared.absolute_pointer.load(Ordering::Relaxed) != absolute {
            self.shared.absolute_pointer.store(absolute, Ordering::Relaxed);
            self.shared.publish(&Event::AbsolutePointer(absolute));
        }
    }

    /// Carries out what waits; false when every handle is gone.
    fn take_commands(&mut self) -> bool {
        loop {
            match self.incoming.try_recv() {
                Ok(Request { command, reply }) => {
                    self.failure_told = false;
                    self.stirred = Instant::now();
                    let answer = self.carry_out(command);
                    let started = self.snapshots.take_started();
                    if let (Some(job), Some(reply), Ok(_)) = (started, &reply, &answer) {
                        self.snapshots.answer_later(job, reply.clone());
                    } else if let Some(reply) = reply {
                        // The asker may have gone away; that is its right.
                        let _ = reply.send(answer);
                    } else if let Err(error) = answer
                        && !self.failure_told
                    {
                        self.shared.publish(&Event::Notice(error.to_string()));
                    }
                    if self.end.is_some() {
                        return true;
                    }
                }
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn carry_out(&mut self, command: Command) -> Result<Reply, CommandError> {
        match command {
            Command::Pause => self.pause_machine(),
            Command::Resume => self.resume_machine(),
            Command::Reset => self.reset_machine(),
            Command::PowerButton => {
                self.machine.power_button();
                self.shared.publish(&Event::PowerButton);
            }
            Command::PowerOff => self.end = Some(EndReason::PowerOff),
            Command::Key(event) if self.chords.idle() => self.machine.key(event),
            Command::Key(event) => self.chords.waiting.push_back(KeyChord::Event(event)),
            Command::SendKeys { keys, hold_ms } => {
                let hold = Duration::from_millis(u64::from(hold_ms.clamp(1, 60_000)));
                self.chords.waiting.push_back(KeyChord::Press { keys, hold });
            }
            Command::ReleaseKeys => self.machine.release_keys(),
            Command::Pointer(event) => self.machine.pointer(event),
            Command::AbsolutePointer(event) => self.machine.absolute_pointer(event),
            Command::TakeSnapshot { name, note, adopt, label } => {
                let wish = Wish { name, note, kind: SnapshotKind::Manual, adopt };
                self.snapshot_work(SnapshotTask::Take(wish), label).map_err(CommandError::Refused)?;
            }
            Command::RestoreSnapshot { id, keep, label } => {
                self.snapshot_work(SnapshotTask::Restore { id, keep }, label).map_err(CommandError::Refused)?;
            }
            Command::DeleteSnapshot { id, label } => {
                self.snapshot_work(SnapshotTask::Delete(vec![id]), label).map_err(CommandError::Refused)?;
            }
            Command::CloneSnapshot { id, home, kind, label } => {
                self.snapshot_work(SnapshotTask::Clone { id, home, kind }, label).map_err(CommandError::Refused)?;
            }
            Command::CancelSnapshot { label } => {
                self.cancel_snapshot(label.as_deref()).map_err(CommandError::Refused)?;
            }
            Command::DescribeSnapshot { id, name, note } => {
                self.snapshots.describe(id, name.as_deref(), note.as_deref()).map_err(CommandError::Refused)?;
            }
            Command::Snapshots => {
                let tree = self.snapshots.tree().map_err(|error| CommandError::Refused(error.to_string()))?;
                return Ok(Reply::Snapshots(Box::new(tree)));
            }
            Command::SetCheckpoints(interval) => self.set_checkpoints(interval),
            Command::SaveAndClose(folder) => self.close(folder).map_err(CommandError::Refused)?,
            Command::SaveState(folder) => {
                self.save_and_go_on(&folder).map_err(CommandError::Refused)?;
            }
            Command::Blocks => return Ok(Reply::Blocks(self.block_info())),
            Command::ChangeMedium { slot, change } => {
                self.change_medium(slot, &change).map_err(CommandError::Refused)?;
            }
            Command::Screen => {
                self.show_frame();
                return Ok(Reply::Screen(self.shared.frame.latest()));
            }
            Command::Monitor(line) => {
                return monitor::execute(&line, self).map(Reply::Text).map_err(CommandError::Refused);
            }
            Command::Query => {
                let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
                return Ok(Reply::Status(state, Box::new(self.statistics())));
            }
        }
        Ok(Reply::Done)
    }

    /// Stop → save → end.
    pub(super) fn close(&mut self, folder: Option<PathBuf>) -> Result<(), String> {
        let folder = self.place_to_sleep(folder).inspect_err(|text| {
            self.pause_machine();
            self.tell_failed_save(text);
        })?;
        self.save(&folder, true)?;
        self.end = Some(EndReason::Saved(folder));
        Ok(())
    }

    /// Where the state goes, with all that has to be done before it is written.
    fn place_to_sleep(&mut self, folder: Option<PathBuf>) -> Result<PathBuf, String> {
        let folder = folder.or_else(|| self.state.clone());
        let folder = folder.ok_or("there is no place for the state of this machine: say a folder")?;
        self.finish_snapshots();
        self.snapshots.fall_asleep(&folder)?;
        Ok(folder)
    }

    /// For whoever did not ask: the machine is paused and whole.
    fn tell_failed_save(&mut self, text: &str) {
        self.failure_told = true;
        self.shared.publish(&Event::SaveFailed(text.to_owned()));
    }

    pub(super) fn pause_machine(&mut self) {
        if self.running {
            self.running = false;
            self.machine.pause();
            self.show_frame();
            self.shared.publish_state(RunState::Paused);
        }
    }

    pub(super) fn resume_machine(&mut self) {
        if !self.running {
            if let RunState::Stopped(StopReason::TripleFault | StopReason::Damaged(_) | StopReason::EnginesDiffer(_)) =
                self.run_state()
            {
                return; // Only a reset helps, or another snapshot; the state says so.
            }
            self.running = true;
            self.machine.resume();
            self.shared.publish_state(RunState::Running);
        }
    }

    pub(super) fn reset_machine(&mut self) {
        if self.machine.parts().1.ram().has_failed() {
            return; // What is in memory is not the guest's: only another snapshot helps, or a new start.
        }
        self.machine.reset();
        self.shared.publish(&Event::Reset);
        if let RunState::Stopped(_) = self.run_state() {
            self.shared.publish_state(RunState::Paused);
            self.resume_machine();
        }
    }

    pub(super) fn run_state(&self) -> RunState {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Does what a slice of work has brought.
    fn after(&mut self, slice: &Slice) {
        match slice {
            Slice::Worked => {}
            Slice::Idle(nap) => {
                let until_frame = self.next_frame.saturating_duration_since(Instant::now());
                let until_key = match self.chords.next {
                    Some(at) if !self.chords.idle() => at.saturating_duration_since(Instant::now()),
                    _ => Duration::MAX,
                };
                let nap = (*nap).min(until_frame + FRAME_PATIENCE).min(until_key);
                let quiet = self.stirred.elapsed() > QUIET && self.chords.idle() && !self.snapshots.is_busy();
                let patience = if quiet { PATIENCE } else { Duration::ZERO };
                let signals = self.machine.signals();
                self.machine.clock().rest(nap, patience, |nap| signals.wait(nap));
                if signals.raised() {
                    self.stirred = Instant::now();
                }
            }
            Slice::Reset => {
                if self.machine.config().no_reboot {
                    self.end = Some(EndReason::NoReboot);
                } else {
                    self.reset_machine();
                }
            }
            Slice::Stopped(reason) => self.stopped(reason.clone()),
        }
    }

    fn stopped(&mut self, reason: StopReason) {
        match reason {
            StopReason::DebugExit(value) => self.end = Some(EndReason::DebugExit(value)),
            StopReason::PowerOff if !self.machine.config().no_shutdown => self.end = Some(EndReason::PowerOff),
            StopReason::TripleFault if self.machine.config().no_reboot => self.end = Some(EndReason::NoReboot),
            reason => {
                self.running = false;
                self.machine.pause();
                self.show_frame();
                self.shared.publish_state(RunState::Stopped(reason));
            }
        }
    }

    /// Stop → save. On an error the machine is paused and whole, and the old state is as it was; who cancels it wants the machine to go on.
    fn save(&mut self, folder: &Path, closing: bool) -> Result<(), String> {
        let before = self.run_state();
        let was_running = std::mem::take(&mut self.running);
        self.machine.pause();
        self.shared.cancel_save.store(false, Ordering::Relaxed);
        self.shared.publish_state(RunState::Saving);
        let shared = Arc::clone(&self.shared);
        let mut progress = |done, all| {
            shared.publish(&Event::SaveProgress(done, all));
            !shared.cancel_save.load(Ordering::Relaxed)
        };
        snapshot::save(&mut self.machine, folder, closing, &mut progress).map_err(|error| {
            let text = error.to_string();
            let state = if matches!(before, RunState::Stopped(_)) { before } else { RunState::Paused };
            self.shared.publish_state(state);
            if !matches!(error, StateError::Cancelled) {
                self.tell_failed_save(&text);
                return text;
            }
            // Whoever cancelled it knows.
            self.failure_told = true;
            if was_running {
                self.resume_machine();
            }
            text
        })
    }

    /// Saves and goes on as before.
    pub(super) fn save_and_go_on(&mut self, folder: &Path) -> Result<(), String> {
        let was_running = self.running;
        let before = self.run_state();
        let saved = self.save(folder, false);
        if was_running {
            self.resume_machine();
        } else {
            self.shared.publish_state(before);
        }
        saved
    }

    pub(super) fn block_info(&mut self) -> Vec<BlockInfo> {
        self.machine.parts().1.blocks()
    }

    /// Changes what is in a drive and says so. Where an image that is put in is a part of a snapshot, a file above it goes in.
    pub(super) fn change_medium(&mut self, slot: DriveSlot, change: &MediumChange) -> Result<(), String> {
        let change_of_file = match change {
            MediumChange::Insert { path, format, access, force } => {
                let file = self.snapshots.medium_for(slot, path)?;
                let format = if file == *path { *format } else { None };
                MediumChange::Insert { path: file, format, access: *access, force: *force }
            }
            other => other.clone(),
        };
        let changed = self.machine.change_medium(slot, &change_of_file);
        self.tell_tray_moves();
        changed?;
        match change {
            MediumChange::Insert { path, .. } => self.snapshots.changed(slot, Some(path.clone())),
            MediumChange::Eject { .. } | MediumChange::Remove => self.snapshots.changed(slot, None),
            MediumChange::OpenTray { .. } | MediumChange::CloseTray => {}
        }
        match change {
            MediumChange::Eject { .. } | MediumChange::Insert { .. } | MediumChange::Remove => {
                if let Some(block) = self.block_info().into_iter().find(|block| block.slot == slot) {
                    self.shared.publish(&Event::MediumChanged(block));
                }
            }
            MediumChange::OpenTray { .. } | MediumChange::CloseTray => {}
        }
        Ok(())
    }

    fn tell_tray_moves(&mut self) {
        for (slot, open) in self.machine.parts().1.take_tray_moves() {
            self.shared.publish(&Event::TrayMoved(slot, open));
        }
    }

    /// A state that has been resumed and whose guest was then switched off is of no use any more.
    fn forget_used_state(&self, reason: &EndReason) {
        if let (Some(folder), EndReason::PowerOff) = (&self.resumed_from, reason)
            && let Err(error) = snapshot::discard(folder)
        {
            tracing::warn!("the used state in {} could not be removed: {error}", folder.display());
        }
    }

    fn show(&mut self, now: Instant) {
        if now >= self.next_frame {
            self.next_frame = now + FRAME_INTERVAL;
            if self.running {
                self.show_frame();
            }
        }
        if now >= self.next_statistics {
            self.next_statistics = now + STATISTICS_INTERVAL;
            let statistics = self.statistics();
            *self.shared.statistics.lock().unwrap_or_else(PoisonError::into_inner) = statistics;
        }
    }

    pub(super) fn show_frame(&mut self) {
        if let Some(frame) = self.machine.render() {
            self.shared.frame.publish(frame);
            if self.machine.is_picture_by_guest() {
                self.stirred = Instant::now();
            }
        }
    }

    fn statistics(&mut self) -> Statistics {
        let instructions = self.machine.retired();
        let (_, before, worked_before) = self.counted;
        let worked = self.worked.saturating_sub(worked_before);
        let mut mips = self.shared.statistics.lock().unwrap_or_else(PoisonError::into_inner).mips;
        if worked > Duration::from_millis(1) {
            mips = instructions.saturating_sub(before) as f64 / worked.as_secs_f64() / 1e6;
            self.counted = (Instant::now(), instructions, self.worked);
        }
        Statistics { instructions, mips, ..self.machine.statistics() }
    }
}
