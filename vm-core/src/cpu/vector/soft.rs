//! Single and double precision arithmetic as SSE has it, computed with whole numbers (Intel SDM vol. 1, 4.8, 11.5 and
//! appendix E): the same on every host. The x87's rounding serves here, too.

use std::cmp::Ordering;

use super::mxcsr;
use crate::cpu::fpu::bits;
use crate::cpu::fpu::float::{Kind, Rounding, round_bits, shift_right_jam};

/// Invalid operation; the order of the flags is the x87's.
pub const IE: u32 = bits::IE as u32;
/// Denormal operand.
pub const DE: u32 = bits::DE as u32;
/// Division by zero.
pub const ZE: u32 = bits::ZE as u32;
/// Overflow.
pub const OE: u32 = bits::OE as u32;
/// Underflow.
pub const UE: u32 = bits::UE as u32;
/// Inexact.
pub const PE: u32 = bits::PE as u32;

/// What MXCSR says of one operation, and what the operation has raised so far.
#[derive(Clone, Copy, Debug)]
pub struct Env {
    rounding: Rounding,
    /// Denormal operands count as zeros.
    daz: bool,
    /// Tiny results become zeros; only where underflow is masked.
    ftz: bool,
    masks: u32,
    /// Exceptions of earlier steps, where an instruction has several.
    done: u32,
    /// Exceptions found by looking at the operands: invalid, denormal, division by zero.
    before: u32,
    /// Exceptions of results.
    after: u32,
}

impl Env {
    /// As MXCSR says.
    pub const fn new(control: u32) -> Self {
        let rounding = match control >> mxcsr::RC_SHIFT & 3 {
            0 => Rounding::Nearest,
            1 => Rounding::Down,
            2 => Rounding::Up,
            _ => Rounding::Zero,
        };
        let masks = (control & mxcsr::MASKS) >> mxcsr::MASK_SHIFT;
        let ftz = control & mxcsr::FTZ != 0 && masks & UE != 0;
        Self { rounding, daz: control & mxcsr::DAZ != 0, ftz, masks, done: 0, before: 0, after: 0 }
    }

    /// Which flags are to be set, and whether one of them is not masked: then the result is void.
    ///
    /// An unmasked exception of any lane's operands keeps all lanes from being computed (11.5.4).
    pub const fn outcome(self) -> (u32, bool) {
        if self.before & !self.masks != 0 {
            return (self.done | self.before, true);
        }
        let flags = self.done | self.before | self.after;
        (flags, flags & !self.masks != 0)
    }

    /// Ends a step of an instruction that has several. `false`: it stops here.
    const fn step(&mut self) -> bool {
        let goes_on = (self.before | self.after) & !self.masks == 0;
        if goes_on {
            self.done |= self.before | self.after;
            (self.before, self.after) = (0, 0);
        }
        goes_on
    }

    const fn unmasked(&self, exceptions: u32) -> bool {
        exceptions & !self.masks != 0
    }

    fn invalid<F: Format>(&mut self) -> u64 {
        self.before |= IE;
        F::INDEFINITE
    }

    fn note_denormals(&mut self, operands: &[Value]) {
        if operands.iter().any(|operand| operand.denormal) {
            self.before |= DE;
        }
    }
}

/// A binary format. Numbers are in the low bits of a u64.
pub trait Format {
    /// Bits of the stored fraction.
    const FRACTION: u32;
    /// Bits of the exponent.
    const EXPONENT: u32;
    /// All bits.
    const BITS: u32 = 1 + Self::FRACTION + Self::EXPONENT;
    /// A mask of all bits.
    const MASK: u64 = u64::MAX >> (64 - Self::BITS);
    /// The sign.
    const SIGN: u64 = 1 << (Self::BITS - 1);
    /// +∞.
    const INFINITY: u64 = (1 << (Self::BITS - 1)) - (1 << Self::FRACTION);
    /// What makes a NaN quiet.
    const QUIET: u64 = 1 << (Self::FRACTION - 1);
    /// The default NaN.
    const INDEFINITE: u64 = Self::SIGN | Self::INFINITY | Self::QUIET;
    /// The exponent's bias.
    const BIAS: i32 = (1 << (Self::EXPONENT - 1)) - 1;
}

