//! Guest RAM: one host mapping, and which of its pages hold translated code.
//!
//! Snapshots hook in here (`transfer`): chunks that have not come in yet, and chunks that must be saved before they are written.

pub mod transfer;
mod watch;

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;

use crossbeam_channel::Receiver;
use memmap2::MmapMut;

use super::signals::{Signals, StopReason};
use transfer::{CHUNK, ChunkSource, Failure, Loading, Saved, Saving};
use watch::Written;

/// Bits of [`GuestRam::hooks`].
const LOADING: u8 = 1;
const SAVING: u8 = 2;
const FAILED: u8 = 4;
const WATCHED: u8 = 8;

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
    /// What an access has to look at first: almost always nothing.
    hooks: AtomicU8,
    loading: RwLock<Option<Arc<Loading>>>,
    saving: RwLock<Option<Arc<Saving>>>,
    failure: Failure,
    /// Pages that may have been written, where somebody wants to know.
    written: OnceLock<Written>,
    filler: Mutex<Option<JoinHandle<()>>>,
}

// SAFETY: the mapping lives as long as the value and is plain bytes; accesses are raw copies. The engine
// uses one `GuestRam` from one thread; moving it between threads is sound.
unsafe impl Send for GuestRam {}
// SAFETY: as above: shared references only copy bytes in and out. Racing accesses come only from the one machine thread, and from the
// threads that load and save, which touch only chunks that they have claimed (`transfer`).
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
            hooks: AtomicU8::new(0),
            loading: RwLock::default(),
            saving: RwLock::default(),
            failure: Failure::default(),
            written: OnceLock::new(),
            filler: Mutex::default(),
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

    /// Host address of the page at `page` for reading; what is there has come in.
    pub fn page_to_read(&self, page: u64) -> Option<NonNull<u8>> {
        self.before_read(page, PAGE_SIZE);
        self.host(page, PAGE_SIZE)
    }

    /// Host address of the page at `page` for writing; `None` while stores there must come by [`GuestRam::write`].
    pub fn page_to_write(&self, page: u64) -> Option<NonNull<u8>> {
        if self.hooks.load(Ordering::Relaxed) & SAVING != 0
            && let Some(saving) = &*self.saving.read().unwrap_or_else(PoisonError::into_inner)
            && !saving.is_saved((page / CHUNK) as usize)
        {
            return None;
        }
        self.note_written(page, PAGE_SIZE);
        self.page_to_read(page)
    }

    #[inline]
    fn before_read(&self, address: u64, bytes: u64) {
        if self.hooks.load(Ordering::Relaxed) != 0 {
            self.bring_in(address, bytes);
        }
    }

    #[cold]
    fn bring_in(&self, address: u64, bytes: u64) {
        let loading = self.loading.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(loading) = loading else { return };
        for index in chunks(address, bytes.min(self.len.saturating_sub(address))) {
            self.bring(&loading, index);
        }
    }

    fn bring(&self, loading: &Loading, index: usize) {
        let before = || {
            let saving = self.saving.read().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(saving) = saving {
                // Replaced, and what it replaces is still wanted.
                saving.save_first(index, || self.chunk(index).cast_const());
            }
        };
        if let Err(text) = loading.bring(index, || self.chunk(index), before) {
            self.failure.set(text.clone());
            self.hooks.fetch_or(FAILED, Ordering::SeqCst);
            self.signals.request_stop(StopReason::Damaged(text));
        }
    }

    /// Before anything is written: what is there has come in and is saved where it must be.
    #[inline]
    pub fn before_write(&self, address: u64, bytes: u64) {
        if self.hooks.load(Ordering::Relaxed) != 0 {
            self.save_first(address, bytes);
        }
    }

    #[cold]
    fn save_first(&self, address: u64, bytes: u64) {
        self.note_written(address, bytes);
        self.bring_in(address, bytes);
        let saving = self.saving.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(saving) = saving else { return };
        for index in chunks(address, bytes.min(self.len.saturating_sub(address))) {
            saving.save_first(index, || self.chunk(index).cast_const());
        }
    }

    /// The bytes of chunk `index`.
    fn chunk(&self, index: usize) -> *mut [u8] {
        let start = index as u64 * CHUNK;
        debug_assert!(start < self.len);
        let bytes = CHUNK.min(self.len - start) as usize;
        // SAFETY: `start` is within the mapping.
        std::ptr::slice_from_raw_parts_mut(unsafe { self.base.as_ptr().add(start as usize) }, bytes)
    }

    /// Number of chunks.
    pub fn chunks(&self) -> usize {
        self.len.div_ceil(CHUNK) as usize
    }

    /// Why what the guest sees is not right any more: a part of a snapshot could not be loaded. The machine must not go on.
    pub fn failure(&self) -> Option<String> {
        (self.hooks.load(Ordering::Relaxed) & FAILED != 0).then(|| self.failure.get()).flatten()
    }

    /// Whether [`GuestRam::failure`] has one.
    #[inline]
    pub fn has_failed(&self) -> bool {
        self.hooks.load(Ordering::Relaxed) & FAILED != 0
    }

    /// Replaces all of RAM by `source`: chunks come in when they are first used, or when the thread that this starts has come to them.
    /// The processor's TLB must be flushed by the caller. `fresh`: nothing has been written to RAM before.
    ///
    /// # Errors
    /// Where the host gives no thread.
    pub fn load_from(self: &Arc<Self>, source: Arc<dyn ChunkSource>, fresh: bool) -> std::io::Result<()> {
        let old = self.loading.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(old) = old {
            old.stop();
        }
        // It must not write any more where something else is to be.
        if let Some(filler) = self.filler.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = filler.join();
        }
        let loading = Arc::new(Loading::new(self.chunks(), source, fresh));
        *self.loading.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&loading));
        self.failure.clear();
        self.hooks.fetch_and(!FAILED, Ordering::SeqCst);
        self.hooks.fetch_or(LOADING, Ordering::SeqCst);
        let code: Vec<u32> = (0..self.code.len() as u32).filter(|&page| self.has_code(u64::from(page))).collect();
        if !code.is_empty() {
            self.modified.lock().unwrap_or_else(PoisonError::into_inner).extend(code);
            self.any_modified.store(true, Ordering::Relaxed);
            self.signals.raise();
        }
        let ram = Arc::clone(self);
        let filler = std::thread::Builder::new().name("fill".to_owned()).spawn(move || {
            for index in 0..ram.chunks() {
                if loading.is_stopped() || ram.has_failed() || Arc::strong_count(&ram) == 1 {
                    return;
                }
                ram.bring(&loading, index);
            }
            ram.end_loading(&loading);
        })?;
        *self.filler.lock().unwrap_or_else(PoisonError::into_inner) = Some(filler);
        Ok(())
    }

    /// Nothing is absent any more.
    fn end_loading(&self, done: &Arc<Loading>) {
        let mut loading = self.loading.write().unwrap_or_else(PoisonError::into_inner);
        if done.is_done() && loading.as_ref().is_some_and(|loading| Arc::ptr_eq(loading, done)) {
            *loading = None;
            self.hooks.fetch_and(!LOADING, Ordering::SeqCst);
        }
    }

    /// Whether parts of RAM are still in the snapshot that it was loaded from.
    pub fn is_loading(&self) -> bool {
        self.hooks.load(Ordering::Relaxed) & LOADING != 0
    }

    /// From this moment on RAM as it is now can be saved by [`Capture::next`], while the guest goes on. The processor's TLB must be
    /// flushed by the caller. `None`: it is being saved already.
    pub fn capture(self: &Arc<Self>) -> Option<Capture> {
        let mut slot = self.saving.write().unwrap_or_else(PoisonError::into_inner);
        if slot.is_some() {
            return None;
        }
        let loading = self.loading.read().unwrap_or_else(PoisonError::into_inner).clone();
        let source = loading.as_ref().map(|loading| Arc::clone(&loading.source));
        let (saving, copies) = Saving::new(self.chunks(), loading);
        let saving = Arc::new(saving);
        *slot = Some(Arc::clone(&saving));
        self.hooks.fetch_or(SAVING, Ordering::SeqCst);
        Some(Capture { ram: Arc::clone(self), saving, copies, next: 0, given: 0, source })
    }

    /// Copies out of RAM. Bytes beyond its end read as ones.
    pub fn read(&self, address: u64, into: &mut [u8]) {
        self.before_read(address, into.len() as u64);
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
        self.before_write(address, inside);
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

    /// Whether DMA has written to pages with code since the last [`Self::take_modified_code`].
    pub fn code_was_modified(&self) -> bool {
        self.any_modified.load(Ordering::Relaxed)
    }

    /// Pages with code that DMA has written since the last call. Cheap when there are none.
    pub fn take_modified_code(&self) -> Vec<u32> {
        if !self.any_modified.swap(false, Ordering::Relaxed) {
            return Vec::new();
        }
        std::mem::take(&mut *self.modified.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The numbers of the chunks that `bytes` from `address` on lie in.
fn chunks(address: u64, bytes: u64) -> std::ops::Range<usize> {
    let end = address.saturating_add(bytes);
    (address / CHUNK) as usize..end.div_ceil(CHUNK) as usize
}

/// RAM as it was at one instant, on its way to a snapshot. Dropping it ends the capture.
#[derive(Debug)]
pub struct Capture {
    ram: Arc<GuestRam>,
    saving: Arc<Saving>,
    copies: Receiver<(usize, Saved)>,
    next: usize,
    given: usize,
    source: Option<Arc<dyn ChunkSource>>,
}

impl Capture {
    /// Chunks in all.
    pub fn chunks(&self) -> usize {
        self.ram.chunks()
    }

    /// The next chunk, in any order, with its number; `None`: that was all. What the guest is about to overwrite comes first.
    pub fn take_next(&mut self) -> Option<(usize, Saved)> {
        loop {
            if self.given == self.chunks() {
                return None;
            }
            let from_guest =
                if self.next < self.chunks() { self.copies.try_recv().ok() } else { self.copies.recv().ok() };
            if let Some(saved) = from_guest {
                self.given += 1;
                return Some(saved);
            }
            let index = self.next;
            if index >= self.chunks() {
                return None;
            }
            self.next += 1;
            let saved = self.saving.save(index, || self.ram.chunk(index).cast_const());
            if let Some(saved) = saved {
                self.given += 1;
                return Some((index, saved));
            }
        }
    }

    /// Where RAM was coming from at that instant; [`Saved::AsLoaded`] means a chunk of it.
    pub fn source(&self) -> Option<&Arc<dyn ChunkSource>> {
        self.source.as_ref()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.ram.hooks.fetch_and(!SAVING, Ordering::SeqCst);
        self.ram.saving.write().unwrap_or_else(PoisonError::into_inner).take();
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
