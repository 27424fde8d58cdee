//! Engines against each other: the same random code in the same random machine, compared after each slice in every register and
//! flag, and in memory.
//!
//! The first engine is the reference. `HAKO_LOCKSTEP_STEPS` and `HAKO_LOCKSTEP_SEED` make it longer or another run.

use std::fmt::Write;

use vm_core::bus::Bus;
use vm_core::cpu::state::CpuState;
use vm_core::cpu::{Cpu, Exit};

use crate::engine::ENGINES;
use crate::flat_bus::FlatBus;
use crate::noise::{MEMORY, MODES, Random, prepare};

/// Everything of a processor that a program could see, as text a line a register.
pub fn image(cpu: &Cpu, exit: Exit) -> String {
    let mut text = String::new();
    let CpuState { gpr, rip, flags, cpl, interrupt_shadow, debug_shadow, pending_debug, smm, halted, seg, .. } =
        &cpu.state;
    let CpuState { ldtr, tr, gdtr, idtr, cr, pdpte, dr, msr, mxcsr, vector, .. } = &cpu.state;
    let _ = writeln!(text, "{exit:?} after {}", cpu.retired);
    let _ = writeln!(text, "gpr {:x?}", &gpr[..8]);
    let _ = writeln!(text, "rip {rip:x} flags {:x} cpl {cpl}", flags.get());
    let _ =
        writeln!(text, "shadows {interrupt_shadow} {debug_shadow} pending {pending_debug:x} smm {smm} halted {halted}");
    let _ = writeln!(text, "segments {seg:x?} {ldtr:x?} {tr:x?} {gdtr:x?} {idtr:x?}");
    let _ = writeln!(text, "control {cr:x?} {pdpte:x?} debug {dr:x?}");
    let _ = writeln!(text, "{msr:x?} mxcsr {mxcsr:x}");
    let _ = writeln!(text, "xmm {:x?}", &vector[..8]);
    let _ = writeln!(text, "{:x?}", cpu.fpu);
    text
}

/// The lines of one text that the other has not.
pub fn difference(ours: &str, reference: &str) -> String {
    ours.lines()
        .zip(reference.lines())
        .filter(|(ours, reference)| ours != reference)
        .fold(String::new(), |text, (ours, reference)| format!("{text}\n  {ours}\n  instead of\n  {reference}"))
}

#[test]
fn engines_agree_on_noise() {
    let steps: u64 = std::env::var("HAKO_LOCKSTEP_STEPS").map_or(200_000, |text| text.parse().unwrap());
    let seed = std::env::var("HAKO_LOCKSTEP_SEED").map_or(0x1234_5678_9abc_def1, |text| text.parse().unwrap());
    let (reference, others) = ENGINES.split_first().expect("the interpreter");
    for engine in others {
        let mut random = Random(seed);
        let (mut one_bus, mut other_bus) = (FlatBus::new(MEMORY), FlatBus::new(MEMORY));
        one_bus.quiet = true;
        other_bus.quiet = true;
        let (mut done, mut machines, mut native) = (0, 0_u64, 0);
        while done < steps / engine.cost || machines < 2 * MODES.len() as u64 {
            let mode = MODES[machines as usize % MODES.len()];
            machines += 1;
            let (mut one, mut other) = ((reference.make)(), (engine.make)());
            one_bus.forget_code();
            other_bus.forget_code();
            one_bus.restart(&other_bus);
            let start = random.0;
            prepare(&mut one, &mut one_bus, mode, &mut random);
            random.0 = start;
            prepare(&mut other, &mut other_bus, mode, &mut random);
            for _ in 0..30 {
                let most = [3, 40, 1000][random.below(3) as usize];
                let budget = 1 + random.below(most);
                let before = one.retired;
                let from = one.state.rip;
                let exits = (one.run(&mut one_bus, budget), other.run(&mut other_bus, budget));
                one_bus.signals().take_raised();
                other_bus.signals().take_raised();
                let (ours, expected) = (image(&other, exits.1), image(&one, exits.0));
                let place = format!(
                    "{} in {mode:?} machine {machines} of seed {seed:#x}, {budget} instructions from {from:x}",
                    engine.name
                );
                assert!(ours == expected, "{place}:{}", difference(&ours, &expected));
                if one_bus.bytes() != other_bus.bytes() {
                    let mut pairs = one_bus.bytes().iter().zip(other_bus.bytes()).enumerate();
                    let different = pairs.find(|(_, (one, other))| one != other);
                    panic!("{place}: memory differs (place, expected, found): {different:x?}");
                }
                done += one.retired.wrapping_sub(before).max(1);
                match random.below(40) {
                    0 => {
                        one.tlb.flush();
                        other.tlb.flush();
                    }
                    1 => {
                        // Somebody else writes into code.
                        let (at, byte) = (0x1_0000 + random.below(0x4000), random.next() as u8);
                        one_bus.ram().write(at, &[byte]);
                        other_bus.ram().write(at, &[byte]);
                    }
                    2 => {
                        let at = random.next() & 0x3f_ffff;
                        one.tlb.flush_page(at);
                        other.tlb.flush_page(at);
                    }
                    _ => {}
                }
                if matches!(exits.0, Exit::Halted | Exit::TripleFault) {
                    break;
                }
            }
            native += other.code.stats.native_instructions + other.code.stats.region_instructions;
        }
        assert!(
            native > done / 20 / engine.cost,
            "{}: of {done} instructions, {native} were made native code",
            engine.name
        );
        eprintln!("{}: {done} instructions in {machines} machines as on the {}", engine.name, reference.name);
    }
}
