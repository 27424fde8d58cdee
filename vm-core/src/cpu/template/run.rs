//! What native code calls, and how it is entered.

use std::ptr;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

use super::memory::OTHER;
use super::registers::state_pointer;
use super::returns::Returns;
use super::x87;
use super::{CodePlace, Jump, Way};
use crate::bus::Bus;
use crate::cpu::block::Header;
use crate::cpu::fpu::picture::Picture;
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
    /// Host addresses less linear ones, of the groups of accesses in the block that runs, by number.
    pub addends: [u64; GROUPS],
    /// The TLB's entries of code pages for this privilege level.
    pub code: *const u8,
    /// Whether somebody wants attention.
    pub attention: *const AtomicU32,
    /// The jump table of the mode that runs.
    pub jumps: *mut Jump,
    /// Bytes from an entry of the TLB to what it knows of the page.
    pub pages: usize,
    /// For a look at the TLB: bytes of a page without those of the group that is looked up.
    pub span: u32,
    /// The place for the next entry of the journal,
    pub journal: *mut *mut u64,
    /// and its end.
    pub journal_end: *mut *mut u64,
    /// Generation of the TLB, and the loads of CR3, to which the journal belongs.
    journal_of: (u32, u32),
    /// The words (tags of sites, keys of jumps, [`Way`]s' generations) that hold only until CR3 is loaded, made when native code is
    /// entered first.
    locals: Vec<*mut u64>,
    /// Where calls will come back to.
    pub(super) returns: Returns,
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
            addends: [0; GROUPS],
            code: ptr::null(),
            attention: ptr::null(),
            jumps: ptr::null_mut(),
            pages: 0,
            span: 0,
            journal: ptr::null_mut(),
            journal_end: ptr::null_mut(),
            journal_of: (0, 0),
            locals: Vec::new(),
            returns: Returns::default(),
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

/// How many words may hold until CR3 is loaded; where there are more, all are thought untrue.
const LOCALS: usize = 2048;

/// Groups of a block that look into the TLB; any more have sites.
pub(super) const GROUPS: usize = 16;

/// What marks a word of the journal as the tag of a site that knows two pages: both are untrue with one of them.
pub(super) const TWO_PAGES: i32 = 1;

/// Makes untrue what held until CR3 was loaded, where it was. What is global still holds: all of a kernel, mostly.
fn forget_locals(cpu: &mut Cpu) {
    let loads = cpu.tlb.loads();
    if cpu.exec.native.journal == cpu.exec.native.journal_end && cpu.exec.native.journal_of.1 != loads {
        // There were more than were noted.
        cpu.tlb.distrust_copies();
    }
    let now = (cpu.tlb.generation(), loads);
    let run = &mut cpu.exec.native;
    if run.journal_of == now {
        return;
    }
    run.returns.forget();
    if run.locals.is_empty() {
        run.locals = vec![ptr::null_mut(); LOCALS];
    }
    let start = run.locals.as_mut_ptr();
    // Where the generation has moved all words are untrue, and where code was dropped (then it has) they are no more.
    if run.journal_of.0 == now.0 {
        // SAFETY: native code fills the journal from its start on, with words of code that was not dropped.
        unsafe {
            let count = run.journal.offset_from(start).max(0) as usize;
            for &marked in &run.locals[..count.min(LOCALS)] {
                let word = marked.map_addr(|address| address & !TWO_PAGES as usize);
                // No generation; what stands below it stays.
                *word &= (1 << 33) - 1;
                if word != marked {
                    *word.byte_add(OTHER as usize) &= (1 << 33) - 1;
                }
            }
        }
    }
    run.journal_of = now;
    run.journal = start;
    run.journal_end = start.wrapping_add(LOCALS);
}

/// Takes over what may have changed while Rust code ran.
pub(super) fn refresh(cpu: &mut Cpu) {
    forget_locals(cpu);
    cpu.exec.native.generation = tag(cpu);
    cpu.exec.native.bank = cpu.tlb.bank_pointer();
    cpu.exec.native.code = cpu.tlb.code_pointer(cpu.state.cpl == 3);
    cpu.exec.native.pages = cpu.tlb.pages_from_entries();
}

