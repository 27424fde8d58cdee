//! How far something is.

use eframe::egui;

/// A bar for so many of all bytes, with words on it. Nothing done where nobody knows yet how much there is.
pub fn bar((done, all): (u64, u64), text: String) -> egui::ProgressBar {
    egui::ProgressBar::new(if all == 0 { 0.0 } else { done as f32 / all as f32 }).text(text)
}
