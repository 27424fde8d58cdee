//! Code that all blocks share: the way in, the way out, a look at the TLB, a call of the interpreter.

use std::mem::offset_of;

use super::control::{self, JUMP_ENTRY, ORIGIN};
use super::emitter::{Assembler, Group1, Mem, Reg};
use super::flags::{A, B, KIND, RESULT, VALUE, kind, operands_to_result};
use super::guarded;
use super::memory::OTHER;
use super::registers::{exec, processor, reload, spill, state};
use super::returns;
use super::vector::{LOAD_X, STORE_X, register};
use super::{CodePlace, Jump, Way, run, x87};
use crate::cpu::Cpu;
use crate::cpu::block::Header;
use crate::cpu::flags::{ARITHMETIC, Lazy, OF};
use crate::cpu::interp::Exec;
use crate::cpu::state::CpuState;
use crate::cpu::tlb::{BANKS, CODE_ENTRIES, CODE_ENTRY, CODE_ENTRY_BYTES, ENTRIES, PAGE, PAGE_GLOBAL, TlbEntry};
use crate::cpu::uop::{Cond, Size, Uop};

/// Host addresses.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stubs {
    /// `fn(state pointer, code)`.
    pub enter: u64,
    /// Out; RIP is in the state.
    pub leave: u64,
    /// By the way in R11 with the help of Rust code, or out.
    pub leave_way: u64,
    /// To the block at the offset in R10.
    pub find: u64,
    /// The same where R11 leads to the place in the jump table that is its own.
    pub find_flat: u64,
    /// The same by a look into the jump table, in flat code.
    pub jump: u64,
    /// The same for a return.
    pub ret: u64,
    /// The same where the newest place (R14 has its distance) is not that with the key in R13.
    pub ret_other: u64,
    /// Notes the return with the key in R11 to the place in R13. Uses R14.
    pub note: u64,
    /// By the way in R11, if it leads to the same physical page as before; else out.
    pub moved: u64,
    /// Returns without CF where the way in R11 leads to the same physical page as before: what goes on there is another piece of an instruction.
    pub second_page: u64,
    /// Executes the op number R11 of the block in R14 by the interpreter; [`USED_UP`]: leaves before the block, which was not to be entered.
    pub fallback: u64,
    /// Makes the host's arithmetic flags the guest's. Uses R14.
    pub load_flags: u64,
    /// Brings what is remembered of flags into the form [`Lazy::Result`], or sets CF. Uses R11 and R14.
    pub result_form: u64,
    /// By direction (left, right): remembers the flags of a rotate whose result is in R11. Uses R11 and R14.
    pub rotated: [u64; 2],
    /// Sets IF; the host's flags say "not equal" where that is more than a flag. Uses R14.
    pub sti: u64,
    /// The same of POPFD's flags in R10. Uses R11 and R14.
    pub popf: u64,
    /// Puts the XMM registers into the host's, where they are not.
    pub load_xmm: u64,
    /// Makes the host's x87 the guest's, where it can be: then ZF is clear.
    pub lend_x87: u64,
    /// The same for MXCSR.
    pub lend_floats: u64,
    /// By bank (the user's second), write and size (1 to 4 bytes): makes the address in R11 the host's, where the TLB has its page; the
    /// host's flags say "above" where it has not. Uses R14.
    pub page: [[[u64; 3]; 2]; 2],
    /// By size (1 to 16 bytes) and write: fills the site at R11 for the address in R13, or sets CF. Uses R14.
    pub tlb: [[u64; 5]; 2],
    /// By write: the same for the bytes of a group, with the highest difference in [`SPAN`].
    pub span: [u64; 2],
}

/// Number of no op.
pub(super) const USED_UP: u32 = u32::MAX;

const SAVED: [Reg; 6] = [Reg::Rbx, Reg::Rbp, Reg::R12, Reg::R13, Reg::R14, Reg::R15];
/// What a System V function may change, but for R11, R14 and what we do not keep anything in.
const VOLATILE: [Reg; 9] = [Reg::Rax, Reg::Rcx, Reg::Rdx, Reg::Rsi, Reg::Rdi, Reg::R8, Reg::R9, Reg::R10, Reg::R11];

