//! Flags: where they are at each place of a region, and what a condition makes of them.
//!
//! An op leaves its operands and its result, as values, in the kinds of [`Lazy`]. They are written to the state only where somebody
//! may look there: where the region is left, where the interpreter executes an op, and on edges to blocks that read them.

use std::mem::offset_of;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::translator::{Translator, state};
use crate::cpu::flags::{AF, ARITHMETIC, CF, Flags, Lazy, OF, PF, SF, ZF};
use crate::cpu::state::CpuState;
use crate::cpu::uop::{Cond, Size};

/// Flags as operands and result; values are 32 bits wide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remembered {
    pub lazy: Lazy,
    pub size: Size,
    /// `None`, for INC and DEC: CF is that of the state.
    pub a: Option<Value>,
    pub b: Option<Value>,
    pub result: Option<Value>,
}

/// Where the arithmetic flags are.
#[derive(Clone, Copy, Debug)]
pub(super) enum FlagState {
    /// In the state; perhaps as a number, too, that was asked for.
    Memory(Option<Value>),
    /// All in a number of 32 bits.
    Bits(Value),
    /// They follow from an operation.
    Lazy(Remembered),
    /// They follow from one of two: the state's fields as values of 32, 64, 64 and 64 bits.
    Either { kind: Value, a: Value, b: Value, result: Value },
}

/// Offset from the processor of a field of the flags.
const fn at(field: usize) -> i32 {
    state(offset_of!(CpuState, flags) + field)
}

const VALUE: i32 = at(offset_of!(Flags, value));
const KIND: i32 = at(offset_of!(Flags, lazy));
const A: i32 = at(offset_of!(Flags, a));
const B: i32 = at(offset_of!(Flags, b));
const RESULT: i32 = at(offset_of!(Flags, result));

const _: () = assert!(offset_of!(Flags, lazy) % 4 == 0, "kind and sign bit are written as one");

/// What [`KIND`] holds for a kind and a size.
fn kind_of(lazy: Lazy, size: Size) -> i64 {
    i64::from(lazy as u32 | (size.bits() - 1) << 8)
}

impl Translator<'_, '_> {
    /// From here on the flags are those of an operation.
    pub fn remember(&mut self, lazy: Lazy, size: Size, a: Option<Value>, b: Option<Value>, result: Option<Value>) {
        self.flags = FlagState::Lazy(Remembered { lazy, size, a, b, result });
    }

    fn store_word(&mut self, value: Value, to: i32) {
        let wide = self.b.ins().uextend(types::I64, value);
        self.b.ins().store(self.kinds.state, wide, self.cpu, to);
    }

    /// Writes the flags to the state, for this way only.
    pub fn materialize(&mut self) {
        match self.flags {
            FlagState::Memory(_) => {}
            FlagState::Bits(bits) => {
                let old = self.b.ins().load(types::I32, self.kinds.state, self.cpu, VALUE);
                let rest = self.b.ins().band_imm_s(old, i64::from(!ARITHMETIC as i32));
                let all = self.b.ins().bor(rest, bits);
                self.b.ins().store(self.kinds.state, all, self.cpu, VALUE);
                let kind = self.b.ins().iconst(types::I32, Lazy::Eager as i64);
                self.b.ins().store(self.kinds.state, kind, self.cpu, KIND);
            }
            FlagState::Lazy(Remembered { lazy, size, a, b, result }) => {
                let a = match a {
                    None if matches!(lazy, Lazy::Inc | Lazy::Dec) => {
                        let bits = self.ask_for_flags();
                        Some(self.b.ins().band_imm_s(bits, i64::from(CF)))
                    }
                    a => a,
                };
                for (value, to) in [(a, A), (b, B), (result, RESULT)] {
                    if let Some(value) = value {
                        self.store_word(value, to);
                    }
                }
                let kind = self.b.ins().iconst(types::I32, kind_of(lazy, size));
                self.b.ins().store(self.kinds.state, kind, self.cpu, KIND);
            }
            FlagState::Either { kind, a, b, result } => {
                self.b.ins().store(self.kinds.state, kind, self.cpu, KIND);
                for (value, to) in [(a, A), (b, B), (result, RESULT)] {
                    self.b.ins().store(self.kinds.state, value, self.cpu, to);
                }
            }
        }
    }

