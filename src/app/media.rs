//! Media of removable drives: put in, taken out, remembered.

use std::path::{Path, PathBuf};

use vm_core::runner::{Command, MediumChange, Reply};

use super::{App, Status, Tab};
use crate::dialog::Dialog;
use crate::library::{Drive, Machine, Place, Trouble};
use crate::preferences::Recent;
use crate::session::Banner;

impl App {
    /// The removable drive at a place of a machine.
    pub(crate) fn removable(&self, id: &str, place: Place) -> Option<&Drive> {
        self.entry(id)?.machine.as_ref().ok()?.removable().find(|drive| drive.place == place)
    }

    /// Whether media can be changed now, else why not.
    pub(crate) fn media_available(&self, id: &str) -> Result<(), &'static str> {
        match self.status(id) {
            Status::Running | Status::Paused | Status::Stopped | Status::Off | Status::Attention => Ok(()),
            Status::Starting => Err("It is just starting"),
            Status::Saving => Err("It is being saved"),
            Status::Saved(_) => Err("The saved state belongs to the media that are in now: resume it first"),
            Status::Elsewhere => Err("It is on in another window"),
        }
    }

    /// Opens the dialog that asks for an image.
    pub(crate) fn ask_for_medium(&mut self, id: &str, place: Place) {
        let Some(drive) = self.removable(id, place) else { return };
        let dialog = Dialog::insert(id, drive);
        self.open(dialog);
    }

    /// Puts an image in, or takes out what is in. The machine, where it is on, comes first; its definition is written once it has
    /// said yes, because the next start must find the same media.
    ///
    /// A tray that the guest has locked stays shut unless `force` says otherwise: then the person is asked.
    pub(crate) fn change_medium(&mut self, id: &str, place: Place, path: Option<PathBuf>, force: bool) {
        let Some(drive) = self.removable(id, place) else { return };
        let kind = drive.kind();
        let handle = self.sessions.get(id).map(|session| session.handle.clone());
        let folder = self.library.folder(id);
        let changed = id.to_owned();
        let put_in = path.clone();
        let work = move || {
            if let Some(path) = &path
                && let Some(what) = crate::library::file_words(&folder.join(path))
            {
                return Err(Refusal::Plain(Trouble::new(what, "Choose another image.")));
            }
            if let Some(handle) = handle {
                let change = match &path {
                    None => MediumChange::Eject { force },
                    Some(path) => match MediumChange::insert(folder.join(path)) {
                        MediumChange::Insert { path, format, access, .. } => {
                            MediumChange::Insert { path, format, access, force }
                        }
                        other => other,
                    },
                };
                let slot = place.slot();
                if let Err(error) = handle.call(Command::ChangeMedium { slot, change }) {
                    let locked = matches!(handle.call(Command::Blocks), Ok(Reply::Blocks(blocks))
                        if blocks.iter().any(|block| block.slot == slot && block.locked));
                    let trouble = Trouble::new(error.to_string(), "Nothing was changed.");
                    return Err(if locked && !force { Refusal::Locked(trouble) } else { Refusal::Plain(trouble) });
                }
            }
            write_medium(&folder, place, path).map_err(Refusal::Plain)
        };
        self.jobs.run_beside(work, move |app, _, done| {
            match done {
                Ok(()) => {
                    if let Some(path) = put_in {
                        app.preferences.remember(kind, path);
                        app.write_preferences();
                    }
                    if matches!(&app.dialog, Some(Dialog::Insert { id, .. }) if *id == changed) {
                        app.dialog = None;
                    }
                }
                Err(Refusal::Plain(trouble)) => app.medium_refused(&changed, trouble),
                Err(Refusal::Locked(trouble)) => {
                    app.open(Dialog::Locked { id: changed.clone(), place, path: put_in, words: trouble.what });
                }
            }
            app.editing = None;
            app.refresh(&changed);
        });
    }

    /// Says why, where the person looks.
    fn medium_refused(&mut self, id: &str, trouble: Trouble) {
        if let Some(Dialog::Insert { wrong, busy, id: of, .. }) = &mut self.dialog
            && of == id
        {
            *busy = false;
            *wrong = vec![trouble.what, trouble.next];
        } else if let Some(session) = self.sessions.get_mut(id) {
            session.banners.push(Banner::Notice(trouble.what));
            self.tab = Tab::Screen;
        } else {
            self.troubles.insert(id.to_owned(), trouble);
        }
    }

    /// Images that were put into a drive of this kind before, newest first, without the one that is in.
    pub(crate) fn recent_media(&self, drive: &Drive) -> Vec<PathBuf> {
        let recent: &[Recent] = self.preferences.recent(drive.kind());
        recent.iter().map(|recent| recent.0.clone()).filter(|path| Some(path) != drive.path.as_ref()).collect()
    }
}

/// Why a medium was not changed.
enum Refusal {
    /// The guest holds the tray shut.
    Locked(Trouble),
    /// Anything else.
    Plain(Trouble),
}

/// Writes the new medium into a machine's definition.
fn write_medium(folder: &Path, place: Place, path: Option<PathBuf>) -> Result<(), Trouble> {
    let file = folder.join("machine.ron");
    let mut machine = Machine::read(&file)?;
    if let Some(drive) = machine.drive(place).cloned() {
        // Another image may have another format.
        machine.set_drive(place, Some(Drive { path, format: None, ..drive }));
    }
    machine.settle_formats(folder);
    machine.write(&file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_core::config::ImageFormat;

    #[test]
    fn a_new_medium_is_written_with_its_own_format() {
        let folder = std::env::temp_dir().join(format!("hako-media-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("b.img"), vec![0; 1_474_560]).unwrap();
        let mut machine = Machine { name: "m".into(), ..Machine::default() };
        let drive =
            Drive { format: Some(ImageFormat::Qcow2), ..Drive::new(Place::FloppyA, false, Some("a.qcow2".into())) };
        machine.set_drive(Place::FloppyA, Some(drive));
        machine.write(&folder.join("machine.ron")).unwrap();
        write_medium(&folder, Place::FloppyA, Some("b.img".into())).unwrap();
        let drive = Machine::read(&folder.join("machine.ron")).unwrap().drive(Place::FloppyA).cloned().unwrap();
        assert_eq!((drive.path, drive.format), (Some("b.img".into()), Some(ImageFormat::Raw)));
        write_medium(&folder, Place::FloppyA, None).unwrap();
        let drive = Machine::read(&folder.join("machine.ron")).unwrap().drive(Place::FloppyA).cloned().unwrap();
        assert_eq!((drive.path, drive.format), (None, None));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