impl Stubs {
    /// Emits all of them.
    pub fn emit(asm: &mut Assembler) -> Self {
        let mut stubs = Self { enter: asm.here(), ..Self::default() };
        for reg in SAVED {
            asm.push(reg);
        }
        asm.lea(Size::Q, Reg::Rsp, Mem::Base(Reg::Rsp, -8));
        asm.mov(Size::Q, Reg::Rbp, Reg::Rdi);
        asm.mov(Size::Q, Reg::R11, Reg::Rsi);
        reload(asm);
        asm.jmp_reg(Reg::R11);

        stubs.leave = asm.here();
        spill(asm);
        store_vectors(asm);
        let spilled = asm.here();
        asm.lea(Size::Q, Reg::Rsp, Mem::Base(Reg::Rsp, 8));
        for reg in SAVED.into_iter().rev() {
            asm.pop(reg);
        }
        asm.ret();

        for (stub, argument, function) in [
            (&mut stubs.find, Reg::R10, run::find as *const () as u64),
            (&mut stubs.leave_way, Reg::R11, run::follow as *const () as u64),
        ] {
            *stub = asm.here();
            spill(asm);
            store_vectors(asm);
            asm.mov(Size::Q, Reg::Rsi, argument);
            call(asm, function);
            asm.test(Size::Q, Reg::Rax, Reg::Rax);
            asm.jcc(Cond::E, spilled);
            asm.mov(Size::Q, Reg::R11, Reg::Rax);
            reload(asm);
            asm.jmp_reg(Reg::R11);
        }

        stubs.find_flat = asm.here();
        find_flat(asm, stubs.find);
        stubs.jump = asm.here();
        control::by_table(asm, &stubs);
        (stubs.ret, stubs.ret_other) = returns::emit(asm, &stubs);
        stubs.note = asm.here();
        returns::note(asm);
        asm.ret();
        stubs.moved = asm.here();
        moved(asm, stubs.leave_way);
        stubs.second_page = second_page(asm);

        stubs.fallback = asm.here();
        asm.alu_imm(Size::D, Group1::Cmp, Reg::R11, USED_UP);
        let used_up = asm.jcc_forward(Cond::E);
        spill(asm);
        store_vectors(asm);
        asm.store(Size::Q, exec(offset_of!(Exec, block)), Reg::R14);
        asm.load_widen(false, Size::W, Size::D, Reg::Rsi, Mem::Base(Reg::R14, offset_of!(Header, lifted) as i32));
        asm.alu(Size::Q, Group1::Add, Reg::Rsi, Reg::R11);
        asm.shift_imm(Size::Q, 4, Reg::Rsi, size_of::<Uop>().trailing_zeros());
        asm.alu(Size::Q, Group1::Add, Reg::Rsi, Reg::R14);
        asm.lea(Size::Q, Reg::Rsp, Mem::Base(Reg::Rsp, -8));
        call(asm, run::execute_op as *const () as u64);
        asm.lea(Size::Q, Reg::Rsp, Mem::Base(Reg::Rsp, 8));
        asm.mov(Size::Q, Reg::R11, Reg::Rax);
        asm.alu_imm(Size::Q, Group1::Cmp, Reg::R11, run::ON as u32);
        let away = asm.jcc_forward(Cond::Ne);
        reload(asm);
        asm.ret();
        asm.bind(away);
        // Not back to the block: its return address goes.
        asm.lea(Size::Q, Reg::Rsp, Mem::Base(Reg::Rsp, 8));
        asm.jcc(Cond::B, spilled);
        reload(asm);
        asm.jmp_reg(Reg::R11);
        asm.bind(used_up);
        leave_before(asm, stubs.leave);

        stubs.load_flags = asm.here();
        load_flags(asm);

        stubs.result_form = asm.here();
        result_form(asm);

        for (stub, function) in stubs
            .rotated
            .iter_mut()
            .zip([run::rotated_left as *const () as u64, run::rotated_right as *const () as u64])
        {
            *stub = asm.here();
            call_aside(asm, function);
            asm.ret();
        }

        stubs.sti = asm.here();
        guarded::sti(asm);
        stubs.popf = asm.here();
        guarded::popf(asm);

        stubs.load_xmm = asm.here();
        load_xmm(asm);
        asm.ret();
        stubs.lend_x87 = asm.here();
        lend(asm, x87::lend as *const () as u64, true);
        stubs.lend_floats = asm.here();
        lend(asm, run::lend_floats as *const () as u64, false);

        for (user, banks) in [false, true].into_iter().zip(&mut stubs.page) {
            for (write, row) in [false, true].into_iter().zip(banks) {
                for (bytes, stub) in [1, 2, 4].into_iter().zip(row) {
                    *stub = asm.here();
                    page_of(asm, user, bytes, write);
                    asm.ret();
                }
            }
        }
        for (write, row) in [false, true].into_iter().zip(&mut stubs.tlb) {
            for (bytes, stub) in [1, 2, 4, 8, 16].into_iter().zip(row) {
                *stub = asm.here();
                look_up(asm, Some(bytes), write);
            }
            stubs.span[usize::from(write)] = asm.here();
            look_up(asm, None, write);
        }
        stubs
    }
}