    /// The state's flags as a number.
    fn ask_for_flags(&mut self) -> Value {
        self.call(self.calls.flags, self.stubs.flags, &[self.cpu]);
        self.result(types::I32)
    }

    /// The flags as a number, where they do not follow from one operation.
    fn bits(&mut self) -> Option<Value> {
        match self.flags {
            FlagState::Memory(Some(bits)) | FlagState::Bits(bits) => Some(bits),
            FlagState::Memory(None) => {
                let bits = self.ask_for_flags();
                self.flags = FlagState::Memory(Some(bits));
                Some(bits)
            }
            FlagState::Either { .. } => {
                self.materialize();
                let bits = self.ask_for_flags();
                self.flags = FlagState::Memory(Some(bits));
                Some(bits)
            }
            FlagState::Lazy(_) => None,
        }
    }

    /// Whether any bit of a mask is set.
    fn any(&mut self, value: Value, mask: u32) -> Value {
        let bits = self.b.ins().band_imm_s(value, i64::from(mask));
        self.b.ins().icmp_imm_s(IntCC::NotEqual, bits, 0)
    }

    /// Whether the sign bit of a 32-bit value's low part is set.
    fn sign(&mut self, value: Value, size: Size) -> Value {
        let low = self.narrow(value, size);
        self.b.ins().icmp_imm_s(IntCC::SignedLessThan, low, 0)
    }

    fn never(&mut self) -> Value {
        self.b.ins().iconst(types::I8, 0)
    }

    fn not(&mut self, truth: Value) -> Value {
        self.b.ins().bxor_imm_s(truth, 1)
    }

    /// A part of what is remembered; what no kind leaves out is never asked for.
    fn part(&mut self, part: Option<Value>) -> Value {
        part.unwrap_or_else(|| self.b.ins().iconst(types::I32, 0))
    }

    /// The result that SF, ZF and PF follow from, 32 bits wide with perhaps anything above the operand's size.
    fn outcome(&mut self, r: Remembered) -> Value {
        match r.lazy {
            Lazy::Sum | Lazy::Difference => {
                let (a, b) = (self.part(r.a), self.part(r.b));
                if r.lazy == Lazy::Sum { self.b.ins().iadd(a, b) } else { self.b.ins().isub(a, b) }
            }
            _ => self.part(r.result),
        }
    }

    /// CF.
    pub fn carry(&mut self) -> Value {
        if let Some(bits) = self.bits() {
            return self.any(bits, CF);
        }
        let FlagState::Lazy(r) = self.flags else { return self.never() };
        match r.lazy {
            Lazy::Sum => {
                let (a, outcome) = (self.part(r.a), self.outcome(r));
                let (a, outcome) = (self.narrow(a, r.size), self.narrow(outcome, r.size));
                self.b.ins().icmp(IntCC::UnsignedLessThan, outcome, a)
            }
            Lazy::Difference => {
                let (a, b) = (self.part(r.a), self.part(r.b));
                let (a, b) = (self.narrow(a, r.size), self.narrow(b, r.size));
                self.b.ins().icmp(IntCC::UnsignedLessThan, a, b)
            }
            Lazy::Add | Lazy::Sub => {
                let (a, b, result) = (self.part(r.a), self.part(r.b), self.part(r.result));
                let (a, result) =
                    if r.lazy == Lazy::Add { (a, self.b.ins().bnot(result)) } else { (self.b.ins().bnot(a), result) };
                let both = self.b.ins().band(a, b);
                let one = self.b.ins().bor(a, b);
                let carried = self.b.ins().band(one, result);
                let out = self.b.ins().bor(both, carried);
                self.sign(out, r.size)
            }
            Lazy::Shl => {
                let a = self.part(r.a);
                self.sign(a, r.size)
            }
            Lazy::Inc | Lazy::Dec if r.a.is_none() => {
                let bits = self.ask_for_flags();
                self.any(bits, CF)
            }
            Lazy::Result | Lazy::Inc | Lazy::Dec | Lazy::Shr | Lazy::Sar => {
                let a = self.part(r.a);
                self.any(a, 1)
            }
            Lazy::Logic | Lazy::Eager => self.never(),
        }
    }

