//! The interpreter: one handler a micro-op, each of which goes straight to the next one's.
//!
//! In release builds a handler ends with a call of the next in tail position, which LLVM makes a jump: the whole block,
//! and the blocks linked to it, run without coming back here. In debug builds a handler returns the next op instead and
//! the loop in `Cpu::execute` goes on with it, so that the stack stays flat; cold handlers do that in release builds, too.
//! A handler that must come back returns null and says why in `Exec::leave`.
//!
//! Handlers have a fast path without calls. What misses the TLB goes on in a cold twin that does the whole op again.

mod alu;
mod control;
mod memory;
mod shift;
mod single;
mod table;
mod vector;

use std::ptr;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

use super::block::{Header, Link, MAX_INSTRUCTIONS, SAMPLED};
use super::fault::Fault;
use super::interrupt::TripleFault;
use super::lift::Mode;
use super::uop::Uop;
use super::{Cpu, Exit, cranelift, template};
use crate::bus::Bus;
use crate::bus::signals::Signals;
use crate::cpu::debug::dr6;
use crate::cpu::flags::{RF, TF};

/// What a handler returns: the next op (debug builds), or null: back to the dispatcher.
type Next = *const Uop;
/// A handler.
type Handler = unsafe fn(&mut Cpu, &mut dyn Bus, *const Uop) -> Next;

/// Why a block was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// `state.rip` says where to go on.
    Goto,
    /// The same, and [`Exec::link`] may be tied to the block there.
    Link,
    /// The instruction at `state.rip` raised this.
    Fault(Fault),
    /// The block that runs was entered often enough to be made native code of; nothing of it has been executed.
    Hot,
}

/// What the engine knows while it runs.
#[derive(Debug)]
pub(super) struct Exec {
    /// Instructions that may still be entered.
    pub left: i64,
    /// The block that runs.
    pub block: *const Header,
    /// The op that runs, where it may leave the fast path.
    pub op: *const Uop,
    /// Way out that was not tied to a block.
    pub link: *mut Link,
    /// [`Mode::key`] of the block that runs.
    pub mode: u64,
    /// What its offsets in CS count from,
    pub origin: u32,
    /// and [`Mode::origin_bits`].
    pub origin_bits: u32,
    pub leave: Leave,
    /// The block that runs was written, and leaves at its next instruction: for native code, which does not change under way.
    pub died: bool,
    /// What native code's calls of the interpreter need.
    pub lent: Lent,
    /// What native code finds.
    pub native: template::Run,
    /// What regions find.
    pub region: cranelift::Run,
    /// The machine's signals, while [`Cpu::run`] runs.
    signals: *const Signals,
    /// This turn of the dispatcher is timed.
    pub sampled: bool,
    /// A helper, or a fault that native code ran into, has shut the processor down.
    pub shutdown: bool,
    /// Faults that were delivered without a turn of the dispatcher; each has used up one of `left`.
    pub delivered: u64,
    /// What helpers have counted themselves, and taken off `left`, since the last turn of the dispatcher.
    pub rounds: u64,
}

// SAFETY: the pointers lead into the processor's own block cache and are only followed while it runs.
unsafe impl Send for Exec {}

impl Default for Exec {
    fn default() -> Self {
        Self {
            left: 0,
            block: ptr::null(),
            op: ptr::null(),
            link: ptr::null_mut(),
            mode: 0,
            origin: 0,
            origin_bits: 0,
            leave: Leave::Goto,
            died: false,
            lent: Lent::default(),
            native: template::Run::default(),
            region: cranelift::Run::default(),
            signals: ptr::null(),
            sampled: false,
            shutdown: false,
            delivered: 0,
            rounds: 0,
        }
    }
}

impl Exec {
    /// Not zero where somebody wants attention.
    ///
    /// # Safety
    /// Only while [`Cpu::run`] runs.
    pub unsafe fn attention(&self) -> *const AtomicU32 {
        // SAFETY: the signals are lent for so long.
        unsafe { (*self.signals).attention_flag() }
    }

    /// Whether somebody wants attention.
    ///
    /// # Safety
    /// Only while blocks run.
    #[inline(always)]
    pub unsafe fn raised(&self) -> bool {
        // SAFETY: `Cpu::execute` has set the pointer, and holds the bus that owns the signals.
        unsafe { (*self.signals).raised() }
    }
}

