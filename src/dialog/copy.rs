//! Dialogs of copies: a machine made of a snapshot, written into a file, taken over from one.

use std::path::PathBuf;

use eframe::egui;
use vm_core::snapshot::keeper::CloneKind;
use vm_core::snapshot::tree::SnapshotId;

use super::{Answer, Dialog, FormOf, ask_ui};
use crate::app::App;
use crate::library::size_words;
use crate::ui_command::UiCommand;
use crate::widget::machine_form::{self, Field};
use crate::widget::path_field::first_path_field_ui;
use crate::widget::{button, progress};

/// What is typed in one of these dialogs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copying {
    /// The name, or the file.
    pub typed: String,
    /// What was not possible.
    pub wrong: Vec<String>,
    /// It is being done.
    pub busy: bool,
    /// It was just opened.
    pub fresh: bool,
    /// How a machine is made of a snapshot.
    pub kind: CloneKind,
}

impl Copying {
    /// With something to begin with.
    pub fn new(typed: impl Into<String>) -> Self {
        Self { typed: typed.into(), fresh: true, ..Self::default() }
    }
}

impl Dialog {
    pub(crate) fn export(id: &str) -> Self {
        let folder = directories::UserDirs::new()
            .map_or_else(PathBuf::new, |dirs| dirs.document_dir().unwrap_or_else(|| dirs.home_dir()).to_owned());
        let typed = folder.join(format!("{id}.tar")).to_string_lossy().into_owned();
        Dialog::Export { id: id.to_owned(), copy: Copying::new(typed) }
    }

    pub(crate) fn import() -> Self {
        Dialog::Import { copy: Copying::new("") }
    }
}

/// What the dialog looks like beside its field.
struct Page<'a> {
    title: String,
    words: &'a str,
    verb: &'a str,
    /// The machine whose job it is.
    job: &'a str,
}

/// What a person answered.
#[derive(Default)]
struct Said {
    go: bool,
    cancel: bool,
    choose: bool,
    closed: bool,
}

impl App {
    fn copying_ui(
        &self,
        context: &egui::Context,
        page: &Page<'_>,
        copy: &mut Copying,
        field: impl FnOnce(&mut egui::Ui, &mut Copying) -> bool,
    ) -> Said {
        let mut said = Said::default();
        let id = egui::Id::unique(("copy", page.verb));
        let modal = egui::Modal::new(id).frame(super::frame(context)).show(context, |ui| {
            ui.set_width(520.0_f32.min(context.content_rect().width() - 40.0));
            ui.heading(&page.title);
            ui.label(page.words);
            ui.add_space(4.0);
            ui.add_enabled_ui(!copy.busy, |ui| said.choose = field(ui, copy));
            copy.fresh = false;
            for line in &copy.wrong {
                ui.colored_label(ui.visuals().error_fg_color, line);
            }
            if copy.busy {
                let off = self.off_job.as_ref().filter(|job| job.id == page.job).map(crate::app::OffJob::progress);
                let on = self.sessions.get(page.job).and_then(|session| session.snapshot_job).map(|job| job.progress);
                let (done, all) = off.or(on).unwrap_or_default();
                let text = format!("{} of {}", size_words(done), size_words(all));
                ui.add(progress::bar((done, all), text));
                context.request_repaint_after(std::time::Duration::from_millis(100));
            }
            ui.add_space(8.0);
            ui.horizontal(|ui| {
                let possible = !copy.busy && !copy.typed.trim().is_empty();
                ui.add_enabled_ui(possible, |ui| said.go = button::primary_ui(ui, page.verb).clicked());
                said.cancel = ui.button("Cancel").clicked();
                said.go |= possible && ui.input(|input| input.key_pressed(egui::Key::Enter)) && !said.cancel;
            });
        });
        said.closed = modal.should_close() && !copy.busy;
        if said.go {
            (copy.busy, copy.wrong) = (true, Vec::new());
        }
        said
    }

    /// Cancel ends the job where there is one, and the dialog where there is none.
    fn cancelled(&mut self, said: &Said, busy: bool, id: &str) -> bool {
        if said.cancel && busy {
            self.cancel_snapshot(id);
            return false;
        }
        said.cancel || said.closed
    }

