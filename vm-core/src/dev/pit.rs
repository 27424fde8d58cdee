//! 8254 timer.
