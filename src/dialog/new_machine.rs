//! Putting a new machine together.

use eframe::egui;
use vm_core::config::ImageFormat;
use vm_core::disk::image::{self, ImageError};

use super::{Dialog, FormOf};
use crate::app::{App, Tab};
use crate::library::{Library, Machine, Trouble};
use crate::widget::button;
use crate::widget::machine_form::MachineForm;

/// The image of a disk that is made with the machine, in the machine's folder.
const DISK: &str = "disk.qcow2";

impl App {
    pub(super) fn new_machine_ui(
        &mut self,
        context: &egui::Context,
        mut form: Box<MachineForm>,
        mut wrong: Vec<String>,
        mut busy: bool,
    ) -> Option<Dialog> {
        let mut wanted = None;
        let (mut create, mut cancel) = (false, false);
        let modal =
            egui::Modal::new(egui::Id::unique("new machine")).frame(super::frame(context)).show(context, |ui| {
                ui.set_width(560.0_f32.min(context.content_rect().width() - 40.0));
                ui.heading("New machine");
                let height = (context.content_rect().height() - 220.0).max(120.0);
                egui::ScrollArea::vertical().max_height(height).show(ui, |ui| {
                    ui.add_enabled_ui(!busy, |ui| wanted = form.new_ui(ui));
                    ui.weak("No network, sound or 64-bit processor yet: these are later steps.");
                });
                for line in &wrong {
                    ui.colored_label(ui.visuals().error_fg_color, line);
                }
                ui.add_space(8.0);
                ui.horizontal(|ui| {
                    ui.add_enabled_ui(!busy, |ui| create = button::primary_ui(ui, "Create").clicked());
                    cancel = ui.button("Cancel").clicked();
                    if busy {
                        ui.spinner();
                    }
                });
            });
        // A click beside must not throw away what was typed; Escape and Cancel do.
        if cancel || context.input(|input| input.key_pressed(egui::Key::Escape)) && modal.should_close() {
            return None;
        }
        if let Some(field) = wanted {
            self.choose_file(FormOf::New, field);
        }
        let by_keys = egui::KeyboardShortcut::new(egui::Modifiers::COMMAND, egui::Key::Enter);
        create |= !busy && context.input_mut(|input| input.consume_shortcut(&by_keys));
        if create {
            match machine_of(&form) {
                Ok((machine, disk)) => {
                    wrong.clear();
                    busy = true;
                    let library = self.library.clone();
                    self.jobs.run(move || make(&library, &machine, disk), |app, _, made| app.made(made));
                }
                Err(words) => wrong = words,
            }
        }
        Some(Dialog::New { form, wrong, busy })
    }

    fn made(&mut self, made: Result<String, Trouble>) {
        match made {
            Ok(id) => {
                self.dialog = None;
                self.tab = Tab::Screen;
                self.reload(Some(id));
            }
            Err(trouble) => {
                if let Some(Dialog::New { wrong, busy, .. }) = &mut self.dialog {
                    *busy = false;
                    *wrong = vec![trouble.what, trouble.next];
                }
            }
        }
    }
}

/// The machine of the form, and the size of the disk to make.
fn machine_of(form: &MachineForm) -> Result<(Machine, Option<u64>), Vec<String>> {
    let mut form = form.clone();
    let disk = form.settle_new_disk(DISK);
    let machine = form.machine(&Machine::default());
    match (disk, machine) {
        (Ok(disk), Ok(machine)) => Ok((machine, disk)),
        (disk, machine) => Err(disk.err().into_iter().chain(machine.err().into_iter().flatten()).collect()),
    }
}

/// Looks at the files, makes the folder, the definition and the disk.
fn make(library: &Library, machine: &Machine, disk: Option<u64>) -> Result<String, Trouble> {
    let mut first = machine.clone();
    if disk.is_some() {
        first.set_drive(crate::library::Place::Ide0, None);
    }
    // Relative paths would be looked for in a folder that is not there yet.
    for (what, path) in first.files(std::path::Path::new("")) {
        if path.is_relative() {
            let words = format!("{what}: {} is not a whole path.", path.display());
            return Err(Trouble { what: words, next: "Give the path from / on, or choose the file.".into() });
        }
    }
    if let Some(trouble) = first.attention(std::path::Path::new("/")) {
        return Err(trouble);
    }
    let mut machine = machine.clone();
    if disk.is_some()
        && let Some(drive) = machine.drives.iter_mut().find(|drive| drive.place == crate::library::Place::Ide0)
    {
        drive.format = Some(ImageFormat::Qcow2);
    }
    machine.settle_formats(std::path::Path::new("/"));
    let id = library.create(&machine)?;
    if let Some(size) = disk {
        let path = library.folder(&id).join(DISK);
        if let Err(error) = image::create(&path, Some(size), ImageFormat::Qcow2, None) {
            // Nothing of the machine was used yet.
            let _ = std::fs::remove_dir_all(library.folder(&id));
            return Err(match error {
                ImageError::Host { error, .. } => crate::library::cannot_write(&path, &error),
                other => Trouble { what: other.to_string(), next: "Correct it, then create the machine again.".into() },
            });
        }
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::library::Place;

    #[test]
    fn a_new_machine_gets_its_disk_and_a_missing_file_is_told_first() {
        let library = Library::new(std::env::temp_dir().join(format!("hako-new-{}", std::process::id())));
        let mut machine = Machine { name: "a".into(), ..Machine::default() };
        machine.set_drive(Place::Ide0, Some(crate::library::Drive::new(Place::Ide0, false, Some(DISK.into()))));
        let id = make(&library, &machine, Some(1 << 30)).unwrap();
        let info = image::info(&library.folder(&id).join(DISK), None).unwrap();
        assert_eq!((info.format, info.medium_bytes), (ImageFormat::Qcow2, 1 << 30));
        assert!(info.used_bytes < 1 << 20);
        let entry = library.entry(id.as_ref());
        assert!(entry.trouble().is_none());
        assert_eq!(entry.disks, [(Place::Ide0, info)]);
        assert_eq!(entry.machine.unwrap().drive(Place::Ide0).unwrap().format, Some(ImageFormat::Qcow2));
        machine.kernel = Some("/nowhere/k".into());
        assert!(make(&library, &machine, Some(1 << 20)).unwrap_err().what.contains("/nowhere/k"));
        assert_eq!(library.list().unwrap().len(), 1);
        std::fs::remove_dir_all(library.data()).unwrap();
    }
}