/// 32 bits.
#[derive(Debug)]
pub enum Single {}
/// 64 bits.
#[derive(Debug)]
pub enum Double {}

impl Format for Single {
    const FRACTION: u32 = 23;
    const EXPONENT: u32 = 8;
}

impl Format for Double {
    const FRACTION: u32 = 52;
    const EXPONENT: u32 = 11;
}

/// An operand taken apart.
#[derive(Clone, Copy, Debug)]
struct Value {
    kind: Kind,
    denormal: bool,
    sign: bool,
    /// Without bias.
    exponent: i32,
    /// Bit 63 is set in a number.
    significand: u64,
    /// As it was, or a zero where denormals count as such.
    bits: u64,
}

impl Value {
    fn new<F: Format>(env: &Env, bits: u64) -> Self {
        let fraction = (bits & ((1 << F::FRACTION) - 1)) << (63 - F::FRACTION);
        let biased = (bits & F::INFINITY) >> F::FRACTION;
        let value = Self {
            kind: Kind::Number,
            denormal: false,
            sign: bits & F::SIGN != 0,
            exponent: biased as i32 - F::BIAS,
            significand: 1 << 63 | fraction,
            bits,
        };
        if bits & F::INFINITY == F::INFINITY {
            let kind = match bits & F::QUIET {
                _ if fraction == 0 => Kind::Infinity,
                0 => Kind::Signaling,
                _ => Kind::Quiet,
            };
            return Self { kind, ..value };
        }
        if biased != 0 {
            return value;
        }
        if fraction == 0 || env.daz {
            return Self { kind: Kind::Zero, significand: 0, bits: bits & F::SIGN, ..value };
        }
        let shift = fraction.leading_zeros();
        Self { denormal: true, exponent: 1 - F::BIAS - shift as i32, significand: fraction << shift, ..value }
    }

    const fn is_nan(self) -> bool {
        matches!(self.kind, Kind::Quiet | Kind::Signaling)
    }

    /// A number with the order of the values (NaNs apart); zeros are one.
    fn key<F: Format>(self) -> i64 {
        let magnitude = (self.bits & !F::SIGN) as i64;
        if self.sign { -magnitude } else { magnitude }
    }
}

/// Both operands, and the answer where one of them is a NaN: the first that is one (SDM vol. 1, table 4-7).
fn operands<F: Format>(env: &mut Env, a: u64, b: u64) -> (Value, Value, Option<u64>) {
    let (x, y) = (Value::new::<F>(env, a), Value::new::<F>(env, b));
    if x.kind == Kind::Signaling || y.kind == Kind::Signaling {
        env.before |= IE;
    }
    let nan = [x, y].into_iter().find(|value| value.is_nan()).map(|nan| nan.bits | F::QUIET);
    (x, y, nan)
}

const fn signed<F: Format>(sign: bool, magnitude: u64) -> u64 {
    if sign { F::SIGN | magnitude } else { magnitude }
}

