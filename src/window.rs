//! The lean stand-alone window of `hako run -display window`: winit and pixels; egui only where there is something to ask.

mod closing;
mod overlay;
mod raster;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pixels::{Pixels, PixelsBuilder, SurfaceTexture};
use vm_core::frame::Frame;
use vm_core::runner::{Event, RunState, VmHandle};
use winit::application::ApplicationHandler;
use winit::dpi::{LogicalSize, PhysicalSize};
use winit::event::{DeviceEvent, DeviceId, ElementState, MouseButton, StartCause, WindowEvent};
use winit::event_loop::{ActiveEventLoop, ControlFlow, EventLoop, EventLoopProxy};
use winit::window::{Icon, Window, WindowId};

use self::closing::Closing;
use self::overlay::Overlay;
use self::raster::Canvas;
use crate::grab::{Area, Grab};

/// How often a new picture is looked for.
const INTERVAL: Duration = Duration::from_millis(16);

/// Shows the machine's screen until it ends, on the calling (main) thread. Who closes the window is asked what becomes of the machine:
/// saved, switched off, or kept running.
///
/// # Errors
/// In words: no display server, or no usable GPU driver (with the name of the package that brings one).
pub fn run(machine: &VmHandle, title: &str) -> anyhow::Result<()> {
    let events = EventLoop::<()>::with_user_event()
        .build()
        .context("there is no display to open a window on (DISPLAY or WAYLAND_DISPLAY); use -display none")?;
    wake_at_end(machine, events.create_proxy());
    let mut shell = Shell {
        machine: machine.clone(),
        title: title.to_owned(),
        grab: Grab::default(),
        screen: None,
        shown: None,
        failure: None,
        closing: None,
    };
    events.run_app(&mut shell).context("the window could not be kept open")?;
    shell.failure.map_or(Ok(()), Err)
}

