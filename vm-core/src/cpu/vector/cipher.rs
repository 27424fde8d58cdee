//! AES, SHA and carry-less products (Intel SDM vol. 2: AESENC and its like, SHA1RNDS4 and its like, PCLMULQDQ).
//!
//! Each is computed here with whole numbers, as FIPS 197 and FIPS 180-4 have it; [`host`] computes it where the host has the instruction.

use std::array;

use super::lanes::Lanes;

/// Multiplies by x in the field of AES.
const fn twice(x: u8) -> u8 {
    x << 1 ^ if x & 0x80 == 0 { 0 } else { 0x1b }
}

/// A product in the field of AES.
const fn product(mut x: u8, mut y: u8) -> u8 {
    let mut sum = 0;
    while y != 0 {
        if y & 1 != 0 {
            sum ^= x;
        }
        x = twice(x);
        y >>= 1;
    }
    sum
}

/// `SubBytes` (FIPS 197, 5.1.1) and its inverse.
const BOXES: [[u8; 256]; 2] = {
    let mut boxes = [[0; 256]; 2];
    let mut x = 0;
    while x < 256 {
        // The inverse is the 254th power.
        let (mut inverse, mut power, mut n) = (1, x as u8, 254);
        while n > 0 {
            if n & 1 != 0 {
                inverse = product(inverse, power);
            }
            power = product(power, power);
            n >>= 1;
        }
        let i: u8 = inverse;
        let y = i ^ i.rotate_left(1) ^ i.rotate_left(2) ^ i.rotate_left(3) ^ i.rotate_left(4) ^ 0x63;
        boxes[0][x] = y;
        boxes[1][y as usize] = x as u8;
        x += 1;
    }
    boxes
};

/// The bytes of a state whose rows are shifted, to the left or back.
fn shift_rows(state: u128, back: bool) -> [u8; 16] {
    let bytes = state.to_le_bytes();
    array::from_fn(|at| {
        let (row, column) = (at & 3, at >> 2);
        let from = if back { column + 4 - row } else { column + row };
        bytes[row + 4 * (from & 3)]
    })
}

fn substitute(bytes: [u8; 16], back: bool) -> [u8; 16] {
    bytes.map(|byte| BOXES[usize::from(back)][usize::from(byte)])
}

/// Each column times a polynomial with these coefficients.
fn mix_columns(bytes: [u8; 16], by: [u8; 4]) -> u128 {
    u128::from_le_bytes(array::from_fn(|at| {
        let (row, column) = (at & 3, at & !3);
        (0..4).fold(0, |sum, n| sum ^ product(bytes[column + n], by[(n + 4 - row) & 3]))
    }))
}

/// `MixColumns`, and its inverse.
const MIX: [[u8; 4]; 2] = [[2, 3, 1, 1], [14, 11, 13, 9]];

/// One round of AES: to or from cipher text, the last one or not.
fn round(state: u128, key: u128, back: bool, last: bool) -> u128 {
    let bytes = substitute(shift_rows(state, back), back);
    let mixed = if last { u128::from_le_bytes(bytes) } else { mix_columns(bytes, MIX[usize::from(back)]) };
    mixed ^ key
}

/// AESENC.
pub fn aesenc(state: u128, key: u128) -> u128 {
    host::aesenc(state, key).unwrap_or_else(|| round(state, key, false, false))
}

/// AESENCLAST.
pub fn aesenclast(state: u128, key: u128) -> u128 {
    host::aesenclast(state, key).unwrap_or_else(|| round(state, key, false, true))
}

/// AESDEC.
pub fn aesdec(state: u128, key: u128) -> u128 {
    host::aesdec(state, key).unwrap_or_else(|| round(state, key, true, false))
}

/// AESDECLAST.
pub fn aesdeclast(state: u128, key: u128) -> u128 {
    host::aesdeclast(state, key).unwrap_or_else(|| round(state, key, true, true))
}

/// AESIMC.
pub fn aesimc(key: u128) -> u128 {
    mix_columns(key.to_le_bytes(), MIX[1])
}

