//! The block cache: translated code by where it lies in physical memory. `making` makes blocks, `native` gives them native code,
//! `dropping` is their end.
//!
//! A block is a header and its micro-ops in one piece of an arena: as the interpreter runs them, with a branch's `Link`s to the blocks
//! that follow behind it, and then as they were lifted, where native code may be made of them. Blocks die when their bytes are written:
//! links to them are cut, and where a block that is running dies, its next instruction becomes [`Op::Stale`](super::uop::Op::Stale).
//! Memory comes back by age: it has [`PARTS`], of which one is filled, and where that is full the oldest is emptied and filled next,
//! which happens between blocks only.

mod clock;
mod dropping;
pub mod log;
mod making;
mod native;
mod stats;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::{ptr, slice};

use iced_x86::Instruction;

pub(super) use making::MAX_INSTRUCTIONS;
pub(super) use stats::SAMPLED;
pub use stats::{CodeStats, Exits, Leaves, Sample};

use super::Helper;
use super::cranelift::{Exit, Regions};
use super::lift::{Lifted, Mode};
use super::template::{Native, Tied, Way};
use super::uop::Uop;

/// Parts of the memory for code: of the arena, of native code and its data, and of regions.
pub(super) const PARTS: usize = 8;
/// Slots in a piece of the arena.
const CHUNK: usize = 1 << 16;
/// Entries of the quick table.
const QUICK: usize = 1 << 15;
/// How often a block is interpreted before it waits for native code: it is warm.
const WARM: u32 = 24;
/// How often one that waits is interpreted before it is hot, and all that wait get native code.
const PATIENCE: u32 = 72;
/// How often a block is interpreted before a region is made of it: compiling costs a hundred times as much.
pub(super) const HOT_REGION: u32 = 1000;
/// The longest instruction.
const LONGEST: usize = 15;

/// The blocks that begin on a page.
#[derive(Default)]
struct PageCode {
    /// A bit for each 64 bytes: code may be there. Data often shares a page with code; most stores end here.
    lines: u64,
    numbers: Vec<u32>,
}

/// The 64-byte lines of a page that bytes from `physical` to before `end` touch, as bits; none of bytes on other pages.
fn lines(page: u64, physical: u64, end: u64) -> u64 {
    let (start, stop) = (page << 12, (page + 1) << 12);
    if physical >= stop || end <= start {
        return 0;
    }
    let first = physical.saturating_sub(start) >> 6;
    let last = (end.min(stop) - start - 1) >> 6;
    u64::MAX << first & u64::MAX >> (63 - last)
}

/// What the engine must know of a block to enter it.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub(super) struct Header {
    /// Physical address of its first byte.
    pub physical: u64,
    /// [`Mode::key`].
    pub mode: u64,
    /// Offset in CS of its first byte, less its origin (see [`Mode::origin_bits`]).
    pub eip: u32,
    /// Instructions.
    pub count: u32,
    /// Number in [`Cache::blocks`].
    pub number: u32,
    /// Not zero: no link may be tied to it, for its bytes are compared each time.
    loose: u16,
    /// Slots from the header to the end of its code, where the ops as they were lifted stand, if they are kept.
    pub lifted: u16,
}

impl Header {
    /// Matches no block.
    const NONE: Self = Self { physical: u64::MAX, mode: 0, eip: 0, count: 0, number: 0, loose: 0, lifted: 0 };

    /// The first micro-op of the block whose header is at `header`.
    #[inline(always)]
    pub fn code(header: *const Self) -> *const Uop {
        header.wrapping_add(1).cast()
    }

    /// Whether an offset in CS, which counts from the same origin, is on the page that the block begins on.
    pub fn has_on_page(&self, eip: u32) -> bool {
        let in_page = (self.physical & 0xfff) as i64 + i64::from(eip) - i64::from(self.eip);
        (0..0x1000).contains(&in_page)
    }

    /// Whether a way from `from`, in the block, to `eip` is one of those that somebody who wants attention is looked for on: each way
    /// round a loop has one, or goes round all linear memory.
    pub fn goes_back(&self, from: u32, eip: u32) -> bool {
        if Mode::from_key(self.mode).is_relative() { eip as i32 <= from as i32 } else { eip <= from }
    }

    /// One that no cache has.
    #[cfg(test)]
    #[allow(dead_code, reason = "not every build compiles regions")]
    pub fn for_test(physical: u64, mode: u64, eip: u32, count: u32, number: u32) -> Self {
        Self { physical, mode, eip, count, number, loose: 0, lifted: 0 }
    }
}

