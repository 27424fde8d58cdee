//! Hardware task switches (Intel SDM vol. 3A, chapter 8).
//!
//! Up to the commit nothing changes. After it the new task is the current one: what is wrong with its segments is
//! raised inside it, so [`Cpu::switch_task`] may return `Err` with the registers already those of the new task.

use super::Cpu;
use super::debug::{dr6, dr7};
use super::fault::{Fault, Vector};
use super::flags;
use super::segment::{Descriptor, is_null, selector_error, system};
use super::state::{SegReg, Segment, cr0};
use crate::bus::{Bus, Width};

/// What causes a task switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// JMP: the old task is left for good.
    Jump,
    /// CALL: the new task is nested in the old one.
    Call,
    /// An interrupt or trap through a task gate: nested, too.
    Interrupt,
    /// The exception of an instruction that did not complete, through a task gate: the old task is saved with RF set.
    Fault,
    /// IRET with NT set: back to the task that this one is nested in.
    Return,
}

/// Where a TSS keeps things; 16-bit and 32-bit ones differ.
struct Layout {
    /// Offset of the last byte that must be inside the limit.
    last: u32,
    /// Size of a field.
    width: Width,
    /// Instruction pointer; flags and eight general registers follow.
    ip: u64,
    /// ES; CS, SS, DS (and FS, GS) follow.
    segments: u64,
    /// How many segment registers there are.
    count: usize,
    /// Selector of the LDT.
    ldt: u64,
}

const LAYOUT16: Layout = Layout { last: 0x2b, width: Width::Word, ip: 14, segments: 34, count: 4, ldt: 42 };
const LAYOUT32: Layout = Layout { last: 0x67, width: Width::Dword, ip: 32, segments: 72, count: 6, ldt: 96 };
/// Offset of CR3 in a 32-bit TSS.
const CR3: u64 = 28;
/// Offset of the T bit in a 32-bit TSS.
const TRAP: u64 = 100;

impl Layout {
    fn of(big: bool) -> &'static Self {
        if big { &LAYOUT32 } else { &LAYOUT16 }
    }
}

/// What a TSS says.
struct Image {
    cr3: Option<u64>,
    ip: u64,
    flags: u32,
    gpr: [u64; 8],
    segments: [u16; 6],
    ldt: u16,
    /// The T bit.
    trap: bool,
}

impl Cpu {
    /// Switches to the task whose TSS `selector` names. `back` is where the old task goes on.
    ///
    /// # Errors
    /// #GP, #TS, #NP or a page fault; see the module's head for what has changed then.
    pub(super) fn switch_task(
        &mut self,
        bus: &mut dyn Bus,
        selector: u16,
        cause: Cause,
        back: u64,
    ) -> Result<(), Fault> {
        let mut target = self.task_descriptor(bus, selector, cause)?;
        let big = target.kind() & 8 != 0;
        let layout = Layout::of(big);
        let bad_tss = Fault::with_error(Vector::InvalidTss, selector_error(selector));
        if target.limit() < layout.last {
            return Err(bad_tss);
        }
        let new = target.segment(selector);
        let old = self.state.tr;
        if old.limit < Layout::of(old.rights & 8 != 0).last {
            return Err(Fault::with_error(Vector::InvalidTss, selector_error(old.selector)));
        }
        let image = self.read_task(bus, &new, layout)?;
        let cr3 = image.cr3.filter(|_| self.paging());
        let pdpte = match cr3 {
            Some(cr3) if self.pae_paging() => self.read_pdptes(bus, cr3)?,
            _ => self.state.pdpte,
        };
        let old_descriptor = self.descriptor(bus, old.selector)?;

        // Everything that will be written is checked, then written.
        let wish = super::paging::Wish::write(false);
        self.prepare(bus, old.base, u64::from(Layout::of(old.rights & 8 != 0).last) + 1, wish)?;
        self.prepare(bus, new.base, 2, wish)?;
        self.prepare(bus, target.at, 8, wish)?;
        if let Some(descriptor) = &old_descriptor {
            self.prepare(bus, descriptor.at, 8, wish)?;
        }
        let nested = matches!(cause, Cause::Call | Cause::Interrupt | Cause::Fault);
        let keep = if cause == Cause::Return { !flags::NT } else { u32::MAX };
        let resume = if cause == Cause::Fault { flags::RF } else { 0 };
        self.write_task(bus, &old, back, self.state.flags.get() & keep | resume)?;
        if let Some(mut descriptor) = old_descriptor
            && !nested
        {
            self.set_busy(bus, &mut descriptor, false)?;
        }
        if nested {
            self.store_system::<u16>(bus, new.base, old.selector)?;
        }
        self.set_busy(bus, &mut target, true)?;

        // The commit.
        self.state.tr = target.segment(selector);
        self.state.cr[0] |= cr0::TS;
        if let Some(cr3) = cr3 {
            self.state.pdpte = pdpte;
            self.state.cr[3] = cr3 & self.model.cr3_mask();
            self.tlb.flush_local();
        }
        self.state.rip = image.ip;
        let nt = if nested { flags::NT } else { 0 };
        self.state.flags.set(image.flags | nt);
        self.state.gpr[..8].copy_from_slice(&image.gpr);
        self.state.halted = false;
        self.state.interrupt_shadow = false;
        self.state.debug_shadow = false;
        self.state.dr[7] &= !dr7::LOCAL;
        self.rearm();
        if image.trap {
            self.state.pending_debug |= dr6::BT;
        }
        self.enter_task(bus, &image)
    }

