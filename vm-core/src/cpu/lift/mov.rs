//! MOV, MOVZX, MOVSX, LEA, XCHG, XLAT, BSWAP, CMOVcc, SETcc, CBW and its like.

use iced_x86::{Code, ConditionCode, Mnemonic};

use super::{Address, Lifter};
use crate::cpu::uop::{Cond, Ea, Extend, Flag, Form, Op, RAX, RBX, RDX, Shift, Size, T0, Uop};

impl Lifter<'_> {
    /// Lifts an instruction of this family.
    pub(super) fn mov(&mut self) -> bool {
        match self.insn.mnemonic() {
            Mnemonic::Mov if self.insn.op1_register().is_segment_register() => {
                let size = if self.insn.code() == Code::Mov_rm16_Sreg || self.is_memory(0) { Size::W } else { Size::D };
                self.selector(self.insn.op1_register());
                self.write(size, T0);
            }
            Mnemonic::Mov => return self.move_plain(),
            Mnemonic::Movzx => self.widen(Extend::Zero),
            Mnemonic::Movsx => self.widen(Extend::Sign),
            Mnemonic::Lea => {
                let size = self.size(0);
                let address = self.address_size();
                let to = self.register(0);
                let offset = self.offset();
                self.emit(offset.op(|ea| Op::Lea { address, ea, size }).d(to));
            }
            Mnemonic::Xchg => self.exchange(),
            Mnemonic::Xlatb => {
                self.emit(Uop::new(Op::Widen { extend: Extend::Zero, from: Size::B, to: Size::D }).d(T0).a(RAX));
                let offset = Address { a: RBX, b: T0, x: 0, imm: 0, ea: Ea::Index };
                let address = self.locate(offset, 1, false);
                self.emit(address.op(|ea| Op::Load { size: Size::B, ea }).d(RAX));
            }
            Mnemonic::Bswap => {
                let size = self.size(0);
                let slot = self.register(0);
                self.emit(Uop::new(Op::Bswap { size }).d(slot).a(slot));
            }
            Mnemonic::Cbw => self.widen_accumulator(Size::B, Size::W),
            Mnemonic::Cwde => self.widen_accumulator(Size::W, Size::D),
            Mnemonic::Cwd => self.sign_fill(Size::W),
            Mnemonic::Cdq => self.sign_fill(Size::D),
            _ => return self.conditional(),
        }
        true
    }

    fn move_plain(&mut self) -> bool {
        let register = |n| self.is_register(n) && !self.insn.op_register(n).is_gpr();
        if register(0) || register(1) {
            // Segment, control and debug registers have helpers.
            return false;
        }
        let size = self.size(0);
        if self.is_memory(0) {
            let address = self.address(size.bytes(), true);
            if self.is_register(1) {
                let from = self.register(1);
                self.emit(address.op(|ea| Op::Store { size, ea }).d(from));
            } else {
                let imm = self.immediate(1);
                self.emit(address.op(|ea| Op::StoreImm { size, ea }).imm2(imm));
            }
            return true;
        }
        let to = self.register(0);
        if self.is_memory(1) {
            let address = self.address(size.bytes(), false);
            self.emit(address.op(|ea| Op::Load { size, ea }).d(to));
        } else if self.is_register(1) {
            let from = self.register(1);
            self.emit(Uop::new(Op::Mov { size }).d(to).a(from));
        } else {
            let imm = self.immediate(1);
            self.emit(Uop::new(Op::MovImm { size }).d(to).imm(imm));
        }
        true
    }

    fn widen(&mut self, extend: Extend) {
        let (from, to) = (self.size(1), self.size(0));
        let slot = self.register(0);
        if self.is_memory(1) {
            let address = self.address(from.bytes(), false);
            self.emit(if from == to {
                address.op(|ea| Op::Load { size: to, ea }).d(slot)
            } else {
                address.op(|ea| Op::LoadWiden { extend, from, to, ea }).d(slot)
            });
        } else {
            let source = self.register(1);
            let op = if from == to { Op::Mov { size: to } } else { Op::Widen { extend, from, to } };
            self.emit(Uop::new(op).d(slot).a(source));
        }
    }

    fn widen_accumulator(&mut self, from: Size, to: Size) {
        self.emit(Uop::new(Op::Widen { extend: Extend::Sign, from, to }).d(RAX).a(RAX));
    }

    /// DX or EDX becomes the sign of the accumulator.
    fn sign_fill(&mut self, size: Size) {
        let op = Op::Shift { shift: Shift::Sar, form: Form::Imm, size, flags: Flag::Dead };
        self.emit(Uop::new(op).d(RDX).a(RAX).imm(size.bits() - 1));
    }

    fn exchange(&mut self) {
        let size = self.size(0);
        if self.is_memory(0) || self.is_memory(1) {
            let slot = self.register(u32::from(self.is_memory(0)));
            let address = self.address(size.bytes(), true);
            self.emit(address.op(|ea| Op::LoadForWrite { size, ea }).d(T0));
            self.emit(address.op(|ea| Op::Store { size, ea }).d(slot));
            self.emit(Uop::new(Op::Mov { size }).d(slot).a(T0));
        } else {
            let (one, other) = (self.register(0), self.register(1));
            if one != other {
                self.emit(Uop::new(Op::Xchg { size }).d(one).a(other));
            }
        }
    }

    /// SETcc and CMOVcc.
    fn conditional(&mut self) -> bool {
        let Some(cond) = condition(self.insn.condition_code()) else {
            return false;
        };
        let name = self.insn.mnemonic();
        if SETCC.contains(&name) {
            if self.is_memory(0) {
                self.emit(Uop::new(Op::Setcc { cond }).d(T0));
                self.write(Size::B, T0);
            } else {
                let to = self.register(0);
                self.emit(Uop::new(Op::Setcc { cond }).d(to));
            }
        } else if CMOVCC.contains(&name) {
            let size = self.size(0);
            let from = self.read(1, size);
            let to = self.register(0);
            self.emit(Uop::new(Op::Cmov { cond, size }).d(to).a(from));
        } else {
            return false;
        }
        true
    }
}

