//! Machine-check architecture (Intel SDM vol. 3B, 15.3): five banks as the P6 family has them, in which nothing is ever wrong.

use serde::{Deserialize, Serialize};

const MCG_CAP: u32 = 0x179;
const MCG_STATUS: u32 = 0x17a;
const MCG_CTL: u32 = 0x17b;
/// `IA32_MC0_CTL`; STATUS, ADDR and MISC follow, then the next bank.
const BANKS: u32 = 0x400;
const COUNT: usize = 5;

/// The number of banks, and that there is `IA32_MCG_CTL`.
const CAPABILITIES: u64 = COUNT as u64 | 1 << 8;
/// RIPV, EIPV, MCIP.
const STATUS_BITS: u64 = 7;

/// The registers that hold anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineCheck {
    status: u64,
    control: u64,
    banks: [u64; COUNT],
}

/// Bank and register of a number.
fn bank(number: u32) -> Option<(usize, u32)> {
    let offset = number.checked_sub(BANKS)?;
    Some((offset as usize / 4, offset % 4)).filter(|&(bank, _)| bank < COUNT)
}

impl MachineCheck {
    /// What `number` reads; `None`: there is no such register. No bank has MISC.
    pub fn read(&self, number: u32) -> Option<u64> {
        match (number, bank(number)) {
            (MCG_CAP, _) => Some(CAPABILITIES),
            (MCG_STATUS, _) => Some(self.status),
            (MCG_CTL, _) => Some(self.control),
            (_, Some((bank, 0))) => Some(self.banks[bank]),
            (_, Some((_, 1 | 2))) => Some(0),
            _ => None,
        }
    }

    /// Writes; false: there is no such register, it is read-only, or `value` is not allowed. STATUS and ADDR take zero only.
    pub fn write(&mut self, number: u32, value: u64) -> bool {
        match (number, bank(number)) {
            (MCG_STATUS, _) if value & !STATUS_BITS == 0 => self.status = value,
            (MCG_CTL, _) => self.control = value,
            (_, Some((bank, 0))) => self.banks[bank] = value,
            (_, Some((_, 1 | 2))) => return value == 0,
            _ => return false,
        }
        true
    }

    /// Whether a saved state's registers hold what they can hold.
    pub fn is_possible(&self) -> bool {
        self.status & !STATUS_BITS == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banks_read_empty_and_can_be_cleared() {
        let mut mca = MachineCheck::default();
        assert_eq!(mca.read(MCG_CAP), Some(0x105));
        assert!(!mca.write(MCG_CAP, 0x105) && !mca.write(MCG_STATUS, 8));
        assert!(mca.write(MCG_CTL, u64::MAX) && mca.write(0x410, u64::MAX));
        assert_eq!((mca.read(MCG_CTL), mca.read(0x410), mca.read(0x40c)), (Some(u64::MAX), Some(u64::MAX), Some(0)));
        assert!(mca.write(0x401, 0) && !mca.write(0x401, 1) && !mca.write(0x402, 1));
        assert_eq!((mca.read(0x401), mca.read(0x403), mca.read(0x414)), (Some(0), None, None));
    }
}
