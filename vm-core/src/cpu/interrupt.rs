//! Delivery of interrupts and exceptions (Intel SDM vol. 3A, chapter 6).
//!
//! [`Cpu::deliver`] enters one handler or says what fault came up on the way. [`Cpu::raise`] and [`Cpu::interrupt`]
//! deliver with the rules for a fault on top of a fault. Pushes go straight to memory but the stack pointer moves
//! only when nothing can fault any more: after a fault a part of a frame may lie below the top of the stack, as on silicon.

use super::Cpu;
use super::debug::dr7;
use super::fault::{Fault, Vector};
use super::flags;
use super::segment::{Descriptor, is_null, selector_error, system};
use super::state::{SegReg, Segment, TableRegister, gpr};
use super::task::Cause;
use crate::bus::{Bus, Width};

/// The vector of NMI.
const NMI: u8 = 2;

/// The processor has shut down: a fault came up while a double fault was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TripleFault;

/// Where an event comes from; decides on privilege checks, the EXT bit and the RF flag that is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A pin: no privilege check, EXT set.
    Hardware,
    /// An instruction that did not complete: RF is set in the pushed flags.
    Fault,
    /// Reported after an instruction (single step).
    Trap,
    /// INT n, INT3 or INTO: the gate's DPL is checked, EXT clear.
    Software,
}

/// One interrupt or exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// 0–255.
    pub vector: u8,
    /// Pushed in protected mode.
    pub error: Option<u32>,
    /// Where it comes from.
    pub source: Source,
    /// The return address that is pushed.
    pub rip: u64,
}

/// How a fault behaves on top of another (Intel SDM vol. 3A, table 6-4).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Benign,
    Contributory,
    PageFault,
}

impl Fault {
    fn class(self) -> Class {
        match self.vector {
            Vector::DivideError
            | Vector::InvalidTss
            | Vector::SegmentNotPresent
            | Vector::StackFault
            | Vector::GeneralProtection => Class::Contributory,
            Vector::PageFault => Class::PageFault,
            Vector::Debug
            | Vector::Breakpoint
            | Vector::Overflow
            | Vector::BoundRange
            | Vector::InvalidOpcode
            | Vector::DeviceNotAvailable
            | Vector::DoubleFault
            | Vector::FloatingPoint
            | Vector::AlignmentCheck
            | Vector::MachineCheck
            | Vector::SimdFloatingPoint => Class::Benign,
        }
    }

    /// The same fault with more bits in its error code, unless it is a page fault.
    pub(super) fn or_error(mut self, bits: u32) -> Self {
        if self.vector != Vector::PageFault {
            self.error |= bits;
        }
        self
    }
}

/// A stack that is being pushed to before anybody switches to it.
pub(super) struct Frame {
    /// Stack segment.
    pub segment: Segment,
    /// Stack pointer after the pushes so far.
    pub top: u64,
    /// With the rights of privilege level 3.
    pub user: bool,
    /// Size of each push.
    pub width: Width,
}

impl Frame {
    /// A frame on the current stack.
    pub fn current(cpu: &Cpu, width: Width) -> Self {
        let segment = *cpu.state.segment(SegReg::Ss);
        Self { segment, top: cpu.state.gpr[gpr::RSP], user: cpu.state.cpl == 3, width }
    }

    fn mask(&self) -> u64 {
        if self.segment.big() { 0xffff_ffff } else { 0xffff }
    }

    /// Pushes one value.
    pub fn push(&mut self, cpu: &mut Cpu, bus: &mut dyn Bus, value: u64) -> Result<(), Fault> {
        let mask = self.mask();
        let top = self.top.wrapping_sub(self.width.bytes()) & mask;
        let linear = self.segment.translate(top, self.width.bytes() as u32, true).ok_or(Fault::ss(0))?;
        match self.width {
            Width::Word => cpu.store_as(bus, linear, value as u16, self.user)?,
            _ => cpu.store_as(bus, linear, value as u32, self.user)?,
        }
        self.top = self.top & !mask | top;
        Ok(())
    }

    /// Makes it the processor's stack.
    pub fn commit(self, cpu: &mut Cpu) {
        cpu.state.seg[SegReg::Ss as usize] = self.segment;
        cpu.state.gpr[gpr::RSP] = self.top & 0xffff_ffff;
    }
}

impl Event {
    /// An interrupt from a pin.
    pub fn hardware(cpu: &Cpu, vector: u8) -> Self {
        Self { vector, error: None, source: Source::Hardware, rip: cpu.state.rip }
    }

