//! Handlers of shifts and rotates.
//!
//! OF is defined for a count of one only; for others it is what the last of that many single steps leaves, as on
//! Intel's processors.

use super::alu::{cl, get, mask, put, signed, top};
use super::{Next, next};
use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::cpu::access::Unsigned;
use crate::cpu::flags::{CF, OF};
use crate::cpu::uop::{Shift, Uop};

#[inline(always)]
const fn bits<T: Unsigned>() -> u32 {
    8 * T::SIZE
}

/// Remembers result, CF and OF of a shift.
#[inline(always)]
fn remember<T: Unsigned>(cpu: &mut Cpu, result: u64, carry: bool, overflow: bool) {
    cpu.state.flags.remember_result(top::<T>(), result, u32::from(carry) * CF | u32::from(overflow) * OF);
}

#[inline(always)]
fn sign<T: Unsigned>(value: u64) -> bool {
    value >> top::<T>() & 1 != 0
}

/// A shift or rotate of `a` by `count`, which is masked and not zero.
#[inline(always)]
fn shifted<const SHIFT: u8, T: Unsigned, const LIVE: bool>(cpu: &mut Cpu, a: u64, count: u32) -> u64 {
    if SHIFT == Shift::Shl as u8 {
        let wide = u128::from(a) << count;
        let result = wide as u64 & mask::<T>();
        if LIVE {
            let carry = wide >> bits::<T>() & 1 != 0;
            remember::<T>(cpu, result, carry, carry != sign::<T>(result));
        }
        return result;
    }
    if SHIFT == Shift::Shr as u8 {
        let last = a >> (count - 1);
        let result = last >> 1;
        if LIVE {
            remember::<T>(cpu, result, last & 1 != 0, sign::<T>(last));
        }
        return result;
    }
    if SHIFT == Shift::Sar as u8 {
        let last = signed::<T>(a) >> (count - 1);
        let result = (last >> 1) as u64 & mask::<T>();
        if LIVE {
            remember::<T>(cpu, result, last & 1 != 0, false);
        }
        return result;
    }
    let (result, carry) = if SHIFT == Shift::Rol as u8 || SHIFT == Shift::Ror as u8 {
        let count = count % bits::<T>();
        let left = if SHIFT == Shift::Rol as u8 { count } else { (bits::<T>() - count) % bits::<T>() };
        let wide = u128::from(a) << left;
        let result = (wide as u64 | (wide >> bits::<T>()) as u64) & mask::<T>();
        (result, if SHIFT == Shift::Rol as u8 { result & 1 != 0 } else { sign::<T>(result) })
    } else {
        // Rotates through the carry: one bit more.
        let ring = bits::<T>() + 1;
        let count = count % ring;
        let left = if SHIFT == Shift::Rcl as u8 { count } else { (ring - count) % ring };
        let with = u128::from(cpu.state.flags.cf()) << bits::<T>() | u128::from(a);
        let turned = with << left | with >> (ring - left);
        let result = turned as u64 & mask::<T>();
        (result, turned >> bits::<T>() & 1 != 0)
    };
    if LIVE {
        let overflow = if SHIFT == Shift::Rol as u8 || SHIFT == Shift::Rcl as u8 {
            sign::<T>(result) != carry
        } else {
            sign::<T>(result) != sign::<T>(result << 1)
        };
        cpu.state.flags.set_carry_overflow(carry, overflow);
    }
    result
}

/// Shifts and rotates.
pub(super) unsafe fn shift<const SHIFT: u8, T: Unsigned, const IMM: bool, const LIVE: bool>(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    op: *const Uop,
) -> Next {
    // SAFETY: the dispatcher and `next` pass ops of the block that runs.
    unsafe {
        let a = get::<T>(cpu, (*op).a);
        let count = if IMM { (*op).imm } else { cl(cpu) } & if T::SIZE == 8 { 63 } else { 31 };
        if count != 0 {
            let result = shifted::<SHIFT, T, LIVE>(cpu, a, count);
            put::<T>(cpu, (*op).d, result);
        }
        next(cpu, bus, op)
    }
}

/// SHLD and SHRD. With 16 bits and a count above 16 the processor goes round with the destination's own bits.
pub(super) unsafe fn double_shift<T: Unsigned, const LEFT: bool, const IMM: bool>(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    op: *const Uop,
) -> Next {
    // SAFETY: the dispatcher and `next` pass ops of the block that runs.
    unsafe {
        let (target, source) = (get::<T>(cpu, (*op).d), get::<T>(cpu, (*op).a));
        let count = if IMM { (*op).imm } else { cl(cpu) } & if T::SIZE == 8 { 63 } else { 31 };
        if count != 0 {
            let n = bits::<T>();
            // Three words in a row; the window that slides over them starts on the destination.
            let at = |words: [u64; 3]| {
                u128::from(words[0]) << (2 * n % 128) | u128::from(words[1]) << n | u128::from(words[2])
            };
            let (last, result) = if n == 64 {
                if LEFT {
                    let wide = u128::from(target) << 64 | u128::from(source);
                    (wide << (count - 1) >> 64, wide << count >> 64)
                } else {
                    let wide = u128::from(source) << 64 | u128::from(target);
                    (wide >> (count - 1), wide >> count)
                }
            } else if LEFT {
                let wide = at([target, source, target]);
                (wide << (count - 1) >> (2 * n), wide << count >> (2 * n))
            } else {
                let wide = at([target, source, target]);
                (wide >> (count - 1), wide >> count)
            };
            let (last, result) = (last as u64 & mask::<T>(), result as u64 & mask::<T>());
            let carry = if LEFT { sign::<T>(last) } else { last & 1 != 0 };
            remember::<T>(cpu, result, carry, sign::<T>(last) != sign::<T>(result));
            put::<T>(cpu, (*op).d, result);
        }
        next(cpu, bus, op)
    }
}
