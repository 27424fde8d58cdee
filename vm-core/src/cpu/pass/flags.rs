//! Dead flags: most arithmetic flags are overwritten before anybody looks.
//!
//! An op that may fault or call a helper shows the flags to the outside, so all are live there, as at the end of the block.

use crate::cpu::flags::{ARITHMETIC, CF, OF, PF, SF, ZF};
use crate::cpu::uop::{Alu, Cond, Count, Flag, FlagOp, Form, MulDiv, Op, Shift, Uop, interpreters_own};

/// What an op has to do with the arithmetic flags.
struct Effect {
    reads: u32,
    /// Flags whose old value is surely gone.
    writes: u32,
}

const NOTHING: Effect = Effect { reads: 0, writes: 0 };
const OUTSIDE: Effect = Effect { reads: ARITHMETIC, writes: 0 };
const ALL: Effect = Effect { reads: 0, writes: ARITHMETIC };

/// The flags that a condition looks at.
pub const fn tested(cond: Cond) -> u32 {
    match cond {
        Cond::O | Cond::No => OF,
        Cond::B | Cond::Ae => CF,
        Cond::E | Cond::Ne => ZF,
        Cond::Be | Cond::A => CF | ZF,
        Cond::S | Cond::Ns => SF,
        Cond::P | Cond::Np => PF,
        Cond::L | Cond::Ge => SF | OF,
        Cond::Le | Cond::G => ZF | SF | OF,
    }
}

fn effect(uop: &Uop) -> Effect {
    match uop.op() {
        Op::Mov { .. }
        | Op::MovImm { .. }
        | Op::Xchg { .. }
        | Op::Widen { .. }
        | Op::Lea { .. }
        | Op::Not { .. }
        | Op::BitOffset { .. }
        | Op::Bswap { .. }
        | Op::Selector {}
        | Op::Advance { .. }
        | Op::Vector { .. }
        | Op::VectorGet { .. }
        | Op::VectorSet { .. }
        | Op::VectorCross { .. } => NOTHING,
        // Address arithmetic of LOOP and the stack: the flags of the program pass it by.
        Op::Alu { alu: Alu::Add | Alu::Or | Alu::And | Alu::Sub | Alu::Xor, flags: Flag::Dead, .. }
        | Op::Neg { flags: Flag::Dead, .. }
        | Op::Shift {
            shift: Shift::Shl | Shift::Shr | Shift::Sar | Shift::Rol | Shift::Ror, flags: Flag::Dead, ..
        } => NOTHING,
        Op::Alu { alu: Alu::Adc | Alu::Sbb, flags: Flag::Dead, .. } => Effect { reads: CF, writes: 0 },
        Op::Alu { alu: Alu::Adc | Alu::Sbb, .. } => Effect { reads: CF, writes: ARITHMETIC },
        Op::Alu { .. } | Op::Compare { .. } | Op::Neg { .. } | Op::Imul { .. } | Op::CmpXchg { .. } => ALL,
        Op::Scan { .. } => ALL,
        Op::MulDiv { kind: MulDiv::Mul | MulDiv::Imul, .. } => ALL,
        Op::MulDiv { kind: MulDiv::Div | MulDiv::Idiv, .. } => OUTSIDE,
        Op::Inc { .. } | Op::Dec { .. } => Effect { reads: 0, writes: ARITHMETIC & !CF },
        Op::Shift { shift, form: Form::Imm, .. } => match shift {
            Shift::Shl | Shift::Shr | Shift::Sar => ALL,
            Shift::Rol | Shift::Ror => Effect { reads: 0, writes: CF | OF },
            Shift::Rcl | Shift::Rcr => Effect { reads: CF, writes: OF },
        },
        Op::DoubleShift { form: Form::Imm, .. } => ALL,
        // A count of zero leaves the flags.
        Op::Shift { shift: Shift::Rcl | Shift::Rcr, .. } => Effect { reads: CF, writes: 0 },
        Op::Shift { .. } | Op::DoubleShift { .. } => NOTHING,
        Op::Bit { .. } => Effect { reads: 0, writes: CF },
        Op::Setcc { cond } => Effect { reads: tested(cond), writes: 0 },
        Op::Cmov { cond, .. } => Effect { reads: tested(cond), writes: 0 },
        Op::Flag { what } => match what {
            FlagOp::Clc | FlagOp::Stc => Effect { reads: 0, writes: CF },
            FlagOp::Cmc | FlagOp::Salc => Effect { reads: CF, writes: 0 },
            FlagOp::Cld | FlagOp::Std => NOTHING,
            FlagOp::Lahf => Effect { reads: ARITHMETIC, writes: 0 },
            FlagOp::Sahf => Effect { reads: 0, writes: ARITHMETIC & !OF },
        },
        Op::JumpCount { count: Count::Zero | Count::NonZero, .. }
        | Op::JumpCount { count: Count::NonZeroAndE | Count::NonZeroAndNe, .. }
        | Op::Load { .. }
        | Op::LoadWiden { .. }
        | Op::LoadForWrite { .. }
        | Op::Store { .. }
        | Op::StoreImm { .. }
        | Op::Segment { .. }
        | Op::Push { .. }
        | Op::PushImm { .. }
        | Op::Pop { .. }
        | Op::CheckTarget {}
        | Op::VectorCheck { .. }
        | Op::VectorLoad { .. }
        | Op::VectorStore { .. }
        | Op::Float { .. }
        | Op::VectorTest { .. }
        | Op::X87 { .. }
        | Op::X87Memory { .. }
        | Op::Helper {}
        | Op::Jump {}
        | Op::JumpIf { .. }
        | Op::JumpTo {}
        | Op::Leave {} => OUTSIDE,
        interpreters_own!() => OUTSIDE,
    }
}

