//! A machine that runs in the manager: its handle, what it said, its picture on the graphics card.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use eframe::egui;
use vm_core::bus::signals::StopReason;
use vm_core::config::MachineConfig;
use vm_core::frame::Frame;
use vm_core::runner::event::EndReason;
use vm_core::runner::{
    Command, CommandError, Event, Reply, RunState, SnapshotAction, SnapshotEvent, StartOptions, Statistics, VmHandle,
};
use vm_core::snapshot::tree::SnapshotId;

use crate::library::Hold;

/// How often a shown machine is asked for a new picture.
const SHOWN_INTERVAL: Duration = Duration::from_millis(16);
/// The same for one of which only the thumbnail is seen.
const HIDDEN_INTERVAL: Duration = Duration::from_millis(500);
/// How long an activity light stays on after a request.
const LIGHT: Duration = Duration::from_millis(150);
/// Lines that the monitor's console keeps.
const MONITOR_LINES: usize = 2000;

/// Something that a machine wants to tell, with a next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Banner {
    /// The processor shut down.
    TripleFault,
    /// A disk of the host failed; the words are the engine's.
    DiskError(String),
    /// The guest switched the power off and the machine was told to stay.
    PoweredOff,
    /// A save failed; the machine is paused and whole.
    SaveFailed(String),
    /// Memory that was being loaded is damaged; the words are the engine's.
    Damaged(String),
    /// Words without a next step.
    Notice(String),
}

/// A snapshot that is being taken, restored or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotJob {
    /// What is done.
    pub action: SnapshotAction,
    /// Bytes done, and in all.
    pub progress: (u64, u64),
}

impl SnapshotJob {
    /// In words.
    pub fn words(self) -> &'static str {
        match self.action {
            SnapshotAction::Take => "Writing the snapshot",
            SnapshotAction::Restore => "Keeping what was before",
            SnapshotAction::Delete => "Freeing what only the deleted snapshot needed",
            SnapshotAction::Clone => "Copying the snapshot into a new machine",
        }
    }
}

/// The console of the monitor tab.
#[derive(Debug, Default)]
pub struct Monitor {
    /// What was asked and answered.
    pub lines: Vec<String>,
    /// What is being typed.
    pub input: String,
    history: Vec<String>,
    at: usize,
    waiting: Vec<Receiver<Result<Reply, CommandError>>>,
}

impl Monitor {
    fn push(&mut self, text: &str) {
        self.lines.extend(text.lines().map(str::to_owned));
        let over = self.lines.len().saturating_sub(MONITOR_LINES);
        self.lines.drain(..over);
    }

    /// Moves through what was typed before: -1 is back.
    pub fn recall(&mut self, step: isize) {
        self.at = self.at.saturating_add_signed(step).min(self.history.len());
        self.input = self.history.get(self.at).cloned().unwrap_or_default();
    }

    /// Whether an answer is awaited.
    pub fn waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn collect(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|answer| {
            let text = match answer.try_recv() {
                Err(crossbeam_channel::TryRecvError::Empty) => return true,
                Err(crossbeam_channel::TryRecvError::Disconnected) | Ok(Err(CommandError::Gone)) => {
                    CommandError::Gone.to_string()
                }
                Ok(Err(error)) => error.to_string(),
                Ok(Ok(Reply::Text(text))) => text,
                Ok(Ok(_)) => String::new(),
            };
            self.push(&text);
            false
        });
        self.waiting = waiting;
    }
}

/// A running machine.
pub struct Session {
    /// The engine's handle.
    pub handle: VmHandle,
    /// It was started from a saved state.
    pub resumed: bool,
    /// The snapshot that it was started from.
    pub from_snapshot: Option<SnapshotId>,
    /// It has run since it was started.
    pub has_run: bool,
    /// The machine is this window's, and not closed yet.
    pub hold: Option<Hold>,
    /// What it does.
    pub state: RunState,
    /// Figures of about the last second.
    pub statistics: Statistics,
    /// What it wants to tell.
    pub banners: Vec<Banner>,
    /// Bytes of a state written, and in all.
    pub progress: Option<(u64, u64)>,
    /// What is being done with its snapshots.
    pub snapshot_job: Option<SnapshotJob>,
    /// Its snapshots are others than before.
    pub other_snapshots: bool,
    /// The picture on the graphics card.
    pub texture: Option<egui::TextureHandle>,
    /// The newest picture.
    pub frame: Option<Arc<Frame>>,
    /// The monitor's console.
    pub monitor: Monitor,
    lights: [Option<Instant>; 6],
    events: Receiver<Event>,
    shown: Arc<AtomicBool>,
    sharp: bool,
}