/// The words that hold until CR3 is loaded.
const JOURNAL: Mem = exec(offset_of!(Exec, native.journal));

/// Notes the word at R11, `offset` bytes on, as one that holds only until CR3 is loaded, unless the byte at `global` is not zero.
/// Where there is no room left that alone is known. Uses `first` and, where there is an offset, R13.
fn note_local(asm: &mut Assembler, global: Mem, offset: i32, first: Reg) {
    asm.alu_mem_imm(Size::B, Group1::Cmp, global, 0);
    let lasting = asm.jcc_forward(Cond::Ne);
    asm.load(Size::Q, first, JOURNAL);
    asm.alu_load(Size::Q, Group1::Cmp, first, exec(offset_of!(Exec, native.journal_end)));
    let full = asm.jcc_forward(Cond::E);
    if offset == 0 {
        asm.store(Size::Q, Mem::Base(first, 0), Reg::R11);
    } else {
        asm.lea(Size::Q, Reg::R13, Mem::Base(Reg::R11, offset));
        asm.store(Size::Q, Mem::Base(first, 0), Reg::R13);
    }
    asm.lea(Size::Q, first, Mem::Base(first, 8));
    asm.store(Size::Q, JOURNAL, first);
    asm.bind(full);
    asm.bind(lasting);
}

/// Goes to `other` unless the TLB has, for the linear address in R13, the physical page that a [`CodePlace`] at an offset from R11 wants.
/// Uses R13, and leaves R14 at the TLB's entry.
fn same_page(asm: &mut Assembler, place: usize, other: u64) {
    let part = |offset: usize| Mem::Base(Reg::R11, (place + offset) as i32);
    asm.alu_mem_imm(Size::Q, Group1::Cmp, part(offset_of!(CodePlace, entry)), 0);
    asm.jcc(Cond::E, other);
    asm.mov(Size::D, Reg::R14, Reg::R13);
    asm.shift_imm(Size::D, 5, Reg::R14, 12);
    asm.alu_imm(Size::D, Group1::And, Reg::R14, CODE_ENTRIES as u32 - 1);
    asm.imul_imm(Size::Q, Reg::R14, Reg::R14, CODE_ENTRY_BYTES as u32);
    asm.alu_load(Size::Q, Group1::Add, Reg::R14, exec(offset_of!(Exec, native.code)));
    asm.alu_imm(Size::D, Group1::And, Reg::R13, 0xffff_f000);
    asm.alu_load(Size::Q, Group1::Cmp, Reg::R13, Mem::Base(Reg::R14, CODE_ENTRY.0 as i32));
    asm.jcc(Cond::Ne, other);
    asm.load(Size::Q, Reg::R13, part(offset_of!(CodePlace, physical)));
    asm.alu_load(Size::Q, Group1::Cmp, Reg::R13, Mem::Base(Reg::R14, CODE_ENTRY.1 as i32));
    asm.jcc(Cond::Ne, other);
}

