//! Instruction to micro-ops.
