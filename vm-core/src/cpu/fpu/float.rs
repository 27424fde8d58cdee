//! The double extended format, and the one place where results are rounded.

use serde::{Deserialize, Serialize};

use super::bits::{DE, IE, OE, PE, UE};

/// An 80-bit number: sign, 15 bits of exponent with a bias of 16383, and a significand with an explicit integer bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct F80 {
    /// The significand; bit 63 is the integer bit.
    pub significand: u64,
    /// Bit 15 is the sign, the rest the biased exponent.
    pub sign_exponent: u16,
}

/// The bias of the exponent.
pub const BIAS: i32 = 16383;
/// The integer bit.
pub const INTEGER: u64 = 1 << 63;
/// The bit that makes a NaN quiet.
pub const QUIET: u64 = 1 << 62;

/// What an [`F80`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Zero of either sign.
    Zero,
    /// A number; see [`Unpacked`].
    Number,
    /// Infinity of either sign.
    Infinity,
    /// A quiet NaN.
    Quiet,
    /// A signaling NaN.
    Signaling,
    /// An encoding that the 387 and later refuse: unnormal, pseudo-infinity, pseudo-NaN.
    Unsupported,
}

/// A nonzero finite number: `significand / 2^63 × 2^exponent`, bit 63 set.
#[derive(Clone, Copy, Debug)]
pub struct Unpacked {
    /// Whether it is negative.
    pub sign: bool,
    /// The exponent without bias.
    pub exponent: i32,
    /// Normalised: bit 63 is set.
    pub significand: u64,
}

/// RC, the rounding control field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To nearest, ties to even.
    Nearest = 0,
    /// Towards minus infinity.
    Down = 1,
    /// Towards plus infinity.
    Up = 2,
    /// Towards zero.
    Zero = 3,
}

impl Rounding {
    /// Whether a magnitude whose discarded part is `rest` (compared with a half) grows by one unit.
    fn increments(self, sign: bool, odd: bool, rest: std::cmp::Ordering, exact: bool) -> bool {
        match self {
            Self::Nearest => rest.is_gt() || rest.is_eq() && odd,
            Self::Down => sign && !exact,
            Self::Up => !sign && !exact,
            Self::Zero => false,
        }
    }

    /// Where an overflow goes: `true` to infinity, `false` to the largest number.
    pub fn overflows_to_infinity(self, sign: bool) -> bool {
        match self {
            Self::Nearest => true,
            Self::Down => sign,
            Self::Up => !sign,
            Self::Zero => false,
        }
    }
}

/// How one operation rounds, and what it raised.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Rounding control.
    pub rounding: Rounding,
    /// Bits of significand that survive: 24, 53 or 64.
    pub precision: u32,
    /// The exception masks of the control word.
    pub masks: u16,
    /// Exceptions raised so far.
    pub raised: u16,
    /// The last rounding went away from zero (C1).
    pub rounded_up: bool,
}

impl Context {
    /// As the control word says.
    pub fn from_control(control: u16) -> Self {
        let rounding = match control >> 10 & 3 {
            0 => Rounding::Nearest,
            1 => Rounding::Down,
            2 => Rounding::Up,
            _ => Rounding::Zero,
        };
        // 01 is reserved; processors take it for full precision.
        let precision = match control >> 8 & 3 {
            0 => 24,
            2 => 53,
            _ => 64,
        };
        Self { rounding, precision, masks: control & 0x3f, raised: 0, rounded_up: false }
    }

    /// The same with all 64 bits: operations that precision control does not touch.
    #[must_use]
    pub fn full(mut self) -> Self {
        self.precision = 64;
        self
    }

    /// Whether one of `exceptions` is not masked.
    pub fn unmasked(&self, exceptions: u16) -> bool {
        exceptions & !self.masks != 0
    }

    /// #IA: the answer is the default NaN.
    pub fn invalid(&mut self) -> F80 {
        self.raised |= IE;
        F80::INDEFINITE
    }
}

/// A significand cut to its upper `bits` bits.
pub struct Rounded {
    /// The result, its leading bit where it was; zero after a carry out of bit 127 (see `carry`).
    pub significand: u128,
    /// The result has become the next power of two.
    pub carry: bool,
    /// Something was cut off.
    pub inexact: bool,
    /// The magnitude grew.
    pub up: bool,
}

