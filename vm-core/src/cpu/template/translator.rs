//! One block: ops in, host code out.
//!
//! First comes what goes straight through, with jumps out of line for what is rare; then those rarities, `Cold`. An op without a
//! template is executed by the interpreter: a call of a few nanoseconds.

use super::emitter::{Assembler, Fixup, Group1, Mem, Reg, SLACK};
use super::flags::{Debt, FlagState};
use super::group::{Group, Groups};
use super::memory::{Linear, OTHER, SITE_BYTES};
use super::stubs::{SPAN, Stubs, USED_UP};
use super::{CodePlace, Data, Way};
use crate::cpu::block::{Header, Link, Place};
use crate::cpu::flags::ARITHMETIC;
use crate::cpu::lift::Mode;
use crate::cpu::pass::FlagLives;
use crate::cpu::tlb::PAGE;
use crate::cpu::uop::{Cond, Flag, Form, Guarded, MulDiv, Op, Size, Uop, VectorWidth, X87, interpreters_own};

/// What stands out of line.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cold {
    /// A site missed.
    Miss {
        miss: Fixup,
        linear: Linear,
        site: u64,
        bytes: u32,
        write: bool,
        /// Where it goes on once the site is filled.
        resume: u64,
        /// The same with the addend in R11.
        loaded: u64,
        /// What is done where the TLB misses, too.
        aside: Aside,
    },
    /// The accesses of a group are perhaps not in one page.
    Group {
        miss: Fixup,
        /// The first byte.
        linear: Linear,
        /// `None`: it looks into the TLB.
        site: Option<u64>,
        bytes: u32,
        write: bool,
        resume: u64,
        number: usize,
    },
    /// What a string instruction reads or writes is not in the page that its site knows. R14 has the bytes, a page at most.
    Run { miss: Fixup, index: Reg, site: u64, write: bool, again: u64, aside: Aside },
    /// The interpreter executes some ops.
    Op { jump: Fixup, aside: Aside },
    /// The XMM registers are not in the host's. `check`: they may be used only where the processor's control registers allow it; where
    /// they do not the interpreter raises the exception.
    Xmm { jump: Fixup, resume: u64, check: Option<Aside> },
    /// The host's x87 is not the guest's yet; what is done where it cannot be.
    X87 { jump: Fixup, resume: u64, aside: Aside },
    /// The host's MXCSR does not stand for the guest's yet. Where it cannot, a copy of the block's rest goes on from an op where this is known.
    Floats { jump: Fixup, resume: u64, first: usize, known: Known },
    /// A way with conditions.
    Way { jump: Fixup, way: *mut Way },
    /// A way to another page, and the TLB has moved on: the translation may still be the same.
    Moved { jump: Fixup, way: *mut Way },
    /// An instruction goes on in another page, and the TLB has moved on since that was looked at.
    Spans { jump: Fixup, way: *mut Way, aside: Aside },
    /// A way that is not tied, or whose conditions do not hold.
    Leave { jump: Fixup, way: *mut Way },
}

/// Ops that the interpreter executes out of line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aside {
    /// From this op
    pub first: usize,
    /// to this one.
    pub last: usize,
    /// Where it goes on after them.
    pub after: u64,
    /// What must be written down before them.
    pub debt: Option<Debt>,
    /// The host's flags are in use where it goes on,
    pub flags: bool,
    /// the host's XMM registers,
    pub xmm: bool,
    /// and its MXCSR.
    pub floats: bool,
}

/// Where the ops of a group, and of those that begin in it, are done: the last one, where it goes on, and what is known there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finish {
    last: usize,
    after: u64,
    known: Known,
}

/// What is known at one place of a block.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    pub flags: FlagState,
    /// The host's XMM8 to XMM15 surely are the guest's registers.
    pub xmm: bool,
    /// The host's MXCSR surely stands for the guest's.
    pub floats: bool,
}

