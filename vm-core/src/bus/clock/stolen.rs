//! Time that the host took from the machine's thread.
//!
//! Where a busy host lets others run, host time goes on and the guest does nothing. Guest time that jumped over such a gap would
//! be seen: a guest that compares two clocks finds ticks missing between two reads, and calls its clocks unstable. So guest time
//! stays behind by what was taken, and makes up for it at up to [`CATCH_UP`] times the rate while the guest runs, and at once
//! while it waits for an interrupt.

use std::thread::ThreadId;

use super::Nanos;

/// Gaps between two reads that are worth asking how long the thread has really run.
const NOTICE: Nanos = 100_000;
/// Nanoseconds made up for each that the guest runs. With this a guest that gets a quarter of a core keeps up.
const CATCH_UP: u64 = 3;
/// Guest time is never further behind than this; what is taken above it is a jump.
const MOST: Nanos = 500_000_000;

/// What is known of the machine's thread.
#[derive(Debug)]
pub(super) struct Stolen {
    owner: ThreadId,
    /// How far guest time is behind,
    lag: Nanos,
    /// and how much of that the machine's thread itself wanted.
    wanted: Nanos,
    /// Host time of the last read.
    last: Nanos,
    /// Host time and the thread's own when they were last compared.
    compared: (Nanos, Nanos),
}

impl Stolen {
    /// Of the calling thread, from host time `raw` on.
    pub fn new(raw: Nanos) -> Self {
        let owner = std::thread::current().id();
        Self { owner, lag: 0, wanted: 0, last: raw, compared: (raw, thread_time()) }
    }

    /// Forgets what was taken: guest time was set.
    pub fn restart(&mut self, raw: Nanos) {
        (self.lag, self.wanted, self.last) = (0, 0, raw);
        if std::thread::current().id() == self.owner {
            self.compared = (raw, thread_time());
        }
    }

    /// How far guest time is behind host time `raw`.
    pub fn lag_at(&mut self, raw: Nanos) -> Nanos {
        let gap = raw.saturating_sub(self.last);
        if gap < NOTICE {
            self.go_on(raw, gap, 0);
        } else if std::thread::current().id() == self.owner {
            let own = thread_time();
            let passed = raw.saturating_sub(self.compared.0);
            let ran = own.saturating_sub(self.compared.1);
            self.compared = (raw, own);
            self.go_on(raw, gap, passed.saturating_sub(ran).min(gap));
        }
        self.lag
    }

    /// Takes in a gap of which the host took `stolen`.
    fn go_on(&mut self, raw: Nanos, gap: Nanos, stolen: Nanos) {
        self.lag = (self.lag + stolen).min(MOST);
        self.lag -= self.lag.min((gap - stolen).saturating_mul(CATCH_UP));
        self.last = raw;
    }

    /// How far guest time is behind now.
    pub fn lag(&self) -> Nanos {
        self.lag
    }

    /// How far guest time is behind now, but for what the machine's thread itself wanted.
    pub fn unwanted(&self) -> Nanos {
        self.lag.saturating_sub(self.wanted)
    }

    /// The guest waited for an interrupt, which is due after `nap` of guest time; host time is now `raw`. All that goes by until
    /// then is made up for. The thread itself wanted to wait for up to `longer` too long.
    pub fn rested(&mut self, raw: Nanos, nap: Nanos, longer: Nanos) {
        let behind = self.lag.saturating_add(raw.saturating_sub(self.last));
        self.lag = behind.saturating_sub(nap).min(MOST);
        self.wanted = self.wanted.saturating_sub(nap).saturating_add(longer).min(self.lag);
        self.last = raw;
        self.compared = (raw, thread_time());
    }
}

/// Nanoseconds that the calling thread has run on a core.
fn thread_time() -> Nanos {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills in the structure that it is given; where it fails, that stays zero.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec.unsigned_abs() * super::SECOND + time.tv_nsec.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_is_made_up_for_at_a_bounded_rate() {
        let mut stolen = Stolen::new(0);
        stolen.go_on(5_000_000, 5_000_000, 4_000_000);
        assert_eq!(stolen.lag, 1_000_000, "a millisecond of running makes up for three");
        stolen.go_on(5_100_000, 100_000, 0);
        assert_eq!(stolen.lag, 700_000);
        stolen.go_on(6_000_000, 900_000, 0);
        assert_eq!(stolen.lag, 0);
        stolen.go_on(10 * MOST, 9 * MOST, 9 * MOST);
        assert_eq!(stolen.lag, MOST, "the rest is a jump");
    }

    #[test]
    fn waiting_makes_up_for_all_of_it() {
        let mut stolen = Stolen::new(0);
        stolen.go_on(8_000_000, 8_000_000, 7_990_000);
        assert_eq!(stolen.lag, 7_960_000);
        // An interrupt in 10 ms of guest time; the wait took 2.5 ms of the host's.
        stolen.rested(10_500_000, 10_000_000, 0);
        assert_eq!(stolen.lag, 460_000);
        stolen.rested(10_500_000 + 20_000_000, 4_000_000, 0);
        assert_eq!((stolen.lag, stolen.unwanted()), (16_460_000, 16_460_000), "the host woke the thread late");
    }

    #[test]
    fn patience_is_made_up_for_and_is_not_lateness() {
        let mut stolen = Stolen::new(0);
        // Ticks every 4 ms, of which the thread wants to sleep over four.
        stolen.rested(20_100_000, 4_000_000, 16_000_000);
        assert_eq!((stolen.lag, stolen.unwanted()), (16_100_000, 100_000), "it woke a tenth of a millisecond late");
        for left in [12_100_000, 8_100_000, 4_100_000, 100_000] {
            stolen.rested(20_100_000, 4_000_000, 0);
            assert_eq!((stolen.lag, stolen.unwanted()), (left, 100_000));
        }
        // Somebody woke it early.
        stolen.rested(22_100_000, 2_000_000, 18_000_000);
        assert_eq!((stolen.lag, stolen.unwanted()), (100_000, 0));
    }

    #[test]
    fn a_thread_that_sleeps_unasked_is_behind_and_one_that_works_is_not() {
        let mut stolen = Stolen::new(0);
        let origin = std::time::Instant::now();
        let raw = || origin.elapsed().as_nanos() as Nanos;
        stolen.restart(raw());
        std::thread::sleep(std::time::Duration::from_millis(30));
        let lag = stolen.lag_at(raw());
        assert!((20_000_000..MOST).contains(&lag), "{lag}");
        let mut other = Stolen { owner: std::thread::spawn(|| std::thread::current().id()).join().unwrap(), ..stolen };
        assert_eq!(other.lag_at(raw() + SECOND_LATER), lag, "another thread's reads count for nothing");
    }

    const SECOND_LATER: Nanos = 1_000_000_000;
}
