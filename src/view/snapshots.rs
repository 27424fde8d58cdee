//! The Snapshots tab: the tree, and what one can do with the selected one.

use eframe::egui;
use vm_core::snapshot::tree::{SnapshotInfo, SnapshotKind};

use crate::app::{App, Status, local_time};
use crate::library::size_words;
use crate::ui_command::UiCommand;
use crate::widget::banner::banner_ui;
use crate::widget::snapshot_tree::{Action, Tile, snapshot_tree_ui};
use crate::widget::{button, progress};

/// Minutes between automatic snapshots that one can choose; 0 is none.
const CHECKPOINTS: &[u32] = &[0, 5, 10, 30, 60];

impl App {
    pub(super) fn snapshots_ui(&mut self, ui: &mut egui::Ui, id: &str) {
        if self.browser_of(id).is_none() {
            if self.reading_snapshots.as_deref() != Some(id) {
                self.read_snapshots(id);
            }
            ui.spinner();
            return;
        }
        ui.horizontal_wrapped(|ui| {
            ui.heading("Snapshots");
            ui.add_space(12.0);
            let take = self.available(UiCommand::TakeSnapshot, id);
            if button::command_ui(ui, UiCommand::TakeSnapshot, false, take) {
                self.wish(UiCommand::TakeSnapshot);
            }
            self.checkpoints_ui(ui, id);
        });
        self.saved_state_ui(ui, id);
        self.snapshot_progress_ui(ui, id);
        let trouble = self.browser_of(id).and_then(|browser| browser.trouble.clone());
        if let Some(words) = trouble
            && banner_ui(ui, "That was not possible", &words, &["Dismiss"]).is_some()
            && let Some(browser) = &mut self.browser
        {
            browser.trouble = None;
        }
        ui.add_space(8.0);
        self.tree_ui(ui, id);
        ui.add_space(8.0);
        self.selected_snapshot_ui(ui, id);
    }

    fn saved_state_ui(&mut self, ui: &mut egui::Ui, id: &str) {
        if !matches!(self.status(id), Status::Saved(_)) {
            return;
        }
        let words = "The machine sleeps in a saved state, which belongs to its disks as they are now. Resume goes on exactly there.";
        let steps = [UiCommand::Resume, UiCommand::DiscardState];
        if let Some(step) = banner_ui(ui, "", words, &steps.map(UiCommand::text)) {
            self.wish(steps[step]);
        }
    }

    fn checkpoints_ui(&mut self, ui: &mut egui::Ui, id: &str) {
        let Some(Ok(machine)) = self.entry(id).map(|entry| &entry.machine) else { return };
        let now = machine.checkpoint_minutes;
        let words = |minutes: u32| if minutes == 0 { "never".to_owned() } else { format!("every {minutes} min") };
        let mut chosen = now;
        ui.weak("by itself");
        egui::ComboBox::from_id_salt("checkpoints")
            .selected_text(words(now))
            .width(104.0)
            .show_ui(ui, |ui| {
                for &minutes in CHECKPOINTS {
                    ui.selectable_value(&mut chosen, minutes, words(minutes));
                }
            })
            .response
            .accessible_name("Automatic snapshots")
            .on_hover_text(
                "While the machine runs. Old ones are thinned as they age; those that you take are never touched",
            );
        if chosen != now {
            self.set_checkpoints(id, chosen);
        }
    }

    fn snapshot_progress_ui(&mut self, ui: &mut egui::Ui, id: &str) {
        let bar = |ui: &mut egui::Ui, words: &str, (done, all): (u64, u64)| {
            let text = if all == 0 {
                words.to_owned()
            } else {
                format!("{words}: {} of {}", size_words(done), size_words(all))
            };
            ui.add(progress::bar((done, all), text).desired_width(420.0));
        };
        let on = self.sessions.get(id).and_then(|session| session.snapshot_job);
        let off = self.off_job.as_ref().filter(|job| job.id == id);
        let running = on.map(|job| (job.words().to_owned(), job.progress));
        let Some((words, progress)) = running.or_else(|| off.map(|job| (job.words.clone(), job.progress()))) else {
            return;
        };
        let mut cancel = false;
        ui.horizontal(|ui| {
            bar(ui, &words, progress);
            cancel = ui.button("Cancel").on_hover_text(UiCommand::CancelSnapshot.tooltip()).clicked();
        });
        if cancel {
            self.wish_for(UiCommand::CancelSnapshot, id);
        }
        ui.ctx().request_repaint_after(std::time::Duration::from_millis(100));
    }