/// The jump table's entry at R11 is not of this generation, or not of the offset in R10.
fn find_flat(asm: &mut Assembler, find: u64) {
    asm.load(Size::Q, Reg::R14, Mem::Base(Reg::R11, offset_of!(Jump, key) as i32));
    asm.alu(Size::D, Group1::Cmp, Reg::R14, Reg::R10);
    asm.jcc(Cond::Ne, find);
    asm.mov(Size::D, Reg::R13, Reg::R10);
    same_page(asm, offset_of!(Jump, place), find);
    note_local(asm, Mem::Base(Reg::R14, CODE_ENTRY.2 as i32), offset_of!(Jump, key) as i32, Reg::R14);
    asm.lea(Size::Q, Reg::R13, Mem::Index(Reg::R12, Reg::R10, 0, 0));
    asm.store(Size::Q, Mem::Base(Reg::R11, offset_of!(Jump, key) as i32), Reg::R13);
    control::go(asm, find, JUMP_ENTRY);
}

/// Out before the block in R14, whose instructions have been counted. Uses R11.
fn leave_before(asm: &mut Assembler, leave: u64) {
    asm.load(Size::D, Reg::R11, Mem::Base(Reg::R14, offset_of!(Header, count) as i32));
    asm.alu(Size::Q, Group1::Add, Reg::R15, Reg::R11);
    asm.load(Size::D, Reg::R11, Mem::Base(Reg::R14, offset_of!(Header, eip) as i32));
    asm.alu_load(Size::D, Group1::Add, Reg::R11, ORIGIN);
    asm.store(Size::Q, state(offset_of!(CpuState, rip)), Reg::R11);
    asm.jmp(leave);
}

/// Where the way in R11 leads, into R13; "equal" where that is 0.
fn target_of_way(asm: &mut Assembler) {
    asm.load(Size::D, Reg::R13, Mem::Base(Reg::R11, offset_of!(Way, eip) as i32));
    asm.alu_load(Size::D, Group1::Add, Reg::R13, ORIGIN);
}

/// The way in R11, which leads to R13, holds from now on, if that is the same physical page as before; else goes to `other`. Uses R13 and
/// R14.
fn look_at_way(asm: &mut Assembler, other: u64) {
    same_page(asm, offset_of!(Way, place), other);
    let valid = offset_of!(Way, valid) as i32;
    note_local(asm, Mem::Base(Reg::R14, CODE_ENTRY.2 as i32), valid, Reg::R14);
    asm.load(Size::D, Reg::R13, ORIGIN);
    asm.alu(Size::Q, Group1::Add, Reg::R13, Reg::R12);
    asm.store(Size::Q, Mem::Base(Reg::R11, valid), Reg::R13);
}

/// See [`Stubs::second_page`].
fn second_page(asm: &mut Assembler) -> u64 {
    // STC, CLC.
    let other = asm.here();
    asm.plain(0xf9);
    asm.ret();
    let entry = asm.here();
    // Past the last page it depends on more than that: the interpreter knows.
    target_of_way(asm);
    asm.jcc(Cond::E, other);
    look_at_way(asm, other);
    asm.plain(0xf8);
    asm.ret();
    entry
}

/// The way in R11 was tied in another generation of the TLB, or holds only until CR3 is loaded, which it was.
fn moved(asm: &mut Assembler, leave_way: u64) {
    target_of_way(asm);
    look_at_way(asm, leave_way);
    asm.jmp_mem(Mem::Base(Reg::R11, (offset_of!(Way, place) + offset_of!(CodePlace, entry)) as i32));
}