/// The translation of one block.
pub(super) struct Translator<'a> {
    pub asm: &'a mut Assembler,
    pub data: &'a mut Data,
    pub stubs: &'a Stubs,
    pub ops: &'a [Uop],
    /// Flags that somebody looks at, after each op.
    pub lives: &'a [FlagLives],
    pub cold: &'a mut Vec<Cold>,
    pub groups: &'a mut Groups,
    /// Accesses have sites.
    pub hot: bool,
    /// Accesses are made with the user's rights.
    pub user: bool,
    /// No access shares a check: this is a copy of ops.
    pub alone: bool,
    /// The guest's MXCSR is not as the host's can be: this is a copy for that.
    pub strange_floats: bool,
    /// The op that is translated.
    pub index: usize,
    pub known: Known,
    /// Of the instructions.
    places: &'a [Place],
    /// Where code memory begins.
    pub code: u64,
    /// Code is flat: an offset is a linear address.
    pub flat_code: bool,
    /// Offsets in CS count from the origin.
    pub relative: bool,
    /// Calls the interpreter for the op whose number is in R11; it stands with what is rare, and until that begins
    thunk: u64,
    /// these are its calls.
    calls: &'a mut Vec<Fixup>,
    header: Header,
    failed: bool,
}

/// What a translation needs besides the ops.
pub(super) struct Parts<'a> {
    pub asm: &'a mut Assembler,
    pub data: &'a mut Data,
    pub stubs: &'a Stubs,
    pub cold: &'a mut Vec<Cold>,
    pub calls: &'a mut Vec<Fixup>,
    pub groups: &'a mut Groups,
    /// Where code memory begins.
    pub code: u64,
    /// Where what is rare will stand.
    pub rare: u64,
}

impl<'a> Translator<'a> {
    /// Translates; the result is the host address of the entry. `None`: memory is full, or the block is too long.
    pub fn translate(
        parts: Parts<'a>,
        header: *const Header,
        ops: &'a [Uop],
        lives: &'a [FlagLives],
        places: &'a [Place],
        hot: bool,
    ) -> Option<u64> {
        let Parts { asm, data, stubs, cold, calls, groups, code, rare } = parts;
        cold.clear();
        calls.clear();
        // SAFETY: the block cache passes a block that lives.
        let block = unsafe { *header };
        let entry = asm.here();
        let mut this = Translator {
            asm,
            data,
            stubs,
            ops,
            lives,
            cold,
            groups,
            hot,
            user: Mode::from_key(block.mode).is_user(),
            alone: false,
            strange_floats: false,
            index: 0,
            known: Known::default(),
            places,
            code,
            flat_code: Mode::from_key(block.mode).flat_code(),
            relative: Mode::from_key(block.mode).is_relative(),
            thunk: 0,
            calls,
            header: block,
            failed: false,
        };
        this.asm.alu_imm(Size::Q, Group1::Sub, Reg::R15, block.count);
        let used_up = this.asm.jcc_forward(Cond::S);
        while this.index < ops.len() {
            if !this.asm.room(2 * SLACK) {
                return None;
            }
            this.op();
            this.index += 1;
        }
        this.asm.start_rare(rare);
        this.asm.bind(used_up);
        this.asm.mov_imm(Size::D, Reg::R11, USED_UP);
        this.thunk = this.asm.here();
        for call in this.calls.drain(..) {
            this.asm.bind(call);
        }
        this.asm.mov_wide(Reg::R14, header.addr() as u64);
        this.asm.jmp(stubs.fallback);
        this.cold_part()?;
        (!this.failed).then_some(entry)
    }

    /// A site that knows no page; no room makes the translation fail.
    pub fn site(&mut self) -> Option<u64> {
        let Some(site) = self.data.allocate(SITE_BYTES, !self.alone) else {
            self.failed = true;
            return None;
        };
        // SAFETY: the data memory has room for it there.
        unsafe { site.write_bytes(0, SITE_BYTES) };
        Some(site.addr() as u64)
    }

    /// A way out to `eip`.
    pub fn new_way(&mut self, eip: u32) -> Option<*mut Way> {
        let block = self.header;
        let mut kind = if block.goes_back(block.eip, eip) { Link::BACK } else { 0 };
        let (mut eip, mut pages) = (eip, 0);
        if !block.has_on_page(eip) {
            kind |= Link::CROSS;
            if self.relative {
                (eip, pages) = (eip & 0xfff, eip & !0xfff);
            }
            // What holds for one linear page need not hold for the next, and only flat code says which that is.
            if !self.flat_code {
                kind |= Link::LOOSE;
            }
        }
        self.put_way(Way { valid: 0, eip, kind, pages, jump: 0, stub: 0, target: None, place: CodePlace::NOWHERE })
    }