/// A way out of a block, in the slots behind its branch.
#[derive(Debug)]
#[repr(C, align(16))]
pub(super) struct Link {
    /// The block that follows, where known.
    pub target: *const Header,
    /// Where it begins, less the origin of the block that leads there.
    pub eip: u32,
    /// Bits below.
    pub kind: u32,
}

impl Link {
    /// Leads to another page: holds only while that page is mapped as it was.
    pub const CROSS: u32 = 1;
    /// Leads back: somebody may want attention.
    pub const BACK: u32 = 2;
    /// Is never tied to a block.
    pub const LOOSE: u32 = 4;
}

const _: () = assert!(size_of::<Link>() == 16 && size_of::<Header>() == 32 && size_of::<Uop>() == 16);

/// An arena slot.
type Slot = u128;

/// An instruction of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// First slot of its code.
    slot: u16,
    /// Bytes from the start of the block.
    pub offset: u16,
}

/// A part of the arena.
#[derive(Default)]
struct Part {
    chunks: Vec<*mut [Slot; CHUNK]>,
    /// Blocks that were put there.
    blocks: usize,
}

/// What is known of a block besides its code.
pub(super) struct Block {
    pub(super) header: *mut Header,
    /// The part of the arena that it is in,
    part: usize,
    /// and all parts, as bits, that something of it is in: its native code may be younger.
    pub(super) parts: u8,
    /// It can be found.
    pub(super) alive: bool,
    /// Bytes.
    len: u32,
    /// The physical page of its last bytes, where that is another one: see [`Op::Spans`](super::uop::Op::Spans).
    second: Option<u64>,
    places: Vec<Place>,
    /// Ops as they were lifted, where they are kept.
    ops: u16,
    helpers: Vec<(Helper, Instruction)>,
    /// Links of other blocks that lead here.
    incoming: Vec<*mut Link>,
    /// Host address of its native code, where there is some,
    pub(super) native: Option<u64>,
    /// and ways of others that lead to that.
    ways: Vec<*mut Way>,
    /// That was made as of a block which is run very often: accesses have sites.
    hot: bool,
    /// A region was asked for that has it inside,
    pub(super) asked: bool,
    /// the region that begins with it,
    pub(super) region: Option<u32>,
    /// and those that it is a part of.
    pub(super) regions: Vec<u32>,
}

impl Block {
    /// Leaves nothing but the number: the part that it was in is emptied.
    fn forget(&mut self) {
        self.header = ptr::null_mut();
        self.alive = false;
        (self.places, self.helpers, self.incoming) = (Vec::new(), Vec::new(), Vec::new());
        (self.ways, self.regions) = (Vec::new(), Vec::new());
    }

    /// The ops as they were lifted, none where they are not kept.
    ///
    /// # Safety
    /// The block is in memory, and stays there as long as the result.
    unsafe fn lifted<'a>(&self) -> &'a [Uop] {
        let header = self.header.cast_const();
        // SAFETY: the caller's promise; `assemble` has put so many ops there.
        unsafe { slice::from_raw_parts(header.cast::<Uop>().add(usize::from((*header).lifted)), usize::from(self.ops)) }
    }

    /// From now on whatever leads to the block leads to this code, and what is tied to other code of it is cut.
    pub(super) fn lead_to(&mut self, native: &mut Native, entry: u64) {
        let Some(old) = self.native.replace(entry) else { return };
        // SAFETY: the block lives, and so do its ways: those of a part that is emptied leave the list.
        unsafe { native.cut(&self.ways, *self.header, old) };
        self.ways.clear();
    }
}

/// What a block is found by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// Physical address of its first byte.
    pub physical: u64,
    /// [`Mode::key`](super::lift::Mode::key).
    pub mode: u64,
    /// Offset in CS of its first byte, less its origin.
    pub eip: u32,
}

/// A hash good enough for addresses.
#[derive(Default)]
pub(super) struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }
    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 29;
    }
}

pub(super) type Map<K, V> = HashMap<K, V, BuildHasherDefault<AddressHasher>>;

