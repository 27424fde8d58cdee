//! The QEMU Machine Protocol.
