//! A region: ops in, CLIF out.
//!
//! Guest registers and the temporaries of an instruction are variables: read from the state at the entry, written back where the
//! region is left, and before the interpreter executes an op. `dirty` says which differ from the state at the place where code is
//! made. Instructions left are a variable, too: on the way to a block its own are taken off.

use std::mem::offset_of;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, AliasRegion, AliasRegionData, Block, BlockArg, InstBuilder, MemFlagsData, SigRef, Signature, Type, Value,
    types,
};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cranelift_frontend::{FunctionBuilder, Variable};

use super::compiler::{LEFT, RESULT, Stubs, careful_signature, region_signature, run_offset};
use super::control::{self, Edges};
use super::flags::FlagState;
use super::memory::Rmw;
use super::run::Run;
use super::{Data, Memory, Request};
use crate::cpu::Cpu;
use crate::cpu::flags::ARITHMETIC;
use crate::cpu::state::CpuState;
use crate::cpu::uop::{Flag, Form, Op, RSP, Size, T0, Uop, X87, ZERO, interpreters_own};

/// Registers and temporaries that are variables: the eight of 32-bit code, and what an instruction keeps.
pub(super) const GPRS: usize = 8;
const TEMPS: usize = 7;
const VARIABLES: usize = GPRS + TEMPS;
/// The temporaries' bits in a set of variables.
const TEMP_BITS: u32 = ((1 << TEMPS) - 1) << GPRS;
/// The registers' bits.
pub(super) const GPR_BITS: u32 = (1 << GPRS) - 1;

/// Which variable an operand is (a part of).
pub(super) fn variable_of(slot: u8) -> Option<usize> {
    let number = usize::from(slot >> 3);
    let first = usize::from(T0 >> 3);
    if number < GPRS { Some(number) } else { (first..first + TEMPS).contains(&number).then(|| number - first + GPRS) }
}

/// Offset of a variable's place in the state.
fn place(variable: usize) -> i32 {
    let slot = if variable < GPRS { variable } else { variable - GPRS + usize::from(T0 >> 3) };
    state(8 * slot)
}

/// Offset from the processor of a byte of its state.
pub(super) const fn state(offset: usize) -> i32 {
    (offset_of!(Cpu, state) + offset) as i32
}

/// The type of a size. There are no 64-bit registers yet.
pub(super) fn type_of(size: Size) -> Type {
    match size {
        Size::B => types::I8,
        Size::W => types::I16,
        Size::D => types::I32,
        Size::Q => types::I64,
    }
}

/// Ops that have no translation here.
macro_rules! untranslated {
    () => {
        Op::Vector { .. }
            | Op::VectorCheck { .. }
            | Op::VectorGet { .. }
            | Op::VectorSet { .. }
            | Op::VectorLoad { .. }
            | Op::VectorStore { .. }
            | Op::VectorCross { .. }
            | Op::Float { .. }
            | Op::VectorTest { .. }
            | Op::X87 { .. }
            | Op::X87Memory { .. }
            | Op::Push { .. }
            | Op::PushImm { .. }
            | Op::Pop { .. }
            | Op::Helper {}
            | Op::Spans {}
            | Op::Here {}
            | Op::Repeat { .. }
            | Op::Guarded { .. }
    };
}

/// Functions that regions call.
#[derive(Clone, Copy)]
pub(super) struct Calls {
    pub execute_op: SigRef,
    pub look_up: SigRef,
    pub refresh: SigRef,
    pub find: SigRef,
    pub flags: SigRef,
    pub region: SigRef,
}

/// Memory that does not overlap, for the compiler.
#[derive(Clone, Copy)]
pub(super) struct Kinds {
    /// The processor.
    pub state: MemFlagsData,
    /// What belongs to the region.
    pub own: MemFlagsData,
    /// The guest's memory.
    pub guest: MemFlagsData,
}