    fn tree_ui(&mut self, ui: &mut egui::Ui, id: &str) {
        let live = self.picture_of(ui.ctx(), id);
        let status = self.status(id).words();
        let Some(browser) = self.browser.as_ref().filter(|browser| browser.id == id) else { return };
        let place = |wanted| browser.tree.snapshots.iter().position(|info| Some(info.id) == wanted);
        let tiles: Vec<Tile> = browser
            .tree
            .snapshots
            .iter()
            .map(|info| Tile {
                parent: place(info.parent),
                at: info.taken_at,
                name: info.name.clone(),
                details: format!("{}, {}", time_words(info), size_words(info.own_bytes)),
                automatic: info.kind != SnapshotKind::Manual,
                picture: browser.pictures.get(&info.id).map(|(texture, aspect)| (texture.id(), *aspect)),
            })
            .collect();
        let now = Tile { name: "now".into(), details: status, at: u64::MAX, picture: live, ..Tile::default() };
        let (present, selected) = (place(browser.tree.present), place(browser.selected));
        let ids: Vec<_> = browser.tree.snapshots.iter().map(|info| info.id).collect();
        let Some(action) = snapshot_tree_ui(ui, &tiles, present, selected, &now) else { return };
        let Some(browser) = &mut self.browser else { return };
        match action {
            Action::Select(index) => {
                let chosen = index.map(|index| ids[index]);
                let pair = browser.comparing.take().zip(chosen);
                browser.select(chosen);
                if let Some((one, other)) = pair {
                    self.compare_snapshots(id, one, other);
                }
            }
            Action::Restore(index) => {
                browser.select(Some(ids[index]));
                self.wish(UiCommand::RestoreSnapshot);
            }
        }
    }

    fn selected_snapshot_ui(&mut self, ui: &mut egui::Ui, id: &str) {
        let Some(browser) = self.browser.as_mut().filter(|browser| browser.id == id) else { return };
        let Some(info) = browser.selected.and_then(|selected| browser.tree.get(selected)).cloned() else {
            ui.weak(if browser.tree.snapshots.is_empty() {
                "A snapshot keeps memory and all disks of one instant. The guest goes on meanwhile, and you can go back at any time."
            } else {
                "Select a snapshot to see what it costs and to go back to it."
            });
            return;
        };
        let changed = browser.name != info.name || browser.note != info.note;
        let mut save = false;
        ui.horizontal(|ui| {
            ui.label("Name");
            let field = egui::TextEdit::singleline(&mut browser.name).desired_width(280.0).char_limit(200);
            let field = ui.add(field).accessible_name("Name of the snapshot");
            save |= field.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
        });
        ui.horizontal(|ui| {
            ui.label("Note");
            let field = egui::TextEdit::multiline(&mut browser.note).desired_rows(2).desired_width(480.0);
            ui.add(field).accessible_name("Note of the snapshot");
        });
        if changed {
            save |= ui.button("Save name and note").clicked();
        }
        ui.weak(details(&info));
        if browser.comparing.is_some() {
            ui.label("Select the snapshot to compare it with.");
        }
        ui.horizontal_wrapped(|ui| {
            for command in [
                UiCommand::RestoreSnapshot,
                UiCommand::CloneSnapshot,
                UiCommand::CompareSnapshot,
                UiCommand::DeleteSnapshot,
            ] {
                if button::command_ui(ui, command, false, self.available(command, id)) {
                    self.wish(command);
                }
            }
        });
        if save && changed {
            self.describe_snapshot(id);
        }
    }
}

