//! The constants, and F2XM1, FYL2X, FYL2XP1, FSIN, FCOS, FPTAN, FPATAN.
//!
//! Everything is computed with 128 bits of significand and rounded once, so results are correct to within 0.5001 units
//! in the last place of the exact function. As on the chip, the argument of a trigonometric function is reduced with
//! the 66-bit π of the 387 (SDM vol. 1, 8.3.8), and precision control does not matter.

use super::arith;
use super::bits::{C2, PE, ZE};
use super::float::{Context, F80, Kind};

/// A nonzero number `significand / 2^127 × 2^exponent` with bit 127 set, or zero (significand 0). Results are cut off.
#[derive(Clone, Copy, Debug)]
struct Wide {
    sign: bool,
    exponent: i32,
    significand: u128,
}

const PI: Wide = Wide::constant(1, 0xc90fdaa22168c234c4c6628b80dc1cd1);
const LN_2: Wide = Wide::constant(-1, 0xb17217f7d1cf79abc9e3b39803f2f6af);
const LOG2_E: Wide = Wide::constant(0, 0xb8aa3b295c17f0bbbe87fed0691d3e89);
const LOG2_10: Wide = Wide::constant(1, 0xd49a784bcd1b8afe492bf6ff4dafdb4d);
const LOG10_2: Wide = Wide::constant(-2, 0x9a209a84fbcff7988f8959ac0b7c9178);
const ONE: Wide = Wide::constant(0, 1 << 127);
const ZERO: Wide = Wide::constant(0, 0);

/// The upper half of a 256-bit product.
fn multiply_high(a: u128, b: u128) -> u128 {
    let low = |x: u128| x & u128::from(u64::MAX);
    let (a1, a0, b1, b0) = (a >> 64, low(a), b >> 64, low(b));
    let cross = a1 * b0;
    let middle = a0 * b1 + low(cross) + ((a0 * b0) >> 64);
    a1 * b1 + (cross >> 64) + (middle >> 64)
}

impl Wide {
    const fn constant(exponent: i32, significand: u128) -> Self {
        Self { sign: false, exponent, significand }
    }

    fn from(value: F80) -> Self {
        if value.kind() == Kind::Zero {
            return ZERO;
        }
        let x = value.unpack();
        Self { sign: x.sign, exponent: x.exponent, significand: u128::from(x.significand) << 64 }
    }

    fn integer(value: u32) -> Self {
        Self::normalise(false, 127, u128::from(value))
    }

    fn normalise(sign: bool, exponent: i32, significand: u128) -> Self {
        if significand == 0 {
            return ZERO;
        }
        let shift = significand.leading_zeros();
        Self { sign, exponent: exponent - shift as i32, significand: significand << shift }
    }

    /// A result that is less in magnitude than `bound`, however little: rounding wants to know.
    fn or_a_little_less_than(self, bound: Self) -> Self {
        let reached = self.exponent == bound.exponent && self.significand == bound.significand && !self.is_zero();
        Self { significand: self.significand - u128::from(reached), ..self }
    }

    fn is_zero(self) -> bool {
        self.significand == 0
    }

    fn negate(self) -> Self {
        Self { sign: !self.sign, ..self }
    }

    fn halve(self) -> Self {
        Self { exponent: self.exponent - 1, ..self }
    }

    fn double(self) -> Self {
        Self { exponent: self.exponent + 1, ..self }
    }

    fn add(self, other: Self) -> Self {
        if self.is_zero() {
            return other;
        }
        if other.is_zero() {
            return self;
        }
        let swap = (other.exponent, other.significand) > (self.exponent, self.significand);
        let (big, small) = if swap { (other, self) } else { (self, other) };
        let distance = (big.exponent - small.exponent) as u32;
        let right = small.significand.checked_shr(distance).unwrap_or(0);
        if big.sign != small.sign {
            return Self::normalise(big.sign, big.exponent, big.significand - right);
        }
        match big.significand.overflowing_add(right) {
            (sum, false) => Self { significand: sum, ..big },
            (sum, true) => Self { significand: sum >> 1 | 1 << 127, exponent: big.exponent + 1, ..big },
        }
    }

    fn subtract(self, other: Self) -> Self {
        self.add(other.negate())
    }

