//! The end of blocks: their bytes were written, or there is too much of everything and they are the oldest.

use std::{mem, ptr};

use super::{CHUNK, Cache, Header, Key, NONE, PARTS, PageCode, Part, Slot, lines};
use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::cpu::uop::Op;

/// Pieces of the arena (1 MiB each) after which a part is full.
pub(super) const MOST_CHUNKS: usize = 192 / PARTS;
/// Blocks after which it is, too.
const MOST_BLOCKS: usize = 800_000 / PARTS;
/// More slots than a block has.
const MARGIN: usize = CHUNK / 16;

impl Part {
    /// Gives the memory back.
    fn empty(&mut self) {
        for chunk in self.chunks.drain(..) {
            // SAFETY: each came from `Box::into_raw` and nobody uses it any more.
            drop(unsafe { Box::from_raw(chunk) });
        }
        self.blocks = 0;
    }

    /// Whether a host address is in it.
    fn holds(&self, address: usize) -> bool {
        self.chunks.iter().any(|chunk| address.wrapping_sub(chunk.addr()) < size_of::<[Slot; CHUNK]>())
    }
}

impl Cache {
    pub(super) fn empty_arena(&mut self) {
        self.arena.iter_mut().for_each(Part::empty);
        self.used = CHUNK;
    }

    /// Whether no more should be put into the part that is filled.
    fn is_part_full(&self) -> bool {
        let part = &self.arena[self.part];
        let last_is_full = part.chunks.len() >= self.most_chunks && self.used > CHUNK - MARGIN;
        self.part_full || last_is_full || part.blocks > MOST_BLOCKS
    }

    /// Empties the oldest part, which is filled next: every block dies that has something there. Never while a block runs.
    fn empty_oldest(&mut self, bus: &mut dyn Bus) {
        let part = (self.part + 1) % PARTS;
        let dying: Vec<u32> = (0..self.blocks.len() as u32).filter(|&number| self.has_part(number, part)).collect();
        for &number in &dying {
            self.kill(number);
        }
        self.stats.killed -= dying.len() as u64;
        self.stats.aged += dying.len() as u64;
        self.forget_dead(bus);
        self.empty_oldest_regions();
        self.clock.forget();
        self.waiting.clear();
        let Self { arena, blocks, native, free, careful, .. } = self;
        careful.retain(|_, (header, _)| !arena[part].holds(header.addr()));
        // Links and ways that are no more are not to be cut when what they lead to dies.
        for (number, block) in blocks.iter_mut().enumerate() {
            if block.part == part && !block.header.is_null() {
                block.forget();
                free.push(number as u32);
                continue;
            }
            block.incoming.retain(|link| !arena[part].holds(link.addr()));
            if let Some(native) = native {
                block.ways.retain(|way| !native.holds_way(part, way.addr()));
            }
        }
        arena[part].empty();
        if let Some(native) = native {
            native.fill(part);
        }
        self.part = part;
        self.used = CHUNK;
        self.part_full = false;
        self.stats.parts += 1;
    }

    /// Whether a block that can be found has something in a part.
    fn has_part(&self, number: u32, part: usize) -> bool {
        let block = &self.blocks[number as usize];
        // SAFETY: a block that is alive is in memory.
        block.alive && block.parts & 1 << part != 0 && unsafe { (*block.header).loose } == 0
    }

    /// Takes dead blocks off their pages.
    fn forget_dead(&mut self, bus: &mut dyn Bus) {
        let mut pages = mem::take(&mut self.pages);
        pages.retain(|&page, code| {
            let before = code.numbers.len();
            code.numbers.retain(|&number| self.blocks[number as usize].alive);
            if code.numbers.len() != before {
                code.lines = self.lines_of(page, &code.numbers);
            }
            if code.numbers.is_empty() {
                bus.ram().mark_code(page, false);
            }
            !code.numbers.is_empty()
        });
        self.pages = pages;
    }

    /// The 64-byte lines of a page that these blocks have code in.
    fn lines_of(&self, page: u64, numbers: &[u32]) -> u64 {
        numbers.iter().fold(0, |all, &number| {
            let (start, stop) = self.bytes_on(number, page);
            all | lines(page, start, stop)
        })
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
        self.free.clear();
        self.careful.clear();
        self.empty_arena();
        self.part = 0;
        if let Some(native) = &mut self.native {
            native.flush();
        }
        if let Some(regions) = &mut self.regions {
            regions.flush();
        }
        self.clock.forget();
        self.waiting.clear();
        (self.flush_wanted, self.part_full) = (false, false);
        self.stats.flushes += 1;
    }

