//! Between registers and the formats in memory: single, double, integers and packed BCD.

use super::bits::{DE, IE, OE, PE, UE};
use super::float::{BIAS, Context, F80, INTEGER, Kind, QUIET, round_bits, shift_right_jam};

/// A binary interchange format.
#[derive(Clone, Copy)]
struct Format {
    /// Bits of the stored fraction.
    fraction: u32,
    /// Bits of the exponent.
    exponent: u32,
}

const SINGLE: Format = Format { fraction: 23, exponent: 8 };
const DOUBLE: Format = Format { fraction: 52, exponent: 11 };

impl Format {
    const fn bias(self) -> i32 {
        (1 << (self.exponent - 1)) - 1
    }

    const fn largest_exponent(self) -> u64 {
        (1 << self.exponent) - 1
    }

    fn load(self, context: &mut Context, bits: u64) -> F80 {
        let sign = bits >> (self.fraction + self.exponent) & 1 != 0;
        let biased = bits >> self.fraction & self.largest_exponent();
        let fraction = (bits & ((1 << self.fraction) - 1)) << (63 - self.fraction);
        if biased == self.largest_exponent() {
            let nan = F80 { significand: INTEGER | fraction, ..F80::infinity(sign) };
            if nan.kind() == Kind::Signaling {
                context.raised |= IE;
                return F80 { significand: nan.significand | QUIET, ..nan };
            }
            return nan;
        }
        if biased != 0 {
            return F80::pack(sign, biased as i32 - self.bias(), INTEGER | fraction);
        }
        if fraction == 0 {
            return F80::zero(sign);
        }
        context.raised |= DE;
        let shift = fraction.leading_zeros();
        F80::pack(sign, 1 - self.bias() - shift as i32, fraction << shift)
    }

    /// `None`: an unmasked overflow or underflow, and nothing is stored.
    fn store(self, context: &mut Context, value: F80) -> Option<u64> {
        let sign = u64::from(value.sign()) << (self.fraction + self.exponent);
        let infinity = sign | self.largest_exponent() << self.fraction;
        match value.kind() {
            Kind::Zero => return Some(sign),
            Kind::Infinity => return Some(infinity),
            Kind::Unsupported => {
                context.raised |= IE;
                return Some(self.indefinite());
            }
            Kind::Quiet | Kind::Signaling => {
                if value.kind() == Kind::Signaling {
                    context.raised |= IE;
                }
                let payload = (value.significand | QUIET) & !INTEGER;
                return Some(infinity | payload >> (63 - self.fraction));
            }
            Kind::Number => {}
        }
        let x = value.unpack();
        let significand = u128::from(x.significand) << 64;
        let precision = self.fraction + 1;
        let unbounded = round_bits(context.rounding, x.sign, significand, precision);
        let exponent = x.exponent + i32::from(unbounded.carry);
        if exponent > self.bias() {
            context.raised |= OE;
            if context.unmasked(OE) {
                return None;
            }
            context.raised |= PE;
            context.rounded_up = context.rounding.overflows_to_infinity(x.sign);
            return Some(if context.rounded_up { infinity } else { infinity - 1 });
        }
        let (rounded, biased) = if exponent < 1 - self.bias() {
            if context.unmasked(UE) {
                context.raised |= UE;
                return None;
            }
            let denormal = shift_right_jam(significand, (1 - self.bias() - x.exponent) as u32);
            let rounded = round_bits(context.rounding, x.sign, denormal, precision);
            if rounded.inexact {
                context.raised |= UE;
            }
            // The integer bit adds itself to the exponent field below.
            (rounded, 0)
        } else {
            (unbounded, (exponent + self.bias() - 1) as u64)
        };
        if rounded.inexact {
            context.raised |= PE;
        }
        context.rounded_up = rounded.up;
        let whole =
            if rounded.carry { 1 << self.fraction } else { (rounded.significand >> (127 - self.fraction)) as u64 };
        Some(sign | ((biased << self.fraction) + whole))
    }

    const fn indefinite(self) -> u64 {
        u64::MAX << (self.fraction - 1) & (u64::MAX >> (63 - self.fraction - self.exponent))
    }
}

/// FLD m32.
pub fn from_f32(context: &mut Context, bits: u32) -> F80 {
    SINGLE.load(context, u64::from(bits))
}

