//! Which actions can be had now, and what each of them does.

use eframe::egui;
use vm_core::input::Key;
use vm_core::runner::Command;

use super::{App, Status, Tab};
use crate::dialog::Dialog;
use crate::ui_command::UiCommand;

impl App {
    /// Whether an action can be had now for a machine, else why not.
    pub(crate) fn available(&self, command: UiCommand, id: &str) -> Result<(), &'static str> {
        let status = self.status(id);
        let known = self.entry(id).is_some();
        let on = self.sessions.contains_key(id);
        let saved = self.entry(id).is_some_and(|entry| entry.saved.is_some());
        let broken = self.entry(id).is_some_and(|entry| entry.trouble().is_some());
        let yes = |condition, reason| if condition { Ok(()) } else { Err(reason) };
        match command {
            UiCommand::ImportMachine => self.may_copy(),
            UiCommand::NewMachine
            | UiCommand::TabScreen
            | UiCommand::TabSnapshots
            | UiCommand::TabSettings
            | UiCommand::TabMonitor
            | UiCommand::TabInsight
            | UiCommand::NextMachine
            | UiCommand::PreviousMachine
            | UiCommand::LookAgain
            | UiCommand::SwitchTheme
            | UiCommand::Palette
            | UiCommand::Quit
            | UiCommand::OneToOne => Ok(()),
            _ if !known => Err("Select a machine first"),
            UiCommand::Start => match status {
                _ if on => Err("It is on already"),
                Status::Elsewhere => Err("It is on in another window of Hako"),
                _ if saved => Err("It has a saved state: resume it, or discard the state first"),
                _ => yes(!broken, "It needs attention first: see its screen"),
            },
            UiCommand::Resume => match status {
                Status::Paused | Status::Stopped => Ok(()),
                _ if on => Err("It is running already"),
                Status::Elsewhere => Err("It is on in another window of Hako"),
                _ if !saved => Err("It has no saved state; start it"),
                _ => yes(!broken, "It needs attention first: see its screen"),
            },
            UiCommand::SaveAndClose => match status {
                Status::Running | Status::Paused | Status::Stopped => Ok(()),
                Status::Saving => Err("It is being saved"),
                Status::Starting => Err("It is just starting"),
                Status::Attention | Status::Off | Status::Saved(_) | Status::Elsewhere => Err("It is not on"),
            },
            UiCommand::Pause => yes(status == Status::Running, "It is not running"),
            UiCommand::Reset | UiCommand::PowerOff => yes(on && status != Status::Saving, "It is not on"),
            UiCommand::PowerButton | UiCommand::CtrlAltDelete | UiCommand::TypeIntoGuest => {
                yes(status == Status::Running, "It is not running")
            }
            UiCommand::Insert(place) => match self.removable(id, place) {
                None => Err("It has no such drive for CDs or floppies"),
                Some(_) => self.media_available(id),
            },
            UiCommand::Eject(place) => match self.removable(id, place) {
                None => Err("It has no such drive for CDs or floppies"),
                Some(drive) if drive.path.is_none() => Err("It is empty"),
                Some(_) => self.media_available(id),
            },
            UiCommand::TakeSnapshot => self.may_take(id),
            UiCommand::RestoreSnapshot => self.may_change_snapshot(id),
            UiCommand::CompareSnapshot | UiCommand::DeleteSnapshot => self.may_change_snapshot(id),
            UiCommand::CloneSnapshot => self.may_clone(id),
            UiCommand::CancelSnapshot => yes(self.can_cancel(id), "Nothing is being done with its snapshots"),
            UiCommand::ExportMachine => match status {
                _ if on => Err("Switch it off, or Save & Close it, first"),
                Status::Elsewhere => Err("It is on in another window of Hako"),
                _ if broken => Err("It needs attention first: see its screen"),
                _ => self.may_copy(),
            },
            UiCommand::FullScreen => yes(on, "It is not on"),
            UiCommand::DiscardState | UiCommand::RemoveMachine if status == Status::Elsewhere => {
                Err("It is on in another window of Hako")
            }
            UiCommand::DiscardState => yes(saved && !on, "There is no saved state to discard"),
            UiCommand::RemoveMachine => yes(!on, "Switch it off first"),
        }
    }

    /// Whether an action means anything for a machine: one for a drive that it does not have is not offered at all.
    pub(crate) fn offered(&self, command: UiCommand, id: &str) -> bool {
        match command {
            UiCommand::Insert(place) | UiCommand::Eject(place) => self.removable(id, place).is_some(),
            _ => true,
        }
    }

    /// Does an action for the selected machine after this picture is drawn.
    pub(crate) fn wish(&mut self, command: UiCommand) {
        let id = self.selected.clone().unwrap_or_default();
        self.wish_for(command, &id);
    }

    /// The same for a machine.
    pub(crate) fn wish_for(&mut self, command: UiCommand, id: &str) {
        self.pending.push((command, id.to_owned()));
    }

    /// Does what was wished.
    pub(crate) fn carry_out_wishes(&mut self, context: &egui::Context) {
        for (command, id) in std::mem::take(&mut self.pending) {
            if self.available(command, &id).is_ok() {
                self.carry_out(command, &id, context);
            }
        }
    }

    fn carry_out(&mut self, command: UiCommand, id: &str, context: &egui::Context) {
        let send = |command| {
            if let Some(session) = self.sessions.get(id) {
                session.handle.send(command);
            }
        };
        match command {
            UiCommand::NewMachine => self.open(Dialog::new_machine()),
            UiCommand::Start | UiCommand::Resume if !self.sessions.contains_key(id) => self.start(id, context),
            UiCommand::Start | UiCommand::Resume => {
                send(Command::Resume);
                self.give_keyboard(id, false, context);
            }
            UiCommand::SaveAndClose => self.save_and_close(id),
            UiCommand::Pause => send(Command::Pause),
            UiCommand::PowerButton => send(Command::PowerButton),
            UiCommand::CtrlAltDelete => self.send_keys(id, vec![Key::ControlLeft, Key::AltLeft, Key::Delete], context),
            UiCommand::Reset | UiCommand::PowerOff | UiCommand::DiscardState | UiCommand::RemoveMachine => {
                self.open(Dialog::Confirm { command, id: id.to_owned() });
            }
            UiCommand::Insert(place) => self.ask_for_medium(id, place),
            UiCommand::Eject(place) => self.change_medium(id, place, None, false),
            UiCommand::TakeSnapshot => self.ask_for_snapshot(id),
            UiCommand::RestoreSnapshot => {
                if let Some(snapshot) = self.selected_snapshot(id) {
                    self.open(Dialog::Restore { id: id.to_owned(), snapshot, keep: true });
                }
            }
            UiCommand::CompareSnapshot => {
                if let Some(browser) = &mut self.browser {
                    browser.comparing = browser.selected;
                }
            }
            UiCommand::DeleteSnapshot => {
                if let Some(snapshot) = self.selected_snapshot(id) {
                    self.open(Dialog::DeleteSnapshot { id: id.to_owned(), snapshot });
                }
            }
            UiCommand::CloneSnapshot => {
                if let Some(snapshot) = self.selected_snapshot(id) {
                    self.ask_for_clone(id, snapshot);
                }
            }
            UiCommand::CancelSnapshot => self.cancel_snapshot(id),
            UiCommand::ExportMachine => self.open(Dialog::export(id)),
            UiCommand::ImportMachine => self.open(Dialog::import()),
            UiCommand::TypeIntoGuest => {
                self.tab = Tab::Screen;
                self.give_keyboard(id, false, context);
            }
            UiCommand::FullScreen => {
                self.full_screen = !self.full_screen;
                self.hint_wanted.set(self.full_screen);
                self.tab = Tab::Screen;
                context.send_viewport_cmd(egui::ViewportCommand::Fullscreen(self.full_screen));
            }
            UiCommand::OneToOne => {
                self.preferences.one_to_one = !self.preferences.one_to_one;
                self.write_preferences();
            }
            UiCommand::TabScreen => self.tab = Tab::Screen,
            UiCommand::TabSnapshots => self.tab = Tab::Snapshots,
            UiCommand::TabSettings => self.tab = Tab::Settings,
            UiCommand::TabMonitor => self.tab = Tab::Monitor,
            UiCommand::TabInsight => self.tab = Tab::Insight,
            UiCommand::NextMachine => self.step(1),
            UiCommand::PreviousMachine => self.step(-1),
            UiCommand::LookAgain => {
                self.troubles.clear();
                self.reload(None);
            }
            UiCommand::SwitchTheme => {
                let dark = context.theme() == egui::Theme::Dark;
                self.preferences.dark = Some(!dark);
                context.set_theme(if dark { egui::Theme::Light } else { egui::Theme::Dark });
                self.write_preferences();
            }
            UiCommand::Palette => self.open(Dialog::palette()),
            UiCommand::Quit => {
                context.send_viewport_cmd(egui::ViewportCommand::Close);
                context.request_repaint();
            }
        }
    }

    pub(crate) fn open(&mut self, dialog: Dialog) {
        self.grab.borrow_mut().release();
        self.dialog = Some(dialog);
    }

    pub(super) fn write_preferences(&self) {
        let (preferences, data) = (self.preferences.clone(), self.library.data().to_owned());
        self.jobs.run(
            move || preferences.write(&data),
            |_, _, written| {
                if let Err(error) = written {
                    tracing::warn!("preferences: {error}");
                }
            },
        );
    }

    fn step(&mut self, by: isize) {
        let at = self.entries.iter().position(|entry| Some(&entry.id) == self.selected.as_ref()).unwrap_or(0);
        if let Some(entry) = self.entries.get(at.saturating_add_signed(by).min(self.entries.len().saturating_sub(1))) {
            self.selected = Some(entry.id.clone());
        }
    }
}