impl Session {
    /// Starts a machine, from a saved state or a snapshot where `from` says so. What keeps it from starting comes as
    /// [`RunState::Ended`].
    ///
    /// # Errors
    /// Where the host gives no thread.
    pub fn start(config: MachineConfig, from: StartOptions, context: &egui::Context) -> std::io::Result<Self> {
        let (resumed, from_snapshot) = (from.resume_from.is_some(), from.snapshot);
        let name = config.name.clone();
        let handle = vm_core::runner::start(config, from)?;
        let (teller, events) = crossbeam_channel::unbounded();
        let shown = Arc::new(AtomicBool::new(true));
        let watch = Watch { handle: handle.clone(), teller, context: context.clone(), shown: Arc::clone(&shown) };
        std::thread::Builder::new().name(format!("watch {name}")).spawn(move || watch.run())?;
        Ok(Self {
            state: handle.state(),
            handle,
            resumed,
            from_snapshot,
            hold: None,
            has_run: false,
            statistics: Statistics::default(),
            banners: Vec::new(),
            progress: None,
            snapshot_job: None,
            other_snapshots: false,
            texture: None,
            frame: None,
            monitor: Monitor::default(),
            lights: [None; 6],
            events,
            shown,
            sharp: false,
        })
    }

    /// Whether its screen is seen in full, which sets how often pictures are fetched.
    pub fn set_shown(&self, shown: bool) {
        self.shown.store(shown, Ordering::Relaxed);
    }

    /// Takes what the engine has said since, and the newest picture. Says why the machine ended, once it has.
    pub fn update(&mut self, context: &egui::Context) -> Option<EndReason> {
        self.state = self.handle.state();
        let events: Vec<Event> = self.events.try_iter().collect();
        for event in events {
            match event {
                Event::State(state) => {
                    self.banners.retain(|banner| matches!(banner, Banner::Notice(_) | Banner::SaveFailed(_)));
                    match &state {
                        RunState::Running => {
                            // Going to a snapshot on the way may have kept the one before.
                            self.other_snapshots |= !self.has_run && self.from_snapshot.is_some();
                            self.has_run = true;
                            self.banners.retain(|banner| matches!(banner, Banner::Notice(_)));
                        }
                        RunState::Stopped(reason) => self.banners.push(match reason {
                            StopReason::TripleFault => Banner::TripleFault,
                            StopReason::DiskError(text) => Banner::DiskError(text.clone()),
                            StopReason::Damaged(text) | StopReason::EnginesDiffer(text) => {
                                Banner::Damaged(text.clone())
                            }
                            StopReason::PowerOff | StopReason::DebugExit(_) => Banner::PoweredOff,
                        }),
                        RunState::Starting | RunState::Paused | RunState::Saving | RunState::Ended(_) => {}
                    }
                    if !matches!(state, RunState::Saving) {
                        self.progress = None;
                    }
                }
                Event::SaveProgress(done, all) => self.progress = Some((done, all)),
                Event::SaveFailed(text) => self.banners.push(Banner::SaveFailed(text)),
                Event::Notice(text) => {
                    let banner = Banner::Notice(text);
                    if !self.banners.contains(&banner) {
                        self.banners.push(banner);
                    }
                }
                Event::Snapshot(event) => self.heard_of_snapshot(event),
                Event::Reset
                | Event::PowerButton
                | Event::AbsolutePointer(_)
                | Event::TrayMoved(..)
                | Event::MediumChanged(_) => {}
            }
        }
        if matches!(self.state, RunState::Running | RunState::Paused) {
            self.has_run = true;
        }
        self.monitor.collect();
        let statistics = self.handle.statistics();
        for (light, (new, old)) in
            self.lights.iter_mut().zip(statistics.disk_requests.iter().zip(self.statistics.disk_requests))
        {
            if *new != old {
                *light = Some(Instant::now());
            }
        }
        self.statistics = statistics;
        self.fetch_picture(context);
        match &self.state {
            RunState::Ended(reason) => Some(reason.clone()),
            RunState::Starting | RunState::Running | RunState::Paused | RunState::Stopped(_) | RunState::Saving => None,
        }
    }

