//! What native code calls, and how it is entered.

use std::ptr;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

use super::control::JUMPS;
use super::registers::state_pointer;
use super::x87::{self, Picture};
use super::{CodePlace, Jump, Way};
use crate::bus::Bus;
use crate::cpu::block::Header;
use crate::cpu::interp::{self, Leave};
use crate::cpu::lift::Mode;
use crate::cpu::state::SegReg;
use crate::cpu::tlb::TlbEntry;
use crate::cpu::uop::Uop;
use crate::cpu::{Cpu, flags};

/// What native code finds while it runs.
#[derive(Debug)]
pub(in crate::cpu) struct Run {
    /// The TLB's generation as sites hold it.
    pub generation: u64,
    /// The TLB's bank in use.
    pub bank: *const TlbEntry,
    /// The TLB's entries of code pages.
    pub code: *const u8,
    /// Whether somebody wants attention.
    pub attention: *const AtomicU32,
    /// The jump table of the mode that runs.
    pub jumps: *mut Jump,
    /// The way by which code was left, where it was one.
    pub way: *mut Way,
    /// Not zero: the host's XMM8 to XMM15 hold the guest's registers, and the state does not.
    pub xmm: u8,
    /// Not zero: the host's x87 is the guest's, and [`Cpu::fpu`] is not true.
    pub x87: u8,
    /// What goes to and comes from the host's x87.
    pub picture: Picture,
}

impl Run {
    /// The way by which code was left, where it was one that may be tied.
    pub fn way(&self) -> *mut Way {
        self.way
    }

    /// What runs next does not follow from it.
    pub fn forget_way(&mut self) {
        self.way = ptr::null_mut();
    }
}

impl Default for Run {
    fn default() -> Self {
        Self {
            generation: 0,
            bank: ptr::null(),
            code: ptr::null(),
            attention: ptr::null(),
            jumps: ptr::null_mut(),
            way: ptr::null_mut(),
            xmm: 0,
            x87: 0,
            picture: Picture::default(),
        }
    }
}

/// The TLB's generation as sites hold it: above the address, and even.
fn tag(cpu: &Cpu) -> u64 {
    u64::from(cpu.tlb.generation()) << 33
}

/// Takes over what may have changed while Rust code ran.
pub(super) fn refresh(cpu: &mut Cpu) {
    cpu.exec.native.generation = tag(cpu);
    cpu.exec.native.bank = cpu.tlb.bank_pointer();
    cpu.exec.native.code = cpu.tlb.code_pointer();
}

/// Enters the native code of the block that runs, and comes back when that, and all it leads to, is left.
pub(in crate::cpu) fn enter(cpu: &mut Cpu, bus: &mut dyn Bus) {
    let block = cpu.exec.block;
    let Some(entry) = cpu.code.native_entry(block) else { return };
    let Some(native) = cpu.code.native.as_mut() else { return };
    let enter = native.stubs.enter;
    // SAFETY: the block that runs lives.
    let Header { count, mode, .. } = unsafe { *block };
    // Elsewhere no offset is looked up there.
    cpu.exec.native.jumps = if Mode::from_key(mode).flat_code() { native.jump_table(mode) } else { ptr::null_mut() };
    cpu.exec.native.attention = bus.signals().attention_flag();
    cpu.exec.native.way = ptr::null_mut();
    cpu.exec.died = false;
    // The code takes it off again.
    cpu.exec.left += i64::from(count);
    cpu.exec.leave = Leave::Goto;
    refresh(cpu);
    // SAFETY: the bus is borrowed until this function is left, and no native code runs longer.
    unsafe { cpu.exec.lent.lend(bus) };
    let left = cpu.exec.left;
    let started = cpu.exec.sampled.then(Instant::now);
    let entered: *mut Cpu = cpu;
    // SAFETY: the stub is such a function, and code was made for this processor's layout. It calls back with the same pointer; no
    // reference to the processor or the bus is used meanwhile.
    unsafe {
        let enter: extern "sysv64" fn(*mut u8, u64) = std::mem::transmute(enter as usize as *const ());
        enter(state_pointer(entered), entry);
    }
    x87::settle(cpu);
    let stats = &mut cpu.code.stats;
    let executed = left.wrapping_sub(cpu.exec.left).max(0) as u64;
    stats.native_entries += 1;
    stats.native_executed += executed;
    if let Some(started) = started {
        stats.native.instructions += executed;
        stats.native.nanos += started.elapsed().as_nanos() as u64;
    }
}

