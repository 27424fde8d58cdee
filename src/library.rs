//! The machines that a person has made, on disk.
//!
//! Each machine is a folder `machines/<id>/` in the data folder: `machine.ron` says what it is made of, `screen.png` is the last
//! picture, `state/` is the saved state. All calls in here may wait for the disk; the window makes them on its worker thread.

mod atomic;
mod copies;
mod file;
mod machine;
mod picture;
mod presence;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use vm_core::disk::image::ImageInfo;

pub use atomic::write_atomically;
pub use copies::{Reserved, clone_off, export, import, machine_of_clone};
pub use machine::{Accelerator, Drive, Machine, Place};
pub(crate) use machine::{file_words, memory_words, size_words};
pub use picture::Picture;
pub use presence::{Hold, Left, Presence};

/// The newest format of `machine.ron` that this program writes and reads.
pub const FORMAT: u32 = 1;

/// Why something could not be done with a machine's files; the words are for the person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Trouble {
    /// What happened, and to which file (and line).
    pub what: String,
    /// What one can do now.
    pub next: String,
}

impl Trouble {
    pub(crate) fn new(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), next: next.into() }
    }
}

/// A machine in the library.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The folder's name, which never changes.
    pub id: String,
    /// The folder.
    pub folder: PathBuf,
    /// What it is made of, or why it cannot be read.
    pub machine: Result<Machine, Trouble>,
    /// Something that keeps it from starting, such as a disk that is not there.
    pub attention: Option<Trouble>,
    /// When its state was saved, where there is one.
    pub saved: Option<SystemTime>,
    /// The last picture.
    pub picture: Option<Picture>,
    /// What the images of its hard disks are, as far as they can be opened.
    pub disks: Vec<(Place, ImageInfo)>,
    /// Whether another window has it, or left it.
    pub presence: Presence,
}

impl Entry {
    /// The name to show.
    pub fn name(&self) -> &str {
        self.machine.as_ref().map_or(&self.id, |machine| &machine.name)
    }

    /// Where its state is saved.
    pub fn state_folder(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// What keeps it from starting.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.machine.as_ref().err().or(self.attention.as_ref())
    }
}

/// The data folder of Hako, with all machines in it.
#[derive(Clone, Debug)]
pub struct Library {
    data: PathBuf,
}

