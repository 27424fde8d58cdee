//! x87 instructions: the register stack, exceptions and what each instruction asks of [`crate::cpu::fpu`].
//!
//! The opcode register (FOP) is filled when an instruction raises an unmasked exception, as processors since the
//! Pentium 4 do; nobody reads it at any other time.

mod environment;
mod host;
mod memory;

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};

use crate::bus::Bus;
use crate::cpu::fault::{Fault, Vector};
use crate::cpu::flags::{ARITHMETIC, CF, PF, ZF};
use crate::cpu::fpu::bits::{C0, C2, C3, DE, IE, ZE};
use crate::cpu::fpu::float::{Context, F80};
use crate::cpu::fpu::transcendental::{self as trans, Constant, Trigonometric};
use crate::cpu::fpu::{Fpu, arith, convert};
use crate::cpu::helper::operand::segment_of;
use crate::cpu::state::{SegReg, cr0};
use crate::cpu::{Cpu, Flow, Helper};

/// The helper of an instruction of this family.
pub fn find(code: Code) -> Option<Helper> {
    use Mnemonic as M;
    Some(match code.mnemonic() {
        M::Fadd
        | M::Fsub
        | M::Fsubr
        | M::Fmul
        | M::Fdiv
        | M::Fdivr
        | M::Faddp
        | M::Fsubp
        | M::Fsubrp
        | M::Fmulp
        | M::Fdivp
        | M::Fdivrp
        | M::Fiadd
        | M::Fisub
        | M::Fisubr
        | M::Fimul
        | M::Fidiv
        | M::Fidivr => arithmetic,
        M::Fcom
        | M::Fcomp
        | M::Fcompp
        | M::Fucom
        | M::Fucomp
        | M::Fucompp
        | M::Ficom
        | M::Ficomp
        | M::Ftst
        | M::Fcomi
        | M::Fcomip
        | M::Fucomi
        | M::Fucomip => compare,
        M::Fld | M::Fild | M::Fbld => memory::load,
        M::Fst | M::Fstp | M::Fstpnce | M::Fist | M::Fistp | M::Fisttp | M::Fbstp => memory::store,
        M::Fld1 | M::Fldl2t | M::Fldl2e | M::Fldpi | M::Fldlg2 | M::Fldln2 | M::Fldz => load_constant,
        M::Fcmovb | M::Fcmove | M::Fcmovbe | M::Fcmovu | M::Fcmovnb | M::Fcmovne | M::Fcmovnbe | M::Fcmovnu => move_if,
        M::Fchs | M::Fabs | M::Fsqrt | M::Frndint | M::F2xm1 | M::Fsin | M::Fcos => unary,
        M::Fscale | M::Fprem | M::Fprem1 | M::Fyl2x | M::Fyl2xp1 | M::Fpatan => binary,
        M::Fxtract | M::Fptan | M::Fsincos => pushing,
        M::Fxch | M::Fxam | M::Ffree | M::Ffreep | M::Fincstp | M::Fdecstp | M::Fnop => stack,
        M::Fninit | M::Fnclex | M::Fnstsw | M::Fnstcw | M::Fneni | M::Fndisi | M::Fnsetpm => environment::control,
        M::Fldcw => environment::load_control,
        M::Fnstenv | M::Fnsave => environment::save,
        M::Fldenv | M::Frstor => environment::restore,
        M::Wait => wait,
        _ => return None,
    })
}

impl Cpu {
    /// #NM where CR0 says that the x87 is absent or belongs to another task.
    fn x87_available(&self) -> Result<(), Fault> {
        if self.state.cr[0] & (cr0::EM | cr0::TS) != 0 {
            return Err(Fault::new(Vector::DeviceNotAvailable));
        }
        Ok(())
    }

    /// Reports an unmasked exception of an earlier instruction: #MF, or the FERR# pin where CR0.NE is clear.
    ///
    /// With FERR# the instruction waits once, for the board to deliver the interrupt; where nobody takes it, it goes on.
    fn x87_pending(&mut self, bus: &mut dyn Bus) -> Result<Option<Flow>, Fault> {
        if !self.fpu.pending() {
            return Ok(None);
        }
        if self.state.cr[0] & cr0::NE != 0 {
            return Err(Fault::new(Vector::FloatingPoint));
        }
        if self.fpu.ignne || self.fpu.ferr {
            return Ok(None);
        }
        self.fpu.ferr = true;
        bus.signals().raise();
        Ok(Some(Flow::Again))
    }