    pub(super) fn clone_ui(
        &mut self,
        context: &egui::Context,
        id: String,
        snapshot: SnapshotId,
        mut copy: Copying,
    ) -> Option<Dialog> {
        let was_busy = copy.busy;
        let name = self.browser_of(&id).and_then(|browser| browser.tree.get(snapshot)).map(|info| info.name.clone());
        let page = Page {
            title: format!("Open “{}” as a new machine", name.unwrap_or_default()),
            words: "Its first start goes on where the snapshot was taken. Whatever you choose, the new machine needs nothing of this one: either can be deleted, moved or backed up.",
            verb: "Make the machine",
            job: &id,
        };
        let said = self.copying_ui(context, &page, &mut copy, |ui, copy| {
            let field = egui::TextEdit::singleline(&mut copy.typed).desired_width(f32::INFINITY).char_limit(200);
            let field = ui.add(field).accessible_name("Name of the new machine");
            if copy.fresh {
                field.request_focus();
            }
            ui.radio_value(&mut copy.kind, CloneKind::Full, "Full copy: disks and memory are copied");
            ui.radio_value(
                &mut copy.kind,
                CloneKind::Linked,
                "Linked: at once, and without room; both share the files of the snapshot, which nobody writes any more",
            );
            false
        });
        if said.go {
            self.clone_snapshot(&id, snapshot, &copy.typed, copy.kind);
        }
        if self.cancelled(&said, was_busy, &id) {
            return None;
        }
        Some(Dialog::CloneSnapshot { id, snapshot, copy })
    }

    pub(super) fn export_ui(&mut self, context: &egui::Context, id: String, mut copy: Copying) -> Option<Dialog> {
        let was_busy = copy.busy;
        let name = self.entry(&id).map(|entry| entry.name().to_owned()).unwrap_or_default();
        let page = Page {
            title: format!("Export {name}"),
            words: "All of it goes into one file: disks, snapshots, floppies, CDs. “Import…” takes it over, here or on another computer.",
            verb: "Export",
            job: &id,
        };
        let said = self.copying_ui(context, &page, &mut copy, |ui, copy| {
            first_path_field_ui(ui, "file to export to", &mut copy.typed, "a new file", copy.fresh)
        });
        if said.choose {
            self.choose_file(FormOf::Export, Field::Kernel);
        }
        if said.go
            && let Some(path) = machine_form::path(&copy.typed)
        {
            self.export_machine(&id, super::absolute(path));
        }
        if self.cancelled(&said, was_busy, &id) {
            return None;
        }
        Some(Dialog::Export { id, copy })
    }

    pub(super) fn import_ui(&mut self, context: &egui::Context, mut copy: Copying) -> Option<Dialog> {
        let was_busy = copy.busy;
        let page = Page {
            title: "Import a machine".to_owned(),
            words: "The file is one that “Export…” wrote. Everything in it is checked before the machine appears.",
            verb: "Import",
            job: "",
        };
        let said = self.copying_ui(context, &page, &mut copy, |ui, copy| {
            first_path_field_ui(ui, "file to import", &mut copy.typed, "a file of an exported machine", copy.fresh)
        });
        if said.choose {
            self.choose_file(FormOf::Import, Field::Kernel);
        }
        if said.go
            && let Some(path) = machine_form::path(&copy.typed)
        {
            self.import_machine(super::absolute(path));
        }
        if self.cancelled(&said, was_busy, "") {
            return None;
        }
        Some(Dialog::Import { copy })
    }

