//! Loads and stores through segments and the TLB.
//!
//! Two layers: [`Cpu::linear`] checks a segmented address and yields a linear one; [`Cpu::load`], [`Cpu::store`] and
//! their relatives take linear addresses. What hits the TLB is plain memory and inlined; all else goes the slow way:
//! page walks, devices, accesses across pages, pages that hold translated code.

use std::ptr::NonNull;

use super::Cpu;
use super::fault::{Fault, Vector};
use super::paging::Wish;
use super::state::{SegReg, Segment};
use super::tlb::{Filling, PAGE};
use crate::bus::{Bus, Width};

/// An unsigned integer that one access moves: `u8`, `u16`, `u32` or `u64`.
pub trait Unsigned: Copy + sealed::Sealed {
    /// Bytes.
    const SIZE: u32;
    /// Widened.
    fn wide(self) -> u64;
    /// The low bits of `value`.
    fn narrow(value: u64) -> Self;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! unsigned {
    ($($kind:ty),*) => {$(
        impl sealed::Sealed for $kind {}
        impl Unsigned for $kind {
            const SIZE: u32 = size_of::<$kind>() as u32;
            #[inline(always)]
            fn wide(self) -> u64 {
                self as u64
            }
            #[inline(always)]
            fn narrow(value: u64) -> Self {
                value as Self
            }
        }
    )*};
}
unsigned!(u8, u16, u32, u64);

/// Reads a little-endian `T` from host memory.
///
/// # Safety
/// `host` must be valid for reads of `T::SIZE` bytes.
#[inline(always)]
unsafe fn read_host<T: Unsigned>(host: *const T) -> T {
    const { assert!(cfg!(target_endian = "little"), "guest memory is little-endian") };
    // SAFETY: the caller's promise.
    unsafe { host.read_unaligned() }
}

impl Segment {
    /// Types that may be read: all data, and readable code.
    const READABLE: u32 = 0b1100_1100_1111_1111;
    /// Types that may be written: writable data.
    const WRITABLE: u32 = 0b0000_0000_1100_1100;

    /// The linear address of `size` bytes at `offset`, where limit and type allow the access.
    #[inline(always)]
    pub fn translate(&self, offset: u64, size: u32, write: bool) -> Option<u64> {
        let kinds = if write { Self::WRITABLE } else { Self::READABLE };
        let rights = u32::from(self.rights);
        if rights >> 7 & kinds >> (rights & 15) & 1 == 0 {
            return None;
        }
        let last = offset + u64::from(size) - 1;
        if rights & 0b1100 == 0b0100 {
            let top = if rights & Self::BIG == 0 { 0xffff } else { 0xffff_ffff };
            if offset <= u64::from(self.limit) || last > top {
                return None;
            }
        } else if last > u64::from(self.limit) {
            return None;
        }
        Some(self.base.wrapping_add(offset) & 0xffff_ffff)
    }
}

impl Cpu {
    /// The linear address of `size` bytes (1 and up) at `offset` in a segment. `offset` is already cut to the address size.
    ///
    /// # Errors
    /// #SS(0) for the stack segment and #GP(0) for the others, where limit or rights forbid the access.
    #[inline(always)]
    pub fn linear(&self, seg: SegReg, offset: u64, size: u32, write: bool) -> Result<u64, Fault> {
        match self.state.seg[seg as usize].translate(offset, size, write) {
            Some(linear) => Ok(linear),
            None => Err(if seg == SegReg::Ss { Fault::ss(0) } else { Fault::gp(0) }),
        }
    }

    /// Reads at a linear address with the rights of the current privilege level.
    ///
    /// # Errors
    /// A page fault.
    #[inline(always)]
    pub fn load<T: Unsigned>(&mut self, bus: &mut dyn Bus, linear: u64) -> Result<T, Fault> {
        let linear = linear as u32;
        let entry = self.tlb.entry(linear);
        if linear ^ entry.read <= PAGE - T::SIZE {
            let host = std::ptr::with_exposed_provenance(entry.host_of(linear));
            // SAFETY: the tag matched: the whole access lies in the page that the bus has mapped at this address.
            return Ok(unsafe { read_host::<T>(host) });
        }
        self.load_slow(bus, linear, T::SIZE, self.state.cpl == 3).map(T::narrow)
    }

