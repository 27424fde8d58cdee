//! Ticks that came late: kept, and passed on later at a bounded rate.
//!
//! A periodic timer is a function of guest time, so it knows how many ticks there should have been. Where the last one still waits for the
//! processor, or several have come at once, the rest is owed, and follows at up to twice the rate.

use serde::{Deserialize, Serialize};

use crate::bus::clock::{Nanos, SECOND};

/// Most guest time that is made up for.
const MOST_OWED: Nanos = 2 * SECOND;
/// Least distance of two ticks of which one is made up for.
const LEAST_SPACING: Nanos = 20_000;

/// The ticks of one periodic timer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backlog {
    owed: u64,
    /// Guest time before which no owed tick is passed on.
    owed_from: Nanos,
    late: u64,
    lost: u64,
}

impl Backlog {
    /// `fresh` ticks of a timer with this period have come up to `now`; `waiting`: the last one that was passed on has not been taken yet.
    /// True: pass one on now.
    pub fn offer(&mut self, fresh: u64, waiting: bool, period: Nanos, now: Nanos) -> bool {
        let owed_due = self.owed > 0 && now >= self.owed_from;
        let mut pass = fresh > 0 && !waiting;
        let late = fresh - u64::from(pass);
        if late > 0 {
            self.late = self.late.saturating_add(late);
            let owed = self.owed.saturating_add(late);
            self.owed = owed.min((MOST_OWED / period.max(1)).max(1));
            self.lost = self.lost.saturating_add(owed - self.owed);
        } else if owed_due && !pass && !waiting {
            self.owed -= 1;
            pass = true;
        }
        if self.owed > 0 && (fresh > 0 || owed_due) {
            self.owed_from = now.saturating_add((period / 2).max(LEAST_SPACING));
        }
        pass
    }

    /// Nothing is owed any more: the timer was stopped, masked or given another rate.
    pub fn forget(&mut self) {
        self.owed = 0;
    }

    /// When an owed tick may be passed on.
    pub fn next_event(&self) -> Option<Nanos> {
        (self.owed > 0).then_some(self.owed_from)
    }

    /// Ticks that came late, in all, and those given up because too many were owed.
    pub fn late_and_lost(&self) -> (u64, u64) {
        (self.late, self.lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    #[test]
    fn late_ticks_follow_at_up_to_twice_the_rate() {
        let mut ticks = Backlog::default();
        assert!(ticks.offer(1, false, MS, MS));
        assert_eq!(ticks.next_event(), None);
        assert!(!ticks.offer(1, true, MS, 2 * MS), "the first still waits");
        assert!(ticks.offer(2, false, MS, 4 * MS));
        assert_eq!(ticks.next_event(), Some(4 * MS + MS / 2));
        assert!(!ticks.offer(0, false, MS, 4 * MS + MS / 4));
        assert!(ticks.offer(0, false, MS, 4 * MS + MS / 2));
        assert!(ticks.offer(1, false, MS, 5 * MS));
        assert!(ticks.offer(0, false, MS, 5 * MS + MS / 2));
        assert_eq!((ticks.next_event(), ticks.late_and_lost()), (None, (2, 0)));
    }

    #[test]
    fn there_is_an_end_to_what_is_owed() {
        let mut ticks = Backlog::default();
        assert!(ticks.offer(u64::MAX, false, MS, MS));
        assert_eq!((ticks.owed, ticks.lost), (2000, u64::MAX - 2001));
        ticks.offer(u64::MAX, true, 0, MS);
        ticks.forget();
        assert_eq!(ticks.next_event(), None);
    }
}
