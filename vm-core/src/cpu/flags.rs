//! EFLAGS. Arithmetic flags are kept lazily; this is the only way to them.
//!
//! An instruction that sets the six arithmetic flags leaves its operands and its result here; a flag is computed when
//! somebody asks for it. Most are overwritten before that.

use serde::{Deserialize, Serialize};

/// Carry flag.
pub const CF: u32 = 1 << 0;
/// Reads as one.
pub const FIXED: u32 = 1 << 1;
/// Parity of the low byte.
pub const PF: u32 = 1 << 2;
/// Carry out of bit 3.
pub const AF: u32 = 1 << 4;
/// Zero.
pub const ZF: u32 = 1 << 6;
/// Sign.
pub const SF: u32 = 1 << 7;
/// Single step.
pub const TF: u32 = 1 << 8;
/// Interrupts enabled.
pub const IF: u32 = 1 << 9;
/// Strings go down.
pub const DF: u32 = 1 << 10;
/// Signed overflow.
pub const OF: u32 = 1 << 11;
/// I/O privilege level, two bits.
pub const IOPL: u32 = 3 << 12;
/// Nested task.
pub const NT: u32 = 1 << 14;
/// Resume: no instruction breakpoint on the next instruction.
pub const RF: u32 = 1 << 16;
/// Virtual-8086 mode.
pub const VM: u32 = 1 << 17;
/// Alignment check.
pub const AC: u32 = 1 << 18;
/// Virtual interrupt flag.
pub const VIF: u32 = 1 << 19;
/// Virtual interrupt pending.
pub const VIP: u32 = 1 << 20;
/// CPUID can be used.
pub const ID: u32 = 1 << 21;
/// The six arithmetic flags.
pub const ARITHMETIC: u32 = CF | PF | AF | ZF | SF | OF;

/// How the arithmetic flags follow from what is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Lazy {
    /// They stand in the register itself.
    Eager = 0,
    /// `result = a + b` (+ carry).
    Add = 1,
    /// `result = a - b` (- borrow).
    Sub = 2,

    // Left by native code alone, which writes less this way.
    /// `a + b`; no result is stored, and above the operands' sign bit may stand anything.
    Sum = 3,
    /// `a - b`, likewise.
    Difference = 4,
    /// SF, ZF and PF are those of `result`; CF, AF and OF are clear.
    Logic = 5,
    /// A shift to the left: `a` is what the last step but one left.
    Shl = 6,

    // From here on CF is bit 0 of `a`.
    /// SF, ZF and PF are those of `result`; CF, AF and OF stand in `a` at their places.
    Result = 7,
    /// `result` is one more than before; CF has stayed.
    Inc = 8,
    /// `result` is one less than before; CF has stayed.
    Dec = 9,
    /// A shift to the right: `a` is what the last step but one left.
    Shr = 10,
    /// An arithmetic shift to the right, likewise.
    Sar = 11,
}

/// The flags register.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(from = "u32", into = "u32")]
#[repr(C)]
pub struct Flags {
    pub(super) value: u32,
    pub(super) lazy: Lazy,
    /// Index of the operands' sign bit.
    top: u8,
    pub(super) a: u64,
    pub(super) b: u64,
    pub(super) result: u64,
}

impl std::fmt::Debug for Flags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Flags({:#x})", self.get())
    }
}

impl PartialEq for Flags {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for Flags {}

impl From<u32> for Flags {
    fn from(value: u32) -> Self {
        let mut flags = Self::RESET;
        flags.set(value);
        flags
    }
}

impl From<Flags> for u32 {
    fn from(flags: Flags) -> Self {
        flags.get()
    }
}

impl Flags {
    /// EFLAGS after reset.
    pub const RESET: Self = Self { value: FIXED, lazy: Lazy::Eager, top: 0, a: 0, b: 0, result: 0 };

    /// The whole register, as PUSHFD shows it (VM and RF included).
    #[inline]
    pub fn get(&self) -> u32 {
        if self.lazy == Lazy::Eager {
            return self.value;
        }
        self.value & !ARITHMETIC | self.arithmetic()
    }

