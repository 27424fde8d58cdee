//! Host memory for code: writable at one address, executable at another, never both at one.
//!
//! Behind the code, within reach of its displacements, lies plain data. Pages cost nothing until they are used.

use std::ffi::c_void;
use std::ptr;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// Bytes of code.
pub(super) const CODE_BYTES: usize = 128 << 20;
/// Bytes of data.
pub(super) const DATA_BYTES: usize = 256 << 20;

/// The mappings.
pub(super) struct CodeMemory {
    /// Code, then data.
    base: *mut u8,
    /// The code's other address.
    write: *mut u8,
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
        let both = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: new mappings at addresses that the kernel chooses; the fixed one lies inside the first, which nobody uses yet.
        unsafe {
            let base =
                mmap_anonymous(ptr::null_mut(), CODE_BYTES + DATA_BYTES, both, MapFlags::PRIVATE).map_err(refused)?;
            let mut memory = Self { base: base.cast(), write: ptr::null_mut() };
            let code = ProtFlags::READ | ProtFlags::EXEC;
            mmap(base, CODE_BYTES, code, MapFlags::SHARED | MapFlags::FIXED, &file, 0).map_err(refused)?;
            memory.write = mmap(ptr::null_mut(), CODE_BYTES, both, MapFlags::SHARED, &file, 0).map_err(refused)?.cast();
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
