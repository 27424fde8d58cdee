//! Removable drives: what is in them, and the ways to change it. The same rows stand in the Drives menu, behind the lights at the
//! bottom and in the settings.

use eframe::egui;

use crate::app::App;
use crate::library::Drive;
use crate::ui_command::UiCommand;
use crate::widget::button;

/// So many images of before stand in a menu.
const RECENT_ROWS: usize = 5;

impl App {
    /// The removable drives of a machine.
    pub(super) fn removable_drives(&self, id: &str) -> Vec<Drive> {
        let machine = self.entry(id).and_then(|entry| entry.machine.as_ref().ok());
        machine.map(|machine| machine.removable().cloned().collect()).unwrap_or_default()
    }

    /// The Drives menu of the toolbar.
    pub(super) fn drives_menu_ui(&mut self, ui: &mut egui::Ui, id: &str) {
        let drives = self.removable_drives(id);
        ui.add_enabled_ui(!drives.is_empty(), |ui| {
            let menu = ui.menu_button(button::MENU_DRIVES, |ui| {
                for (index, drive) in drives.iter().enumerate() {
                    if index > 0 {
                        ui.separator();
                    }
                    self.drive_rows_ui(ui, id, drive);
                }
            });
            button::arrow_ui(ui, &menu.response);
            menu.response
                .on_hover_text("Change what is in the CD and floppy drives")
                .on_disabled_hover_text("It has no CD or floppy drive; Settings adds one")
                .accessible_name("Drives");
        });
    }

    /// What is in a drive, Insert, Eject, and images of before.
    pub(super) fn drive_rows_ui(&mut self, ui: &mut egui::Ui, id: &str, drive: &Drive) {
        ui.set_min_width(240.0);
        ui.weak(format!("{}: {}", drive.words(), medium_words(drive)));
        for command in [UiCommand::Insert(drive.place), UiCommand::Eject(drive.place)] {
            let short = if matches!(command, UiCommand::Eject(_)) { "Eject" } else { "Insert…" };
            let available = self.available(command, id);
            if button::menu_row_named_ui(ui, command, short, available) {
                self.wish_for(command, id);
            }
        }
        let available = self.media_available(id);
        for path in self.recent_media(drive).into_iter().take(RECENT_ROWS) {
            let name =
                path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into());
            let row = egui::Button::new(format!("Insert {name}")).truncate();
            let response = ui.add_enabled(available.is_ok(), row).on_hover_text(path.display().to_string());
            if response.clicked() {
                ui.close();
                self.change_medium(id, drive.place, Some(path), false);
            }
        }
    }
}

/// The name of what is in a drive.
pub(super) fn medium_words(drive: &Drive) -> String {
    match &drive.path {
        None => "empty".to_owned(),
        Some(path) => {
            path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
        }
    }
}
