//! Random integer instructions, here and on the host's own processor, register and memory forms.
//!
//! Instructions without a REX prefix mean the same in 64-bit code with 32-bit operands, as long as addresses fit into
//! 32 bits: the memory operand lives below 4 GiB, and the guest's segments are based so that its addresses are the same.
#![cfg(all(target_arch = "x86_64", unix))]

use std::ptr::null_mut;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use vm_core::bus::Bus;
use vm_core::cpu::flags::{AF, ARITHMETIC, CF, OF, ZF};
use vm_core::cpu::state::{SegReg, Segment, gpr};

use crate::engine::ENGINES;
use crate::flat_bus::FlatBus;
use crate::noise::Random;

/// Bytes that an instruction may touch, and where they are in the guest's memory.
const WINDOW: usize = 512;
const GUEST_WINDOW: u64 = 0x2000;
const GUEST_CODE: u64 = 0x1000;
const HLT: u8 = 0xf4;

/// EAX, ECX, EDX, EBX, (ESP), EBP, ESI, EDI, EFLAGS; each in eight bytes.
pub type Registers = [u64; 9];

pub struct Host {
    page: *mut u8,
}

impl Host {
    /// Where the memory operand is, within the page.
    const DATA: usize = 0x800;

    pub fn new() -> Self {
        for hint in (0x1000_0000_usize..0x7000_0000).step_by(0x0100_0000) {
            let hint = std::ptr::without_provenance_mut(hint);
            let rights = ProtFlags::READ | ProtFlags::WRITE | ProtFlags::EXEC;
            // SAFETY: a hint without MAP_FIXED replaces no mapping.
            let page = unsafe { mmap_anonymous(hint, 0x1000, rights, MapFlags::PRIVATE) }.unwrap_or(null_mut());
            if !page.is_null() && (page.addr() as u64) < 1 << 31 {
                return Self { page: page.cast() };
            }
        }
        panic!("no page below 2 GiB for the host's side of the comparison")
    }

    fn data(&self) -> u64 {
        (self.page.addr() + Self::DATA) as u64
    }

    fn window(&mut self) -> &mut [u8] {
        // SAFETY: the page has 4096 bytes, and only `run` touches it otherwise.
        unsafe { std::slice::from_raw_parts_mut(self.page.add(Self::DATA), WINDOW) }
    }

    pub fn run(&mut self, instruction: &[u8], registers: &mut Registers) {
        let mut code = vec![0x53, 0x55, 0x49, 0x89, 0xf8]; // push rbx; push rbp; mov r8, rdi
        let moves: [(u8, u8); 7] = [(0, 0), (1, 1), (2, 2), (3, 3), (5, 5), (6, 6), (7, 7)];
        for (register, slot) in moves {
            code.extend([0x49, 0x8b, 0x40 | register << 3, slot * 8]); // mov reg, [r8 + slot * 8]
        }
        code.extend([0x41, 0xff, 0x70, 64, 0x9d]); // push qword [r8 + 64]; popfq
        code.extend(instruction);
        code.extend([0x9c, 0x41, 0x8f, 0x40, 64]); // pushfq; pop qword [r8 + 64]
        for (register, slot) in moves {
            code.extend([0x49, 0x89, 0x40 | register << 3, slot * 8]);
        }
        code.extend([0x5d, 0x5b, 0xfc, 0xc3]); // pop rbp; pop rbx; cld; ret
        assert!(code.len() < Self::DATA);
        // SAFETY: the code fits below the data; it is a whole function of this type that touches `registers`, the
        // window and nothing else, and keeps what the convention wants kept.
        unsafe {
            self.page.copy_from_nonoverlapping(code.as_ptr(), code.len());
            let function: unsafe extern "sysv64" fn(*mut u64) = std::mem::transmute(self.page);
            function(registers.as_mut_ptr());
        }
    }
}

/// An instruction and how its flags behave.
struct Case {
    bytes: Vec<u8>,
    flags: Defined,
    /// EDX indexes the memory operand, or the bit in it: keep it small.
    small_edx: bool,
    /// ESI, EDI and ECX as string instructions want them.
    string: bool,
    /// DIV or IDIV: only operands that cannot overflow.
    divides: bool,
}

