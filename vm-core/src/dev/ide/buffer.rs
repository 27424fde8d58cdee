//! The data buffer of a drive.

use serde::{Deserialize, Serialize};

use super::BUFFER;
use crate::snapshot::section::{LoadError, Section};

/// Data on its way between drive and guest: through the data port in blocks, or by DMA.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataBuffer {
    len: u32,
    position: u32,
    /// Where the present block ends.
    end: u32,
    #[serde(skip)]
    bytes: Vec<u8>,
}

impl DataBuffer {
    /// Starts over with these bytes, rounded up to whole words; no block is open.
    pub fn start(&mut self, mut bytes: Vec<u8>) {
        bytes.truncate(BUFFER);
        bytes.resize(bytes.len().next_multiple_of(2), 0);
        *self = Self { len: bytes.len() as u32, position: 0, end: 0, bytes };
    }

    /// Opens the next block of at most `most` bytes (even).
    pub fn open(&mut self, most: u32) {
        self.end = self.len.min(self.position.saturating_add(most));
    }

    /// Bytes not yet moved.
    pub fn rest(&self) -> u32 {
        self.len - self.position
    }

    /// Whether the present block has been moved.
    pub fn is_block_done(&self) -> bool {
        self.position >= self.end
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The next word for the guest; ones past the end of the block.
    pub fn read(&mut self) -> u16 {
        let at = self.position as usize;
        match self.bytes.get(at..at + 2) {
            Some(word) if self.position < self.end => {
                self.position += 2;
                u16::from_le_bytes([word[0], word[1]])
            }
            _ => u16::MAX,
        }
    }

    /// The next word from the guest; dropped past the end of the block.
    pub fn write(&mut self, value: u16) {
        let at = self.position as usize;
        if self.position < self.end
            && let Some(word) = self.bytes.get_mut(at..at + 2)
        {
            word.copy_from_slice(&value.to_le_bytes());
            self.position += 2;
        }
    }

    /// What has not yet been moved, for the bus master.
    pub fn unmoved(&self) -> &[u8] {
        self.bytes.get(self.position as usize..).unwrap_or_default()
    }

    /// The place for what has not yet been moved.
    pub fn unmoved_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.position as usize..).unwrap_or_default()
    }

    /// The bus master has moved `bytes` (even).
    pub fn moved(&mut self, bytes: usize) {
        self.position = self.len.min(self.position.saturating_add(bytes as u32));
        self.end = self.position;
    }

    /// All bytes, for a section; none are left here.
    pub fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    pub(super) fn load(&mut self, section: &Section, name: &str) -> Result<(), LoadError> {
        let sound = self.len as usize <= BUFFER
            && self.len.is_multiple_of(2)
            && self.position.is_multiple_of(2)
            && self.end.is_multiple_of(2)
            && self.position <= self.end
            && self.end <= self.len;
        if !sound {
            return Err(LoadError::invalid(&section.kind, format!("the buffer of {name}")));
        }
        if self.len != 0 {
            self.bytes = section.memory(name, self.len as usize)?.to_vec();
        }
        Ok(())
    }
}