/// An op whose flags of `live` only are wanted.
fn reduce(uop: Uop, live: u32) -> Uop {
    let change = |op: Op| Uop { code: op.code(), ..uop };
    match uop.op() {
        Op::Alu { alu, form, size, .. } if live & ARITHMETIC == 0 => {
            change(Op::Alu { alu, form, size, flags: Flag::Dead })
        }
        Op::Neg { size, .. } if live & ARITHMETIC == 0 => change(Op::Neg { size, flags: Flag::Dead }),
        Op::Shift { shift: shift @ (Shift::Shl | Shift::Shr | Shift::Sar), form, size, .. }
            if live & ARITHMETIC == 0 =>
        {
            change(Op::Shift { shift, form, size, flags: Flag::Dead })
        }
        Op::Shift { shift: shift @ (Shift::Rol | Shift::Ror), form, size, .. } if live & (CF | OF) == 0 => {
            change(Op::Shift { shift, form, size, flags: Flag::Dead })
        }
        // CF is wanted by nobody: plain additions are cheaper.
        Op::Inc { size } if live & CF == 0 => {
            let flags = if live == 0 { Flag::Dead } else { Flag::Live };
            change(Op::Alu { alu: Alu::Add, form: Form::Imm, size, flags }).imm(1)
        }
        Op::Dec { size } if live & CF == 0 => {
            let flags = if live == 0 { Flag::Dead } else { Flag::Live };
            change(Op::Alu { alu: Alu::Sub, form: Form::Imm, size, flags }).imm(1)
        }
        _ => uop,
    }
}

/// Marks flags that nobody can see as dead, and drops comparisons that leave nothing else.
pub fn dead_flags(ops: &mut Vec<Uop>) {
    let mut live = ARITHMETIC;
    let mut dropped = false;
    for uop in ops.iter_mut().rev() {
        let Effect { reads, writes } = effect(uop);
        // A shift by CL writes nothing for sure, but what it may write may be dead.
        if writes != 0 || matches!(uop.op(), Op::Shift { form: Form::Reg, .. }) {
            if live & ARITHMETIC == 0 && matches!(uop.op(), Op::Compare { .. }) {
                uop.code = u16::MAX;
                dropped = true;
                continue;
            }
            *uop = reduce(*uop, live);
        }
        live = live & !writes | reads;
    }
    if dropped {
        ops.retain(|uop| uop.code != u16::MAX);
    }
}

/// Which flags somebody may look at after each op: for engines that can do more with that than [`Flag`] says.
pub fn live_flags(ops: &[Uop], live: &mut Vec<u32>) {
    live.clear();
    live.resize(ops.len(), ARITHMETIC);
    let mut now = ARITHMETIC;
    for (uop, after) in ops.iter().zip(live.iter_mut()).rev() {
        *after = now;
        let Effect { reads, writes } = effect(uop);
        now = now & !writes | reads;
    }
}
