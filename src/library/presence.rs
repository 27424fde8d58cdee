//! Who has a machine on, and whether it was closed in order: `running.ron` in its folder.
//!
//! While a machine is on, the file says since when, and a lock on it keeps a second window of Hako away. Closed in order, the file
//! is empty. A file that says something and has no lock was left behind: the program, or the computer, ended under the machine.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::Trouble;

const FILE: &str = "running.ron";
/// More than the file ever holds.
const LARGEST: u64 = 4096;

/// What the file says about a machine that is not on in this window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// It was closed in order, or never on.
    #[default]
    Closed,
    /// It is on in another window of Hako.
    Elsewhere,
    /// It was on when the program or the computer ended.
    Left(Left),
}

/// A machine that was not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// When it was switched on or resumed.
    pub since: SystemTime,
    /// It was resumed from the saved state that is still there.
    pub resumed: bool,
}

#[derive(Serialize, Deserialize)]
struct Content {
    /// Seconds since 1970.
    since: u64,
    resumed: bool,
    process: u32,
}

impl Presence {
    /// Looks at the file in a machine's folder.
    pub fn of(folder: &Path) -> Self {
        let Ok(mut file) = File::open(folder.join(FILE)) else { return Presence::Closed };
        if let Err(TryLockError::WouldBlock) = file.try_lock_shared() {
            return Presence::Elsewhere;
        }
        match content(&mut file) {
            Some(content) => Presence::Left(Left {
                since: SystemTime::UNIX_EPOCH
                    .checked_add(Duration::from_secs(content.since))
                    .unwrap_or(SystemTime::UNIX_EPOCH),
                resumed: content.resumed,
            }),
            None => Presence::Closed,
        }
    }
}

fn content(file: &mut File) -> Option<Content> {
    let mut text = String::new();
    file.take(LARGEST).read_to_string(&mut text).ok()?;
    ron::from_str(&text).ok()
}

/// A machine that is on in this window. Dropped without [`Hold::close`], the machine counts as left behind.
#[derive(Debug)]
pub struct Hold(Option<File>);

impl Hold {
    /// Takes the machine, before it is started.
    ///
    /// # Errors
    /// Where another window has it. A folder that cannot be written, or a host without locks, keeps nobody from starting.
    pub fn take(folder: &Path, resumed: bool) -> Result<Self, Trouble> {
        let path = folder.join(FILE);
        let Self(Some(mut file)) = Self::keep_off(folder)? else { return Ok(Self(None)) };
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let content = Content { since, resumed, process: std::process::id() };
        let written = ron::to_string(&content).map_err(std::io::Error::other).and_then(|text| {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(text.as_bytes())
        });
        if let Err(error) = written {
            tracing::warn!("{}: {error}", path.display());
        }
        Ok(Self(Some(file)))
    }

    /// Keeps others from starting the machine while its files are read.
    ///
    /// # Errors
    /// Where another window has it.
    pub fn keep_off(folder: &Path) -> Result<Self, Trouble> {
        let path = folder.join(FILE);
        let mut file = match File::options().read(true).write(true).create(true).truncate(false).open(&path) {
            Ok(file) => file,
            Err(error) => {
                tracing::warn!("{}: {error}", path.display());
                return Ok(Self(None));
            }
        };
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            let by = content(&mut file).map(|content| format!(" (process {})", content.process)).unwrap_or_default();
            return Err(Trouble::new(
                format!("This machine is on in another window of Hako{by}."),
                "Use it there, or close it there first; then look again.",
            ));
        }
        Ok(Self(Some(file)))
    }

    /// A handle to bring the file to stable storage with, on a thread that may wait.
    pub fn to_sync(&self) -> Option<File> {
        self.0.as_ref().and_then(|file| file.try_clone().ok())
    }

    /// The machine ended in order.
    pub fn close(self) {
        if let Some(file) = self.0
            && let Err(error) = file.set_len(0)
        {
            tracing::warn!("{FILE}: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_on_once_and_what_was_left_behind_is_seen() {
        let folder = std::env::temp_dir().join(format!("hako-presence-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        assert_eq!(Presence::of(&folder), Presence::Closed);
        let hold = Hold::take(&folder, true).unwrap();
        assert_eq!(Presence::of(&folder), Presence::Elsewhere);
        let refused = Hold::take(&folder, false).unwrap_err().what;
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        drop(hold);
        let Presence::Left(left) = Presence::of(&folder) else { panic!("nothing was left") };
        assert!(left.resumed && left.since.elapsed().unwrap() < Duration::from_mins(1));
        Hold::take(&folder, false).unwrap().close();
        assert_eq!(Presence::of(&folder), Presence::Closed);
        // What somebody else wrote there is no reason to be afraid.
        std::fs::write(folder.join(FILE), [0xff; 9000]).unwrap();
        assert_eq!(Presence::of(&folder), Presence::Closed);
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(Hold::take(&folder, false).is_ok(), "a folder that cannot be written starts all the same");
    }
}
