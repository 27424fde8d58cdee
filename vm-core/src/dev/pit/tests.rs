//! Waveforms, counts, and ticks that come late.

use super::*;
use crate::bus::clock::SECOND;
use crate::bus::irq::{IrqLines, IrqRoutes};
use crate::bus::signals::Signals;
use crate::dev::pic::Pic;
use crate::dev::suite;
use std::sync::Arc;

struct Bench {
    pit: Pit,
    clock: Clock,
    lines: Arc<IrqLines>,
}

impl Bench {
    fn new() -> Self {
        let (lines, clock) = (Arc::new(IrqLines::default()), Clock::manual());
        let irq = IrqLine::new(&lines, &Arc::new(Signals::new()), 0);
        Self { pit: Pit::new(irq, clock.clone()), clock, lines }
    }

    /// Control word and two bytes of count.
    fn program(&mut self, counter: u16, mode: u8, count: u16) {
        self.pit.write(3, (counter as u8) << 6 | 0x30 | mode << 1);
        self.pit.write(counter, count as u8);
        self.pit.write(counter, (count >> 8) as u8);
    }

    fn at(&mut self, tick: u64) -> &mut Self {
        self.clock.set(tick_deadline(tick, HERTZ));
        self.pit.advance(self.clock.now());
        self
    }

    fn value(&mut self, counter: u16) -> u16 {
        self.pit.write(3, (counter as u8) << 6);
        u16::from(self.pit.read(counter)) | u16::from(self.pit.read(counter)) << 8
    }

    fn output(&mut self, counter: u8) -> bool {
        self.pit.write(3, 0xe0 | 2 << counter);
        self.pit.read(u16::from(counter)) & 0x80 != 0
    }

    fn rose(&self) -> bool {
        self.lines.take_rose() & 1 != 0
    }
}

#[test]
fn waveforms_are_those_of_the_data_sheet() {
    // Mode, count, ticks after the load at which OUT is high, of the first ten. The load is one clock after the write.
    let waves: [(u8, u16, &str); 5] =
        [(0, 4, "____------"), (2, 3, "--_--_--_-"), (3, 4, "--__--__--"), (3, 5, "---__---__"), (4, 3, "---_------")];
    for (mode, count, wave) in waves {
        let mut bench = Bench::new();
        bench.program(0, mode, count);
        for (n, level) in wave.chars().enumerate() {
            assert_eq!(bench.at(1 + n as u64).output(0), level == '-', "mode {mode}, count {count}, clock {n}");
        }
    }
    let mut bench = Bench::new();
    for (mode, wave) in [(1, "___-----"), (5, "---_----")] {
        bench.pit.set_gate_2(false);
        bench.program(2, mode, 3);
        assert!(bench.output(2), "waits for its trigger");
        let start = bench.pit.tick();
        bench.pit.set_gate_2(true);
        for (n, level) in wave.chars().enumerate() {
            assert_eq!(bench.at(start + 1 + n as u64).pit.output_2(), level == '-', "mode {mode}, clock {n}");
        }
    }
}

#[test]
fn counts_are_read_whole_in_binary_and_bcd() {
    let mut bench = Bench::new();
    bench.program(1, 2, 0);
    assert_eq!(bench.at(1).value(1), 0);
    assert_eq!(bench.at(2).value(1), 0xffff);
    bench.program(0, 0, 10);
    assert_eq!(bench.at(2 + 1 + 12).value(0), 0xfffe, "mode 0 counts on through zero");
    bench.pit.write(3, 0x35);
    bench.pit.write(0, 0x00);
    bench.pit.write(0, 0x10);
    assert_eq!(bench.at(15 + 1 + 1).value(0), 0x0999);
    // A latched count stays until it is read.
    bench.pit.write(3, 0x00);
    bench.at(100);
    assert_eq!((bench.pit.read(0), bench.pit.read(0)), (0x99, 0x09));
    // Read back status and count: status comes first.
    bench.pit.write(3, 0xc2);
    assert_eq!(bench.pit.read(0), 0x80 | 0x30 | 2 << 1 | 1);
    assert_eq!((bench.pit.read(0), bench.pit.read(0)), (0x16, 0x09));
    let mut odd = Bench::new();
    odd.program(0, 3, 5);
    let values: Vec<_> = (1..7).map(|tick| odd.at(tick).value(0)).collect();
    assert_eq!(values, [4, 2, 0, 4, 2, 4]);
}

