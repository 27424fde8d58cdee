//! A calm message with its next steps.

use eframe::egui;

use crate::theme::{self, Tone};

/// Draws the message with a button a step; says which was clicked.
pub fn banner_ui(ui: &mut egui::Ui, title: &str, words: &str, steps: &[&str]) -> Option<usize> {
    let mut clicked = None;
    egui::Frame::new()
        .fill(theme::colour(ui, Tone::Banner))
        .stroke(egui::Stroke::new(1.0, theme::colour(ui, Tone::Hairline)))
        .corner_radius(theme::CORNER)
        .inner_margin(12)
        .show(ui, |ui| {
            ui.set_min_width(ui.available_width());
            if !title.is_empty() {
                ui.strong(title);
            }
            if !words.is_empty() {
                ui.label(words);
            }
            if !steps.is_empty() {
                ui.horizontal_wrapped(|ui| {
                    for (index, step) in steps.iter().enumerate() {
                        if ui.button(*step).clicked() {
                            clicked = Some(index);
                        }
                    }
                });
            }
        });
    clicked
}
