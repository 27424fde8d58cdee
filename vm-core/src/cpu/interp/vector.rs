//! Handlers of vector ops.

use std::ptr;

use super::alu::{get, put};
use super::memory::ea;
use super::{Leave, Next, after, fault, leave_at, next};
use crate::bus::Bus;
use crate::cpu::access::Unsigned;
use crate::cpu::fault::Fault;
use crate::cpu::flags::ARITHMETIC;
use crate::cpu::state::{cr0, cr4};
use crate::cpu::tlb::PAGE;
use crate::cpu::uop::{Uop, VT0};
use crate::cpu::vector::float::{Calculate, VectorTest, calculate};
use crate::cpu::vector::ops::{Compute, VectorGet, VectorSet};
use crate::cpu::{Cpu, Flow};

/// Bytes of a whole register.
const SIZE: u32 = 16;

/// A vector register or temporary.
#[inline(always)]
fn read<const MMX: bool>(cpu: &Cpu, number: u8) -> u128 {
    if MMX && number < VT0 {
        return u128::from(cpu.fpu.registers[usize::from(number & 7)].significand);
    }
    cpu.state.vector[usize::from(number & 31)]
}

/// Writes a vector register or temporary. What an MMX register does not hold of the x87's becomes ones.
#[inline(always)]
fn write<const MMX: bool>(cpu: &mut Cpu, number: u8, value: u128) {
    if MMX && number < VT0 {
        let register = &mut cpu.fpu.registers[usize::from(number & 7)];
        register.significand = value as u64;
        register.sign_exponent = 0xffff;
    } else {
        cpu.state.vector[usize::from(number & 31)] = value;
    }
}

/// What every MMX instruction but EMMS does to the x87: TOP is 0 and all registers hold something.
#[inline(always)]
fn enter<const MMX: bool>(cpu: &mut Cpu) {
    if MMX {
        cpu.fpu.top = 0;
        cpu.fpu.valid = 0xff;
    }
}

/// Host address of `size` bytes at `linear`, where the TLB has them for a read or a write.
#[inline(always)]
fn host<T>(cpu: &Cpu, linear: u32, write: bool) -> Option<*mut T> {
    let entry = cpu.tlb.entry(linear);
    let tag = if write { entry.write } else { entry.read };
    (linear ^ tag <= PAGE - size_of::<T>() as u32).then(|| ptr::with_exposed_provenance_mut(entry.host_of(linear)))
}

