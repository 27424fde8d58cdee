//! System management mode (Intel SDM vol. 3C, chapter 31; Pentium Processor Family Developer's Manual vol. 3, chapter 20).
//!
//! SMI# saves the state at SMBASE + 0xFE00 and starts the handler at SMBASE + 0x8000, in something like real mode with segments
//! of 4 GiB. RSM brings the state back. The lower part of the save area is the processor's own; there stand the hidden parts of
//! segment registers and what else the documented fields leave out.

use iced_x86::Instruction;

use super::debug::dr7;
use super::fault::Fault;
use super::flags::Flags;
use super::state::{SegReg, Segment, TableRegister, cr0, cr4};
use super::{Cpu, Flow};
use crate::bus::Bus;

/// SMBASE after a reset.
pub const RESET_BASE: u32 = 0x3_0000;

/// Offsets from SMBASE of the documented fields (table 31-1).
mod field {
    pub const CR0: u32 = 0xfffc;
    pub const CR3: u32 = 0xfff8;
    pub const EFLAGS: u32 = 0xfff4;
    pub const EIP: u32 = 0xfff0;
    /// EDI, ESI, EBP, ESP, EBX, EDX, ECX and EAX lie below one another, in the order of their numbers from above.
    pub const EAX: u32 = 0xffd0;
    pub const DR6: u32 = 0xffcc;
    pub const DR7: u32 = 0xffc8;
    pub const TR: u32 = 0xffc4;
    pub const LDTR: u32 = 0xffc0;
    /// ES; CS, SS, DS, FS and GS follow.
    pub const ES: u32 = 0xffa8;
    /// Bit 0: RSM goes back into HLT.
    pub const AUTO_HALT: u32 = 0xff02;
    pub const REVISION: u32 = 0xfefc;
    pub const SMBASE: u32 = 0xfef8;
}

/// Offsets from SMBASE of what the processor keeps for itself.
mod hidden {
    /// Base, limit, rights of ES … GS, LDTR, TR.
    pub const SEGMENTS: u32 = 0xfe00;
    pub const GDTR: u32 = 0xfe60;
    pub const IDTR: u32 = 0xfe68;
    pub const CR4: u32 = 0xfe70;
    pub const CPL: u32 = 0xfe74;
}

/// The revision: the format of the 32-bit processors, and SMBASE can be relocated (bit 17). There is no I/O restart (bit 16).
const REVISION: u32 = 1 << 17;

impl Cpu {
    /// Whether SMI# waits and can be taken now. An SMI that comes while one is handled waits for RSM.
    #[inline]
    pub(super) fn smi_due(&self, bus: &dyn Bus) -> bool {
        (self.state.smi_pending || bus.signals().smi()) && !self.state.smm && !self.state.interrupt_shadow
    }

    fn smram_write(&mut self, bus: &mut dyn Bus, offset: u32, value: u32) {
        for (n, byte) in value.to_le_bytes().into_iter().enumerate() {
            // SMBASE need not be aligned.
            let at = self.smram_at(offset.wrapping_add(n as u32));
            self.write_physical(bus, at, 1, u64::from(byte));
        }
    }

    fn smram_read(&mut self, bus: &mut dyn Bus, offset: u32) -> u32 {
        let mut bytes = [0; 4];
        for (n, byte) in bytes.iter_mut().enumerate() {
            let at = self.smram_at(offset.wrapping_add(n as u32));
            *byte = self.read_physical(bus, at, 1) as u8;
        }
        u32::from_le_bytes(bytes)
    }

    fn smram_at(&self, offset: u32) -> u64 {
        u64::from(self.state.smbase.wrapping_add(offset)) & self.tlb.a20_mask()
    }

    /// SMI#: saves the state and enters the handler.
    pub(super) fn enter_smm(&mut self, bus: &mut dyn Bus) {
        bus.signals().take_smi();
        self.state.smi_pending = false;
        bus.set_smi_active(true);
        self.save_map(bus);

        let base = self.state.smbase;
        let state = &mut self.state;
        state.smm = true;
        state.halted = false;
        state.flags = Flags::RESET;
        state.rip = 0x8000;
        state.cr[0] &= !(cr0::PE | cr0::EM | cr0::TS | cr0::PG);
        state.cr[4] = 0;
        state.dr[7] = dr7::FIXED;
        let data = Segment { base: 0, limit: u32::MAX, rights: 0x8093, selector: 0 };
        state.seg = [data; 6];
        state.seg[SegReg::Cs as usize] = Segment { base: u64::from(base), selector: (base >> 4) as u16, ..data };
        self.set_cpl(0);
        self.rearm();
        self.tlb.flush();
    }

