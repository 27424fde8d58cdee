//! The block cache: translated code by where it lies in physical memory.
//!
//! A block is a header and its micro-ops in one piece of an arena; after a branch stand its `Link`s to the blocks
//! that follow. Blocks die when their bytes are written: links to them are cut, and where a block that is running
//! dies, its next instruction becomes [`Op::Stale`]. Memory comes back when everything is dropped at once, which
//! happens when there is too much of it, and only between blocks.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ptr;
use std::time::Instant;

use iced_x86::{Decoder, DecoderError, DecoderOptions, Instruction};

use super::cpuid::CpuModel;
use super::fault::Fault;
use super::lift::{Ends, Lifted, Mode, lift, lift_too_long};
use super::state::SegReg;
use super::template::{Native, Tied, Way};
use super::uop::{Op, Uop};
use super::{Cpu, Helper, pass};
use crate::bus::{Bus, CodePolicy};

/// Instructions in a block, at most.
const MAX_INSTRUCTIONS: usize = 48;
/// Bytes of code in a block, at most.
const MAX_BYTES: usize = 400;
/// Slots in a piece of the arena.
const CHUNK: usize = 1 << 16;
/// Pieces of the arena (1 MiB each) after which everything is dropped.
const MAX_CHUNKS: usize = 48;
/// Blocks after which the same happens.
const MAX_BLOCKS: usize = 200_000;
/// Entries of the quick table.
const QUICK: usize = 1 << 15;
/// How often a block is interpreted before it becomes native code.
const HOT: u32 = 24;
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
    /// Offset in CS of its first byte.
    pub eip: u32,
    /// Instructions.
    pub count: u32,
    /// Number in [`Cache::blocks`].
    pub number: u32,
    /// Not zero: no link may be tied to it, for its bytes are compared each time.
    loose: u32,
}

impl Header {
    /// Matches no block.
    const NONE: Self = Self { physical: u64::MAX, mode: 0, eip: 0, count: 0, number: 0, loose: 0 };

    /// The first micro-op of the block whose header is at `header`.
    #[inline(always)]
    pub fn code(header: *const Self) -> *const Uop {
        header.wrapping_add(1).cast()
    }
}

/// A way out of a block, in the slots behind its branch.
#[derive(Debug)]
#[repr(C, align(16))]
pub(super) struct Link {
    /// The block that follows, where known.
    pub target: *const Header,
    /// Where it begins.
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
struct Place {
    /// First slot of its code.
    slot: u16,
    /// Bytes from the start of the block.
    offset: u16,
}

/// What is known of a block besides its code.
struct Block {
    header: *mut Header,
    /// Bytes.
    len: u32,
    places: Vec<Place>,
    helpers: Vec<(Helper, Instruction)>,
    /// Links of other blocks that lead here.
    incoming: Vec<*mut Link>,
    /// Host address of its native code, where there is some,
    native: Option<u64>,
    /// and ways of others that lead to that.
    ways: Vec<*mut Way>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    physical: u64,
    mode: u64,
    eip: u32,
}

/// A hash good enough for addresses.
#[derive(Default)]
struct AddressHasher(u64);

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

type Map<K, V> = HashMap<K, V, BuildHasherDefault<AddressHasher>>;

/// Counts for people who watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodeStats {
    /// Blocks translated.
    pub blocks: u64,
    /// Guest instructions translated.
    pub instructions: u64,
    /// Blocks dropped because their code was written.
    pub killed: u64,
    /// Times that everything was dropped.
    pub flushes: u64,
    /// Turns of the dispatcher.
    pub dispatches: u64,
    /// Blocks that native code was made of,
    pub native_blocks: u64,
    /// their instructions,
    pub native_instructions: u64,
    /// the bytes of that code,
    pub native_bytes: u64,
    /// and the nanoseconds that it took.
    pub native_nanos: u64,
}

/// Translated code.
pub struct Cache {
    chunks: Vec<*mut [Slot; CHUNK]>,
    /// Slots used of the last piece.
    used: usize,
    blocks: Vec<Block>,
    map: Map<Key, u32>,
    quick: Box<[*const Header; QUICK]>,
    pages: Map<u64, PageCode>,
    /// Single instructions across pages or in devices, with their bytes.
    careful: Map<Key, (*const Header, [u8; LONGEST])>,
    map_generation: u32,
    flush_wanted: bool,
    lifted: Lifted,
    fused: Vec<Uop>,
    /// Native code, where the processor makes some.
    pub(super) native: Option<Box<Native>>,
    /// How often the interpreter enters a block before that.
    pub(super) threshold: u32,
    /// Counts.
    pub stats: CodeStats,
}

