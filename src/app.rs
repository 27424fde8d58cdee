//! The manager: what it holds, and what happens to its machines.

mod actions;
mod copies;
mod event_loop;
mod media;
mod snapshots;
mod status;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use eframe::egui;
use vm_core::input::Key;
use vm_core::runner::event::EndReason;
use vm_core::runner::{Command, StartOptions};
use vm_core::snapshot::tree::SnapshotId;

use crate::dialog::Dialog;
use crate::grab::Grab;
use crate::jobs::Jobs;
use crate::library::{self, Entry, Hold, Library, Picture, Presence, Trouble};
use crate::preferences::Preferences;
use crate::session::Session;
use crate::theme;
use crate::ui_command::UiCommand;
use crate::widget::machine_form::MachineForm;

pub use event_loop::{icon, run};
use snapshots::Browser;
pub(crate) use snapshots::OffJob;
pub(crate) use status::local_time;
pub use status::{Status, Tab};

/// The window's title, which never changes: tests and window rules look for it.
pub const TITLE: &str = "Hako";
/// How often the status line of a running machine is drawn anew.
const STATUS_INTERVAL: Duration = Duration::from_millis(500);
/// How long keys of the Send-keys menu are down.
const HOLD_MS: u32 = 80;

/// The settings that are being changed.
pub(crate) struct Editing {
    pub id: String,
    pub form: MachineForm,
    pub wrong: Vec<String>,
    pub saved: bool,
}

/// The manager.
pub struct App {
    pub(crate) library: Library,
    pub(crate) entries: Vec<Entry>,
    pub(crate) sessions: BTreeMap<String, Session>,
    pub(crate) selected: Option<String>,
    pub(crate) tab: Tab,
    pub(crate) dialog: Option<Dialog>,
    pub(crate) grab: Rc<RefCell<Grab>>,
    pub(crate) jobs: Jobs<App>,
    pub(crate) preferences: Preferences,
    pub(crate) pictures: HashMap<String, (egui::TextureHandle, f32)>,
    /// What went wrong with a machine since it was last started, and what one can do.
    pub(crate) troubles: HashMap<String, Trouble>,
    pub(crate) editing: Option<Editing>,
    /// What is wrong with the library as a whole.
    pub(crate) library_trouble: Option<Trouble>,
    /// The snapshots of the machine that was looked at last.
    pub(crate) browser: Option<Browser>,
    /// Whose snapshots are being read.
    pub(crate) reading_snapshots: Option<String>,
    /// What is done with the snapshots of a machine that is off.
    pub(crate) off_job: Option<OffJob>,
    pub(crate) full_screen: bool,
    /// Where the guest's screen was last drawn.
    pub(crate) screen_rect: Cell<Option<egui::Rect>>,
    /// Full screen has just begun: say how to leave it.
    pub(crate) hint_wanted: Cell<bool>,
    pending: Vec<(UiCommand, String)>,
}

impl App {
    /// A manager of the machines in `library`.
    ///
    /// # Errors
    /// Where the host gives no thread.
    pub fn new(library: Library, grab: Rc<RefCell<Grab>>, context: &egui::Context) -> anyhow::Result<Self> {
        theme::install(context);
        let preferences = Preferences::read(library.data());
        context.set_theme(match preferences.dark {
            Some(true) => egui::ThemePreference::Dark,
            Some(false) => egui::ThemePreference::Light,
            None => egui::ThemePreference::System,
        });
        // The picture is not drawn yet: waiting for the disk is harmless here.
        let mut library_trouble = None;
        if let Some(guests) = library::guests_folder()
            && let Err(trouble) = library.first_start(&guests)
        {
            library_trouble = Some(trouble);
        }
        let entries = library.list().unwrap_or_else(|trouble| {
            library_trouble = Some(trouble);
            Vec::new()
        });
        let selected = preferences
            .selected
            .clone()
            .filter(|id| entries.iter().any(|entry| entry.id == *id))
            .or_else(|| entries.first().map(|entry| entry.id.clone()));
        Ok(Self {
            library,
            entries,
            sessions: BTreeMap::new(),
            selected,
            tab: Tab::Screen,
            dialog: None,
            grab,
            jobs: Jobs::new(context.clone())?,
            preferences,
            pictures: HashMap::new(),
            troubles: HashMap::new(),
            editing: None,
            library_trouble,
            browser: None,
            reading_snapshots: None,
            off_job: None,
            full_screen: false,
            screen_rect: Cell::new(None),
            hint_wanted: Cell::new(false),
            pending: Vec::new(),
        })
    }

