//! The processor's part of a saved state.

use serde::{Deserialize, Serialize};

use super::Cpu;
use super::cpuid::CpuModel;
use super::debug::dr6;
use super::flags::{self, Flags};
use super::fpu::Fpu;
use super::msr::{apic_base, misc_enable};
use super::paging;
use super::smm;
use super::state::{CpuState, Msrs, SegReg, Segment, TableRegister, cr0};
use super::vector::mxcsr;
use crate::snapshot::section::{LoadError, Section};

/// The section's name.
const KIND: &str = "cpu";
/// Raised whenever the meaning of [`Saved`] changes.
const VERSION: u32 = 1;

/// What is written: names that a person can read, no caches, no lazy flags.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Saved {
    model: String,
    retired: u64,
    general: [u64; 8],
    rip: u64,
    eflags: u32,
    cpl: u8,
    interrupt_shadow: bool,
    #[serde(default)]
    debug_shadow: bool,
    #[serde(default)]
    pending_debug: u32,
    #[serde(default)]
    smm: bool,
    #[serde(default)]
    smi_pending: bool,
    #[serde(default)]
    nmi_pending: bool,
    #[serde(default)]
    nmi_blocked: bool,
    #[serde(default = "reset_smbase")]
    smbase: u32,
    halted: bool,
    es: Segment,
    cs: Segment,
    ss: Segment,
    ds: Segment,
    fs: Segment,
    gs: Segment,
    ldtr: Segment,
    tr: Segment,
    gdtr: TableRegister,
    idtr: TableRegister,
    cr0: u64,
    cr2: u64,
    cr3: u64,
    cr4: u64,
    #[serde(default)]
    pdpte: [u64; 4],
    dr: [u64; 8],
    msr: Msrs,
    fpu: Fpu,
    #[serde(default = "reset_mxcsr")]
    mxcsr: u32,
    /// XMM0 to XMM7, lower half first.
    #[serde(default)]
    xmm: [[u64; 2]; 8],
}

const fn reset_mxcsr() -> u32 {
    mxcsr::RESET
}

const fn reset_smbase() -> u32 {
    smm::RESET_BASE
}

impl Cpu {
    /// The processor's state, as an engine of any kind can take it up.
    pub fn save(&self) -> Section {
        let state = &self.state;
        let mut general = [0; 8];
        general.copy_from_slice(&state.gpr[..8]);
        let [es, cs, ss, ds, fs, gs] = state.seg;
        let saved = Saved {
            model: self.model.name().to_owned(),
            retired: self.retired,
            general,
            rip: state.rip,
            eflags: state.flags.get(),
            cpl: state.cpl,
            interrupt_shadow: state.interrupt_shadow,
            debug_shadow: state.debug_shadow,
            pending_debug: state.pending_debug,
            smm: state.smm,
            smi_pending: state.smi_pending,
            nmi_pending: state.nmi_pending,
            nmi_blocked: state.nmi_blocked,
            smbase: state.smbase,
            halted: state.halted,
            es,
            cs,
            ss,
            ds,
            fs,
            gs,
            ldtr: state.ldtr,
            tr: state.tr,
            gdtr: state.gdtr,
            idtr: state.idtr,
            cr0: state.cr[0],
            cr2: state.cr[2],
            cr3: state.cr[3],
            cr4: state.cr[4],
            pdpte: state.pdpte,
            dr: state.dr,
            msr: state.msr,
            fpu: self.fpu.clone(),
            mxcsr: state.mxcsr,
            xmm: std::array::from_fn(|n| [state.vector[n] as u64, (state.vector[n] >> 64) as u64]),
        };
        Section::encode(KIND, VERSION, &saved)
    }

    /// Takes over a saved state; on an error nothing has changed.
    ///
    /// # Errors
    /// Where the section is of another kind or model, newer, or holds what a processor cannot have.
    pub fn load_state(&mut self, section: &Section) -> Result<(), LoadError> {
        let saved: Saved = section.decode(KIND, VERSION)?;
        if saved.model != self.model.name() {
            let reason = format!("it is of a “{}”, and this machine has a “{}”", saved.model, self.model.name());
            return Err(LoadError::invalid(KIND, reason));
        }
        saved.check(self.model).map_err(|reason| LoadError::invalid(KIND, reason))?;

        let mut state = CpuState::reset(0);
        state.gpr[..8].copy_from_slice(&saved.general);
        state.rip = saved.rip;
        state.flags = Flags::RESET;
        state.flags.set(saved.eflags);
        state.cpl = saved.cpl;
        state.interrupt_shadow = saved.interrupt_shadow;
        state.debug_shadow = saved.debug_shadow;
        state.pending_debug = saved.pending_debug;
        state.smm = saved.smm;
        state.smi_pending = saved.smi_pending;
        state.nmi_pending = saved.nmi_pending;
        state.nmi_blocked = saved.nmi_blocked;
        state.smbase = saved.smbase;
        state.halted = saved.halted;
        state.seg = [saved.es, saved.cs, saved.ss, saved.ds, saved.fs, saved.gs];
        state.ldtr = saved.ldtr;
        state.tr = saved.tr;
        state.gdtr = saved.gdtr;
        state.idtr = saved.idtr;
        state.cr = [saved.cr0, 0, saved.cr2, saved.cr3, saved.cr4];
        state.pdpte = saved.pdpte;
        state.dr = saved.dr;
        state.msr = saved.msr;
        state.mxcsr = saved.mxcsr;
        for (register, [low, high]) in state.vector.iter_mut().zip(saved.xmm) {
            *register = u128::from(low) | u128::from(high) << 64;
        }
        self.state = state;
        self.fpu = saved.fpu;
        self.retired = saved.retired;
        self.state_changed();
        Ok(())
    }
}

