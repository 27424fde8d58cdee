//! The software TLB.
//!
//! Direct-mapped, one bank for supervisor accesses and one for user accesses, so that a change of privilege level
//! flushes nothing. An entry holds what an inlined check needs: two tags and the distance from linear to host addresses.
//!
//! The check is `linear ^ tag <= 0x1000 - size`: one compare covers both the page and an access that would cross
//! its end. A tag that matches nothing is one of a page that belongs to another entry.
//!
//! A journal notes which entries were filled, those of global pages apart. A flush visits what is noted and nothing else:
//! a load of CR3 costs what was filled since the last one, and an access pays nothing for that.

use std::mem::offset_of;
use std::ops::Range;
use std::ptr::NonNull;

use crate::bus::signals::Signals;

/// Entries in each bank.
pub const ENTRIES: usize = 2048;
/// Code pages remembered in each bank.
pub const CODE_ENTRIES: usize = 1024;
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
    /// Host address of the page's first byte.
    pub host: usize,
}

impl TlbEntry {
    /// Host address of a linear address in the page.
    #[inline(always)]
    pub fn host_of(&self, linear: u32) -> usize {
        self.host + (linear & (PAGE - 1)) as usize
    }
}

/// What the slow path wants to know of an entry.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Page {
    /// Physical address.
    physical: u64,
    /// Survives a load of CR3.
    global: bool,
    /// The write tag is missing only because the page holds translated code.
    watched: bool,
    /// In which lists of the journal it stands.
    listed: Listed,
}

/// In which lists of a [`Journal`] an entry stands.
#[derive(Clone, Copy, Debug, Default)]
struct Listed {
    local: bool,
    global: bool,
}

/// The numbers of all entries that may hold something, each once in a list.
#[derive(Debug, Default)]
struct Journal {
    local: Vec<u16>,
    global: Vec<u16>,
}

impl Journal {
    /// Notes that entry `index` was filled.
    #[inline]
    fn note(&mut self, index: usize, global: bool, listed: &mut Listed) {
        let (list, is_in) =
            if global { (&mut self.global, &mut listed.global) } else { (&mut self.local, &mut listed.local) };
        if !*is_in {
            *is_in = true;
            list.push(index as u16);
        }
    }

    fn all(&self) -> impl Iterator<Item = usize> {
        self.local.iter().chain(&self.global).map(|&index| usize::from(index))
    }
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
#[repr(C)]
struct CodeEntry {
    /// Linear page, or [`CodeEntry::NONE`].
    linear: u64,
    physical: u64,
    global: bool,
    listed: Listed,
}

impl CodeEntry {
    /// Not a page address.
    const NONE: u64 = u64::MAX;
    const EMPTY: Self =
        Self { linear: Self::NONE, physical: 0, global: false, listed: Listed { local: false, global: false } };
}

/// Where native code finds linear page, physical page and whether that is global in an entry of a code page.
pub(super) const CODE_ENTRY: (usize, usize, usize) =
    (offset_of!(CodeEntry, linear), offset_of!(CodeEntry, physical), offset_of!(CodeEntry, global));

/// Bytes of one.
pub(super) const CODE_ENTRY_BYTES: usize = size_of::<CodeEntry>();

/// Where native code finds whether a page is global, from [`Tlb::pages_from_entries`] and an entry on.
pub(super) const PAGE_GLOBAL: usize = offset_of!(Page, global);

const _: () = assert!(size_of::<Page>() == size_of::<TlbEntry>());

/// Where native code finds the entries of supervisor accesses, from the TLB on; those of user accesses follow.
pub(super) const BANKS: usize = offset_of!(Tlb, entries);

/// Translations of data and code pages.
#[derive(Debug)]
pub struct Tlb {
    /// The two banks, where native code finds them, and room for what [`Self::hidden`] hides.
    entries: [TlbEntry; 3 * ENTRIES],
    pages: Box<[Page; 2 * ENTRIES]>,
    code: Box<[CodeEntry; 2 * CODE_ENTRIES]>,
    /// First entry of the bank in use: 0, or [`ENTRIES`] for privilege level 3.
    bank: usize,
    /// The second bank looks empty, so that each access comes the slow way, which checks its alignment. What is in it is kept behind it.
    hidden: bool,
    filled: Journal,
    code_filled: Journal,
    /// A bit for each 4 MiB of linear addresses: parts of a page of more than 4 KiB may be in here, and INVLPG must drop them all.
    large: [u64; 16],
    a20_mask: u64,
    map_generation: u32,
    /// Counts what makes translations untrue, but for loads of CR3: whoever caches one elsewhere compares it. Never 0, 31 bits.
    generation: u32,
    /// Counts the loads of CR3, which make all translations untrue that are not global.
    loads: u32,
    /// The count began anew.
    wrapped: bool,
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
    #[allow(clippy::large_stack_arrays, reason = "native code finds the entries at a constant distance from the state")]
    pub fn new() -> Self {
        let mut tlb = Self {
            entries: [TlbEntry { read: 0, write: 0, host: 0 }; 3 * ENTRIES],
            pages: boxed(Page { physical: 0, global: false, watched: false, listed: Listed::default() }),
            code: boxed(CodeEntry::EMPTY),
            bank: 0,
            hidden: false,
            filled: Journal::default(),
            code_filled: Journal::default(),
            large: [0; 16],
            a20_mask: u64::MAX,
            map_generation: 0,
            generation: 1,
            loads: 0,
            wrapped: false,
            misses: 0,
        };
        for index in 0..2 * ENTRIES {
            tlb.forget(index);
        }
        tlb
    }