fn time_words(info: &SnapshotInfo) -> String {
    local_time(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(info.taken_at))
}

/// Why it is there, what it holds and what it costs.
fn details(info: &SnapshotInfo) -> String {
    let kind = match info.kind {
        SnapshotKind::Manual => "Taken",
        SnapshotKind::BeforeRestore => "Kept before going back,",
        SnapshotKind::Checkpoint => "Taken by itself",
    };
    let holds = if info.has_memory { "memory and disks" } else { "disks; the machine was off" };
    let mut words =
        format!("{kind} {}. It holds {holds}. Only it needs {}", time_words(info), size_words(info.own_bytes));
    if info.shared_bytes > 0 {
        words.push_str("; ");
        words.push_str(&size_words(info.shared_bytes));
        words.push_str(" it shares with others");
    }
    words.push('.');
    words
}

#[cfg(test)]
mod tests {
    use eframe::egui;
    use egui_kittest::kittest::Queryable as _;

    use crate::library::Library;
    use crate::view::tests::{data, machine_with_a_disk, manager, until};

    #[test]
    fn snapshots_of_a_machine_that_is_off_are_taken_renamed_compared_and_deleted() {
        let data = data("browser");
        machine_with_a_disk(&Library::new(data.clone()));
        let mut harness = manager(data.clone());
        harness.key_press_modifiers(egui::Modifiers::ALT, egui::Key::Num2);
        until(&mut harness, |app| app.browser.is_some());
        for count in 1..=2 {
            harness.key_press_modifiers(egui::Modifiers::COMMAND.plus(egui::Modifiers::SHIFT), egui::Key::S);
            harness.run_steps(3);
            harness.get_by_label("Take").click();
            let there = move |app: &crate::app::App| {
                app.dialog.is_none()
                    && app.browser.as_ref().is_some_and(|browser| browser.tree.snapshots.len() == count)
            };
            until(&mut harness, there);
        }
        // The newest is what the present came from.
        harness.get_by_label_contains("Snapshot 2,").click();
        harness.run_steps(3);
        let browser = |app: &crate::app::App| {
            (app.browser.as_ref().unwrap().selected, app.browser.as_ref().unwrap().tree.present)
        };
        let (selected, present) = browser(harness.state().as_ref().unwrap());
        assert!(selected.is_some() && selected == present);
        harness.get_by_label("Name of the snapshot").focus();
        harness.run_steps(2);
        harness.event(egui::Event::Text(" renamed".into()));
        harness.run_steps(2);
        harness.get_by_label("Save name and note").click();
        until(&mut harness, |app| app.browser.as_ref().unwrap().tree.find("Snapshot 2 renamed").is_some());
        // Compared with the other.
        harness.get_by_label("Compare with…").click();
        harness.run_steps(3);
        harness.get_by_label_contains("Snapshot 1,").click();
        until(&mut harness, |app| app.dialog.is_some());
        assert!(harness.query_by_label_contains("one of them was taken").is_some());
        harness.get_by_label("Close").click();
        harness.run_steps(3);
        // Deleting asks first; the safe button is the one with the focus.
        harness.get_by_label("Delete snapshot…").click();
        harness.run_steps(4);
        assert!(harness.query_by_label_contains("Deleting “Snapshot 1” frees").is_some());
        harness.key_press(egui::Key::Enter);
        harness.run_steps(3);
        assert_eq!(harness.state().as_ref().unwrap().browser.as_ref().unwrap().tree.snapshots.len(), 2);
        harness.get_by_label("Delete snapshot…").click();
        harness.run_steps(4);
        harness.get_by_label("Delete").click();
        until(&mut harness, |app| app.off_job.is_none() && app.browser.as_ref().unwrap().tree.snapshots.len() == 1);
        std::fs::remove_dir_all(data).unwrap();
    }
}