    /// Puts a way into the data memory.
    pub fn put_way(&mut self, way: Way) -> Option<*mut Way> {
        let Some(place) = self.data.allocate(size_of::<Way>(), false) else {
            self.failed = true;
            return None;
        };
        #[allow(clippy::cast_ptr_alignment, reason = "the data memory gives out multiples of 16 bytes")]
        let place = place.cast::<Way>();
        // SAFETY: the data memory has room for it there.
        unsafe { place.write(way) };
        Some(place)
    }

    /// Whether the op is one of the block's last instruction.
    pub fn is_last(&self, uop: &Uop) -> bool {
        u32::from(uop.y) + 1 >= self.header.count
    }

    /// The interpreter executes the op that is translated, where `jump` comes from.
    pub fn cold_op(&mut self, jump: Fixup) {
        self.cold_ops(jump, self.index);
    }

    /// The same for all ops from there to `last`.
    pub fn cold_ops(&mut self, jump: Fixup, last: usize) {
        let aside = self.aside(last);
        self.cold.push(Cold::Op { jump, aside });
    }

    /// The interpreter executes the ops from the one that is translated to `last`, as things are now.
    pub fn aside(&self, last: usize) -> Aside {
        let Known { flags, xmm, floats } = self.known;
        Aside { first: self.index, last, after: 0, debt: flags.debt, flags: false, xmm, floats }
    }

    /// Offset in CS of an op's instruction, less the origin.
    pub fn eip_of(&self, uop: &Uop) -> u32 {
        let offset = self.places.get(usize::from(uop.y)).map_or(0, |place| place.offset);
        self.header.eip.wrapping_add(u32::from(offset))
    }

    /// The interpreter executes an op, here.
    fn fallback(&mut self, index: usize) {
        self.asm.mov_imm(Size::D, Reg::R11, index as u32);
        if self.thunk == 0 {
            let call = self.asm.call_forward();
            self.calls.push(call);
        } else {
            self.asm.call(self.thunk);
        }
    }

    /// Translates the op at `index`.
    pub fn op(&mut self) {
        let index = self.index;
        if !self.alone
            && let Some(number) = self.groups.of(index).filter(|&number| self.groups.all[number].first == index)
        {
            self.begin_group(number);
        }
        let from = self.cold.len();
        let uop = self.ops[index];
        let op = uop.op();
        self.look_at_debt(&uop);
        if !self.template(&uop, op, self.lives[index].live) {
            self.pay();
            self.fallback(index);
            self.host_flags_gone();
            (self.known.xmm, self.known.floats) = (false, false);
            if !keeps_flags(op) {
                self.flags_unknown();
            }
        }
        let here = self.asm.here();
        for cold in &mut self.cold[from..] {
            if let Cold::Miss { aside, .. }
            | Cold::Op { aside, .. }
            | Cold::X87 { aside, .. }
            | Cold::Run { aside, .. }
            | Cold::Spans { aside, .. }
            | Cold::Xmm { check: Some(aside), .. } = cold
                && aside.after == 0
            {
                aside.after = here;
            }
        }
        if !self.alone {
            self.end_groups();
        }
    }

    /// Writes down where groups are done whose last op has been translated.
    fn end_groups(&mut self) {
        let (last, known) = (self.index, self.known);
        for group in &mut self.groups.all {
            if group.addend.is_some() && group.finish.is_none() && group.end <= last {
                group.finish = Some(Finish { last, after: self.asm.here(), known });
            }
        }
    }

    /// Translates ops once more, with a check for each access. `known`: at the first one.
    fn copy(&mut self, first: usize, last: usize, known: Known) -> Option<()> {
        self.known = known;
        self.known.flags.host = 0;
        self.alone = true;
        self.index = first;
        while self.index <= last {
            if !self.asm.room(2 * SLACK) {
                return None;
            }
            self.op();
            self.index += 1;
        }
        self.alone = false;
        Some(())
    }

    /// The block from an op on, where the host cannot compute with floating point as the guest wants it.
    fn copy_of_rest(&mut self, first: usize, known: Known) -> Option<()> {
        self.strange_floats = true;
        self.copy(first, self.ops.len() - 1, known)?;
        self.strange_floats = false;
        Some(())
    }

