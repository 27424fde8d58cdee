//! Native code for x86-64 hosts: each micro-op becomes a few host instructions, block by block.
//!
//! ```text
//! block, entered often ─▶ its ops as lifted ─▶ translator: templates ─▶ code memory ◀─ ways patched, sites filled
//! ```
//! The interpreter stays the reference and the way out: an op without a template, a miss of the TLB, a fault, a device are all its
//! work, an op at a time. A block begins in the interpreter; native code is entered from there and from other native code.

mod alu;
mod control;
mod emitter;
mod flags;
mod float;
mod group;
mod guarded;
mod host;
mod memory;
mod region;
mod registers;
mod resume;
mod returns;
mod run;
mod shift;
mod stubs;
mod translator;
mod vector;
mod x87;

pub(super) use run::{Run, enter, left};

use control::JUMPS;
use emitter::{Assembler, Fixup};
use group::Groups;
use host::{CODE_BYTES, CodeMemory, DATA_BYTES};
use stubs::Stubs;
use translator::{Cold, Parts, Translator};

use super::block::{Header, Link, PARTS, Place};
use super::lift::Mode;
use super::pass::FlagLives;
use super::uop::Uop;

/// A way out of a block, in the data memory.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Way {
    /// The generation of the TLB and the origin for which it holds, where it leads to another page.
    valid: u64,
    /// Where it leads, less the origin that holds on the way there.
    pub eip: u32,
    /// Bits of [`Link`].
    kind: u32,
    /// What the way adds to the origin.
    pages: u32,
    /// Offset in the code of the displacement that is patched.
    jump: u32,
    /// Offset in the code of where that leads while the way is not tied.
    stub: u32,
    /// Number of the block that it is tied to.
    target: Option<u32>,
    /// What it led to last.
    place: CodePlace,
}

/// Native code, and what must still be so where the TLB has moved on before it may be entered again.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct CodePlace {
    /// Host address; 0: nowhere.
    entry: u64,
    /// The physical page that the linear one must be mapped to.
    physical: u64,
}

impl CodePlace {
    const NOWHERE: Self = Self { entry: 0, physical: 0 };

    /// The code of a block.
    pub fn new(entry: u64, header: Header) -> Self {
        Self { entry, physical: header.physical & !0xfff }
    }
}

/// An entry of a jump table.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
pub(super) struct Jump {
    /// `generation << 33 | offset`.
    key: u64,
    place: CodePlace,
}

/// Where what is rare begins in code memory: it is somewhat more than the rest.
const RARE: usize = CODE_BYTES * 3 / 8;

/// Jump tables: as many modes may take turns before one loses its table.
const TABLES: usize = 16;

/// The data memory, of which one part is filled.
struct Data {
    start: *mut u8,
    /// Where what is free begins. Before it lies what code that runs looks at, close together for the sake of the host's caches.
    used: usize,
    /// Where it ends. Behind it lies what is seldom looked at, which fills the part from its end.
    seldom: usize,
}

impl Data {
    /// Room for what is looked at `often` or seldom, a multiple of 16 bytes. What it holds is left from before.
    fn allocate(&mut self, bytes: usize, often: bool) -> Option<*mut u8> {
        let bytes = bytes.next_multiple_of(16);
        let seldom = self.seldom.checked_sub(bytes).filter(|&at| at >= self.used)?;
        let at = if often { self.used } else { seldom };
        if often {
            self.used += bytes;
        } else {
            self.seldom = seldom;
        }
        Some(self.start.wrapping_add(at))
    }
}

/// Bytes of a part: of code that is run often, of what is rare, and of data.
#[derive(Clone, Copy)]
struct Sizes {
    often: usize,
    rare: usize,
    data: usize,
}

impl Sizes {
    /// All that there is, where so much is taken by what stays.
    fn whole(fixed: usize) -> Self {
        let part = |bytes: usize| bytes / PARTS & !63;
        Self { often: part(RARE - fixed), rare: part(CODE_BYTES - RARE), data: part(DATA_BYTES) }
    }
}

