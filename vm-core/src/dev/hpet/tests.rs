use std::sync::Arc;

use super::*;
use crate::bus::clock::SECOND;
use crate::bus::irq::{FIRST_APIC_ONLY, IrqLines, LEGACY_LINES};
use crate::bus::signals::Signals;
use crate::dev::suite;

const CONFIG: u32 = 0x10;
const STATUS: u32 = 0x20;
const COUNTER: u32 = 0xf0;
/// Nanoseconds of a count.
const COUNT: Nanos = SECOND / HERTZ;

struct Bench {
    hpet: Hpet,
    clock: Clock,
    lines: Arc<IrqLines>,
    routes: IrqRoutes,
}

impl Bench {
    fn new() -> Self {
        let (lines, signals) = (Arc::new(IrqLines::default()), Arc::new(Signals::new()));
        let line = |number| IrqLine::new(&lines, &signals, number);
        let own = HpetLines {
            legacy: LEGACY_LINES.map(line),
            routed: std::array::from_fn(|n| line(FIRST_APIC_ONLY + n as u32)),
        };
        let (clock, routes) = (Clock::manual(), IrqRoutes::default());
        Self { hpet: Hpet::new(own, &routes, clock.clone()), clock, lines, routes }
    }

    fn write(&mut self, offset: u32, value: u64) {
        self.hpet.write(offset, Width::Dword, value);
    }

    fn read(&mut self, offset: u32) -> u64 {
        self.hpet.read(offset, Width::Qword)
    }

    fn at(&mut self, counts: u64) -> u32 {
        self.clock.set(counts * COUNT);
        self.hpet.advance(self.clock.now());
        self.lines.take_rose()
    }
}

fn timer(number: u32) -> (u32, u32) {
    (0x100 + 0x20 * number, 0x108 + 0x20 * number)
}

#[test]
fn firmware_finds_three_timers_of_ten_nanoseconds() {
    let mut bench = Bench::new();
    assert_eq!(bench.read(0), 10_000_000 << 32 | 0x8086_a201);
    assert_eq!(bench.hpet.read(4, Width::Dword), 10_000_000);
    for number in 0..3 {
        assert_eq!(bench.read(timer(number).0), 0x00f0_0000 << 32 | 0x30);
        assert_eq!(bench.read(timer(number).1), u64::MAX);
    }
    assert_eq!(bench.read(0x160), 0);
}

#[test]
fn the_counter_runs_while_it_is_enabled() {
    let mut bench = Bench::new();
    bench.at(500);
    assert_eq!(bench.read(COUNTER), 0);
    bench.hpet.write(COUNTER, Width::Qword, 0xffff_ffff);
    bench.write(CONFIG, 1);
    bench.at(510);
    assert_eq!(bench.read(COUNTER), 0x1_0000_0009);
    assert_eq!(bench.hpet.read(COUNTER + 4, Width::Dword), 1);
    bench.write(CONFIG, 0);
    bench.at(600);
    assert_eq!(bench.read(COUNTER), 0x1_0000_0009);
    bench.write(COUNTER + 4, 7);
    assert_eq!(bench.read(COUNTER), 0x7_0000_0009);
}

#[test]
fn a_comparator_fires_when_it_is_equal() {
    let mut bench = Bench::new();
    let (config, comparator) = timer(2);
    // 32 bits, an edge, to input 21.
    bench.write(config, 21 << 9 | INTERRUPT | NARROW);
    assert_eq!(bench.read(comparator), 0xffff_ffff);
    bench.write(comparator, 1000);
    assert_eq!(bench.hpet.next_event(), None);
    bench.write(CONFIG, 1);
    assert_eq!(bench.hpet.next_event(), Some(1000 * COUNT));
    assert_eq!((bench.at(999), bench.at(1000)), (0, 1 << 21));
    assert_eq!(bench.at(1001), 0);
    assert_eq!(bench.hpet.next_event(), Some((1000 + (1 << 32)) * COUNT), "when 32 bits have been round once");
    assert_eq!(bench.at(1000 + (1 << 32)), 1 << 21);
    bench.write(config, INTERRUPT);
    bench.write(comparator, 1500);
    bench.write(comparator + 4, 1);
    assert_eq!(bench.hpet.next_event(), Some(((1 << 32) + 1500) * COUNT));
}