    /// The start of an MMX instruction.
    ///
    /// # Errors
    /// #UD, #NM, or #MF for an exception of an earlier x87 instruction.
    pub fn mmx_enter(&mut self, bus: &mut dyn Bus) -> Result<Option<Flow>, Fault> {
        self.mmx_available()?;
        self.x87_pending(bus)
    }

    /// The start of every waiting instruction that computes. Nothing but FERR# has changed when it does not return `None`.
    fn x87_enter(&mut self, bus: &mut dyn Bus) -> Result<Option<Flow>, Fault> {
        self.x87_available()?;
        self.x87_pending(bus)
    }

    /// Remembers instruction and operand (FIP, FCS, FDP, FDS), and its opcode where it raised something.
    fn x87_leave(&mut self, insn: &Instruction) -> Flow {
        self.fpu.instruction_offset = self.state.rip;
        self.fpu.instruction_selector = self.state.segment(SegReg::Cs).selector;
        if insn.op0_kind() == OpKind::Memory {
            self.fpu.operand_offset = self.effective_offset(insn);
            self.fpu.operand_selector = self.state.segment(segment_of(insn)).selector;
        }
        if self.fpu.pending() {
            self.fpu.opcode = opcode(insn);
        }
        Flow::Next
    }
}

/// The eleven bits of FOP: the low three of the first byte, then the `ModRM` byte as the shortest encoding has it.
pub fn opcode(insn: &Instruction) -> u16 {
    let info = insn.code().op_code();
    let bytes = info.op_code() as u16;
    if info.op_code_len() == 2 {
        let stack = (0..insn.op_count()).map(|n| insn.op_register(n)).find(|reg| reg.is_st() && *reg != Register::ST0);
        return bytes & 0x7ff | stack.map_or(0, |reg| reg.number() as u16);
    }
    let reg = (info.group_index().max(0) as u16) << 3;
    let base = insn.memory_base();
    let rm = match (base, insn.memory_index()) {
        (Register::BX, Register::SI) => 0,
        (Register::BX, Register::DI) => 1,
        (Register::BP, Register::SI) => 2,
        (Register::BP, Register::DI) => 3,
        (Register::SI, _) => 4,
        (Register::DI, _) => 5,
        (Register::BP, _) => 6,
        (Register::BX, _) => 7,
        (Register::None, Register::None) => {
            if insn.memory_displ_size() == 2 {
                6
            } else {
                5
            }
        }
        (_, Register::None) => base.number() as u16 & 7,
        _ => 4,
    };
    let mode = match insn.memory_displ_size() {
        _ if base == Register::None => 0,
        0 => 0,
        1 => 1 << 6,
        _ => 2 << 6,
    };
    (bytes & 7) << 8 | mode | reg | rm
}

/// The number of a stack register; 0 for anything else.
fn stack_number(register: Register) -> u8 {
    if register.is_st() { register.number() as u8 } else { 0 }
}

/// Takes over the exceptions of an operation with a memory operand that was denormal in its own format.
fn finish(fpu: &mut Fpu, context: &mut Context, denormal: bool, other: F80) -> bool {
    if denormal && context.raised & (IE | ZE) == 0 && !other.is_nan() {
        context.raised |= DE;
    }
    commit(fpu, context)
}

/// Takes over exceptions. Where an unmasked one stops the operation, what a result would have raised is dropped.
fn commit(fpu: &mut Fpu, context: &mut Context) -> bool {
    let before = context.raised & (IE | DE | ZE);
    if context.unmasked(before) {
        context.raised = before;
        context.rounded_up = false;
    }
    fpu.commit(context)
}

