//! Handlers of branches, helpers and ways out.

use std::ptr;

use super::alu::{compare_values, compute, get, immediate, mask, put, signed, step, top};
use super::memory::{push_fast, top_fast};
use super::{Leave, Next, after, fault, go, leave_at, next};
use crate::bus::Bus;
use crate::cpu::access::Unsigned;
use crate::cpu::block::{Header, Link};
use crate::cpu::fault::Fault;
use crate::cpu::state::SegReg;
use crate::cpu::uop::{Cond, Count, Op, RSP, Uop};
use crate::cpu::{Cpu, Flow, cranelift, template};

/// Leaves through a link; the dispatcher may tie it.
#[cold]
#[inline(never)]
unsafe fn leave_link(cpu: &mut Cpu, _: &mut dyn Bus, link: *mut Link) -> Next {
    // SAFETY: the caller passes a link of the block that runs.
    cpu.state.rip = u64::from(cpu.exec.absolute(unsafe { (*link).eip }));
    cpu.exec.link = link;
    cpu.exec.leave = Leave::Link;
    ptr::null()
}

/// Goes on with the block that a link leads to.
#[inline(always)]
pub(super) unsafe fn follow(cpu: &mut Cpu, bus: &mut dyn Bus, link: *mut Link) -> Next {
    // SAFETY: the caller passes a link of the block that runs; a link's target lives or is null.
    unsafe {
        let target = (*link).target;
        if target.is_null() {
            return leave_link(cpu, bus, link);
        }
        let left = cpu.exec.left - i64::from((*target).count);
        let kind = (*link).kind;
        if left < 0 || kind & Link::BACK != 0 && cpu.exec.raised() {
            return leave_link(cpu, bus, link);
        }
        if kind & Link::CROSS != 0 {
            return follow_across(cpu, bus, link);
        }
        cpu.exec.left = left;
        cpu.exec.block = target;
        go(cpu, bus, Header::code(target))
    }
}

/// Goes on at an offset, by way of the dispatcher: for cold handlers (see [`after`]).
fn look_around(cpu: &mut Cpu, eip: u32) -> Next {
    cpu.state.rip = u64::from(eip);
    cpu.exec.leave = Leave::Goto;
    ptr::null()
}

/// The same where a link leads.
///
/// # Safety
/// The link is one of the block that runs.
pub(super) unsafe fn look_along(cpu: &mut Cpu, link: *const Link) -> Next {
    // SAFETY: the caller's promise.
    let eip = unsafe { (*link).eip };
    look_around(cpu, cpu.exec.absolute(eip))
}

/// Goes on with a block on another page, where that page is still mapped as it was.
#[inline(never)]
unsafe fn follow_across(cpu: &mut Cpu, bus: &mut dyn Bus, link: *mut Link) -> Next {
    // SAFETY: `follow` passes a link of the block that runs whose target lives.
    unsafe {
        let target = (*link).target;
        let eip = cpu.exec.absolute((*link).eip);
        let linear = cpu.state.seg[SegReg::Cs as usize].base.wrapping_add(u64::from(eip)) & 0xffff_ffff;
        let page = cpu.tlb.code_page(cpu.state.cpl == 3, linear);
        if page != Some((*target).physical & !0xfff) {
            return leave_link(cpu, bus, link);
        }
        cpu.exec.left -= i64::from((*target).count);
        cpu.exec.block = target;
        cpu.exec.enter_page(eip);
        go(cpu, bus, Header::code(target))
    }
}

/// Goes on at an offset in CS that only now is known.
#[inline(always)]
unsafe fn go_to(cpu: &mut Cpu, bus: &mut dyn Bus, eip: u32) -> Next {
    let linear = cpu.state.seg[SegReg::Cs as usize].base.wrapping_add(u64::from(eip)) & 0xffff_ffff;
    let found = cpu
        .tlb
        .code_page(cpu.state.cpl == 3, linear)
        .and_then(|page| cpu.code.quick(page | linear & 0xfff, eip & !cpu.exec.origin_bits, cpu.exec.mode));
    if let Some(target) = found {
        // SAFETY: the quick table leads to live blocks.
        unsafe {
            let left = cpu.exec.left - i64::from((*target).count);
            if left >= 0 && !cpu.exec.raised() {
                cpu.exec.left = left;
                cpu.exec.block = target;
                cpu.exec.enter_page(eip);
                return go(cpu, bus, Header::code(target));
            }
        }
    }
    cpu.state.rip = u64::from(eip);
    cpu.exec.leave = Leave::Goto;
    ptr::null()
}

