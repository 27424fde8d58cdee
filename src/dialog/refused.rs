//! The engine refused to resume a saved state: its words, and safe next steps.

use eframe::egui;

use super::{Answer, Dialog, ask_ui};
use crate::app::App;
use crate::library::Trouble;
use crate::ui_command::UiCommand;

impl App {
    pub(super) fn refused_ui(&mut self, context: &egui::Context, id: String, words: String) -> Option<Dialog> {
        let name = self.entry(&id).map(|entry| entry.name().to_owned()).unwrap_or_default();
        // The engine's words say what differs and what one can do.
        let text = [words.clone()];
        match ask_ui(
            context,
            &format!("The saved state of {name} cannot go on"),
            &text,
            &["Go back", "Discard the state…"],
        ) {
            Answer::Open => return Some(Dialog::Refused { id, words }),
            Answer::Escaped | Answer::Button(0) => {
                let next = "Put the disks back as they were and resume, or discard the saved state (More).";
                self.troubles.insert(id, Trouble { what: words, next: next.into() });
            }
            Answer::Button(_) => {
                let next = "Put the disks back as they were and resume, or discard the saved state (More).";
                self.troubles.insert(id.clone(), Trouble { what: words, next: next.into() });
                self.open(Dialog::Confirm { command: UiCommand::DiscardState, id });
            }
        }
        None
    }
}
