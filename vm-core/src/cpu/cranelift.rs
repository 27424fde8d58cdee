//! Regions: several blocks of one page, loops and calls inside, compiled by Cranelift as one function, on any host that it has.
//!
//! ```text
//! block, entered often ─▶ discover: the blocks around it ─▶ translator: CLIF ─▶ compiler, on a thread of its own ─▶ published
//! ```
//! The interpreter stays the reference and the way out, an op at a time, as for templates. A region holds what its blocks held when
//! it was asked for: it is published only where all of them still live, and dies with the first of them.

mod alu;
mod compiler;
mod control;
mod discover;
mod flags;
mod memory;
mod run;
mod shift;
mod translator;
mod worker;

use std::ptr;

pub(super) use run::{Run, enter, left, run};

use super::block::{Header, Link, PARTS};
use super::uop::Uop;
use compiler::Stubs;
use worker::Worker;

/// A way out of a region, in its memory.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Exit {
    /// Where it leads: the code of another region, or the stub that leaves.
    code: *const u8,
    /// The generation of the TLB for which it holds, where it leads to another page.
    valid: u32,
    /// Where it leads in the guest.
    pub eip: u32,
    /// Bits of [`Link`].
    kind: u32,
    /// The region that it is tied to, or [`NOBODY`].
    target: u32,
}

/// What an access remembers of the page that it touched last.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Site {
    /// Linear address of the page; [`Site::NOWHERE`] is no page's.
    tag: u64,
    /// Host address minus linear address.
    addend: u64,
}

impl Site {
    /// Differs from every address by more than a page has.
    const NOWHERE: u64 = 1 << 63;
}

/// What a region's code and the functions that it calls share.
#[derive(Debug)]
#[repr(C)]
struct Data {
    /// The generation of the TLB for which the sites hold.
    generation: u32,
    /// The region's number.
    number: u32,
    sites: *mut Site,
    count: usize,
}

/// The memory of a region: addresses in it are constants of its code.
struct Memory {
    data: Box<Data>,
    sites: Box<[Site]>,
    exits: Box<[Exit]>,
    /// The ops of all blocks, each block's in one piece.
    ops: Box<[Uop]>,
}

// SAFETY: the pointers lead into the value's own boxes and to code; whoever has the value is the only one who follows them.
unsafe impl Send for Memory {}

impl Memory {
    fn new(number: u32, sites: usize, exits: usize, ops: Vec<Uop>) -> Self {
        let mut sites = vec![Site { tag: Site::NOWHERE, addend: 0 }; sites].into_boxed_slice();
        let none = Exit { code: ptr::null(), valid: 0, eip: 0, kind: Link::LOOSE, target: NOBODY };
        let data = Data { generation: 0, number, sites: sites.as_mut_ptr(), count: sites.len() };
        Self { data: Box::new(data), sites, exits: vec![none; exits].into_boxed_slice(), ops: ops.into_boxed_slice() }
    }
}

/// No region.
const NOBODY: u32 = u32::MAX;

/// A block, as a region is made of it.
#[derive(Debug)]
struct Source {
    header: *const Header,
    block: Header,
    /// Lifted, with dead flags marked.
    ops: Vec<Uop>,
    /// Follows a call in the region: an indirect jump may well lead here.
    after_call: bool,
}

// SAFETY: whoever compiles a region writes the header's address into its code and does not follow it.
unsafe impl Send for Source {}

/// What is to be compiled. The first block is the one that is entered.
#[derive(Debug)]
struct Request {
    /// Which contents of the cache it is about: see [`Regions::epoch`].
    epoch: u32,
    number: u32,
    /// An offset in CS is a linear address.
    flat_code: bool,
    /// What is compiled is written down.
    logged: bool,
    blocks: Vec<Source>,
}

/// What came of it.
struct Compiled {
    request: Request,
    code: *const u8,
    /// Bytes of code.
    bytes: usize,
    nanos: u64,
    memory: Memory,
    stubs: Stubs,
}

// SAFETY: the code lives until the module is dropped, which the owner of all this decides.
unsafe impl Send for Compiled {}

/// A region that is in use, or was, and is in memory.
struct Region {
    epoch: u32,
    code: *const u8,
    mode: u64,
    eip: u32,
    /// Number of the block that is entered.
    first: u32,
    /// Where it leads: kept as long as its code, for others may still name it.
    memory: Memory,
    /// Where others lead from.
    incoming: Vec<*mut Exit>,
    /// The templates of the first block, where it has some.
    templates: Option<u64>,
    alive: bool,
}