/// Calls a function with the processor as its first argument. RSI is the caller's business.
pub(super) fn call(asm: &mut Assembler, function: u64) {
    let Mem::Base(base, disp) = processor(0) else { return };
    asm.lea(Size::Q, Reg::Rdi, Mem::Base(base, disp));
    asm.mov_wide(Reg::Rax, function);
    asm.call_reg(Reg::Rax);
}

fn load_flags(asm: &mut Assembler) {
    asm.load_widen(false, Size::W, Size::D, Reg::R14, KIND);
    // What compilers leave for another block to look at.
    for size in [Size::D, Size::B] {
        asm.alu_imm(Size::D, Group1::Cmp, Reg::R14, kind(Lazy::Difference, size));
        let other = asm.jcc_forward(Cond::Ne);
        asm.load(Size::D, Reg::R14, A);
        asm.alu_load(size, Group1::Cmp, Reg::R14, B);
        asm.ret();
        asm.bind(other);
        asm.alu_imm(Size::D, Group1::Cmp, Reg::R14, kind(Lazy::Logic, size));
        let other = asm.jcc_forward(Cond::Ne);
        asm.alu_mem_imm(size, Group1::Cmp, RESULT, 0);
        asm.ret();
        asm.bind(other);
    }
    asm.alu_imm(Size::D, Group1::Cmp, Reg::R14, kind(Lazy::Sum, Size::D));
    let other = asm.jcc_forward(Cond::Ne);
    asm.load(Size::D, Reg::R14, A);
    asm.alu_load(Size::D, Group1::Add, Reg::R14, B);
    asm.ret();
    asm.bind(other);
    // What comparisons of floating-point numbers leave: LAHF's flags lie in AH; an addition makes OF.
    asm.alu_imm(Size::B, Group1::Cmp, Reg::R14, Lazy::Eager as u32);
    let other = asm.jcc_forward(Cond::Ne);
    asm.mov(Size::Q, Reg::R14, Reg::Rax);
    asm.load(Size::D, Reg::Rax, VALUE);
    asm.shift_imm(Size::D, 4, Reg::Rax, 8);
    asm.bit_test_mem(VALUE, OF.trailing_zeros() as u8);
    asm.setcc(Cond::B, Reg::Rax);
    asm.alu_imm(Size::B, Group1::Add, Reg::Rax, 0x7f);
    asm.plain(0x9e);
    asm.mov(Size::Q, Reg::Rax, Reg::R14);
    asm.ret();
    asm.bind(other);
    call_aside(asm, run::flags as *const () as u64);
    asm.push(Reg::R14);
    asm.plain(0x9d);
    asm.ret();
}

/// Calls a function of the processor and what is in R11, which computes with whole numbers and looks at nothing that stands in host registers.
/// Its result is in R14; all other registers stay.
pub(super) fn call_aside(asm: &mut Assembler, function: u64) {
    // With the return address and nine registers the stack is aligned. The x87 stays.
    for reg in VOLATILE {
        asm.push(reg);
    }
    asm.mov(Size::Q, Reg::Rsi, Reg::R11);
    call_around_xmm(asm, function);
    asm.mov(Size::D, Reg::R14, Reg::Rax);
    for reg in VOLATILE.into_iter().rev() {
        asm.pop(reg);
    }
}

fn result_form(asm: &mut Assembler) {
    asm.load_widen(false, Size::W, Size::D, Reg::R14, KIND);
    asm.alu_imm(Size::B, Group1::Cmp, Reg::R14, Lazy::Result as u32);
    let there = asm.jcc_forward(Cond::E);
    // What a comparison at the end of another block leaves.
    asm.alu_imm(Size::D, Group1::Cmp, Reg::R14, kind(Lazy::Difference, Size::D));
    let other = asm.jcc_forward(Cond::Ne);
    operands_to_result(asm, Group1::Sub);
    asm.store_imm(Size::D, KIND, kind(Lazy::Result, Size::D));
    asm.bind(there);
    asm.plain(0xf8);
    asm.ret();
    asm.bind(other);
    call_aside(asm, run::result_form as *const () as u64);
    // Zero is below one.
    asm.alu_imm(Size::B, Group1::Cmp, Reg::R14, 1);
    asm.ret();
}

