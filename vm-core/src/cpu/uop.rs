//! The micro-op: what an instruction becomes.
//!
//! 16 bytes. Operands `d`, `a` and `b` are byte offsets into [`CpuState`](super::state::CpuState), so that AH is AX's
//! offset + 1; [`ZERO`] is a slot that always holds zero. A memory operand is folded into the load or store:
//! `a + (b << x) + imm`, cut to 32 bits, a linear address.
//!
//! | field | arithmetic | load, store | branch |
//! |---|---|---|---|
//! | `d` | result | value | left side of a fused compare |
//! | `a`, `b` | operands | base, index | tested or target register |
//! | `x` | | scale (shift), | |
//! | `imm` | immediate operand | displacement | target, or right side of a fused compare |
//! | `imm2` | | value to store | target of a fused compare and branch |
//!
//! One table, `ops!` below, names all micro-ops; whoever consumes them matches on [`Op`] without a wildcard.

mod display;

use super::state::gpr;
use super::vector::float::{FloatOp, VectorTest};
use super::vector::ops::{VectorGet, VectorOp, VectorSet};

/// Operand size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Size {
    /// 8 bits.
    B,
    /// 16 bits.
    W,
    /// 32 bits; a write clears the upper half of the slot.
    D,
    /// 64 bits.
    Q,
}

/// Two-operand arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the instruction of that name")]
pub enum Alu {
    Add,
    Or,
    Adc,
    Sbb,
    And,
    Sub,
    Xor,
}

/// Comparisons: arithmetic that leaves only flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the instruction of that name")]
pub enum Compare {
    Cmp,
    Test,
}

/// Shifts and rotates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the instruction of that name")]
pub enum Shift {
    Rol,
    Ror,
    Rcl,
    Rcr,
    Shl,
    Shr,
    Sar,
}

/// Double shifts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the instruction of that name")]
pub enum DoubleShift {
    Shld,
    Shrd,
}

/// Multiplications and divisions of the accumulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the instruction of that name")]
pub enum MulDiv {
    Mul,
    Imul,
    Div,
    Idiv,
}

/// Bit tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the instruction of that name")]
pub enum Bit {
    Bt,
    Bts,
    Btr,
    Btc,
}

/// Bit scans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the instruction of that name")]
pub enum Scan {
    Forward,
    Reverse,
}

/// Where the right operand is: slot `b` or the immediate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Slot `b`.
    Reg,
    /// `imm`.
    Imm,
}

/// Whether anybody may look at the arithmetic flags that an op leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// Nobody.
    Dead,
    /// Perhaps.
    Live,
}

/// How a value becomes wider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extend {
    /// With zeros.
    Zero,
    /// With copies of the sign bit.
    Sign,
}

/// How a linear address is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ea {
    /// `a + imm`.
    Base,
    /// `a + (b << x) + imm`.
    Index,
}

/// How an offset is made and cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressSize {
    /// 16 bits.
    A16,
    /// 32 bits.
    A32,
}

/// Conditions of Jcc, SETcc and CMOVcc, in the order of the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the suffix of the instructions")]
pub enum Cond {
    O,
    No,
    B,
    Ae,
    E,
    Ne,
    Be,
    A,
    S,
    Ns,
    P,
    Np,
    L,
    Ge,
    Le,
    G,
}

/// Branches on a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// JCXZ.
    Zero,
    /// LOOP.
    NonZero,
    /// LOOPE: not zero, and ZF.
    NonZeroAndE,
    /// LOOPNE: not zero, and not ZF.
    NonZeroAndNe,
}

/// Changes of single flags, and LAHF and its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the instruction of that name")]
pub enum FlagOp {
    Clc,
    Stc,
    Cmc,
    Cld,
    Std,
    Lahf,
    Sahf,
    Salc,
}

/// Whose registers a vector op names. Numbers from [`VT0`] up are temporaries that both share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// MM0 to MM7, which lie in the x87's registers: an op that names one also sets TOP and the tags.
    Mmx,
    /// XMM0 to XMM7.
    Sse,
}

