use super::*;
use crate::bus::clock::SECOND;
use crate::dev::suite;

const ID: u32 = 0x20;
const TPR: u32 = 0x80;
const PPR: u32 = 0xa0;
const EOI: u32 = 0xb0;
const LDR: u32 = 0xd0;
const DFR: u32 = 0xe0;
const SVR: u32 = 0xf0;
const ESR: u32 = 0x280;
const ICR: u32 = 0x300;
const ICR_HIGH: u32 = 0x310;
const LVT_TIMER: u32 = 0x320;
const LVT_THERMAL: u32 = 0x330;
const LVT_LINT0: u32 = 0x350;
const LVT_ERROR: u32 = 0x370;
const INITIAL: u32 = 0x380;
const CURRENT: u32 = 0x390;
const DIVIDE: u32 = 0x3e0;
/// A nanosecond count of one bus clock.
const CLOCK: Nanos = SECOND / HERTZ;

struct Bench {
    apic: LocalApic,
    clock: Clock,
    signals: Arc<Signals>,
}

impl Bench {
    fn new(generation: Generation) -> Self {
        let (clock, signals) = (Clock::manual(), Arc::new(Signals::new()));
        let apic = LocalApic::new(generation, clock.clone(), &signals);
        Self { apic, clock, signals }
    }

    /// Switched on by software, as firmware does.
    fn on() -> Self {
        let mut bench = Self::new(Generation::P6);
        bench.write(SVR, 0x1ff);
        bench
    }

    fn write(&mut self, offset: u32, value: u32) -> Option<u8> {
        self.apic.write(offset, Width::Dword, value)
    }

    fn read(&mut self, offset: u32) -> u32 {
        self.apic.read(offset, Width::Dword) as u32
    }

    fn fixed(&mut self, vector: u8, level: bool) -> bool {
        let message = Message { vector, delivery: Delivery::Fixed, level, destination: 0, logical: false };
        self.apic.receive(message)
    }

    fn at(&mut self, now: Nanos) {
        self.clock.set(now);
        self.apic.advance(now);
    }

    /// Acknowledges and ends what waits.
    fn serve(&mut self) -> Vec<u8> {
        let mut served = Vec::new();
        while self.apic.intr() {
            served.push(self.apic.acknowledge());
            self.write(EOI, 0);
        }
        served
    }
}

#[test]
fn a_driver_finds_what_the_manual_says() {
    let mut p6 = Bench::new(Generation::P6);
    assert_eq!((p6.read(0x30), p6.read(SVR), p6.read(DFR)), (0x4_0011, 0xff, u32::MAX));
    assert_eq!((p6.read(LVT_TIMER), p6.read(LVT_LINT0)), (0x1_0000, 0x700));
    assert!(p6.apic.passes_ext_int());
    p6.write(ID, 0xff00_0000);
    assert_eq!(p6.read(ID), 0x0f00_0000);
    p6.write(LVT_TIMER, 0);
    assert_eq!(p6.read(LVT_TIMER), 0x1_0000, "switched off by software, entries stay masked");
    p6.write(SVR, 0x1e0);
    assert_eq!(p6.read(SVR), 0x1ef, "ones in the low bits of the vector");
    p6.write(LVT_TIMER, u32::MAX);
    assert_eq!(p6.read(LVT_TIMER), 0x3_00ff);
    p6.write(SVR, 0xff);
    assert!(!p6.apic.passes_ext_int());
    assert_eq!(p6.read(LVT_THERMAL), 0);
    p6.write(ESR, 0);
    assert_eq!(p6.read(ESR), ILLEGAL_REGISTER);
    let mut x = Bench::new(Generation::X);
    assert_eq!((x.read(0x30), x.read(LVT_THERMAL)), (0x5_0014, 0x1_0000));
    assert_eq!(x.apic.read(0x32, Width::Word), 0x5);
    assert_eq!(x.apic.read(0x34, Width::Dword), 0);
    x.apic.write(0x80, Width::Byte, 0x20);
    assert_eq!(x.read(TPR), 0, "only whole registers are written");
}

#[test]
fn requests_are_served_by_class() {
    let mut bench = Bench::on();
    for vector in [0x31, 0x41, 0x42] {
        assert!(bench.fixed(vector, false));
    }
    assert_eq!((bench.read(0x210), bench.read(0x220)), (1 << 17, 0b110));
    assert_eq!(bench.apic.acknowledge(), 0x42);
    assert!(!bench.apic.intr(), "0x41 is of the same class as what is in service");
    assert_eq!((bench.read(PPR), bench.read(0x120)), (0x40, 0b100));
    bench.fixed(0x51, false);
    assert_eq!(bench.apic.acknowledge(), 0x51);
    assert_eq!(bench.write(EOI, 0), None);
    assert_eq!(bench.write(EOI, 0), None);
    bench.write(TPR, 0x3f);
    assert_eq!(bench.serve(), [0x41], "the task is more important than 0x31");
    assert_eq!(bench.apic.acknowledge(), 0xff, "spurious");
    bench.write(TPR, 0x2f);
    assert_eq!(bench.serve(), [0x31]);
    assert_eq!(bench.write(EOI, 0), None, "nothing is in service");
}

