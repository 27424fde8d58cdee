//! The manager: its window, its event loop and what it holds.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use eframe::egui;
use vm_core::input::Key;
use vm_core::runner::event::EndReason;
use vm_core::runner::{Command, RunState};
use winit::application::ApplicationHandler;
use winit::event::{DeviceEvent, DeviceId, StartCause, WindowEvent};
use winit::event_loop::{ActiveEventLoop, EventLoop};
use winit::window::WindowId;

use crate::dialog::Dialog;
use crate::grab::Grab;
use crate::jobs::Jobs;
use crate::library::{self, Entry, Library, Picture, Trouble};
use crate::preferences::Preferences;
use crate::session::Session;
use crate::theme::{self, Tone};
use crate::ui_command::UiCommand;
use crate::widget::machine_form::MachineForm;

/// The window's title, which never changes: tests and window rules look for it.
pub const TITLE: &str = "Hako";
/// How often the status line of a running machine is drawn anew.
const STATUS_INTERVAL: Duration = Duration::from_millis(500);
/// How long keys of the Send-keys menu are down.
const HOLD_MS: u32 = 80;

/// A tab of the centre.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the tab that it is named for")]
pub enum Tab {
    #[default]
    Screen,
    Snapshots,
    Settings,
    Monitor,
    Insight,
}

/// What a machine does, for its card and its buttons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "`words` says what each is")]
pub enum Status {
    Attention,
    Off,
    Saved(SystemTime),
    Starting,
    Running,
    Paused,
    Stopped,
    Saving,
}

impl Status {
    /// In words.
    pub fn words(self) -> String {
        match self {
            Status::Attention => "needs attention".into(),
            Status::Off => "off".into(),
            Status::Saved(at) => format!("saved {}", local_time(at)),
            Status::Starting => "starting".into(),
            Status::Running => "running".into(),
            Status::Paused => "paused".into(),
            Status::Stopped => "stopped".into(),
            Status::Saving => "saving".into(),
        }
    }

    /// The colour of its dot.
    pub fn tone(self) -> Tone {
        match self {
            Status::Attention | Status::Stopped => Tone::Attention,
            Status::Off => Tone::Off,
            Status::Saved(_) | Status::Saving => Tone::Saved,
            Status::Starting | Status::Running => Tone::Running,
            Status::Paused => Tone::Paused,
        }
    }
}

/// Today's time, or the date where it was another day.
fn local_time(at: SystemTime) -> String {
    let at: chrono::DateTime<chrono::Local> = at.into();
    let form = if at.date_naive() == chrono::Local::now().date_naive() { "%H:%M" } else { "%Y-%m-%d %H:%M" };
    at.format(form).to_string()
}

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
    pub(crate) full_screen: bool,
    /// Where the guest's screen was last drawn.
    pub(crate) screen_rect: Cell<Option<egui::Rect>>,
    /// Full screen has just begun: say how to leave it.
    pub(crate) hint_wanted: Cell<bool>,
    pending: Vec<(UiCommand, String)>,
}

/// Opens the window and runs until it is closed.
///
/// # Errors
/// Where no window or no OpenGL context can be had.
pub fn run() -> anyhow::Result<()> {
    let library = Library::of_person()?;
    let no_display =
        "there is no display to open a window on (DISPLAY or WAYLAND_DISPLAY); “hako run” works without one";
    let events = EventLoop::<eframe::UserEvent>::with_user_event().build().context(no_display)?;
    let grab = Rc::new(RefCell::new(Grab::default()));
    let context = Rc::new(OnceCell::new());
    let options = eframe::NativeOptions {
        viewport: egui::ViewportBuilder::default()
            .with_title(TITLE)
            .with_app_id("hako")
            .with_icon(icon())
            .with_inner_size([1120.0, 740.0])
            .with_min_inner_size([480.0, 360.0]),
        // Names of machines and files may be written in any script.
        system_font_fallback: true,
        ..Default::default()
    };
    let (shared_grab, shared_context) = (Rc::clone(&grab), Rc::clone(&context));
    let inner = eframe::create_native(
        "hako",
        options,
        Box::new(move |creation| {
            let _ = shared_context.set(creation.egui_ctx.clone());
            Ok(Box::new(App::new(library, shared_grab, &creation.egui_ctx)?))
        }),
        &events,
    );
    let mut outer = Loop { inner, grab, context };
    events
        .run_app(&mut outer)
        .context("the window could not be kept open (is there an OpenGL driver, such as libgl1-mesa-dri?)")
}