/// Rounds `significand / 2^127 × 2^exponent` (any normalisation; bit 0 may be sticky).
fn round<F: Format>(env: &mut Env, sign: bool, exponent: i32, significand: u128) -> u64 {
    if significand == 0 {
        return signed::<F>(sign, 0);
    }
    let shift = significand.leading_zeros();
    let (exponent, significand) = (exponent - shift as i32, significand << shift);
    let precision = F::FRACTION + 1;
    let unbounded = round_bits(env.rounding, sign, significand, precision);
    let inexact = |inexact: bool| if inexact { PE } else { 0 };
    let rounded_exponent = exponent + i32::from(unbounded.carry);
    let (rounded, biased) = if rounded_exponent > F::BIAS {
        if env.unmasked(OE) {
            env.after |= OE | inexact(unbounded.inexact);
            return 0;
        }
        env.after |= OE | PE;
        let infinite = env.rounding.overflows_to_infinity(sign);
        return signed::<F>(sign, F::INFINITY - u64::from(!infinite));
    } else if rounded_exponent < 1 - F::BIAS {
        // Tiny, detected after rounding.
        if env.unmasked(UE) {
            env.after |= UE | inexact(unbounded.inexact);
            return 0;
        }
        if env.ftz {
            env.after |= UE | PE;
            return signed::<F>(sign, 0);
        }
        let denormal = shift_right_jam(significand, (1 - F::BIAS - exponent) as u32);
        let rounded = round_bits(env.rounding, sign, denormal, precision);
        env.after |= if rounded.inexact { UE } else { 0 };
        // The integer bit adds itself to the exponent below.
        (rounded, 0)
    } else {
        (unbounded, (rounded_exponent + F::BIAS - 1) as u64)
    };
    env.after |= inexact(rounded.inexact);
    let whole = if rounded.carry { 1 << F::FRACTION } else { (rounded.significand >> (127 - F::FRACTION)) as u64 };
    signed::<F>(sign, (biased << F::FRACTION) + whole)
}

/// `a + b`.
pub fn add<F: Format>(env: &mut Env, a: u64, b: u64) -> u64 {
    sum::<F>(env, a, b, false)
}

/// `a - b`.
pub fn subtract<F: Format>(env: &mut Env, a: u64, b: u64) -> u64 {
    sum::<F>(env, a, b, true)
}

fn sum<F: Format>(env: &mut Env, a: u64, b: u64, subtract: bool) -> u64 {
    let (x, y, nan) = operands::<F>(env, a, b);
    if let Some(nan) = nan {
        return nan;
    }
    let y = Value { sign: y.sign != subtract, bits: y.bits ^ signed::<F>(subtract, 0), ..y };
    match (x.kind, y.kind) {
        (Kind::Infinity, Kind::Infinity) if x.sign != y.sign => return env.invalid::<F>(),
        _ => env.note_denormals(&[x, y]),
    }
    match (x.kind, y.kind) {
        (Kind::Infinity, _) => return x.bits,
        (_, Kind::Infinity) => return y.bits,
        (Kind::Zero, Kind::Zero) => {
            return signed::<F>(if x.sign == y.sign { x.sign } else { env.rounding == Rounding::Down }, 0);
        }
        (Kind::Zero, _) => return round::<F>(env, y.sign, y.exponent, u128::from(y.significand) << 64),
        (_, Kind::Zero) => return round::<F>(env, x.sign, x.exponent, u128::from(x.significand) << 64),
        _ => {}
    }
    let (big, small) = if (x.exponent, x.significand) >= (y.exponent, y.significand) { (x, y) } else { (y, x) };
    // One bit of room above for the carry.
    let left = u128::from(big.significand) << 63;
    let right = shift_right_jam(u128::from(small.significand) << 63, (big.exponent - small.exponent) as u32);
    let significand = if big.sign == small.sign { left + right } else { left - right };
    if significand == 0 {
        return signed::<F>(env.rounding == Rounding::Down, 0);
    }
    round::<F>(env, big.sign, big.exponent + 1, significand)
}

/// `a × b`.
pub fn multiply<F: Format>(env: &mut Env, a: u64, b: u64) -> u64 {
    let (x, y, nan) = operands::<F>(env, a, b);
    if let Some(nan) = nan {
        return nan;
    }
    let sign = x.sign != y.sign;
    match (x.kind, y.kind) {
        (Kind::Infinity, Kind::Zero) | (Kind::Zero, Kind::Infinity) => return env.invalid::<F>(),
        _ => env.note_denormals(&[x, y]),
    }
    match (x.kind, y.kind) {
        (Kind::Infinity, _) | (_, Kind::Infinity) => signed::<F>(sign, F::INFINITY),
        (Kind::Zero, _) | (_, Kind::Zero) => signed::<F>(sign, 0),
        _ => {
            let product = u128::from(x.significand) * u128::from(y.significand);
            round::<F>(env, sign, x.exponent + y.exponent + 1, product)
        }
    }
}

