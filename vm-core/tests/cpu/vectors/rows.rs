//! Instructions by shape, and operands that are worth computing with.

use vm_core::cpu::flags::ARITHMETIC;

use super::host::Frame;
use crate::noise::Random;

/// What an instruction's operands are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// Register, and register or so many bytes of memory, aligned.
    Aligned(u8),
    /// The same at any address.
    Any(u8),
    /// Register and register.
    Registers,
    /// Register and memory, aligned.
    Memory(u8),
    /// The operation is in the register field.
    Group(u16),
    /// General register and vector register.
    ToGeneral,
    /// General register, and vector register or so many bytes of memory.
    ToGeneralOr(u8),
    /// General register, and general register or so many bytes of memory.
    Numbers(u8),
    /// Vector register, and general register or so many bytes of memory.
    General(u8),
    /// No operands.
    None,
}

/// A row: prefix or 0, opcode behind 0F (one or two bytes), operands, and whether an immediate byte follows.
pub type Row = (u8, u16, Shape, bool);

/// Instructions on whole numbers and bits, and moves.
pub fn whole_numbers() -> Vec<Row> {
    use Shape::{Aligned, Any, General, Group, Memory, Registers, ToGeneral};
    let mut rows = Vec::new();
    let both = [
        0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x74, 0x75, 0x76, 0xd1, 0xd2, 0xd3,
        0xd4, 0xd5, 0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xe0, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe8, 0xe9,
        0xea, 0xeb, 0xec, 0xed, 0xee, 0xef, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd,
        0xfe,
    ];
    for opcode in both {
        rows.push((0, opcode, Any(8), false));
        rows.push((0x66, opcode, Aligned(16), false));
    }
    for prefix in [0, 0x66] {
        for opcode in [0x14, 0x15, 0x28, 0x54, 0x55, 0x56, 0x57] {
            rows.push((prefix, opcode, Aligned(16), false));
        }
        rows.push((prefix, 0x29, Aligned(16), false));
        rows.push((prefix, 0xc6, Aligned(16), true));
        rows.push((prefix, 0x10, Any(16), false));
        rows.push((prefix, 0x11, Any(16), false));
        rows.push((prefix, 0x2b, Memory(16), false));
        for opcode in [0x12, 0x13, 0x16, 0x17] {
            rows.push((prefix, opcode, Memory(8), false));
        }
        rows.push((prefix, 0x50, ToGeneral, false));
        rows.push((prefix, 0xd7, ToGeneral, false));
        rows.push((prefix, 0xc5, ToGeneral, true));
        rows.push((prefix, 0xc4, General(2), true));
        rows.push((prefix, 0x6e, General(4), false));
        rows.push((prefix, 0x7e, General(4), false));
        for opcode in [0x71, 0x72, 0x73] {
            rows.push((prefix, opcode, Group(opcode), true));
        }
    }
    rows.extend([
        (0, 0x12, Registers, false),
        (0, 0x16, Registers, false),
        (0xf3, 0x10, Any(4), false),
        (0xf3, 0x11, Any(4), false),
        (0xf2, 0x10, Any(8), false),
        (0xf2, 0x11, Any(8), false),
        (0, 0x6f, Any(8), false),
        (0, 0x7f, Any(8), false),
        (0x66, 0x6f, Aligned(16), false),
        (0x66, 0x7f, Aligned(16), false),
        (0xf3, 0x6f, Any(16), false),
        (0xf3, 0x7f, Any(16), false),
        (0xf3, 0x7e, Any(8), false),
        (0x66, 0xd6, Any(8), false),
        (0xf3, 0xd6, Registers, false),
        (0xf2, 0xd6, Registers, false),
        (0x66, 0x6c, Aligned(16), false),
        (0x66, 0x6d, Aligned(16), false),
        (0, 0x70, Any(8), true),
        (0x66, 0x70, Aligned(16), true),
        (0xf3, 0x70, Aligned(16), true),
        (0xf2, 0x70, Aligned(16), true),
        (0, 0xe7, Memory(8), false),
        (0x66, 0xe7, Memory(16), false),
        (0, 0xc3, Memory(4), false),
        (0, 0xf7, Registers, false),
        (0x66, 0xf7, Registers, false),
        (0, 0x77, Shape::None, false),
        (0x66, 0x2a, Any(8), false),
    ]);
    rows
}

