//! Decimal adjustment.
