//! The x87's registers as instructions of an x86 host load and store them.

use super::Fpu;
use super::float::F80;

/// What FXSAVE writes (Intel SDM vol. 1, table 10-2), or FRSTOR reads (vol. 1, figure 8-9).
#[derive(Debug)]
#[repr(C, align(16))]
pub struct Picture([u8; 512]);

impl Default for Picture {
    fn default() -> Self {
        Self([0; 512])
    }
}

/// Where the registers begin for FXSAVE, and bytes from one to the next; the same for FRSTOR.
const SAVED: (usize, usize) = (32, 16);
const RESTORED: (usize, usize) = (28, 10);

impl Picture {
    /// Where it is.
    pub fn pointer(&mut self) -> *mut u8 {
        self.0.as_mut_ptr()
    }

    fn word(&mut self, at: usize, value: u16) {
        self.0[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    /// For FRSTOR.
    pub fn draw(&mut self, fpu: &Fpu) {
        self.0[..RESTORED.0].fill(0);
        self.word(0, fpu.control);
        self.word(4, fpu.status_word());
        let tags = (0..8).fold(0, |tags, i| tags | if fpu.valid >> i & 1 == 0 { 3 << (2 * i) } else { 0 });
        self.word(8, tags);
        for i in 0..8 {
            let F80 { significand, sign_exponent } = fpu.get(i);
            let at = RESTORED.0 + RESTORED.1 * usize::from(i);
            self.0[at..at + 8].copy_from_slice(&significand.to_le_bytes());
            self.word(at + 8, sign_exponent);
        }
    }

    /// After FXSAVE.
    pub fn read(&self, fpu: &mut Fpu) {
        let word = |at: usize| u16::from_le_bytes([self.0[at], self.0[at + 1]]);
        fpu.set_status_word(word(2));
        fpu.valid = self.0[4];
        for i in 0..8 {
            let at = SAVED.0 + SAVED.1 * usize::from(i);
            let mut significand = [0; 8];
            significand.copy_from_slice(&self.0[at..at + 8]);
            let number = F80 { significand: u64::from_le_bytes(significand), sign_exponent: word(at + 8) };
            let index = fpu.index(i);
            fpu.registers[index] = number;
        }
    }
}
