//! The parts of the window, one a file; this one puts them together.

mod actions;
mod drives;
mod insight;
mod library;
mod monitor;
mod screen;
mod settings;
mod snapshots;
mod status;

use eframe::egui;

use crate::app::{App, Tab};
use crate::theme;
use crate::ui_command::UiCommand;

pub(crate) use library::{fit, full_uv};

impl App {
    /// The whole window.
    pub(crate) fn window_ui(&mut self, ui: &mut egui::Ui) {
        self.give_back_on_click(ui);
        self.shortcuts(ui.ctx());
        let selected = self.selected.clone().filter(|id| self.entry(id).is_some());
        self.screen_rect.set(None);
        self.grab.borrow_mut().set_picture(None);
        if self.full_screen
            && let Some(id) = &selected
            && self.sessions.contains_key(id)
        {
            egui::CentralPanel::no_frame().show(ui, |ui| self.screen_ui(ui, id));
        } else {
            if std::mem::take(&mut self.full_screen) {
                // The machine has ended, or another is selected.
                ui.ctx().send_viewport_cmd(egui::ViewportCommand::Fullscreen(false));
            }
            let folded = ui.available_width() < theme::FOLD_BELOW;
            let width = if folded { theme::LIBRARY_FOLDED } else { theme::LIBRARY_WIDTH };
            egui::Panel::left("library")
                .resizable(false)
                .exact_size(width)
                .frame(egui::Frame::side_top_panel(ui.style()).inner_margin(8))
                .show(ui, |ui| self.library_ui(ui, folded));
            if let Some(id) = selected {
                egui::Panel::top("actions")
                    .resizable(false)
                    .frame(egui::Frame::side_top_panel(ui.style()).inner_margin(8))
                    .show(ui, |ui| self.actions_ui(ui, &id));
                egui::Panel::bottom("status")
                    .resizable(false)
                    .frame(egui::Frame::side_top_panel(ui.style()).inner_margin(egui::Margin::symmetric(12, 4)))
                    .show(ui, |ui| self.status_ui(ui, &id));
                egui::CentralPanel::default().frame(egui::Frame::central_panel(ui.style()).inner_margin(0)).show(
                    ui,
                    |ui| match self.tab {
                        Tab::Screen => self.screen_ui(ui, &id),
                        Tab::Snapshots => page_ui(ui, |ui| self.snapshots_ui(ui, &id)),
                        Tab::Settings => self.settings_ui(ui, &id),
                        Tab::Monitor => self.monitor_ui(ui, &id),
                        Tab::Insight => page_ui(ui, |ui| self.insight_ui(ui, &id)),
                    },
                );
            } else {
                egui::CentralPanel::default().show(ui, |ui| self.welcome_ui(ui));
            }
        }
        let context = ui.ctx().clone();
        self.dialogs_ui(&context);
        self.carry_out_wishes(&context);
        let grab = self.grab.borrow();
        if grab.pointer() || grab.over_picture() {
            context.set_cursor_icon(egui::CursorIcon::None);
        }
    }

    /// A click beside the guest's screen takes the keyboard back.
    fn give_back_on_click(&self, ui: &egui::Ui) {
        let pressed = ui.input(|input| if input.pointer.any_pressed() { input.pointer.interact_pos() } else { None });
        if let Some(at) = pressed
            && !self.screen_rect.get().is_some_and(|rect| rect.contains(at))
        {
            let mut grab = self.grab.borrow_mut();
            if grab.keyboard().is_some() && !grab.pointer() {
                grab.release();
            }
        }
    }

    fn shortcuts(&mut self, context: &egui::Context) {
        if self.dialog.is_some() || self.grab.borrow().keyboard().is_some() {
            return;
        }
        // Those with more modifiers first, so that Ctrl-Shift-P is not taken for Ctrl-P.
        let mut commands = UiCommand::ALL;
        commands.sort_by_key(|command| command.shortcut().is_none_or(|shortcut| !shortcut.modifiers.shift));
        let id = self.selected.clone().unwrap_or_default();
        for command in commands {
            if let Some(shortcut) = command.shortcut()
                && self.available(command, &id).is_ok()
                && context.input_mut(|input| input.consume_shortcut(&shortcut))
            {
                self.wish(command);
            }
        }
    }