/// Enters the native code of the block that runs, and comes back when that, and all it leads to, is left.
pub(in crate::cpu) fn enter(cpu: &mut Cpu, bus: &mut dyn Bus) {
    let block = cpu.exec.block;
    let Some(entry) = cpu.code.native_entry(block) else { return };
    let Some(native) = &cpu.code.native else { return };
    let enter = native.stubs.enter;
    // SAFETY: the block that runs lives.
    let Header { count, mode, .. } = unsafe { *block };
    cpu.choose_jumps(Mode::from_key(mode));
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
        // SAFETY: ways live until their part is emptied, which does not happen while code runs.
        cpu.state.rip = u64::from(cpu.exec.absolute(unsafe { (*way).eip }));
        cpu.exec.leave = Leave::Goto;
    }
}

/// Native code wants to go to `eip`: the host address of the code there, or 0: out.
pub(super) unsafe extern "sysv64" fn find(cpu: *mut Cpu, eip: u64) -> u64 {
    // SAFETY: native code passes the processor that runs it; the bus is lent to `enter`.
    unsafe {
        let cpu = &mut *cpu;
        x87::settle(cpu);
        cpu.state.rip = eip & 0xffff_ffff;
        cpu.exec.leave = Leave::Goto;
        let next = cpu.jump_here(eip as u32).or_else(|| cpu.resume_lent());
        refresh(cpu);
        let Some((header, entry)) = next else {
            cpu.code.stats.leaves.jump += 1;
            return 0;
        };
        if Mode::from_key(cpu.exec.mode).flat_code() {
            // Native code itself looks at the TLB, and writes the generation in. The quick table has blocks that live.
            let jump = Jump { key: cpu.state.rip, place: CodePlace::new(entry, *header) };
            if let Some(native) = &mut cpu.code.native {
                native.put_jump(eip as u32, jump);
            }
        }
        entry
    }
}

/// Native code came to a way that it cannot take by itself: the host address of the code there, or 0: out.
pub(super) unsafe extern "sysv64" fn follow(cpu: *mut Cpu, way: *mut Way) -> u64 {
    // SAFETY: native code passes the processor that runs it and a way of the block that runs; the bus is lent to `enter`.
    unsafe {
        let cpu = &mut *cpu;
        x87::settle(cpu);
        cpu.exec.native.way = way;
        cpu.state.rip = u64::from(cpu.exec.absolute((*way).eip));
        cpu.exec.leave = Leave::Goto;
        let before = cpu.exec.mode;
        let next = cpu.resume_lent();
        refresh(cpu);
        let Some((header, entry)) = next else { return 0 };
        if before == cpu.exec.mode {
            cpu.code.tie_way(way, header);
        }
        cpu.exec.native.way = ptr::null_mut();
        entry
    }
}

/// What [`execute_op`] returns besides addresses: out,
pub(super) const OUT: u64 = 0;
/// or on with the next op.
pub(super) const ON: u64 = 1;

/// Executes one op by the interpreter. [`ON`]; [`OUT`], as the interpreter has said; or the host address of the code that comes next.
pub(super) unsafe extern "sysv64" fn execute_op(cpu: *mut Cpu, op: *const Uop) -> u64 {
    // SAFETY: native code passes the processor that runs it, and an op of the block that runs; the bus is lent to `enter`.
    unsafe {
        let cpu = &mut *cpu;
        x87::settle(cpu);
        cpu.code.stats.native_calls += 1;
        let next = if interp::execute_op(cpu, op) { ON } else { cpu.resume_lent().map_or(OUT, |(_, entry)| entry) };
        refresh(cpu);
        cpu.code.stats.leaves.op += u64::from(next == OUT);
        next
    }
}

/// The host's MXCSR gathers exceptions from now on; false: the guest's is not such that it can.
pub(super) unsafe extern "sysv64" fn lend_floats(cpu: *mut Cpu) -> bool {
    // SAFETY: native code passes the processor that runs it.
    unsafe { (*cpu).lend_floats() }
}

