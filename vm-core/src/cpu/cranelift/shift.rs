//! Shifts and rotates as CLIF. Those whose count is not known keep the flags where it is zero.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, types};

use super::flags::Remembered;
use super::translator::Translator;
use crate::cpu::flags::{CF, Lazy, OF};
use crate::cpu::uop::{DoubleShift, Form, RCX, Shift, Size, Uop};

impl Translator<'_, '_> {
    /// By a count that is known. `live` says which flags are looked at.
    pub fn shift(&mut self, uop: &Uop, shift: Shift, size: Size, live: u32) -> bool {
        if size == Size::Q {
            return false;
        }
        let count = i64::from(uop.imm & 31);
        if count == 0 {
            return true;
        }
        let bits = i64::from(size.bits());
        let a = self.get(uop.a, size);
        match shift {
            Shift::Shl | Shift::Shr | Shift::Sar => {
                let wide = if shift == Shift::Sar { self.signed(a) } else { self.wide(a) };
                let (lazy, last, result) = match shift {
                    Shift::Shl => {
                        (Lazy::Shl, self.b.ins().ishl_imm_s(wide, count - 1), self.b.ins().ishl_imm_s(wide, count))
                    }
                    Shift::Shr => {
                        (Lazy::Shr, self.b.ins().ushr_imm_s(wide, count - 1), self.b.ins().ushr_imm_s(wide, count))
                    }
                    _ => (Lazy::Sar, self.b.ins().sshr_imm_s(wide, count - 1), self.b.ins().sshr_imm_s(wide, count)),
                };
                let result = self.narrow(result, size);
                if live != 0 {
                    let wide = self.wide(result);
                    self.remember(lazy, size, Some(last), None, Some(wide));
                }
                self.put(uop.d, size, result);
            }
            Shift::Rol | Shift::Ror => {
                let left = shift == Shift::Rol;
                let by = count % bits;
                let result = if left { self.b.ins().rotl_imm_s(a, by) } else { self.b.ins().rotr_imm_s(a, by) };
                if live & (CF | OF) != 0 {
                    let high = self.b.ins().icmp_imm_s(IntCC::SignedLessThan, result, 0);
                    let (carry, other) = if left {
                        let low = self.b.ins().band_imm_s(result, 1);
                        let low = if size == Size::B { low } else { self.b.ins().ireduce(types::I8, low) };
                        (low, low)
                    } else {
                        let twice = self.b.ins().ishl_imm_s(result, 1);
                        (high, self.b.ins().icmp_imm_s(IntCC::SignedLessThan, twice, 0))
                    };
                    let overflow = self.b.ins().bxor(high, other);
                    self.set_carry_overflow(carry, Some(overflow), live);
                }
                self.put(uop.d, size, result);
            }
            Shift::Rcl | Shift::Rcr if count == 1 => {
                let old = self.carry();
                let old =
                    if size == Size::B { old } else { self.b.ins().uextend(super::translator::type_of(size), old) };
                let (result, carry) = if shift == Shift::Rcl {
                    let moved = self.b.ins().ishl_imm_s(a, 1);
                    (self.b.ins().bor(moved, old), self.b.ins().icmp_imm_s(IntCC::SignedLessThan, a, 0))
                } else {
                    let moved = self.b.ins().ushr_imm_s(a, 1);
                    let top = self.b.ins().ishl_imm_s(old, bits - 1);
                    let low = self.b.ins().band_imm_s(a, 1);
                    let low = if size == Size::B { low } else { self.b.ins().ireduce(types::I8, low) };
                    (self.b.ins().bor(moved, top), low)
                };
                let high = self.b.ins().icmp_imm_s(IntCC::SignedLessThan, result, 0);
                let other = if shift == Shift::Rcl {
                    carry
                } else {
                    let twice = self.b.ins().ishl_imm_s(result, 1);
                    self.b.ins().icmp_imm_s(IntCC::SignedLessThan, twice, 0)
                };
                let overflow = self.b.ins().bxor(high, other);
                self.set_carry_overflow(carry, Some(overflow), live);
                self.put(uop.d, size, result);
            }
            Shift::Rcl | Shift::Rcr => return false,
        }
        true
    }

    /// By CL.
    pub fn shift_by_cl(&mut self, uop: &Uop, shift: Shift, size: Size, live: bool) -> bool {
        if size == Size::Q {
            return false;
        }
        let count = self.get(RCX, Size::B);
        let count = self.wide(count);
        let count = self.b.ins().band_imm_s(count, 31);
        let a = self.get(uop.a, size);
        let result = match shift {
            Shift::Shl | Shift::Shr | Shift::Sar => {
                let wide = if shift == Shift::Sar { self.signed(a) } else { self.wide(a) };
                let before = self.b.ins().iadd_imm_s(count, -1);
                let (lazy, last, result) = match shift {
                    Shift::Shl => (Lazy::Shl, self.b.ins().ishl(wide, before), self.b.ins().ishl(wide, count)),
                    Shift::Shr => (Lazy::Shr, self.b.ins().ushr(wide, before), self.b.ins().ushr(wide, count)),
                    _ => (Lazy::Sar, self.b.ins().sshr(wide, before), self.b.ins().sshr(wide, count)),
                };
                let result = self.narrow(result, size);
                if live {
                    let wide = self.wide(result);
                    let shifts = self.b.ins().icmp_imm_s(IntCC::NotEqual, count, 0);
                    self.remember_where(shifts, Remembered { lazy, size, a: Some(last), b: None, result: Some(wide) });
                }
                result
            }
            Shift::Rol if !live => self.b.ins().rotl(a, count),
            Shift::Ror if !live => self.b.ins().rotr(a, count),
            Shift::Rol | Shift::Ror | Shift::Rcl | Shift::Rcr => return false,
        };
        self.put(uop.d, size, result);
        true
    }

    /// SHLD and SHRD of 32 bits by a count that is known.
    pub fn double_shift(&mut self, uop: &Uop, shift: DoubleShift, form: Form, size: Size) -> bool {
        if form != Form::Imm || size != Size::D {
            return false;
        }
        let count = i64::from(uop.imm & 31);
        if count == 0 {
            return true;
        }
        let (target, source) = (self.get(uop.d, size), self.get(uop.a, size));
        let result = if shift == DoubleShift::Shld {
            let last = self.b.ins().ishl_imm_s(target, count - 1);
            let high = self.b.ins().ishl_imm_s(target, count);
            let low = self.b.ins().ushr_imm_s(source, 32 - count);
            let result = self.b.ins().bor(high, low);
            self.remember(Lazy::Shl, size, Some(last), None, Some(result));
            result
        } else {
            let mut last = self.b.ins().ushr_imm_s(target, count - 1);
            if count > 1 {
                let high = self.b.ins().ishl_imm_s(source, 33 - count);
                last = self.b.ins().bor(last, high);
            }
            let low = self.b.ins().ushr_imm_s(target, count);
            let high = self.b.ins().ishl_imm_s(source, 32 - count);
            let result = self.b.ins().bor(low, high);
            let carry = self.b.ins().band_imm_s(last, 1);
            let differ = self.b.ins().bxor(last, result);
            let overflow = self.b.ins().ushr_imm_s(differ, 31);
            let overflow = self.b.ins().imul_imm_s(overflow, i64::from(OF));
            let others = self.b.ins().bor(carry, overflow);
            self.remember(Lazy::Result, size, Some(others), None, Some(result));
            result
        };
        self.put(uop.d, size, result);
        true
    }
}