// SAFETY: the pointers lead into the cache's own allocations and to one static; nothing else holds them.
unsafe impl Send for Cache {}

static NONE: Header = Header::NONE;

impl Default for Cache {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            used: CHUNK,
            blocks: Vec::new(),
            map: Map::default(),
            quick: vec![ptr::from_ref(&NONE); QUICK].try_into().unwrap_or_else(|_| unreachable!("QUICK entries")),
            pages: Map::default(),
            careful: Map::default(),
            map_generation: 0,
            flush_wanted: false,
            lifted: Lifted::default(),
            fused: Vec::new(),
            native: None,
            threshold: HOT,
            stats: CodeStats::default(),
        }
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.free_chunks();
    }
}

/// Whether code can be translated from a page, or why not.
enum Outcome {
    Done(*const Header),
    /// The first instruction crosses the page, or is too long, or beyond the limit of CS.
    Careful,
}

/// What is known of a block whose ops were just lifted.
struct LiftedBlock {
    /// Where its instructions begin, in bytes from its start.
    offsets: [u16; MAX_INSTRUCTIONS],
    /// Instructions.
    count: usize,
    /// Bytes.
    len: usize,
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
        // SAFETY: entries lead to `NONE` or to blocks that live until the table is cleared.
        let found = unsafe { &*header };
        (found.physical == physical && found.eip == eip && found.mode == mode).then_some(header)
    }

    /// Offset in CS of instruction number `index` of a block.
    pub(super) fn eip_of(&self, header: *const Header, index: usize) -> u32 {
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
    pub(super) fn tie_way(&mut self, way: *mut Way, header: *const Header, generation: u32) {
        // SAFETY: the dispatcher passes a block that lives.
        let target @ Header { number, loose, .. } = unsafe { *header };
        let (Some(native), Some(entry)) = (&mut self.native, self.blocks[number as usize].native) else { return };
        if way.is_null() || loose != 0 {
            return;
        }
        // SAFETY: the dispatcher passes the way of the code that ran last.
        let tied = unsafe { native.tie(way, target, entry, generation) };
        if let Tied::Instead(old) = tied {
            self.blocks[old as usize].ways.retain(|&other| other != way);
        }
        if matches!(tied, Tied::New | Tied::Instead(_)) {
            self.blocks[number as usize].ways.push(way);
        }
    }

    /// Host address of a block's native code.
    pub(super) fn native_entry(&self, header: *const Header) -> Option<u64> {
        // SAFETY: the engine passes headers of blocks that live.
        self.blocks[unsafe { (*header).number } as usize].native
    }

    /// Sets how often a block is interpreted before native code is made of it, where any is made. For tests; what is in the
    /// cache already keeps its count.
    pub fn set_threshold(&mut self, entries: u32) {
        self.threshold = entries;
    }

    /// Everything is to be dropped before the next block runs.
    pub(super) fn want_flush(&mut self) {
        self.flush_wanted = true;
    }

    fn free_chunks(&mut self) {
        for chunk in self.chunks.drain(..) {
            // SAFETY: each came from `Box::into_raw` and nobody uses it any more.
            drop(unsafe { Box::from_raw(chunk) });
        }
        self.used = CHUNK;
    }

    /// Drops all blocks. Never while one runs.
    fn flush(&mut self, bus: &mut dyn Bus) {
        for page in self.pages.keys() {
            bus.ram().mark_code(*page, false);
        }
        self.pages.clear();
        self.map.clear();
        self.quick.fill(&raw const NONE);
        self.blocks.clear();
        self.careful.clear();
        self.free_chunks();
        if let Some(native) = &mut self.native {
            native.flush();
        }
        self.flush_wanted = false;
        self.stats.flushes += 1;
    }

    fn allocate(&mut self, slots: usize) -> *mut Slot {
        if self.used + slots > CHUNK {
            let chunk: Box<[Slot]> = vec![0; CHUNK].into_boxed_slice();
            self.chunks.push(Box::into_raw(chunk).cast());
            self.used = 0;
        }
        let at = self.chunks.last().map_or(ptr::null_mut(), |&chunk| chunk.cast::<Slot>().wrapping_add(self.used));
        self.used += slots;
        at
    }

    fn find(&mut self, key: Key) -> Option<*const Header> {
        let &number = self.map.get(&key)?;
        let header = self.blocks[number as usize].header.cast_const();
        self.quick[Self::quick_index(key.physical)] = header;
        Some(header)
    }

    /// The physical bytes of a block: first, and behind the last.
    fn bytes_of(&self, number: u32) -> (u64, u64) {
        let block = &self.blocks[number as usize];
        // SAFETY: blocks live until everything is dropped.
        let start = unsafe { (*block.header).physical };
        (start, start + u64::from(block.len))
    }

    /// Takes a block out of everything that leads to it.
    fn kill(&mut self, number: u32) {
        let block = &mut self.blocks[number as usize];
        // SAFETY: blocks live until everything is dropped.
        let Header { physical, mode, eip, .. } = unsafe { *block.header };
        for link in block.incoming.drain(..) {
            // SAFETY: links lie in the arena, which lives as long as the block does.
            unsafe { (*link).target = ptr::null() };
        }
        let header = block.header.cast_const();
        let quick = &mut self.quick[Self::quick_index(physical)];
        if ptr::eq(*quick, header) {
            *quick = &raw const NONE;
        }
        self.map.remove(&Key { physical, mode, eip });
        if let (Some(native), Some(entry)) = (&mut self.native, block.native) {
            // SAFETY: the block's ways were tied since the last flush, and all live until the next.
            unsafe { native.cut(&block.ways, *header, entry) };
            block.ways.clear();
        }
        self.stats.killed += 1;
    }

    /// Makes instruction `after + 1` of a block leave it, where there is one.
    fn make_stale(&mut self, header: *const Header, after: usize) {
        // SAFETY: the running block lives.
        let number = unsafe { (*header).number } as usize;
        if let Some(place) = self.blocks[number].places.get(after + 1) {
            let code = Header::code(header).cast_mut().wrapping_add(usize::from(place.slot));
            // SAFETY: the place is inside the block's code.
            unsafe { (*code).code = Op::Stale {}.code() };
        }
    }

    /// Puts a lifted block into memory. A loose one is found by nobody.
    fn assemble(&mut self, key: Key, offsets: &[u16], len: u32, loose: bool) -> *const Header {
        pass::dead_flags(&mut self.lifted.ops);
        pass::fuse(&self.lifted.ops, &mut self.fused);
        // Some more than needed where a branch is fused: its own links are counted, too.
        let links: usize = self.fused.iter().map(|uop| link_count(uop.op())).sum();
        let opened = self.native.is_some() && !loose && !mode_is_single(key.mode);
        if opened {
            self.fused.insert(0, Uop::new(Op::Enter {}).imm(self.threshold));
        }
        let slots = 2 + self.fused.len() + links;
        let number = self.blocks.len() as u32;
        let base = self.allocate(slots);
        let header = base.cast::<Header>();
        let mut places: Vec<Place> = offsets.iter().map(|&offset| Place { slot: u16::MAX, offset }).collect();
        let code = Header::code(header).cast_mut();
        let mut slot = 0;
        let mut index = 0;
        while index < self.fused.len() {
            let uop = self.fused[index];
            let place = &mut places[usize::from(uop.y).min(offsets.len() - 1)];
            place.slot = place.slot.min(slot as u16);
            // SAFETY: `slots` slots are there, as many as the ops and their links.
            unsafe { *code.wrapping_add(slot) = uop };
            slot += 1;
            let op = uop.op();
            let mut targets = [uop.imm, uop.imm2];
            if uop.takes_branch() {
                index += 1;
                let branch = self.fused[index];
                targets = [branch.imm, branch.imm2];
                places[usize::from(branch.y).min(offsets.len() - 1)].slot = slot as u16;
            }
            let from = key.eip.wrapping_add(u32::from(offsets[usize::from(uop.y).min(offsets.len() - 1)]));
            for &eip in &targets[..link_count(op)] {
                let mut kind = 0;
                let in_page = (key.physical & 0xfff) as i64 + i64::from(eip) - i64::from(key.eip);
                if !(0..0x1000).contains(&in_page) {
                    kind |= Link::CROSS;
                }
                if eip <= from {
                    kind |= Link::BACK;
                }
                if loose || mode_is_single(key.mode) {
                    kind |= Link::LOOSE;
                }
                // SAFETY: as above.
                unsafe { code.wrapping_add(slot).cast::<Link>().write(Link { target: ptr::null(), eip, kind }) };
                slot += 1;
            }
            index += 1;
        }
        // Instructions without ops stand where the next one does.
        let mut following = slot as u16;
        for place in places.iter_mut().rev() {
            if place.slot == u16::MAX {
                place.slot = following;
            }
            following = place.slot;
        }
        let Key { physical, mode, eip } = key;
        let count = offsets.len() as u32;
        // SAFETY: the first two slots are the header's.
        unsafe { header.write(Header { physical, mode, eip, count, number, loose: u32::from(loose) }) };
        let helpers = self.lifted.helpers.clone();
        let block = Block { header, len, places, helpers, incoming: Vec::new(), native: None, ways: Vec::new() };
        self.blocks.push(block);
        if !loose {
            self.map.insert(key, number);
            self.quick[Self::quick_index(physical)] = header;
            let page = self.pages.entry(physical >> 12).or_default();
            page.numbers.push(number);
            page.lines |= lines(physical >> 12, physical, physical + u64::from(len));
        }
        self.stats.blocks += 1;
        self.stats.instructions += u64::from(count);
        header
    }
}

