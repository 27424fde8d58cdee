//! What stands in for compiled regions where the program is built without them: none is ever made.

#![allow(clippy::unused_self, clippy::needless_pass_by_ref_mut, reason = "it looks like what it stands in for")]

use super::Cpu;
use super::block::{Cache, Header};
use crate::bus::Bus;

/// How regions are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compilation {
    /// On a thread of their own, while the interpreter goes on.
    Behind,
    /// At once, with blocks that were not entered yet: for tests.
    AtOnce,
}

/// A way out of a region. There is none.
#[derive(Debug)]
pub(super) enum Exit {}

/// What regions find while they run.
#[derive(Debug, Default)]
pub(super) struct Run {}

impl Run {
    /// None.
    pub fn exit(&self) -> *mut Exit {
        std::ptr::null_mut()
    }

    /// None.
    pub fn running(&self) -> u32 {
        u32::MAX
    }

    /// Nothing.
    pub fn forget_exit(&mut self) {}
}

/// All regions. There are none.
pub(super) enum Regions {}

impl Regions {
    /// Regions are not made here.
    ///
    /// # Errors
    /// Always, and says why.
    pub fn new(_: Compilation) -> Result<Self, String> {
        Err("this build is without native code (the feature “jit”)".to_string())
    }

    /// Not called.
    pub fn flush(&mut self) {
        match *self {}
    }

    /// Not called.
    ///
    /// # Safety
    /// None needed.
    pub unsafe fn tie(&mut self, _: *mut Exit, _: u32, _: u32) {
        match *self {}
    }

    /// Not called.
    pub fn begin_slice(&mut self) {
        match *self {}
    }

    /// Not called.
    pub fn at_once(&self) -> bool {
        match *self {}
    }

    /// Not called.
    pub fn take_death_of(&mut self, _: u32) -> bool {
        match *self {}
    }
}

/// Not called: no block opens a region.
pub(super) fn enter(_: &mut Cpu, _: &mut dyn Bus) {}

/// Not called.
///
/// # Safety
/// None needed.
#[allow(dead_code, reason = "not every build has templates")]
pub(super) unsafe fn run(_: &mut Cpu, _: u32) -> bool {
    false
}

/// Not called.
pub(super) fn left(_: &mut Cpu) {}

impl Cpu {
    /// Not called: nothing is made native code of.
    pub(super) fn make_region(&mut self, _: &mut dyn Bus, _: *const Header) {}

    /// None.
    pub(super) fn region_generation(&mut self) -> u32 {
        0
    }

    /// Nothing.
    pub(super) fn publish_regions(&mut self) {}
}

impl Cache {
    /// Nothing.
    pub(super) fn kill_regions(&mut self, _: &[u32]) {}

    /// Nothing.
    pub(super) fn empty_oldest_regions(&mut self) {}
}
