//! The dot in the colour of a machine's state.

use eframe::egui;

use crate::theme::{self, Tone};

/// Draws the dot, on for states and lights.
pub fn dot_ui(ui: &mut egui::Ui, tone: Tone, on: bool) {
    let size = theme::STEP * 2.5;
    let (rect, _) = ui.allocate_exact_size(egui::vec2(size, size), egui::Sense::empty());
    let colour = theme::colour(ui, tone);
    if on {
        ui.painter().circle_filled(rect.center(), size * 0.42, colour);
    } else {
        ui.painter().circle_stroke(rect.center(), size * 0.36, egui::Stroke::new(1.0, colour));
    }
}