    fn zero(&mut self) -> Value {
        if let Some(bits) = self.bits() {
            return self.any(bits, ZF);
        }
        let FlagState::Lazy(r) = self.flags else { return self.never() };
        if r.lazy == Lazy::Difference {
            let (a, b) = (self.part(r.a), self.part(r.b));
            let (a, b) = (self.narrow(a, r.size), self.narrow(b, r.size));
            return self.b.ins().icmp(IntCC::Equal, a, b);
        }
        let outcome = self.outcome(r);
        let outcome = self.narrow(outcome, r.size);
        self.b.ins().icmp_imm_s(IntCC::Equal, outcome, 0)
    }

    fn negative(&mut self) -> Value {
        if let Some(bits) = self.bits() {
            return self.any(bits, SF);
        }
        let FlagState::Lazy(r) = self.flags else { return self.never() };
        let outcome = self.outcome(r);
        self.sign(outcome, r.size)
    }

    fn parity(&mut self) -> Value {
        if let Some(bits) = self.bits() {
            return self.any(bits, PF);
        }
        let FlagState::Lazy(r) = self.flags else { return self.never() };
        let outcome = self.outcome(r);
        let low = self.b.ins().ireduce(types::I8, outcome);
        let ones = self.b.ins().popcnt(low);
        let odd = self.b.ins().band_imm_s(ones, 1);
        self.b.ins().icmp_imm_s(IntCC::Equal, odd, 0)
    }

    /// OF.
    pub fn overflow(&mut self) -> Value {
        if let Some(bits) = self.bits() {
            return self.any(bits, OF);
        }
        let FlagState::Lazy(r) = self.flags else { return self.never() };
        match r.lazy {
            Lazy::Sum | Lazy::Add | Lazy::Difference | Lazy::Sub => {
                let (a, b, outcome) = (self.part(r.a), self.part(r.b), self.outcome(r));
                let from_a = self.b.ins().bxor(a, outcome);
                let other = match r.lazy {
                    Lazy::Sum | Lazy::Add => self.b.ins().bxor(b, outcome),
                    _ => self.b.ins().bxor(a, b),
                };
                let out = self.b.ins().band(from_a, other);
                self.sign(out, r.size)
            }
            Lazy::Result => {
                let a = self.part(r.a);
                self.any(a, OF)
            }
            Lazy::Shl => {
                let (a, result) = (self.part(r.a), self.part(r.result));
                let differ = self.b.ins().bxor(a, result);
                self.sign(differ, r.size)
            }
            Lazy::Shr => {
                let a = self.part(r.a);
                self.sign(a, r.size)
            }
            Lazy::Inc | Lazy::Dec => {
                let result = self.part(r.result);
                let result = self.narrow(result, r.size);
                let top = 1_u32 << (r.size.bits() - 1);
                let edge = self.constant(r.size, if r.lazy == Lazy::Inc { top } else { top - 1 });
                self.b.ins().icmp(IntCC::Equal, result, edge)
            }
            Lazy::Logic | Lazy::Sar | Lazy::Eager => self.never(),
        }
    }

    fn half_carry(&mut self) -> Value {
        if let Some(bits) = self.bits() {
            return self.any(bits, AF);
        }
        let FlagState::Lazy(r) = self.flags else { return self.never() };
        match r.lazy {
            Lazy::Sum | Lazy::Add | Lazy::Difference | Lazy::Sub => {
                let (a, b, outcome) = (self.part(r.a), self.part(r.b), self.outcome(r));
                let without = self.b.ins().bxor(a, b);
                let carries = self.b.ins().bxor(without, outcome);
                self.any(carries, 1 << 4)
            }
            Lazy::Result => {
                let a = self.part(r.a);
                self.any(a, AF)
            }
            Lazy::Inc | Lazy::Dec => {
                let result = self.part(r.result);
                let low = self.b.ins().band_imm_s(result, 15);
                self.b.ins().icmp_imm_s(IntCC::Equal, low, if r.lazy == Lazy::Inc { 0 } else { 15 })
            }
            Lazy::Logic | Lazy::Shl | Lazy::Shr | Lazy::Sar | Lazy::Eager => self.never(),
        }
    }

