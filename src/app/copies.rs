//! Machines made of snapshots, written into files and taken over from them.

use std::path::PathBuf;

use vm_core::runner::{Command, CommandError};
use vm_core::snapshot::keeper::{CloneKind, Keeper};
use vm_core::snapshot::tree::SnapshotId;

use super::{App, Tab};
use crate::dialog::{Copying, Dialog};
use crate::library::{self, Trouble, machine_of_clone};

impl App {
    /// Whether something can be copied now, else why not.
    pub(crate) fn may_copy(&self) -> Result<(), &'static str> {
        if self.off_job.is_some() { Err("Something else is being worked on") } else { Ok(()) }
    }

    /// Whether the selected snapshot can become a machine.
    pub(crate) fn may_clone(&self, id: &str) -> Result<(), &'static str> {
        self.may_change_snapshot(id)?;
        self.may_copy()
    }

    /// Asks for the name of the machine that a snapshot becomes.
    pub(crate) fn ask_for_clone(&mut self, id: &str, snapshot: SnapshotId) {
        let machine = self.entry(id).map(|entry| entry.name().to_owned()).unwrap_or_default();
        let name = self.browser_of(id).and_then(|browser| browser.tree.get(snapshot)).map(|info| info.name.clone());
        let typed = name.map_or_else(|| format!("{machine} (copy)"), |name| format!("{machine}, {name}"));
        self.open(Dialog::CloneSnapshot { id: id.to_owned(), snapshot, copy: Copying::new(typed) });
    }

    /// Makes a machine of a snapshot.
    pub(crate) fn clone_snapshot(&mut self, id: &str, snapshot: SnapshotId, name: &str, kind: CloneKind) {
        let Some(Ok(base)) = self.entry(id).map(|entry| entry.machine.clone()) else { return };
        let (library, home, name) = (self.library.clone(), self.library.folder(id), name.trim().to_owned());
        let Some(session) = self.sessions.get(id) else {
            let work = move |progress: &mut dyn FnMut(u64, u64) -> bool| {
                library::clone_off(&library, &home, &base, snapshot, (&name, kind), progress)
            };
            self.begin_off_job(id, "Making a machine of the snapshot", work, |app, _, made| app.copied(made));
            return;
        };
        let handle = session.handle.clone();
        let work = move || {
            let reserved = library.reserve(&name)?;
            let told = |words: String| Trouble::new(words, "Nothing was changed.");
            let home_of_new = reserved.folder().to_owned();
            let asked = handle.request(Command::CloneSnapshot { id: snapshot, home: home_of_new, kind, label: None });
            asked.recv().unwrap_or(Err(CommandError::Gone)).map_err(|error| told(error.to_string()))?;
            let cloned = Keeper::cloned(reserved.folder()).map_err(|error| told(error.to_string()))?;
            let machine = machine_of_clone(&base, &home, &cloned, &name)?;
            reserved.commit(&machine)
        };
        self.jobs.run_beside(work, |app, _, made| app.copied(made));
    }

    /// Writes a machine into a file.
    pub(crate) fn export_machine(&mut self, id: &str, to: PathBuf) {
        let home = self.library.folder(id);
        let shown = to.display().to_string();
        let work = move |progress: &mut dyn FnMut(u64, u64) -> bool| library::export(&home, &to, progress);
        self.begin_off_job(id, "Exporting the machine", work, move |app, _, done| match done {
            Ok(()) => {
                let words = vec![format!("It is in {shown}, whole and on stable storage.")];
                app.dialog = Some(Dialog::Told { title: "The machine is exported".into(), words });
            }
            Err(trouble) => app.copy_refused(&trouble),
        });
    }

    /// Takes a machine over from a file.
    pub(crate) fn import_machine(&mut self, from: PathBuf) {
        let library = self.library.clone();
        let work = move |progress: &mut dyn FnMut(u64, u64) -> bool| library::import(&library, &from, progress);
        self.begin_off_job("", "Importing the machine", work, |app, _, made| app.copied(made));
    }

    /// A machine has come, or not.
    fn copied(&mut self, made: Result<String, Trouble>) {
        match made {
            Ok(id) => {
                self.dialog = None;
                self.tab = Tab::Screen;
                self.reload(Some(id));
            }
            Err(trouble) => self.copy_refused(&trouble),
        }
    }

    fn copy_refused(&mut self, trouble: &Trouble) {
        let words = vec![trouble.what.clone(), trouble.next.clone()];
        match &mut self.dialog {
            Some(Dialog::CloneSnapshot { copy, .. } | Dialog::Export { copy, .. } | Dialog::Import { copy }) => {
                copy.busy = false;
                copy.wrong = words;
            }
            _ => self.dialog = Some(Dialog::Told { title: "That was not possible".into(), words }),
        }
    }
}