    fn multiply(self, other: Self) -> Self {
        if self.is_zero() || other.is_zero() {
            return ZERO;
        }
        let product = multiply_high(self.significand, other.significand);
        Self::normalise(self.sign != other.sign, self.exponent + other.exponent + 1, product)
    }

    /// Newton's iteration for the reciprocal, from a quotient of 64 bits. Dividing by zero gives zero.
    fn reciprocal(self) -> Self {
        if self.is_zero() {
            return ZERO;
        }
        let top = self.significand >> 64;
        let guess = (1_u128 << 126) / top;
        // 1 / (top / 2^63) is in (1/2, 1]; `guess` has the binary point after bit 63.
        let mut r = Self::normalise(self.sign, 64 - self.exponent, guess);
        for _ in 0..2 {
            let error = ONE.subtract(self.multiply(r));
            r = r.add(r.multiply(error));
        }
        r
    }

    fn divide(self, other: Self) -> Self {
        self.multiply(other.reciprocal())
    }

    /// Of a positive number.
    fn square_root(self) -> Self {
        if self.is_zero() {
            return ZERO;
        }
        let even = self.exponent & !1;
        let root = (self.significand >> (1 - (self.exponent - even))).isqrt();
        // root / 2^63 × 2^(even / 2), good to 63 bits; one step of Newton doubles that.
        let guess = Self::normalise(false, even / 2 + 64, root);
        guess.add(self.divide(guess)).halve()
    }

    /// Rounds to a register. Transcendental results are inexact by nature.
    fn deliver(self, context: &mut Context) -> F80 {
        let mut full = context.full();
        full.raised = 0;
        let value = F80::round(&mut full, self.sign, self.exponent, self.significand | 1);
        context.raised |= full.raised | PE;
        context.rounded_up = full.rounded_up;
        value
    }
}

/// The constants that the chip loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the number that it is named for")]
pub enum Constant {
    One,
    Log2Of10,
    Log2OfE,
    Pi,
    Log10Of2,
    LnOf2,
    Zero,
}

/// FLD1 and its family, rounded as RC says; raises nothing.
pub fn constant(context: &Context, which: Constant) -> F80 {
    let wide = match which {
        Constant::One => return F80::ONE,
        Constant::Zero => return F80::ZERO,
        Constant::Log2Of10 => LOG2_10,
        Constant::Log2OfE => LOG2_E,
        Constant::Pi => PI,
        Constant::Log10Of2 => LOG10_2,
        Constant::LnOf2 => LN_2,
    };
    F80::round(&mut context.full(), false, wide.exponent, wide.significand)
}

/// F2XM1: `2^x - 1` for |x| ≤ 1. Outside that range the manual leaves the result undefined; here it is `x`.
pub fn two_to_x_minus_1(context: &mut Context, x: F80) -> F80 {
    if let Some(nan) = F80::propagate(context, x, x) {
        return nan;
    }
    match x.kind() {
        Kind::Infinity if x.sign() => return F80::ONE.with_sign(true),
        Kind::Zero | Kind::Infinity => return x,
        _ => F80::note_denormal(context, &[x]),
    }
    if x.biased() > 0x3fff || x.biased() == 0x3fff && x.significand != 1 << 63 {
        return x;
    }
    if x.biased() == 0x3fff {
        return if x.sign() { F80::ONE.with_sign(true).halved() } else { F80::ONE };
    }
    let t = Wide::from(x).multiply(LN_2);
    let mut sum = t;
    let mut term = t;
    for n in 2..60 {
        term = term.multiply(t).divide(Wide::integer(n));
        if term.is_zero() || term.exponent < sum.exponent - 130 {
            break;
        }
        sum = sum.add(term);
    }
    sum.deliver(context)
}

impl F80 {
    fn halved(self) -> Self {
        Self { sign_exponent: self.sign_exponent - 1, ..self }
    }
}

/// `atanh(t)` for |t| < 1/3 or so.
fn atanh(t: Wide) -> Wide {
    series(t, false)
}

/// `t ± t^3/3 + t^5/5 …`
fn series(t: Wide, alternating: bool) -> Wide {
    let square = t.multiply(t);
    let square = if alternating { square.negate() } else { square };
    let mut sum = t;
    let mut power = t;
    for n in 1..100 {
        power = power.multiply(square);
        let term = power.divide(Wide::integer(2 * n + 1));
        if term.is_zero() || term.exponent < sum.exponent - 130 {
            break;
        }
        sum = sum.add(term);
    }
    if alternating { sum.or_a_little_less_than(t) } else { sum }
}

