//! Where the snapshots of a tree stand: a column each in the order of time, and a lane for each line of descent.

use std::collections::HashMap;

/// A snapshot, as far as its place is concerned. `parent` is an index into the same list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it was taken from; `None`: from a fresh start.
    pub parent: Option<usize>,
    /// Any number that grows with time.
    pub at: u64,
}

/// The place of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// From the left, oldest first.
    pub column: usize,
    /// From the top.
    pub lane: usize,
}

/// The places of all tiles, and of “now”, which goes on from `present`.
///
/// The lane on top is the one that leads to now. A child stands in the lane of its parent where it goes on with it (towards now,
/// else the newest line); others begin a lane below, where one is free. Nodes whose parent is wrong (not in the list, or a ring)
/// begin a lane of their own: nothing that is read from a disk can hide a snapshot.
pub fn places(nodes: &[Node], present: Option<usize>) -> (Vec<Place>, Place) {
    let parent = |index: usize| nodes[index].parent.filter(|&parent| parent < nodes.len() && parent != index);
    let mut order: Vec<usize> = (0..nodes.len()).collect();
    order.sort_by_key(|&index| (nodes[index].at, index));
    let mut column = vec![0; nodes.len()];
    for (place, &index) in order.iter().enumerate() {
        column[index] = place;
    }
    // The line that leads to now.
    let mut to_now = vec![false; nodes.len()];
    let mut walk = present.filter(|&index| index < nodes.len());
    while let Some(index) = walk {
        if std::mem::replace(&mut to_now[index], true) {
            break;
        }
        walk = parent(index);
    }
    // Which child goes on with the lane of its parent; with the present's own, now does. Clocks may have been wrong: one from before its parent does not.
    let mut heir: HashMap<usize, usize> = HashMap::new();
    for &index in &order {
        if let Some(of) = parent(index).filter(|&of| Some(of) != present)
            && column[of] < column[index]
        {
            let better = heir.get(&of).is_none_or(|&other| to_now[index] >= to_now[other]);
            if better {
                heir.insert(of, index);
            }
        }
    }
    // The line to now owns lane 0; its last tile is “now” itself, in the last column.
    let mut places = vec![Place { column: 0, lane: 0 }; nodes.len()];
    let mut busy_until: Vec<usize> = Vec::new();
    let end_of_line = |mut index: usize| {
        let mut end = column[index];
        while let Some(&next) = heir.get(&index) {
            (index, end) = (next, column[next]);
        }
        end
    };
    let now = Place { column: nodes.len(), lane: 0 };
    busy_until.push(nodes.len() + 1);
    for &index in &order {
        let lane = if to_now[index] {
            0
        } else if let Some(of) = parent(index).filter(|&of| heir.get(&of) == Some(&index)) {
            places[of].lane
        } else {
            // It may stand in a lane that ended before its parent, so that the line from there crosses nothing.
            let from = parent(index).map_or(column[index], |of| column[of].min(column[index]));
            let end = end_of_line(index) + 1;
            let free = busy_until.iter().position(|&until| until <= from);
            let lane = free.unwrap_or(busy_until.len());
            if lane == busy_until.len() {
                busy_until.push(0);
            }
            busy_until[lane] = end;
            lane
        };
        places[index] = Place { column: column[index], lane };
    }
    (places, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(parents: &[Option<usize>]) -> Vec<Node> {
        parents.iter().enumerate().map(|(at, &parent)| Node { parent, at: at as u64 }).collect()
    }

    fn lanes(nodes: &[Node], present: Option<usize>) -> Vec<usize> {
        places(nodes, present).0.iter().map(|place| place.lane).collect()
    }

    #[test]
    fn one_line_stays_one_lane_and_now_is_at_its_end() {
        let nodes = tree(&[None, Some(0), Some(1)]);
        let (places, now) = places(&nodes, Some(2));
        assert_eq!(places.iter().map(|place| place.column).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(lanes(&nodes, Some(2)), [0, 0, 0]);
        assert_eq!(now, Place { column: 3, lane: 0 });
    }

    #[test]
    fn the_way_to_now_is_on_top_and_what_was_left_goes_below() {
        // 0 – 1 – 2, then back to 0 and on with 3.
        let nodes = tree(&[None, Some(0), Some(1), Some(0)]);
        assert_eq!(lanes(&nodes, Some(3)), [0, 1, 1, 0]);
        // Back to 1: now goes on from there, and 2 is beside.
        assert_eq!(lanes(&nodes, Some(1)), [0, 0, 1, 2]);
        // Nothing at all leads to now.
        assert_eq!(lanes(&nodes, None), [1, 2, 2, 1]);
    }

    #[test]
    fn a_lane_is_used_again_where_no_line_is_crossed() {
        // Two short branches, one after the other.
        let nodes = tree(&[None, Some(0), Some(0), Some(2), Some(2), Some(4)]);
        assert_eq!(lanes(&nodes, Some(5)), [0, 1, 0, 1, 0, 0]);
    }

    #[test]
    fn wrong_parents_hide_nothing_and_end() {
        let nodes = vec![
            Node { parent: Some(1), at: 5 },
            Node { parent: Some(0), at: 6 },
            Node { parent: Some(2), at: 1 },
            Node { parent: Some(99), at: 7 },
        ];
        for present in [None, Some(0), Some(1), Some(3), Some(77)] {
            let (places, now) = places(&nodes, present);
            let mut seen: Vec<_> = places.iter().map(|place| place.column).collect();
            seen.sort_unstable();
            assert_eq!(seen, [0, 1, 2, 3]);
            assert_eq!(now.column, 4);
        }
    }

    #[test]
    fn tiles_of_one_lane_never_stand_on_each_other() {
        // A few hundred trees from a small generator.
        let mut seed = 1_u64;
        let mut next = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize
        };
        for _ in 0..300 {
            let count = next() % 12 + 1;
            let parents: Vec<Option<usize>> = (0..count)
                .map(|index| if index == 0 || next() % 8 == 0 { None } else { Some(next() % index) })
                .collect();
            let nodes = tree(&parents);
            let present = if next() % 4 == 0 { None } else { Some(next() % count) };
            let (places, _) = places(&nodes, present);
            for (index, place) in places.iter().enumerate() {
                // A child in its parent's lane has nobody between them.
                if let Some(parent) = parents[index].filter(|&parent| places[parent].lane == place.lane) {
                    let between = places
                        .iter()
                        .any(|other| other.lane == place.lane && other.column > parent && other.column < place.column);
                    assert!(!between, "{parents:?} {present:?}");
                }
            }
        }
    }
}
