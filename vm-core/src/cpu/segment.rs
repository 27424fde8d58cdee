//! Segmentation: descriptors, loading segment registers, limit and rights checks.
