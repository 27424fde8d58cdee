//! The timer of the local APIC (Intel SDM vol. 3A, 10.5.4): a function of guest time.

use serde::{Deserialize, Serialize};

use crate::bus::clock::{Nanos, nanos_to_ticks, tick_deadline, ticks_to_nanos};
use crate::dev::backlog::Backlog;

/// What it counts, before the divider: the clock of the processor's bus.
pub const HERTZ: u64 = 100_000_000;

/// Bits of the divide configuration register.
const DIVIDER_BITS: u32 = 0b1011;

/// The bus clock at `now`.
fn clocks(now: Nanos) -> i64 {
    i64::try_from(nanos_to_ticks(now, HERTZ)).unwrap_or(i64::MAX)
}

fn clocks_since(start: i64, now: Nanos) -> u64 {
    clocks(now).saturating_sub(start).max(0).unsigned_abs()
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Timer {
    initial: u32,
    divider: u32,
    periodic: bool,
    /// Bus clock at which the count was `initial`, or would have been (then it may be before power-on); `None`: the count is 0 and stands.
    start: Option<i64>,
    /// Ends of the count since `start` that are accounted for.
    passed: u64,
    ticks: Backlog,
}

impl Timer {
    pub fn initial(&self) -> u32 {
        self.initial
    }

    pub fn divider(&self) -> u32 {
        self.divider
    }

    /// What the divider divides by: 2, 4 … 128, or 1.
    pub fn divisor(&self) -> u64 {
        let power = self.divider & 3 | self.divider >> 1 & 4;
        1 << (power + 1 & 7)
    }

    /// Bus clocks from the initial count to 0.
    fn period(&self) -> u64 {
        u64::from(self.initial) * self.divisor()
    }

    pub fn current(&self, now: Nanos) -> u32 {
        let Some(start) = self.start else { return 0 };
        let counted = clocks_since(start, now) / self.divisor();
        let initial = u64::from(self.initial);
        if self.periodic && initial != 0 {
            (initial - counted % initial) as u32
        } else {
            initial.saturating_sub(counted) as u32
        }
    }

    /// A write to the initial count starts it; 0 stops it.
    pub fn start(&mut self, initial: u32, now: Nanos) {
        self.initial = initial;
        self.start = (initial != 0).then(|| clocks(now));
        self.passed = 0;
        self.ticks.forget();
    }

    pub fn set_divider(&mut self, value: u32, now: Nanos) {
        let count = self.current(now);
        self.divider = value & DIVIDER_BITS;
        self.go_on_from(count, now);
    }

    pub fn set_periodic(&mut self, periodic: bool, now: Nanos) {
        if periodic != self.periodic {
            let count = self.current(now);
            self.periodic = periodic;
            self.go_on_from(count, now);
        }
    }

    /// The count goes on from where it is, at another rate or to another end.
    fn go_on_from(&mut self, count: u32, now: Nanos) {
        self.passed = 0;
        self.ticks.forget();
        let counted = u64::from(self.initial.saturating_sub(count)) * self.divisor();
        self.start = (count != 0).then(|| clocks(now).saturating_sub_unsigned(counted));
    }

    /// Takes in what has passed up to `now`. True: an interrupt is due.
    pub fn pass(&mut self, now: Nanos, waiting: bool) -> bool {
        let Some(start) = self.start else { return false };
        let period = self.period().max(1);
        let ends = clocks_since(start, now) / period;
        if !self.periodic {
            let ended = ends > 0;
            if ended {
                self.start = None;
            }
            return ended;
        }
        let fresh = ends.saturating_sub(self.passed);
        self.passed = self.passed.max(ends);
        self.ticks.offer(fresh, waiting, ticks_to_nanos(period, HERTZ), now)
    }

    pub fn forget_late(&mut self) {
        self.ticks.forget();
    }

    pub fn late_and_lost(&self) -> (u64, u64) {
        self.ticks.late_and_lost()
    }

    pub fn next_event(&self) -> Option<Nanos> {
        let start = self.start?;
        let ends = if self.periodic { self.passed.saturating_add(1) } else { 1 };
        let at = start.saturating_add_unsigned(self.period().max(1).saturating_mul(ends));
        Some(tick_deadline(at.max(0).unsigned_abs(), HERTZ)).into_iter().chain(self.ticks.next_event()).min()
    }

    /// Whether a saved state can be one of this timer.
    pub fn is_possible(&self) -> bool {
        self.divider & !DIVIDER_BITS == 0 && (self.start.is_none() || self.initial != 0)
    }
}