#[rustfmt::skip]
const SETCC: [Mnemonic; 16] = [
    Mnemonic::Seto, Mnemonic::Setno, Mnemonic::Setb, Mnemonic::Setae, Mnemonic::Sete, Mnemonic::Setne, Mnemonic::Setbe, Mnemonic::Seta,
    Mnemonic::Sets, Mnemonic::Setns, Mnemonic::Setp, Mnemonic::Setnp, Mnemonic::Setl, Mnemonic::Setge, Mnemonic::Setle, Mnemonic::Setg,
];

#[rustfmt::skip]
const CMOVCC: [Mnemonic; 16] = [
    Mnemonic::Cmovo, Mnemonic::Cmovno, Mnemonic::Cmovb, Mnemonic::Cmovae, Mnemonic::Cmove, Mnemonic::Cmovne, Mnemonic::Cmovbe, Mnemonic::Cmova,
    Mnemonic::Cmovs, Mnemonic::Cmovns, Mnemonic::Cmovp, Mnemonic::Cmovnp, Mnemonic::Cmovl, Mnemonic::Cmovge, Mnemonic::Cmovle, Mnemonic::Cmovg,
];

/// The condition by our name.
pub(super) fn condition(code: ConditionCode) -> Option<Cond> {
    Some(match code {
        ConditionCode::o => Cond::O,
        ConditionCode::no => Cond::No,
        ConditionCode::b => Cond::B,
        ConditionCode::ae => Cond::Ae,
        ConditionCode::e => Cond::E,
        ConditionCode::ne => Cond::Ne,
        ConditionCode::be => Cond::Be,
        ConditionCode::a => Cond::A,
        ConditionCode::s => Cond::S,
        ConditionCode::ns => Cond::Ns,
        ConditionCode::p => Cond::P,
        ConditionCode::np => Cond::Np,
        ConditionCode::l => Cond::L,
        ConditionCode::ge => Cond::Ge,
        ConditionCode::le => Cond::Le,
        ConditionCode::g => Cond::G,
        ConditionCode::None => return None,
    })
}
