//! Templates of branches and ways out of a block.

use std::mem::offset_of;

use super::emitter::{Assembler, Fixup, Group1, Mem, Reg};
use super::registers::{Place, exec, place, state};
use super::stubs::Stubs;
use super::translator::{Cold, Translator};
use super::{CodePlace, Jump, Way};
use crate::cpu::block::Link;
use crate::cpu::flags::ZF;
use crate::cpu::interp::Exec;
use crate::cpu::state::CpuState;
use crate::cpu::uop::{Cond, Count, Size, Uop};

/// Entries of a jump table: those of programs with many functions at like places in pages would put each other out of a smaller one.
pub(super) const JUMPS: usize = 1 << 15;
/// Bytes of one.
pub(super) const JUMP_BYTES: usize = size_of::<Jump>();

/// What offsets of the block that runs count from.
pub(super) const ORIGIN: Mem = exec(offset_of!(Exec, origin));

/// Where an entry at R11 leads.
pub(super) const JUMP_ENTRY: Mem = Mem::Base(Reg::R11, (offset_of!(Jump, place) + offset_of!(CodePlace, entry)) as i32);

const _: () = assert!(JUMP_BYTES.is_power_of_two() && offset_of!(Jump, key) == 0);

/// Goes to the code of the offset in R10, whose host address stands at `entry`, unless somebody wants attention. Uses R13.
pub(super) fn go(asm: &mut Assembler, find: u64, entry: Mem) {
    asm.load(Size::Q, Reg::R13, exec(offset_of!(Exec, native.attention)));
    asm.alu_mem_imm(Size::D, Group1::Cmp, Mem::Base(Reg::R13, 0), 0);
    asm.jcc(Cond::Ne, find);
    asm.alu_load(Size::D, Group1::And, Reg::R10, exec(offset_of!(Exec, origin_bits)));
    asm.store(Size::D, ORIGIN, Reg::R10);
    asm.jmp_mem(entry);
}

/// Goes to the offset in R10, where the mode's jump table has it. In flat code.
pub(super) fn by_table(asm: &mut Assembler, stubs: &Stubs) {
    asm.mov(Size::D, Reg::R11, Reg::R10);
    asm.alu_imm(Size::D, Group1::And, Reg::R11, JUMPS as u32 - 1);
    asm.shift_imm(Size::D, 4, Reg::R11, JUMP_BYTES.trailing_zeros());
    asm.alu_load(Size::Q, Group1::Add, Reg::R11, exec(offset_of!(Exec, native.jumps)));
    asm.lea(Size::Q, Reg::R13, Mem::Index(Reg::R12, Reg::R10, 0, 0));
    asm.rm(Size::Q, (Group1::Cmp as u32) << 3 | 2, Reg::R13, Mem::Base(Reg::R11, 0));
    asm.jcc(Cond::Ne, stubs.find_flat);
    go(asm, stubs.find, JUMP_ENTRY);
}

