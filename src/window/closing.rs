//! What the stand-alone window says when it is to be closed while its machine is on.

use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use eframe::egui;
use vm_core::runner::{Command, CommandError, Event, Reply, RunState, VmHandle};

use crate::dialog::{self, Answer, ask_ui};
use crate::widget::progress;

/// How long a machine may take to end that was switched off.
const PATIENCE: Duration = Duration::from_secs(5);

/// How far closing the window has come.
pub enum Closing {
    /// The person is being asked.
    Asking,
    /// The machine is being saved.
    Saving {
        /// What becomes of it.
        answer: Receiver<Result<Reply, CommandError>>,
        /// What the machine tells meanwhile.
        events: Receiver<Event>,
        /// Bytes so far and in all.
        progress: (u64, u64),
        /// The person does not want it any more.
        cancelled: bool,
        /// It ran before.
        ran: bool,
    },
    /// That was not possible; the machine is paused and whole.
    Failed {
        /// Why, in the engine's words.
        words: String,
        /// It ran before.
        ran: bool,
    },
    /// It was switched off.
    PoweringOff(Instant),
}

impl Closing {
    /// Switches the machine off.
    fn power_off(machine: &VmHandle) -> Self {
        machine.send(Command::PowerOff);
        Self::PoweringOff(Instant::now())
    }

    fn save(machine: &VmHandle, ran: bool) -> Self {
        let events = machine.events();
        let answer = machine.request(Command::SaveAndClose(None));
        Self::Saving { answer, events, progress: (0, 0), cancelled: false, ran }
    }

    /// Whether there is something to read or to answer.
    pub fn speaks(&self) -> bool {
        !matches!(self, Self::PoweringOff(_))
    }

    /// Whether the window need not wait for the machine any longer.
    pub fn out_of_patience(&self) -> bool {
        matches!(self, Self::PoweringOff(since) if since.elapsed() > PATIENCE)
    }

    /// Says it, and what comes of the answer; `None`: the window stays.
    pub fn ui(self, context: &egui::Context, machine: &VmHandle, title: &str) -> Option<Self> {
        match self {
            Self::Asking => {
                let on = if machine.state() == RunState::Running { "running" } else { "on" };
                let words =
                    [format!("{title} is {on}. Save & Close puts it to sleep; it goes on from there another time.")];
                match ask_ui(context, "Close the window?", &words, &["Save & Close", "Power off", "Keep running"]) {
                    Answer::Open => Some(self),
                    Answer::Button(0) => Some(Self::save(machine, machine.state() == RunState::Running)),
                    Answer::Button(1) => Some(Self::power_off(machine)),
                    Answer::Button(_) | Answer::Escaped => None,
                }
            }
            Self::Saving { answer, events, mut progress, mut cancelled, ran } => {
                // Where it is saved the machine ends, and the window with it.
                if let Ok(Err(error)) = answer.try_recv() {
                    if !cancelled {
                        return Some(Self::Failed { words: error.to_string(), ran });
                    }
                    if ran {
                        machine.send(Command::Resume);
                    }
                    return None;
                }
                for event in events.try_iter() {
                    if let Event::SaveProgress(done, all) = event {
                        progress = (done, all);
                    }
                }
                if saving_ui(context, progress) {
                    cancelled = true;
                    machine.cancel_save();
                }
                Some(Self::Saving { answer, events, progress, cancelled, ran })
            }
            Self::Failed { ref words, ran } => {
                let words = [words.clone(), "Nothing is lost: the machine waits where it was.".to_owned()];
                match ask_ui(context, "It could not be saved", &words, &["Keep running", "Try again", "Power off"]) {
                    Answer::Open => Some(self),
                    Answer::Button(1) => Some(Self::save(machine, ran)),
                    Answer::Button(2) => Some(Self::power_off(machine)),
                    Answer::Button(_) | Answer::Escaped => {
                        if ran {
                            machine.send(Command::Resume);
                        }
                        None
                    }
                }
            }
            Self::PoweringOff(_) => Some(self),
        }
    }
}

/// True: the person does not want it any more.
fn saving_ui(context: &egui::Context, (done, all): (u64, u64)) -> bool {
    let modal = egui::Modal::new(egui::Id::unique("saving")).frame(dialog::frame(context)).show(context, |ui| {
        dialog::set_width(ui);
        ui.heading("Saving, then closing");
        ui.add(progress::bar((done, all), format!("{} of {} MiB", done >> 20, all >> 20)));
        ui.button("Cancel").clicked()
    });
    modal.inner || modal.should_close()
}
