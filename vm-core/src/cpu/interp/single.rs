//! One op at a time: what native code has no code of its own for, the interpreter executes.

use super::{leave_after, leave_stale, step};
use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::cpu::interp::control::branch_target;
use crate::cpu::uop::{Op, Uop};

/// What native code's calls of the interpreter need.
#[derive(Debug)]
pub(in crate::cpu) struct Lent {
    /// The bus, while native code runs.
    bus: Option<*mut dyn Bus>,
    /// An op that the interpreter executes, and its end.
    single: [Uop; 2],
}

impl Default for Lent {
    fn default() -> Self {
        Self { bus: None, single: [Uop::new(Op::Return {}); 2] }
    }
}

impl Lent {
    /// The bus, where native code runs.
    #[allow(dead_code, reason = "regions alone do without")]
    pub fn bus(&self) -> Option<*mut dyn Bus> {
        self.bus
    }

    /// Lends the bus to the calls of native code that is entered next.
    ///
    /// # Safety
    /// Only while the bus is borrowed by whoever enters that code may it call back.
    pub unsafe fn lend(&mut self, bus: &mut dyn Bus) {
        let bus: *mut (dyn Bus + '_) = bus;
        #[allow(clippy::transmute_ptr_to_ptr, reason = "a cast may not lengthen the lifetime of what is pointed to")]
        // SAFETY: only the lifetime changes; the caller promises that the pointer is not used beyond it.
        let bus = unsafe { std::mem::transmute::<*mut (dyn Bus + '_), *mut (dyn Bus + 'static)>(bus) };
        self.bus = Some(bus);
    }
}

/// Executes an op of the block that `exec.block` says; false: out, as the interpreter has said. Where the op has killed the block
/// that runs, what is left of its instruction is executed, too, and the answer is to leave.
///
/// # Safety
/// `op` leads to an op of a copy of that block, which ends in a branch; the bus is lent.
pub(in crate::cpu) unsafe fn execute_op(cpu: &mut Cpu, op: *const Uop) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(bus) = cpu.exec.lent.bus else { return false };
        let bus = &mut *bus;
        let mut goes_on = single(cpu, bus, op);
        if goes_on && cpu.exec.died {
            finish(cpu, bus, op);
            goes_on = false;
        }
        goes_on
    }
}

/// One op; false: out.
///
/// # Safety
/// `op` leads to an op.
unsafe fn single(cpu: &mut Cpu, bus: &mut dyn Bus, op: *const Uop) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        cpu.exec.lent.single[0] = *op;
        let at = cpu.exec.lent.single.as_ptr();
        !step(cpu, bus, at).is_null()
    }
}

/// The block's own bytes were written by the instruction of `op`: what is left of it is executed, and then the block is left.
///
/// # Safety
/// `op` leads to an op of a block's copy, which ends in a branch.
#[cold]
unsafe fn finish(cpu: &mut Cpu, bus: &mut dyn Bus, op: *const Uop) {
    // SAFETY: ops of one instruction stand together, and each instruction is followed by another or ends the block with a branch.
    unsafe {
        let number = (*op).y;
        let mut op = op;
        let ends = |uop: &Uop| {
            matches!(uop.op(), Op::Jump {} | Op::JumpIf { .. } | Op::JumpCount { .. } | Op::JumpTo {} | Op::Leave {})
        };
        loop {
            op = op.add(1);
            let uop = &*op;
            if uop.y != number {
                leave_stale(cpu, usize::from(number) + 1);
                return;
            }
            if ends(uop) {
                let eip = branch_target(cpu, uop);
                cpu.state.rip = u64::from(eip);
                leave_after(cpu, usize::from(number) + 1);
                return;
            }
            if !single(cpu, bus, op) {
                return;
            }
        }
    }
}
