//! Operations on whole numbers and bits: one row an operation.

use std::array;

use iced_x86::Mnemonic;

/// What one operation computes from its destination, its source and the immediate byte.
pub trait Compute {
    /// On XMM registers.
    fn xmm(a: u128, b: u128, imm: u8) -> u128;
    /// On MMX registers, which are the lower halves; what the upper half of the result holds does not matter.
    #[inline(always)]
    fn mmx(a: u128, b: u128, imm: u8) -> u128 {
        Self::xmm(a, b, imm)
    }
}

/// Numbers that lie side by side in 128 bits, the lowest first.
trait Lanes<const N: usize>: Copy {
    fn split(value: u128) -> [Self; N];
    fn join(lanes: [Self; N]) -> u128;
}

macro_rules! lanes {
    ($($kind:ty, $n:literal;)*) => {$(
        impl Lanes<$n> for $kind {
            #[inline(always)]
            fn split(value: u128) -> [Self; $n] {
                // SAFETY: both have 16 bytes, and any bytes are valid for both.
                unsafe { std::mem::transmute(value.to_le_bytes()) }
            }
            #[inline(always)]
            fn join(lanes: [Self; $n]) -> u128 {
                // SAFETY: as above.
                u128::from_le_bytes(unsafe { std::mem::transmute::<[Self; $n], [u8; 16]>(lanes) })
            }
        }
    )*};
}

impl Lanes<16> for u8 {
    #[inline(always)]
    fn split(value: u128) -> [Self; 16] {
        value.to_le_bytes()
    }
    #[inline(always)]
    fn join(lanes: [Self; 16]) -> u128 {
        u128::from_le_bytes(lanes)
    }
}

lanes! { i8, 16; u16, 8; i16, 8; u32, 4; i32, 4; u64, 2; f32, 4; f64, 2; }

const _: () = assert!(cfg!(target_endian = "little"), "the lowest lane is the first in memory");

/// `f` of each pair of lanes.
#[inline(always)]
fn map<T: Lanes<N>, const N: usize>(a: u128, b: u128, f: impl Fn(T, T) -> T) -> u128 {
    let (a, b) = (T::split(a), T::split(b));
    T::join(array::from_fn(|i| f(a[i], b[i])))
}

/// Every lane shifted by the low 64 bits of `count`; `bits` and more leave zero.
#[inline(always)]
fn shift<T: Lanes<N>, const N: usize>(a: u128, count: u128, bits: u64, f: impl Fn(T, u32) -> T) -> u128 {
    let count = count as u64;
    if count >= bits {
        return 0;
    }
    T::join(T::split(a).map(|lane| f(lane, count as u32)))
}

/// The same to the right with copies of the sign.
#[inline(always)]
fn shift_signed<T: Lanes<N>, const N: usize>(a: u128, count: u128, bits: u64, f: impl Fn(T, u32) -> T) -> u128 {
    let count = (count as u64).min(bits - 1) as u32;
    T::join(T::split(a).map(|lane| f(lane, count)))
}

/// Bytes up (left).
#[inline(always)]
fn bytes_up(a: u128, count: u8) -> u128 {
    if count > 15 { 0 } else { a << (8 * u32::from(count)) }
}

/// Bytes down (right).
#[inline(always)]
fn bytes_down(a: u128, count: u8) -> u128 {
    if count > 15 { 0 } else { a >> (8 * u32::from(count)) }
}

/// Both operands' lanes made narrower by `f`, the first's below the second's.
#[inline(always)]
fn pack<T: Lanes<N>, U: Lanes<M>, const N: usize, const M: usize>(a: u128, b: u128, f: impl Fn(T) -> U) -> u128 {
    let (a, b) = (T::split(a), T::split(b));
    U::join(array::from_fn(|i| f(if i < N { a[i] } else { b[i - N] })))
}

