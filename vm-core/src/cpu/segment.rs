//! Segmentation: descriptors, loading segment registers, limit and rights checks (Intel SDM vol. 3A, chapters 3 and 5).

use super::Cpu;
use super::fault::{Fault, Vector};
use super::flags;
use super::state::{SegReg, Segment, cr0};
use crate::bus::Bus;

/// System descriptor types (Intel SDM vol. 3A, table 3-2).
pub mod system {
    #![allow(missing_docs, reason = "each is named in the manual")]
    pub const TSS16: u8 = 1;
    pub const LDT: u8 = 2;
    pub const TSS16_BUSY: u8 = 3;
    pub const CALL_GATE16: u8 = 4;
    pub const TASK_GATE: u8 = 5;
    pub const INTERRUPT_GATE16: u8 = 6;
    pub const TRAP_GATE16: u8 = 7;
    pub const TSS32: u8 = 9;
    pub const TSS32_BUSY: u8 = 11;
    pub const CALL_GATE32: u8 = 12;
    pub const INTERRUPT_GATE32: u8 = 14;
    pub const TRAP_GATE32: u8 = 15;
}

/// The part of a selector that goes into an error code: index and table.
pub const fn selector_error(selector: u16) -> u32 {
    (selector & 0xfffc) as u32
}

/// Whether a selector is null, whatever its RPL.
pub const fn is_null(selector: u16) -> bool {
    selector & 0xfffc == 0
}

impl Segment {
    /// In `rights`: 32-bit default size, 32-bit stack pointer, or 4 GiB as the top of an expand-down segment (D/B).
    pub const BIG: u32 = 1 << 14;

    /// A segment as real mode has it after a reset: 64 KiB of readable and writable memory at `selector * 16`.
    pub const fn real(selector: u16) -> Self {
        Self { base: (selector as u64) << 4, limit: 0xffff, rights: 0x93, selector }
    }

    /// A segment of virtual-8086 mode.
    pub const fn v86(selector: u16) -> Self {
        Self { rights: 0xf3, ..Self::real(selector) }
    }

    /// Nothing may be accessed through it.
    pub const fn null(selector: u16) -> Self {
        Self { base: 0, limit: 0, rights: 0, selector }
    }

    /// The D/B bit.
    #[inline(always)]
    pub const fn big(&self) -> bool {
        self.rights as u32 & Self::BIG != 0
    }

    /// Descriptor privilege level.
    pub const fn dpl(&self) -> u8 {
        (self.rights >> 5 & 3) as u8
    }
}

/// An entry of a descriptor table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Bytes 0–3.
    pub low: u32,
    /// Bytes 4–7.
    pub high: u32,
    /// Its linear address.
    pub at: u64,
}

impl Descriptor {
    /// The type field, four bits.
    pub const fn kind(&self) -> u8 {
        (self.high >> 8 & 15) as u8
    }

    /// A system descriptor or gate (S clear).
    pub const fn is_system(&self) -> bool {
        self.high & 1 << 12 == 0
    }

    /// A code segment.
    pub const fn is_code(&self) -> bool {
        self.high >> 11 & 3 == 3
    }

    /// A code segment that keeps the caller's privilege level.
    pub const fn is_conforming(&self) -> bool {
        self.is_code() && self.high & 1 << 10 != 0
    }

    /// Data, or code that can be read.
    pub const fn is_readable(&self) -> bool {
        !self.is_system() && (!self.is_code() || self.high & 1 << 9 != 0)
    }

    /// Data that can be written.
    pub const fn is_writable_data(&self) -> bool {
        !self.is_system() && !self.is_code() && self.high & 1 << 9 != 0
    }

    /// Descriptor privilege level.
    pub const fn dpl(&self) -> u8 {
        (self.high >> 13 & 3) as u8
    }

    /// Present.
    pub const fn is_present(&self) -> bool {
        self.high & 1 << 15 != 0
    }

    /// Base address of a segment.
    pub const fn base(&self) -> u32 {
        self.low >> 16 | (self.high & 0xff) << 16 | self.high & 0xff00_0000
    }

    /// Offset of a segment's last byte.
    pub const fn limit(&self) -> u32 {
        let raw = self.low & 0xffff | self.high & 0x000f_0000;
        if self.high & 1 << 23 == 0 { raw } else { raw << 12 | 0xfff }
    }

    /// As a segment register holds it.
    pub const fn segment(&self, selector: u16) -> Segment {
        let rights = (self.high >> 8) as u16 & 0xf0ff;
        Segment { base: self.base() as u64, limit: self.limit(), rights, selector }
    }

    /// Selector in a gate.
    pub const fn gate_selector(&self) -> u16 {
        (self.low >> 16) as u16
    }

    /// Offset in a gate, by the gate's own size.
    pub const fn gate_offset(&self) -> u32 {
        let low = self.low & 0xffff;
        if self.kind() & 8 == 0 { low } else { low | self.high & 0xffff_0000 }
    }
}