/// `a ÷ b`.
pub fn divide<F: Format>(env: &mut Env, a: u64, b: u64) -> u64 {
    let (x, y, nan) = operands::<F>(env, a, b);
    if let Some(nan) = nan {
        return nan;
    }
    let sign = x.sign != y.sign;
    match (x.kind, y.kind) {
        (Kind::Infinity, Kind::Infinity) | (Kind::Zero, Kind::Zero) => return env.invalid::<F>(),
        (Kind::Infinity, Kind::Zero) => return signed::<F>(sign, F::INFINITY),
        (Kind::Number, Kind::Zero) => {
            // A denormal that is divided by zero is not reported as a denormal.
            env.before |= ZE;
            return signed::<F>(sign, F::INFINITY);
        }
        _ => env.note_denormals(&[x, y]),
    }
    match (x.kind, y.kind) {
        (Kind::Infinity, _) => signed::<F>(sign, F::INFINITY),
        (Kind::Zero, _) | (_, Kind::Infinity) => signed::<F>(sign, 0),
        _ => {
            let divisor = u128::from(y.significand);
            let dividend = u128::from(x.significand) << 63;
            let sticky = u128::from(!dividend.is_multiple_of(divisor));
            // A quotient of 63 or 64 bits, more than any format keeps.
            let significand = (dividend / divisor) << 64 | sticky;
            round::<F>(env, sign, x.exponent - y.exponent, significand)
        }
    }
}

/// √`b`.
pub fn square_root<F: Format>(env: &mut Env, _: u64, b: u64) -> u64 {
    let (x, _, nan) = operands::<F>(env, b, b);
    if let Some(nan) = nan {
        return nan;
    }
    match x.kind {
        Kind::Zero => return x.bits,
        _ if x.sign => return env.invalid::<F>(),
        Kind::Infinity => return x.bits,
        _ => env.note_denormals(&[x]),
    }
    // value = radicand / 2^126 × 2^even
    let even = x.exponent & !1;
    let radicand = u128::from(x.significand) << (63 + (x.exponent - even));
    let root = radicand.isqrt();
    let sticky = u128::from(root * root != radicand);
    round::<F>(env, false, even / 2, root << 64 | sticky)
}

/// How two operands compare for MIN and MAX; `None` where one is a NaN, which is invalid.
fn compare_ordered<F: Format>(env: &mut Env, x: Value, y: Value) -> Option<Ordering> {
    if x.is_nan() || y.is_nan() {
        env.before |= IE;
        return None;
    }
    env.note_denormals(&[x, y]);
    Some(x.key::<F>().cmp(&y.key::<F>()))
}

/// The lesser; the second operand where they are equal or one is a NaN.
pub fn minimum<F: Format>(env: &mut Env, a: u64, b: u64) -> u64 {
    let (x, y) = (Value::new::<F>(env, a), Value::new::<F>(env, b));
    if compare_ordered::<F>(env, x, y) == Some(Ordering::Less) { x.bits } else { y.bits }
}

/// The greater; the second operand where they are equal or one is a NaN.
pub fn maximum<F: Format>(env: &mut Env, a: u64, b: u64) -> u64 {
    let (x, y) = (Value::new::<F>(env, a), Value::new::<F>(env, b));
    if compare_ordered::<F>(env, x, y) == Some(Ordering::Greater) { x.bits } else { y.bits }
}

/// How two operands compare; `None` where one is a NaN, which is invalid if it is a signaling one or `strict`.
pub fn order<F: Format>(env: &mut Env, a: u64, b: u64, strict: bool) -> Option<Ordering> {
    let (x, y, nan) = operands::<F>(env, a, b);
    if nan.is_some() {
        env.before |= if strict { IE } else { 0 };
        return None;
    }
    env.note_denormals(&[x, y]);
    Some(x.key::<F>().cmp(&y.key::<F>()))
}

