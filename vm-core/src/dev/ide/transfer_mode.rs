//! The transfer mode that SET FEATURES chooses.
//!
//! ATA/ATAPI-6 (T13/1410D), 8.46.8 (table 45) and 8.15 (words 63 and 88).

use serde::{Deserialize, Serialize};

/// The DMA mode in use, as SET FEATURES names it; 0: none has been chosen. PIO modes leave it alone.
///
/// It is shown and changes nothing: data moves as fast as it can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferMode(u8);

const MULTIWORD: u8 = 0x20;
const ULTRA: u8 = 0x40;
/// Modes 0–2 of each kind. The cable has 40 wires and the channel goes up to Ultra DMA 2 (33 MB/s).
const MODES: u16 = 0x0007;

impl TransferMode {
    /// Takes the sector count register of SET FEATURES, subcommand 0x03. False: the drive has no such mode.
    pub fn select(&mut self, count: u8) -> bool {
        match count {
            // PIO default, without and with IORDY; PIO with flow control, up to mode 4.
            0x00 | 0x01 | 0x08..=0x0c => true,
            0x20..=0x22 | 0x40..=0x42 => {
                self.0 = count;
                true
            }
            _ => false,
        }
    }

    /// Whether a drive can be in this mode.
    pub fn is_valid(self) -> bool {
        matches!(self.0, 0 | 0x20..=0x22 | 0x40..=0x42)
    }

    /// Word 63 of the identification: multiword DMA.
    pub fn multiword(self) -> u16 {
        self.word(MULTIWORD)
    }

    /// Word 88 of the identification: Ultra DMA.
    pub fn ultra(self) -> u16 {
        self.word(ULTRA)
    }

    fn word(self, kind: u8) -> u16 {
        if self.0 & !7 == kind { MODES | 0x0100 << (self.0 & 7) } else { MODES }
    }
}