/// The translation of one region.
pub(super) struct Translator<'a, 'f> {
    pub b: FunctionBuilder<'f>,
    pub request: &'a Request,
    pub memory: Memory,
    pub edges: Edges,
    variables: [Variable; VARIABLES],
    pub left: Variable,
    pub cpu: Value,
    /// The region's sites: one register holds what would else be a constant of ten bytes at each access.
    pub base: Value,
    pub calls: Calls,
    pub kinds: Kinds,
    /// Where the state says how it goes on, and `exec.left` is right.
    pub out: Block,
    /// Host addresses of what regions share.
    pub stubs: Stubs,
    /// The block that is translated, and the op in it.
    pub at: usize,
    pub index: usize,
    /// Flags that somebody may look at after each op of the block.
    pub live: Vec<u32>,
    pub flags: FlagState,
    /// Variables that differ from the state.
    pub dirty: u32,
    /// The memory operand that the instruction reads and will write.
    pub rmw: Option<Rmw>,
    pub sites: usize,
    pub exits: usize,
    /// Where the block's ops begin in the region's copy.
    first_op: usize,
}

impl<'a, 'f> Translator<'a, 'f> {
    /// Builds the function. The result is the memory whose addresses it has.
    pub fn translate(
        b: FunctionBuilder<'f>,
        request: &'a Request,
        stubs: Stubs,
        call: CallConv,
        config: TargetFrontendConfig,
    ) -> Memory {
        let mut b = b;
        let ops: Vec<Uop> = request.blocks.iter().flat_map(|source| source.ops.iter().copied()).collect();
        let sites = ops.iter().filter(|uop| has_site(uop.op())).count();
        let memory = Memory::new(request.number, sites, 2 * request.blocks.len(), ops);
        let entry = b.create_block();
        b.append_block_params_for_function_params(entry);
        b.switch_to_block(entry);
        let cpu = b.block_params(entry)[0];
        let given = b.block_params(entry)[1];
        let calls = Calls::new(&mut b, call);
        let kinds = Kinds::new(&mut b);
        let variables = [(); VARIABLES].map(|()| b.declare_var(types::I32));
        let left = b.declare_var(types::I64);
        b.def_var(left, given);
        b.seal_block(entry);
        let edges = Edges::of(request, &mut b);
        let out = b.create_block();
        b.set_cold_block(out);
        let mut this = Self {
            b,
            request,
            memory,
            edges,
            variables,
            left,
            cpu,
            base: cpu,
            calls,
            kinds,
            out,
            stubs,
            at: 0,
            index: 0,
            live: Vec::new(),
            flags: FlagState::Memory(None),
            dirty: 0,
            rmw: None,
            sites: 0,
            exits: 0,
            first_op: 0,
        };
        this.open();
        for at in this.edges.order.clone() {
            this.block(at);
        }
        let Self { mut b, memory, .. } = this;
        b.switch_to_block(out);
        b.ins().return_(&[]);
        b.seal_all_blocks();
        b.finalize(config);
        memory
    }

    /// A constant address.
    pub fn address<T>(&mut self, of: *const T) -> Value {
        self.b.ins().iconst(types::I64, of.addr() as i64)
    }

    /// Calls a function that keeps all registers.
    pub fn call(&mut self, signature: SigRef, function: *const u8, arguments: &[Value]) {
        let function = self.address(function);
        self.b.ins().call_indirect(signature, function, arguments);
    }

    /// What it returned.
    pub fn result(&mut self, kind: Type) -> Value {
        self.b.ins().load(kind, self.kinds.state, self.cpu, RESULT)
    }

