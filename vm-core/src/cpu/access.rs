//! Linear and segmented memory accesses.
