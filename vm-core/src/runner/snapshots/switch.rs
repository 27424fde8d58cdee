//! What the machine's own thread does for snapshots: it switches disks and captures memory while the guest stands still, and puts what
//! was restored in its place.

use std::path::PathBuf;
use std::time::Instant;

use crate::bus::Bus as _;
use crate::config::{DriveSlot, MachineConfig};
use crate::machine::run::Machine;
use crate::runner::event::{EndReason, RunState};
use crate::runner::worker::Worker;
use crate::snapshot::keeper::{Captured, Keeper, MediumNow, Prepared};
use crate::snapshot::manifest::Hardware;
use crate::snapshot::tree::SnapshotId;
use crate::snapshot::{self, StateError};

/// Puts what was restored into a machine: memory, then processor and devices.
pub(in crate::runner) fn load_restored(
    machine: &mut Machine,
    state: Option<snapshot::keeper::RestoredState>,
    fresh: bool,
) -> Result<(), String> {
    let Some(state) = state else {
        machine.reset();
        return Ok(());
    };
    let ram = machine.parts().1.shared_ram();
    ram.load_from(state.chunks, fresh).map_err(|error| format!("the host gives no thread to load memory: {error}"))?;
    machine.clock().set(state.guest_time);
    machine.load_sections(&state.sections).map_err(|error| error.to_string())?;
    machine.follow_host(state.host_time);
    machine.parts().0.tlb.flush();
    machine.release_keys();
    Ok(())
}

impl Worker {
    pub(super) fn media_now(&mut self) -> Vec<MediumNow> {
        let configured = self.snapshots.configured.clone();
        let (_, board) = self.machine.parts();
        let chosen = |slot| configured.iter().find(|(at, _)| *at == slot).and_then(|(_, path)| path.clone());
        let medium = |(slot, kind, info): (DriveSlot, _, &crate::machine::board::MediumInfo)| MediumNow {
            slot,
            kind,
            configured: chosen(slot).unwrap_or_else(|| info.path.clone()),
            path: info.path.clone(),
            format: info.format,
            read_only: info.read_only,
            temporary: info.temporary,
        };
        board.media().map(medium).collect()
    }

    /// The machine's hardware, with the images that a person chose.
    fn chosen_config(&self) -> MachineConfig {
        let mut config = self.machine.config().clone();
        for drive in &mut config.drives {
            if let Some((_, path)) = self.snapshots.configured.iter().find(|(slot, _)| *slot == drive.slot) {
                drive.path.clone_from(path);
            }
        }
        config
    }

    /// Switches the media to their overlays and captures everything else at the same instant. The machine stands still.
    pub(super) fn switch(&mut self, overlays: &[(DriveSlot, PathBuf)]) -> Result<Captured, String> {
        snapshot::drain(&mut self.machine).map_err(|error| error.to_string())?;
        for (slot, overlay) in overlays {
            let frozen = self.machine.parts().1.freeze_medium(*slot, overlay);
            frozen.map_err(|error| {
                format!("The snapshot was not taken, and the machine goes on as before: {slot}: {error}")
            })?;
        }
        self.capture()
    }

    fn capture(&mut self) -> Result<Captured, String> {
        let picture = self.shared.frame.latest();
        let ram = self.machine.parts().1.shared_ram();
        let capture = ram.capture().ok_or("a snapshot is being taken already")?;
        self.machine.parts().0.tlb.flush();
        Ok(Captured {
            ram: capture,
            ram_len: ram.len(),
            sections: self.machine.sections(),
            guest_time: self.machine.clock().now(),
            host_time: snapshot::host_seconds(),
            hardware: Hardware::of(self.machine.config()),
            picture,
        })
    }

    /// Goes to a snapshot. On an error the machine is as it was.
    pub(super) fn restore_now(
        &mut self,
        keeper: &Keeper,
        id: SnapshotId,
        keep: bool,
    ) -> Result<Option<(Prepared, Captured)>, String> {
        let begun = Instant::now();
        let was = self.run_state();
        self.pause_machine();
        let result = self.replace_by(keeper, id, keep);
        let go_on = match (&result, was) {
            (Ok(_), RunState::Stopped(_)) => {
                self.shared.publish_state(RunState::Paused);
                true
            }
            (_, RunState::Running) => true,
            _ => false,
        };
        if go_on {
            self.resume_machine();
            tracing::debug!(microseconds = begun.elapsed().as_micros(), "the guest goes on after a restore");
        }
        result
    }

    fn replace_by(
        &mut self,
        keeper: &Keeper,
        id: SnapshotId,
        keep: bool,
    ) -> Result<Option<(Prepared, Captured)>, String> {
        let keep = keep && !self.machine.parts().1.ram().has_failed();
        let now = keep.then(|| self.media_now());
        snapshot::drain(&mut self.machine).map_err(|error| error.to_string())?;
        for synced in self.machine.parts().1.sync_media() {
            if let Ok(Err(error)) = synced.recv() {
                return Err(format!("a disk of the host failed ({error}), so nothing was restored"));
            }
        }
        let config = self.chosen_config();
        let captured = if keep { Some(self.capture()?) } else { None };
        let board = &mut *self.machine.parts().1;
        let restored = keeper.restore(id, &config, now, |media| {
            let open = |medium: &snapshot::keeper::RestoredMedium| {
                board.open_for(medium.slot, &medium.path, Some(medium.format), medium.read_only)
            };
            media.iter().map(open).collect::<Result<Vec<_>, _>>().map_err(StateError::Disk)
        });
        let (restored, media) = restored.map_err(|error| error.to_string())?;
        for (slot, _) in &media {
            let read_only = restored.media.iter().find(|medium| medium.slot == *slot && medium.read_only);
            if let Some(medium) = read_only {
                self.snapshots.changed(*slot, Some(medium.path.clone()));
            }
        }
        self.machine.parts().1.replace_media(media);
        if let Err(text) = load_restored(&mut self.machine, restored.state, false) {
            // Neither the old machine nor the new one.
            self.end = Some(EndReason::Failed(format!(
                "The snapshot “{}” could not be put into the machine: {text}. Its disks are whole; the machine before it is in the snapshots.",
                restored.name
            )));
        }
        if let Some(folder) = self.resumed_from.take() {
            // That state belongs to disks that are not the present any more.
            if let Err(error) = snapshot::discard(&folder) {
                tracing::warn!("the used state in {} could not be removed: {error}", folder.display());
            }
        }
        self.show_frame();
        Ok(restored.kept.zip(captured))
    }
}
