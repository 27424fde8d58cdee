//! Blocks that wait for native code: they get it together, and those that died meanwhile do not.

use vm_core::bus::Bus;
use vm_core::cpu::Exit;
use vm_core::cpu::state::gpr;

use crate::engine::{ENGINES, set_flat};
use crate::flat_bus::FlatBus;

/// Where the loop is, and the two functions that it calls.
const LOOP: u32 = 0x1000;
const FIRST: u32 = 0x2000;
const SECOND: u32 = 0x3000;

/// After so many turns SECOND adds 7 instead of 1.
const CHANGES: u32 = 6;

/// Calls both functions ECX times; EDX counts the turns.
#[rustfmt::skip]
const PROGRAM: &[u8] = &[
    0xe8, 0xfb, 0x0f, 0x00, 0x00,                   // again: call FIRST
    0xe8, 0xf6, 0x1f, 0x00, 0x00,                   //        call SECOND
    0x42,                                           //        inc edx
    0x83, 0xfa, CHANGES as u8,                      //        cmp edx, CHANGES
    0x75, 0x07,                                     //        jne on
    0xc6, 0x05, 0x02, 0x30, 0x00, 0x00, 0x07,       //        mov byte [SECOND + 2], 7
    0x49,                                           // on:    dec ecx
    0x75, 0xe6,                                     //        jnz again
    0xf4,                                           //        hlt
];

#[test]
fn blocks_that_wait_get_native_code_together() {
    for engine in ENGINES {
        let mut bus = FlatBus::new(1 << 20);
        bus.quiet = true;
        bus.ram().write(LOOP.into(), PROGRAM);
        // inc eax; ret, and add eax, 1; ret
        bus.ram().write(FIRST.into(), &[0x40, 0xc3]);
        bus.ram().write(SECOND.into(), &[0x83, 0xc0, 0x01, 0xc3]);
        bus.forget_code();
        let mut cpu = (engine.make)();
        cpu.code.set_threshold(4, 20);
        cpu.state.gpr[gpr::RSP] = 0x8000;
        cpu.state.gpr[gpr::RDX] = 0;
        let mut native = Vec::new();
        for turn in 1..=40_u32 {
            cpu.state.halted = false;
            cpu.state.gpr[gpr::RCX] = 1;
            set_flat(&mut cpu, LOOP);
            assert_eq!(cpu.run(&mut bus, 1_000), Exit::Halted, "{}: turn {turn}", engine.name);
            let sum = turn + turn.min(CHANGES) + 7 * turn.saturating_sub(CHANGES);
            assert_eq!(cpu.state.gpr[gpr::RAX], u64::from(sum), "{}: turn {turn}", engine.name);
            native.push(cpu.code.stats.native_blocks);
        }
        if native.last() == Some(&0) {
            continue; // The engine makes none, or regions.
        }
        // Four turns make a block warm, twenty more make it hot. The block that was written was made anew in turn 7.
        assert_eq!(native[23], 0, "{}: {native:?}", engine.name);
        assert_eq!(
            native[24], 7,
            "{}: all that waited, with the one that took the other's place: {native:?}",
            engine.name
        );
        assert_eq!(native[39], 7, "{}: the one that died has none: {native:?}", engine.name);
    }
}