/// Wakes the window when the machine ends, however long it shows nothing new.
fn wake_at_end(machine: &VmHandle, proxy: EventLoopProxy<()>) {
    let events = machine.events();
    let watch = move || {
        for event in events {
            if matches!(event, Event::State(RunState::Ended(_))) {
                // A window that is gone needs no waking.
                let _ = proxy.send_event(());
                return;
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("watch".into()).spawn(watch) {
        tracing::warn!("no thread to watch the machine: {error}");
    }
}

struct Screen {
    window: Arc<Window>,
    pixels: Pixels<'static>,
    size: PhysicalSize<u32>,
    overlay: Overlay,
}

/// Pixels across, pixels down, bits of the aspect.
type Shape = (u32, u32, u32);

struct Shell {
    machine: VmHandle,
    title: String,
    grab: Grab,
    screen: Option<Screen>,
    /// Number and shape of the picture on the window.
    shown: Option<(u64, Shape)>,
    failure: Option<anyhow::Error>,
    closing: Option<Closing>,
}

impl Shell {
    fn open(&mut self, event_loop: &ActiveEventLoop) -> anyhow::Result<()> {
        let icon = crate::app::icon();
        let attributes = Window::default_attributes()
            .with_title(self.caption())
            .with_window_icon(Icon::from_rgba(icon.rgba, icon.width, icon.height).ok())
            .with_inner_size(LogicalSize::new(800, 600))
            .with_min_inner_size(LogicalSize::new(160, 120));
        let window = Arc::new(event_loop.create_window(attributes).context("no window could be opened")?);
        let size = window.inner_size();
        let (width, height) = (size.width.max(1), size.height.max(1));
        let surface = SurfaceTexture::new(width, height, Arc::clone(&window));
        let pixels =
            PixelsBuilder::new(width, height, surface).wgpu_backend(pixels::wgpu::Backends::VULKAN).build().context(
                "no usable GPU driver for a stand-alone window: it needs Vulkan (Debian's package mesa-vulkan-drivers \
                 brings one that works on any computer). The manager (“hako” alone) and -display none work without it",
            )?;
        self.grab.set_window(&window);
        // The window is the guest's screen and nothing else: its keys are the guest's.
        self.grab.give("", self.machine.clone(), false);
        let overlay = Overlay::new(&window);
        self.screen = Some(Screen { window, pixels, size, overlay });
        Ok(())
    }

    fn caption(&self) -> String {
        let hint = if self.grab.pointer() { " (Ctrl-Alt releases the mouse)" } else { "" };
        format!("{} - Hako{hint}", self.title)
    }

    /// Whether the window has a question; keys and pointer are the answer's then, not the guest's.
    fn speaks(&self) -> bool {
        self.closing.as_ref().is_some_and(Closing::speaks)
    }

    fn fail(&mut self, event_loop: &ActiveEventLoop, error: anyhow::Error) {
        self.failure = Some(error);
        event_loop.exit();
    }

    /// Draws the newest picture, if it is not on the window yet, and what is to be said over it.
    fn draw(&mut self, again: bool) -> anyhow::Result<()> {
        let speaks = self.speaks();
        let again = again || speaks;
        let Some(screen) = &mut self.screen else { return Ok(()) };
        let PhysicalSize { width, height } = screen.size;
        match self.machine.frame() {
            None if again => screen.pixels.frame_mut().fill(0),
            None => return Ok(()),
            Some(frame) => {
                if !again && self.shown.is_some_and(|(sequence, _)| sequence == frame.sequence) {
                    return Ok(());
                }
                // What of the window is right already; nothing where it has another size or shape.
                let shape = (frame.width, frame.height, frame.aspect.to_bits());
                let kept = self.shown.filter(|&(_, shown)| shown == shape && !again);
                let since = kept.map_or(0, |(sequence, _)| sequence);
                self.shown = Some((frame.sequence, shape));
                let (left, top, wide, high) = placed(width, height, frame.aspect);
                let area = Area { left: left.into(), top: top.into(), width: wide.into(), height: high.into() };
                self.grab.set_picture(Some(area));
                paint(screen.pixels.frame_mut(), width, height, &frame, since);
            }
        }
        if speaks {
            // Under the words the picture is not what the guest shows.
            self.shown = None;
            let closing = &mut self.closing;
            let mut canvas = Canvas { rgba: screen.pixels.frame_mut(), width, height };
            screen.overlay.paint(&screen.window, &mut canvas, |context| {
                *closing = closing.take().and_then(|closing| closing.ui(context, &self.machine, &self.title));
            });
        }
        if let Err(error) = screen.pixels.render() {
            // A surface may be lost for a moment (another resolution, a locked screen); the next picture tries again.
            tracing::warn!("a picture could not be shown: {error}");
        }
        Ok(())
    }

    fn resize(&mut self, size: PhysicalSize<u32>) -> anyhow::Result<()> {
        let Some(screen) = &mut self.screen else { return Ok(()) };
        if size.width == 0 || size.height == 0 || size == screen.size {
            return Ok(());
        }
        screen.pixels.resize_surface(size.width, size.height)?;
        screen.pixels.resize_buffer(size.width, size.height)?;
        screen.size = size;
        self.shown = None;
        screen.window.request_redraw();
        Ok(())
    }
}

impl ApplicationHandler<()> for Shell {
    fn resumed(&mut self, event_loop: &ActiveEventLoop) {
        if self.screen.is_none()
            && let Err(error) = self.open(event_loop)
        {
            self.fail(event_loop, error);
        }
    }

    fn window_event(&mut self, event_loop: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        let speaks = self.speaks();
        if let (true, Some(screen)) = (speaks, &mut self.screen) {
            screen.overlay.window_event(&screen.window, &event);
        }
        let for_guest = !speaks && self.grab.window_event(&event);
        if !speaks && self.grab.keyboard().is_none() {
            // Ctrl-Alt: the pointer is free, the keyboard stays where it is the only one that can use it.
            self.grab.give("", self.machine.clone(), false);
        }
        let done = match event {
            _ if for_guest => Ok(()),
            WindowEvent::CloseRequested => {
                self.grab.release();
                self.closing.get_or_insert(Closing::Asking);
                Ok(())
            }
            WindowEvent::Resized(size) => self.resize(size),
            WindowEvent::RedrawRequested => self.draw(true),
            WindowEvent::MouseInput { state: ElementState::Released, button: MouseButton::Left, .. } if !speaks => {
                self.grab.give("", self.machine.clone(), true);
                Ok(())
            }
            _ => Ok(()),
        };
        if let Some(screen) = &self.screen {
            screen.window.set_cursor_visible(speaks || !self.grab.pointer() && !self.grab.over_picture());
            let caption = self.caption();
            if screen.window.title() != caption {
                screen.window.set_title(&caption);
            }
        }
        if let Err(error) = done {
            self.fail(event_loop, error);
        }
    }

    fn device_event(&mut self, _: &ActiveEventLoop, _: DeviceId, event: DeviceEvent) {
        if let DeviceEvent::MouseMotion { delta } = event {
            self.grab.motion(delta.0, delta.1);
        }
    }

    fn new_events(&mut self, event_loop: &ActiveEventLoop, _: StartCause) {
        if matches!(self.machine.state(), RunState::Ended(_))
            || self.closing.as_ref().is_some_and(Closing::out_of_patience)
        {
            event_loop.exit();
        }
    }

    fn user_event(&mut self, event_loop: &ActiveEventLoop, (): ()) {
        event_loop.exit();
    }

    fn about_to_wait(&mut self, event_loop: &ActiveEventLoop) {
        if let Err(error) = self.draw(false) {
            self.fail(event_loop, error);
        }
        event_loop.set_control_flow(ControlFlow::WaitUntil(Instant::now() + INTERVAL));
    }
}

/// Left edge, upper edge, width and height of a picture of this shape in a window of this size.
fn placed(width: u32, height: u32, aspect: f32) -> (u32, u32, u32, u32) {
    let aspect = if aspect.is_finite() && aspect > 0.0 { aspect } else { 4.0 / 3.0 };
    let (wide, high) = if width as f32 / height as f32 > aspect {
        (((height as f32 * aspect) as u32).clamp(1, width), height)
    } else {
        (width, ((width as f32 / aspect) as u32).clamp(1, height))
    };
    ((width - wide) / 2, (height - high) / 2, wide, high)
}

/// Scales the picture into the middle of a window of `width` × `height` pixels, in its own shape. `since`: the window shows
/// that picture already (0: none), so that only rows that changed after it are drawn.
fn paint(into: &mut [u8], width: u32, height: u32, frame: &Frame, since: u64) {
    if since == 0 {
        into.fill(0);
    }
    let (columns, rows) = (frame.width as usize, frame.height as usize);
    if columns == 0 || rows == 0 || frame.rgba.len() < columns * rows * 4 || into.len() < (width * height * 4) as usize
    {
        return;
    }
    let (left, top, wide, high) = placed(width, height, frame.aspect);
    let sources: Vec<usize> = (0..wide as usize).map(|x| x * columns / wide as usize * 4).collect();
    for y in 0..high {
        let row = y as usize * rows / high as usize;
        if since != 0 && frame.changed.get(row).is_some_and(|&changed| changed <= since) {
            continue;
        }
        let from = &frame.rgba[row * columns * 4..(row + 1) * columns * 4];
        let start = ((top + y) as usize * width as usize + left as usize) * 4;
        let to = &mut into[start..start + wide as usize * 4];
        for (pixel, &source) in to.chunks_exact_mut(4).zip(&sources) {
            pixel.copy_from_slice(&from[source..source + 4]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_keep_their_shape_in_any_window() {
        let frame = Frame {
            sequence: 1,
            width: 2,
            height: 1,
            aspect: 4.0 / 3.0,
            rgba: vec![1, 1, 1, 255, 2, 2, 2, 255],
            ..Frame::default()
        };
        for (width, height) in [(1, 1), (800, 600), (1000, 100), (3, 500), (7, 5)] {
            let mut into = vec![9; (width * height * 4) as usize];
            paint(&mut into, width, height, &frame, 0);
            assert!(!into.contains(&9));
        }
        let mut into = vec![0; 16 * 6 * 4];
        paint(&mut into, 16, 6, &frame, 0);
        let row: Vec<u8> = into[..16 * 4].chunks_exact(4).map(|pixel| pixel[0]).collect();
        assert_eq!(row, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 0, 0, 0, 0]);
    }

    #[test]
    fn only_rows_that_changed_are_drawn_again() {
        let mut frame = Frame {
            sequence: 4,
            width: 1,
            height: 4,
            aspect: 0.5,
            rgba: (1..=4).flat_map(|row| [row; 4]).collect(),
            changed: vec![1, 4, 2, 3],
            ..Frame::default()
        };
        let mut into = vec![9; 4 * 8 * 4];
        paint(&mut into, 4, 8, &frame, 2);
        let column: Vec<u8> = into.chunks_exact(16).map(|row| row[0]).collect();
        assert_eq!(column, [9, 9, 2, 2, 9, 9, 4, 4]);
        frame.changed.clear();
        paint(&mut into, 4, 8, &frame, 2);
        let column: Vec<u8> = into.chunks_exact(16).map(|row| row[0]).collect();
        assert_eq!(column, [1, 1, 2, 2, 3, 3, 4, 4]);
    }
}
