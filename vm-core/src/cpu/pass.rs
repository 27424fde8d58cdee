//! Passes over blocks of micro-ops.