/// Brings the arithmetic flags into the form of a result, if they can be.
pub(super) unsafe extern "sysv64" fn result_form(cpu: *mut Cpu) -> bool {
    // SAFETY: native code passes the processor that runs it.
    unsafe { (*cpu).state.flags.make_result() }
}

/// Remembers what a rotate to the left leaves in CF and OF, by its result.
pub(super) unsafe extern "sysv64" fn rotated_left(cpu: *mut Cpu, result: u64) {
    let result = result as u32;
    // SAFETY: native code passes the processor that runs it.
    unsafe { rotated(cpu, result & 1, result >> 31) }
}

/// The same for one to the right.
pub(super) unsafe extern "sysv64" fn rotated_right(cpu: *mut Cpu, result: u64) {
    let result = result as u32;
    // SAFETY: native code passes the processor that runs it.
    unsafe { rotated(cpu, result >> 31, result >> 30 & 1) }
}

/// CF is `carry`, OF whether the other end differs from it.
///
/// # Safety
/// The pointer leads to the processor that runs.
unsafe fn rotated(cpu: *mut Cpu, carry: u32, other: u32) {
    // SAFETY: the caller's promise.
    unsafe { (*cpu).state.flags.set_carry_overflow(carry != 0, carry != other) };
}

/// Whether an interrupt waits.
pub(super) unsafe extern "sysv64" fn interrupt_pending(cpu: *mut Cpu) -> u32 {
    // SAFETY: native code passes the processor that runs it; the bus is lent to `enter`.
    unsafe { (*cpu).exec.lent.bus().is_none_or(|bus| (*bus).interrupt_pending()).into() }
}

/// The arithmetic flags, for the host's own.
pub(super) unsafe extern "sysv64" fn flags(cpu: *mut Cpu) -> u32 {
    // SAFETY: native code passes the processor that runs it.
    let cpu = unsafe { &*cpu };
    cpu.state.flags.get() & flags::ARITHMETIC | 0x202
}

impl Cpu {
    /// What [`Cpu::resume`] finds, with the bus that is lent.
    fn resume_lent(&mut self) -> Option<(*const Header, u64)> {
        let bus = self.exec.lent.bus()?;
        // SAFETY: native code runs, so the bus is lent, and nobody else has it.
        self.resume(unsafe { &mut *bus })
    }

    /// Where native code goes on after a region, at RIP: its host address, or 0: out.
    pub(super) fn after_region(&mut self) -> u64 {
        self.exec.leave = Leave::Goto;
        let next = self.jump_here(self.state.rip as u32).or_else(|| self.resume_lent());
        refresh(self);
        let Some((header, entry)) = next else { return 0 };
        // Where a region was left for it, that leads to another region directly from now on.
        let generation = self.region_generation();
        self.code.tie_exit(self.exec.region.exit(), header, generation);
        self.exec.region.forget_exit();
        entry
    }

    /// The block at an offset in CS, and its native code, where a look at the TLB and the quick table is enough.
    fn jump_here(&mut self, eip: u32) -> Option<(*const Header, u64)> {
        // SAFETY: native code runs.
        if unsafe { self.exec.raised() } {
            return None;
        }
        let linear = self.state.seg[SegReg::Cs as usize].base.wrapping_add(u64::from(eip)) & 0xffff_ffff;
        let page = self.tlb.code_page(self.state.cpl == 3, linear)?;
        let header = self.code.quick(page | linear & 0xfff, eip & !self.exec.origin_bits, self.exec.mode)?;
        let entry = self.code.native_entry(header)?;
        self.exec.enter_page(eip);
        Some((header, entry))
    }

    /// Indirect jumps are looked up in the table of this mode from now on.
    pub(super) fn choose_jumps(&mut self, mode: Mode) {
        // Where code is not flat no offset is looked up there.
        self.exec.native.jumps = match &mut self.code.native {
            Some(native) if mode.flat_code() => {
                let (table, is_new) = native.jump_table(mode.key());
                if is_new {
                    self.exec.native.returns.forget();
                }
                self.exec.native.returns.choose(table.ring);
                table.jumps.as_mut_ptr()
            }
            _ => ptr::null_mut(),
        };
    }
}
