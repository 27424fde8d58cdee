//! MMX, SSE to SSE4.2, AES and SHA: what vector instructions compute (Intel SDM vol. 1, chapters 9 to 12).
//!
//! [`ops`] are operations on whole numbers and bits, [`float`] those on single and double precision numbers, which look
//! at MXCSR and may raise an exception. All work on 128 bits; an MMX register is the lower half of its operand.
//! [`soft`] computes floating point without the host's help; `host` lets an x86-64 host do it.

mod approximate;
pub mod cipher;
pub mod float;
mod host;
mod lanes;
pub mod ops;
pub mod soft;

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

    /// MXCSR takes in what an operation has raised.
    ///
    /// # Errors
    /// Where one of that is not masked: #XM, or #UD where the system has not said that it knows of #XM.
    pub fn raise_floats(&mut self, flags: u32, faults: bool) -> Result<(), Fault> {
        self.state.mxcsr |= flags;
        if !faults {
            return Ok(());
        }
        let known = self.state.cr[4] & cr4::OSXMMEXCPT != 0;
        Err(if known { Fault::new(Vector::SimdFloatingPoint) } else { Fault::ud() })
    }

    /// Whether the model has XMM registers.
    pub fn has_sse(&self) -> bool {
        self.model.has(feature::SSE)
    }
}