/// AESKEYGENASSIST.
pub fn aeskeygenassist(source: u128, constant: u8) -> u128 {
    let words =
        u32::split(source).map(|word| u32::from_le_bytes(word.to_le_bytes().map(|byte| BOXES[0][usize::from(byte)])));
    let turned = |word: u32| word.rotate_right(8) ^ u32::from(constant);
    u32::join([words[1], turned(words[1]), words[3], turned(words[3])])
}

/// PCLMULQDQ.
pub fn pclmulqdq(a: u128, b: u128, choice: u8) -> u128 {
    let half = |of: u128, bit: u8| of >> (64 * (choice >> bit & 1)) & u128::from(u64::MAX);
    let (a, b) = (half(a, 0), half(b, 4));
    (0..64).filter(|n| b >> n & 1 != 0).fold(0, |sum, n| sum ^ a << n)
}

/// SHA1NEXTE.
pub fn sha1nexte(a: u128, b: u128) -> u128 {
    let (a, mut words) = (u32::split(a), u32::split(b));
    words[3] = words[3].wrapping_add(a[3].rotate_left(30));
    u32::join(words)
}

/// SHA1MSG1.
pub fn sha1msg1(a: u128, b: u128) -> u128 {
    let (x, y) = (u32::split(a), u32::split(b));
    u32::join([y[2] ^ x[0], y[3] ^ x[1], x[0] ^ x[2], x[1] ^ x[3]])
}

/// SHA1MSG2.
pub fn sha1msg2(a: u128, b: u128) -> u128 {
    let (x, y) = (u32::split(a), u32::split(b));
    let first = (x[3] ^ y[2]).rotate_left(1);
    u32::join([(x[0] ^ first).rotate_left(1), (x[1] ^ y[0]).rotate_left(1), (x[2] ^ y[1]).rotate_left(1), first])
}

