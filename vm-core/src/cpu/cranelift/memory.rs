//! Loads, stores and segment checks as CLIF.
//!
//! Each access has a site in the region's memory: {tag, addend}. `address ^ tag <= 0x1000 - size` is page and an access that would cross
//! it in one compare; a site that holds nothing has a tag beyond 32 bits. A miss asks the TLB, which fills the site; a miss there
//! lets the interpreter execute the op. Sites hold for one generation of the TLB: where that has moved, all of a region's are
//! forgotten, at its entry and wherever the interpreter comes back.

use std::mem::offset_of;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Block, InstBuilder, Value, types};

use super::Site;
use super::translator::{NONE, Translator, state, type_of, variable_of};
use crate::cpu::state::{CpuState, Segment};
use crate::cpu::tlb::PAGE;
use crate::cpu::uop::{AddressSize, Ea, Extend, Size, TA, Uop};

/// A memory operand that was read and will be written by the same instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rmw {
    uop: Uop,
    size: Size,
    ea: Ea,
    /// Host address; 0 where the interpreter must do the store, too.
    host: Value,
}

impl Rmw {
    /// Whether its address is made of a variable.
    pub fn depends_on(&self, variable: usize) -> bool {
        variable_of(self.uop.a) == Some(variable) || variable_of(self.uop.b) == Some(variable)
    }

    fn is_of(&self, uop: &Uop, size: Size, ea: Ea) -> bool {
        let Uop { y, a, b, x, imm, .. } = self.uop;
        (y, a, b, x, imm) == (uop.y, uop.a, uop.b, uop.x, uop.imm) && size == self.size && ea == self.ea
    }
}

impl Translator<'_, '_> {
    /// Checks an access of `bytes`. The result is the host's address, in the block that is current then; `slow` is where neither site
    /// nor TLB has it.
    fn access(&mut self, uop: &Uop, ea: Ea, bytes: u32, write: bool) -> (Value, Block) {
        let linear = self.offset(uop, ea);
        let index = self.sites.min(self.memory.sites.len().saturating_sub(1));
        self.sites += 1;
        let site = (index * size_of::<Site>()) as i32;
        let field = |field: usize| site + field as i32;
        let wide = self.b.ins().uextend(types::I64, linear);
        let own = self.kinds.own;
        let tag = self.b.ins().load(types::I64, own, self.base, field(offset_of!(Site, tag)));
        let differ = self.b.ins().bxor(wide, tag);
        let hits = self.b.ins().icmp_imm_s(IntCC::UnsignedLessThanOrEqual, differ, i64::from(PAGE - bytes));
        let (hit, miss, slow) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(miss);
        self.b.set_cold_block(slow);
        self.b.ins().brif(hits, hit, NONE, miss, NONE);
        self.b.seal_block(miss);
        self.b.switch_to_block(miss);
        let what = self.b.ins().iconst(types::I32, i64::from(bytes | u32::from(write) << 8));
        let place = self.b.ins().iadd_imm_s(self.base, i64::from(site));
        self.call(self.calls.look_up, self.stubs.look_up, &[self.cpu, linear, place, what]);
        let found = self.result(types::I32);
        self.b.ins().brif(found, hit, NONE, slow, NONE);
        self.b.seal_block(hit);
        self.b.seal_block(slow);
        self.b.switch_to_block(hit);
        let addend = self.b.ins().load(types::I64, own, self.base, field(offset_of!(Site, addend)));
        let host = self.b.ins().iadd(addend, wide);
        (host, slow)
    }

    /// In `slow` the interpreter executes the op; then it goes on at `done`, with what that wrote to an operand.
    fn interpret_slowly(&mut self, slow: Block, done: Block, written: Option<(u8, Size)>, more: Option<Value>) {
        let back = self.b.current_block();
        let (dirty, flags) = (self.dirty, self.flags);
        self.b.switch_to_block(slow);
        self.call_interpreter(self.index);
        let mut arguments = Vec::new();
        if let Some((slot, size)) = written {
            arguments.push(self.get_from_state(slot, size).into());
        }
        if more.is_some() {
            arguments.push(self.b.ins().iconst(types::I64, 0).into());
        }
        self.b.ins().jump(done, &arguments);
        (self.dirty, self.flags) = (dirty, flags);
        if let Some(back) = back {
            self.b.switch_to_block(back);
        }
    }

    pub fn load(&mut self, uop: &Uop, size: Size, ea: Ea) -> bool {
        self.read(uop, size, ea, |_, value| value, size)
    }

    pub fn load_widen(&mut self, uop: &Uop, extend: Extend, from: Size, to: Size, ea: Ea) -> bool {
        if from >= to || to == Size::Q {
            return false;
        }
        self.read(uop, from, ea, |t, value| t.extended(extend, value, to), to)
    }

