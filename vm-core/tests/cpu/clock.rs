//! Code that the clock finds to be hot is made once more while it runs, and goes on as before.

use vm_core::bus::Bus;
use vm_core::cpu::state::gpr;
use vm_core::cpu::{Cpu, Exit};

use crate::engine::{ENGINES, Engine, set_flat};
use crate::flat_bus::FlatBus;

/// Turns of the loop.
const TURNS: u32 = 100_000;
/// Double words that it goes round in: two pages.
const WORDS: usize = 0x800;

/// Adds up what it reads, and leaves the count there.
#[rustfmt::skip]
const PROGRAM: &[u8] = &[
    0x8b, 0x06,                         // again: mov eax, [esi]
    0x01, 0xc3,                         //        add ebx, eax
    0x89, 0x0e,                         //        mov [esi], ecx
    0x83, 0xc6, 0x04,                   //        add esi, 4
    0x81, 0xe6, 0xff, 0x1f, 0x10, 0x00, //        and esi, 0x101fff
    0x49,                               //        dec ecx
    0x75, 0xee,                         //        jnz again
    0xf4,                               //        hlt
];

/// What the program adds up.
fn sum() -> u32 {
    let (mut words, mut sum) = ([0; WORDS], 0u32);
    for (turn, count) in (1..=TURNS).rev().enumerate() {
        let word = &mut words[turn % WORDS];
        sum = sum.wrapping_add(std::mem::replace(word, count));
    }
    sum
}

/// An engine before the program.
fn begin(engine: &Engine) -> (Cpu, FlatBus) {
    let bus = FlatBus::new(4 << 20);
    bus.ram().write(0x1000, PROGRAM);
    bus.forget_code();
    let mut cpu = (engine.make)();
    cpu.state.gpr[gpr::RCX] = TURNS.into();
    cpu.state.gpr[gpr::RSI] = 0x10_0000;
    set_flat(&mut cpu, 0x1000);
    (cpu, bus)
}

#[test]
fn hot_code_gets_sites_while_it_runs() {
    let sum = sum();
    for engine in ENGINES {
        let (mut cpu, mut bus) = begin(engine);
        let slices = (0..10_000).take_while(|_| cpu.run(&mut bus, 1_000) != Exit::Halted).count();
        assert_eq!(slices as u32, TURNS * 7 / 1_000, "{}: the count of instructions", engine.name);
        assert_eq!(cpu.state.gpr[gpr::RBX], u64::from(sum), "{}", engine.name);
        if engine.name == "template translator" {
            assert!(cpu.code.stats.hot_blocks > 0, "{:?}", cpu.code.stats);
        }
    }
}

#[test]
fn a_slice_of_whole_blocks_ends_before_one() {
    let sum = sum();
    for engine in ENGINES {
        let (mut cpu, mut bus) = begin(engine);
        let mut slices = 0;
        loop {
            let before = cpu.retired;
            let exit = cpu.run_blocks(&mut bus, 1_000);
            let executed = cpu.retired - before;
            if exit == Exit::Halted {
                break;
            }
            assert_eq!(cpu.state.rip as u32, 0x1000, "{}: where it goes on", engine.name);
            assert!((953..=1000).contains(&executed), "{}: {executed} instructions", engine.name);
            slices += 1;
            assert!(slices < 10_000, "{}", engine.name);
        }
        assert_eq!(cpu.state.gpr[gpr::RBX], u64::from(sum), "{}", engine.name);
        assert_eq!(cpu.retired, u64::from(TURNS) * 7 + 1, "{}", engine.name);
    }
}