/// The jump table of a mode.
struct Table {
    mode: u64,
    jumps: Box<[Jump]>,
    /// Where something was put, up to [`FEW_JUMPS`] places and one more: to clear all of a table takes longer than what is done between two
    /// changes of its mode.
    filled: Vec<u16>,
    /// Number of the ring of returns that belongs to it.
    ring: usize,
}

/// As many places are cleared one by one.
const FEW_JUMPS: usize = JUMPS / 32;

impl Table {
    fn new(mode: u64, ring: usize) -> Self {
        Self { mode, jumps: vec![NOWHERE; JUMPS].into_boxed_slice(), filled: Vec::new(), ring }
    }

    /// Puts a jump to `eip` into its place.
    fn put(&mut self, eip: u32, jump: Jump) {
        let at = eip as usize & (JUMPS - 1);
        if self.jumps[at].place.entry == 0 && self.filled.len() <= FEW_JUMPS {
            self.filled.push(at as u16);
        }
        self.jumps[at] = jump;
    }

    /// Forgets all jumps.
    fn clear(&mut self) {
        if self.filled.len() > FEW_JUMPS {
            self.jumps.fill(NOWHERE);
        } else {
            for &at in &self.filled {
                self.jumps[usize::from(at)] = NOWHERE;
            }
        }
        self.filled.clear();
    }
}

/// All native code.
pub(super) struct Native {
    memory: CodeMemory,
    asm: Assembler,
    stubs: Stubs,
    /// Host address of the code that runs a region.
    region: u64,
    /// Bytes of code that stay: the stubs.
    fixed: usize,
    sizes: Sizes,
    /// The part that is filled.
    part: usize,
    /// Parts that something was ever put into.
    touched: usize,
    /// Where the next code goes,
    used: usize,
    /// and what is rare of it, which stands behind all the rest: so what is not lies close together.
    rare: usize,
    data: Data,
    tables: Vec<Table>,
    cold: Vec<Cold>,
    calls: Vec<Fixup>,
    groups: Groups,
    lives: Vec<FlagLives>,
}

// SAFETY: the pointers lead into the value's own mappings.
unsafe impl Send for Native {}

impl Native {
    /// An empty code cache.
    ///
    /// # Errors
    /// In words, where the host gives no memory for code.
    pub fn new() -> Result<Self, String> {
        let mut memory = CodeMemory::new()?;
        let mut asm = Assembler::new();
        asm.start(memory.code());
        let stubs = Stubs::emit(&mut asm);
        let region = region::emit(&mut asm, &stubs);
        memory.write(0, asm.code());
        let fixed = (asm.len() + 63) & !63;
        let data = Data { start: memory.data(), used: 0, seldom: 0 };
        let mut native = Self {
            memory,
            asm,
            stubs,
            region,
            fixed,
            sizes: Sizes::whole(fixed),
            part: 0,
            touched: 0,
            used: 0,
            rare: 0,
            data,
            tables: Vec::new(),
            cold: Vec::new(),
            calls: Vec::new(),
            groups: Groups::default(),
            lives: Vec::new(),
        };
        native.fill(0);
        Ok(native)
    }

    /// Puts what is translated from now on into a part. Nothing of what was there is used any more.
    pub fn fill(&mut self, part: usize) {
        let Sizes { often, rare, data } = self.sizes;
        self.part = part;
        self.touched = self.touched.max(part + 1);
        self.used = self.fixed + part * often;
        self.rare = RARE + part * rare;
        (self.data.used, self.data.seldom) = (part * data, (part + 1) * data);
    }

    /// Whether nothing is in the part that is filled.
    pub fn part_is_empty(&self) -> bool {
        self.used == self.fixed + self.part * self.sizes.often
    }

    /// Whether a way with this host address is in a part.
    pub fn holds_way(&self, part: usize, address: usize) -> bool {
        let offset = address.wrapping_sub(self.data.start.addr());
        (part * self.sizes.data..(part + 1) * self.sizes.data).contains(&offset)
    }

