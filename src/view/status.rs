//! Bottom: what is true now.

use eframe::egui;
use vm_core::config::DriveKind;

use super::drives::medium_words;
use crate::app::App;
use crate::library::{Accelerator, Place};
use crate::theme::{self, Tone};
use crate::widget::state_dot::dot_ui;

impl App {
    pub(super) fn status_ui(&mut self, ui: &mut egui::Ui, id: &str) {
        ui.horizontal(|ui| {
            ui.set_min_height(24.0);
            let status = self.status(id);
            let Some(session) = self.sessions.get(id) else {
                dot_ui(ui, status.tone(), true);
                ui.label(status.words());
                return;
            };
            let requests = session.statistics.disk_requests;
            let lights: [bool; 6] = std::array::from_fn(|slot| session.light(slot));
            self.lights_ui(ui, id, &requests, lights);
            let Some(session) = self.sessions.get(id) else { return };
            for (bit, name) in [(1, "Num"), (2, "Caps"), (0, "Scroll")] {
                if session.statistics.leds & 1 << bit != 0 {
                    ui.strong(name).on_hover_text("Light of the guest's keyboard");
                }
            }
            ui.separator();
            let engine = session.statistics.engine.map_or("", Accelerator::label);
            ui.label(format!("{:.0} MIPS · {engine}", session.statistics.mips))
                .on_hover_text("Millions of guest instructions a second while it works");
            ui.weak(format!("clock +{:.1} ms", session.statistics.timer_lateness as f64 / 1e6))
                .on_hover_text("How late the latest timer tick was");
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                let grab = self.grab.borrow();
                if grab.keyboard().is_some() {
                    let what = if grab.pointer() {
                        "Ctrl-Alt releases keyboard and mouse"
                    } else {
                        "Ctrl-Alt releases the keyboard"
                    };
                    ui.strong(what);
                } else {
                    ui.weak("Click the screen to type");
                }
            });
        });
    }

    /// A light for each drive. Behind those with removable media is their menu.
    fn lights_ui(&mut self, ui: &mut egui::Ui, id: &str, requests: &[u64; 6], lights: [bool; 6]) {
        let Some(Ok(machine)) = self.entry(id).map(|entry| &entry.machine) else { return };
        let drives = machine.drives.clone();
        for drive in drives {
            let Some(slot) = Place::ALL.into_iter().position(|place| place == drive.place) else { continue };
            ui.scope(|ui| {
                ui.spacing_mut().item_spacing.x = theme::STEP;
                dot_ui(ui, Tone::Running, lights[slot]);
                let short = if drive.cd { "CD" } else { drive.place.name() }.to_uppercase();
                let mut words =
                    format!("{}: {}, {} requests so far", drive.words(), medium_words(&drive), requests[slot]);
                if drive.kind() == DriveKind::Disk {
                    ui.small(short).on_hover_text(words);
                    return;
                }
                words.push_str("; click to change what is in it");
                let text = egui::RichText::new(short).small();
                let text = if drive.path.is_none() { text.weak() } else { text };
                let button = ui.add(egui::Button::new(text).frame_when_inactive(false).small());
                egui::Popup::menu(&button).show(|ui| self.drive_rows_ui(ui, id, &drive));
                button.on_hover_text(words).accessible_name(format!("{}: {}", drive.words(), medium_words(&drive)));
            });
        }
    }
}