    /// What happens at the entry, once.
    fn open(&mut self) {
        // What the sites hold may be of another time.
        let data = self.address(&raw const *self.memory.data);
        let now = self.load_run(types::I32, offset_of!(Run, generation));
        let own = self.kinds.own;
        let known = self.b.ins().load(types::I32, own, data, offset_of!(Data, generation) as i32);
        let same = self.b.ins().icmp(IntCC::Equal, now, known);
        let (stale, ready) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(stale);
        self.b.ins().brif(same, ready, NONE, stale, NONE);
        self.b.seal_block(stale);
        self.b.switch_to_block(stale);
        self.call(self.calls.refresh, self.stubs.refresh, &[self.cpu, data]);
        self.b.ins().jump(ready, NONE);
        self.b.seal_block(ready);
        self.b.switch_to_block(ready);
        self.base = self.b.ins().load(types::I64, own, data, offset_of!(Data, sites) as i32);
        self.reload(GPR_BITS);
        let zero = self.b.ins().iconst(types::I32, 0);
        for variable in &self.variables[GPRS..] {
            self.b.def_var(*variable, zero);
        }
        self.take_count(0);
        let first = self.edges.blocks[0];
        self.b.ins().jump(first, NONE);
    }

    /// Takes the instructions of block `at`, which is next, off what is left; leaves where there are not enough. That is asked before
    /// the block is entered, where the flags are known that it may not care for.
    pub fn take_count(&mut self, at: usize) {
        let block = self.request.blocks[at].block;
        let left = self.b.use_var(self.left);
        let now = self.b.ins().iadd_imm_s(left, -i64::from(block.count));
        let enough = self.b.ins().icmp_imm_s(IntCC::SignedGreaterThanOrEqual, now, 0);
        let go = self.fork(enough, |t| t.leave_to(block.eip));
        self.b.switch_to_block(go);
        self.b.def_var(self.left, now);
    }

    /// Reads what the engine knows.
    pub fn load_run(&mut self, kind: Type, field: usize) -> Value {
        self.b.ins().load(kind, self.kinds.state, self.cpu, run_offset(field))
    }

    /// Reads variables from the state.
    fn reload(&mut self, set: u32) {
        for variable in 0..VARIABLES {
            if set >> variable & 1 != 0 {
                let value = self.b.ins().load(types::I32, self.kinds.state, self.cpu, place(variable));
                self.b.def_var(self.variables[variable], value);
            }
        }
    }

    /// Writes what differs back to the state; it stays dirty for whoever goes another way.
    pub fn write_back(&mut self, set: u32) {
        for variable in 0..VARIABLES {
            if set >> variable & 1 != 0 {
                let value = self.b.use_var(self.variables[variable]);
                let wide = self.b.ins().uextend(types::I64, value);
                self.b.ins().store(self.kinds.state, wide, self.cpu, place(variable));
            }
        }
    }

    /// Translates block `at`.
    fn block(&mut self, at: usize) {
        let request = self.request;
        let source = &request.blocks[at];
        self.at = at;
        self.first_op = request.blocks[..at].iter().map(|before| before.ops.len()).sum();
        self.b.switch_to_block(self.edges.blocks[at]);
        self.dirty = self.edges.dirty[at];
        self.flags = self.edges.inherited[at].take().unwrap_or(FlagState::Memory(None));
        self.rmw = None;
        let mut live = std::mem::take(&mut self.live);
        control::live_flags(source, &mut live);
        self.live = live;

        let mut instruction = u16::MAX;
        for index in 0..source.ops.len() {
            self.index = index;
            let uop = source.ops[index];
            if uop.y != instruction {
                instruction = uop.y;
                self.dirty &= !TEMP_BITS;
                self.rmw = None;
            }
            if !self.op(&uop) {
                self.interpret(&uop);
            }
        }
    }

    /// Goes on in a new block, which is the result, where a condition holds; else does something rare, which ends there.
    pub fn fork(&mut self, holds: Value, otherwise: impl FnOnce(&mut Self)) -> Block {
        let (go, rare) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(rare);
        self.b.ins().brif(holds, go, NONE, rare, NONE);
        self.b.seal_block(go);
        self.b.seal_block(rare);
        self.b.switch_to_block(rare);
        let (dirty, flags) = (self.dirty, self.flags);
        otherwise(self);
        self.dirty = dirty;
        self.flags = flags;
        go
    }

