//! Operations on single and double precision numbers: one row an operation.
//!
//! A row has what the operation computes ([`soft`](super::soft)) and the host's instructions for the same, where the
//! host is an x86-64. A conversion to a general or MMX register leaves its result in the low lanes of a vector register.

use std::cmp::Ordering;

use iced_x86::Mnemonic;

use super::mxcsr;
use super::soft::{
    Double, Env, Single, UE, add, alternating, compare, convert, converted, divide, dot, from_integer, maximum,
    minimum, multiply, order, packed, plain_order, round_to_whole, scalar, square_root, subtract, to_integer,
};
use crate::cpu::flags::{CF, PF, ZF};

/// One operation.
pub trait Calculate {
    /// Whether the host has instructions for it.
    const HOST: bool;

    /// The result from destination, source and immediate byte; what it raised is in `env`.
    fn soft(env: &mut Env, a: u128, b: u128, imm: u8) -> u128;

    /// The same by the host, whose own MXCSR (after reset) gathers the exceptions.
    fn host(a: u128, b: u128, imm: u8) -> u128;

    /// The same by the host with another MXCSR of which all exceptions are masked; the flags that are set afterwards.
    fn host_with(control: u32, a: u128, b: u128, imm: u8) -> (u128, u32);
}

/// What an operation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The destination.
    pub result: u128,
    /// Flags that MXCSR gets.
    pub flags: u32,
    /// One of them is not masked: the destination stays as it was, and the instruction faults.
    pub faults: bool,
}

/// One operation with any MXCSR.
pub fn calculate<C: Calculate>(control: u32, a: u128, b: u128, imm: u8) -> Outcome {
    let masks = (control & mxcsr::MASKS) >> mxcsr::MASK_SHIFT;
    if C::HOST && masks & UE != 0 {
        // Masked, an exception has the same flags and the same results whether the others are masked or not.
        let (result, flags) = C::host_with(control & !mxcsr::FLAGS | mxcsr::MASKS, a, b, imm);
        if flags & !masks == 0 {
            return Outcome { result, flags, faults: false };
        }
    }
    let mut env = Env::new(control);
    let result = C::soft(&mut env, a, b, imm);
    let (flags, faults) = env.outcome();
    Outcome { result, flags, faults }
}

/// A look at two registers that leaves its answer in EFLAGS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the instruction of that name")]
pub enum VectorTest {
    Comiss,
    Ucomiss,
    Comisd,
    Ucomisd,
    Ptest,
}

impl VectorTest {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Comiss, Self::Ucomiss, Self::Comisd, Self::Ucomisd, Self::Ptest];

    /// The test of the instruction of this name.
    pub fn of(mnemonic: Mnemonic) -> Option<Self> {
        Some(match mnemonic {
            Mnemonic::Comiss => Self::Comiss,
            Mnemonic::Ucomiss => Self::Ucomiss,
            Mnemonic::Comisd => Self::Comisd,
            Mnemonic::Ucomisd => Self::Ucomisd,
            Mnemonic::Ptest => Self::Ptest,
            _ => return None,
        })
    }

    /// The arithmetic flags, where nothing can be raised, whatever MXCSR says.
    #[inline(always)]
    pub fn plain(self, a: u128, b: u128) -> Option<u32> {
        let order = match self {
            Self::Comiss | Self::Ucomiss => plain_order::<Single>(a as u64, b as u64),
            Self::Comisd | Self::Ucomisd => plain_order::<Double>(a as u64, b as u64),
            Self::Ptest => return Some(test_flags(a, b)),
        };
        order.map(|order| order_flags(Some(order)))
    }

    /// The arithmetic flags, the flags of MXCSR that are set, and whether one of them is not masked.
    pub fn calculate(self, control: u32, a: u128, b: u128) -> (u32, u32, bool) {
        let mut env = Env::new(control);
        let (x, y) = (a as u64, b as u64);
        let order = match self {
            Self::Comiss => order::<Single>(&mut env, x & 0xffff_ffff, y & 0xffff_ffff, true),
            Self::Ucomiss => order::<Single>(&mut env, x & 0xffff_ffff, y & 0xffff_ffff, false),
            Self::Comisd => order::<Double>(&mut env, x, y, true),
            Self::Ucomisd => order::<Double>(&mut env, x, y, false),
            Self::Ptest => return (test_flags(a, b), 0, false),
        };
        let (flags, faults) = env.outcome();
        (order_flags(order), flags, faults)
    }
}