/// An entry of a jump table.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Jump {
    /// `generation << 32 | offset`; generations are not zero.
    key: u64,
    /// Host address.
    code: *const u8,
}

const EMPTY: Jump = Jump { key: 0, code: ptr::null() };
/// Entries of a jump table.
const JUMPS: usize = 4096;
/// Jump tables: as many modes may take turns before one loses its table.
const TABLES: usize = 8;
/// Bytes of code of a part, at most.
const PART_CODE: usize = (24 << 20) / PARTS;
/// Regions that a slice may compile at once: it comes back, whatever the code is.
const ALLOWANCE: u32 = 2;
/// Regions of a part, at most.
const PART_REGIONS: usize = 6000 / PARTS;

/// How regions are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compilation {
    /// On a thread of their own, while the interpreter goes on.
    Behind,
    /// At once, with blocks that were not entered yet: for tests.
    AtOnce,
}

/// All regions.
pub(super) struct Regions {
    worker: Worker,
    all: Vec<Option<Region>>,
    tables: Vec<(u64, Box<[Jump]>)>,
    /// Numbers that no region has.
    free: Vec<u32>,
    stubs: Stubs,
    /// Moves when a part is emptied, or all are: regions asked for before that are not taken in.
    epoch: u32,
    /// Regions asked for in this epoch, and the bytes of those taken in.
    asked: usize,
    bytes: usize,
    /// A region that died since it was asked for the last time.
    died: bool,
    /// Blocks that were not entered yet become parts of regions, too.
    eager: bool,
    /// Regions that may still be compiled at once before the processor's slice is over.
    allowance: u32,
}

// SAFETY: the pointers lead into the value's own memory and code.
unsafe impl Send for Regions {}

/// Whether what was compiled in an epoch is no longer in memory in another.
fn is_over(epoch: u32, now: u32) -> bool {
    epoch + PARTS as u32 <= now
}

impl Regions {
    /// None yet.
    ///
    /// # Errors
    /// In words, where Cranelift does not know the host, or the host gives no memory for code.
    pub fn new(compilation: Compilation) -> Result<Self, String> {
        let worker = Worker::new(compilation)?;
        let eager = compilation == Compilation::AtOnce;
        Ok(Self {
            worker,
            all: Vec::new(),
            free: Vec::new(),
            tables: Vec::new(),
            stubs: Stubs::NONE,
            epoch: 0,
            asked: 0,
            bytes: 0,
            died: false,
            eager,
            allowance: 0,
        })
    }

    /// Drops all regions. None runs.
    pub fn flush(&mut self) {
        self.all.clear();
        self.free.clear();
        self.begin_epoch(PARTS as u32);
        for (_, table) in &mut self.tables {
            table.fill(EMPTY);
        }
    }

    /// Goes on by so many epochs; those that are [`PARTS`] back are over. Their regions are forgotten.
    fn begin_epoch(&mut self, on: u32) {
        self.epoch += on;
        self.worker.begin(self.epoch);
        (self.asked, self.bytes) = (0, 0);
    }

    /// The regions of the oldest part.
    pub fn oldest(&self) -> Vec<u32> {
        let is_old = |region: &Region| is_over(region.epoch, self.epoch + 1);
        let numbers = self.all.iter().enumerate().filter(|(_, region)| region.as_ref().is_some_and(is_old));
        numbers.map(|(number, _)| number as u32).collect()
    }

    /// Forgets the regions of the oldest part, which are all dead.
    pub fn empty_oldest(&mut self) {
        for number in self.oldest() {
            let Some(Region { memory, .. }) = self.all[number as usize].take() else { continue };
            let exits = memory.exits.as_ptr_range();
            for target in memory.exits.iter().map(|exit| exit.target) {
                if let Some(Some(region)) = self.all.get_mut(target as usize) {
                    region.incoming.retain(|&exit| !exits.contains(&exit.cast_const()));
                }
            }
        }
        self.begin_epoch(1);
        let numbers = (0..self.all.len() as u32).filter(|&number| self.all[number as usize].is_none());
        self.free = numbers.collect();
    }