/// Instructions on single and double precision numbers. What RCPPS and RSQRTPS approximate differs between makers.
pub fn floats() -> Vec<Row> {
    use Shape::{Aligned, Any, General, ToGeneralOr};
    let mut rows = Vec::new();
    for (prefix, shape) in [(0, Aligned(16)), (0x66, Aligned(16)), (0xf3, Any(4)), (0xf2, Any(8))] {
        for opcode in [0x51, 0x58, 0x59, 0x5c, 0x5d, 0x5e, 0x5f] {
            rows.push((prefix, opcode, shape, false));
        }
        rows.push((prefix, 0xc2, shape, true));
    }
    for (prefix, shape) in [(0, Any(8)), (0x66, Aligned(16)), (0xf3, Any(4)), (0xf2, Any(8))] {
        rows.push((prefix, 0x5a, shape, false));
    }
    for opcode in [0x2c, 0x2d] {
        rows.push((0, opcode, Any(8), false));
        rows.push((0x66, opcode, Aligned(16), false));
        rows.push((0xf3, opcode, ToGeneralOr(4), false));
        rows.push((0xf2, opcode, ToGeneralOr(8), false));
    }
    for opcode in [0x2e, 0x2f] {
        rows.push((0, opcode, Any(4), false));
        rows.push((0x66, opcode, Any(8), false));
    }
    rows.extend([
        (0, 0x2a, Any(8), false),
        (0x66, 0x2a, Any(8), false),
        (0xf3, 0x2a, General(4), false),
        (0xf2, 0x2a, General(4), false),
        (0, 0x5b, Aligned(16), false),
        (0x66, 0x5b, Aligned(16), false),
        (0xf3, 0x5b, Aligned(16), false),
        (0xf3, 0xe6, Any(8), false),
        (0x66, 0xe6, Aligned(16), false),
        (0xf2, 0xe6, Aligned(16), false),
    ]);
    rows
}

/// SSE3 to SSE4.2, MOVBE and POPCNT.
pub fn newer() -> Vec<Row> {
    use Shape::{Aligned, Any, General, Memory, Numbers};
    let mut rows = vec![
        (0xf2, 0x12, Any(8), false),
        (0xf3, 0x12, Aligned(16), false),
        (0xf3, 0x16, Aligned(16), false),
        (0xf2, 0xf0, Memory(16), false),
    ];
    for prefix in [0x66, 0xf2] {
        for opcode in [0x7c, 0x7d, 0xd0] {
            rows.push((prefix, opcode, Aligned(16), false));
        }
    }
    for opcode in (0x3800..=0x380b).chain(0x381c..=0x381e) {
        rows.push((0, opcode, Any(8), false));
        rows.push((0x66, opcode, Aligned(16), false));
    }
    for opcode in [0x3810, 0x3814, 0x3815, 0x3817, 0x3828, 0x3829, 0x382b].into_iter().chain(0x3837..=0x3841) {
        rows.push((0x66, opcode, Aligned(16), false));
    }
    for opcode in [0x3820, 0x3830] {
        for (n, bytes) in (0..).zip([8, 4, 2, 8, 4, 8]) {
            rows.push((0x66, opcode + n, Any(bytes), false));
        }
    }
    for opcode in [0x3a08, 0x3a09, 0x3a0c, 0x3a0d, 0x3a0e, 0x3a0f, 0x3a40, 0x3a41, 0x3a42] {
        rows.push((0x66, opcode, Aligned(16), true));
    }
    for opcode in 0x3a60..=0x3a63 {
        rows.push((0x66, opcode, Any(16), true));
    }
    for (opcode, bytes) in [(0x3a14, 1), (0x3a15, 2), (0x3a16, 4), (0x3a17, 4), (0x3a20, 1), (0x3a22, 4)] {
        rows.push((0x66, opcode, General(bytes), true));
    }
    rows.extend([
        (0, 0x3a0f, Any(8), true),
        (0x66, 0x382a, Memory(16), false),
        (0x66, 0x3a0a, Any(4), true),
        (0x66, 0x3a0b, Any(8), true),
        (0x66, 0x3a21, Any(4), true),
        (0xf3, 0xb8, Numbers(4), false),
        (0xf2, 0x38f0, Numbers(1), false),
        (0xf2, 0x38f1, Numbers(4), false),
        (0, 0x38f0, Memory(4), false),
        (0, 0x38f1, Memory(4), false),
    ]);
    rows
}

