//! A machine that runs in the manager.