/// EFLAGS after PTEST.
#[inline(always)]
const fn test_flags(a: u128, b: u128) -> u32 {
    (if a & b == 0 { ZF } else { 0 }) | (if !a & b == 0 { CF } else { 0 })
}

/// EFLAGS after a comparison.
#[inline(always)]
const fn order_flags(order: Option<Ordering>) -> u32 {
    match order {
        None => ZF | PF | CF,
        Some(Ordering::Greater) => 0,
        Some(Ordering::Less) => CF,
        Some(Ordering::Equal) => ZF,
    }
}

/// The host's instructions for a row, between loads of MXCSR or without.
#[cfg(target_arch = "x86_64")]
macro_rules! host_code {
    (plain, $a:ident, $b:ident, $text:literal) => {{
        let mut a = super::host::vector($a);
        // SAFETY: the instructions touch nothing but their operands and the flags of MXCSR, which is as Rust wants it.
        unsafe {
            std::arch::asm!($text, "/* {t} */", a = inout(xmm_reg) a, b = in(xmm_reg) super::host::vector($b),
                t = out(xmm_reg) _, options(nomem, nostack));
        }
        super::host::number(a)
    }};
    (controlled $control:ident, $a:ident, $b:ident, $text:literal) => {{
        let mut a = super::host::vector($a);
        let mut changed = $control;
        // SAFETY: as above; MXCSR is put back before the end.
        unsafe {
            std::arch::asm!("ldmxcsr [{changed}]", $text, "stmxcsr [{changed}]", "ldmxcsr [{usual}]", "/* {t} */",
                a = inout(xmm_reg) a, b = in(xmm_reg) super::host::vector($b), t = out(xmm_reg) _,
                changed = in(reg) &raw mut changed, usual = in(reg) &raw const super::host::USUAL,
                options(nostack));
        }
        (super::host::number(a), changed & mxcsr::FLAGS)
    }};
    // The predicate is an immediate.
    (by $imm:ident, $($kind:ident)+, $a:ident, $b:ident, [$($text:literal)*]) => {{
        const _: () = assert!([$($text),*].len() == 8);
        host_code!(@choose $imm, $($kind)+, $a, $b, 0; $($text)*)
    }};
    (@choose $imm:ident, $($kind:ident)+, $a:ident, $b:ident, 0; $t0:literal $t1:literal $t2:literal $t3:literal $t4:literal $t5:literal $t6:literal $t7:literal) => {
        match $imm & 7 {
            0 => host_code!($($kind)+, $a, $b, $t0),
            1 => host_code!($($kind)+, $a, $b, $t1),
            2 => host_code!($($kind)+, $a, $b, $t2),
            3 => host_code!($($kind)+, $a, $b, $t3),
            4 => host_code!($($kind)+, $a, $b, $t4),
            5 => host_code!($($kind)+, $a, $b, $t5),
            6 => host_code!($($kind)+, $a, $b, $t6),
            _ => host_code!($($kind)+, $a, $b, $t7),
        }
    };
}

