//! x87 state and its 80-bit arithmetic.

use serde::{Deserialize, Serialize};

/// The x87's registers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fpu {}
