use super::*;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// 64 bits that make one double or two singles, odd ones as often as not.
    fn operand(&mut self) -> u64 {
        let (any, choice) = (self.next(), self.next() >> 32);
        let exponents = |kept: u64, base: u64| any & !(0x7ff << 52) | (base + (any >> 53 & kept)) << 52;
        let single = |bits: u64| match bits >> 4 & 7 {
            0 => bits & 0x8000_0000 | 0x3f80_0000,
            1 => bits & 0x807f_ffff,
            2 => bits & 0x807f_ffff | 0x7f80_0000,
            3 => bits & 0x8000_0000 | (bits & 8) * 0x0ff0_0000,
            4 => bits & 0x81ff_ffff | 0x3f00_0000,
            5 => bits & 0x80ff_ffff | [0, 0x7e80_0000, 0x4e80_0000, 0x2000_0000][(bits & 3) as usize],
            _ => bits & 0xffff_ffff,
        };
        match choice & 15 {
            0 => any & (0x800f << 48 | 0xffff_ffff_ffff),
            1 => any & 1 << 63 | 0x7ff << 52 | any & 0xf_ffff_ffff_ffff,
            2 => any & 1 << 63 | (any & 2) * 0x3ff8_0000_0000_0000,
            3 => exponents(3, 0x7fc),
            4 => exponents(3, 0),
            5 => exponents(15, 0x3f8),
            6 => exponents(63, 0x360),
            7 => exponents(7, 0x47b),
            8 => exponents(3, 0x41d) & !0x1f_ffff,
            _ => single(any) | single(any >> 32) << 32,
        }
    }

    fn register(&mut self) -> u128 {
        u128::from(self.operand()) | u128::from(self.operand()) << 64
    }
}

/// Results and flags, computed here and by the host.
fn both(what: FloatOp, control: u32, a: u128, b: u128, imm: u8) -> [(u128, u32); 2] {
    fn with<C: Calculate>(control: u32, a: u128, b: u128, imm: u8) -> [(u128, u32); 2] {
        let mut env = Env::new(control);
        let result = C::soft(&mut env, a, b, imm);
        [(result, env.outcome().0), C::host_with(control, a, b, imm)]
    }
    macro_rules! choose {
        (($what:expr) $($name:ident)*) => {
            match $what {
                $(FloatOp::$name => with::<kind::$name>(control, a, b, imm),)*
            }
        };
    }
    each_float_op!(choose(what))
}

#[test]
fn the_host_and_whole_numbers_agree() {
    let rounds: u32 = std::env::var("HAKO_FLOAT_ROUNDS").map_or(60_000, |text| text.parse().unwrap());
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut compared = 0_u64;
    for what in FloatOp::ALL {
        for _ in 0..rounds {
            let control = mxcsr::RESET | random.next() as u32 & (mxcsr::DAZ | mxcsr::FTZ | 3 << mxcsr::RC_SHIFT);
            let (a, mut b, imm) = (random.register(), random.register(), random.next() as u8);
            // What stands above the numbers that count is zero.
            match what {
                FloatOp::Cvtsi2ss => b &= 0xffff_ffff,
                FloatOp::Cvtpi2ps => b &= u128::from(u64::MAX),
                _ => {}
            }
            let [soft, host] = both(*what, control, a, b, imm);
            assert_eq!(soft, host, "{what:?} {a:#034x}, {b:#034x}, {imm} with {control:#x}");
            compared += 1;
        }
    }
    eprintln!("{compared} operations compared");
}

#[test]
fn an_unmasked_exception_of_an_operand_hides_those_of_results() {
    // Lane 0 overflows, lane 1 is invalid.
    let a = u128::from(0x7fef_ffff_ffff_ffff_u64) | u128::from(0x7ff0_0000_0000_0001_u64) << 64;
    let run = |unmasked: u32| {
        let outcome = calculate::<kind::Addpd>(mxcsr::RESET & !(unmasked << mxcsr::MASK_SHIFT), a, a, 0);
        (outcome.flags, outcome.faults)
    };
    let (invalid, overflow, inexact) = (1, 8, 0x20);
    assert_eq!(run(0), (invalid | overflow | inexact, false));
    assert_eq!(run(invalid), (invalid, true));
    // Not masked, an overflow is inexact only where bits fall off.
    assert_eq!(run(overflow), (invalid | overflow, true));
}

#[test]
fn a_tiny_exact_result_is_an_underflow_only_where_that_is_not_masked() {
    let half = u128::from(0x3fe0_0000_0000_0000_u64);
    let least = u128::from(0x0010_0000_0000_0000_u64);
    let run = |control: u32| calculate::<kind::Mulsd>(control, least, half, 0);
    let masked = run(mxcsr::RESET);
    assert_eq!((masked.result, masked.flags, masked.faults), (0x0008_0000_0000_0000, 0, false));
    let underflow = 0x10;
    let unmasked = run(mxcsr::RESET & !(underflow << mxcsr::MASK_SHIFT));
    assert_eq!((unmasked.flags, unmasked.faults), (underflow, true));
    let flushed = run(mxcsr::RESET | mxcsr::FTZ);
    assert_eq!((flushed.result, flushed.flags), (0, underflow | 0x20));
}
