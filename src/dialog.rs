//! Dialogs, one a file: few and short. Their title is a question or a fact, their buttons are verbs, the safe one is the default.

mod closing;
mod confirm;
mod copy;
mod insert;
mod new_machine;
mod palette;
mod refused;
mod snapshot;

use std::path::PathBuf;

use eframe::egui;
use vm_core::snapshot::tree::SnapshotId;

pub use copy::Copying;
pub use snapshot::NewSnapshot;

use crate::app::App;
use crate::library::Place;
use crate::ui_command::UiCommand;
use crate::widget::machine_form::{Field, MachineForm};

/// Which form a chosen path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormOf {
    /// "New machine".
    New,
    /// The settings of the selected machine.
    Settings,
    /// "Put a medium into …".
    Insert,
    /// The file to import.
    Import,
    /// The file to export to.
    Export,
}

/// A typed path without a folder is meant from where Hako was started; what keeps it keeps it whole.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// How far closing the window has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// The person is being asked.
    Asking,
    /// Machines are being saved; the window closes when all are.
    Saving,
    /// Machines are being switched off.
    PoweringOff,
}

/// The dialog that is open.
pub enum Dialog {
    /// Putting a machine together.
    New {
        /// Its fields.
        form: Box<MachineForm>,
        /// What is wrong with them.
        wrong: Vec<String>,
        /// Files are being looked at and made.
        busy: bool,
    },
    /// Choosing an image for a drive.
    Insert {
        /// The machine.
        id: String,
        /// The drive.
        place: Place,
        /// As typed.
        path: String,
        /// What is wrong with it.
        wrong: Vec<String>,
        /// The machine is being asked.
        busy: bool,
        /// It was just opened.
        fresh: bool,
    },
    /// The guest holds the tray of a drive shut.
    Locked {
        /// The machine.
        id: String,
        /// The drive.
        place: Place,
        /// What was to be put in; `None`: it was to be emptied.
        path: Option<PathBuf>,
        /// The engine's words.
        words: String,
    },
    /// Taking a snapshot.
    TakeSnapshot {
        /// The machine.
        id: String,
        /// What is typed.
        new: NewSnapshot,
        /// What was not possible.
        wrong: Option<String>,
        /// It is being taken.
        busy: bool,
    },
    /// Going back to a snapshot.
    Restore {
        /// The machine.
        id: String,
        /// Where to.
        snapshot: SnapshotId,
        /// Keep the present first.
        keep: bool,
    },
    /// Deleting a snapshot.
    DeleteSnapshot {
        /// The machine.
        id: String,
        /// Which.
        snapshot: SnapshotId,
    },
    /// Making a machine of a snapshot.
    CloneSnapshot {
        /// The machine.
        id: String,
        /// Which snapshot.
        snapshot: SnapshotId,
        /// What is typed.
        copy: Copying,
    },
    /// Going back to a snapshot was refused.
    RestoreRefused {
        /// The machine.
        id: String,
        /// Which snapshot.
        snapshot: SnapshotId,
        /// The engine's words.
        words: String,
    },
    /// Writing a machine into a file.
    Export {
        /// The machine.
        id: String,
        /// What is typed.
        copy: Copying,
    },
    /// Taking a machine over from a file.
    Import {
        /// What is typed.
        copy: Copying,
    },
    /// Something to read.
    Told {
        /// What about.
        title: String,
        /// A line each.
        words: Vec<String>,
    },
    /// Something that cannot be undone.
    Confirm {
        /// The action.
        command: UiCommand,
        /// The machine.
        id: String,
    },
    /// The engine refused to resume a saved state.
    Refused {
        /// The machine.
        id: String,
        /// The engine's words.
        words: String,
    },
    /// The window is to be closed while machines are on.
    Closing(Closing),
    /// All commands.
    Palette {
        /// What is looked for.
        query: String,
        /// The row.
        at: usize,
    },
}

impl Dialog {
    pub(crate) fn new_machine() -> Self {
        Dialog::New { form: Box::new(MachineForm::new_machine()), wrong: Vec::new(), busy: false }
    }

    pub(crate) fn closing() -> Self {
        Dialog::Closing(Closing::Asking)
    }

    pub(crate) fn palette() -> Self {
        Dialog::Palette { query: String::new(), at: 0 }
    }
}

impl App {
    /// The open dialog, if there is one.
    pub(crate) fn dialogs_ui(&mut self, context: &egui::Context) {
        let Some(dialog) = self.dialog.take() else { return };
        let left = match dialog {
            Dialog::New { form, wrong, busy } => self.new_machine_ui(context, form, wrong, busy),
            Dialog::Insert { id, place, path, wrong, busy, fresh } => {
                self.insert_ui(context, id, place, (path, wrong, busy, fresh))
            }
            Dialog::Locked { id, place, path, words } => self.locked_ui(context, id, place, (path, words)),
            Dialog::TakeSnapshot { id, new, wrong, busy } => self.take_snapshot_ui(context, id, new, (wrong, busy)),
            Dialog::Restore { id, snapshot, keep } => self.restore_ui(context, (id, snapshot), keep),
            Dialog::DeleteSnapshot { id, snapshot } => self.delete_snapshot_ui(context, id, snapshot),
            Dialog::CloneSnapshot { id, snapshot, copy } => self.clone_ui(context, id, snapshot, copy),
            Dialog::RestoreRefused { id, snapshot, words } => self.restore_refused_ui(context, id, snapshot, words),
            Dialog::Export { id, copy } => self.export_ui(context, id, copy),
            Dialog::Import { copy } => self.import_ui(context, copy),
            Dialog::Told { title, words } => self.told_ui(context, title, words),
            Dialog::Confirm { command, id } => self.confirm_ui(context, command, id),
            Dialog::Refused { id, words } => self.refused_ui(context, id, words),
            Dialog::Closing(stage) => self.closing_ui(context, stage),
            Dialog::Palette { query, at } => self.palette_ui(context, query, at),
        };
        // A button may have opened another one meanwhile.
        if self.dialog.is_none() {
            self.dialog = left;
        }
    }