    /// What was found here before may not be true any more.
    #[inline]
    fn next_generation(&mut self) {
        self.generation = (self.generation + 1) & u32::MAX >> 1;
        if self.generation == 0 {
            self.generation = 1;
            self.wrapped = true;
        }
    }

    /// Whether generations began anew since the last call: what is cached elsewhere must then be thrown away.
    pub(super) fn take_wrapped(&mut self) -> bool {
        std::mem::take(&mut self.wrapped)
    }

    /// Whether the next [`Self::take_wrapped`] says so.
    pub(super) fn is_wrapped(&self) -> bool {
        self.wrapped
    }

    /// The loads of CR3 so far.
    pub(super) fn loads(&self) -> u32 {
        self.loads
    }

    /// What is cached elsewhere is to be thought untrue.
    pub(super) fn distrust_copies(&mut self) {
        self.next_generation();
    }

    /// Bytes from an entry to what the slow path knows of its page, modulo the host's address size.
    pub(super) fn pages_from_entries(&self) -> usize {
        self.pages.as_ptr().addr().wrapping_sub(self.entries.as_ptr().addr())
    }

    /// The first entry of the bank in use.
    pub(super) fn bank_pointer(&self) -> *const TlbEntry {
        self.entries.as_ptr().wrapping_add(self.bank)
    }

    /// Where entry `index` of the two banks is.
    #[inline]
    const fn place(hidden: bool, index: usize) -> usize {
        if hidden && index >= ENTRIES { index + ENTRIES } else { index }
    }

    #[inline]
    fn real_entry(&mut self, index: usize) -> &mut TlbEntry {
        &mut self.entries[Self::place(self.hidden, index)]
    }

    #[inline]
    fn forget(&mut self, index: usize) {
        let entry = self.real_entry(index);
        entry.read = Self::absent(index);
        entry.write = Self::absent(index);
    }

    /// Notes that a part of a page of more than 4 KiB is in here.
    fn note_large(&mut self, linear: u32) {
        self.large[(linear >> 28) as usize] |= 1 << (linear >> 22 & 63);
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
        // SAFETY: the bank is 0 or `ENTRIES`. This is on the way of every access to memory.
        unsafe { *self.entries.get_unchecked(index) }
    }

    /// The same in the supervisor's bank, whatever the privilege level.
    #[inline(always)]
    pub fn system_entry(&self, linear: u32) -> TlbEntry {
        self.entries[Self::index(0, linear)]
    }

