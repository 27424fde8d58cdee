//! Fusion, for the interpreter alone: two or three ops that often stand together become one.

use crate::cpu::uop::{Alu, Ea, Flag, Form, Op, RSP, Size, T0, Uop};

/// Whether two ops address the same memory.
fn same_address(one: &Uop, other: &Uop) -> bool {
    (one.a, one.b, one.x, one.imm) == (other.a, other.b, other.x, other.imm)
}

/// `ESP = ESP ± imm`.
fn moves_stack(uop: &Uop) -> Option<i64> {
    let Op::Alu { alu, form: Form::Imm, size: Size::D, flags: Flag::Dead } = uop.op() else { return None };
    if uop.d != RSP || uop.a != RSP {
        return None;
    }
    match alu {
        Alu::Add => Some(i64::from(uop.imm)),
        Alu::Sub => Some(-i64::from(uop.imm)),
        _ => None,
    }
}

/// The fused form of the ops at the start of `ops`, and how many they are.
fn fused(ops: &[Uop], relative: bool) -> Option<(Uop, usize)> {
    let [first, second, rest @ ..] = ops else { return None };
    // What a store changes may be the next instruction: only ops of the same one are fused with it.
    let third = rest.first();
    let one = first.y == second.y;
    let become_ = |uop: &Uop, op: Op| Uop { code: op.code(), ..*uop };
    match (first.op(), second.op()) {
        (Op::Store { size: Size::D, ea: Ea::Base }, _)
            if one && is_top(first, -4) && moves_stack(second) == Some(-4) =>
        {
            Some((become_(first, Op::PushFlat {}), 2))
        }
        (Op::StoreImm { size: Size::D, ea: Ea::Base }, _)
            if one && is_top(first, -4) && moves_stack(second) == Some(-4) =>
        {
            let uop = first.imm(first.imm2);
            // What a call pushes counts from the origin: this, where origins are, is no call.
            match third.filter(|uop| uop.y == first.y && !relative).map(|uop| (uop, uop.op())) {
                Some((jump, Op::Jump {})) => Some((become_(&uop, Op::CallFlat {}).imm2(first.imm2).imm(jump.imm), 3)),
                Some((jump, Op::JumpTo {})) => Some((become_(&uop, Op::CallToFlat {}).imm2(first.imm2).a(jump.a), 3)),
                _ => Some((become_(&uop, Op::PushImmFlat {}), 2)),
            }
        }
        (Op::Here {}, Op::Store { size: Size::D, ea: Ea::Base })
            if one && first.d == second.d && is_top(second, -4) && third.and_then(moves_stack) == Some(-4) =>
        {
            let jump = rest.get(1)?;
            match jump.op() {
                Op::Jump {} => Some((become_(first, Op::CallFlat {}).imm2(first.imm).imm(jump.imm), 4)),
                Op::JumpTo {} => Some((become_(first, Op::CallToFlat {}).imm2(first.imm).a(jump.a), 4)),
                _ => None,
            }
        }
        (Op::Load { size: Size::D, ea: Ea::Base }, _) if is_top(first, 0) => {
            let by = moves_stack(second)?;
            match third.map(|uop| (uop, uop.op())) {
                Some((jump, Op::JumpTo {})) if first.d == T0 && jump.a == T0 && by >= 4 => {
                    Some((become_(first, Op::RetFlat {}).imm((by - 4) as u32), 3))
                }
                _ if by == 4 && first.d != RSP => Some((become_(first, Op::PopFlat {}), 2)),
                _ => None,
            }
        }
        (Op::Load { size, ea }, Op::Alu { alu, form: Form::Reg, size: width, flags })
            if size == width && first.d == T0 && second.b == T0 && second.d == second.a && second.a != T0 =>
        {
            Some((become_(first, Op::AluLoad { alu, size, ea, flags }).d(second.d), 2))
        }
        (Op::Load { size, ea }, Op::Compare { compare, form, size: width }) if size == width && first.d == T0 => {
            // A branch behind it stays there, as bearer of the two targets.
            let cond = third.and_then(|uop| if let Op::JumpIf { cond } = uop.op() { Some(cond) } else { None });
            let load = match cond {
                None => Op::CompareLoad { compare, size, ea },
                Some(cond) => Op::CompareLoadJump { compare, size, ea, cond },
            };
            let memory = match cond {
                None => Op::CompareMem { compare, form, size, ea },
                Some(cond) => Op::CompareMemJump { compare, form, size, ea, cond },
            };
            match form {
                Form::Reg if second.b == T0 && second.a != T0 => Some((become_(first, load).d(second.a), 2)),
                Form::Reg if second.a == T0 && second.b != T0 => Some((become_(first, memory).d(second.b), 2)),
                Form::Imm if second.a == T0 => Some((become_(first, memory).imm2(second.imm), 2)),
                _ => None,
            }
        }
        (Op::LoadForWrite { size, ea }, change) if first.d == T0 && second.d == T0 && second.a == T0 => {
            let store = third?;
            if store.op() != (Op::Store { size, ea }) || store.d != T0 || !same_address(first, store) {
                return None;
            }
            match change {
                Op::Alu { alu, form, size: width, .. } if width == size => {
                    let uop = become_(first, Op::AluStore { alu, form, size, ea });
                    Some((if form == Form::Reg { uop.d(second.b) } else { uop.imm2(second.imm) }, 3))
                }
                Op::Inc { size: width } if width == size => Some((become_(first, Op::IncStore { size, ea }), 3)),
                Op::Dec { size: width } if width == size => {
                    let uop = become_(first, Op::IncStore { size, ea });
                    Some((Uop { x: uop.x | 0x80, ..uop }, 3))
                }
                _ => None,
            }
        }
        // The branch stays behind, as bearer of the two targets.
        (Op::Compare { compare, form, size }, Op::JumpIf { cond }) => {
            Some((become_(first, Op::CompareJump { compare, form, size, cond }), 1))
        }
        (Op::Alu { alu, form, size, flags: Flag::Live }, Op::JumpIf { cond }) => {
            Some((become_(first, Op::AluJump { alu, form, size, cond }), 1))
        }
        (Op::Dec { size }, Op::JumpIf { cond }) => Some((become_(first, Op::DecJump { size, cond }), 1)),
        _ => None,
    }
}

/// `[ESP + displacement]`.
fn is_top(uop: &Uop, displacement: i32) -> bool {
    uop.a == RSP && uop.imm as i32 == displacement
}

/// Copies `ops` into `into` with neighbours fused.
pub fn fuse(ops: &[Uop], relative: bool, into: &mut Vec<Uop>) {
    into.clear();
    let mut index = 0;
    while index < ops.len() {
        let (uop, taken) = fused(&ops[index..], relative).unwrap_or((ops[index], 1));
        into.push(uop);
        index += taken;
    }
}