/// The binary logarithm of a positive number.
fn log2(x: Wide) -> Wide {
    // m in (√½, √2)
    let up = x.significand >> 64 > 0xb504_f333_f9de_6484;
    let power = x.exponent + i32::from(up);
    let m = Wide { sign: false, exponent: -i32::from(up), ..x };
    let t = m.subtract(ONE).divide(m.add(ONE));
    let fraction = atanh(t).double().multiply(LOG2_E);
    let whole = Wide { sign: power < 0, ..Wide::integer(power.unsigned_abs()) };
    fraction.add(whole)
}

/// FYL2X: `y × log2(x)`.
pub fn y_log2_x(context: &mut Context, x: F80, y: F80) -> F80 {
    if let Some(nan) = F80::propagate(context, y, x) {
        return nan;
    }
    let negative = x.sign() && x.kind() != Kind::Zero;
    match (x.kind(), y.kind()) {
        _ if negative => return context.invalid(),
        (Kind::Zero | Kind::Infinity, Kind::Zero) => return context.invalid(),
        (Kind::Zero, Kind::Infinity) => return F80::infinity(!y.sign()),
        (Kind::Zero, _) => {
            context.raised |= ZE;
            return F80::infinity(!y.sign());
        }
        (Kind::Infinity, _) => {
            F80::note_denormal(context, &[y]);
            return F80::infinity(y.sign());
        }
        _ => F80::note_denormal(context, &[x, y]),
    }
    let parts = x.unpack();
    let is_one = parts.exponent == 0 && parts.significand == 1 << 63;
    match y.kind() {
        Kind::Infinity if is_one => return context.invalid(),
        Kind::Infinity => return F80::infinity(y.sign() != (parts.exponent < 0)),
        Kind::Zero => return F80::zero(y.sign() != (parts.exponent < 0)),
        _ if is_one => return F80::zero(y.sign()),
        _ => {}
    }
    if parts.significand == 1 << 63 {
        // A power of two: an exact logarithm.
        let power = super::convert::from_i64(i64::from(parts.exponent));
        return arith::multiply(context, power, y);
    }
    log2(Wide::from(x)).multiply(Wide::from(y)).deliver(context)
}

/// FYL2XP1: `y × log2(x + 1)`, meant for |x| < 1 - √½. Where `x` ≤ -1 the result is undefined; here it is `x`.
pub fn y_log2_x_plus_1(context: &mut Context, x: F80, y: F80) -> F80 {
    if let Some(nan) = F80::propagate(context, y, x) {
        return nan;
    }
    match (x.kind(), y.kind()) {
        (Kind::Infinity, _) if x.sign() => return context.invalid(),
        (Kind::Infinity, Kind::Zero) | (Kind::Zero, Kind::Infinity) => return context.invalid(),
        _ => F80::note_denormal(context, &[x, y]),
    }
    let sign = x.sign() != y.sign();
    match (x.kind(), y.kind()) {
        (Kind::Infinity, _) | (_, Kind::Infinity) => return F80::infinity(sign),
        (Kind::Zero, _) | (_, Kind::Zero) => return F80::zero(sign),
        _ => {}
    }
    if x.sign() && x.biased() >= 0x3fff {
        return x;
    }
    if x.biased() >= 0x3ffe {
        return log2(Wide::from(x).add(ONE)).multiply(Wide::from(y)).deliver(context);
    }
    let wide = Wide::from(x);
    let t = wide.divide(wide.add(Wide::integer(2)));
    atanh(t).double().multiply(LOG2_E).multiply(Wide::from(y)).deliver(context)
}