fn mode_is_single(key: u64) -> bool {
    Mode::from_key(key).is_single()
}

/// Whether what could not be decoded is an instruction of more than 15 bytes: one whose first 15 are all prefixes and
/// operands still wanting more. Without its first prefix it wants more than the 14 that are left.
fn is_too_long(mode: Mode, bytes: &[u8]) -> bool {
    let Some(rest) = bytes.get(1..LONGEST) else { return false };
    let mut decoder = Decoder::new(mode.bitness(), rest, DecoderOptions::NONE);
    let _ = decoder.decode();
    decoder.last_error() == DecoderError::NoMoreBytes
}

/// Links behind an op.
fn link_count(op: Op) -> usize {
    match op {
        Op::Jump {} | Op::CallFlat {} => 1,
        Op::JumpIf { .. }
        | Op::JumpCount { .. }
        | Op::CompareJump { .. }
        | Op::DecJump { .. }
        | Op::AluJump { .. }
        | Op::CompareLoadJump { .. }
        | Op::CompareMemJump { .. } => 2,
        _ => 0,
    }
}

impl Cpu {
    /// Drops translated code of these bytes of physical memory: they have just been written.
    pub fn invalidate_code(&mut self, bus: &mut dyn Bus, physical: u64, len: u64) {
        let end = physical.saturating_add(len);
        for page in physical >> 12..=end.saturating_sub(1).max(physical) >> 12 {
            let Some(code) = self.code.pages.get_mut(&page) else {
                bus.ram().mark_code(page, false);
                continue;
            };
            if code.lines & lines(page, physical, end) == 0 {
                continue;
            }
            let numbers = std::mem::take(&mut code.numbers);
            let (hit, kept): (Vec<u32>, Vec<u32>) = numbers.into_iter().partition(|&number| {
                let (start, stop) = self.code.bytes_of(number);
                start < end && physical < stop
            });
            for number in hit {
                self.code.kill(number);
                self.leave_if_running(number);
            }
            let left = kept.iter().fold(0, |all, &number| {
                let (start, stop) = self.code.bytes_of(number);
                all | lines(page, start, stop)
            });
            if kept.is_empty() {
                self.code.pages.remove(&page);
                bus.ram().mark_code(page, false);
            } else if let Some(code) = self.code.pages.get_mut(&page) {
                *code = PageCode { lines: left, numbers: kept };
            }
        }
    }

