//! Random runs of x87 and SSE instructions: what one engine leaves in registers, tags, flags, exceptions, pointers and memory, all
//! others leave, too. The operands are zeros, small numbers, denormals, infinities, NaNs of both kinds and encodings that are
//! none; rounding, precision and masks are whatever comes.

use vm_core::bus::Bus;
use vm_core::cpu::Cpu;
use vm_core::cpu::cpuid::CpuModel;
use vm_core::cpu::fpu::float::F80;
use vm_core::cpu::state::{SegReg, Segment, cr0, cr4, gpr};

use crate::engine::ENGINES;
use crate::flat_bus::FlatBus;
use crate::lockstep::{difference, image};
use crate::noise::Random;

const CODE: u64 = 0x1000;
/// Where ESI points: numbers of all formats before and behind.
const DATA: u64 = 0x3000;
const MEMORY: u64 = 0x1_0000;

/// Bits of an 80-bit number.
fn extended(random: &mut Random) -> F80 {
    let sign = (random.next() as u16) & 0x8000;
    let (significand, exponent) = match random.below(12) {
        0 => (0, 0),
        1 => (1 << 63, 0x7fff),
        2 => (0xc000_0000_0000_0000 | random.next() >> 2, 0x7fff),
        3 => (0x8000_0000_0000_0000 | random.next() >> 2 | 1, 0x7fff),
        4 => (random.next() >> random.below(64), 0),
        5 => (random.next(), random.next() as u16 & 0x7fff),
        6 => (1 << 63 | random.next(), [1, 0x7ffe][random.below(2) as usize]),
        // Near the ends of what a double and a single hold.
        7 => (1 << 63 | random.next(), [0x3c01, 0x43fe, 0x3f81, 0x407e][random.below(4) as usize]),
        8 => (1 << 63 | random.next() << 40, 0x3fff),
        _ => (1 << 63 | random.below(16) << 59, 0x3ff0 + random.below(40) as u16),
    };
    F80 { significand, sign_exponent: sign | exponent }
}

/// Bits of a number of 64 bits, or of two of 32.
fn number(random: &mut Random) -> u64 {
    let sign = random.next() & 1 << 63;
    match random.below(10) {
        0 => sign,
        1 => sign | 0x7ff0_0000_0000_0000,
        2 => sign | 0x7ff8_0000_0000_0000 | random.next() >> 13,
        3 => sign | 0x7ff0_0000_0000_0000 | random.next() >> 13 | 1,
        4 => sign | random.next() >> 12 >> random.below(50),
        5 => random.next(),
        6 => {
            let single =
                |random: &mut Random| (random.next() as u32 & 0x8000_0000) | (random.below(20) as f32).to_bits();
            u64::from(single(random)) << 32 | u64::from(single(random))
        }
        7 => u64::from(random.next() as u32 & 0xffbf_ffff | 0x7f80_0001) | random.next() << 32,
        _ => (random.below(2000) as f64 / 8.0 - 100.0).to_bits(),
    }
}

/// An x87 instruction on registers.
fn on_stack(random: &mut Random) -> Vec<u8> {
    let st = random.below(8) as u8;
    match random.below(12) {
        0..4 => vec![
            [0xd8, 0xdc, 0xde][random.below(3) as usize],
            0xc0 | [0, 1, 4, 5, 6, 7][random.below(6) as usize] << 3 | st,
        ],
        4 => vec![0xd8, 0xd0 | (random.below(2) as u8) << 3 | st],
        5 => vec![0xd9, 0xc0 | (random.below(2) as u8) << 3 | st],
        6 => vec![0xdd, [0xc0, 0xd0, 0xd8, 0xe0, 0xe8][random.below(5) as usize] | st],
        7 => vec![0xd9, [0xe0, 0xe1, 0xe4, 0xe5, 0xfa, 0xfc, 0xf6, 0xf7, 0xd0][random.below(9) as usize]],
        8 => vec![0xd9, 0xe8 + random.below(7) as u8],
        9 => vec![[0xda, 0xdb][random.below(2) as usize], 0xc0 | (random.below(4) as u8) << 3 | st],
        // Comparisons into EFLAGS, and a branch that goes to the next instruction.
        10 => vec![
            [0xdb, 0xdf][random.below(2) as usize],
            [0xe8, 0xf0][random.below(2) as usize] | st,
            0x70 | random.below(16) as u8,
            0,
        ],
        _ => [vec![0xde, 0xd9], vec![0xda, 0xe9], vec![0xdf, 0xe0], vec![0x9b], vec![0xdb, 0xe2]]
            [random.below(5) as usize]
            .clone(),
    }
}