/// Which flags are defined afterwards.
#[derive(Clone, Copy)]
enum Defined {
    Mask(u32),
    /// A shift by CL (`None`) or an immediate: AF is not; OF for a count of 1 only; CF up to the operand's size.
    Shift {
        count: Option<u8>,
        bits: u32,
        rotate: bool,
    },
}

impl Defined {
    fn mask(self, ecx: u64) -> u32 {
        match self {
            Self::Mask(mask) => mask,
            Self::Shift { count, bits, rotate } => {
                let count = u32::from(count.unwrap_or(ecx as u8) & 31);
                let mut mask = ARITHMETIC;
                if count != 0 {
                    mask &= if rotate { ARITHMETIC } else { !AF };
                    if count != 1 {
                        mask &= !OF;
                    }
                    if count > bits && !rotate {
                        mask &= !CF;
                    }
                }
                mask
            }
        }
    }
}

/// A ModRM byte, with what follows it, for an operand of `bits`; the register field is `reg`.
fn operand(random: &mut Random, case: &mut Case, reg: u8, wide: bool, memory_only: bool) {
    let reg = reg << 3;
    match if memory_only { random.below(4) } else { random.below(8) } {
        0 => case.bytes.push(reg | 3),
        1 => case.bytes.extend([0x40 | reg | 3, random.next() as u8 & 0x7f]),
        2 => case.bytes.extend([0x40 | reg | 6, random.next() as u8 & 0x3f]),
        3 => {
            case.small_edx = true;
            case.bytes.extend([0x40 | reg | 4, random.next() as u8 & 0xc0 | 2 << 3 | 3, random.next() as u8 & 0x3f]);
        }
        _ => case.bytes.push(0xc0 | reg | register(random, wide)),
    }
}

/// A register number that is not ESP (AH for bytes is fine).
fn register(random: &mut Random, wide: bool) -> u8 {
    loop {
        let number = random.below(8) as u8;
        if number != 4 || !wide {
            return number;
        }
    }
}