/// FLD m64.
pub fn from_f64(context: &mut Context, bits: u64) -> F80 {
    DOUBLE.load(context, bits)
}

/// FST m32. `None`: nothing is stored (unmasked overflow or underflow).
pub fn to_f32(context: &mut Context, value: F80) -> Option<u32> {
    SINGLE.store(context, value).map(|bits| bits as u32)
}

/// FST m64. `None`: nothing is stored (unmasked overflow or underflow).
pub fn to_f64(context: &mut Context, value: F80) -> Option<u64> {
    DOUBLE.store(context, value)
}

/// FILD.
pub fn from_i64(value: i64) -> F80 {
    if value == 0 {
        return F80::ZERO;
    }
    let magnitude = value.unsigned_abs();
    let shift = magnitude.leading_zeros();
    F80::pack(value < 0, 63 - shift as i32, magnitude << shift)
}

/// The magnitude as an integer up to 2^64 - 1, rounded; `None` where it is larger or not a number.
fn magnitude(context: &mut Context, value: F80) -> Option<u64> {
    match value.kind() {
        Kind::Zero => return Some(0),
        Kind::Number => {}
        _ => return None,
    }
    let x = value.unpack();
    if x.exponent > 63 {
        return None;
    }
    let significand = u128::from(x.significand) << 64;
    let (bits, significand) = if x.exponent < 0 {
        (0, shift_right_jam(significand, (-1 - x.exponent) as u32))
    } else {
        (x.exponent as u32 + 1, significand)
    };
    let rounded = round_bits(context.rounding, x.sign, significand, bits);
    if rounded.inexact {
        context.raised |= PE;
    }
    context.rounded_up = rounded.up;
    if rounded.carry {
        return if bits == 64 { None } else { Some(1 << bits) };
    }
    Some(if bits == 0 { 0 } else { (rounded.significand >> (128 - bits)) as u64 })
}

/// FIST of `bits` (16, 32 or 64) bits. What does not fit is invalid and gives the most negative integer.
pub fn to_integer(context: &mut Context, value: F80, bits: u32) -> i64 {
    let smallest = i64::MIN >> (64 - bits);
    let saved = *context;
    let fits = magnitude(context, value).and_then(|magnitude| {
        let signed = if value.sign() { 0_i128 - i128::from(magnitude) } else { i128::from(magnitude) };
        i64::try_from(signed).ok().filter(|signed| (smallest..=!smallest).contains(signed))
    });
    fits.unwrap_or_else(|| {
        *context = saved;
        context.raised |= IE;
        smallest
    })
}

/// FBLD: eighteen digits and a sign in ten bytes. Invalid digits count as their value.
pub fn from_bcd(low: u64, high: u16) -> F80 {
    let digit = |n: u32| {
        let nibble = if n < 16 { low >> (4 * n) } else { u64::from(high) >> (4 * (n - 16)) };
        nibble & 15
    };
    let value = (0..18).rev().fold(0_u64, |value, n| value * 10 + digit(n));
    from_i64(value as i64).with_sign(high >> 15 != 0)
}

/// FBSTP. What does not fit is invalid and gives the packed indefinite.
pub fn to_bcd(context: &mut Context, value: F80) -> (u64, u16) {
    let saved = *context;
    let Some(mut rest) = magnitude(context, value).filter(|magnitude| *magnitude < 10_u64.pow(18)) else {
        *context = saved;
        context.raised |= IE;
        return (0xc000_0000_0000_0000, 0xffff);
    };
    let mut packed = 0_u128;
    for n in 0..18 {
        packed |= u128::from(rest % 10) << (4 * n);
        rest /= 10;
    }
    (packed as u64, (packed >> 64) as u16 | u16::from(value.sign()) << 15)
}

/// The number nearest to a double, for constants in tests and tables.
pub fn exact_f64(value: f64) -> F80 {
    let mut context = Context::from_control(0x37f);
    from_f64(&mut context, value.to_bits())
}

const _: () = assert!(DOUBLE.indefinite() == 0xfff8_0000_0000_0000 && SINGLE.indefinite() == 0xffc0_0000);
const _: () = assert!(DOUBLE.bias() == 1023 && SINGLE.bias() == 127 && BIAS == 16383);
