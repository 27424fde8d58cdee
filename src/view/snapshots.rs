//! The Snapshots tab: what is there today, and what comes.

use eframe::egui;

use crate::app::{App, Status};
use crate::ui_command::UiCommand;
use crate::widget::button;

impl App {
    pub(super) fn snapshots_ui(&mut self, ui: &mut egui::Ui, id: &str) {
        ui.heading("Snapshots");
        ui.label(match self.status(id) {
            Status::Saved(_) => "This machine sleeps in a saved state. Resume goes on exactly there; the state belongs to its disks as they are now.",
            Status::Running | Status::Paused | Status::Stopped => {
                "Save & Close puts the machine to sleep as one action: stop, save, quit. The next start goes on from there."
            }
            Status::Starting | Status::Saving => "One moment.",
            Status::Elsewhere => "The machine is on in another window of Hako.",
            Status::Off | Status::Attention => "There is no saved state. While the machine is on, Save & Close makes one.",
        });
        ui.horizontal_wrapped(|ui| {
            for command in [UiCommand::Resume, UiCommand::SaveAndClose, UiCommand::DiscardState] {
                if button::command_ui(ui, command, false, self.available(command, id)) {
                    self.wish(command);
                }
            }
        });
        ui.add_space(12.0);
        ui.strong("Not there yet");
        ui.weak("Snapshots taken while the guest runs, with memory and all disks in one instant, and a tree to go back to any of them.");
    }
}
