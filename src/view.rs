//! The parts of the window, one a file; this one puts them together.

mod actions;
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

impl App {
    /// The whole window.
    pub(crate) fn window_ui(&mut self, ui: &mut egui::Ui) {
        self.give_back_on_click(ui);
        self.shortcuts(ui.ctx());
        let selected = self.selected.clone().filter(|id| self.entry(id).is_some());
        self.screen_rect.set(None);
        if self.full_screen
            && let Some(id) = &selected
            && self.sessions.contains_key(id)
        {
            egui::CentralPanel::no_frame().show(ui, |ui| self.screen_ui(ui, id));
        } else {
            self.full_screen = false;
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
                        Tab::Settings => page_ui(ui, |ui| self.settings_ui(ui, &id)),
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
        if self.grab.borrow().pointer() {
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
fn page_ui(ui: &mut egui::Ui, content: impl FnOnce(&mut egui::Ui)) {
    egui::ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
        egui::Frame::new().inner_margin(20).show(ui, |ui| {
            ui.set_max_width(760.0);
            content(ui);
        });
    });
}
