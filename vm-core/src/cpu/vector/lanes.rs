//! A register's lanes, and what operations do with them.

use std::array;

/// Numbers that lie side by side in 128 bits, the lowest first.
pub trait Lanes<const N: usize>: Copy {
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

lanes! { i8, 16; u16, 8; i16, 8; u32, 4; i32, 4; u64, 2; i64, 2; f32, 4; f64, 2; }

const _: () = assert!(cfg!(target_endian = "little"), "the lowest lane is the first in memory");

/// `f` of each pair of lanes.
#[inline(always)]
pub fn map<T: Lanes<N>, const N: usize>(a: u128, b: u128, f: impl Fn(T, T) -> T) -> u128 {
    let (a, b) = (T::split(a), T::split(b));
    T::join(array::from_fn(|i| f(a[i], b[i])))
}

/// Every lane shifted by the low 64 bits of `count`; `bits` and more leave zero.
#[inline(always)]
pub fn shift<T: Lanes<N>, const N: usize>(a: u128, count: u128, bits: u64, f: impl Fn(T, u32) -> T) -> u128 {
    let count = count as u64;
    if count >= bits {
        return 0;
    }
    T::join(T::split(a).map(|lane| f(lane, count as u32)))
}

/// The same to the right with copies of the sign.
#[inline(always)]
pub fn shift_signed<T: Lanes<N>, const N: usize>(a: u128, count: u128, bits: u64, f: impl Fn(T, u32) -> T) -> u128 {
    let count = (count as u64).min(bits - 1) as u32;
    T::join(T::split(a).map(|lane| f(lane, count)))
}

/// Bytes up (left).
#[inline(always)]
pub fn bytes_up(a: u128, count: u8) -> u128 {
    if count > 15 { 0 } else { a << (8 * u32::from(count)) }
}

/// Bytes down (right).
#[inline(always)]
pub fn bytes_down(a: u128, count: u8) -> u128 {
    if count > 15 { 0 } else { a >> (8 * u32::from(count)) }
}

/// Both operands' lanes made narrower by `f`, the first's below the second's.
#[inline(always)]
pub fn pack<T: Lanes<N>, U: Lanes<M>, const N: usize, const M: usize>(a: u128, b: u128, f: impl Fn(T) -> U) -> u128 {
    let (a, b) = (T::split(a), T::split(b));
    U::join(array::from_fn(|i| f(if i < N { a[i] } else { b[i - N] })))
}

/// Two MMX operands in one.
#[inline(always)]
pub fn both(a: u128, b: u128) -> u128 {
    a & LOW | b << 64
}

/// The lower halves' lanes, one of each in turn.
#[inline(always)]
pub fn interleave_low<T: Lanes<N>, const N: usize>(a: u128, b: u128) -> u128 {
    let (a, b) = (T::split(a), T::split(b));
    T::join(array::from_fn(|i| if i % 2 == 0 { a[i / 2] } else { b[i / 2] }))
}

/// The upper halves' lanes, one of each in turn.
#[inline(always)]
pub fn interleave_high<T: Lanes<N>, const N: usize>(a: u128, b: u128) -> u128 {
    let (a, b) = (T::split(a), T::split(b));
    T::join(array::from_fn(|i| if i % 2 == 0 { a[N / 2 + i / 2] } else { b[N / 2 + i / 2] }))
}

/// Two bits of the immediate: which lane goes to lane `i`.
#[inline(always)]
pub fn chosen(imm: u8, i: usize) -> usize {
    usize::from(imm >> (2 * (i & 3)) & 3)
}

#[inline(always)]
pub fn shuffle_words(b: u128, imm: u8, from: usize) -> u128 {
    let lanes = u16::split(b);
    u16::join(array::from_fn(|i| if i / 4 * 4 == from { lanes[from + chosen(imm, i)] } else { lanes[i] }))
}

/// Neighbours combined: those of the first operand below those of the second.
#[inline(always)]
pub fn pairs<T: Lanes<N>, const N: usize>(a: u128, b: u128, f: impl Fn(T, T) -> T) -> u128 {
    let (a, b) = (T::split(a), T::split(b));
    T::join(array::from_fn(|i| {
        let (from, at) = if i < N / 2 { (&a, 2 * i) } else { (&b, 2 * i - N) };
        f(from[at], from[at + 1])
    }))
}

/// The lowest lanes made wider by `f`.
#[inline(always)]
pub fn widen<T: Lanes<N>, U: Lanes<M>, const N: usize, const M: usize>(b: u128, f: impl Fn(T) -> U) -> u128 {
    let lanes = T::split(b);
    U::join(array::from_fn(|i| f(lanes[i])))
}

/// Lanes of the second operand where the immediate has a bit, else of the first.
#[inline(always)]
pub fn blend<T: Lanes<N>, const N: usize>(a: u128, b: u128, imm: u8) -> u128 {
    let (a, b) = (T::split(a), T::split(b));
    T::join(array::from_fn(|i| if imm >> i & 1 == 0 { a[i] } else { b[i] }))
}

/// Bytes of the first operand by the numbers in the second; zero where a number's top bit is set.
#[inline(always)]
pub fn choose_bytes(a: u128, b: u128, mask: u8) -> u128 {
    let a = u8::split(a);
    map(0, b, |_, number: u8| if number >> 7 == 0 { a[usize::from(number & mask)] } else { 0 })
}

/// 16 bytes of both operands, the first above the second, `count` bytes up.
#[inline(always)]
pub fn align(a: u128, b: u128, count: u8) -> u128 {
    if count < 16 { bytes_down(b, count) | bytes_up(a, 16 - count) } else { bytes_down(a, count - 16) }
}

/// The lower half.
pub const LOW: u128 = u64::MAX as u128;
/// The lowest lane of single precision.
pub const SINGLE: u128 = u32::MAX as u128;

/// Bits of a number, the first of which is the lowest.
#[inline(always)]
pub fn signs<const N: usize>(bits: [bool; N]) -> u32 {
    bits.into_iter().rev().fold(0, |number, bit| number << 1 | u32::from(bit))
}
