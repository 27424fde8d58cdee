//! The Monitor tab: a console to the engine.

use eframe::egui::{self, Key};

use crate::app::App;

impl App {
    pub(super) fn monitor_ui(&mut self, ui: &mut egui::Ui, id: &str) {
        let Some(session) = self.sessions.get_mut(id) else {
            egui::Frame::new().inner_margin(20).show(ui, |ui| {
                ui.heading("Monitor");
                ui.weak("A console that asks the running machine about itself: registers, memory, disks. Start the machine first.");
            });
            return;
        };
        egui::Panel::bottom("monitor input").frame(egui::Frame::new().inner_margin(8)).show(ui, |ui| {
            ui.horizontal(|ui| {
                ui.monospace("(hako)");
                let field = egui::TextEdit::singleline(&mut session.monitor.input)
                    .font(egui::TextStyle::Monospace)
                    .desired_width(f32::INFINITY)
                    .hint_text("help, info registers, info block, x /8x 0x7c00 …");
                let response = ui.add(field).accessible_name("Monitor command");
                if response.has_focus() {
                    if ui.input(|input| input.key_pressed(Key::ArrowUp)) {
                        session.monitor.recall(-1);
                    }
                    if ui.input(|input| input.key_pressed(Key::ArrowDown)) {
                        session.monitor.recall(1);
                    }
                }
                if response.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter)) {
                    session.ask_monitor();
                    response.request_focus();
                }
            });
        });
        let monitor = &session.monitor;
        egui::Frame::new().inner_margin(8).show(ui, |ui| {
            let row = ui.text_style_height(&egui::TextStyle::Monospace);
            egui::ScrollArea::both().auto_shrink(false).stick_to_bottom(true).show_rows(
                ui,
                row,
                monitor.lines.len(),
                |ui, range| {
                    for line in monitor.lines.get(range).unwrap_or_default() {
                        ui.add(egui::Label::new(egui::RichText::new(line).monospace()).extend());
                    }
                },
            );
        });
    }
}
