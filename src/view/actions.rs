//! Top: the machine's name, its actions and the tabs.

use eframe::egui;
use vm_core::input::Key;

use crate::app::{App, Tab};
use crate::ui_command::UiCommand;
use crate::widget::button;

/// The rows of the Send-keys menu.
#[rustfmt::skip]
const CHORDS: &[(&str, &[Key])] = &[
    ("Ctrl-Alt-Del",       &[Key::ControlLeft, Key::AltLeft, Key::Delete]),
    ("Ctrl-Alt-Backspace", &[Key::ControlLeft, Key::AltLeft, Key::Backspace]),
    ("Ctrl-Alt-F1",        &[Key::ControlLeft, Key::AltLeft, Key::F1]),
    ("Ctrl-Alt-F2",        &[Key::ControlLeft, Key::AltLeft, Key::F2]),
    ("Ctrl-Alt-F3",        &[Key::ControlLeft, Key::AltLeft, Key::F3]),
    ("Ctrl-Alt-F4",        &[Key::ControlLeft, Key::AltLeft, Key::F4]),
    ("Ctrl-Alt-F5",        &[Key::ControlLeft, Key::AltLeft, Key::F5]),
    ("Ctrl-Alt-F6",        &[Key::ControlLeft, Key::AltLeft, Key::F6]),
    ("Ctrl-Alt-F7",        &[Key::ControlLeft, Key::AltLeft, Key::F7]),
    ("Alt-Tab",            &[Key::AltLeft, Key::Tab]),
    ("Alt-F4",             &[Key::AltLeft, Key::F4]),
    ("Ctrl-Esc",           &[Key::ControlLeft, Key::Escape]),
    ("Super",              &[Key::SuperLeft]),
    ("Print Screen",       &[Key::PrintScreen]),
    ("Pause",              &[Key::Pause]),
    ("Alt-SysRq-H",        &[Key::AltLeft, Key::PrintScreen, Key::H]),
    ("Alt-SysRq-S",        &[Key::AltLeft, Key::PrintScreen, Key::S]),
    ("Alt-SysRq-B",        &[Key::AltLeft, Key::PrintScreen, Key::B]),
];

impl App {
    pub(super) fn actions_ui(&mut self, ui: &mut egui::Ui, id: &str) {
        let name = self.entry(id).map(|entry| entry.name().to_owned()).unwrap_or_default();
        let primary = self.primary(id);
        ui.horizontal_wrapped(|ui| {
            ui.add(egui::Label::new(egui::RichText::new(name).heading()).truncate());
            ui.add_space(8.0);
            if button::command_ui(ui, primary, true, self.available(primary, id)) {
                self.wish(primary);
            }
            let on = self.sessions.contains_key(id);
            let mut beside = vec![UiCommand::Pause];
            if on && primary != UiCommand::SaveAndClose {
                beside.push(UiCommand::SaveAndClose);
            }
            for command in beside {
                if button::command_ui(ui, command, false, self.available(command, id)) {
                    self.wish(command);
                }
            }
            let snapshot = self.available(UiCommand::TakeSnapshot, id);
            if button::command_ui(ui, UiCommand::TakeSnapshot, false, snapshot) {
                self.wish(UiCommand::TakeSnapshot);
            }
            let typing = self.available(UiCommand::CtrlAltDelete, id);
            ui.add_enabled_ui(typing.is_ok(), |ui| {
                let menu = ui.menu_button(button::MENU_KEYS, |ui| {
                    egui::ScrollArea::vertical().max_height(480.0).show(ui, |ui| {
                        for (label, keys) in CHORDS {
                            if ui.button(*label).clicked() {
                                ui.close();
                                let context = ui.ctx().clone();
                                self.send_keys(id, keys.to_vec(), &context);
                            }
                        }
                    });
                });
                button::arrow_ui(ui, &menu.response);
                menu.response
                    .on_hover_text("Press keys in the guest that your desktop would take")
                    .accessible_name("Send keys");
            });
            self.drives_menu_ui(ui, id);
            if button::command_ui(ui, UiCommand::FullScreen, false, self.available(UiCommand::FullScreen, id)) {
                self.wish(UiCommand::FullScreen);
            }
            let more = ui.menu_button(button::MENU_MORE, |ui| {
                for command in [
                    UiCommand::Reset,
                    UiCommand::PowerButton,
                    UiCommand::PowerOff,
                    UiCommand::DiscardState,
                    UiCommand::TypeIntoGuest,
                    UiCommand::OneToOne,
                    UiCommand::ExportMachine,
                    UiCommand::ImportMachine,
                    UiCommand::RemoveMachine,
                    UiCommand::LookAgain,
                    UiCommand::SwitchTheme,
                    UiCommand::Palette,
                    UiCommand::Quit,
                ] {
                    if button::menu_row_ui(ui, command, self.available(command, id)) {
                        self.wish(command);
                    }
                }
            });
            button::arrow_ui(ui, &more.response);
            more.response.accessible_name("More actions");
        });
        ui.horizontal_wrapped(|ui| {
            for (tab, command) in [
                (Tab::Screen, UiCommand::TabScreen),
                (Tab::Snapshots, UiCommand::TabSnapshots),
                (Tab::Settings, UiCommand::TabSettings),
                (Tab::Monitor, UiCommand::TabMonitor),
                (Tab::Insight, UiCommand::TabInsight),
            ] {
                let tooltip = button::with_shortcut(ui, command);
                if ui.selectable_label(self.tab == tab, command.text()).on_hover_text(tooltip).clicked() {
                    self.wish(command);
                }
            }
        });
    }
}
