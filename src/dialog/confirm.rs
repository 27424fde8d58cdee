//! Questions before something that cannot be undone.

use eframe::egui;
use vm_core::runner::Command;

use super::{Answer, Dialog, ask_ui};
use crate::app::App;
use crate::ui_command::UiCommand;

impl App {
    pub(super) fn confirm_ui(&mut self, context: &egui::Context, command: UiCommand, id: String) -> Option<Dialog> {
        let name = self.entry(&id).map(|entry| entry.name().to_owned()).unwrap_or_default();
        let (title, words, buttons): (String, &str, &[&str]) = match command {
            UiCommand::PowerOff => (
                format!("Power off {name}?"),
                "What the guest has not written to its disks is lost, as when a PC's plug is pulled.",
                &["Keep running", "Power off", "Save & Close instead"],
            ),
            UiCommand::Reset => (
                format!("Reset {name}?"),
                "The guest starts anew. What it has not written to its disks is lost.",
                &["Keep running", "Reset"],
            ),
            UiCommand::DiscardState => (
                format!("Discard the saved state of {name}?"),
                "The guest's memory of that moment is lost for good; the next start is from power-on. Its disks stay as they are.",
                &["Keep the state", "Discard"],
            ),
            UiCommand::RemoveMachine => (
                format!("Remove {name} from the library?"),
                "Its folder moves to “removed” in the data folder, from where you can take it back. Disk images elsewhere stay where they are.",
                &["Keep it", "Remove"],
            ),
            _ => return None,
        };
        match ask_ui(context, &title, &[words.to_owned()], buttons) {
            Answer::Open => return Some(Dialog::Confirm { command, id }),
            Answer::Escaped | Answer::Button(0) => {}
            Answer::Button(1) => self.confirmed(command, &id),
            Answer::Button(_) => self.save_and_close(&id),
        }
        None
    }

    fn confirmed(&mut self, command: UiCommand, id: &str) {
        let session = self.sessions.get(id);
        match (command, session) {
            (UiCommand::PowerOff, Some(session)) => session.handle.send(Command::PowerOff),
            (UiCommand::Reset, Some(session)) => session.handle.send(Command::Reset),
            (UiCommand::DiscardState, None) => self.discard_state(id, false),
            (UiCommand::RemoveMachine, None) => {
                let (library, id) = (self.library.clone(), id.to_owned());
                self.jobs.run(
                    move || library.remove(&id),
                    |app, _, removed| {
                        app.library_trouble = removed.err();
                        app.reload(None);
                    },
                );
            }
            _ => {}
        }
    }

    /// Throws the saved state away; with `start`, starts from power-on then.
    pub(super) fn discard_state(&mut self, id: &str, start: bool) {
        let (library, id) = (self.library.clone(), id.to_owned());
        self.jobs.run(
            move || (library.discard_state(&id), id),
            move |app, context, (discarded, id)| {
                match discarded {
                    Ok(()) => {
                        app.troubles.remove(&id);
                        if let Some(entry) = app.entries.iter_mut().find(|entry| entry.id == id) {
                            entry.saved = None;
                        }
                        if start {
                            app.start(&id, context);
                        }
                    }
                    Err(trouble) => {
                        app.troubles.insert(id.clone(), trouble);
                    }
                }
                app.refresh(&id);
            },
        );
    }
}