    /// The ops of a group, with a check for each access.
    fn copy_of_group(&mut self, number: usize) -> Option<()> {
        let Group { first, start, finish, .. } = self.groups.all[number];
        let Finish { last, after, known: Known { flags, xmm, floats } } = finish?;
        self.copy(first, last, start)?;
        if floats && !self.known.floats {
            self.lend_again();
        }
        if xmm && !self.known.xmm {
            self.asm.call(self.stubs.load_xmm);
        }
        // The checks have used the host's flags.
        if flags.host & !self.known.flags.host != 0 {
            self.need_host_flags(flags.host);
        }
        // What is not written down on the other way may be here, but not the other way round; and both have remembered the same.
        if flags.debt != self.known.flags.debt {
            self.failed |= flags.debt.is_none() && self.known.flags.debt.is_some();
        }
        self.failed |= flags.known.is_some() && flags.known != self.known.flags.known;
        self.asm.jmp(after);
        Some(())
    }

    /// Emits the template of an op; false where there is none.
    fn template(&mut self, uop: &Uop, op: Op, live: u32) -> bool {
        let alive = live & ARITHMETIC != 0;
        match op {
            Op::Mov { size: Size::Q }
            | Op::MovImm { size: Size::Q }
            | Op::Load { size: Size::Q, .. }
            | Op::Store { size: Size::Q, .. } => false,
            Op::Mov { size } => self.mov(uop, size),
            Op::MovImm { size } => self.mov_imm(uop, size),
            Op::Xchg { size } => self.exchange(uop, size),
            Op::Widen { extend, from, to } => self.widen(uop, extend, from, to),
            Op::Lea { address, ea, size } => self.lea(uop, address, ea, size),
            Op::Alu { alu, form, size, flags } => self.arithmetic(uop, alu, form, size, flags == Flag::Live),
            Op::Compare { compare, form, size } => self.compare(uop, compare, form, size),
            Op::Inc { size } => self.step(uop, false, size),
            Op::Dec { size } => self.step(uop, true, size),
            Op::Neg { size, flags } => self.negate(uop, size, flags),
            Op::Not { size } => self.invert(uop, size),
            Op::Shift { shift, form, size, flags } => {
                let live = if flags == Flag::Live { live } else { 0 };
                form == Form::Imm && uop.imm.trailing_zeros() >= 5 || self.shift(uop, shift, form, size, live)
            }
            Op::DoubleShift { shift, form, size } => self.double_shift(uop, shift, form, size, live),
            Op::MulDiv { kind: MulDiv::Mul | MulDiv::Imul, size: Size::B } => false,
            Op::MulDiv { kind, size } => self.muldiv(uop, kind, size, alive),
            Op::Imul { form, size } => self.product(uop, form, size, alive),
            Op::Bit { bit, form, size } => self.bit(uop, bit, form, size, live),
            Op::BitOffset { size } => self.bit_offset(uop, size),
            Op::Scan { scan, size } => self.scan(uop, scan, size),
            Op::Bswap { size } => self.swap_bytes(uop, size),
            Op::Advance { size } => self.advance(uop, size),
            Op::Setcc { cond } => self.set(uop, cond),
            Op::Cmov { cond, size } => self.conditional_move(uop, cond, size),
            Op::CmpXchg { size } => self.compare_exchange(uop, size),
            Op::Flag { what } => self.flag(what, live),
            Op::Load { size, ea } => self.load(uop, size, ea),
            Op::LoadWiden { extend, from, to, ea } => self.load_widen(uop, extend, from, to, ea),
            Op::LoadForWrite { size, ea } => self.load_for_write(uop, size, ea),
            Op::Store { size, ea } => self.store(uop, size, ea),
            Op::StoreImm { size, ea } => self.store_imm(uop, size, ea),
            Op::Segment { address, ea } => self.segment(uop, address, ea),
            Op::Selector {} => self.selector(uop),
            Op::CheckTarget {} => self.check_target(uop),
            Op::VectorCheck { unit } => self.vector_check(unit),
            Op::VectorLoad { unit, width, ea } => self.vector_load(uop, unit, width, ea),
            Op::VectorStore { unit, width, ea } => self.vector_store(uop, unit, width, ea),
            Op::Vector { unit, what } => self.vector(uop, unit, what),
            Op::VectorGet { unit, get } => self.vector_get(uop, unit, get),
            Op::VectorSet { unit, set } => self.vector_set(uop, unit, set),
            Op::Float { what } => self.float(uop, what),
            Op::VectorTest { test } => self.vector_test(uop, test),
            Op::X87 { kind } => self.x87(uop, kind),
            Op::X87Memory { access, ea } => self.x87_memory(uop, access, ea),
            Op::Repeat { string, size } => self.repeat(string, size),
            Op::Guarded { what } => self.guarded(uop, what),
            Op::Jump {} => self.jump(uop),
            Op::JumpIf { cond } => self.jump_if(uop, cond),
            Op::JumpCount { count, size } => self.jump_count(uop, count, size),
            Op::JumpTo {} => self.jump_to(uop),
            Op::Leave {} => self.leave(uop),
            Op::Here {} => self.here(uop),
            Op::Spans {} => self.spans(uop),
            Op::Push { .. } | Op::PushImm { .. } | Op::Pop { .. } | Op::VectorCross { .. } | Op::Helper {} => false,
            interpreters_own!() => {
                self.failed = true;
                true
            }
        }
    }

