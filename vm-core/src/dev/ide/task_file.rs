//! The registers of one drive.

use serde::{Deserialize, Serialize};

use super::DEVICE_1;

/// The registers of one drive. 16-bit ones keep the value written before in their high half (ATA/ATAPI-6, 6.20).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFile {
    /// Status.
    pub status: u8,
    /// Error.
    pub error: u8,
    /// Features.
    pub features: u16,
    /// Sector count.
    pub count: u16,
    /// LBA low.
    pub low: u16,
    /// LBA mid.
    pub mid: u16,
    /// LBA high.
    pub high: u16,
    /// Device.
    pub device: u8,
    /// The drive wants an interrupt.
    pub interrupt: bool,
}

impl TaskFile {
    /// Reads register `offset` (1–7), or what was written to it before the last write.
    pub fn read(&self, offset: u16, previous: bool) -> u8 {
        let half = |value: u16| if previous { (value >> 8) as u8 } else { value as u8 };
        match offset {
            1 => self.error,
            2 => half(self.count),
            3 => half(self.low),
            4 => half(self.mid),
            5 => half(self.high),
            6 => self.device | 0xa0,
            _ => self.status,
        }
    }

    /// Writes register `offset` (1–6).
    pub fn write(&mut self, offset: u16, value: u8) {
        let push = |register: &mut u16| *register = *register << 8 | u16::from(value);
        match offset {
            1 => push(&mut self.features),
            2 => push(&mut self.count),
            3 => push(&mut self.low),
            4 => push(&mut self.mid),
            5 => push(&mut self.high),
            _ => self.device = value,
        }
    }

    /// Puts the signature of a kind of drive into the registers (ATA/ATAPI-6, 9.12).
    pub fn sign(&mut self, mid: u8, high: u8) {
        self.count = 1;
        self.low = 1;
        self.mid = u16::from(mid);
        self.high = u16::from(high);
        self.device &= DEVICE_1;
    }
}