    /// Opens the desktop's file chooser beside the window's thread.
    pub(crate) fn choose_file(&mut self, form: FormOf, field: Field) {
        let start = std::time::Instant::now();
        self.jobs.run_beside(
            move || {
                let dialog = rfd::FileDialog::new().set_title("Choose a file");
                if form == FormOf::Export { dialog.save_file() } else { dialog.pick_file() }
            },
            move |app, _, path| {
                let Some(path) = path else {
                    // Nobody cancels a dialog so fast: there is no chooser on this desktop.
                    if start.elapsed() < std::time::Duration::from_millis(400) {
                        app.tell(form, "This desktop has no file chooser (xdg-desktop-portal); type the path instead.");
                    }
                    return;
                };
                let Some(path) = path.to_str().map(str::to_owned) else {
                    app.tell(form, "The path of this file is not valid text (UTF-8); rename it, or copy it elsewhere.");
                    return;
                };
                match (form, &mut app.dialog, &mut app.editing) {
                    (FormOf::New, Some(Dialog::New { form, .. }), _) => form.set_path(field, path),
                    (FormOf::Settings, _, Some(editing)) => editing.form.set_path(field, path),
                    (FormOf::Insert, Some(Dialog::Insert { path: typed, .. }), _) => *typed = path,
                    (FormOf::Import, Some(Dialog::Import { copy }), _)
                    | (FormOf::Export, Some(Dialog::Export { copy, .. }), _) => copy.typed = path,
                    (FormOf::New | FormOf::Settings | FormOf::Insert | FormOf::Import | FormOf::Export, _, _) => {}
                }
            },
        );
    }

    fn tell(&mut self, form: FormOf, words: &str) {
        match (form, &mut self.dialog, &mut self.editing) {
            (FormOf::New, Some(Dialog::New { wrong, .. }), _) => *wrong = vec![words.to_owned()],
            (FormOf::Settings, _, Some(editing)) => editing.wrong = vec![words.to_owned()],
            (FormOf::Insert, Some(Dialog::Insert { wrong, .. }), _) => *wrong = vec![words.to_owned()],
            (FormOf::Import, Some(Dialog::Import { copy }), _)
            | (FormOf::Export, Some(Dialog::Export { copy, .. }), _) => {
                copy.wrong = vec![words.to_owned()];
            }
            (FormOf::New | FormOf::Settings | FormOf::Insert | FormOf::Import | FormOf::Export, _, _) => {}
        }
    }
}

/// The frame of a dialog.
pub(crate) fn frame(context: &egui::Context) -> egui::Frame {
    egui::Frame::popup(&context.global_style()).inner_margin(20)
}

/// As wide as a dialog with a few words is, and never wider than the window.
pub(crate) fn set_width(ui: &mut egui::Ui) {
    ui.set_width(420.0_f32.min(ui.ctx().content_rect().width() - 40.0));
}

/// What a person answered.
pub(crate) enum Answer {
    /// Nothing yet.
    Open,
    /// Escape, or a click beside the dialog.
    Escaped,
    /// The button with this index.
    Button(usize),
}

/// A dialog with a title, words and buttons; the first button is the safe one and has the focus.
pub(crate) fn ask_ui(context: &egui::Context, title: &str, words: &[String], buttons: &[&str]) -> Answer {
    let mut answer = Answer::Open;
    let id = egui::Id::unique(("ask", title));
    let modal = egui::Modal::new(id).frame(frame(context)).show(context, |ui| {
        set_width(ui);
        ui.heading(title);
        for line in words {
            ui.label(line);
        }
        ui.add_space(8.0);
        ui.horizontal_wrapped(|ui| {
            for (index, text) in buttons.iter().enumerate() {
                let response = if index == 0 { crate::widget::button::primary_ui(ui, text) } else { ui.button(*text) };
                let fresh = id.with("focused");
                if index == 0 && !ui.data(|data| data.get_temp::<bool>(fresh).unwrap_or(false)) {
                    response.request_focus();
                    ui.data_mut(|data| data.insert_temp(fresh, true));
                }
                if response.clicked() {
                    answer = Answer::Button(index);
                }
            }
        });
    });
    if matches!(answer, Answer::Open) && modal.should_close() {
        answer = Answer::Escaped;
    }
    if !matches!(answer, Answer::Open) {
        context.data_mut(|data| data.remove::<bool>(id.with("focused")));
    }
    answer
}