    fn heard_of_snapshot(&mut self, event: SnapshotEvent) {
        match event {
            SnapshotEvent::Started { action, .. } => self.snapshot_job = Some(SnapshotJob { action, progress: (0, 0) }),
            SnapshotEvent::Progress { done, all, .. } => {
                if let Some(job) = &mut self.snapshot_job {
                    job.progress = (done, all);
                }
            }
            SnapshotEvent::Done { .. } => (self.snapshot_job, self.other_snapshots) = (None, true),
            SnapshotEvent::Failed { text, .. } => {
                (self.snapshot_job, self.other_snapshots) = (None, true);
                self.banners.push(Banner::Notice(text));
            }
        }
    }

    fn fetch_picture(&mut self, context: &egui::Context) {
        let Some(frame) = self.handle.frame() else { return };
        if self.frame.as_ref().is_some_and(|old| old.sequence == frame.sequence) {
            return;
        }
        let size = [frame.width as usize, frame.height as usize];
        if size[0] == 0 || size[1] == 0 || frame.rgba.len() != size[0] * size[1] * 4 {
            return;
        }
        let options = if self.sharp { egui::TextureOptions::NEAREST } else { egui::TextureOptions::LINEAR };
        let known = self.frame.as_ref().filter(|old| (old.width, old.height) == (frame.width, frame.height));
        match (&mut self.texture, known) {
            (Some(texture), Some(old)) => {
                for rows in frame.rows_since(old.sequence) {
                    let part = [size[0], rows.len()];
                    let image = egui::ColorImage::from_rgba_premultiplied(part, frame.rows(&rows));
                    texture.set_partial([0, rows.start as usize], image, options);
                }
            }
            (texture, _) => {
                let image = egui::ColorImage::from_rgba_premultiplied(size, &frame.rgba);
                match texture {
                    Some(texture) => texture.set(image, options),
                    None => *texture = Some(context.load_texture("guest", image, options)),
                }
            }
        }
        self.frame = Some(frame);
    }

    /// Whether pixels are shown unmixed, for scales of whole numbers.
    pub fn set_sharp(&mut self, sharp: bool) {
        if self.sharp != sharp {
            self.sharp = sharp;
            self.frame = None; // Fetched again with the other filter.
        }
    }

    /// Whether the light of a slot (floppy 0, 1, then IDE 0 – 3) is on.
    pub fn light(&self, slot: usize) -> bool {
        self.lights.get(slot).copied().flatten().is_some_and(|since| since.elapsed() < LIGHT)
    }

    /// Whether something moves in the status line, so that it must be drawn again soon.
    pub fn lively(&self) -> bool {
        matches!(self.state, RunState::Running | RunState::Saving | RunState::Starting)
    }

    /// Sends what was typed into the monitor's console.
    pub fn ask_monitor(&mut self) {
        let line = std::mem::take(&mut self.monitor.input);
        let line = line.trim().to_owned();
        if line.is_empty() {
            return;
        }
        self.monitor.push(&format!("(hako) {line}"));
        self.monitor.history.push(line.clone());
        self.monitor.at = self.monitor.history.len();
        self.monitor.waiting.push(self.handle.request(Command::Monitor(line)));
    }
}

/// Wakes the window when there is something new to see.
struct Watch {
    handle: VmHandle,
    teller: crossbeam_channel::Sender<Event>,
    context: egui::Context,
    shown: Arc<AtomicBool>,
}

impl Watch {
    fn run(self) {
        let events = self.handle.events();
        let mut seen = None;
        self.context.request_repaint();
        loop {
            let interval = if self.shown.load(Ordering::Relaxed) { SHOWN_INTERVAL } else { HIDDEN_INTERVAL };
            match events.recv_timeout(interval) {
                Ok(event) => {
                    if self.teller.send(event).is_err() {
                        return;
                    }
                    self.context.request_repaint();
                }
                Err(RecvTimeoutError::Timeout) => {
                    let newest = self.handle.frame().map(|frame| frame.sequence);
                    if newest != seen {
                        seen = newest;
                        self.context.request_repaint();
                    }
                    if matches!(self.handle.state(), RunState::Ended(_)) {
                        self.context.request_repaint();
                        return;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.context.request_repaint();
                    return;
                }
            }
        }
    }
}
