//! PUSH, POP, LEAVE.
//!
//! On a flat 32-bit stack these are plain stores and loads at ESP; otherwise the ops that go through SS.

use iced_x86::{Mnemonic, OpKind, Register};

use super::{Address, Lifter};
use crate::cpu::helper::operand::seg_reg;
use crate::cpu::state::SegReg;
use crate::cpu::uop::{AddressSize, Alu, Ea, Extend, Flag, Form, Op, RBP, RSP, Size, T0, Uop};

impl Lifter<'_> {
    /// Lifts an instruction of this family.
    pub(super) fn stack(&mut self) -> bool {
        match self.insn.mnemonic() {
            Mnemonic::Push => match self.insn.op0_kind() {
                OpKind::Register if !self.insn.op0_register().is_gpr() => {
                    let size = self.push_size();
                    self.selector(self.insn.op0_register());
                    self.push_slot(size, T0);
                }
                OpKind::Register | OpKind::Memory => {
                    let size = self.size(0);
                    let slot = self.read(0, size);
                    self.push_slot(size, slot);
                }
                _ => {
                    let size = self.push_size();
                    let imm = self.immediate(0);
                    self.push_immediate(size, imm);
                }
            },
            Mnemonic::Pop => {
                if self.is_memory(0) {
                    self.pop_memory();
                } else if self.insn.op0_register().is_gpr() {
                    self.pop_register();
                } else {
                    return false;
                }
            }
            Mnemonic::Leave => {
                let size = self.push_size();
                let address = self.stack_operand(RBP, size.bytes(), false);
                self.emit(address.op(|ea| Op::Load { size, ea }).d(T0));
                self.move_stack(RBP, size.bytes());
                self.emit(Uop::new(Op::Mov { size }).d(RBP).a(T0));
            }
            _ => return false,
        }
        true
    }

    /// The operand size of a stack instruction without operands that say so.
    fn push_size(&self) -> Size {
        match self.insn.stack_pointer_increment().unsigned_abs() {
            2 => Size::W,
            4 => Size::D,
            8 => Size::Q,
            // LEAVE has none in iced's tables: its name does.
            _ => {
                if self.insn.code() == iced_x86::Code::Leavew {
                    Size::W
                } else {
                    Size::D
                }
            }
        }
    }

    /// Loads a segment register's selector into [`T0`], zero-extended.
    pub(super) fn selector(&mut self, register: Register) {
        self.emit(Uop::new(Op::Selector {}).d(T0).imm(seg_reg(register) as u32));
    }

    /// Pushes a slot.
    pub(super) fn push_slot(&mut self, size: Size, slot: u8) {
        if self.mode.flat_stack() {
            let top = Address { imm: size.bytes().wrapping_neg(), ..Address::slot(RSP) };
            self.emit(top.op(|ea| Op::Store { size, ea }).d(slot));
            self.move_stack(RSP, size.bytes().wrapping_neg());
        } else {
            self.emit(Uop::new(Op::Push { size }).d(slot));
        }
    }

    /// Pushes a constant.
    pub(super) fn push_immediate(&mut self, size: Size, imm: u32) {
        if self.mode.flat_stack() {
            let top = Address { imm: size.bytes().wrapping_neg(), ..Address::slot(RSP) };
            self.emit(top.op(|ea| Op::StoreImm { size, ea }).imm2(imm));
            self.move_stack(RSP, size.bytes().wrapping_neg());
        } else {
            self.emit(Uop::new(Op::PushImm { size }).imm(imm));
        }
    }

    /// The stack pointer becomes `from + by`.
    pub(super) fn move_stack(&mut self, from: u8, by: u32) {
        let size = self.mode.stack();
        let (alu, imm) = if by as i32 >= 0 { (Alu::Add, by) } else { (Alu::Sub, by.wrapping_neg()) };
        let op = Op::Alu { alu, form: Form::Imm, size, flags: Flag::Dead };
        self.emit(Uop::new(op).d(RSP).a(from).imm(imm));
    }

    /// The memory at the stack pointer or frame pointer in `slot`.
    pub(super) fn stack_operand(&mut self, slot: u8, bytes: u32, write: bool) -> Address {
        let address = if self.mode.stack() == Size::W { AddressSize::A16 } else { AddressSize::A32 };
        self.locate_in(SegReg::Ss, address, Address::slot(slot), bytes, write)
    }

    /// Loads the top of the stack into [`T0`], zero-extended.
    pub(super) fn load_top(&mut self, size: Size) {
        let address = self.stack_operand(RSP, size.bytes(), false);
        self.emit(if size == Size::W {
            address.op(|ea| Op::LoadWiden { extend: Extend::Zero, from: size, to: Size::D, ea }).d(T0)
        } else {
            address.op(|ea| Op::Load { size, ea }).d(T0)
        });
    }

    fn pop_register(&mut self) {
        let size = self.size(0);
        let slot = self.register(0);
        if !self.mode.flat_stack() {
            self.emit(Uop::new(Op::Pop { size }).d(slot));
        } else if slot == RSP {
            self.load_top(size);
            self.move_stack(RSP, size.bytes());
            self.emit(Uop::new(Op::Mov { size }).d(RSP).a(T0));
        } else {
            self.emit(Address::slot(RSP).op(|ea| Op::Load { size, ea }).d(slot));
            self.move_stack(RSP, size.bytes());
        }
    }

    /// An address with ESP as its base is computed after the pop.
    fn pop_memory(&mut self) {
        let size = self.size(0);
        self.load_top(size);
        let mut offset = self.offset();
        if matches!(self.insn.memory_base(), Register::ESP | Register::RSP) {
            offset.imm = offset.imm.wrapping_add(size.bytes());
        }
        debug_assert!(offset.ea == Ea::Base || offset.b != RSP);
        let address = self.locate(offset, size.bytes(), true);
        self.emit(address.op(|ea| Op::Store { size, ea }).d(T0));
        self.move_stack(RSP, size.bytes());
    }
}
