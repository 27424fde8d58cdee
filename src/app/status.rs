//! What a machine does, in words and colour, and what one most likely wants of it.

use std::time::SystemTime;

use vm_core::bus::signals::StopReason;
use vm_core::runner::RunState;

use super::App;
use crate::library::Presence;
use crate::theme::Tone;
use crate::ui_command::UiCommand;

/// A tab of the centre.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the tab that it is named for")]
pub enum Tab {
    #[default]
    Screen,
    Snapshots,
    Settings,
    Monitor,
    Insight,
}

/// What a machine does, for its card and its buttons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "`words` says what each is")]
pub enum Status {
    Attention,
    Off,
    Saved(SystemTime),
    Starting,
    Running,
    Paused,
    Stopped,
    Saving,
    Elsewhere,
}

impl Status {
    /// In words.
    pub fn words(self) -> String {
        match self {
            Status::Attention => "needs attention".into(),
            Status::Off => "off".into(),
            Status::Saved(at) => format!("saved {}", local_time(at)),
            Status::Starting => "starting".into(),
            Status::Running => "running".into(),
            Status::Paused => "paused".into(),
            Status::Stopped => "stopped".into(),
            Status::Saving => "saving".into(),
            Status::Elsewhere => "on in another window".into(),
        }
    }

    /// The colour of its dot.
    pub fn tone(self) -> Tone {
        match self {
            Status::Attention | Status::Stopped => Tone::Attention,
            Status::Off => Tone::Off,
            Status::Saved(_) | Status::Saving => Tone::Saved,
            Status::Starting | Status::Running | Status::Elsewhere => Tone::Running,
            Status::Paused => Tone::Paused,
        }
    }
}

/// Today's time, or the date where it was another day.
pub(crate) fn local_time(at: SystemTime) -> String {
    let at: chrono::DateTime<chrono::Local> = at.into();
    let form = if at.date_naive() == chrono::Local::now().date_naive() { "%H:%M" } else { "%Y-%m-%d %H:%M" };
    at.format(form).to_string()
}

impl App {
    /// What a machine does.
    pub(crate) fn status(&self, id: &str) -> Status {
        if let Some(session) = self.sessions.get(id) {
            return match session.state {
                RunState::Starting => Status::Starting,
                RunState::Running => Status::Running,
                RunState::Paused => Status::Paused,
                RunState::Stopped(_) => Status::Stopped,
                RunState::Saving => Status::Saving,
                RunState::Ended(_) => Status::Off,
            };
        }
        match self.entry(id) {
            None => Status::Off,
            Some(entry) if entry.presence == Presence::Elsewhere => Status::Elsewhere,
            Some(entry) if entry.trouble().is_some() || self.troubles.contains_key(id) => Status::Attention,
            Some(entry) => entry.saved.map_or(Status::Off, Status::Saved),
        }
    }

    /// Whether a disk of the host failed under it, so that going on means to try again.
    fn waits_for_a_disk(&self, id: &str) -> bool {
        self.sessions
            .get(id)
            .is_some_and(|session| matches!(session.state, RunState::Stopped(StopReason::DiskError(_))))
    }

    /// What one most likely wants of a machine now.
    pub(crate) fn primary(&self, id: &str) -> UiCommand {
        match self.status(id) {
            Status::Running | Status::Starting | Status::Saving => UiCommand::SaveAndClose,
            Status::Paused | Status::Saved(_) => UiCommand::Resume,
            Status::Stopped if self.waits_for_a_disk(id) => UiCommand::Resume,
            Status::Stopped => UiCommand::Reset,
            Status::Attention if self.entry(id).is_some_and(|entry| entry.saved.is_some()) => UiCommand::Resume,
            Status::Off | Status::Attention | Status::Elsewhere => UiCommand::Start,
        }
    }
}