    /// Whether a condition holds: 0 or 1 in a byte.
    pub fn condition(&mut self, cond: Cond) -> Value {
        if let FlagState::Lazy(r) = self.flags
            && let Some(code) = comparison(r.lazy, cond)
        {
            let left = if r.lazy == Lazy::Difference { self.part(r.a) } else { self.part(r.result) };
            let left = self.narrow(left, r.size);
            if r.lazy == Lazy::Logic {
                return self.b.ins().icmp_imm_s(code, left, 0);
            }
            let right = self.part(r.b);
            let right = self.narrow(right, r.size);
            return self.b.ins().icmp(code, left, right);
        }
        let holds = match cond {
            Cond::O | Cond::No => self.overflow(),
            Cond::B | Cond::Ae => self.carry(),
            Cond::E | Cond::Ne => self.zero(),
            Cond::Be | Cond::A => {
                let (carry, zero) = (self.carry(), self.zero());
                self.b.ins().bor(carry, zero)
            }
            Cond::S | Cond::Ns => self.negative(),
            Cond::P | Cond::Np => self.parity(),
            Cond::L | Cond::Ge | Cond::Le | Cond::G => {
                let (negative, overflow) = (self.negative(), self.overflow());
                let less = self.b.ins().bxor(negative, overflow);
                if matches!(cond, Cond::L | Cond::Ge) {
                    less
                } else {
                    let zero = self.zero();
                    self.b.ins().bor(less, zero)
                }
            }
        };
        if cond as u8 & 1 == 0 { holds } else { self.not(holds) }
    }

    /// CF and perhaps OF change (bytes, 0 or 1), the others stay. `live` says who is looked at after.
    pub fn set_carry_overflow(&mut self, carry: Value, overflow: Option<Value>, live: u32) {
        let changed = if overflow.is_some() { CF | OF } else { CF };
        let carry = self.wide(carry);
        let overflow = overflow.map(|overflow| {
            let wide = self.wide(overflow);
            self.b.ins().imul_imm_s(wide, i64::from(OF))
        });
        if live & ARITHMETIC & !changed == 0 {
            // Nobody looks at the others.
            let others = overflow.map_or(carry, |overflow| self.b.ins().bor(carry, overflow));
            let one = self.b.ins().iconst(types::I32, 1);
            self.remember(Lazy::Result, Size::D, Some(others), None, Some(one));
            return;
        }
        let FlagState::Lazy(r) = self.flags else {
            let Some(bits) = self.bits() else { return };
            let rest = self.b.ins().band_imm_s(bits, i64::from(!changed as i32));
            let with = self.b.ins().bor(rest, carry);
            let all = overflow.map_or(with, |overflow| self.b.ins().bor(with, overflow));
            self.flags = FlagState::Bits(all);
            return;
        };
        let half = self.half_carry();
        let half = self.wide(half);
        let half = self.b.ins().ishl_imm_s(half, i64::from(AF.trailing_zeros()));
        let overflow = overflow.unwrap_or_else(|| {
            let old = self.overflow();
            let wide = self.wide(old);
            self.b.ins().imul_imm_s(wide, i64::from(OF))
        });
        let result = self.outcome(r);
        let cut = self.narrow(result, r.size);
        let result = self.wide(cut);
        let others = self.b.ins().bor(half, carry);
        let others = self.b.ins().bor(others, overflow);
        self.remember(Lazy::Result, r.size, Some(others), None, Some(result));
    }