impl Translator<'_> {
    /// Goes to `eip`: through a jump that is patched once the block there has native code.
    fn way(&mut self, eip: u32) -> bool {
        let Some(way) = self.new_way(eip) else { return false };
        self.way_checks(way);
        let jump = self.asm.jmp_forward();
        self.tie_later(way, jump);
        true
    }

    /// A conditional jump to where `eip` is handled.
    fn way_if(&mut self, cond: Cond, eip: u32) -> bool {
        let Some(way) = self.new_way(eip) else { return false };
        // SAFETY: `new_way` gives ways in the data memory.
        let kind = unsafe { (*way).kind };
        let jump = self.asm.jcc_forward(cond);
        if kind == 0 {
            self.tie_later(way, jump);
        } else {
            self.cold.push(Cold::Way { jump, way });
        }
        true
    }

    /// What must hold before a way is taken.
    pub fn way_checks(&mut self, way: *mut Way) {
        // SAFETY: as above.
        let Way { kind, pages, .. } = unsafe { &*way };
        let moves = self.relative && kind & Link::CROSS != 0;
        if moves {
            self.asm.load(Size::D, Reg::R13, ORIGIN);
            self.asm.lea(Size::D, Reg::R13, Mem::Base(Reg::R13, *pages as i32));
            self.asm.store(Size::D, ORIGIN, Reg::R13);
        }
        if kind & Link::BACK != 0 {
            self.asm.load(Size::Q, Reg::R11, exec(offset_of!(Exec, native.attention)));
            self.asm.alu_mem_imm(Size::D, Group1::Cmp, Mem::Base(Reg::R11, 0), 0);
            let raised = self.asm.jcc_forward(Cond::Ne);
            self.cold.push(Cold::Leave { jump: raised, way });
        }
        if kind & Link::CROSS != 0 {
            let moved = self.check_valid(way, moves);
            self.cold.push(Cold::Moved { jump: moved, way });
        }
    }

    /// Whether a way holds for this generation of the TLB, and where its block has an origin for that, which is then in R13; the jump is for
    /// where it does not. Uses R13.
    fn check_valid(&mut self, way: *mut Way, has_origin: bool) -> Fixup {
        let mut now = Reg::R12;
        if has_origin {
            self.asm.alu(Size::Q, Group1::Add, Reg::R13, Reg::R12);
            now = Reg::R13;
        }
        let valid = way.addr() as u64 + offset_of!(Way, valid) as u64;
        self.asm.rm(Size::Q, (Group1::Cmp as u32) << 3 | 2, now, Mem::Near(valid));
        self.asm.jcc_forward(Cond::Ne)
    }

    /// `jump` is what leads to the way's block later, and until then to its exit.
    pub fn tie_later(&mut self, way: *mut Way, jump: Fixup) {
        // SAFETY: as above.
        unsafe { (*way).jump = (self.asm.address_of(jump) - self.code) as u32 };
        self.cold.push(Cold::Leave { jump, way });
    }

    pub fn jump(&mut self, uop: &Uop) -> bool {
        let landing = self.note_return(uop);
        let goes = self.way(uop.imm);
        self.land(landing);
        goes
    }

    pub fn jump_if(&mut self, uop: &Uop, cond: Cond) -> bool {
        self.need_condition(cond);
        self.way_if(cond, uop.imm) && self.way(uop.imm2)
    }

    pub fn jump_count(&mut self, uop: &Uop, count: Count, size: Size) -> bool {
        let Place::Reg(counter) = place(uop.a) else { return false };
        self.asm.test(size, counter, counter);
        self.host_flags_gone();
        let done = match count {
            Count::Zero => return self.way_if(Cond::E, uop.imm) && self.way(uop.imm2),
            Count::NonZero => return self.way_if(Cond::Ne, uop.imm) && self.way(uop.imm2),
            Count::NonZeroAndE | Count::NonZeroAndNe => self.asm.jcc_forward(Cond::E),
        };
        self.need_host_flags(ZF);
        let cond = if count == Count::NonZeroAndE { Cond::E } else { Cond::Ne };
        if !self.way_if(cond, uop.imm) {
            return false;
        }
        self.asm.bind(done);
        self.way(uop.imm2)
    }

    /// To an offset that only now is known: a look at the mode's jump table, where code is flat.
    pub fn jump_to(&mut self, uop: &Uop) -> bool {
        let from = self.read(uop.a, Reg::R10);
        if from != Reg::R10 {
            self.asm.mov(Size::D, Reg::R10, from);
        }
        if !self.flat_code {
            self.asm.jmp(self.stubs.find);
            return true;
        }
        if uop.is_return() {
            self.go_back();
            return true;
        }
        let landing = self.note_return(uop);
        if self.hot {
            by_table(self.asm, self.stubs);
        } else {
            self.asm.jmp(self.stubs.jump);
        }
        self.land(landing);
        true
    }

    /// Out, with a look around.
    pub fn leave(&mut self, uop: &Uop) -> bool {
        self.set_rip(uop.imm);
        self.asm.jmp(self.stubs.leave);
        true
    }

    /// `state.rip = origin + eip`. The host's flags stay.
    pub fn set_rip(&mut self, eip: u32) {
        self.absolute(Reg::R11, eip);
        self.asm.store(Size::Q, state(offset_of!(CpuState, rip)), Reg::R11);
    }

    /// `to = origin + eip`. The host's flags stay.
    pub fn absolute(&mut self, to: Reg, eip: u32) {
        if self.relative {
            self.asm.load(Size::D, to, ORIGIN);
            self.asm.lea(Size::D, to, Mem::Base(to, eip as i32));
        } else {
            self.asm.mov_imm(Size::D, to, eip);
        }
    }

    /// The offset in CS of what lies so far from the origin.
    pub fn here(&mut self, uop: &Uop) -> bool {
        if let Place::Reg(to) = place(uop.d) {
            self.absolute(to, uop.imm);
        } else {
            self.absolute(Reg::R11, uop.imm);
            self.write(Size::D, uop.d, Reg::R11);
        }
        true
    }

    /// The instruction goes on in the physical page `imm`, if that is still mapped behind the first one.
    pub fn spans(&mut self, uop: &Uop) -> bool {
        if !self.flat_code {
            return false;
        }
        let place = CodePlace { entry: self.asm.here(), physical: u64::from(uop.imm) << 12 };
        let way = Way { valid: 0, eip: uop.imm2, kind: 0, pages: 0, jump: 0, stub: 0, target: None, place };
        let Some(way) = self.put_way(way) else { return false };
        if self.relative {
            self.asm.load(Size::D, Reg::R13, ORIGIN);
        }
        let jump = self.check_valid(way, self.relative);
        self.host_flags_gone();
        let aside = self.aside(self.index);
        self.cold.push(Cold::Spans { jump, way, aside });
        true
    }

    pub fn check_target(&mut self, uop: &Uop) -> bool {
        let target = self.read(uop.a, Reg::R11);
        self.asm.alu_imm(Size::D, Group1::Cmp, target, uop.imm);
        let beyond = self.asm.jcc_forward(Cond::A);
        self.host_flags_gone();
        self.cold_op(beyond);
        true
    }
}
