//! Memory type range registers and the page attribute table (Intel SDM vol. 3A, 11.11 and 11.12). They read and write as they
//! should; memory here is never cached, so that no type makes a difference.

use serde::{Deserialize, Serialize};

/// `IA32_MTRRCAP`.
pub const CAP: u32 = 0xfe;
/// `IA32_MTRR_DEF_TYPE`.
pub const DEF_TYPE: u32 = 0x2ff;
/// `IA32_PAT`.
pub const PAT: u32 = 0x277;
/// First of the pairs `IA32_MTRR_PHYSBASEn` and `IA32_MTRR_PHYSMASKn`.
const VARIABLE: u32 = 0x200;
/// Pairs.
const PAIRS: usize = 8;
/// The registers of the first megabyte.
const FIXED: [u32; 11] = [0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f];

/// Eight pairs (bits 0–7), fixed ranges (8), write combining (10).
const CAPABILITIES: u64 = PAIRS as u64 | 1 << 8 | 1 << 10;
/// Bits above the physical address.
const TOO_HIGH: u64 = !((1 << 36) - 1);
/// Reserved bits of `PHYSBASE`, of `PHYSMASK` and of `DEF_TYPE`.
const BASE_RESERVED: u64 = TOO_HIGH | 0xf00;
const MASK_RESERVED: u64 = TOO_HIGH | 0x7ff;
const DEFAULT_RESERVED: u64 = !0xcff;

/// The registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mtrrs {
    base: [u64; PAIRS],
    mask: [u64; PAIRS],
    fixed: [u64; 11],
    default_type: u64,
    pat: u64,
}

impl Default for Mtrrs {
    fn default() -> Self {
        Self { base: [0; PAIRS], mask: [0; PAIRS], fixed: [0; 11], default_type: 0, pat: 0x0007_0406_0007_0406 }
    }
}

/// Whether a memory type exists: UC, WC, WT, WP, WB.
const fn is_type(value: u64) -> bool {
    matches!(value & 0xff, 0 | 1 | 4 | 5 | 6)
}

/// Whether all eight bytes are what `check` allows.
fn all_bytes(value: u64, check: impl Fn(u64) -> bool) -> bool {
    value.to_le_bytes().into_iter().all(|byte| check(u64::from(byte)))
}

impl Mtrrs {
    /// What `number` reads; `None`: it is none of these.
    pub fn read(&self, number: u32) -> Option<u64> {
        match number {
            CAP => Some(CAPABILITIES),
            DEF_TYPE => Some(self.default_type),
            PAT => Some(self.pat),
            _ => self.clone().slot(number).map(|slot| *slot),
        }
    }

    /// Writes; false: it is none of these, it is read-only, or a reserved bit or memory type is in `value`.
    pub fn write(&mut self, number: u32, value: u64) -> bool {
        let allowed = match number {
            DEF_TYPE => value & DEFAULT_RESERVED == 0 && is_type(value),
            PAT => all_bytes(value, |byte| byte == 7 || is_type(byte)),
            VARIABLE..0x210 if number & 1 == 0 => value & BASE_RESERVED == 0 && is_type(value),
            VARIABLE..0x210 => value & MASK_RESERVED == 0,
            _ => all_bytes(value, is_type),
        };
        if !allowed {
            return false;
        }
        match (number, self.slot(number)) {
            (DEF_TYPE, _) => self.default_type = value,
            (PAT, _) => self.pat = value,
            (_, Some(slot)) => *slot = value,
            (_, None) => return false,
        }
        true
    }

    /// A variable or fixed range's register.
    fn slot(&mut self, number: u32) -> Option<&mut u64> {
        if let Some(offset) = number.checked_sub(VARIABLE).filter(|&offset| offset < 2 * PAIRS as u32) {
            let pair = offset as usize / 2;
            return if offset & 1 == 0 { self.base.get_mut(pair) } else { self.mask.get_mut(pair) };
        }
        FIXED.iter().position(|&fixed| fixed == number).map(|index| &mut self.fixed[index])
    }

    /// Whether a saved state's registers hold what they can hold.
    pub fn is_possible(&self) -> bool {
        let mut other = *self;
        let numbers = (VARIABLE..0x210).chain(FIXED).chain([DEF_TYPE, PAT]);
        numbers.into_iter().all(|number| self.read(number).is_some_and(|value| other.write(number, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_bits_and_types_are_refused() {
        let mut mtrrs = Mtrrs::default();
        for (number, value, allowed) in [
            (0x200, 0xf_ffff_f006, true),
            (0x200, 0x10_0000_0006, false),
            (0x200, 0x0000_0106, false),
            (0x200, 0x0000_0002, false),
            (0x201, 0xf_8000_0800, true),
            (0x201, 0xf_8000_0801, false),
            (0x20f, 0x0000_0800, true),
            (0x210, 0, false),
            (0x250, 0x0606_0606_0606_0606, true),
            (0x26f, 0x0606_0603_0606_0606, false),
            (0x251, 0, false),
            (DEF_TYPE, 0xc06, true),
            (DEF_TYPE, 0x306, false),
            (DEF_TYPE, 0x7, false),
            (PAT, 0x0007_0501_0007_0406, true),
            (PAT, 0x0002_0000_0000_0000, false),
            (CAP, 0x508, false),
        ] {
            let before = mtrrs;
            assert_eq!(mtrrs.write(number, value), allowed, "{value:#x} to {number:#x}");
            if allowed {
                assert_eq!(mtrrs.read(number), Some(value));
            } else {
                assert_eq!(mtrrs, before);
            }
        }
        assert_eq!(mtrrs.read(CAP), Some(0x508));
        assert_eq!(mtrrs.read(0x2fe), None);
        assert!(mtrrs.is_possible());
        mtrrs.mask[3] = 1;
        assert!(!mtrrs.is_possible());
    }
}
