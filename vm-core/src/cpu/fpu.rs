//! x87 state and 80-bit arithmetic.
