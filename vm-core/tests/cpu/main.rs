//! The processor against silicon, against the host's processor, against expectations written beside programs, and
//! against noise. Every test runs on every engine in [`engine::ENGINES`].

mod clock;
mod engine;
mod flat_bus;
mod floats;
mod host_compare;
mod lockstep;
mod memory;
mod moo;
mod noise;
mod programs;
mod returns;
mod sequences;
mod silicon_80286;
mod tables;
mod vectors;
mod waiting;