    /// Leaves with `eip` as the next instruction's offset: out of line.
    pub fn leave_to(&mut self, eip: u32) {
        self.write_back(self.dirty & GPR_BITS);
        self.materialize();
        let rip = self.b.ins().iconst(types::I64, i64::from(eip));
        self.b.ins().store(self.kinds.state, rip, self.cpu, state(offset_of!(CpuState, rip)));
        let left = self.b.use_var(self.left);
        self.b.ins().store(self.kinds.state, left, self.cpu, LEFT);
        self.b.ins().return_(&[]);
    }

    /// The interpreter executes op `index` of the block, and then it goes on here, with the state as the place where all is.
    /// What differs must have been written back but for `dirty`, which is done here.
    pub fn call_interpreter(&mut self, index: usize) {
        self.write_back(self.dirty);
        self.materialize();
        let left = self.b.use_var(self.left);
        self.b.ins().store(self.kinds.state, left, self.cpu, LEFT);
        let op = self.address(&raw const self.memory.ops[self.first_op + index]);
        let header = self.address(self.request.blocks[self.at].header);
        let data = self.address(&raw const *self.memory.data);
        self.call(self.calls.execute_op, self.stubs.execute_op, &[self.cpu, op, header, data]);
        let goes_on = self.result(types::I32);
        let go = self.b.create_block();
        self.b.ins().brif(goes_on, go, NONE, self.out, NONE);
        self.b.seal_block(go);
        self.b.switch_to_block(go);
        // Rounds of a REP have used it up.
        let left = self.b.ins().load(types::I64, self.kinds.state, self.cpu, LEFT);
        self.b.def_var(self.left, left);
    }

    /// The interpreter executes the op that is translated, always.
    fn interpret(&mut self, uop: &Uop) {
        self.call_interpreter(self.index);
        let (written, flags) = outcome(uop);
        // What has been written back is clean now.
        self.dirty = 0;
        self.reload(written);
        if flags {
            self.flags = FlagState::Memory(None);
        }
        self.rmw = None;
    }

    /// Reads an operand.
    pub fn get(&mut self, slot: u8, size: Size) -> Value {
        let Some(variable) = variable_of(slot) else { return self.b.ins().iconst(type_of(size), 0) };
        let whole = self.b.use_var(self.variables[variable]);
        match (size, slot & 1) {
            (Size::D | Size::Q, _) => whole,
            (Size::W, _) => self.b.ins().ireduce(types::I16, whole),
            (Size::B, 0) => self.b.ins().ireduce(types::I8, whole),
            (Size::B, _) => {
                let high = self.b.ins().ushr_imm_s(whole, 8);
                self.b.ins().ireduce(types::I8, high)
            }
        }
    }

    /// Writes an operand.
    pub fn put(&mut self, slot: u8, size: Size, value: Value) {
        let Some(number) = variable_of(slot) else { return };
        let variable = self.variables[number];
        let value = if size == Size::D {
            value
        } else {
            let shift = if size == Size::B { i64::from(slot & 1) * 8 } else { 0 };
            let mask = (size.mask() as i64) << shift;
            let whole = self.b.use_var(variable);
            let rest = self.b.ins().band_imm_s(whole, i64::from(!(mask as u32) as i32));
            let wide = self.b.ins().uextend(types::I32, value);
            let there = if shift == 0 { wide } else { self.b.ins().ishl_imm_s(wide, shift) };
            self.b.ins().bor(rest, there)
        };
        self.b.def_var(variable, value);
        self.dirty |= 1 << number;
        if self.rmw.as_ref().is_some_and(|rmw| rmw.depends_on(number)) {
            self.rmw = None;
        }
    }

    /// An operand in the state, after the interpreter wrote it.
    pub fn get_from_state(&mut self, slot: u8, size: Size) -> Value {
        self.b.ins().load(type_of(size), self.kinds.state, self.cpu, state(usize::from(slot)))
    }

    /// A value widened with zeros to 32 bits.
    pub fn wide(&mut self, value: Value) -> Value {
        if self.b.func.dfg.value_type(value) == types::I32 { value } else { self.b.ins().uextend(types::I32, value) }
    }

