//! String instructions and port I/O.