#[test]
fn the_end_of_a_level_is_told() {
    let mut bench = Bench::on();
    bench.fixed(0x61, true);
    assert_eq!(bench.read(0x1b0), 0b10);
    bench.apic.acknowledge();
    assert_eq!(bench.write(EOI, 0), Some(0x61));
    bench.fixed(0x61, false);
    bench.apic.acknowledge();
    assert_eq!(bench.write(EOI, 0), None);
    bench.write(SVR, 0xff);
    assert!(!bench.fixed(0x61, false), "switched off");
}

#[test]
fn destinations_are_physical_flat_or_clusters() {
    let mut bench = Bench::on();
    let mut is_for_us = |id: u32, ldr: u32, dfr: u32, destination: u8, logical: bool| {
        bench.write(ID, id << 24);
        bench.write(LDR, ldr << 24);
        bench.write(DFR, dfr << 28);
        let message = Message { vector: 0x40, delivery: Delivery::LowestPriority, level: false, destination, logical };
        bench.apic.receive(message)
    };
    assert!(is_for_us(3, 0, 0xf, 3, false) && is_for_us(3, 0, 0xf, 0x0f, false));
    assert!(!is_for_us(3, 0, 0xf, 2, false));
    assert!(is_for_us(3, 0b100, 0xf, 0b110, true) && !is_for_us(3, 0b100, 0xf, 0b011, true));
    assert!(is_for_us(3, 0x24, 0, 0x26, true) && is_for_us(3, 0x24, 0, 0xff, true));
    assert!(!is_for_us(3, 0x24, 0, 0x34, true) && !is_for_us(3, 0x24, 0, 0x23, true));
}

#[test]
fn the_interrupt_command_reaches_us_and_nobody_else() {
    let mut bench = Bench::on();
    bench.write(ICR, 0x4_4055);
    assert_eq!((bench.read(ICR), bench.serve()), (0x4_4055, vec![0x55]));
    bench.write(ICR_HIGH, 0xffff_ffff);
    bench.write(ICR, 0x56);
    assert_eq!((bench.read(ICR_HIGH), bench.serve()), (0xff00_0000, vec![0x56]));
    bench.write(ICR, 0x8_4057);
    assert_eq!(bench.serve(), [0x57], "all, ourselves included");
    bench.write(ESR, 0);
    assert_eq!(bench.read(ESR), 0);
    // As SeaBIOS starts other processors.
    bench.write(ICR, 0xc_4500);
    bench.write(ICR, 0xc_4610);
    assert!(!bench.signals.take_init());
    bench.write(ICR_HIGH, 0x0500_0000);
    bench.write(ICR, 0x58);
    bench.write(ICR, 0x4_4007);
    bench.write(ESR, 0);
    assert_eq!((bench.read(ESR), bench.serve()), (SEND_ACCEPT | SEND_ILLEGAL, vec![]));
    bench.write(ICR_HIGH, 0);
    bench.write(ICR, 0x4400);
    assert!(bench.signals.take_nmi());
    bench.write(ICR, 0x4200);
    assert!(bench.signals.take_smi());
    bench.write(ICR, 0x8500);
    assert!(!bench.signals.take_init(), "the de-assert message");
    bench.write(ICR, 0x4500);
    assert!(bench.signals.take_init());
}

#[test]
fn errors_raise_their_entry() {
    let mut bench = Bench::on();
    bench.write(LVT_ERROR, 0xfe);
    bench.write(ICR, 0x4_4007);
    assert_eq!(bench.serve(), [0xfe]);
    assert!(!bench.fixed(0x0f, false));
    assert_eq!(bench.serve(), [0xfe]);
    assert_eq!(bench.read(ESR), 0, "errors show after a write");
    bench.write(ESR, 0);
    assert_eq!(bench.read(ESR), RECEIVE_ILLEGAL | SEND_ILLEGAL);
}

#[test]
fn lint0_is_the_8259s_or_a_pin_of_its_own() {
    let mut bench = Bench::on();
    bench.apic.set_lint0(true);
    assert!(bench.apic.passes_ext_int() && !bench.apic.intr());
    bench.apic.set_lint0(false);
    bench.write(LVT_LINT0, 0x45);
    assert!(!bench.apic.passes_ext_int());
    bench.apic.set_lint0(true);
    bench.apic.set_lint0(true);
    assert_eq!(bench.serve(), [0x45]);
    bench.apic.set_lint0(false);
    bench.write(LVT_LINT0, 0x8046);
    bench.apic.set_lint0(true);
    assert_eq!(bench.read(LVT_LINT0), 0xc046);
    bench.apic.set_lint0(true);
    assert_eq!(bench.apic.acknowledge(), 0x46);
    assert_eq!(bench.write(EOI, 0), Some(0x46));
    bench.apic.set_lint0(true);
    assert_eq!(bench.serve(), [0x46], "it is still high");
    bench.apic.set_lint0(false);
    bench.write(LVT_LINT0, 0x400);
    bench.apic.set_lint0(true);
    assert!(bench.signals.take_nmi());
}

