//! One device's part of a saved state: a kind, a version, readable RON, and plain memories beside it.

use serde::{Serialize, de::DeserializeOwned};

/// A named block of bytes too large for text (video memory, a firmware's variables).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Unique in its section.
    pub name: String,
    /// Raw, little-endian.
    pub bytes: Vec<u8>,
}

/// The saved state of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The device's [`name`](crate::dev::Device::name).
    pub kind: String,
    /// Raised whenever the meaning of the state changes.
    pub version: u32,
    /// The state as RON.
    pub body: String,
    /// Large memories, kept out of the text.
    pub memories: Vec<Memory>,
}

/// Why a saved section cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The section is for another device.
    #[error("the saved part is for “{found}”, not for “{expected}”")]
    Kind {
        /// What the device expects.
        expected: String,
        /// What the section says.
        found: String,
    },
    /// The section was written by a newer Hako.
    #[error(
        "“{kind}” was saved by a newer Hako (version {found}; this one knows up to {known}): update Hako to open it"
    )]
    Newer {
        /// The device.
        kind: String,
        /// The section's version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// The text is not a state of this device.
    #[error("the saved state of “{kind}” cannot be read: {reason}")]
    Malformed {
        /// The device.
        kind: String,
        /// What and where.
        reason: String,
    },
    /// A value is one that the device can never have.
    #[error("the saved state of “{kind}” is not possible: {reason}")]
    Invalid {
        /// The device.
        kind: String,
        /// Which value, and why.
        reason: String,
    },
}

impl LoadError {
    /// An impossible value in the section of `kind`.
    pub fn invalid(kind: &str, reason: impl Into<String>) -> Self {
        Self::Invalid { kind: kind.to_owned(), reason: reason.into() }
    }
}

impl Section {
    /// Writes `state` down.
    ///
    /// # Panics
    /// Where `state` has a shape that RON cannot hold; a device's unit test shows that it does not.
    pub fn encode<T: Serialize>(kind: &str, version: u32, state: &T) -> Self {
        let body = ron::ser::to_string_pretty(state, ron::ser::PrettyConfig::new().depth_limit(2))
            .expect("device states are plain data");
        Self { kind: kind.to_owned(), version, body, memories: Vec::new() }
    }

    /// Adds a large memory.
    #[must_use]
    pub fn with_memory(mut self, name: &str, bytes: Vec<u8>) -> Self {
        self.memories.push(Memory { name: name.to_owned(), bytes });
        self
    }

    /// Reads the state back.
    ///
    /// # Errors
    /// Where kind or version do not fit, or the text is not a `T`.
    pub fn decode<T: DeserializeOwned>(&self, kind: &str, version: u32) -> Result<T, LoadError> {
        if self.kind != kind {
            return Err(LoadError::Kind { expected: kind.to_owned(), found: self.kind.clone() });
        }
        if self.version > version {
            return Err(LoadError::Newer { kind: kind.to_owned(), found: self.version, known: version });
        }
        ron::from_str(&self.body)
            .map_err(|error| LoadError::Malformed { kind: kind.to_owned(), reason: error.to_string() })
    }

    /// The memory called `name`, which must be `len` bytes long.
    ///
    /// # Errors
    /// Where it is missing or of another length.
    pub fn memory(&self, name: &str, len: usize) -> Result<&[u8], LoadError> {
        let memory = self
            .memories
            .iter()
            .find(|memory| memory.name == name)
            .ok_or_else(|| LoadError::invalid(&self.kind, format!("its memory “{name}” is missing")))?;
        if memory.bytes.len() != len {
            let found = memory.bytes.len();
            return Err(LoadError::invalid(&self.kind, format!("its memory “{name}” has {found} bytes, not {len}")));
        }
        Ok(&memory.bytes)
    }
}