    /// Replaces the whole register; bit 1 stays set, undefined bits clear.
    #[inline]
    pub fn set(&mut self, value: u32) {
        self.value = value & 0x003f_7fd5 | FIXED;
        self.lazy = Lazy::Eager;
    }

    /// Replaces the bits of `mask` by those of `value`.
    #[inline]
    pub fn update(&mut self, mask: u32, value: u32) {
        self.set(self.get() & !mask | value & mask);
    }

    /// Whether any bit of `mask` is set. For bits outside [`ARITHMETIC`] this costs one test.
    #[inline]
    pub fn has(&self, mask: u32) -> bool {
        if mask & ARITHMETIC == 0 {
            return self.value & mask != 0;
        }
        self.get() & mask != 0
    }

    /// Remembers an operation that sets all six arithmetic flags. The values are cut to `top + 1` bits.
    #[inline(always)]
    pub(super) fn remember(&mut self, lazy: Lazy, top: u32, a: u64, b: u64, result: u64) {
        self.lazy = lazy;
        self.top = top as u8;
        self.a = a;
        self.b = b;
        self.result = result;
    }

    /// Remembers a result, with the other flags (`others`: CF, AF and OF at their places) given.
    #[inline(always)]
    pub(super) fn remember_result(&mut self, top: u32, result: u64, others: u32) {
        self.lazy = Lazy::Result;
        self.top = top as u8;
        self.a = u64::from(others);
        self.result = result;
    }

    /// Changes CF and OF, and leaves the others.
    #[inline(always)]
    pub(super) fn set_carry_overflow(&mut self, carry: bool, overflow: bool) {
        let new = u32::from(carry) * CF | u32::from(overflow) * OF;
        if self.lazy == Lazy::Eager {
            self.value = self.value & !(CF | OF) | new;
        } else {
            let half = u32::from(self.af()) * AF;
            self.result = self.outcome();
            self.a = u64::from(half | new);
            self.lazy = Lazy::Result;
        }
    }

    /// Brings the arithmetic flags into the form [`Lazy::Result`]; false: SF, ZF and PF are not those of any result.
    pub(super) fn make_result(&mut self) -> bool {
        if self.lazy == Lazy::Eager {
            let (sf, zf, pf) = (self.sf(), self.zf(), self.pf());
            if zf && (sf || !pf) {
                return false;
            }
            // A result of 32 bits that has them: two low bits are of even parity, one is not.
            let low = match (zf, pf) {
                (true, _) => 0,
                (false, true) => 3,
                (false, false) => 1,
            };
            self.remember_result(31, u64::from(sf) << 31 | low, self.value & (CF | AF | OF));
        } else {
            self.set_carry_overflow(self.cf(), self.of());
        }
        true
    }

    /// Changes DF.
    #[inline(always)]
    pub(super) fn set_direction(&mut self, down: bool) {
        self.value = self.value & !DF | u32::from(down) * DF;
    }

    #[cold]
    fn arithmetic(&self) -> u32 {
        (u32::from(self.cf()) * CF)
            | (u32::from(self.pf()) * PF)
            | (u32::from(self.af()) * AF)
            | (u32::from(self.zf()) * ZF)
            | (u32::from(self.sf()) * SF)
            | (u32::from(self.of()) * OF)
    }

    /// The result that SF, ZF and PF follow from.
    #[inline(always)]
    fn outcome(&self) -> u64 {
        let wide = match self.lazy {
            Lazy::Sum => self.a.wrapping_add(self.b),
            Lazy::Difference => self.a.wrapping_sub(self.b),
            _ => return self.result,
        };
        wide & u64::MAX >> (63 - (self.top & 63))
    }

    /// CF.
    #[inline(always)]
    pub fn cf(&self) -> bool {
        let (a, b) = (self.a, self.b);
        let out = match self.lazy {
            Lazy::Eager => return self.value & CF != 0,
            Lazy::Sub | Lazy::Difference => !a & b | (!a | b) & self.outcome(),
            Lazy::Add | Lazy::Sum => a & b | (a | b) & !self.outcome(),
            Lazy::Logic => return false,
            Lazy::Shl => a,
            Lazy::Result | Lazy::Inc | Lazy::Dec | Lazy::Shr | Lazy::Sar => return a & 1 != 0,
        };
        out >> (self.top & 63) & 1 != 0
    }