#[inline(always)]
pub(super) unsafe fn link_of(op: *const Uop, index: usize) -> *mut Link {
    op.wrapping_add(1 + index).cast_mut().cast()
}

macro_rules! control {
    ($($(#[$doc:meta])* fn $name:ident $([$($generic:tt)*])? ($cpu:ident, $bus:ident, $op:ident) $body:block)*) => {$(
        $(#[$doc])*
        pub(super) unsafe fn $name $(<$($generic)*>)? ($cpu: &mut Cpu, $bus: &mut dyn Bus, $op: *const Uop) -> Next {
            // SAFETY: the dispatcher and `next` pass ops of the block that runs; links stand behind branches.
            unsafe { $body }
        }
    )*};
}

/// Whether a condition holds after a comparison of `a` and `b`.
#[inline(always)]
pub(super) fn compared<T: Unsigned, const TEST: bool, const COND: u8>(cpu: &Cpu, a: u64, b: u64) -> bool {
    if TEST {
        // CF and OF are clear.
        let result = a & b;
        let sign = result >> top::<T>() & 1 != 0;
        let holds = match COND >> 1 {
            0 | 1 => false,
            2 | 3 => result == 0,
            4 | 6 => sign,
            5 => return cpu.state.flags.condition(COND),
            _ => result == 0 || sign,
        };
        return holds != (COND & 1 != 0);
    }
    let (less, sign) = (signed::<T>(a) < signed::<T>(b), a.wrapping_sub(b) & mask::<T>());
    let sign = sign >> top::<T>() & 1 != 0;
    let holds = match COND >> 1 {
        0 => less != sign,
        1 => a < b,
        2 => a == b,
        3 => a <= b,
        4 => sign,
        5 => return cpu.state.flags.condition(COND),
        6 => less,
        _ => signed::<T>(a) <= signed::<T>(b),
    };
    holds != (COND & 1 != 0)
}

control! {
    fn jump(cpu, bus, op) {
        follow(cpu, bus, link_of(op, 0))
    }

    fn jump_if[const COND: u8](cpu, bus, op) {
        if cpu.state.flags.condition(COND) { follow(cpu, bus, link_of(op, 0)) } else { follow(cpu, bus, link_of(op, 1)) }
    }

    fn jump_count[T: Unsigned, const COUNT: u8](cpu, bus, op) {
        let nonzero = get::<T>(cpu, (*op).a) != 0;
        let taken = if COUNT == Count::Zero as u8 {
            !nonzero
        } else if COUNT == Count::NonZero as u8 {
            nonzero
        } else if COUNT == Count::NonZeroAndE as u8 {
            nonzero && cpu.state.flags.zf()
        } else {
            nonzero && !cpu.state.flags.zf()
        };
        follow(cpu, bus, link_of(op, usize::from(!taken)))
    }

    fn compare_jump[T: Unsigned, const TEST: bool, const IMM: bool, const COND: u8](cpu, bus, op) {
        let a = get::<T>(cpu, (*op).a);
        let b = if IMM { immediate::<T>((*op).imm) } else { get::<T>(cpu, (*op).b) };
        compare_values::<T, TEST>(cpu, a, b);
        if compared::<T, TEST, COND>(cpu, a, b) {
            follow(cpu, bus, link_of(op, 0))
        } else {
            follow(cpu, bus, link_of(op, 1))
        }
    }

    fn alu_jump[T: Unsigned, const ALU: u8, const IMM: bool, const COND: u8](cpu, bus, op) {
        let a = get::<T>(cpu, (*op).a);
        let b = if IMM { immediate::<T>((*op).imm) } else { get::<T>(cpu, (*op).b) };
        let result = compute::<ALU, T, true>(cpu, a, b);
        put::<T>(cpu, (*op).d, result);
        // The flags were just set: the compiler knows how.
        let taken = cpu.state.flags.condition(COND);
        if taken { follow(cpu, bus, link_of(op, 0)) } else { follow(cpu, bus, link_of(op, 1)) }
    }

    fn dec_jump[T: Unsigned, const COND: u8](cpu, bus, op) {
        let a = get::<T>(cpu, (*op).a);
        let result = step::<T, true>(cpu, a);
        put::<T>(cpu, (*op).d, result);
        let taken = if COND >> 1 == Cond::E as u8 >> 1 {
            (result == 0) != (COND & 1 != 0)
        } else {
            cpu.state.flags.condition(COND)
        };
        if taken { follow(cpu, bus, link_of(op, 0)) } else { follow(cpu, bus, link_of(op, 1)) }
    }

    fn jump_to(cpu, bus, op) {
        let eip = get::<u32>(cpu, (*op).a) as u32;
        go_to(cpu, bus, eip)
    }

    fn call_flat(cpu, bus, op) {
        if !push_fast(cpu, cpu.exec.absolute((*op).imm2)) {
            return call_flat_miss(cpu, bus, op);
        }
        follow(cpu, bus, link_of(op, 0))
    }

    fn call_to_flat(cpu, bus, op) {
        if !push_fast(cpu, cpu.exec.absolute((*op).imm2)) {
            return call_to_flat_miss(cpu, bus, op);
        }
        let eip = get::<u32>(cpu, (*op).a) as u32;
        go_to(cpu, bus, eip)
    }

    fn ret_flat(cpu, bus, op) {
        let Some(eip) = top_fast(cpu) else { return ret_flat_miss(cpu, bus, op) };
        let esp = get::<u32>(cpu, RSP).wrapping_add(4).wrapping_add(u64::from((*op).imm));
        put::<u32>(cpu, RSP, esp);
        go_to(cpu, bus, eip)
    }

    #[cold]
    fn call_flat_miss(cpu, bus, op) {
        match push_next(cpu, bus, op) {
            Ok(()) => look_along(cpu, link_of(op, 0)),
            Err(raised) => fault(cpu, bus, op, raised),
        }
    }

    #[cold]
    fn call_to_flat_miss(cpu, bus, op) {
        match push_next(cpu, bus, op) {
            Ok(()) => {
                let eip = get::<u32>(cpu, (*op).a) as u32;
                look_around(cpu, eip)
            }
            Err(raised) => fault(cpu, bus, op, raised),
        }
    }

    #[cold]
    fn ret_flat_miss(cpu, bus, op) {
        cpu.exec.op = op;
        let esp = get::<u32>(cpu, RSP);
        match cpu.load::<u32>(bus, esp) {
            Ok(eip) => {
                put::<u32>(cpu, RSP, esp.wrapping_add(4).wrapping_add(u64::from((*op).imm)));
                look_around(cpu, eip)
            }
            Err(raised) => fault(cpu, bus, op, raised),
        }
    }

    fn check_target(cpu, bus, op) {
        if get::<u32>(cpu, (*op).a) > u64::from((*op).imm) {
            return fault(cpu, bus, op, Fault::gp(0));
        }
        next(cpu, bus, op)
    }

    /// Ends the block with a look around.
    fn leave(cpu, bus, op) {
        let _ = bus;
        cpu.state.rip = u64::from(cpu.exec.absolute((*op).imm));
        cpu.exec.leave = Leave::Goto;
        ptr::null()
    }

    /// The block's code was written: the instruction here must be decoded again.
    #[cold]
    fn stale(cpu, bus, op) {
        let _ = bus;
        let index = cpu.code.first_at(cpu.exec.block, usize::from((*op).y));
        cpu.state.rip = u64::from(cpu.eip_of(index));
        leave_at(cpu, index, Leave::Goto)
    }

    /// The block's one instruction goes on in another page, which may be mapped elsewhere by now.
    fn spans(cpu, bus, op) {
        let next = cpu.exec.absolute((*op).imm2);
        cpu.exec.op = op;
        if next == 0 && cpu.exec.origin_bits != 0 {
            // The block was made where its page was not the last one.
            return fault(cpu, bus, op, Fault::gp(0));
        }
        let linear = cpu.state.segment(SegReg::Cs).base.wrapping_add(u64::from(next)) & 0xffff_ffff;
        match cpu.fetch_page(bus, linear) {
            Ok(page) if page >> 12 == u64::from((*op).imm) => after(op),
            Ok(_) => {
                cpu.code.drop_block(cpu.exec.block);
                stale(cpu, bus, op)
            }
            Err(raised) => fault(cpu, bus, op, raised),
        }
    }

    fn here(cpu, bus, op) {
        let eip = cpu.exec.absolute((*op).imm);
        put::<u32>(cpu, (*op).d, u64::from(eip));
        next(cpu, bus, op)
    }

    fn helper(cpu, bus, op) {
        call(cpu, bus, op, (*op).imm)
    }

    fn x87(cpu, bus, op) {
        call(cpu, bus, op, (*op).imm2 >> 16)
    }

    /// Opens a block that may become native code.
    fn enter(cpu, bus, op) {
        match (*op).imm.checked_sub(1) {
            Some(left) => (*op.cast_mut()).imm = left,
            None if cpu.wait_for_native() => {}
            None => return hot(cpu),
        }
        next(cpu, bus, op)
    }

    /// An op that no handler knows (64-bit code, today).
    #[cold]
    fn unknown(cpu, bus, op) {
        fault(cpu, bus, op, Fault::ud())
    }
}

/// Calls helper number `number` of the block for the instruction of `op`.
///
/// # Safety
/// `op` leads to an op of the block that runs.
#[inline(always)]
unsafe fn call(cpu: &mut Cpu, bus: &mut dyn Bus, op: *const Uop, number: u32) -> Next {
    // SAFETY: the caller's promise.
    unsafe {
        cpu.exec.op = op;
        cpu.settle_floats();
        let index = usize::from((*op).y);
        cpu.state.rip = u64::from(cpu.eip_of(index));
        let (helper, insn) = cpu.code.helper_of(cpu.exec.block, number);
        match helper(cpu, bus, &insn) {
            Ok(Flow::Next) => after(op),
            Ok(Flow::Resync) => {
                cpu.state.rip = u64::from(cpu.exec.absolute(insn.next_ip() as u32));
                leave_at(cpu, index + 1, Leave::Goto)
            }
            Ok(Flow::Jump | Flow::Again) => leave_at(cpu, index + 1, Leave::Goto),
            Err(raised) => fault(cpu, bus, op, raised),
        }
    }
}

/// Opens a block that there is native code of.
pub(super) unsafe fn native(cpu: &mut Cpu, bus: &mut dyn Bus, _: *const Uop) -> Next {
    template::enter(cpu, bus);
    template::left(cpu);
    ptr::null()
}

/// Opens a block that a region begins with.
pub(super) unsafe fn region(cpu: &mut Cpu, bus: &mut dyn Bus, _: *const Uop) -> Next {
    cranelift::enter(cpu, bus);
    cranelift::left(cpu);
    ptr::null()
}

/// Ends an op that stands alone.
pub(super) unsafe fn return_(_: &mut Cpu, _: &mut dyn Bus, op: *const Uop) -> Next {
    op
}

/// Where a branch (not one that was fused) leads.
pub(super) fn branch_target(cpu: &mut Cpu, uop: &Uop) -> u32 {
    let taken = match uop.op() {
        Op::JumpTo {} => return get::<u32>(cpu, uop.a) as u32,
        Op::JumpIf { cond } => cpu.state.flags.condition(cond as u8),
        Op::JumpCount { count, size } => {
            let counter = get::<u32>(cpu, uop.a) & size.mask();
            match count {
                Count::Zero => counter == 0,
                Count::NonZero => counter != 0,
                Count::NonZeroAndE => counter != 0 && cpu.state.flags.zf(),
                Count::NonZeroAndNe => counter != 0 && !cpu.state.flags.zf(),
            }
        }
        _ => true,
    };
    cpu.exec.absolute(if taken { uop.imm } else { uop.imm2 })
}

/// The block that runs was entered often enough.
#[cold]
#[inline(never)]
fn hot(cpu: &mut Cpu) -> Next {
    cpu.state.rip = u64::from(cpu.eip_of(0));
    leave_at(cpu, 0, Leave::Hot)
}

/// The slow part of a CALL's push.
unsafe fn push_next(cpu: &mut Cpu, bus: &mut dyn Bus, op: *const Uop) -> Result<(), Fault> {
    cpu.exec.op = op;
    let at = get::<u32>(cpu, RSP).wrapping_sub(4) & 0xffff_ffff;
    // SAFETY: the handler's promise.
    let next = cpu.exec.absolute(unsafe { (*op).imm2 });
    cpu.store(bus, at, next)?;
    put::<u32>(cpu, RSP, at);
    Ok(())
}
