//! One slice of a machine's work.
