//! Edges inside a region, and ways out of it.

use std::mem::offset_of;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Block, InstBuilder, Value, types};
use cranelift_frontend::FunctionBuilder;

use super::compiler::{LEFT, run_offset};
use super::flags::FlagState;
use super::run::Run;
use super::translator::{GPR_BITS, NONE, Translator, outcome, variable_of};
use super::{Exit, JUMPS, Jump, NOBODY, Request, Source, run};
use crate::cpu::block::Link;
use crate::cpu::flags::ARITHMETIC;
use crate::cpu::pass;
use crate::cpu::uop::{Cond, Count, Op, Size, Uop};

/// Return sites that an indirect jump compares its target with, at most.
const MAX_RETURNS: usize = 4;

/// Blocks of the region and how they hang together.
pub(super) struct Edges {
    /// The function's blocks, one each.
    pub blocks: Vec<Block>,
    /// The order of translation: where there is one way only to a block, what comes before is translated before.
    pub order: Vec<usize>,
    /// Registers that may differ from the state at each block's start.
    pub dirty: Vec<u32>,
    /// Where the flags are at each block's start, if that is known.
    pub inherited: Vec<Option<FlagState>>,
    /// Flags that somebody may look at from each block's start on.
    live: Vec<u32>,
    /// Edges that lead to each block; the region's entry counts.
    ways: Vec<usize>,
    /// Blocks after calls.
    returns: Vec<usize>,
    /// Where the blocks begin.
    eips: Vec<u32>,
}

/// Where a block's branch may go inside the region.
fn targets(request: &Request, at: usize, returns: &[usize]) -> Vec<usize> {
    let find = |eip: u32| request.blocks.iter().position(|source| source.block.eip == eip);
    let last = request.blocks[at].ops.last();
    match last.map(|uop| (uop.op(), uop)) {
        Some((Op::Jump {}, uop)) => find(uop.imm).into_iter().collect(),
        Some((Op::JumpIf { .. } | Op::JumpCount { .. }, uop)) => {
            find(uop.imm).into_iter().chain(find(uop.imm2)).collect()
        }
        Some((Op::JumpTo {}, _)) => returns.to_vec(),
        _ => Vec::new(),
    }
}

impl Edges {
    pub fn of(request: &Request, b: &mut FunctionBuilder) -> Self {
        let count = request.blocks.len();
        let after_call = request.blocks.iter().enumerate().filter(|(_, source)| source.after_call);
        let returns: Vec<usize> = after_call.map(|(at, _)| at).take(MAX_RETURNS).collect();
        let targets: Vec<Vec<usize>> = (0..count).map(|at| targets(request, at, &returns)).collect();
        // Reverse postorder of what is reached.
        let mut order = Vec::new();
        let mut seen = vec![false; count];
        let mut path = vec![(0, 0)];
        seen[0] = true;
        while let Some((at, next)) = path.last_mut() {
            let (from, edge) = (*at, *next);
            *next += 1;
            match targets[from].get(edge) {
                Some(&to) if !seen[to] => {
                    seen[to] = true;
                    path.push((to, 0));
                }
                Some(_) => {}
                None => {
                    order.push(from);
                    path.pop();
                }
            }
        }
        order.reverse();
        let mut ways = vec![0; count];
        ways[0] = 1;
        for &at in &order {
            for &to in &targets[at] {
                ways[to] += 1;
            }
        }
        let blocks = (0..count).map(|_| b.create_block()).collect();
        let mut this = Self {
            blocks,
            order,
            dirty: vec![0; count],
            inherited: vec![None; count],
            live: request.blocks.iter().map(|source| live_flags(source, &mut Vec::new())).collect(),
            ways,
            returns,
            eips: request.blocks.iter().map(|source| source.block.eip).collect(),
        };
        this.settle(request, &targets);
        this
    }

    /// Finds what is dirty, until nothing changes.
    fn settle(&mut self, request: &Request, targets: &[Vec<usize>]) {
        let written: Vec<u32> = request.blocks.iter().map(written).collect();
        loop {
            let mut changed = false;
            for &at in &self.order {
                let out = self.dirty[at] | written[at];
                for &to in &targets[at] {
                    changed |= out & !self.dirty[to] != 0;
                    self.dirty[to] |= out;
                }
            }
            if !changed {
                return;
            }
        }
    }

    /// The block of the region at `eip`.
    fn at(&self, eip: u32) -> Option<usize> {
        self.eips.iter().position(|&known| known == eip)
    }
}

/// Which flags may be looked at after each op of a block, and before the first. At its end all may: the region may be left there, even
/// where the next block replaces them.
pub(super) fn live_flags(source: &Source, live: &mut Vec<u32>) -> u32 {
    let Some((_, before)) = source.ops.split_last() else { return ARITHMETIC };
    let first = pass::live_flags_before(before, live);
    live.push(ARITHMETIC);
    first
}