    /// Reads at a linear address that the same instruction will write: what a write there raises is raised now.
    ///
    /// # Errors
    /// A page fault.
    #[inline(always)]
    pub fn load_for_write<T: Unsigned>(&mut self, bus: &mut dyn Bus, linear: u64) -> Result<T, Fault> {
        let at = linear as u32;
        let entry = self.tlb.entry(at);
        if at ^ entry.write <= PAGE - T::SIZE {
            let host = std::ptr::with_exposed_provenance(entry.host_of(at));
            // SAFETY: the tag matched: the whole access lies in the page that the bus has mapped at this address.
            return Ok(unsafe { read_host::<T>(host) });
        }
        self.check_alignment(at, T::SIZE, self.state.cpl == 3)?;
        self.prepare_write(bus, linear, u64::from(T::SIZE))?;
        self.load_slow(bus, at, T::SIZE, self.state.cpl == 3).map(T::narrow)
    }

    /// Writes at a linear address with the rights of the current privilege level.
    ///
    /// # Errors
    /// A page fault; then no byte has been written.
    #[inline(always)]
    pub fn store<T: Unsigned>(&mut self, bus: &mut dyn Bus, linear: u64, value: T) -> Result<(), Fault> {
        let linear = linear as u32;
        let entry = self.tlb.entry(linear);
        if linear ^ entry.write <= PAGE - T::SIZE {
            let host = std::ptr::with_exposed_provenance_mut::<T>(entry.host_of(linear));
            // SAFETY: the tag matched: the whole access lies in the writable page that the bus has mapped at this address.
            unsafe { host.write_unaligned(value) };
            return Ok(());
        }
        self.store_slow(bus, linear, T::SIZE, value.wide(), self.state.cpl == 3)
    }

    /// Reads 16 bytes. Whether they must be aligned is the caller's business.
    ///
    /// # Errors
    /// A page fault.
    pub fn load_128(&mut self, bus: &mut dyn Bus, linear: u64) -> Result<u128, Fault> {
        let low = self.load::<u64>(bus, linear)?;
        let high = self.load::<u64>(bus, linear.wrapping_add(8) & 0xffff_ffff)?;
        Ok(u128::from(low) | u128::from(high) << 64)
    }

    /// Writes 16 bytes. Whether they must be aligned is the caller's business.
    ///
    /// # Errors
    /// A page fault; then no byte has been written.
    pub fn store_128(&mut self, bus: &mut dyn Bus, linear: u64, value: u128) -> Result<(), Fault> {
        self.prepare_write(bus, linear, 16)?;
        self.store(bus, linear, value as u64)?;
        self.store(bus, linear.wrapping_add(8) & 0xffff_ffff, (value >> 64) as u64)
    }

    /// Reads descriptor tables and task state: with supervisor rights at any privilege level.
    ///
    /// # Errors
    /// A page fault.
    pub fn load_system<T: Unsigned>(&mut self, bus: &mut dyn Bus, linear: u64) -> Result<T, Fault> {
        self.load_as(bus, linear, false)
    }

    /// Writes descriptor tables and task state: with supervisor rights at any privilege level.
    ///
    /// # Errors
    /// A page fault; then no byte has been written.
    pub fn store_system<T: Unsigned>(&mut self, bus: &mut dyn Bus, linear: u64, value: T) -> Result<(), Fault> {
        self.store_as(bus, linear, value, false)
    }

    /// Reads with the rights of a user (true) or a supervisor.
    ///
    /// # Errors
    /// A page fault.
    pub fn load_as<T: Unsigned>(&mut self, bus: &mut dyn Bus, linear: u64, user: bool) -> Result<T, Fault> {
        if user == (self.state.cpl == 3) {
            return self.load(bus, linear);
        }
        self.load_slow(bus, linear as u32, T::SIZE, user).map(T::narrow)
    }