/// Whether the host's registers hold the guest's vectors.
const XMM: Mem = exec(offset_of!(Exec, native.xmm));
const X87: Mem = exec(offset_of!(Exec, native.x87));
const PICTURE: Mem = exec(offset_of!(Exec, native.picture));

fn each_xmm(asm: &mut Assembler, op: (u8, u8)) {
    for number in 0..8 {
        asm.sse_mem(op.0, op.1, 8 + number, register(number));
    }
}

fn load_xmm(asm: &mut Assembler) {
    each_xmm(asm, LOAD_X);
    asm.store_imm(Size::B, XMM, 1);
}

/// Gives back what the host's vector registers and x87 hold of the guest's. Leaves RSI and R11.
pub(super) fn store_vectors(asm: &mut Assembler) {
    asm.alu_mem_imm(Size::B, Group1::Cmp, XMM, 0);
    let not_there = asm.jcc_forward(Cond::E);
    each_xmm(asm, STORE_X);
    asm.store_imm(Size::B, XMM, 0);
    asm.bind(not_there);
    asm.alu_mem_imm(Size::B, Group1::Cmp, X87, 0);
    let not_there = asm.jcc_forward(Cond::E);
    asm.fxsave(PICTURE);
    // FNINIT: functions want it empty.
    asm.x87(3, 0xe3);
    asm.bind(not_there);
}

/// Calls a function that does not look at the XMM registers, and keeps them.
fn call_around_xmm(asm: &mut Assembler, function: u64) {
    asm.alu_mem_imm(Size::B, Group1::Cmp, XMM, 0);
    let plain = asm.jcc_forward(Cond::E);
    each_xmm(asm, STORE_X);
    call(asm, function);
    each_xmm(asm, LOAD_X);
    let done = asm.jmp_forward();
    asm.bind(plain);
    call(asm, function);
    asm.bind(done);
}

/// Asks a function whether the host may do it from now on: ZF is clear where it may.
fn lend(asm: &mut Assembler, function: u64, loads: bool) {
    spill(asm);
    // Called from code, which is aligned.
    asm.lea(Size::Q, Reg::Rsp, Mem::Base(Reg::Rsp, -8));
    call_around_xmm(asm, function);
    asm.lea(Size::Q, Reg::Rsp, Mem::Base(Reg::Rsp, 8));
    asm.mov(Size::D, Reg::R11, Reg::Rax);
    reload(asm);
    asm.test(Size::B, Reg::R11, Reg::R11);
    if loads {
        let not = asm.jcc_forward(Cond::E);
        // FRSTOR, which leaves the flags.
        asm.x87_mem(5, 4, PICTURE);
        asm.bind(not);
    }
    asm.ret();
}

/// A field of the TLB's entry at the distance in R14 from the first one of a bank.
fn entry(user: bool, field: usize) -> Mem {
    let bank = if user { ENTRIES * size_of::<TlbEntry>() } else { 0 };
    let Mem::Base(base, disp) = processor(offset_of!(Cpu, tlb) + BANKS + bank + field) else { unreachable!() };
    Mem::Index(base, Reg::R14, 0, disp)
}

/// What [`Stubs::page`] does, for an access of so many bytes.
pub(super) fn page_of(asm: &mut Assembler, user: bool, bytes: u32, write: bool) {
    let tag = if write { offset_of!(TlbEntry, write) } else { offset_of!(TlbEntry, read) };
    asm.mov(Size::D, Reg::R14, Reg::R11);
    asm.shift_imm(Size::D, 5, Reg::R14, 12 - size_of::<TlbEntry>().trailing_zeros());
    asm.alu_imm(Size::D, Group1::And, Reg::R14, ((ENTRIES - 1) * size_of::<TlbEntry>()) as u32);
    asm.alu_load(Size::D, Group1::Xor, Reg::R11, entry(user, tag));
    asm.load(Size::Q, Reg::R14, entry(user, offset_of!(TlbEntry, host)));
    asm.alu_imm(Size::D, Group1::Cmp, Reg::R11, PAGE - bytes);
    asm.lea(Size::Q, Reg::R11, Mem::Index(Reg::R11, Reg::R14, 0, 0));
}

