//! Moves and arithmetic as CLIF. Each returns false where it has nothing for the case: the interpreter then executes the op.

use std::mem::offset_of;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::translator::{Translator, state, type_of, variable_of};
use crate::cpu::flags::{CF, Lazy, OF};
use crate::cpu::state::{CpuState, Segment};
use crate::cpu::uop::{
    AddressSize, Alu, Bit, Compare, Cond, Ea, Extend, FlagOp, Form, MulDiv, RAX, RDX, Scan, Size, Uop,
};

impl Translator<'_, '_> {
    pub fn mov(&mut self, uop: &Uop, size: Size) -> bool {
        let value = self.get(uop.a, size);
        self.put(uop.d, size, value);
        true
    }

    pub fn mov_imm(&mut self, uop: &Uop, size: Size) -> bool {
        let value = self.constant(size, uop.imm);
        self.put(uop.d, size, value);
        true
    }

    pub fn exchange(&mut self, uop: &Uop, size: Size) -> bool {
        let (one, other) = (self.get(uop.d, size), self.get(uop.a, size));
        self.put(uop.d, size, other);
        self.put(uop.a, size, one);
        true
    }

    pub fn widen(&mut self, uop: &Uop, extend: Extend, from: Size, to: Size) -> bool {
        if from >= to || to == Size::Q {
            return false;
        }
        let value = self.get(uop.a, from);
        let value = self.extended(extend, value, to);
        self.put(uop.d, to, value);
        true
    }

    /// A value in a wider type.
    pub fn extended(&mut self, extend: Extend, value: Value, to: Size) -> Value {
        match extend {
            Extend::Zero => self.b.ins().uextend(type_of(to), value),
            Extend::Sign => self.b.ins().sextend(type_of(to), value),
        }
    }

    /// `a + (b << x) + imm`, 32 bits.
    pub fn offset(&mut self, uop: &Uop, ea: Ea) -> Value {
        let mut sum = variable_of(uop.a).map(|_| self.get(uop.a, Size::D));
        if ea == Ea::Index && variable_of(uop.b).is_some() {
            let index = self.get(uop.b, Size::D);
            let index =
                if uop.x.trailing_zeros() >= 5 { index } else { self.b.ins().ishl_imm_s(index, i64::from(uop.x & 31)) };
            sum = Some(sum.map_or(index, |base| self.b.ins().iadd(base, index)));
        }
        let imm = i64::from(uop.imm as i32);
        match sum {
            None => self.b.ins().iconst(types::I32, i64::from(uop.imm)),
            Some(sum) if imm == 0 => sum,
            Some(sum) => self.b.ins().iadd_imm_s(sum, imm),
        }
    }

    pub fn lea(&mut self, uop: &Uop, address: AddressSize, ea: Ea, size: Size) -> bool {
        if !matches!(size, Size::W | Size::D) {
            return false;
        }
        let offset = self.offset(uop, ea);
        let offset = if address == AddressSize::A16 { self.b.ins().band_imm_s(offset, 0xffff) } else { offset };
        let value = self.narrow(offset, size);
        self.put(uop.d, size, value);
        true
    }

    fn right(&mut self, uop: &Uop, form: Form, size: Size) -> Value {
        match form {
            Form::Imm => self.constant(size, uop.imm),
            Form::Reg => self.get(uop.b, size),
        }
    }

    pub fn arithmetic(&mut self, uop: &Uop, alu: Alu, form: Form, size: Size, live: bool) -> bool {
        if size == Size::Q {
            return false;
        }
        let (a, b) = (self.get(uop.a, size), self.right(uop, form, size));
        let (lazy, result) = match alu {
            Alu::Add => (Lazy::Sum, self.b.ins().iadd(a, b)),
            Alu::Sub => (Lazy::Difference, self.b.ins().isub(a, b)),
            Alu::And => (Lazy::Logic, self.b.ins().band(a, b)),
            Alu::Or => (Lazy::Logic, self.b.ins().bor(a, b)),
            Alu::Xor => (Lazy::Logic, self.b.ins().bxor(a, b)),
            Alu::Adc | Alu::Sbb => {
                let carry = self.carry();
                let carry = if size == Size::B { carry } else { self.b.ins().uextend(type_of(size), carry) };
                if alu == Alu::Adc {
                    let sum = self.b.ins().iadd(a, b);
                    (Lazy::Add, self.b.ins().iadd(sum, carry))
                } else {
                    let difference = self.b.ins().isub(a, b);
                    (Lazy::Sub, self.b.ins().isub(difference, carry))
                }
            }
        };
        if live {
            let (a, b, wide) = (self.wide(a), self.wide(b), self.wide(result));
            match lazy {
                Lazy::Sum | Lazy::Difference => self.remember(lazy, size, Some(a), Some(b), None),
                Lazy::Logic => self.remember(lazy, size, None, None, Some(wide)),
                _ => self.remember(lazy, size, Some(a), Some(b), Some(wide)),
            }
        }
        self.put(uop.d, size, result);
        true
    }