    /// Writes the state save map.
    fn save_map(&mut self, bus: &mut dyn Bus) {
        let state = self.state.clone();
        let mut put = |offset: u32, value: u64| self.smram_write(bus, offset, value as u32);
        put(field::CR0, state.cr[0]);
        put(field::CR3, state.cr[3]);
        put(field::EFLAGS, u64::from(state.flags.get()));
        put(field::EIP, state.rip);
        for (n, &value) in state.gpr.iter().take(8).enumerate() {
            put(field::EAX + 4 * n as u32, value);
        }
        put(field::DR6, state.dr[6]);
        put(field::DR7, state.dr[7]);
        put(field::TR, u64::from(state.tr.selector));
        put(field::LDTR, u64::from(state.ldtr.selector));
        for (n, segment) in state.seg.iter().enumerate() {
            put(field::ES + 4 * n as u32, u64::from(segment.selector));
        }
        put(field::AUTO_HALT - 2, u64::from(state.halted) << 16);
        put(field::REVISION, u64::from(REVISION));
        put(field::SMBASE, u64::from(state.smbase));

        for (n, segment) in state.seg.iter().chain([&state.ldtr, &state.tr]).enumerate() {
            let at = hidden::SEGMENTS + 12 * n as u32;
            put(at, segment.base);
            put(at + 4, u64::from(segment.limit));
            put(at + 8, u64::from(segment.rights));
        }
        for (at, table) in [(hidden::GDTR, state.gdtr), (hidden::IDTR, state.idtr)] {
            put(at, table.base);
            put(at + 4, u64::from(table.limit));
        }
        put(hidden::CR4, state.cr[4]);
        put(hidden::CPL, u64::from(state.cpl));
    }

    /// Takes the state save map back; false where it holds what no processor can have.
    fn load_map(&mut self, bus: &mut dyn Bus) -> bool {
        let mut state = self.state.clone();
        let mut get = |offset: u32| self.smram_read(bus, offset);
        state.cr[0] = u64::from(get(field::CR0)) & cr0::KNOWN | cr0::ET;
        state.cr[3] = u64::from(get(field::CR3));
        state.cr[4] = u64::from(get(hidden::CR4));
        state.flags.set(get(field::EFLAGS));
        state.rip = u64::from(get(field::EIP));
        for n in 0..8 {
            state.gpr[n] = u64::from(get(field::EAX + 4 * n as u32));
        }
        state.dr[6] =
            u64::from(get(field::DR6)) & u64::from(super::debug::dr6::KNOWN) | u64::from(super::debug::dr6::FIXED);
        state.dr[7] = u64::from(get(field::DR7)) & dr7::KNOWN | dr7::FIXED;
        let mut segments = [Segment::null(0); 8];
        let selectors = (0..6).map(|n| field::ES + 4 * n).chain([field::LDTR, field::TR]);
        for ((n, segment), selector) in segments.iter_mut().enumerate().zip(selectors) {
            let at = hidden::SEGMENTS + 12 * n as u32;
            *segment = Segment {
                base: u64::from(get(at)),
                limit: get(at + 4),
                rights: get(at + 8) as u16 & 0xf0ff,
                selector: get(selector) as u16,
            };
        }
        let [es, cs, ss, ds, fs, gs, ldtr, tr] = segments;
        state.seg = [es, Segment { rights: cs.rights | 0x90, ..cs }, ss, ds, fs, gs];
        (state.ldtr, state.tr) = (ldtr, tr);
        let mut table = |at: u32| TableRegister { base: u64::from(get(at)), limit: get(at + 4) as u16 };
        (state.gdtr, state.idtr) = (table(hidden::GDTR), table(hidden::IDTR));
        state.cpl = if !state.protected() {
            0
        } else if state.v86() {
            3
        } else {
            (get(hidden::CPL) & 3) as u8
        };
        state.halted = get(field::AUTO_HALT - 2) >> 16 & 1 != 0;
        state.smbase = get(field::SMBASE);
        state.smm = false;

        let paging = state.cr[0] & (cr0::PG | cr0::PE);
        let caches = state.cr[0] & (cr0::NW | cr0::CD);
        if paging == cr0::PG || caches == cr0::NW || state.cr[4] & !self.model.cr4_mask() != 0 {
            return false;
        }
        if !state.protected() {
            state.flags.update(super::flags::VM, 0);
        }
        state.cr[3] &= self.model.cr3_mask();
        self.state = state;
        true
    }

    /// Leaves for where SMI# came in; false: the processor shuts down.
    fn leave_smm(&mut self, bus: &mut dyn Bus) -> bool {
        if !self.load_map(bus) {
            return false;
        }
        bus.set_smi_active(false);
        self.tlb.flush();
        if self.paging() && self.state.cr[4] & cr4::PAE != 0 {
            match self.read_pdptes(bus, self.state.cr[3]) {
                Ok(pointers) => self.state.pdpte = pointers,
                Err(_) => return false,
            }
        }
        self.set_cpl(self.state.cpl);
        self.rearm();
        true
    }
}