    /// The exception of an instruction that did not complete.
    pub fn fault(cpu: &Cpu, fault: Fault) -> Self {
        let error = fault.vector.has_error_code().then_some(fault.error);
        Self { vector: fault.vector as u8, error, source: Source::Fault, rip: cpu.state.rip }
    }

    /// An exception between two instructions.
    pub fn trap(cpu: &Cpu, vector: Vector) -> Self {
        Self { vector: vector as u8, error: None, source: Source::Trap, rip: cpu.state.rip }
    }

    /// INT n, INT3 or INTO; `next` is the address of the instruction after it.
    pub fn software(vector: u8, next: u64) -> Self {
        Self { vector, error: None, source: Source::Software, rip: next }
    }

    /// The EXT bit in error codes of faults that come up while this is delivered.
    fn ext(&self) -> u32 {
        u32::from(self.source != Source::Software)
    }

    /// The flags to push.
    fn pushed_flags(&self, cpu: &Cpu) -> u64 {
        let rf = if self.source == Source::Fault { flags::RF } else { 0 };
        u64::from(cpu.state.flags.get() | rf)
    }
}

impl Cpu {
    /// Enters the handler of an event.
    ///
    /// # Errors
    /// The fault that came up on the way; then no register has changed, unless by a task switch (see `task`).
    pub fn deliver(&mut self, bus: &mut dyn Bus, event: Event) -> Result<(), Fault> {
        self.deliveries = self.deliveries.wrapping_add(1);
        if self.state.protected() {
            self.deliver_protected(bus, &event)?;
        } else {
            self.deliver_real(bus, &event)?;
        }
        self.state.halted = false;
        self.state.interrupt_shadow = false;
        self.state.debug_shadow = false;
        if event.vector == Vector::Debug as u8 && event.source != Source::Software {
            // So that the handler can read the debug registers (Intel SDM vol. 3B, 17.2.4).
            self.state.dr[7] &= !dr7::GD;
        }
        Ok(())
    }

    /// Delivers a fault of the current instruction, and what follows from it: faults on the way, the double fault.
    ///
    /// # Errors
    /// Where the processor shuts down.
    pub fn raise(&mut self, bus: &mut dyn Bus, fault: Fault) -> Result<(), TripleFault> {
        let mut fault = fault;
        // Each turn goes to a more serious class, so this ends after a few.
        loop {
            let Err(second) = self.deliver(bus, Event::fault(self, fault)) else { return Ok(()) };
            if fault.vector == Vector::DoubleFault {
                tracing::warn!(?second, rip = self.state.rip, "triple fault");
                return Err(TripleFault);
            }
            let doubled = match fault.class() {
                Class::Benign => false,
                Class::Contributory => second.class() == Class::Contributory,
                Class::PageFault => second.class() != Class::Benign,
            };
            fault = if doubled { Fault::new(Vector::DoubleFault) } else { second };
        }
    }

    /// Delivers an interrupt or trap that happened between two instructions.
    ///
    /// # Errors
    /// Where the processor shuts down.
    pub fn interrupt(&mut self, bus: &mut dyn Bus, event: Event) -> Result<(), TripleFault> {
        match self.deliver(bus, event) {
            Ok(()) => Ok(()),
            Err(fault) => self.raise(bus, fault),
        }
    }

    /// Takes an NMI that waits, unless one is being served or something holds it off; true where one was taken. In system management mode
    /// it waits for RSM.
    ///
    /// # Errors
    /// Where the processor shuts down.
    pub fn take_nmi(&mut self, bus: &mut dyn Bus) -> Result<bool, TripleFault> {
        let state = &self.state;
        let waits = state.nmi_pending || bus.signals().nmi();
        if !waits || state.nmi_blocked || state.interrupt_shadow || state.smm {
            return Ok(false);
        }
        bus.signals().take_nmi();
        self.state.nmi_pending = false;
        self.state.nmi_blocked = true;
        self.state.halted = false;
        self.interrupt(bus, Event::hardware(self, NMI))?;
        Ok(true)
    }

