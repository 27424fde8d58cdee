//! What compiled regions call, and how they are entered.

use std::ptr;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

use super::{Data, Exit, JUMPS, Jump, NOBODY, Site};
use crate::bus::Bus;
use crate::cpu::block::Header;
use crate::cpu::interp::{self, Leave};
use crate::cpu::lift::Mode;
use crate::cpu::state::SegReg;
use crate::cpu::tlb::PAGE;
use crate::cpu::uop::Uop;
use crate::cpu::{Cpu, flags};

/// What regions find while they run.
#[derive(Debug)]
pub(in crate::cpu) struct Run {
    /// For what sites and exits hold: it moves with the TLB's generation and with loads of CR3.
    pub(super) generation: u32,
    /// The TLB's generation, and the loads of CR3, that it stands for.
    seen: (u32, u32),
    /// The region that has called, or [`NOBODY`].
    pub(super) running: u32,
    /// Whether somebody wants attention.
    pub(super) attention: *const AtomicU32,
    /// The jump table of the mode that runs.
    pub(super) jumps: *mut Jump,
    /// The exit by which code was left, where it was one.
    pub(super) exit: *mut Exit,
    /// What the function returned that a region has called.
    pub(super) result: u64,
    /// A region was left for an offset that there is no region for: the state has it.
    onward: bool,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            generation: 0,
            seen: (0, 0),
            running: NOBODY,
            attention: ptr::null(),
            jumps: ptr::null_mut(),
            exit: ptr::null_mut(),
            result: 0,
            onward: false,
        }
    }
}

impl Run {
    /// The exit by which code was left, where it was one that may be tied.
    pub fn exit(&self) -> *mut Exit {
        self.exit
    }

    /// The region that has called; [`NOBODY`] is no region's number.
    pub fn running(&self) -> u32 {
        self.running
    }

    /// What runs next does not follow from it.
    pub fn forget_exit(&mut self) {
        self.exit = ptr::null_mut();
    }
}

/// Enters the region that begins with the block that runs, and comes back when that, and all it leads to, is left.
pub(in crate::cpu) fn enter(cpu: &mut Cpu, bus: &mut dyn Bus) {
    let block = cpu.exec.block;
    // SAFETY: the block that runs lives.
    let Header { count, mode, .. } = unsafe { *block };
    // The code takes it off again.
    cpu.exec.left += i64::from(count);
    cpu.exec.leave = Leave::Goto;
    cpu.exec.region.exit = ptr::null_mut();
    cpu.exec.died = false;
    // SAFETY: as above.
    cpu.state.rip = u64::from(unsafe { (*block).eip });
    let Some(number) = cpu.code.region_of(block) else { return };
    let Some(regions) = cpu.code.regions.as_mut() else { return };
    let Some(code) = regions.code(number) else { return };
    let enter = regions.stubs.enter;
    // Elsewhere no offset is looked up there.
    cpu.exec.region.jumps = if Mode::from_key(mode).flat_code() { regions.jump_table(mode) } else { ptr::null_mut() };
    // SAFETY: the processor runs.
    cpu.exec.region.attention = unsafe { cpu.exec.attention() };
    cpu.region_generation();
    // SAFETY: the bus is borrowed until this function is left, and no region runs longer.
    unsafe { cpu.exec.lent.lend(bus) };
    let left = cpu.exec.left;
    let started = cpu.exec.sampled.then(Instant::now);
    let entered: *mut Cpu = cpu;
    // SAFETY: the stub is such a function, and code was made for this processor's layout. It calls back with the same pointer; no
    // reference to the processor or the bus is used meanwhile.
    unsafe {
        let enter: extern "C" fn(*mut Cpu, i64, *const u8) = std::mem::transmute(enter);
        enter(entered, left, code);
    }
    let stats = &mut cpu.code.stats;
    let executed = left.wrapping_sub(cpu.exec.left).max(0) as u64;
    stats.native_entries += 1;
    stats.native_executed += executed;
    stats.region_entries += 1;
    stats.region_executed += executed;
    if let Some(started) = started {
        stats.native.instructions += executed;
        stats.native.nanos += started.elapsed().as_nanos() as u64;
    }
}

/// Runs a region from templates, and regions that it leads to. True: what comes next is to be looked up at `state.rip`.
///
/// # Safety
/// The bus is lent, and `exec.left` is as at the start of the region's first block, whose instructions the region takes off.
#[allow(dead_code, reason = "where there are no templates, the interpreter enters regions")]
pub(in crate::cpu) unsafe fn run(cpu: &mut Cpu, number: u32) -> bool {
    let mode = cpu.exec.mode;
    let Some(regions) = cpu.code.regions.as_mut() else { return false };
    let Some((code, eip)) = regions.entry(number) else { return false };
    cpu.state.rip = u64::from(eip);
    cpu.exec.region.jumps = if Mode::from_key(mode).flat_code() { regions.jump_table(mode) } else { ptr::null_mut() };
    let enter = regions.stubs.enter;
    // SAFETY: native code runs.
    cpu.exec.region.attention = unsafe { cpu.exec.attention() };
    cpu.region_generation();
    cpu.exec.region.exit = ptr::null_mut();
    cpu.exec.region.onward = false;
    let left = cpu.exec.left;
    let entered: *mut Cpu = cpu;
    // SAFETY: see `enter`; templates do not use the processor until this is left, either.
    unsafe {
        let enter: extern "C" fn(*mut Cpu, i64, *const u8) = std::mem::transmute(enter);
        enter(entered, left, code);
    }
    let stats = &mut cpu.code.stats;
    stats.region_entries += 1;
    stats.region_executed += left.wrapping_sub(cpu.exec.left).max(0) as u64;
    let exit = cpu.exec.region.exit;
    if exit.is_null() {
        return cpu.exec.region.onward;
    }
    // SAFETY: exits live until the part of their region is emptied, which does not happen while one runs.
    cpu.state.rip = u64::from(unsafe { (*exit).eip });
    true
}