    fn welcome_ui(&mut self, ui: &mut egui::Ui) {
        ui.vertical_centered(|ui| {
            ui.add_space((ui.available_height() * 0.3).max(16.0));
            ui.heading("No machines yet");
            if let Some(trouble) = &self.library_trouble {
                ui.label(&trouble.what);
                ui.label(&trouble.next);
            } else {
                ui.label("A machine is a PC of your own: memory, disks, a screen. Make one, and start it.");
                ui.weak("packaging/run.sh fetches two examples, a game and a memory test.");
            }
            ui.add_space(8.0);
            if crate::widget::button::primary_ui(ui, UiCommand::NewMachine.text()).clicked() {
                self.wish(UiCommand::NewMachine);
            }
        });
    }
}

/// A tab that scrolls.
pub(crate) fn page_ui(ui: &mut egui::Ui, content: impl FnOnce(&mut egui::Ui)) {
    egui::ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
        egui::Frame::new().inner_margin(20).show(ui, |ui| {
            ui.set_max_width(760.0);
            content(ui);
        });
    });
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::RefCell;
    use std::path::PathBuf;
    use std::rc::Rc;
    use std::time::{Duration, Instant};

    use egui_kittest::Harness;
    use egui_kittest::kittest::Queryable;
    use vm_core::config::ImageFormat;
    use vm_core::disk::image;

    use super::*;
    use crate::grab::Grab;
    use crate::library::{Drive, Library, Machine, Place};

    /// A library's folder without examples.
    pub(crate) fn data(test: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("hako-view-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        // Tests make their own machines; the examples of the first start are not wanted.
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("examples-made"), "").unwrap();
        folder
    }

    /// Makes a machine with an empty disk of its own.
    pub(crate) fn machine_with_a_disk(library: &Library) {
        let mut machine = Machine { name: "One".into(), ..Machine::default() };
        let disk =
            Drive { format: Some(ImageFormat::Qcow2), ..Drive::new(Place::Ide0, false, Some("disk.qcow2".into())) };
        machine.set_drive(Place::Ide0, Some(disk));
        let id = library.create(&machine).unwrap();
        image::create(&library.folder(&id).join("disk.qcow2"), Some(1 << 20), ImageFormat::Qcow2, None).unwrap();
    }

    /// The manager of that library, drawn a few times.
    pub(crate) fn manager(data: PathBuf) -> Harness<'static, Option<App>> {
        let mut harness = Harness::builder().with_size([1120.0, 740.0]).build_ui_state(
            move |ui, app: &mut Option<App>| {
                let app = app.get_or_insert_with(|| {
                    App::new(Library::new(data.clone()), Rc::new(RefCell::new(Grab::default())), ui.ctx()).unwrap()
                });
                app.tick(&ui.ctx().clone());
                app.window_ui(ui);
            },
            None,
        );
        harness.run_steps(3);
        harness
    }

    /// Draws until `done`; the worker thread may need a moment.
    pub(crate) fn until(harness: &mut Harness<'static, Option<App>>, done: impl Fn(&App) -> bool) {
        let start = Instant::now();
        while !done(harness.state().as_ref().unwrap()) {
            assert!(start.elapsed() < Duration::from_secs(10), "it never happened");
            harness.step();
            std::thread::sleep(Duration::from_millis(5));
        }
        harness.run_steps(2);
    }

    #[test]
    fn a_machine_is_made_with_the_keyboard_alone() {
        let data = data("made");
        let mut harness = manager(data.clone());
        harness.get_by_label("No machines yet");
        harness.key_press_modifiers(egui::Modifiers::COMMAND, egui::Key::N);
        harness.run_steps(3);
        // The first field has the focus.
        harness.event(egui::Event::Text("Test PC".into()));
        harness.run_steps(2);
        harness.get_by_label("Create").click();
        until(&mut harness, |app| app.entries.len() == 1 && app.dialog.is_none());
        harness.get_by_label("Test PC, off");
        assert!(data.join("machines/test-pc/machine.ron").exists());
        std::fs::remove_dir_all(data).unwrap();
    }

    #[test]
    fn wrong_input_is_told_in_words_and_nothing_is_made() {
        let data = data("wrong");
        let mut harness = manager(data.clone());
        harness.key_press_modifiers(egui::Modifiers::COMMAND, egui::Key::N);
        harness.run_steps(3);
        harness.get_by_label("Create").click();
        harness.run_steps(3);
        harness.get_by_label("Give the machine a name.");
        assert!(!data.join("machines").exists());
        std::fs::remove_dir_all(data).unwrap();
    }

    #[test]
    fn a_broken_machine_needs_attention_and_says_why() {
        let data = data("broken");
        let folder = data.join("machines/odd");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("machine.ron"), "(version: 1,\n name: oops)").unwrap();
        let mut harness = manager(data.clone());
        harness.get_by_label("odd, needs attention");
        assert!(harness.query_by_label_contains("machine.ron, line 2").is_some());
        // Corrected by hand, then looked at again.
        std::fs::write(folder.join("machine.ron"), "(version: 1,\n name: \"Odd\")").unwrap();
        harness.key_press(egui::Key::F5);
        until(&mut harness, |app| app.entries[0].trouble().is_none());
        harness.get_by_label("Odd, off");
        std::fs::remove_dir_all(data).unwrap();
    }

    #[test]
    fn everything_is_reached_with_the_tab_key() {
        let data = data("tab-key");
        Library::new(data.clone()).create(&Machine { name: "One".into(), ..Machine::default() }).unwrap();
        let mut harness = manager(data.clone());
        let mut left: Vec<&str> = vec![
            "New machine",
            "One, off",
            "Start",
            "Screen",
            "Snapshots",
            "Settings",
            "Monitor",
            "Insight",
            "More actions",
        ];
        for _ in 0..40 {
            harness.key_press(egui::Key::Tab);
            harness.run_steps(2);
            left.retain(|label| !harness.query_all_by_label(label).any(|node| node.is_focused()));
        }
        assert!(left.is_empty(), "never reached: {left:?}");
        std::fs::remove_dir_all(data).unwrap();
    }

    #[test]
    fn the_palette_finds_a_command_and_says_why_others_cannot_be_had() {
        let data = data("palette");
        Library::new(data.clone()).create(&Machine { name: "One".into(), ..Machine::default() }).unwrap();
        let mut harness = manager(data.clone());
        harness.key_press_modifiers(egui::Modifiers::COMMAND.plus(egui::Modifiers::SHIFT), egui::Key::K);
        harness.run_steps(3);
        assert!(harness.query_by_label("Insert into floppy drive A…").is_none(), "the machine has no such drive");
        harness.event(egui::Event::Text("dark".into()));
        harness.run_steps(2);
        let before = harness.ctx.theme();
        harness.key_press(egui::Key::Enter);
        harness.run_steps(3);
        assert_ne!(harness.ctx.theme(), before);
        assert!(harness.state().as_ref().unwrap().dialog.is_none());
        // The preferences may just be written.
        let _ = std::fs::remove_dir_all(data);
    }

    #[test]
    fn every_tab_and_both_shapes_of_the_window_can_be_drawn() {
        let data = data("tabs");
        let library = Library::new(data.clone());
        library.create(&Machine { name: "One".into(), ..Machine::default() }).unwrap();
        let mut harness = manager(data.clone());
        for key in [egui::Key::Num2, egui::Key::Num3, egui::Key::Num4, egui::Key::Num5, egui::Key::Num1] {
            harness.key_press_modifiers(egui::Modifiers::ALT, key);
            harness.run_steps(3);
        }
        harness.set_size(egui::vec2(480.0, 360.0));
        harness.run_steps(3);
        harness.get_by_label("One, off");
        std::fs::remove_dir_all(data).unwrap();
    }
}
