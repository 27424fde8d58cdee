//! egui over the guest's picture, for the few words that the stand-alone window has to say.

use eframe::egui;
use egui_winit::State;
use winit::event::WindowEvent;
use winit::window::Window;

use super::raster::{Canvas, Raster};
use crate::theme;

/// Side of the largest picture that egui may put its letters in, in pixels.
const LARGEST_TEXTURE: usize = 2048;

/// What is laid over the guest's picture.
pub struct Overlay {
    state: State,
    raster: Raster,
}

impl Overlay {
    /// Over this window.
    pub fn new(window: &Window) -> Self {
        let context = egui::Context::default();
        theme::install(&context);
        let scale = Some(window.scale_factor() as f32);
        let largest = Some(LARGEST_TEXTURE);
        let state = State::new(context, egui::ViewportId::ROOT, window, scale, window.theme(), largest);
        Self { state, raster: Raster::default() }
    }

    /// An event of the window while there is something to answer.
    pub fn window_event(&mut self, window: &Window, event: &WindowEvent) {
        let _ = self.state.on_window_event(window, event);
    }

    /// Lets `say` build what is shown and paints it over the picture of the whole window.
    pub fn paint(&mut self, window: &Window, canvas: &mut Canvas<'_>, mut say: impl FnMut(&egui::Context)) {
        let input = self.state.take_egui_input(window);
        let context = self.state.egui_ctx().clone();
        let output = context.run_ui(input, |ui| say(ui.ctx()));
        self.state.handle_platform_output(window, output.platform_output);
        self.raster.update(&output.textures_delta);
        let primitives = context.tessellate(output.shapes, output.pixels_per_point);
        self.raster.paint(canvas, &primitives, output.pixels_per_point);
        self.raster.free(&output.textures_delta);
    }
}
