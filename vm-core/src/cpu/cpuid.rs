//! Processor models and what CPUID says of them (Intel SDM vol. 2A, CPUID).
//!
//! A feature bit is set only where the feature is there; that of the local APIC is also clear while `IA32_APIC_BASE` disables it. Of the
//! Pentium's APIC nothing is seen: on boards with one processor it was strapped off. Instructions that a model
//! lacks are found when code is translated ([`CpuModel::executes`]), so that it costs nothing when the code runs.

use iced_x86::{Code, CpuidFeature, Mnemonic};

use super::state::{cr4, efer};
use super::vector::mxcsr;

/// A processor model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CpuModel {
    /// A late 486DX2, the kind that has CPUID.
    I486,
    /// Pentium (P54C).
    Pentium,
    /// Pentium II (Deschutes).
    #[default]
    Pentium2,
    /// Pentium M (Dothan, the stepping that brought execute-disable). Not to be had by name before its vector instructions
    /// are there.
    PentiumM,
}

/// Why a model cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// Planned.
    #[error("the processor “{0}” is not there yet; 486, pentium and pentium2 are")]
    NotYet(String),
    /// Never heard of.
    #[error("there is no processor called “{0}”; 486, pentium and pentium2 are there")]
    Unknown(String),
}

/// A row of the table of models: its names, and the model where it is there.
type Row = (&'static [&'static str], Option<CpuModel>);

/// The models by the names that people know.
#[rustfmt::skip]
const MODELS: &[Row] = &[
    (&["486"],                  Some(CpuModel::I486)),
    (&["pentium"],              Some(CpuModel::Pentium)),
    (&["pentium2"],             Some(CpuModel::Pentium2)),
    (&["pentium3"],             None),
    (&["pentium-m"],            None),
    (&["max"],                  None),
];

/// The bits of CR4 that every model since the Pentium II has.
const CR4_P6: u64 = cr4::VME | cr4::PVI | cr4::TSD | cr4::DE | cr4::PSE | cr4::PAE | cr4::MCE | cr4::PGE | cr4::OSFXSR;

/// Feature bits of leaf 1, EDX.
pub mod feature {
    #![allow(missing_docs, reason = "each is named in the manual")]
    pub const FPU: u32 = 1 << 0;
    pub const VME: u32 = 1 << 1;
    pub const DE: u32 = 1 << 2;
    pub const PSE: u32 = 1 << 3;
    pub const TSC: u32 = 1 << 4;
    pub const MSR: u32 = 1 << 5;
    pub const PAE: u32 = 1 << 6;
    pub const MCE: u32 = 1 << 7;
    pub const CX8: u32 = 1 << 8;
    pub const APIC: u32 = 1 << 9;
    pub const SEP: u32 = 1 << 11;
    pub const MTRR: u32 = 1 << 12;
    pub const PGE: u32 = 1 << 13;
    pub const MCA: u32 = 1 << 14;
    pub const CMOV: u32 = 1 << 15;
    pub const PAT: u32 = 1 << 16;
    pub const PSE36: u32 = 1 << 17;
    pub const CLFSH: u32 = 1 << 19;
    pub const MMX: u32 = 1 << 23;
    pub const FXSR: u32 = 1 << 24;
    pub const SSE: u32 = 1 << 25;
    pub const SSE2: u32 = 1 << 26;
}

/// Feature bits of leaf 0x80000001, EDX.
pub mod extended {
    #![allow(missing_docs, reason = "each is named in the manual")]
    pub const NX: u32 = 1 << 20;
}

impl CpuModel {
    /// The model called `name`.
    ///
    /// # Errors
    /// Where there is none, or none yet.
    pub fn from_name(name: &str) -> Result<Self, ModelError> {
        match MODELS.iter().find(|(names, _)| names.contains(&name)) {
            Some((_, Some(model))) => Ok(*model),
            Some((_, None)) => Err(ModelError::NotYet(name.to_owned())),
            None => Err(ModelError::Unknown(name.to_owned())),
        }
    }

