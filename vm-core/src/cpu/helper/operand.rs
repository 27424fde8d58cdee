//! Operands of a decoded instruction.