/// RSM: back to where SMI# came in. Elsewhere it does not exist. A save map that no processor can have is a shutdown.
pub(super) fn rsm(cpu: &mut Cpu, bus: &mut dyn Bus, _insn: &Instruction) -> Result<Flow, Fault> {
    if !cpu.state.smm {
        return Err(Fault::ud());
    }
    if !cpu.leave_smm(bus) {
        tracing::warn!("RSM found a state that no processor can have");
        cpu.shut_down();
    }
    Ok(Flow::Jump)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Exit;
    use crate::cpu::cpuid::CpuModel;
    use crate::cpu::state::gpr;
    use crate::cpu::testbus::{TestBus, level, protected};

    /// The processor of `protected` with an SMI waiting, and a handler at 0x38000.
    fn with_handler(code: &[u8]) -> (Cpu, TestBus) {
        let (mut cpu, mut bus) = protected(0x50);
        bus.put(0x3_8000, code);
        bus.put(0x100, &[0xf4]);
        cpu.state.gpr[gpr::RAX] = 0x1234_5678;
        bus.signals.request_smi();
        bus.signals.take_raised();
        (cpu, bus)
    }

    #[test]
    fn an_smi_saves_what_rsm_brings_back() {
        let (mut cpu, mut bus) = with_handler(&[0x0f, 0xaa]);
        level(&mut cpu, 3);
        cpu.state.cr[4] = cr4::PSE;
        cpu.state.seg[SegReg::Gs as usize] = Segment { base: 0x1234, limit: 7, rights: 0x40f1, selector: 0x27 };
        let before = cpu.save();
        assert_eq!(cpu.run(&mut bus, 1), Exit::Budget);
        assert_eq!(bus.get32(0x3_fffc), cr0::PE as u32 | 0x6000_0010);
        assert_eq!((bus.get32(0x3_fff0), bus.get32(0x3_ffd0)), (0x100, 0x1234_5678));
        assert_eq!((bus.get32(0x3_ffac), bus.get32(0x3_ffbc)), (0x1b, 0x27));
        assert_eq!((bus.get32(0x3_fefc), bus.get32(0x3_fef8)), (0x2_0000, 0x3_0000));
        cpu.retired = 0;
        assert_eq!(cpu.save(), before);
        assert!(!cpu.state.smm && !bus.smi_active);
    }

    #[test]
    fn the_handler_runs_flat_real_mode_and_can_move_house() {
        // mov eax, [fef8] (CS-relative); add eax, 0x2000; mov [fef8], eax; hlt
        let code = b"\x66\x2e\xa1\xf8\xfe\x66\x05\x00\x20\x00\x00\x66\x2e\xa3\xf8\xfe\xf4\x0f\xaa";
        let (mut cpu, mut bus) = with_handler(code);
        cpu.state.flags.set(super::super::flags::IF);
        bus.interrupt = Some(0x20);
        assert_eq!(cpu.run(&mut bus, 100), Exit::Halted);
        assert!(cpu.state.smm && bus.smi_active);
        assert_eq!((cpu.state.cr[0] & cr0::PE, cpu.state.segment(SegReg::Cs).base), (0, 0x3_0000));
        assert_eq!(cpu.state.segment(SegReg::Ds).limit, u32::MAX);
        // A state in SMM goes into a file and back; a second SMI waits.
        bus.signals.request_smi();
        bus.signals.take_raised();
        let section = cpu.save();
        let mut cpu = Cpu::new(CpuModel::Pentium2);
        cpu.load_state(&section).unwrap();
        assert_eq!(cpu.run(&mut bus, 100), Exit::Halted);
        cpu.state.halted = false;
        bus.interrupt = None;
        bus.put(0x3_a000, &[0x0f, 0xaa]);
        assert_eq!(cpu.run(&mut bus, 1), Exit::Budget);
        assert_eq!((cpu.state.smbase, cpu.state.smm), (0x3_2000, true), "the second SMI at the new base");
        assert_eq!(bus.get32(0x4_1ef8), 0x3_2000);
        assert_eq!(cpu.run(&mut bus, 1), Exit::Budget);
        assert_eq!((cpu.state.smm, cpu.state.rip), (false, 0x100));
    }

    #[test]
    fn a_halted_processor_is_halted_again_and_a_bad_map_shuts_down() {
        let (mut cpu, mut bus) = with_handler(&[0x0f, 0xaa]);
        cpu.state.halted = true;
        assert_eq!(cpu.run(&mut bus, 100), Exit::Halted);
        assert_eq!((bus.get16(0x3_ff02), cpu.state.rip, cpu.state.smm), (1, 0x100, false));
        // mov word [fffe], 0x8000: paging without protection
        let (mut cpu, mut bus) = with_handler(b"\x2e\xc7\x06\xfe\xff\x00\x80\x2e\xc7\x06\xfc\xff\x00\x00\x0f\xaa");
        assert_eq!(cpu.run(&mut bus, 100), Exit::TripleFault);
        let (mut cpu, mut bus) = protected(16);
        let insn = Instruction::default();
        assert_eq!(rsm(&mut cpu, &mut bus, &insn), Err(Fault::ud()), "there is no RSM outside");
    }
}
