//! What the clock finds running.
//!
//! Half a thousand slices make a second, and each ends before some block. Counting so costs the code that runs nothing. A block that is
//! found again and again is worth more work: first its templates are made once more, with sites, then a region is made of it.

use crate::bus::Bus;
use crate::cpu::Cpu;

use super::{Cache, Header};

/// Blocks are counted in so many places.
const PLACES: usize = 256;
/// How often a block is found before its accesses get sites.
const HOT: u32 = 4;
/// How often it is before a region is made of it.
const REGION: u32 = 8;

/// A block that was found.
#[derive(Clone, Copy, Debug)]
struct Seen {
    block: u32,
    times: u32,
}

/// Counts blocks that were found.
#[derive(Debug)]
pub(super) struct Clock([Seen; PLACES]);

impl Default for Clock {
    fn default() -> Self {
        Self([Seen { block: u32::MAX, times: 0 }; PLACES])
    }
}

impl Clock {
    /// Forgets all: where the oldest code was dropped, what is still hot is worth a region again.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// How often the block was found, this time included.
    fn found(&mut self, block: u32) -> u32 {
        let seen = &mut self.0[block as usize % PLACES];
        if seen.block != block {
            *seen = Seen { block, times: 0 };
        }
        seen.times = seen.times.saturating_add(1);
        seen.times
    }
}

impl Cpu {
    /// The slice ends before a block.
    pub(in crate::cpu) fn sample(&mut self, bus: &mut dyn Bus, header: *const Header) {
        // SAFETY: the caller's block lives.
        let number = unsafe { (*header).number };
        let Cache { native: Some(_), regions, blocks, clock, .. } = &mut self.code else { return };
        let block = &blocks[number as usize];
        if block.native.is_none() || block.asked {
            return;
        }
        match clock.found(number) {
            // It may have been found before, and another in its place since.
            HOT if !block.hot => self.make_hot(header),
            REGION if regions.as_ref().is_some_and(|regions| !regions.at_once()) => self.make_region(bus, header),
            _ => {}
        }
    }
}
