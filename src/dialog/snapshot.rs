//! Dialogs of snapshots: take one, go back to one, delete one.

use eframe::egui;
use vm_core::config::{DriveKind, ImageFormat};
use vm_core::snapshot::tree::SnapshotId;

use super::{Answer, Dialog, ask_ui};
use crate::app::App;
use crate::widget::button;

/// What is being typed for a new snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewSnapshot {
    /// Its name.
    pub name: String,
    /// Its note.
    pub note: String,
    /// Raw disks may be adopted.
    pub adopt: bool,
    /// It was just opened.
    pub fresh: bool,
}

impl App {
    /// Asks for the name of a new snapshot.
    pub(crate) fn ask_for_snapshot(&mut self, id: &str) {
        let count = self.browser_of(id).map_or(0, |browser| browser.tree.snapshots.len());
        let name = format!("Snapshot {}", count + 1);
        let new = NewSnapshot { name, fresh: true, adopt: count > 0, ..NewSnapshot::default() };
        self.open(Dialog::TakeSnapshot { id: id.to_owned(), new, wrong: None, busy: false });
    }

    pub(super) fn take_snapshot_ui(
        &mut self,
        context: &egui::Context,
        id: String,
        mut new: NewSnapshot,
        (mut wrong, mut busy): (Option<String>, bool),
    ) -> Option<Dialog> {
        let (raw, floppies) = (self.raw_images(&id, DriveKind::Disk), self.raw_images(&id, DriveKind::Floppy));
        let (mut take, mut cancel) = (false, false);
        let modal = egui::Modal::new(egui::Id::unique("take snapshot")).frame(super::frame(context)).show(context, |ui| {
            ui.set_width(460.0_f32.min(context.content_rect().width() - 40.0));
            ui.heading("Take a snapshot");
            ui.add_enabled_ui(!busy, |ui| {
                let name = egui::TextEdit::singleline(&mut new.name).desired_width(f32::INFINITY).char_limit(200);
                let name = ui.add(name).accessible_name("Name of the new snapshot");
                if std::mem::take(&mut new.fresh) {
                    name.request_focus();
                }
                take |= name.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
                let note = egui::TextEdit::multiline(&mut new.note).desired_rows(2).desired_width(f32::INFINITY);
                ui.add(note.hint_text("A note, if you like")).accessible_name("Note of the new snapshot");
                if !raw.is_empty() {
                    ui.checkbox(&mut new.adopt, "Let the machine adopt its raw images");
                    ui.weak(format!(
                        "{} is written in place now, which no snapshot can undo. Once adopted, the image is only read, and what the guest \
                         writes goes to the machine's folder.",
                        raw.join(", ")
                    ));
                }
                if !floppies.is_empty() {
                    ui.weak(format!(
                        "{} stays as it is from now on: what the guest writes to this floppy goes to the machine's folder. “hako snapshot export” gives it back as a plain image.",
                        floppies.join(", ")
                    ));
                }
            });
            if let Some(wrong) = &wrong {
                ui.colored_label(ui.visuals().error_fg_color, wrong);
            }
            ui.add_space(8.0);
            ui.horizontal(|ui| {
                ui.add_enabled_ui(!busy, |ui| take |= button::primary_ui(ui, "Take").clicked());
                // The machine goes on with it; the tab shows how far it is.
                cancel = ui.button(if busy { "Close" } else { "Cancel" }).clicked();
                if busy {
                    ui.spinner();
                }
            });
        });
        if cancel || modal.should_close() {
            return None;
        }
        if take && !busy {
            (busy, wrong) = (true, None);
            self.take_snapshot(&id, &new.name, &new.note, new.adopt);
        }
        Some(Dialog::TakeSnapshot { id, new, wrong, busy })
    }