    /// Chooses the bank by privilege level, and whether alignment is checked, which is so at level 3 alone.
    #[inline]
    pub(super) fn set_user(&mut self, user: bool, checks_alignment: bool) {
        self.bank = usize::from(user) * ENTRIES;
        if checks_alignment != self.hidden {
            self.hide(checks_alignment);
        }
    }

    /// Hides what the second bank has, or shows it again.
    #[cold]
    fn hide(&mut self, hidden: bool) {
        self.hidden = hidden;
        let (seen, kept) = self.entries[ENTRIES..].split_at_mut(ENTRIES);
        if hidden {
            kept.copy_from_slice(seen);
            for (index, entry) in seen.iter_mut().enumerate() {
                (entry.read, entry.write) = (Self::absent(index), Self::absent(index));
            }
            // Nor may anybody else find what is not found here.
            self.next_generation();
        } else {
            seen.copy_from_slice(kept);
        }
    }

    /// Whether accesses at the current privilege level are checked for their alignment.
    #[inline]
    pub(super) fn checks_alignment(&self) -> bool {
        self.hidden
    }

    /// Remembers a page of plain memory.
    pub(super) fn fill(&mut self, user: bool, linear: u32, filling: Filling) {
        let Filling { physical, host, writable, watched, global, large } = filling;
        let page = linear & !(PAGE - 1);
        let index = Self::index(usize::from(user) * ENTRIES, linear);
        *self.real_entry(index) = TlbEntry {
            read: page,
            write: if writable && !watched { page } else { Self::absent(index) },
            host: host.as_ptr().expose_provenance(),
        };
        let page = &mut self.pages[index];
        self.filled.note(index, global, &mut page.listed);
        *page = Page { physical, global, watched: writable && watched, listed: page.listed };
        if large {
            self.note_large(linear);
        }
    }

    /// The physical page of a linear code page, where known.
    #[inline]
    pub(super) fn code_page(&self, user: bool, linear: u64) -> Option<u64> {
        let entry = &self.code[Self::code_index(user, linear)];
        (entry.linear == linear & !0xfff).then_some(entry.physical)
    }

    /// The entries of code pages for a privilege level: [`CODE_ENTRIES`], by the page's number, of [`CODE_ENTRY_BYTES`] each.
    pub(super) fn code_pointer(&self, user: bool) -> *const u8 {
        self.code[Self::code_index(user, 0)..].as_ptr().cast()
    }

    pub(super) fn fill_code(&mut self, user: bool, linear: u64, physical: u64, global: bool, large: bool) {
        let index = Self::code_index(user, linear);
        let entry = &mut self.code[index];
        self.code_filled.note(index, global, &mut entry.listed);
        *entry = CodeEntry { linear: linear & !0xfff, physical: physical & !0xfff, global, listed: entry.listed };
        if large {
            self.note_large(linear as u32);
        }
    }

    /// Forgets everything.
    pub fn flush(&mut self) {
        self.flush_local();
        self.next_generation();
        let mut list = std::mem::take(&mut self.filled.global);
        for index in list.drain(..).map(usize::from) {
            self.pages[index].listed.global = false;
            self.forget(index);
        }
        self.filled.global = list;
        for index in self.code_filled.global.drain(..) {
            self.code[usize::from(index)] = CodeEntry::EMPTY;
        }
        self.large = [0; 16];
    }

    /// Forgets everything but global pages (a load of CR3).
    pub fn flush_local(&mut self) {
        let mut list = std::mem::take(&mut self.filled.local);
        for index in list.drain(..).map(usize::from) {
            let page = &mut self.pages[index];
            page.listed.local = false;
            // Another page may have taken the entry since.
            if !page.global {
                self.forget(index);
            }
        }
        self.filled.local = list;
        for index in self.code_filled.local.drain(..) {
            let entry = &mut self.code[usize::from(index)];
            entry.listed.local = false;
            if !entry.global {
                entry.linear = CodeEntry::NONE;
            }
        }
        self.loads = self.loads.wrapping_add(1);
    }

