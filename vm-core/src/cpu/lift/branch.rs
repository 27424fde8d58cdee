//! Near jumps, calls and returns. They end a block.

use iced_x86::{Code, Instruction, Mnemonic, OpKind};

use super::mov::condition;
use super::{Ends, Lifter};
use crate::bus::{Bus, Width};
use crate::cpu::fault::Fault;
use crate::cpu::state::gpr;
use crate::cpu::uop::{Alu, Count, Extend, Flag, Form, Op, RCX, RSP, Size, T0, T1, Uop};
use crate::cpu::{Cpu, Flow};

impl Lifter<'_> {
    /// Lifts an instruction of this family.
    pub(super) fn branch(&mut self) -> Option<Ends> {
        let near = matches!(self.insn.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32);
        // A helper is good enough for something this rare.
        if near && self.insn.near_branch_target() > u64::from(self.mode.limit) {
            self.call(branch_beyond_limit);
            return Some(self.leave());
        }
        if self.insn.op0_kind() == OpKind::NearBranch16 && self.mode.is_relative() {
            self.call(branch_to_first_64k);
            return Some(self.leave());
        }
        let next = self.insn.next_ip() as u32;
        let target = if near { self.insn.near_branch_target() as u32 } else { 0 };
        match self.insn.mnemonic() {
            Mnemonic::Jmp if near => self.emit(Uop::new(Op::Jump {}).imm(target)),
            Mnemonic::Jmp if is_near_indirect(self.insn.code()) => {
                self.load_target();
                self.check_target();
                self.emit(Uop::new(Op::JumpTo {}).a(T0));
            }
            Mnemonic::Call if near => {
                let size = if self.insn.op0_kind() == OpKind::NearBranch16 { Size::W } else { Size::D };
                self.push_next(size, T0, next);
                self.emit(Uop::new(Op::Jump {}).imm(target).calls(next));
            }
            Mnemonic::Call if is_near_indirect(self.insn.code()) => {
                let size = self.size(0);
                self.load_target();
                self.check_target();
                self.push_next(size, T1, next);
                self.emit(Uop::new(Op::JumpTo {}).a(T0).calls(next));
            }
            Mnemonic::Ret => {
                let size = if matches!(self.insn.code(), Code::Retnw | Code::Retnw_imm16) { Size::W } else { Size::D };
                let drop = if self.insn.op_count() == 1 { self.immediate(0) & 0xffff } else { 0 };
                self.load_top(size);
                self.check_target();
                self.move_stack(RSP, size.bytes() + drop);
                self.emit(Uop::new(Op::JumpTo {}).a(T0).returns());
            }
            Mnemonic::Loop => self.count_down(Count::NonZero, target, next),
            Mnemonic::Loope => self.count_down(Count::NonZeroAndE, target, next),
            Mnemonic::Loopne => self.count_down(Count::NonZeroAndNe, target, next),
            Mnemonic::Jcxz => self.jump_count(Count::Zero, Size::W, target, next),
            Mnemonic::Jecxz => self.jump_count(Count::Zero, Size::D, target, next),
            _ if near && self.insn.is_jcc_short_or_near() => {
                let cond = condition(self.insn.condition_code())?;
                self.emit(Uop::new(Op::JumpIf { cond }).imm(target).imm2(next));
            }
            _ => return None,
        }
        Some(Ends::Yes)
    }

    /// Puts the target of an indirect branch into [`T0`], zero-extended.
    fn load_target(&mut self) {
        let size = self.size(0);
        if self.is_memory(0) {
            let address = self.address(size.bytes(), false);
            self.emit(if size == Size::W {
                address.op(|ea| Op::LoadWiden { extend: Extend::Zero, from: size, to: Size::D, ea }).d(T0)
            } else {
                address.op(|ea| Op::Load { size, ea }).d(T0)
            });
        } else {
            let slot = self.register(0);
            let op = if size == Size::W {
                Op::Widen { extend: Extend::Zero, from: size, to: Size::D }
            } else {
                Op::Mov { size }
            };
            self.emit(Uop::new(op).d(T0).a(slot));
        }
    }

    /// Pushes where the next instruction is. `temporary` may be needed for that.
    fn push_next(&mut self, size: Size, temporary: u8, next: u32) {
        if self.mode.is_relative() {
            self.emit(Uop::new(Op::Here {}).d(temporary).imm(next));
            self.push_slot(size, temporary);
        } else {
            self.push_immediate(size, next);
        }
    }

    fn check_target(&mut self) {
        if self.mode.limit != u32::MAX {
            self.emit(Uop::new(Op::CheckTarget {}).a(T0).imm(self.mode.limit));
        }
    }

    fn count_down(&mut self, count: Count, target: u32, next: u32) {
        let size = if counts_in_cx(self.insn.code()) { Size::W } else { Size::D };
        let op = Op::Alu { alu: Alu::Sub, form: Form::Imm, size, flags: Flag::Dead };
        self.emit(Uop::new(op).d(RCX).a(RCX).imm(1));
        self.jump_count(count, size, target, next);
    }

    fn jump_count(&mut self, count: Count, size: Size, target: u32, next: u32) {
        self.emit(Uop::new(Op::JumpCount { count, size }).a(RCX).imm(target).imm2(next));
    }
}

