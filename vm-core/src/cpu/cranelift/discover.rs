//! Which blocks make a region, and when what was compiled of them is published.

use super::translator::is_interpreted;
use super::{Compiled, Request, Source};
use crate::bus::Bus;
use crate::cpu::block::{Cache, Header, Key};
use crate::cpu::lift::Mode;
use crate::cpu::uop::{Op, Uop};
use crate::cpu::{Cpu, pass};

/// Blocks of a region, at most.
const MAX_BLOCKS: usize = 24;
/// Blocks of one that is compiled at once, for a test: most are entered once.
const MAX_BLOCKS_AT_ONCE: usize = 4;
/// Ops after which no more blocks are taken in.
const MAX_OPS: usize = 400;
/// The same for a test.
const MAX_OPS_AT_ONCE: usize = 48;
/// A block is taken in that was entered this part as often as makes one hot.
const WARM: u32 = 16;

/// Where a block leads in its page, as far as is known before it runs.
struct Successor {
    eip: u32,
    after_call: bool,
}

impl Cpu {
    /// Asks for a region that begins with a block: it was entered, or found running, often enough.
    pub(in crate::cpu) fn make_region(&mut self, bus: &mut dyn Bus, header: *const Header) {
        // SAFETY: the caller's block is in memory until its part is emptied, which happens later.
        let Header { physical, mode, eip, .. } = unsafe { *header };
        let key = Key { physical, mode, eip };
        let counts = self.code.native.is_none();
        if counts {
            // Where the block has died since, or cannot be compiled, it is interpreted on.
            Cache::count_entries(header, u32::MAX);
        }
        if self.code.find(key) != Some(header) {
            return;
        }
        let Some(regions) = self.code.regions.as_mut() else { return };
        if regions.eager {
            if regions.allowance == 0 {
                if counts {
                    Cache::count_entries(header, self.code.threshold);
                }
                return;
            }
            regions.allowance -= 1;
        }
        let blocks = self.discover(bus, header);
        let Some(regions) = self.code.regions.as_mut() else { return };
        if blocks.is_empty() || regions.is_full() {
            if regions.is_full() {
                self.code.want_room();
                if counts {
                    Cache::count_entries(header, self.code.threshold);
                }
            }
            return;
        }
        let number = regions.number();
        let flat_code = Mode::from_key(mode).flat_code();
        let numbers: Vec<u32> = blocks.iter().map(|source| source.block.number).collect();
        let epoch = regions.epoch;
        let logged = self.code.log.clif && self.code.log.wants(eip);
        let request = Request { epoch, number, flat_code, logged, blocks };
        if regions.worker.ask(request) {
            for number in numbers {
                self.code.blocks[number as usize].asked = true;
            }
        } else if counts {
            Cache::count_entries(header, self.code.threshold);
        }
        self.publish_regions();
    }

    /// The blocks of a region from `first` on, that one first; none where a region is not worth it.
    fn discover(&mut self, bus: &mut dyn Bus, first: *const Header) -> Vec<Source> {
        let eager = self.code.regions.as_ref().is_some_and(|regions| regions.eager);
        // Templates do better what has no translation here; and what is no loop is left sooner than it was worth entering.
        let picky = self.code.native.is_some() && !eager;
        let (most, most_ops) = if eager { (MAX_BLOCKS_AT_ONCE, MAX_OPS_AT_ONCE) } else { (MAX_BLOCKS, MAX_OPS) };
        let mut blocks: Vec<Source> = Vec::new();
        let mut waiting = std::collections::VecDeque::from([(first, false)]);
        let mut ops = 0;
        while let Some((header, after_call)) = waiting.pop_front() {
            if let Some(known) = blocks.iter_mut().find(|known| known.header == header) {
                known.after_call |= after_call;
                continue;
            }
            if blocks.len() >= most || ops >= most_ops {
                continue;
            }
            // SAFETY: `find` and `translate_block` give blocks that live.
            let block = unsafe { *header };
            let key = Key { physical: block.physical, mode: block.mode, eip: block.eip };
            let lifted = self.lift_block(bus, key, Mode::from_key(block.mode));
            if lifted.is_none_or(|lifted| lifted.count != block.count as usize) {
                continue;
            }
            pass::dead_flags(&mut self.code.lifted.ops);
            if picky && self.code.lifted.ops.iter().any(|uop| is_interpreted(uop.op())) {
                continue;
            }
            let source = Source { header, block, ops: self.code.lifted.ops.clone(), after_call };
            ops += source.ops.len();
            for Successor { eip, after_call } in successors(&source) {
                let in_page = i64::from(eip) - i64::from(block.eip) + (block.physical & 0xfff) as i64;
                if !(0..0x1000).contains(&in_page) {
                    continue;
                }
                let key = Key { physical: block.physical & !0xfff | in_page as u64, eip, ..key };
                let found = match self.code.find(key) {
                    Some(header)
                        if eager || Cache::entries(header, self.code.threshold) >= self.code.threshold / WARM =>
                    {
                        Some(header)
                    }
                    None if eager => self.translate_in_page(bus, key),
                    _ => None,
                };
                waiting.extend(found.map(|header| (header, after_call)));
            }
            blocks.push(source);
        }
        if picky && !has_loop(&blocks) {
            blocks.clear();
        }
        blocks
    }

    /// Puts what has been compiled to use, where it is still true.
    pub(in crate::cpu) fn publish_regions(&mut self) {
        while let Some(compiled) = self.code.regions.as_mut().and_then(|regions| regions.worker.take()) {
            self.code.publish(*compiled);
        }
    }
}