#[test]
fn the_timer_counts_down_once_or_again_and_again() {
    let mut bench = Bench::on();
    for (divide, divisor) in [(0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (10, 128), (11, 1)] {
        bench.write(DIVIDE, divide);
        bench.write(INITIAL, 1000);
        let start = bench.clock.now();
        bench.at(start + 10 * divisor * CLOCK);
        assert_eq!((bench.read(CURRENT), bench.read(DIVIDE)), (990, divide));
    }
    bench.write(LVT_TIMER, 0x50);
    bench.write(DIVIDE, 3);
    bench.write(INITIAL, 100);
    let start = bench.clock.now();
    assert_eq!(bench.apic.next_event(), Some(start + 1600 * CLOCK));
    bench.at(start + 1599 * CLOCK);
    assert!(!bench.apic.intr());
    bench.at(start + 1600 * CLOCK);
    assert_eq!((bench.serve(), bench.read(CURRENT), bench.apic.next_event()), (vec![0x50], 0, None));

    bench.write(LVT_TIMER, 0x2_0050);
    bench.write(INITIAL, 10_000);
    let start = bench.clock.now();
    for n in 1..1000 {
        let at = bench.apic.next_event().expect("it goes on");
        assert_eq!(at, start + 160_000 * CLOCK * n, "no error adds up");
        bench.at(at);
        assert_eq!(bench.serve(), [0x50]);
    }
    // Three came while the processor looked away.
    bench.at(bench.clock.now() + 3 * 160_000 * CLOCK);
    let mut served = bench.serve().len();
    while let Some(at) = bench.apic.next_event().filter(|at| *at < start + 1010 * 160_000 * CLOCK) {
        bench.at(at);
        served += bench.serve().len();
    }
    assert_eq!((served, bench.apic.late_ticks()), (10, (2, 0)));
    bench.write(LVT_TIMER, 0x3_0050);
    assert_eq!(bench.apic.next_event(), None, "masked");
    bench.write(LVT_TIMER, 0x2_0050);
    bench.write(INITIAL, 0);
    assert_eq!((bench.apic.next_event(), bench.read(CURRENT)), (None, 0));
}

#[test]
fn the_count_goes_on_when_rate_or_mode_change() {
    let mut bench = Bench::on();
    bench.write(LVT_TIMER, 0x50);
    bench.write(DIVIDE, 11);
    bench.write(INITIAL, 1000);
    bench.at(400 * CLOCK);
    bench.write(DIVIDE, 0);
    assert_eq!(bench.read(CURRENT), 600);
    bench.at(500 * CLOCK);
    assert_eq!(bench.read(CURRENT), 550);
    bench.write(LVT_TIMER, 0x2_0050);
    assert_eq!(bench.read(CURRENT), 550);
    bench.at(1600 * CLOCK);
    assert_eq!((bench.serve(), bench.read(CURRENT)), (vec![0x50], 1000));
    bench.write(LVT_TIMER, 0x50);
    bench.at(3600 * CLOCK);
    assert_eq!((bench.serve(), bench.apic.next_event()), (vec![0x50], None));
    bench.write(LVT_TIMER, 0x2_0050);
    assert_eq!(bench.apic.next_event(), None, "a count of 0 stands until it is written");
}

#[test]
fn any_guest_and_any_file() {
    let make = || Bench::on().apic;
    suite::check(make, |apic| {
        apic.write(LVT_TIMER, Width::Dword, 0x2_0050);
        apic.write(INITIAL, Width::Dword, 77);
        apic.write(ICR, Width::Dword, 0x4_4055);
        apic.acknowledge();
        apic.write(ICR, Width::Dword, 0x4_4066);
    });
    let Bench { apic, clock, .. } = Bench::on();
    suite::hammer(apic, 40_000, |apic, random, now| {
        clock.set(now);
        let offset = (random.below(0x48) as u32) << 4;
        match random.below(8) {
            0 => _ = apic.read(random.below(0x1000) as u32, Width::Qword),
            1 => apic.set_lint0(random.below(2) == 0),
            2 => _ = apic.acknowledge(),
            3 => _ = apic.write(SVR, Width::Dword, 0x1ff),
            4 => _ = apic.write(EOI, Width::Dword, 0),
            5 => {
                let message = Message {
                    vector: random.next() as u8,
                    delivery: Delivery::from_bits(random.next() as u32),
                    level: random.below(2) == 0,
                    destination: random.next() as u8,
                    logical: random.below(2) == 0,
                };
                apic.receive(message);
            }
            _ => _ = apic.write(offset, Width::Dword, random.next() as u32 >> random.below(32)),
        }
        apic.intr();
        apic.next_event();
    });
}
