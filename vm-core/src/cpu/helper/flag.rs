//! The flags that only some may change: CLI, STI, PUSHF, POPF, and with them the virtual interrupt flag of virtual-8086
//! programs (CR4.VME) and of level 3 (CR4.PVI). Intel SDM vol. 2; vol. 3B, 20.3 and 20.4.

use iced_x86::{Code, Instruction, Mnemonic};

use super::far::{iopl, operand_width};
use crate::bus::{Bus, Width};
use crate::cpu::fault::Fault;
use crate::cpu::state::cr4;
use crate::cpu::{Cpu, Flow, Helper, flags};

type Outcome = Result<Flow, Fault>;

/// The helper of an instruction of this family.
pub fn find(code: Code) -> Option<Helper> {
    let helper: Helper = match code.mnemonic() {
        Mnemonic::Cli => cli,
        Mnemonic::Sti => sti,
        Mnemonic::Pushf | Mnemonic::Pushfd => pushf,
        Mnemonic::Popf | Mnemonic::Popfd => popf,
        _ => return None,
    };
    Some(helper)
}

/// What CLI and STI change.
enum InterruptFlag {
    /// IF itself.
    Real,
    /// VIF: IF belongs to a monitor.
    Virtual,
    /// Nothing: #GP.
    Refused,
}

fn interrupt_flag(cpu: &Cpu) -> InterruptFlag {
    let extension = if cpu.state.v86() { cr4::VME } else { cr4::PVI };
    if cpu.state.cpl <= iopl(cpu) {
        InterruptFlag::Real
    } else if cpu.state.cpl == 3 && cpu.state.cr[4] & extension != 0 {
        InterruptFlag::Virtual
    } else {
        InterruptFlag::Refused
    }
}

impl Cpu {
    /// Whether PUSHF, POPF, IRET and INT n of this instruction's size work on VIF: in virtual-8086 mode with an IOPL below 3.
    ///
    /// # Errors
    /// #GP(0) where they would have to and cannot.
    pub(super) fn virtual_flags(&self, width: Width) -> Result<bool, Fault> {
        if !self.state.v86() || iopl(self) == 3 {
            return Ok(false);
        }
        if width == Width::Word && self.state.cr[4] & cr4::VME != 0 { Ok(true) } else { Err(Fault::gp(0)) }
    }

    /// The 16-bit flags that a virtual-8086 program without IOPL 3 sees: IF is VIF, and IOPL reads 3.
    pub(super) fn virtual_image(&self) -> u32 {
        let image = self.state.flags.get() & !flags::IF | flags::IOPL;
        if image & flags::VIF != 0 { image | flags::IF } else { image }
    }

    /// Takes over 16-bit flags of a virtual-8086 program without IOPL 3, whose IF becomes VIF.
    ///
    /// # Errors
    /// #GP(0) where it wants to single-step, or to enable interrupts while one is pending.
    pub(super) fn set_virtual_image(&mut self, image: u32) -> Result<(), Fault> {
        let pending = image & flags::IF != 0 && self.state.flags.has(flags::VIP);
        if image & flags::TF != 0 || pending {
            return Err(Fault::gp(0));
        }
        let vif = if image & flags::IF != 0 { flags::VIF } else { 0 };
        let mask = flags::ARITHMETIC | flags::TF | flags::DF | flags::NT | flags::VIF;
        self.state.flags.update(mask, image & !flags::VIF | vif);
        Ok(())
    }
}

fn cli(cpu: &mut Cpu, _bus: &mut dyn Bus, _insn: &Instruction) -> Outcome {
    match interrupt_flag(cpu) {
        InterruptFlag::Real => cpu.state.flags.update(flags::IF, 0),
        InterruptFlag::Virtual => cpu.state.flags.update(flags::VIF, 0),
        InterruptFlag::Refused => return Err(Fault::gp(0)),
    }
    Ok(Flow::Next)
}

fn sti(cpu: &mut Cpu, bus: &mut dyn Bus, _insn: &Instruction) -> Outcome {
    match interrupt_flag(cpu) {
        InterruptFlag::Real => {}
        InterruptFlag::Virtual if !cpu.state.flags.has(flags::VIP) => {
            cpu.state.flags.update(flags::VIF, flags::VIF);
            return Ok(Flow::Next);
        }
        InterruptFlag::Virtual | InterruptFlag::Refused => return Err(Fault::gp(0)),
    }
    if cpu.state.flags.has(flags::IF) {
        return Ok(Flow::Next);
    }
    cpu.state.flags.update(flags::IF, flags::IF);
    // Where the next instruction stands in the same block nobody looks for interrupts before it is through, and where none waits
    // there is nothing to look for after it: one that comes raises attention.
    if cpu.another_follows() && !bus.interrupt_pending() {
        return Ok(Flow::Next);
    }
    cpu.state.interrupt_shadow = true;
    Ok(Flow::Resync)
}

