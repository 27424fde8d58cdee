//! The window is to be closed while machines are on.

use eframe::egui;
use vm_core::runner::{Command, RunState};

use super::{Answer, Closing, Dialog, ask_ui};
use crate::app::App;
use crate::session::Banner;

impl App {
    pub(super) fn closing_ui(&mut self, context: &egui::Context, stage: Closing) -> Option<Dialog> {
        if self.sessions.is_empty() {
            context.send_viewport_cmd(egui::ViewportCommand::Close);
            // The window sees the wish when it is drawn next.
            context.request_repaint();
            return None;
        }
        let names: Vec<String> = self
            .sessions
            .keys()
            .map(|id| {
                let name = self.entry(id).map_or(id.as_str(), |entry| entry.name());
                format!("• {name}, {}", self.status(id).words())
            })
            .collect();
        match stage {
            Closing::Asking => {
                let title = if names.len() == 1 { "A machine is on" } else { "Machines are on" };
                match ask_ui(context, title, &names, &["Save & Close", "Power off", "Keep running"]) {
                    Answer::Open => Some(Dialog::Closing(stage)),
                    Answer::Button(0) => {
                        let ids: Vec<String> = self.sessions.keys().cloned().collect();
                        for id in ids {
                            if let Some(session) = self.sessions.get_mut(&id) {
                                session.banners.retain(|banner| !matches!(banner, Banner::SaveFailed(_)));
                            }
                            self.save_and_close(&id);
                        }
                        Some(Dialog::Closing(Closing::Saving))
                    }
                    Answer::Button(1) => {
                        for session in self.sessions.values() {
                            session.handle.send(Command::PowerOff);
                        }
                        Some(Dialog::Closing(Closing::PoweringOff))
                    }
                    Answer::Button(_) | Answer::Escaped => None,
                }
            }
            Closing::Saving | Closing::PoweringOff => {
                let failed = self.sessions.iter().find_map(|(id, session)| {
                    session.banners.iter().any(|banner| matches!(banner, Banner::SaveFailed(_))).then(|| id.clone())
                });
                if let Some(id) = failed {
                    // Its banner says why and offers the next step.
                    self.selected = Some(id);
                    return None;
                }
                let title = if stage == Closing::Saving { "Saving, then closing" } else { "Switching off" };
                let mut words = names;
                for session in self.sessions.values() {
                    if session.state == RunState::Saving
                        && let Some((done, all)) = session.progress
                    {
                        words.push(format!("{} of {} MiB", done >> 20, all >> 20));
                    }
                }
                let way_on = if stage == Closing::Saving { "Cancel" } else { "Keep the window open" };
                match ask_ui(context, title, &words, &[way_on]) {
                    Answer::Button(_) | Answer::Escaped => {
                        // What is being saved goes on running; what is saved sleeps.
                        for session in self.sessions.values() {
                            session.handle.cancel_save();
                        }
                        None
                    }
                    Answer::Open => Some(Dialog::Closing(stage)),
                }
            }
        }
    }
}