fn case(random: &mut Random) -> Case {
    let mut case =
        Case { bytes: Vec::new(), flags: Defined::Mask(ARITHMETIC), small_edx: false, string: false, divides: false };
    let size = random.below(3);
    let (wide, w) = (size > 0, u8::from(size > 0));
    let bits = [8, 16, 32][size as usize];
    if size == 1 {
        case.bytes.push(0x66);
    }
    let reg = register(random, wide);
    let immediate = |random: &mut Random, case: &mut Case, len: u32| {
        let bytes = random.next().to_le_bytes();
        case.bytes.extend(&bytes[..len as usize / 8]);
    };
    match random.below(34) {
        0..4 => {
            let op = random.below(8) as u8;
            case.bytes.push(op << 3 | (random.below(2) as u8) << 1 | w);
            operand(random, &mut case, reg, wide, false);
            if matches!(op, 1 | 4 | 6) {
                case.flags = Defined::Mask(!AF);
            }
        }
        4..6 => {
            let op = random.below(8) as u8;
            let short = wide && random.below(2) == 0;
            case.bytes.push(if short { 0x83 } else { 0x80 | w });
            operand(random, &mut case, op, wide, false);
            immediate(random, &mut case, if short { 8 } else { bits });
            if matches!(op, 1 | 4 | 6) {
                case.flags = Defined::Mask(!AF);
            }
        }
        6 => {
            case.bytes.push(0xfe | w);
            let op = random.below(2) as u8;
            operand(random, &mut case, op, wide, false);
        }
        7 => {
            case.bytes.push(0xf6 | w);
            let op = [0, 2, 3][random.below(3) as usize];
            operand(random, &mut case, op, wide, false);
            if op == 0 {
                immediate(random, &mut case, bits);
                case.flags = Defined::Mask(!AF);
            }
        }
        8..10 => {
            case.bytes.push(0xf6 | w);
            let op = 4 + random.below(2) as u8;
            operand(random, &mut case, op, wide, false);
            case.flags = Defined::Mask(CF | OF);
        }
        10..12 => {
            case.bytes.push(0xf6 | w);
            let op = 6 + random.below(2) as u8;
            operand(random, &mut case, op, wide, false);
            case.flags = Defined::Mask(0);
            case.divides = true;
        }
        12 if wide => {
            match random.below(3) {
                0 => {
                    case.bytes.extend([0x0f, 0xaf]);
                    operand(random, &mut case, reg, true, false);
                }
                1 => {
                    case.bytes.push(0x69);
                    operand(random, &mut case, reg, true, false);
                    immediate(random, &mut case, bits);
                }
                _ => {
                    case.bytes.push(0x6b);
                    operand(random, &mut case, reg, true, false);
                    immediate(random, &mut case, 8);
                }
            }
            case.flags = Defined::Mask(CF | OF);
        }
        13..18 => {
            let op = random.below(8) as u8;
            let count = match random.below(3) {
                0 => {
                    case.bytes.push(0xd0 | w);
                    operand(random, &mut case, op, wide, false);
                    Some(1)
                }
                1 => {
                    case.bytes.push(0xd2 | w);
                    operand(random, &mut case, op, wide, false);
                    None
                }
                _ => {
                    case.bytes.push(0xc0 | w);
                    operand(random, &mut case, op, wide, false);
                    let count = random.next() as u8 & if random.below(2) == 0 { 0xff } else { 3 };
                    case.bytes.push(count);
                    Some(count)
                }
            };
            case.flags = Defined::Shift { count, bits, rotate: op < 4 };
        }
        18..20 if bits == 32 => {
            let base = [0xa4, 0xac][random.below(2) as usize];
            let by_cl = random.below(2) == 0;
            case.bytes.extend([0x0f, base | u8::from(by_cl)]);
            operand(random, &mut case, reg, true, false);
            let count = random.next() as u8;
            if !by_cl {
                case.bytes.push(count);
            }
            case.flags = Defined::Shift { count: (!by_cl).then_some(count), bits, rotate: false };
        }
        20..22 if wide => {
            let op = 4 + random.below(4) as u8;
            if random.below(2) == 0 {
                case.bytes.extend([0x0f, 0xba]);
                operand(random, &mut case, op, true, false);
                immediate(random, &mut case, 8);
            } else {
                case.bytes.extend([0x0f, 0x83 | op << 3]);
                operand(random, &mut case, 2, true, false);
                case.small_edx = true;
            }
            case.flags = Defined::Mask(CF | ZF);
        }
        22 if wide => {
            case.bytes.extend([0x0f, 0xbc | random.below(2) as u8]);
            operand(random, &mut case, reg, true, false);
            case.flags = Defined::Mask(ZF);
        }
        23 => {
            case.bytes.extend([0x0f, [0xb0, 0xc0][random.below(2) as usize] | w]);
            operand(random, &mut case, reg, wide, false);
        }
        24 if bits == 32 => {
            case.bytes.extend([0x0f, 0xc7]);
            operand(random, &mut case, 1, true, true);
        }
        25 if wide => {
            case.bytes.extend([0x0f, [0xb6, 0xb7, 0xbe, 0xbf][random.below(4) as usize]]);
            operand(random, &mut case, reg, false, true);
        }
        26 if wide => {
            case.bytes.extend([0x0f, 0x40 | random.below(16) as u8]);
            operand(random, &mut case, reg, true, false);
        }
        27 if bits == 8 => {
            case.bytes.extend([0x0f, 0x90 | random.below(16) as u8]);
            operand(random, &mut case, 0, false, false);
        }
        28 => {
            case.bytes.push([0x86, 0x88, 0x8a][random.below(3) as usize] | w);
            operand(random, &mut case, reg, wide, false);
        }
        29 => {
            case.bytes.push(0xc6 | w);
            operand(random, &mut case, 0, wide, false);
            immediate(random, &mut case, bits);
        }
        30 if bits == 32 => {
            if random.below(2) == 0 {
                case.bytes.extend([0x0f, 0xc8 | reg]);
            } else {
                case.bytes.push(0x8d);
                operand(random, &mut case, reg, true, true);
            }
        }
        31 => case.bytes.push([0x98, 0x99, 0xf8, 0xf9, 0xf5, 0x9e, 0x9f][random.below(7) as usize]),
        _ => {
            if random.below(2) == 0 {
                case.bytes.insert(0, [0xf3, 0xf2][random.below(2) as usize]);
            }
            case.bytes.push([0xa4, 0xa6, 0xaa, 0xac, 0xae][random.below(5) as usize] | w);
            case.string = true;
        }
    }
    case
}