    /// Forgets the page of `linear`, global or not (INVLPG).
    pub fn flush_page(&mut self, linear: u64) {
        if self.large[(linear >> 28 & 15) as usize] >> (linear >> 22 & 63) & 1 != 0 {
            self.flush_region(linear as u32 >> 22);
            return;
        }
        for user in [false, true] {
            self.forget(Self::index(usize::from(user) * ENTRIES, linear as u32));
            self.code[Self::code_index(user, linear)].linear = CodeEntry::NONE;
        }
        self.next_generation();
    }

    /// Forgets all pages of 4 MiB of linear addresses: what a large page may have left there.
    fn flush_region(&mut self, region: u32) {
        for index in self.filled.all() {
            let entry = &mut self.entries[Self::place(self.hidden, index)];
            if entry.read >> 22 == region {
                entry.read = Self::absent(index);
                entry.write = Self::absent(index);
            }
        }
        for index in self.code_filled.all() {
            let entry = &mut self.code[index];
            if entry.linear >> 22 == u64::from(region) {
                entry.linear = CodeEntry::NONE;
            }
        }
        self.next_generation();
    }

    /// Takes the write tag from every entry that leads to the host page at `host`: it now holds translated code.
    pub fn protect(&mut self, host: NonNull<u8>) {
        let host = host.as_ptr().addr();
        for index in self.filled.all() {
            let entry = &mut self.entries[Self::place(self.hidden, index)];
            if entry.write != Self::absent(index) && entry.host == host {
                entry.write = Self::absent(index);
                self.pages[index].watched = true;
            }
        }
        // Also entries that are gone may be known elsewhere.
        self.next_generation();
    }

    /// Takes the write tag from every entry that leads into this host memory: the next store there asks the bus for its page again.
    pub fn forget_writes(&mut self, host: Range<usize>) {
        for index in self.filled.all() {
            let entry = &mut self.entries[Self::place(self.hidden, index)];
            if entry.write != Self::absent(index) && host.contains(&entry.host) {
                entry.write = Self::absent(index);
            }
        }
        self.next_generation();
    }

    /// Host and physical address of a store of `size` bytes to a page that is watched for its code.
    pub(super) fn watched(&self, user: bool, linear: u32, size: u32) -> Option<(*mut u8, u64)> {
        let index = Self::index(usize::from(user) * ENTRIES, linear);
        let (entry, page) = (self.entries[Self::place(self.hidden, index)], self.pages[index]);
        let hit = page.watched && linear ^ entry.read <= PAGE - size;
        let host = std::ptr::with_exposed_provenance_mut(entry.host_of(linear));
        hit.then_some((host, page.physical | u64::from(linear & (PAGE - 1))))
    }

    /// The page of `linear`, watched so far, holds no code any more: its write tag comes back.
    pub(super) fn unwatch(&mut self, user: bool, linear: u32) {
        let index = Self::index(usize::from(user) * ENTRIES, linear);
        let entry = &mut self.entries[Self::place(self.hidden, index)];
        if self.pages[index].watched && entry.read == linear & !(PAGE - 1) {
            self.pages[index].watched = false;
            entry.write = entry.read;
        }
    }

