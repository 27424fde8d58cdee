//! Flags: what the host's hold, and what is remembered in the state.
//!
//! An op whose flags live stores its operands or its result, in the kinds of [`Lazy`] that cost least. Conditions use the host's own
//! flags where nothing has touched them since; else those are made again from what is remembered.

use std::mem::offset_of;

use super::emitter::{Assembler, Group1, Mem, Reg};
use super::registers::state;
use super::translator::Translator;
use crate::cpu::flags::{AF, ARITHMETIC, CF, Flags, Lazy, OF, PF, SF, ZF};
use crate::cpu::pass;
use crate::cpu::state::CpuState;
use crate::cpu::uop::{Cond, Size};

/// What is known about flags at one place of a block.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FlagState {
    /// Guest flags that the host's hold.
    pub host: u32,
    /// What the state remembers, where that is known.
    pub known: Option<(Lazy, Size)>,
}

const fn at(offset: usize) -> Mem {
    state(offset_of!(CpuState, flags) + offset)
}

/// EFLAGS but for the arithmetic flags.
pub(super) const VALUE: Mem = at(offset_of!(Flags, value));
/// [`Lazy`] and the sign bit's number, in two bytes, and two that are not used.
pub(super) const KIND: Mem = at(offset_of!(Flags, lazy));
/// The first operand, or bits.
pub(super) const A: Mem = at(offset_of!(Flags, a));
/// The second operand.
pub(super) const B: Mem = at(offset_of!(Flags, b));
/// The result.
pub(super) const RESULT: Mem = at(offset_of!(Flags, result));

const _: () = assert!(offset_of!(Flags, lazy) % 4 == 0, "kind and sign bit are written as one");

/// The flags that a result alone decides.
const OF_RESULT: u32 = SF | ZF | PF;

/// What [`KIND`] holds for a kind and a size.
pub(super) fn kind(lazy: Lazy, size: Size) -> u32 {
    lazy as u32 | (size.bits() - 1) << 8
}

