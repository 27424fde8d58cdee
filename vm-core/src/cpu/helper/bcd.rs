//! Decimal adjustment.
#![allow(clippy::unnecessary_wraps, reason = "the type of a helper")]

use iced_x86::{Code, Instruction};

use crate::bus::Bus;
use crate::cpu::fault::{Fault, Vector};
use crate::cpu::flags::{AF, ARITHMETIC, CF, OF, PF, SF, ZF};
use crate::cpu::state::gpr::RAX;
use crate::cpu::{Cpu, Flow, Helper};

/// The helper of an instruction of this family.
pub fn find(code: Code) -> Option<Helper> {
    Some(match code {
        Code::Daa => daa,
        Code::Das => das,
        Code::Aaa => aaa,
        Code::Aas => aas,
        Code::Aam_imm8 => aam,
        Code::Aad_imm8 => aad,
        _ => return None,
    })
}

fn flag(on: bool, flag: u32) -> u32 {
    if on { flag } else { 0 }
}

/// SF, ZF and PF of a byte.
fn result_flags(value: u8) -> u32 {
    flag(value & 0x80 != 0, SF) | flag(value == 0, ZF) | flag(value.count_ones() & 1 == 0, PF)
}

impl Cpu {
    fn al(&self) -> u8 {
        self.state.gpr[RAX] as u8
    }

    fn ax(&self) -> u16 {
        self.state.gpr[RAX] as u16
    }

    fn set_al(&mut self, value: u8) {
        self.state.gpr[RAX] = self.state.gpr[RAX] & !0xff | u64::from(value);
    }

    fn set_ax(&mut self, value: u16) {
        self.state.gpr[RAX] = self.state.gpr[RAX] & !0xffff | u64::from(value);
    }
}

fn daa(cpu: &mut Cpu, _: &mut dyn Bus, _: &Instruction) -> Result<Flow, Fault> {
    decimal(cpu, false);
    Ok(Flow::Next)
}

fn das(cpu: &mut Cpu, _: &mut dyn Bus, _: &Instruction) -> Result<Flow, Fault> {
    decimal(cpu, true);
    Ok(Flow::Next)
}

/// DAA, or DAS. OF is undefined: it is what the one addition of the whole correction leaves.
fn decimal(cpu: &mut Cpu, subtract: bool) {
    let old = cpu.al();
    let low = old & 15 > 9 || cpu.state.flags.has(AF);
    let high = old > 0x99 || cpu.state.flags.has(CF);
    let correction = u8::from(low) * 6 + u8::from(high) * 0x60;
    let new = if subtract { old.wrapping_sub(correction) } else { old.wrapping_add(correction) };
    // DAS also keeps a borrow out of the lower correction.
    let carry = high || subtract && low && old < 6;
    let overflow =
        if subtract { (old ^ correction) & (old ^ new) } else { (new ^ old) & (new ^ correction) } & 0x80 != 0;
    cpu.set_al(new);
    let flags = result_flags(new) | flag(low, AF) | flag(carry, CF) | flag(overflow, OF);
    cpu.state.flags.update(ARITHMETIC, flags);
}

fn aaa(cpu: &mut Cpu, _: &mut dyn Bus, _: &Instruction) -> Result<Flow, Fault> {
    ascii(cpu, |ax| ax.wrapping_add(0x106));
    Ok(Flow::Next)
}

fn aas(cpu: &mut Cpu, _: &mut dyn Bus, _: &Instruction) -> Result<Flow, Fault> {
    ascii(cpu, |ax| ax.wrapping_sub(0x106));
    Ok(Flow::Next)
}

/// AAA, or AAS. SF, ZF, PF and OF are undefined: SF, ZF and PF come from AL, OF is clear.
fn ascii(cpu: &mut Cpu, adjust: impl Fn(u16) -> u16) {
    let carry = cpu.al() & 15 > 9 || cpu.state.flags.has(AF);
    let ax = if carry { adjust(cpu.ax()) } else { cpu.ax() } & 0xff0f;
    cpu.set_ax(ax);
    cpu.state.flags.update(ARITHMETIC, result_flags(ax as u8) | flag(carry, AF | CF));
}

fn aam(cpu: &mut Cpu, _: &mut dyn Bus, insn: &Instruction) -> Result<Flow, Fault> {
    let base = insn.immediate8();
    if base == 0 {
        return Err(Fault::new(Vector::DivideError));
    }
    let al = cpu.al();
    cpu.set_ax(u16::from(al / base) << 8 | u16::from(al % base));
    cpu.state.flags.update(ARITHMETIC, result_flags(al % base));
    Ok(Flow::Next)
}

fn aad(cpu: &mut Cpu, _: &mut dyn Bus, insn: &Instruction) -> Result<Flow, Fault> {
    let [al, ah] = cpu.ax().to_le_bytes();
    let al = al.wrapping_add(ah.wrapping_mul(insn.immediate8()));
    cpu.set_ax(u16::from(al));
    cpu.state.flags.update(ARITHMETIC, result_flags(al));
    Ok(Flow::Next)
}