    /// The state's four fields as values, whatever holds the flags now.
    pub fn fields(&mut self) -> (Value, Value, Value, Value) {
        if let FlagState::Either { kind, a, b, result } = self.flags {
            return (kind, a, b, result);
        }
        if let FlagState::Lazy(r) = self.flags
            && !(matches!(r.lazy, Lazy::Inc | Lazy::Dec) && r.a.is_none())
        {
            let kind = self.b.ins().iconst(types::I32, kind_of(r.lazy, r.size));
            let [a, b, result] = [r.a, r.b, r.result].map(|part| {
                let part = self.part(part);
                self.b.ins().uextend(types::I64, part)
            });
            return (kind, a, b, result);
        }
        self.materialize();
        self.flags = FlagState::Memory(None);
        let kind = self.b.ins().load(types::I32, self.kinds.state, self.cpu, KIND);
        let [a, b, result] = [A, B, RESULT].map(|at| self.b.ins().load(types::I64, self.kinds.state, self.cpu, at));
        (kind, a, b, result)
    }

    /// The flags are those of an operation where `new` holds, else as they were.
    pub fn remember_where(&mut self, new: Value, r: Remembered) {
        let old = self.fields();
        self.flags = FlagState::Lazy(r);
        let now = self.fields();
        let kind = self.b.ins().select(new, now.0, old.0);
        let a = self.b.ins().select(new, now.1, old.1);
        let b = self.b.ins().select(new, now.2, old.2);
        let result = self.b.ins().select(new, now.3, old.3);
        self.flags = FlagState::Either { kind, a, b, result };
    }

    /// What INC and DEC keep of the flags: CF, where it is at hand.
    pub fn kept_carry(&mut self) -> Option<Value> {
        match self.flags {
            FlagState::Memory(None) => return None,
            FlagState::Lazy(r) if matches!(r.lazy, Lazy::Inc | Lazy::Dec) => return r.a,
            FlagState::Memory(Some(_)) | FlagState::Bits(_) | FlagState::Lazy(_) => {}
            FlagState::Either { .. } => {
                self.materialize();
                self.flags = FlagState::Memory(None);
                return None;
            }
        }
        let carry = self.carry();
        Some(self.wide(carry))
    }

    /// DF: 0 or 1, 32 bits.
    pub fn direction(&mut self) -> Value {
        let value = self.b.ins().load(types::I32, self.kinds.state, self.cpu, VALUE);
        let df = crate::cpu::flags::DF;
        let bit = self.b.ins().band_imm_s(value, i64::from(df));
        self.b.ins().ushr_imm_s(bit, i64::from(df.trailing_zeros()))
    }

    /// Changes DF.
    pub fn set_direction(&mut self, down: bool) {
        let value = self.b.ins().load(types::I32, self.kinds.state, self.cpu, VALUE);
        let df = crate::cpu::flags::DF;
        let value = if down {
            self.b.ins().bor_imm_s(value, i64::from(df))
        } else {
            self.b.ins().band_imm_s(value, i64::from(!df as i32))
        };
        self.b.ins().store(self.kinds.state, value, self.cpu, VALUE);
    }
}

/// The comparison that decides a condition after a subtraction (of its operands) or a logical operation (of the result with 0).
fn comparison(lazy: Lazy, cond: Cond) -> Option<IntCC> {
    let difference = lazy == Lazy::Difference;
    if !difference && lazy != Lazy::Logic {
        return None;
    }
    Some(match cond {
        Cond::E => IntCC::Equal,
        Cond::Ne => IntCC::NotEqual,
        Cond::L => IntCC::SignedLessThan,
        Cond::Ge => IntCC::SignedGreaterThanOrEqual,
        Cond::Le => IntCC::SignedLessThanOrEqual,
        Cond::G => IntCC::SignedGreaterThan,
        Cond::B if difference => IntCC::UnsignedLessThan,
        Cond::Ae if difference => IntCC::UnsignedGreaterThanOrEqual,
        Cond::Be if difference => IntCC::UnsignedLessThanOrEqual,
        Cond::A if difference => IntCC::UnsignedGreaterThan,
        Cond::S if !difference => IntCC::SignedLessThan,
        Cond::Ns if !difference => IntCC::SignedGreaterThanOrEqual,
        _ => return None,
    })
}