#[test]
fn a_level_stays_until_its_status_is_cleared() {
    let mut bench = Bench::new();
    let (config, comparator) = timer(0);
    bench.write(config, 20 << 9 | INTERRUPT | LEVEL | NARROW);
    bench.write(comparator, 10);
    bench.write(CONFIG, 1);
    assert_eq!(bench.at(10), 1 << 20);
    assert_eq!((bench.lines.level(), bench.read(STATUS)), (1 << 20, 1));
    bench.write(STATUS, 2);
    assert_eq!(bench.lines.level(), 1 << 20);
    bench.write(STATUS, 1);
    assert_eq!((bench.lines.level(), bench.read(STATUS)), (0, 0));
}

#[test]
fn legacy_replacement_and_periods_as_linux_sets_them_up() {
    let mut bench = Bench::new();
    let (config, comparator) = timer(0);
    bench.write(CONFIG, 3);
    assert_eq!(bench.routes.apply(1 << 24 | 1 << 25 | 1), 1 << 0 | 1 << 8);
    assert_eq!(bench.routes.apic_inputs(1 << 24), 1 << 2);
    assert_eq!(bench.routes.apply(1), 0, "the PC's timer is off");
    bench.write(config, INTERRUPT | PERIODIC | SET_VALUE | NARROW);
    let period = 100_000;
    bench.write(comparator, 5 * period);
    bench.write(comparator, period);
    for n in 5..100 {
        assert_eq!(bench.hpet.next_event(), Some(n * period * COUNT));
        assert_eq!(bench.at(n * period), 1 << 24);
        assert_eq!(bench.read(comparator), (n + 1) * period);
    }
    // The processor has not taken the last one: the next are owed.
    bench.lines.set_pending(1 << 24);
    assert_eq!((bench.at(100 * period), bench.at(101 * period)), (0, 0));
    bench.lines.set_pending(0);
    let mut ticks = 0;
    while let Some(at) = bench.hpet.next_event().filter(|at| *at <= 110 * period * COUNT) {
        ticks += u32::from(bench.at(at / COUNT) & 1 << 24 != 0);
    }
    assert_eq!(ticks, 11);
    bench.write(CONFIG, 1);
    assert_eq!(bench.routes.apply(1), 1);
}

#[test]
fn any_guest_and_any_file() {
    suite::check(
        || Bench::new().hpet,
        |hpet| {
            hpet.write(CONFIG, Width::Dword, 3);
            hpet.write(0x100, Width::Dword, INTERRUPT | PERIODIC | NARROW);
            hpet.write(0x108, Width::Dword, 3);
        },
    );
    let Bench { hpet, clock, lines, .. } = Bench::new();
    suite::hammer(hpet, 40_000, |hpet, random, now| {
        clock.set(now);
        let offset = [0x10, 0x20, 0xf0, 0x100, 0x108, 0x120, 0x128, 0x140, 0x148][random.below(9) as usize];
        let offset = offset + [0, 0, 4, random.below(64) as u32][random.below(4) as usize];
        let value = random.next() >> random.below(64);
        match random.below(4) {
            0 => _ = hpet.read(offset & 0x3ff, Width::Dword),
            1 => hpet.write(CONFIG, Width::Dword, random.below(4)),
            2 => hpet.write(offset & 0x3ff, Width::Qword, value),
            _ => hpet.write(offset & 0x3ff, Width::Dword, value),
        }
        lines.set_pending(random.next() as u32);
    });
}
