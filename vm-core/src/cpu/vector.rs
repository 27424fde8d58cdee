//! MMX, SSE and SSE2: what vector instructions compute (Intel SDM vol. 1, chapters 9 to 11).
//!
//! [`ops`] are operations on whole numbers and bits, on 128 bits each; an MMX register is the lower half of its operand.

pub mod ops;

use super::Cpu;
use super::cpuid::feature;
use super::fault::{Fault, Vector};
use super::state::{cr0, cr4};

/// Bits of MXCSR.
pub mod mxcsr {
    /// Sticky exception flags, in the order of the x87's status word.
    pub const FLAGS: u32 = 0x3f;
    /// Denormal operands count as zeros.
    pub const DAZ: u32 = 1 << 6;
    /// The exceptions' masks, in the same order.
    pub const MASKS: u32 = 0x3f << 7;
    /// How far the masks are from the flags.
    pub const MASK_SHIFT: u32 = 7;
    /// Rounding control: two bits.
    pub const RC_SHIFT: u32 = 13;
    /// Tiny results become zeros.
    pub const FTZ: u32 = 1 << 15;
    /// After reset: all exceptions are masked.
    pub const RESET: u32 = 0x1f80;
}

impl Cpu {
    /// The bits of MXCSR that can be set.
    pub fn mxcsr_mask(&self) -> u32 {
        self.model.mxcsr_mask()
    }

    /// Whether SSE instructions may run now.
    ///
    /// # Errors
    /// #UD where CR0.EM or CR4.OSFXSR forbids them, #NM where CR0.TS does.
    pub fn sse_available(&self) -> Result<(), Fault> {
        if self.state.cr[0] & cr0::EM != 0 || self.state.cr[4] & cr4::OSFXSR == 0 {
            return Err(Fault::ud());
        }
        if self.state.cr[0] & cr0::TS != 0 {
            return Err(Fault::new(Vector::DeviceNotAvailable));
        }
        Ok(())
    }

    /// Whether MMX instructions may run now, as far as CR0 says.
    ///
    /// # Errors
    /// #UD where CR0.EM forbids them, #NM where CR0.TS does.
    pub fn mmx_available(&self) -> Result<(), Fault> {
        if self.state.cr[0] & cr0::EM != 0 {
            return Err(Fault::ud());
        }
        if self.state.cr[0] & cr0::TS != 0 {
            return Err(Fault::new(Vector::DeviceNotAvailable));
        }
        Ok(())
    }

    /// Whether the model has XMM registers.
    pub fn has_sse(&self) -> bool {
        self.model.has(feature::SSE)
    }
}