    /// A number that changes with whatever makes a translation untrue; not 0, 31 bits.
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
    fn where_alignment_is_checked_nothing_is_found_and_nothing_is_lost() {
        let mut tlb = Tlb::new();
        let mut memory = vec![0u8; 0x1000];
        let host = NonNull::new(memory.as_mut_ptr()).unwrap();
        let page = Filling { physical: 0x5000, host, writable: true, watched: false, global: false, large: false };
        for linear in [0x1000, 0x2000] {
            tlb.fill(true, linear, page);
        }
        let before = tlb.generation();
        tlb.set_user(true, true);
        assert_ne!(tlb.generation(), before, "nor is it found elsewhere");
        tlb.fill(true, 0x3000, Filling { watched: true, ..page });
        tlb.flush_page(0x2000);
        for linear in [0x1000, 0x2000, 0x3000] {
            assert!(!hit(tlb.entry(linear).read, linear, 1) && !hit(tlb.entry(linear).write, linear, 1));
        }
        assert!(tlb.watched(true, 0x3ffc, 4).is_some(), "the slow way finds it");
        tlb.unwatch(true, 0x3000);
        tlb.set_user(false, false);
        tlb.set_user(true, false);
        assert_eq!([0x1000, 0x2000, 0x3000].map(|linear| hit(tlb.entry(linear).write, linear, 4)), [true, false, true]);
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
        let start = host.as_ptr().addr();
        tlb.forget_writes(start + 0x1000..start + 0x2000);
        assert!(hit(tlb.entry(0xc000_0000).write, 0xc000_0000, 1), "other memory");
        tlb.forget_writes(start..start + 0x1000);
        assert!(!hit(tlb.entry(0xc000_0000).write, 0xc000_0000, 1) && hit(tlb.entry(0xc000_0000).read, 0xc000_0000, 1));
        tlb.set_user(true, false);
        assert!(!hit(tlb.entry(0x1000).read, 0x1000, 1), "flushed with CR3");
        tlb.set_user(false, false);
        tlb.flush_page(0xc000_0123);
        assert!(!hit(tlb.entry(0xc000_0000).read, 0xc000_0000, 1));
    }

    #[test]
    fn an_entry_that_was_global_or_becomes_so_is_flushed_as_it_is_now() {
        let mut tlb = Tlb::new();
        let mut memory = vec![0u8; 0x1000];
        let host = NonNull::new(memory.as_mut_ptr()).unwrap();
        let local = Filling { physical: 0x5000, host, writable: true, watched: false, global: false, large: false };
        // Entries of one number: linear pages 4 MiB apart.
        tlb.fill(false, 0x0000_1000, local);
        tlb.fill(false, 0xc000_1000, Filling { global: true, ..local });
        tlb.flush_local();
        assert!(hit(tlb.entry(0xc000_1000).read, 0xc000_1000, 1));
        tlb.fill(false, 0x0000_1000, local);
        tlb.flush_local();
        assert!(!hit(tlb.entry(0x1000).read, 0x1000, 1));
        tlb.fill_code(true, 0xc000_1000, 0x5000, true, false);
        tlb.fill_code(true, 0x0040_1000, 0x6000, false, false);
        tlb.flush_local();
        assert_eq!((tlb.code_page(true, 0xc000_1000), tlb.code_page(true, 0x0040_1000)), (None, None));
        for round in 0..4 {
            tlb.fill(false, 0x2000, Filling { global: round % 2 == 0, ..local });
            tlb.fill_code(false, 0x2000, 0x5000, round % 2 == 0, false);
            tlb.flush();
            assert!(!hit(tlb.entry(0x2000).read, 0x2000, 1));
            assert_eq!(tlb.code_page(false, 0x2000), None);
        }
        assert_eq!(tlb.filled.all().count() + tlb.code_filled.all().count(), 0, "nothing is listed for ever");
    }

    #[test]
    fn invlpg_drops_all_of_a_large_page_and_nothing_else() {
        let mut tlb = Tlb::new();
        let mut memory = vec![0u8; 0x1000];
        let host = NonNull::new(memory.as_mut_ptr()).unwrap();
        let small = Filling { physical: 0x5000, host, writable: true, watched: false, global: true, large: false };
        tlb.fill(false, 0xc040_0000, Filling { large: true, ..small });
        tlb.fill(false, 0xc041_5000, Filling { large: true, ..small });
        tlb.fill(false, 0x0001_6000, small);
        tlb.fill_code(false, 0xc041_7000, 0x5000, true, true);
        tlb.flush_page(0x0001_7000);
        assert!(hit(tlb.entry(0xc041_5000).read, 0xc041_5000, 1));
        tlb.flush_page(0xc040_0123);
        assert!(!hit(tlb.entry(0xc041_5000).read, 0xc041_5000, 1));
        assert_eq!(tlb.code_page(false, 0xc041_7000), None);
        assert!(hit(tlb.entry(0x0001_6000).read, 0x0001_6000, 1));
    }
}