    /// Writes with the rights of a user (true) or a supervisor.
    ///
    /// # Errors
    /// A page fault; then no byte has been written.
    pub fn store_as<T: Unsigned>(&mut self, bus: &mut dyn Bus, linear: u64, value: T, user: bool) -> Result<(), Fault> {
        if user == (self.state.cpl == 3) {
            return self.store(bus, linear, value);
        }
        self.store_slow(bus, linear as u32, T::SIZE, value.wide(), user)
    }

    /// Raises now what a read of `len` bytes would raise.
    ///
    /// # Errors
    /// A page fault.
    pub fn prepare_read(&mut self, bus: &mut dyn Bus, linear: u64, len: u64) -> Result<(), Fault> {
        self.prepare(bus, linear, len, Wish::read(self.state.cpl == 3))
    }

    /// Raises now what a write of `len` bytes would raise, so that the writes themselves cannot fault.
    ///
    /// # Errors
    /// A page fault.
    pub fn prepare_write(&mut self, bus: &mut dyn Bus, linear: u64, len: u64) -> Result<(), Fault> {
        self.prepare(bus, linear, len, Wish::write(self.state.cpl == 3))
    }

    /// [`Cpu::prepare_read`] or [`Cpu::prepare_write`] with given rights. `len` is cut to 64 KiB.
    ///
    /// # Errors
    /// A page fault.
    pub fn prepare(&mut self, bus: &mut dyn Bus, linear: u64, len: u64, wish: Wish) -> Result<(), Fault> {
        let len = len.clamp(1, 0x1_0000);
        let mut at = linear;
        while at < linear + len {
            self.translate(bus, at as u32, wish)?;
            at = (at & !0xfff) + 0x1000;
        }
        Ok(())
    }

    /// The physical page (low 12 bits clear) that code at `linear` is fetched from.
    ///
    /// # Errors
    /// A page fault.
    #[inline]
    pub fn fetch_page(&mut self, bus: &mut dyn Bus, linear: u64) -> Result<u64, Fault> {
        let user = self.state.cpl == 3;
        match self.tlb.code_page(user, linear) {
            Some(physical) => Ok(physical),
            None => self.fetch_page_slow(bus, linear, user),
        }
    }

    #[cold]
    #[inline(never)]
    fn fetch_page_slow(&mut self, bus: &mut dyn Bus, linear: u64, user: bool) -> Result<u64, Fault> {
        let mapping = self.walk(bus, linear as u32, Wish::fetch(user))?;
        if self.has_code_breakpoint(linear) {
            // Not remembered: links and jumps to this page come to the dispatcher.
            return Ok(mapping.physical);
        }
        self.tlb.fill_code(user, linear, mapping.physical, mapping.global, mapping.large);
        Ok(mapping.physical)
    }

    /// Copies up to 15 bytes of code from `linear`, at most `into.len()`; returns how many before a page that cannot be fetched from.
    ///
    /// # Errors
    /// A page fault for the very first byte.
    pub fn fetch(&mut self, bus: &mut dyn Bus, linear: u64, into: &mut [u8]) -> Result<usize, Fault> {
        let mut done = 0;
        let mut page = self.fetch_page(bus, linear)?;
        while done < into.len() {
            let at = linear.wrapping_add(done as u64) & 0xffff_ffff;
            if done > 0 && at.is_multiple_of(0x1000) {
                let cr2 = self.state.cr[2];
                let Ok(next) = self.fetch_page(bus, at) else {
                    // Nothing has faulted yet: the instruction may end before this page.
                    self.state.cr[2] = cr2;
                    break;
                };
                page = next;
            }
            into[done] = self.read_physical(bus, page | at & 0xfff, 1) as u8;
            done += 1;
        }
        Ok(done)
    }

    /// The block cache now holds code from this physical page: stores there take the slow way.
    pub fn protect_code(&mut self, bus: &mut dyn Bus, physical: u64) {
        bus.ram().mark_code(physical >> 12, true);
        if let Some(host) = bus.page(physical & !0xfff).write {
            self.tlb.protect(host);
        }
    }