/// What an x87 instruction on registers has to do with anything but the x87.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum X87 {
    /// Nothing.
    Plain,
    /// It looks at EFLAGS: `FCMOVcc`.
    Tests,
    /// It leaves its answer in EFLAGS: FCOMI and its like.
    Compares,
    /// It leaves the status word in AX: FNSTSW, which does not wait.
    Status,
}

/// What an x87 instruction does with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum X87Access {
    /// It computes with a number from there.
    Read,
    /// It leaves a number there.
    Write,
    /// It leaves the control or status word there, and does not wait: FNSTCW, FNSTSW.
    WriteWord,
    /// It takes the control word from there: FLDCW.
    Control,
}

/// String instructions that only move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the instruction of that name")]
pub enum Repeated {
    Movs,
    Stos,
}

/// Instructions whose flags not every program may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the instruction of that name")]
pub enum Guarded {
    Cli,
    Sti,
    Pushf,
    Popf,
}

/// How much of a vector register goes to or comes from memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorWidth {
    /// 4 bytes.
    D,
    /// 8 bytes.
    Q,
    /// 16 bytes; #GP where the address is not a multiple of 16.
    X,
    /// 16 bytes at any address.
    U,
}

macro_rules! fields {
    ($($kind:ident: $($value:ident)*;)*) => {$(
        impl $kind {
            /// All values.
            pub const ALL: &[Self] = &[$(Self::$value),*];
        }
    )*};
}

#[rustfmt::skip]
fields! {
    Size: B W D Q;
    Alu: Add Or Adc Sbb And Sub Xor;
    Compare: Cmp Test;
    Shift: Rol Ror Rcl Rcr Shl Shr Sar;
    DoubleShift: Shld Shrd;
    MulDiv: Mul Imul Div Idiv;
    Bit: Bt Bts Btr Btc;
    Scan: Forward Reverse;
    Form: Reg Imm;
    Flag: Dead Live;
    Extend: Zero Sign;
    Ea: Base Index;
    AddressSize: A16 A32;
    Cond: O No B Ae E Ne Be A S Ns P Np L Ge Le G;
    Count: Zero NonZero NonZeroAndE NonZeroAndNe;
    FlagOp: Clc Stc Cmc Cld Std Lahf Sahf Salc;
    Guarded: Cli Sti Pushf Popf;
    Unit: Mmx Sse;
    VectorWidth: D Q X U;
    X87: Plain Tests Compares Status;
    Repeated: Movs Stos;
    X87Access: Read Write WriteWord Control;
}

impl Size {
    /// Bytes.
    pub const fn bytes(self) -> u32 {
        1 << self as u32
    }

    /// Bits.
    pub const fn bits(self) -> u32 {
        8 << self as u32
    }

    /// A mask of the bits that fit.
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }
}

impl VectorWidth {
    /// Bytes.
    pub const fn bytes(self) -> u32 {
        match self {
            Self::D => 4,
            Self::Q => 8,
            Self::X | Self::U => 16,
        }
    }
}

/// The pattern of ops that the interpreter makes for itself, out of lifted ones: no other engine sees them. As a pattern, so that a match
/// stays one over all ops.
macro_rules! interpreters_own {
    () => {
        $crate::cpu::uop::Op::AluLoad { .. }
            | $crate::cpu::uop::Op::AluStore { .. }
            | $crate::cpu::uop::Op::CompareLoad { .. }
            | $crate::cpu::uop::Op::CompareMem { .. }
            | $crate::cpu::uop::Op::IncStore { .. }
            | $crate::cpu::uop::Op::CompareJump { .. }
            | $crate::cpu::uop::Op::DecJump { .. }
            | $crate::cpu::uop::Op::AluJump { .. }
            | $crate::cpu::uop::Op::CompareLoadJump { .. }
            | $crate::cpu::uop::Op::CompareMemJump { .. }
            | $crate::cpu::uop::Op::PushFlat {}
            | $crate::cpu::uop::Op::PushImmFlat {}
            | $crate::cpu::uop::Op::PopFlat {}
            | $crate::cpu::uop::Op::CallFlat {}
            | $crate::cpu::uop::Op::CallToFlat {}
            | $crate::cpu::uop::Op::RetFlat {}
            | $crate::cpu::uop::Op::Stale {}
            | $crate::cpu::uop::Op::Enter {}
            | $crate::cpu::uop::Op::Native {}
            | $crate::cpu::uop::Op::Region {}
            | $crate::cpu::uop::Op::Return {}
    };
}
pub(crate) use interpreters_own;

