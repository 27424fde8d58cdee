//! Guest time: one monotonic count of nanoseconds that every timer is a function of.
//!
//! No device reads a host clock. A device computes its next event from an absolute origin, never from
//! "now + period", so that no error adds up.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

/// Virtual nanoseconds since the machine was first powered on.
pub type Nanos = u64;

/// Nanoseconds in a second.
pub const SECOND: Nanos = 1_000_000_000;

/// `count` ticks of a `hertz` clock in nanoseconds, rounded down, without overflow for any 64-bit count.
pub const fn ticks_to_nanos(count: u64, hertz: u64) -> Nanos {
    (count as u128 * SECOND as u128 / hertz as u128) as u64
}

/// Whole ticks of a `hertz` clock in `nanos`.
pub const fn nanos_to_ticks(nanos: Nanos, hertz: u64) -> u64 {
    (nanos as u128 * hertz as u128 / SECOND as u128) as u64
}

/// First nanosecond at which at least `count` ticks of a `hertz` clock have passed (rounds up).
pub const fn tick_deadline(count: u64, hertz: u64) -> Nanos {
    ((count as u128 * SECOND as u128).div_ceil(hertz as u128)) as u64
}

/// The source of guest time. Cheap to clone; every clone shows the same time.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Source>);

#[derive(Debug)]
struct Source {
    /// `None`: time moves only by [`Clock::set`] (tests, and engines that count instructions).
    origin: Option<Instant>,
    /// Added to the host time since `origin` (host clock) or the time itself (manual clock).
    offset: AtomicI64,
    /// Guest time at which the clock stands while the machine is paused; `u64::MAX`: it runs.
    frozen: AtomicU64,
}

const RUNNING: u64 = u64::MAX;

impl Clock {
    /// A clock that follows the host's monotonic clock, paused at 0; [`Clock::resume`] starts it.
    pub fn host() -> Self {
        Self(Arc::new(Source { origin: Some(Instant::now()), offset: AtomicI64::new(0), frozen: AtomicU64::new(0) }))
    }

    /// A clock that moves only when told to.
    pub fn manual() -> Self {
        Self(Arc::new(Source { origin: None, offset: AtomicI64::new(0), frozen: AtomicU64::new(RUNNING) }))
    }

    /// Guest time now.
    pub fn now(&self) -> Nanos {
        match self.0.frozen.load(Ordering::Relaxed) {
            RUNNING => self.raw().wrapping_add_signed(self.0.offset.load(Ordering::Relaxed)),
            frozen => frozen,
        }
    }

    /// Stops guest time where it is.
    pub fn pause(&self) {
        let now = self.now();
        self.0.frozen.store(now, Ordering::Relaxed);
    }

    /// Lets guest time go on from where it stopped.
    pub fn resume(&self) {
        let frozen = self.0.frozen.load(Ordering::Relaxed);
        if frozen != RUNNING {
            self.0.offset.store(frozen.wrapping_sub(self.raw()) as i64, Ordering::Relaxed);
            self.0.frozen.store(RUNNING, Ordering::Relaxed);
        }
    }

    /// Sets guest time (restore, manual clocks and tests).
    pub fn set(&self, now: Nanos) {
        if self.0.frozen.load(Ordering::Relaxed) == RUNNING {
            self.0.offset.store(now.wrapping_sub(self.raw()) as i64, Ordering::Relaxed);
        } else {
            self.0.frozen.store(now, Ordering::Relaxed);
        }
    }

    fn raw(&self) -> u64 {
        self.0.origin.map_or(0, |origin| origin.elapsed().as_nanos() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_stands_while_paused_and_goes_on_without_a_jump() {
        let clock = Clock::host();
        clock.set(5 * SECOND);
        assert_eq!(clock.now(), 5 * SECOND);
        clock.resume();
        clock.pause();
        let stopped = clock.now();
        assert!((5 * SECOND..6 * SECOND).contains(&stopped));
        assert_eq!(clock.now(), stopped);
    }

    #[test]
    fn a_deadline_is_the_first_nanosecond_with_that_many_ticks() {
        for count in [1, 2, 3, 1_193_182, u64::from(u32::MAX)] {
            let at = tick_deadline(count, 1_193_182);
            assert_eq!(nanos_to_ticks(at, 1_193_182), count);
            assert_eq!(nanos_to_ticks(at - 1, 1_193_182), count - 1);
        }
    }
}
