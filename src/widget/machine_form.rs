//! What a machine is made of, as it is typed: the fields of "New machine" and of the settings.

use std::path::PathBuf;

use eframe::egui;
use vm_core::cpu::cpuid::CpuModel;

use super::path_field::path_field_ui;
use crate::library::{Accelerator, Drive, Machine, Place};

/// A path in the form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The medium in this drive.
    Drive(Place),
    /// The kernel.
    Kernel,
    /// Its initial RAM disk.
    Initrd,
}

/// What sits in a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Nothing,
    Disk,
    Cd,
    Floppy,
}

impl Kind {
    fn label(self) -> &'static str {
        match self {
            Kind::Nothing => "nothing",
            Kind::Disk => "hard disk",
            Kind::Cd => "CD drive",
            Kind::Floppy => "floppy drive",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    place: Place,
    kind: Kind,
    path: String,
    read_only: bool,
    temporary: bool,
}

/// Where a new machine's disk comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NewDisk {
    /// It has none.
    #[default]
    None,
    /// An empty qcow2 image is made.
    Create,
    /// An image that is there.
    Existing,
}

/// The fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineForm {
    name: String,
    memory: String,
    processor: String,
    boot: String,
    accelerator: Accelerator,
    rows: Vec<Row>,
    kernel: String,
    initrd: String,
    append: String,
    keep_saved_time: bool,
    /// For a new machine: where its disk comes from.
    pub new_disk: NewDisk,
    /// For a new machine: the size of an empty disk in MiB, as typed.
    pub disk_size: String,
    /// It was just opened: the first field gets the focus.
    fresh: bool,
}

impl MachineForm {
    /// The fields of a machine.
    pub fn of(machine: &Machine) -> Self {
        let text =
            |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        let rows = Place::ALL
            .into_iter()
            .map(|place| match machine.drive(place) {
                None => Row { place, kind: Kind::Nothing, path: String::new(), read_only: false, temporary: false },
                Some(drive) => Row {
                    place,
                    kind: if place.is_floppy() {
                        Kind::Floppy
                    } else if drive.cd {
                        Kind::Cd
                    } else {
                        Kind::Disk
                    },
                    path: text(&drive.path),
                    read_only: drive.read_only,
                    temporary: drive.temporary,
                },
            })
            .collect();
        Self {
            name: machine.name.clone(),
            memory: machine.memory_mib.to_string(),
            processor: machine.processor.clone(),
            boot: machine.boot.clone(),
            accelerator: machine.accelerator,
            rows,
            kernel: text(&machine.kernel),
            initrd: text(&machine.initrd),
            append: machine.append.clone(),
            keep_saved_time: machine.keep_saved_time,
            new_disk: NewDisk::None,
            disk_size: "2048".into(),
            fresh: false,
        }
    }

    /// The fields of a machine to be made: floppy and CD drive, no disk.
    pub fn new_machine() -> Self {
        let mut machine = Machine::default();
        machine.set_drive(Place::FloppyA, Some(Drive::new(Place::FloppyA, false, None)));
        machine.set_drive(Place::Ide2, Some(Drive::new(Place::Ide2, true, None)));
        Self { fresh: true, ..Self::of(&machine) }
    }

    /// Puts a chosen path into its field.
    pub fn set_path(&mut self, field: Field, path: String) {
        *self.path(field) = path;
    }

    /// What is in a field now.
    pub fn path_of(&mut self, field: Field) -> String {
        self.path(field).clone()
    }

    fn path(&mut self, field: Field) -> &mut String {
        match field {
            Field::Kernel => &mut self.kernel,
            Field::Initrd => &mut self.initrd,
            Field::Drive(place) => &mut self.row(place).path,
        }
    }

    fn row(&mut self, place: Place) -> &mut Row {
        let index = self.rows.iter().position(|row| row.place == place).unwrap_or(0);
        &mut self.rows[index]
    }