    /// Every known name, and whether the model can be chosen.
    pub fn names() -> impl Iterator<Item = (&'static str, bool)> {
        MODELS.iter().flat_map(|(names, model)| names.iter().map(|name| (*name, model.is_some())))
    }

    /// The model's first name.
    pub fn name(self) -> &'static str {
        match self {
            Self::I486 => "486",
            Self::Pentium => "pentium",
            Self::Pentium2 => "pentium2",
            Self::PentiumM => "pentium-m",
        }
    }

    /// Family, model and stepping, as CPUID leaf 1 has them in EAX and a reset has them in EDX.
    pub const fn signature(self) -> u32 {
        match self {
            Self::I486 => 0x0435,
            Self::Pentium => 0x052c,
            Self::Pentium2 => 0x0652,
            Self::PentiumM => 0x06d8,
        }
    }

    /// The feature bits.
    pub const fn features(self) -> u32 {
        use feature::{
            APIC, CLFSH, CMOV, CX8, DE, FPU, FXSR, MCA, MCE, MMX, MSR, MTRR, PAE, PAT, PGE, PSE, PSE36, SEP, SSE, SSE2,
            TSC, VME,
        };
        const P6: u32 = FPU
            | VME
            | DE
            | PSE
            | TSC
            | MSR
            | PAE
            | MCE
            | CX8
            | APIC
            | SEP
            | MTRR
            | PGE
            | MCA
            | CMOV
            | PAT
            | PSE36
            | MMX
            | FXSR;
        match self {
            Self::I486 => FPU,
            Self::Pentium => FPU | VME | DE | PSE | TSC | MSR | MCE | CX8,
            Self::Pentium2 => P6,
            Self::PentiumM => P6 | SSE | SSE2 | CLFSH,
        }
    }

    /// The feature bits of the extended leaf; none: there are no extended leaves.
    pub const fn extended_features(self) -> u32 {
        match self {
            Self::I486 | Self::Pentium | Self::Pentium2 => 0,
            Self::PentiumM => extended::NX,
        }
    }

    /// Whether pages can be closed to execution (`IA32_EFER.NXE`).
    pub const fn has_nx(self) -> bool {
        self.extended_features() & extended::NX != 0
    }

    /// Whether all of these feature bits are there.
    pub const fn has(self, features: u32) -> bool {
        self.features() & features == features
    }

    /// The bits of CR4 that can be set; none: there is no CR4.
    pub const fn cr4_mask(self) -> u64 {
        match self {
            Self::I486 => 0,
            Self::Pentium => cr4::VME | cr4::PVI | cr4::TSD | cr4::DE | cr4::PSE | cr4::MCE,
            Self::Pentium2 => CR4_P6,
            Self::PentiumM => CR4_P6 | cr4::OSXMMEXCPT,
        }
    }

    /// The bits of MXCSR that can be set; none: there is no such register.
    pub const fn mxcsr_mask(self) -> u32 {
        if self.has(feature::SSE2) {
            0xffff
        } else if self.has(feature::SSE) {
            0xffff & !mxcsr::DAZ
        } else {
            0
        }
    }

    /// Whether the model has an instruction.
    pub fn executes(self, code: Code) -> bool {
        match code.mnemonic() {
            // The opcodes of these were no-operations before they had a meaning.
            Mnemonic::Prefetchnta | Mnemonic::Prefetcht0 | Mnemonic::Prefetcht1 | Mnemonic::Prefetcht2 => {
                self.has(feature::CMOV)
            }
            // The prefix of these meant nothing before they did.
            Mnemonic::Tzcnt | Mnemonic::Lzcnt | Mnemonic::Pause => true,
            Mnemonic::Paddq => self.has(feature::SSE2),
            _ => code.cpuid_features().iter().all(|&feature| self.provides(feature)),
        }
    }

    /// Whether the instructions of a group are there.
    fn provides(self, group: CpuidFeature) -> bool {
        use CpuidFeature as F;
        match group {
            F::INTEL8086
            | F::INTEL8086_ONLY
            | F::INTEL186
            | F::INTEL286
            | F::INTEL286_ONLY
            | F::INTEL386
            | F::INTEL386_ONLY
            | F::INTEL486
            | F::FPU
            | F::FPU287
            | F::FPU287XL_ONLY
            | F::FPU387
            | F::FPU387SL_ONLY
            | F::CPUID
            | F::SMM => true,
            F::TSC => self.has(feature::TSC),
            F::MSR => self.has(feature::MSR),
            F::CX8 => self.has(feature::CX8),
            F::SEP => self.has(feature::SEP),
            F::CMOV | F::RDPMC | F::MULTIBYTENOP | F::CET_IBT | F::CET_SS | F::CLDEMOTE => self.has(feature::CMOV),
            F::MMX => self.has(feature::MMX),
            F::FXSR => self.has(feature::FXSR),
            F::SSE => self.has(feature::SSE),
            F::SSE2 => self.has(feature::SSE2),
            F::CLFSH => self.has(feature::CLFSH),
            _ => false,
        }
    }

    /// The bits of CR3 that are kept.
    pub const fn cr3_mask(self) -> u64 {
        // With PAE the tables may begin at any multiple of 32, and the rest is ignored but kept.
        if self.has(feature::PAE) { 0xffff_ffff } else { 0xffff_f018 }
    }

    /// The bits of `IA32_EFER` that can be set; none: there is no such register.
    pub const fn efer_mask(self) -> u64 {
        if self.has_nx() { efer::NXE } else { 0 }
    }

    /// EAX, EBX, ECX, EDX of a leaf.
    pub fn cpuid(self, leaf: u32) -> [u32; 4] {
        let highest = match self {
            Self::I486 | Self::Pentium => 1,
            Self::Pentium2 | Self::PentiumM => 2,
        };
        if self.extended_features() != 0 {
            match leaf {
                0x8000_0000 => return [0x8000_0001, 0, 0, 0],
                0x8000_0001 => return [0, 0, 0, self.extended_features()],
                _ => {}
            }
        }
        // A leaf above the highest gives the highest (Intel SDM vol. 2A, CPUID).
        match leaf.min(highest) {
            0 => [highest, text("Genu"), text("ntel"), text("ineI")],
            // CLFLUSH works on lines of 64 bytes.
            1 => [self.signature(), if self.has(feature::CLFSH) { 8 << 8 } else { 0 }, 0, self.features()],
            // Instruction TLB 4 KiB ×32 and 4 MiB ×2; data TLB 4 KiB ×64 and 4 MiB ×8; L2 512 KiB; L1 16 KiB each.
            _ => [0x0302_0101, 0, 0, 0x0c04_0843],
        }
    }
}

/// Four letters as a register holds them.
fn text(letters: &str) -> u32 {
    letters.bytes().rev().fold(0, |word, letter| word << 8 | u32::from(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_models() {
        assert_eq!(CpuModel::from_name("pentium2"), Ok(CpuModel::Pentium2));
        assert_eq!(CpuModel::from_name("max"), Err(ModelError::NotYet("max".to_owned())));
        assert_eq!(CpuModel::from_name("z80"), Err(ModelError::Unknown("z80".to_owned())));
        for (name, ready) in CpuModel::names() {
            assert_eq!(CpuModel::from_name(name).is_ok(), ready);
        }
    }

    #[test]
    fn the_vendor_reads_genuineintel() {
        let [_, b, c, d] = CpuModel::Pentium2.cpuid(0);
        let bytes: Vec<u8> = [b, d, c].into_iter().flat_map(u32::to_le_bytes).collect();
        assert_eq!(bytes, b"GenuineIntel");
        assert_eq!(CpuModel::Pentium2.cpuid(0x8000_0000), CpuModel::Pentium2.cpuid(2));
    }
}