    /// What has happened since the last picture.
    pub fn tick(&mut self, context: &egui::Context) {
        for then in self.jobs.finished() {
            then(self, context);
        }
        let mut ended = Vec::new();
        let mut other_snapshots = Vec::new();
        for (id, session) in &mut self.sessions {
            session.set_shown(self.tab == Tab::Screen && self.selected.as_ref() == Some(id));
            if let Some(reason) = session.update(context) {
                ended.push((id.clone(), reason));
            }
            if std::mem::take(&mut session.other_snapshots) {
                other_snapshots.push(id.clone());
            }
        }
        for id in other_snapshots {
            // Where the tab shows them; else they are read when it does.
            if self.browser_of(&id).is_some() {
                self.read_snapshots(&id);
            }
        }
        for (id, reason) in ended {
            self.ended(&id, &reason);
        }
        if self.sessions.values().any(Session::lively) {
            context.request_repaint_after(STATUS_INTERVAL);
        }
        if self.sessions.values().any(|session| session.monitor.waiting()) {
            context.request_repaint_after(Duration::from_millis(30));
        }
        if context.input(|input| input.viewport().close_requested()) && !self.sessions.is_empty() {
            context.send_viewport_cmd(egui::ViewportCommand::CancelClose);
            self.grab.borrow_mut().release();
            if !matches!(self.dialog, Some(Dialog::Closing(_))) {
                self.dialog = Some(Dialog::closing());
            }
        }
    }