    /// Bounds the bytes of code, and of data by twice as much. Before anything is translated.
    pub fn set_limit(&mut self, bytes: usize) {
        let part = bytes.div_ceil(PARTS).next_multiple_of(128);
        let Sizes { often, rare, data } = Sizes::whole(self.fixed);
        self.sizes = Sizes { often: often.min(part / 2), rare: rare.min(part / 2), data: data.min(2 * part) };
        self.fill(0);
    }

    /// Bytes of memory for code and data that was ever used, up to a part.
    pub fn memory(&self) -> usize {
        let Sizes { often, rare, data } = self.sizes;
        self.fixed + self.touched * (often + rare + data)
    }

    /// Translates a block whose instructions are at these places; the result is the host address to enter it at, and the bytes of code. `None`: there is no more room.
    /// `hot`: code that is run very often, whose accesses get sites.
    pub fn translate(
        &mut self,
        header: *const Header,
        ops: &[Uop],
        places: &[Place],
        hot: bool,
    ) -> Option<(u64, usize)> {
        super::pass::flag_lives(ops, &mut self.lives);
        self.groups.find(ops, hot);
        // Where a block with all its copies of groups is too long, or they are not worth it, it is made without.
        let entry = match self.translate_with_groups(header, ops, places, hot) {
            Some(entry) => entry,
            None if !self.groups.all.is_empty() => {
                self.groups.clear();
                self.translate_with_groups(header, ops, places, hot)?
            }
            None => return None,
        };
        self.keep()?;
        Some((entry, self.asm.len()))
    }

    /// Takes over what the assembler has. `None`: there is no more room.
    fn keep(&mut self) -> Option<()> {
        let (often, seldom) = (self.asm.code(), self.asm.rare_code());
        let Sizes { often: often_bytes, rare, .. } = self.sizes;
        let next = self.part + 1;
        if self.used + often.len() > self.fixed + next * often_bytes || self.rare + seldom.len() > RARE + next * rare {
            return None;
        }
        self.memory.write(self.used, often);
        self.memory.write(self.rare, seldom);
        self.used = (self.used + often.len() + 15) & !15;
        self.rare += seldom.len();
        Some(())
    }

    /// Has the memory made that what is translated next will need. After each batch of blocks.
    pub fn look_ahead(&mut self) {
        self.memory.filled_to(self.used);
        self.memory.filled_to(self.rare);
        self.memory.filled_to(CODE_BYTES + self.data.used);
        self.memory.filled_down_to(CODE_BYTES + self.data.seldom);
    }

    fn translate_with_groups(
        &mut self,
        header: *const Header,
        ops: &[Uop],
        places: &[Place],
        hot: bool,
    ) -> Option<u64> {
        let code = self.memory.code();
        self.asm.start(code + self.used as u64);
        let rare = code + self.rare as u64;
        let Self { asm, data, stubs, cold, calls, groups, lives, .. } = self;
        let parts = Parts { asm, data, stubs, cold, calls, groups, code, rare };
        Translator::translate(parts, header, ops, lives, places, hot)
    }

    /// The code that was translated last, and where it stands: what is run often, and what is rare.
    pub fn last_code(&self) -> [(u64, &[u8]); 2] {
        let (often, seldom) = (self.asm.code(), self.asm.rare_code());
        let base = self.memory.code();
        let often_at = (self.used - often.len()) & !15;
        [(base + often_at as u64, often), (base + (self.rare - seldom.len()) as u64, seldom)]
    }

    /// Drops all code but the stubs.
    pub fn flush(&mut self) {
        self.fill(0);
        for table in &mut self.tables {
            table.clear();
        }
    }

    /// Lets jumps to `eip` in the mode that runs lead somewhere.
    fn put_jump(&mut self, eip: u32, jump: Jump) {
        if let Some(table) = self.tables.first_mut() {
            table.put(eip, jump);
        }
    }