/// A table of what is said of each op, by its code: made when this is compiled, so that to ask is a load.
macro_rules! by_code {
    (|$op:ident| $what:expr) => {{
        let mut table = {
            let $op = $crate::cpu::uop::Op::from_code(0);
            [$what; $crate::cpu::uop::Op::COUNT]
        };
        let mut code = 1;
        while code < table.len() {
            let $op = $crate::cpu::uop::Op::from_code(code as u16);
            table[code] = $what;
            code += 1;
        }
        table
    }};
}
pub(crate) use by_code;

macro_rules! ops {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $kind:ident),* })*) => {
        /// What a micro-op does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the fields are named for their types")]
        pub enum Op {
            $($(#[$doc])* $name { $($field: $kind),* },)*
        }

        impl Op {
            /// How many codes there are.
            pub const COUNT: usize = 0 $(+ 1 $(* $kind::ALL.len())*)*;

            /// The op's number in the table, below [`Op::COUNT`].
            #[allow(unused_assignments, unused_mut, unused_variables, reason = "the last row's updates")]
            pub const fn code(self) -> u16 {
                let mut base = 0;
                $(
                    if let Self::$name { $($field),* } = self {
                        let (mut code, mut stride) = (base, 1);
                        $(
                            code += $field as usize * stride;
                            stride *= $kind::ALL.len();
                        )*
                        return code as u16;
                    }
                    base += 1 $(* $kind::ALL.len())*;
                )*
                0
            }

            /// The op of a number.
            ///
            /// # Panics
            /// Where there is none of that number.
            #[allow(unused_assignments, unused_mut, unused_variables, reason = "the last row's updates")]
            pub const fn from_code(code: u16) -> Self {
                let mut rest = code as usize;
                $(
                    let count = 1 $(* $kind::ALL.len())*;
                    if rest < count {
                        $(
                            let $field = $kind::ALL[rest % $kind::ALL.len()];
                            rest /= $kind::ALL.len();
                        )*
                        return Self::$name { $($field),* };
                    }
                    rest -= count;
                )*
                panic!("no micro-op has this number")
            }
        }
    };
}

#[rustfmt::skip]
ops! {
    /// `d = a`.
    Mov { size: Size }
    /// `d = imm`, sign-extended to 64 bits.
    MovImm { size: Size }
    /// `d, a = a, d`.
    Xchg { size: Size }
    /// `d = a`, widened.
    Widen { extend: Extend, from: Size, to: Size }
    /// `d` = `a + (b << x) + imm`, cut.
    Lea { address: AddressSize, ea: Ea, size: Size }
    /// `d = a op (b or imm)`.
    Alu { alu: Alu, form: Form, size: Size, flags: Flag }
    /// Flags of `a op (b or imm)`.
    Compare { compare: Compare, form: Form, size: Size }
    /// `d = a + 1`; CF stays.
    Inc { size: Size }
    /// `d = a - 1`; CF stays.
    Dec { size: Size }
    /// `d = -a`.
    Neg { size: Size, flags: Flag }
    /// `d = !a`.
    Not { size: Size }
    /// `d = a shifted by (b or imm)`; the count is masked to five bits (six for Q).
    Shift { shift: Shift, form: Form, size: Size, flags: Flag }
    /// `d` shifted by (CL or imm), filled from `a`.
    DoubleShift { shift: DoubleShift, form: Form, size: Size }
    /// The accumulator (with DX, EDX or AH) by `a`. Divisions may raise #DE.
    MulDiv { kind: MulDiv, size: Size }
    /// `d = a * (b or imm)`, signed, with flags.
    Imul { form: Form, size: Size }
    /// CF = bit `b or imm` of `a`, `d` = `a` with that bit changed; the number is cut to the size.
    Bit { bit: Bit, form: Form, size: Size }
    /// `d = a + (b >> log2(bits), signed) * bytes`, cut to 32 bits: where a bit string has bit `b`.
    BitOffset { size: Size }
    /// `d` = number of `a`'s first or last bit; ZF where there is none, and `d` stays.
    Scan { scan: Scan, size: Size }
    /// `d` = `a` with its bytes reversed.
    Bswap { size: Size }
    /// `d = d + imm`, or with DF `d - imm`: the index of a string.
    Advance { size: Size }
    /// `d = 1` where the condition holds, else 0; a byte.
    Setcc { cond: Cond }
    /// `d = a` where the condition holds.
    Cmov { cond: Cond, size: Size }
    /// Compares the accumulator with `a`; equal: `d = b`; else `d = a` and the accumulator is `a`.
    CmpXchg { size: Size }
    /// A change of single flags; LAHF, SAHF and SALC use AH and AL.
    Flag { what: FlagOp }
    /// `d` = memory.
    Load { size: Size, ea: Ea }
    /// `d` = memory, widened.
    LoadWiden { extend: Extend, from: Size, to: Size, ea: Ea }
    /// `d` = memory that the same instruction will write: a write's fault is raised now.
    LoadForWrite { size: Size, ea: Ea }
    /// Memory = `d`.
    Store { size: Size, ea: Ea }
    /// Memory = `imm2`.
    StoreImm { size: Size, ea: Ea }
    /// `d` = linear address of offset `a + (b << x) + imm` in a segment, checked. `imm2`: see [`Uop::segment_check`].
    Segment { address: AddressSize, ea: Ea }
    /// `d` = the selector in segment register `imm`, widened with zeros.
    Selector {}
    /// Pushes slot `d` through SS, whatever the stack's size.
    Push { size: Size }
    /// Pushes `imm` through SS.
    PushImm { size: Size }
    /// Pops slot `d` through SS. A pop of SP keeps the popped value.
    Pop { size: Size }
    /// #GP where `a` is beyond `imm`, the limit of CS.
    CheckTarget {}
    /// #UD, #NM or #MF where instructions of this unit may not run now.
    VectorCheck { unit: Unit }
    /// Vector register `d` = memory, and zeros above it.
    VectorLoad { unit: Unit, width: VectorWidth, ea: Ea }
    /// Memory = the low part of vector register `d`.
    VectorStore { unit: Unit, width: VectorWidth, ea: Ea }
    /// Vector register `d` = `d` and `b` and `imm`, combined.
    Vector { unit: Unit, what: VectorOp }
    /// XMM register `d` = `d` and `b` and `imm`, combined as MXCSR says. May raise #XM.
    Float { what: FloatOp }
    /// The arithmetic flags of a look at XMM registers `d` and `b`. May raise #XM.
    VectorTest { test: VectorTest }
    /// Slot `d` = 32 bits made of vector register `a` and `imm`.
    VectorGet { unit: Unit, get: VectorGet }
    /// Vector register `d` = itself with slot `a` in a place that `imm` may name.
    VectorSet { unit: Unit, set: VectorSet }
    /// Copies the lower half of vector register `a` to `d` of the unit; `a` is of the other one.
    VectorCross { unit: Unit }
    /// An x87 instruction on registers, of those that the host's x87 may execute. `imm2`: see [`Uop::x87`].
    X87 { kind: X87 }
    /// The same with `d` bytes of memory. `imm2`: see [`Uop::x87`]; the register is the segment's number.
    X87Memory { access: X87Access, ea: Ea }
    /// Calls helper number `imm` of the block.
    Helper {}
    /// The same for a string instruction that ECX repeats, whose segments are flat: elements of `size`.
    Repeat { string: Repeated, size: Size }
    /// The helper `imm` of a system's CLI, STI, PUSHFD or POPFD, with a flat stack.
    Guarded { what: Guarded }
    /// Ends the block: goes to `imm`.
    Jump {}
    /// Ends the block: goes to `imm` where the condition holds, else to `imm2`.
    JumpIf { cond: Cond }
    /// Ends the block: goes to `imm` where CX or ECX in `a` (and ZF) says so, else to `imm2`.
    JumpCount { count: Count, size: Size }
    /// Ends the block: goes to the offset in `a`.
    JumpTo {}
    /// Ends the block: goes to `imm` after a look at interrupts and mode.
    Leave {}
    /// Opens a block that is one instruction across a page: the linear page of the byte at `imm2` in CS must still be the physical page
    /// number `imm`.
    Spans {}

    // What follows is made by the interpreter's fusion alone.

    /// `d = d op memory`.
    AluLoad { alu: Alu, size: Size, ea: Ea, flags: Flag }
    /// `memory = memory op (d or imm2)`.
    AluStore { alu: Alu, form: Form, size: Size, ea: Ea }
    /// Flags of `d op memory`.
    CompareLoad { compare: Compare, size: Size, ea: Ea }
    /// Flags of `memory op (d or imm2)`.
    CompareMem { compare: Compare, form: Form, size: Size, ea: Ea }
    /// Increments memory (`x` bit 7 clear) or decrements it (set).
    IncStore { size: Size, ea: Ea }
    /// Compare `a` with (b or imm) and branch as [`Op::JumpIf`] does.
    CompareJump { compare: Compare, form: Form, size: Size, cond: Cond }
    /// Decrement and branch.
    DecJump { size: Size, cond: Cond }
    /// [`Op::Alu`] with flags, and branch.
    AluJump { alu: Alu, form: Form, size: Size, cond: Cond }
    /// [`Op::CompareLoad`] and branch.
    CompareLoadJump { compare: Compare, size: Size, ea: Ea, cond: Cond }
    /// [`Op::CompareMem`] and branch.
    CompareMemJump { compare: Compare, form: Form, size: Size, ea: Ea, cond: Cond }
    /// PUSH on a flat 32-bit stack: `[ESP - 4] = d; ESP -= 4`.
    PushFlat {}
    /// The same of `imm`.
    PushImmFlat {}
    /// POP on a flat 32-bit stack.
    PopFlat {}
    /// CALL on a flat 32-bit stack: pushes `origin + imm2`, goes to `imm`.
    CallFlat {}
    /// CALL through `a` on a flat 32-bit stack: pushes `origin + imm2`.
    CallToFlat {}
    /// RET on a flat 32-bit stack; `imm` more bytes are dropped.
    RetFlat {}
    /// `d = origin + imm`, 32 bits: an offset in CS, where a block knows only how far it is from its origin.
    Here {}
    /// Not the work of the lifter: this block is no longer true; look it up again.
    Stale {}
    /// Opens a block that native code can be made of: counts in `imm` how often it may still be entered before it waits for that, or has
    /// waited long enough (`imm2` is not 0).
    Enter {}
    /// Opens a block that there is native code of.
    Native {}
    /// Opens a block that a compiled region begins with.
    Region {}
    /// Stands behind a single op that native code has executed by the interpreter: goes back there.
    Return {}
}

/// The slot of general register `number`.
pub const fn slot(number: usize) -> u8 {
    (number * 8) as u8
}

/// AL, AX, EAX.
pub const RAX: u8 = slot(gpr::RAX);
/// CL, CX, ECX.
pub const RCX: u8 = slot(gpr::RCX);
/// DL, DX, EDX.
pub const RDX: u8 = slot(gpr::RDX);
/// BL, BX, EBX.
pub const RBX: u8 = slot(gpr::RBX);
/// SP, ESP.
pub const RSP: u8 = slot(gpr::RSP);
/// BP, EBP.
pub const RBP: u8 = slot(gpr::RBP);
/// SI, ESI.
pub const RSI: u8 = slot(gpr::RSI);
/// DI, EDI.
pub const RDI: u8 = slot(gpr::RDI);
/// Always zero.
pub const ZERO: u8 = slot(16);
/// First of the temporaries.
pub const T0: u8 = slot(17);
/// Second of the temporaries.
pub const T1: u8 = slot(18);
/// First of the vector registers that no program sees.
pub const VT0: u8 = 16;
/// Second of them.
pub const VT1: u8 = 17;
/// Third of them.
pub const VT2: u8 = 18;
/// Holds linear addresses.
pub const TA: u8 = slot(23);

const _: () = {
    use super::state::CpuState;
    assert!(std::mem::offset_of!(CpuState, gpr) == 0);
    assert!(std::mem::offset_of!(CpuState, zero) == ZERO as usize);
    assert!(std::mem::offset_of!(CpuState, temp) == T0 as usize);
    assert!(size_of::<CpuState>() >= 256 + 8, "any byte offset is inside the state");
    assert!(size_of::<Uop>() == 16);
    assert!(Op::COUNT < 0x1_0000);
};

/// What `x` of a jump says: it is a call,
const CALL: u8 = 1;
/// or a return. It does the same all the same.
const RETURN: u8 = 2;

/// A micro-op. See the module's table for what the fields mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct Uop {
    /// [`Op::code`].
    pub code: u16,
    /// Offset of the destination.
    pub d: u8,
    /// Offset of the first operand.
    pub a: u8,
    /// Offset of the second operand.
    pub b: u8,
    /// Scale of the index, as a shift.
    pub x: u8,
    /// Number of the instruction in its block.
    pub y: u16,
    /// Immediate, displacement or target.
    pub imm: u32,
    /// Second immediate or target.
    pub imm2: u32,
}

