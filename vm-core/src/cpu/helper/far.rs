//! Transfers of control through segments, gates and stacks, and loads of segment registers
//! (Intel SDM vol. 2; vol. 3A, 5.8).

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};

use super::operand::seg_reg;
use crate::bus::{Bus, Width};
use crate::cpu::fault::{Fault, Vector};
use crate::cpu::flags;
use crate::cpu::interrupt::{Event, Frame, Source};
use crate::cpu::lift::is_flat;
use crate::cpu::segment::{Descriptor, is_null, selector_error, system};
use crate::cpu::state::{SegReg, Segment, cr4, gpr};
use crate::cpu::task::Cause;
use crate::cpu::{Cpu, Flow, Helper};

type Outcome = Result<Flow, Fault>;

/// The helper of an instruction of this family.
pub fn find(code: Code) -> Option<Helper> {
    let helper: Helper = match code {
        Code::Jmp_ptr1616 | Code::Jmp_ptr1632 | Code::Jmp_m1616 | Code::Jmp_m1632 => jump,
        Code::Call_ptr1616 | Code::Call_ptr1632 | Code::Call_m1616 | Code::Call_m1632 => call,
        Code::Mov_Sreg_rm16 | Code::Mov_Sreg_r32m16 => mov_segment,
        Code::Popw_ES
        | Code::Popw_SS
        | Code::Popw_DS
        | Code::Popw_FS
        | Code::Popw_GS
        | Code::Popd_ES
        | Code::Popd_SS
        | Code::Popd_DS
        | Code::Popd_FS
        | Code::Popd_GS => pop_segment,
        _ => match code.mnemonic() {
            Mnemonic::Retf => return_far,
            Mnemonic::Iret | Mnemonic::Iretd => return_interrupt,
            Mnemonic::Int => int,
            Mnemonic::Int3 => int3,
            Mnemonic::Into => into,
            Mnemonic::Int1 => int1,
            Mnemonic::Bound => bound,
            Mnemonic::Sysenter => sysenter,
            Mnemonic::Sysexit => sysexit,
            Mnemonic::Enter => enter,
            Mnemonic::Leave => leave,
            Mnemonic::Pusha | Mnemonic::Pushad => push_all,
            Mnemonic::Popa | Mnemonic::Popad => pop_all,
            Mnemonic::Lds | Mnemonic::Les | Mnemonic::Lss | Mnemonic::Lfs | Mnemonic::Lgs => load_far_pointer,
            _ => return None,
        },
    };
    Some(helper)
}

/// The operand size of an instruction: 16 or 32 bits.
pub fn operand_width(insn: &Instruction) -> Width {
    if insn.op_code().operand_size() == 16 { Width::Word } else { Width::Dword }
}

/// The address of the next instruction.
fn next(cpu: &Cpu, insn: &Instruction) -> u64 {
    cpu.state.rip.wrapping_add(insn.len() as u64) & 0xffff_ffff
}

