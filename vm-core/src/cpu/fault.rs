//! Exceptions: what an instruction raises.

/// Exception vectors (Intel SDM vol. 3A, 6.15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "each is named in the manual")]
pub enum Vector {
    DivideError = 0,
    Debug = 1,
    Breakpoint = 3,
    Overflow = 4,
    BoundRange = 5,
    InvalidOpcode = 6,
    DeviceNotAvailable = 7,
    DoubleFault = 8,
    InvalidTss = 10,
    SegmentNotPresent = 11,
    StackFault = 12,
    GeneralProtection = 13,
    PageFault = 14,
    FloatingPoint = 16,
    AlignmentCheck = 17,
    MachineCheck = 18,
    SimdFloatingPoint = 19,
}

impl Vector {
    /// Whether an error code is pushed.
    pub const fn has_error_code(self) -> bool {
        match self {
            Self::DoubleFault
            | Self::InvalidTss
            | Self::SegmentNotPresent
            | Self::StackFault
            | Self::GeneralProtection
            | Self::PageFault
            | Self::AlignmentCheck => true,
            Self::DivideError
            | Self::Debug
            | Self::Breakpoint
            | Self::Overflow
            | Self::BoundRange
            | Self::InvalidOpcode
            | Self::DeviceNotAvailable
            | Self::FloatingPoint
            | Self::MachineCheck
            | Self::SimdFloatingPoint => false,
        }
    }
}

/// A fault raised by an instruction that has changed nothing. For a page fault CR2 has been written by whoever raises it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which.
    pub vector: Vector,
    /// The error code that is pushed, for vectors that have one.
    pub error: u32,
}

impl Fault {
    /// A fault without an error code (or with code 0).
    pub const fn new(vector: Vector) -> Self {
        Self { vector, error: 0 }
    }

    /// A fault with an error code.
    pub const fn with_error(vector: Vector, error: u32) -> Self {
        Self { vector, error }
    }

    /// #GP(`error`).
    pub const fn gp(error: u32) -> Self {
        Self::with_error(Vector::GeneralProtection, error)
    }

    /// #SS(`error`).
    pub const fn ss(error: u32) -> Self {
        Self::with_error(Vector::StackFault, error)
    }

    /// #UD.
    pub const fn ud() -> Self {
        Self::new(Vector::InvalidOpcode)
    }
}
