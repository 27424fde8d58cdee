//! The software TLB.
//!
//! Direct-mapped, one bank for supervisor accesses and one for user accesses, so that a change of privilege level
//! flushes nothing. An entry holds what an inlined check needs: two tags and the distance from linear to host addresses.
//!
//! The check is `linear ^ tag <= 0x1000 - size`: one compare covers both the page and an access that would cross
//! its end. A tag that matches nothing is one of a page that belongs to another entry.

use std::ptr::NonNull;

use crate::bus::signals::Signals;

/// Entries in each bank.
pub const ENTRIES: usize = 1024;
/// Code pages remembered in each bank.
pub const CODE_ENTRIES: usize = 256;
/// Bytes in a page.
pub const PAGE: u32 = 0x1000;

/// One translation from a linear page to host memory.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TlbEntry {
    /// Linear address of the page where reads are plain memory.
    pub read: u32,
    /// Linear address of the page where writes are: the page is writable, dirty, and holds no translated code.
    pub write: u32,
    /// Host address minus linear address, modulo the host's address size.
    pub addend: usize,
}

/// What the slow path wants to know of an entry.
#[derive(Clone, Copy, Debug)]
struct Page {
    /// Physical address.
    physical: u64,
    /// Survives a load of CR3.
    global: bool,
    /// The write tag is missing only because the page holds translated code.
    watched: bool,
}

/// What [`Tlb::fill`] is told of a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filling {
    /// Physical address.
    pub physical: u64,
    /// Host address.
    pub host: NonNull<u8>,
    /// Writes are plain memory, if nobody watches.
    pub writable: bool,
    /// The page holds translated code.
    pub watched: bool,
    /// Survives a load of CR3.
    pub global: bool,
    /// Part of a page of more than 4 KiB.
    pub large: bool,
}

#[derive(Clone, Copy, Debug)]
struct CodeEntry {
    /// Linear page, or [`CodeEntry::NONE`].
    linear: u64,
    physical: u64,
    global: bool,
}

impl CodeEntry {
    /// Not a page address.
    const NONE: u64 = u64::MAX;
    const EMPTY: Self = Self { linear: Self::NONE, physical: 0, global: false };
}

/// Translations of data and code pages.
#[derive(Debug)]
pub struct Tlb {
    entries: Box<[TlbEntry; 2 * ENTRIES]>,
    pages: Box<[Page; 2 * ENTRIES]>,
    code: Box<[CodeEntry; 2 * CODE_ENTRIES]>,
    /// First entry of the bank in use: 0, or [`ENTRIES`] for privilege level 3.
    bank: usize,
    /// A page of more than 4 KiB is in here: INVLPG must drop them all.
    large: bool,
    a20_mask: u64,
    map_generation: u32,
    /// Counts flushes of any kind; whoever caches a translation elsewhere compares it.
    generation: u32,
    /// Data accesses that took the slow path.
    pub misses: u64,
}

impl Default for Tlb {
    fn default() -> Self {
        Self::new()
    }
}

impl Tlb {
    /// An empty TLB with the A20 gate open.
    pub fn new() -> Self {
        let mut tlb = Self {
            entries: boxed(TlbEntry { read: 0, write: 0, addend: 0 }),
            pages: boxed(Page { physical: 0, global: false, watched: false }),
            code: boxed(CodeEntry::EMPTY),
            bank: 0,
            large: false,
            a20_mask: u64::MAX,
            map_generation: 0,
            generation: 0,
            misses: 0,
        };
        tlb.flush();
        tlb
    }

    /// A tag that no address mapped to entry `index` has.
    const fn absent(index: usize) -> u32 {
        ((index ^ 1) as u32) << 12
    }

    #[inline(always)]
    fn index(bank: usize, linear: u32) -> usize {
        (bank | (linear >> 12) as usize & (ENTRIES - 1)) & (2 * ENTRIES - 1)
    }

    #[inline(always)]
    fn code_index(user: bool, linear: u64) -> usize {
        (usize::from(user) * CODE_ENTRIES) | (linear >> 12) as usize & (CODE_ENTRIES - 1)
    }