    /// Makes native code of the block that runs: it was entered often enough.
    pub(super) fn make_native(&mut self, bus: &mut dyn Bus) {
        let started = Instant::now();
        let header = self.exec.block;
        // SAFETY: the block that ran lives until the next flush.
        let Header { physical, mode, eip, count, number, .. } = unsafe { *header };
        let mode = Mode::from_key(mode);
        let key = Key { physical, mode: mode.key(), eip };
        let live = self.code.map.get(&key) == Some(&number);
        // Where the block has died since, or memory is full, it is interpreted on.
        let opening = Header::code(header).cast_mut();
        // SAFETY: it is the block's first op.
        unsafe { (*opening).imm = u32::MAX };
        if !live {
            return;
        }
        let lifted = self.lift_block(bus, key, mode);
        let Some(LiftedBlock { offsets, .. }) = lifted.filter(|lifted| lifted.count == count as usize) else { return };
        pass::dead_flags(&mut self.code.lifted.ops);
        let Cache { native: Some(native), lifted, .. } = &mut self.code else { return };
        let Some((entry, bytes)) = native.translate(header, &lifted.ops, &offsets) else {
            self.code.want_flush();
            return;
        };
        self.code.blocks[number as usize].native = Some(entry);
        // SAFETY: as above.
        unsafe { (*opening).code = Op::Native {}.code() };
        let stats = &mut self.code.stats;
        stats.native_blocks += 1;
        stats.native_instructions += u64::from(count);
        stats.native_bytes += bytes as u64;
        stats.native_nanos += started.elapsed().as_nanos() as u64;
    }