    fn ended(&mut self, id: &str, reason: &EndReason) {
        let Some(mut session) = self.sessions.remove(id) else { return };
        if let Some(hold) = session.hold.take() {
            hold.close();
        }
        if self.grab.borrow().keyboard() == Some(id) {
            self.grab.borrow_mut().release();
        }
        // Until its folder has been read anew.
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) {
            entry.presence = Presence::Closed;
            match reason {
                EndReason::Saved(_) => entry.saved = Some(SystemTime::now()),
                EndReason::PowerOff => entry.saved = None,
                EndReason::Failed(_) | EndReason::NoReboot | EndReason::DebugExit(_) => {}
            }
        }
        match reason {
            EndReason::Failed(words) if session.resumed && session.from_snapshot.is_none() && !session.has_run => {
                self.dialog = Some(Dialog::Refused { id: id.to_owned(), words: words.clone() });
            }
            EndReason::Failed(words) => {
                let refused = session.from_snapshot.filter(|_| !session.has_run);
                let next = if let Some(snapshot) = refused {
                    self.dialog = Some(Dialog::RestoreRefused { id: id.to_owned(), snapshot, words: words.clone() });
                    "Nothing was changed. Choose another snapshot, or start the machine as it is now."
                } else {
                    "Look at Settings, then start it again."
                };
                self.troubles.insert(id.to_owned(), Trouble { what: words.clone(), next: next.into() });
            }
            EndReason::PowerOff | EndReason::Saved(_) | EndReason::NoReboot | EndReason::DebugExit(_) => {}
        }
        if let Some(frame) = session.frame.clone().or_else(|| session.handle.frame()) {
            let path = self.library.folder(id).join("screen.png");
            self.jobs.run(
                move || {
                    if let Err(error) = Picture::from(&*frame).write(&path) {
                        tracing::warn!("{}: {error}", path.display());
                    }
                },
                |_, _, ()| {},
            );
        }
        self.refresh(id);
    }

    /// Reads one machine anew, beside the window's thread.
    pub(crate) fn refresh(&self, id: &str) {
        let (library, id) = (self.library.clone(), id.to_owned());
        self.jobs.run(
            move || library.entry(id.as_ref()),
            |app, _, entry| {
                app.pictures.remove(&entry.id);
                if app.editing.as_ref().is_some_and(|editing| editing.id == entry.id && !editing.saved) {
                    app.editing = None;
                }
                match app.entries.iter_mut().find(|old| old.id == entry.id) {
                    Some(old) => *old = entry,
                    None => app.entries.push(entry),
                }
                app.entries.sort_by_key(|entry| (entry.name().to_lowercase(), entry.id.clone()));
            },
        );
    }

    /// Reads the whole library anew, beside the window's thread; then selects `select`.
    pub(crate) fn reload(&self, select: Option<String>) {
        let library = self.library.clone();
        self.jobs.run(
            move || library.list(),
            |app, _, listed| {
                app.pictures.clear();
                app.editing = None;
                match listed {
                    Ok(entries) => {
                        app.entries = entries;
                        app.library_trouble = None;
                    }
                    Err(trouble) => app.library_trouble = Some(trouble),
                }
                if select.is_some() {
                    app.selected = select;
                }
                let there = |id: &String| app.entries.iter().any(|entry| entry.id == *id);
                if !app.selected.as_ref().is_some_and(there) {
                    app.selected = app.entries.first().map(|entry| entry.id.clone());
                }
            },
        );
    }

    /// The machine with this id.
    pub(crate) fn entry(&self, id: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.id == id)
    }

    /// Switches a machine on, from its saved state where there is one.
    pub(crate) fn start(&mut self, id: &str, context: &egui::Context) {
        self.start_from(id, None, context);
    }

    /// The same from a snapshot.
    pub(crate) fn start_from(&mut self, id: &str, snapshot: Option<SnapshotId>, context: &egui::Context) {
        let Some(entry) = self.entry(id) else { return };
        let Ok(machine) = &entry.machine else { return };
        let mut machine = machine.clone();
        // Once for machines of older versions: a look at the first bytes of images that are about to be opened anyway.
        if machine.settle_formats(&entry.folder)
            && let Err(trouble) = machine.write(&entry.folder.join("machine.ron"))
        {
            tracing::warn!("{}", trouble.what);
        }
        let entry = self.entries.iter_mut().find(|entry| entry.id == id);
        let Some(entry) = entry else { return };
        // What the dialogs say depends on it.
        entry.machine = Ok(machine.clone());
        let config = machine.to_config(&entry.folder);
        let state = entry.state_folder();
        let resume_from: Option<PathBuf> = entry.saved.map(|_| state.clone());
        let folder = entry.folder.clone();
        self.troubles.remove(id);
        self.selected = Some(id.to_owned());
        self.tab = Tab::Screen;
        let hold = match Hold::take(&folder, resume_from.is_some()) {
            Ok(hold) => hold,
            Err(trouble) => {
                self.troubles.insert(id.to_owned(), trouble);
                return;
            }
        };
        if let Some(file) = hold.to_sync() {
            self.jobs.run(move || drop(file.sync_data()), |_, _, ()| {});
        }
        let goes_on = resume_from.is_some() || snapshot.is_some();
        let minutes = u64::from(machine.checkpoint_minutes);
        let from = StartOptions {
            resume_from,
            state: Some(state),
            home: Some(folder),
            snapshot,
            checkpoints: (minutes > 0).then(|| Duration::from_secs(minutes * 60)),
            ..StartOptions::default()
        };
        match Session::start(config, from, context) {
            Ok(mut session) => {
                session.hold = Some(hold);
                self.sessions.insert(id.to_owned(), session);
                // A person who goes on somewhere may still hold the keys that led there.
                if !goes_on {
                    self.give_keyboard(id, false, context);
                }
            }
            Err(error) => {
                hold.close();
                let next = "Close other machines or programs, then start it again.";
                self.troubles
                    .insert(id.to_owned(), Trouble { what: format!("It could not start: {error}"), next: next.into() });
            }
        }
    }

    /// Stop → save → quit, as one action of the engine.
    pub(crate) fn save_and_close(&mut self, id: &str) {
        if self.grab.borrow().keyboard() == Some(id) {
            self.grab.borrow_mut().release();
        }
        if let Some(session) = self.sessions.get(id) {
            session.handle.send(Command::SaveAndClose(None));
        }
    }

    /// The machine goes on running; an older saved state is as it was.
    pub(crate) fn cancel_save(&self, id: &str) {
        if let Some(session) = self.sessions.get(id) {
            session.handle.cancel_save();
        }
    }

    /// Gives the keyboard, and with `pointer` the pointer, to a guest.
    pub(crate) fn give_keyboard(&mut self, id: &str, pointer: bool, context: &egui::Context) {
        if self.dialog.is_some() {
            return;
        }
        let Some(session) = self.sessions.get(id) else { return };
        context.memory_mut(|memory| {
            if let Some(focused) = memory.focused() {
                memory.surrender_focus(focused);
            }
        });
        self.grab.borrow_mut().give(id, session.handle.clone(), pointer);
    }

    /// Presses keys in a guest for the person, then gives it the keyboard.
    pub(crate) fn send_keys(&mut self, id: &str, keys: Vec<Key>, context: &egui::Context) {
        if let Some(session) = self.sessions.get(id) {
            session.handle.send(Command::SendKeys { keys, hold_ms: HOLD_MS });
        }
        self.give_keyboard(id, false, context);
    }
}
