//! Guest time: one monotonic count of nanoseconds that every timer is a function of.
//!
//! No device reads a host clock. A device computes its next event from an absolute origin, never from
//! "now + period", so that no error adds up. Where the host takes the processor away, guest time waits and makes up for it
//! afterwards (see `stolen`).

mod stolen;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use stolen::Stolen;

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
    /// What the host took from the machine's thread; `None`: nobody called [`Clock::own`], and nothing is made up for.
    stolen: Mutex<Option<Stolen>>,
}

const RUNNING: u64 = u64::MAX;

impl Clock {
    /// A clock that follows the host's monotonic clock, paused at 0; [`Clock::resume`] starts it.
    pub fn host() -> Self {
        Self(Arc::new(Source {
            origin: Some(Instant::now()),
            offset: AtomicI64::new(0),
            frozen: AtomicU64::new(0),
            stolen: Mutex::default(),
        }))
    }

    /// A clock that moves only when told to.
    pub fn manual() -> Self {
        Self(Arc::new(Source {
            origin: None,
            offset: AtomicI64::new(0),
            frozen: AtomicU64::new(RUNNING),
            stolen: Mutex::default(),
        }))
    }

    /// Guest time now.
    pub fn now(&self) -> Nanos {
        match self.0.frozen.load(Ordering::Relaxed) {
            RUNNING => {
                let mut stolen = self.stolen();
                let raw = self.raw();
                let lag = stolen.as_mut().map_or(0, |stolen| stolen.lag_at(raw));
                raw.wrapping_add_signed(self.0.offset.load(Ordering::Relaxed)).saturating_sub(lag)
            }
            frozen => frozen,
        }
    }

    fn stolen(&self) -> MutexGuard<'_, Option<Stolen>> {
        self.0.stolen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The calling thread is the machine's from now on: what the host takes from it guest time makes up for gently. Without
    /// this, and for a manual clock, guest time jumps as the host's does.
    pub fn own(&self) {
        if self.0.origin.is_some() {
            let now = self.now();
            *self.stolen() = Some(Stolen::new(self.raw()));
            self.set(now);
        }
    }

    /// How far guest time is behind what it would be on an idle host, but for what [`Clock::rest`] was patient.
    pub fn behind(&self) -> Nanos {
        self.stolen().as_ref().map_or(0, Stolen::unwanted)
    }

    /// Lets the machine's thread wait while the guest has nothing to do for `nap`: `wait` is called with the host's time to wait
    /// at most, which is less where guest time is behind, or not at all.
    ///
    /// Where it has to wait it may wait for `patience`, even if that is longer. Guest time makes up for the rest: timer ticks that were
    /// due meanwhile come one after the other, each at its own guest time, and the host was woken once for all of them.
    pub fn rest(&self, nap: Duration, patience: Duration, wait: impl FnOnce(Duration)) {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let (nap, patience) = (nanos(nap), nanos(patience));
        let lag = self.stolen().as_ref().map(Stolen::lag);
        let needed = nap.saturating_sub(lag.unwrap_or(0));
        let longer = if lag.is_some() && needed > 0 { patience.saturating_sub(needed) } else { 0 };
        if needed > 0 {
            wait(Duration::from_nanos(needed + longer));
        }
        let raw = self.raw();
        if let Some(stolen) = self.stolen().as_mut() {
            stolen.rested(raw, nap, longer);
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
            self.forget_stolen();
            self.0.offset.store(frozen.wrapping_sub(self.raw()) as i64, Ordering::Relaxed);
            self.0.frozen.store(RUNNING, Ordering::Relaxed);
        }
    }

    /// Sets guest time (restore, manual clocks and tests).
    pub fn set(&self, now: Nanos) {
        if self.0.frozen.load(Ordering::Relaxed) == RUNNING {
            self.forget_stolen();
            self.0.offset.store(now.wrapping_sub(self.raw()) as i64, Ordering::Relaxed);
        } else {
            self.0.frozen.store(now, Ordering::Relaxed);
        }
    }

    fn forget_stolen(&self) {
        let raw = self.raw();
        if let Some(stolen) = self.stolen().as_mut() {
            stolen.restart(raw);
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
