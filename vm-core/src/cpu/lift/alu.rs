//! ADD to XOR, CMP, TEST, INC, DEC, NEG, NOT, XADD, CMPXCHG.

use iced_x86::Mnemonic;

use super::Lifter;
use crate::cpu::uop::{Alu, Compare, Form, Op, T0, T1, Uop};

impl Lifter<'_> {
    /// Lifts an instruction of this family.
    pub(super) fn alu(&mut self) -> bool {
        match self.insn.mnemonic() {
            Mnemonic::Add => self.binary(Alu::Add),
            Mnemonic::Or => self.binary(Alu::Or),
            Mnemonic::Adc => self.binary(Alu::Adc),
            Mnemonic::Sbb => self.binary(Alu::Sbb),
            Mnemonic::And => self.binary(Alu::And),
            Mnemonic::Sub => self.binary(Alu::Sub),
            Mnemonic::Xor => self.binary(Alu::Xor),
            Mnemonic::Cmp => self.compare(Compare::Cmp),
            Mnemonic::Test => self.compare(Compare::Test),
            Mnemonic::Inc => {
                let size = self.size(0);
                self.modify(size, |l, slot| l.emit(Uop::new(Op::Inc { size }).d(slot).a(slot)));
            }
            Mnemonic::Dec => {
                let size = self.size(0);
                self.modify(size, |l, slot| l.emit(Uop::new(Op::Dec { size }).d(slot).a(slot)));
            }
            Mnemonic::Neg => {
                let size = self.size(0);
                let op = Op::Neg { size, flags: Self::FLAGS };
                self.modify(size, |l, slot| l.emit(Uop::new(op).d(slot).a(slot)));
            }
            Mnemonic::Not => {
                let size = self.size(0);
                self.modify(size, |l, slot| l.emit(Uop::new(Op::Not { size }).d(slot).a(slot)));
            }
            Mnemonic::Xadd => self.xadd(),
            Mnemonic::Cmpxchg => self.cmpxchg(),
            _ => return false,
        }
        true
    }

    fn binary(&mut self, alu: Alu) {
        let size = self.size(0);
        let flags = Self::FLAGS;
        if self.is_memory(1) {
            let slot = self.register(0);
            let right = self.read(1, size);
            self.emit(Uop::new(Op::Alu { alu, form: Form::Reg, size, flags }).d(slot).a(slot).b(right));
        } else if self.is_register(1) {
            let right = self.register(1);
            let op = Op::Alu { alu, form: Form::Reg, size, flags };
            self.modify(size, |l, slot| l.emit(Uop::new(op).d(slot).a(slot).b(right)));
        } else {
            let imm = self.immediate(1);
            let op = Op::Alu { alu, form: Form::Imm, size, flags };
            self.modify(size, |l, slot| l.emit(Uop::new(op).d(slot).a(slot).imm(imm)));
        }
    }

    fn compare(&mut self, compare: Compare) {
        let size = self.size(0);
        if self.is_memory(1) {
            let right = self.read(1, size);
            let left = self.register(0);
            self.emit(Uop::new(Op::Compare { compare, form: Form::Reg, size }).a(left).b(right));
            return;
        }
        let left = self.read(0, size);
        if self.is_register(1) {
            let right = self.register(1);
            self.emit(Uop::new(Op::Compare { compare, form: Form::Reg, size }).a(left).b(right));
        } else {
            let imm = self.immediate(1);
            self.emit(Uop::new(Op::Compare { compare, form: Form::Imm, size }).a(left).imm(imm));
        }
    }

    fn xadd(&mut self) {
        let size = self.size(0);
        let source = self.register(1);
        let add = Op::Alu { alu: Alu::Add, form: Form::Reg, size, flags: Self::FLAGS };
        if self.is_memory(0) {
            let address = self.address(size.bytes(), true);
            self.emit(address.op(|ea| Op::LoadForWrite { size, ea }).d(T0));
            self.emit(Uop::new(add).d(T1).a(T0).b(source));
            self.emit(address.op(|ea| Op::Store { size, ea }).d(T1));
            self.emit(Uop::new(Op::Mov { size }).d(source).a(T0));
        } else {
            let target = self.register(0);
            self.emit(Uop::new(Op::Mov { size }).d(T0).a(target));
            self.emit(Uop::new(add).d(T1).a(target).b(source));
            self.emit(Uop::new(Op::Mov { size }).d(source).a(T0));
            self.emit(Uop::new(Op::Mov { size }).d(target).a(T1));
        }
    }

    fn cmpxchg(&mut self) {
        let size = self.size(0);
        let source = self.register(1);
        if self.is_memory(0) {
            let address = self.address(size.bytes(), true);
            self.emit(address.op(|ea| Op::LoadForWrite { size, ea }).d(T0));
            self.emit(Uop::new(Op::CmpXchg { size }).d(T1).a(T0).b(source));
            self.emit(address.op(|ea| Op::Store { size, ea }).d(T1));
        } else {
            let target = self.register(0);
            self.emit(Uop::new(Op::CmpXchg { size }).d(T1).a(target).b(source));
            self.emit(Uop::new(Op::Mov { size }).d(target).a(T1));
        }
    }
}
