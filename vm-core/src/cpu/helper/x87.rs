//! x87 instructions.