    /// The jump table of a mode, and whether it was another one's, or none's, until now.
    fn jump_table(&mut self, mode: u64) -> (&mut Table, bool) {
        let known = self.tables.iter().position(|table| table.mode == mode);
        let at = known.unwrap_or_else(|| {
            if self.tables.len() < TABLES {
                let ring = self.tables.len();
                self.tables.push(Table::new(mode, ring));
            } else if let Some(oldest) = self.tables.last_mut() {
                oldest.mode = mode;
                oldest.clear();
            }
            self.tables.len() - 1
        });
        // The last used is found first, and the one that was not for longest is given up first.
        self.tables[..=at].rotate_right(1);
        (&mut self.tables[0], known.is_none())
    }

    /// Lets the jump of a way lead to an offset in the code.
    fn patch(&mut self, jump: u32, to: u64) {
        let from = u64::from(jump) + 4;
        self.memory.write(jump as usize, &(to.wrapping_sub(from) as u32).to_le_bytes());
    }

    /// Ties a way to a block's code. Whether the TLB still leads there is for native code to find out.
    ///
    /// # Safety
    /// The way was left by the code that ran last.
    pub unsafe fn tie(&mut self, way: *mut Way, header: Header, entry: u64) -> Tied {
        let number = header.number;
        // SAFETY: the caller's promise.
        let way = unsafe { &mut *way };
        if way.kind & Link::LOOSE != 0 {
            return Tied::Not;
        }
        if way.target == Some(number) {
            return Tied::Already;
        }
        way.valid = 0;
        way.place = CodePlace::new(entry, header);
        let before = way.target.replace(number);
        let jump = way.jump;
        self.patch(jump, entry - self.memory.code());
        before.map_or(Tied::New, Tied::Instead)
    }

    /// Cuts ways that lead to a block, and forgets it in the jump tables.
    ///
    /// # Safety
    /// The ways are in parts that were not emptied since.
    pub unsafe fn cut(&mut self, ways: &[*mut Way], header: Header, entry: u64) {
        for &way in ways {
            // SAFETY: the caller's promise.
            let way = unsafe { &mut *way };
            way.target = None;
            way.place = CodePlace::NOWHERE;
            let (jump, stub) = (way.jump, way.stub);
            self.patch(jump, u64::from(stub));
        }
        // A block with an origin is where its page's places are, whichever offsets those had.
        let step = if Mode::from_key(header.mode).is_relative() { 0x1000 } else { JUMPS };
        for table in self.tables.iter_mut().filter(|table| table.mode == header.mode) {
            for at in (header.eip as usize & (step - 1)..JUMPS).step_by(step) {
                let jump = &mut table.jumps[at];
                if jump.place.entry == entry {
                    *jump = NOWHERE;
                }
            }
        }
    }
}

/// Matches no offset: generations are not zero.
const NOWHERE: Jump = Jump { key: 0, place: CodePlace::NOWHERE };

/// What [`Native::tie`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tied {
    /// Nothing: this way is never tied.
    Not,
    /// It leads there as before.
    Already,
    /// It now leads there, and led nowhere.
    New,
    /// It now leads there, and led to this block.
    Instead(u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_cleared_has_nothing_left_whether_little_was_in_it_or_much() {
        let mut table = Table::new(0, 0);
        let somewhere = Jump { key: 1 << 33, place: CodePlace { entry: 0x1000, physical: 0 } };
        for jumps in [3, FEW_JUMPS as u32, 2 * FEW_JUMPS as u32, 5] {
            for eip in 0..jumps {
                table.put(eip * 0x1001, somewhere);
                table.put(eip * 0x1001, somewhere);
            }
            assert!(table.filled.len() <= FEW_JUMPS + 1);
            table.clear();
            assert!(table.jumps.iter().all(|jump| jump.place.entry == 0 && jump.key == 0), "{jumps} jumps");
        }
    }
}