/// A page's bytes without those of a group.
pub(super) const SPAN: Mem = exec(offset_of!(Exec, native.span));

/// The TLB's entry for so many bytes at the address in R13, in a site that keeps the page it knew; or for those that [`SPAN`] tells.
fn look_up(asm: &mut Assembler, bytes: Option<u32>, write: bool) {
    asm.push(Reg::Rax);
    if bytes.is_some() {
        for word in [0, 8] {
            asm.load(Size::Q, Reg::Rax, Mem::Base(Reg::R11, word));
            asm.store(Size::Q, Mem::Base(Reg::R11, OTHER as i32 + word), Reg::Rax);
        }
    }
    asm.mov(Size::D, Reg::R14, Reg::R13);
    asm.shift_imm(Size::D, 5, Reg::R14, 12 - size_of::<TlbEntry>().trailing_zeros());
    asm.alu_imm(Size::D, Group1::And, Reg::R14, ((ENTRIES - 1) * size_of::<TlbEntry>()) as u32);
    asm.alu_load(Size::Q, Group1::Add, Reg::R14, exec(offset_of!(Exec, native.bank)));
    let tag = if write { offset_of!(TlbEntry, write) } else { offset_of!(TlbEntry, read) };
    asm.load(Size::D, Reg::Rax, Mem::Base(Reg::R14, tag as i32));
    // The tag belongs to this address: what the site shall hold is the tag with the generation.
    asm.alu(Size::D, Group1::Xor, Reg::Rax, Reg::R13);
    match bytes {
        Some(bytes) => asm.alu_imm(Size::D, Group1::Cmp, Reg::Rax, PAGE - bytes),
        None => asm.alu_load(Size::D, Group1::Cmp, Reg::Rax, SPAN),
    }
    let miss = asm.jcc_forward(Cond::A);
    asm.alu(Size::D, Group1::Xor, Reg::Rax, Reg::R13);
    asm.alu(Size::Q, Group1::Or, Reg::Rax, Reg::R12);
    asm.store(Size::Q, Mem::Base(Reg::R11, 0), Reg::Rax);
    asm.mov(Size::D, Reg::Rax, Reg::R13);
    asm.alu_imm(Size::D, Group1::And, Reg::Rax, !(PAGE - 1));
    asm.group3(Size::Q, 3, Reg::Rax);
    asm.alu_load(Size::Q, Group1::Add, Reg::Rax, Mem::Base(Reg::R14, offset_of!(TlbEntry, host) as i32));
    asm.store(Size::Q, Mem::Base(Reg::R11, 8), Reg::Rax);
    asm.alu_load(Size::Q, Group1::Add, Reg::R14, exec(offset_of!(Exec, native.pages)));
    let mark = if bytes.is_some() { run::TWO_PAGES } else { 0 };
    asm.lea(Size::Q, Reg::R11, Mem::Base(Reg::R11, mark));
    note_local(asm, Mem::Base(Reg::R14, PAGE_GLOBAL as i32), 0, Reg::Rax);
    asm.pop(Reg::Rax);
    asm.plain(0xf8);
    asm.ret();
    asm.bind(miss);
    asm.pop(Reg::Rax);
    asm.plain(0xf9);
    asm.ret();
}

const _: () = assert!(run::OUT < run::ON);
const _: () = assert!(size_of::<TlbEntry>() == 16 && ARITHMETIC & 0x202 == 0);
const _: () = assert!(offset_of!(Cpu, state) < 1 << 30);
