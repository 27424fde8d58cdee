//! Snapshots of the selected machine: read beside the window's thread; taken, restored and deleted by the machine where it is on, else
//! by ourselves.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use eframe::egui;
use vm_core::runner::{Command, CommandError};
use vm_core::snapshot::files::Files;
use vm_core::snapshot::keeper::{Keeper, Wish};
use vm_core::snapshot::tree::{Comparison, SnapshotId, SnapshotKind, SnapshotTree};

use super::{App, Status, Tab};
use crate::dialog::Dialog;
use crate::library::{Machine, Picture};

/// What the Snapshots tab shows.
pub(crate) struct Browser {
    /// The machine.
    pub id: String,
    /// Its snapshots.
    pub tree: SnapshotTree,
    pub pictures: HashMap<SnapshotId, (egui::TextureHandle, f32)>,
    /// `None`: now.
    pub selected: Option<SnapshotId>,
    /// Name and note of the selected one, as they are being typed.
    pub name: String,
    pub note: String,
    /// The next selected one is compared with this.
    pub comparing: Option<SnapshotId>,
    /// What was not possible, in words.
    pub trouble: Option<String>,
}

impl Browser {
    /// Selects a snapshot (`None`: now).
    pub fn select(&mut self, selected: Option<SnapshotId>) {
        if self.selected == selected {
            return;
        }
        self.selected = selected;
        self.fill_in();
    }

    fn fill_in(&mut self) {
        let info = self.selected.and_then(|id| self.tree.get(id));
        self.name = info.map(|info| info.name.clone()).unwrap_or_default();
        self.note = info.map(|info| info.note.clone()).unwrap_or_default();
    }
}

/// Something that is done with the snapshots of a machine that is off.
pub(crate) struct OffJob {
    /// The machine.
    pub id: String,
    /// What is done.
    pub words: String,
    progress: Arc<[AtomicU64; 2]>,
    cancel: Arc<AtomicBool>,
}

impl OffJob {
    /// Done, and in all.
    pub fn progress(&self) -> (u64, u64) {
        (self.progress[0].load(Ordering::Relaxed), self.progress[1].load(Ordering::Relaxed))
    }

    /// Stops at the next step; what is not done yet is done another time.
    pub fn cancel(&self) {
        self.cancel.store(true, Ordering::Relaxed);
    }
}

impl App {
    /// Reads the snapshots of a machine anew.
    pub(crate) fn read_snapshots(&mut self, id: &str) {
        self.reading_snapshots = Some(id.to_owned());
        let (folder, id) = (self.library.folder(id), id.to_owned());
        let work = move || {
            let tree = SnapshotTree::read(&folder).map_err(|error| error.to_string())?;
            let picture = |path: &std::path::PathBuf| Picture::read(path);
            let pictures: Vec<(SnapshotId, Picture)> = tree
                .snapshots
                .iter()
                .filter_map(|info| Some((info.id, info.picture.as_ref().and_then(picture)?)))
                .collect();
            Ok((tree, pictures))
        };
        self.jobs.run_beside(work, move |app, context, read: Result<(SnapshotTree, Vec<_>), String>| {
            app.reading_snapshots = None;
            let old = app.browser.take().filter(|browser| browser.id == id);
            let (tree, pictures, trouble) = match read {
                Ok((tree, pictures)) => (tree, pictures, None),
                Err(words) => (SnapshotTree::default(), Vec::new(), Some(words)),
            };
            let mut textures = HashMap::new();
            for (snapshot, picture) in pictures {
                let size = [picture.width as usize, picture.height as usize];
                let image = egui::ColorImage::from_rgba_unmultiplied(size, &picture.rgba);
                let texture = context.load_texture("snapshot", image, egui::TextureOptions::LINEAR);
                textures.insert(snapshot, (texture, picture.aspect));
            }
            let mut browser = Browser {
                id,
                selected: old.as_ref().and_then(|old| old.selected).filter(|selected| tree.get(*selected).is_some()),
                tree,
                pictures: textures,
                name: String::new(),
                note: String::new(),
                comparing: None,
                trouble: trouble.or_else(|| old.as_ref().and_then(|old| old.trouble.clone())),
            };
            match old.filter(|old| old.selected == browser.selected) {
                // What is being typed stays.
                Some(old) => (browser.name, browser.note) = (old.name, old.note),
                None => browser.fill_in(),
            }
            app.browser = Some(browser);
        });
    }