impl Cpu {
    /// Changes the privilege level (and the TLB's bank). The only way to do so.
    #[inline]
    pub fn set_cpl(&mut self, cpl: u8) {
        self.state.cpl = cpl;
        self.choose_bank();
    }

    /// Whether CR0.AM, EFLAGS.AC and the privilege level ask for alignment checks.
    #[inline]
    pub(super) fn alignment_checked(&self) -> bool {
        self.state.cpl == 3 && self.state.flags.has(flags::AC) && self.state.cr[0] & cr0::AM != 0
    }

    /// Chooses the TLB's bank for the level and its alignment checks.
    #[inline]
    pub(super) fn choose_bank(&mut self) {
        self.tlb.set_user(self.state.cpl == 3, self.alignment_checked());
    }

    /// Reads the descriptor of a selector that is not null; `None` where it lies outside its table.
    ///
    /// # Errors
    /// A page fault.
    pub fn descriptor(&mut self, bus: &mut dyn Bus, selector: u16) -> Result<Option<Descriptor>, Fault> {
        let (base, limit) = if selector & 4 == 0 {
            (self.state.gdtr.base, u32::from(self.state.gdtr.limit))
        } else if self.state.ldtr.rights & 0x80 != 0 {
            (self.state.ldtr.base, self.state.ldtr.limit)
        } else {
            return Ok(None);
        };
        let offset = u32::from(selector & 0xfff8);
        if offset + 7 > limit {
            return Ok(None);
        }
        let at = base.wrapping_add(u64::from(offset)) & 0xffff_ffff;
        let both: u64 = self.load_system(bus, at)?;
        Ok(Some(Descriptor { low: both as u32, high: (both >> 32) as u32, at }))
    }

    /// The same, where a selector outside its table is a fault of kind `vector` with the selector as error code.
    ///
    /// # Errors
    /// That, or a page fault.
    pub fn descriptor_or(&mut self, bus: &mut dyn Bus, selector: u16, vector: Vector) -> Result<Descriptor, Fault> {
        self.descriptor(bus, selector)?.ok_or(Fault::with_error(vector, selector_error(selector)))
    }

    /// Sets the accessed bit of a code or data descriptor, in memory and in `descriptor`.
    ///
    /// # Errors
    /// A page fault.
    pub fn mark_accessed(&mut self, bus: &mut dyn Bus, descriptor: &mut Descriptor) -> Result<(), Fault> {
        if descriptor.high & 1 << 8 == 0 {
            let high = descriptor.high | 1 << 8;
            self.store_system::<u8>(bus, descriptor.at.wrapping_add(5) & 0xffff_ffff, (high >> 8) as u8)?;
            descriptor.high = high;
        }
        Ok(())
    }

    /// Loads DS, ES, FS, GS or SS as MOV, POP and LDS do.
    ///
    /// # Errors
    /// #GP, #SS, #NP or a page fault; then nothing has changed.
    ///
    /// # Panics
    /// In debug builds, for CS.
    pub fn load_segment(&mut self, bus: &mut dyn Bus, seg: SegReg, selector: u16) -> Result<(), Fault> {
        debug_assert!(seg != SegReg::Cs, "CS changes by far transfers only");
        let loaded = if self.state.v86() {
            Segment::v86(selector)
        } else if !self.state.protected() {
            real_load(self.state.segment(seg), selector)
        } else if seg == SegReg::Ss {
            self.stack_segment(bus, selector, self.state.cpl, Vector::GeneralProtection)?
        } else {
            self.data_segment(bus, selector, Vector::GeneralProtection)?
        };
        self.state.seg[seg as usize] = loaded;
        Ok(())
    }

    /// CS in real mode: limit and default size stay as they are, the rights become those of data.
    pub fn load_code_real(&mut self, selector: u16) {
        let cs = &mut self.state.seg[SegReg::Cs as usize];
        cs.base = u64::from(selector) << 4;
        cs.selector = selector;
        cs.rights = cs.rights & 0xf000 | 0x93;
        self.set_cpl(0);
    }

    /// Checks and fetches a data segment for the current privilege level, in protected mode; `vector` is #GP, or #TS
    /// where the selector comes from a TSS.
    pub(super) fn data_segment(&mut self, bus: &mut dyn Bus, selector: u16, vector: Vector) -> Result<Segment, Fault> {
        if is_null(selector) {
            return Ok(Segment::null(selector));
        }
        let error = selector_error(selector);
        let mut descriptor = self.descriptor_or(bus, selector, vector)?;
        let rpl = (selector & 3) as u8;
        let visible = descriptor.is_conforming() || rpl.max(self.state.cpl) <= descriptor.dpl();
        if !descriptor.is_readable() || !visible {
            return Err(Fault::with_error(vector, error));
        }
        if !descriptor.is_present() {
            return Err(Fault::with_error(Vector::SegmentNotPresent, error));
        }
        self.mark_accessed(bus, &mut descriptor)?;
        Ok(descriptor.segment(selector))
    }