fn arithmetic(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Result<Flow, Fault> {
    use Mnemonic as M;
    if let Some(flow) = cpu.x87_enter(bus)? {
        return Ok(flow);
    }
    let mut context = cpu.fpu.context();
    let (to, source, denormal, empty) = if insn.op0_kind() == OpKind::Memory {
        let (source, denormal) = memory::operand(cpu, bus, insn)?;
        (0, source, denormal, false)
    } else {
        let from = stack_number(insn.op1_register());
        (stack_number(insn.op0_register()), cpu.fpu.get(from), false, cpu.fpu.is_empty(from))
    };
    let target = cpu.fpu.get(to);
    let pops = matches!(insn.mnemonic(), M::Faddp | M::Fsubp | M::Fsubrp | M::Fmulp | M::Fdivp | M::Fdivrp);
    let result = if empty || cpu.fpu.is_empty(to) {
        cpu.fpu.stack_underflow().then_some(F80::INDEFINITE)
    } else {
        let context = &mut context;
        let value = match insn.mnemonic() {
            M::Fadd | M::Faddp | M::Fiadd => arith::add(context, target, source, false),
            M::Fsub | M::Fsubp | M::Fisub => arith::add(context, target, source, true),
            M::Fsubr | M::Fsubrp | M::Fisubr => arith::add(context, source, target, true),
            M::Fmul | M::Fmulp | M::Fimul => arith::multiply(context, target, source),
            M::Fdiv | M::Fdivp | M::Fidiv => arith::divide(context, target, source),
            _ => arith::divide(context, source, target),
        };
        finish(&mut cpu.fpu, context, denormal, target).then_some(value)
    };
    if let Some(value) = result {
        cpu.fpu.set(to, value);
        if pops {
            cpu.fpu.pop();
        }
    }
    Ok(cpu.x87_leave(insn))
}

fn compare(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Result<Flow, Fault> {
    use Mnemonic as M;
    if let Some(flow) = cpu.x87_enter(bus)? {
        return Ok(flow);
    }
    let mut context = cpu.fpu.context();
    let mnemonic = insn.mnemonic();
    let (source, denormal, empty) = if insn.op0_kind() == OpKind::Memory && insn.op_count() > 0 {
        let (source, denormal) = memory::operand(cpu, bus, insn)?;
        (source, denormal, false)
    } else if mnemonic == M::Ftst {
        (F80::ZERO, false, false)
    } else {
        let from = match mnemonic {
            M::Fcompp | M::Fucompp => 1,
            _ => stack_number(insn.op1_register()),
        };
        (cpu.fpu.get(from), false, cpu.fpu.is_empty(from))
    };
    let quiet = matches!(mnemonic, M::Fucom | M::Fucomp | M::Fucompp | M::Fucomi | M::Fucomip);
    let into_flags = matches!(mnemonic, M::Fcomi | M::Fcomip | M::Fucomi | M::Fucomip);
    let pops = match mnemonic {
        M::Fcompp | M::Fucompp => 2,
        M::Fcomp | M::Fucomp | M::Ficomp | M::Fcomip | M::Fucomip => 1,
        _ => 0,
    };
    let (codes, goes_on) = if empty || cpu.fpu.is_empty(0) {
        (C3 | C2 | C0, cpu.fpu.stack_underflow())
    } else {
        let target = cpu.fpu.get(0);
        let codes = arith::compare(&mut context, target, source, quiet);
        (codes, finish(&mut cpu.fpu, &mut context, denormal, target))
    };
    if into_flags {
        cpu.fpu.set_c1(false);
        // An unmasked denormal operand keeps the stack, but not the answer back.
        if goes_on || context.raised == DE {
            let flag = |code: u16, flag: u32| if codes & code != 0 { flag } else { 0 };
            cpu.state.flags.update(ARITHMETIC, flag(C3, ZF) | flag(C2, PF) | flag(C0, CF));
        }
    } else {
        cpu.fpu.set_conditions(codes);
    }
    if goes_on {
        for _ in 0..pops {
            cpu.fpu.pop();
        }
    }
    Ok(cpu.x87_leave(insn))
}

fn load_constant(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Result<Flow, Fault> {
    if let Some(flow) = cpu.x87_enter(bus)? {
        return Ok(flow);
    }
    let which = match insn.mnemonic() {
        Mnemonic::Fld1 => Constant::One,
        Mnemonic::Fldl2t => Constant::Log2Of10,
        Mnemonic::Fldl2e => Constant::Log2OfE,
        Mnemonic::Fldpi => Constant::Pi,
        Mnemonic::Fldlg2 => Constant::Log10Of2,
        Mnemonic::Fldln2 => Constant::LnOf2,
        _ => Constant::Zero,
    };
    let value = trans::constant(&cpu.fpu.context(), which);
    push(&mut cpu.fpu, value);
    Ok(cpu.x87_leave(insn))
}

/// Pushes, or records the stack overflow.
fn push(fpu: &mut Fpu, value: F80) {
    if fpu.is_empty(7) {
        fpu.set_c1(false);
        fpu.push(value);
    } else if fpu.stack_overflow() {
        fpu.push(F80::INDEFINITE);
    }
}

fn move_if(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Result<Flow, Fault> {
    use Mnemonic as M;
    if let Some(flow) = cpu.x87_enter(bus)? {
        return Ok(flow);
    }
    let from = stack_number(insn.op1_register());
    let flags = &cpu.state.flags;
    let moves = match insn.mnemonic() {
        M::Fcmovb => flags.has(CF),
        M::Fcmove => flags.has(ZF),
        M::Fcmovbe => flags.has(CF | ZF),
        M::Fcmovu => flags.has(PF),
        M::Fcmovnb => !flags.has(CF),
        M::Fcmovne => !flags.has(ZF),
        M::Fcmovnbe => !flags.has(CF | ZF),
        _ => !flags.has(PF),
    };
    if cpu.fpu.is_empty(0) || cpu.fpu.is_empty(from) {
        if cpu.fpu.stack_underflow() {
            cpu.fpu.set(0, F80::INDEFINITE);
        }
    } else if moves {
        let value = cpu.fpu.get(from);
        cpu.fpu.set(0, value);
    }
    Ok(cpu.x87_leave(insn))
}

/// `ST(0)` = f(`ST(0)`).
fn unary(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Result<Flow, Fault> {
    use Mnemonic as M;
    if let Some(flow) = cpu.x87_enter(bus)? {
        return Ok(flow);
    }
    if !cpu.soft_x87 && host::transcendental(&mut cpu.fpu, insn.mnemonic()) {
        return Ok(cpu.x87_leave(insn));
    }
    let fpu = &mut cpu.fpu;
    let trigonometric = matches!(insn.mnemonic(), M::Fsin | M::Fcos);
    if trigonometric {
        fpu.status &= !C2;
    }
    if fpu.is_empty(0) {
        if fpu.stack_underflow() {
            fpu.set(0, F80::INDEFINITE);
        }
        return Ok(cpu.x87_leave(insn));
    }
    let x = fpu.get(0);
    let mut context = fpu.context();
    let mut full = context.full();
    let (result, context) = match insn.mnemonic() {
        M::Fchs => (x.with_sign(!x.sign()), &mut full),
        M::Fabs => (x.with_sign(false), &mut full),
        M::Fsqrt => (arith::square_root(&mut context, x), &mut context),
        M::Frndint => (arith::round_to_integer(&mut full, x), &mut full),
        M::F2xm1 => (trans::two_to_x_minus_1(&mut full, x), &mut full),
        _ => {
            let compute = if insn.mnemonic() == M::Fsin { trans::sine } else { trans::cosine };
            match compute(&mut full, x) {
                Trigonometric::Results(value, _) => (value, &mut full),
                Trigonometric::OutOfRange => {
                    fpu.set_c1(false);
                    fpu.status |= C2;
                    return Ok(cpu.x87_leave(insn));
                }
            }
        }
    };
    if commit(fpu, context) {
        fpu.set(0, result);
    }
    Ok(cpu.x87_leave(insn))
}

/// From `ST(0)` and `ST(1)`: into `ST(0)`, or into `ST(1)` with a pop.
fn binary(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Result<Flow, Fault> {
    use Mnemonic as M;
    if let Some(flow) = cpu.x87_enter(bus)? {
        return Ok(flow);
    }
    if !cpu.soft_x87 && host::transcendental(&mut cpu.fpu, insn.mnemonic()) {
        return Ok(cpu.x87_leave(insn));
    }
    let fpu = &mut cpu.fpu;
    let pops = matches!(insn.mnemonic(), M::Fyl2x | M::Fyl2xp1 | M::Fpatan);
    let to = u8::from(pops);
    if matches!(insn.mnemonic(), M::Fprem | M::Fprem1) {
        fpu.status &= !C2;
    }
    let result = if fpu.is_empty(0) || fpu.is_empty(1) {
        fpu.stack_underflow().then_some(F80::INDEFINITE)
    } else {
        let (x, y) = (fpu.get(0), fpu.get(1));
        let mut context = fpu.context().full();
        let mut codes = None;
        let value = match insn.mnemonic() {
            M::Fscale => arith::scale(&mut context, x, y),
            M::Fyl2x => trans::y_log2_x(&mut context, x, y),
            M::Fyl2xp1 => trans::y_log2_x_plus_1(&mut context, x, y),
            M::Fpatan => trans::arctangent(&mut context, y, x),
            mnemonic => {
                let (value, quotient) = arith::remainder(&mut context, x, y, mnemonic == M::Fprem1);
                codes = quotient;
                value
            }
        };
        let goes_on = commit(fpu, &mut context);
        if let Some(codes) = codes
            && goes_on
        {
            fpu.set_conditions(codes);
        }
        goes_on.then_some(value)
    };
    if let Some(value) = result {
        fpu.set(to, value);
        if pops {
            fpu.pop();
        }
    }
    Ok(cpu.x87_leave(insn))
}

/// Replaces `ST(0)` and pushes a second result.
fn pushing(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Result<Flow, Fault> {
    use Mnemonic as M;
    if let Some(flow) = cpu.x87_enter(bus)? {
        return Ok(flow);
    }
    if !cpu.soft_x87 && host::transcendental(&mut cpu.fpu, insn.mnemonic()) {
        return Ok(cpu.x87_leave(insn));
    }
    let fpu = &mut cpu.fpu;
    if insn.mnemonic() != M::Fxtract {
        fpu.status &= !C2;
    }
    let results = if fpu.is_empty(0) {
        fpu.stack_underflow().then_some((F80::INDEFINITE, F80::INDEFINITE))
    } else if !fpu.is_empty(7) {
        fpu.stack_overflow().then_some((F80::INDEFINITE, F80::INDEFINITE))
    } else {
        let x = fpu.get(0);
        let mut context = fpu.context().full();
        let computed = match insn.mnemonic() {
            M::Fxtract => {
                let (exponent, significand) = arith::extract(&mut context, x);
                Trigonometric::Results(exponent, significand)
            }
            M::Fptan => trans::tangent(&mut context, x),
            _ => trans::sine_cosine(&mut context, x),
        };
        match computed {
            Trigonometric::OutOfRange => {
                fpu.set_c1(false);
                fpu.status |= C2;
                None
            }
            Trigonometric::Results(first, second) => commit(fpu, &mut context)
                .then_some(if x.is_nan() || context.raised & IE != 0 { (first, first) } else { (first, second) }),
        }
    };
    if let Some((first, second)) = results {
        fpu.set(0, first);
        fpu.push(second);
    }
    Ok(cpu.x87_leave(insn))
}

/// What moves or marks registers and computes nothing.
fn stack(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Result<Flow, Fault> {
    use Mnemonic as M;
    if let Some(flow) = cpu.x87_enter(bus)? {
        return Ok(flow);
    }
    let fpu = &mut cpu.fpu;
    match insn.mnemonic() {
        M::Fxch => {
            let other = stack_number(insn.op1_register());
            let mut goes_on = true;
            if fpu.is_empty(0) || fpu.is_empty(other) {
                goes_on = fpu.stack_underflow();
            } else {
                fpu.set_c1(false);
            }
            if goes_on {
                let value = |i: u8| if fpu.is_empty(i) { F80::INDEFINITE } else { fpu.get(i) };
                let (first, second) = (value(0), value(other));
                fpu.set(0, second);
                fpu.set(other, first);
            }
        }
        M::Fxam => {
            let codes = arith::examine(fpu.get(0), fpu.is_empty(0));
            fpu.set_conditions(codes);
        }
        M::Ffree | M::Ffreep => {
            fpu.set_c1(false);
            fpu.free(stack_number(insn.op0_register()));
            if insn.mnemonic() == M::Ffreep {
                fpu.pop();
            }
        }
        M::Fincstp => {
            fpu.set_c1(false);
            fpu.top = fpu.top.wrapping_add(1) & 7;
        }
        M::Fdecstp => {
            fpu.set_c1(false);
            fpu.top = fpu.top.wrapping_sub(1) & 7;
        }
        _ => {}
    }
    Ok(cpu.x87_leave(insn))
}

/// WAIT.
fn wait(cpu: &mut Cpu, bus: &mut dyn Bus, _insn: &Instruction) -> Result<Flow, Fault> {
    if cpu.state.cr[0] & (cr0::TS | cr0::MP) == cr0::TS | cr0::MP {
        return Err(Fault::new(Vector::DeviceNotAvailable));
    }
    Ok(cpu.x87_pending(bus)?.unwrap_or(Flow::Next))
}

/// An integer as a register holds it.
fn integer(value: i64) -> F80 {
    convert::from_i64(value)
}

#[cfg(test)]
#[path = "x87/tests.rs"]
mod tests;
