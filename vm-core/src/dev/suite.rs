//! What every chip must do, as one test: call [`check`] from the tests of each.

use super::Device;
use crate::bus::clock::SECOND;
use crate::snapshot::section::{LoadError, Section};

/// A small generator of pseudo-random numbers (xorshift64*), the same on every run.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// A generator; equal seeds give equal numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    /// The next number.
    #[allow(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// Checks what holds for all chips.
///
/// `make` builds one as after power-on; `scramble` brings one into a state that differs from it.
///
/// - Two resets are one reset.
/// - Save, load into a fresh chip, save: equal; the same again after a reset.
/// - A section of another kind, a newer version, cut text, lost or cut memories: an error, and nothing has changed.
///
/// # Panics
/// Where something of this does not hold.
pub fn check<D: Device>(make: impl Fn() -> D, scramble: impl Fn(&mut D)) {
    let mut device = make();
    device.reset();
    let fresh = device.save();
    scramble(&mut device);
    let scrambled = device.save();
    assert_ne!(fresh, scrambled, "scramble changes nothing");

    let mut copy = make();
    copy.load(&scrambled).expect("a saved state loads");
    assert_eq!(copy.save(), scrambled, "save → load → save");
    reject_damage(&mut copy, &scrambled);

    device.reset();
    let once = device.save();
    device.reset();
    assert_eq!(device.save(), once, "two resets are one");
    copy.reset();
    assert_eq!(copy.save(), once, "a loaded chip resets like any other");
    copy.load(&once).expect("the state after a reset loads");
    copy.load(&scrambled).expect("a saved state loads over another");
    assert_eq!(copy.save(), scrambled, "nothing of the former state is left");
}

fn reject_damage<D: Device>(device: &mut D, good: &Section) {
    let before = device.save();
    let mut reject = |what: &str, bad: Section| {
        let result = device.load(&bad);
        assert!(result.is_err(), "{what} was accepted");
        assert_eq!(device.save(), before, "{what} changed the chip");
        result
    };
    let other = Section { kind: "something else".into(), ..good.clone() };
    assert!(matches!(reject("another kind", other), Err(LoadError::Kind { .. })));
    let newer = Section { version: good.version + 1, ..good.clone() };
    assert!(matches!(reject("a newer version", newer), Err(LoadError::Newer { .. })));
    let body = good.body.chars().take(good.body.chars().count() / 2).collect();
    let _ = reject("half a text", Section { body, ..good.clone() });
    let _ = reject("no text", Section { body: String::new(), ..good.clone() });
    for index in 0..good.memories.len() {
        let mut lost = good.clone();
        lost.memories.remove(index);
        let _ = reject("a lost memory", lost);
        let mut cut = good.clone();
        cut.memories[index].bytes.pop();
        let _ = reject("a cut memory", cut);
    }
}

/// Most bytes that the state of a chip may take as text, whatever a guest does to it.
const MOST_STATE: usize = 16 << 20;

/// How often the rounds of [`hammer`] are gone through: with `HAKO_LONG` set, millions on each chip.
fn passes() -> u32 {
    if std::env::var_os("HAKO_LONG").is_some() { 200 } else { 4 }
}

/// Calls `access` with random numbers and the running guest time, `rounds` times a pass (see [`passes`]), and
/// [`advance`](Device::advance) between: nothing may panic, and the state must stay one that loads and does not grow without end.
///
/// # Panics
/// Where the state does not load, or is too large.
pub fn hammer<D: Device>(mut device: D, rounds: u32, mut access: impl FnMut(&mut D, &mut Random, u64)) {
    let mut random = Random::new(0x68616b6f);
    let mut now = 0;
    for round in 0..rounds.saturating_mul(passes()) {
        now += if random.below(64) == 0 { random.below(3 * SECOND) } else { random.below(20_000) };
        access(&mut device, &mut random, now);
        if random.below(8) == 0 {
            device.advance(now);
            let _ = device.next_event();
        }
        if round % 4096 == 0 {
            let saved = device.save();
            assert!(saved.body.len() <= MOST_STATE, "after {round} accesses the state has {} bytes", saved.body.len());
            device.load(&saved).unwrap_or_else(|error| panic!("after {round} accesses: {error}"));
            assert_eq!(device.save(), saved);
        }
    }
}
