//! Native code of blocks that run often.
//!
//! With a block come those that it leads to: what makes native code is then warm in the host's caches, and what runs together stands
//! together.

use std::cmp::Reverse;
use std::time::Instant;

use super::making::{HEADER_SLOTS, link_count};
use super::{Cache, Header, Link};
use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::cpu::uop::Op;

/// Blocks that are made native code of at a time, at most.
const FOLLOWERS: usize = 8;

/// A block, and its offset in CS.
#[derive(Clone, Copy)]
struct Found {
    header: *const Header,
    eip: u32,
}

impl Cache {
    /// A block that lives, at `eip` in CS, and some that it leads to and that are half way to native code; behind each comes what it leads to
    /// most often.
    fn with_followers(&self, header: *const Header, eip: u32) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::with_capacity(FOLLOWERS);
        let mut open = vec![Found { header, eip }];
        while let Some(one) = open.pop() {
            if found.iter().any(|other| other.header == one.header) {
                continue;
            }
            found.push(one);
            if found.len() == FOLLOWERS {
                break;
            }
            let first = open.len();
            self.add_followers(one, &mut open);
            // SAFETY: blocks that live are in memory.
            open[first..].sort_by_key(|one| Reverse(unsafe { (*Header::code(one.header)).imm }));
        }
        found
    }

    /// Adds the blocks that one which lives leads to, and that are half way to native code.
    fn add_followers(&self, Found { header, eip }: Found, found: &mut Vec<Found>) {
        let mut slot = 0;
        // SAFETY: a block that lives is in memory, with its links, which lead to blocks that live.
        unsafe {
            let code = Header::code(header);
            let origin = eip.wrapping_sub((*header).eip);
            while slot + HEADER_SLOTS < usize::from((*header).lifted) {
                let links = link_count((*code.add(slot)).op());
                for link in slot + 1..=slot + links {
                    let Link { target, eip, .. } = *code.add(link).cast::<Link>();
                    if !target.is_null() && self.is_warm(target) {
                        found.push(Found { header: target, eip: origin.wrapping_add(eip) });
                    }
                }
                slot += 1 + links;
            }
        }
    }

    /// Whether a block that lives has no native code, and is half way there.
    ///
    /// # Safety
    /// The block is in memory.
    unsafe fn is_warm(&self, header: *const Header) -> bool {
        // SAFETY: the caller's promise.
        let opening = unsafe { *Header::code(header) };
        opening.op() == Op::Enter {} && opening.imm <= self.threshold / 2
    }
}

impl Cpu {
    /// Makes native code of the block that runs: it was entered often enough.
    pub(in crate::cpu) fn make_native(&mut self, bus: &mut dyn Bus) {
        let header = self.exec.block;
        if self.code.native.is_none() {
            self.make_region(bus, header);
            return;
        }
        let opening = Header::code(header).cast_mut();
        // Where the block has died since it is interpreted on.
        // SAFETY: the block that ran is in memory until its part is emptied, which happens later; its first op opens it.
        let eip = unsafe {
            (*opening).imm = u32::MAX;
            (*header).eip
        };
        if !self.code.alive(header) {
            return;
        }
        let started = Instant::now();
        for Found { header, eip } in self.code.with_followers(header, self.exec.absolute(eip)) {
            if !self.give_native(header, eip, self.code.all_hot) {
                // One that does not fit into an empty part never does.
                if self.code.native.as_ref().is_some_and(|native| !native.part_is_empty()) {
                    self.code.want_room();
                    // SAFETY: as above.
                    unsafe { (*opening).imm = 0 };
                }
                break;
            }
        }
        self.code.stats.native_nanos += started.elapsed().as_nanos() as u64;
        if self.code.regions.as_ref().is_some_and(|regions| regions.at_once()) {
            self.make_region(bus, header);
        }
    }

    /// Makes native code once more of the block that is to run next, as of one that is run very often.
    pub(super) fn make_hot(&mut self, header: *const Header) {
        let started = Instant::now();
        // SAFETY: the caller's block lives.
        let eip = self.exec.absolute(unsafe { (*header).eip });
        // Where there is no room the code that it has does as well.
        self.code.stats.hot_blocks += u64::from(self.give_native(header, eip, true));
        self.code.stats.native_nanos += started.elapsed().as_nanos() as u64;
    }

    /// Makes native code of a block that lives, or makes it once more; `false`: there is no room. `hot`: as of one that is run very often.
    fn give_native(&mut self, header: *const Header, eip: u32, hot: bool) -> bool {
        let Cache { native: Some(native), blocks, log, stats, part, .. } = &mut self.code else { return false };
        // SAFETY: the caller's block lives.
        let Header { count, number, .. } = unsafe { *header };
        let block = &mut blocks[number as usize];
        // SAFETY: as above.
        let ops = unsafe { block.lifted() };
        let Some((entry, bytes)) = native.translate(header, ops, &block.places, hot) else { return false };
        if log.wants(eip) {
            for (at, code) in native.last_code() {
                log.native(eip, at, code);
            }
        }
        block.lead_to(native, entry);
        block.hot = hot;
        block.parts |= 1 << *part;
        // SAFETY: the block's first op opens it.
        unsafe { (*Header::code(header).cast_mut()).code = Op::Native {}.code() };
        stats.native_blocks += 1;
        stats.native_instructions += u64::from(count);
        stats.native_bytes += bytes as u64;
        true
    }
}