impl Saved {
    /// What a processor of this model can have; else what is wrong.
    fn check(&self, model: CpuModel) -> Result<(), String> {
        let cr4_mask = model.cr4_mask();
        let narrow = |name: &str, value: u64| {
            if value > 0xffff_ffff { Err(format!("{name} is {value:#x}, which is wider than 32 bits")) } else { Ok(()) }
        };
        for (n, value) in self.general.iter().enumerate() {
            narrow(&format!("general register {n}"), *value)?;
        }
        for (n, value) in self.dr.iter().enumerate() {
            narrow(&format!("DR{n}"), *value)?;
        }
        if self.pending_debug & !dr6::KNOWN != 0 {
            return Err(format!("a debug trap with the bits {:#x} is due", self.pending_debug));
        }
        narrow("RIP", self.rip)?;
        narrow("CR2", self.cr2)?;
        narrow("GDTR", self.gdtr.base)?;
        narrow("IDTR", self.idtr.base)?;
        let segments = [self.es, self.cs, self.ss, self.ds, self.fs, self.gs, self.ldtr, self.tr];
        for segment in &segments {
            narrow("a segment's base", segment.base)?;
            if segment.rights & !0xf0ff != 0 {
                return Err(format!("a segment has the rights {:#x}", segment.rights));
            }
        }
        if segments[SegReg::Cs as usize].rights & 0x90 != 0x90 {
            return Err("CS is not a segment".to_owned());
        }
        if self.cr3 & !model.cr3_mask() != 0 {
            return Err(format!("CR3 is {:#x}", self.cr3));
        }
        if self.cr4 & !cr4_mask != 0 {
            return Err(format!("CR4 is {:#x}, and this model has no more than {cr4_mask:#x}", self.cr4));
        }
        if self.pdpte.iter().any(|&pointer| paging::pdpte_is_bad(pointer)) {
            return Err(format!("a page-directory-pointer entry is not possible: {:#x?}", self.pdpte));
        }
        if self.msr.efer & !model.efer_mask() != 0 {
            return Err(format!("IA32_EFER is {:#x}", self.msr.efer));
        }
        let apic_base = self.msr.apic_base & !(apic_base::WRITABLE | apic_base::BSP);
        let misc_enable = self.msr.misc_enable & !misc_enable::WRITABLE;
        if apic_base | misc_enable != 0 || !self.msr.mtrr.is_possible() || !self.msr.mca.is_possible() {
            return Err("a model-specific register has bits that do not exist".to_owned());
        }
        let protected = self.cr0 & cr0::PE != 0;
        let paging = self.cr0 & cr0::PG != 0;
        if self.cr0 & !cr0::KNOWN != 0 || paging && !protected {
            return Err(format!("CR0 is {:#x}", self.cr0));
        }
        let mut known = Flags::RESET;
        known.set(self.eflags);
        if known.get() != self.eflags {
            return Err(format!("EFLAGS is {:#x}", self.eflags));
        }
        if self.mxcsr & !(model.mxcsr_mask() | mxcsr::RESET) != 0 {
            return Err(format!("MXCSR is {:#x}", self.mxcsr));
        }
        if self.fpu.top > 7 {
            return Err(format!("the x87's top of stack is {}", self.fpu.top));
        }
        let v86 = self.eflags & flags::VM != 0;
        if self.cpl > 3 || !protected && (self.cpl != 0 || v86) || v86 && self.cpl != 3 {
            return Err(format!("privilege level {} does not go with its mode", self.cpl));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_as_it_went() {
        let mut cpu = Cpu::new(CpuModel::Pentium2);
        cpu.state.gpr[3] = 0x1234_5678;
        cpu.state.flags.set(flags::ZF | flags::IF);
        cpu.state.msr.sysenter_esp = 7;
        cpu.state.halted = true;
        cpu.state.vector[7] = 3 << 100 | 5;
        let section = cpu.save();
        let mut other = Cpu::new(CpuModel::Pentium2);
        other.load_state(&section).unwrap();
        assert_eq!(other.save(), section);
        assert_eq!(other.state.gpr[3], 0x1234_5678);
        assert!(other.state.halted);
        assert_eq!((other.state.vector[7], other.state.mxcsr), (3 << 100 | 5, 0x1f80));
    }

    #[test]
    fn an_impossible_state_is_refused_and_changes_nothing() {
        let mut cpu = Cpu::new(CpuModel::Pentium2);
        let section = cpu.save();
        let damages = [
            ("cpl: 0", "cpl: 3"),
            ("cpl: 0", "cpl: 9"),
            ("eflags: 2", "eflags: 4294967295"),
            ("eflags: 2", "eflags: 131074"),
            ("cr4: 0", "cr4: 4096"),
            ("pdpte: (0,", "pdpte: (68719476737,"),
            ("efer: 0", "efer: 2048"),
            ("apic_base: 4276095232", "apic_base: 4276095233"),
            ("default_type: 0", "default_type: 2"),
            ("pending_debug: 0", "pending_debug: 16"),
            ("rip: 65520", "rip: 99999999999"),
            ("cr0: 1610612752", "cr0: 2147483664"),
            ("pentium2", "486"),
            ("top: 0", "top: 8"),
            ("mxcsr: 8064", "mxcsr: 8065"),
            ("mxcsr: 8064", "mxcsr: 73600"),
        ];
        for (from, to) in damages {
            let mut bad = section.clone();
            bad.body = section.body.replacen(from, to, 1);
            assert_ne!(bad.body, section.body, "{from}");
            assert!(cpu.load_state(&bad).is_err(), "{to}");
            assert_eq!(cpu.save(), section);
        }
    }
}