/// `Calculate` for a row.
macro_rules! calculate {
    ($name:ident, $soft:expr, [$($text:literal)*]) => {
        #[cfg(target_arch = "x86_64")]
        impl Calculate for kind::$name {
            const HOST: bool = true;
            #[inline(always)]
            fn soft(env: &mut Env, a: u128, b: u128, imm: u8) -> u128 {
                let compute: fn(&mut Env, u128, u128, u8) -> u128 = $soft;
                compute(env, a, b, imm)
            }
            calculate!(@host [$($text)*]);
        }
        #[cfg(not(target_arch = "x86_64"))]
        calculate!($name, $soft);
    };
    ($name:ident, $soft:expr) => {
        impl Calculate for kind::$name {
            const HOST: bool = false;
            #[inline(always)]
            fn soft(env: &mut Env, a: u128, b: u128, imm: u8) -> u128 {
                let compute: fn(&mut Env, u128, u128, u8) -> u128 = $soft;
                compute(env, a, b, imm)
            }
            fn host(a: u128, b: u128, imm: u8) -> u128 {
                Self::soft(&mut Env::new(mxcsr::RESET), a, b, imm)
            }
            fn host_with(control: u32, a: u128, b: u128, imm: u8) -> (u128, u32) {
                let mut env = Env::new(control);
                let result = Self::soft(&mut env, a, b, imm);
                (result, env.outcome().0)
            }
        }
    };
    (@host [$text:literal]) => {
        #[inline(always)]
        fn host(a: u128, b: u128, _: u8) -> u128 {
            host_code!(plain, a, b, $text)
        }
        fn host_with(control: u32, a: u128, b: u128, _: u8) -> (u128, u32) {
            host_code!(controlled control, a, b, $text)
        }
    };
    (@host [$($text:literal)*]) => {
        #[inline(always)]
        fn host(a: u128, b: u128, imm: u8) -> u128 {
            host_code!(by imm, plain, a, b, [$($text)*])
        }
        fn host_with(control: u32, a: u128, b: u128, imm: u8) -> (u128, u32) {
            host_code!(by imm, controlled control, a, b, [$($text)*])
        }
    };
}

macro_rules! rows {
    ($($name:ident: $soft:expr $(, $($text:literal)+)?;)*) => {
        /// An operation; most are the instruction of that name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each is the instruction of that name")]
        pub enum FloatOp {
            $($name,)*
        }

        impl FloatOp {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The operation of the instruction of this name.
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
        }

        $(calculate!($name, $soft $(, [$($text)+])?);)*

        /// Hands the names of all operations to a macro.
        macro_rules! each_float_op {
            ($with:ident $arguments:tt) => {
                $with! { $arguments $($name)* }
            };
        }
        pub(crate) use each_float_op;
    };
}