    /// Takes a pending interrupt where IF and the interrupt shadow allow it; true where one was taken.
    ///
    /// # Errors
    /// Where the processor shuts down.
    pub fn take_interrupt(&mut self, bus: &mut dyn Bus) -> Result<bool, TripleFault> {
        if !self.state.flags.has(flags::IF) || self.state.interrupt_shadow {
            return Ok(false);
        }
        if !bus.interrupt_pending_at(self.moment()) {
            return Ok(false);
        }
        let vector = bus.acknowledge_interrupt();
        self.code.stats.interrupts += 1;
        self.state.halted = false;
        self.interrupt(bus, Event::hardware(self, vector))?;
        Ok(true)
    }

    fn deliver_real(&mut self, bus: &mut dyn Bus, event: &Event) -> Result<(), Fault> {
        let at = u32::from(event.vector) * 4;
        if at + 3 > u32::from(self.state.idtr.limit) {
            return Err(Fault::gp(idt_error(event)));
        }
        let entry: u32 = self.load(bus, self.state.idtr.base.wrapping_add(u64::from(at)) & 0xffff_ffff)?;
        let offset = u64::from(entry & 0xffff);
        if offset > u64::from(self.state.segment(SegReg::Cs).limit) {
            return Err(Fault::gp(0));
        }
        let mut frame = Frame::current(self, Width::Word);
        frame.push(self, bus, u64::from(self.state.flags.get()))?;
        frame.push(self, bus, u64::from(self.state.segment(SegReg::Cs).selector))?;
        frame.push(self, bus, event.rip)?;
        frame.commit(self);
        self.load_code_real((entry >> 16) as u16);
        self.state.rip = offset;
        self.state.flags.update(flags::IF | flags::TF | flags::AC | flags::RF, 0);
        Ok(())
    }

    fn deliver_protected(&mut self, bus: &mut dyn Bus, event: &Event) -> Result<(), Fault> {
        let ext = event.ext();
        let error = idt_error(event);
        let gate = self.gate(bus, event)?;
        if event.source == Source::Software && gate.dpl() < self.state.cpl {
            return Err(Fault::gp(error));
        }
        if !gate.is_present() {
            return Err(Fault::with_error(Vector::SegmentNotPresent, error));
        }
        if gate.kind() == system::TASK_GATE {
            let cause = if event.source == Source::Fault { Cause::Fault } else { Cause::Interrupt };
            let switched =
                self.switch_task(bus, gate.gate_selector(), cause, event.rip).and_then(|()| match event.error {
                    Some(error) => self.push_task_error(bus, error),
                    None => Ok(()),
                });
            return switched.map_err(|fault| fault.or_error(ext));
        }

        let selector = gate.gate_selector();
        if is_null(selector) {
            return Err(Fault::gp(ext));
        }
        let bad_code = Fault::gp(selector_error(selector) | ext);
        let mut code = self.descriptor(bus, selector)?.ok_or(bad_code)?;
        if !code.is_code() || code.dpl() > self.state.cpl {
            return Err(bad_code);
        }
        if !code.is_present() {
            return Err(Fault::with_error(Vector::SegmentNotPresent, selector_error(selector) | ext));
        }
        let inner = !code.is_conforming() && code.dpl() < self.state.cpl;
        let v86 = self.state.v86();
        if v86 && (!inner || code.dpl() != 0) {
            return Err(bad_code);
        }
        let offset = gate.gate_offset();
        if offset > code.limit() {
            return Err(Fault::gp(ext));
        }

        let width = if gate.kind() & 8 == 0 { Width::Word } else { Width::Dword };
        let cpl = if inner { code.dpl() } else { self.state.cpl };
        let mut frame = if inner {
            self.inner_stack(bus, cpl, width).map_err(|fault| fault.or_error(ext))?
        } else {
            Frame::current(self, width)
        };
        let pushed = self.push_frame(bus, &mut frame, event, inner);
        pushed.map_err(|fault| {
            // A fault on a new stack names its selector.
            let named =
                if inner && fault.vector == Vector::StackFault { selector_error(frame.segment.selector) } else { 0 };
            fault.or_error(named | ext)
        })?;
        self.mark_accessed(bus, &mut code)?;

        frame.commit(self);
        if v86 {
            for seg in [SegReg::Es, SegReg::Ds, SegReg::Fs, SegReg::Gs] {
                self.state.seg[seg as usize] = Segment::null(0);
            }
        }
        self.state.seg[SegReg::Cs as usize] = code.segment(selector & !3 | u16::from(cpl));
        self.state.rip = u64::from(offset);
        self.set_cpl(cpl);
        let interrupt_gate = gate.kind() & 1 == 0;
        let cleared = flags::TF | flags::NT | flags::RF | flags::VM | if interrupt_gate { flags::IF } else { 0 };
        self.state.flags.update(cleared, 0);
        Ok(())
    }