/// Numbers near the edges as often as not.
pub fn value(random: &mut Random) -> u64 {
    let any = random.next();
    let value = match random.below(6) {
        0 => random.below(4),
        1 => random.below(4).wrapping_neg(),
        2 => 0x8000_8080_u64.wrapping_add(random.below(3)).wrapping_sub(1),
        3 => 0x7fff_7f7f,
        _ => any,
    };
    value & 0xffff_ffff
}

/// Whether a division of these operands is sure not to overflow.
fn divisible(bytes: &[u8], registers: &Registers, divisor: u64) -> bool {
    let word = bytes[0] == 0x66;
    let opcode = bytes[usize::from(word)];
    let signed = bytes[usize::from(word) + 1] & 0x38 == 0x38;
    let bits = if opcode & 1 == 0 {
        8
    } else if word {
        16
    } else {
        32
    };
    let mask = (1_u64 << bits) - 1;
    let (eax, edx) = (registers[0], registers[2]);
    let dividend = if bits == 8 { eax & 0xffff } else { (edx & mask) << bits | eax & mask };
    let divisor = divisor & mask;
    if divisor == 0 {
        return false;
    }
    if !signed {
        return dividend / divisor <= mask;
    }
    let sign = |value: u64, bits: u32| i128::from((value << (64 - bits)) as i64 >> (64 - bits));
    let quotient = sign(dividend, 2 * bits) / sign(divisor, bits);
    quotient >= -(1 << (bits - 1)) && quotient < 1 << (bits - 1)
}

