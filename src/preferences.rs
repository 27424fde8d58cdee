//! What a person has set once for all machines.
