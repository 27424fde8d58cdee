//! Handlers of arithmetic, moves and single flags.

use super::{Next, fault, next};
use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::cpu::access::Unsigned;
use crate::cpu::fault::{Fault, Vector};
use crate::cpu::flags::{self, Lazy};
use crate::cpu::state::CpuState;
use crate::cpu::uop::{Alu, Bit, FlagOp, MulDiv, RAX, RCX, RDX, Uop};

/// Address of the state byte at `offset`.
#[inline(always)]
pub(super) fn at(state: *mut CpuState, offset: u8) -> *mut u8 {
    state.cast::<u8>().wrapping_add(usize::from(offset))
}

/// The bits that a `T` has.
#[inline(always)]
pub(super) const fn mask<T: Unsigned>() -> u64 {
    u64::MAX >> (64 - 8 * T::SIZE)
}

/// Index of a `T`'s sign bit.
#[inline(always)]
pub(super) const fn top<T: Unsigned>() -> u32 {
    8 * T::SIZE - 1
}

/// Reads a slot.
#[inline(always)]
pub(super) fn get<T: Unsigned>(cpu: &mut Cpu, offset: u8) -> u64 {
    // SAFETY: the state is larger than any byte offset and a `T` (asserted beside `Uop`), and any bytes are a `T`.
    unsafe { at(&raw mut cpu.state, offset).cast::<T>().read_unaligned() }.wide()
}

/// Writes a slot. 8 and 16 bits rewrite the whole slot, so that a wider read right after does not stall.
#[inline(always)]
#[allow(clippy::cast_ptr_alignment, reason = "it is written as unaligned; slots are aligned anyway")]
pub(super) fn put<T: Unsigned>(cpu: &mut Cpu, offset: u8, value: u64) {
    let value = value & mask::<T>();
    let start = if T::SIZE == 1 { offset & !7 } else { offset };
    let slot = at(&raw mut cpu.state, start).cast::<u64>();
    // SAFETY: as in `get`; offsets that ops carry lie in the registers and temporaries, which are plain numbers.
    unsafe {
        if T::SIZE >= 4 {
            slot.write_unaligned(value);
        } else {
            let shift = if T::SIZE == 1 { u32::from(offset & 1) * 8 } else { 0 };
            slot.write_unaligned(slot.read_unaligned() & !(mask::<T>() << shift) | value << shift);
        }
    }
}

/// An immediate as an operand.
#[inline(always)]
pub(super) fn immediate<T: Unsigned>(imm: u32) -> u64 {
    imm as i32 as u64 & mask::<T>()
}

/// A value as a signed number.
#[inline(always)]
pub(super) fn signed<T: Unsigned>(value: u64) -> i64 {
    let unused = 64 - 8 * T::SIZE;
    (value << unused) as i64 >> unused
}

/// The right operand of an op.
#[inline(always)]
unsafe fn right<T: Unsigned, const IMM: bool>(cpu: &mut Cpu, op: *const Uop) -> u64 {
    // SAFETY: the handler's promise.
    unsafe { if IMM { immediate::<T>((*op).imm) } else { get::<T>(cpu, (*op).b) } }
}

/// Computes, and remembers the flags where they live.
#[inline(always)]
pub(super) fn compute<const ALU: u8, T: Unsigned, const LIVE: bool>(cpu: &mut Cpu, a: u64, b: u64) -> u64 {
    let (lazy, result) = if ALU == Alu::Add as u8 {
        (Lazy::Add, a.wrapping_add(b))
    } else if ALU == Alu::Adc as u8 {
        (Lazy::Add, a.wrapping_add(b).wrapping_add(u64::from(cpu.state.flags.cf())))
    } else if ALU == Alu::Sub as u8 {
        (Lazy::Sub, a.wrapping_sub(b))
    } else if ALU == Alu::Sbb as u8 {
        (Lazy::Sub, a.wrapping_sub(b).wrapping_sub(u64::from(cpu.state.flags.cf())))
    } else if ALU == Alu::And as u8 {
        (Lazy::Result, a & b)
    } else if ALU == Alu::Or as u8 {
        (Lazy::Result, a | b)
    } else {
        (Lazy::Result, a ^ b)
    };
    let result = result & mask::<T>();
    if LIVE {
        if lazy == Lazy::Result {
            cpu.state.flags.remember_result(top::<T>(), result, 0);
        } else {
            cpu.state.flags.remember(lazy, top::<T>(), a, b, result);
        }
    }
    result
}

