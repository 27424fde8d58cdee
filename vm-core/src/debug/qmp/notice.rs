//! Events of the machine as QMP events.

use serde_json::{Value, json};

use super::jobs::QmpJobs;
use crate::bus::signals::StopReason;
use crate::config::DriveKind;
use crate::runner::Event;
use crate::runner::event::{EndReason, RunState};

/// Remembers what has been told.
#[derive(Debug, Default)]
pub struct Notices {
    /// The last that was told is STOP; it and RESUME alternate.
    pub stopped: bool,
    /// This side asked for the end or a reset: then it was not the guest.
    pub quit_asked: bool,
    /// `system_reset` was asked for here.
    pub reset_asked: bool,
    /// What was asked for under a name.
    pub jobs: QmpJobs,
}

impl Notices {
    /// The QMP events (without timestamp) that `event` makes.
    pub fn of(&mut self, event: &Event) -> Vec<Value> {
        match event {
            Event::State(state) => self.of_state(state),
            Event::Reset => {
                let asked = std::mem::take(&mut self.reset_asked);
                let reason = if asked { "host-qmp-system-reset" } else { "guest-reset" };
                vec![json!({ "event": "RESET", "data": { "guest": !asked, "reason": reason } })]
            }
            Event::PowerButton => vec![json!({ "event": "POWERDOWN" })],
            Event::Snapshot(event) => self.jobs.of(event),
            Event::TrayMoved(slot, open) => {
                // Only CD-ROM drives have one.
                let name = slot.monitor_name(DriveKind::Cd);
                vec![json!({ "event": "DEVICE_TRAY_MOVED", "data": { "device": name, "id": name, "tray-open": open } })]
            }
            Event::AbsolutePointer(_)
            | Event::MediumChanged(_)
            | Event::SaveProgress(..)
            | Event::SaveFailed(_)
            | Event::Notice(_) => Vec::new(),
        }
    }

    fn of_state(&mut self, state: &RunState) -> Vec<Value> {
        match state {
            RunState::Running if std::mem::take(&mut self.stopped) => vec![json!({ "event": "RESUME" })],
            RunState::Starting | RunState::Running | RunState::Saving => Vec::new(),
            RunState::Paused
            | RunState::Stopped(StopReason::DebugExit(_) | StopReason::Damaged(_) | StopReason::EnginesDiffer(_)) => {
                self.stop()
            }
            RunState::Stopped(StopReason::DiskError(text)) => {
                let data = json!({ "device": "", "operation": "write", "action": "stop", "reason": text });
                let mut notices = vec![json!({ "event": "BLOCK_IO_ERROR", "data": data })];
                notices.extend(self.stop());
                notices
            }
            RunState::Stopped(StopReason::TripleFault) => {
                let mut notices = vec![json!({ "event": "GUEST_PANICKED", "data": { "action": "pause" } })];
                notices.extend(self.stop());
                notices
            }
            RunState::Stopped(StopReason::PowerOff) => {
                let data = json!({ "guest": true, "reason": "guest-shutdown" });
                let mut notices = vec![json!({ "event": "SHUTDOWN", "data": data })];
                notices.extend(self.stop());
                notices
            }
            RunState::Ended(reason) => {
                let reason = match reason {
                    _ if self.quit_asked => "host-qmp-quit",
                    EndReason::PowerOff | EndReason::DebugExit(_) => "guest-shutdown",
                    EndReason::NoReboot => "guest-reset",
                    EndReason::Saved(_) => "host-ui",
                    EndReason::Failed(_) => "host-error",
                };
                let data = json!({ "guest": reason.starts_with("guest"), "reason": reason });
                vec![json!({ "event": "SHUTDOWN", "data": data })]
            }
        }
    }

    fn stop(&mut self) -> Vec<Value> {
        if std::mem::replace(&mut self.stopped, true) { Vec::new() } else { vec![json!({ "event": "STOP" })] }
    }
}
