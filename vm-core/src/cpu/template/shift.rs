//! Templates of shifts and rotates.
//!
//! The last step of a shift whose flags live is made alone: then the host's flags are those of a shift by one, which are defined,
//! and what the step before left is stored.

use super::emitter::{Group1, Mem, Reg};
use super::flags::{A, B, Origin};
use super::registers::{Place, place};
use super::translator::Translator;
use crate::cpu::flags::{AF, ARITHMETIC, CF, Lazy, OF};
use crate::cpu::uop::{Cond, DoubleShift, Form, RCX, Shift, Size, Uop};

/// The shift's number in the instruction set.
const fn number(shift: Shift) -> u8 {
    match shift {
        Shift::Rol => 0,
        Shift::Ror => 1,
        Shift::Rcl => 2,
        Shift::Rcr => 3,
        Shift::Shl => 4,
        Shift::Shr => 5,
        Shift::Sar => 7,
    }
}

const fn remembered(shift: Shift) -> Option<Lazy> {
    match shift {
        Shift::Shl => Some(Lazy::Shl),
        Shift::Shr => Some(Lazy::Shr),
        Shift::Sar => Some(Lazy::Sar),
        Shift::Rol | Shift::Ror | Shift::Rcl | Shift::Rcr => None,
    }
}

impl Translator<'_> {
    pub fn shift(&mut self, uop: &Uop, shift: Shift, form: Form, size: Size, live: u32) -> bool {
        let Place::Reg(to) = place(uop.d) else { return false };
        if uop.d != uop.a {
            let Place::Reg(from) = place(uop.a) else { return false };
            // CDQ and its like.
            if size != Size::D || form != Form::Imm || uop.d == RCX {
                return false;
            }
            self.asm.mov(Size::D, to, from);
        }
        match (form, remembered(shift)) {
            (Form::Imm, Some(lazy)) => {
                self.shift_by(to, number(shift), size, uop.imm & 31, (live != 0).then_some(lazy));
            }
            (Form::Reg, Some(lazy)) => return self.shift_by_cl(to, number(shift), size, (live != 0).then_some(lazy)),
            (Form::Imm, None) => return self.rotate_by(to, shift, size, uop.imm & 31, live),
            (Form::Reg, None) => {
                let plain = matches!(shift, Shift::Rol | Shift::Ror);
                if !plain || live & (CF | OF) != 0 {
                    return false;
                }
                self.asm.shift_cl(size, number(shift), to);
                self.known.flags.host = 0;
            }
        }
        true
    }

    /// By a constant that is not zero.
    fn shift_by(&mut self, to: Reg, number: u8, size: Size, count: u32, lazy: Option<Lazy>) {
        self.known.flags.host = 0;
        let Some(lazy) = lazy else {
            self.asm.shift_imm(size, number, to, count);
            return;
        };
        if self.owe(size, Origin::Shifted(lazy, count)) {
            self.asm.store(size, B, to);
            self.asm.shift_imm(size, number, to, count);
            return;
        }
        if count > 1 {
            self.asm.shift_imm(size, number, to, count - 1);
        }
        self.remember_operand(A, size, to);
        self.asm.shift_imm(size, number, to, 1);
        self.remember_result(size, to);
        self.remember_kind(lazy, size);
        self.known.flags.host = ARITHMETIC & !AF;
    }

    fn shift_by_cl(&mut self, to: Reg, number: u8, size: Size, lazy: Option<Lazy>) -> bool {
        self.known.flags.host = 0;
        let Some(lazy) = lazy else {
            self.asm.shift_cl(size, number, to);
            return true;
        };
        if matches!(to, Reg::Rcx | Reg::Ch) {
            return false;
        }
        self.asm.test_imm(Size::B, Reg::Rcx, 31);
        let nothing = self.asm.jcc_forward(Cond::E);
        self.asm.lea(Size::D, Reg::Rcx, Mem::Base(Reg::Rcx, -1));
        self.asm.shift_cl(size, number, to);
        self.asm.lea(Size::D, Reg::Rcx, Mem::Base(Reg::Rcx, 1));
        self.remember_operand(A, size, to);
        self.asm.shift_imm(size, number, to, 1);
        self.remember_result(size, to);
        self.known.flags.known = None;
        self.remember_kind(lazy, size);
        self.asm.bind(nothing);
        self.flags_unknown();
        true
    }

    fn rotate_by(&mut self, to: Reg, shift: Shift, size: Size, count: u32, live: u32) -> bool {
        let plain = matches!(shift, Shift::Rol | Shift::Ror);
        if live & (CF | OF) == 0 && plain {
            self.asm.shift_imm(size, number(shift), to, count);
            self.known.flags.host = 0;
            return true;
        }
        if plain && self.owe_rotate(size, shift == Shift::Ror, to) {
            self.asm.shift_imm(size, number(shift), to, count);
            return true;
        }
        // What the host leaves in OF is defined for one step only.
        if count > 1 && !plain || to.is_high() {
            return false;
        }
        if plain {
            self.ask_for_result_form();
        } else if self.need_result_form() {
            self.need_host_flags(CF);
        } else {
            return false;
        }
        if count > 1 {
            self.asm.shift_imm(size, number(shift), to, count - 1);
        }
        self.asm.shift_imm(size, number(shift), to, 1);
        self.carry_and_overflow();
        self.asm.load(Size::D, Reg::R11, A);
        self.asm.alu_imm(Size::D, Group1::And, Reg::R11, AF);
        self.asm.alu(Size::D, Group1::Or, Reg::R14, Reg::R11);
        self.asm.store(Size::D, A, Reg::R14);
        self.known.flags.host = 0;
        true
    }

    /// R14 = CF and OF of the host's flags, at their places. Uses R11.
    fn carry_and_overflow(&mut self) {
        self.asm.mov_imm(Size::D, Reg::R14, 0);
        self.asm.setcc(Cond::O, Reg::R14);
        self.asm.mov_imm(Size::D, Reg::R11, 0);
        self.asm.setcc(Cond::B, Reg::R11);
        self.asm.shift_imm(Size::D, number(Shift::Shl), Reg::R14, OF.trailing_zeros());
        self.asm.alu(Size::D, Group1::Or, Reg::R14, Reg::R11);
    }

    pub fn double_shift(&mut self, uop: &Uop, shift: DoubleShift, form: Form, size: Size, live: u32) -> bool {
        let (Place::Reg(to), Place::Reg(from)) = (place(uop.d), place(uop.a)) else { return false };
        let right = shift == DoubleShift::Shrd;
        if size != Size::D {
            return false;
        }
        let count = uop.imm & 31;
        match (form, live != 0) {
            (Form::Imm, false) => self.asm.double_shift(size, right, to, from, count),
            (Form::Reg, false) => self.asm.double_shift_cl(size, right, to, from),
            (Form::Imm, true) => {
                self.asm.mov(size, Reg::R14, from);
                if count > 1 {
                    self.asm.double_shift(size, right, to, Reg::R14, count - 1);
                    self.asm.shift_imm(size, number(opposite(right)), Reg::R14, count - 1);
                }
                self.last_double_shift(right, to);
            }
            (Form::Reg, true) => {
                if to == Reg::Rcx {
                    return false;
                }
                self.asm.test_imm(Size::B, Reg::Rcx, 31);
                let nothing = self.asm.jcc_forward(Cond::E);
                self.asm.mov(size, Reg::R14, from);
                self.asm.lea(Size::D, Reg::Rcx, Mem::Base(Reg::Rcx, -1));
                self.asm.double_shift_cl(size, right, to, Reg::R14);
                self.asm.shift_cl(size, number(opposite(right)), Reg::R14);
                self.asm.lea(Size::D, Reg::Rcx, Mem::Base(Reg::Rcx, 1));
                self.known.flags.known = None;
                self.last_double_shift(right, to);
                self.asm.bind(nothing);
                self.flags_unknown();
            }
        }
        self.known.flags.host = 0;
        true
    }

    /// The last step, into which R14 gives its bit, and the flags that it leaves.
    fn last_double_shift(&mut self, right: bool, to: Reg) {
        let size = Size::D;
        if !right {
            self.remember_operand(A, size, to);
            self.asm.double_shift(size, false, to, Reg::R14, 1);
            self.remember_result(size, to);
            self.remember_kind(Lazy::Shl, size);
            return;
        }
        self.asm.double_shift(size, true, to, Reg::R14, 1);
        self.carry_and_overflow();
        self.asm.store(size, A, Reg::R14);
        self.remember_result(size, to);
        self.remember_kind(Lazy::Result, size);
    }
}

/// What a source of SHRD (`right`) or SHLD is shifted by, so that its next bit is the one that goes in.
const fn opposite(right: bool) -> Shift {
    if right { Shift::Shr } else { Shift::Shl }
}
