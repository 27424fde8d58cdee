//! Templates of loads, stores and segment checks.
//!
//! An access looks into the TLB, whose bank is at a constant distance from the processor's state: index, tag and the end of the page
//! in eight instructions, which leave the offset in the page, and the entry has the page's host address. What misses is the interpreter's.
//! They stand once, in a stub that each access calls: code that is not hot waits for the host's caches more than for a call.
//!
//! In code that the clock has found to be hot each access has a site of its own instead, in the data memory: {tag, addend} of two pages,
//! the last one and the one before. That is half the instructions, and the address is not on the way to the addend; but a site is a line of the
//! host's cache that nobody else needs, and where code is seldom used twice they are what it waits for. A tag is `generation << 33 | page`,
//! so that one change of the generation lets all sites miss. The check is `(generation << 33 | address) ^ tag <= 0x1000 - size`: page,
//! generation and an access that would cross the page in one compare. Generations are even there, so that an address that was not cut to 32
//! bits matches none. A miss looks at the other page out of line, then asks the TLB and fills the site.

use std::mem::offset_of;

use super::emitter::{Fixup, Group1, Mem, Reg};
use super::flags::VALUE;
use super::group::Group;
use super::registers::{Place, exec, place, state};
use super::run::GROUPS;
use super::stubs::page_of;
use super::translator::{Cold, Translator};
use crate::cpu::flags::DF;
use crate::cpu::interp::Exec;
use crate::cpu::state::{CpuState, Segment};
use crate::cpu::tlb::PAGE;
use crate::cpu::uop::{AddressSize, Cond, Ea, Extend, Op, Repeated, Size, T0, TA, Uop, ZERO};

/// A linear address: a register and a displacement. What goes beyond 32 bits misses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Linear {
    pub reg: Reg,
    pub disp: i32,
}

/// Displacements up to here are folded: an address that is not cut is rare with them.
const FOLDED: i32 = 0x1_0000;

/// Bytes of a site.
pub(super) const SITE_BYTES: usize = 32;
/// Where the page before the last stands in it.
pub(super) const OTHER: u64 = 16;