/// Where a block leads.
fn successors(source: &Source) -> Vec<Successor> {
    let Some(last) = source.ops.last() else { return Vec::new() };
    let to = |eip| Successor { eip, after_call: false };
    match last.op() {
        Op::Jump {} => {
            let after = last.returns_to().map(|eip| Successor { eip, after_call: true });
            std::iter::once(to(last.imm)).chain(after).collect()
        }
        Op::JumpIf { .. } | Op::JumpCount { .. } => vec![to(last.imm), to(last.imm2)],
        _ => Vec::new(),
    }
}

/// Whether a block leads back to itself or to one that stands before it.
fn has_loop(blocks: &[Source]) -> bool {
    blocks.iter().any(|source| {
        let back = |eip: u32| eip <= source.block.eip && blocks.iter().any(|other| other.block.eip == eip);
        source.ops.last().is_some_and(|last| match last.op() {
            Op::Jump {} => back(last.imm),
            Op::JumpIf { .. } | Op::JumpCount { .. } => back(last.imm) || back(last.imm2),
            _ => false,
        })
    })
}

impl Cache {
    /// The region that begins with a block.
    pub(in crate::cpu) fn region_of(&self, header: *const Header) -> Option<u32> {
        // SAFETY: the engine passes headers of blocks that live.
        self.blocks[unsafe { (*header).number } as usize].region
    }

    /// Lets the block at `header` lead to the region that begins with it.
    pub(in crate::cpu) fn open_region(header: *const Header) {
        // SAFETY: the block lives, and is one that opens.
        unsafe { (*Header::code(header).cast_mut()).code = Op::Region {}.code() };
    }

    /// Lets the entries of a block be counted anew.
    pub(in crate::cpu) fn count_entries(header: *const Header, left: u32) {
        let opening = Header::code(header).cast_mut();
        // SAFETY: the block lives, and is one that opens.
        unsafe { *opening = Uop::new(Op::Enter {}).imm(left) };
    }

    /// How often a block was entered of `threshold` times; that often, too, where it is compiled.
    pub(in crate::cpu) fn entries(header: *const Header, threshold: u32) -> u32 {
        // SAFETY: the block lives.
        let opening = unsafe { *Header::code(header) };
        if matches!(opening.op(), Op::Enter {}) && opening.imm <= threshold {
            threshold - opening.imm
        } else {
            threshold
        }
    }

    /// Lets regions die of which a block has died.
    pub(in crate::cpu) fn kill_regions(&mut self, numbers: &[u32]) {
        let Some(regions) = &mut self.regions else { return };
        for &number in numbers {
            let Some((first, templates)) = regions.kill(number) else { continue };
            let block = &mut self.blocks[first as usize];
            block.region = None;
            if let (Some(native), Some(templates)) = (&mut self.native, templates) {
                block.lead_to(native, templates);
                continue;
            }
            // What is written often costs more to compile than it brings.
            Self::count_entries(block.header, self.threshold.saturating_mul(4));
        }
    }

    /// Drops the oldest regions. None comes of what was asked for before: blocks may ask again.
    pub(in crate::cpu) fn empty_oldest_regions(&mut self) {
        let Some(regions) = &self.regions else { return };
        self.kill_regions(&regions.oldest());
        let Some(regions) = &mut self.regions else { return };
        for block in self.blocks.iter_mut().filter(|block| block.alive) {
            block.regions.retain(|&number| regions.code(number).is_some());
            if block.regions.is_empty() && std::mem::take(&mut block.asked) && self.native.is_none() {
                Self::count_entries(block.header, self.threshold);
            }
        }
        regions.empty_oldest();
    }

    /// Puts a region to use, where all that it was made of is still there.
    fn publish(&mut self, compiled: Compiled) {
        let Compiled { request, bytes, nanos, .. } = &compiled;
        let (bytes, nanos) = (*bytes, *nanos);
        let Some(regions) = self.regions.as_mut() else { return };
        if request.epoch != regions.epoch {
            return;
        }
        let lives = |source: &Source| {
            let Header { physical, mode, eip, number, .. } = source.block;
            self.map.get(&Key { physical, mode, eip }) == Some(&number)
        };
        let Some(first) = request.blocks.first() else { return };
        let block = &mut self.blocks[first.block.number as usize];
        if !request.blocks.iter().all(lives) || block.region.is_some() {
            if lives(first) && self.native.is_none() {
                Self::count_entries(first.header, self.threshold);
            }
            return;
        }
        let templates = block.native;
        if let Some(native) = &mut self.native {
            let (Some(_), Some(entry)) = (templates, native.lead_to(request.number)) else {
                self.want_room();
                return;
            };
            block.lead_to(native, entry);
            block.parts |= 1 << self.part;
        } else {
            Self::open_region(first.header);
        }
        block.region = Some(request.number);
        let instructions = request.blocks.iter().map(|source| u64::from(source.block.count)).sum::<u64>();
        for source in &request.blocks {
            self.blocks[source.block.number as usize].regions.push(request.number);
        }
        let stats = &mut self.stats;
        stats.regions += 1;
        stats.region_blocks += request.blocks.len() as u64;
        stats.region_instructions += instructions;
        stats.region_bytes += bytes as u64;
        stats.region_nanos += nanos;
        let first = first.block;
        regions.add(compiled, &first, templates);
    }
}
