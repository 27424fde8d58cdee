//! The Settings tab.

use eframe::egui;
use vm_core::runner::Command;

use crate::app::{App, Editing, Tab};
use crate::dialog::FormOf;
use crate::library::{Place, Trouble};
use crate::ui_command::UiCommand;
use crate::widget::banner::banner_ui;
use crate::widget::button;
use crate::widget::machine_form::{Field, MachineForm};

impl App {
    pub(super) fn settings_ui(&mut self, ui: &mut egui::Ui, id: &str) {
        ui.heading("Settings");
        let Some(entry) = self.entry(id) else { return };
        let file = entry.folder.join("machine.ron");
        let machine = match &entry.machine {
            Ok(machine) => machine.clone(),
            Err(Trouble { what, next }) => {
                if banner_ui(ui, what, next, &["Look again"]).is_some() {
                    self.wish(UiCommand::LookAgain);
                }
                return;
            }
        };
        if self.editing.as_ref().is_none_or(|editing| editing.id != id) {
            let form = MachineForm::of(&machine);
            self.editing = Some(Editing { id: id.to_owned(), form, wrong: Vec::new(), saved: false });
        }
        let on = self.sessions.contains_key(id);
        let saved = self.entry(id).is_some_and(|entry| entry.saved.is_some());
        if on {
            banner_ui(
                ui,
                "",
                "The machine is on. Its hardware can be changed once it is switched off; CD and floppy can be changed now.",
                &[],
            );
            self.media_ui(ui, id);
        } else if saved {
            let words = "The saved state belongs to exactly this hardware. Resume it, or discard the state, to change the hardware.";
            if banner_ui(ui, "", words, &[UiCommand::DiscardState.text()]).is_some() {
                self.wish(UiCommand::DiscardState);
            }
        }
        let mut wanted = None;
        let mut apply = false;
        let mut revert = false;
        if let Some(editing) = &mut self.editing {
            let changed = editing.form != MachineForm::of(&machine);
            ui.add_enabled_ui(!on && !saved, |ui| {
                let before = editing.form.clone();
                wanted = editing.form.settings_ui(ui);
                if before != editing.form {
                    editing.saved = false;
                }
            });
            ui.add_space(8.0);
            for wrong in &editing.wrong {
                ui.colored_label(ui.visuals().error_fg_color, wrong);
            }
            ui.horizontal(|ui| {
                ui.add_enabled_ui(changed && !on && !saved, |ui| {
                    apply = button::primary_ui(ui, "Save settings").clicked();
                    revert = ui.button("Take back").clicked();
                });
                if editing.saved && !changed {
                    ui.label("Saved.");
                }
            });
            ui.weak(format!("The same in a text file: {}", file.display()));
        }
        if revert {
            self.editing = None;
        }
        if let Some(field) = wanted {
            self.choose_file(FormOf::Settings, field);
        }
        if apply {
            self.apply_settings(id);
        }
    }

    fn apply_settings(&mut self, id: &str) {
        let Some(base) = self.entry(id).and_then(|entry| entry.machine.clone().ok()) else { return };
        let Some(editing) = &mut self.editing else { return };
        let machine = match editing.form.machine(&base) {
            Ok(machine) => machine,
            Err(wrong) => {
                editing.wrong = wrong;
                return;
            }
        };
        editing.wrong.clear();
        self.troubles.remove(id);
        let folder = self.library.folder(id);
        let id = id.to_owned();
        self.jobs.run(
            move || {
                // A wrong path is told before anything is written.
                if let Some(trouble) = machine.attention(&folder) {
                    return Err(trouble);
                }
                machine.write(&folder.join("machine.ron"))
            },
            move |app, _, written| {
                if let Some(editing) = &mut app.editing
                    && editing.id == id
                {
                    match written {
                        Ok(()) => editing.saved = true,
                        Err(trouble) => editing.wrong = vec![trouble.what, trouble.next],
                    }
                }
                app.refresh(&id);
            },
        );
    }

    /// Changing CD and floppy while the machine is on.
    fn media_ui(&mut self, ui: &mut egui::Ui, id: &str) {
        let Some(Ok(machine)) = self.entry(id).map(|entry| entry.machine.clone()) else { return };
        let mut wanted = None;
        let mut change = None;
        let Some(editing) = &mut self.editing else { return };
        for drive in machine.drives.iter().filter(|drive| drive.cd || drive.place.is_floppy()) {
            let field = Field::Drive(drive.place);
            ui.label(if drive.cd { format!("CD in {}", drive.place.label()) } else { drive.place.label().to_owned() });
            let mut path = editing.form.path_of(field);
            if crate::widget::path_field::path_field_ui(
                ui,
                &format!("medium in {}", drive.place.label()),
                &mut path,
                "image",
            ) {
                wanted = Some(field);
            }
            editing.form.set_path(field, path.clone());
            ui.horizontal(|ui| {
                let path = path.trim().to_owned();
                if ui.add_enabled(!path.is_empty(), egui::Button::new("Insert")).clicked() {
                    change = Some((drive.place, Some(path)));
                }
                if ui.button("Take out").clicked() {
                    change = Some((drive.place, None));
                }
            });
        }
        if let Some(field) = wanted {
            self.choose_file(FormOf::Settings, field);
        }
        if let Some((place, path)) = change {
            self.change_medium(id, place, path.as_deref());
        }
        ui.add_space(12.0);
    }

    fn change_medium(&mut self, id: &str, place: Place, path: Option<&str>) {
        let folder = self.library.folder(id);
        if let Some(session) = self.sessions.get(id) {
            let path = path.map(|path| folder.join(path));
            // What is refused comes as a notice above the screen.
            session.handle.send(Command::ChangeMedium { slot: place.slot(), path });
        }
        self.tab = Tab::Screen;
    }
}
