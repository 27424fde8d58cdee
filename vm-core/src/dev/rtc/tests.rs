//! The clock as guests and firmware see it.

use super::*;
use crate::bus::irq::IrqLines;
use crate::bus::signals::Signals;
use crate::dev::suite;
use std::sync::Arc;

struct Bench {
    rtc: Rtc,
    clock: Clock,
    lines: Arc<IrqLines>,
}

impl Bench {
    fn at(seconds: i64) -> Self {
        let (lines, clock) = (Arc::new(IrqLines::default()), Clock::manual());
        let irq = IrqLine::new(&lines, &Arc::new(Signals::new()), 8);
        let setup = CmosSetup {
            memory: 128 << 20,
            memory_above_4g: 0,
            floppy_types: [4, 0],
            boot_order: CmosSetup::boot_order_of("cad"),
            fpu: true,
        };
        Self { rtc: Rtc::new(irq, clock.clone(), RtcBase::At(seconds), &setup), clock, lines }
    }

    fn read(&mut self, address: usize) -> u8 {
        self.rtc.write(0, address as u8);
        self.rtc.read(1)
    }

    fn write(&mut self, address: usize, value: u8) {
        self.rtc.write(0, address as u8 | 0x80);
        self.rtc.write(1, value);
    }

    fn now(&mut self) -> [u8; 8] {
        [CENTURY, YEAR, MONTH, DAY, HOURS, MINUTES, SECONDS, WEEKDAY].map(|at| self.read(at))
    }

    fn go(&mut self, to: Nanos) {
        self.clock.set(to);
        self.rtc.advance(to);
    }
}

#[test]
fn the_time_of_day_catches_up_over_days_and_alarms() {
    // Saturday, 29 February 2020, 23:59:58.
    let mut bench = Bench::at(1_583_020_798);
    bench.write(HOURS_ALARM, 0x07);
    bench.write(MINUTES_ALARM, 0x30);
    bench.write(SECONDS_ALARM, 0x00);
    bench.write(B, B_24_HOURS | B_ALARM);
    bench.rtc.catch_up(0);
    assert_eq!(bench.now(), [0x20, 0x20, 0x02, 0x29, 0x23, 0x59, 0x58, 0x07]);
    bench.rtc.catch_up(3 * 86_400 + 4);
    assert_eq!(bench.now(), [0x20, 0x20, 0x03, 0x04, 0x00, 0x00, 0x02, 0x04]);
    assert!(bench.lines.level() & 1 << 8 != 0, "the alarm of half past seven was missed");
    // It goes on from there, a second a second.
    bench.go(SECOND);
    assert_eq!(bench.now()[6], 0x03);
    // Held by the guest it stands.
    bench.write(B, B_SET | B_24_HOURS);
    bench.rtc.catch_up(50);
    assert_eq!(bench.now()[6], 0x03);
}

#[test]
fn the_time_is_told_in_every_format() {
    // Saturday, 29 February 2020, 23:59:58.
    let mut bench = Bench::at(1_583_020_798);
    assert_eq!(bench.now(), [0x20, 0x20, 0x02, 0x29, 0x23, 0x59, 0x58, 0x07]);
    bench.go(2 * SECOND);
    assert_eq!(bench.now(), [0x20, 0x20, 0x03, 0x01, 0x00, 0x00, 0x00, 0x01]);
    bench.write(B, B_BINARY);
    let mut bench = Bench::at(946_684_799);
    bench.write(B, B_SET | B_BINARY);
    for (at, value) in [(YEAR, 99), (CENTURY, 19), (MONTH, 12), (DAY, 31), (HOURS, 0x8b), (MINUTES, 59), (SECONDS, 59)]
    {
        bench.write(at, value);
    }
    bench.go(10 * SECOND);
    assert_eq!(bench.read(SECONDS), 59, "it stands while it is set");
    bench.write(B, B_BINARY);
    bench.go(11 * SECOND);
    assert_eq!(bench.now()[..7], [20, 0, 1, 1, 12, 0, 0]);
    assert_eq!(Time::from_unix(0).weekday, 5);
    for seconds in [i64::MIN, i64::MAX] {
        assert!(Time::from_unix(seconds).year <= 9999);
    }
}