/// Registers that a block may write.
fn written(source: &Source) -> u32 {
    let direct = |uop: &Uop| match uop.op() {
        Op::MulDiv { .. } | Op::CmpXchg { .. } | Op::Xchg { .. } => GPR_BITS,
        Op::Helper {} | Op::Spans {} | Op::Repeat { .. } | Op::Guarded { .. } => 0,
        _ => variable_of(uop.d).map_or(0, |variable| 1 << variable) | outcome_of_others(uop),
    };
    source.ops.iter().map(direct).fold(0, |all, set| all | set) & GPR_BITS
}

/// What is written beside the destination.
fn outcome_of_others(uop: &Uop) -> u32 {
    match uop.op() {
        Op::Push { .. } | Op::PushImm { .. } | Op::Pop { .. } => outcome(uop).0,
        _ => 0,
    }
}

impl Translator<'_, '_> {
    /// Leaves where somebody wants attention, before going back to `eip`.
    fn look_around(&mut self, eip: u32) {
        let pointer = self.load_run(types::I64, offset_of!(Run, attention));
        // Not a plain load: what another thread writes may not be taken for known.
        let raised = self.b.ins().atomic_load(types::I32, self.kinds.own.with_alias_region(None), pointer);
        let quiet = self.b.ins().icmp_imm_s(IntCC::Equal, raised, 0);
        let go = self.fork(quiet, |t| t.leave_to(eip));
        self.b.switch_to_block(go);
    }

    /// Goes to `eip`, inside the region or out of it. Ends the block.
    fn go(&mut self, eip: u32) {
        let block = self.request.blocks[self.at].block;
        if block.goes_back(block.eip, eip) {
            self.look_around(eip);
        }
        let Some(to) = self.edges.at(eip) else {
            self.exit(eip);
            return;
        };
        self.take_count(to);
        if self.edges.ways[to] == 1 {
            self.edges.inherited[to] = Some(self.flags);
        } else if self.edges.live[to] != 0 {
            self.materialize();
        }
        let target = self.edges.blocks[to];
        self.b.ins().jump(target, NONE);
    }

    /// Out of the region to `eip`: straight on to another region once the exit is tied.
    fn exit(&mut self, eip: u32) {
        let block = self.request.blocks[self.at].block;
        let mut kind = 0;
        if !block.has_on_page(eip) {
            kind |= Link::CROSS;
            // What holds for one linear page need not hold for the next, and only flat code says which that is.
            if !self.request.flat_code {
                kind |= Link::LOOSE;
            }
        }
        let index = self.exits.min(self.memory.exits.len().saturating_sub(1));
        self.exits += 1;
        self.memory.exits[index] = Exit { code: self.stubs.leave, valid: 0, eip, kind, target: NOBODY };
        self.write_back(self.dirty & GPR_BITS);
        self.materialize();
        let exit = self.address(&raw const self.memory.exits[index]);
        let left = self.b.use_var(self.left);
        if kind & Link::CROSS != 0 {
            let now = self.load_run(types::I32, offset_of!(Run, generation));
            let valid = self.b.ins().load(types::I32, self.kinds.own, exit, offset_of!(Exit, valid) as i32);
            let same = self.b.ins().icmp(IntCC::Equal, now, valid);
            let go = self.fork(same, |t| {
                let leave = t.address(t.stubs.leave);
                t.b.ins().return_call_indirect(t.calls.region, leave, &[t.cpu, left, exit]);
            });
            self.b.switch_to_block(go);
        }
        let code = self.b.ins().load(types::I64, self.kinds.own, exit, offset_of!(Exit, code) as i32);
        self.b.ins().return_call_indirect(self.calls.region, code, &[self.cpu, left, exit]);
    }

    pub fn jump(&mut self, uop: &Uop) -> bool {
        self.go(uop.imm);
        true
    }

    /// One of two ways.
    fn choose(&mut self, holds: Value, uop: &Uop) {
        let (taken, not) = (self.b.create_block(), self.b.create_block());
        self.b.ins().brif(holds, taken, NONE, not, NONE);
        self.b.seal_block(taken);
        self.b.seal_block(not);
        let (dirty, flags) = (self.dirty, self.flags);
        for (block, eip) in [(taken, uop.imm), (not, uop.imm2)] {
            self.b.switch_to_block(block);
            (self.dirty, self.flags) = (dirty, flags);
            self.go(eip);
        }
    }

    pub fn jump_if(&mut self, uop: &Uop, cond: Cond) -> bool {
        let holds = self.condition(cond);
        self.choose(holds, uop);
        true
    }