    /// What does not fit, and the way on that harms nothing.
    pub(super) fn restore_refused_ui(
        &mut self,
        context: &egui::Context,
        id: String,
        snapshot: SnapshotId,
        words: String,
    ) -> Option<Dialog> {
        let name = self.browser_of(&id).and_then(|browser| browser.tree.get(snapshot)).map(|info| info.name.clone());
        let title = format!("It cannot go back to “{}”", name.unwrap_or_default());
        let lines: Vec<String> = words.lines().map(str::to_owned).collect();
        match ask_ui(context, &title, &lines, &["Stay here", UiCommand::CloneSnapshot.text()]) {
            Answer::Open => return Some(Dialog::RestoreRefused { id, snapshot, words }),
            Answer::Button(1) => self.ask_for_clone(&id, snapshot),
            Answer::Escaped | Answer::Button(_) => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use eframe::egui;
    use egui_kittest::kittest::Queryable as _;
    use vm_core::snapshot::tree::SnapshotTree;

    use crate::dialog::Dialog;
    use crate::library::Library;
    use crate::ui_command::UiCommand;
    use crate::view::tests::{data, machine_with_a_disk, manager, until};

    #[test]
    fn a_snapshot_becomes_a_machine_and_a_machine_goes_into_a_file_and_back() {
        let data = data("copies");
        let library = Library::new(data.clone());
        machine_with_a_disk(&library);
        let mut harness = manager(data.clone());
        harness.key_press_modifiers(egui::Modifiers::ALT, egui::Key::Num2);
        until(&mut harness, |app| app.browser.is_some());
        harness.key_press_modifiers(egui::Modifiers::COMMAND.plus(egui::Modifiers::SHIFT), egui::Key::S);
        harness.run_steps(3);
        harness.get_by_label("Take").click();
        until(&mut harness, |app| {
            app.dialog.is_none() && app.browser.as_ref().is_some_and(|browser| browser.tree.snapshots.len() == 1)
        });
        harness.get_by_label_contains("Snapshot 1,").click();
        harness.run_steps(3);
        harness.get_by_label("Open as a new machine…").click();
        harness.run_steps(4);
        harness.get_by_label("Make the machine").click();
        until(&mut harness, |app| app.dialog.is_none() && app.entries.len() == 2);
        let app = harness.state_mut().as_mut().unwrap();
        let clone = app.selected.clone().unwrap();
        assert_eq!(app.entry(&clone).unwrap().name(), "One, Snapshot 1");
        assert!(app.entry(&clone).unwrap().trouble().is_none());

        // Into a file, and a file that is there is not touched.
        let file = data.join("one.tar");
        app.wish(UiCommand::ExportMachine);
        harness.run_steps(3);
        let set = |app: &mut crate::app::App, path: &std::path::Path| match &mut app.dialog {
            Some(Dialog::Export { copy, .. } | Dialog::Import { copy }) => {
                copy.typed = path.to_str().unwrap().to_owned();
            }
            _ => panic!("the dialog is not open"),
        };
        set(harness.state_mut().as_mut().unwrap(), &file);
        harness.run_steps(2);
        harness.get_by_label("Export").click();
        until(&mut harness, |app| matches!(app.dialog, Some(Dialog::Told { .. })));
        assert!(harness.query_by_label_contains("one.tar").is_some());
        harness.get_by_label("Close").click();
        harness.run_steps(3);
        harness.state_mut().as_mut().unwrap().wish(UiCommand::ExportMachine);
        harness.run_steps(3);
        set(harness.state_mut().as_mut().unwrap(), &file);
        harness.run_steps(2);
        harness.get_by_label("Export").click();
        until(&mut harness, |app| matches!(&app.dialog, Some(Dialog::Export { copy, .. }) if !copy.wrong.is_empty()));
        assert!(harness.query_by_label_contains("is there already").is_some());
        harness.get_by_label("Cancel").click();
        harness.run_steps(3);

        // And back, with its snapshot.
        harness.state_mut().as_mut().unwrap().wish(UiCommand::ImportMachine);
        harness.run_steps(3);
        set(harness.state_mut().as_mut().unwrap(), &file);
        harness.run_steps(2);
        harness.get_by_label("Import").click();
        until(&mut harness, |app| app.dialog.is_none() && app.entries.len() == 3);
        let app = harness.state().as_ref().unwrap();
        let imported = app.selected.clone().unwrap();
        assert_ne!(imported, clone);
        assert!(app.entry(&imported).unwrap().trouble().is_none());
        assert_eq!(SnapshotTree::read(&library.folder(&imported)).unwrap().snapshots.len(), 1);
        // What is no such file is refused in words, and nothing stays of it.
        std::fs::write(&file, vec![0; 5000]).unwrap();
        harness.state_mut().as_mut().unwrap().wish(UiCommand::ImportMachine);
        harness.run_steps(3);
        set(harness.state_mut().as_mut().unwrap(), &file);
        harness.run_steps(2);
        harness.get_by_label("Import").click();
        until(&mut harness, |app| matches!(&app.dialog, Some(Dialog::Import { copy }) if !copy.wrong.is_empty()));
        assert!(harness.query_by_label_contains("cannot be imported").is_some());
        assert_eq!(library.list().unwrap().len(), 3);
        assert_eq!(std::fs::read_dir(data.join("machines")).unwrap().count(), 3);
        std::fs::remove_dir_all(data).unwrap();
    }
}