    /// A number for a region that is asked for.
    fn number(&mut self) -> u32 {
        self.asked += 1;
        self.free.pop().unwrap_or_else(|| {
            self.all.push(None);
            self.all.len() as u32 - 1
        })
    }

    /// Takes in a region that was compiled.
    fn add(&mut self, compiled: Compiled, first: &Header, templates: Option<u64>) {
        let Compiled { request: Request { number, epoch, .. }, code, bytes, memory, stubs, .. } = compiled;
        let Header { mode, eip, number: first, .. } = *first;
        let region = Region { epoch, code, mode, eip, first, memory, incoming: Vec::new(), templates, alive: true };
        if let Some(place) = self.all.get_mut(number as usize) {
            *place = Some(region);
        }
        self.stubs = stubs;
        self.bytes += bytes;
    }

    /// Whether every block becomes a region.
    pub fn at_once(&self) -> bool {
        self.eager
    }

    /// A slice begins.
    pub fn begin_slice(&mut self) {
        self.allowance = ALLOWANCE;
    }

    /// Whether so much was compiled that the oldest should be dropped.
    pub fn is_full(&self) -> bool {
        self.bytes > PART_CODE || self.asked > PART_REGIONS
    }

    /// The code of a region, where it lives, and the offset in CS at which it begins.
    fn entry(&self, number: u32) -> Option<(*const u8, u32)> {
        let region = self.all.get(number as usize)?.as_ref()?;
        region.alive.then_some((region.code, region.eip))
    }

    /// The code of a region, where it lives.
    fn code(&self, number: u32) -> Option<*const u8> {
        self.entry(number).map(|(code, _)| code)
    }

    /// Ties an exit to a region for this generation of the TLB.
    ///
    /// # Safety
    /// The exit was left by the code that ran last.
    pub unsafe fn tie(&mut self, exit: *mut Exit, number: u32, generation: u32) {
        // SAFETY: the caller's promise.
        let way = unsafe { &mut *exit };
        let Some(code) = self.code(number) else { return };
        if way.kind & Link::LOOSE != 0 {
            return;
        }
        way.valid = generation;
        if way.target == number {
            return;
        }
        if let Some(Some(old)) = self.all.get_mut(way.target as usize) {
            old.incoming.retain(|&other| other != exit);
        }
        way.target = number;
        way.code = code;
        if let Some(Some(region)) = self.all.get_mut(number as usize) {
            region.incoming.push(exit);
        }
    }

    /// A block of a region has died, and so it does. The result is the number of the block that was its entry, and the templates that
    /// it has.
    pub fn kill(&mut self, number: u32) -> Option<(u32, Option<u64>)> {
        let leave = self.stubs.leave;
        let region = self.all.get_mut(number as usize)?.as_mut()?;
        if !region.alive {
            return None;
        }
        region.alive = false;
        self.died = true;
        for exit in region.incoming.drain(..) {
            // SAFETY: exits whose region is forgotten leave the list.
            let exit = unsafe { &mut *exit };
            exit.target = NOBODY;
            exit.code = leave;
        }
        for (_, table) in self.tables.iter_mut().filter(|(mode, _)| *mode == region.mode) {
            let jump = &mut table[region.eip as usize & (JUMPS - 1)];
            if jump.code == region.code {
                *jump = EMPTY;
            }
        }
        Some((region.first, region.templates))
    }

    /// Whether the region of a number has died, where any has since the last call.
    pub fn take_death_of(&mut self, number: u32) -> bool {
        std::mem::take(&mut self.died) && number != NOBODY && self.code(number).is_none()
    }

    /// The jump table of a mode.
    fn jump_table(&mut self, mode: u64) -> *mut Jump {
        if let Some(at) = self.tables.iter().position(|(known, _)| *known == mode) {
            // The last used is found first.
            self.tables.swap(0, at);
        } else if self.tables.len() < TABLES {
            self.tables.insert(0, (mode, vec![EMPTY; JUMPS].into_boxed_slice()));
        } else if let Some((oldest, jumps)) = self.tables.last_mut() {
            *oldest = mode;
            jumps.fill(EMPTY);
            let last = self.tables.len() - 1;
            self.tables.swap(0, last);
        }
        self.tables.first_mut().map_or(ptr::null_mut(), |(_, jumps)| jumps.as_mut_ptr())
    }
}

#[cfg(test)]
mod tests;
