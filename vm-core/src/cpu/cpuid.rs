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
    Pentium2,
    /// Pentium III (Coppermine).
    Pentium3,
    /// Pentium M (Dothan, the stepping that brought execute-disable), with RDRAND: the kernels of today wait long for
    /// randomness without it.
    #[default]
    PentiumM,
    /// The same with every other instruction that is there.
    Max,
}

/// There is no model of a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no processor called “{0}”; {list} are there", list = name_list())]
pub struct UnknownModel(String);

/// All names in a sentence.
fn name_list() -> String {
    let names: Vec<_> = CpuModel::ALL.iter().map(|model| model.name()).collect();
    let (last, others) = names.split_last().unwrap_or((&"", &[]));
    format!("{} and {last}", others.join(", "))
}

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

/// Feature bits of leaf 1, ECX.
pub mod feature_ecx {
    #![allow(missing_docs, reason = "each is named in the manual")]
    pub const SSE3: u32 = 1 << 0;
    pub const PCLMULQDQ: u32 = 1 << 1;
    pub const SSSE3: u32 = 1 << 9;
    pub const SSE4_1: u32 = 1 << 19;
    pub const SSE4_2: u32 = 1 << 20;
    pub const MOVBE: u32 = 1 << 22;
    pub const POPCNT: u32 = 1 << 23;
    pub const AES: u32 = 1 << 25;
    pub const RDRAND: u32 = 1 << 30;
}

/// Feature bits of leaf 7, EBX.
pub mod feature_7 {
    #![allow(missing_docs, reason = "each is named in the manual")]
    pub const RDSEED: u32 = 1 << 18;
    pub const SHA: u32 = 1 << 29;
}

/// Feature bits of leaf 0x80000001, EDX.
pub mod extended {
    #![allow(missing_docs, reason = "each is named in the manual")]
    pub const NX: u32 = 1 << 20;
}

impl CpuModel {
    /// All of them, the oldest first.
    pub const ALL: [Self; 6] = [Self::I486, Self::Pentium, Self::Pentium2, Self::Pentium3, Self::PentiumM, Self::Max];

    /// The model called `name`.
    ///
    /// # Errors
    /// Where there is none.
    pub fn from_name(name: &str) -> Result<Self, UnknownModel> {
        Self::ALL.into_iter().find(|model| model.name() == name).ok_or_else(|| UnknownModel(name.to_owned()))
    }