/// The program's picture for the window's frame and the task list.
pub fn icon() -> egui::IconData {
    eframe::icon_data::from_png_bytes(include_bytes!("../assets/hako.png")).unwrap_or_default()
}

/// Sits between winit and eframe, so that a guest's keys never become the window's.
struct Loop<'a> {
    inner: eframe::EframeWinitApplication<'a>,
    grab: Rc<RefCell<Grab>>,
    context: Rc<OnceCell<egui::Context>>,
}

impl ApplicationHandler<eframe::UserEvent> for Loop<'_> {
    fn resumed(&mut self, event_loop: &ActiveEventLoop) {
        self.inner.resumed(event_loop);
    }

    fn window_event(&mut self, event_loop: &ActiveEventLoop, window_id: WindowId, event: WindowEvent) {
        let for_guest = {
            let mut grab = self.grab.borrow_mut();
            let before = (grab.keyboard().is_some(), grab.pointer());
            let for_guest = grab.window_event(&event);
            if before != (grab.keyboard().is_some(), grab.pointer())
                && let Some(context) = self.context.get()
            {
                context.request_repaint();
            }
            for_guest
        };
        if !for_guest {
            self.inner.window_event(event_loop, window_id, event);
        }
    }

    fn device_event(&mut self, event_loop: &ActiveEventLoop, device_id: DeviceId, event: DeviceEvent) {
        if let DeviceEvent::MouseMotion { delta } = event {
            let mut grab = self.grab.borrow_mut();
            if grab.pointer() {
                grab.motion(delta.0, delta.1);
                return;
            }
        }
        self.inner.device_event(event_loop, device_id, event);
    }

    fn new_events(&mut self, event_loop: &ActiveEventLoop, cause: StartCause) {
        self.inner.new_events(event_loop, cause);
    }

    fn user_event(&mut self, event_loop: &ActiveEventLoop, event: eframe::UserEvent) {
        self.inner.user_event(event_loop, event);
    }

    fn about_to_wait(&mut self, event_loop: &ActiveEventLoop) {
        self.inner.about_to_wait(event_loop);
    }

    fn suspended(&mut self, event_loop: &ActiveEventLoop) {
        self.inner.suspended(event_loop);
    }

    fn exiting(&mut self, event_loop: &ActiveEventLoop) {
        self.inner.exiting(event_loop);
    }

    fn memory_warning(&mut self, event_loop: &ActiveEventLoop) {
        self.inner.memory_warning(event_loop);
    }
}

impl eframe::App for App {
    fn logic(&mut self, context: &egui::Context, frame: &mut eframe::Frame) {
        if let Some(window) = frame.winit_window() {
            self.grab.borrow_mut().set_window(window);
        }
        self.tick(context);
    }

    fn ui(&mut self, ui: &mut egui::Ui, _: &mut eframe::Frame) {
        self.window_ui(ui);
    }