    fn leave_if_running(&mut self, number: u32) {
        let (header, op) = (self.exec.block, self.exec.op);
        if header.is_null() || op.is_null() {
            return;
        }
        // SAFETY: `exec` leads to the block that runs now and to one of its ops.
        let (running, index) = unsafe { ((*header).number, usize::from((*op).y)) };
        if running == number {
            self.code.make_stale(header, index);
            self.exec.died = true;
        }
    }

    /// Takes in what happened outside: DMA into code, a change of the memory map, or too much code.
    pub(super) fn sync_code(&mut self, bus: &mut dyn Bus) {
        for page in bus.ram().take_modified_code() {
            self.invalidate_code(bus, u64::from(page) << 12, 0x1000);
        }
        let generation = bus.signals().map_generation();
        let full = self.code.chunks.len() > MAX_CHUNKS || self.code.blocks.len() > MAX_BLOCKS;
        let wrapped = self.tlb.take_wrapped();
        if self.code.flush_wanted || full || wrapped || generation != self.code.map_generation {
            self.code.map_generation = generation;
            self.exec.forget_link();
            self.code.flush(bus);
            self.tlb.flush();
        }
    }

    /// The block at `rip` in this mode.
    ///
    /// # Errors
    /// The fault of fetching its first instruction.
    pub(super) fn block(&mut self, bus: &mut dyn Bus, mode: Mode) -> Result<*const Header, Fault> {
        let rip = self.state.rip;
        if rip > u64::from(mode.limit) {
            return Err(Fault::gp(0));
        }
        let eip = rip as u32;
        let linear = self.state.segment(SegReg::Cs).base.wrapping_add(rip) & 0xffff_ffff;
        let page = self.fetch_page(bus, linear)?;
        let physical = page | linear & 0xfff;
        let key = Key { physical, mode: mode.key(), eip };
        if let Some(header) = self.code.quick(physical, eip, key.mode) {
            return Ok(header);
        }
        if let Some(header) = self.code.find(key) {
            return Ok(header);
        }
        let policy = bus.page(page).code;
        if policy != CodePolicy::Volatile
            && let Outcome::Done(header) = self.translate_block(bus, key, mode)
        {
            if policy == CodePolicy::Ram && !bus.ram().has_code(page >> 12) {
                self.protect_code(bus, page);
            }
            return Ok(header);
        }
        self.translate_careful(bus, linear, key, mode)
    }

    fn translate_block(&mut self, bus: &mut dyn Bus, key: Key, mode: Mode) -> Outcome {
        let Some(LiftedBlock { offsets, count, len }) = self.lift_block(bus, key, mode) else {
            return Outcome::Careful;
        };
        Outcome::Done(self.code.assemble(key, &offsets[..count], len as u32, false))
    }