/// Goes on with the op at `op`.
///
/// # Safety
/// `op` leads to an op of a live block.
#[inline(always)]
unsafe fn go(cpu: &mut Cpu, bus: &mut dyn Bus, op: *const Uop) -> Next {
    if cfg!(debug_assertions) {
        return op;
    }
    // SAFETY: the caller's promise.
    unsafe { table::handler(op)(cpu, bus, op) }
}

/// Goes on with the op after `op`.
///
/// # Safety
/// `op` leads to an op of a live block that does not end there.
#[inline(always)]
unsafe fn next(cpu: &mut Cpu, bus: &mut dyn Bus, op: *const Uop) -> Next {
    // SAFETY: the caller's promise.
    unsafe { go(cpu, bus, op.add(1)) }
}

/// Goes on with the op after `op` by way of the loop in [`Cpu::execute`], which empties the stack: for handlers that hand out
/// addresses of their own variables, whose last call LLVM may therefore not make a jump. Without it each TLB miss or
/// helper would leave a frame behind until the chain of blocks ends.
///
/// # Safety
/// `op` leads to an op of a live block that does not end there.
#[inline(always)]
unsafe fn after(op: *const Uop) -> Next {
    // SAFETY: the caller's promise.
    unsafe { op.add(1) }
}

/// Leaves the block: instruction `completed` and those after it have not been executed.
fn leave_at(cpu: &mut Cpu, completed: usize, leave: Leave) -> Next {
    // SAFETY: the block that runs lives.
    let count = unsafe { (*cpu.exec.block).count };
    cpu.exec.left += i64::from(count) - completed as i64;
    cpu.exec.leave = leave;
    ptr::null()
}

/// The instruction of `op` raises a fault.
///
/// # Safety
/// `op` leads to an op of the block that runs.
#[cold]
#[inline(never)]
unsafe fn fault(cpu: &mut Cpu, _: &mut dyn Bus, op: *const Uop, fault: Fault) -> Next {
    // SAFETY: the caller's promise.
    let index = usize::from(unsafe { (*op).y });
    cpu.state.rip = u64::from(cpu.eip_of(index));
    leave_at(cpu, index, Leave::Fault(fault))
}

/// One turn of the interpreter's loop.
///
/// # Safety
/// `op` leads to an op of the block that runs, or to a copy of one with [`Op::Return`](super::uop::Op::Return) behind it.
unsafe fn step(cpu: &mut Cpu, bus: &mut dyn Bus, op: *const Uop) -> *const Uop {
    // SAFETY: the caller's promise.
    unsafe { table::handler(op)(cpu, bus, op) }
}

/// Leaves the block that runs before instruction `completed`, which is one of it, to look it up again.
fn leave_stale(cpu: &mut Cpu, completed: usize) {
    cpu.state.rip = u64::from(cpu.eip_of(completed));
    leave_at(cpu, completed, Leave::Goto);
}

/// Leaves the block that runs after `completed` instructions; RIP says where to go on.
fn leave_after(cpu: &mut Cpu, completed: usize) {
    leave_at(cpu, completed, Leave::Goto);
}

pub(super) use single::{Lent, execute_op};

impl Exec {
    /// No way out is to be tied any more: what runs next does not follow from it.
    pub fn forget_link(&mut self) {
        self.link = ptr::null_mut();
        self.native.forget_way();
        self.region.forget_exit();
    }

    /// What is executed from now on is of this mode.
    pub fn enter_mode(&mut self, mode: Mode) {
        self.mode = mode.key();
        self.origin_bits = mode.origin_bits();
    }

    /// What is executed from now on is on the page of this offset in CS.
    #[inline(always)]
    pub fn enter_page(&mut self, eip: u32) {
        self.origin = eip & self.origin_bits;
    }

    /// The offset in CS that a block means by `eip`.
    #[inline(always)]
    pub fn absolute(&self, eip: u32) -> u32 {
        self.origin.wrapping_add(eip)
    }
}

impl Cpu {
    /// Offset in CS of instruction number `index` of the block that runs.
    fn eip_of(&self, index: usize) -> u32 {
        self.exec.absolute(self.code.relative_eip(self.exec.block, index))
    }

