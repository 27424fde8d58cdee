//! Vector instructions that are not lifted: the state's image, MXCSR, EMMS, stores under a mask, CLFLUSH, SHA256RNDS2.

use iced_x86::{Code, Instruction, Mnemonic, OpKind};

use super::operand::segment_of;
use crate::bus::{Bus, Width};
use crate::cpu::fault::{Fault, Vector};
use crate::cpu::fpu::Fpu;
use crate::cpu::fpu::float::F80;
use crate::cpu::state::{cr0, gpr};
use crate::cpu::vector::cipher;
use crate::cpu::{Cpu, Flow, Helper};

type Outcome = Result<Flow, Fault>;

/// The helper of an instruction of this family.
pub fn find(code: Code) -> Option<Helper> {
    Some(match code.mnemonic() {
        Mnemonic::Fxsave => fxsave,
        Mnemonic::Fxrstor => fxrstor,
        Mnemonic::Ldmxcsr => ldmxcsr,
        Mnemonic::Stmxcsr => stmxcsr,
        Mnemonic::Emms => emms,
        Mnemonic::Maskmovq => maskmovq,
        Mnemonic::Maskmovdqu => maskmovdqu,
        Mnemonic::Clflush => clflush,
        Mnemonic::Sha256rnds2 => sha256rnds2,
        _ => return None,
    })
}

/// SHA256RNDS2, whose third operand is XMM0.
fn sha256rnds2(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    cpu.sse_available()?;
    let register = |n: u32| insn.op_register(n).number() & 7;
    let other = if insn.op1_kind() == OpKind::Memory {
        let linear = cpu.memory_linear(insn, 16, false)?;
        if linear % 16 != 0 {
            return Err(Fault::gp(0));
        }
        cpu.load_128(bus, linear)?
    } else {
        cpu.state.vector[register(1)]
    };
    let (state, words) = (cpu.state.vector[register(0)], cpu.state.vector[0]);
    cpu.state.vector[register(0)] = cipher::sha256rnds2(state, other, words);
    Ok(Flow::Next)
}

/// Bytes of the image of FXSAVE.
const IMAGE: u32 = 512;
/// Where ST(0) to ST(7) are in it, 16 bytes each.
const STACK: u32 = 32;
/// Where XMM0 to XMM7 are in it.
const XMM: u32 = 160;

/// Address of the image, checked as far as that goes without touching it.
fn image(cpu: &mut Cpu, insn: &Instruction, write: bool) -> Result<u64, Fault> {
    if cpu.state.cr[0] & (cr0::EM | cr0::TS) != 0 {
        return Err(Fault::new(Vector::DeviceNotAvailable));
    }
    let start = cpu.memory_linear(insn, IMAGE, write)?;
    if start % 16 == 0 { Ok(start) } else { Err(Fault::gp(0)) }
}

/// A bit for each x87 register that holds something: the tag word of FXSAVE.
fn short_tags(fpu: &Fpu) -> u8 {
    fpu.valid
}

/// FXSAVE (Intel SDM vol. 1, 10.5.1). What is reserved up to the XMM registers becomes zero, the rest stays.
fn fxsave(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let start = image(cpu, insn, true)?;
    cpu.prepare_write(bus, start, u64::from(IMAGE))?;
    let at = |offset: u32| start.wrapping_add(u64::from(offset)) & 0xffff_ffff;
    let fpu = &cpu.fpu;
    let words = [
        u64::from(fpu.control)
            | u64::from(fpu.status_word()) << 16
            | u64::from(short_tags(fpu)) << 32
            | u64::from(fpu.opcode & 0x7ff) << 48,
        fpu.instruction_offset & 0xffff_ffff | u64::from(fpu.instruction_selector) << 32,
        fpu.operand_offset & 0xffff_ffff | u64::from(fpu.operand_selector) << 32,
    ];
    for (n, word) in (0..).zip(words) {
        cpu.store(bus, at(8 * n), word)?;
    }
    let (control, mask) = if cpu.has_sse() { (cpu.state.mxcsr, cpu.mxcsr_mask()) } else { (0, 0) };
    cpu.store(bus, at(24), u64::from(control) | u64::from(mask) << 32)?;
    for n in 0..8_u8 {
        let value = cpu.fpu.get(n);
        let offset = STACK + 16 * u32::from(n);
        cpu.store(bus, at(offset), value.significand)?;
        cpu.store(bus, at(offset + 8), u64::from(value.sign_exponent))?;
    }
    if cpu.has_sse() {
        for n in 0..8 {
            let value = cpu.state.vector[n as usize];
            cpu.store_128(bus, at(XMM + 16 * n), value)?;
        }
    }
    Ok(Flow::Next)
}