/// How two operands in the low bits compare, where neither is a NaN or a denormal.
#[inline(always)]
pub fn plain_order<F: Format>(a: u64, b: u64) -> Option<Ordering> {
    let key = |bits: u64| {
        let magnitude = bits & (F::SIGN - 1);
        let plain = magnitude.wrapping_sub(1 << F::FRACTION) <= F::INFINITY - (1 << F::FRACTION) || magnitude == 0;
        plain.then_some(if bits & F::SIGN == 0 { magnitude as i64 } else { -(magnitude as i64) })
    };
    Some(key(a)?.cmp(&key(b)?))
}

/// CMPPS and its like: all ones where the predicate holds.
pub fn compare<F: Format>(env: &mut Env, a: u64, b: u64, predicate: u8) -> u64 {
    let strict = matches!(predicate & 3, 1 | 2);
    let order = order::<F>(env, a, b, strict);
    let holds = match predicate & 3 {
        0 => order == Some(Ordering::Equal),
        1 => order == Some(Ordering::Less),
        2 => order.is_some_and(Ordering::is_le),
        _ => order.is_none(),
    };
    if holds == (predicate & 4 == 0) { F::MASK } else { 0 }
}

/// Rounds a number to a whole one; its magnitude, and whether something was cut off. `None`: 2^64 or more.
fn whole(rounding: Rounding, x: Value) -> Option<(u64, bool)> {
    if x.exponent > 63 {
        return None;
    }
    let significand = u128::from(x.significand) << 64;
    let (bits, significand) = if x.exponent < 0 {
        (0, shift_right_jam(significand, (-1 - x.exponent) as u32))
    } else {
        (x.exponent as u32 + 1, significand)
    };
    let rounded = round_bits(rounding, x.sign, significand, bits);
    if rounded.carry {
        return 1_u64.checked_shl(bits).map(|magnitude| (magnitude, rounded.inexact));
    }
    let magnitude = if bits == 0 { 0 } else { (rounded.significand >> (128 - bits)) as u64 };
    Some((magnitude, rounded.inexact))
}

/// To a whole number of 32 bits; what does not fit is invalid. A denormal is not reported.
pub fn to_integer<F: Format>(env: &mut Env, bits: u64, truncate: bool) -> u32 {
    const INDEFINITE: u32 = 1 << 31;
    let x = Value::new::<F>(env, bits);
    let rounding = if truncate { Rounding::Zero } else { env.rounding };
    let converted = match x.kind {
        Kind::Zero => Some((0, false)),
        Kind::Number => whole(rounding, x),
        _ => None,
    };
    match converted {
        Some((magnitude, inexact)) if magnitude < 1 << 31 || x.sign && magnitude == 1 << 31 => {
            env.after |= if inexact { PE } else { 0 };
            if x.sign { (magnitude as u32).wrapping_neg() } else { magnitude as u32 }
        }
        _ => {
            env.before |= IE;
            INDEFINITE
        }
    }
}

/// From a whole number.
pub fn from_integer<F: Format>(env: &mut Env, value: i32) -> u64 {
    round::<F>(env, value < 0, 63, u128::from(value.unsigned_abs()) << 64)
}

/// From one format to the other.
pub fn convert<From: Format, To: Format>(env: &mut Env, bits: u64) -> u64 {
    let x = Value::new::<From>(env, bits);
    match x.kind {
        Kind::Zero => return signed::<To>(x.sign, 0),
        Kind::Infinity => return signed::<To>(x.sign, To::INFINITY),
        Kind::Number => {}
        _ => {
            if x.kind == Kind::Signaling {
                env.before |= IE;
            }
            let payload = x.significand & !(1 << 63);
            return signed::<To>(x.sign, To::INFINITY | To::QUIET | payload >> (63 - To::FRACTION));
        }
    }
    env.note_denormals(&[x]);
    round::<To>(env, x.sign, x.exponent, u128::from(x.significand) << 64)
}