/// Translated code.
pub struct Cache {
    arena: [Part; PARTS],
    /// The part that is filled.
    pub(super) part: usize,
    /// Slots used of its last piece.
    used: usize,
    /// Pieces of a part, at most.
    most_chunks: usize,
    pub(super) blocks: Vec<Block>,
    /// Numbers of blocks that are no more.
    free: Vec<u32>,
    pub(super) map: Map<Key, u32>,
    quick: Box<[*const Header; QUICK]>,
    pages: Map<u64, PageCode>,
    /// Single instructions across pages or in devices, with their bytes.
    careful: Map<Key, (*const Header, [u8; LONGEST])>,
    /// Blocks of programs have origins: see [`Mode::origin_bits`]. Regions do without.
    pub(super) relative: bool,
    map_generation: u32,
    flush_wanted: bool,
    /// The part that is filled has no room left for native code or regions.
    part_full: bool,
    pub(super) lifted: Lifted,
    fused: Vec<Uop>,
    /// Native code, where the processor makes some.
    pub(super) native: Option<Box<Native>>,
    /// What is written down of translations.
    pub(super) log: log::CodeLog,
    /// Compiled regions, where the processor makes some.
    pub(super) regions: Option<Box<Regions>>,
    /// Blocks that wait for native code.
    waiting: Vec<native::Waiting>,
    /// What the clock finds running in native code.
    clock: clock::Clock,
    /// All native code is made as for blocks that are run very often.
    all_hot: bool,
    /// How often the interpreter enters a block before that waits for native code, or becomes a region,
    pub(super) threshold: u32,
    /// and how often while it waits.
    patience: u32,
    /// Counts.
    pub stats: CodeStats,
}

// SAFETY: the pointers lead into the cache's own allocations and to one static; nothing else holds them.
unsafe impl Send for Cache {}

static NONE: Header = Header::NONE;

impl Default for Cache {
    fn default() -> Self {
        Self {
            arena: Default::default(),
            part: 0,
            used: CHUNK,
            most_chunks: dropping::MOST_CHUNKS,
            blocks: Vec::new(),
            free: Vec::new(),
            map: Map::default(),
            quick: vec![ptr::from_ref(&NONE); QUICK].try_into().unwrap_or_else(|_| unreachable!("QUICK entries")),
            pages: Map::default(),
            careful: Map::default(),
            relative: true,
            map_generation: 0,
            flush_wanted: false,
            part_full: false,
            lifted: Lifted::default(),
            fused: Vec::new(),
            native: None,
            log: log::CodeLog::default(),
            regions: None,
            waiting: Vec::new(),
            clock: clock::Clock::default(),
            all_hot: false,
            threshold: WARM,
            patience: PATIENCE,
            stats: CodeStats::default(),
        }
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.empty_arena();
    }
}

