//! The PC engine of Hako.
//!
//! A [`runner`] thread owns a machine: a processor ([`cpu`]), memory and ports ([`bus`]), chips ([`dev`])
//! and media ([`disk`]). The program around it holds a [`runner::VmHandle`], sends
//! [`runner::Command`]s and reads [`runner::Event`]s and the newest [`frame::Frame`]; it never waits for the engine.
//!
//! `ARCHITECTURE.md` beside this crate is the map.

pub mod bus;
mod calendar;
pub mod chardev;
pub mod config;
pub mod cpu;
pub mod debug;
pub mod dev;
pub mod disk;
pub mod firmware;
pub mod frame;
pub mod input;

pub mod machine;
pub mod runner;
pub mod snapshot;
