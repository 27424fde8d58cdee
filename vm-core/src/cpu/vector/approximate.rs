//! RCPPS and RSQRTPS: rounded to 12 bits, well within the bound of 1.5 × 2^-12 that the manual gives (Intel SDM vol. 2B).
//! The tables of real processors differ from each other; this is the same everywhere.

/// An approximation of 1/x with 12 bits, with what the manual says of special operands (RCPPS).
pub fn reciprocal(x: f32) -> f32 {
    approximate(x, |x| if x.is_sign_negative() { f32::NEG_INFINITY } else { f32::INFINITY }, |x| 1.0 / x)
}

/// An approximation of 1/√x (RSQRTPS).
pub fn reciprocal_root(x: f32) -> f32 {
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

#[cfg(test)]
mod tests {
    use super::*;

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