/// Where execution goes on after a region was left: through an exit, or as [`Leave`] says.
pub(in crate::cpu) fn left(cpu: &mut Cpu) {
    let exit = cpu.exec.region.exit;
    if !exit.is_null() {
        cpu.code.stats.leaves.way += 1;
        // SAFETY: exits live until the part of their region is emptied, which does not happen while one runs.
        cpu.state.rip = u64::from(unsafe { (*exit).eip });
        cpu.exec.leave = Leave::Goto;
    } else if std::mem::take(&mut cpu.exec.region.onward) {
        cpu.code.stats.leaves.jump += 1;
    }
}

impl Data {
    /// Forgets what the sites hold, where that is of another generation.
    fn refresh(&mut self, generation: u32) {
        if self.generation != generation {
            self.generation = generation;
            // SAFETY: the sites are as many, and live as long.
            let sites = unsafe { std::slice::from_raw_parts_mut(self.sites, self.count) };
            sites.fill(Site { tag: Site::NOWHERE, addend: 0 });
        }
    }
}

/// The sites hold for another generation than this.
pub(super) unsafe extern "C" fn refresh(cpu: *mut Cpu, data: *mut Data) {
    // SAFETY: a region passes the processor that runs it, and its own data.
    unsafe { (*data).refresh((*cpu).exec.region.generation) };
}

/// Fills a site for an access of `what & 0xff` bytes at `linear` (a write where `what` has bit 8) from the TLB; 0 where that does not
/// have it.
pub(super) unsafe extern "C" fn look_up(cpu: *mut Cpu, linear: u32, site: *mut Site, what: u32) -> u32 {
    // SAFETY: a region passes the processor that runs it, and a site of its own.
    let (cpu, site) = unsafe { (&*cpu, &mut *site) };
    let entry = cpu.tlb.entry(linear);
    let tag = if what & 0x100 != 0 { entry.write } else { entry.read };
    if linear ^ tag > PAGE - (what & 0xff) {
        return 0;
    }
    *site = Site { tag: u64::from(tag), addend: (entry.host as u64).wrapping_sub(tag.into()) };
    1
}

/// Executes one op of a block by the interpreter; 0: out, as the interpreter has said.
pub(super) unsafe extern "C" fn execute_op(
    cpu: *mut Cpu,
    op: *const Uop,
    block: *const Header,
    data: *mut Data,
) -> u32 {
    // SAFETY: a region passes the processor that runs it, an op and the block that it is of, and its own data; the bus is lent to
    // `enter`.
    unsafe {
        let cpu = &mut *cpu;
        cpu.exec.block = block;
        cpu.exec.region.running = (*data).number;
        cpu.code.stats.native_calls += 1;
        let goes_on = interp::execute_op(cpu, op);
        cpu.code.stats.leaves.op += u64::from(!goes_on);
        cpu.exec.region.running = NOBODY;
        let generation = cpu.region_generation();
        (*data).refresh(generation);
        u32::from(goes_on)
    }
}

/// A region wants to go to `eip`: the host address of the code there, or 0: out.
pub(super) unsafe extern "C" fn find(cpu: *mut Cpu, eip: u32) -> *const u8 {
    // SAFETY: a region passes the processor that runs it.
    let cpu = unsafe { &mut *cpu };
    cpu.find_region(eip).unwrap_or_else(|| {
        cpu.state.rip = u64::from(eip);
        cpu.exec.region.onward = true;
        ptr::null()
    })
}

/// The arithmetic flags.
pub(super) unsafe extern "C" fn arithmetic_flags(cpu: *mut Cpu) -> u32 {
    // SAFETY: a region passes the processor that runs it.
    unsafe { (*cpu).state.flags.get() & flags::ARITHMETIC }
}

impl Cpu {
    /// For what sites and exits of regions hold now. Never 0.
    pub(in crate::cpu) fn region_generation(&mut self) -> u32 {
        let now = (self.tlb.generation(), self.tlb.loads());
        let run = &mut self.exec.region;
        if run.seen != now {
            run.seen = now;
            run.generation = run.generation.checked_add(1).unwrap_or_else(|| {
                // What is left of the same number long ago goes.
                self.code.want_flush();
                1
            });
        }
        run.generation
    }

    /// The region at an offset in CS, and where code is flat a note of it in the jump table.
    fn find_region(&mut self, eip: u32) -> Option<*const u8> {
        // SAFETY: a region runs.
        if unsafe { self.exec.raised() } {
            return None;
        }
        let mode = self.exec.mode;
        let linear = self.state.seg[SegReg::Cs as usize].base.wrapping_add(u64::from(eip)) & 0xffff_ffff;
        let page = self.tlb.code_page(self.state.cpl == 3, linear)?;
        let header = self.code.quick(page | linear & 0xfff, eip, mode)?;
        let number = self.code.region_of(header)?;
        let code = self.code.regions.as_ref()?.code(number)?;
        if Mode::from_key(mode).flat_code() {
            let key = u64::from(self.exec.region.generation) << 32 | u64::from(eip);
            // SAFETY: the table has so many entries.
            unsafe { *self.exec.region.jumps.add(eip as usize & (JUMPS - 1)) = Jump { key, code } };
        }
        Some(code)
    }
}
