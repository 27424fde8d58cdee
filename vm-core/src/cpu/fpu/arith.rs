//! Exactly rounded operations: add, subtract, multiply, divide, square root, remainder, scale, compare.

use super::bits::{C0, C1, C2, C3, DE, IE, ZE};
use super::float::{BIAS, Context, F80, INTEGER, Kind, Rounding, round_bits, shift_right_jam};

/// `a + b`, or `a - b`.
pub fn add(context: &mut Context, a: F80, b: F80, subtract: bool) -> F80 {
    if let Some(nan) = F80::propagate(context, a, b) {
        return nan;
    }
    let b = if subtract { b.with_sign(!b.sign()) } else { b };
    match (a.kind(), b.kind()) {
        (Kind::Infinity, Kind::Infinity) if a.sign() != b.sign() => return context.invalid(),
        (Kind::Infinity, _) => {
            F80::note_denormal(context, &[b]);
            return a;
        }
        (_, Kind::Infinity) => {
            F80::note_denormal(context, &[a]);
            return b;
        }
        (Kind::Zero, Kind::Zero) => {
            return F80::zero(if a.sign() == b.sign() { a.sign() } else { context.rounding == Rounding::Down });
        }
        _ => F80::note_denormal(context, &[a, b]),
    }
    if a.kind() == Kind::Zero || b.kind() == Kind::Zero {
        let number = if a.kind() == Kind::Zero { b } else { a }.unpack();
        return F80::round(context, number.sign, number.exponent, u128::from(number.significand) << 64);
    }
    let (mut big, mut small) = (a.unpack(), b.unpack());
    if (small.exponent, small.significand) > (big.exponent, big.significand) {
        std::mem::swap(&mut big, &mut small);
    }
    // One bit of room above for the carry.
    let distance = (big.exponent - small.exponent) as u32;
    let left = u128::from(big.significand) << 63;
    let right = shift_right_jam(u128::from(small.significand) << 63, distance);
    let significand = if big.sign == small.sign { left + right } else { left - right };
    if significand == 0 {
        return F80::zero(context.rounding == Rounding::Down);
    }
    F80::round(context, big.sign, big.exponent + 1, significand)
}

/// `a × b`.
pub fn multiply(context: &mut Context, a: F80, b: F80) -> F80 {
    if let Some(nan) = F80::propagate(context, a, b) {
        return nan;
    }
    let sign = a.sign() != b.sign();
    match (a.kind(), b.kind()) {
        (Kind::Infinity, Kind::Zero) | (Kind::Zero, Kind::Infinity) => return context.invalid(),
        _ => F80::note_denormal(context, &[a, b]),
    }
    match (a.kind(), b.kind()) {
        (Kind::Infinity, _) | (_, Kind::Infinity) => F80::infinity(sign),
        (Kind::Zero, _) | (_, Kind::Zero) => F80::zero(sign),
        _ => {
            let (x, y) = (a.unpack(), b.unpack());
            let product = u128::from(x.significand) * u128::from(y.significand);
            F80::round(context, sign, x.exponent + y.exponent + 1, product)
        }
    }
}

/// `a ÷ b`.
pub fn divide(context: &mut Context, a: F80, b: F80) -> F80 {
    if let Some(nan) = F80::propagate(context, a, b) {
        return nan;
    }
    let sign = a.sign() != b.sign();
    match (a.kind(), b.kind()) {
        (Kind::Infinity, Kind::Infinity) | (Kind::Zero, Kind::Zero) => return context.invalid(),
        (Kind::Infinity, Kind::Zero) => return F80::infinity(sign),
        (Kind::Number, Kind::Zero) => {
            context.raised |= ZE;
            return F80::infinity(sign);
        }
        _ => F80::note_denormal(context, &[a, b]),
    }
    match (a.kind(), b.kind()) {
        (Kind::Infinity, _) => F80::infinity(sign),
        (Kind::Zero, _) | (_, Kind::Infinity) => F80::zero(sign),
        _ => {
            let (x, y) = (a.unpack(), b.unpack());
            let divisor = u128::from(y.significand);
            let dividend = u128::from(x.significand) << 63;
            let high = dividend / divisor;
            let rest = (dividend % divisor) << 64;
            let low = (rest / divisor) | u128::from(!rest.is_multiple_of(divisor));
            // high is a quotient of 63 or 64 bits.
            F80::round(context, sign, x.exponent - y.exponent, high << 64 | low)
        }
    }
}