    /// The gate of an event in the interrupt descriptor table.
    fn gate(&mut self, bus: &mut dyn Bus, event: &Event) -> Result<Descriptor, Fault> {
        let TableRegister { base, limit } = self.state.idtr;
        let offset = u32::from(event.vector) * 8;
        let bad = Fault::gp(idt_error(event));
        if offset + 7 > u32::from(limit) {
            return Err(bad);
        }
        let at = base.wrapping_add(u64::from(offset)) & 0xffff_ffff;
        let both: u64 = self.load_system(bus, at)?;
        let gate = Descriptor { low: both as u32, high: (both >> 32) as u32, at };
        let known = matches!(
            gate.kind(),
            system::TASK_GATE
                | system::INTERRUPT_GATE16
                | system::TRAP_GATE16
                | system::INTERRUPT_GATE32
                | system::TRAP_GATE32
        );
        if gate.is_system() && known { Ok(gate) } else { Err(bad) }
    }

    fn push_frame(&mut self, bus: &mut dyn Bus, frame: &mut Frame, event: &Event, inner: bool) -> Result<(), Fault> {
        if self.state.v86() {
            for seg in [SegReg::Gs, SegReg::Fs, SegReg::Ds, SegReg::Es] {
                frame.push(self, bus, u64::from(self.state.segment(seg).selector))?;
            }
        }
        if inner {
            frame.push(self, bus, u64::from(self.state.segment(SegReg::Ss).selector))?;
            frame.push(self, bus, self.state.gpr[gpr::RSP])?;
        }
        frame.push(self, bus, event.pushed_flags(self))?;
        frame.push(self, bus, u64::from(self.state.segment(SegReg::Cs).selector))?;
        frame.push(self, bus, event.rip)?;
        if let Some(error) = event.error {
            frame.push(self, bus, u64::from(error))?;
        }
        Ok(())
    }

    /// The stack of privilege level `cpl` (0–2), from the task's TSS.
    ///
    /// # Errors
    /// #TS, #SS or a page fault.
    pub(super) fn inner_stack(&mut self, bus: &mut dyn Bus, cpl: u8, width: Width) -> Result<Frame, Fault> {
        let tr = self.state.tr;
        let big = tr.rights & 8 != 0;
        let (offset, size) = if big { (4 + 8 * u32::from(cpl), 6) } else { (2 + 4 * u32::from(cpl), 4) };
        if tr.rights & 0x80 == 0 || offset + size - 1 > tr.limit {
            return Err(Fault::with_error(Vector::InvalidTss, selector_error(tr.selector)));
        }
        let at = tr.base.wrapping_add(u64::from(offset)) & 0xffff_ffff;
        let (top, selector) = if big {
            (self.load_system::<u32>(bus, at)?, self.load_system::<u16>(bus, at.wrapping_add(4))?)
        } else {
            (u32::from(self.load_system::<u16>(bus, at)?), self.load_system::<u16>(bus, at.wrapping_add(2))?)
        };
        let segment = self.stack_segment(bus, selector, cpl, Vector::InvalidTss)?;
        Ok(Frame { segment, top: u64::from(top), user: cpl == 3, width })
    }
}