/// Rounds `significand` to its upper `bits` bits (0–127; 0 leaves nothing or one carry).
pub fn round_bits(rounding: Rounding, sign: bool, significand: u128, bits: u32) -> Rounded {
    let unit_shift = 128 - bits;
    let (kept, rest) = if bits == 0 {
        (0, significand)
    } else {
        let kept = significand >> unit_shift << unit_shift;
        (kept, significand & !kept)
    };
    let half = 1_u128 << (unit_shift - 1);
    let odd = bits != 0 && significand >> unit_shift & 1 != 0;
    let exact = rest == 0;
    let up = rounding.increments(sign, odd, rest.cmp(&half), exact);
    let (significand, carry) = if !up {
        (kept, false)
    } else if bits == 0 {
        (0, true)
    } else {
        kept.overflowing_add(1 << unit_shift)
    };
    Rounded { significand, carry, inexact: !exact, up }
}

/// Shifts right; whatever falls out stays visible in bit 0.
pub fn shift_right_jam(value: u128, count: u32) -> u128 {
    match count {
        0 => value,
        1..=127 => value >> count | u128::from(value << (128 - count) != 0),
        _ => u128::from(value != 0),
    }
}

impl F80 {
    /// +0.
    pub const ZERO: Self = Self { significand: 0, sign_exponent: 0 };
    /// 1.
    pub const ONE: Self = Self { significand: INTEGER, sign_exponent: 0x3fff };
    /// The default NaN, "real indefinite".
    pub const INDEFINITE: Self = Self { significand: INTEGER | QUIET, sign_exponent: 0xffff };

    /// Zero of a sign.
    pub const fn zero(sign: bool) -> Self {
        Self { significand: 0, sign_exponent: (sign as u16) << 15 }
    }

    /// Infinity of a sign.
    pub const fn infinity(sign: bool) -> Self {
        Self { significand: INTEGER, sign_exponent: (sign as u16) << 15 | 0x7fff }
    }

    /// The sign bit.
    pub const fn sign(self) -> bool {
        self.sign_exponent >> 15 != 0
    }

    /// The biased exponent.
    pub const fn biased(self) -> u16 {
        self.sign_exponent & 0x7fff
    }

    /// With another sign.
    #[must_use]
    pub const fn with_sign(self, sign: bool) -> Self {
        Self { significand: self.significand, sign_exponent: self.biased() | (sign as u16) << 15 }
    }

    /// What it stands for.
    pub const fn kind(self) -> Kind {
        match self.biased() {
            0 if self.significand == 0 => Kind::Zero,
            0 => Kind::Number,
            0x7fff => match self.significand >> 62 {
                2 if self.significand == INTEGER => Kind::Infinity,
                2 => Kind::Signaling,
                3 => Kind::Quiet,
                _ => Kind::Unsupported,
            },
            _ if self.significand & INTEGER != 0 => Kind::Number,
            _ => Kind::Unsupported,
        }
    }

    /// Whether it is a NaN of either sort.
    pub const fn is_nan(self) -> bool {
        matches!(self.kind(), Kind::Quiet | Kind::Signaling)
    }

    /// A denormal or pseudo-denormal.
    pub const fn is_denormal(self) -> bool {
        self.biased() == 0 && self.significand != 0
    }

    /// The two tag bits of a register that holds this.
    pub const fn tag(self) -> u16 {
        match self.kind() {
            Kind::Zero => 1,
            Kind::Number if self.biased() != 0 => 0,
            _ => 2,
        }
    }

    /// Takes a nonzero finite number apart (anything else gives nonsense, never a panic).
    pub const fn unpack(self) -> Unpacked {
        let exponent = if self.biased() == 0 { 1 } else { self.biased() as i32 } - BIAS;
        let shift = if self.significand == 0 { 0 } else { self.significand.leading_zeros() };
        Unpacked { sign: self.sign(), exponent: exponent - shift as i32, significand: self.significand << shift }
    }

    /// Puts a normalised significand and an exponent that is in range together.
    pub const fn pack(sign: bool, exponent: i32, significand: u64) -> Self {
        Self { significand, sign_exponent: (sign as u16) << 15 | (exponent + BIAS) as u16 & 0x7fff }
    }