    /// The physical bytes of a block on a page that has some: first, and behind the last.
    pub(super) fn bytes_on(&self, number: u32, page: u64) -> (u64, u64) {
        let block = &self.blocks[number as usize];
        // SAFETY: pages have blocks that live.
        let start = unsafe { (*block.header).physical };
        let stop = start + u64::from(block.len);
        match block.second {
            Some(second) if second >> 12 == page => (second, second | stop & 0xfff),
            _ => (start, stop.min((start | 0xfff) + 1)),
        }
    }

    /// Drops a block that is no longer true, and may be the one that runs: it is left next.
    pub(in crate::cpu) fn drop_block(&mut self, header: *const Header) {
        // SAFETY: the engine passes blocks that live.
        self.kill(unsafe { (*header).number });
    }

    /// Takes a block out of everything that leads to it.
    fn kill(&mut self, number: u32) {
        let block = &mut self.blocks[number as usize];
        block.alive = false;
        // SAFETY: blocks that are alive are in memory.
        let Header { physical, mode, eip, .. } = unsafe { *block.header };
        for link in block.incoming.drain(..) {
            // SAFETY: links of a part of the arena that is emptied leave the list.
            unsafe { (*link).target = ptr::null() };
        }
        let header = block.header.cast_const();
        let quick = &mut self.quick[Self::quick_index(physical)];
        if ptr::eq(*quick, header) {
            *quick = &raw const NONE;
        }
        self.map.remove(&Key { physical, mode, eip });
        if let (Some(native), Some(entry)) = (&mut self.native, block.native) {
            // SAFETY: so do ways.
            unsafe { native.cut(&block.ways, *header, entry) };
            block.ways.clear();
        }
        let regions = std::mem::take(&mut block.regions);
        self.kill_regions(&regions);
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
            let mut numbers = std::mem::take(&mut code.numbers);
            // One that lay in two pages may have died by way of the other.
            numbers.retain(|&number| self.code.blocks[number as usize].alive);
            let (hit, kept): (Vec<u32>, Vec<u32>) = numbers.into_iter().partition(|&number| {
                let (start, stop) = self.code.bytes_on(number, page);
                start < end && physical < stop
            });
            for number in hit {
                self.code.kill(number);
                self.leave_if_running(number);
            }
            let running = self.exec.region.running();
            if self.code.regions.as_mut().is_some_and(|regions| regions.take_death_of(running)) {
                self.exec.died = true;
            }
            let left = self.code.lines_of(page, &kept);
            if kept.is_empty() {
                self.code.pages.remove(&page);
                bus.ram().mark_code(page, false);
            } else if let Some(code) = self.code.pages.get_mut(&page) {
                *code = PageCode { lines: left, numbers: kept };
            }
        }
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

    /// Whether [`Cpu::sync_code`] would do something, unless there is too much code: only the dispatcher makes any.
    pub(in crate::cpu) fn code_is_old(&self, bus: &dyn Bus) -> bool {
        let outside = bus.signals().map_generation() != self.code.map_generation || bus.ram().code_was_modified();
        outside || self.code.flush_wanted || self.code.part_full || self.tlb.is_wrapped()
    }

    /// Takes in what happened outside: DMA into code, a change of the memory map, or too much code.
    pub(in crate::cpu) fn sync_code(&mut self, bus: &mut dyn Bus) {
        for page in bus.ram().take_modified_code() {
            self.invalidate_code(bus, u64::from(page) << 12, 0x1000);
        }
        let generation = bus.signals().map_generation();
        self.publish_regions();
        let wrapped = self.tlb.take_wrapped();
        if self.code.flush_wanted || wrapped || generation != self.code.map_generation {
            self.code.map_generation = generation;
            self.exec.forget_link();
            self.code.flush(bus);
            self.tlb.flush();
        } else if self.code.is_part_full() {
            self.exec.forget_link();
            self.code.empty_oldest(bus);
            // What native code has noted to be true until the next load of CR3 may be no more.
            self.tlb.flush();
        }
    }
}