impl Library {
    /// The library in `data`.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self { data: data.into() }
    }

    /// The library of the person: `HAKO_DATA`, else the XDG data folder's `hako`.
    ///
    /// # Errors
    /// Where the person has no home folder.
    pub fn of_person() -> anyhow::Result<Self> {
        if let Some(folder) = std::env::var_os("HAKO_DATA").filter(|folder| !folder.is_empty()) {
            return Ok(Self::new(folder));
        }
        let folders = directories::ProjectDirs::from("", "", "hako")
            .ok_or_else(|| anyhow::anyhow!("there is no home folder to keep machines in; set HAKO_DATA to a folder"))?;
        Ok(Self::new(folders.data_dir()))
    }

    /// The folder that everything is in.
    pub fn data(&self) -> &Path {
        &self.data
    }

    fn machines(&self) -> PathBuf {
        self.data.join("machines")
    }

    /// All machines, by name.
    ///
    /// # Errors
    /// Where the folder is there and cannot be listed.
    pub fn list(&self) -> Result<Vec<Entry>, Trouble> {
        let folder = self.machines();
        let listing = match std::fs::read_dir(&folder) {
            Ok(listing) => listing,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                return Err(Trouble::new(
                    format!("{}: {error}", folder.display()),
                    "Give yourself the right to read this folder, then start Hako again.",
                ));
            }
        };
        let mut entries: Vec<Entry> = listing
            .flatten()
            .filter(|item| item.path().join("machine.ron").symlink_metadata().is_ok())
            .map(|item| self.entry(&item.file_name()))
            .collect();
        entries.sort_by_key(|entry| (entry.name().to_lowercase(), entry.id.clone()));
        Ok(entries)
    }

    /// One machine, read anew.
    pub fn entry(&self, id: &OsStr) -> Entry {
        let folder = self.machines().join(id);
        let machine = Machine::read(&folder.join("machine.ron"));
        let attention = machine.as_ref().ok().and_then(|machine| machine.attention(&folder));
        let saved = saved_at(&folder.join("state"));
        let picture = Picture::read(&folder.join("screen.png"));
        let disks = machine.as_ref().map_or_else(|_| Vec::new(), |machine| machine.disks(&folder));
        let presence = Presence::of(&folder);
        Entry { id: id.to_string_lossy().into_owned(), folder, machine, attention, saved, picture, disks, presence }
    }

    /// Makes a folder for a new machine and writes its definition; says its id.
    ///
    /// # Errors
    /// Where the disk does not let us.
    pub fn create(&self, machine: &Machine) -> Result<String, Trouble> {
        let wish = slug(&machine.name);
        let machines = self.machines();
        std::fs::create_dir_all(&machines).map_err(|error| cannot_write(&machines, &error))?;
        for number in 1..10_000 {
            let id = if number == 1 { wish.clone() } else { format!("{wish}-{number}") };
            let folder = machines.join(&id);
            match std::fs::create_dir(&folder) {
                Ok(()) => {
                    if let Err(trouble) = machine.write(&folder.join("machine.ron")) {
                        let _ = std::fs::remove_dir_all(&folder);
                        return Err(trouble);
                    }
                    return Ok(id);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(cannot_write(&folder, &error)),
            }
        }
        Err(Trouble::new(format!("There are too many machines called “{}”.", machine.name), "Choose another name."))
    }

    /// The folder of a machine.
    pub fn folder(&self, id: &str) -> PathBuf {
        self.machines().join(id)
    }

    /// Moves a machine's folder to `removed/`, from where a person can take it back. Its disks elsewhere stay where they are.
    ///
    /// # Errors
    /// Where the disk does not let us.
    pub fn remove(&self, id: &str) -> Result<(), Trouble> {
        let removed = self.data.join("removed");
        std::fs::create_dir_all(&removed).map_err(|error| cannot_write(&removed, &error))?;
        let stamp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let from = self.folder(id);
        std::fs::rename(&from, removed.join(format!("{id}-{stamp}"))).map_err(|error| cannot_write(&from, &error))
    }

    /// Throws a saved state away.
    ///
    /// # Errors
    /// Where the disk does not let us.
    pub fn discard_state(&self, id: &str) -> Result<(), Trouble> {
        let state = self.folder(id).join("state");
        match std::fs::remove_dir_all(&state) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(cannot_write(&state, &error)),
        }
    }

    /// Makes the two examples of the first start from the files in `guests`, as far as they are there. Says how many it made.
    /// Nothing happens in a library that has, or has had, machines.
    ///
    /// # Errors
    /// Where the disk does not let us.
    pub fn first_start(&self, guests: &Path) -> Result<usize, Trouble> {
        let marker = self.data.join("examples-made");
        if marker.exists() || !self.list()?.is_empty() {
            return Ok(0);
        }
        let mut made = 0;
        for (name, file, memory_mib) in [("Invaders", "invaders.exec", 32), ("Memory test", "memtest86+.bin", 64)] {
            let source = guests.join(file);
            if !source.is_file() {
                continue;
            }
            let mut machine = Machine { name: name.to_owned(), memory_mib, ..Machine::default() };
            let id = self.create(&machine)?;
            // The cache may be emptied at any time; the files are small.
            let copy = self.folder(&id).join(file);
            std::fs::copy(&source, &copy).map_err(|error| cannot_write(&copy, &error))?;
            machine.kernel = Some(file.into());
            machine.write(&self.folder(&id).join("machine.ron"))?;
            made += 1;
        }
        if made > 0 {
            write_atomically(&marker, b"").map_err(|error| cannot_write(&marker, &error))?;
        }
        Ok(made)
    }
}