    /// The browser of a machine, where it is read already.
    pub(crate) fn browser_of(&self, id: &str) -> Option<&Browser> {
        self.browser.as_ref().filter(|browser| browser.id == id)
    }

    /// Whether a snapshot can be taken now, else why not.
    pub(crate) fn may_take(&self, id: &str) -> Result<(), &'static str> {
        match self.status(id) {
            Status::Running | Status::Paused => Ok(()),
            Status::Off => Ok(()),
            Status::Stopped => Err("The machine has stopped: see its screen"),
            Status::Starting => Err("It is just starting"),
            Status::Saving => Err("It is being saved"),
            Status::Saved(_) => Err("It sleeps in a saved state: resume it first"),
            Status::Attention => Err("It needs attention first: see its screen"),
            Status::Elsewhere => Err("It is on in another window of Hako"),
        }
        .and_then(|()| if self.busy_with_snapshots(id) { Err("A snapshot is being worked on") } else { Ok(()) })
    }

    /// Whether the selected snapshot can be gone back to, deleted and so on.
    pub(crate) fn may_change_snapshot(&self, id: &str) -> Result<(), &'static str> {
        if self.tab != Tab::Snapshots || self.browser_of(id).is_none_or(|browser| browser.selected.is_none()) {
            return Err("Select a snapshot in the Snapshots tab first");
        }
        match self.status(id) {
            Status::Starting => Err("The machine is just starting"),
            Status::Saving => Err("The machine is being saved"),
            Status::Elsewhere => Err("It is on in another window of Hako"),
            _ if self.busy_with_snapshots(id) => Err("A snapshot is being worked on"),
            _ => Ok(()),
        }
    }

    /// Whether there is something to cancel.
    pub(crate) fn can_cancel(&self, id: &str) -> bool {
        self.busy_with_snapshots(id)
    }

    /// Stops what is being done with a machine's snapshots.
    pub(crate) fn cancel_snapshot(&mut self, id: &str) {
        if let Some(job) = self.off_job.as_ref().filter(|job| job.id == id) {
            job.cancel();
        }
        if let Some(session) = self.sessions.get(id) {
            session.handle.send(Command::CancelSnapshot { label: None });
        }
    }

    pub(super) fn busy_with_snapshots(&self, id: &str) -> bool {
        self.sessions.get(id).is_some_and(|session| session.snapshot_job.is_some())
            || self.off_job.as_ref().is_some_and(|job| job.id == id)
    }

    /// The selected snapshot.
    pub(crate) fn selected_snapshot(&self, id: &str) -> Option<SnapshotId> {
        self.browser_of(id)?.selected
    }

    /// Takes a snapshot. The dialog that asked for it closes once it is accepted.
    pub(crate) fn take_snapshot(&mut self, id: &str, name: &str, note: &str, adopt: bool) {
        let name = Some(name.trim().to_owned()).filter(|name| !name.is_empty());
        let note = note.trim().to_owned();
        let Some(session) = self.sessions.get(id) else {
            self.do_off(id, "Taking a snapshot of the disks", move |keeper, machine, _| {
                let media = keeper.media_of(&machine.to_config(keeper.home()))?;
                let wish = Wish { name, note, kind: SnapshotKind::Manual, adopt };
                keeper.take_off(media, wish).map(|_| ())
            });
            return;
        };
        let asked = session.handle.request(Command::TakeSnapshot { name, note, adopt, label: None });
        self.await_answer(id, move || asked.recv().unwrap_or(Err(CommandError::Gone)));
    }

    /// Goes to the snapshot; a machine that is off starts there.
    pub(crate) fn restore_snapshot(&mut self, id: &str, snapshot: SnapshotId, keep: bool, context: &egui::Context) {
        self.tab = Tab::Screen;
        let Some(session) = self.sessions.get(id) else {
            self.start_from(id, Some(snapshot), context);
            return;
        };
        let asked = session.handle.request(Command::RestoreSnapshot { id: snapshot, keep, label: None });
        let id = id.to_owned();
        self.jobs.run_beside(
            move || asked.recv().unwrap_or(Err(CommandError::Gone)),
            move |app, _, answered| {
                if let Err(CommandError::Refused(words)) = answered {
                    app.open(Dialog::RestoreRefused { id: id.clone(), snapshot, words });
                }
                app.read_snapshots(&id);
            },
        );
    }

    /// Deletes a snapshot and frees what only it needs.
    pub(crate) fn delete_snapshot(&mut self, id: &str, snapshot: SnapshotId) {
        let Some(session) = self.sessions.get(id) else {
            self.do_off(id, "Freeing what only the deleted snapshot needed", move |keeper, _, progress| {
                keeper.delete(snapshot)?;
                keeper.tidy(false, progress).map(|_| ())
            });
            return;
        };
        let asked = session.handle.request(Command::DeleteSnapshot { id: snapshot, label: None });
        self.await_answer(id, move || asked.recv().unwrap_or(Err(CommandError::Gone)));
    }

    /// Gives the selected snapshot the name and note that were typed.
    pub(crate) fn describe_snapshot(&mut self, id: &str) {
        let Some(browser) = self.browser_of(id) else { return };
        let Some(snapshot) = browser.selected else { return };
        let (name, note) = (browser.name.trim().to_owned(), browser.note.trim_end().to_owned());
        if name.is_empty() {
            self.snapshot_trouble("A snapshot needs a name.".to_owned());
            return;
        }
        let Some(session) = self.sessions.get(id) else {
            self.do_off(id, "Renaming", move |keeper, _, _| keeper.describe(snapshot, Some(&name), Some(&note)));
            return;
        };
        let command = Command::DescribeSnapshot { id: snapshot, name: Some(name), note: Some(note) };
        let asked = session.handle.request(command);
        self.await_answer(id, move || asked.recv().unwrap_or(Err(CommandError::Gone)));
    }

    /// Compares two snapshots and shows how they differ.
    pub(crate) fn compare_snapshots(&mut self, id: &str, one: SnapshotId, other: SnapshotId) {
        let Some(browser) = self.browser_of(id) else { return };
        let tree = browser.tree.clone();
        let name = |snapshot| tree.get(snapshot).map(|info| info.name.clone()).unwrap_or_default();
        let title = format!("“{}” and “{}”", name(one), name(other));
        let work = move || tree.compare(one, other).map_err(|error| error.to_string());
        self.jobs.run_beside(work, move |app, _, compared| match compared {
            Ok(comparison) => app.open(Dialog::Told { title, words: comparison_words(&comparison) }),
            Err(words) => app.snapshot_trouble(words),
        });
    }

    /// How often a snapshot is taken by itself: now, and at every start.
    pub(crate) fn set_checkpoints(&mut self, id: &str, minutes: u32) {
        if let Some(session) = self.sessions.get(id) {
            let interval = (minutes > 0).then(|| Duration::from_secs(u64::from(minutes) * 60));
            session.handle.send(Command::SetCheckpoints(interval));
        }
        let file = self.library.folder(id).join("machine.ron");
        let changed = id.to_owned();
        let work = move || {
            let mut machine = Machine::read(&file)?;
            machine.checkpoint_minutes = minutes;
            machine.write(&file)
        };
        self.jobs.run(work, move |app, _, written| {
            if let Err(trouble) = written {
                app.snapshot_trouble(trouble.what);
            }
            app.refresh(&changed);
        });
    }

    /// Says in the browser what was not possible.
    fn snapshot_trouble(&mut self, words: String) {
        if let Some(Dialog::TakeSnapshot { wrong, busy, .. }) = &mut self.dialog {
            *busy = false;
            *wrong = Some(words);
        } else if let Some(browser) = &mut self.browser {
            browser.trouble = Some(words);
        }
    }

    /// Waits beside the window's thread for what a machine answers.
    fn await_answer<T: Send + 'static>(
        &mut self,
        id: &str,
        answer: impl FnOnce() -> Result<T, CommandError> + Send + 'static,
    ) {
        let id = id.to_owned();
        self.jobs.run_beside(
            move || answer().map(|_| ()).map_err(|error| error.to_string()),
            move |app, _, done| app.snapshots_done(&id, done),
        );
    }

    fn snapshots_done(&mut self, id: &str, done: Result<(), String>) {
        match done {
            Ok(()) => {
                if matches!(&self.dialog, Some(Dialog::TakeSnapshot { id: of, .. }) if of == id) {
                    self.dialog = None;
                }
                if let Some(browser) = &mut self.browser {
                    browser.trouble = None;
                }
            }
            Err(words) => self.snapshot_trouble(words),
        }
        self.read_snapshots(id);
    }

    /// Does something with the snapshots of a machine that is off, beside the window's thread.
    fn do_off(
        &mut self,
        id: &str,
        words: &str,
        work: impl FnOnce(&Keeper, &Machine, &mut dyn FnMut(u64, u64) -> bool) -> Result<(), vm_core::snapshot::StateError>
        + Send
        + 'static,
    ) {
        let Some(Ok(machine)) = self.entry(id).map(|entry| entry.machine.clone()) else { return };
        let folder = self.library.folder(id);
        let run = move |progress: &mut dyn FnMut(u64, u64) -> bool| {
            let keeper = Keeper::open(&folder, Files::default())?;
            work(&keeper, &machine, progress)
        };
        let of = id.to_owned();
        self.begin_off_job(
            id,
            words,
            move |progress| run(progress).map_err(|error| error.to_string()),
            move |app, _, done| app.snapshots_done(&of, done),
        );
    }

    /// Does something beside the window's thread that tells how far it is and can be cancelled; then `then`.
    pub(super) fn begin_off_job<T: Send + 'static>(
        &mut self,
        id: &str,
        words: &str,
        work: impl FnOnce(&mut dyn FnMut(u64, u64) -> bool) -> T + Send + 'static,
        then: impl FnOnce(&mut App, &egui::Context, T) + Send + 'static,
    ) {
        let job = OffJob {
            id: id.to_owned(),
            words: words.to_owned(),
            progress: Arc::new([AtomicU64::new(0), AtomicU64::new(0)]),
            cancel: Arc::new(AtomicBool::new(false)),
        };
        let (progress, cancel) = (Arc::clone(&job.progress), Arc::clone(&job.cancel));
        self.off_job = Some(job);
        let run = move || {
            work(&mut |done, all| {
                progress[0].store(done, Ordering::Relaxed);
                progress[1].store(all, Ordering::Relaxed);
                !cancel.load(Ordering::Relaxed)
            })
        };
        self.jobs.run_beside(run, move |app, context, done| {
            app.off_job = None;
            then(app, context, done);
        });
    }
}

