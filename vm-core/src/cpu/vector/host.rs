//! The host's own SSE unit, on x86-64.
//!
//! Handlers compute with the host's MXCSR as Rust wants it: as after reset. Where the guest's MXCSR has the same rounding
//! and masks, that is right, and the exceptions gather in the host's flags. Reading them costs more than ten operations
//! (`stmxcsr` waits for all that came before), so they are read when somebody wants to know: see [`Cpu::settle_floats`].

use super::mxcsr;
use crate::cpu::Cpu;

/// MXCSR as Rust wants it.
#[cfg(target_arch = "x86_64")]
pub static USUAL: u32 = mxcsr::RESET;

/// A register's contents as the compiler wants them for a vector register.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub fn vector(value: u128) -> std::arch::x86_64::__m128i {
    // SAFETY: both have 16 bytes, and any bytes are valid for both.
    unsafe { std::mem::transmute(value) }
}

/// And back.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub fn number(value: std::arch::x86_64::__m128i) -> u128 {
    // SAFETY: as above.
    unsafe { std::mem::transmute(value) }
}

/// Clears the flags of the host's MXCSR.
#[inline(always)]
fn clear_flags() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the value is the one that Rust wants; what has gathered in the flags is nobody's.
    unsafe {
        std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const USUAL, options(readonly, nostack));
    }
}

/// The flags of the host's MXCSR.
#[inline(always)]
fn flags() -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        let mut now = 0_u32;
        // SAFETY: it writes these four bytes.
        unsafe {
            std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut now, options(nostack));
        }
        now & mxcsr::FLAGS
    }
    #[cfg(not(target_arch = "x86_64"))]
    0
}

impl Cpu {
    /// Whether the host's flags may gather the guest's exceptions from now on.
    pub(in crate::cpu) fn lend_floats(&mut self) -> bool {
        let usual = self.state.mxcsr & !mxcsr::FLAGS == mxcsr::RESET;
        if usual {
            clear_flags();
            self.floats_lent = true;
        }
        usual
    }

    /// Puts what has gathered in the host's flags into MXCSR: before anybody looks at it, and before anything else might
    /// compute with floating point (a helper, a device).
    #[inline(always)]
    pub(in crate::cpu) fn settle_floats(&mut self) {
        if self.floats_lent {
            self.floats_lent = false;
            self.state.mxcsr |= flags();
        }
    }
}