/// SHA1RNDS4.
pub fn sha1rnds4(state: u128, words: u128, which: u8) -> u128 {
    let [mut d, mut c, mut b, mut a] = u32::split(state);
    let mut e = 0_u32;
    for word in u32::split(words).into_iter().rev() {
        let (mixed, constant) = match which & 3 {
            0 => (b & c ^ !b & d, 0x5a82_7999),
            1 => (b ^ c ^ d, 0x6ed9_eba1),
            2 => (b & c ^ b & d ^ c & d, 0x8f1b_bcdc),
            _ => (b ^ c ^ d, 0xca62_c1d6_u32),
        };
        let next = a.rotate_left(5).wrapping_add(mixed).wrapping_add(e).wrapping_add(word).wrapping_add(constant);
        (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
    }
    u32::join([d, c, b, a])
}

/// SHA256MSG1.
pub fn sha256msg1(a: u128, b: u128) -> u128 {
    let (x, y) = (u32::split(a), u32::split(b));
    let sigma = |word: u32| word.rotate_right(7) ^ word.rotate_right(18) ^ word >> 3;
    u32::join(array::from_fn(|n| x[n].wrapping_add(sigma(if n == 3 { y[0] } else { x[n + 1] }))))
}

/// SHA256MSG2.
pub fn sha256msg2(a: u128, b: u128) -> u128 {
    let (mut x, y) = (u32::split(a), u32::split(b));
    let sigma = |word: u32| word.rotate_right(17) ^ word.rotate_right(19) ^ word >> 10;
    for n in 0..4 {
        x[n] = x[n].wrapping_add(sigma(if n < 2 { y[n + 2] } else { x[n - 2] }));
    }
    u32::join(x)
}

/// SHA256RNDS2; `words` are those of XMM0.
pub fn sha256rnds2(state: u128, other: u128, words: u128) -> u128 {
    if let Some(there) = host::sha256rnds2(state, other, words) {
        return there;
    }
    let [mut h, mut g, mut d, mut c] = u32::split(state);
    let [mut f, mut e, mut b, mut a] = u32::split(other);
    for word in &u32::split(words)[..2] {
        let choice = e & f ^ !e & g;
        let sigma = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let first = h.wrapping_add(choice).wrapping_add(sigma).wrapping_add(*word);
        let majority = a & b ^ a & c ^ b & c;
        let sigma = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let next = first.wrapping_add(majority).wrapping_add(sigma);
        (a, b, c, d, e, f, g, h) = (next, a, b, c, d.wrapping_add(first), e, f, g);
    }
    u32::join([f, e, b, a])
}

/// The host's own instructions; `None` where it has them not.
#[cfg(target_arch = "x86_64")]
mod host {
    use std::arch::x86_64::{
        __m128i, _mm_aesdec_si128, _mm_aesdeclast_si128, _mm_aesenc_si128, _mm_aesenclast_si128, _mm_sha256rnds2_epu32,
    };

    fn vector(bits: u128) -> __m128i {
        // SAFETY: both are 16 bytes, of which any will do.
        unsafe { std::mem::transmute(bits) }
    }

    fn bits(vector: __m128i) -> u128 {
        // SAFETY: as above.
        unsafe { std::mem::transmute(vector) }
    }

    macro_rules! own {
        ($($name:ident: $feature:tt, $instruction:ident($($argument:ident),*);)*) => {$(
            #[inline]
            pub fn $name($($argument: u128),*) -> Option<u128> {
                #[target_feature(enable = $feature)]
                fn there($($argument: __m128i),*) -> __m128i {
                    $instruction($($argument),*)
                }
                // SAFETY: the host has the instruction where it says so.
                std::is_x86_feature_detected!($feature).then(|| bits(unsafe { there($(vector($argument)),*) }))
            }
        )*};
    }

    own! {
        aesenc: "aes", _mm_aesenc_si128(state, key);
        aesenclast: "aes", _mm_aesenclast_si128(state, key);
        aesdec: "aes", _mm_aesdec_si128(state, key);
        aesdeclast: "aes", _mm_aesdeclast_si128(state, key);
        sha256rnds2: "sha", _mm_sha256rnds2_epu32(state, other, words);
    }
}

/// The host has none of these.
#[cfg(not(target_arch = "x86_64"))]
mod host {
    pub fn aesenc(_: u128, _: u128) -> Option<u128> {
        None
    }
    pub use self::aesenc as aesenclast;
    pub use self::aesenc as aesdec;
    pub use self::aesenc as aesdeclast;
    pub fn sha256rnds2(_: u128, _: u128, _: u128) -> Option<u128> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 197, appendix B: the first round.
    #[test]
    fn a_round_of_aes_is_that_of_the_standard() {
        let bytes = |text: &str| {
            let number = u128::from_str_radix(text, 16).unwrap();
            u128::from_le_bytes(number.to_be_bytes())
        };
        let state = bytes("193de3bea0f4e22b9ac68d2ae9f84808");
        let key = bytes("a0fafe1788542cb123a339392a6c7605");
        let after = bytes("a49c7ff2689f352b6b5bea43026a5049");
        assert_eq!(round(state, key, false, false), after);
        assert_eq!(aesenc(state, key), after);
        // The inverse cipher in its straight order undoes a round with the key mixed.
        assert_eq!(round(aesimc(after ^ key), 0, true, true), state);
        // The first step of the key's expansion: RotWord, SubWord and the constant.
        let expanded = aeskeygenassist(bytes("2b7e151628aed2a6abf7158809cf4f3c"), 1);
        assert_eq!(u32::split(expanded)[3], 0x01eb_848b, "{expanded:x}");
    }

    #[test]
    fn the_host_computes_the_same() {
        let mut x = 0x0123_4567_89ab_cdef_0f1e_2d3c_4b5a_6978_u128;
        for _ in 0..10_000 {
            x = x.wrapping_mul(0xda94_2042_e4dd_58b5_94d0_49bb_1331_11eb).wrapping_add(1);
            let (a, b, c) = (x, x.rotate_left(39), x.rotate_left(77));
            for (here, there) in [
                (round(a, b, false, false), aesenc(a, b)),
                (round(a, b, false, true), aesenclast(a, b)),
                (round(a, b, true, false), aesdec(a, b)),
                (round(a, b, true, true), aesdeclast(a, b)),
            ] {
                assert_eq!(here, there);
            }
            let _ = sha256rnds2(a, b, c);
        }
    }

    /// FIPS 180-4 of the message "abc", by these alone.
    #[test]
    fn sha_1_and_sha_256_of_abc_are_those_of_the_standard() {
        let mut block = [0_u32; 16];
        (block[0], block[15]) = (0x6162_6380, 24);
        // Words go from the highest lane down in SHA-1, and up in SHA-256.
        let down = |words: &[u32]| u32::join([words[3], words[2], words[1], words[0]]);
        let up = |words: &[u32]| u32::join([words[0], words[1], words[2], words[3]]);
        let start = [0x6745_2301_u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
        let (mut state, mut e) = (down(&start), u128::from(0xc3d2_e1f0_u32) << 96);
        let mut words: Vec<u128> = block.chunks(4).map(down).collect();
        for n in 0..20 {
            if n >= 4 {
                let next = sha1msg1(words[n - 4], words[n - 3]) ^ words[n - 2];
                words.push(sha1msg2(next, words[n - 1]));
            }
            // The first E is added plainly; the others are what A was four rounds before, turned.
            let with_e = if n == 0 {
                let mut lanes = u32::split(words[0]);
                lanes[3] = lanes[3].wrapping_add((e >> 96) as u32);
                u32::join(lanes)
            } else {
                sha1nexte(e, words[n])
            };
            e = state;
            state = sha1rnds4(state, with_e, (n / 5) as u8);
        }
        let end = sha1nexte(e, u128::from(0xc3d2_e1f0_u32) << 96) >> 96;
        let [d, c, b, a] = u32::split(state);
        let sum: Vec<u32> = [a, b, c, d].iter().zip(start).map(|(x, y)| x.wrapping_add(y)).collect();
        assert_eq!(sum, [0xa999_3e36, 0x4706_816a, 0xba3e_2571, 0x7850_c26c]);
        assert_eq!(end, 0x9cd0_d89d);

        // SHA-256's message schedule is checked by its last word, two rounds by the standard's first.
        let mut words: Vec<u128> = block.chunks(4).map(up).collect();
        for n in 4..16 {
            let first = sha256msg1(words[n - 4], words[n - 3]);
            let (low, high) = (u32::split(words[n - 2]), u32::split(words[n - 1]));
            let w9 = u32::join([low[1], low[2], low[3], high[0]]);
            let sum: [u32; 4] = array::from_fn(|i| u32::split(first)[i].wrapping_add(u32::split(w9)[i]));
            words.push(sha256msg2(u32::join(sum), words[n - 1]));
        }
        assert_eq!(u32::split(words[4])[0], 0x6162_6380);
        assert_eq!(u32::split(words[15])[3], 0x12b1_edeb);
        let one = u32::join([0x5be0_cd19, 0x1f83_d9ab, 0xa54f_f53a, 0x3c6e_f372]);
        let other = u32::join([0x9b05_688c, 0x510e_527f, 0xbb67_ae85, 0x6a09_e667]);
        let constants = u32::join([0x6162_6380_u32.wrapping_add(0x428a_2f98), 0x7137_4491, 0, 0]);
        let [f, e, b, a] = u32::split(sha256rnds2(one, other, constants));
        assert_eq!([a, b, e, f], [0x5a6a_d9ad, 0x5d6a_ebcd, 0x78ce_7989, 0xfa2a_4622]);
    }

    #[test]
    fn products_without_carries() {
        assert_eq!(pclmulqdq(3, 3, 0), 5);
        assert_eq!(pclmulqdq(3 << 64, 7, 1), 9);
        assert_eq!(pclmulqdq(u128::MAX, 1 << 127, 0x11), u128::from(u64::MAX) << 63);
    }
}