/// How two snapshots differ, a line each.
fn comparison_words(comparison: &Comparison) -> Vec<String> {
    let size = crate::library::size_words;
    let mut words = Vec::new();
    match comparison.memory_bytes {
        Some(0) => words.push("Memory: the same".to_owned()),
        Some(bytes) => words.push(format!("Memory: {} differ", size(bytes))),
        None => words.push("Memory: one of them was taken while the machine was off".to_owned()),
    }
    for (slot, bytes) in &comparison.disks {
        words.push(match bytes {
            0 => format!("{slot}: the same"),
            bytes => format!("{slot}: {} in files that only one of them has", size(*bytes)),
        });
    }
    if comparison.hardware.is_empty() {
        words.push("Hardware: the same".to_owned());
    }
    words.extend(comparison.hardware.iter().map(|line| format!("Hardware: {line}")));
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_core::config::DriveSlot;

    #[test]
    fn a_comparison_is_said_line_by_line() {
        let comparison = Comparison {
            hardware: Vec::new(),
            memory_bytes: Some(3 << 20),
            disks: vec![(DriveSlot::Ide(0), 0), (DriveSlot::Ide(1), 65536)],
        };
        let words = comparison_words(&comparison);
        assert_eq!(words.len(), 4, "{words:?}");
        assert!(
            words[0].contains("3 MiB") && words[1].ends_with("the same") && words[2].contains("64 KiB"),
            "{words:?}"
        );
    }
}
