//! System instructions: control registers, descriptor tables, HLT, CPUID, MSRs.
