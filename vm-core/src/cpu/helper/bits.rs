//! POPCNT, CRC32 and MOVBE, which came with SSE4.2 and the Atom.

use iced_x86::{Instruction, Mnemonic, OpKind};

use crate::bus::{Bus, Width};
use crate::cpu::fault::Fault;
use crate::cpu::flags::{ARITHMETIC, ZF};
use crate::cpu::{Cpu, Flow, Helper};

type Outcome = Result<Flow, Fault>;

/// The helper of an instruction of this family.
pub fn find(mnemonic: Mnemonic) -> Option<Helper> {
    Some(match mnemonic {
        Mnemonic::Popcnt => count,
        Mnemonic::Crc32 => crc,
        Mnemonic::Movbe => swap,
        _ => return None,
    })
}

/// The width of an operand.
fn width(insn: &Instruction, operand: u32) -> Width {
    let size = match insn.op_kind(operand) {
        OpKind::Memory => insn.memory_size().size(),
        _ => insn.op_register(operand).size(),
    };
    match size {
        1 => Width::Byte,
        2 => Width::Word,
        _ => Width::Dword,
    }
}

fn count(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let value = cpu.read_operand(bus, insn, 1, width(insn, 1))?;
    cpu.set_register(insn.op0_register(), u64::from(value.count_ones()));
    cpu.state.flags.update(ARITHMETIC, if value == 0 { ZF } else { 0 });
    Ok(Flow::Next)
}

/// The Castagnoli polynomial, the lowest bit first; neither inverted before nor after.
fn crc(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let width = width(insn, 1);
    let value = cpu.read_operand(bus, insn, 1, width)?;
    let mut crc = cpu.register(insn.op0_register()) as u32;
    for byte in &value.to_le_bytes()[..width as usize] {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 0 { 0 } else { POLYNOMIAL };
        }
    }
    cpu.set_register(insn.op0_register(), u64::from(crc));
    Ok(Flow::Next)
}

fn swap(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let width = width(insn, 0);
    let value = cpu.read_operand(bus, insn, 1, width)?;
    let swapped = value.swap_bytes() >> (64 - 8 * width as u32);
    cpu.write_operand(bus, insn, 0, width, swapped)?;
    Ok(Flow::Next)
}