#[test]
fn an_update_is_announced_and_interrupts() {
    let mut bench = Bench::at(0);
    bench.write(B, B_24_HOURS | B_UPDATE);
    bench.clock.set(SECOND - UPDATE_TIME - 1);
    assert_eq!(bench.read(A), 0x26);
    bench.clock.set(SECOND - UPDATE_TIME);
    assert_eq!(bench.read(A), 0xa6);
    assert_eq!(bench.rtc.next_event(), Some(SECOND));
    bench.go(SECOND);
    assert_eq!((bench.read(A), bench.lines.level()), (0x26, 1 << 8));
    assert_eq!(bench.read(C), 0xd0, "the periodic flag is set too, without an interrupt of its own");
    assert_eq!((bench.read(C), bench.lines.level()), (0, 0));
    // Divider held and let go: the next update is half a second later.
    bench.write(A, 0x66);
    bench.go(5 * SECOND + 7);
    bench.write(A, 0x26);
    assert_eq!(bench.rtc.next_event(), Some(5 * SECOND + 7 + SECOND / 2));
}

#[test]
fn alarms_match_with_wild_cards() {
    let mut bench = Bench::at(0);
    bench.write(HOURS_ALARM, 0xff);
    bench.write(MINUTES_ALARM, 0x01);
    bench.write(SECONDS_ALARM, 0x30);
    bench.write(B, B_24_HOURS | B_ALARM);
    bench.go(89 * SECOND);
    assert_eq!(bench.lines.level(), 0);
    bench.go(90 * SECOND);
    assert_eq!((bench.lines.level(), bench.read(C) & 0xa0), (1 << 8, 0xa0));
    bench.go(5000 * SECOND);
    assert_eq!(bench.read(C) & B_ALARM, B_ALARM, "one of the seconds that were caught up with");
}

#[test]
fn periodic_interrupts_do_not_drift_and_late_ones_are_owed() {
    let mut bench = Bench::at(0);
    bench.write(A, 0x26);
    bench.write(B, B_24_HOURS | B_PERIODIC);
    let mut count = 0;
    while bench.rtc.next_event().is_some_and(|at| at <= 10 * SECOND) {
        let at = bench.rtc.next_event().expect("periodic");
        bench.go(at);
        assert_eq!(bench.read(C) & 0xc0, 0xc0);
        count += 1;
    }
    assert_eq!(count, 10_240);
    bench.go(10 * SECOND + 5 * SECOND / 1024 + 1);
    assert_eq!(bench.rtc.late_ticks(), (4, 4));
    let end = 10 * SECOND + SECOND / 2;
    while let Some(at) = bench.rtc.next_event().filter(|at| *at <= end) {
        bench.go(at.max(bench.clock.now()));
        count += u64::from(bench.read(C) & B_PERIODIC != 0);
    }
    assert_eq!((count, bench.rtc.late_ticks().1), (10_240 + 512, 0));
}

#[test]
fn firmware_finds_memory_drives_and_boot_order() {
    let mut bench = Bench::at(0);
    let word = |bench: &mut Bench, at: usize| u16::from(bench.read(at)) | u16::from(bench.read(at + 1)) << 8;
    assert_eq!(word(&mut bench, 0x15), 640);
    assert_eq!(word(&mut bench, 0x30), 0xffff);
    assert_eq!(word(&mut bench, 0x34), 112 * 16);
    assert_eq!((bench.read(0x10), bench.read(0x14)), (0x40, 0x07));
    assert_eq!((bench.read(0x3d), bench.read(0x38)), (0x12, 0x31));
    assert_eq!(bench.read(D), 0x80);
    bench.rtc.write(2, 0x05);
    bench.rtc.write(3, 0x77);
    assert_eq!((bench.rtc.read(3), bench.read(5)), (0x77, 0));
}

#[test]
fn any_guest_and_any_file() {
    suite::check(
        || Bench::at(1_000_000_000).rtc,
        |rtc| {
            rtc.write(0, B as u8);
            rtc.write(1, B_PERIODIC | B_24_HOURS);
            rtc.advance(SECOND);
        },
    );
    let Bench { rtc, clock, .. } = Bench::at(0);
    suite::hammer(rtc, 40_000, |rtc, random, now| {
        clock.set(now);
        rtc.write(0, random.below(0x18) as u8);
        rtc.write(random.below(4) as u16, random.next() as u8);
        rtc.read(random.below(5) as u16);
    });
}