    pub fn compare(&mut self, uop: &Uop, compare: Compare, form: Form, size: Size) -> bool {
        if size == Size::Q {
            return false;
        }
        let (a, b) = (self.get(uop.a, size), self.right(uop, form, size));
        match compare {
            Compare::Cmp => {
                let (a, b) = (self.wide(a), self.wide(b));
                self.remember(Lazy::Difference, size, Some(a), Some(b), None);
            }
            Compare::Test => {
                let result = self.b.ins().band(a, b);
                let result = self.wide(result);
                self.remember(Lazy::Logic, size, None, None, Some(result));
            }
        }
        true
    }

    /// INC and DEC where CF lives.
    pub fn step(&mut self, uop: &Uop, down: bool, size: Size) -> bool {
        if size == Size::Q {
            return false;
        }
        let carry = self.kept_carry();
        let a = self.get(uop.a, size);
        let result = self.b.ins().iadd_imm_s(a, if down { -1 } else { 1 });
        let wide = self.wide(result);
        self.remember(if down { Lazy::Dec } else { Lazy::Inc }, size, carry, None, Some(wide));
        self.put(uop.d, size, result);
        true
    }

    pub fn negate(&mut self, uop: &Uop, size: Size, live: bool) -> bool {
        if size == Size::Q {
            return false;
        }
        let a = self.get(uop.a, size);
        let result = self.b.ins().ineg(a);
        if live {
            let zero = self.b.ins().iconst(types::I32, 0);
            let wide = self.wide(a);
            self.remember(Lazy::Difference, size, Some(zero), Some(wide), None);
        }
        self.put(uop.d, size, result);
        true
    }

    pub fn invert(&mut self, uop: &Uop, size: Size) -> bool {
        if size == Size::Q {
            return false;
        }
        let a = self.get(uop.a, size);
        let result = self.b.ins().bnot(a);
        self.put(uop.d, size, result);
        true
    }

    /// Flags of a product: CF and OF say that its upper half says something.
    fn remember_product(&mut self, size: Size, low: Value, overflow: Value) {
        let overflow = self.wide(overflow);
        let others = self.b.ins().imul_imm_s(overflow, i64::from(CF | OF));
        let low = self.wide(low);
        self.remember(Lazy::Result, size, Some(others), None, Some(low));
    }

    pub fn product(&mut self, uop: &Uop, form: Form, size: Size) -> bool {
        let double = match size {
            Size::W => types::I32,
            Size::D => types::I64,
            Size::B | Size::Q => return false,
        };
        let (a, b) = (self.get(uop.a, size), self.right(uop, form, size));
        let (a, b) = (self.b.ins().sextend(double, a), self.b.ins().sextend(double, b));
        let wide = self.b.ins().imul(a, b);
        let low = self.b.ins().ireduce(type_of(size), wide);
        let again = self.b.ins().sextend(double, low);
        let overflow = self.b.ins().icmp(IntCC::NotEqual, again, wide);
        self.remember_product(size, low, overflow);
        self.put(uop.d, size, low);
        true
    }

    pub fn muldiv(&mut self, uop: &Uop, kind: MulDiv, size: Size) -> bool {
        match kind {
            MulDiv::Mul | MulDiv::Imul => self.multiply(uop, kind == MulDiv::Imul, size),
            MulDiv::Div | MulDiv::Idiv => self.divide(uop, kind == MulDiv::Idiv, size),
        }
    }