    /// The interpreter executes some ops, out of line; then the host's flags and registers are again what `after` takes them for.
    fn interpreted(&mut self, aside: Aside) {
        let Aside { first, last, after, debt, flags, xmm, floats } = aside;
        if let Some(debt) = debt {
            self.write_down(debt);
        }
        for index in first..=last {
            self.fallback(index);
        }
        if floats {
            self.lend_again();
        }
        if xmm {
            self.asm.call(self.stubs.load_xmm);
        }
        if flags {
            self.asm.call(self.stubs.load_flags);
        }
        self.asm.jmp(after);
    }

    /// A linear address into R13, from where a site missed; the jump is for a sum beyond 32 bits, which the interpreter cuts. Uses R11.
    fn address_of_miss(&mut self, Linear { reg, disp }: Linear) -> Option<Fixup> {
        if disp == 0 {
            if reg != Reg::R13 {
                self.asm.mov(Size::D, Reg::R13, reg);
            }
            return None;
        }
        self.asm.lea(Size::Q, Reg::R13, Mem::Base(reg, disp));
        self.asm.mov(Size::D, Reg::R11, Reg::R13);
        self.asm.alu(Size::Q, Group1::Cmp, Reg::R11, Reg::R13);
        Some(self.asm.jcc_forward(Cond::Ne))
    }

