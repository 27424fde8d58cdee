//! Bottom: what is true now.

use eframe::egui;

use crate::app::App;
use crate::library::Place;
use crate::theme::Tone;
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
            if let Some(Ok(machine)) = self.entry(id).map(|entry| &entry.machine) {
                for (slot, place) in Place::ALL.into_iter().enumerate() {
                    if let Some(drive) = machine.drive(place) {
                        let on = session.light(slot);
                        dot_ui(ui, Tone::Running, on);
                        let name = if drive.cd { "CD" } else { place.name() };
                        ui.small(name.to_uppercase()).on_hover_text(format!(
                            "{}: {} requests so far",
                            place.label(),
                            session.statistics.disk_requests[slot]
                        ));
                    }
                }
            }
            for (bit, name) in [(1, "Num"), (2, "Caps"), (0, "Scroll")] {
                if session.statistics.leds & 1 << bit != 0 {
                    ui.strong(name).on_hover_text("Light of the guest's keyboard");
                }
            }
            ui.separator();
            ui.label(format!("{:.0} MIPS · interpreter", session.statistics.mips))
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
}