/// Remembers the flags of a comparison.
#[inline(always)]
pub(super) fn compare_values<T: Unsigned, const TEST: bool>(cpu: &mut Cpu, a: u64, b: u64) {
    if TEST {
        cpu.state.flags.remember_result(top::<T>(), a & b, 0);
    } else {
        cpu.state.flags.remember(Lazy::Sub, top::<T>(), a, b, a.wrapping_sub(b) & mask::<T>());
    }
}

/// `a + 1` or `a - 1` with flags.
#[inline(always)]
pub(super) fn step<T: Unsigned, const DOWN: bool>(cpu: &mut Cpu, a: u64) -> u64 {
    let result = if DOWN { a.wrapping_sub(1) } else { a.wrapping_add(1) } & mask::<T>();
    let carry = u32::from(cpu.state.flags.cf()) * flags::CF;
    let half = ((a ^ result) as u32 >> 4 & 1) * flags::AF;
    let edge = if DOWN { 1 << top::<T>() } else { (1 << top::<T>()) - 1 };
    let overflow = u32::from(a == edge) * flags::OF;
    cpu.state.flags.remember_result(top::<T>(), result, carry | half | overflow);
    result
}

/// Every handler's promise: `op` leads to an op of the block that runs.
macro_rules! handlers {
    ($($(#[$doc:meta])* fn $name:ident $([$($generic:tt)*])? ($cpu:ident, $op:ident) $body:block)*) => {$(
        $(#[$doc])*
        pub(super) unsafe fn $name $(<$($generic)*>)? ($cpu: &mut Cpu, bus: &mut dyn Bus, op: *const Uop) -> Next {
            // SAFETY: the dispatcher and `next` pass ops of the block that runs.
            unsafe {
                let $op = &*op;
                $body
                next($cpu, bus, op)
            }
        }
    )*};
}

handlers! {
    fn mov[T: Unsigned](cpu, op) {
        let value = get::<T>(cpu, op.a);
        put::<T>(cpu, op.d, value);
    }

    fn mov_imm[T: Unsigned](cpu, op) {
        put::<T>(cpu, op.d, immediate::<T>(op.imm));
    }

    fn xchg[T: Unsigned](cpu, op) {
        let (one, other) = (get::<T>(cpu, op.d), get::<T>(cpu, op.a));
        put::<T>(cpu, op.d, other);
        put::<T>(cpu, op.a, one);
    }

    fn widen[const SIGN: bool, F: Unsigned, T: Unsigned](cpu, op) {
        let value = get::<F>(cpu, op.a);
        put::<T>(cpu, op.d, if SIGN { signed::<F>(value) as u64 } else { value });
    }

    fn lea[const A16: bool, const INDEX: bool, T: Unsigned](cpu, op) {
        let offset = super::memory::ea::<INDEX>(cpu, op);
        put::<T>(cpu, op.d, u64::from(if A16 { offset & 0xffff } else { offset }));
    }

    fn alu[const ALU: u8, T: Unsigned, const IMM: bool, const LIVE: bool](cpu, op) {
        let a = get::<T>(cpu, op.a);
        let b = right::<T, IMM>(cpu, op);
        let result = compute::<ALU, T, LIVE>(cpu, a, b);
        put::<T>(cpu, op.d, result);
    }

    fn compare[T: Unsigned, const TEST: bool, const IMM: bool](cpu, op) {
        let a = get::<T>(cpu, op.a);
        let b = right::<T, IMM>(cpu, op);
        compare_values::<T, TEST>(cpu, a, b);
    }

    fn inc[T: Unsigned, const DOWN: bool](cpu, op) {
        let a = get::<T>(cpu, op.a);
        let result = step::<T, DOWN>(cpu, a);
        put::<T>(cpu, op.d, result);
    }

    fn neg[T: Unsigned, const LIVE: bool](cpu, op) {
        let a = get::<T>(cpu, op.a);
        let result = a.wrapping_neg() & mask::<T>();
        if LIVE {
            cpu.state.flags.remember(Lazy::Sub, top::<T>(), 0, a, result);
        }
        put::<T>(cpu, op.d, result);
    }

    fn not[T: Unsigned](cpu, op) {
        let a = get::<T>(cpu, op.a);
        put::<T>(cpu, op.d, !a);
    }

    fn imul[T: Unsigned, const IMM: bool](cpu, op) {
        let a = signed::<T>(get::<T>(cpu, op.a));
        let b = signed::<T>(right::<T, IMM>(cpu, op));
        let wide = i128::from(a) * i128::from(b);
        let low = wide as u64 & mask::<T>();
        multiplied::<T>(cpu, low, wide != i128::from(signed::<T>(low)));
        put::<T>(cpu, op.d, low);
    }

    fn bit[const BIT: u8, T: Unsigned, const IMM: bool](cpu, op) {
        let a = get::<T>(cpu, op.a);
        let number = right::<T, IMM>(cpu, op) as u32 & top::<T>();
        let this = 1u64 << number;
        let overflow = cpu.state.flags.of();
        cpu.state.flags.set_carry_overflow(a & this != 0, overflow);
        if BIT == Bit::Bts as u8 {
            put::<T>(cpu, op.d, a | this);
        } else if BIT == Bit::Btr as u8 {
            put::<T>(cpu, op.d, a & !this);
        } else if BIT == Bit::Btc as u8 {
            put::<T>(cpu, op.d, a ^ this);
        }
    }

    fn bit_offset[T: Unsigned](cpu, op) {
        let base = get::<u32>(cpu, op.a);
        let number = signed::<T>(get::<T>(cpu, op.b));
        let words = number >> (8 * T::SIZE).trailing_zeros();
        put::<u32>(cpu, op.d, base.wrapping_add((words * i64::from(T::SIZE)) as u64));
    }

    fn scan[T: Unsigned, const REVERSE: bool](cpu, op) {
        let a = get::<T>(cpu, op.a);
        if a != 0 {
            let number = if REVERSE { a.ilog2() } else { a.trailing_zeros() };
            put::<T>(cpu, op.d, u64::from(number));
        }
        cpu.state.flags.remember_result(top::<T>(), a, 0);
    }

    fn bswap[T: Unsigned](cpu, op) {
        let a = get::<T>(cpu, op.a);
        // With 16 bits the register's upper half would be swapped in: processors give zero.
        put::<T>(cpu, op.d, if T::SIZE == 2 { 0 } else { a.swap_bytes() >> (64 - 8 * T::SIZE) });
    }

    fn advance[T: Unsigned](cpu, op) {
        let index = get::<T>(cpu, op.d);
        let by = u64::from(op.imm);
        let moved = if cpu.state.flags.has(flags::DF) { index.wrapping_sub(by) } else { index.wrapping_add(by) };
        put::<T>(cpu, op.d, moved);
    }

    fn setcc[const COND: u8](cpu, op) {
        let holds = cpu.state.flags.condition(COND);
        put::<u8>(cpu, op.d, u64::from(holds));
    }

    fn cmov[T: Unsigned, const COND: u8](cpu, op) {
        let from = if cpu.state.flags.condition(COND) { op.a } else { op.d };
        let value = get::<T>(cpu, from);
        put::<T>(cpu, op.d, value);
    }

    fn cmpxchg[T: Unsigned](cpu, op) {
        let accumulator = get::<T>(cpu, RAX);
        let (old, new) = (get::<T>(cpu, op.a), get::<T>(cpu, op.b));
        compare_values::<T, false>(cpu, accumulator, old);
        if accumulator == old {
            put::<T>(cpu, op.d, new);
        } else {
            put::<T>(cpu, op.d, old);
            put::<T>(cpu, RAX, old);
        }
    }

    fn flag[const WHAT: u8](cpu, op) {
        let _ = op;
        let flags = &mut cpu.state.flags;
        if WHAT == FlagOp::Clc as u8 {
            let overflow = flags.of();
            flags.set_carry_overflow(false, overflow);
        } else if WHAT == FlagOp::Stc as u8 {
            let overflow = flags.of();
            flags.set_carry_overflow(true, overflow);
        } else if WHAT == FlagOp::Cmc as u8 {
            let (carry, overflow) = (flags.cf(), flags.of());
            flags.set_carry_overflow(!carry, overflow);
        } else if WHAT == FlagOp::Cld as u8 {
            flags.set_direction(false);
        } else if WHAT == FlagOp::Std as u8 {
            flags.set_direction(true);
        } else if WHAT == FlagOp::Lahf as u8 {
            let value = flags.get() & 0xff;
            put::<u8>(cpu, RAX + 1, u64::from(value));
        } else if WHAT == FlagOp::Sahf as u8 {
            let value = get::<u8>(cpu, RAX + 1) as u32;
            cpu.state.flags.update(flags::ARITHMETIC & !flags::OF, value);
        } else {
            let carry = flags.cf();
            put::<u8>(cpu, RAX, if carry { 0xff } else { 0 });
        }
    }

    fn multiply[T: Unsigned, const SIGN: bool](cpu, op) {
        let (a, b) = (get::<T>(cpu, RAX), get::<T>(cpu, op.a));
        let wide = if SIGN {
            (i128::from(signed::<T>(a)) * i128::from(signed::<T>(b))) as u128
        } else {
            u128::from(a) * u128::from(b)
        };
        let (low, high) = (wide as u64 & mask::<T>(), (wide >> (8 * T::SIZE)) as u64 & mask::<T>());
        let fits = if SIGN { high == (signed::<T>(low) >> 63) as u64 & mask::<T>() } else { high == 0 };
        multiplied::<T>(cpu, low, !fits);
        if T::SIZE == 1 {
            put::<u16>(cpu, RAX, high << 8 | low);
        } else {
            put::<T>(cpu, RAX, low);
            put::<T>(cpu, RDX, high);
        }
    }
}

/// Flags of a multiplication; those that the manual leaves undefined are as a Pentium Pro has them: SF, ZF and PF of the low half.
#[inline(always)]
fn multiplied<T: Unsigned>(cpu: &mut Cpu, low: u64, overflow: bool) {
    let others = if overflow { flags::CF | flags::OF } else { 0 };
    cpu.state.flags.remember_result(top::<T>(), low, others);
}

/// DIV and IDIV.
pub(super) unsafe fn divide<T: Unsigned, const KIND: u8>(cpu: &mut Cpu, bus: &mut dyn Bus, op: *const Uop) -> Next {
    // SAFETY: the dispatcher and `next` pass ops of the block that runs.
    let divisor = get::<T>(cpu, unsafe { (*op).a });
    let dividend = if T::SIZE == 1 {
        u128::from(get::<u16>(cpu, RAX))
    } else {
        u128::from(get::<T>(cpu, RDX)) << (8 * T::SIZE) | u128::from(get::<T>(cpu, RAX))
    };
    let result = if T::SIZE < 8 {
        divide_narrow::<T, KIND>(dividend as u64, divisor)
    } else if KIND == MulDiv::Div as u8 {
        let wide = u128::from(divisor);
        dividend.checked_div(wide).filter(|&q| q <= u128::from(u64::MAX)).map(|q| (q as u64, (dividend % wide) as u64))
    } else {
        let (dividend, wide) = (dividend as i128, i128::from(divisor as i64));
        let quotient = dividend.checked_div(wide).and_then(|quotient| i64::try_from(quotient).ok());
        quotient.map(|quotient| (quotient as u64, dividend.wrapping_rem(wide) as u64))
    };
    // SAFETY: as above.
    unsafe {
        let Some((quotient, remainder)) = result else {
            return fault(cpu, bus, op, Fault::new(Vector::DivideError));
        };
        if T::SIZE == 1 {
            put::<u16>(cpu, RAX, (remainder & 0xff) << 8 | quotient & 0xff);
        } else {
            put::<T>(cpu, RAX, quotient);
            put::<T>(cpu, RDX, remainder);
        }
        next(cpu, bus, op)
    }
}

/// Quotient and remainder of a dividend of twice `T`'s size, at most 64 bits.
#[inline(always)]
fn divide_narrow<T: Unsigned, const KIND: u8>(dividend: u64, divisor: u64) -> Option<(u64, u64)> {
    if KIND == MulDiv::Div as u8 {
        let quotient = dividend.checked_div(divisor)?;
        return (quotient <= mask::<T>()).then_some((quotient, dividend % divisor));
    }
    let unused = 64 - 16 * T::SIZE;
    let (dividend, divisor) = ((dividend << unused) as i64 >> unused, signed::<T>(divisor));
    let quotient = dividend.checked_div(divisor)?;
    (signed::<T>(quotient as u64) == quotient).then_some((quotient as u64, (dividend % divisor) as u64))
}

/// CL, for shifts.
#[inline(always)]
pub(super) fn cl(cpu: &mut Cpu) -> u32 {
    get::<u8>(cpu, RCX) as u32
}