    /// The descriptor of a TSS in the GDT that this cause may switch to.
    fn task_descriptor(&mut self, bus: &mut dyn Bus, selector: u16, cause: Cause) -> Result<Descriptor, Fault> {
        let vector = if cause == Cause::Return { Vector::InvalidTss } else { Vector::GeneralProtection };
        let bad = Fault::with_error(vector, selector_error(selector));
        if selector & 4 != 0 || is_null(selector) {
            return Err(bad);
        }
        let descriptor = self.descriptor(bus, selector)?.ok_or(bad)?;
        let fits = match descriptor.kind() {
            system::TSS16 | system::TSS32 => cause != Cause::Return,
            system::TSS16_BUSY | system::TSS32_BUSY => cause == Cause::Return,
            _ => false,
        };
        if !descriptor.is_system() || !fits {
            return Err(bad);
        }
        if !descriptor.is_present() {
            return Err(Fault::with_error(Vector::SegmentNotPresent, selector_error(selector)));
        }
        Ok(descriptor)
    }

    fn set_busy(&mut self, bus: &mut dyn Bus, descriptor: &mut Descriptor, busy: bool) -> Result<(), Fault> {
        descriptor.high = descriptor.high & !(1 << 9) | u32::from(busy) << 9;
        self.store_system::<u8>(bus, descriptor.at.wrapping_add(5) & 0xffff_ffff, (descriptor.high >> 8) as u8)
    }

    fn task_field(&mut self, bus: &mut dyn Bus, tss: &Segment, offset: u64, width: Width) -> Result<u64, Fault> {
        let at = tss.base.wrapping_add(offset) & 0xffff_ffff;
        match width {
            Width::Word => self.load_system::<u16>(bus, at).map(u64::from),
            _ => self.load_system::<u32>(bus, at).map(u64::from),
        }
    }

    fn read_task(&mut self, bus: &mut dyn Bus, tss: &Segment, layout: &Layout) -> Result<Image, Fault> {
        let width = layout.width;
        let size = width.bytes();
        let mut image = Image { cr3: None, ip: 0, flags: 0, gpr: [0; 8], segments: [0; 6], ldt: 0, trap: false };
        if width == Width::Dword {
            image.cr3 = Some(self.task_field(bus, tss, CR3, width)?);
            image.trap = self.task_field(bus, tss, TRAP, Width::Word)? & 1 != 0;
        }
        image.ip = self.task_field(bus, tss, layout.ip, width)?;
        image.flags = self.task_field(bus, tss, layout.ip + size, width)? as u32;
        for (n, slot) in image.gpr.iter_mut().enumerate() {
            *slot = self.task_field(bus, tss, layout.ip + size * (2 + n as u64), width)?;
            if width == Width::Word {
                // A 16-bit task leaves ones in the upper halves.
                *slot |= 0xffff_0000;
            }
        }
        for (n, slot) in image.segments.iter_mut().take(layout.count).enumerate() {
            *slot = self.task_field(bus, tss, layout.segments + size * n as u64, Width::Word)? as u16;
        }
        image.ldt = self.task_field(bus, tss, layout.ldt, Width::Word)? as u16;
        Ok(image)
    }

