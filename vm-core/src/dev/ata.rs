//! ATA disk.