    /// ZF.
    #[inline(always)]
    pub fn zf(&self) -> bool {
        if self.lazy == Lazy::Eager { self.value & ZF != 0 } else { self.outcome() == 0 }
    }

    /// SF.
    #[inline(always)]
    pub fn sf(&self) -> bool {
        if self.lazy == Lazy::Eager { self.value & SF != 0 } else { self.sign() }
    }

    /// The sign of [`Flags::outcome`].
    #[inline(always)]
    fn sign(&self) -> bool {
        self.outcome() >> (self.top & 63) & 1 != 0
    }

    /// OF.
    #[inline(always)]
    pub fn of(&self) -> bool {
        let (a, b) = (self.a, self.b);
        let top = self.top & 63;
        let out = match self.lazy {
            Lazy::Eager => return self.value & OF != 0,
            Lazy::Result => return a as u32 & OF != 0,
            Lazy::Sub | Lazy::Difference => (a ^ b) & (a ^ self.outcome()),
            Lazy::Add | Lazy::Sum => (a ^ self.outcome()) & (b ^ self.outcome()),
            Lazy::Logic | Lazy::Sar => return false,
            Lazy::Shl => a ^ self.result,
            Lazy::Shr => a,
            Lazy::Inc => return self.result == 1 << top,
            Lazy::Dec => return self.result == (1 << top) - 1,
        };
        out >> top & 1 != 0
    }

    /// PF.
    #[inline(always)]
    pub fn pf(&self) -> bool {
        if self.lazy == Lazy::Eager { self.value & PF != 0 } else { (self.outcome() as u8).count_ones() & 1 == 0 }
    }

    /// AF.
    #[inline(always)]
    pub fn af(&self) -> bool {
        match self.lazy {
            Lazy::Eager => self.value & AF != 0,
            Lazy::Result => self.a as u32 & AF != 0,
            Lazy::Add | Lazy::Sub | Lazy::Sum | Lazy::Difference => (self.a ^ self.b ^ self.outcome()) >> 4 & 1 != 0,
            Lazy::Logic | Lazy::Shl | Lazy::Shr | Lazy::Sar => false,
            Lazy::Inc => self.result.trailing_zeros() >= 4,
            Lazy::Dec => self.result & 15 == 15,
        }
    }