    /// The model's name, as people give it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::I486 => "486",
            Self::Pentium => "pentium",
            Self::Pentium2 => "pentium2",
            Self::Pentium3 => "pentium3",
            Self::PentiumM => "pentium-m",
            Self::Max => "max",
        }
    }

    /// What it is, for people who choose one.
    pub const fn description(self) -> &'static str {
        match self {
            Self::I486 => "486",
            Self::Pentium => "Pentium",
            Self::Pentium2 => "Pentium II (MMX, PAE)",
            Self::Pentium3 => "Pentium III (SSE)",
            Self::PentiumM => "Pentium M (SSE2, execute-disable, RDRAND)",
            Self::Max => "Pentium M with more (SSE4.2, AES, SHA, RDSEED)",
        }
    }

    /// Family, model and stepping, as CPUID leaf 1 has them in EAX and a reset has them in EDX.
    pub const fn signature(self) -> u32 {
        match self {
            Self::I486 => 0x0435,
            Self::Pentium => 0x052c,
            Self::Pentium2 => 0x0652,
            Self::Pentium3 => 0x0683,
            Self::PentiumM | Self::Max => 0x06d8,
        }
    }

    /// The 48 bytes that leaves 0x80000002 to 0x80000004 spell; empty: there are no such leaves.
    const fn brand(self) -> &'static str {
        match self {
            Self::I486 | Self::Pentium | Self::Pentium2 | Self::Pentium3 => "",
            Self::PentiumM => "Pentium M (Hako)",
            Self::Max => "Pentium M with all that Hako has",
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
            Self::Pentium3 => P6 | SSE,
            Self::PentiumM | Self::Max => P6 | SSE | SSE2 | CLFSH,
        }
    }

    /// The feature bits of leaf 1, ECX.
    pub const fn features_ecx(self) -> u32 {
        use feature_ecx::{AES, MOVBE, PCLMULQDQ, POPCNT, RDRAND, SSE3, SSE4_1, SSE4_2, SSSE3};
        match self {
            Self::I486 | Self::Pentium | Self::Pentium2 | Self::Pentium3 => 0,
            Self::PentiumM => RDRAND,
            Self::Max => SSE3 | PCLMULQDQ | SSSE3 | SSE4_1 | SSE4_2 | MOVBE | POPCNT | AES | RDRAND,
        }
    }

    /// The feature bits of leaf 7, EBX.
    pub const fn features_7(self) -> u32 {
        match self {
            Self::I486 | Self::Pentium | Self::Pentium2 | Self::Pentium3 | Self::PentiumM => 0,
            Self::Max => feature_7::RDSEED | feature_7::SHA,
        }
    }

    /// The feature bits of the extended leaf; none: there are no extended leaves.
    pub const fn extended_features(self) -> u32 {
        match self {
            Self::I486 | Self::Pentium | Self::Pentium2 | Self::Pentium3 => 0,
            Self::PentiumM | Self::Max => extended::NX,
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

    /// Whether all of these feature bits of leaf 1, ECX are there.
    const fn has_ecx(self, features: u32) -> bool {
        self.features_ecx() & features == features
    }

    /// The bits of CR4 that can be set; none: there is no CR4.
    pub const fn cr4_mask(self) -> u64 {
        match self {
            Self::I486 => 0,
            Self::Pentium => cr4::VME | cr4::PVI | cr4::TSD | cr4::DE | cr4::PSE | cr4::MCE,
            Self::Pentium2 => CR4_P6,
            Self::Pentium3 | Self::PentiumM | Self::Max => CR4_P6 | cr4::OSXMMEXCPT,
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
            F::SSE3 => self.has_ecx(feature_ecx::SSE3),
            F::SSSE3 => self.has_ecx(feature_ecx::SSSE3),
            F::SSE4_1 => self.has_ecx(feature_ecx::SSE4_1),
            F::SSE4_2 => self.has_ecx(feature_ecx::SSE4_2),
            F::AES => self.has_ecx(feature_ecx::AES),
            F::PCLMULQDQ => self.has_ecx(feature_ecx::PCLMULQDQ),
            F::SHA => self.features_7() & feature_7::SHA != 0,
            F::MOVBE => self.has_ecx(feature_ecx::MOVBE),
            F::POPCNT => self.has_ecx(feature_ecx::POPCNT),
            F::RDRAND => self.has_ecx(feature_ecx::RDRAND),
            F::RDSEED => self.features_7() & feature_7::RDSEED != 0,
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
    pub fn cpuid(self, leaf: u32, subleaf: u32) -> [u32; 4] {
        let highest = match self {
            Self::I486 | Self::Pentium => 1,
            Self::Pentium2 | Self::Pentium3 | Self::PentiumM => 2,
            Self::Max => 7,
        };
        if !self.brand().is_empty() {
            match leaf {
                0x8000_0000 => return [0x8000_0004, 0, 0, 0],
                0x8000_0001 => return [0, 0, 0, self.extended_features()],
                0x8000_0002..=0x8000_0004 => return self.brand_part(leaf - 0x8000_0002),
                _ => {}
            }
        }
        // A leaf above the highest gives the highest (Intel SDM vol. 2A, CPUID).
        match leaf.min(highest) {
            0 => [highest, text("Genu"), text("ntel"), text("ineI")],
            1 => [self.signature(), self.miscellaneous(), self.features_ecx(), self.features()],
            2 => self.descriptors(),
            4 => Self::cache(subleaf),
            7 if subleaf == 0 => [0, self.features_7(), 0, 0],
            // No serial number, no MONITOR, no thermal sensors.
            _ => [0; 4],
        }
    }

    /// Leaf 1, EBX: the brand index (SDM vol. 2A, table 3-14), and the lines of 64 bytes on which CLFLUSH works.
    const fn miscellaneous(self) -> u32 {
        match self {
            Self::I486 | Self::Pentium | Self::Pentium2 => 0,
            Self::Pentium3 => 0x02,
            Self::PentiumM | Self::Max => 8 << 8 | 0x16,
        }
    }

    /// Leaf 2: TLBs and caches, a byte each (SDM vol. 2A, table 3-12).
    const fn descriptors(self) -> [u32; 4] {
        match self {
            // Neither has the leaf.
            Self::I486 | Self::Pentium => [0; 4],
            // Instruction TLB 4 KiB ×32 and 4 MiB ×2; data TLB 4 KiB ×64 and 4 MiB ×8; L2 512 KiB; L1 16 KiB each.
            Self::Pentium2 => [0x0302_0101, 0, 0, 0x0c04_0843],
            // The same with 256 KiB of L2.
            Self::Pentium3 => [0x0302_0101, 0, 0, 0x0c04_0882],
            // TLBs 4 KiB ×128 each and 4 MiB ×2 and ×8; 64-byte prefetching; L2 2 MiB; L1 32 KiB each.
            Self::PentiumM | Self::Max => [0x02b3_b001, 0xf0, 0, 0x2c04_307d],
        }
    }

    /// Leaf 4: the same caches.
    const fn cache(number: u32) -> [u32; 4] {
        // Eight ways, one partition, lines of 64 bytes.
        const SHAPE: u32 = 7 << 22 | 63;
        match number {
            0 => [1 << 8 | 1 << 5 | 1, SHAPE, 63, 0],
            1 => [1 << 8 | 1 << 5 | 2, SHAPE, 63, 0],
            2 => [1 << 8 | 2 << 5 | 3, SHAPE, 4095, 0],
            _ => [0; 4],
        }
    }

    /// 16 bytes of the brand.
    fn brand_part(self, part: u32) -> [u32; 4] {
        let mut bytes = [0; 48];
        let brand = self.brand().as_bytes();
        bytes[..brand.len()].copy_from_slice(brand);
        let word = |n: u32| {
            let at = (16 * part + 4 * n) as usize;
            bytes[at..at + 4].iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte))
        };
        [word(0), word(1), word(2), word(3)]
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
        for model in CpuModel::ALL {
            assert_eq!(CpuModel::from_name(model.name()), Ok(model));
        }
        let error = CpuModel::from_name("z80").map_err(|error| error.to_string());
        let text = "there is no processor called “z80”; 486, pentium, pentium2, pentium3, pentium-m and max are there";
        assert_eq!(error, Err(text.to_owned()));
    }

    fn letters(words: impl IntoIterator<Item = u32>) -> Vec<u8> {
        words.into_iter().flat_map(u32::to_le_bytes).collect()
    }

    #[test]
    fn the_vendor_reads_genuineintel() {
        for model in CpuModel::ALL {
            let [_, b, c, d] = model.cpuid(0, 0);
            assert_eq!(letters([b, d, c]), b"GenuineIntel");
        }
        assert_eq!(CpuModel::Pentium2.cpuid(0x8000_0000, 0), CpuModel::Pentium2.cpuid(2, 0));
    }

    #[test]
    fn the_brand_fills_three_leaves() {
        assert_eq!(CpuModel::PentiumM.cpuid(0x8000_0000, 0)[0], 0x8000_0004);
        for model in [CpuModel::PentiumM, CpuModel::Max] {
            let text = letters((0x8000_0002..=0x8000_0004).flat_map(|leaf| model.cpuid(leaf, 0)));
            assert_eq!(text[..model.brand().len()], *model.brand().as_bytes());
            assert!(model.brand().len() < 48 && text[model.brand().len()..].iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn a_model_has_all_that_older_ones_have() {
        for pair in CpuModel::ALL.windows(2) {
            let (older, newer) = (pair[0], pair[1]);
            assert!(newer.has(older.features()), "{older:?} and {newer:?}");
            assert_eq!(newer.features_ecx() & older.features_ecx(), older.features_ecx());
            assert_eq!(newer.cr4_mask() & older.cr4_mask(), older.cr4_mask());
            assert_eq!(newer.mxcsr_mask() & older.mxcsr_mask(), older.mxcsr_mask());
        }
    }

    #[test]
    fn caches_are_as_large_in_both_leaves() {
        let size = |n| {
            let [_, b, c, _] = CpuModel::Max.cpuid(4, n);
            ((b >> 22) + 1) * ((b & 0xfff) + 1) * (c + 1)
        };
        assert_eq!([size(0), size(1), size(2)], [32 << 10, 32 << 10, 2 << 20]);
        assert_eq!(CpuModel::Max.cpuid(4, 3), [0; 4]);
        assert_eq!(CpuModel::Max.cpuid(7, 1), [0; 4]);
        assert_eq!(CpuModel::Max.cpuid(9, 0), CpuModel::Max.cpuid(7, 0));
    }
}