/// The error code of a fault about an event's own gate.
fn idt_error(event: &Event) -> u32 {
    (u32::from(event.vector) << 3) | 2 | event.ext()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::cpuid::CpuModel;
    use crate::cpu::testbus::{TestBus, level, protected, step};

    /// A gate at `vector` to 08:`offset`.
    fn gate(bus: &mut TestBus, vector: u64, kind: u8, dpl: u32, offset: u32) {
        bus.put32(0x2000 + 8 * vector, 0x0008_0000 | offset);
        bus.put32(0x2004 + 8 * vector, 0x8000 | dpl << 13 | u32::from(kind) << 8);
    }

    fn stack<const N: usize>(cpu: &Cpu, bus: &TestBus) -> [u32; N] {
        std::array::from_fn(|n| bus.get32(cpu.state.gpr[gpr::RSP] + 4 * n as u64))
    }

    #[test]
    fn real_mode_goes_through_the_vector_table() {
        let mut bus = TestBus::new(32);
        let mut cpu = Cpu::new(CpuModel::Pentium2);
        bus.put32(0x21 * 4, 0x1000_0123);
        cpu.state.gpr[gpr::RSP] = 0xdead_0100;
        cpu.state.flags.set(flags::IF | flags::CF);
        assert_eq!(step(&mut cpu, &mut bus, &[0xcd, 0x21]), Ok(crate::cpu::Flow::Jump));
        assert_eq!((cpu.state.rip, cpu.state.segment(SegReg::Cs).base), (0x123, 0x10000));
        assert_eq!(cpu.state.gpr[gpr::RSP], 0xdead_00fa);
        assert_eq!([bus.get16(0xfa), bus.get16(0xfc), bus.get16(0xfe)], [0xfff2, 0xf000, 0x203]);
        assert!(!cpu.state.flags.has(flags::IF));
        step(&mut cpu, &mut bus, &[0xcf]).unwrap();
        assert_eq!((cpu.state.rip, cpu.state.segment(SegReg::Cs).selector), (0xfff2, 0xf000));
        assert_eq!((cpu.state.gpr[gpr::RSP], cpu.state.flags.get()), (0xdead_0100, 0x203));
        // No room for the frame: #SS, then no room for that either, and so on to shutdown.
        cpu.state.gpr[gpr::RSP] = 1;
        assert_eq!(step(&mut cpu, &mut bus, &[0xcd, 0x21]), Err(Fault::ss(0)));
        assert_eq!(cpu.raise(&mut bus, Fault::ss(0)), Err(TripleFault));
    }

    #[test]
    fn a_fault_at_ring_3_switches_to_the_stack_of_the_tss() {
        let (mut cpu, mut bus) = protected(16);
        gate(&mut bus, 13, system::INTERRUPT_GATE32, 0, 0x4444);
        level(&mut cpu, 3);
        cpu.state.flags.set(flags::IF | flags::ZF);
        cpu.raise(&mut bus, Fault::gp(0x18)).unwrap();
        assert_eq!((cpu.state.cpl, cpu.state.rip, cpu.state.gpr[gpr::RSP]), (0, 0x4444, 0x8000 - 24));
        assert_eq!(cpu.state.segment(SegReg::Ss).selector, 0x10);
        assert_eq!(stack(&cpu, &bus), [0x18, 0x100, 0x1b, 0x10242, 0x7000, 0x23]);
        cpu.state.gpr[gpr::RSP] += 4;
        step(&mut cpu, &mut bus, &[0xcf]).unwrap();
        assert_eq!((cpu.state.cpl, cpu.state.rip, cpu.state.gpr[gpr::RSP]), (3, 0x100, 0x7000));
        assert_eq!(cpu.state.flags.get(), 0x10242, "RF is back for one instruction");
        assert_eq!(cpu.state.segment(SegReg::Ds).selector, 0x23, "data of ring 3 stays");
    }

    #[test]
    fn software_interrupts_obey_the_gate() {
        let (mut cpu, mut bus) = protected(16);
        gate(&mut bus, 0x80, system::TRAP_GATE32, 3, 0x4444);
        gate(&mut bus, 0x81, system::TRAP_GATE32, 0, 0x4444);
        gate(&mut bus, 0x20, system::INTERRUPT_GATE32, 0, 0x5555);
        level(&mut cpu, 3);
        cpu.state.flags.set(flags::IF);
        assert_eq!(step(&mut cpu, &mut bus, &[0xcd, 0x81]), Err(Fault::gp(0x81 * 8 + 2)));
        assert_eq!(step(&mut cpu, &mut bus, &[0xcd, 0x82]), Err(Fault::gp(0x82 * 8 + 2)));
        step(&mut cpu, &mut bus, &[0xcd, 0x80]).unwrap();
        assert!(cpu.state.flags.has(flags::IF), "a trap gate leaves IF");
        assert_eq!(stack(&cpu, &bus), [0x102, 0x1b, 0x202, 0x7000, 0x23]);
        // From outside, the gate's DPL does not matter; the same stack goes on.
        bus.interrupt = Some(0x20);
        assert_eq!(cpu.take_interrupt(&mut bus), Ok(true));
        assert_eq!(stack(&cpu, &bus), [0x4444, 0x08, 0x202]);
        bus.interrupt = Some(0x20);
        assert_eq!(cpu.take_interrupt(&mut bus), Ok(false), "IF is clear");
    }

    #[test]
    fn an_nmi_waits_for_the_iret_of_the_one_before() {
        let (mut cpu, mut bus) = protected(16);
        gate(&mut bus, 2, system::INTERRUPT_GATE32, 0, 0x2222);
        cpu.state.halted = true;
        bus.signals.request_nmi();
        assert_eq!(cpu.take_nmi(&mut bus), Ok(true), "whatever IF says");
        assert_eq!((cpu.state.rip, cpu.state.halted), (0x2222, false));
        bus.signals.request_nmi();
        assert_eq!(cpu.take_nmi(&mut bus), Ok(false));
        step(&mut cpu, &mut bus, &[0xcf]).unwrap();
        cpu.state.smm = true;
        assert_eq!(cpu.take_nmi(&mut bus), Ok(false));
        cpu.state.smm = false;
        assert_eq!(cpu.take_nmi(&mut bus), Ok(true));
        assert_eq!(cpu.take_nmi(&mut bus), Ok(false), "it was one");
    }

    #[test]
    fn faults_on_faults_double_and_then_shut_down() {
        let (mut cpu, mut bus) = protected(16);
        gate(&mut bus, 8, system::INTERRUPT_GATE32, 0, 0x8888);
        gate(&mut bus, 6, system::INTERRUPT_GATE32, 0, 0x6666);
        // #GP has no gate, which is a #GP again: a double fault.
        cpu.raise(&mut bus, Fault::gp(0)).unwrap();
        assert_eq!((cpu.state.rip, stack(&cpu, &bus)), (0x8888, [0]));
        // An external interrupt without a gate: #GP with EXT, which has none either.
        level(&mut cpu, 0);
        let event = Event::hardware(&cpu, 0x55);
        assert_eq!(cpu.deliver(&mut bus, event), Err(Fault::gp(0x55 * 8 + 3)));
        // #UD is benign: what goes wrong on its way is raised for itself.
        gate(&mut bus, 11, system::INTERRUPT_GATE32, 0, 0xbbbb);
        bus.put32(0x2004 + 8 * 6, 0x0e00);
        cpu.raise(&mut bus, Fault::ud()).unwrap();
        assert_eq!((cpu.state.rip, stack(&cpu, &bus)), (0xbbbb, [6 * 8 + 3]));
        bus.put32(0x2004 + 8 * 8, 0);
        assert_eq!(cpu.raise(&mut bus, Fault::gp(0)), Err(TripleFault));
    }

    #[test]
    fn virtual_8086_mode_and_back() {
        let (mut cpu, mut bus) = protected(32);
        gate(&mut bus, 13, system::INTERRUPT_GATE32, 0, 0x4444);
        gate(&mut bus, 0x21, system::INTERRUPT_GATE32, 3, 0x2121);
        cpu.state.gpr[gpr::RSP] = 0x7000;
        for (n, value) in [0x10, 0x1000, 0x0002_3202, 0xfffe, 0x900, 0x11, 0x22, 0x33, 0x44].into_iter().enumerate() {
            bus.put32(0x7000 + 4 * n as u64, value);
        }
        step(&mut cpu, &mut bus, &[0xcf]).unwrap();
        assert!(cpu.state.v86());
        assert_eq!((cpu.state.cpl, cpu.state.rip, cpu.state.gpr[gpr::RSP]), (3, 0x10, 0xfffe));
        assert_eq!(*cpu.state.segment(SegReg::Gs), Segment::v86(0x44));
        assert_eq!(*cpu.state.segment(SegReg::Cs), Segment::v86(0x1000));
        // IOPL 3: INT n is let through to the gate.
        step(&mut cpu, &mut bus, &[0xcd, 0x21]).unwrap();
        assert_eq!((cpu.state.cpl, cpu.state.rip), (0, 0x2121));
        assert_eq!(stack(&cpu, &bus), [0x12, 0x1000, 0x0002_3202, 0xfffe, 0x900, 0x11, 0x22, 0x33, 0x44]);
        assert_eq!(*cpu.state.segment(SegReg::Gs), Segment::null(0));
        step(&mut cpu, &mut bus, &[0xcf]).unwrap();
        assert!(cpu.state.v86());
        // IOPL 0: INT n, CLI and PUSHF belong to the monitor.
        cpu.state.flags.update(flags::IOPL, 0);
        for code in [&[0xcd, 0x21][..], &[0xfa], &[0x9c], &[0x9d], &[0xcf]] {
            assert_eq!(step(&mut cpu, &mut bus, code), Err(Fault::gp(0)), "{code:02x?}");
        }
    }
}