    /// Saves the old task; the caller has made sure that it can be written.
    fn write_task(&mut self, bus: &mut dyn Bus, tss: &Segment, ip: u64, flags: u32) -> Result<(), Fault> {
        let layout = Layout::of(tss.rights & 8 != 0);
        let mut at = tss.base.wrapping_add(layout.ip);
        let mut put = |cpu: &mut Self, value: u64| {
            let linear = at & 0xffff_ffff;
            at = at.wrapping_add(layout.width.bytes());
            match layout.width {
                Width::Word => cpu.store_system(bus, linear, value as u16),
                _ => cpu.store_system(bus, linear, value as u32),
            }
        };
        put(self, ip)?;
        put(self, u64::from(flags))?;
        for n in 0..8 {
            put(self, self.state.gpr[n])?;
        }
        for n in 0..layout.count {
            put(self, u64::from(self.state.seg[n].selector))?;
        }
        Ok(())
    }

    /// Loads and checks the segments of the task that has just become the current one.
    fn enter_task(&mut self, bus: &mut dyn Bus, image: &Image) -> Result<(), Fault> {
        let v86 = self.state.v86();
        for seg in SegReg::ALL {
            let selector = image.segments[seg as usize];
            self.state.seg[seg as usize] = if v86 { Segment::v86(selector) } else { Segment::null(selector) };
        }
        self.state.ldtr = Segment::null(image.ldt);
        let code_selector = image.segments[SegReg::Cs as usize];
        let cpl = if v86 { 3 } else { (code_selector & 3) as u8 };
        self.set_cpl(cpl);
        self.load_task_ldt(bus, image.ldt)?;
        if v86 {
            return Ok(());
        }

        let invalid = |selector: u16| Fault::with_error(Vector::InvalidTss, selector_error(selector));
        let mut code = match self.descriptor(bus, code_selector)? {
            Some(code) if !is_null(code_selector) && code.is_code() => code,
            _ => return Err(invalid(code_selector)),
        };
        let level_fits = if code.is_conforming() { code.dpl() <= cpl } else { code.dpl() == cpl };
        if !level_fits {
            return Err(invalid(code_selector));
        }
        if !code.is_present() {
            return Err(Fault::with_error(Vector::SegmentNotPresent, selector_error(code_selector)));
        }
        self.mark_accessed(bus, &mut code)?;
        self.state.seg[SegReg::Cs as usize] = code.segment(code_selector);
        let stack = self.stack_segment(bus, image.segments[SegReg::Ss as usize], cpl, Vector::InvalidTss)?;
        self.state.seg[SegReg::Ss as usize] = stack;
        for seg in [SegReg::Ds, SegReg::Es, SegReg::Fs, SegReg::Gs] {
            let data = self.data_segment(bus, image.segments[seg as usize], Vector::InvalidTss)?;
            self.state.seg[seg as usize] = data;
        }
        if self.state.rip > u64::from(code.limit()) {
            return Err(Fault::gp(0));
        }
        Ok(())
    }

    fn load_task_ldt(&mut self, bus: &mut dyn Bus, selector: u16) -> Result<(), Fault> {
        if is_null(selector) {
            return Ok(());
        }
        let bad = Fault::with_error(Vector::InvalidTss, selector_error(selector));
        if selector & 4 != 0 {
            return Err(bad);
        }
        let descriptor = self.descriptor(bus, selector)?.ok_or(bad)?;
        if !descriptor.is_system() || descriptor.kind() != system::LDT || !descriptor.is_present() {
            return Err(bad);
        }
        self.state.ldtr = descriptor.segment(selector);
        Ok(())
    }

