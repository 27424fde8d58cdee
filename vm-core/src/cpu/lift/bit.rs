//! Bit tests and scans.

use iced_x86::Mnemonic;

use super::{Address, Lifter};
use crate::cpu::uop::{AddressSize, Bit, Form, Op, Scan, Size, T0, TA, Uop};

impl Lifter<'_> {
    /// Lifts an instruction of this family.
    pub(super) fn bit(&mut self) -> bool {
        match self.insn.mnemonic() {
            Mnemonic::Bt => self.test_bit(Bit::Bt),
            Mnemonic::Bts => self.test_bit(Bit::Bts),
            Mnemonic::Btr => self.test_bit(Bit::Btr),
            Mnemonic::Btc => self.test_bit(Bit::Btc),
            // Before BMI1, the F3 prefix of TZCNT and LZCNT means nothing.
            Mnemonic::Bsf | Mnemonic::Tzcnt => self.scan(Scan::Forward),
            Mnemonic::Bsr | Mnemonic::Lzcnt => self.scan(Scan::Reverse),
            _ => return false,
        }
        true
    }

    fn scan(&mut self, scan: Scan) {
        let size = self.size(0);
        let to = self.register(0);
        let from = self.read(1, size);
        self.emit(Uop::new(Op::Scan { scan, size }).d(to).a(from));
    }

    fn test_bit(&mut self, bit: Bit) {
        let size = self.size(0);
        let op = if self.is_register(1) {
            Uop::new(Op::Bit { bit, form: Form::Reg, size }).b(self.register(1))
        } else {
            Uop::new(Op::Bit { bit, form: Form::Imm, size }).imm(self.immediate(1))
        };
        if !self.is_memory(0) {
            let slot = self.register(0);
            self.emit(op.d(slot).a(slot));
            return;
        }
        let write = bit != Bit::Bt;
        let address =
            if self.is_register(1) { self.bit_string(size, write) } else { self.address(size.bytes(), write) };
        if write {
            self.emit(address.op(|ea| Op::LoadForWrite { size, ea }).d(T0));
            self.emit(op.d(T0).a(T0));
            self.emit(address.op(|ea| Op::Store { size, ea }).d(T0));
        } else {
            self.emit(address.op(|ea| Op::Load { size, ea }).d(T0));
            self.emit(op.a(T0));
        }
    }

    /// The address of the word of a bit string that has the bit in register operand 1.
    fn bit_string(&mut self, size: Size, write: bool) -> Address {
        let offset = self.offset();
        let number = self.register(1);
        self.emit(offset.op(|ea| Op::Lea { address: AddressSize::A32, ea, size: Size::D }).d(TA));
        self.emit(Uop::new(Op::BitOffset { size }).d(TA).a(TA).b(number));
        self.locate(Address::slot(TA), size.bytes(), write)
    }
}
