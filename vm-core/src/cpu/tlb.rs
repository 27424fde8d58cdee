//! Software TLB.