/// Where `packaging/run.sh` puts the guests of the first start: `HAKO_GUESTS`, else `hako/guests` in the XDG cache folder.
pub fn guests_folder() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("HAKO_GUESTS").filter(|folder| !folder.is_empty()) {
        return Some(PathBuf::from(folder));
    }
    Some(directories::ProjectDirs::from("", "", "hako")?.cache_dir().join("guests"))
}

pub(crate) fn cannot_write(path: &Path, error: &std::io::Error) -> Trouble {
    let next = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            "Make room on this disk, then try again."
        }
        std::io::ErrorKind::PermissionDenied => "Give yourself the right to write there, then try again.",
        std::io::ErrorKind::ReadOnlyFilesystem => "This disk can only be read. Set HAKO_DATA to another folder.",
        _ => "Look at the file, then try again.",
    };
    Trouble::new(format!("{}: {error}", path.display()), next)
}

fn saved_at(state: &Path) -> Option<SystemTime> {
    std::fs::read_dir(state).ok()?.flatten().next()?;
    state.metadata().ok()?.modified().ok()
}

/// A folder's name from a machine's name: letters, digits and single dashes.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    for letter in name.chars().flat_map(char::to_lowercase).take(60) {
        if letter.is_alphanumeric() {
            slug.push(letter);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "machine".to_owned() } else { slug.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(test: &str) -> Library {
        let folder = std::env::temp_dir().join(format!("hako-library-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        Library::new(folder)
    }

    #[test]
    fn machines_come_back_as_they_were_and_names_may_repeat() {
        let library = library("round");
        let machine = Machine { name: "Debian 12".into(), memory_mib: 256, ..Machine::default() };
        assert_eq!(library.create(&machine).unwrap(), "debian-12");
        assert_eq!(library.create(&machine).unwrap(), "debian-12-2");
        let entries = library.list().unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].machine.as_ref().unwrap(), &machine);
        library.remove("debian-12").unwrap();
        assert_eq!(library.list().unwrap().len(), 1);
        assert_eq!(std::fs::read_dir(library.data().join("removed")).unwrap().count(), 1);
        std::fs::remove_dir_all(library.data()).unwrap();
    }

    #[test]
    fn the_first_start_makes_examples_once() {
        let library = library("first");
        let guests = library.data().join("guests");
        std::fs::create_dir_all(&guests).unwrap();
        assert_eq!(library.first_start(&guests).unwrap(), 0);
        std::fs::write(guests.join("invaders.exec"), "x").unwrap();
        assert_eq!(library.first_start(&guests).unwrap(), 1);
        let entries = library.list().unwrap();
        assert_eq!(entries[0].name(), "Invaders");
        assert!(entries[0].trouble().is_none());
        library.remove(&entries[0].id).unwrap();
        assert_eq!(library.first_start(&guests).unwrap(), 0, "what was removed stays removed");
        std::fs::remove_dir_all(library.data()).unwrap();
    }

    #[test]
    fn a_broken_machine_is_a_card_with_words() {
        let library = library("broken");
        for (id, text) in [
            ("a", "not ron {"),
            ("b", "(version: 9, name: \"x\")"),
            ("c", "(version: 1, name: \"x\", kernel: Some(\"/nowhere/k\"))"),
        ] {
            std::fs::create_dir_all(library.folder(id)).unwrap();
            std::fs::write(library.folder(id).join("machine.ron"), text).unwrap();
        }
        let words: Vec<String> =
            library.list().unwrap().iter().map(|entry| entry.trouble().unwrap().what.clone()).collect();
        assert!(words[0].contains("machine.ron, line 1"), "{words:?}");
        assert!(words[1].contains("newer"), "{words:?}");
        assert!(words[2].contains("/nowhere/k"), "{words:?}");
        std::fs::remove_dir_all(library.data()).unwrap();
    }
}
