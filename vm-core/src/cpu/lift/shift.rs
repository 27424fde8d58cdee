//! Shifts, rotates and double shifts.

use iced_x86::Mnemonic;

use super::Lifter;
use crate::cpu::uop::{DoubleShift, Form, Op, RCX, Shift, Size, Uop};

impl Lifter<'_> {
    /// Lifts an instruction of this family.
    pub(super) fn shift(&mut self) -> bool {
        match self.insn.mnemonic() {
            Mnemonic::Rol => self.single_shift(Shift::Rol),
            Mnemonic::Ror => self.single_shift(Shift::Ror),
            Mnemonic::Rcl => self.single_shift(Shift::Rcl),
            Mnemonic::Rcr => self.single_shift(Shift::Rcr),
            Mnemonic::Shl | Mnemonic::Sal => self.single_shift(Shift::Shl),
            Mnemonic::Shr => self.single_shift(Shift::Shr),
            Mnemonic::Sar => self.single_shift(Shift::Sar),
            Mnemonic::Shld => self.double_shift(DoubleShift::Shld),
            Mnemonic::Shrd => self.double_shift(DoubleShift::Shrd),
            _ => return false,
        }
        true
    }

    /// The count in `operand`, masked as the processor does: `None` where it is in CL.
    fn count(&self, operand: u32, size: Size) -> Option<u32> {
        let mask = if size == Size::Q { 63 } else { 31 };
        (!self.is_register(operand)).then(|| self.immediate(operand) & mask)
    }

    fn single_shift(&mut self, shift: Shift) {
        let size = self.size(0);
        let flags = Self::FLAGS;
        let op = match self.count(1, size) {
            None => Uop::new(Op::Shift { shift, form: Form::Reg, size, flags }).b(RCX),
            Some(imm) => Uop::new(Op::Shift { shift, form: Form::Imm, size, flags }).imm(imm),
        };
        let nothing = self.count(1, size) == Some(0);
        self.modify(size, |l, slot| {
            if !nothing {
                l.emit(op.d(slot).a(slot));
            }
        });
    }

    fn double_shift(&mut self, shift: DoubleShift) {
        let size = self.size(0);
        let source = self.register(1);
        let op = match self.count(2, size) {
            None => Uop::new(Op::DoubleShift { shift, form: Form::Reg, size }).b(RCX),
            Some(imm) => Uop::new(Op::DoubleShift { shift, form: Form::Imm, size }).imm(imm),
        };
        let nothing = self.count(2, size) == Some(0);
        self.modify(size, |l, slot| {
            if !nothing {
                l.emit(op.d(slot).a(source));
            }
        });
    }
}