    /// Writable raw images in the drives of a kind.
    fn raw_images(&self, id: &str, kind: DriveKind) -> Vec<String> {
        let Some(Ok(machine)) = self.entry(id).map(|entry| &entry.machine) else { return Vec::new() };
        machine
            .drives
            .iter()
            .filter(|drive| drive.kind() == kind && !drive.read_only && !drive.temporary)
            .filter(|drive| drive.format != Some(ImageFormat::Qcow2))
            .filter_map(|drive| Some(drive.path.as_ref()?.file_name()?.to_string_lossy().into_owned()))
            .collect()
    }

    pub(super) fn restore_ui(
        &mut self,
        context: &egui::Context,
        (id, snapshot): (String, SnapshotId),
        mut keep: bool,
    ) -> Option<Dialog> {
        let info = self.browser_of(&id).and_then(|browser| browser.tree.get(snapshot)).cloned()?;
        let on = self.sessions.contains_key(&id);
        // One whose state was refused wakes no more.
        let sleeps = self.entry(&id).is_some_and(|entry| entry.saved.is_some()) && !self.troubles.contains_key(&id);
        let (mut restore, mut cancel) = (false, false);
        let modal = egui::Modal::new(egui::Id::unique("restore")).frame(super::frame(context)).show(context, |ui| {
            ui.set_width(460.0_f32.min(context.content_rect().width() - 40.0));
            ui.heading(format!("Go back to “{}”?", info.name));
            ui.label(match (on, info.has_memory) {
                (true, true) => "Memory and all disks become what they were then.",
                (true, false) => {
                    "All disks become what they were then; the guest starts from power-on, for it was off."
                }
                (false, true) => "The machine starts where it was then, with the disks of that instant.",
                (false, false) => "The machine starts from power-on with the disks of that instant.",
            });
            if on {
                ui.checkbox(&mut keep, "Keep the present as a snapshot first");
                if !keep {
                    let words = "What the guest has done since the last snapshot is lost.";
                    ui.colored_label(ui.visuals().error_fg_color, words);
                }
            } else {
                ui.weak(if sleeps {
                    "The machine as it sleeps now, memory and disks, is kept as a snapshot of its own."
                } else {
                    "What was written since the last snapshot is kept as a snapshot of its own."
                });
            }
            ui.add_space(8.0);
            ui.horizontal(|ui| {
                restore = button::primary_ui(ui, "Go back").clicked();
                let stay = ui.button("Stay here");
                let id = egui::Id::unique("restore focused");
                if !ui.data(|data| data.get_temp::<bool>(id).unwrap_or(false)) {
                    stay.request_focus();
                    ui.data_mut(|data| data.insert_temp(id, true));
                }
                cancel = stay.clicked();
            });
        });
        if restore || cancel || modal.should_close() {
            context.data_mut(|data| data.remove::<bool>(egui::Id::unique("restore focused")));
            if restore {
                self.restore_snapshot(&id, snapshot, keep || !on, context);
            }
            return None;
        }
        Some(Dialog::Restore { id, snapshot, keep })
    }

    pub(super) fn delete_snapshot_ui(
        &mut self,
        context: &egui::Context,
        id: String,
        snapshot: SnapshotId,
    ) -> Option<Dialog> {
        let browser = self.browser_of(&id)?;
        let name = browser.tree.get(snapshot)?.name.clone();
        let words = browser.tree.deletion(snapshot)?.text;
        match ask_ui(context, &format!("Delete “{name}”?"), &[words], &["Keep it", "Delete"]) {
            Answer::Open => return Some(Dialog::DeleteSnapshot { id, snapshot }),
            Answer::Button(1) => self.delete_snapshot(&id, snapshot),
            Answer::Escaped | Answer::Button(_) => {}
        }
        None
    }

    #[expect(clippy::unused_self, reason = "as every dialog")]
    pub(super) fn told_ui(&mut self, context: &egui::Context, title: String, words: Vec<String>) -> Option<Dialog> {
        match ask_ui(context, &title, &words, &["Close"]) {
            Answer::Open => Some(Dialog::Told { title, words }),
            Answer::Escaped | Answer::Button(_) => None,
        }
    }
}