/// Two MMX operands in one.
#[inline(always)]
fn both(a: u128, b: u128) -> u128 {
    a & LOW | b << 64
}

/// The lower halves' lanes, one of each in turn.
#[inline(always)]
fn interleave_low<T: Lanes<N>, const N: usize>(a: u128, b: u128) -> u128 {
    let (a, b) = (T::split(a), T::split(b));
    T::join(array::from_fn(|i| if i % 2 == 0 { a[i / 2] } else { b[i / 2] }))
}

/// The upper halves' lanes, one of each in turn.
#[inline(always)]
fn interleave_high<T: Lanes<N>, const N: usize>(a: u128, b: u128) -> u128 {
    let (a, b) = (T::split(a), T::split(b));
    T::join(array::from_fn(|i| if i % 2 == 0 { a[N / 2 + i / 2] } else { b[N / 2 + i / 2] }))
}

/// Two bits of the immediate: which lane goes to lane `i`.
#[inline(always)]
fn chosen(imm: u8, i: usize) -> usize {
    usize::from(imm >> (2 * (i & 3)) & 3)
}

#[inline(always)]
fn shuffle_words(b: u128, imm: u8, from: usize) -> u128 {
    let lanes = u16::split(b);
    u16::join(array::from_fn(|i| if i / 4 * 4 == from { lanes[from + chosen(imm, i)] } else { lanes[i] }))
}

/// An approximation of 1/x with 12 bits, with what the manual says of special operands (RCPPS).
fn reciprocal(x: f32) -> f32 {
    approximate(x, |x| if x.is_sign_negative() { f32::NEG_INFINITY } else { f32::INFINITY }, |x| 1.0 / x)
}

/// An approximation of 1/√x (RSQRTPS).
fn reciprocal_root(x: f32) -> f32 {
    if x < 0.0 && x.is_normal() || x == f32::NEG_INFINITY {
        return f32::from_bits(0xffc0_0000);
    }
    approximate(x, |x| if x.is_sign_negative() { f32::NEG_INFINITY } else { f32::INFINITY }, |x| 1.0 / x.sqrt())
}

/// `f(x)` to 12 bits; denormal operands count as zeros, and so do denormal results.
fn approximate(x: f32, of_zero: impl Fn(f32) -> f32, f: impl Fn(f64) -> f64) -> f32 {
    if x.is_nan() {
        return f32::from_bits(x.to_bits() | 0x0040_0000);
    }
    if x == 0.0 || x.is_subnormal() {
        return of_zero(x);
    }
    let result = f(f64::from(x)) as f32;
    if result.is_subnormal() {
        return f32::from_bits(result.to_bits() & 0x8000_0000);
    }
    if !result.is_normal() {
        return result;
    }
    // Rounded at the twelfth bit behind the point; a carry goes into the exponent, as it should.
    f32::from_bits((result.to_bits() + 0x400) & !0x7ff)
}

/// The lower half.
const LOW: u128 = u64::MAX as u128;
/// The lowest lane of single precision.
const SINGLE: u128 = u32::MAX as u128;

