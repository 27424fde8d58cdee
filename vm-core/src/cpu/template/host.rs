//! Host memory for code: writable at one address, executable at another, never both at one.
//!
//! Behind the code, within reach of its displacements, lies plain data. Pages cost nothing until they are used.
//!
//! Both are in huge pages where the host can do that: a compiler's code comes to tens of megabytes, and the host's TLB for code has room
//! for a few hundred small pages. To clear one takes the host milliseconds where it has never had that memory before, so a thread of its
//! own does it, before the page is reached.

use std::ffi::c_void;
use std::ptr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// Bytes of code.
pub(super) const CODE_BYTES: usize = 128 << 20;
/// Bytes of data.
pub(super) const DATA_BYTES: usize = 256 << 20;

/// What data may be used for.
const DATA: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);
/// Bytes of a huge page.
const HUGE: usize = 2 << 20;
/// Huge pages of code and data.
const PAGES: usize = (CODE_BYTES + DATA_BYTES) / HUGE;
/// What is made of a few bytes needs no huge page.
const FEW: usize = 64 << 10;

/// The mappings.
pub(super) struct CodeMemory {
    /// Code, then data.
    base: *mut u8,
    /// The code's other address.
    write: *mut u8,
    /// Which huge pages have been asked for,
    asked: [bool; PAGES],
    /// and who is.
    helper: Option<Helper>,
}

/// Who makes huge pages.
struct Helper {
    wanted: Sender<Wanted>,
    thread: JoinHandle<()>,
}

/// A huge page that will be needed.
struct Wanted {
    /// The host address at which it is written.
    start: usize,
    /// It is shared memory.
    shared: bool,
}

// SAFETY: the mappings belong to this value alone.
unsafe impl Send for CodeMemory {}

impl CodeMemory {
    /// Fresh memory.
    ///
    /// # Errors
    /// In words, where the host does not let programs make code, or has no room.
    pub fn new() -> Result<Self, String> {
        let refused = |error: rustix::io::Errno| format!("the host gives no memory for native code: {error}");
        let file = memfd_create("hako-code", MemfdFlags::CLOEXEC).map_err(refused)?;
        ftruncate(&file, CODE_BYTES as u64).map_err(refused)?;
        // SAFETY: new mappings, inside of others that nobody uses yet.
        unsafe {
            let base = map_aligned(CODE_BYTES + DATA_BYTES).map_err(refused)?;
            let mut memory = Self { base: base.cast(), write: ptr::null_mut(), asked: [false; PAGES], helper: None };
            let code = ProtFlags::READ | ProtFlags::EXEC;
            mmap(base, CODE_BYTES, code, MapFlags::SHARED | MapFlags::FIXED, &file, 0).map_err(refused)?;
            let write = map_aligned(CODE_BYTES).map_err(refused)?;
            memory.write = write.cast();
            mmap(write, CODE_BYTES, DATA, MapFlags::SHARED | MapFlags::FIXED, &file, 0).map_err(refused)?;
            advise(memory.data(), DATA_BYTES, libc::MADV_HUGEPAGE);
            Ok(memory)
        }
    }

    /// Host address at which code is executed.
    pub fn code(&self) -> u64 {
        self.base.addr() as u64
    }

    /// The data.
    pub fn data(&self) -> *mut u8 {
        self.base.wrapping_add(CODE_BYTES)
    }

    /// Writes code at an offset. What does not fit is left out.
    pub fn write(&mut self, offset: usize, code: &[u8]) {
        let len = code.len().min(CODE_BYTES.saturating_sub(offset));
        // SAFETY: so many bytes are left in the writable mapping.
        unsafe { self.write.add(offset.min(CODE_BYTES)).copy_from_nonoverlapping(code.as_ptr(), len) };
    }

    /// Code (from 0) and data (behind it) is filled up to this offset: the huge page there and the next one will be needed.
    pub fn filled_to(&mut self, offset: usize) {
        if offset % HUGE >= FEW {
            self.want(offset / HUGE);
            self.want(offset / HUGE + 1);
        }
    }

    /// The same where it is filled downwards.
    pub fn filled_down_to(&mut self, offset: usize) {
        if offset % HUGE <= HUGE - FEW {
            self.want(offset / HUGE);
            self.want((offset / HUGE).saturating_sub(1));
        }
    }

    /// Asks for a huge page. Where nobody can be asked all works, slower.
    fn want(&mut self, page: usize) {
        let Some(asked) = self.asked.get_mut(page).filter(|asked| !**asked) else { return };
        *asked = true;
        let shared = page < CODE_BYTES / HUGE;
        let start = if shared { self.write } else { self.base }.wrapping_add(page * HUGE).addr();
        if self.helper.is_none() {
            let (wanted, orders) = channel();
            let thread = Builder::new().name("hako code".into()).spawn(move || prepare(&orders));
            self.helper = thread.ok().map(|thread| Helper { wanted, thread });
        }
        if let Some(Helper { wanted, .. }) = &self.helper {
            let _ = wanted.send(Wanted { start, shared });
        }
    }
}

/// Makes huge pages until nobody will want any.
fn prepare(orders: &Receiver<Wanted>) {
    for Wanted { start, shared } in orders {
        let start = ptr::without_provenance_mut(start);
        // SAFETY: the mappings stay until this thread has ended, and what they hold stays as it is.
        unsafe {
            if shared {
                // Linux (from 6.1 on) makes one of small pages that are there; as it is mostly set up shared memory has none otherwise.
                advise(start, 1, libc::MADV_POPULATE_WRITE);
                advise(start, HUGE, libc::MADV_COLLAPSE);
            } else {
                advise(start, HUGE, libc::MADV_POPULATE_WRITE);
            }
        }
    }
}

/// Private memory that begins where a huge page may.
fn map_aligned(bytes: usize) -> rustix::io::Result<*mut c_void> {
    // SAFETY: a new mapping, of which what lies before and behind the aligned part is given back.
    unsafe {
        let start = mmap_anonymous(ptr::null_mut(), bytes + HUGE, DATA, MapFlags::PRIVATE)?.cast::<u8>();
        let before = start.addr().next_multiple_of(HUGE) - start.addr();
        let aligned = start.add(before);
        if before > 0 {
            munmap(start.cast(), before)?;
        }
        if before < HUGE {
            munmap(aligned.add(bytes).cast(), HUGE - before)?;
        }
        Ok(aligned.cast())
    }
}

/// Says how memory shall lie in pages. Where the host does not do that all works, slower. What the memory holds stays.
///
/// # Safety
/// So many bytes are mapped.
unsafe fn advise(start: *mut u8, bytes: usize, advice: libc::c_int) {
    // SAFETY: the caller's promise.
    unsafe { libc::madvise(start.cast(), bytes, advice) };
}

impl Drop for CodeMemory {
    fn drop(&mut self) {
        if let Some(Helper { wanted, thread }) = self.helper.take() {
            drop(wanted);
            let _ = thread.join();
        }
        // SAFETY: the mappings were made by `new` with these lengths, and code that runs borrows the processor that owns them.
        unsafe {
            let _ = munmap(self.base.cast::<c_void>(), CODE_BYTES + DATA_BYTES);
            if !self.write.is_null() {
                let _ = munmap(self.write.cast::<c_void>(), CODE_BYTES);
            }
        }
    }
}
