//! The Settings tab.

use eframe::egui;
use vm_core::disk::image::ImageInfo;

use crate::app::{App, Editing};
use crate::dialog::FormOf;
use crate::library::{Machine, Place, Trouble, size_words};
use crate::ui_command::UiCommand;
use crate::widget::banner::banner_ui;
use crate::widget::button;
use crate::widget::machine_form::MachineForm;

/// What a hard disk's image is.
fn disk_words(place: Place, info: &ImageInfo) -> String {
    let (size, used) = (size_words(info.medium_bytes), size_words(info.used_bytes));
    let below = match info.below.len() {
        0 => String::new(),
        1 => ", over another image".to_owned(),
        count => format!(", over {count} other images"),
    };
    format!("{}: {} image of {size}, takes {used} on this computer{below}", place.label(), info.format)
}

impl App {
    pub(super) fn settings_ui(&mut self, ui: &mut egui::Ui, id: &str) {
        let Some(entry) = self.entry(id) else { return };
        let file = entry.folder.join("machine.ron");
        let disks: Vec<String> = entry.disks.iter().map(|(place, info)| disk_words(*place, info)).collect();
        let machine = match entry.machine.clone() {
            Ok(machine) => machine,
            Err(Trouble { what, next }) => {
                super::page_ui(ui, |ui| {
                    if banner_ui(ui, &what, &next, &["Look again"]).is_some() {
                        self.wish(UiCommand::LookAgain);
                    }
                });
                return;
            }
        };
        if self.editing.as_ref().is_none_or(|editing| editing.id != id) {
            let form = MachineForm::of(&machine);
            self.editing = Some(Editing { id: id.to_owned(), form, wrong: Vec::new(), saved: false });
        }
        let on = self.sessions.contains_key(id);
        let state = self.entry(id).is_some_and(|entry| entry.saved.is_some());
        let fixed = on || state;
        if !fixed {
            self.settings_buttons_ui(ui, id, &machine);
        }
        super::page_ui(ui, |ui| {
            ui.heading("Settings");
            if on {
                let words = "The machine is on. Its hardware can be changed once it is switched off; CD and floppy can be changed now.";
                banner_ui(ui, "", words, &[]);
                self.media_ui(ui, id);
            } else if state {
                let words = "The saved state belongs to exactly this hardware. Resume it, or discard the state, to change the hardware.";
                if banner_ui(ui, "", words, &[UiCommand::DiscardState.text()]).is_some() {
                    self.wish(UiCommand::DiscardState);
                }
            }
            let mut wanted = None;
            if let Some(editing) = &mut self.editing {
                ui.add_enabled_ui(!fixed, |ui| {
                    let before = editing.form.clone();
                    wanted = editing.form.settings_ui(ui);
                    if before != editing.form {
                        editing.saved = false;
                    }
                });
            }
            for line in &disks {
                ui.weak(line);
            }
            ui.add_space(8.0);
            ui.weak(format!("The same in a text file: {}", file.display()));
            if let Some(field) = wanted {
                self.choose_file(FormOf::Settings, field);
            }
        });
    }

    /// What is wrong, and the buttons, below the form and always in sight.
    fn settings_buttons_ui(&mut self, ui: &mut egui::Ui, id: &str, machine: &Machine) {
        let Some(editing) = &self.editing else { return };
        let changed = editing.form != MachineForm::of(machine);
        let saved = editing.saved && !changed;
        let wrong = editing.wrong.clone();
        if !changed && !saved && wrong.is_empty() {
            return;
        }
        let (mut apply, mut revert) = (false, false);
        egui::Panel::bottom("settings buttons").frame(egui::Frame::new().inner_margin(12)).show(ui, |ui| {
            for line in &wrong {
                ui.colored_label(ui.visuals().error_fg_color, line);
            }
            ui.horizontal(|ui| {
                if saved {
                    ui.label("Saved.");
                } else if changed {
                    apply = button::primary_ui(ui, "Save settings").clicked();
                    revert = ui.button("Take back").clicked();
                }
            });
        });
        if revert {
            self.editing = None;
        }
        if apply {
            self.apply_settings(id);
        }
    }

    fn apply_settings(&mut self, id: &str) {
        let Some(base) = self.entry(id).and_then(|entry| entry.machine.clone().ok()) else { return };
        let Some(editing) = &mut self.editing else { return };
        let mut machine = match editing.form.machine(&base) {
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
                machine.settle_formats(&folder);
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
        for drive in self.removable_drives(id) {
            ui.horizontal(|ui| {
                ui.label(format!("{}: {}", drive.words(), super::drives::medium_words(&drive)));
                for (command, short) in
                    [(UiCommand::Insert(drive.place), "Insert…"), (UiCommand::Eject(drive.place), "Eject")]
                {
                    let available = self.available(command, id);
                    if ui
                        .add_enabled(available.is_ok(), egui::Button::new(short))
                        .accessible_name(command.text())
                        .clicked()
                    {
                        self.wish_for(command, id);
                    }
                }
            });
        }
        ui.add_space(12.0);
    }
}
