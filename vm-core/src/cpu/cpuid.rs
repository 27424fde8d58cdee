//! Processor models and what CPUID says of them.

/// A processor model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CpuModel {
    /// Intel 486DX2: no CMOV, no TSC.
    I486,
    /// Pentium (P54C).
    Pentium,
    /// Pentium II (Deschutes) without MMX and FXSR as yet.
    #[default]
    Pentium2,
}

impl CpuModel {
    /// Family, model and stepping, as CPUID leaf 1 has them in EAX and a reset has them in EDX.
    pub const fn signature(self) -> u32 {
        match self {
            Self::I486 => 0x0435,
            Self::Pentium => 0x052c,
            Self::Pentium2 => 0x0652,
        }
    }
}