/// The square root.
pub fn square_root(context: &mut Context, a: F80) -> F80 {
    if let Some(nan) = F80::propagate(context, a, a) {
        return nan;
    }
    match a.kind() {
        Kind::Zero => return a,
        _ if a.sign() => return context.invalid(),
        Kind::Infinity => return a,
        _ => F80::note_denormal(context, &[a]),
    }
    let x = a.unpack();
    // value = radicand / 2^126 × 2^even
    let even = x.exponent & !1;
    let radicand = u128::from(x.significand) << (63 + (x.exponent - even));
    let root = radicand.isqrt();
    let rest = radicand - root * root;
    // The next bit of the root is set when the rest exceeds the root; it is never exactly a half.
    let tail = if rest > root { 1 << 63 | 1 } else { u128::from(rest != 0) };
    F80::round(context, false, even / 2, root << 64 | tail)
}

/// FRNDINT.
pub fn round_to_integer(context: &mut Context, a: F80) -> F80 {
    if let Some(nan) = F80::propagate(context, a, a) {
        return nan;
    }
    if a.kind() != Kind::Number {
        return a;
    }
    F80::note_denormal(context, &[a]);
    let x = a.unpack();
    if x.exponent >= 63 {
        return a;
    }
    let (bits, significand) = if x.exponent < 0 {
        (0, shift_right_jam(u128::from(x.significand) << 64, (-1 - x.exponent) as u32))
    } else {
        (x.exponent as u32 + 1, u128::from(x.significand) << 64)
    };
    let rounded = round_bits(context.rounding, x.sign, significand, bits);
    if rounded.inexact {
        context.raised |= super::bits::PE;
    }
    context.rounded_up = rounded.up;
    if rounded.carry {
        return F80::pack(x.sign, (x.exponent + 1).max(0), INTEGER);
    }
    if rounded.significand == 0 {
        return F80::zero(x.sign);
    }
    F80::pack(x.sign, x.exponent, (rounded.significand >> 64) as u64)
}

/// FSCALE: `a × 2^trunc(b)`.
pub fn scale(context: &mut Context, a: F80, b: F80) -> F80 {
    if let Some(nan) = F80::propagate(context, a, b) {
        return nan;
    }
    match (a.kind(), b.kind()) {
        (Kind::Infinity, Kind::Infinity) if b.sign() => return context.invalid(),
        (Kind::Zero, Kind::Infinity) if !b.sign() => return context.invalid(),
        _ => F80::note_denormal(context, &[a, b]),
    }
    match (a.kind(), b.kind()) {
        (Kind::Infinity | Kind::Zero, _) => a,
        (_, Kind::Infinity) if b.sign() => F80::zero(a.sign()),
        (_, Kind::Infinity) => F80::infinity(a.sign()),
        _ => {
            let x = a.unpack();
            let by = if b.kind() == Kind::Zero { 0 } else { truncated_power(b) };
            F80::round(context, x.sign, x.exponent + by, u128::from(x.significand) << 64)
        }
    }
}

/// `trunc(b)`, held within ±65536, which is beyond every exponent.
fn truncated_power(b: F80) -> i32 {
    let y = b.unpack();
    let magnitude = match y.exponent {
        ..0 => 0,
        0..=15 => (y.significand >> (63 - y.exponent)) as i32,
        _ => 65536,
    };
    if y.sign { -magnitude } else { magnitude }
}

/// FXTRACT: (exponent, significand).
pub fn extract(context: &mut Context, a: F80) -> (F80, F80) {
    if let Some(nan) = F80::propagate(context, a, a) {
        return (nan, nan);
    }
    match a.kind() {
        Kind::Zero => {
            context.raised |= ZE;
            (F80::infinity(true), a)
        }
        Kind::Infinity => (F80::infinity(false), a),
        _ => {
            F80::note_denormal(context, &[a]);
            let x = a.unpack();
            (super::convert::from_i64(i64::from(x.exponent)), F80::pack(x.sign, 0, x.significand))
        }
    }
}

