//! Host memory for code: writable at one address, executable at another, never both at one.
//!
//! Behind the code, within reach of its displacements, lies plain data. Pages cost nothing until they are used.
//!
//! Both are in huge pages where the host can do that: a compiler's code comes to tens of megabytes, and the host's TLB for code has room
//! for a few hundred small pages.

use std::ffi::c_void;
use std::ptr;

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
const _: () = assert!(CODE_BYTES / HUGE <= u64::BITS as usize);

/// The mappings.
pub(super) struct CodeMemory {
    /// Code, then data.
    base: *mut u8,
    /// The code's other address.
    write: *mut u8,
    /// Which huge pages' worth of code memory have been written to.
    touched: u64,
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
            let mut memory = Self { base: base.cast(), write: ptr::null_mut(), touched: 0 };
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
        if len > 0 {
            self.touch(offset / HUGE);
            self.touch((offset + len - 1) / HUGE);
        }
    }

    /// Makes one huge page of many small ones when the first of them has just been written to: Linux (from 6.1 on) gives shared memory
    /// none otherwise, as it is mostly set up.
    fn touch(&mut self, page: usize) {
        let bit = 1 << page;
        if self.touched & bit != 0 {
            return;
        }
        self.touched |= bit;
        for mapping in [self.write, self.base] {
            // SAFETY: the page lies in the mapping.
            unsafe { advise(mapping.add(page * HUGE), HUGE, libc::MADV_COLLAPSE) };
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
        // SAFETY: the mappings were made by `new` with these lengths, and code that runs borrows the processor that owns them.
        unsafe {
            let _ = munmap(self.base.cast::<c_void>(), CODE_BYTES + DATA_BYTES);
            if !self.write.is_null() {
                let _ = munmap(self.write.cast::<c_void>(), CODE_BYTES);
            }
        }
    }
}
