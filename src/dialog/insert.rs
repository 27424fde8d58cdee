//! Which image to put into a drive.

use std::path::PathBuf;

use eframe::egui;

use super::{Answer, Dialog, FormOf, ask_ui};
use crate::app::App;
use crate::library::{Drive, Place};
use crate::widget::button;
use crate::widget::machine_form::{self, Field};
use crate::widget::path_field::first_path_field_ui;

impl Dialog {
    /// Asks for an image for this drive.
    pub(crate) fn insert(id: &str, drive: &Drive) -> Self {
        let path = drive.path.as_ref().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        Dialog::Insert { id: id.to_owned(), place: drive.place, path, wrong: Vec::new(), busy: false, fresh: true }
    }
}

impl App {
    pub(super) fn insert_ui(
        &mut self,
        context: &egui::Context,
        id: String,
        place: Place,
        (mut path, mut wrong, mut busy, fresh): (String, Vec<String>, bool, bool),
    ) -> Option<Dialog> {
        let drive = self.removable(&id, place).cloned()?;
        let recent = self.recent_media(&drive);
        let (mut choose, mut insert, mut cancel) = (false, false, false);
        let modal = egui::Modal::new(egui::Id::unique("insert")).frame(super::frame(context)).show(context, |ui| {
            ui.set_width(520.0_f32.min(context.content_rect().width() - 40.0));
            ui.heading(format!("Put a medium into {}", drive.words()));
            ui.add_enabled_ui(!busy, |ui| {
                let name = "image to insert";
                let hint = if drive.cd { "ISO image" } else { "floppy image" };
                choose = first_path_field_ui(ui, name, &mut path, hint, fresh);
                if !recent.is_empty() {
                    ui.weak("Used before");
                    for image in &recent {
                        let text = image.to_string_lossy();
                        let row = egui::Button::selectable(*text == *path, text.as_ref()).truncate();
                        if ui.add(row).clicked() {
                            path = text.into_owned();
                        }
                    }
                }
            });
            for line in &wrong {
                ui.colored_label(ui.visuals().error_fg_color, line);
            }
            ui.add_space(8.0);
            ui.horizontal(|ui| {
                let possible = !busy && !path.trim().is_empty();
                ui.add_enabled_ui(possible, |ui| insert = button::primary_ui(ui, "Insert").clicked());
                cancel = ui.button("Cancel").clicked();
                if busy {
                    ui.spinner();
                }
                insert |= possible && ui.input(|input| input.key_pressed(egui::Key::Enter)) && !cancel;
            });
        });
        if cancel || modal.should_close() {
            return None;
        }
        if choose {
            self.choose_file(FormOf::Insert, Field::Drive(place));
        }
        if insert && let Some(image) = machine_form::path(&path) {
            wrong.clear();
            busy = true;
            self.change_medium(&id, place, Some(super::absolute(image)), false);
        }
        Some(Dialog::Insert { id, place, path, wrong, busy, fresh: false })
    }
}

impl App {
    /// The guest has locked the tray: what it may lose, and the way that takes nothing from it.
    pub(super) fn locked_ui(
        &mut self,
        context: &egui::Context,
        id: String,
        place: Place,
        (path, words): (Option<PathBuf>, String),
    ) -> Option<Dialog> {
        let open = if path.is_some() { "Change it all the same" } else { "Eject all the same" };
        let advice = "The guest is using the medium. Let it unmount or eject it, then try again; \
                      what it still reads from it fails if you go on.";
        match ask_ui(
            context,
            "The guest has locked the drive",
            &[words.clone(), advice.to_owned()],
            &["Leave it", open],
        ) {
            Answer::Open => return Some(Dialog::Locked { id, place, path, words }),
            Answer::Button(1) => self.change_medium(&id, place, path, true),
            Answer::Escaped | Answer::Button(_) => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use eframe::egui;
    use egui_kittest::kittest::Queryable as _;

    use crate::library::{Drive, Library, Machine, Place};
    use crate::ui_command::UiCommand;
    use crate::view::tests::{data, manager, until};

    #[test]
    fn a_medium_is_put_into_a_machine_that_is_off_and_a_wrong_path_is_told() {
        let data = data("insert");
        let library = Library::new(data.clone());
        let mut machine = Machine { name: "One".into(), ..Machine::default() };
        machine.set_drive(Place::Ide2, Some(Drive::new(Place::Ide2, true, None)));
        let id = library.create(&machine).unwrap();
        let mut harness = manager(data.clone());
        harness.state_mut().as_mut().unwrap().wish(UiCommand::Insert(Place::Ide2));
        harness.run_steps(3);
        harness.event(egui::Event::Text(data.join("none.iso").display().to_string()));
        harness.run_steps(2);
        harness.get_by_label("Insert").click();
        until(
            &mut harness,
            |app| matches!(&app.dialog, Some(super::Dialog::Insert { wrong, .. }) if !wrong.is_empty()),
        );
        assert!(harness.query_by_label_contains("none.iso is not there").is_some());
        std::fs::write(data.join("none.iso"), vec![0; 65536]).unwrap();
        harness.get_by_label("Insert").click();
        until(&mut harness, |app| app.dialog.is_none() && app.removable(&id, Place::Ide2).unwrap().path.is_some());
        // Next time it stands in the menu.
        harness.get_by_label("Drives").click();
        harness.run_steps(3);
        harness.get_by_label("Eject").click();
        until(&mut harness, |app| app.removable(&id, Place::Ide2).unwrap().path.is_none());
        harness.get_by_label("Drives").click();
        harness.run_steps(3);
        harness.get_by_label("Insert none.iso").click();
        until(&mut harness, |app| app.removable(&id, Place::Ide2).unwrap().path.is_some());
        // The preferences may just be written.
        let _ = std::fs::remove_dir_all(data);
    }
}