#[rustfmt::skip]
rows! {
    Addps:     |e, a, b, _| packed::<Single>(e, a, b, add::<Single>),           "addps {a}, {b}";
    Addpd:     |e, a, b, _| packed::<Double>(e, a, b, add::<Double>),           "addpd {a}, {b}";
    Addss:     |e, a, b, _| scalar::<Single>(e, a, b, add::<Single>),           "addss {a}, {b}";
    Addsd:     |e, a, b, _| scalar::<Double>(e, a, b, add::<Double>),           "addsd {a}, {b}";
    Subps:     |e, a, b, _| packed::<Single>(e, a, b, subtract::<Single>),      "subps {a}, {b}";
    Subpd:     |e, a, b, _| packed::<Double>(e, a, b, subtract::<Double>),      "subpd {a}, {b}";
    Subss:     |e, a, b, _| scalar::<Single>(e, a, b, subtract::<Single>),      "subss {a}, {b}";
    Subsd:     |e, a, b, _| scalar::<Double>(e, a, b, subtract::<Double>),      "subsd {a}, {b}";
    Mulps:     |e, a, b, _| packed::<Single>(e, a, b, multiply::<Single>),      "mulps {a}, {b}";
    Mulpd:     |e, a, b, _| packed::<Double>(e, a, b, multiply::<Double>),      "mulpd {a}, {b}";
    Mulss:     |e, a, b, _| scalar::<Single>(e, a, b, multiply::<Single>),      "mulss {a}, {b}";
    Mulsd:     |e, a, b, _| scalar::<Double>(e, a, b, multiply::<Double>),      "mulsd {a}, {b}";
    Divps:     |e, a, b, _| packed::<Single>(e, a, b, divide::<Single>),        "divps {a}, {b}";
    Divpd:     |e, a, b, _| packed::<Double>(e, a, b, divide::<Double>),        "divpd {a}, {b}";
    Divss:     |e, a, b, _| scalar::<Single>(e, a, b, divide::<Single>),        "divss {a}, {b}";
    Divsd:     |e, a, b, _| scalar::<Double>(e, a, b, divide::<Double>),        "divsd {a}, {b}";
    Minps:     |e, a, b, _| packed::<Single>(e, a, b, minimum::<Single>),       "minps {a}, {b}";
    Minpd:     |e, a, b, _| packed::<Double>(e, a, b, minimum::<Double>),       "minpd {a}, {b}";
    Minss:     |e, a, b, _| scalar::<Single>(e, a, b, minimum::<Single>),       "minss {a}, {b}";
    Minsd:     |e, a, b, _| scalar::<Double>(e, a, b, minimum::<Double>),       "minsd {a}, {b}";
    Maxps:     |e, a, b, _| packed::<Single>(e, a, b, maximum::<Single>),       "maxps {a}, {b}";
    Maxpd:     |e, a, b, _| packed::<Double>(e, a, b, maximum::<Double>),       "maxpd {a}, {b}";
    Maxss:     |e, a, b, _| scalar::<Single>(e, a, b, maximum::<Single>),       "maxss {a}, {b}";
    Maxsd:     |e, a, b, _| scalar::<Double>(e, a, b, maximum::<Double>),       "maxsd {a}, {b}";
    Sqrtps:    |e, a, b, _| packed::<Single>(e, a, b, square_root::<Single>),   "sqrtps {a}, {b}";
    Sqrtpd:    |e, a, b, _| packed::<Double>(e, a, b, square_root::<Double>),   "sqrtpd {a}, {b}";
    Sqrtss:    |e, a, b, _| scalar::<Single>(e, a, b, square_root::<Single>),   "sqrtss {a}, {b}";
    Sqrtsd:    |e, a, b, _| scalar::<Double>(e, a, b, square_root::<Double>),   "sqrtsd {a}, {b}";
    Cmpps:     |e, a, b, n| packed::<Single>(e, a, b, |e, x, y| compare::<Single>(e, x, y, n)),
        "cmpps {a}, {b}, 0" "cmpps {a}, {b}, 1" "cmpps {a}, {b}, 2" "cmpps {a}, {b}, 3"
        "cmpps {a}, {b}, 4" "cmpps {a}, {b}, 5" "cmpps {a}, {b}, 6" "cmpps {a}, {b}, 7";
    Cmppd:     |e, a, b, n| packed::<Double>(e, a, b, |e, x, y| compare::<Double>(e, x, y, n)),
        "cmppd {a}, {b}, 0" "cmppd {a}, {b}, 1" "cmppd {a}, {b}, 2" "cmppd {a}, {b}, 3"
        "cmppd {a}, {b}, 4" "cmppd {a}, {b}, 5" "cmppd {a}, {b}, 6" "cmppd {a}, {b}, 7";
    Cmpss:     |e, a, b, n| scalar::<Single>(e, a, b, |e, x, y| compare::<Single>(e, x, y, n)),
        "cmpss {a}, {b}, 0" "cmpss {a}, {b}, 1" "cmpss {a}, {b}, 2" "cmpss {a}, {b}, 3"
        "cmpss {a}, {b}, 4" "cmpss {a}, {b}, 5" "cmpss {a}, {b}, 6" "cmpss {a}, {b}, 7";
    Cmpsd:     |e, a, b, n| scalar::<Double>(e, a, b, |e, x, y| compare::<Double>(e, x, y, n)),
        "cmpsd {a}, {b}, 0" "cmpsd {a}, {b}, 1" "cmpsd {a}, {b}, 2" "cmpsd {a}, {b}, 3"
        "cmpsd {a}, {b}, 4" "cmpsd {a}, {b}, 5" "cmpsd {a}, {b}, 6" "cmpsd {a}, {b}, 7";
    // Between formats.
    Cvtps2pd:  |e, _, b, _| converted::<Single>(e, b, 2, 64, convert::<Single, Double>),           "cvtps2pd {a}, {b}";
    Cvtpd2ps:  |e, _, b, _| converted::<Double>(e, b, 2, 32, convert::<Double, Single>),           "cvtpd2ps {a}, {b}";
    Cvtss2sd:  |e, a, b, _| scalar::<Double>(e, a, b, |e, _, y| convert::<Single, Double>(e, y & 0xffff_ffff)), "cvtss2sd {a}, {b}";
    Cvtsd2ss:  |e, a, b, _| {
        let low = converted::<Double>(e, b, 1, 32, convert::<Double, Single>);
        a & !0xffff_ffff | low
    }, "cvtsd2ss {a}, {b}";
    // From whole numbers; those above the ones that count are zeros.
    Cvtdq2ps:  |e, _, b, _| converted::<Single>(e, b, 4, 32, |e, x| from_integer::<Single>(e, x as i32)), "cvtdq2ps {a}, {b}";
    Cvtpi2ps:  |e, a, b, _| {
        let low = converted::<Single>(e, b, 2, 32, |e, x| from_integer::<Single>(e, x as i32));
        a >> 64 << 64 | low
    }, "cvtdq2ps {t}, {b}\nmovsd {a}, {t}";
    Cvtsi2ss:  |e, a, b, _| scalar::<Single>(e, a, b, |e, _, y| from_integer::<Single>(e, y as i32)),
        "cvtdq2ps {t}, {b}\nmovss {a}, {t}";
    // To whole numbers.
    Cvtps2dq:  |e, _, b, _| converted::<Single>(e, b, 4, 32, |e, x| to_integer::<Single>(e, x, false).into()), "cvtps2dq {a}, {b}";
    Cvttps2dq: |e, _, b, _| converted::<Single>(e, b, 4, 32, |e, x| to_integer::<Single>(e, x, true).into()),  "cvttps2dq {a}, {b}";
    Cvtpd2dq:  |e, _, b, _| converted::<Double>(e, b, 2, 32, |e, x| to_integer::<Double>(e, x, false).into()), "cvtpd2dq {a}, {b}";
    Cvttpd2dq: |e, _, b, _| converted::<Double>(e, b, 2, 32, |e, x| to_integer::<Double>(e, x, true).into()),  "cvttpd2dq {a}, {b}";
    Cvtps2pi:  |e, _, b, _| converted::<Single>(e, b, 2, 32, |e, x| to_integer::<Single>(e, x, false).into()), "movq {t}, {b}\ncvtps2dq {a}, {t}";
    Cvttps2pi: |e, _, b, _| converted::<Single>(e, b, 2, 32, |e, x| to_integer::<Single>(e, x, true).into()),  "movq {t}, {b}\ncvttps2dq {a}, {t}";
    Cvtpd2pi:  |e, _, b, _| converted::<Double>(e, b, 2, 32, |e, x| to_integer::<Double>(e, x, false).into()), "cvtpd2dq {a}, {b}";
    Cvttpd2pi: |e, _, b, _| converted::<Double>(e, b, 2, 32, |e, x| to_integer::<Double>(e, x, true).into()),  "cvttpd2dq {a}, {b}";
    Cvtss2si:  |e, _, b, _| converted::<Single>(e, b, 1, 32, |e, x| to_integer::<Single>(e, x, false).into()), "xorps {a}, {a}\nmovss {a}, {b}\ncvtps2dq {a}, {a}";
    Cvttss2si: |e, _, b, _| converted::<Single>(e, b, 1, 32, |e, x| to_integer::<Single>(e, x, true).into()),  "xorps {a}, {a}\nmovss {a}, {b}\ncvttps2dq {a}, {a}";
    Cvtsd2si:  |e, _, b, _| converted::<Double>(e, b, 1, 32, |e, x| to_integer::<Double>(e, x, false).into()), "movq {t}, {b}\ncvtpd2dq {a}, {t}";
    Cvttsd2si: |e, _, b, _| converted::<Double>(e, b, 1, 32, |e, x| to_integer::<Double>(e, x, true).into()),  "movq {t}, {b}\ncvttpd2dq {a}, {t}";
    // SSE3 and SSE4.1, which not every x86-64 host has.
    Addsubps:  |e, a, b, _| alternating::<Single>(e, a, b);
    Addsubpd:  |e, a, b, _| alternating::<Double>(e, a, b);
    Roundps:   |e, a, b, n| packed::<Single>(e, a, b, |e, _, y| round_to_whole::<Single>(e, y, n));
    Roundpd:   |e, a, b, n| packed::<Double>(e, a, b, |e, _, y| round_to_whole::<Double>(e, y, n));
    Roundss:   |e, a, b, n| scalar::<Single>(e, a, b, |e, _, y| round_to_whole::<Single>(e, y, n));
    Roundsd:   |e, a, b, n| scalar::<Double>(e, a, b, |e, _, y| round_to_whole::<Double>(e, y, n));
    Dpps:      |e, a, b, n| dot::<Single>(e, a, b, n);
    Dppd:      |e, a, b, n| dot::<Double>(e, a, b, n);
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests;
