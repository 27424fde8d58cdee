//! The picture that the guest shows.

use std::ops::Range;
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
///
/// It knows when each of its rows last changed, so that somebody who has shown an older picture of the same size needs only
/// [`Frame::rows_since`] that one, however many pictures he missed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frame {
    /// Grows by one with each new picture; the first has 1.
    pub sequence: u64,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Width over height of the whole picture on a real monitor: text and old VGA modes are 4:3, others have square pixels.
    pub aspect: f32,
    /// Red, green, blue, 255: four bytes a pixel, rows top to bottom.
    pub rgba: Vec<u8>,
    /// The number of the picture in which each row last changed, one entry a row. A row without an entry counts as changed.
    pub changed: Vec<u64>,
    /// The characters, in a text mode.
    pub text: Option<TextScreen>,
}

impl Frame {
    /// Runs of rows that differ from picture `sequence`, which had the same size. 0: all of them.
    pub fn rows_since(&self, sequence: u64) -> Vec<Range<u32>> {
        let mut runs: Vec<Range<u32>> = Vec::new();
        for y in 0..self.height {
            if self.changed.get(y as usize).is_some_and(|&changed| changed <= sequence) {
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.end == y => run.end += 1,
                _ => runs.push(y..y + 1),
            }
        }
        runs
    }

    /// The bytes of a run of rows, cut off where the picture ends.
    pub fn rows(&self, rows: &Range<u32>) -> &[u8] {
        let pitch = self.width as usize * 4;
        let end = (rows.end as usize).saturating_mul(pitch).min(self.rgba.len());
        &self.rgba[(rows.start as usize).saturating_mul(pitch).min(end)..end]
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_changed_join_into_runs() {
        let frame = Frame {
            sequence: 7,
            width: 1,
            height: 6,
            rgba: (0..24).collect(),
            changed: vec![7, 6, 3, 7, 1, 7],
            ..Frame::default()
        };
        assert_eq!(frame.rows_since(5), [0..2, 3..4, 5..6]);
        assert_eq!(frame.rows_since(6), [0..1, 3..4, 5..6]);
        assert_eq!(frame.rows_since(7), []);
        assert_eq!(frame.rows_since(0).len(), 1);
        assert_eq!(frame.rows(&(3..4)), [12, 13, 14, 15]);
        assert_eq!(frame.rows(&(5..90)), [20, 21, 22, 23]);
        let without = Frame { changed: Vec::new(), ..frame };
        assert_eq!(without.rows_since(7).iter().map(ExactSizeIterator::len).sum::<usize>(), 6);
    }
}
