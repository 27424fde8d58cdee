//! x87 instructions that engines may give to the host's x87: an op each. The others are helpers.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::Lifter;
use crate::cpu::Helper;
use crate::cpu::helper::operand::segment_of;
use crate::cpu::helper::x87::opcode;
use crate::cpu::uop::{AddressSize, Op, Uop, X87, X87Access};

/// The kind of an instruction on registers; `None`: it is a helper's.
fn on_registers(insn: &Instruction) -> Option<X87> {
    use Mnemonic as M;
    Some(match insn.mnemonic() {
        M::Fadd
        | M::Fsub
        | M::Fsubr
        | M::Fmul
        | M::Fdiv
        | M::Fdivr
        | M::Faddp
        | M::Fsubp
        | M::Fsubrp
        | M::Fmulp
        | M::Fdivp
        | M::Fdivrp
        | M::Fcom
        | M::Fcomp
        | M::Fcompp
        | M::Fucom
        | M::Fucomp
        | M::Fucompp
        | M::Ftst
        | M::Fxam
        | M::Fld
        | M::Fst
        | M::Fstp
        | M::Fld1
        | M::Fldl2t
        | M::Fldl2e
        | M::Fldpi
        | M::Fldlg2
        | M::Fldln2
        | M::Fldz
        | M::Fchs
        | M::Fabs
        | M::Fsqrt
        | M::Frndint
        | M::F2xm1
        | M::Fyl2x
        | M::Fyl2xp1
        | M::Fptan
        | M::Fpatan
        | M::Fsin
        | M::Fcos
        | M::Fsincos
        | M::Fscale
        | M::Fxtract
        | M::Fprem
        | M::Fprem1
        | M::Fxch
        | M::Ffree
        | M::Fincstp
        | M::Fdecstp => X87::Plain,
        M::Fcmovb | M::Fcmove | M::Fcmovbe | M::Fcmovu | M::Fcmovnb | M::Fcmovne | M::Fcmovnbe | M::Fcmovnu => {
            X87::Tests
        }
        M::Fcomi | M::Fcomip | M::Fucomi | M::Fucomip => X87::Compares,
        M::Fnstsw => X87::Status,
        _ => return None,
    })
}

/// What an instruction with a memory operand does there; `None`: it is a helper's.
fn in_memory(insn: &Instruction) -> Option<X87Access> {
    use Mnemonic as M;
    Some(match insn.mnemonic() {
        M::Fadd
        | M::Fsub
        | M::Fsubr
        | M::Fmul
        | M::Fdiv
        | M::Fdivr
        | M::Fiadd
        | M::Fisub
        | M::Fisubr
        | M::Fimul
        | M::Fidiv
        | M::Fidivr
        | M::Fcom
        | M::Fcomp
        | M::Ficom
        | M::Ficomp
        | M::Fld
        | M::Fild => X87Access::Read,
        M::Fst | M::Fstp | M::Fist | M::Fistp => X87Access::Write,
        M::Fnstcw | M::Fnstsw => X87Access::WriteWord,
        M::Fldcw => X87Access::Control,
        _ => return None,
    })
}

impl Lifter<'_> {
    /// Lifts an instruction of this family, which `helper` executes, too. Memory only where no segment needs a check.
    pub(super) fn x87(&mut self, helper: Helper) -> bool {
        let memory = self.insn.op_count() > 0 && self.insn.op0_kind() == OpKind::Memory;
        let number = self.into.helpers.len() as u32;
        let op = if memory {
            let Some(access) = in_memory(self.insn) else { return false };
            let segment = segment_of(self.insn);
            let write = matches!(access, X87Access::Write | X87Access::WriteWord);
            if !self.mode.flat(segment, write) || self.address_size() != AddressSize::A32 {
                return false;
            }
            let opcode = opcode(self.insn) & 0x738 | segment as u16;
            let bytes = self.insn.memory_size().size() as u8;
            self.offset().op(|ea| Op::X87Memory { access, ea }).d(bytes).imm2(Uop::x87(opcode, number))
        } else {
            let aliased = self.insn.op_count() == 1 && self.insn.op0_register() == Register::AX;
            let Some(kind) = on_registers(self.insn).filter(|kind| aliased == (*kind == X87::Status)) else {
                return false;
            };
            Uop::new(Op::X87 { kind }).imm2(Uop::x87(opcode(self.insn), number))
        };
        self.into.helpers.push((helper, *self.insn));
        // It may leave an exception that the next MMX instruction waits for.
        self.into.checked &= !super::vector::CHECKED_MMX;
        self.emit(op);
        true
    }
}