/// FPATAN: the angle of the point (x, y).
pub fn arctangent(context: &mut Context, y: F80, x: F80) -> F80 {
    if let Some(nan) = F80::propagate(context, y, x) {
        return nan;
    }
    F80::note_denormal(context, &[x, y]);
    let signed = |wide: Wide| Wide { sign: y.sign(), ..wide };
    let quarter = PI.halve().halve();
    match (y.kind(), x.kind()) {
        (Kind::Infinity, Kind::Infinity) => {
            let angle = if x.sign() { PI.subtract(quarter) } else { quarter };
            return signed(angle).deliver(context);
        }
        (Kind::Infinity, _) | (Kind::Number, Kind::Zero) => return signed(PI.halve()).deliver(context),
        (Kind::Zero, _) | (_, Kind::Infinity) => {
            return if x.sign() { signed(PI).deliver(context) } else { F80::zero(y.sign()) };
        }
        _ => {}
    }
    let absolute = |value: F80| Wide { sign: false, ..Wide::from(value) };
    let (rise, run) = (absolute(y), absolute(x));
    let steep = (rise.exponent, rise.significand) > (run.exponent, run.significand);
    let ratio = if steep { run.divide(rise) } else { rise.divide(run) };
    let mut angle = arctangent_of(ratio);
    if steep {
        angle = PI.halve().subtract(angle);
    }
    if x.sign() {
        angle = PI.subtract(angle);
    }
    signed(angle).deliver(context)
}

/// `atan(t)` for 0 ≤ t ≤ 1: halve the angle twice, then the series.
fn arctangent_of(mut t: Wide) -> Wide {
    let small = t.exponent < -4;
    if !small {
        for _ in 0..2 {
            t = t.divide(ONE.add(ONE.add(t.multiply(t)).square_root()));
        }
    }
    let angle = series(t, true);
    if small { angle } else { angle.double().double() }
}

/// Sine and cosine of an argument, or `None` where it is out of range (C2).
struct Angle {
    quadrant: u32,
    sine: Wide,
    cosine: Wide,
}

/// Reduces by multiples of half of the chip's π and computes both functions of the rest. `x` is a nonzero number.
fn reduce(x: F80) -> Option<Angle> {
    /// π as the chip has it: 66 bits, 2 of them before the binary point.
    const CHIP_PI: u128 = 0x3_243f_6a88_85a3_08d3;
    let parts = x.unpack();
    if parts.exponent >= 63 {
        return None;
    }
    let absolute = Wide { sign: false, exponent: parts.exponent, significand: u128::from(parts.significand) << 64 };
    let (quadrant, rest) = if parts.exponent < -1 {
        (0, absolute)
    } else {
        // In units of 2^-65 the half of π is CHIP_PI: bring the significand there bit by bit.
        // 2^exponent × s / 2^63 = s × 2^(exponent + 2) units; the first steps may have no remainder to take.
        let (mut quotient, mut rest) = (0_u32, u128::from(parts.significand));
        let mut steps = parts.exponent + 2;
        loop {
            // rest < 2^66 + …: at most one or two multiples fit.
            while rest >= CHIP_PI {
                rest -= CHIP_PI;
                quotient = quotient.wrapping_add(1);
            }
            if steps == 0 {
                break;
            }
            rest <<= 1;
            quotient = quotient.wrapping_shl(1);
            steps -= 1;
        }
        // To the nearest multiple, so that the rest is at most π/4.
        let back = rest << 1 > CHIP_PI;
        let rest = if back { CHIP_PI - rest } else { rest };
        (quotient.wrapping_add(u32::from(back)), Wide::normalise(back, 127 - 65, rest))
    };
    let square = rest.multiply(rest).negate();
    let (mut sine, mut cosine) = (rest, ONE);
    let (mut odd, mut even) = (rest, ONE);
    for n in 1..30 {
        even = even.multiply(square).divide(Wide::integer((2 * n - 1) * 2 * n));
        odd = odd.multiply(square).divide(Wide::integer(2 * n * (2 * n + 1)));
        if even.is_zero() || even.exponent < -140 {
            break;
        }
        cosine = cosine.add(even);
        sine = sine.add(odd);
    }
    let (sine, cosine) = (sine.or_a_little_less_than(rest), cosine.or_a_little_less_than(ONE));
    Some(Angle { quadrant: quadrant & 3, sine, cosine })
}

impl Angle {
    /// The sine of the whole angle of a sign.
    fn sine(&self, negative: bool) -> Wide {
        let value = if self.quadrant & 1 == 0 { self.sine } else { self.cosine };
        Wide { sign: value.sign ^ (self.quadrant & 2 != 0) ^ negative, ..value }
    }

    fn cosine(&self) -> Wide {
        let value = if self.quadrant & 1 == 0 { self.cosine } else { self.sine };
        Wide { sign: value.sign != matches!(self.quadrant, 1 | 2), ..value }
    }
}