    /// The machine that the fields describe; what they do not show is taken from `base`.
    ///
    /// # Errors
    /// What is wrong with them, in words. Files are not looked at.
    pub fn machine(&self, base: &Machine) -> Result<Machine, Vec<String>> {
        let mut wrong = Vec::new();
        let mut machine = base.clone();
        self.name.trim().clone_into(&mut machine.name);
        if machine.name.is_empty() {
            wrong.push("Give the machine a name.".to_owned());
        }
        match self.memory.trim().parse::<u32>() {
            Ok(mib) => {
                machine.memory_mib = mib;
                wrong.extend(crate::library::memory_words(mib));
            }
            Err(_) => wrong.push(format!("Memory is a number of MiB, such as 128; “{}” is none.", self.memory.trim())),
        }
        self.processor.clone_into(&mut machine.processor);
        if let Err(error) = CpuModel::from_name(&self.processor) {
            wrong.push(format!("Processor: {error}."));
        }
        let boot = self.boot.trim().to_lowercase();
        if boot.is_empty() || boot.chars().any(|letter| !"acdn".contains(letter)) {
            wrong.push(format!("The boot order is made of a (floppy), c (disk), d (CD); “{boot}” is not."));
        }
        machine.boot = boot;
        machine.accelerator = self.accelerator;
        machine.keep_saved_time = self.keep_saved_time;
        for row in &self.rows {
            let path = path(&row.path);
            if row.kind == Kind::Disk && path.is_none() {
                wrong.push(format!("{}: a hard disk needs an image file.", row.place.label()));
            }
            // Another image is looked at anew.
            let same = base.drive(row.place).filter(|drive| drive.path == path);
            let drive = (row.kind != Kind::Nothing).then(|| Drive {
                format: same.and_then(|drive| drive.format),
                read_only: row.read_only,
                temporary: row.temporary,
                ..Drive::new(row.place, row.kind == Kind::Cd, path)
            });
            machine.set_drive(row.place, drive);
        }
        machine.kernel = path(&self.kernel);
        machine.initrd = path(&self.initrd);
        self.append.clone_into(&mut machine.append);
        if machine.kernel.is_none() && (machine.initrd.is_some() || !machine.append.trim().is_empty()) {
            wrong.push("An initial RAM disk or a command line needs a kernel.".to_owned());
        }
        if wrong.is_empty() { Ok(machine) } else { Err(wrong) }
    }

    /// The form of "New machine". Says for which field a file chooser is wanted.
    pub fn new_ui(&mut self, ui: &mut egui::Ui) -> Option<Field> {
        let mut wanted = None;
        grid(ui, "new machine", |ui| {
            self.basics_ui(ui);
            ui.label("Hard disk");
            ui.vertical(|ui| {
                ui.horizontal_wrapped(|ui| {
                    ui.radio_value(&mut self.new_disk, NewDisk::None, "none");
                    ui.radio_value(&mut self.new_disk, NewDisk::Create, "a new one");
                    ui.radio_value(&mut self.new_disk, NewDisk::Existing, "an image that I have");
                });
                match self.new_disk {
                    NewDisk::None => {}
                    NewDisk::Create => {
                        ui.horizontal(|ui| {
                            ui.add(egui::TextEdit::singleline(&mut self.disk_size).desired_width(80.0))
                                .accessible_name("Size of the new disk in MiB");
                            ui.label("MiB, raw; takes room only as it fills");
                        });
                    }
                    NewDisk::Existing => {
                        let row = self.row(Place::Ide0);
                        if path_field_ui(ui, "hard disk image", &mut row.path, "raw or qcow2 image") {
                            wanted = Some(Field::Drive(Place::Ide0));
                        }
                    }
                }
            });
            ui.end_row();
            for (name, place, hint) in
                [("CD", Place::Ide2, "ISO image, or empty"), ("Floppy", Place::FloppyA, "image, or empty")]
            {
                ui.label(name);
                let row = self.row(place);
                if path_field_ui(ui, &format!("{name} image"), &mut row.path, hint) {
                    wanted = Some(Field::Drive(place));
                }
                ui.end_row();
            }
            wanted = self.kernel_ui(ui).or(wanted);
            processor_ui(ui, &mut self.processor);
            accelerator_ui(ui, &mut self.accelerator);
        });
        wanted
    }