    /// A value widened with its sign to 32 bits.
    pub fn signed(&mut self, value: Value) -> Value {
        if self.b.func.dfg.value_type(value) == types::I32 { value } else { self.b.ins().sextend(types::I32, value) }
    }

    /// The low part of a 32-bit value.
    pub fn narrow(&mut self, value: Value, size: Size) -> Value {
        if size == Size::D { value } else { self.b.ins().ireduce(type_of(size), value) }
    }

    /// A constant operand.
    pub fn constant(&mut self, size: Size, value: u32) -> Value {
        let cut = match size {
            Size::B => i64::from(value as u8),
            Size::W => i64::from(value as u16),
            Size::D | Size::Q => i64::from(value),
        };
        self.b.ins().iconst(type_of(size), cut)
    }

    /// Whether an operand can be read or written here.
    fn knows(slot: u8) -> bool {
        slot == ZERO || variable_of(slot).is_some()
    }

    /// Translates an op; false where the interpreter is to execute it.
    fn op(&mut self, uop: &Uop) -> bool {
        let live = self.live[self.index];
        let alive = live & ARITHMETIC != 0;
        let op = uop.op();
        let known = Self::knows(uop.d) && Self::knows(uop.a) && Self::knows(uop.b);
        match op {
            Op::Mov { size: Size::Q }
            | Op::MovImm { size: Size::Q }
            | Op::Load { size: Size::Q, .. }
            | Op::LoadForWrite { size: Size::Q, .. }
            | Op::Store { size: Size::Q, .. }
            | Op::StoreImm { size: Size::Q, .. } => false,
            untranslated!() => false,
            _ if !known => false,
            Op::Mov { size } => self.mov(uop, size),
            Op::MovImm { size } => self.mov_imm(uop, size),
            Op::Xchg { size } => self.exchange(uop, size),
            Op::Widen { extend, from, to } => self.widen(uop, extend, from, to),
            Op::Lea { address, ea, size } => self.lea(uop, address, ea, size),
            Op::Alu { alu, form, size, flags } => self.arithmetic(uop, alu, form, size, flags == Flag::Live && alive),
            Op::Compare { compare, form, size } => self.compare(uop, compare, form, size),
            Op::Inc { size } => self.step(uop, false, size),
            Op::Dec { size } => self.step(uop, true, size),
            Op::Neg { size, flags } => self.negate(uop, size, flags == Flag::Live && alive),
            Op::Not { size } => self.invert(uop, size),
            Op::Shift { shift, form: Form::Imm, size, flags } => {
                self.shift(uop, shift, size, if flags == Flag::Live { live } else { 0 })
            }
            Op::Shift { shift, form: Form::Reg, size, flags } => {
                self.shift_by_cl(uop, shift, size, flags == Flag::Live && alive)
            }
            Op::DoubleShift { shift, form, size } => self.double_shift(uop, shift, form, size),
            Op::MulDiv { kind, size } => self.muldiv(uop, kind, size),
            Op::Imul { form, size } => self.product(uop, form, size),
            Op::Bit { bit, form, size } => self.bit(uop, bit, form, size, live),
            Op::BitOffset { size } => self.bit_offset(uop, size),
            Op::Scan { scan, size } => self.scan(uop, scan, size),
            Op::Bswap { size } => self.swap_bytes(uop, size),
            Op::Selector {} => self.selector(uop),
            Op::Advance { size } => self.advance(uop, size),
            Op::Setcc { cond } => self.set(uop, cond),
            Op::Cmov { cond, size } => self.conditional_move(uop, cond, size),
            Op::CmpXchg { size } => self.compare_exchange(uop, size),
            Op::Flag { what } => self.flag(what),
            Op::Load { size, ea } => self.load(uop, size, ea),
            Op::LoadWiden { extend, from, to, ea } => self.load_widen(uop, extend, from, to, ea),
            Op::LoadForWrite { size, ea } => self.load_for_write(uop, size, ea),
            Op::Store { size, ea } => self.store(uop, size, ea),
            Op::StoreImm { size, ea } => self.store_imm(uop, size, ea),
            Op::Segment { address, ea } => self.segment(uop, address, ea),
            Op::CheckTarget {} => self.check_target(uop),
            Op::Jump {} => self.jump(uop),
            Op::JumpIf { cond } => self.jump_if(uop, cond),
            Op::JumpCount { count, size } => self.jump_count(uop, count, size),
            Op::JumpTo {} => self.jump_to(uop),
            Op::Leave {} => {
                self.leave_to(uop.imm);
                true
            }
            // Never lifted.
            interpreters_own!() => false,
        }
    }
}