    /// Pushes the error code of the exception that switched tasks on the new task's stack.
    pub(super) fn push_task_error(&mut self, bus: &mut dyn Bus, error: u32) -> Result<(), Fault> {
        let width = if self.state.tr.rights & 8 != 0 { Width::Dword } else { Width::Word };
        self.push(bus, width, u64::from(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Flow;
    use crate::cpu::state::gpr;
    use crate::cpu::testbus::{TestBus, protected, step};

    /// A second task at 0x3800, selector 30: ring 0, EIP 0x4444, stack 0x9000.
    fn two_tasks() -> (Cpu, TestBus) {
        let (cpu, mut bus) = protected(16);
        bus.put(0x1030, &0x0000_8900_3800_0067_u64.to_le_bytes());
        bus.put32(0x3820, 0x4444);
        bus.put32(0x3824, 0x202);
        bus.put32(0x3828, 0xaaaa);
        bus.put32(0x3838, 0x9000);
        for (n, selector) in [0x10, 0x08, 0x10, 0x10, 0, 0].into_iter().enumerate() {
            bus.put32(0x3848 + 4 * n as u64, selector);
        }
        (cpu, bus)
    }

    #[test]
    fn a_call_nests_and_iret_comes_back() {
        let (mut cpu, mut bus) = two_tasks();
        cpu.state.gpr[gpr::RAX] = 0x1234;
        step(&mut cpu, &mut bus, &[0x9a, 0, 0, 0, 0, 0x30, 0]).unwrap();
        assert_eq!((cpu.state.rip, cpu.state.gpr[gpr::RAX], cpu.state.gpr[gpr::RSP]), (0x4444, 0xaaaa, 0x9000));
        assert!(cpu.state.flags.has(flags::NT) && cpu.state.cr[0] & cr0::TS != 0);
        assert_eq!((bus.get16(0x3800), bus.get32(0x3020), bus.get32(0x3028)), (0x28, 0x107, 0x1234));
        assert_eq!((bus.get::<1>(0x102d), bus.get::<1>(0x1035)), ([0x8b], [0x8b]), "both are busy");
        assert_eq!(step(&mut cpu, &mut bus, &[0xea, 0, 0, 0, 0, 0x30, 0]), Err(Fault::gp(0x30)), "busy");
        assert_eq!(step(&mut cpu, &mut bus, &[0xcf]), Ok(Flow::Jump));
        assert_eq!((cpu.state.rip, cpu.state.gpr[gpr::RAX], cpu.state.tr.selector), (0x107, 0x1234, 0x28));
        assert!(!cpu.state.flags.has(flags::NT));
        assert_eq!(bus.get::<1>(0x1035), [0x89], "free again");
        assert_eq!(bus.get32(0x3824) & flags::NT, 0);
    }

    #[test]
    fn a_double_fault_through_a_task_gate_finds_its_error_code() {
        let (mut cpu, mut bus) = two_tasks();
        bus.put32(0x2040, 0x0030_0000);
        bus.put32(0x2044, 0x8500);
        cpu.raise(&mut bus, Fault::gp(0)).unwrap();
        assert_eq!((cpu.state.rip, cpu.state.gpr[gpr::RSP]), (0x4444, 0x8ffc));
        assert_eq!(bus.get32(0x3020), 0x100, "the old task stands at the instruction");
    }

    #[test]
    fn a_bad_segment_faults_inside_the_new_task() {
        let (mut cpu, mut bus) = two_tasks();
        bus.put32(0x3850, 0x08);
        bus.put32(0x2050, 0x0008_5555);
        bus.put32(0x2054, 0x8f00);
        // SS is code, so there is no stack for #TS either, nor for the double fault.
        let fault = step(&mut cpu, &mut bus, &[0xea, 0, 0, 0, 0, 0x30, 0]);
        assert_eq!(fault, Err(Fault::new(Vector::DoubleFault)));
        // A bad DS leaves a task that can handle it.
        let (mut cpu, mut bus) = two_tasks();
        bus.put32(0x2050, 0x0008_5555);
        bus.put32(0x2054, 0x8f00);
        bus.put32(0x3854, 0x100);
        step(&mut cpu, &mut bus, &[0xea, 0, 0, 0, 0, 0x30, 0]).unwrap();
        assert_eq!((cpu.state.rip, cpu.state.tr.selector), (0x5555, 0x30));
        assert_eq!([bus.get32(0x8ff0), bus.get32(0x8ff4)], [0x100, 0x4444]);
    }
}