    fn multiply(&mut self, uop: &Uop, sign: bool, size: Size) -> bool {
        let double = match size {
            Size::B => types::I16,
            Size::W => types::I32,
            Size::D => types::I64,
            Size::Q => return false,
        };
        let half = type_of(size);
        let extend = if sign { Extend::Sign } else { Extend::Zero };
        let wider = |t: &mut Self, value: Value| match extend {
            Extend::Sign => t.b.ins().sextend(double, value),
            Extend::Zero => t.b.ins().uextend(double, value),
        };
        let (a, b) = (self.get(RAX, size), self.get(uop.a, size));
        let (a, b) = (wider(self, a), wider(self, b));
        let product = self.b.ins().imul(a, b);
        let low = self.b.ins().ireduce(half, product);
        let again = wider(self, low);
        let overflow = self.b.ins().icmp(IntCC::NotEqual, again, product);
        self.remember_product(size, low, overflow);
        if size == Size::B {
            self.put(RAX, Size::W, product);
            return true;
        }
        let high = self.b.ins().ushr_imm_s(product, i64::from(size.bits()));
        let high = self.b.ins().ireduce(half, high);
        self.put(RAX, size, low);
        self.put(RDX, size, high);
        true
    }

    /// Division where the dividend has no more than 32 bits and nothing can go wrong; the interpreter does the rest.
    fn divide(&mut self, uop: &Uop, sign: bool, size: Size) -> bool {
        if size != Size::D {
            return false;
        }
        let (low, high) = (self.get(RAX, size), self.get(RDX, size));
        let divisor = self.get(uop.a, size);
        let plain = if sign {
            let filled = self.b.ins().sshr_imm_s(low, 31);
            let narrow = self.b.ins().icmp(IntCC::Equal, filled, high);
            // Neither 0 nor -1.
            let next = self.b.ins().iadd_imm_s(divisor, 1);
            let fits = self.b.ins().icmp_imm_s(IntCC::UnsignedGreaterThan, next, 1);
            self.b.ins().band(narrow, fits)
        } else {
            let narrow = self.b.ins().icmp_imm_s(IntCC::Equal, high, 0);
            let fits = self.b.ins().icmp_imm_s(IntCC::NotEqual, divisor, 0);
            self.b.ins().band(narrow, fits)
        };
        let done = self.b.create_block();
        let results = [self.b.append_block_param(done, types::I32), self.b.append_block_param(done, types::I32)];
        let go = self.fork(plain, |t| {
            t.call_interpreter(t.index);
            let (quotient, remainder) = (t.get_from_state(RAX, size), t.get_from_state(RDX, size));
            t.b.ins().jump(done, &[quotient.into(), remainder.into()]);
        });
        self.b.switch_to_block(go);
        let (quotient, remainder) = if sign {
            (self.b.ins().sdiv(low, divisor), self.b.ins().srem(low, divisor))
        } else {
            (self.b.ins().udiv(low, divisor), self.b.ins().urem(low, divisor))
        };
        self.b.ins().jump(done, &[quotient.into(), remainder.into()]);
        self.b.seal_block(done);
        self.b.switch_to_block(done);
        self.put(RAX, size, results[0]);
        self.put(RDX, size, results[1]);
        true
    }

    pub fn bit(&mut self, uop: &Uop, bit: Bit, form: Form, size: Size, live: u32) -> bool {
        if matches!(size, Size::B | Size::Q) {
            return false;
        }
        let mask = i64::from(size.bits() - 1);
        let a = self.get(uop.a, size);
        let number = match form {
            Form::Imm => self.b.ins().iconst(type_of(size), i64::from(uop.imm) & mask),
            Form::Reg => {
                let number = self.get(uop.b, size);
                self.b.ins().band_imm_s(number, mask)
            }
        };
        if live & CF != 0 {
            let moved = self.b.ins().ushr(a, number);
            let low = self.b.ins().ireduce(types::I8, moved);
            let carry = self.b.ins().band_imm_s(low, 1);
            self.set_carry_overflow(carry, None, live);
        }
        if bit == Bit::Bt {
            return true;
        }
        let one = self.b.ins().iconst(type_of(size), 1);
        let this = self.b.ins().ishl(one, number);
        let result = match bit {
            Bit::Bts => self.b.ins().bor(a, this),
            Bit::Btr => self.b.ins().band_not(a, this),
            Bit::Btc | Bit::Bt => self.b.ins().bxor(a, this),
        };
        self.put(uop.d, size, result);
        true
    }

    /// The address of the word of a bit string.
    pub fn bit_offset(&mut self, uop: &Uop, size: Size) -> bool {
        if matches!(size, Size::B | Size::Q) {
            return false;
        }
        let base = self.get(uop.a, Size::D);
        let number = self.get(uop.b, size);
        let number = self.signed(number);
        let words = self.b.ins().sshr_imm_s(number, i64::from(size.bits().trailing_zeros()));
        let bytes = self.b.ins().imul_imm_s(words, i64::from(size.bytes()));
        let sum = self.b.ins().iadd(base, bytes);
        self.put(uop.d, Size::D, sum);
        true
    }

