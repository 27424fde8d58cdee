//! Which pages may have been written: for whoever compares two memories without reading all of both.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{GuestRam, PAGE_SIZE, WATCHED};

/// A bit for each page.
#[derive(Debug)]
pub(super) struct Written(Box<[AtomicU64]>);

impl GuestRam {
    /// From now on [`GuestRam::written`] knows what is written. A page that the processor has in its TLB for writing is known once: the
    /// TLB must be flushed by the caller, here and at [`GuestRam::forget_written`].
    pub fn watch_writes(&self) {
        let words = (self.len / PAGE_SIZE).div_ceil(64);
        self.written.get_or_init(|| Written((0..words).map(|_| AtomicU64::new(0)).collect()));
        self.hooks.fetch_or(WATCHED, Ordering::SeqCst);
    }

    #[inline]
    pub(super) fn note_written(&self, address: u64, bytes: u64) {
        if self.hooks.load(Ordering::Relaxed) & WATCHED == 0 {
            return;
        }
        let Some(Written(words)) = self.written.get() else { return };
        let end = address.saturating_add(bytes).min(self.len);
        for page in address / PAGE_SIZE..end.div_ceil(PAGE_SIZE) {
            if let Some(word) = words.get((page / 64) as usize) {
                word.fetch_or(1 << (page % 64), Ordering::Relaxed);
            }
        }
    }

    /// Numbers of the pages that may have been written since they were last forgotten.
    pub fn written(&self) -> impl Iterator<Item = u64> {
        let words = self.written.get().map_or(&[][..], |Written(words)| words);
        (0..).zip(words).flat_map(|(index, word)| {
            let mut left = word.load(Ordering::Relaxed);
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| u64::from(left.trailing_zeros()))?;
                left &= left - 1;
                Some(index * 64 + bit)
            })
        })
    }

    /// No page has been written.
    pub fn forget_written(&self) {
        for word in self.written.get().iter().flat_map(|Written(words)| words) {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// The first byte of a page that is another in another memory: its address, ours, the other.
    pub fn first_difference(&self, other: &Self, page: u64) -> Option<(u64, u8, u8)> {
        let start = page.checked_mul(PAGE_SIZE)?;
        let (ours, theirs) = (self.page_to_read(start)?, other.page_to_read(start)?);
        // SAFETY: both have a page there, and the one thread of the machine, which writes them, is here.
        let (ours, theirs) = unsafe {
            (
                std::slice::from_raw_parts(ours.as_ptr(), PAGE_SIZE as usize),
                std::slice::from_raw_parts(theirs.as_ptr(), PAGE_SIZE as usize),
            )
        };
        if ours == theirs {
            return None;
        }
        let pairs = (start..).zip(ours.iter().zip(theirs));
        pairs.map(|(at, (&ours, &theirs))| (at, ours, theirs)).find(|(_, ours, theirs)| ours != theirs)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::bus::signals::Signals;

    #[test]
    fn what_is_written_is_known_by_its_page() {
        let signals = Arc::new(Signals::new());
        let (one, other) = (GuestRam::new(0x10_0000, &signals).unwrap(), GuestRam::new(0x10_0000, &signals).unwrap());
        one.write(0x3000, &[1]);
        assert_eq!(one.written().count(), 0, "nobody wanted to know");
        one.watch_writes();
        one.write(0x4fff, &[2, 3]);
        assert!(one.page_to_write(0x9_0000).is_some());
        assert_eq!(one.written().collect::<Vec<_>>(), [4, 5, 0x90]);
        assert_eq!(one.first_difference(&other, 4), Some((0x4fff, 2, 0)));
        assert_eq!(one.first_difference(&other, 0x90), None);
        assert_eq!(one.first_difference(&other, 0x100), None, "beyond the end");
        one.forget_written();
        assert_eq!(one.written().count(), 0);
    }
}