    /// Checks and fetches a stack segment for privilege level `cpl`; `vector` is #GP, or #TS where the selector comes from a TSS.
    ///
    /// # Errors
    /// `vector`, #SS where it is not present, or a page fault.
    pub fn stack_segment(
        &mut self,
        bus: &mut dyn Bus,
        selector: u16,
        cpl: u8,
        vector: Vector,
    ) -> Result<Segment, Fault> {
        let error = selector_error(selector);
        if is_null(selector) {
            return Err(Fault::with_error(vector, 0));
        }
        let mut descriptor = self.descriptor_or(bus, selector, vector)?;
        if (selector & 3) as u8 != cpl || !descriptor.is_writable_data() || descriptor.dpl() != cpl {
            return Err(Fault::with_error(vector, error));
        }
        if !descriptor.is_present() {
            return Err(Fault::ss(error));
        }
        self.mark_accessed(bus, &mut descriptor)?;
        Ok(descriptor.segment(selector))
    }

    /// After a return to an outer level: data segments that the new level may not use become null.
    pub fn drop_privileged_segments(&mut self) {
        for seg in [SegReg::Es, SegReg::Ds, SegReg::Fs, SegReg::Gs] {
            let segment = &mut self.state.seg[seg as usize];
            let conforming = segment.rights & 0x1c == 0x1c;
            if segment.rights & 0x80 != 0 && !conforming && segment.dpl() < self.state.cpl {
                *segment = Segment::null(0);
            }
        }
    }
}

/// A segment register other than CS, loaded in real mode: only base and selector change, so that a limit from
/// protected mode stays ("unreal mode").
fn real_load(before: &Segment, selector: u16) -> Segment {
    if before.rights & 0x80 == 0 {
        return Segment::real(selector);
    }
    Segment { base: u64::from(selector) << 4, selector, ..*before }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testbus::{level, protected};

    #[test]
    fn data_segments_are_checked_against_both_levels() {
        let (mut cpu, mut bus) = protected(16);
        bus.put(0x1030, &0x00cf_9200_0000_ffff_u64.to_le_bytes());
        bus.put(0x1038, &0x00cf_1300_0000_ffff_u64.to_le_bytes());
        cpu.load_segment(&mut bus, SegReg::Ds, 0x30).unwrap();
        assert_eq!(bus.get::<1>(0x1035), [0x93], "accessed");
        assert_eq!(cpu.state.segment(SegReg::Ds).limit, u32::MAX);
        assert_eq!(cpu.load_segment(&mut bus, SegReg::Ds, 0x33), Err(Fault::gp(0x30)), "RPL");
        assert_eq!(cpu.load_segment(&mut bus, SegReg::Ds, 0x28), Err(Fault::gp(0x28)), "a TSS");
        assert_eq!(cpu.load_segment(&mut bus, SegReg::Ds, 0x100), Err(Fault::gp(0x100)), "outside");
        assert_eq!(cpu.load_segment(&mut bus, SegReg::Ds, 0x0c), Err(Fault::gp(0x0c)), "LDT of zeros");
        let absent = Fault::with_error(Vector::SegmentNotPresent, 0x38);
        assert_eq!(cpu.load_segment(&mut bus, SegReg::Es, 0x38), Err(absent));
        assert_eq!(cpu.load_segment(&mut bus, SegReg::Ss, 0x38), Err(Fault::ss(0x38)));
        assert_eq!(cpu.load_segment(&mut bus, SegReg::Ss, 0), Err(Fault::gp(0)));
        assert_eq!(cpu.load_segment(&mut bus, SegReg::Ss, 0x08), Err(Fault::gp(0x08)), "code");
        level(&mut cpu, 3);
        assert_eq!(cpu.load_segment(&mut bus, SegReg::Ds, 0x10), Err(Fault::gp(0x10)), "CPL");
        cpu.load_segment(&mut bus, SegReg::Ds, 3).unwrap();
        assert_eq!(cpu.linear(SegReg::Ds, 0, 1, false), Err(Fault::gp(0)), "null");
    }

    #[test]
    fn unreal_mode_keeps_the_limit() {
        let (mut cpu, mut bus) = protected(16);
        cpu.set_cr0(&mut bus, 0).unwrap();
        cpu.load_segment(&mut bus, SegReg::Ds, 0x1234).unwrap();
        assert_eq!(cpu.linear(SegReg::Ds, 0x0010_0000, 4, true), Ok(0x0011_2340));
        cpu.load_code_real(0xf000);
        assert!(cpu.state.segment(SegReg::Cs).big());
        assert_eq!(cpu.linear(SegReg::Cs, 0, 1, true), Ok(0xf0000));
    }
}
