//! Operations on whole numbers and bits: one row an operation.

use std::array;

use iced_x86::Mnemonic;

use super::approximate::{reciprocal, reciprocal_root};
use super::cipher;
use super::lanes::{
    LOW, Lanes, SINGLE, align, blend, both, bytes_down, bytes_up, choose_bytes, chosen, interleave_high,
    interleave_low, map, pack, pairs, shift, shift_signed, shuffle_words, signs, widen,
};

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
        // SSE3.
        Movddup:   |_, b, _| b & LOW | b << 64;
        Movshdup:  |_, b, _| { let b = u32::split(b); u32::join([b[1], b[1], b[3], b[3]]) };
        Movsldup:  |_, b, _| { let b = u32::split(b); u32::join([b[0], b[0], b[2], b[2]]) };
        // SSSE3.
        Pshufb:    |a, b, _| choose_bytes(a, b, 15)                => choose_bytes(a, b, 7);
        Phaddw:    |a, b, _| pairs(a, b, i16::wrapping_add)        => pairs(both(a, b), 0, i16::wrapping_add);
        Phaddd:    |a, b, _| pairs(a, b, i32::wrapping_add)        => pairs(both(a, b), 0, i32::wrapping_add);
        Phaddsw:   |a, b, _| pairs(a, b, i16::saturating_add)      => pairs(both(a, b), 0, i16::saturating_add);
        Phsubw:    |a, b, _| pairs(a, b, i16::wrapping_sub)        => pairs(both(a, b), 0, i16::wrapping_sub);
        Phsubd:    |a, b, _| pairs(a, b, i32::wrapping_sub)        => pairs(both(a, b), 0, i32::wrapping_sub);
        Phsubsw:   |a, b, _| pairs(a, b, i16::saturating_sub)      => pairs(both(a, b), 0, i16::saturating_sub);
        Pmaddubsw: |a, b, _| {
            let (a, b) = (u8::split(a), i8::split(b));
            let product = |i: usize| i16::from(a[i]) * i16::from(b[i]);
            i16::join(array::from_fn(|i| product(2 * i).saturating_add(product(2 * i + 1))))
        };
        Pmulhrsw:  |a, b, _| map(a, b, |x: i16, y: i16| ((i32::from(x) * i32::from(y) >> 14) + 1 >> 1) as i16);
        Psignb:    |a, b, _| map(a, b, |x: i8, y: i8| x.wrapping_mul(y.signum()));
        Psignw:    |a, b, _| map(a, b, |x: i16, y: i16| x.wrapping_mul(y.signum()));
        Psignd:    |a, b, _| map(a, b, |x: i32, y: i32| x.wrapping_mul(y.signum()));
        Pabsb:     |_, b, _| map(0, b, |_, y: i8| y.wrapping_abs());
        Pabsw:     |_, b, _| map(0, b, |_, y: i16| y.wrapping_abs());
        Pabsd:     |_, b, _| map(0, b, |_, y: i32| y.wrapping_abs());
        Palignr:   |a, b, n| align(a, b, n)                        => bytes_down(both(b, a), n);
        // SSE4.1.
        Blendps:   |a, b, n| blend::<u32, _>(a, b, n);
        Blendpd:   |a, b, n| blend::<u64, _>(a, b, n);
        Pblendw:   |a, b, n| blend::<u16, _>(a, b, n);
        Pmovsxbw:  |_, b, _| widen(b, |x: i8| i16::from(x));
        Pmovsxbd:  |_, b, _| widen(b, |x: i8| i32::from(x));
        Pmovsxbq:  |_, b, _| widen(b, |x: i8| i64::from(x));
        Pmovsxwd:  |_, b, _| widen(b, |x: i16| i32::from(x));
        Pmovsxwq:  |_, b, _| widen(b, |x: i16| i64::from(x));
        Pmovsxdq:  |_, b, _| widen(b, |x: i32| i64::from(x));
        Pmovzxbw:  |_, b, _| widen(b, |x: u8| u16::from(x));
        Pmovzxbd:  |_, b, _| widen(b, |x: u8| u32::from(x));
        Pmovzxbq:  |_, b, _| widen(b, |x: u8| u64::from(x));
        Pmovzxwd:  |_, b, _| widen(b, |x: u16| u32::from(x));
        Pmovzxwq:  |_, b, _| widen(b, |x: u16| u64::from(x));
        Pmovzxdq:  |_, b, _| widen(b, |x: u32| u64::from(x));
        Pmulld:    |a, b, _| map(a, b, i32::wrapping_mul);
        Pmuldq:    |a, b, _| map(a, b, |x: i64, y: i64| i64::from(x as i32) * i64::from(y as i32));
        Pminsb:    |a, b, _| map(a, b, |x: i8, y: i8| x.min(y));
        Pminsd:    |a, b, _| map(a, b, |x: i32, y: i32| x.min(y));
        Pminuw:    |a, b, _| map(a, b, |x: u16, y: u16| x.min(y));
        Pminud:    |a, b, _| map(a, b, |x: u32, y: u32| x.min(y));
        Pmaxsb:    |a, b, _| map(a, b, |x: i8, y: i8| x.max(y));
        Pmaxsd:    |a, b, _| map(a, b, |x: i32, y: i32| x.max(y));
        Pmaxuw:    |a, b, _| map(a, b, |x: u16, y: u16| x.max(y));
        Pmaxud:    |a, b, _| map(a, b, |x: u32, y: u32| x.max(y));
        Packusdw:  |a, b, _| pack(a, b, |x: i32| x.clamp(0, 65535) as u16);
        Pcmpeqq:   |a, b, _| map(a, b, |x: u64, y: u64| if x == y { u64::MAX } else { 0 });
        Phminposuw: |_, b, _| {
            let lanes = u16::split(b);
            let (place, least) = (0_u32..).zip(lanes).min_by_key(|&(_, lane)| lane).unwrap_or((0, 0));
            u128::from(least) | u128::from(place) << 16
        };
        Mpsadbw:   |a, b, n| {
            let (a, b) = (u8::split(a), u8::split(b));
            let (from, block) = (usize::from(n >> 2 & 1) * 4, usize::from(n & 3) * 4);
            let difference = |i: usize, k: usize| u16::from(a[from + i + k].abs_diff(b[block + k]));
            u16::join(array::from_fn(|i| (0..4).map(|k| difference(i, k)).sum()))
        };
        Insertps:  |a, b, n| {
            let (mut lanes, b) = (u32::split(a), u32::split(b));
            lanes[usize::from(n >> 4 & 3)] = b[usize::from(n >> 6)];
            u32::join(array::from_fn(|i| if n >> i & 1 == 0 { lanes[i] } else { 0 }))
        };
        // SSE4.2.
        Pcmpgtq:   |a, b, _| map(a, b, |x: i64, y: i64| if x > y { -1 } else { 0 });
        // AES, SHA and carry-less products.
        Aesenc:          |a, b, _| cipher::aesenc(a, b);
        Aesenclast:      |a, b, _| cipher::aesenclast(a, b);
        Aesdec:          |a, b, _| cipher::aesdec(a, b);
        Aesdeclast:      |a, b, _| cipher::aesdeclast(a, b);
        Aesimc:          |_, b, _| cipher::aesimc(b);
        Aeskeygenassist: |_, b, n| cipher::aeskeygenassist(b, n);
        Pclmulqdq:       |a, b, n| cipher::pclmulqdq(a, b, n);
        Sha1nexte:       |a, b, _| cipher::sha1nexte(a, b);
        Sha1msg1:        |a, b, _| cipher::sha1msg1(a, b);
        Sha1msg2:        |a, b, _| cipher::sha1msg2(a, b);
        Sha1rnds4:       |a, b, n| cipher::sha1rnds4(a, b, n);
        Sha256msg1:      |a, b, _| cipher::sha256msg1(a, b);
        Sha256msg2:      |a, b, _| cipher::sha256msg2(a, b);
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
    /// The byte that the immediate names.
    Byte,
    /// The 32 bits that the immediate names.
    Dword,
    /// The top bits of all bytes.
    ByteSigns,
    /// The top bits of four numbers of 32 bits.
    SingleSigns,
    /// The top bits of two numbers of 64 bits.
    DoubleSigns,
}

