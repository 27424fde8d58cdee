//! The transcendental functions by the x87 of an x86-64 host: what silicon says, on every engine alike, as long as all exceptions are
//! masked. Processors differ among themselves in the last bits here; elsewhere `fpu::transcendental` computes.

use iced_x86::Mnemonic;

use crate::cpu::fpu::Fpu;

/// Executes an instruction of these on registers, tags and status; false: the caller is to compute it.
#[cfg(target_arch = "x86_64")]
pub(super) fn transcendental(fpu: &mut Fpu, which: Mnemonic) -> bool {
    use crate::cpu::fpu::bits::EXCEPTIONS;
    use crate::cpu::fpu::picture::Picture;

    macro_rules! host {
        ($instruction:literal) => {{
            let mut picture = Picture::default();
            picture.draw(fpu);
            // SAFETY: the picture has room for what FXSAVE writes and is aligned; the x87 is left empty, as functions want it.
            unsafe {
                std::arch::asm!(
                    "frstor [{picture}]", $instruction, "fxsave [{picture}]", "fninit",
                    picture = in(reg) picture.pointer(),
                    out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                    out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
                    options(nostack)
                );
            }
            picture.read(fpu);
        }};
    }
    if !fpu.masked(EXCEPTIONS) || fpu.pending() {
        return false;
    }
    match which {
        Mnemonic::F2xm1 => host!("f2xm1"),
        Mnemonic::Fyl2x => host!("fyl2x"),
        Mnemonic::Fyl2xp1 => host!("fyl2xp1"),
        Mnemonic::Fptan => host!("fptan"),
        Mnemonic::Fpatan => host!("fpatan"),
        Mnemonic::Fsin => host!("fsin"),
        Mnemonic::Fcos => host!("fcos"),
        Mnemonic::Fsincos => host!("fsincos"),
        _ => return false,
    }
    true
}

/// This host has no x87.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn transcendental(_: &mut Fpu, _: Mnemonic) -> bool {
    false
}