    /// The disk of a new machine, before [`MachineForm::machine`]: takes over what the radio buttons say. An empty disk's image will be `created`.
    ///
    /// # Errors
    /// In words, where the size is none.
    pub fn settle_new_disk(&mut self, created: &str) -> Result<Option<u64>, String> {
        let choice = self.new_disk;
        let size = self.disk_size.trim().to_owned();
        let row = self.row(Place::Ide0);
        match choice {
            NewDisk::None => row.kind = Kind::Nothing,
            NewDisk::Existing => row.kind = Kind::Disk,
            NewDisk::Create => {
                const MOST_MIB: u64 = 130_000; // What 28-bit sector numbers reach.
                row.kind = Kind::Disk;
                created.clone_into(&mut row.path);
                return match size.parse::<u64>() {
                    Ok(mib) if (1..=MOST_MIB).contains(&mib) => Ok(Some(mib << 20)),
                    _ => Err(format!("The new disk's size is a number of MiB from 1 to {MOST_MIB}; “{size}” is none.")),
                };
            }
        }
        Ok(None)
    }

    /// The form of the settings.
    pub fn settings_ui(&mut self, ui: &mut egui::Ui) -> Option<Field> {
        let mut wanted = None;
        ui.strong("Machine");
        grid(ui, "machine", |ui| {
            self.basics_ui(ui);
            processor_ui(ui, &mut self.processor);
            accelerator_ui(ui, &mut self.accelerator);
            ui.label("Boot order");
            ui.horizontal(|ui| {
                ui.add(egui::TextEdit::singleline(&mut self.boot).desired_width(80.0)).accessible_name("Boot order");
                ui.weak("a floppy, c disk, d CD");
            });
            ui.end_row();
            ui.label("Clock");
            ui.checkbox(&mut self.keep_saved_time, "Keep the saved time")
                .on_hover_text("After going on from a saved state or a snapshot the guest's clock shows the time of then; else it follows this computer's clock again");
            ui.end_row();
        });
        ui.add_space(8.0);
        ui.strong("Drives");
        for row in &mut self.rows {
            if row_ui(ui, row) {
                wanted = Some(Field::Drive(row.place));
            }
        }
        ui.add_space(8.0);
        ui.strong("Start a kernel directly");
        grid(ui, "kernel", |ui| {
            wanted = self.kernel_ui(ui).or(wanted);
        });
        ui.add_space(8.0);
        ui.strong("Not there yet");
        for (what, why) in [
            ("Network card", "the virtual network is a later step; guests have no network today"),
            ("Sound card", "sound is a later step"),
            ("64-bit processor", "the interpreter executes 32-bit code today"),
        ] {
            ui.horizontal_wrapped(|ui| {
                let mut off = false;
                ui.add_enabled(false, egui::Checkbox::new(&mut off, what));
                ui.weak(why);
            });
        }
        wanted
    }

    fn basics_ui(&mut self, ui: &mut egui::Ui) {
        ui.label("Name");
        let name = ui
            .add(egui::TextEdit::singleline(&mut self.name).desired_width(f32::INFINITY).char_limit(200))
            .accessible_name("Name");
        if std::mem::take(&mut self.fresh) {
            name.request_focus();
        }
        ui.end_row();
        ui.label("Memory");
        ui.horizontal(|ui| {
            ui.add(egui::TextEdit::singleline(&mut self.memory).desired_width(80.0)).accessible_name("Memory in MiB");
            ui.label("MiB");
        });
        ui.end_row();
    }

    fn kernel_ui(&mut self, ui: &mut egui::Ui) -> Option<Field> {
        let mut wanted = None;
        ui.label("Kernel");
        if path_field_ui(ui, "kernel", &mut self.kernel, "bzImage or multiboot, or empty") {
            wanted = Some(Field::Kernel);
        }
        ui.end_row();
        ui.label("RAM disk");
        if path_field_ui(ui, "initial RAM disk", &mut self.initrd, "initrd, or empty") {
            wanted = Some(Field::Initrd);
        }
        ui.end_row();
        ui.label("Command line");
        ui.add(egui::TextEdit::singleline(&mut self.append).desired_width(f32::INFINITY))
            .accessible_name("Command line");
        ui.end_row();
        wanted
    }
}

fn grid(ui: &mut egui::Ui, name: &str, content: impl FnOnce(&mut egui::Ui)) {
    egui::Grid::new(name).num_columns(2).min_col_width(88.0).spacing([12.0, 8.0]).show(ui, content);
}