/// FPREM (`nearest` false) and FPREM1. Returns the remainder and C3, C2, C1, C0; without codes where it is a NaN.
pub fn remainder(context: &mut Context, a: F80, b: F80, nearest: bool) -> (F80, Option<u16>) {
    if let Some(nan) = F80::propagate(context, a, b) {
        return (nan, None);
    }
    match (a.kind(), b.kind()) {
        (Kind::Infinity, _) | (_, Kind::Zero) => return (context.invalid(), None),
        (Kind::Zero, _) => {
            F80::note_denormal(context, &[b]);
            return (a, Some(0));
        }
        _ => F80::note_denormal(context, &[a, b]),
    }
    let x = a.unpack();
    // The result keeps all 64 bits, whatever precision control says.
    let mut full = context.full();
    let mut deliver = |sign, exponent, significand| {
        let value = F80::round(&mut full, sign, exponent, significand);
        context.raised |= full.raised;
        context.rounded_up = false;
        value
    };
    if b.kind() == Kind::Infinity {
        return (deliver(x.sign, x.exponent, u128::from(x.significand) << 64), Some(0));
    }
    let y = b.unpack();
    let distance = x.exponent - y.exponent;
    if distance >= 64 {
        // Not done yet: take 32 to 63 bits off.
        let step = (distance & 31) | 32;
        let (_, rest) = long_divide(x.significand, y.significand, step as u32);
        let value = deliver(x.sign, y.exponent + distance - step, u128::from(rest) << 64);
        return (value, Some(C2));
    }
    let (mut quotient, mut rest, exponent) = if distance < 0 {
        (0, x.significand, x.exponent)
    } else {
        let (quotient, rest) = long_divide(x.significand, y.significand, distance as u32);
        (quotient, rest, y.exponent)
    };
    let mut sign = x.sign;
    let mut significand = u128::from(rest) << 64;
    if nearest && distance >= -1 {
        // Compare twice the rest with the divisor, both in units of the divisor's last place, halved where distance is -1.
        let double = u128::from(rest) << u32::from(distance != -1);
        let divisor = u128::from(y.significand);
        if double > divisor || double == divisor && quotient & 1 != 0 {
            quotient += 1;
            sign = !sign;
            let units = if distance == -1 { 2 * divisor - u128::from(rest) } else { divisor - u128::from(rest) };
            // `exponent` is that of the unit; 2 × divisor can take 65 bits.
            significand = units << 63;
            rest = u64::from(units != 0);
            let codes = codes_of(quotient);
            if rest == 0 {
                return (F80::zero(x.sign), Some(codes));
            }
            return (deliver(sign, exponent + 1, significand), Some(codes));
        }
    }
    let codes = codes_of(quotient);
    if rest == 0 {
        return (F80::zero(x.sign), Some(codes));
    }
    (deliver(sign, exponent, significand), Some(codes))
}

/// The low three bits of the quotient as C0 (bit 2), C3 (bit 1) and C1 (bit 0).
fn codes_of(quotient: u64) -> u16 {
    let bit = |n: u32, code: u16| if quotient >> n & 1 != 0 { code } else { 0 };
    bit(2, C0) | bit(1, C3) | bit(0, C1)
}

/// `a × 2^shift ÷ b` in whole numbers: the low 64 bits of the quotient and the rest.
fn long_divide(a: u64, b: u64, shift: u32) -> (u64, u64) {
    let mut quotient = u64::from(a >= b);
    let mut rest = u128::from(if a >= b { a - b } else { a });
    for _ in 0..shift {
        rest <<= 1;
        quotient <<= 1;
        if rest >= u128::from(b) {
            rest -= u128::from(b);
            quotient |= 1;
        }
    }
    (quotient, rest as u64)
}

/// FCOM and its family: C3, C2 and C0. With `quiet` (FUCOM) only signaling NaNs are invalid.
pub fn compare(context: &mut Context, a: F80, b: F80, quiet: bool) -> u16 {
    const UNORDERED: u16 = C3 | C2 | C0;
    let bad = |x: F80| x.kind() == Kind::Unsupported || x.kind() == Kind::Signaling || x.is_nan() && !quiet;
    if bad(a) || bad(b) {
        context.raised |= IE;
        return UNORDERED;
    }
    if a.is_nan() || b.is_nan() {
        return UNORDERED;
    }
    if a.is_denormal() || b.is_denormal() {
        context.raised |= DE;
    }
    match order(a, b) {
        std::cmp::Ordering::Less => C0,
        std::cmp::Ordering::Equal => C3,
        std::cmp::Ordering::Greater => 0,
    }
}

fn order(a: F80, b: F80) -> std::cmp::Ordering {
    let key = |x: F80| match x.kind() {
        Kind::Zero => (i32::MIN, 0),
        Kind::Infinity => (BIAS + 1, 0),
        _ => {
            let number = x.unpack();
            (number.exponent, number.significand)
        }
    };
    let (zero_a, zero_b) = (a.kind() == Kind::Zero, b.kind() == Kind::Zero);
    match (a.sign() && !zero_a, b.sign() && !zero_b) {
        (false, false) => key(a).cmp(&key(b)),
        (true, true) => key(b).cmp(&key(a)),
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
    }
}

/// FXAM: C3, C2 and C0 of what is there; C1 is the sign.
pub fn examine(a: F80, empty: bool) -> u16 {
    let class = if empty {
        C3 | C0
    } else {
        match a.kind() {
            Kind::Unsupported => 0,
            Kind::Quiet | Kind::Signaling => C0,
            Kind::Infinity => C2 | C0,
            Kind::Zero => C3,
            Kind::Number if a.biased() == 0 => C3 | C2,
            Kind::Number => C2,
        }
    };
    class | if a.sign() { C1 } else { 0 }
}