    /// Flushes what depends on A20 and the physical map where either moved; true where it did.
    #[inline]
    pub fn sync_map(&mut self, bus: &dyn Bus) -> bool {
        self.tlb.sync(bus.signals())
    }

    /// Reads `len` (1–8) bytes of physical memory within one page. The A20 gate is not applied again.
    #[inline]
    pub fn read_physical(&mut self, bus: &mut dyn Bus, physical: u64, len: u32) -> u64 {
        if let Some(host) = bus.page_to_read(physical) {
            let from: *const u8 = at(host, physical);
            // SAFETY: so many bytes are left in the page that the bus maps.
            return unsafe {
                match in_page(physical, len) {
                    1 => from.read().into(),
                    2 => u16::from_le_bytes(from.cast::<[u8; 2]>().read()).into(),
                    4 => u32::from_le_bytes(from.cast::<[u8; 4]>().read()).into(),
                    8 => u64::from_le_bytes(from.cast::<[u8; 8]>().read()),
                    len => {
                        let mut bytes = [0; 8];
                        bytes.as_mut_ptr().copy_from_nonoverlapping(from, len);
                        u64::from_le_bytes(bytes)
                    }
                }
            };
        }
        self.settle_floats();
        let mut value = 0;
        for (offset, width) in parts(physical, len) {
            value |= (bus.read(physical + u64::from(offset), width) & width.mask()) << (8 * offset);
        }
        value
    }

    /// Reads bytes of physical memory; what is beyond the page stays as it is.
    pub(super) fn read_physical_bytes(&mut self, bus: &mut dyn Bus, physical: u64, into: &mut [u8]) {
        let len = into.len().min(0x1000 - (physical as usize & 0xfff));
        let into = &mut into[..len];
        if let Some(host) = bus.page_to_read(physical) {
            // SAFETY: so many bytes are left in the page that the bus maps, and they are not the processor's.
            unsafe { into.as_mut_ptr().copy_from_nonoverlapping(at(host, physical), len) };
            return;
        }
        for (index, chunk) in into.chunks_mut(8).enumerate() {
            let value = self.read_physical(bus, physical + 8 * index as u64, chunk.len() as u32);
            chunk.copy_from_slice(&value.to_le_bytes()[..chunk.len()]);
        }
    }

    /// Writes `len` (1–8) bytes of physical memory within one page. The A20 gate is not applied again.
    pub fn write_physical(&mut self, bus: &mut dyn Bus, physical: u64, len: u32, value: u64) {
        if let Some(host) = bus.page(physical & !0xfff).write {
            let bytes = value.to_le_bytes();
            let to: *mut u8 = at(host, physical);
            // SAFETY: so many bytes are in the buffer and are left in the page that the bus maps.
            unsafe {
                match in_page(physical, len) {
                    1 => to.write(value as u8),
                    2 => to.cast::<[u8; 2]>().write((value as u16).to_le_bytes()),
                    4 => to.cast::<[u8; 4]>().write((value as u32).to_le_bytes()),
                    8 => to.cast::<[u8; 8]>().write(bytes),
                    len => to.copy_from_nonoverlapping(bytes.as_ptr(), len),
                }
            };
            if bus.ram().has_code(physical >> 12) {
                self.invalidate_code(bus, physical, u64::from(len));
            }
            return;
        }
        self.settle_floats();
        for (offset, width) in parts(physical, len) {
            bus.write(physical + u64::from(offset), width, value >> (8 * offset) & width.mask());
        }
    }

    /// Physical address of a linear one; fills the TLB where the page is plain memory.
    fn translate(&mut self, bus: &mut dyn Bus, linear: u32, wish: Wish) -> Result<u64, Fault> {
        self.tlb.misses += 1;
        let mapping = self.walk(bus, linear, wish)?;
        let page = bus.page(mapping.physical);
        if let Some(host) = page.read
            && !self.has_data_breakpoint(linear)
        {
            let filling = Filling {
                physical: mapping.physical,
                host,
                writable: mapping.writable && page.write == Some(host),
                watched: bus.ram().has_code(mapping.physical >> 12),
                global: mapping.global,
                large: mapping.large,
            };
            self.tlb.fill(wish.user, linear, filling);
        }
        Ok(mapping.physical | u64::from(linear & 0xfff))
    }

