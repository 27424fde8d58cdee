//! Why a packet failed.

use serde::{Deserialize, Serialize};

/// Why a command failed: sense key, additional sense code and its qualifier (SPC-2, 7.20).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sense {
    /// Sense key.
    pub key: u8,
    /// Additional sense code.
    pub asc: u8,
    /// Its qualifier.
    pub ascq: u8,
}

impl Sense {
    /// Nothing is wrong.
    pub const NONE: Self = Self { key: 0, asc: 0x00, ascq: 0 };
    /// No disc; the tray is closed.
    pub const NO_MEDIUM: Self = Self { key: 2, asc: 0x3a, ascq: 1 };
    /// No disc: the tray is open.
    pub const TRAY_OPEN: Self = Self { key: 2, asc: 0x3a, ascq: 2 };
    /// A bad sector.
    pub const UNREADABLE: Self = Self { key: 3, asc: 0x11, ascq: 0 };
    /// No such command.
    pub const INVALID_OPCODE: Self = Self { key: 5, asc: 0x20, ascq: 0 };
    /// No such block.
    pub const OUT_OF_RANGE: Self = Self { key: 5, asc: 0x21, ascq: 0 };
    /// Something in the packet.
    pub const INVALID_FIELD: Self = Self { key: 5, asc: 0x24, ascq: 0 };
    /// Something in the data that follows it.
    pub const INVALID_PARAMETER: Self = Self { key: 5, asc: 0x26, ascq: 0 };
    /// The disc is of another kind.
    pub const WRONG_MEDIUM: Self = Self { key: 5, asc: 0x30, ascq: 2 };
    /// Mode pages cannot be saved.
    pub const SAVING_PAGES: Self = Self { key: 5, asc: 0x39, ascq: 0 };
    /// The tray is locked.
    pub const LOCKED: Self = Self { key: 5, asc: 0x53, ascq: 2 };
    /// The track is of another mode.
    pub const WRONG_MODE: Self = Self { key: 5, asc: 0x64, ascq: 0 };
    /// Another disc may have come.
    pub const MEDIUM_CHANGED: Self = Self { key: 6, asc: 0x28, ascq: 0 };
    /// Power has come, or a reset.
    pub const RESET: Self = Self { key: 6, asc: 0x29, ascq: 0 };
}