    /// The entry that may translate `linear` at the current privilege level.
    #[inline(always)]
    pub fn entry(&self, linear: u32) -> TlbEntry {
        let index = self.bank | (linear >> 12) as usize & (ENTRIES - 1);
        // SAFETY: the bank is 0 or `ENTRIES`, and there are two banks. This is on the way of every access to memory.
        unsafe { *self.entries.get_unchecked(index) }
    }

    /// The same in the supervisor's bank, whatever the privilege level.
    #[inline(always)]
    pub fn system_entry(&self, linear: u32) -> TlbEntry {
        self.entries[Self::index(0, linear)]
    }

    /// Chooses the bank by privilege level.
    #[inline]
    pub(super) fn set_user(&mut self, user: bool) {
        self.bank = usize::from(user) * ENTRIES;
    }

    /// Remembers a page of plain memory.
    pub(super) fn fill(&mut self, user: bool, linear: u32, filling: Filling) {
        let Filling { physical, host, writable, watched, global, large } = filling;
        let page = linear & !(PAGE - 1);
        let index = Self::index(usize::from(user) * ENTRIES, linear);
        self.entries[index] = TlbEntry {
            read: page,
            write: if writable && !watched { page } else { Self::absent(index) },
            addend: host.as_ptr().expose_provenance().wrapping_sub(page as usize),
        };
        self.pages[index] = Page { physical, global, watched: writable && watched };
        self.large |= large;
    }

    /// The physical page of a linear code page, where known.
    #[inline]
    pub(super) fn code_page(&self, user: bool, linear: u64) -> Option<u64> {
        let entry = &self.code[Self::code_index(user, linear)];
        (entry.linear == linear & !0xfff).then_some(entry.physical)
    }

    pub(super) fn fill_code(&mut self, user: bool, linear: u64, physical: u64, global: bool, large: bool) {
        self.code[Self::code_index(user, linear)] =
            CodeEntry { linear: linear & !0xfff, physical: physical & !0xfff, global };
        self.large |= large;
    }

    /// Forgets everything.
    pub fn flush(&mut self) {
        for (index, entry) in self.entries.iter_mut().enumerate() {
            entry.read = Self::absent(index);
            entry.write = Self::absent(index);
        }
        self.code.fill(CodeEntry::EMPTY);
        self.large = false;
        self.generation = self.generation.wrapping_add(1);
    }

    /// Forgets everything but global pages (a load of CR3).
    pub fn flush_local(&mut self) {
        for (index, entry) in self.entries.iter_mut().enumerate() {
            if !self.pages[index].global {
                entry.read = Self::absent(index);
                entry.write = Self::absent(index);
            }
        }
        for entry in self.code.iter_mut().filter(|entry| !entry.global) {
            *entry = CodeEntry::EMPTY;
        }
        self.generation = self.generation.wrapping_add(1);
    }

    /// Forgets the page of `linear`, global or not (INVLPG).
    pub fn flush_page(&mut self, linear: u64) {
        if self.large {
            self.flush();
            return;
        }
        for user in [false, true] {
            let index = Self::index(usize::from(user) * ENTRIES, linear as u32);
            let entry = &mut self.entries[index];
            entry.read = Self::absent(index);
            entry.write = Self::absent(index);
            self.code[Self::code_index(user, linear)] = CodeEntry::EMPTY;
        }
        self.generation = self.generation.wrapping_add(1);
    }

    /// Takes the write tag from every entry that leads to the host page at `host`: it now holds translated code.
    pub fn protect(&mut self, host: NonNull<u8>) {
        let host = host.as_ptr().addr();
        for (index, entry) in self.entries.iter_mut().enumerate() {
            if entry.write != Self::absent(index) && entry.addend.wrapping_add(entry.write as usize) == host {
                entry.write = Self::absent(index);
                self.pages[index].watched = true;
            }
        }
    }