    /// What stands out of line. `None`: there is no room.
    fn cold_part(&mut self) -> Option<()> {
        let mut next = 0;
        while let Some(&cold) = self.cold.get(next) {
            next += 1;
            if !self.asm.room(SLACK) {
                return None;
            }
            match cold {
                Cold::Miss { miss, linear, site, bytes, write, resume, loaded, aside } => {
                    self.asm.bind(miss);
                    // The other page that the site knows.
                    let neither = self.check_site(linear, bytes, site + OTHER);
                    self.asm.load(Size::Q, Reg::R11, Mem::Near(site + OTHER + 8));
                    self.asm.jmp(loaded);
                    self.asm.bind(neither);
                    let wraps = self.address_of_miss(linear);
                    self.asm.lea(Size::Q, Reg::R11, Mem::Near(site));
                    self.asm.call(self.stubs.tlb[usize::from(write)][bytes.trailing_zeros() as usize & 7]);
                    self.asm.jcc(Cond::Ae, resume);
                    if let Some(wraps) = wraps {
                        self.asm.bind(wraps);
                    }
                    self.interpreted(aside);
                }
                Cold::Group { miss, linear, site, bytes, write, resume, number } => {
                    self.asm.bind(miss);
                    if let Some(site) = site {
                        let wraps = self.address_of_miss(linear);
                        self.asm.store_imm(Size::D, SPAN, PAGE - bytes);
                        self.asm.lea(Size::Q, Reg::R11, Mem::Near(site));
                        self.asm.call(self.stubs.span[usize::from(write)]);
                        self.asm.jcc(Cond::Ae, resume);
                        if let Some(wraps) = wraps {
                            self.asm.bind(wraps);
                        }
                    }
                    self.copy_of_group(number)?;
                }
                Cold::Run { miss, index, site, write, again, aside } => {
                    self.asm.bind(miss);
                    self.asm.mov_imm(Size::D, Reg::R11, PAGE);
                    self.asm.alu(Size::Q, Group1::Sub, Reg::R11, Reg::R14);
                    self.asm.store(Size::D, SPAN, Reg::R11);
                    self.asm.mov(Size::D, Reg::R13, index);
                    self.asm.lea(Size::Q, Reg::R11, Mem::Near(site));
                    self.asm.call(self.stubs.span[usize::from(write)]);
                    self.asm.jcc(Cond::Ae, again);
                    self.interpreted(aside);
                }
                Cold::Op { jump, aside } => {
                    self.asm.bind(jump);
                    self.interpreted(aside);
                }
                Cold::Xmm { jump, resume, check } => {
                    self.asm.bind(jump);
                    let refused = check.map(|aside| (self.vectors_forbidden(), aside));
                    self.asm.call(self.stubs.load_xmm);
                    self.asm.jmp(resume);
                    if let Some((jumps, aside)) = refused {
                        for jump in jumps {
                            self.asm.bind(jump);
                        }
                        self.interpreted(aside);
                    }
                }
                Cold::X87 { jump, resume, aside } => {
                    self.asm.bind(jump);
                    self.asm.call(self.stubs.lend_x87);
                    self.asm.jcc(Cond::Ne, resume);
                    self.interpreted(aside);
                }
                Cold::Floats { jump, resume, first, known } => {
                    self.asm.bind(jump);
                    self.asm.call(self.stubs.lend_floats);
                    self.asm.jcc(Cond::Ne, resume);
                    self.copy_of_rest(first, known)?;
                }
                Cold::Way { jump, way } => {
                    self.asm.bind(jump);
                    self.way_checks(way);
                    let jump = self.asm.jmp_forward();
                    self.tie_later(way, jump);
                }
                Cold::Moved { jump, way } => {
                    self.asm.bind(jump);
                    self.asm.lea(Size::Q, Reg::R11, Mem::Near(way.addr() as u64));
                    self.asm.jmp(self.stubs.moved);
                }
                Cold::Spans { jump, way, aside } => {
                    self.asm.bind(jump);
                    self.asm.lea(Size::Q, Reg::R11, Mem::Near(way.addr() as u64));
                    self.asm.call(self.stubs.second_page);
                    self.asm.jcc(Cond::Ae, aside.after);
                    self.interpreted(aside);
                }
                Cold::Leave { jump, way } => {
                    // SAFETY: `new_way` gives ways in the data memory.
                    let stub = unsafe { &mut (*way).stub };
                    if *stub != 0 {
                        self.asm.bind_to(jump, self.code + u64::from(*stub));
                        continue;
                    }
                    self.asm.bind(jump);
                    *stub = (self.asm.here() - self.code) as u32;
                    self.asm.lea(Size::Q, Reg::R11, Mem::Near(way.addr() as u64));
                    self.asm.jmp(self.stubs.leave_way);
                }
            }
        }
        Some(())
    }
}

/// Whether the interpreter leaves what is remembered of flags as it is when it executes this op.
fn keeps_flags(op: Op) -> bool {
    matches!(
        op,
        Op::Mov { .. }
            | Op::MovImm { .. }
            | Op::Xchg { .. }
            | Op::Widen { .. }
            | Op::Lea { .. }
            | Op::Not { .. }
            | Op::BitOffset { .. }
            | Op::Bswap { .. }
            | Op::Selector {}
            | Op::Advance { .. }
            | Op::Setcc { .. }
            | Op::Cmov { .. }
            | Op::MulDiv { kind: MulDiv::Div | MulDiv::Idiv, .. }
            | Op::Alu { flags: Flag::Dead, .. }
            | Op::Load { .. }
            | Op::LoadWiden { .. }
            | Op::LoadForWrite { .. }
            | Op::Store { .. }
            | Op::StoreImm { .. }
            | Op::Segment { .. }
            | Op::Push { .. }
            | Op::PushImm { .. }
            | Op::Pop { .. }
            | Op::Repeat { .. }
            | Op::Guarded { what: Guarded::Cli | Guarded::Sti | Guarded::Pushf }
            | Op::CheckTarget {}
            | Op::Here {}
            | Op::Float { .. }
            | Op::X87 { kind: X87::Plain | X87::Tests | X87::Status }
            | Op::X87Memory { .. }
            | Op::VectorLoad { width: VectorWidth::D | VectorWidth::Q | VectorWidth::X | VectorWidth::U, .. }
            | Op::VectorStore { .. }
    )
}