/// Where execution goes on after native code was left: through a way, or as [`Leave`] says.
pub(in crate::cpu) fn left(cpu: &mut Cpu) {
    let way = cpu.exec.native.way;
    if !way.is_null() {
        cpu.code.stats.leaves.way += 1;
        // SAFETY: ways live until all code is dropped, which does not happen while code runs.
        cpu.state.rip = u64::from(unsafe { (*way).eip });
        cpu.exec.leave = Leave::Goto;
    }
}

/// Native code wants to go to `eip`: the host address of the code there, or 0: out.
pub(super) unsafe extern "sysv64" fn find(cpu: *mut Cpu, eip: u64) -> u64 {
    // SAFETY: native code passes the processor that runs it.
    let cpu = unsafe { &mut *cpu };
    x87::settle(cpu);
    refresh(cpu);
    cpu.find_native(eip as u32).unwrap_or_else(|| {
        cpu.code.stats.leaves.jump += 1;
        cpu.state.rip = eip & 0xffff_ffff;
        0
    })
}

/// Executes one op by the interpreter; false: out, as the interpreter has said.
pub(super) unsafe extern "sysv64" fn execute_op(cpu: *mut Cpu, op: *const Uop) -> bool {
    // SAFETY: native code passes the processor that runs it, and an op of the block that runs; the bus is lent to `enter`.
    unsafe {
        let cpu = &mut *cpu;
        x87::settle(cpu);
        cpu.code.stats.native_calls += 1;
        let goes_on = interp::execute_op(cpu, op);
        refresh(cpu);
        cpu.code.stats.leaves.op += u64::from(!goes_on);
        goes_on
    }
}

/// The host's MXCSR gathers exceptions from now on; false: the guest's is not such that it can.
pub(super) unsafe extern "sysv64" fn lend_floats(cpu: *mut Cpu) -> bool {
    // SAFETY: native code passes the processor that runs it.
    unsafe { (*cpu).lend_floats() }
}

/// The arithmetic flags, for the host's own.
pub(super) unsafe extern "sysv64" fn flags(cpu: *mut Cpu) -> u32 {
    // SAFETY: native code passes the processor that runs it.
    let cpu = unsafe { &*cpu };
    cpu.state.flags.get() & flags::ARITHMETIC | 0x202
}

impl Cpu {
    /// The native code at an offset in CS, and where code is flat a note of it in the jump table.
    pub(super) fn find_native(&mut self, eip: u32) -> Option<u64> {
        // SAFETY: native code runs.
        if unsafe { self.exec.raised() } {
            return None;
        }
        let mode = self.exec.mode;
        let linear = self.state.seg[SegReg::Cs as usize].base.wrapping_add(u64::from(eip)) & 0xffff_ffff;
        let page = self.tlb.code_page(self.state.cpl == 3, linear)?;
        let header = self.code.quick(page | linear & 0xfff, eip, mode)?;
        let entry = self.code.native_entry(header)?;
        // Where a region was left for it, that leads to another region directly from now on.
        self.code.tie_exit(self.exec.region.exit(), header, self.tlb.generation());
        self.exec.region.forget_exit();
        if Mode::from_key(mode).flat_code() {
            let key = self.exec.native.generation | u64::from(eip);
            // SAFETY: the quick table has blocks that live.
            let place = CodePlace::new(entry, unsafe { *header });
            // SAFETY: the table has so many entries.
            unsafe { *self.exec.native.jumps.add(eip as usize & (JUMPS - 1)) = Jump { key, place } };
        }
        Some(entry)
    }
}