/// An x87 instruction on what ESI points to.
fn on_memory(random: &mut Random) -> Vec<u8> {
    let place = (random.next() as u8) & 0x78;
    let (first, field) = match random.below(8) {
        0..3 => ([0xd8, 0xdc, 0xda, 0xde][random.below(4) as usize], random.below(8) as u8),
        3 => ([0xd9, 0xdb, 0xdd, 0xdf][random.below(4) as usize], 0),
        4 => ([0xd9, 0xdb, 0xdd, 0xdf][random.below(4) as usize], 2 + random.below(2) as u8),
        5 => ([0xdb, 0xdf][random.below(2) as usize], [5, 7][random.below(2) as usize]),
        // FLDCW, FNSTCW, FNSTSW.
        6 => [(0xd9, 5), (0xd9, 7), (0xdd, 7)][random.below(3) as usize],
        _ => (0xdd, random.below(4) as u8),
    };
    vec![first, 0x46 | field << 3, place]
}

/// An SSE or SSE2 instruction, on registers or on what ESI points to.
fn vector(random: &mut Random) -> Vec<u8> {
    const FLOATS: [u8; 12] = [0x51, 0x58, 0x59, 0x5a, 0x5b, 0x5c, 0x5d, 0x5e, 0x5f, 0xc2, 0x2e, 0x2f];
    const OTHERS: [u8; 22] = [
        0x10, 0x11, 0x12, 0x14, 0x16, 0x28, 0x29, 0x2a, 0x2c, 0x2d, 0x54, 0x57, 0x6e, 0x6f, 0x70, 0x7e, 0x7f, 0xc6,
        0xd6, 0xe6, 0xef, 0xfe,
    ];
    let mut bytes = Vec::new();
    let prefix = [0, 0x66, 0xf2, 0xf3][random.below(4) as usize];
    if prefix != 0 {
        bytes.push(prefix);
    }
    let op = if random.below(3) < 2 { FLOATS[random.below(12) as usize] } else { OTHERS[random.below(22) as usize] };
    let field = (random.below(8) as u8) << 3;
    bytes.extend([0x0f, op]);
    if random.below(2) == 0 {
        bytes.push(0xc0 | field | random.below(8) as u8);
    } else {
        bytes.extend([0x46 | field, (random.next() as u8) & 0x70]);
    }
    if matches!(op, 0x70 | 0xc2 | 0xc6) {
        bytes.push(random.next() as u8 & 7);
    }
    if matches!(op, 0x2e | 0x2f) {
        bytes.extend([0x70 | random.below(16) as u8, 0]);
    }
    bytes
}