/// Selector and offset of a far pointer operand.
fn far_pointer(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Result<(u16, u64), Fault> {
    match insn.op0_kind() {
        OpKind::FarBranch16 => Ok((insn.far_branch_selector(), u64::from(insn.far_branch16()))),
        OpKind::FarBranch32 => Ok((insn.far_branch_selector(), u64::from(insn.far_branch32()))),
        _ => memory_pointer(cpu, bus, insn),
    }
}

/// Selector and offset of a far pointer in memory.
fn memory_pointer(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Result<(u16, u64), Fault> {
    let width = operand_width(insn);
    let offset_at = cpu.memory_part(insn, 0, width as u32, false)?;
    let selector_at = cpu.memory_part(insn, width.bytes(), 2, false)?;
    let offset = cpu.load_width(bus, offset_at, width)?;
    let selector = cpu.load::<u16>(bus, selector_at)?;
    Ok((selector, offset))
}

fn not_present(selector: u16) -> Fault {
    Fault::with_error(Vector::SegmentNotPresent, selector_error(selector))
}

/// What a far jump or call leads to.
enum Target {
    /// A code segment of the same privilege level.
    Code(Segment, u64),
    /// A call gate's code segment of an inner level (CALL only), and the gate.
    Inner(Segment, u64, Descriptor),
    /// A call gate's code segment of the same level, and the gate's size.
    Gate(Segment, u64, Width),
    /// A task by the selector of its TSS.
    Task(u16),
}

impl Cpu {
    /// Resolves the target of a far jump or call in protected mode, with all checks. Marks the code segment accessed.
    fn far_target(&mut self, bus: &mut dyn Bus, selector: u16, offset: u64, is_call: bool) -> Result<Target, Fault> {
        if is_null(selector) {
            return Err(Fault::gp(0));
        }
        let cpl = self.state.cpl;
        let rpl = (selector & 3) as u8;
        let bad = Fault::gp(selector_error(selector));
        let mut descriptor = self.descriptor_or(bus, selector, Vector::GeneralProtection)?;
        if !descriptor.is_system() {
            let allowed = if descriptor.is_conforming() {
                descriptor.dpl() <= cpl
            } else {
                rpl <= cpl && descriptor.dpl() == cpl
            };
            if !descriptor.is_code() || !allowed {
                return Err(bad);
            }
            let segment = self.enter_code(bus, &mut descriptor, selector, offset, cpl)?;
            return Ok(Target::Code(segment, offset));
        }
        if descriptor.dpl() < cpl.max(rpl) {
            return Err(bad);
        }
        match descriptor.kind() {
            system::TSS16 | system::TSS32 | system::TASK_GATE | system::CALL_GATE16 | system::CALL_GATE32
                if !descriptor.is_present() =>
            {
                Err(not_present(selector))
            }
            system::TSS16 | system::TSS32 => Ok(Target::Task(selector)),
            system::TASK_GATE => Ok(Target::Task(descriptor.gate_selector())),
            system::CALL_GATE16 | system::CALL_GATE32 => self.gate_target(bus, &descriptor, is_call),
            _ => Err(bad),
        }
    }

    fn gate_target(&mut self, bus: &mut dyn Bus, gate: &Descriptor, is_call: bool) -> Result<Target, Fault> {
        let cpl = self.state.cpl;
        let selector = gate.gate_selector();
        if is_null(selector) {
            return Err(Fault::gp(0));
        }
        let mut code = self.descriptor_or(bus, selector, Vector::GeneralProtection)?;
        let same_level =
            if is_call { code.dpl() <= cpl } else { code.dpl() == cpl || code.is_conforming() && code.dpl() < cpl };
        if !code.is_code() || !same_level {
            return Err(Fault::gp(selector_error(selector)));
        }
        let offset = u64::from(gate.gate_offset());
        let inner = is_call && !code.is_conforming() && code.dpl() < cpl;
        let new_cpl = if inner { code.dpl() } else { cpl };
        let segment = self.enter_code(bus, &mut code, selector, offset, new_cpl)?;
        let width = if gate.kind() == system::CALL_GATE16 { Width::Word } else { Width::Dword };
        Ok(if inner { Target::Inner(segment, offset, *gate) } else { Target::Gate(segment, offset, width) })
    }

    /// The last checks of a code segment, and what CS then holds.
    fn enter_code(
        &mut self,
        bus: &mut dyn Bus,
        code: &mut Descriptor,
        selector: u16,
        offset: u64,
        cpl: u8,
    ) -> Result<Segment, Fault> {
        if !code.is_present() {
            return Err(not_present(selector));
        }
        if offset > u64::from(code.limit()) {
            return Err(Fault::gp(0));
        }
        self.mark_accessed(bus, code)?;
        Ok(code.segment(selector & !3 | u16::from(cpl)))
    }

    fn set_code(&mut self, segment: Segment, offset: u64) {
        self.state.seg[SegReg::Cs as usize] = segment;
        self.state.rip = offset;
    }

    /// CS and RIP in real or virtual-8086 mode.
    fn set_code_paragraph(&mut self, selector: u16, offset: u64) {
        if self.state.v86() {
            self.set_code(Segment::v86(selector), offset);
        } else {
            self.load_code_real(selector);
            self.state.rip = offset;
        }
    }

    /// #GP(0) where `offset` lies behind the code segment, whose limit real and virtual-8086 mode do not change.
    fn check_code_limit(&self, offset: u64) -> Result<(), Fault> {
        if offset > u64::from(self.state.segment(SegReg::Cs).limit) { Err(Fault::gp(0)) } else { Ok(()) }
    }

    /// Checks the code segment of a return to privilege level `selector.rpl`, at or outside the current one.
    fn return_target(&mut self, bus: &mut dyn Bus, selector: u16, offset: u64) -> Result<Segment, Fault> {
        if is_null(selector) {
            return Err(Fault::gp(0));
        }
        let rpl = (selector & 3) as u8;
        let mut code = self.descriptor_or(bus, selector, Vector::GeneralProtection)?;
        let level_fits = if code.is_conforming() { code.dpl() <= rpl } else { code.dpl() == rpl };
        if rpl < self.state.cpl || !code.is_code() || !level_fits {
            return Err(Fault::gp(selector_error(selector)));
        }
        self.enter_code(bus, &mut code, selector, offset, rpl)
    }

    /// The end of a return to an outer level: the stack and the data segments that may stay.
    fn enter_outer(&mut self, code: Segment, offset: u64, stack: Segment, top: u64) {
        self.set_cpl((code.selector & 3) as u8);
        self.set_code(code, offset);
        self.state.seg[SegReg::Ss as usize] = stack;
        self.set_stack_pointer(top);
        self.drop_privileged_segments();
    }
}

fn jump(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let (selector, offset) = far_pointer(cpu, bus, insn)?;
    if cpu.state.paragraphs() {
        cpu.check_code_limit(offset)?;
        cpu.set_code_paragraph(selector, offset);
        return Ok(Flow::Jump);
    }
    match cpu.far_target(bus, selector, offset, false)? {
        Target::Code(segment, offset) | Target::Gate(segment, offset, _) | Target::Inner(segment, offset, _) => {
            cpu.set_code(segment, offset);
        }
        Target::Task(selector) => {
            let back = next(cpu, insn);
            return settled(cpu, bus, |cpu, bus| cpu.switch_task(bus, selector, Cause::Jump, back));
        }
    }
    Ok(Flow::Jump)
}

fn call(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let (selector, offset) = far_pointer(cpu, bus, insn)?;
    let width = operand_width(insn);
    let back = next(cpu, insn);
    let old_cs = u64::from(cpu.state.segment(SegReg::Cs).selector);
    let mut frame = Frame::current(cpu, width);
    if cpu.state.paragraphs() {
        cpu.check_code_limit(offset)?;
        frame.push(cpu, bus, old_cs)?;
        frame.push(cpu, bus, back)?;
        frame.commit(cpu);
        cpu.set_code_paragraph(selector, offset);
        return Ok(Flow::Jump);
    }
    match cpu.far_target(bus, selector, offset, true)? {
        Target::Code(segment, offset) => {
            frame.push(cpu, bus, old_cs)?;
            frame.push(cpu, bus, back)?;
            frame.commit(cpu);
            cpu.set_code(segment, offset);
        }
        Target::Gate(segment, offset, width) => {
            frame.width = width;
            frame.push(cpu, bus, old_cs)?;
            frame.push(cpu, bus, back)?;
            frame.commit(cpu);
            cpu.set_code(segment, offset);
        }
        Target::Inner(segment, offset, gate) => call_inner(cpu, bus, segment, offset, &gate, back)?,
        Target::Task(selector) => {
            return settled(cpu, bus, |cpu, bus| cpu.switch_task(bus, selector, Cause::Call, back));
        }
    }
    Ok(Flow::Jump)
}

/// CALL through a gate to an inner level: a new stack with the old one's address and the gate's parameters.
fn call_inner(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    segment: Segment,
    offset: u64,
    gate: &Descriptor,
    back: u64,
) -> Result<(), Fault> {
    let width = if gate.kind() == system::CALL_GATE16 { Width::Word } else { Width::Dword };
    let count = u64::from(gate.high & 31);
    let cpl = (segment.selector & 3) as u8;
    let mut frame = cpu.inner_stack(bus, cpl, width)?;
    let new_ss = selector_error(frame.segment.selector);
    let named = |fault: Fault| if fault.vector == Vector::StackFault { fault.or_error(new_ss) } else { fault };

    let old_ss = u64::from(cpu.state.segment(SegReg::Ss).selector);
    let old_top = cpu.state.gpr[gpr::RSP];
    frame.push(cpu, bus, old_ss).map_err(named)?;
    frame.push(cpu, bus, old_top).map_err(named)?;
    for n in (0..count).rev() {
        let parameter = cpu.peek_stack(bus, width, n * width.bytes())?;
        frame.push(cpu, bus, parameter).map_err(named)?;
    }
    let old_cs = u64::from(cpu.state.segment(SegReg::Cs).selector);
    frame.push(cpu, bus, old_cs).map_err(named)?;
    frame.push(cpu, bus, back).map_err(named)?;
    frame.commit(cpu);
    cpu.set_code(segment, offset);
    cpu.set_cpl(cpl);
    Ok(())
}

fn return_far(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let width = operand_width(insn);
    let drop = if insn.op_count() == 1 { u64::from(insn.immediate16()) } else { 0 };
    let size = width.bytes();
    let offset = cpu.peek_stack(bus, width, 0)?;
    let selector = cpu.peek_stack(bus, width, size)? as u16;
    let top = cpu.stack_pointer().wrapping_add(2 * size + drop);
    if cpu.state.paragraphs() {
        cpu.check_code_limit(offset)?;
        cpu.set_stack_pointer(top);
        cpu.set_code_paragraph(selector, offset);
        return Ok(Flow::Jump);
    }
    let code = cpu.return_target(bus, selector, offset)?;
    let rpl = (selector & 3) as u8;
    if rpl == cpu.state.cpl {
        cpu.set_stack_pointer(top);
        cpu.set_code(code, offset);
        return Ok(Flow::Jump);
    }
    let outer_top = cpu.peek_stack(bus, width, 2 * size + drop)?;
    let outer_ss = cpu.peek_stack(bus, width, 3 * size + drop)? as u16;
    let stack = cpu.stack_segment(bus, outer_ss, rpl, Vector::GeneralProtection)?;
    cpu.enter_outer(code, offset, stack, outer_top.wrapping_add(drop));
    Ok(Flow::Jump)
}

fn return_interrupt(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let width = operand_width(insn);
    let size = width.bytes();
    let v86 = cpu.state.v86();
    let is_virtual = cpu.virtual_flags(width)?;
    // Also where it faults (Intel SDM vol. 3A, 6.7.1).
    cpu.state.nmi_blocked = false;
    if !cpu.state.paragraphs() && cpu.state.flags.has(flags::NT) {
        return task_return(cpu, bus, insn);
    }
    let offset = cpu.peek_stack(bus, width, 0)?;
    let selector = cpu.peek_stack(bus, width, size)? as u16;
    let image = cpu.peek_stack(bus, width, 2 * size)? as u32;
    let top = cpu.stack_pointer().wrapping_add(3 * size);

    let mut mask = flags::ARITHMETIC | flags::TF | flags::DF | flags::NT;
    if width == Width::Dword {
        mask |= flags::AC | flags::ID | flags::RF;
    }
    if cpu.state.paragraphs() {
        cpu.check_code_limit(offset)?;
        if is_virtual {
            cpu.set_virtual_image(image)?;
            mask = 0;
        } else {
            mask |= flags::IF | if v86 { 0 } else { flags::IOPL };
        }
        cpu.set_stack_pointer(top);
        cpu.set_code_paragraph(selector, offset);
        cpu.state.flags.update(mask, image);
        return Ok(Flow::Jump);
    }
    if width == Width::Dword && image & flags::VM != 0 && cpu.state.cpl == 0 {
        return return_to_v86(cpu, bus, offset, selector, image);
    }
    let code = cpu.return_target(bus, selector, offset)?;
    let rpl = (selector & 3) as u8;
    if cpu.state.cpl <= iopl(cpu) {
        mask |= flags::IF;
    }
    if cpu.state.cpl == 0 {
        mask |= flags::IOPL;
        if width == Width::Dword {
            mask |= flags::VIF | flags::VIP;
        }
    }
    if rpl == cpu.state.cpl {
        cpu.set_stack_pointer(top);
        cpu.set_code(code, offset);
    } else {
        let outer_top = cpu.peek_stack(bus, width, 3 * size)?;
        let outer_ss = cpu.peek_stack(bus, width, 4 * size)? as u16;
        let stack = cpu.stack_segment(bus, outer_ss, rpl, Vector::GeneralProtection)?;
        cpu.enter_outer(code, offset, stack, outer_top);
    }
    cpu.state.flags.update(mask, image);
    Ok(Flow::Jump)
}

/// IRETD from level 0 with VM set in the flags that are popped.
fn return_to_v86(cpu: &mut Cpu, bus: &mut dyn Bus, offset: u64, selector: u16, image: u32) -> Outcome {
    if offset > 0xffff {
        return Err(Fault::gp(0));
    }
    let mut words = [0; 6];
    for (n, word) in words.iter_mut().enumerate() {
        *word = cpu.peek_stack(bus, Width::Dword, 12 + 4 * n as u64)?;
    }
    let [top, ss, es, ds, fs, gs] = words;
    let pairs = [(SegReg::Ss, ss), (SegReg::Es, es), (SegReg::Ds, ds), (SegReg::Fs, fs), (SegReg::Gs, gs)];
    for (seg, selector) in pairs {
        cpu.state.seg[seg as usize] = Segment::v86(selector as u16);
    }
    cpu.state.flags.set(image);
    cpu.state.gpr[gpr::RSP] = top;
    cpu.set_code(Segment::v86(selector), offset);
    cpu.set_cpl(3);
    Ok(Flow::Jump)
}

/// Runs what may switch tasks. A fault before the switch is this instruction's; one after it belongs to the new task and
/// is delivered there.
fn settled(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    transfer: impl FnOnce(&mut Cpu, &mut dyn Bus) -> Result<(), Fault>,
) -> Outcome {
    let task = cpu.state.tr.selector;
    let Err(fault) = transfer(cpu, bus) else { return Ok(Flow::Jump) };
    if cpu.state.tr.selector == task {
        return Err(fault);
    }
    match cpu.raise(bus, fault) {
        Ok(()) => Ok(Flow::Jump),
        Err(_) => Err(Fault::new(Vector::DoubleFault)),
    }
}

/// IRET with NT set: back to the task of the TSS's link field.
fn task_return(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let link = cpu.load_system::<u16>(bus, cpu.state.tr.base)?;
    let back = next(cpu, insn);
    settled(cpu, bus, |cpu, bus| cpu.switch_task(bus, link, Cause::Return, back))
}

/// The I/O privilege level.
pub fn iopl(cpu: &Cpu) -> u8 {
    (cpu.state.flags.get() >> 12 & 3) as u8
}

fn int(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let vector = insn.immediate8();
    if cpu.state.v86() {
        if cpu.state.cr[4] & cr4::VME != 0 && stays_in_v86(cpu, bus, vector)? {
            return interrupt_in_v86(cpu, bus, insn, vector);
        }
        if iopl(cpu) < 3 {
            return Err(Fault::gp(0));
        }
    }
    software(cpu, bus, insn, vector)
}

/// Whether the redirection bitmap in the TSS, the 32 bytes before the I/O bitmap, sends an INT n to the virtual-8086 program's
/// own vector table (Intel SDM vol. 3B, 20.3.3).
fn stays_in_v86(cpu: &mut Cpu, bus: &mut dyn Bus, vector: u8) -> Result<bool, Fault> {
    let tr = cpu.state.tr;
    if tr.rights & 0x8d != 0x89 || tr.limit < 103 {
        return Ok(false);
    }
    let at = |offset: u32| tr.base.wrapping_add(u64::from(offset)) & 0xffff_ffff;
    let io_map = u32::from(cpu.load_system::<u16>(bus, at(102))?);
    let byte = io_map.checked_sub(32).map(|map| map + u32::from(vector / 8)).filter(|&byte| byte <= tr.limit);
    let byte = byte.ok_or(Fault::gp(0))?;
    Ok(cpu.load_system::<u8>(bus, at(byte))? >> (vector & 7) & 1 == 0)
}

/// INT n as real mode does it, in virtual-8086 mode. With an IOPL below 3 the interrupt flag is VIF.
fn interrupt_in_v86(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction, vector: u8) -> Outcome {
    let entry: u32 = cpu.load(bus, u64::from(vector) * 4)?;
    let is_virtual = iopl(cpu) < 3;
    let image = if is_virtual { cpu.virtual_image() } else { cpu.state.flags.get() };
    let old_cs = u64::from(cpu.state.segment(SegReg::Cs).selector);
    let back = next(cpu, insn);
    let mut frame = Frame::current(cpu, Width::Word);
    frame.push(cpu, bus, u64::from(image))?;
    frame.push(cpu, bus, old_cs)?;
    frame.push(cpu, bus, back)?;
    frame.commit(cpu);
    cpu.set_code(Segment::v86((entry >> 16) as u16), u64::from(entry & 0xffff));
    cpu.state.flags.update(flags::TF | if is_virtual { flags::VIF } else { flags::IF }, 0);
    Ok(Flow::Jump)
}

fn int3(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    software(cpu, bus, insn, Vector::Breakpoint as u8)
}

fn into(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    if !cpu.state.flags.has(flags::OF) {
        return Ok(Flow::Next);
    }
    software(cpu, bus, insn, Vector::Overflow as u8)
}

fn software(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction, vector: u8) -> Outcome {
    let event = Event::software(vector, next(cpu, insn));
    settled(cpu, bus, |cpu, bus| cpu.deliver(bus, event))
}

/// INT1 (ICEBP): #DB without a privilege check, as a trap.
fn int1(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let rip = next(cpu, insn);
    let event = Event { vector: Vector::Debug as u8, error: None, source: Source::Trap, rip };
    settled(cpu, bus, |cpu, bus| cpu.deliver(bus, event))
}

fn bound(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let width = operand_width(insn);
    let signed = |value: u64| if width == Width::Word { i64::from(value as i16) } else { i64::from(value as i32) };
    let index = signed(cpu.register(insn.op0_register()));
    let low_at = cpu.memory_part(insn, 0, width as u32, false)?;
    let high_at = cpu.memory_part(insn, width.bytes(), width as u32, false)?;
    let low = signed(cpu.load_width(bus, low_at, width)?);
    let high = signed(cpu.load_width(bus, high_at, width)?);
    if (low..=high).contains(&index) { Ok(Flow::Next) } else { Err(Fault::new(Vector::BoundRange)) }
}

/// A flat segment of SYSENTER or SYSEXIT.
fn flat(selector: u16, rights: u16) -> Segment {
    Segment { base: 0, limit: 0xffff_ffff, rights, selector }
}

fn sysenter(cpu: &mut Cpu, _bus: &mut dyn Bus, _insn: &Instruction) -> Outcome {
    let msr = cpu.state.msr;
    let selector = msr.sysenter_cs as u16 & !3;
    if !cpu.state.protected() || selector == 0 {
        return Err(Fault::gp(0));
    }
    cpu.state.flags.update(flags::VM | flags::IF | flags::RF, 0);
    cpu.set_code(flat(selector, 0xc09b), u64::from(msr.sysenter_eip));
    cpu.state.seg[SegReg::Ss as usize] = flat(selector.wrapping_add(8), 0xc093);
    cpu.state.gpr[gpr::RSP] = u64::from(msr.sysenter_esp);
    cpu.set_cpl(0);
    Ok(Flow::Jump)
}

fn sysexit(cpu: &mut Cpu, _bus: &mut dyn Bus, _insn: &Instruction) -> Outcome {
    let selector = cpu.state.msr.sysenter_cs as u16 & !3;
    if !cpu.state.protected() || cpu.state.cpl != 0 || selector == 0 {
        return Err(Fault::gp(0));
    }
    let rip = cpu.gpr(gpr::RDX, Width::Dword);
    cpu.set_code(flat(selector.wrapping_add(16) | 3, 0xc0fb), rip);
    cpu.state.seg[SegReg::Ss as usize] = flat(selector.wrapping_add(24) | 3, 0xc0f3);
    cpu.state.gpr[gpr::RSP] = cpu.gpr(gpr::RCX, Width::Dword);
    cpu.set_cpl(3);
    Ok(Flow::Jump)
}

fn enter(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let width = operand_width(insn);
    let size = width.bytes();
    let locals = u64::from(insn.immediate16());
    let level = u64::from(insn.immediate8_2nd() & 31);
    let stack_mask = cpu.state.stack_mask();
    let old_base = cpu.state.gpr[gpr::RBP];
    let mut frame = Frame::current(cpu, width);
    frame.push(cpu, bus, old_base)?;
    let new_base = frame.top;
    for n in 1..level {
        let at = old_base.wrapping_sub(n * size) & stack_mask;
        let linear = cpu.linear(SegReg::Ss, at, width as u32, false)?;
        let display = cpu.load_width(bus, linear, width)?;
        frame.push(cpu, bus, display)?;
    }
    if level > 0 {
        frame.push(cpu, bus, new_base)?;
    }
    let top = frame.top.wrapping_sub(locals) & stack_mask;
    // The manual asks for a probe of the final top of stack, with a write that changes nothing.
    let probe = cpu.linear(SegReg::Ss, top, 1, true)?;
    cpu.prepare_write(bus, probe, 1)?;
    cpu.set_stack_pointer(top);
    cpu.set_gpr(gpr::RBP, new_base, width);
    Ok(Flow::Next)
}

fn leave(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let width = operand_width(insn);
    let top = cpu.state.gpr[gpr::RBP] & cpu.state.stack_mask();
    let linear = cpu.linear(SegReg::Ss, top, width as u32, false)?;
    let base = cpu.load_width(bus, linear, width)?;
    cpu.set_stack_pointer(top.wrapping_add(width.bytes()));
    cpu.set_gpr(gpr::RBP, base, width);
    Ok(Flow::Next)
}

fn push_all(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let mut frame = Frame::current(cpu, operand_width(insn));
    for number in 0..8 {
        let value = cpu.state.gpr[number];
        frame.push(cpu, bus, value)?;
    }
    frame.commit(cpu);
    Ok(Flow::Next)
}

fn pop_all(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let width = operand_width(insn);
    let mut values = [0; 8];
    for (n, value) in values.iter_mut().enumerate() {
        *value = cpu.peek_stack(bus, width, n as u64 * width.bytes())?;
    }
    let top = cpu.stack_pointer().wrapping_add(8 * width.bytes());
    for (n, value) in values.into_iter().enumerate() {
        if 7 - n != gpr::RSP {
            cpu.set_gpr(7 - n, value, width);
        }
    }
    cpu.set_stack_pointer(top);
    Ok(Flow::Next)
}

/// Loads a segment register other than CS; leaves the block where its mode has changed.
fn load(cpu: &mut Cpu, bus: &mut dyn Bus, seg: SegReg, selector: u16) -> Outcome {
    let before = is_flat(cpu.state.segment(seg), seg);
    cpu.load_segment(bus, seg, selector)?;
    let same = before == is_flat(cpu.state.segment(seg), seg);
    Ok(if same && seg != SegReg::Ss { Flow::Next } else { Flow::Resync })
}

fn mov_segment(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    if insn.op0_register() == Register::CS {
        return Err(Fault::ud());
    }
    let seg = seg_reg(insn.op0_register());
    let selector = cpu.read_operand(bus, insn, 1, Width::Word)? as u16;
    let flow = load(cpu, bus, seg, selector)?;
    hold_off(cpu, seg);
    Ok(flow)
}

/// A load of SS by MOV or POP holds off interrupts and debug exceptions until after the next instruction: that will load ESP.
fn hold_off(cpu: &mut Cpu, seg: SegReg) {
    if seg == SegReg::Ss {
        cpu.state.interrupt_shadow = true;
        cpu.state.debug_shadow = true;
    }
}

fn pop_segment(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let seg = seg_reg(insn.op0_register());
    let width = operand_width(insn);
    let selector = cpu.peek_stack(bus, width, 0)? as u16;
    let top = cpu.stack_pointer().wrapping_add(width.bytes());
    let old_mask = cpu.state.stack_mask();
    let flow = load(cpu, bus, seg, selector)?;
    // The pop is on the old stack, whatever size the new one has.
    let slot = &mut cpu.state.gpr[gpr::RSP];
    *slot = *slot & !old_mask & 0xffff_ffff | top & old_mask;
    hold_off(cpu, seg);
    Ok(flow)
}

/// LDS, LES, LSS, LFS, LGS.
fn load_far_pointer(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let seg = match insn.mnemonic() {
        Mnemonic::Les => SegReg::Es,
        Mnemonic::Lss => SegReg::Ss,
        Mnemonic::Lfs => SegReg::Fs,
        Mnemonic::Lgs => SegReg::Gs,
        _ => SegReg::Ds,
    };
    let (selector, offset) = memory_pointer(cpu, bus, insn)?;
    let flow = load(cpu, bus, seg, selector)?;
    cpu.set_register(insn.op0_register(), offset);
    Ok(flow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testbus::{TestBus, level, protected, step};

    fn stack<const N: usize>(cpu: &Cpu, bus: &TestBus) -> [u32; N] {
        std::array::from_fn(|n| bus.get32(cpu.state.gpr[gpr::RSP] + 4 * n as u64))
    }

    #[test]
    fn a_call_gate_copies_parameters_to_the_inner_stack_and_retf_comes_back() {
        let (mut cpu, mut bus) = protected(16);
        // 30: call gate to 08:4444 with two parameters, DPL 3.
        bus.put32(0x1030, 0x0008_4444);
        bus.put32(0x1034, 0xec02);
        level(&mut cpu, 3);
        bus.put32(0x7000, 0xaaaa);
        bus.put32(0x7004, 0xbbbb);
        step(&mut cpu, &mut bus, &[0x9a, 1, 2, 3, 4, 0x30, 0]).unwrap();
        assert_eq!((cpu.state.cpl, cpu.state.rip), (0, 0x4444));
        assert_eq!(stack(&cpu, &bus), [0x107, 0x1b, 0xaaaa, 0xbbbb, 0x7000, 0x23]);
        cpu.load_segment(&mut bus, SegReg::Es, 0x10).unwrap();
        step(&mut cpu, &mut bus, &[0xca, 8, 0]).unwrap();
        assert_eq!((cpu.state.cpl, cpu.state.rip, cpu.state.gpr[gpr::RSP]), (3, 0x107, 0x7008));
        assert_eq!(*cpu.state.segment(SegReg::Es), Segment::null(0), "ring 0 data is taken away");
        assert_eq!(cpu.state.segment(SegReg::Ds).selector, 0x23);
        // A jump cannot go inward, and a gate of a lower DPL cannot be used.
        assert_eq!(step(&mut cpu, &mut bus, &[0xea, 0, 0, 0, 0, 0x30, 0]), Err(Fault::gp(8)));
        bus.put32(0x1034, 0x8c02);
        assert_eq!(step(&mut cpu, &mut bus, &[0x9a, 0, 0, 0, 0, 0x30, 0]), Err(Fault::gp(0x30)));
        assert_eq!(step(&mut cpu, &mut bus, &[0xea, 0, 0, 0, 0, 0x08, 0]), Err(Fault::gp(0x08)));
        assert_eq!(step(&mut cpu, &mut bus, &[0xea, 0, 0, 0, 0, 0, 0]), Err(Fault::gp(0)));
        assert_eq!((cpu.state.rip, cpu.state.gpr[gpr::RSP]), (0x107, 0x7008), "a fault moves nothing");
    }

    #[test]
    fn sysenter_and_sysexit_use_flat_segments() {
        let (mut cpu, mut bus) = protected(16);
        level(&mut cpu, 3);
        assert_eq!(step(&mut cpu, &mut bus, &[0x0f, 0x34]), Err(Fault::gp(0)));
        cpu.state.msr.sysenter_cs = 0x08;
        cpu.state.msr.sysenter_esp = 0x8000;
        cpu.state.msr.sysenter_eip = 0x1234;
        cpu.state.flags.set(flags::IF);
        step(&mut cpu, &mut bus, &[0x0f, 0x34]).unwrap();
        assert_eq!((cpu.state.cpl, cpu.state.rip, cpu.state.gpr[gpr::RSP]), (0, 0x1234, 0x8000));
        assert!(!cpu.state.flags.has(flags::IF));
        cpu.state.gpr[gpr::RCX] = 0x6000;
        cpu.state.gpr[gpr::RDX] = 0x2222;
        step(&mut cpu, &mut bus, &[0x0f, 0x35]).unwrap();
        assert_eq!((cpu.state.cpl, cpu.state.rip, cpu.state.gpr[gpr::RSP]), (3, 0x2222, 0x6000));
        assert_eq!((cpu.state.segment(SegReg::Cs).selector, cpu.state.segment(SegReg::Ss).selector), (0x1b, 0x23));
    }

    #[test]
    fn frames_and_pops() {
        let (mut cpu, mut bus) = protected(16);
        for (n, slot) in cpu.state.gpr.iter_mut().take(8).enumerate() {
            *slot = 0x1000 + n as u64;
        }
        cpu.state.gpr[gpr::RSP] = 0x7000;
        let before = cpu.state.gpr;
        step(&mut cpu, &mut bus, &[0x60]).unwrap();
        assert_eq!(stack(&cpu, &bus), [0x1007, 0x1006, 0x1005, 0x7000, 0x1003, 0x1002, 0x1001, 0x1000]);
        cpu.state.gpr[..4].fill(0);
        step(&mut cpu, &mut bus, &[0x61]).unwrap();
        assert_eq!(cpu.state.gpr, before);
        // ENTER 16, 2 copies one frame pointer and pushes the new one.
        cpu.state.gpr[gpr::RBP] = 0x7100;
        bus.put32(0x70fc, 0xcafe);
        step(&mut cpu, &mut bus, &[0xc8, 16, 0, 2]).unwrap();
        assert_eq!((cpu.state.gpr[gpr::RBP], cpu.state.gpr[gpr::RSP]), (0x6ffc, 0x6ffc - 8 - 16));
        assert_eq!([bus.get32(0x6ffc), bus.get32(0x6ff8), bus.get32(0x6ff4)], [0x7100, 0xcafe, 0x6ffc]);
        step(&mut cpu, &mut bus, &[0xc9]).unwrap();
        assert_eq!((cpu.state.gpr[gpr::RBP], cpu.state.gpr[gpr::RSP]), (0x7100, 0x7000));
        // POP SS holds interrupts off; a null SS is refused and pops nothing.
        bus.put32(0x7000, 0x10);
        step(&mut cpu, &mut bus, &[0x17]).unwrap();
        assert!(cpu.state.interrupt_shadow);
        assert_eq!(step(&mut cpu, &mut bus, &[0x17]), Err(Fault::gp(0)));
        assert_eq!(cpu.state.gpr[gpr::RSP], 0x7004);
    }
}
