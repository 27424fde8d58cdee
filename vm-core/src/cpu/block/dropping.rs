//! The end of blocks: their bytes were written, or there is too much of everything.

use std::ptr;

use super::{CHUNK, Cache, Header, Key, NONE, PageCode, lines};
use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::cpu::uop::Op;

/// Pieces of the arena (1 MiB each) after which everything is dropped.
const MAX_CHUNKS: usize = 48;
/// Blocks after which the same happens.
const MAX_BLOCKS: usize = 200_000;

impl Cache {
    pub(super) fn free_chunks(&mut self) {
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
        if let Some(regions) = &mut self.regions {
            regions.flush();
        }
        self.flush_wanted = false;
        self.stats.flushes += 1;
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
            let numbers = std::mem::take(&mut code.numbers);
            let (hit, kept): (Vec<u32>, Vec<u32>) = numbers.into_iter().partition(|&number| {
                let (start, stop) = self.code.bytes_of(number);
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
        outside || self.code.flush_wanted || self.tlb.is_wrapped()
    }

    /// Takes in what happened outside: DMA into code, a change of the memory map, or too much code.
    pub(in crate::cpu) fn sync_code(&mut self, bus: &mut dyn Bus) {
        for page in bus.ram().take_modified_code() {
            self.invalidate_code(bus, u64::from(page) << 12, 0x1000);
        }
        let generation = bus.signals().map_generation();
        self.publish_regions();
        let full = self.code.chunks.len() > MAX_CHUNKS || self.code.blocks.len() > MAX_BLOCKS;
        let wrapped = self.tlb.take_wrapped();
        if self.code.flush_wanted || full || wrapped || generation != self.code.map_generation {
            self.code.map_generation = generation;
            self.exec.forget_link();
            self.code.flush(bus);
            self.tlb.flush();
        }
    }
}