/// Puts a processor and its memory into the state that `seed` stands for.
fn prepare(cpu: &mut Cpu, bus: &mut FlatBus, code: &[u8], seed: u64) {
    let mut random = Random(seed);
    bus.ram().write(CODE, code);
    for at in (DATA - 0x80..DATA + 0x100).step_by(16) {
        let words = match random.below(3) {
            0 => {
                let F80 { significand, sign_exponent } = extended(&mut random);
                [significand, u64::from(sign_exponent)]
            }
            1 => [number(&mut random), number(&mut random)],
            _ => [random.next(), random.below(1000)],
        };
        for (n, word) in words.into_iter().enumerate() {
            bus.ram().write(at + 8 * n as u64, &word.to_le_bytes());
        }
    }
    // Control words that FLDCW may find: masked and not.
    bus.ram().write(DATA + 8, &(random.next() as u16 | 0x3f).to_le_bytes());
    cpu.state.cr[0] |= cr0::PE | random.next() & cr0::NE;
    cpu.state.cr[4] |= cr4::OSFXSR | cr4::OSXMMEXCPT;
    for seg in SegReg::ALL {
        let rights = if seg == SegReg::Cs { 0xc09b } else { 0xc093 };
        cpu.state.seg[seg as usize] = Segment { base: 0, limit: u32::MAX, rights, selector: 8 + seg as u16 * 8 };
    }
    for register in &mut cpu.state.gpr {
        *register = random.next() & 0xffff_ffff;
    }
    cpu.state.gpr[gpr::RSI] = DATA;
    cpu.state.gpr[gpr::RSP] = 0x8000;
    cpu.state.rip = CODE;
    cpu.state.halted = false;
    cpu.state.mxcsr = if random.below(3) == 0 { random.next() as u32 & 0xffff } else { 0x1f80 };
    for register in &mut cpu.state.vector[..8] {
        *register = u128::from(number(&mut random)) | u128::from(number(&mut random)) << 64;
    }
    cpu.fpu.init();
    cpu.fpu.set_control(if random.below(4) == 0 { random.next() as u16 } else { random.next() as u16 & 0xf00 | 0x3f });
    cpu.fpu.top = random.below(8) as u8;
    cpu.fpu.valid = random.next() as u8 | random.next() as u8;
    for register in &mut cpu.fpu.registers {
        *register = extended(&mut random);
    }
}

#[test]
fn engines_agree_on_floating_point() {
    let cases: u64 = std::env::var("HAKO_FLOAT_CASES").map_or(6_000, |text| text.parse().unwrap());
    let seed = std::env::var("HAKO_FLOAT_SEED").map_or(0x0123_4567_89ab_cdef, |text| text.parse().unwrap());
    let (reference, others) = ENGINES.split_first().expect("the interpreter");
    for engine in others {
        let mut random = Random(seed);
        let mut machines = [reference, engine].map(|engine| {
            let mut cpu = (engine.make)();
            cpu.model = CpuModel::Max;
            // Each run is written anew, so that none is entered twice.
            cpu.code.set_threshold(0, 0);
            let mut bus = FlatBus::new(MEMORY);
            bus.quiet = true;
            prepare(&mut cpu, &mut bus, &[0xf4], 1);
            cpu.state_changed();
            (cpu, bus)
        });
        for case in 0..cases / engine.cost {
            let mut code = Vec::new();
            let kind = random.below(4);
            for _ in 0..2 + random.below(12) {
                code.extend(match (kind, random.below(8)) {
                    (_, 0) => vec![0x01, 0xd8],
                    (0 | 1, 1..5) | (2, 1..3) => on_stack(&mut random),
                    (0 | 1, _) | (2, 3..5) => on_memory(&mut random),
                    _ => vector(&mut random),
                });
            }
            code.push(0xf4);
            for _ in 0..4 {
                let start = random.next() | 1;
                let [expected, ours] = machines.each_mut().map(|(cpu, bus)| {
                    prepare(cpu, bus, &code, start);
                    bus.signals().take_raised();
                    let before = cpu.retired;
                    let exit = cpu.run(bus, 100);
                    cpu.retired = cpu.retired.wrapping_sub(before);
                    image(cpu, exit)
                });
                assert!(
                    ours == expected,
                    "{}, case {case} of seed {seed:#x}: {code:02x?} from {start:#x}:{}",
                    engine.name,
                    difference(&ours, &expected)
                );
                let [(_, one), (_, other)] = &machines;
                assert!(
                    one.bytes() == other.bytes(),
                    "{}, case {case} of seed {seed:#x}: memory differs after {code:02x?}",
                    engine.name
                );
            }
        }
        let stats = machines[1].0.code.stats;
        let native = stats.native_instructions + stats.region_instructions;
        assert!(native > cases / engine.cost, "{}: {native} instructions were made native code", engine.name);
    }
}
