//! The micro-op table.