    pub fn scan(&mut self, uop: &Uop, scan: Scan, size: Size) -> bool {
        if matches!(size, Size::B | Size::Q) {
            return false;
        }
        let a = self.get(uop.a, size);
        let wide = self.wide(a);
        let old = self.get(uop.d, size);
        let number = match scan {
            Scan::Forward => self.b.ins().ctz(wide),
            Scan::Reverse => {
                let zeros = self.b.ins().clz(wide);
                self.b.ins().bxor_imm_s(zeros, 31)
            }
        };
        let number = self.narrow(number, size);
        let none = self.b.ins().icmp_imm_s(IntCC::Equal, wide, 0);
        let result = self.b.ins().select(none, old, number);
        self.remember(Lazy::Logic, size, None, None, Some(wide));
        self.put(uop.d, size, result);
        true
    }

    pub fn swap_bytes(&mut self, uop: &Uop, size: Size) -> bool {
        let value = match size {
            Size::D => {
                let a = self.get(uop.a, size);
                self.b.ins().bswap(a)
            }
            Size::W => self.constant(size, 0),
            Size::B | Size::Q => return false,
        };
        self.put(uop.d, size, value);
        true
    }

    /// An index of a string, up or down.
    pub fn advance(&mut self, uop: &Uop, size: Size) -> bool {
        if !matches!(size, Size::W | Size::D) {
            return false;
        }
        let down = self.direction();
        let back = self.b.ins().imul_imm_s(down, 2 * i64::from(uop.imm));
        let forth = self.b.ins().iconst(types::I32, i64::from(uop.imm));
        let step = self.b.ins().isub(forth, back);
        let step = self.narrow(step, size);
        let index = self.get(uop.d, size);
        let moved = self.b.ins().iadd(index, step);
        self.put(uop.d, size, moved);
        true
    }

    /// The selector in a segment register.
    pub fn selector(&mut self, uop: &Uop) -> bool {
        let segment = offset_of!(CpuState, seg) + (uop.imm & 7).min(5) as usize * size_of::<Segment>();
        let at = state(segment + offset_of!(Segment, selector));
        let value = self.b.ins().uload16(types::I32, self.kinds.state, self.cpu, at);
        self.put(uop.d, Size::D, value);
        true
    }

    pub fn set(&mut self, uop: &Uop, cond: Cond) -> bool {
        let holds = self.condition(cond);
        self.put(uop.d, Size::B, holds);
        true
    }

    pub fn conditional_move(&mut self, uop: &Uop, cond: Cond, size: Size) -> bool {
        if size == Size::Q {
            return false;
        }
        let holds = self.condition(cond);
        let (new, old) = (self.get(uop.a, size), self.get(uop.d, size));
        let value = self.b.ins().select(holds, new, old);
        self.put(uop.d, size, value);
        true
    }

    pub fn compare_exchange(&mut self, uop: &Uop, size: Size) -> bool {
        if size == Size::Q {
            return false;
        }
        let (accumulator, old, new) = (self.get(RAX, size), self.get(uop.a, size), self.get(uop.b, size));
        let (left, right) = (self.wide(accumulator), self.wide(old));
        self.remember(Lazy::Difference, size, Some(left), Some(right), None);
        let equal = self.b.ins().icmp(IntCC::Equal, accumulator, old);
        let value = self.b.ins().select(equal, new, old);
        // Where they are equal, this writes what is there.
        self.put(RAX, size, old);
        self.put(uop.d, size, value);
        true
    }

    pub fn flag(&mut self, what: FlagOp) -> bool {
        let live = self.live[self.index];
        match what {
            FlagOp::Cld => self.set_direction(false),
            FlagOp::Std => self.set_direction(true),
            FlagOp::Clc | FlagOp::Stc => {
                let carry = self.b.ins().iconst(types::I8, i64::from(what == FlagOp::Stc));
                self.set_carry_overflow(carry, None, live);
            }
            FlagOp::Cmc => {
                let carry = self.carry();
                let other = self.b.ins().bxor_imm_s(carry, 1);
                self.set_carry_overflow(other, None, live);
            }
            FlagOp::Lahf | FlagOp::Sahf | FlagOp::Salc => return false,
        }
        true
    }
}