/// What a trigonometric instruction leaves.
pub enum Trigonometric {
    /// One result, or one for each register.
    Results(F80, F80),
    /// The argument is 2^63 or more: C2 is set, nothing else happens.
    OutOfRange,
}

/// Condition code for [`Trigonometric::OutOfRange`].
pub const OUT_OF_RANGE: u16 = C2;

fn trigonometric(
    context: &mut Context,
    x: F80,
    of_zero: (F80, F80),
    compute: impl Fn(&mut Context, &Angle) -> (F80, F80),
) -> Trigonometric {
    if let Some(nan) = F80::propagate(context, x, x) {
        return Trigonometric::Results(nan, nan);
    }
    match x.kind() {
        Kind::Zero => return Trigonometric::Results(of_zero.0, of_zero.1),
        Kind::Infinity => {
            let nan = context.invalid();
            return Trigonometric::Results(nan, nan);
        }
        _ => {}
    }
    match reduce(x) {
        None => Trigonometric::OutOfRange,
        Some(angle) => {
            F80::note_denormal(context, &[x]);
            let (first, second) = compute(context, &angle);
            Trigonometric::Results(first, second)
        }
    }
}

/// FSIN (first result), FCOS (second), FSINCOS (both).
pub fn sine_cosine(context: &mut Context, x: F80) -> Trigonometric {
    trigonometric(context, x, (x, F80::ONE), |context, angle| {
        let sine = angle.sine(x.sign()).deliver(context);
        // The last rounding shows in C1 and the cosine is never tiny; keep the exceptions of the sine.
        (sine, angle.cosine().deliver(context))
    })
}

/// FSIN alone, so that C1 tells of its rounding and FCOS does not raise the sine's underflow.
pub fn sine(context: &mut Context, x: F80) -> Trigonometric {
    trigonometric(context, x, (x, x), |context, angle| {
        let value = angle.sine(x.sign()).deliver(context);
        (value, value)
    })
}

/// FCOS alone.
pub fn cosine(context: &mut Context, x: F80) -> Trigonometric {
    trigonometric(context, x, (F80::ONE, F80::ONE), |context, angle| {
        let value = angle.cosine().deliver(context);
        (value, value)
    })
}

/// FPTAN: the tangent, and the 1 that is pushed after it.
pub fn tangent(context: &mut Context, x: F80) -> Trigonometric {
    trigonometric(context, x, (x, F80::ONE), |context, angle| {
        (angle.sine(x.sign()).divide(angle.cosine()).deliver(context), F80::ONE)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::fpu::convert::exact_f64;

    fn context() -> Context {
        Context::from_control(0x37f)
    }

    /// The double nearest to a register, for comparisons with libm.
    fn double(value: F80) -> f64 {
        f64::from_bits(crate::cpu::fpu::convert::to_f64(&mut context(), value).expect("masked"))
    }

    #[test]
    fn functions_agree_with_libm() {
        let close = |ours: F80, theirs: f64| {
            let ours = double(ours);
            assert!((ours - theirs).abs() <= theirs.abs() * 4e-16, "{ours:e} {theirs:e}");
        };
        let c = &mut context();
        for n in -40..=40 {
            let x = f64::from(n) * 0.024_9 + 0.000_1;
            let f = exact_f64(x);
            close(two_to_x_minus_1(c, f), (x * std::f64::consts::LN_2).exp_m1());
            close(arctangent(c, f, exact_f64(0.3)), x.atan2(0.3));
            close(arctangent(c, f, exact_f64(-2.0)), x.atan2(-2.0));
            let Trigonometric::Results(sine, cosine) = sine_cosine(c, exact_f64(x * 100.0)) else { panic!("in range") };
            close(sine, (x * 100.0).sin());
            close(cosine, (x * 100.0).cos());
            let Trigonometric::Results(tangent, _) = tangent(c, f) else { panic!("in range") };
            close(tangent, x.tan());
            close(y_log2_x(c, exact_f64(x.exp()), exact_f64(3.0)), x.exp().log2() * 3.0);
            close(y_log2_x_plus_1(c, exact_f64(x / 8.0), F80::ONE), (x / 8.0).ln_1p() / std::f64::consts::LN_2);
        }
    }
}
