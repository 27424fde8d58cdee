//! Against the host's own x87, where there is one: FRSTOR, the instruction, FNSAVE on both sides.
use super::*;
