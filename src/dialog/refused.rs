//! The engine refused to resume a saved state: its words, and safe next steps.

use eframe::egui;

use super::{Answer, Dialog, ask_ui};
use crate::app::{App, Tab};
use crate::library::Trouble;
use crate::ui_command::UiCommand;

impl App {
    pub(super) fn refused_ui(&mut self, context: &egui::Context, id: String, words: String) -> Option<Dialog> {
        let name = self.entry(&id).map(|entry| entry.name().to_owned()).unwrap_or_default();
        if self.browser_of(&id).is_none() && self.reading_snapshots.is_none() {
            self.read_snapshots(&id);
        }
        let has_snapshots = self.browser_of(&id).is_some_and(|browser| !browser.tree.snapshots.is_empty());
        // The engine's words say what differs and what one can do.
        let lines: Vec<String> = words.lines().map(str::to_owned).collect();
        let buttons = ["Close", "Discard the state…", "Snapshots"];
        let offered = &buttons[..if has_snapshots { 3 } else { 2 }];
        let answer = ask_ui(context, &format!("The saved state of {name} cannot go on"), &lines, offered);
        if matches!(answer, Answer::Open) {
            return Some(Dialog::Refused { id, words });
        }
        let next = if has_snapshots {
            "Put the disks back as they were and resume, go back to a snapshot, or discard the saved state (More)."
        } else {
            "Put the disks back as they were and resume, or discard the saved state (More)."
        };
        self.troubles.insert(id.clone(), Trouble { what: words, next: next.into() });
        match answer {
            Answer::Button(1) => self.open(Dialog::Confirm { command: UiCommand::DiscardState, id }),
            Answer::Button(2) => self.tab = Tab::Snapshots,
            Answer::Button(_) | Answer::Escaped | Answer::Open => {}
        }
        None
    }
}
