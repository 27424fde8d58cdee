//! Interrupt and exception delivery.
