//! Where calls will come back to: a ring of places for each jump table, so that a return needs no look into that.
//!
//! A call notes the offset after it, and where in its own code a way to that stands; a return to this offset goes there. A program that
//! returns otherwise, or a call that the interpreter made, costs a look into the jump table. The key of a place has the TLB's generation,
//! and places are forgotten when CR3 is loaded: each leads to the page that is mapped there. The way that stands there is cut like any other
//! where the block that it leads to dies.

use std::mem::offset_of;

use super::control::{by_table, go};
use super::emitter::{Assembler, Fixup, Group1, Mem, Reg};
use super::registers::exec;
use super::stubs::Stubs;
use super::translator::Translator;
use super::{TABLES, Way};
use crate::cpu::interp::Exec;
use crate::cpu::uop::{Cond, Size, Uop};

/// A place that a call will come back to.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Return {
    /// `generation << 33 | offset`; 0: none.
    key: u64,
    /// Host address.
    entry: u64,
}

/// Places of a ring. All their bytes are 256: what goes beyond one end of a byte comes back at the other.
const DEPTH: usize = 0x100 / size_of::<Return>();
/// Bytes of a place.
const BYTES: u32 = size_of::<Return>() as u32;

/// The rings.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Returns {
    /// Bytes from the first ring to the newest place of the one in use.
    top: u32,
    /// The same for the others.
    tops: [u32; TABLES],
    rings: [[Return; DEPTH]; TABLES],
}

impl Returns {
    /// Uses the ring of another jump table from now on.
    pub fn choose(&mut self, table: usize) {
        let used = self.top as usize / size_of::<[Return; DEPTH]>();
        if used != table {
            self.tops[used] = self.top;
            // Each begins at its own start.
            let start = (table * size_of::<[Return; DEPTH]>()) as u32;
            self.top = start | self.tops[table] & 0xff;
        }
    }

    /// Forgets all places.
    pub fn forget(&mut self) {
        for place in self.rings.as_flattened_mut() {
            place.key = 0;
        }
    }
}

/// What calls need.
const TOP: Mem = exec(offset_of!(Exec, native.returns.top));

/// A field of the place at the distance in R14 from the first ring.
fn place(field: usize) -> Mem {
    let Mem::Base(base, disp) = exec(offset_of!(Exec, native.returns.rings) + field) else { unreachable!() };
    Mem::Index(base, Reg::R14, 0, disp)
}

/// Notes a return: its key is in R11, the place in R13. Uses R14 and the host's flags.
pub(super) fn note(asm: &mut Assembler) {
    asm.load(Size::D, Reg::R14, TOP);
    asm.alu_imm(Size::B, Group1::Add, Reg::R14, BYTES);
    asm.store(Size::D, TOP, Reg::R14);
    asm.store(Size::Q, place(offset_of!(Return, key)), Reg::R11);
    asm.store(Size::Q, place(offset_of!(Return, entry)), Reg::R13);
}

/// Compares the newest place with the offset in R10. Leaves its distance in R14 and its key in R13.
fn compare(asm: &mut Assembler) {
    asm.lea(Size::Q, Reg::R13, Mem::Index(Reg::R12, Reg::R10, 0, 0));
    asm.load(Size::D, Reg::R14, TOP);
    asm.alu_load(Size::Q, Group1::Cmp, Reg::R13, place(offset_of!(Return, key)));
}

/// Goes to the place at R14, and forgets it with those that are newer.
fn go_to_place(asm: &mut Assembler, find: u64) {
    asm.mov(Size::D, Reg::R11, Reg::R14);
    asm.alu_imm(Size::B, Group1::Sub, Reg::R11, BYTES);
    asm.store(Size::D, TOP, Reg::R11);
    go(asm, find, place(offset_of!(Return, entry)));
}

/// The stubs: a return to the offset in R10; and the same once the newest place was found to be another one.
pub(super) fn emit(asm: &mut Assembler, stubs: &Stubs) -> (u64, u64) {
    let ret = asm.here();
    compare(asm);
    let other = asm.jcc_forward(Cond::Ne);
    let here = asm.here();
    go_to_place(asm, stubs.find);
    asm.bind(other);
    let ret_other = asm.here();
    // Perhaps the interpreter made the newest call's return.
    asm.alu_imm(Size::B, Group1::Sub, Reg::R14, BYTES);
    asm.alu_load(Size::Q, Group1::Cmp, Reg::R13, place(offset_of!(Return, key)));
    asm.jcc(Cond::E, here);
    by_table(asm, stubs);
    (ret, ret_other)
}

impl Translator<'_> {
    /// Notes where a call comes back to; the result is for [`Self::land`].
    pub fn note_return(&mut self, uop: &Uop) -> Option<(Fixup, *mut Way)> {
        let next = uop.returns_to().filter(|_| self.flat_code)?;
        let way = self.new_way(next)?;
        // What it would find on the next page only the TLB knows.
        // SAFETY: `new_way` gives ways in the data memory.
        let landing = if unsafe { (*way).kind } == 0 {
            self.absolute(Reg::R11, next);
            self.asm.alu(Size::Q, Group1::Add, Reg::R11, Reg::R12);
            Some((self.asm.lea_forward(Reg::R13), way))
        } else {
            self.asm.mov_imm(Size::D, Reg::R11, 0);
            None
        };
        if self.hot {
            note(self.asm);
        } else {
            self.asm.call(self.stubs.note);
        }
        landing
    }

    /// The place that [`Self::note_return`] noted: a way to what follows the call.
    pub fn land(&mut self, landing: Option<(Fixup, *mut Way)>) {
        let Some((place, way)) = landing else { return };
        self.asm.bind(place);
        let jump = self.asm.jmp_forward();
        self.tie_later(way, jump);
    }

    /// Returns to the offset in R10, in flat code.
    pub fn go_back(&mut self) {
        if !self.hot {
            self.asm.jmp(self.stubs.ret);
            return;
        }
        compare(self.asm);
        self.asm.jcc(Cond::Ne, self.stubs.ret_other);
        go_to_place(self.asm, self.stubs.find);
    }
}
