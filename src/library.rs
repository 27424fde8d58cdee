//! The machines that a person has made, on disk.
