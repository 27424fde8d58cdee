//! Runs of plain memory within one page, for the repeated string instructions.
//!
//! They use the TLB's tags as [`super::access`] does: a page that holds translated code has no write tag and is never
//! reached from here.

use super::Cpu;
use super::tlb::PAGE;
use crate::bus::Width;

/// Where a run lies in host memory.
#[derive(Clone, Copy)]
pub struct Run {
    host: *mut u8,
    len: usize,
}

impl Cpu {
    /// The run of `len` bytes (1 and up) at a linear address, where the TLB knows it as plain memory in one page.
    pub fn plain_run(&self, linear: u64, len: u32, write: bool) -> Option<Run> {
        let at = linear as u32;
        let entry = self.tlb.entry(at);
        let tag = if write { entry.write } else { entry.read };
        if len == 0 || len > PAGE || at ^ tag > PAGE - len {
            return None;
        }
        let host = std::ptr::with_exposed_provenance_mut(entry.host_of(at));
        Some(Run { host, len: len as usize })
    }
}

/// Copies elements of `width` upwards, one after the other: where the target starts inside the source, what was
/// written is read again, as a processor does it. Runs of different lengths copy what both have.
pub fn copy(cpu: &Cpu, from: Run, to: Run, width: Width) {
    let _ = cpu;
    let len = from.len.min(to.len);
    let distance = to.host.addr().wrapping_sub(from.host.addr());
    if distance >= len {
        // SAFETY: both runs lie in guest pages that the TLB maps; `copy` allows any overlap.
        unsafe { to.host.copy_from(from.host, len) };
        return;
    }
    match width {
        Width::Byte => one_by_one::<u8>(from.host, to.host, len),
        Width::Word => one_by_one::<u16>(from.host, to.host, len),
        Width::Dword => one_by_one::<u32>(from.host, to.host, len),
        Width::Qword => one_by_one::<u64>(from.host, to.host, len),
    }
}

/// Copies elements, each after the one before has been written.
fn one_by_one<T>(from: *mut u8, to: *mut u8, len: usize) {
    let (from, to) = (from.cast::<T>(), to.cast::<T>());
    for index in 0..len / size_of::<T>() {
        // SAFETY: the caller's runs are `len` bytes long.
        unsafe { to.add(index).write_unaligned(from.add(index).read_unaligned()) };
    }
}

/// Fills a run with an element of `width`. A rest that is shorter than an element stays as it is.
pub fn fill(cpu: &Cpu, to: Run, width: Width, value: u64) {
    let _ = cpu;
    match width {
        Width::Byte => fill_with(to, value as u8),
        Width::Word => fill_with(to, value as u16),
        Width::Dword => fill_with(to, value as u32),
        Width::Qword => fill_with(to, value),
    }
}

fn fill_with<T: Copy>(to: Run, element: T) {
    let host = to.host.cast::<T>();
    for index in 0..to.len / size_of::<T>() {
        // SAFETY: the run lies in a writable guest page that the TLB maps.
        unsafe { host.add(index).write_unaligned(element) };
    }
}

/// Bytes that are looked at together.
const BLOCK: usize = 32;

impl Run {
    /// Bytes of the run. Somebody else may write there meanwhile, so that they are copied before they are looked at.
    fn bytes<const N: usize>(self, offset: usize) -> Option<[u8; N]> {
        if offset + N > self.len {
            return None;
        }
        // SAFETY: the run lies in a guest page that the TLB maps, and the bytes are within it.
        Some(unsafe { self.host.add(offset).cast::<[u8; N]>().read_unaligned() })
    }

    /// The element at an offset.
    fn element(self, offset: usize, width: Width) -> Option<u64> {
        match width {
            Width::Byte => self.bytes::<1>(offset).map(|[byte]| u64::from(byte)),
            Width::Word => self.bytes(offset).map(|bytes| u64::from(u16::from_le_bytes(bytes))),
            Width::Dword => self.bytes(offset).map(|bytes| u64::from(u32::from_le_bytes(bytes))),
            Width::Qword => self.bytes(offset).map(u64::from_le_bytes),
        }
    }
}

/// Number of the first element of which it is `equal` that it is `value`.
pub fn scan(run: Run, width: Width, value: u64, equal: bool) -> Option<usize> {
    let step = width.bytes() as usize;
    let mut offset = 0;
    if width == Width::Byte {
        while let Some(block) = run.bytes::<BLOCK>(offset) {
            if block.iter().fold(false, |found, &byte| found | ((u64::from(byte) == value) == equal)) {
                break;
            }
            offset += BLOCK;
        }
    }
    while let Some(element) = run.element(offset, width) {
        if (element == value) == equal {
            return Some(offset / step);
        }
        offset += step;
    }
    None
}

/// Number of the first element of which it is `equal` that it is the same in both runs.
pub fn compare(one: Run, other: Run, width: Width, equal: bool) -> Option<usize> {
    let step = width.bytes() as usize;
    let mut offset = 0;
    if !equal {
        while let (Some(left), Some(right)) = (one.bytes::<BLOCK>(offset), other.bytes::<BLOCK>(offset)) {
            if left != right {
                break;
            }
            offset += BLOCK;
        }
    }
    while let (Some(left), Some(right)) = (one.element(offset, width), other.element(offset, width)) {
        if (left == right) == equal {
            return Some(offset / step);
        }
        offset += step;
    }
    None
}

/// The element number `index` of a run, where it has so many.
pub fn element(run: Run, width: Width, index: usize) -> Option<u64> {
    run.element(index * width.bytes() as usize, width)
}
