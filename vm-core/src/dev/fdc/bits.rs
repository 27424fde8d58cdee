//! Bits of the registers, by the names of the data sheet (82077AA, 2.1 and 6), and of commands (5).

/// DOR: clear while the chip is held in reset.
pub const DOR_RESET: u8 = 0x04;
/// DOR: the interrupt and DMA pins are driven.
pub const DOR_DMA: u8 = 0x08;
/// DSR: a reset that ends by itself.
pub const DSR_RESET: u8 = 0x80;

/// MSR: the FIFO may be used.
pub const MSR_RQM: u8 = 0x80;
/// MSR: it is to be read.
pub const MSR_DIO: u8 = 0x40;
/// MSR: data goes through the FIFO.
pub const MSR_NON_DMA: u8 = 0x20;
/// MSR: a command is under way.
pub const MSR_BUSY: u8 = 0x10;

/// ST0: the command did not end well.
pub const ST0_ABNORMAL: u8 = 0x40;
/// ST0: there is no such command.
pub const ST0_INVALID: u8 = 0x80;
/// ST0: a seek has ended.
pub const ST0_SEEK_END: u8 = 0x20;
/// ST0: track 0 did not show.
pub const ST0_EQUIPMENT: u8 = 0x10;
/// ST1: the end of the cylinder came before the end of the count.
pub const ST1_END: u8 = 0x80;
/// ST1: a wrong check sum.
pub const ST1_DATA: u8 = 0x20;
/// ST1: the host was too slow.
pub const ST1_OVERRUN: u8 = 0x10;
/// ST1: no such sector.
pub const ST1_NO_DATA: u8 = 0x04;
/// ST1: write-protected.
pub const ST1_NOT_WRITABLE: u8 = 0x02;
/// ST1: no address mark.
pub const ST1_NO_MARK: u8 = 0x01;
/// ST2: the mark is of the other kind.
pub const ST2_CONTROL_MARK: u8 = 0x40;
/// ST2: the wrong check sum is that of the data.
pub const ST2_DATA: u8 = 0x20;
/// ST2: the track says that it is another cylinder's.
pub const ST2_WRONG_CYLINDER: u8 = 0x10;
/// ST3: write-protected.
pub const ST3_PROTECTED: u8 = 0x40;
/// ST3: always set.
pub const ST3_READY: u8 = 0x20;
/// ST3: the head is at track 0.
pub const ST3_TRACK_0: u8 = 0x10;
/// ST3: always set.
pub const ST3_TWO_SIDES: u8 = 0x08;

/// CONFIGURE: transfers seek by themselves.
pub const CONFIGURE_IMPLIED_SEEK: u8 = 0x40;
/// CONFIGURE after a reset: FIFO off, polling on.
pub const CONFIGURE_DEFAULT: u8 = 0x20;

/// Commands: go on at the second side.
pub const MULTI_TRACK: u8 = 0x80;
/// Commands: double density.
pub const MFM: u8 = 0x40;