/// ROUNDPS and its like: bits 0 and 1 of `how` are a rounding mode, bit 2 takes MXCSR's instead, bit 3 hides inexactness. A
/// denormal is not reported.
pub fn round_to_whole<F: Format>(env: &mut Env, bits: u64, how: u8) -> u64 {
    let (x, _, nan) = operands::<F>(env, bits, bits);
    if let Some(nan) = nan {
        return nan;
    }
    if x.kind != Kind::Number || x.exponent >= F::FRACTION as i32 {
        return x.bits;
    }
    let rounding = match how & 7 {
        4.. => env.rounding,
        0 => Rounding::Nearest,
        1 => Rounding::Down,
        2 => Rounding::Up,
        _ => Rounding::Zero,
    };
    let (magnitude, inexact) = whole(rounding, x).unwrap_or((0, false));
    env.after |= if inexact && how & 8 == 0 { PE } else { 0 };
    // Exact: it has no more bits than the significand.
    round::<F>(env, x.sign, 63, u128::from(magnitude) << 64)
}

/// A lane of a register.
fn lane<F: Format>(register: u128, n: u32) -> u64 {
    (register >> (n * F::BITS)) as u64 & F::MASK
}

/// The lanes of a register from those of two.
pub fn packed<F: Format>(env: &mut Env, a: u128, b: u128, op: impl Fn(&mut Env, u64, u64) -> u64) -> u128 {
    (0..128 / F::BITS)
        .fold(0, |result, n| result | u128::from(op(env, lane::<F>(a, n), lane::<F>(b, n))) << (n * F::BITS))
}

/// Subtracts the even lanes and adds the odd ones (ADDSUBPS).
pub fn alternating<F: Format>(env: &mut Env, a: u128, b: u128) -> u128 {
    (0..128 / F::BITS).fold(0, |result, n| {
        let value = sum::<F>(env, lane::<F>(a, n), lane::<F>(b, n), n % 2 == 0);
        result | u128::from(value) << (n * F::BITS)
    })
}

/// The lowest lane; the others stay as they are in `a`.
pub fn scalar<F: Format>(env: &mut Env, a: u128, b: u128, op: impl Fn(&mut Env, u64, u64) -> u64) -> u128 {
    a & !u128::from(F::MASK) | u128::from(op(env, lane::<F>(a, 0), lane::<F>(b, 0)))
}

/// The low `count` lanes of `b` in another format, or as whole numbers; zeros above.
pub fn converted<From: Format>(
    env: &mut Env,
    b: u128,
    count: u32,
    bits: u32,
    op: impl Fn(&mut Env, u64) -> u64,
) -> u128 {
    (0..count).fold(0, |result, n| result | u128::from(op(env, lane::<From>(b, n))) << (n * bits))
}

/// DPPS and DPPD: the products that the upper half of `imm` names, added in pairs, go to the lanes that the lower half names.
pub fn dot<F: Format>(env: &mut Env, a: u128, b: u128, imm: u8) -> u128 {
    let lanes = 128 / F::BITS;
    let named = |bit: u32| imm >> bit & 1 != 0;
    let mut terms = [0; 4];
    for (n, term) in (0..lanes).zip(&mut terms) {
        if named(4 + n) {
            *term = multiply::<F>(env, lane::<F>(a, n), lane::<F>(b, n));
        }
    }
    if !env.step() {
        return 0;
    }
    let mut sum = add::<F>(env, terms[0], terms[1]);
    if lanes == 4 {
        let other = add::<F>(env, terms[2], terms[3]);
        if !env.step() {
            return 0;
        }
        sum = add::<F>(env, sum, other);
    }
    (0..lanes).filter(|&n| named(n)).fold(0, |result, n| result | u128::from(sum) << (n * F::BITS))
}
