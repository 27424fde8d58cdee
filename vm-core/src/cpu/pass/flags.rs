//! Dead flags: most arithmetic flags are overwritten before anybody looks.
//!
//! An op that may fault or call a helper shows the flags to the outside, so all are live there, as at the end of the block. A fault is
//! rare: [`flag_lives`] also says what somebody looks at for sure.

use crate::cpu::flags::{ARITHMETIC, CF, OF, PF, SF, ZF};
use crate::cpu::uop::{
    Alu, Cond, Count, Flag, FlagOp, Form, Guarded, MulDiv, Op, Shift, Uop, X87, by_code, interpreters_own,
};

/// What an op has to do with the arithmetic flags.
#[derive(Clone, Copy)]
struct Effect {
    reads: u32,
    /// Flags whose old value is surely gone.
    writes: u32,
    /// A fault may show all to the outside first.
    faults: bool,
}

impl Effect {
    /// The flags that may be looked at before, given those after.
    fn live_before(self, after: u32) -> u32 {
        let shown = if self.faults { ARITHMETIC } else { 0 };
        after & !self.writes | self.reads | shown
    }
}

const fn effect_of(reads: u32, writes: u32) -> Effect {
    Effect { reads, writes, faults: false }
}

const NOTHING: Effect = effect_of(0, 0);
const OUTSIDE: Effect = effect_of(ARITHMETIC, 0);
const ALL: Effect = effect_of(0, ARITHMETIC);
const FAULTS: Effect = Effect { faults: true, ..NOTHING };

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

/// What ops have to do with the flags, by their codes: each op of each block is asked for several times.
static EFFECTS: [Effect; Op::COUNT] = by_code!(|op| effect_of_op(op));

fn effect(uop: &Uop) -> Effect {
    EFFECTS[usize::from(uop.code)]
}

const fn effect_of_op(op: Op) -> Effect {
    match op {
        Op::Mov { .. }
        | Op::MovImm { .. }
        | Op::Xchg { .. }
        | Op::Widen { .. }
        | Op::Lea { .. }
        | Op::Here {}
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
        Op::Alu { alu: Alu::Adc | Alu::Sbb, flags: Flag::Dead, .. } => effect_of(CF, 0),
        Op::Alu { alu: Alu::Adc | Alu::Sbb, .. } => effect_of(CF, ARITHMETIC),
        Op::Alu { .. } | Op::Compare { .. } | Op::Neg { .. } | Op::Imul { .. } | Op::CmpXchg { .. } => ALL,
        Op::Scan { .. } => ALL,
        Op::MulDiv { kind: MulDiv::Mul | MulDiv::Imul, .. } => ALL,
        Op::MulDiv { kind: MulDiv::Div | MulDiv::Idiv, .. } => FAULTS,
        Op::Inc { .. } | Op::Dec { .. } => effect_of(0, ARITHMETIC & !CF),
        Op::Shift { shift, form: Form::Imm, .. } => match shift {
            Shift::Shl | Shift::Shr | Shift::Sar => ALL,
            Shift::Rol | Shift::Ror => effect_of(0, CF | OF),
            Shift::Rcl | Shift::Rcr => effect_of(CF, OF),
        },
        Op::DoubleShift { form: Form::Imm, .. } => ALL,
        // A count of zero leaves the flags.
        Op::Shift { shift: Shift::Rcl | Shift::Rcr, .. } => effect_of(CF, 0),
        Op::Shift { .. } | Op::DoubleShift { .. } => NOTHING,
        Op::Bit { .. } => effect_of(0, CF),
        Op::Setcc { cond } => effect_of(tested(cond), 0),
        Op::Cmov { cond, .. } => effect_of(tested(cond), 0),
        Op::Flag { what } => match what {
            FlagOp::Clc | FlagOp::Stc => effect_of(0, CF),
            FlagOp::Cmc | FlagOp::Salc => effect_of(CF, 0),
            FlagOp::Cld | FlagOp::Std => NOTHING,
            FlagOp::Lahf => effect_of(ARITHMETIC, 0),
            FlagOp::Sahf => effect_of(0, ARITHMETIC & !OF),
        },
        Op::Load { .. }
        | Op::LoadWiden { .. }
        | Op::LoadForWrite { .. }
        | Op::Store { .. }
        | Op::StoreImm { .. }
        | Op::Segment { .. }
        | Op::Push { .. }
        | Op::PushImm { .. }
        | Op::Pop { .. }
        | Op::CheckTarget {}
        | Op::Spans {}
        | Op::VectorCheck { .. }
        | Op::VectorLoad { .. }
        | Op::VectorStore { .. }
        | Op::Float { .. }
        | Op::X87 { kind: X87::Plain | X87::Status }
        | Op::X87Memory { .. }
        | Op::Guarded { what: Guarded::Cli | Guarded::Sti }
        | Op::Repeat { .. } => FAULTS,
        Op::Guarded { what: Guarded::Pushf } => OUTSIDE,
        Op::Guarded { what: Guarded::Popf } => Effect { faults: true, ..ALL },
        Op::JumpCount { count: Count::Zero | Count::NonZero, .. }
        | Op::JumpCount { count: Count::NonZeroAndE | Count::NonZeroAndNe, .. }
        | Op::VectorTest { .. }
        | Op::X87 { kind: X87::Tests | X87::Compares }
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
        let effect = effect(uop);
        // A shift by CL writes nothing for sure, but what it may write may be dead.
        if effect.writes != 0 || matches!(uop.op(), Op::Shift { form: Form::Reg, .. }) {
            if live & ARITHMETIC == 0 && matches!(uop.op(), Op::Compare { .. }) {
                uop.code = u16::MAX;
                dropped = true;
                continue;
            }
            *uop = reduce(*uop, live);
        }
        live = effect.live_before(live);
    }
    if dropped {
        ops.retain(|uop| uop.code != u16::MAX);
    }
}

/// What becomes of the flags after an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlagLives {
    /// Those that somebody may look at,
    pub live: u32,
    /// and those of them that somebody looks at even if nothing faults.
    pub wanted: u32,
}

/// What becomes of the flags after each op: for engines that can do more with that than [`Flag`] says.
pub fn flag_lives(ops: &[Uop], lives: &mut Vec<FlagLives>) {
    let mut now = FlagLives { live: ARITHMETIC, wanted: ARITHMETIC };
    lives.clear();
    lives.resize(ops.len(), now);
    for (uop, after) in ops.iter().zip(lives.iter_mut()).rev() {
        *after = now;
        let effect = effect(uop);
        now.live = effect.live_before(now.live);
        now.wanted = now.wanted & !effect.writes | effect.reads;
    }
}

/// Which flags somebody may look at after each op: all after the last one. The result is what may be looked at before the first.
pub fn live_flags_before(ops: &[Uop], live: &mut Vec<u32>) -> u32 {
    live.clear();
    live.resize(ops.len(), ARITHMETIC);
    let mut now = ARITHMETIC;
    for (uop, after) in ops.iter().zip(live.iter_mut()).rev() {
        *after = now;
        now = effect(uop).live_before(now);
    }
    now
}

/// Whether an op replaces all arithmetic flags.
pub fn replaces_flags(uop: &Uop) -> bool {
    effect(uop).writes == ARITHMETIC
}