    /// Whether the instruction whose helper runs is followed by another one of its block.
    pub(super) fn another_follows(&self) -> bool {
        let (block, op) = (self.exec.block, self.exec.op);
        // SAFETY: both are null, or lead to the block that runs and to one of its ops.
        !block.is_null() && !op.is_null() && unsafe { u32::from((*op).y) + 1 < (*block).count }
    }

    /// Executes until `budget` instructions are through or something else comes up.
    ///
    /// Interrupts are looked at between blocks. An exception that is delivered uses up one of the budget, too, so that a
    /// guest that does nothing but fault comes back. With a budget of one exactly one instruction (or one exception) happens.
    pub fn run(&mut self, bus: &mut dyn Bus, budget: u64) -> Exit {
        self.run_for(bus, budget, false)
    }

    /// The same, but ends before a block that is longer than what is left of the budget, a few instructions early: else whoever goes on makes
    /// a block that begins in the middle of that one. For code that runs long, such blocks would come to be all over it.
    pub fn run_blocks(&mut self, bus: &mut dyn Bus, budget: u64) -> Exit {
        self.run_for(bus, budget, budget > MAX_INSTRUCTIONS as u64)
    }

    fn run_for(&mut self, bus: &mut dyn Bus, budget: u64, whole_blocks: bool) -> Exit {
        let mut left = budget.min(i64::MAX as u64);
        self.exec.forget_link();
        if let Some(regions) = &mut self.code.regions {
            regions.begin_slice();
        }
        let exit = loop {
            if let Some(exit) = self.turn(bus, &mut left, whole_blocks) {
                break exit;
            }
        };
        self.exec.block = ptr::null();
        self.exec.op = ptr::null();
        let exits = &mut self.code.stats.exits;
        let count = match exit {
            Exit::Budget => &mut exits.budget,
            Exit::Attention => &mut exits.attention,
            Exit::Halted => &mut exits.halted,
            Exit::TripleFault => &mut exits.shutdown,
        };
        *count += 1;
        exit
    }

    /// One turn of the dispatcher: interrupts, then a chain of blocks.
    fn turn(&mut self, bus: &mut dyn Bus, left: &mut u64, whole_blocks: bool) -> Option<Exit> {
        if bus.signals().raised() {
            return Some(Exit::Attention);
        }
        self.code.stats.dispatches += 1;
        self.sync_map(bus);
        self.exec.block = ptr::null();
        self.exec.op = ptr::null();
        self.sync_code(bus);

        if self.state.pending_debug != 0 && !self.state.debug_shadow {
            match self.take_debug_trap(bus) {
                Ok(_) => self.exec.forget_link(),
                Err(_) => return Some(Exit::TripleFault),
            }
        }
        if self.smi_due(bus) {
            self.enter_smm(bus);
            self.exec.forget_link();
        }
        match self.take_nmi(bus) {
            Ok(false) => {}
            Ok(true) => self.exec.forget_link(),
            Err(_) => return Some(Exit::TripleFault),
        }
        match self.take_interrupt(bus) {
            Ok(false) => {}
            Ok(true) => self.exec.forget_link(),
            Err(_) => return Some(Exit::TripleFault),
        }
        if self.state.halted {
            return Some(Exit::Halted);
        }
        if *left == 0 {
            return Some(Exit::Budget);
        }

        if self.alignment_checked() != self.tlb.checks_alignment() {
            self.choose_bank();
        }
        let step = self.state.flags.has(TF);
        let shadow = self.state.interrupt_shadow;
        if self.armed.code != 0 && !self.state.flags.has(RF) && !self.state.debug_shadow {
            match self.take_code_breakpoint(bus) {
                Ok(false) => {}
                Ok(true) => {
                    *left -= 1;
                    self.exec.forget_link();
                    return None;
                }
                Err(_) => return Some(Exit::TripleFault),
            }
        }
        let mut mode = Mode::of(self);
        if step || shadow || self.single_for_debug() {
            mode = mode.single();
        }
        let mut header = match self.block(bus, mode) {
            Ok(header) => header,
            Err(fault) => return self.deliver_fault(bus, fault, left),
        };
        // SAFETY: `block` returns blocks that live.
        if u64::from(unsafe { (*header).count }) > *left {
            self.sample(bus, header);
            if whole_blocks {
                return Some(Exit::Budget);
            }
            mode = mode.single();
            header = match self.block(bus, mode) {
                Ok(header) => header,
                Err(fault) => return self.deliver_fault(bus, fault, left),
            };
        }
        if !self.exec.link.is_null() {
            if mode.key() == self.exec.mode {
                self.code.tie(self.exec.link, header);
            }
        } else if mode.key() == self.exec.mode {
            let way = self.exec.native.way();
            self.code.tie_way(way, header);
            let generation = self.region_generation();
            self.code.tie_exit(self.exec.region.exit(), header, generation);
        }
        self.exec.forget_link();
        self.state.interrupt_shadow = false;
        self.state.debug_shadow = false;
        if self.state.flags.has(RF) {
            // It holds for one instruction. Only instruction breakpoints look at it, and that is over.
            self.state.flags.update(RF, 0);
        }
        let left_before = *left;
        let software = step && self.is_software_interrupt(header);
        self.execute(bus, header, mode, left);
        let otherwise = std::mem::take(&mut self.exec.rounds) + std::mem::take(&mut self.exec.delivered);
        self.retired = self.retired.wrapping_add((left_before - *left).saturating_sub(otherwise));

        if std::mem::take(&mut self.exec.shutdown) {
            return Some(Exit::TripleFault);
        }
        match self.exec.leave {
            Leave::Fault(fault) => return self.deliver_fault(bus, fault, left),
            Leave::Hot => self.make_native(bus),
            Leave::Goto | Leave::Link => {}
        }
        if step && !software {
            self.state.pending_debug |= dr6::BS;
        }
        if self.state.pending_debug != 0 && self.take_debug_trap(bus).is_err() {
            return Some(Exit::TripleFault);
        }
        None
    }