/// AES, SHA and carry-less products.
pub fn ciphers() -> Vec<Row> {
    let mut rows: Vec<Row> = (0x38c8..=0x38cd).map(|opcode| (0, opcode, Shape::Aligned(16), false)).collect();
    rows.extend((0x38db..=0x38df).map(|opcode| (0x66, opcode, Shape::Aligned(16), false)));
    rows.extend(
        [(0x66, 0x3adf), (0x66, 0x3a44), (0, 0x3acc)]
            .map(|(prefix, opcode)| (prefix, opcode, Shape::Aligned(16), true)),
    );
    rows
}

/// A run of instructions.
pub fn run_of(random: &mut Random, rows: &[Row], most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..=random.below(most) {
        // Now and then something of the x87, which shares registers with MMX.
        match random.below(40) {
            0 => bytes.extend([0xd9, 0xe8]),
            1 => bytes.extend([0xdd, 0xd8]),
            2 => bytes.extend([0x0f, 0xae, 0x5b, 0x10]),
            _ => {}
        }
        let (prefix, opcode, shape, immediate) = rows[random.below(rows.len() as u64) as usize];
        if prefix != 0 {
            bytes.push(prefix);
        }
        bytes.push(0x0f);
        if opcode > 0xff {
            bytes.push((opcode >> 8) as u8);
        }
        bytes.push(opcode as u8);
        // [ebx + disp8] where memory may be.
        let memory = |random: &mut Random, reg: u8, step: u64| {
            let displacement = random.below(128 / step) * step;
            [0x43 | reg << 3, displacement as u8 & 0x7f]
        };
        let reg = random.below(8) as u8;
        let rm = random.below(8) as u8;
        let general = [0, 1, 2, 5, 6][random.below(5) as usize];
        match shape {
            Shape::Aligned(size) if random.below(3) == 0 => bytes.extend(memory(random, reg, u64::from(size))),
            Shape::Any(_) if random.below(3) == 0 => bytes.extend(memory(random, reg, 1)),
            Shape::Aligned(_) | Shape::Any(_) | Shape::Registers => bytes.push(0xc0 | reg << 3 | rm),
            // MOVNTI has a general register.
            Shape::Memory(4) => bytes.extend(memory(random, general, 1)),
            Shape::Memory(size) => bytes.extend(memory(random, reg, u64::from(size))),
            Shape::Group(opcode) => {
                let choices: &[u8] = match (opcode, prefix) {
                    (0x73, 0x66) => &[2, 3, 6, 7],
                    (0x73, _) => &[2, 6],
                    _ => &[2, 4, 6],
                };
                let choice = choices[random.below(choices.len() as u64) as usize];
                bytes.push(0xc0 | choice << 3 | rm);
            }
            Shape::Numbers(_) if random.below(3) == 0 => bytes.extend(memory(random, general, 1)),
            Shape::Numbers(_) => bytes.push(0xc0 | general << 3 | [0, 1, 2, 5, 6][random.below(5) as usize]),
            Shape::ToGeneralOr(_) if random.below(3) == 0 => bytes.extend(memory(random, general, 1)),
            Shape::ToGeneral | Shape::ToGeneralOr(_) => bytes.push(0xc0 | general << 3 | rm),
            Shape::General(_) if random.below(3) == 0 => bytes.extend(memory(random, reg, 1)),
            Shape::General(_) => bytes.push(0xc0 | reg << 3 | general),
            Shape::None => {}
        }
        if immediate {
            bytes.push(if random.below(2) == 0 { random.next() as u8 } else { random.below(20) as u8 });
        }
    }
    bytes
}