/// FXRSTOR.
fn fxrstor(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let start = image(cpu, insn, false)?;
    cpu.prepare_read(bus, start, u64::from(IMAGE))?;
    let at = |offset: u32| start.wrapping_add(u64::from(offset)) & 0xffff_ffff;
    let mut words = [0; 3];
    for (n, word) in (0..).zip(&mut words) {
        *word = cpu.load::<u64>(bus, at(8 * n))?;
    }
    let control = cpu.load::<u32>(bus, at(24))?;
    if cpu.has_sse() && control & !cpu.mxcsr_mask() != 0 {
        return Err(Fault::gp(0));
    }
    let mut stack = [F80::ZERO; 8];
    for (n, register) in (0..).zip(&mut stack) {
        register.significand = cpu.load::<u64>(bus, at(STACK + 16 * n))?;
        register.sign_exponent = cpu.load::<u16>(bus, at(STACK + 16 * n + 8))?;
    }
    if cpu.has_sse() {
        let mut vectors = [0; 8];
        for (n, vector) in (0..).zip(&mut vectors) {
            *vector = cpu.load_128(bus, at(XMM + 16 * n))?;
        }
        cpu.state.vector[..8].copy_from_slice(&vectors);
        cpu.state.mxcsr = control;
    }
    let fpu = &mut cpu.fpu;
    fpu.set_control(words[0] as u16);
    fpu.set_status_word((words[0] >> 16) as u16);
    fpu.valid = (words[0] >> 32) as u8;
    fpu.opcode = (words[0] >> 48) as u16 & 0x7ff;
    fpu.instruction_offset = words[1] & 0xffff_ffff;
    fpu.instruction_selector = (words[1] >> 32) as u16;
    fpu.operand_offset = words[2] & 0xffff_ffff;
    fpu.operand_selector = (words[2] >> 32) as u16;
    for (n, register) in (0..).zip(stack) {
        let index = fpu.index(n);
        fpu.registers[index] = register;
    }
    Ok(Flow::Next)
}

fn ldmxcsr(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    cpu.sse_available()?;
    let value = cpu.read_operand(bus, insn, 0, Width::Dword)? as u32;
    if value & !cpu.mxcsr_mask() != 0 {
        return Err(Fault::gp(0));
    }
    cpu.state.mxcsr = value;
    Ok(Flow::Next)
}

fn stmxcsr(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    cpu.sse_available()?;
    cpu.write_operand(bus, insn, 0, Width::Dword, u64::from(cpu.state.mxcsr))?;
    Ok(Flow::Next)
}

/// EMMS: all x87 registers are empty. TOP becomes 0, as with every MMX instruction.
fn emms(cpu: &mut Cpu, bus: &mut dyn Bus, _insn: &Instruction) -> Outcome {
    if let Some(flow) = cpu.mmx_enter(bus)? {
        return Ok(flow);
    }
    cpu.fpu.top = 0;
    cpu.fpu.valid = 0;
    Ok(Flow::Next)
}

/// Stores those bytes of `value` at DS:EDI for which `mask` has the top bit set.
fn store_masked(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction, value: u128, mask: u128, len: u32) -> Outcome {
    let offset =
        cpu.gpr(gpr::RDI, if insn.op0_kind() == iced_x86::OpKind::MemorySegDI { Width::Word } else { Width::Dword });
    let start = cpu.linear(segment_of(insn), offset, len, true)?;
    let wanted = |n: u32| mask >> (8 * n + 7) & 1 != 0;
    let at = |n: u32| start.wrapping_add(u64::from(n)) & 0xffff_ffff;
    for n in (0..len).filter(|&n| wanted(n)) {
        cpu.prepare_write(bus, at(n), 1)?;
    }
    for n in (0..len).filter(|&n| wanted(n)) {
        cpu.store(bus, at(n), (value >> (8 * n)) as u8)?;
    }
    Ok(Flow::Next)
}

fn maskmovq(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    if let Some(flow) = cpu.mmx_enter(bus)? {
        return Ok(flow);
    }
    let register = |n: u32| u128::from(cpu.fpu.registers[insn.op_register(n).number() & 7].significand);
    let (value, mask) = (register(1), register(2));
    let flow = store_masked(cpu, bus, insn, value, mask, 8)?;
    cpu.fpu.top = 0;
    cpu.fpu.valid = 0xff;
    Ok(flow)
}

fn maskmovdqu(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    cpu.sse_available()?;
    let register = |n: u32| cpu.state.vector[insn.op_register(n).number() & 7];
    let (value, mask) = (register(1), register(2));
    store_masked(cpu, bus, insn, value, mask, 16)
}

/// CLFLUSH: there are no caches that a guest could see, but the address must be one that can be read.
fn clflush(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let linear = cpu.memory_linear(insn, 1, false)?;
    cpu.prepare_read(bus, linear, 1)?;
    Ok(Flow::Next)
}