fn is_near_indirect(code: Code) -> bool {
    matches!(code, Code::Jmp_rm16 | Code::Jmp_rm32 | Code::Call_rm16 | Code::Call_rm32)
}

fn counts_in_cx(code: Code) -> bool {
    matches!(
        code,
        Code::Loop_rel8_16_CX
            | Code::Loop_rel8_32_CX
            | Code::Loope_rel8_16_CX
            | Code::Loope_rel8_32_CX
            | Code::Loopne_rel8_16_CX
            | Code::Loopne_rel8_32_CX
            | Code::Jcxz_rel8_16
            | Code::Jcxz_rel8_32
    )
}

/// A near branch whose target is beyond the limit of CS: #GP(0) where it is taken.
fn branch_beyond_limit(cpu: &mut Cpu, _: &mut dyn Bus, insn: &Instruction) -> Result<Flow, Fault> {
    let outcome = Outcome::of(cpu, insn);
    if outcome.taken {
        return Err(Fault::gp(0));
    }
    outcome.count(cpu);
    Ok(Flow::Next)
}

/// A near branch of 16 bits in a block that may be anywhere: where it leads, the first 64 KiB of CS, is not.
fn branch_to_first_64k(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Result<Flow, Fault> {
    let outcome = Outcome::of(cpu, insn);
    let next = cpu.state.rip.wrapping_add(insn.len() as u64);
    if insn.mnemonic() == Mnemonic::Call {
        cpu.push(bus, Width::Word, next)?;
    }
    outcome.count(cpu);
    if !outcome.taken {
        return Ok(Flow::Next);
    }
    // The block counts from its origin, the instruction from where it is.
    let distance = insn.near_branch_target().wrapping_sub(insn.next_ip());
    cpu.state.rip = next.wrapping_add(distance) & 0xffff;
    Ok(Flow::Jump)
}

/// What a near branch is about to do.
struct Outcome {
    taken: bool,
    /// The count register afterwards, where it counts.
    count: Option<u64>,
}

impl Outcome {
    fn of(cpu: &Cpu, insn: &Instruction) -> Self {
        let mask = if counts_in_cx(insn.code()) { 0xffff } else { 0xffff_ffff };
        let rcx = cpu.state.gpr[gpr::RCX];
        let (count, less) = (rcx & mask, rcx.wrapping_sub(1) & mask);
        let flags = &cpu.state.flags;
        let (taken, counts) = match insn.mnemonic() {
            Mnemonic::Jcxz | Mnemonic::Jecxz => (count == 0, false),
            Mnemonic::Loop => (less != 0, true),
            Mnemonic::Loope => (less != 0 && flags.zf(), true),
            Mnemonic::Loopne => (less != 0 && !flags.zf(), true),
            _ => (condition(insn.condition_code()).is_none_or(|cond| flags.condition(cond as u8)), false),
        };
        Self { taken, count: counts.then_some(rcx & !mask & 0xffff_ffff | less) }
    }

    fn count(&self, cpu: &mut Cpu) {
        if let Some(count) = self.count {
            cpu.state.gpr[gpr::RCX] = count;
        }
    }
}
