//! The Settings tab.

use eframe::egui;
use vm_core::disk::image::ImageInfo;
use vm_core::runner::{Command, MediumChange};

use crate::app::{App, Editing, Tab};
use crate::dialog::FormOf;
use crate::library::{Drive, Machine, Place, Trouble, size_words};
use crate::session::Banner;
use crate::ui_command::UiCommand;
use crate::widget::banner::banner_ui;
use crate::widget::button;
use crate::widget::machine_form::{Field, MachineForm};

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

    /// Asks the engine, and writes the definition once it has said yes: the next start must find the same media.
    fn change_medium(&mut self, id: &str, place: Place, path: Option<&str>) {
        let Some(session) = self.sessions.get(id) else { return };
        let library = self.library.clone();
        let handle = session.handle.clone();
        let id = id.to_owned();
        let folder = library.folder(&id);
        let path = path.map(std::path::PathBuf::from);
        let work = move || {
            let change = match &path {
                Some(path) => MediumChange::insert(folder.join(path)),
                None => MediumChange::Eject { force: false },
            };
            handle.call(Command::ChangeMedium { slot: place.slot(), change }).map_err(|error| error.to_string())?;
            let file = folder.join("machine.ron");
            let mut machine = Machine::read(&file).map_err(|trouble| trouble.what)?;
            if let Some(drive) = machine.drive(place).cloned() {
                machine.set_drive(place, Some(Drive { path, ..drive }));
            }
            machine.write(&file).map_err(|trouble| trouble.what)
        };
        let changed = id.clone();
        self.jobs.run_beside(work, move |app, _, done: Result<(), String>| {
            if let Err(words) = done
                && let Some(session) = app.sessions.get_mut(&changed)
            {
                session.banners.push(Banner::Notice(words));
                app.tab = Tab::Screen;
            }
            app.editing = None;
            app.refresh(&changed);
        });
    }
}