    /// Counts rounds of a REP besides the one that the engine counts. They use up the budget, or what runs behind them would be too much.
    pub(super) fn count_rounds(&mut self, rounds: u64) {
        self.retired = self.retired.wrapping_add(rounds);
        let taken = rounds.min(self.exec.left.max(0) as u64);
        self.exec.left -= taken as i64;
        self.exec.rounds += taken;
    }

    fn deliver_fault(&mut self, bus: &mut dyn Bus, fault: Fault, left: &mut u64) -> Option<Exit> {
        *left = left.saturating_sub(1);
        self.raise_fault(bus, fault).is_err().then_some(Exit::TripleFault)
    }

    /// Delivers the fault of an instruction that has not completed.
    pub(super) fn raise_fault(&mut self, bus: &mut dyn Bus, fault: Fault) -> Result<(), TripleFault> {
        self.exec.forget_link();
        self.exec.block = ptr::null();
        self.code.stats.faults += 1;
        // Whatever it hit it will hit again.
        self.state.pending_debug = 0;
        self.raise(bus, fault)
    }

    /// INT n and its like clear TF on their way: no trap follows them.
    fn is_software_interrupt(&self, header: *const Header) -> bool {
        use iced_x86::Mnemonic;
        self.code.first_helper(header).is_some_and(|insn| {
            matches!(insn.mnemonic(), Mnemonic::Int | Mnemonic::Int3 | Mnemonic::Into | Mnemonic::Int1)
        })
    }

    /// Runs the block at `header` and all that is linked to it; takes what was executed from `left`.
    fn execute(&mut self, bus: &mut dyn Bus, header: *const Header, mode: Mode, left: &mut u64) {
        let before = *left;
        let native = self.code.stats.native;
        let started = self.code.stats.dispatches.is_multiple_of(SAMPLED).then(Instant::now);
        self.exec.sampled = started.is_some();
        // SAFETY: the dispatcher passes a live block, and alone empties the part that it is in.
        unsafe {
            self.exec.left = *left as i64 - i64::from((*header).count);
            self.exec.block = header;
            self.exec.enter_mode(mode);
            self.exec.signals = bus.signals();
            let mut op = Header::code(header);
            while !op.is_null() {
                op = table::handler(op)(self, bus, op);
            }
        }
        self.settle_floats();
        *left = self.exec.left.max(0) as u64;
        if let Some(started) = started {
            let stats = &mut self.code.stats;
            let there = stats.native;
            let nanos = started.elapsed().as_nanos() as u64;
            stats.interpreter.nanos += nanos.saturating_sub(there.nanos - native.nanos);
            let executed = before.saturating_sub(*left);
            stats.interpreter.instructions += executed.saturating_sub(there.instructions - native.instructions);
        }
    }
}

#[cfg(test)]
mod tests;
