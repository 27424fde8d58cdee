//! Handlers of loads, stores and the stack.

use std::ptr;

use super::alu::{compare_values, compute, get, immediate, put, signed, step};
use super::control::{compared, follow, link_of, look_along};
use super::{Next, after, fault, next};
use crate::bus::{Bus, Width};
use crate::cpu::Cpu;
use crate::cpu::access::Unsigned;
use crate::cpu::fault::Fault;
use crate::cpu::state::{SegReg, gpr};
use crate::cpu::tlb::PAGE;
use crate::cpu::uop::{RSP, Uop};

/// The linear address (or offset) that an op's operands make.
#[inline(always)]
pub(super) fn ea<const INDEX: bool>(cpu: &mut Cpu, op: &Uop) -> u32 {
    let base = (get::<u32>(cpu, op.a) as u32).wrapping_add(op.imm);
    if INDEX { base.wrapping_add((get::<u32>(cpu, op.b) as u32) << (op.x & 31)) } else { base }
}

/// Host address of a `T` that can be read at `linear`, where the TLB has it.
#[inline(always)]
fn readable<T: Unsigned>(cpu: &Cpu, linear: u32) -> Option<*const T> {
    let entry = cpu.tlb.entry(linear);
    (linear ^ entry.read <= PAGE - T::SIZE).then(|| ptr::with_exposed_provenance(entry.host_of(linear)))
}

/// Host address of a `T` that can be written at `linear`, where the TLB has it.
#[inline(always)]
fn writable<T: Unsigned>(cpu: &Cpu, linear: u32) -> Option<*mut T> {
    let entry = cpu.tlb.entry(linear);
    (linear ^ entry.write <= PAGE - T::SIZE).then(|| ptr::with_exposed_provenance_mut(entry.host_of(linear)))
}