/// Every op by its code, so that decoding one is a load.
static OPS: [Op; Op::COUNT] = by_code!(|op| op);

impl Uop {
    /// An op with all operands [`ZERO`].
    #[inline]
    pub const fn new(op: Op) -> Self {
        Self { code: op.code(), d: ZERO, a: ZERO, b: ZERO, x: 0, y: 0, imm: 0, imm2: 0 }
    }

    /// The op with a destination.
    #[must_use]
    #[inline]
    pub const fn d(self, d: u8) -> Self {
        Self { d, ..self }
    }

    /// The op with a first operand.
    #[must_use]
    #[inline]
    pub const fn a(self, a: u8) -> Self {
        Self { a, ..self }
    }

    /// The op with a second operand.
    #[must_use]
    #[inline]
    pub const fn b(self, b: u8) -> Self {
        Self { b, ..self }
    }

    /// The op with an immediate.
    #[must_use]
    #[inline]
    pub const fn imm(self, imm: u32) -> Self {
        Self { imm, ..self }
    }

    /// The op with a second immediate.
    #[must_use]
    #[inline]
    pub const fn imm2(self, imm2: u32) -> Self {
        Self { imm2, ..self }
    }

    /// A jump that is a call: it comes back to `next`, as a block counts.
    #[must_use]
    pub const fn calls(self, next: u32) -> Self {
        Self { x: CALL, imm2: next, ..self }
    }