impl Cache {
    #[inline(always)]
    fn quick_index(physical: u64) -> usize {
        (physical.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - QUICK.trailing_zeros())) as usize & (QUICK - 1)
    }

    /// The block at a physical address, where the quick table has it.
    #[inline(always)]
    pub(super) fn quick(&self, physical: u64, eip: u32, mode: u64) -> Option<*const Header> {
        let header = self.quick[Self::quick_index(physical)];
        // SAFETY: entries lead to `NONE` or to blocks that live: one that dies leaves the table.
        let found = unsafe { &*header };
        (found.physical == physical && found.eip == eip && found.mode == mode).then_some(header)
    }

    /// Offset in CS of instruction number `index` of a block, less the origin.
    pub(super) fn relative_eip(&self, header: *const Header, index: usize) -> u32 {
        // SAFETY: the engine passes headers of blocks that live.
        let header = unsafe { &*header };
        let offset = self.blocks[header.number as usize].places.get(index).map_or(0, |place| place.offset);
        header.eip.wrapping_add(u32::from(offset))
    }

    /// The first instruction at the same slot as instruction `index`: those before it had no ops.
    pub(super) fn first_at(&self, header: *const Header, index: usize) -> usize {
        // SAFETY: as above.
        let places = &self.blocks[unsafe { (*header).number } as usize].places;
        let mut first = index.min(places.len().saturating_sub(1));
        while first > 0 && places[first - 1].slot == places[first].slot {
            first -= 1;
        }
        first
    }

    /// Helper number `index` of a block.
    pub(super) fn helper_of(&self, header: *const Header, index: u32) -> (Helper, Instruction) {
        // SAFETY: as above.
        self.blocks[unsafe { (*header).number } as usize].helpers[index as usize]
    }

    /// The instruction of a block's first helper.
    pub(super) fn first_helper(&self, header: *const Header) -> Option<&Instruction> {
        // SAFETY: as above.
        self.blocks[unsafe { (*header).number } as usize].helpers.first().map(|(_, insn)| insn)
    }

    /// Ties a link to a block.
    pub(super) fn tie(&mut self, link: *mut Link, header: *const Header) {
        // SAFETY: the dispatcher passes a link and a block that live.
        unsafe {
            if (*link).kind & Link::LOOSE != 0 || (*header).loose != 0 || (*link).target == header {
                return;
            }
            if !(*link).target.is_null() {
                let old = (*(*link).target).number as usize;
                self.blocks[old].incoming.retain(|&incoming| incoming != link);
            }
            (*link).target = header;
            self.blocks[(*header).number as usize].incoming.push(link);
        }
    }

    /// Ties the way by which native code was left to a block's native code, where it has some.
    pub(super) fn tie_way(&mut self, way: *mut Way, header: *const Header) {
        // SAFETY: the dispatcher passes a block that lives.
        let target @ Header { number, loose, .. } = unsafe { *header };
        let (Some(native), Some(entry)) = (&mut self.native, self.blocks[number as usize].native) else { return };
        if way.is_null() || loose != 0 {
            return;
        }
        // SAFETY: the dispatcher passes the way of the code that ran last.
        let tied = unsafe { native.tie(way, target, entry) };
        if let Tied::Instead(old) = tied {
            self.blocks[old as usize].ways.retain(|&other| other != way);
        }
        if matches!(tied, Tied::New | Tied::Instead(_)) {
            self.blocks[number as usize].ways.push(way);
        }
    }

    /// Ties the exit by which a region was left to the region that begins with a block, where there is one.
    pub(super) fn tie_exit(&mut self, exit: *mut Exit, header: *const Header, generation: u32) {
        // SAFETY: the dispatcher passes a block that lives.
        let Header { number, loose, .. } = unsafe { *header };
        let (Some(regions), Some(region)) = (&mut self.regions, self.blocks[number as usize].region) else { return };
        if !exit.is_null() && loose == 0 {
            // SAFETY: the dispatcher passes the exit of the code that ran last.
            unsafe { regions.tie(exit, region, generation) };
        }
    }

    /// Host address of a block's native code.
    pub(super) fn native_entry(&self, header: *const Header) -> Option<u64> {
        // SAFETY: the engine passes headers of blocks that live.
        self.blocks[unsafe { (*header).number } as usize].native
    }

    /// Sets how often a block is interpreted before it waits for native code or a region is made of it, and how often while it waits. For
    /// tests; what is in the cache already keeps its count.
    pub fn set_threshold(&mut self, entries: u32, patience: u32) {
        (self.threshold, self.patience) = (entries, patience);
    }

    /// Lets all native code be made as for blocks that are run very often. For tests, before anything runs.
    pub fn set_all_hot(&mut self) {
        self.all_hot = true;
    }

    /// Bounds the memory for code: pieces of 1 MiB of the arena, and bytes of native code. For tests, before anything runs.
    pub fn set_limits(&mut self, arena_mib: usize, native_bytes: usize) {
        self.most_chunks = (arena_mib / PARTS).max(1);
        if let Some(native) = &mut self.native {
            native.set_limit(native_bytes);
        }
    }

    /// Bytes of host memory that blocks and native code take, or took before their part was emptied.
    pub fn memory(&self) -> usize {
        let chunks: usize = self.arena.iter().map(|part| part.chunks.len()).sum();
        chunks * size_of::<[Slot; CHUNK]>() + self.native.as_ref().map_or(0, |native| native.memory())
    }

    /// Everything is to be dropped before the next block runs.
    pub(super) fn want_flush(&mut self) {
        self.flush_wanted = true;
    }

    /// The oldest part is to be emptied before the next block runs: native code or regions have no room, or a test says so.
    pub fn want_room(&mut self) {
        self.part_full = true;
    }

    /// Whether a block that is in memory can still be found.
    fn alive(&self, header: *const Header) -> bool {
        // SAFETY: it is in memory.
        self.blocks[unsafe { (*header).number } as usize].alive
    }

    /// The block at a physical address, where there is one.
    pub(super) fn at(&mut self, physical: u64, eip: u32, mode: u64) -> Option<*const Header> {
        self.quick(physical, eip, mode).or_else(|| self.find(Key { physical, mode, eip }))
    }

    /// The block of a key, where there is one.
    pub(super) fn find(&mut self, key: Key) -> Option<*const Header> {
        let &number = self.map.get(&key)?;
        let header = self.blocks[number as usize].header.cast_const();
        self.quick[Self::quick_index(key.physical)] = header;
        Some(header)
    }
}
