//! CPUID and processor models.