fn row_ui(ui: &mut egui::Ui, row: &mut Row) -> bool {
    let mut wanted = false;
    ui.push_id(row.place.name(), |ui| {
        ui.horizontal(|ui| {
            ui.allocate_ui_with_layout(
                egui::vec2(176.0, 28.0),
                egui::Layout::left_to_right(egui::Align::Center),
                |ui| {
                    ui.set_min_width(176.0);
                    ui.label(row.place.label());
                },
            );
            let kinds: &[Kind] = if row.place.is_floppy() {
                &[Kind::Nothing, Kind::Floppy]
            } else {
                &[Kind::Nothing, Kind::Disk, Kind::Cd]
            };
            egui::ComboBox::from_id_salt("kind")
                .selected_text(row.kind.label())
                .width(104.0)
                .show_ui(ui, |ui| {
                    for kind in kinds {
                        ui.selectable_value(&mut row.kind, *kind, kind.label());
                    }
                })
                .response
                .accessible_name(format!("Kind of {}", row.place.label()));
        });
        if row.kind != Kind::Nothing {
            ui.indent("medium", |ui| {
                let hint = if row.kind == Kind::Disk { "raw or qcow2 image" } else { "image, or empty" };
                wanted = path_field_ui(ui, &format!("image in {}", row.place.label()), &mut row.path, hint);
                if row.kind != Kind::Cd {
                    ui.horizontal_wrapped(|ui| {
                        ui.checkbox(&mut row.read_only, "read-only");
                        ui.checkbox(&mut row.temporary, "forget writes at power-off");
                    });
                }
            });
        }
    });
    wanted
}

fn processor_ui(ui: &mut egui::Ui, processor: &mut String) {
    ui.label("Processor");
    let shown = match CpuModel::from_name(processor) {
        Ok(model) => model.description().to_owned(),
        Err(_) => processor.clone(),
    };
    egui::ComboBox::from_id_salt("processor")
        .selected_text(shown)
        .width(280.0)
        .show_ui(ui, |ui| {
            for model in CpuModel::ALL {
                ui.selectable_value(processor, model.name().to_owned(), model.description());
            }
        })
        .response
        .accessible_name("Processor");
    ui.end_row();
}

fn accelerator_ui(ui: &mut egui::Ui, chosen: &mut Accelerator) {
    ui.label("Accelerator");
    ui.horizontal_wrapped(|ui| {
        let jit = Accelerator::Templates;
        let absent = jit.available().err();
        ui.radio_value(chosen, Accelerator::Interpreter, Accelerator::Interpreter.label());
        ui.add_enabled_ui(absent.is_none(), |ui| {
            ui.radio_value(chosen, jit, jit.label()).on_disabled_hover_text(absent.unwrap_or_default());
        });
        ui.add_enabled(false, egui::RadioButton::new(false, "KVM")).on_disabled_hover_text("KVM is a later step");
        ui.weak(match absent {
            Some(reason) => format!("JIT: {reason}; KVM: not there yet"),
            None => "KVM: not there yet".to_owned(),
        });
    });
    ui.end_row();
}

/// The path that somebody typed; `None` where the field is empty.
pub fn path(text: &str) -> Option<PathBuf> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    // As a shell would: people type it.
    if let Some(rest) = text.strip_prefix("~/")
        && let Some(home) = std::env::home_dir()
    {
        return Some(home.join(rest));
    }
    Some(PathBuf::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_goes_through_the_form_unchanged() {
        let mut machine = Machine { name: "x".into(), memory_mib: 64, append: "quiet".into(), ..Machine::default() };
        machine.processor = "pentium".into();
        machine.kernel = Some("/boot/k".into());
        machine.set_drive(
            Place::Ide1,
            Some(Drive { temporary: true, ..Drive::new(Place::Ide1, false, Some("d.img".into())) }),
        );
        machine.set_drive(Place::Ide2, Some(Drive::new(Place::Ide2, true, None)));
        assert_eq!(MachineForm::of(&machine).machine(&machine).unwrap(), machine);
    }

    #[test]
    fn wrong_fields_are_said_in_words() {
        let mut form = MachineForm::new_machine();
        form.memory = "lots".into();
        form.processor = "z80".into();
        form.initrd = "/x".into();
        form.new_disk = NewDisk::Create;
        form.disk_size = "-1".into();
        assert!(form.settle_new_disk("disk.img").is_err());
        let wrong = form.machine(&Machine::default()).unwrap_err();
        assert_eq!(wrong.len(), 4, "{wrong:?}");
    }
}
