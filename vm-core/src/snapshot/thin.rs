//! Which automatic checkpoints to keep.
//!
//! All of the last hour, one an hour for a day, one a day for a month, one a month after that: so a run of bad states pushes out its own
//! kind, never the last good one.

use super::tree::{SnapshotId, SnapshotInfo, SnapshotKind};

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
const MONTH: u64 = 30 * DAY;
/// Most checkpoints of the last hour.
const MOST_RECENT: usize = 12;

/// How long the span of time is of which one checkpoint of this age is kept; `None`: all are.
fn span(age: u64) -> Option<u64> {
    match age {
        0..HOUR => None,
        HOUR..DAY => Some(HOUR),
        DAY..MONTH => Some(DAY),
        _ => Some(MONTH),
    }
}

/// The checkpoints that may go at `now` (seconds since 1970). What a person took, what was kept before a restore, and checkpoints with a
/// note are never among them. Of each span of time the oldest stays: it was there before whatever went wrong later.
pub fn superfluous(snapshots: &[SnapshotInfo], now: u64) -> Vec<SnapshotId> {
    let mut checkpoints: Vec<&SnapshotInfo> = snapshots
        .iter()
        .filter(|snapshot| snapshot.kind == SnapshotKind::Checkpoint && snapshot.note.is_empty())
        .collect();
    checkpoints.sort_by_key(|snapshot| (snapshot.taken_at, snapshot.id));
    let mut drop = Vec::new();
    let mut last: Option<(u64, u64)> = None;
    let mut recent = Vec::new();
    for snapshot in checkpoints {
        let age = now.saturating_sub(snapshot.taken_at);
        let Some(span) = span(age) else {
            recent.push(snapshot.id);
            continue;
        };
        // Spans are fixed in time, so that which one is kept does not depend on when one looks.
        let this = (span, snapshot.taken_at / span);
        if last == Some(this) {
            drop.push(snapshot.id);
        }
        last = Some(this);
    }
    // Of a very short interval every second one goes, from the oldest on.
    while recent.len() > MOST_RECENT {
        let Some(at) = (1..recent.len() - 1).find(|at| at % 2 == 1) else { break };
        drop.push(recent.remove(at));
    }
    drop
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(id: u32, taken_at: u64) -> SnapshotInfo {
        SnapshotInfo {
            id: SnapshotId(id),
            parent: None,
            name: String::new(),
            note: String::new(),
            taken_at,
            kind: SnapshotKind::Checkpoint,
            has_memory: true,
            own_bytes: 0,
            shared_bytes: 0,
            picture: None,
            children: Vec::new(),
        }
    }

    /// A machine that runs for `hours`, with a checkpoint every `minutes`, thinned after each.
    fn run(hours: u64, minutes: u64) -> Vec<(u32, u64)> {
        let start = 1_700_000_000 / MONTH * MONTH;
        let mut kept: Vec<SnapshotInfo> = Vec::new();
        for n in 0..hours * 60 / minutes {
            let now = start + n * minutes * 60;
            kept.push(snapshot(n as u32, now));
            let gone = superfluous(&kept, now);
            kept.retain(|snapshot| !gone.contains(&snapshot.id));
        }
        kept.iter().map(|snapshot| (snapshot.id.0, snapshot.taken_at - start)).collect()
    }

    #[test]
    fn the_first_hour_is_kept_whole_and_then_one_an_hour() {
        assert_eq!(run(1, 10).len(), 6);
        let day = run(24, 10);
        assert!(day.len() <= 6 + 24, "{day:?}");
        for hour in 0..23 {
            assert!(day.iter().any(|(_, at)| at / HOUR == hour), "hour {hour} of {day:?}");
        }
    }

    #[test]
    fn a_run_of_bad_states_never_pushes_out_the_last_good_one() {
        // Whatever goes wrong, and whenever it is noticed within a day: there is a checkpoint from at most an hour before.
        let kept = run(24, 5);
        for wrong_at in (HOUR..23 * HOUR).step_by(617) {
            let good = kept.iter().rfind(|(_, at)| *at < wrong_at);
            assert!(good.is_some_and(|(_, at)| wrong_at - at <= HOUR + 300), "{wrong_at}: {good:?}");
        }
    }

    #[test]
    fn years_of_checkpoints_stay_few() {
        let kept = run(24 * 365 * 2, 30);
        assert!(kept.len() < 2 + 24 + 31 + 26, "{}", kept.len());
    }

    #[test]
    fn what_a_person_took_or_noted_stays() {
        let mut all: Vec<_> = (0..50).map(|n| snapshot(n, 1000 + u64::from(n))).collect();
        all[7].kind = SnapshotKind::Manual;
        all[8].kind = SnapshotKind::BeforeRestore;
        all[9].note = "works".to_owned();
        let gone = superfluous(&all, 1000 + 10 * DAY);
        assert_eq!(gone.len(), 46, "one of them all stays, and the three");
        assert!([0, 7, 8, 9].iter().all(|id| !gone.contains(&SnapshotId(*id))));
        assert!(superfluous(&[], 0).is_empty());
    }
}
