//! 256 bits, one a vector.

use serde::{Deserialize, Serialize};

/// The IRR, ISR or TMR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bits([u32; 8]);

impl Bits {
    pub fn has(&self, vector: u8) -> bool {
        self.0[usize::from(vector >> 5)] >> (vector & 31) & 1 != 0
    }

    pub fn set(&mut self, vector: u8) {
        self.0[usize::from(vector >> 5)] |= 1 << (vector & 31);
    }

    pub fn clear(&mut self, vector: u8) {
        self.0[usize::from(vector >> 5)] &= !(1 << (vector & 31));
    }

    /// Vectors 32 × `number` and up.
    pub fn word(&self, number: usize) -> u32 {
        self.0[number & 7]
    }

    /// The highest vector that is set.
    pub fn highest(&self) -> Option<u8> {
        let (word, bits) = self.0.iter().enumerate().rev().find(|(_, bits)| **bits != 0)?;
        Some((32 * word as u32 + 31 - bits.leading_zeros()) as u8)
    }
}
