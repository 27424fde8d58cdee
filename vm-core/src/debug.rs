//! Looking in from outside: monitor and QMP.

pub mod monitor;
pub mod qmp;
pub mod screendump;
