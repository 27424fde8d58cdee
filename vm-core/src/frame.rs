//! The picture that the guest shows.

use std::sync::{Arc, Mutex, PoisonError};

/// What stands in the character cells of a text-mode screen.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TextScreen {
    /// One string a row, code page 437 translated to Unicode, trailing blanks kept.
    pub lines: Vec<String>,
    /// Column and row of the cursor, where it shows.
    pub cursor: Option<(u32, u32)>,
}

/// One picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Grows by one with each new picture.
    pub sequence: u64,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Width over height of the whole picture on a real monitor: text and old VGA modes are 4:3, others have square pixels.
    pub aspect: f32,
    /// Red, green, blue, 255: four bytes a pixel, rows top to bottom.
    pub rgba: Vec<u8>,
    /// The characters, in a text mode.
    pub text: Option<TextScreen>,
}

/// A place for one frame: writing replaces, reading takes a share of the newest.
#[derive(Debug, Default)]
pub struct FrameSlot(Mutex<Option<Arc<Frame>>>);

impl FrameSlot {
    /// Shows `frame`.
    pub fn publish(&self, frame: Arc<Frame>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(frame);
    }

    /// The newest frame.
    pub fn latest(&self) -> Option<Arc<Frame>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
