//! The window itself: winit's events, given to guests before anybody else, then to eframe.

use std::cell::{OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use eframe::egui;
use winit::application::ApplicationHandler;
use winit::event::{DeviceEvent, DeviceId, ElementState, StartCause, WindowEvent};
use winit::event_loop::{ActiveEventLoop, EventLoop};
use winit::window::WindowId;

use super::{App, TITLE};
use crate::grab::Grab;
use crate::library::Library;

/// Longest time that keys wait for a picture: a window that is hidden may get none.
const PATIENCE: Duration = Duration::from_secs(1);

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
    let mut outer = Loop { inner, grab, context, control: false, decision: None, keys: VecDeque::new() };
    events
        .run_app(&mut outer)
        .context("the window could not be kept open (is there an OpenGL driver, such as libgl1-mesa-dri?)")
}

/// The program's picture for the window's frame and the task list.
pub fn icon() -> egui::IconData {
    eframe::icon_data::from_png_bytes(include_bytes!("../../assets/hako.png")).unwrap_or_default()
}

/// Sits between winit and eframe, so that a guest's keys never become the window's.
///
/// A shortcut or a click may give a guest the keyboard, and what it does is known only when the next picture is drawn. The keys behind
/// it wait for that, or those that a fast typist is ahead by would be lost.
struct Loop<'a> {
    inner: eframe::EframeWinitApplication<'a>,
    grab: Rc<RefCell<Grab>>,
    context: Rc<OnceCell<egui::Context>>,
    /// A key that makes shortcuts is down.
    control: bool,
    /// The picture that was drawn last when a shortcut or a click came, and when that was.
    decision: Option<(u64, Instant)>,
    /// Keys that came since.
    keys: VecDeque<(WindowId, WindowEvent)>,
}

impl Loop<'_> {
    fn pictures(&self) -> u64 {
        self.context.get().map_or(0, egui::Context::cumulative_pass_nr)
    }

    /// Whether what the last shortcut or click did is still to be seen.
    fn undecided(&mut self) -> bool {
        let pictures = self.pictures();
        self.decision = self.decision.filter(|(before, since)| *before == pictures && since.elapsed() < PATIENCE);
        self.decision.is_some()
    }

    /// Hands on the keys that have waited, up to the next shortcut.
    fn hand_on_keys(&mut self, event_loop: &ActiveEventLoop) {
        while !self.undecided()
            && let Some((window_id, event)) = self.keys.pop_front()
        {
            self.hand_on(event_loop, window_id, event);
        }
    }

    /// To the guest that has the keyboard or the pointer, or to the window.
    fn hand_on(&mut self, event_loop: &ActiveEventLoop, window_id: WindowId, event: WindowEvent) {
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
        if for_guest {
            return;
        }
        let decides = match &event {
            WindowEvent::ModifiersChanged(modifiers) => {
                let state = modifiers.state();
                self.control = state.control_key() || state.super_key();
                false
            }
            WindowEvent::KeyboardInput { event, .. } => self.control && event.state == ElementState::Pressed,
            WindowEvent::MouseInput { .. } => true,
            _ => false,
        };
        if decides {
            self.decision = Some((self.pictures(), Instant::now()));
        }
        self.inner.window_event(event_loop, window_id, event);
    }
}

impl ApplicationHandler<eframe::UserEvent> for Loop<'_> {
    fn resumed(&mut self, event_loop: &ActiveEventLoop) {
        self.inner.resumed(event_loop);
    }

    fn window_event(&mut self, event_loop: &ActiveEventLoop, window_id: WindowId, event: WindowEvent) {
        let key = matches!(event, WindowEvent::KeyboardInput { .. } | WindowEvent::ModifiersChanged(_));
        // Behind those that wait already, if only because their picture is late.
        if key && (!self.keys.is_empty() || self.undecided()) {
            self.keys.push_back((window_id, event));
        } else {
            self.hand_on(event_loop, window_id, event);
        }
        self.hand_on_keys(event_loop);
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
        self.hand_on_keys(event_loop);
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
