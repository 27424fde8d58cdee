//! What a person has set once for all machines: `preferences.ron` in the data folder.

use std::path::Path;

use serde::{Deserialize, Serialize};

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
}

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
