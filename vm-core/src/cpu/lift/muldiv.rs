//! Multiplication and division.

use iced_x86::Mnemonic;

use super::Lifter;
use crate::cpu::uop::{Form, MulDiv, Op, Uop};

impl Lifter<'_> {
    /// Lifts an instruction of this family.
    pub(super) fn muldiv(&mut self) -> bool {
        match self.insn.mnemonic() {
            Mnemonic::Mul => self.accumulate(MulDiv::Mul),
            Mnemonic::Imul if self.insn.op_count() > 1 => self.imul(),
            Mnemonic::Imul => self.accumulate(MulDiv::Imul),
            Mnemonic::Div => self.accumulate(MulDiv::Div),
            Mnemonic::Idiv => self.accumulate(MulDiv::Idiv),
            _ => return false,
        }
        true
    }

    fn accumulate(&mut self, kind: MulDiv) {
        let size = self.size(0);
        let slot = self.read(0, size);
        self.emit(Uop::new(Op::MulDiv { kind, size }).a(slot));
    }

    fn imul(&mut self) {
        let size = self.size(0);
        let to = self.register(0);
        let slot = self.read(1, size);
        if self.insn.op_count() == 3 {
            let imm = self.immediate(2);
            self.emit(Uop::new(Op::Imul { form: Form::Imm, size }).d(to).a(slot).imm(imm));
        } else {
            self.emit(Uop::new(Op::Imul { form: Form::Reg, size }).d(to).a(to).b(slot));
        }
    }
}