/// Whether an op has a site.
fn has_site(op: Op) -> bool {
    matches!(
        op,
        Op::Load { .. } | Op::LoadWiden { .. } | Op::LoadForWrite { .. } | Op::Store { .. } | Op::StoreImm { .. }
    )
}

/// Whether the interpreter executes an op, whatever its operands are.
pub(super) fn is_interpreted(op: Op) -> bool {
    matches!(op, untranslated!())
}

/// Variables that an op may write, or the interpreter for it, and whether it may change what is remembered of flags.
pub(super) fn outcome(uop: &Uop) -> (u32, bool) {
    let target = variable_of(uop.d).map_or(0, |variable| 1 << variable);
    let pointer = variable_of(RSP).map_or(0, |variable| 1 << variable);
    match uop.op() {
        Op::VectorLoad { .. }
        | Op::VectorStore { .. }
        | Op::Vector { .. }
        | Op::VectorSet { .. }
        | Op::Float { .. }
        | Op::VectorCross { .. }
        | Op::VectorCheck { .. }
        | Op::X87 { kind: X87::Plain | X87::Tests }
        | Op::X87Memory { .. }
        | Op::CheckTarget {} => (0, false),
        Op::VectorTest { .. } | Op::X87 { kind: X87::Compares } => (0, true),
        Op::X87 { kind: X87::Status } => (1, false),
        Op::VectorGet { .. } => (target, false),
        Op::Push { .. } | Op::PushImm { .. } => (pointer, false),
        Op::Pop { .. } => (pointer | target, false),
        Op::Load { .. } | Op::LoadWiden { .. } | Op::LoadForWrite { .. } | Op::Segment { .. } => (target, false),
        Op::Store { .. } | Op::StoreImm { .. } => (0, false),
        _ => (GPR_BITS | TEMP_BITS, true),
    }
}

impl Calls {
    fn new(b: &mut FunctionBuilder, call: CallConv) -> Self {
        let (word, half) = (types::I64, types::I32);
        let mut careful = |parameters: &[Type]| b.import_signature(careful_signature(parameters));
        let execute_op = careful(&[word; 4]);
        let look_up = careful(&[word, half, word, half]);
        let refresh = careful(&[word; 2]);
        let flags = careful(&[word]);
        let mut signature = Signature::new(call);
        signature.params.extend([word, half].map(AbiParam::new));
        signature.returns.push(AbiParam::new(word));
        let find = b.import_signature(signature);
        let region = b.import_signature(region_signature());
        Self { execute_op, look_up, refresh, find, flags, region }
    }
}

impl Kinds {
    fn new(b: &mut FunctionBuilder) -> Self {
        let mut kind = |user_id, description: &'static str| -> AliasRegion {
            b.func.dfg.alias_regions.insert(AliasRegionData { user_id, description: description.into() })
        };
        let (state, own, guest) = (kind(0, "processor"), kind(1, "region"), kind(2, "guest"));
        Self {
            state: MemFlagsData::trusted().with_alias_region(Some(state)),
            own: MemFlagsData::trusted().with_alias_region(Some(own)),
            guest: MemFlagsData::new().with_notrap().with_alias_region(Some(guest)),
        }
    }
}

/// No arguments for a block.
pub(super) const NONE: &[BlockArg] = &[];
