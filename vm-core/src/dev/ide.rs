//! IDE channel: the register blocks that two drives share, and the PCI function in front of two channels.
//!
//! ATA/ATAPI-6 (T13/1410D), 5.2 and 7: registers; 9.2: resets. Intel PIIX4 (290562-001), 4: the PCI function and its bus masters.
//!
//! | block | offset | read | write |
//! |---|---|---|---|
//! | command | 0 | data (16 or 32 bits) | data |
//! | | 1 | error | features |
//! | | 2 | sector count; ATAPI: interrupt reason | sector count |
//! | | 3 | LBA low, sector number | the same |
//! | | 4 | LBA mid, cylinder low; ATAPI: byte count low | the same |
//! | | 5 | LBA high, cylinder high; ATAPI: byte count high | the same |
//! | | 6 | device: LBA, drive, head | the same |
//! | | 7 | status (takes the interrupt back) | command |
//! | control | 2 | alternate status | device control: HOB, SRST, nIEN |
//!
//! Data moves through the data port (PIO), or by the channel's bus master (DMA).

pub mod ata;
pub mod atapi;
mod buffer;
pub mod bus_master;
mod channel;
mod function;
mod task_file;
#[cfg(test)]
mod tests;
mod transfer_mode;

pub use atapi::Tray;
pub use bus_master::MasterEnable;
pub use channel::IdeChannel;
pub use function::PciIde;

/// Bits of the status register.
pub mod status {
    /// The drive is busy; no other bit counts.
    pub const BSY: u8 = 0x80;
    /// The drive takes commands.
    pub const DRDY: u8 = 0x40;
    /// Device fault.
    pub const DF: u8 = 0x20;
    /// Seek complete; ATAPI: service.
    pub const DSC: u8 = 0x10;
    /// Data can be moved.
    pub const DRQ: u8 = 0x08;
    /// The error register says more; ATAPI: check condition.
    pub const ERR: u8 = 0x01;
}

/// Bits of the error register.
pub mod error {
    /// Uncorrectable data.
    pub const UNC: u8 = 0x40;
    /// No such address.
    pub const IDNF: u8 = 0x10;
    /// The command was aborted.
    pub const ABRT: u8 = 0x04;
}

/// Device register, bit 6: addresses are LBA.
pub const DEVICE_LBA: u8 = 0x40;
/// Device register, bit 4: the second drive.
pub const DEVICE_1: u8 = 0x10;

const CONTROL_HOB: u8 = 0x80;
const CONTROL_SRST: u8 = 0x04;
const CONTROL_NIEN: u8 = 0x02;

const EXECUTE_DIAGNOSTIC: u8 = 0x90;

/// What a channel without drives reads as: DD7 is pulled down (ATA/ATAPI-6, 6.1).
const FLOATING: u8 = 0x7f;

/// Most bytes that a drive's buffer holds: 256 sectors.
pub const BUFFER: usize = 256 * 512;

/// Writes `text`, filled up with spaces, the first letter of each pair in the high byte.
fn put_text(words: &mut [u16], text: &str) {
    let mut letters = text.bytes().chain(std::iter::repeat(b' '));
    for word in words {
        let first = letters.next().unwrap_or(b' ');
        *word = u16::from(first) << 8 | u16::from(letters.next().unwrap_or(b' '));
    }
}