    /// Rounds `significand / 2^127 × 2^exponent` (any normalisation; bit 0 may be sticky) to a register value.
    pub fn round(context: &mut Context, sign: bool, exponent: i32, significand: u128) -> Self {
        if significand == 0 {
            return Self::zero(sign);
        }
        let shift = significand.leading_zeros();
        let (exponent, significand) = (exponent - shift as i32, significand << shift);
        let precision = context.precision;
        let unbounded = round_bits(context.rounding, sign, significand, precision);
        let rounded_exponent = exponent + i32::from(unbounded.carry);
        if rounded_exponent < 1 - BIAS {
            // Tiny, detected after rounding.
            if context.unmasked(UE) {
                context.raised |= UE;
                return Self::deliver(context, sign, rounded_exponent + 24576, &unbounded);
            }
            let lost = (1 - BIAS - exponent) as u32;
            let denormal = shift_right_jam(significand, lost);
            let rounded = round_bits(context.rounding, sign, denormal, precision);
            if rounded.inexact {
                context.raised |= UE | PE;
            }
            context.rounded_up = rounded.up;
            // The integer bit decides whether rounding has made it normal again.
            let significand = (rounded.significand >> 64) as u64;
            let biased = u16::from(significand & INTEGER != 0);
            return Self { significand, sign_exponent: (sign as u16) << 15 | biased };
        }
        if rounded_exponent > BIAS {
            context.raised |= OE;
            if context.unmasked(OE) {
                return Self::deliver(context, sign, rounded_exponent - 24576, &unbounded);
            }
            context.raised |= PE;
            context.rounded_up = context.rounding.overflows_to_infinity(sign);
            return if context.rounded_up {
                Self::infinity(sign)
            } else {
                Self::pack(sign, BIAS, u64::MAX << (64 - precision))
            };
        }
        Self::deliver(context, sign, rounded_exponent, &unbounded)
    }

    fn deliver(context: &mut Context, sign: bool, exponent: i32, rounded: &Rounded) -> Self {
        if rounded.inexact {
            context.raised |= PE;
        }
        context.rounded_up = rounded.up;
        // FSCALE and the like can leave the wrapped range too; then the answer is a zero or an infinity.
        if exponent > BIAS {
            context.raised |= PE;
            context.rounded_up = true;
            return Self::infinity(sign);
        }
        if exponent < 1 - BIAS {
            context.raised |= PE;
            context.rounded_up = false;
            return Self::zero(sign);
        }
        let significand = if rounded.carry { INTEGER } else { (rounded.significand >> 64) as u64 };
        Self::pack(sign, exponent, significand)
    }

    /// The answer of an operation with a NaN or an unsupported operand; `None` where both are ordinary.
    pub fn propagate(context: &mut Context, a: Self, b: Self) -> Option<Self> {
        if a.kind() == Kind::Unsupported || b.kind() == Kind::Unsupported {
            return Some(context.invalid());
        }
        if !a.is_nan() && !b.is_nan() {
            return None;
        }
        if a.kind() == Kind::Signaling || b.kind() == Kind::Signaling {
            context.raised |= IE;
        }
        Some(Self::select_nan(a, b))
    }

    /// The rule of the 387 for two operands of which one at least is a NaN (SDM vol. 1, table 4-7).
    fn select_nan(a: Self, b: Self) -> Self {
        let quiet = |nan: Self| Self { significand: nan.significand | QUIET, ..nan };
        match (a.kind(), b.kind()) {
            (Kind::Signaling, Kind::Quiet) => b,
            (Kind::Quiet, Kind::Signaling) => a,
            (Kind::Signaling | Kind::Quiet, Kind::Signaling | Kind::Quiet) => {
                let (x, y) = (quiet(a), quiet(b));
                match a.significand.cmp(&b.significand) {
                    std::cmp::Ordering::Greater => x,
                    std::cmp::Ordering::Less => y,
                    // Equal: the positive one.
                    std::cmp::Ordering::Equal => {
                        if x.sign() {
                            y
                        } else {
                            x
                        }
                    }
                }
            }
            (Kind::Signaling | Kind::Quiet, _) => quiet(a),
            _ => quiet(b),
        }
    }

    /// Notes a denormal operand.
    pub fn note_denormal(context: &mut Context, operands: &[Self]) {
        if operands.iter().any(|operand| operand.is_denormal()) {
            context.raised |= DE;
        }
    }
}