    /// Lifts the instructions of a block into `code.lifted`. `None`: the first is one that must be looked at each time.
    fn lift_block(&mut self, bus: &mut dyn Bus, key: Key, mode: Mode) -> Option<LiftedBlock> {
        let mut bytes = [0; MAX_BYTES];
        let in_page = 0x1000 - (key.physical as usize & 0xfff);
        let in_limit = (mode.limit - key.eip) as usize;
        let available = in_page.min(in_limit.saturating_add(1)).min(MAX_BYTES);
        let bytes = &mut bytes[..available];
        self.read_code(bus, key.physical, bytes);

        self.code.lifted.clear();
        let mut decoder = Decoder::with_ip(mode.bitness(), bytes, u64::from(key.eip), DecoderOptions::NONE);
        let mut insn = Instruction::default();
        let mut offsets = [0u16; MAX_INSTRUCTIONS];
        let mut count = 0;
        let most = if mode.is_single() { 1 } else { MAX_INSTRUCTIONS };
        let mut len = 0;
        loop {
            let mut ends = Ends::No;
            let full = count == most || len == bytes.len();
            if !full {
                decoder.decode_out(&mut insn);
                if decoder.last_error() == DecoderError::NoMoreBytes {
                    if count == 0 {
                        return None;
                    }
                } else {
                    let too_long = insn.is_invalid() && is_too_long(mode, &bytes[len..]);
                    ends = self.code.lift_one(&insn, mode, self.model, count, too_long);
                    offsets[count] = len as u16;
                    count += 1;
                    len = decoder.position();
                    if ends == Ends::No {
                        continue;
                    }
                }
            }
            if ends == Ends::No {
                let next = key.eip.wrapping_add(len as u32);
                let last = count.saturating_sub(1) as u16;
                self.code.lifted.ops.push(Uop { y: last, ..Uop::new(Op::Jump {}).imm(next) });
            }
            return Some(LiftedBlock { offsets, count, len });
        }
    }

    /// Translates one instruction that lies across pages or limits or in a device. Its bytes are compared each time.
    fn translate_careful(
        &mut self,
        bus: &mut dyn Bus,
        linear: u64,
        key: Key,
        mode: Mode,
    ) -> Result<*const Header, Fault> {
        let mut bytes = [0; LONGEST];
        let in_limit = ((mode.limit - key.eip) as usize).saturating_add(1);
        let wanted = in_limit.min(LONGEST);
        if let Some(&(header, known)) = self.code.careful.get(&key) {
            // SAFETY: the map leads to live blocks.
            let len = self.code.blocks[unsafe { (*header).number } as usize].len as usize;
            let fetched = self.fetch(bus, linear, &mut bytes[..len])?;
            if fetched == len && bytes[..len] == known[..len] {
                return Ok(header);
            }
        }
        let fetched = self.fetch(bus, linear, &mut bytes[..wanted])?;
        let mut decoder = Decoder::with_ip(mode.bitness(), &bytes[..fetched], u64::from(key.eip), DecoderOptions::NONE);
        let insn = decoder.decode();
        if decoder.last_error() == DecoderError::NoMoreBytes {
            if fetched < wanted {
                // The next page is missing: this is its fault.
                let next = (linear + fetched as u64) & 0xffff_ffff;
                self.fetch_page(bus, next)?;
            }
            return Err(Fault::gp(0));
        }
        self.code.lifted.clear();
        let too_long = insn.is_invalid() && is_too_long(mode, &bytes[..fetched]);
        if self.code.lift_one(&insn, mode, self.model, 0, too_long) == Ends::No {
            self.code.lifted.ops.push(Uop::new(Op::Jump {}).imm(insn.next_ip() as u32));
        }
        let header = self.code.assemble(key, &[0], insn.len() as u32, true);
        self.code.careful.insert(key, (header, bytes));
        Ok(header)
    }

    fn read_code(&mut self, bus: &mut dyn Bus, physical: u64, into: &mut [u8]) {
        for (index, chunk) in into.chunks_mut(8).enumerate() {
            let value = self.read_physical(bus, physical + 8 * index as u64, chunk.len() as u32);
            chunk.copy_from_slice(&value.to_le_bytes()[..chunk.len()]);
        }
    }
}

impl Cache {
    fn lift_one(&mut self, insn: &Instruction, mode: Mode, model: CpuModel, number: usize, too_long: bool) -> Ends {
        let from = self.lifted.ops.len();
        let ends = if too_long {
            lift_too_long(&mut self.lifted, insn, mode)
        } else {
            lift(&mut self.lifted, insn, mode, model)
        };
        for uop in &mut self.lifted.ops[from..] {
            uop.y = number as u16;
        }
        ends
    }
}
