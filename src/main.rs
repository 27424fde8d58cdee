//! Hako.
fn main() {}