macro_rules! handlers {
    ($($(#[$doc:meta])* fn $name:ident [$($generic:tt)*] ($cpu:ident, $bus:ident, $op:ident) $body:block)*) => {$(
        $(#[$doc])*
        pub(super) unsafe fn $name<$($generic)*>($cpu: &mut Cpu, $bus: &mut dyn Bus, $op: *const Uop) -> Next {
            // SAFETY: the dispatcher and `next` pass ops of the block that runs; the TLB leads to memory that the bus has
            // mapped, at least as large as the access.
            unsafe { $body }
        }
    )*};
}

handlers! {
    fn check[const MMX: bool](cpu, bus, op) {
        let forbidden = cpu.state.cr[0] & (cr0::EM | cr0::TS) != 0
            || if MMX { cpu.fpu.pending() } else { cpu.state.cr[4] & cr4::OSFXSR == 0 };
        if forbidden {
            return check_slow::<MMX>(cpu, bus, op);
        }
        next(cpu, bus, op)
    }

    fn load_part[T: Unsigned, const MMX: bool, const X: bool](cpu, bus, op) {
        let at = ea::<X>(cpu, &*op);
        let Some(host) = host::<T>(cpu, at, false) else {
            return load_part_miss::<T, MMX>(cpu, bus, op, at);
        };
        let value = host.read_unaligned();
        enter::<MMX>(cpu);
        write::<MMX>(cpu, (*op).d, u128::from(value.wide()));
        next(cpu, bus, op)
    }

    fn store_part[T: Unsigned, const MMX: bool, const X: bool](cpu, bus, op) {
        let at = ea::<X>(cpu, &*op);
        let Some(host) = host::<T>(cpu, at, true) else {
            return store_part_miss::<T, MMX>(cpu, bus, op, at);
        };
        host.write_unaligned(T::narrow(read::<MMX>(cpu, (*op).d) as u64));
        enter::<MMX>(cpu);
        next(cpu, bus, op)
    }

    fn load[const X: bool, const ALIGNED: bool](cpu, bus, op) {
        let at = ea::<X>(cpu, &*op);
        let aligned = !ALIGNED || at.is_multiple_of(SIZE);
        let Some(host) = host::<u128>(cpu, at, false).filter(|_| aligned) else {
            return load_miss::<ALIGNED>(cpu, bus, op, at);
        };
        let value = host.read_unaligned();
        write::<false>(cpu, (*op).d, value);
        next(cpu, bus, op)
    }

    fn store[const X: bool, const ALIGNED: bool](cpu, bus, op) {
        let at = ea::<X>(cpu, &*op);
        let aligned = !ALIGNED || at.is_multiple_of(SIZE);
        let Some(host) = host::<u128>(cpu, at, true).filter(|_| aligned) else {
            return store_miss::<ALIGNED>(cpu, bus, op, at);
        };
        host.write_unaligned(read::<false>(cpu, (*op).d));
        next(cpu, bus, op)
    }

    fn compute[C: Compute, const MMX: bool](cpu, bus, op) {
        let Uop { d, b, imm, .. } = *op;
        let (x, y) = (read::<MMX>(cpu, d), read::<MMX>(cpu, b));
        enter::<MMX>(cpu);
        write::<MMX>(cpu, d, if MMX { C::mmx(x, y, imm as u8) } else { C::xmm(x, y, imm as u8) });
        next(cpu, bus, op)
    }

    fn float[C: Calculate](cpu, bus, op) {
        if !C::HOST || !cpu.floats_lent {
            return float_slow::<C>(cpu, bus, op);
        }
        let Uop { d, b, imm, .. } = *op;
        let (x, y) = (read::<false>(cpu, d), read::<false>(cpu, b));
        write::<false>(cpu, d, C::host(x, y, imm as u8));
        next(cpu, bus, op)
    }

    fn test[const TEST: u8](cpu, bus, op) {
        let Uop { d, b, .. } = *op;
        let (x, y) = (read::<false>(cpu, d), read::<false>(cpu, b));
        let Some(flags) = VectorTest::ALL[TEST as usize].plain(x, y) else {
            return test_slow::<TEST>(cpu, bus, op);
        };
        cpu.state.flags.update(ARITHMETIC, flags);
        next(cpu, bus, op)
    }

    fn get_number[const GET: u8, const MMX: bool](cpu, bus, op) {
        let Uop { d, a, imm, .. } = *op;
        let number = VectorGet::ALL[GET as usize].of(read::<MMX>(cpu, a), imm as u8, MMX);
        enter::<MMX>(cpu);
        put::<u32>(cpu, d, u64::from(number));
        next(cpu, bus, op)
    }

    fn set_number[const SET: u8, const MMX: bool](cpu, bus, op) {
        let Uop { d, a, imm, .. } = *op;
        let number = get::<u32>(cpu, a) as u32;
        let value = VectorSet::ALL[SET as usize].of(read::<MMX>(cpu, d), number, imm as u8, MMX);
        enter::<MMX>(cpu);
        write::<MMX>(cpu, d, value);
        next(cpu, bus, op)
    }

    /// To the MMX registers, or from them.
    fn cross[const MMX: bool](cpu, bus, op) {
        let Uop { d, a, .. } = *op;
        enter::<true>(cpu);
        if MMX {
            let value = read::<false>(cpu, a);
            write::<true>(cpu, d, value);
        } else {
            let value = read::<true>(cpu, a);
            write::<false>(cpu, d, value);
        }
        next(cpu, bus, op)
    }
}

/// Goes on in the dispatcher's loop, or raises the fault.
unsafe fn end(cpu: &mut Cpu, bus: &mut dyn Bus, op: *const Uop, outcome: Result<(), Fault>) -> Next {
    // SAFETY: handlers pass their op.
    unsafe {
        match outcome {
            Ok(()) => after(op),
            Err(raised) => fault(cpu, bus, op, raised),
        }
    }
}

#[cold]
#[inline(never)]
unsafe fn check_slow<const MMX: bool>(cpu: &mut Cpu, bus: &mut dyn Bus, op: *const Uop) -> Next {
    cpu.exec.op = op;
    // SAFETY: `check` passes its op.
    unsafe {
        if !MMX {
            let outcome = cpu.sse_available();
            return end(cpu, bus, op, outcome);
        }
        let index = usize::from((*op).y);
        cpu.state.rip = u64::from(cpu.eip_of(index));
        match cpu.mmx_enter(bus) {
            Ok(None | Some(Flow::Next)) => after(op),
            // FERR# has gone up: the instruction waits for the board, once.
            Ok(Some(_)) => leave_at(cpu, index + 1, Leave::Goto),
            Err(raised) => fault(cpu, bus, op, raised),
        }
    }
}

/// The host's flags are not lent yet, MXCSR is not as after reset, or the host cannot do it.
#[cold]
#[inline(never)]
unsafe fn float_slow<C: Calculate>(cpu: &mut Cpu, bus: &mut dyn Bus, op: *const Uop) -> Next {
    // SAFETY: handlers pass their op.
    let Uop { d, b, imm, .. } = unsafe { *op };
    let (x, y) = (read::<false>(cpu, d), read::<false>(cpu, b));
    let outcome = if C::HOST && cpu.lend_floats() {
        write::<false>(cpu, d, C::host(x, y, imm as u8));
        Ok(())
    } else {
        let outcome = calculate::<C>(cpu.state.mxcsr, x, y, imm as u8);
        if !outcome.faults {
            write::<false>(cpu, d, outcome.result);
        }
        cpu.raise_floats(outcome.flags, outcome.faults)
    };
    // SAFETY: as above.
    unsafe { end(cpu, bus, op, outcome) }
}

/// An operand is a NaN or denormal.
#[cold]
#[inline(never)]
unsafe fn test_slow<const TEST: u8>(cpu: &mut Cpu, bus: &mut dyn Bus, op: *const Uop) -> Next {
    // SAFETY: handlers pass their op.
    let Uop { d, b, .. } = unsafe { *op };
    let (x, y) = (read::<false>(cpu, d), read::<false>(cpu, b));
    let (arithmetic, flags, faults) = VectorTest::ALL[TEST as usize].calculate(cpu.state.mxcsr, x, y);
    let outcome = cpu.raise_floats(flags, faults).map(|()| cpu.state.flags.update(ARITHMETIC, arithmetic));
    // SAFETY: as above.
    unsafe { end(cpu, bus, op, outcome) }
}

#[cold]
#[inline(never)]
unsafe fn load_part_miss<T: Unsigned, const MMX: bool>(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    op: *const Uop,
    at: u32,
) -> Next {
    cpu.exec.op = op;
    let outcome = cpu.load::<T>(bus, u64::from(at)).map(|value| {
        enter::<MMX>(cpu);
        // SAFETY: handlers pass their op.
        write::<MMX>(cpu, unsafe { (*op).d }, u128::from(value.wide()));
    });
    // SAFETY: as above.
    unsafe { end(cpu, bus, op, outcome) }
}

#[cold]
#[inline(never)]
unsafe fn store_part_miss<T: Unsigned, const MMX: bool>(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    op: *const Uop,
    at: u32,
) -> Next {
    cpu.exec.op = op;
    // SAFETY: handlers pass their op.
    let value = T::narrow(read::<MMX>(cpu, unsafe { (*op).d }) as u64);
    let outcome = cpu.store(bus, u64::from(at), value).map(|()| enter::<MMX>(cpu));
    // SAFETY: as above.
    unsafe { end(cpu, bus, op, outcome) }
}

#[cold]
#[inline(never)]
unsafe fn load_miss<const ALIGNED: bool>(cpu: &mut Cpu, bus: &mut dyn Bus, op: *const Uop, at: u32) -> Next {
    cpu.exec.op = op;
    let outcome = if ALIGNED && !at.is_multiple_of(SIZE) {
        Err(Fault::gp(0))
    } else {
        // SAFETY: handlers pass their op.
        cpu.load_128(bus, u64::from(at)).map(|value| write::<false>(cpu, unsafe { (*op).d }, value))
    };
    // SAFETY: as above.
    unsafe { end(cpu, bus, op, outcome) }
}

#[cold]
#[inline(never)]
unsafe fn store_miss<const ALIGNED: bool>(cpu: &mut Cpu, bus: &mut dyn Bus, op: *const Uop, at: u32) -> Next {
    cpu.exec.op = op;
    let outcome = if ALIGNED && !at.is_multiple_of(SIZE) {
        Err(Fault::gp(0))
    } else {
        // SAFETY: handlers pass their op.
        let value = read::<false>(cpu, unsafe { (*op).d });
        cpu.store_128(bus, u64::from(at), value)
    };
    // SAFETY: as above.
    unsafe { end(cpu, bus, op, outcome) }
}