impl Translator<'_> {
    /// The host's flags are now of no use.
    pub fn host_flags_gone(&mut self) {
        self.flags.host = 0;
    }

    /// Nothing is known about flags.
    pub fn flags_unknown(&mut self) {
        self.flags = FlagState::default();
    }

    /// Notes in the state how flags are remembered from here on. Leaves the host's flags.
    pub fn remember_kind(&mut self, lazy: Lazy, size: Size) {
        if self.flags.known != Some((lazy, size)) {
            self.asm.store_imm(Size::D, KIND, kind(lazy, size));
            self.flags.known = Some((lazy, size));
        }
    }

    /// Stores an operand that flags are remembered by. Leaves the host's flags.
    pub fn remember_operand(&mut self, to: Mem, size: Size, from: Reg) {
        if from.is_high() {
            self.high_to_low(from, |t, low| t.asm.store(Size::D, to, low));
        } else {
            self.asm.store(if size == Size::Q { Size::Q } else { Size::D }, to, from);
        }
    }

    /// Stores a result, widened with zeros. Uses R11; leaves the host's flags.
    pub fn remember_result(&mut self, size: Size, from: Reg) {
        match size {
            Size::D => self.asm.store(Size::D, RESULT, from),
            Size::Q => self.asm.store(Size::Q, RESULT, from),
            Size::B | Size::W if from.is_high() => {
                self.high_to_low(from, |t, low| t.asm.widen(false, Size::B, Size::D, Reg::R11, low));
                self.asm.store(Size::D, RESULT, Reg::R11);
            }
            Size::B | Size::W => {
                self.asm.widen(false, size, Size::D, Reg::R11, from);
                self.asm.store(Size::D, RESULT, Reg::R11);
            }
        }
    }

    /// Makes the host's flags those that `wanted` names. Uses R14.
    pub fn need_host_flags(&mut self, wanted: u32) {
        if self.flags.host & wanted == wanted {
            return;
        }
        let made = match self.flags.known {
            Some((Lazy::Sum, size)) => {
                self.asm.load(Size::D, Reg::R14, A);
                self.asm.alu_load(size, Group1::Add, Reg::R14, B);
                ARITHMETIC
            }
            Some((Lazy::Difference, size)) => {
                self.asm.load(Size::D, Reg::R14, A);
                self.asm.alu_load(size, Group1::Cmp, Reg::R14, B);
                ARITHMETIC
            }
            Some((Lazy::Logic, size)) => {
                self.asm.alu_mem_imm(size, Group1::Cmp, RESULT, 0);
                ARITHMETIC
            }
            Some((lazy, _)) if wanted == CF && lazy >= Lazy::Result => {
                self.asm.bit_test_mem(A, 0);
                CF
            }
            Some((lazy, size)) if wanted & !OF_RESULT == 0 && lazy >= Lazy::Shl => {
                self.asm.alu_mem_imm(size, Group1::Cmp, RESULT, 0);
                OF_RESULT
            }
            _ => {
                self.asm.call(self.stubs.load_flags);
                ARITHMETIC
            }
        };
        self.flags.host = made;
    }

    /// Makes the host's flags such that `cond` holds there where it does in the guest.
    pub fn need_condition(&mut self, cond: Cond) {
        self.need_host_flags(pass::tested(cond));
    }

    /// Sees to it that CF is bit 0 of [`A`], where INC and DEC leave it. Uses R14.
    pub fn need_carry_in_a(&mut self) {
        match self.flags.known {
            Some((lazy, _)) if lazy >= Lazy::Result => {}
            Some((Lazy::Logic, _)) => self.asm.store_imm(Size::B, A, 0),
            Some(_) => {
                self.need_host_flags(CF);
                self.asm.setcc_mem(Cond::B, A);
            }
            None if self.flags.host & CF != 0 => self.asm.setcc_mem(Cond::B, A),
            None => {
                self.asm.alu_mem_imm(Size::B, Group1::Cmp, KIND, Lazy::Result as u32);
                let there = self.asm.jcc_forward(Cond::Ae);
                self.asm.call(self.stubs.load_flags);
                self.asm.setcc_mem(Cond::B, A);
                self.asm.bind(there);
                self.host_flags_gone();
            }
        }
    }

    /// Brings what is remembered into the form [`Lazy::Result`], where single flags can be changed. False: that cannot be done here.
    pub fn need_result_form(&mut self) -> bool {
        match self.flags.known {
            Some((Lazy::Result, _)) => true,
            Some((Lazy::Logic, size)) => {
                self.asm.store_imm(Size::D, A, 0);
                self.remember_kind(Lazy::Result, size);
                true
            }
            Some((lazy @ (Lazy::Sum | Lazy::Difference), size @ Size::D)) => {
                operands_to_result(self.asm, if lazy == Lazy::Sum { Group1::Add } else { Group1::Sub });
                self.remember_kind(Lazy::Result, size);
                self.host_flags_gone();
                true
            }
            _ => false,
        }
    }
}

/// Makes result and bits of a 32-bit addition or subtraction, whose operands are remembered, those that [`Lazy::Result`] means. Uses R11
/// and R14, and the host's flags.
pub(super) fn operands_to_result(asm: &mut Assembler, what: Group1) {
    asm.load(Size::D, Reg::R14, A);
    asm.alu_load(Size::D, what, Reg::R14, B);
    asm.store(Size::D, RESULT, Reg::R14);
    asm.setcc(Cond::B, Reg::R11);
    asm.widen(false, Size::B, Size::D, Reg::R11, Reg::R11);
    // The order matters: SETcc has kept OF, MOVZX, too.
    let overflows = asm.jcc_forward(Cond::No);
    asm.lea(Size::D, Reg::R11, Mem::Base(Reg::R11, OF as i32));
    asm.bind(overflows);
    asm.alu_load(Size::D, Group1::Xor, Reg::R14, A);
    asm.alu_load(Size::D, Group1::Xor, Reg::R14, B);
    asm.alu_imm(Size::D, Group1::And, Reg::R14, AF);
    asm.alu(Size::D, Group1::Or, Reg::R14, Reg::R11);
    asm.store(Size::D, A, Reg::R14);
}
