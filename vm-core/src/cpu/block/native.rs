//! Native code of blocks that run often.
//!
//! Blocks that have become warm wait, and get native code together, once one of them is hot: what makes native code is not in the host's
//! caches when it is wanted, and to get it there costs more than a block.

use std::time::Instant;

use super::{Cache, Header};
use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::cpu::uop::{Op, Uop};

/// How many blocks wait at most. Making native code of so many takes a millisecond, in which nothing else happens to the guest.
const MOST_WAITING: usize = 512;

/// A block that waits for native code, and its offset in CS.
#[derive(Clone, Copy)]
pub(super) struct Waiting {
    header: *const Header,
    eip: u32,
}

impl Cache {
    /// Whether a block that waited lives and its entries are still counted: it has no native code.
    fn is_counted(&self, header: *const Header) -> bool {
        // SAFETY: a part that is emptied leaves nobody waiting, so the block is in memory.
        self.alive(header) && unsafe { *Header::code(header) }.op() == Op::Enter {}
    }
}

impl Cpu {
    /// Lets the block that runs wait for native code: it has become warm. `false`: it is to have that now.
    #[cold]
    pub(in crate::cpu) fn wait_for_native(&mut self) -> bool {
        let header = self.exec.block;
        let opening = Header::code(header).cast_mut();
        let Cache { native, waiting, patience, .. } = &mut self.code;
        // SAFETY: the first op of the block that runs opens it.
        unsafe {
            if native.is_none() || *patience == 0 || (*opening).imm2 != 0 || waiting.len() >= MOST_WAITING {
                return false;
            }
            *opening = Uop { imm: *patience - 1, imm2: 1, ..*opening };
            waiting.push(Waiting { header, eip: self.exec.absolute((*header).eip) });
        }
        true
    }

    /// Makes native code of the block that runs, and of those that wait: it was entered often enough.
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
        let mut waiting = std::mem::take(&mut self.code.waiting);
        if !waiting.iter().any(|one| one.header == header) {
            waiting.push(Waiting { header, eip: self.exec.absolute(eip) });
        }
        for Waiting { header, eip } in waiting.drain(..) {
            if !self.code.is_counted(header) {
                continue;
            }
            if !self.give_native(header, eip, self.code.all_hot) {
                // One that does not fit into an empty part never does.
                if self.code.native.as_ref().is_some_and(|native| !native.part_is_empty()) {
                    self.code.want_room();
                    // SAFETY: as above.
                    unsafe { (*opening).imm = 0 };
                    break;
                }
                // SAFETY: the block lives, and is one that opens.
                unsafe { (*Header::code(header).cast_mut()).imm = u32::MAX };
            }
        }
        self.code.waiting = waiting;
        if let Some(native) = &mut self.code.native {
            native.look_ahead();
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