#[test]
fn an_hour_of_ticks_has_no_drift() {
    let mut bench = Bench::new();
    bench.program(0, 2, 11932);
    let mut last = 0;
    while let Some(at) = bench.pit.next_event().filter(|at| *at <= 3600 * SECOND) {
        assert!(at > last);
        last = at;
        bench.clock.set(at);
        bench.pit.advance(at);
        assert!(bench.rose());
    }
    assert_eq!(bench.pit.ticks().delivered, (3600 * HERTZ - 1) / 11932);
    assert_eq!(bench.pit.ticks().late, 0);
}

#[test]
fn late_ticks_are_delivered_late_and_not_lost() {
    let mut bench = Bench::new();
    bench.program(0, 2, 1000);
    bench.rose();
    bench.at(1 + 4000);
    assert_eq!(bench.pit.ticks(), Ticks { delivered: 1, owed: 3, late: 3, lost: 0 });
    let mut events = 0;
    while bench.pit.ticks().owed > 0 {
        let at = bench.pit.next_event().expect("ticks are owed");
        bench.clock.set(at);
        bench.pit.advance(at);
        assert!(bench.rose());
        events += 1;
    }
    assert_eq!(events, 5, "three owed ones among the regular ones, at most twice as fast");
    assert_eq!(bench.pit.ticks().delivered, bench.pit.state.counters[0].edges(bench.pit.tick()));
    bench.at(HERTZ * 100);
    assert!(bench.pit.ticks().owed <= 2 * HERTZ / 1000 && bench.pit.ticks().lost > 0, "but not for ever");
}

#[test]
fn a_tick_that_the_processor_has_not_taken_is_owed() {
    let mut bench = Bench::new();
    let mut pic = Pic::new(&bench.lines, &IrqRoutes::default());
    bench.program(0, 3, 1000);
    pic.sync();
    pic.acknowledge();
    pic.write(0, 0x20);
    for tick in 1..=3 {
        bench.at(1 + 1000 * tick);
        pic.sync();
    }
    assert_eq!(bench.pit.ticks(), Ticks { delivered: 1, owed: 2, late: 2, lost: 0 });
    pic.write(1, 1);
    bench.at(4001);
    assert_eq!(bench.pit.ticks().owed, 2, "a masked input owes nothing new");
}

#[test]
fn a_new_count_waits_for_the_end_of_the_period() {
    let mut bench = Bench::new();
    bench.program(0, 2, 100);
    bench.at(51);
    bench.pit.write(0, 40);
    bench.pit.write(0, 0);
    assert_eq!(bench.value(0), 50);
    assert_eq!(bench.at(101).value(0), 40);
    let before = bench.pit.ticks().delivered;
    bench.at(141);
    assert_eq!(bench.pit.ticks().delivered, before + 1);
    bench.program(2, 3, 100);
    bench.pit.set_gate_2(true);
    assert!(bench.at(142 + 49).pit.output_2());
    bench.pit.write(2, 20);
    bench.pit.write(2, 0);
    assert!(!bench.at(142 + 50).pit.output_2());
    assert!(bench.at(142 + 60).pit.output_2(), "the low half is already the new one");
}

#[test]
fn any_guest_and_any_file() {
    let bench = || {
        let mut bench = Bench::new();
        bench.clock.set(12345);
        bench.program(1, 2, 7);
        bench.pit
    };
    suite::check(bench, |pit| {
        for (offset, value) in [(3, 0x34), (0, 0x9c), (0, 0x2e), (3, 0xb6), (2, 5), (3, 0xce)] {
            pit.write(offset, value);
        }
    });
    let Bench { pit, clock, .. } = Bench::new();
    suite::hammer(pit, 40_000, |pit, random, now| {
        clock.set(now);
        match random.below(4) {
            0 => pit.set_gate_2(random.below(2) == 0),
            1 => _ = pit.read(random.below(5) as u16),
            _ => pit.write(random.below(5) as u16, random.next() as u8),
        }
        pit.output_2();
    });
}
