//! Engines against each other: the same random code in the same random machine, compared after each slice in every register and
//! flag, and in memory.
//!
//! The first engine is the reference. `HAKO_LOCKSTEP_STEPS` and `HAKO_LOCKSTEP_SEED` make it longer or another run.

use std::fmt::Write;

use vm_core::bus::Bus;
use vm_core::cpu::state::CpuState;
use vm_core::cpu::{Cpu, Exit};

use crate::engine::{ENGINES, Engine};
use crate::flat_bus::FlatBus;
use crate::noise::{MEMORY, MODES, Mode, Random, prepare};

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

/// What a machine has come to.
#[derive(Default)]
pub struct Done {
    /// Instructions executed,
    pub instructions: u64,
    /// and made native code of.
    pub native: u64,
}

/// Two memories for [`compare`].
pub fn buses() -> [FlatBus; 2] {
    [(); 2].map(|()| {
        let mut bus = FlatBus::new(MEMORY);
        bus.quiet = true;
        bus
    })
}

/// One machine full of noise, with `code` over its beginning, on the reference and on another engine: compared after each of its slices,
/// between which the TLB is flushed, code is written and translations are dropped.
///
/// # Panics
/// Where the two differ; says the smallest part of the last slice in which they do.
pub fn compare(engine: &Engine, buses: &mut [FlatBus; 2], mode: Mode, random: &mut Random, code: &[u8]) -> Done {
    let start = random.0;
    let (slice, budget, found) = match run(engine, buses, mode, random, code, None) {
        Ok(done) => return done,
        Err(difference) => difference,
    };
    let mut shorter = |budget| run(engine, buses, mode, &mut Random(start), code, Some((slice, budget))).err();
    let (budget, found) =
        (1..budget).find_map(|budget| shorter(budget).map(|found| (budget, found.2))).unwrap_or((budget, found));
    panic!("{} in {mode:?} from {start:#x}, slice {slice}, {budget} instructions from {found}", engine.name);
}

/// Runs them: all slices, or those before `last` and so many instructions of that one. Where they differ: slice, budget and what is different.
fn run(
    engine: &Engine,
    buses: &mut [FlatBus; 2],
    mode: Mode,
    random: &mut Random,
    code: &[u8],
    last: Option<(usize, u64)>,
) -> Result<Done, (usize, u64, String)> {
    let [one_bus, other_bus] = buses;
    let (mut one, mut other) = ((ENGINES[0].make)(), (engine.make)());
    one_bus.forget_code();
    other_bus.forget_code();
    one_bus.restart(other_bus);
    let start = random.0;
    prepare(&mut one, one_bus, mode, random);
    random.0 = start;
    prepare(&mut other, other_bus, mode, random);
    let at = (0x1_0000 + (one.state.rip & 0x3fff)).min(MEMORY - code.len() as u64);
    one_bus.ram().write(at, code);
    other_bus.ram().write(at, code);
    let mut instructions = 0;
    let tables = tables_of(one_bus);
    // A guest that writes over its own page tables and flushes nothing may see old translations or new ones (SDM vol. 3, 4.10.2).
    let excused = |one: &Cpu, bus: &FlatBus| one.state.cr[0] >> 31 & 1 != 0 && tables_of(bus) != tables;
    for slice in 0..30 {
        let most = [3, 40, 1000][random.below(3) as usize];
        let budget = match last {
            Some((number, budget)) if number == slice => budget,
            _ => 1 + random.below(most),
        };
        let before = one.retired;
        let from = one.state.rip;
        let exits = (one.run(one_bus, budget), other.run(other_bus, budget));
        one_bus.signals().take_raised();
        other_bus.signals().take_raised();
        let (ours, expected) = (image(&other, exits.1), image(&one, exits.0));
        let same = ours == expected && one_bus.bytes() == other_bus.bytes();
        if !same && excused(&one, one_bus) {
            break;
        }
        if ours != expected {
            return Err((slice, budget, format!("{from:x}:{}", difference(&ours, &expected))));
        }
        if one_bus.bytes() != other_bus.bytes() {
            let pairs = one_bus.bytes().iter().zip(other_bus.bytes()).enumerate();
            let different: Vec<_> = pairs.filter(|(_, (one, other))| one != other).take(16).collect();
            return Err((slice, budget, format!("{from:x}: memory (place, expected, found): {different:x?}")));
        }
        if last.is_some_and(|(number, _)| number == slice) {
            break;
        }
        instructions += one.retired.wrapping_sub(before).max(1);
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
            3 | 4 => {
                // What is translated may go at any time: nobody can see it.
                let (at, len) = (0x1_0000 + random.below(0x4000), 1 + random.below(0x1000));
                other.invalidate_code(other_bus, at, len);
            }
            5 => {
                one.state_changed();
                other.state_changed();
            }
            6..=15 => other.code.want_room(),
            _ => {}
        }
        // Whether there was code where something was written is nobody's business.
        one_bus.signals().take_raised();
        other_bus.signals().take_raised();
        if matches!(exits.0, Exit::Halted | Exit::TripleFault) {
            break;
        }
    }
    let stats = other.code.stats;
    Ok(Done { instructions, native: stats.native_instructions + stats.region_instructions })
}

/// The page tables that [`prepare`] makes, without the bits that the processor itself sets in them.
fn tables_of(bus: &FlatBus) -> Vec<u8> {
    let (accessed, dirty) = (1 << 5, 1 << 6);
    let tables = [0x4000..0x8000, 0x2_0000..0x2_2000];
    let bytes = tables.into_iter().flat_map(|table| bus.bytes()[table].iter().enumerate());
    bytes.map(|(at, byte)| if at % 4 == 0 { byte & !(accessed | dirty) } else { *byte }).collect()
}

#[test]
fn engines_agree_on_noise() {
    let steps: u64 = std::env::var("HAKO_LOCKSTEP_STEPS").map_or(200_000, |text| text.parse().unwrap());
    let seed = std::env::var("HAKO_LOCKSTEP_SEED").map_or(0x1234_5678_9abc_def1, |text| text.parse().unwrap());
    for engine in &ENGINES[1..] {
        let mut random = Random(seed);
        let mut buses = buses();
        let (mut all, mut machines) = (Done::default(), 0);
        while all.instructions < steps / engine.cost || machines < 2 * MODES.len() {
            let Done { instructions, native } =
                compare(engine, &mut buses, MODES[machines % MODES.len()], &mut random, &[]);
            machines += 1;
            all.instructions += instructions;
            all.native += native;
        }
        let Done { instructions, native } = all;
        assert!(native > instructions / 20 / engine.cost, "{}: of {instructions}, {native} became native", engine.name);
        eprintln!("{}: {instructions} instructions in {machines} machines as on the {}", engine.name, ENGINES[0].name);
    }
}