impl Translator<'_> {
    fn linear(&mut self, uop: &Uop, ea: Ea) -> Linear {
        let disp = uop.imm as i32;
        let indexed = ea == Ea::Index && place(uop.b) != Place::Zero;
        if let (Place::Reg(reg), false) = (place(uop.a), indexed)
            && (-FOLDED..FOLDED).contains(&disp)
        {
            return Linear { reg, disp };
        }
        self.offset_into(Reg::R13, uop, ea);
        Linear { reg: Reg::R13, disp: 0 }
    }

    /// Checks an access at an op's address. R11 is then used; the result is the host's memory, and the host's flags are gone where it is
    /// not one of a group.
    fn access(&mut self, uop: &Uop, ea: Ea, bytes: u32, write: bool) -> Option<Mem> {
        if let Some(host) = self.in_known_page(uop, ea) {
            return Some(host);
        }
        let linear = self.linear(uop, ea);
        self.check(linear, bytes, write)
    }

    /// The host's memory of an access in a known page that was checked, where the address needs no register of its own: it is not
    /// greater than a displacement, and nothing in it wraps.
    fn in_known_page(&mut self, uop: &Uop, ea: Ea) -> Option<Mem> {
        let addend = self.addend_of_group()?;
        let group = &self.groups.all[self.groups.of(self.index)?];
        let disp = i32::try_from(uop.imm).ok().filter(|_| group.base == ZERO)?;
        let index = if ea == Ea::Index { place(uop.b) } else { Place::Zero };
        let host = match (place(uop.a), index) {
            (Place::Zero, Place::Zero) => Mem::Base(Reg::R11, disp),
            (Place::Reg(base), Place::Zero) => Mem::Index(Reg::R11, base, 0, disp),
            (Place::Zero, Place::Reg(index)) => Mem::Index(Reg::R11, index, uop.x & 3, disp),
            _ => return None,
        };
        self.asm.load(Size::Q, Reg::R11, addend);
        Some(host)
    }

    /// Checks an access at an op's address: the host's memory, and the linear address.
    pub fn checked(&mut self, uop: &Uop, ea: Ea, bytes: u32, write: bool) -> Option<(Mem, Linear)> {
        let linear = self.linear(uop, ea);
        self.check(linear, bytes, write).map(|host| (host, linear))
    }

    /// Checks an access of `bytes` through a site of its own. R11 then holds what is to be added to the address; the result is the
    /// host's memory. The host's flags are gone.
    pub fn check(&mut self, linear: Linear, bytes: u32, write: bool) -> Option<Mem> {
        let Linear { reg, disp } = linear;
        if let Some(addend) = self.addend_of_group() {
            self.asm.load(Size::Q, Reg::R11, addend);
            return Some(Mem::Index(Reg::R11, reg, 0, disp));
        }
        if !self.hot {
            let miss = self.look_up(linear, bytes, write);
            self.host_flags_gone();
            self.cold_op(miss);
            return Some(Mem::Base(Reg::R11, 0));
        }
        let site = self.site()?;
        let miss = self.check_site(linear, bytes, site);
        let resume = self.asm.here();
        self.asm.load(Size::Q, Reg::R11, Mem::Near(site + 8));
        let loaded = self.asm.here();
        self.host_flags_gone();
        let aside = self.aside(self.index);
        self.cold.push(Cold::Miss { miss, linear, site, bytes, write, resume, loaded, aside });
        Some(Mem::Index(Reg::R11, reg, 0, disp))
    }

    /// The host's address of `bytes` in R11, where the TLB has their page; the jump is for where it has not. Uses R14; the host's flags
    /// are gone.
    fn look_up(&mut self, Linear { reg, disp }: Linear, bytes: u32, write: bool) -> Fixup {
        if disp == 0 {
            self.asm.mov(Size::D, Reg::R11, reg);
        } else {
            self.asm.lea(Size::D, Reg::R11, Mem::Base(reg, disp));
        }
        match [1, 2, 4].iter().position(|&size| size == bytes) {
            Some(size) => self.asm.call(self.stubs.page[usize::from(self.user)][usize::from(write)][size]),
            None => page_of(self.asm, self.user, bytes, write),
        }
        self.asm.jcc_forward(Cond::A)
    }

    /// Whether a site knows the page of so many bytes; the jump is for where it does not. Uses R11; the host's flags are gone.
    pub fn check_site(&mut self, Linear { reg, disp }: Linear, bytes: u32, site: u64) -> Fixup {
        self.asm.lea(Size::Q, Reg::R11, Mem::Index(Reg::R12, reg, 0, disp));
        self.asm.alu_load(Size::Q, Group1::Xor, Reg::R11, Mem::Near(site));
        self.asm.alu_imm(Size::Q, Group1::Cmp, Reg::R11, PAGE - bytes);
        self.asm.jcc_forward(Cond::A)
    }

    /// Where the addend of the group stands that the access at [`Self::index`] belongs to.
    fn addend_of_group(&self) -> Option<Mem> {
        let number = self.groups.of(self.index).filter(|_| !self.alone)?;
        self.groups.all[number].addend
    }

    /// Checks all accesses of a group.
    pub fn begin_group(&mut self, number: usize) {
        let Group { base, low, high, write, .. } = self.groups.all[number];
        let bytes = (high - low) as u32;
        let linear = if let Place::Reg(reg) = place(base) {
            Linear { reg, disp: low }
        } else {
            self.asm.mov_imm(Size::D, Reg::R13, low as u32);
            Linear { reg: Reg::R13, disp: 0 }
        };
        let (addend, site, miss) = if self.hot || number >= GROUPS {
            let Some(site) = self.site() else { return };
            (Mem::Near(site + 8), Some(site), self.check_site(linear, bytes, site))
        } else {
            let miss = self.look_up(linear, bytes, write);
            self.asm.alu(Size::Q, Group1::Sub, Reg::R11, linear.reg);
            if linear.disp != 0 {
                self.asm.lea(Size::Q, Reg::R11, Mem::Base(Reg::R11, -linear.disp));
            }
            let addend = exec(offset_of!(Exec, native.addends) + 8 * number);
            self.asm.store(Size::Q, addend, Reg::R11);
            (addend, None, miss)
        };
        self.host_flags_gone();
        let group = &mut self.groups.all[number];
        (group.addend, group.start) = (Some(addend), self.known);
        let resume = self.asm.here();
        self.cold.push(Cold::Group { miss, linear, site, bytes, write, resume, number });
    }

    pub fn load(&mut self, uop: &Uop, size: Size, ea: Ea) -> bool {
        let Some(host) = self.access(uop, ea, size.bytes(), false) else { return false };
        match place(uop.d) {
            Place::Reg(to) if !to.is_high() => self.asm.load(size, to, host),
            _ => {
                self.asm.load(size, Reg::R11, host);
                self.write(size, uop.d, Reg::R11);
            }
        }
        true
    }

    pub fn load_widen(&mut self, uop: &Uop, extend: Extend, from: Size, to: Size, ea: Ea) -> bool {
        let Place::Reg(target) = place(uop.d) else { return false };
        let Some(host) = self.access(uop, ea, from.bytes(), false) else { return false };
        self.asm.load_widen(extend == Extend::Sign, from, to, target, host);
        true
    }

    /// A read of memory that is written by a later op of the instruction. Where that is near, the host's address is kept for it.
    pub fn load_for_write(&mut self, uop: &Uop, size: Size, ea: Ea) -> bool {
        if uop.d != T0 {
            return false;
        }
        let store = store_of(self.ops, self.index, size, ea);
        let cold = self.cold.len();
        let Some(host) = self.access(uop, ea, size.bytes(), true) else { return false };
        let Some(store) = store else {
            self.asm.load(size, Reg::R10, host);
            return true;
        };
        self.asm.lea(Size::Q, Reg::R13, host);
        self.asm.load(size, Reg::R10, Mem::Base(Reg::R13, 0));
        if let Some(Cold::Miss { aside, .. } | Cold::Op { aside, .. }) = self.cold.get_mut(cold) {
            (aside.last, aside.flags) = (store, true);
        }
        while self.index + 1 < store {
            self.index += 1;
            self.op();
        }
        self.index = store;
        let stored = self.ops[store].d;
        let host = Mem::Base(Reg::R13, 0);
        match place(stored) {
            Place::Reg(reg) if reg.is_high() => self.high_to_low(reg, |t, low| t.asm.store(size, host, low)),
            _ => {
                let from = self.read(stored, Reg::R11);
                self.asm.store(size, host, from);
            }
        }
        let here = self.asm.here();
        if let Some(Cold::Miss { aside, .. } | Cold::Op { aside, .. }) = self.cold.get_mut(cold) {
            aside.after = here;
        }
        // What the interpreter remembers on the other way is another kind of the same.
        self.known.flags.known = None;
        if self.known.flags.host != 0 {
            return true;
        }
        if let Some(Cold::Miss { aside, .. } | Cold::Op { aside, .. }) = self.cold.get_mut(cold) {
            aside.flags = false;
        }
        true
    }

    pub fn store(&mut self, uop: &Uop, size: Size, ea: Ea) -> bool {
        let Some(host) = self.access(uop, ea, size.bytes(), true) else { return false };
        let from = match place(uop.d) {
            Place::Zero => {
                self.asm.store_imm(size, host, 0);
                return true;
            }
            Place::Reg(reg) if reg.is_high() => {
                self.asm.mov(Size::D, Reg::R14, super::registers::whole(reg));
                self.asm.shift_imm(Size::D, 5, Reg::R14, 8);
                Reg::R14
            }
            _ => self.read(uop.d, Reg::R14),
        };
        self.asm.store(size, host, from);
        true
    }

    pub fn store_imm(&mut self, uop: &Uop, size: Size, ea: Ea) -> bool {
        let Some(host) = self.access(uop, ea, size.bytes(), true) else { return false };
        self.asm.store_imm(size, host, uop.imm2);
        true
    }

    /// A vector register's load or store, once the address was checked; `bytes` at most 16. Where it is not as it should be the
    /// interpreter executes the ops to `last`.
    pub fn vector_access(
        &mut self,
        uop: &Uop,
        ea: Ea,
        bytes: u32,
        write: bool,
        aligned: bool,
        last: usize,
    ) -> Option<Mem> {
        let linear = self.linear(uop, ea);
        if aligned {
            self.asm.lea(Size::D, Reg::R14, Mem::Base(linear.reg, linear.disp));
            self.asm.test_imm(Size::B, Reg::R14, 15);
            let odd = self.asm.jcc_forward(Cond::Ne);
            self.cold_ops(odd, last);
        }
        let host = self.check(linear, bytes, write);
        if let Some(Cold::Miss { aside, .. } | Cold::Op { aside, .. }) = self.cold.last_mut() {
            aside.last = last;
        }
        host
    }

    /// A repeated string instruction, going up, whose bytes are in one page (two, where it reads, too): the host's own, whose
    /// registers are the same. The interpreter does all others, page by page.
    pub fn repeat(&mut self, string: Repeated, size: Size) -> bool {
        let reads = string == Repeated::Movs;
        let (Some(to), Some(from)) = (self.site(), if reads { self.site() } else { Some(0) }) else { return false };
        let scale = size.bytes().trailing_zeros() as u8;
        self.asm.test(Size::D, Reg::Rcx, Reg::Rcx);
        let nothing = self.asm.jcc_forward(Cond::E);
        self.asm.test_mem_imm(Size::D, VALUE, DF);
        let down = self.asm.jcc_forward(Cond::Ne);
        self.cold_op(down);
        self.asm.alu_imm(Size::D, Group1::Cmp, Reg::Rcx, PAGE >> scale);
        let long = self.asm.jcc_forward(Cond::A);
        self.cold_op(long);
        // Each element counts; they are not to be more than may be entered.
        self.asm.alu(Size::Q, Group1::Cmp, Reg::R15, Reg::Rcx);
        let many = self.asm.jcc_forward(Cond::L);
        self.cold_op(many);
        let again = self.asm.here();
        self.asm.lea(Size::Q, Reg::R14, Mem::Scaled(Reg::Rcx, scale, 0));
        if reads {
            self.check_run(Reg::Rsi, from, false, again);
        }
        self.check_run(Reg::Rdi, to, true, again);
        if reads {
            self.asm.load(Size::Q, Reg::R13, Mem::Near(from + 8));
            self.asm.alu(Size::Q, Group1::Add, Reg::Rsi, Reg::R13);
        }
        self.asm.load(Size::Q, Reg::R11, Mem::Near(to + 8));
        self.asm.alu(Size::Q, Group1::Add, Reg::Rdi, Reg::R11);
        // One has been counted at the block's entry.
        self.asm.alu(Size::Q, Group1::Sub, Reg::R15, Reg::Rcx);
        self.asm.lea(Size::Q, Reg::R15, Mem::Base(Reg::R15, 1));
        self.asm.repeat(size, if reads { 0xa4 } else { 0xaa });
        // The end of a page may be that of all addresses: cut again.
        if reads {
            self.asm.alu(Size::D, Group1::Sub, Reg::Rsi, Reg::R13);
        }
        self.asm.alu(Size::D, Group1::Sub, Reg::Rdi, Reg::R11);
        self.asm.bind(nothing);
        self.host_flags_gone();
        true
    }

    /// Checks that the bytes at an index, whose number is in R14, are in the page that a site knows.
    fn check_run(&mut self, index: Reg, site: u64, write: bool, again: u64) {
        self.asm.lea(Size::Q, Reg::R11, Mem::Index(Reg::R12, index, 0, 0));
        self.asm.rm(Size::Q, (Group1::Xor as u32) << 3 | 2, Reg::R11, Mem::Near(site));
        self.asm.alu(Size::Q, Group1::Add, Reg::R11, Reg::R14);
        self.asm.alu_imm(Size::Q, Group1::Cmp, Reg::R11, PAGE);
        let miss = self.asm.jcc_forward(Cond::A);
        let aside = self.aside(self.index);
        self.cold.push(Cold::Run { miss, index, site, write, again, aside });
    }

    /// The selector in a segment register.
    pub fn selector(&mut self, uop: &Uop) -> bool {
        let Place::Reg(to) = place(uop.d) else { return false };
        let segment = offset_of!(CpuState, seg) + uop.imm.min(5) as usize * size_of::<Segment>();
        self.asm.load_widen(false, Size::W, Size::D, to, state(segment + offset_of!(Segment, selector)));
        true
    }

    /// A linear address, checked against its segment: data segments that grow up; the interpreter does the others.
    pub fn segment(&mut self, uop: &Uop, address: AddressSize, ea: Ea) -> bool {
        if uop.d != TA || uop.a == TA && (uop.imm != 0 || ea == Ea::Index) {
            return false;
        }
        let (number, bytes, write) = ((uop.imm2 & 7).min(5) as usize, uop.imm2 >> 8, uop.imm2 & 0x80 != 0);
        let segment = offset_of!(CpuState, seg) + number * size_of::<Segment>();
        self.offset_into(Reg::R13, uop, ea);
        if address == AddressSize::A16 {
            self.asm.widen(false, Size::W, Size::D, Reg::R13, Reg::R13);
        }
        let (mask, wanted) = if write { (0x8e, 0x82) } else { (0x8c, 0x80) };
        self.asm.load(Size::D, Reg::R11, state(segment + offset_of!(Segment, rights)));
        self.asm.alu_imm(Size::D, Group1::And, Reg::R11, mask);
        self.asm.alu_imm(Size::D, Group1::Cmp, Reg::R11, wanted);
        let other = self.asm.jcc_forward(Cond::Ne);
        self.asm.load(Size::D, Reg::R11, state(segment + offset_of!(Segment, limit)));
        self.asm.lea(Size::Q, Reg::R14, Mem::Base(Reg::R13, bytes as i32 - 1));
        self.asm.alu(Size::Q, Group1::Cmp, Reg::R14, Reg::R11);
        let beyond = self.asm.jcc_forward(Cond::A);
        self.asm.alu_load(Size::D, Group1::Add, Reg::R13, state(segment + offset_of!(Segment, base)));
        self.host_flags_gone();
        self.cold_op(other);
        self.cold_op(beyond);
        true
    }
}

/// The store that ends an instruction whose first access, at `index`, reads what it will write, where only ops on registers stand between.
pub(super) fn store_of(ops: &[Uop], index: usize, size: Size, ea: Ea) -> Option<usize> {
    let load = ops[index];
    for (index, uop) in ops.iter().enumerate().skip(index + 1).take(3) {
        if uop.y != load.y {
            return None;
        }
        match uop.op() {
            Op::Store { size: stored, ea: at } => {
                let same = (uop.a, uop.b, uop.x, uop.imm) == (load.a, load.b, load.x, load.imm);
                return (same && stored == size && at == ea).then_some(index);
            }
            Op::Alu { .. }
            | Op::Inc { .. }
            | Op::Dec { .. }
            | Op::Neg { .. }
            | Op::Not { .. }
            | Op::Shift { .. }
            | Op::DoubleShift { .. }
            | Op::Bit { .. }
            | Op::CmpXchg { .. } => {}
            _ => return None,
        }
    }
    None
}