    fn on_exit(&mut self, _: Option<&eframe::glow::Context>) {
        self.grab.borrow_mut().release();
        self.preferences.selected = self.selected.clone();
        if let Err(error) = self.preferences.write(self.library.data()) {
            tracing::warn!("preferences: {error}");
        }
        self.jobs.finish();
    }
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
        for (id, session) in &mut self.sessions {
            session.set_shown(self.tab == Tab::Screen && self.selected.as_ref() == Some(id));
            if let Some(reason) = session.update(context) {
                ended.push((id.clone(), reason));
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
        let Some(session) = self.sessions.remove(id) else { return };
        if self.grab.borrow().keyboard() == Some(id) {
            self.grab.borrow_mut().release();
        }
        self.full_screen = false;
        // Until its folder has been read anew.
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) {
            match reason {
                EndReason::Saved(_) => entry.saved = Some(SystemTime::now()),
                EndReason::PowerOff => entry.saved = None,
                EndReason::Failed(_) | EndReason::NoReboot | EndReason::DebugExit(_) => {}
            }
        }
        match reason {
            EndReason::Failed(words) if session.resumed && !session.has_run => {
                self.dialog = Some(Dialog::Refused { id: id.to_owned(), words: words.clone() });
            }
            EndReason::Failed(words) => {
                let next = "Look at Settings, then start it again.";
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

    /// What a machine does.
    pub(crate) fn status(&self, id: &str) -> Status {
        if let Some(session) = self.sessions.get(id) {
            return match session.state {
                RunState::Starting => Status::Starting,
                RunState::Running => Status::Running,
                RunState::Paused => Status::Paused,
                RunState::Stopped(_) => Status::Stopped,
                RunState::Saving => Status::Saving,
                RunState::Ended(_) => Status::Off,
            };
        }
        match self.entry(id) {
            None => Status::Off,
            Some(entry) if entry.trouble().is_some() || self.troubles.contains_key(id) => Status::Attention,
            Some(entry) => entry.saved.map_or(Status::Off, Status::Saved),
        }
    }

    /// What one most likely wants of a machine now.
    pub(crate) fn primary(&self, id: &str) -> UiCommand {
        match self.status(id) {
            Status::Running | Status::Starting | Status::Saving => UiCommand::SaveAndClose,
            Status::Paused | Status::Saved(_) => UiCommand::Resume,
            Status::Stopped => UiCommand::Reset,
            Status::Attention if self.entry(id).is_some_and(|entry| entry.saved.is_some()) => UiCommand::Resume,
            Status::Off | Status::Attention => UiCommand::Start,
        }
    }

    /// Whether an action can be had now for a machine, else why not.
    pub(crate) fn available(&self, command: UiCommand, id: &str) -> Result<(), &'static str> {
        let status = self.status(id);
        let known = self.entry(id).is_some();
        let on = self.sessions.contains_key(id);
        let saved = self.entry(id).is_some_and(|entry| entry.saved.is_some());
        let broken = self.entry(id).is_some_and(|entry| entry.trouble().is_some());
        let yes = |condition, reason| if condition { Ok(()) } else { Err(reason) };
        match command {
            UiCommand::NewMachine
            | UiCommand::TabScreen
            | UiCommand::TabSnapshots
            | UiCommand::TabSettings
            | UiCommand::TabMonitor
            | UiCommand::TabInsight
            | UiCommand::NextMachine
            | UiCommand::PreviousMachine
            | UiCommand::LookAgain
            | UiCommand::SwitchTheme
            | UiCommand::Palette
            | UiCommand::Quit
            | UiCommand::OneToOne => Ok(()),
            _ if !known => Err("Select a machine first"),
            UiCommand::Start => match status {
                _ if on => Err("It is on already"),
                _ if saved => Err("It has a saved state: resume it, or discard the state first"),
                _ => yes(!broken, "It needs attention first: see its screen"),
            },
            UiCommand::Resume => match status {
                Status::Paused | Status::Stopped => Ok(()),
                _ if on => Err("It is running already"),
                _ if !saved => Err("It has no saved state; start it"),
                _ => yes(!broken, "It needs attention first: see its screen"),
            },
            UiCommand::SaveAndClose => match status {
                Status::Running | Status::Paused | Status::Stopped => Ok(()),
                Status::Saving => Err("It is being saved"),
                Status::Starting => Err("It is just starting"),
                Status::Attention | Status::Off | Status::Saved(_) => Err("It is not on"),
            },
            UiCommand::Pause => yes(status == Status::Running, "It is not running"),
            UiCommand::Reset | UiCommand::PowerOff => yes(on && status != Status::Saving, "It is not on"),
            UiCommand::PowerButton | UiCommand::CtrlAltDelete | UiCommand::TypeIntoGuest => {
                yes(status == Status::Running, "It is not running")
            }
            UiCommand::FullScreen => yes(on, "It is not on"),
            UiCommand::DiscardState => yes(saved && !on, "There is no saved state to discard"),
            UiCommand::RemoveMachine => yes(!on, "Switch it off first"),
        }
    }

    /// Does an action for the selected machine after this picture is drawn.
    pub(crate) fn wish(&mut self, command: UiCommand) {
        let id = self.selected.clone().unwrap_or_default();
        self.wish_for(command, &id);
    }

    /// The same for a machine.
    pub(crate) fn wish_for(&mut self, command: UiCommand, id: &str) {
        self.pending.push((command, id.to_owned()));
    }

    /// Does what was wished.
    pub(crate) fn carry_out_wishes(&mut self, context: &egui::Context) {
        for (command, id) in std::mem::take(&mut self.pending) {
            if self.available(command, &id).is_ok() {
                self.carry_out(command, &id, context);
            }
        }
    }

    fn carry_out(&mut self, command: UiCommand, id: &str, context: &egui::Context) {
        let send = |command| {
            if let Some(session) = self.sessions.get(id) {
                session.handle.send(command);
            }
        };
        match command {
            UiCommand::NewMachine => self.open(Dialog::new_machine()),
            UiCommand::Start | UiCommand::Resume if !self.sessions.contains_key(id) => self.start(id, context),
            UiCommand::Start | UiCommand::Resume => {
                send(Command::Resume);
                self.give_keyboard(id, false, context);
            }
            UiCommand::SaveAndClose => self.save_and_close(id),
            UiCommand::Pause => send(Command::Pause),
            UiCommand::PowerButton => send(Command::PowerButton),
            UiCommand::CtrlAltDelete => self.send_keys(id, vec![Key::ControlLeft, Key::AltLeft, Key::Delete], context),
            UiCommand::Reset | UiCommand::PowerOff | UiCommand::DiscardState | UiCommand::RemoveMachine => {
                self.open(Dialog::Confirm { command, id: id.to_owned() });
            }
            UiCommand::TypeIntoGuest => {
                self.tab = Tab::Screen;
                self.give_keyboard(id, false, context);
            }
            UiCommand::FullScreen => {
                self.full_screen = !self.full_screen;
                self.hint_wanted.set(self.full_screen);
                self.tab = Tab::Screen;
                context.send_viewport_cmd(egui::ViewportCommand::Fullscreen(self.full_screen));
            }
            UiCommand::OneToOne => {
                self.preferences.one_to_one = !self.preferences.one_to_one;
                self.write_preferences();
            }
            UiCommand::TabScreen => self.tab = Tab::Screen,
            UiCommand::TabSnapshots => self.tab = Tab::Snapshots,
            UiCommand::TabSettings => self.tab = Tab::Settings,
            UiCommand::TabMonitor => self.tab = Tab::Monitor,
            UiCommand::TabInsight => self.tab = Tab::Insight,
            UiCommand::NextMachine => self.step(1),
            UiCommand::PreviousMachine => self.step(-1),
            UiCommand::LookAgain => {
                self.troubles.clear();
                self.reload(None);
            }
            UiCommand::SwitchTheme => {
                let dark = context.theme() == egui::Theme::Dark;
                self.preferences.dark = Some(!dark);
                context.set_theme(if dark { egui::Theme::Light } else { egui::Theme::Dark });
                self.write_preferences();
            }
            UiCommand::Palette => self.open(Dialog::palette()),
            UiCommand::Quit => {
                context.send_viewport_cmd(egui::ViewportCommand::Close);
                context.request_repaint();
            }
        }
    }

    pub(crate) fn open(&mut self, dialog: Dialog) {
        self.grab.borrow_mut().release();
        self.dialog = Some(dialog);
    }

    fn write_preferences(&self) {
        let (preferences, data) = (self.preferences.clone(), self.library.data().to_owned());
        self.jobs.run(
            move || preferences.write(&data),
            |_, _, written| {
                if let Err(error) = written {
                    tracing::warn!("preferences: {error}");
                }
            },
        );
    }

    fn step(&mut self, by: isize) {
        let at = self.entries.iter().position(|entry| Some(&entry.id) == self.selected.as_ref()).unwrap_or(0);
        if let Some(entry) = self.entries.get(at.saturating_add_signed(by).min(self.entries.len().saturating_sub(1))) {
            self.selected = Some(entry.id.clone());
        }
    }

    /// Switches a machine on, from its saved state where there is one.
    pub(crate) fn start(&mut self, id: &str, context: &egui::Context) {
        let Some(entry) = self.entry(id) else { return };
        let Ok(machine) = &entry.machine else { return };
        let mut machine = machine.clone();
        // Once for machines of older versions: a look at the first bytes of images that are about to be opened anyway.
        if machine.settle_formats(&entry.folder)
            && let Err(trouble) = machine.write(&entry.folder.join("machine.ron"))
        {
            tracing::warn!("{}", trouble.what);
        }
        let config = machine.to_config(&entry.folder);
        let resume_from: Option<PathBuf> = entry.saved.map(|_| entry.state_folder());
        self.troubles.remove(id);
        self.selected = Some(id.to_owned());
        self.tab = Tab::Screen;
        match Session::start(config, resume_from, context) {
            Ok(session) => {
                self.sessions.insert(id.to_owned(), session);
                self.give_keyboard(id, false, context);
            }
            Err(error) => {
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
        if let (Some(session), Some(entry)) = (self.sessions.get(id), self.entry(id)) {
            session.handle.send(Command::SaveAndClose(entry.state_folder()));
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
