//! What a person has set once for all machines: `preferences.ron` in the data folder.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vm_core::config::DriveKind;

/// The preferences.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Preferences {
    /// `Some(true)`: dark; `Some(false)`: light; `None`: as the desktop is.
    pub dark: Option<bool>,
    /// One guest pixel is one host pixel.
    pub one_to_one: bool,
    /// The machine that was selected last.
    pub selected: Option<String>,
    /// CD images that were put in, newest first.
    pub recent_cds: Vec<Recent>,
    /// Floppy images that were put in, newest first.
    pub recent_floppies: Vec<Recent>,
}

/// An image that was put in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recent(pub PathBuf);

/// So many images are remembered of each kind.
const MOST_RECENT: usize = 10;

impl Preferences {
    /// Reads them; a file that is not there or not understood gives the standard ones.
    pub fn read(data: &Path) -> Self {
        let path = data.join("preferences.ron");
        let Ok(text) = std::fs::read_to_string(&path) else { return Self::default() };
        ron::from_str(&text).unwrap_or_else(|error| {
            tracing::warn!("{}: {error}; the standard preferences are used", path.display());
            Self::default()
        })
    }

    /// Images that were put into drives of this kind.
    pub fn recent(&self, kind: DriveKind) -> &[Recent] {
        match kind {
            DriveKind::Cd => &self.recent_cds,
            DriveKind::Floppy => &self.recent_floppies,
            DriveKind::Disk => &[],
        }
    }

    /// Remembers an image that was put in.
    pub fn remember(&mut self, kind: DriveKind, path: PathBuf) {
        let list = match kind {
            DriveKind::Cd => &mut self.recent_cds,
            DriveKind::Floppy => &mut self.recent_floppies,
            DriveKind::Disk => return,
        };
        list.retain(|recent| recent.0 != path);
        list.insert(0, Recent(path));
        list.truncate(MOST_RECENT);
    }

    /// Writes them.
    ///
    /// # Errors
    /// What the host says.
    pub fn write(&self, data: &Path) -> anyhow::Result<()> {
        let text = ron::ser::to_string_pretty(self, ron::ser::PrettyConfig::default())?;
        crate::library::write_atomically(&data.join("preferences.ron"), text.as_bytes())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_images_are_remembered_once_each() {
        let mut preferences = Preferences::default();
        for number in 0..20 {
            preferences.remember(DriveKind::Cd, format!("/{number}.iso").into());
        }
        preferences.remember(DriveKind::Cd, "/15.iso".into());
        preferences.remember(DriveKind::Floppy, "/a.img".into());
        let cds: Vec<_> =
            preferences.recent(DriveKind::Cd).iter().map(|recent| recent.0.display().to_string()).collect();
        assert_eq!(cds[..3], ["/15.iso", "/19.iso", "/18.iso"]);
        assert_eq!(cds.len(), MOST_RECENT);
        let text = ron::to_string(&preferences).unwrap();
        assert_eq!(ron::from_str::<Preferences>(&text).unwrap(), preferences);
    }
}