    /// Whether condition `number` (the low four bits of Jcc, SETcc and CMOVcc) holds.
    #[inline(always)]
    pub fn condition(&self, number: u8) -> bool {
        let holds = match number >> 1 & 7 {
            0 => self.of(),
            1 => self.cf(),
            2 => self.zf(),
            3 => self.cf() || self.zf(),
            4 => self.sf(),
            5 => self.pf(),
            6 => self.sf() != self.of(),
            _ => self.zf() || self.sf() != self.of(),
        };
        holds != (number & 1 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lazy(kind: Lazy, top: u32, a: u64, b: u64, result: u64) -> u32 {
        let mut flags = Flags::RESET;
        flags.remember(kind, top, a, b, result);
        flags.get() & ARITHMETIC
    }

    #[test]
    fn every_byte_addition_and_subtraction_with_carry() {
        for a in 0..=255u64 {
            for b in 0..=255u64 {
                for carry in 0..=1u64 {
                    let (sum, difference) = ((a + b + carry) & 0xff, a.wrapping_sub(b + carry) & 0xff);
                    let signed = |v: u64| i64::from(v as u8 as i8);
                    let expect = |result: u64, cf: bool, wide: i64, af: bool| {
                        (u32::from(cf) * CF)
                            | (u32::from((result as u8).count_ones().is_multiple_of(2)) * PF)
                            | (u32::from(af) * AF)
                            | (u32::from(result == 0) * ZF)
                            | (u32::from(result >= 0x80) * SF)
                            | (u32::from(!(-128..128).contains(&wide)) * OF)
                    };
                    let (low_a, low_b) = (a & 15, b & 15);
                    let add = expect(
                        sum,
                        a + b + carry > 255,
                        signed(a) + signed(b) + carry as i64,
                        low_a + low_b + carry > 15,
                    );
                    assert_eq!(lazy(Lazy::Add, 7, a, b, sum), add, "{a} + {b} + {carry}");
                    let sub =
                        expect(difference, a < b + carry, signed(a) - signed(b) - carry as i64, low_a < low_b + carry);
                    assert_eq!(lazy(Lazy::Sub, 7, a, b, difference), sub, "{a} - {b} - {carry}");
                    if carry == 0 {
                        let noise = 0xabcd_ef00;
                        assert_eq!(lazy(Lazy::Sum, 7, a | noise, b, 1), add, "{a} + {b} without its result");
                        assert_eq!(lazy(Lazy::Difference, 7, a, b | noise, 1), sub, "{a} - {b} without its result");
                    }
                }
            }
        }
    }

    #[test]
    fn steps_and_shifts_of_every_byte() {
        for a in 0..=255u64 {
            for carry in [0, CF] {
                let parts = |result: u64, others: u32| lazy(Lazy::Result, 7, u64::from(others), 0, result & 0xff);
                let (up, down) = (lazy(Lazy::Sum, 7, a, 1, 0), lazy(Lazy::Difference, 7, a, 1, 0));
                let kept = u64::from(carry) | 0xfe;
                assert_eq!(lazy(Lazy::Inc, 7, kept, 0, (a + 1) & 0xff), up & !CF | carry, "{a} + 1");
                assert_eq!(lazy(Lazy::Dec, 7, kept, 0, a.wrapping_sub(1) & 0xff), down & !CF | carry, "{a} - 1");
                assert_eq!(lazy(Lazy::Logic, 7, 0xfff, 0, a), parts(a, 0));
                let (high, low) = ((a >> 7 & 1) as u32, (a & 1) as u32);
                let next = (a >> 6 & 1) as u32;
                assert_eq!(lazy(Lazy::Shl, 7, a, 0, a << 1 & 0xff), parts(a << 1, high * CF | (high ^ next) * OF));
                assert_eq!(lazy(Lazy::Shr, 7, a, 0, a >> 1), parts(a >> 1, low * CF | high * OF));
                let signed = (a as i8 >> 1) as u8;
                assert_eq!(lazy(Lazy::Sar, 7, a, 0, u64::from(signed)), parts(u64::from(signed), low * CF));
            }
        }
        let mut flags = Flags::RESET;
        flags.remember(Lazy::Difference, 31, 5, 5, 77);
        flags.set_carry_overflow(true, false);
        assert_eq!(flags.get() & ARITHMETIC, CF | ZF | PF, "the result that was not stored");
    }

    #[test]
    fn flags_of_any_kind_become_those_of_a_result_where_there_is_one() {
        for bits in 0..64u32 {
            let all = [CF, PF, AF, ZF, SF, OF];
            let wanted = all.iter().enumerate().fold(0, |sum, (n, flag)| sum | (bits >> n & 1) * flag);
            let mut flags = Flags::RESET;
            flags.set(wanted | IF);
            let possible = wanted & ZF == 0 || wanted & (SF | PF) == PF;
            assert_eq!(flags.make_result(), possible, "{wanted:#x}");
            assert_eq!(flags.get(), wanted | IF | FIXED);
            assert_eq!(flags.lazy == Lazy::Result, possible);
        }
        let mut flags = Flags::RESET;
        flags.remember(Lazy::Sub, 15, 0, 1, 0xffff);
        let before = flags.get();
        assert!(flags.make_result() && flags.lazy == Lazy::Result);
        assert_eq!(flags.get(), before);
    }

    #[test]
    fn bits_outside_the_arithmetic_flags_stay() {
        let mut flags = Flags::RESET;
        flags.set(IF | DF | CF | 0x8000_8028);
        assert_eq!(flags.get(), IF | DF | CF | FIXED, "undefined bits do not stick");
        flags.remember_result(31, 0, OF);
        assert_eq!(flags.get(), IF | DF | OF | ZF | PF | FIXED);
        flags.update(CF | IF, CF);
        assert_eq!(flags.get(), DF | CF | OF | ZF | PF | FIXED);
        assert!(flags.condition(0) && !flags.condition(1) && flags.condition(2) && flags.condition(4));
    }
}
