//! Guest RAM: one host mapping, and which of its pages hold translated code.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use memmap2::MmapMut;

use super::signals::Signals;

/// Size of a page of guest memory in bytes.
pub const PAGE_SIZE: u64 = 4096;

/// Guest RAM from physical address 0 up.
///
/// The processor reaches it through host addresses in its TLB, devices through [`GuestRam::read`] and
/// [`GuestRam::write`] (DMA). All of them run on the machine's thread.
#[derive(Debug)]
pub struct GuestRam {
    base: NonNull<u8>,
    len: u64,
    _mapping: MmapMut,
    /// Per page: 1 where the block cache holds code from it.
    code: Box<[AtomicU8]>,
    /// Pages with code that something other than the processor's store path wrote.
    modified: Mutex<Vec<u32>>,
    any_modified: AtomicBool,
    signals: Arc<Signals>,
}

// SAFETY: the mapping lives as long as the value and is plain bytes; accesses are raw copies. The engine
// uses one `GuestRam` from one thread; moving it between threads is sound.
unsafe impl Send for GuestRam {}
// SAFETY: as above: shared references only copy bytes in and out, racing accesses come only from the one machine thread.
unsafe impl Sync for GuestRam {}

impl GuestRam {
    /// `len` bytes of zeroed memory, a multiple of [`PAGE_SIZE`].
    ///
    /// # Errors
    /// Where the host has no such amount of address space.
    pub fn new(len: u64, signals: &Arc<Signals>) -> std::io::Result<Self> {
        let bytes = usize::try_from(len).map_err(|_| std::io::ErrorKind::OutOfMemory)?;
        let mut mapping = MmapMut::map_anon(bytes)?;
        let base = NonNull::new(mapping.as_mut_ptr()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        let code = (0..len / PAGE_SIZE).map(|_| AtomicU8::new(0)).collect();
        Ok(Self {
            base,
            len,
            _mapping: mapping,
            code,
            modified: Mutex::default(),
            any_modified: AtomicBool::new(false),
            signals: Arc::clone(signals),
        })
    }

    /// Bytes of RAM.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no RAM at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Host address of `address`, where at least `bytes` follow.
    pub fn host(&self, address: u64, bytes: u64) -> Option<NonNull<u8>> {
        if address.checked_add(bytes)? > self.len {
            return None;
        }
        // SAFETY: `address + bytes` is within the mapping.
        Some(unsafe { self.base.add(address as usize) })
    }

    /// Copies out of RAM. Bytes beyond its end read as ones.
    pub fn read(&self, address: u64, into: &mut [u8]) {
        let inside = self.len.saturating_sub(address).min(into.len() as u64) as usize;
        let (present, absent) = into.split_at_mut(inside);
        absent.fill(0xff);
        if let Some(host) = self.host(address, inside as u64) {
            // SAFETY: `host` has `inside` bytes, and a caller's buffer never overlaps guest RAM.
            unsafe { present.as_mut_ptr().copy_from_nonoverlapping(host.as_ptr(), inside) };
        }
    }

    /// Copies into RAM as a bus master does: code there is noticed. Bytes beyond its end are dropped.
    pub fn write(&self, address: u64, from: &[u8]) {
        let inside = self.len.saturating_sub(address).min(from.len() as u64);
        if inside == 0 {
            return;
        }
        if let Some(host) = self.host(address, inside) {
            // SAFETY: `host` has `inside` bytes, and a caller's buffer never overlaps guest RAM.
            unsafe { host.as_ptr().copy_from_nonoverlapping(from.as_ptr(), inside as usize) };
        }
        for page in address / PAGE_SIZE..=(address + inside - 1) / PAGE_SIZE {
            if self.has_code(page) {
                self.modified.lock().unwrap_or_else(PoisonError::into_inner).push(page as u32);
                self.any_modified.store(true, Ordering::Relaxed);
                self.signals.raise();
            }
        }
    }

    /// Whether the block cache watches page number `page`.
    #[inline]
    pub fn has_code(&self, page: u64) -> bool {
        self.code.get(page as usize).is_some_and(|code| code.load(Ordering::Relaxed) != 0)
    }

    /// Watches (or no longer watches) page number `page`. The processor takes the write tag from its TLB itself.
    pub fn mark_code(&self, page: u64, holds_code: bool) {
        if let Some(code) = self.code.get(page as usize) {
            code.store(u8::from(holds_code), Ordering::Relaxed);
        }
    }

    /// Pages with code that DMA has written since the last call. Cheap when there are none.
    pub fn take_modified_code(&self) -> Vec<u32> {
        if !self.any_modified.swap(false, Ordering::Relaxed) {
            return Vec::new();
        }
        std::mem::take(&mut *self.modified.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_ram_reads_as_ones_and_swallows_writes() {
        let ram = GuestRam::new(PAGE_SIZE, &Arc::new(Signals::new())).expect("a page");
        ram.write(PAGE_SIZE - 2, &[1, 2, 3, 4]);
        let mut back = [0; 4];
        ram.read(PAGE_SIZE - 2, &mut back);
        assert_eq!(back, [1, 2, 0xff, 0xff]);
        ram.read(u64::MAX - 1, &mut back);
        assert_eq!(back, [0xff; 4]);
    }

    #[test]
    fn a_write_by_dma_to_code_is_reported_once() {
        let signals = Arc::new(Signals::new());
        let ram = GuestRam::new(4 * PAGE_SIZE, &signals).expect("four pages");
        ram.mark_code(2, true);
        ram.write(PAGE_SIZE, &[0; 16]);
        assert!(!signals.raised());
        ram.write(2 * PAGE_SIZE - 1, &[0; 2]);
        assert!(signals.raised());
        assert_eq!(ram.take_modified_code(), [2]);
        assert!(ram.take_modified_code().is_empty());
    }
}