fn pushf(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let width = operand_width(insn);
    let value =
        if cpu.virtual_flags(width)? { cpu.virtual_image() } else { cpu.state.flags.get() & !(flags::VM | flags::RF) };
    cpu.push(bus, width, u64::from(value))?;
    Ok(Flow::Next)
}

fn popf(cpu: &mut Cpu, bus: &mut dyn Bus, insn: &Instruction) -> Outcome {
    let width = operand_width(insn);
    let is_virtual = cpu.virtual_flags(width)?;
    let image = cpu.peek_stack(bus, width, 0)? as u32;
    let before = cpu.state.flags.get();
    if is_virtual {
        cpu.set_virtual_image(image)?;
    } else {
        let mut mask = flags::ARITHMETIC | flags::TF | flags::DF | flags::NT;
        if width == Width::Dword {
            mask |= flags::AC | flags::ID;
        }
        if cpu.state.cpl <= iopl(cpu) {
            mask |= flags::IF;
        }
        if cpu.state.cpl == 0 {
            mask |= flags::IOPL;
        }
        cpu.state.flags.update(mask, image);
    }
    let top = cpu.stack_pointer().wrapping_add(width.bytes());
    cpu.set_stack_pointer(top);
    let after = cpu.state.flags.get();
    let changed = before ^ after;
    let opened = changed & after & flags::IF != 0 && bus.interrupt_pending();
    Ok(if changed & (flags::TF | flags::IOPL | flags::AC) == 0 && !opened { Flow::Next } else { Flow::Resync })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::state::gpr;
    use crate::cpu::testbus::{level, protected, step};

    #[test]
    fn popf_changes_what_the_level_may_change() {
        let (mut cpu, mut bus) = protected(16);
        level(&mut cpu, 3);
        bus.put32(0x7000, 0xffff_ffff);
        step(&mut cpu, &mut bus, &[0x9d]).unwrap();
        assert_eq!(cpu.state.flags.get(), 0x0024_4dd7);
        step(&mut cpu, &mut bus, &[0x9c]).unwrap();
        assert_eq!(bus.get32(0x7000), 0x0024_4dd7);
        level(&mut cpu, 0);
        bus.put32(0x7000, 0xffff_ffff);
        assert_eq!(step(&mut cpu, &mut bus, &[0x9d]), Ok(Flow::Resync));
        assert_eq!(cpu.state.flags.get(), 0x0024_7fd7, "neither VM nor RF");
    }

    #[test]
    fn a_virtual_flag_stands_in_for_the_real_one() {
        let (mut cpu, mut bus) = protected(16);
        level(&mut cpu, 3);
        cpu.state.cr[4] |= cr4::PVI;
        cpu.state.flags.set(flags::IF);
        step(&mut cpu, &mut bus, &[0xfb]).unwrap();
        assert_eq!(cpu.state.flags.get(), 0x8_0202);
        step(&mut cpu, &mut bus, &[0xfa]).unwrap();
        assert_eq!(cpu.state.flags.get(), 0x202, "IF is not touched");
        cpu.state.flags.set(flags::VIP);
        assert_eq!(step(&mut cpu, &mut bus, &[0xfb]), Err(Fault::gp(0)), "somebody waits for this");
        // A virtual-8086 program: VME counts, not PVI.
        cpu.state.flags.set(flags::VM | flags::IF);
        assert_eq!(step(&mut cpu, &mut bus, &[0xfa]), Err(Fault::gp(0)));
        cpu.state.cr[4] = cr4::VME;
        step(&mut cpu, &mut bus, &[0xfb]).unwrap();
        step(&mut cpu, &mut bus, &[0x66, 0x9c]).unwrap();
        assert_eq!(bus.get16(0x6ffe), 0x3202, "IF is VIF, IOPL is 3");
        assert_eq!(step(&mut cpu, &mut bus, &[0x9c]), Err(Fault::gp(0)), "not with 32 bits");
        bus.put32(0x6ffe, 0x0103);
        assert_eq!(step(&mut cpu, &mut bus, &[0x66, 0x9d]), Err(Fault::gp(0)), "no single step");
        assert_eq!(cpu.state.gpr[gpr::RSP], 0x6ffe);
        bus.put32(0x6ffe, 0x0003);
        step(&mut cpu, &mut bus, &[0x66, 0x9d]).unwrap();
        assert_eq!(cpu.state.flags.get(), 0x2_0203, "VIF fell, IF and IOPL did not move");
    }
}
