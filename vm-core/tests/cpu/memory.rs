//! A guest that makes new code for ever: what is translated stays within its bounds, and what is executed stays right.

use vm_core::bus::Bus;
use vm_core::cpu::Cpu;
use vm_core::cpu::state::gpr;

use crate::engine::{ENGINES, Engine, set_flat};
use crate::flat_bus::FlatBus;

/// Functions that are made and called.
const CALLS: u64 = 150_000;

/// Writes `mov eax, ecx; ret` to one place after the other, calls it there, and adds up what it returns.
#[rustfmt::skip]
const PROGRAM: &[u8] = &[
    0x31, 0xdb,                         //        xor ebx, ebx
    0x31, 0xc9,                         //        xor ecx, ecx
    0xbf, 0x00, 0x00, 0x10, 0x00,       // again: mov edi, 0x100000
    0xc6, 0x07, 0xb8,                   // next:  mov byte [edi], 0xb8
    0x89, 0x4f, 0x01,                   //        mov [edi + 1], ecx
    0xc6, 0x47, 0x05, 0xc3,             //        mov byte [edi + 5], 0xc3
    0xff, 0xd7,                         //        call edi
    0x01, 0xc3,                         //        add ebx, eax
    0x41,                               //        inc ecx
    0x83, 0xc7, 0x40,                   //        add edi, 64
    0x81, 0xff, 0x00, 0x00, 0xf0, 0x00, //        cmp edi, 0xf00000
    0x72, 0xe6,                         //        jb next
    0xeb, 0xdf,                         //        jmp again
];

#[test]
fn a_guest_that_makes_code_for_ever_takes_no_more_memory() {
    for engine in ENGINES {
        make_code_for_ever(engine, (engine.make)());
    }
}

#[test]
fn the_same_while_all_blocks_wait_for_native_code() {
    // Those that compile regions would do so at the first entry.
    for engine in ENGINES.iter().filter(|engine| engine.cost == 1) {
        let mut cpu = (engine.make)();
        cpu.code.set_threshold(0, 1_000);
        make_code_for_ever(engine, cpu);
    }
}

/// Runs the program.
fn make_code_for_ever(engine: &Engine, mut cpu: Cpu) {
    let mut bus = FlatBus::new(16 << 20);
    bus.ram().write(0x1000, PROGRAM);
    bus.forget_code();
    cpu.code.set_limits(8, 1 << 20);
    cpu.state.gpr[gpr::RSP] = 0x8000;
    set_flat(&mut cpu, 0x1000);
    let mut most = 0;
    while cpu.state.gpr[gpr::RCX] < CALLS {
        cpu.run(&mut bus, 10_000);
        bus.signals().take_raised();
        most = most.max(cpu.code.memory());
    }
    let calls = cpu.state.gpr[gpr::RCX];
    // The slice may have ended between a call and the addition of what it returned.
    let sum = |calls: u64| calls * calls.wrapping_sub(1) / 2 & 0xffff_ffff;
    let sums = [sum(calls), sum(calls + 1)];
    assert!(sums.contains(&cpu.state.gpr[gpr::RBX]), "{}: {:x?}", engine.name, cpu.state.gpr);
    let stats = cpu.code.stats;
    assert!(most <= 12 << 20, "{}: {most} bytes", engine.name);
    assert!(stats.aged > CALLS / 8 && stats.flushes <= 1, "{}: {stats:?}", engine.name);
    assert!(stats.native_blocks < 1000 || stats.parts > 20, "{}: {stats:?}", engine.name);
}
