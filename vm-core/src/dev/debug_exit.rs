//! isa-debug-exit.