/// A number of 32 bits as a single: ordinary, or one of the odd ones.
fn single(random: &mut Random) -> u32 {
    let any = random.next() as u32;
    match random.below(16) {
        0 => any & 0x8000_0000,
        1 => any & 0x8000_0000 | 0x7f80_0000,
        2 => any & 0x807f_ffff | 0x7f80_0000,
        3 => any & 0x803f_ffff | 0x7f80_0001,
        4 => any & 0x807f_ffff,
        5 => any & 0x8000_000f,
        6 => any & 0x80ff_ffff,
        7 => any & 0x807f_ffff | 0x7f00_0000,
        8 => (any & 0x1ff) as i32 as f32 as u32,
        9 => (random.below(64) as f32 / 8.0 - 4.0).to_bits(),
        10 => any & 0x80ff_ffff | 0x4e80_0000,
        11 => (any as i32 as f32).to_bits(),
        12..14 => any & 0x81ff_ffff | 0x3f00_0000,
        _ => any,
    }
}

/// The same of 64 bits.
fn double(random: &mut Random) -> u64 {
    let any = random.next();
    let sign = any & 1 << 63;
    let fraction = any & 0x000f_ffff_ffff_ffff;
    match random.below(17) {
        0 => sign,
        1 => sign | 0x7ff0 << 48,
        2 => sign | 0x7ff0 << 48 | fraction,
        3 => sign | 0x7ff0 << 48 | fraction >> 1 | 1,
        4 => sign | fraction,
        5 => sign | fraction & 15,
        6 => sign | 1 << 52 | fraction,
        7 => sign | 0x7fe0 << 48 | fraction,
        8 => (random.below(64) as f64 / 8.0 - 4.0).to_bits(),
        9 => sign | 0x41e0 << 48 | fraction & 0xffff_ff00_0000,
        10 => f64::from(any as i32).to_bits(),
        // Where singles begin and end.
        11 => sign | (0x3690 + (any & 0x1f0)) << 48 | fraction,
        12 => sign | (0x47e0 + (any & 0x10)) << 48 | fraction,
        13 => f64::from(f32::from_bits(single(random))).to_bits(),
        14..16 => sign | (0x3fe0 + (any & 0x10)) << 48 | fraction,
        _ => any,
    }
}

/// Eight bytes that are worth computing with.
pub fn chunk(random: &mut Random) -> u64 {
    match random.below(6) {
        0 => random.next(),
        1 => [0, u64::MAX, 0x8000_7fff_8000_7fff, 0x7f80_ff00_0180_7f00, 3, 0x21][random.below(6) as usize],
        2 | 3 => double(random),
        _ => u64::from(single(random)) | u64::from(single(random)) << 32,
    }
}

/// Random registers of all kinds.
pub fn scramble(random: &mut Random, frame: &mut Frame, mxcsr: u32) {
    frame.calm = 0x1f80;
    frame.before.fill(0);
    frame.before[..2].copy_from_slice(&0x37f_u16.to_le_bytes());
    frame.before[2..4].copy_from_slice(&((random.below(8) << 11) as u16).to_le_bytes());
    frame.before[4] = random.next() as u8;
    frame.before[24..28].copy_from_slice(&mxcsr.to_le_bytes());
    for n in 0..8 {
        let at = 32 + 16 * n;
        frame.before[at..at + 8].copy_from_slice(&chunk(random).to_le_bytes());
        let exponent = [0xffff, 0x3fff, random.next() as u16][random.below(3) as usize];
        frame.before[at + 8..at + 10].copy_from_slice(&exponent.to_le_bytes());
        let at = 160 + 16 * n;
        frame.before[at..at + 8].copy_from_slice(&chunk(random).to_le_bytes());
        frame.before[at + 8..at + 16].copy_from_slice(&chunk(random).to_le_bytes());
    }
    for register in &mut frame.general {
        *register = chunk(random) & 0xffff_ffff;
    }
    frame.general[8] = frame.general[8] & u64::from(ARITHMETIC) | 2;
}