/// A memory op: what it does with the host's memory where the TLB has it, and what otherwise.
///
/// SAFETY of all: the dispatcher and `next` pass ops of the block that runs; the TLB leads to memory that the bus has
/// mapped, at least as large as the access.
macro_rules! memory_ops {
    ($(
        $(#[$doc:meta])*
        fn $name:ident / $miss:ident [$($generic:tt)*] ($cpu:ident, $bus:ident, $op:ident, $at:ident = $ea:expr)
        $with:ident($host:ident) $hit:block else $slow:block
    )*) => {$(
        $(#[$doc])*
        pub(super) unsafe fn $name<$($generic)*>($cpu: &mut Cpu, $bus: &mut dyn Bus, op: *const Uop) -> Next {
            // SAFETY: see the macro.
            unsafe {
                let $op = &*op;
                let $at: u32 = $ea;
                let Some($host) = $with::<T>($cpu, $at) else {
                    memory_ops!(@miss $miss [$($generic)*] ($cpu, $bus, op, $at))
                };
                $hit
                next($cpu, $bus, op)
            }
        }

        #[cold]
        #[inline(never)]
        unsafe fn $miss<$($generic)*>($cpu: &mut Cpu, $bus: &mut dyn Bus, op: *const Uop, $at: u32) -> Next {
            $cpu.exec.op = op;
            // SAFETY: see the macro.
            unsafe {
                let $op = &*op;
                let outcome: Result<(), Fault> = (|| { $slow Ok(()) })();
                match outcome {
                    Ok(()) => after(op),
                    Err(raised) => fault($cpu, $bus, op, raised),
                }
            }
        }
    )*};
    (@miss $miss:ident [T: Unsigned $(, const $c:ident: $k:ty)*] ($cpu:ident, $bus:ident, $op:ident, $at:ident)) => {
        return $miss::<T, $($c),*>($cpu, $bus, $op, $at)
    };
    (@miss $miss:ident [T: Unsigned, U: Unsigned $(, const $c:ident: $k:ty)*] ($cpu:ident, $bus:ident, $op:ident, $at:ident)) => {
        return $miss::<T, U, $($c),*>($cpu, $bus, $op, $at)
    };
}

memory_ops! {
    fn load / load_miss[T: Unsigned, const X: bool](cpu, bus, op, at = ea::<X>(cpu, op))
    readable(host) {
        let value = host.read_unaligned();
        put::<T>(cpu, op.d, value.wide());
    } else {
        let value: T = cpu.load(bus, u64::from(at))?;
        put::<T>(cpu, op.d, value.wide());
    }

    fn load_widen / load_widen_miss[T: Unsigned, U: Unsigned, const X: bool, const SIGN: bool](cpu, bus, op, at = ea::<X>(cpu, op))
    readable(host) {
        let value = host.read_unaligned().wide();
        put::<U>(cpu, op.d, if SIGN { signed::<T>(value) as u64 } else { value });
    } else {
        let value = cpu.load::<T>(bus, u64::from(at))?.wide();
        put::<U>(cpu, op.d, if SIGN { signed::<T>(value) as u64 } else { value });
    }

    fn load_for_write / load_for_write_miss[T: Unsigned, const X: bool](cpu, bus, op, at = ea::<X>(cpu, op))
    writable(host) {
        let value = host.read_unaligned();
        put::<T>(cpu, op.d, value.wide());
    } else {
        let value: T = cpu.load_for_write(bus, u64::from(at))?;
        put::<T>(cpu, op.d, value.wide());
    }

    fn store / store_miss[T: Unsigned, const X: bool](cpu, bus, op, at = ea::<X>(cpu, op))
    writable(host) {
        host.write_unaligned(T::narrow(get::<T>(cpu, op.d)));
    } else {
        let value = T::narrow(get::<T>(cpu, op.d));
        cpu.store(bus, u64::from(at), value)?;
    }

    fn store_imm / store_imm_miss[T: Unsigned, const X: bool](cpu, bus, op, at = ea::<X>(cpu, op))
    writable(host) {
        host.write_unaligned(T::narrow(immediate::<T>(op.imm2)));
    } else {
        cpu.store(bus, u64::from(at), T::narrow(immediate::<T>(op.imm2)))?;
    }

    fn alu_load / alu_load_miss[T: Unsigned, const X: bool, const ALU: u8, const LIVE: bool](cpu, bus, op, at = ea::<X>(cpu, op))
    readable(host) {
        let b = host.read_unaligned().wide();
        let a = get::<T>(cpu, op.d);
        let result = compute::<ALU, T, LIVE>(cpu, a, b);
        put::<T>(cpu, op.d, result);
    } else {
        let b = cpu.load::<T>(bus, u64::from(at))?.wide();
        let a = get::<T>(cpu, op.d);
        let result = compute::<ALU, T, LIVE>(cpu, a, b);
        put::<T>(cpu, op.d, result);
    }

    fn alu_store / alu_store_miss[T: Unsigned, const X: bool, const ALU: u8, const IMM: bool](cpu, bus, op, at = ea::<X>(cpu, op))
    writable(host) {
        let a = host.read_unaligned().wide();
        let b = if IMM { immediate::<T>(op.imm2) } else { get::<T>(cpu, op.d) };
        host.write_unaligned(T::narrow(compute::<ALU, T, true>(cpu, a, b)));
    } else {
        let a = cpu.load_for_write::<T>(bus, u64::from(at))?.wide();
        let b = if IMM { immediate::<T>(op.imm2) } else { get::<T>(cpu, op.d) };
        let result = compute::<ALU, T, true>(cpu, a, b);
        cpu.store(bus, u64::from(at), T::narrow(result))?;
    }

    fn inc_store / inc_store_miss[T: Unsigned, const X: bool](cpu, bus, op, at = ea::<X>(cpu, op))
    writable(host) {
        let a = host.read_unaligned().wide();
        let result = if op.x & 0x80 == 0 { step::<T, false>(cpu, a) } else { step::<T, true>(cpu, a) };
        host.write_unaligned(T::narrow(result));
    } else {
        let a = cpu.load_for_write::<T>(bus, u64::from(at))?.wide();
        let result = if op.x & 0x80 == 0 { step::<T, false>(cpu, a) } else { step::<T, true>(cpu, a) };
        cpu.store(bus, u64::from(at), T::narrow(result))?;
    }

    fn compare_load / compare_load_miss[T: Unsigned, const X: bool, const TEST: bool](cpu, bus, op, at = ea::<X>(cpu, op))
    readable(host) {
        let b = host.read_unaligned().wide();
        let a = get::<T>(cpu, op.d);
        compare_values::<T, TEST>(cpu, a, b);
    } else {
        let b = cpu.load::<T>(bus, u64::from(at))?.wide();
        let a = get::<T>(cpu, op.d);
        compare_values::<T, TEST>(cpu, a, b);
    }

    fn compare_mem / compare_mem_miss[T: Unsigned, const X: bool, const TEST: bool, const IMM: bool](cpu, bus, op, at = ea::<X>(cpu, op))
    readable(host) {
        let a = host.read_unaligned().wide();
        let b = if IMM { immediate::<T>(op.imm2) } else { get::<T>(cpu, op.d) };
        compare_values::<T, TEST>(cpu, a, b);
    } else {
        let a = cpu.load::<T>(bus, u64::from(at))?.wide();
        let b = if IMM { immediate::<T>(op.imm2) } else { get::<T>(cpu, op.d) };
        compare_values::<T, TEST>(cpu, a, b);
    }

    fn push_flat / push_flat_miss[T: Unsigned, const IMM: bool](cpu, bus, op, at = (get::<u32>(cpu, RSP) as u32).wrapping_sub(4))
    writable(host) {
        let value = if IMM { u64::from(op.imm) } else { get::<T>(cpu, op.d) };
        host.write_unaligned(T::narrow(value));
        put::<u32>(cpu, RSP, u64::from(at));
    } else {
        let value = if IMM { u64::from(op.imm) } else { get::<T>(cpu, op.d) };
        cpu.store(bus, u64::from(at), T::narrow(value))?;
        put::<u32>(cpu, RSP, u64::from(at));
    }

    fn pop_flat / pop_flat_miss[T: Unsigned, const UNUSED: bool](cpu, bus, op, at = get::<u32>(cpu, RSP) as u32)
    readable(host) {
        let value = host.read_unaligned();
        put::<T>(cpu, op.d, value.wide());
        put::<u32>(cpu, RSP, u64::from(at.wrapping_add(4)));
    } else {
        let value: T = cpu.load(bus, u64::from(at))?;
        put::<T>(cpu, op.d, value.wide());
        put::<u32>(cpu, RSP, u64::from(at.wrapping_add(4)));
    }
}

/// Compares a register with memory, and branches.
pub(super) unsafe fn compare_load_jump<T: Unsigned, const X: bool, const TEST: bool, const COND: u8>(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    op: *const Uop,
) -> Next {
    // SAFETY: the dispatcher and `next` pass ops of the block that runs; links stand behind branches.
    unsafe {
        let linear = ea::<X>(cpu, &*op);
        let Some(host) = readable::<T>(cpu, linear) else {
            return compare_jump_miss::<T, X, TEST, COND>(cpu, bus, op);
        };
        let b = host.read_unaligned().wide();
        let a = get::<T>(cpu, (*op).d);
        compare_values::<T, TEST>(cpu, a, b);
        follow(cpu, bus, link_of(op, usize::from(!compared::<T, TEST, COND>(cpu, a, b))))
    }
}

/// Compares memory with a register or a constant, and branches.
pub(super) unsafe fn compare_mem_jump<T: Unsigned, const X: bool, const TEST: bool, const IMM: bool, const COND: u8>(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    op: *const Uop,
) -> Next {
    // SAFETY: as above.
    unsafe {
        let linear = ea::<X>(cpu, &*op);
        let Some(host) = readable::<T>(cpu, linear) else {
            return compare_mem_jump_miss::<T, X, TEST, IMM, COND>(cpu, bus, op);
        };
        let a = host.read_unaligned().wide();
        let b = if IMM { immediate::<T>((*op).imm2) } else { get::<T>(cpu, (*op).d) };
        compare_values::<T, TEST>(cpu, a, b);
        follow(cpu, bus, link_of(op, usize::from(!compared::<T, TEST, COND>(cpu, a, b))))
    }
}

#[cold]
#[inline(never)]
unsafe fn compare_jump_miss<T: Unsigned, const X: bool, const TEST: bool, const COND: u8>(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    op: *const Uop,
) -> Next {
    cpu.exec.op = op;
    // SAFETY: as above.
    unsafe {
        let linear = ea::<X>(cpu, &*op);
        match cpu.load::<T>(bus, u64::from(linear)) {
            Ok(b) => {
                let a = get::<T>(cpu, (*op).d);
                compare_values::<T, TEST>(cpu, a, b.wide());
                let taken = compared::<T, TEST, COND>(cpu, a, b.wide());
                look_along(cpu, link_of(op, usize::from(!taken)))
            }
            Err(raised) => fault(cpu, bus, op, raised),
        }
    }
}

#[cold]
#[inline(never)]
unsafe fn compare_mem_jump_miss<T: Unsigned, const X: bool, const TEST: bool, const IMM: bool, const COND: u8>(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    op: *const Uop,
) -> Next {
    cpu.exec.op = op;
    // SAFETY: as above.
    unsafe {
        let linear = ea::<X>(cpu, &*op);
        match cpu.load::<T>(bus, u64::from(linear)) {
            Ok(a) => {
                let b = if IMM { immediate::<T>((*op).imm2) } else { get::<T>(cpu, (*op).d) };
                compare_values::<T, TEST>(cpu, a.wide(), b);
                let taken = compared::<T, TEST, COND>(cpu, a.wide(), b);
                look_along(cpu, link_of(op, usize::from(!taken)))
            }
            Err(raised) => fault(cpu, bus, op, raised),
        }
    }
}

/// Pushes a value on a flat 32-bit stack; the fast part of CALL.
#[inline(always)]
pub(super) fn push_fast(cpu: &mut Cpu, value: u32) -> bool {
    let at = (get::<u32>(cpu, RSP) as u32).wrapping_sub(4);
    let Some(host) = writable::<u32>(cpu, at) else { return false };
    // SAFETY: the TLB leads to memory that the bus has mapped.
    unsafe { host.write_unaligned(value) };
    put::<u32>(cpu, RSP, u64::from(at));
    true
}

/// The top of a flat 32-bit stack, where the TLB has it; the fast part of RET.
#[inline(always)]
pub(super) fn top_fast(cpu: &mut Cpu) -> Option<u32> {
    let at = get::<u32>(cpu, RSP) as u32;
    // SAFETY: the TLB leads to memory that the bus has mapped.
    readable::<u32>(cpu, at).map(|host| unsafe { host.read_unaligned() })
}

/// The segment register of a number.
#[inline(always)]
fn segment_register(number: u32) -> SegReg {
    SegReg::ALL[(number & 7).min(5) as usize]
}

/// The selector in a segment register.
pub(super) unsafe fn selector(cpu: &mut Cpu, bus: &mut dyn Bus, op: *const Uop) -> Next {
    // SAFETY: the dispatcher and `next` pass ops of the block that runs.
    unsafe {
        let selector = cpu.state.segment(segment_register((*op).imm)).selector;
        put::<u32>(cpu, (*op).d, u64::from(selector));
        next(cpu, bus, op)
    }
}

/// A checked linear address.
pub(super) unsafe fn segment<const A16: bool, const X: bool>(cpu: &mut Cpu, bus: &mut dyn Bus, op: *const Uop) -> Next {
    // SAFETY: the dispatcher and `next` pass ops of the block that runs.
    unsafe {
        let this = &*op;
        let offset = ea::<X>(cpu, this);
        let offset = u64::from(if A16 { offset & 0xffff } else { offset });
        let seg = segment_register(this.imm2);
        let Some(linear) = cpu.state.segment(seg).translate(offset, this.imm2 >> 8, this.imm2 & 0x80 != 0) else {
            return segment_fault(cpu, bus, op, offset);
        };
        put::<u32>(cpu, this.d, linear);
        next(cpu, bus, op)
    }
}

/// The segment does not hold the operand.
#[cold]
#[inline(never)]
unsafe fn segment_fault(cpu: &mut Cpu, bus: &mut dyn Bus, op: *const Uop, offset: u64) -> Next {
    // SAFETY: as in `segment`.
    unsafe {
        let this = &*op;
        match cpu.linear(segment_register(this.imm2), offset, this.imm2 >> 8, this.imm2 & 0x80 != 0) {
            Ok(linear) => {
                put::<u32>(cpu, this.d, linear);
                after(op)
            }
            Err(raised) => fault(cpu, bus, op, raised),
        }
    }
}

const fn width<T: Unsigned>() -> Width {
    match T::SIZE {
        2 => Width::Word,
        8 => Width::Qword,
        _ => Width::Dword,
    }
}

/// A push through SS.
pub(super) unsafe fn push<T: Unsigned, const IMM: bool>(cpu: &mut Cpu, bus: &mut dyn Bus, op: *const Uop) -> Next {
    cpu.exec.op = op;
    // SAFETY: the dispatcher and `next` pass ops of the block that runs.
    unsafe {
        let value = if IMM { immediate::<T>((*op).imm) } else { get::<T>(cpu, (*op).d) };
        if let Err(raised) = cpu.push(bus, width::<T>(), value) {
            return fault(cpu, bus, op, raised);
        }
        after(op)
    }
}

/// A pop through SS.
pub(super) unsafe fn pop<T: Unsigned>(cpu: &mut Cpu, bus: &mut dyn Bus, op: *const Uop) -> Next {
    cpu.exec.op = op;
    // SAFETY: the dispatcher and `next` pass ops of the block that runs.
    unsafe {
        match cpu.pop(bus, width::<T>()) {
            Ok(value) => put::<T>(cpu, (*op).d, value),
            Err(raised) => return fault(cpu, bus, op, raised),
        }
        after(op)
    }
}

const _: () = assert!(RSP as usize == gpr::RSP * 8);