macro_rules! rows {
    (
        instructions { $($name:ident: |$a:pat_param, $b:pat_param, $imm:pat_param| $xmm:expr $(=> $mmx:expr)?;)* }
        others { $($(#[$doc:meta])* $other:ident: |$c:pat_param, $d:pat_param, $i:pat_param| $result:expr;)* }
    ) => {
        /// An operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "most are the instruction of that name")]
        pub enum VectorOp {
            $($name,)*
            $($(#[$doc])* $other,)*
        }

        impl VectorOp {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)* $(Self::$other,)*];

            /// The operation that is all of the instruction of this name.
            pub fn of(mnemonic: Mnemonic) -> Option<Self> {
                Some(match mnemonic {
                    $(Mnemonic::$name => Self::$name,)*
                    _ => return None,
                })
            }
        }

        /// A type for each operation.
        #[allow(missing_docs, reason = "each has the name of its operation")]
        pub mod kind {
            $(#[derive(Debug)] pub struct $name;)*
            $(#[derive(Debug)] pub struct $other;)*
        }

        $(
            impl Compute for kind::$name {
                #[inline(always)]
                fn xmm(a: u128, b: u128, imm: u8) -> u128 {
                    let ($a, $b, $imm) = (a, b, imm);
                    $xmm
                }
                $(
                    #[inline(always)]
                    fn mmx(a: u128, b: u128, imm: u8) -> u128 {
                        let ($a, $b, $imm) = (a, b, imm);
                        $mmx
                    }
                )?
            }
        )*
        $(
            impl Compute for kind::$other {
                #[inline(always)]
                fn xmm(a: u128, b: u128, imm: u8) -> u128 {
                    let ($c, $d, $i) = (a, b, imm);
                    $result
                }
            }
        )*

        /// Hands the names of all operations to a macro.
        macro_rules! each_vector_op {
            ($with:ident $arguments:tt) => {
                $with! { $arguments $($name)* $($other)* }
            };
        }
        pub(crate) use each_vector_op;
    };
}

#[rustfmt::skip]
rows! {
    instructions {
        Paddb:     |a, b, _| map(a, b, u8::wrapping_add);
        Paddw:     |a, b, _| map(a, b, u16::wrapping_add);
        Paddd:     |a, b, _| map(a, b, u32::wrapping_add);
        Paddq:     |a, b, _| map(a, b, u64::wrapping_add);
        Psubb:     |a, b, _| map(a, b, u8::wrapping_sub);
        Psubw:     |a, b, _| map(a, b, u16::wrapping_sub);
        Psubd:     |a, b, _| map(a, b, u32::wrapping_sub);
        Psubq:     |a, b, _| map(a, b, u64::wrapping_sub);
        Paddsb:    |a, b, _| map(a, b, i8::saturating_add);
        Paddsw:    |a, b, _| map(a, b, i16::saturating_add);
        Paddusb:   |a, b, _| map(a, b, u8::saturating_add);
        Paddusw:   |a, b, _| map(a, b, u16::saturating_add);
        Psubsb:    |a, b, _| map(a, b, i8::saturating_sub);
        Psubsw:    |a, b, _| map(a, b, i16::saturating_sub);
        Psubusb:   |a, b, _| map(a, b, u8::saturating_sub);
        Psubusw:   |a, b, _| map(a, b, u16::saturating_sub);
        Pmullw:    |a, b, _| map(a, b, i16::wrapping_mul);
        Pmulhw:    |a, b, _| map(a, b, |x: i16, y: i16| (i32::from(x) * i32::from(y) >> 16) as i16);
        Pmulhuw:   |a, b, _| map(a, b, |x: u16, y: u16| (u32::from(x) * u32::from(y) >> 16) as u16);
        Pmuludq:   |a, b, _| map(a, b, |x: u64, y: u64| (x & 0xffff_ffff) * (y & 0xffff_ffff));
        Pmaddwd:   |a, b, _| {
            let (a, b) = (i16::split(a), i16::split(b));
            let product = |i: usize| i32::from(a[i]) * i32::from(b[i]);
            i32::join(array::from_fn(|i| product(2 * i).wrapping_add(product(2 * i + 1))))
        };
        Psadbw:    |a, b, _| {
            let (a, b) = (u8::split(a), u8::split(b));
            u64::join(array::from_fn(|half| (8 * half..8 * half + 8).map(|i| u64::from(a[i].abs_diff(b[i]))).sum()))
        };
        Pavgb:     |a, b, _| map(a, b, |x: u8, y: u8| ((u16::from(x) + u16::from(y) + 1) >> 1) as u8);
        Pavgw:     |a, b, _| map(a, b, |x: u16, y: u16| ((u32::from(x) + u32::from(y) + 1) >> 1) as u16);
        Pmaxub:    |a, b, _| map(a, b, |x: u8, y: u8| x.max(y));
        Pminub:    |a, b, _| map(a, b, |x: u8, y: u8| x.min(y));
        Pmaxsw:    |a, b, _| map(a, b, |x: i16, y: i16| x.max(y));
        Pminsw:    |a, b, _| map(a, b, |x: i16, y: i16| x.min(y));
        Pcmpeqb:   |a, b, _| map(a, b, |x: u8, y: u8| if x == y { u8::MAX } else { 0 });
        Pcmpeqw:   |a, b, _| map(a, b, |x: u16, y: u16| if x == y { u16::MAX } else { 0 });
        Pcmpeqd:   |a, b, _| map(a, b, |x: u32, y: u32| if x == y { u32::MAX } else { 0 });
        Pcmpgtb:   |a, b, _| map(a, b, |x: i8, y: i8| if x > y { -1 } else { 0 });
        Pcmpgtw:   |a, b, _| map(a, b, |x: i16, y: i16| if x > y { -1 } else { 0 });
        Pcmpgtd:   |a, b, _| map(a, b, |x: i32, y: i32| if x > y { -1 } else { 0 });
        Pand:      |a, b, _| a & b;
        Pandn:     |a, b, _| !a & b;
        Por:       |a, b, _| a | b;
        Pxor:      |a, b, _| a ^ b;
        Psllw:     |a, b, _| shift(a, b, 16, |x: u16, n| x << n);
        Pslld:     |a, b, _| shift(a, b, 32, |x: u32, n| x << n);
        Psllq:     |a, b, _| shift(a, b, 64, |x: u64, n| x << n);
        Psrlw:     |a, b, _| shift(a, b, 16, |x: u16, n| x >> n);
        Psrld:     |a, b, _| shift(a, b, 32, |x: u32, n| x >> n);
        Psrlq:     |a, b, _| shift(a, b, 64, |x: u64, n| x >> n);
        Psraw:     |a, b, _| shift_signed(a, b, 16, |x: i16, n| x >> n);
        Psrad:     |a, b, _| shift_signed(a, b, 32, |x: i32, n| x >> n);
        Pslldq:    |a, _, n| bytes_up(a, n);
        Psrldq:    |a, _, n| bytes_down(a, n);
        Packsswb:  |a, b, _| pack(a, b, |x: i16| x.clamp(-128, 127) as i8)
                => pack(both(a, b), 0, |x: i16| x.clamp(-128, 127) as i8);
        Packssdw:  |a, b, _| pack(a, b, |x: i32| x.clamp(-32768, 32767) as i16)
                => pack(both(a, b), 0, |x: i32| x.clamp(-32768, 32767) as i16);
        Packuswb:  |a, b, _| pack(a, b, |x: i16| x.clamp(0, 255) as u8)
                => pack(both(a, b), 0, |x: i16| x.clamp(0, 255) as u8);
        Punpcklbw: |a, b, _| interleave_low::<u8, _>(a, b);
        Punpcklwd: |a, b, _| interleave_low::<u16, _>(a, b);
        Punpckldq: |a, b, _| interleave_low::<u32, _>(a, b);
        Punpcklqdq: |a, b, _| interleave_low::<u64, _>(a, b);
        Punpckhbw: |a, b, _| interleave_high::<u8, _>(a, b)  => interleave_low::<u8, _>(a, b) >> 64;
        Punpckhwd: |a, b, _| interleave_high::<u16, _>(a, b) => interleave_low::<u16, _>(a, b) >> 64;
        Punpckhdq: |a, b, _| interleave_high::<u32, _>(a, b) => interleave_low::<u32, _>(a, b) >> 64;
        Punpckhqdq: |a, b, _| interleave_high::<u64, _>(a, b);
        Pshufd:    |_, b, imm| {
            let lanes = u32::split(b);
            u32::join(array::from_fn(|i| lanes[chosen(imm, i)]))
        };
        Pshuflw:   |_, b, imm| shuffle_words(b, imm, 0);
        Pshufhw:   |_, b, imm| shuffle_words(b, imm, 4);
        Shufps:    |a, b, imm| {
            let (a, b) = (u32::split(a), u32::split(b));
            u32::join(array::from_fn(|i| if i < 2 { a[chosen(imm, i)] } else { b[chosen(imm, i)] }))
        };
        Shufpd:    |a, b, imm| u64::join([u64::split(a)[usize::from(imm & 1)], u64::split(b)[usize::from(imm >> 1 & 1)]]);
        Movhlps:   |a, b, _| a & !LOW | b >> 64;
        Movlhps:   |a, b, _| a & LOW | b << 64;
        Cvtdq2pd:  |_, b, _| {
            let lanes = i32::split(b);
            f64::join([f64::from(lanes[0]), f64::from(lanes[1])])
        };
        Rcpps:     |_, b, _| f32::join(f32::split(b).map(reciprocal));
        Rsqrtps:   |_, b, _| f32::join(f32::split(b).map(reciprocal_root));
        Rcpss:     |a, b, _| a & !SINGLE | u128::from(reciprocal(f32::split(b)[0]).to_bits());
        Rsqrtss:   |a, b, _| a & !SINGLE | u128::from(reciprocal_root(f32::split(b)[0]).to_bits());
    }
    others {
        /// The source.
        Move:      |_, b, _| b;
        /// The source's lowest 32 bits, and zeros.
        Low32:     |_, b, _| b & SINGLE;
        /// The source's lower half, and zeros.
        Low64:     |_, b, _| b & LOW;
        /// The lowest 32 bits from the source, the rest as it was.
        Merge32:   |a, b, _| a & !SINGLE | b & SINGLE;
        /// The lower half from the source, the rest as it was.
        Merge64:   |a, b, _| a & !LOW | b & LOW;
        /// A shift by the immediate, as those below.
        PsllwImm:  |a, _, n| shift(a, u128::from(n), 16, |x: u16, n| x << n);
        PslldImm:  |a, _, n| shift(a, u128::from(n), 32, |x: u32, n| x << n);
        PsllqImm:  |a, _, n| shift(a, u128::from(n), 64, |x: u64, n| x << n);
        PsrlwImm:  |a, _, n| shift(a, u128::from(n), 16, |x: u16, n| x >> n);
        PsrldImm:  |a, _, n| shift(a, u128::from(n), 32, |x: u32, n| x >> n);
        PsrlqImm:  |a, _, n| shift(a, u128::from(n), 64, |x: u64, n| x >> n);
        PsrawImm:  |a, _, n| shift_signed(a, u128::from(n), 16, |x: i16, n| x >> n);
        PsradImm:  |a, _, n| shift_signed(a, u128::from(n), 32, |x: i32, n| x >> n);
    }
}

/// What is made of a vector register for a general one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorGet {
    /// The lowest 32 bits.
    Low,
    /// The word that the immediate names.
    Word,
    /// The top bits of all bytes.
    ByteSigns,
    /// The top bits of four numbers of 32 bits.
    SingleSigns,
    /// The top bits of two numbers of 64 bits.
    DoubleSigns,
}

impl VectorGet {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Low, Self::Word, Self::ByteSigns, Self::SingleSigns, Self::DoubleSigns];

    /// The number; an MMX register's upper half is zero.
    #[inline(always)]
    pub fn of(self, value: u128, imm: u8, mmx: bool) -> u32 {
        match self {
            Self::Low => value as u32,
            Self::Word => u32::from(u16::split(value)[usize::from(imm & if mmx { 3 } else { 7 })]),
            Self::ByteSigns => signs(u8::split(value).map(|lane| lane >> 7 != 0)),
            Self::SingleSigns => signs(u32::split(value).map(|lane| lane >> 31 != 0)),
            Self::DoubleSigns => signs(u64::split(value).map(|lane| lane >> 63 != 0)),
        }
    }
}

/// Bits of a number, the first of which is the lowest.
#[inline(always)]
fn signs<const N: usize>(bits: [bool; N]) -> u32 {
    bits.into_iter().rev().fold(0, |number, bit| number << 1 | u32::from(bit))
}

/// Where a general register goes in a vector register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorSet {
    /// Into the lowest 32 bits; the rest becomes zero.
    Low,
    /// Into the word that the immediate names.
    Word,
}

impl VectorSet {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Low, Self::Word];

    /// The register afterwards.
    #[inline(always)]
    pub fn of(self, before: u128, number: u32, imm: u8, mmx: bool) -> u128 {
        match self {
            Self::Low => u128::from(number),
            Self::Word => {
                let at = 16 * u32::from(imm & if mmx { 3 } else { 7 });
                before & !(0xffff << at) | u128::from(number & 0xffff) << at
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_keep_their_order() {
        let a = 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100;
        let b = 0x1f1e_1d1c_1b1a_1918_1716_1514_1312_1110;
        assert_eq!(kind::Punpcklbw::xmm(a, b, 0), 0x1707_1606_1505_1404_1303_1202_1101_1000);
        assert_eq!(kind::Punpckhwd::xmm(a, b, 0), 0x1f1e_0f0e_1d1c_0d0c_1b1a_0b0a_1918_0908);
        assert_eq!(kind::Punpckhbw::mmx(a & LOW, b & LOW, 0) as u64, 0x1707_1606_1505_1404);
        assert_eq!(kind::Packuswb::mmx(0x0001_00ff_0100_8000, 0x0002_0003_0004_0005, 0) as u64, 0x0203_0405_01ff_ff00);
        assert_eq!(kind::Pshufd::xmm(0, a, 0b00_01_10_11), 0x0302_0100_0706_0504_0b0a_0908_0f0e_0d0c);
        assert_eq!(VectorGet::ByteSigns.of(0x80 | 0x8000_0000_0000_0000_0000_0000_0000_0000, 0, false), 0x8001);
        assert_eq!(VectorSet::Word.of(a, 0x1_abcd, 7, true) as u64, 0xabcd_0504_0302_0100);
    }

    #[test]
    fn approximations_are_as_good_as_promised() {
        for bits in (0x0080_0000_u32..0x7f80_0000).step_by(98_765) {
            let x = f32::from_bits(bits);
            let near = |got: f32, exact: f64| (f64::from(got) / exact - 1.0).abs() <= 1.5 / 4096.0;
            let exact = 1.0 / f64::from(x);
            let tiny = exact < f64::from(f32::MIN_POSITIVE);
            assert!(if tiny { reciprocal(x) == 0.0 } else { near(reciprocal(x), exact) }, "1/{x}");
            assert!(near(reciprocal_root(x), 1.0 / f64::from(x).sqrt()), "1/√{x}");
        }
        for (x, inverse, root) in [
            (0x0000_0000_u32, 0x7f80_0000_u32, 0x7f80_0000_u32),
            (0x8000_0000, 0xff80_0000, 0xff80_0000),
            (0x8000_0001, 0xff80_0000, 0xff80_0000),
            (0x7f80_0000, 0, 0),
            (0xff80_0000, 0x8000_0000, 0xffc0_0000),
            (0xbf80_0000, 0xbf80_0000, 0xffc0_0000),
            (0x7f80_0001, 0x7fc0_0001, 0x7fc0_0001),
        ] {
            assert_eq!(reciprocal(f32::from_bits(x)).to_bits(), inverse, "{x:#x}");
            assert_eq!(reciprocal_root(f32::from_bits(x)).to_bits(), root, "{x:#x}");
        }
    }
}