    /// Where a jump that is a call comes back to.
    pub fn returns_to(self) -> Option<u32> {
        (self.x == CALL).then_some(self.imm2)
    }

    /// A jump that is a return.
    #[must_use]
    pub const fn returns(self) -> Self {
        Self { x: RETURN, ..self }
    }

    /// Whether a jump is a return.
    pub fn is_return(self) -> bool {
        self.x == RETURN
    }

    /// Whether the next op of the list is a branch that was fused with this one and is only read for its targets.
    #[inline]
    pub fn takes_branch(self) -> bool {
        matches!(
            self.op(),
            Op::CompareJump { .. }
                | Op::DecJump { .. }
                | Op::AluJump { .. }
                | Op::CompareLoadJump { .. }
                | Op::CompareMemJump { .. }
        )
    }

    /// What it does.
    #[inline]
    pub fn op(self) -> Op {
        OPS[self.code as usize]
    }

    /// `imm2` of the x87's ops: the opcode's eleven bits as in FOP (of a memory operand only the register field is there, and the
    /// segment register's number stands in the lowest three), and the number of the helper that does the same.
    #[inline]
    pub const fn x87(opcode: u16, helper: u32) -> u32 {
        opcode as u32 | helper << 16
    }

    /// `imm2` of [`Op::Segment`]: the segment register's number, the bytes accessed and whether they are written.
    #[inline]
    pub const fn segment_check(segment: u8, bytes: u32, write: bool) -> u32 {
        segment as u32 | (write as u32) << 7 | bytes << 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_one_op_and_back() {
        for code in 0..Op::COUNT as u16 {
            assert_eq!(Op::from_code(code).code(), code);
            assert_eq!(Uop { code, ..Uop::new(Op::Stale {}) }.op().code(), code);
        }
    }
}