    /// Host and physical address of a store of `size` bytes to a page that is watched for its code.
    pub(super) fn watched(&self, user: bool, linear: u32, size: u32) -> Option<(*mut u8, u64)> {
        let index = Self::index(usize::from(user) * ENTRIES, linear);
        let (entry, page) = (self.entries[index], self.pages[index]);
        let hit = page.watched && linear ^ entry.read <= PAGE - size;
        let host = std::ptr::with_exposed_provenance_mut(entry.addend.wrapping_add(linear as usize));
        hit.then_some((host, page.physical | u64::from(linear & (PAGE - 1))))
    }

    /// The page of `linear`, watched so far, holds no code any more: its write tag comes back.
    pub(super) fn unwatch(&mut self, user: bool, linear: u32) {
        let index = Self::index(usize::from(user) * ENTRIES, linear);
        if self.pages[index].watched && self.entries[index].read == linear & !(PAGE - 1) {
            self.pages[index].watched = false;
            self.entries[index].write = self.entries[index].read;
        }
    }

    /// A number that changes with every flush.
    #[inline]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The mask that the A20 gate puts on physical addresses.
    #[inline]
    pub fn a20_mask(&self) -> u64 {
        self.a20_mask
    }

    /// Takes over A20 and the map generation; flushes and returns true where either moved.
    pub(super) fn sync(&mut self, signals: &Signals) -> bool {
        let a20_mask = if signals.a20() { u64::MAX } else { !(1 << 20) };
        let map_generation = signals.map_generation();
        if (a20_mask, map_generation) == (self.a20_mask, self.map_generation) {
            return false;
        }
        self.a20_mask = a20_mask;
        self.map_generation = map_generation;
        self.flush();
        true
    }
}

fn boxed<T: Copy, const N: usize>(value: T) -> Box<[T; N]> {
    Box::new([value; N])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(tag: u32, linear: u32, size: u32) -> bool {
        linear ^ tag <= PAGE - size
    }

    #[test]
    fn an_empty_entry_matches_no_address_of_its_own() {
        let tlb = Tlb::new();
        for linear in (0..=u32::MAX).step_by(0x1000 - 1) {
            assert!(!hit(tlb.entry(linear).read, linear, 1));
            assert!(!hit(tlb.entry(linear).write, linear, 1));
        }
    }

    #[test]
    fn banks_global_pages_and_write_protection() {
        let mut tlb = Tlb::new();
        let mut memory = vec![0u8; 0x2000];
        let host = NonNull::new(memory.as_mut_ptr()).unwrap();
        let page = Filling { physical: 0x5000, host, writable: true, watched: false, global: true, large: false };
        tlb.fill(false, 0xc000_0000, page);
        tlb.fill(true, 0x0000_1000, Filling { global: false, ..page });
        assert!(hit(tlb.entry(0xc000_0ffc).write, 0xc000_0ffc, 4));
        assert!(!hit(tlb.entry(0xc000_0ffd).write, 0xc000_0ffd, 4), "crosses the page");
        assert!(!hit(tlb.entry(0x1000).read, 0x1000, 1), "the user's entry is not the supervisor's");
        tlb.flush_local();
        assert!(hit(tlb.entry(0xc000_0000).read, 0xc000_0000, 1));
        tlb.protect(host);
        assert!(hit(tlb.entry(0xc000_0000).read, 0xc000_0000, 1));
        assert!(!hit(tlb.entry(0xc000_0000).write, 0xc000_0000, 1));
        assert_eq!(tlb.watched(false, 0xc000_0ffe, 2).map(|(_, physical)| physical), Some(0x5ffe));
        assert_eq!(tlb.watched(false, 0xc000_0fff, 2), None, "crosses the page");
        tlb.unwatch(false, 0xc000_0000);
        assert!(hit(tlb.entry(0xc000_0000).write, 0xc000_0000, 1));
        tlb.set_user(true);
        assert!(!hit(tlb.entry(0x1000).read, 0x1000, 1), "flushed with CR3");
        tlb.set_user(false);
        tlb.flush_page(0xc000_0123);
        assert!(!hit(tlb.entry(0xc000_0000).read, 0xc000_0000, 1));
    }
}