    pub fn jump_count(&mut self, uop: &Uop, count: Count, size: Size) -> bool {
        let counter = self.get(uop.a, size);
        let zero = count == Count::Zero;
        let code = if zero { IntCC::Equal } else { IntCC::NotEqual };
        let mut holds = self.b.ins().icmp_imm_s(code, counter, 0);
        let cond = match count {
            Count::Zero | Count::NonZero => None,
            Count::NonZeroAndE => Some(Cond::E),
            Count::NonZeroAndNe => Some(Cond::Ne),
        };
        if let Some(cond) = cond {
            let other = self.condition(cond);
            holds = self.b.ins().band(holds, other);
        }
        self.choose(holds, uop);
        true
    }

    /// To an offset that only now is known: perhaps one of the region's own returns, else a look at the mode's jump table.
    pub fn jump_to(&mut self, uop: &Uop) -> bool {
        let target = self.get(uop.a, Size::D);
        for to in self.edges.returns.clone() {
            let source = &self.request.blocks[to];
            let eip = source.block.eip;
            let here = self.b.ins().icmp_imm_s(IntCC::Equal, target, i64::from(eip));
            let (taken, not) = (self.b.create_block(), self.b.create_block());
            self.b.ins().brif(here, taken, NONE, not, NONE);
            self.b.seal_block(taken);
            self.b.seal_block(not);
            self.b.switch_to_block(taken);
            let (dirty, flags) = (self.dirty, self.flags);
            self.go(eip);
            (self.dirty, self.flags) = (dirty, flags);
            self.b.switch_to_block(not);
        }
        self.write_back(self.dirty & GPR_BITS);
        self.materialize();
        let left = self.b.use_var(self.left);
        if self.request.flat_code {
            let own = self.kinds.own;
            let jumps = self.load_run(types::I64, offset_of!(Run, jumps));
            let slot = self.b.ins().band_imm_s(target, JUMPS as i64 - 1);
            let slot = self.b.ins().uextend(types::I64, slot);
            let offset = self.b.ins().imul_imm_s(slot, size_of::<Jump>() as i64);
            let jump = self.b.ins().iadd(jumps, offset);
            let generation = self.b.ins().uload32(self.kinds.state, self.cpu, run_offset(offset_of!(Run, generation)));
            let high = self.b.ins().ishl_imm_s(generation, 32);
            let low = self.b.ins().uextend(types::I64, target);
            let wanted = self.b.ins().bor(high, low);
            let key = self.b.ins().load(types::I64, own, jump, offset_of!(Jump, key) as i32);
            let known = self.b.ins().icmp(IntCC::Equal, key, wanted);
            let pointer = self.load_run(types::I64, offset_of!(Run, attention));
            let raised = self.b.ins().atomic_load(types::I32, own.with_alias_region(None), pointer);
            let quiet = self.b.ins().icmp_imm_s(IntCC::Equal, raised, 0);
            let goes = self.b.ins().band(known, quiet);
            let go = self.fork(goes, |t| t.find(target));
            self.b.switch_to_block(go);
            let code = self.b.ins().load(types::I64, own, jump, offset_of!(Jump, code) as i32);
            let nothing = self.b.ins().iconst(types::I64, 0);
            self.b.ins().return_call_indirect(self.calls.region, code, &[self.cpu, left, nothing]);
        } else {
            self.find(target);
        }
        true
    }

    /// To the region at an offset, where there is one; else out. What differs is in the state already.
    fn find(&mut self, target: Value) {
        let left = self.b.use_var(self.left);
        self.b.ins().store(self.kinds.state, left, self.cpu, LEFT);
        let function = self.address(run::find as *const ());
        let call = self.b.ins().call_indirect(self.calls.find, function, &[self.cpu, target]);
        let code = self.b.inst_results(call)[0];
        let go = self.b.create_block();
        self.b.ins().brif(code, go, NONE, self.out, NONE);
        self.b.seal_block(go);
        self.b.switch_to_block(go);
        let nothing = self.b.ins().iconst(types::I64, 0);
        self.b.ins().return_call_indirect(self.calls.region, code, &[self.cpu, left, nothing]);
    }

    pub fn check_target(&mut self, uop: &Uop) -> bool {
        let target = self.get(uop.a, Size::D);
        let inside = self.b.ins().icmp_imm_s(IntCC::UnsignedLessThanOrEqual, target, i64::from(uop.imm));
        let done = self.b.create_block();
        let go = self.fork(inside, |t| {
            t.call_interpreter(t.index);
            t.b.ins().jump(done, NONE);
        });
        self.b.switch_to_block(go);
        self.b.ins().jump(done, NONE);
        self.b.seal_block(done);
        self.b.switch_to_block(done);
        true
    }
}