#[test]
fn integer_instructions_do_what_the_host_does() {
    const ORDER: [usize; 7] = [gpr::RAX, gpr::RCX, gpr::RDX, gpr::RBX, gpr::RBP, gpr::RSI, gpr::RDI];
    let cases: u64 = std::env::var("HAKO_HOST_CASES").map_or(40_000, |text| text.parse().unwrap());
    let mut host = Host::new();
    let data = host.data();
    for engine in ENGINES {
        let mut random = Random(0x0123_4567_89ab_cdef);
        let mut bus = FlatBus::new(0x1_0000);
        let mut cpu = (engine.make)();
        cpu.state.cr[0] |= 1;
        for seg in SegReg::ALL {
            let code = seg == SegReg::Cs;
            cpu.state.seg[seg as usize] = Segment {
                base: if code { 0 } else { GUEST_WINDOW.wrapping_sub(data) & 0xffff_ffff },
                limit: u32::MAX,
                rights: if code { 0xc09b } else { 0xc093 },
                selector: 8,
            };
        }
        cpu.state_changed();
        let (mut compared, mut failures) = (0_u64, Vec::new());
        for _ in 0..cases / engine.cost {
            let case = case(&mut random);
            bus.ram().write(GUEST_CODE, &case.bytes);
            bus.ram().write(GUEST_CODE + case.bytes.len() as u64, &[HLT]);
            for round in 0..24 {
                let mut registers: Registers = [0; 9];
                for register in &mut registers {
                    *register = value(&mut random);
                }
                registers[3] = data + random.below(64);
                registers[6] = data + 0x80 + random.below(64);
                if case.small_edx {
                    registers[2] &= 0x1f;
                }
                if case.string {
                    registers[7] = data + 0x70 + random.below(96);
                    registers[1] = random.below(20);
                }
                registers[8] = registers[8] & u64::from(ARITHMETIC) | 2;
                for chunk in host.window().chunks_mut(4) {
                    chunk.copy_from_slice(&(value(&mut random) as u32).to_le_bytes());
                }
                if case.string && random.below(2) == 0 {
                    host.window().fill(registers[0] as u8);
                }
                if case.divides {
                    // The divisor in ECX or in memory; check whatever it may be.
                    let (ecx, window) = (registers[1], host.window());
                    let filler = (ecx as u32 | 1).to_le_bytes();
                    for chunk in window.chunks_mut(4) {
                        chunk.copy_from_slice(&filler);
                    }
                    let rotated = |n: u32| u64::from(u32::from_le_bytes(filler).rotate_right(8 * n));
                    let all = [
                        registers[0],
                        registers[0] >> 8,
                        ecx,
                        ecx >> 8,
                        registers[2],
                        registers[2] >> 8,
                        registers[3],
                        registers[3] >> 8,
                        registers[5],
                        registers[6],
                        registers[7],
                        rotated(0),
                        rotated(1),
                        rotated(2),
                        rotated(3),
                    ];
                    let modrm = case.bytes[case.bytes.iter().position(|byte| byte & 0xfe == 0xf6).unwrap() + 1];
                    let wide = case.bytes.contains(&0xf7) && case.bytes[0] != 0xf6;
                    let possible: &[u64] = if modrm < 0xc0 {
                        &all[11..]
                    } else if wide {
                        &[[registers[0], ecx, registers[2], registers[3], 0, registers[5], registers[6], registers[7]]
                            [modrm as usize & 7]]
                    } else {
                        &[[
                            registers[0],
                            ecx,
                            registers[2],
                            registers[3],
                            registers[0] >> 8,
                            ecx >> 8,
                            registers[2] >> 8,
                            registers[3] >> 8,
                        ][modrm as usize & 7]]
                    };
                    if !possible.iter().all(|divisor| divisible(&case.bytes, &registers, *divisor)) {
                        continue;
                    }
                }
                let mask = case.flags.mask(registers[1]);
                // Here.
                bus.ram().write(GUEST_WINDOW, host.window());
                for (slot, register) in [0, 1, 2, 3, 5, 6, 7].into_iter().zip(ORDER) {
                    cpu.state.gpr[register] = registers[slot];
                }
                cpu.state.flags.set(registers[8] as u32);
                cpu.state.rip = GUEST_CODE;
                bus.signals().take_raised();
                cpu.state.halted = false;
                if round % 2 == 0 {
                    cpu.run(&mut bus, 1);
                    while cpu.state.rip == GUEST_CODE && case.string {
                        cpu.run(&mut bus, 1);
                    }
                } else {
                    // The same in a block with the HLT.
                    while !cpu.state.halted {
                        cpu.run(&mut bus, 100);
                    }
                    cpu.state.rip -= 1;
                }
                // There.
                let start = registers;
                host.run(&case.bytes, &mut registers);
                compared += 1;
                let mut ours: Registers = [0; 9];
                for (slot, register) in [0, 1, 2, 3, 5, 6, 7].into_iter().zip(ORDER) {
                    ours[slot] = cpu.state.gpr[register];
                }
                ours[4] = registers[4];
                ours[8] = u64::from(cpu.state.flags.get() & ARITHMETIC & mask);
                registers[8] &= u64::from(ARITHMETIC & mask);
                let mut memory = [0; WINDOW];
                bus.ram().read(GUEST_WINDOW, &mut memory);
                let past = cpu.state.rip == GUEST_CODE + case.bytes.len() as u64;
                if (ours != registers || memory != *host.window() || !past) && failures.len() < 40 {
                    failures.push(format!("{:02x?} from {start:x?}\n ours {ours:x?} (flags & {mask:x}, rip {:x})\n host {registers:x?}, memory {}", case.bytes, cpu.state.rip, if memory == *host.window() { "the same" } else { "differs" }));
                    break;
                }
            }
        }
        eprintln!("{}: {compared} instructions compared with the host", engine.name);
        assert!(failures.is_empty(), "{}: {} cases differ\n{}", engine.name, failures.len(), failures.join("\n"));
    }
}