    fn read(&mut self, uop: &Uop, from: Size, ea: Ea, widen: impl FnOnce(&mut Self, Value) -> Value, to: Size) -> bool {
        let (host, slow) = self.access(uop, ea, from.bytes(), false);
        let value = self.b.ins().load(type_of(from), self.kinds.guest, host, 0);
        let value = widen(self, value);
        let done = self.b.create_block();
        let result = self.b.append_block_param(done, type_of(to));
        self.b.ins().jump(done, &[value.into()]);
        self.interpret_slowly(slow, done, Some((uop.d, to)), None);
        self.b.seal_block(done);
        self.b.switch_to_block(done);
        self.put(uop.d, to, result);
        true
    }

    pub fn load_for_write(&mut self, uop: &Uop, size: Size, ea: Ea) -> bool {
        let (host, slow) = self.access(uop, ea, size.bytes(), true);
        let value = self.b.ins().load(type_of(size), self.kinds.guest, host, 0);
        let done = self.b.create_block();
        let result = self.b.append_block_param(done, type_of(size));
        let place = self.b.append_block_param(done, types::I64);
        self.b.ins().jump(done, &[value.into(), host.into()]);
        self.interpret_slowly(slow, done, Some((uop.d, size)), Some(host));
        self.b.seal_block(done);
        self.b.switch_to_block(done);
        self.put(uop.d, size, result);
        let rmw = Rmw { uop: *uop, size, ea, host: place };
        self.rmw = variable_of(uop.d).is_none_or(|variable| !rmw.depends_on(variable)).then_some(rmw);
        true
    }

    pub fn store(&mut self, uop: &Uop, size: Size, ea: Ea) -> bool {
        let value = self.get(uop.d, size);
        self.write(uop, size, ea, value);
        true
    }

    pub fn store_imm(&mut self, uop: &Uop, size: Size, ea: Ea) -> bool {
        let value = self.constant(size, uop.imm2);
        self.write(uop, size, ea, value);
        true
    }

    fn write(&mut self, uop: &Uop, size: Size, ea: Ea, value: Value) {
        let (host, slow) = match self.rmw.take() {
            Some(rmw) if rmw.is_of(uop, size, ea) => {
                let (go, slow) = (self.b.create_block(), self.b.create_block());
                self.b.set_cold_block(slow);
                self.b.ins().brif(rmw.host, go, NONE, slow, NONE);
                self.b.seal_block(go);
                self.b.seal_block(slow);
                self.b.switch_to_block(go);
                (rmw.host, slow)
            }
            _ => self.access(uop, ea, size.bytes(), true),
        };
        self.b.ins().store(self.kinds.guest, value, host, 0);
        let done = self.b.create_block();
        self.b.ins().jump(done, NONE);
        self.interpret_slowly(slow, done, None, None);
        self.b.seal_block(done);
        self.b.switch_to_block(done);
    }

    /// A linear address, checked against its segment: data segments that grow up; the interpreter does the others.
    pub fn segment(&mut self, uop: &Uop, address: AddressSize, ea: Ea) -> bool {
        if uop.d != TA {
            return false;
        }
        let (number, bytes, write) = ((uop.imm2 & 7).min(5) as usize, uop.imm2 >> 8, uop.imm2 & 0x80 != 0);
        let segment = offset_of!(CpuState, seg) + number * size_of::<Segment>();
        let offset = self.offset(uop, ea);
        let offset = if address == AddressSize::A16 { self.b.ins().band_imm_s(offset, 0xffff) } else { offset };
        let (mask, wanted) = if write { (0x8e, 0x82) } else { (0x8c, 0x80) };
        let kind = self.kinds.state;
        let field = |field: usize| state(segment + field);
        let rights = self.b.ins().uload16(types::I32, kind, self.cpu, field(offset_of!(Segment, rights)));
        let rights = self.b.ins().band_imm_s(rights, mask);
        let usual = self.b.ins().icmp_imm_s(IntCC::Equal, rights, wanted);
        let limit = self.b.ins().uload32(kind, self.cpu, field(offset_of!(Segment, limit)));
        let wide = self.b.ins().uextend(types::I64, offset);
        let last = self.b.ins().iadd_imm_s(wide, i64::from(bytes) - 1);
        let inside = self.b.ins().icmp(IntCC::UnsignedLessThanOrEqual, last, limit);
        let both = self.b.ins().band(usual, inside);
        let done = self.b.create_block();
        let result = self.b.append_block_param(done, types::I32);
        let go = self.fork(both, |t| {
            t.call_interpreter(t.index);
            let linear = t.get_from_state(uop.d, Size::D);
            t.b.ins().jump(done, &[linear.into()]);
        });
        self.b.switch_to_block(go);
        let base = self.b.ins().load(types::I32, kind, self.cpu, field(offset_of!(Segment, base)));
        let linear = self.b.ins().iadd(base, offset);
        self.b.ins().jump(done, &[linear.into()]);
        self.b.seal_block(done);
        self.b.switch_to_block(done);
        self.put(uop.d, Size::D, result);
        true
    }
}