impl VectorGet {
    /// All of them.
    pub const ALL: &[Self] =
        &[Self::Low, Self::Word, Self::Byte, Self::Dword, Self::ByteSigns, Self::SingleSigns, Self::DoubleSigns];

    /// The number; an MMX register's upper half is zero.
    #[inline(always)]
    pub fn of(self, value: u128, imm: u8, mmx: bool) -> u32 {
        match self {
            Self::Low => value as u32,
            Self::Word => u32::from(u16::split(value)[usize::from(imm & if mmx { 3 } else { 7 })]),
            Self::Byte => u32::from(u8::split(value)[usize::from(imm & 15)]),
            Self::Dword => u32::split(value)[usize::from(imm & 3)],
            Self::ByteSigns => signs(u8::split(value).map(|lane| lane >> 7 != 0)),
            Self::SingleSigns => signs(u32::split(value).map(|lane| lane >> 31 != 0)),
            Self::DoubleSigns => signs(u64::split(value).map(|lane| lane >> 63 != 0)),
        }
    }
}

/// Where a general register goes in a vector register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorSet {
    /// Into the lowest 32 bits; the rest becomes zero.
    Low,
    /// Into the word that the immediate names.
    Word,
    /// Into the byte that the immediate names.
    Byte,
    /// Into the 32 bits that the immediate names.
    Dword,
}

impl VectorSet {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Low, Self::Word, Self::Byte, Self::Dword];

    /// The register afterwards.
    #[inline(always)]
    pub fn of(self, before: u128, number: u32, imm: u8, mmx: bool) -> u128 {
        match self {
            Self::Low => u128::from(number),
            Self::Word => {
                let at = 16 * u32::from(imm & if mmx { 3 } else { 7 });
                before & !(0xffff << at) | u128::from(number & 0xffff) << at
            }
            Self::Byte => {
                let at = 8 * u32::from(imm & 15);
                before & !(0xff << at) | u128::from(number & 0xff) << at
            }
            Self::Dword => {
                let at = 32 * u32::from(imm & 3);
                before & !(SINGLE << at) | u128::from(number) << at
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
}