    /// The alignment check of privilege level 3, where CR0.AM and EFLAGS.AC ask for it.
    #[inline]
    fn check_alignment(&self, linear: u32, size: u32, user: bool) -> Result<(), Fault> {
        if user && self.tlb.checks_alignment() && linear & (size - 1) != 0 {
            return Err(Fault::with_error(Vector::AlignmentCheck, 0));
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn load_slow(&mut self, bus: &mut dyn Bus, linear: u32, size: u32, user: bool) -> Result<u64, Fault> {
        self.check_alignment(linear, size, user)?;
        self.note_access(linear, size, false);
        let wish = Wish::read(user);
        let first = (PAGE - (linear & (PAGE - 1))).min(size);
        let low = self.translate(bus, linear, wish)?;
        if first == size {
            return Ok(self.read_physical(bus, low, size));
        }
        let high = self.translate(bus, linear.wrapping_add(first), wish)?;
        Ok(self.read_physical(bus, low, first) | self.read_physical(bus, high, size - first) << (8 * first))
    }

    #[cold]
    #[inline(never)]
    fn store_slow(&mut self, bus: &mut dyn Bus, linear: u32, size: u32, value: u64, user: bool) -> Result<(), Fault> {
        self.check_alignment(linear, size, user)?;
        self.note_access(linear, size, true);
        // Programs that keep code and data on one page come here often.
        if let Some((host, physical)) = self.tlb.watched(user, linear, size) {
            let bytes = value.to_le_bytes();
            // SAFETY: the tag matched: `size` (1 to 8) bytes from here lie in the writable page that the bus has mapped.
            unsafe { host.copy_from_nonoverlapping(bytes.as_ptr(), (size as usize).min(8)) };
            if bus.ram().has_code(physical >> 12) {
                self.invalidate_code(bus, physical, u64::from(size));
            } else {
                self.tlb.unwatch(user, linear);
            }
            return Ok(());
        }
        let wish = Wish::write(user);
        let first = (PAGE - (linear & (PAGE - 1))).min(size);
        let low = self.translate(bus, linear, wish)?;
        if first == size {
            self.write_physical(bus, low, size, value);
            return Ok(());
        }
        let high = self.translate(bus, linear.wrapping_add(first), wish)?;
        self.write_physical(bus, low, first, value);
        self.write_physical(bus, high, size - first, value >> (8 * first));
        Ok(())
    }
}

/// The host address of a physical one in the page at `host`.
fn at(host: NonNull<u8>, physical: u64) -> *mut u8 {
    // SAFETY: the page has 4096 bytes.
    unsafe { host.as_ptr().add(physical as usize & 0xfff) }
}

/// `len`, but no more than a `u64` holds and than is left in the page.
fn in_page(physical: u64, len: u32) -> usize {
    (len as usize).min(8).min(0x1000 - (physical as usize & 0xfff))
}

/// Cuts an access into naturally aligned parts, lowest address first.
fn parts(address: u64, len: u32) -> impl Iterator<Item = (u32, Width)> {
    let mut offset = 0;
    std::iter::from_fn(move || {
        let left = len.checked_sub(offset).filter(|&left| left > 0)?;
        let here = address + u64::from(offset);
        let width = [Width::Qword, Width::Dword, Width::Word]
            .into_iter()
            .find(|width| width.bytes() <= u64::from(left) && here.is_multiple_of(width.bytes()))
            .unwrap_or(Width::Byte);
        let part = (offset, width);
        offset += width.bytes() as u32;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::cpuid::CpuModel;
    use crate::cpu::testbus::TestBus;

    #[test]
    fn limits_hold_at_the_very_last_byte() {
        let cpu = Cpu::new(CpuModel::Pentium2);
        assert_eq!(cpu.linear(SegReg::Ds, 0xfffe, 2, false), Ok(0xfffe));
        assert_eq!(cpu.linear(SegReg::Ds, 0xffff, 2, false), Err(Fault::gp(0)));
        assert_eq!(cpu.linear(SegReg::Ss, 0xffff, 2, true), Err(Fault::ss(0)));
        let down = Segment { base: 0, limit: 0x0fff, rights: 0x97, selector: 8 };
        assert_eq!(down.translate(0x0fff, 1, false), None);
        assert_eq!(down.translate(0x1000, 4, true), Some(0x1000));
        assert_eq!(down.translate(0xfffd, 4, true), None, "behind 64 KiB");
        let code = Segment { rights: 0x99, ..Segment::real(0) };
        assert_eq!(code.translate(0, 1, false), None, "execute-only");
        assert_eq!(Segment::null(0).translate(0, 1, false), None);
    }

    #[test]
    fn loads_and_stores_reach_memory_at_any_alignment() {
        let mut bus = TestBus::new(4);
        let mut cpu = Cpu::new(CpuModel::Pentium2);
        for at in [0x100, 0x101, 0xffd, 0xfff, 0x1ffc, 0x2ffb] {
            cpu.store::<u64>(&mut bus, at, 0x1122_3344_5566_7788).unwrap();
            assert_eq!(bus.get::<8>(at), 0x1122_3344_5566_7788_u64.to_le_bytes());
            assert_eq!(cpu.load::<u32>(&mut bus, at + 1), Ok(0x4455_6677));
            assert_eq!(cpu.load_for_write::<u16>(&mut bus, at + 6), Ok(0x1122));
        }
    }

    #[test]
    fn a_device_sees_naturally_aligned_parts() {
        let mut bus = TestBus::new(1);
        let mut cpu = Cpu::new(CpuModel::Pentium2);
        cpu.store::<u32>(&mut bus, 0xa0001, 0x4433_2211).unwrap();
        assert_eq!(
            bus.mmio,
            [
                (0xa0001, Width::Byte, Some(0x11)),
                (0xa0002, Width::Word, Some(0x3322)),
                (0xa0004, Width::Byte, Some(0x44))
            ]
        );
        bus.mmio_value = 0x5a5a_5a5a;
        assert_eq!(cpu.load::<u16>(&mut bus, 0xa0fff), Ok(0x5a5a));
    }

    #[test]
    fn the_a20_gate_folds_the_second_megabyte() {
        let mut bus = TestBus::new(0x110);
        let mut cpu = Cpu::new(CpuModel::Pentium2);
        bus.put(0x10, &[0xaa]);
        assert_eq!(cpu.load::<u8>(&mut bus, 0x10_0010), Ok(0));
        bus.signals.set_a20(false);
        assert!(cpu.sync_map(&bus));
        assert!(!cpu.sync_map(&bus));
        assert_eq!(cpu.load::<u8>(&mut bus, 0x10_0010), Ok(0xaa));
        let mut code = [0; 15];
        assert_eq!(cpu.fetch(&mut bus, 0x10_0010, &mut code), Ok(15));
        assert_eq!(code[0], 0xaa);
    }

    #[test]
    fn a_page_with_code_takes_stores_the_slow_way_until_it_is_released() {
        let mut bus = TestBus::new(4);
        let mut cpu = Cpu::new(CpuModel::Pentium2);
        cpu.store::<u8>(&mut bus, 0x2000, 1).unwrap();
        let misses = cpu.tlb.misses;
        cpu.store::<u8>(&mut bus, 0x2001, 1).unwrap();
        assert_eq!(cpu.tlb.misses, misses, "the TLB knows the page");
        cpu.protect_code(&mut bus, 0x2000);
        assert_ne!(cpu.tlb.entry(0x2000).write, 0x2000);
        cpu.store::<u8>(&mut bus, 0x2002, 1).unwrap();
        assert_eq!(cpu.load::<u32>(&mut bus, 0x2000), Ok(0x0001_0101));
        bus.ram.mark_code(2, false);
        cpu.store::<u8>(&mut bus, 0x2003, 2).unwrap();
        assert_eq!(cpu.tlb.entry(0x2000).write, 0x2000);
        assert_eq!(cpu.load::<u32>(&mut bus, 0x2000), Ok(0x0201_0101));
    }
}
