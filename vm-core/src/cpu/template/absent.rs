//! What stands in for native code on hosts that there are no templates for: nothing is ever made.

#![allow(clippy::unused_self, clippy::needless_pass_by_ref_mut, reason = "it looks like what it stands in for")]

use super::Cpu;
use super::block::{Header, Place};
use super::uop::Uop;
use crate::bus::Bus;

/// A way out of a block. There is none.
#[derive(Debug)]
pub(super) enum Way {}

/// What native code finds while it runs.
#[derive(Debug, Default)]
pub(super) struct Run {}

impl Run {
    /// None.
    pub fn way(&self) -> *mut Way {
        std::ptr::null_mut()
    }

    /// Nothing.
    pub fn forget_way(&mut self) {}
}

/// Native code. There is none.
pub(super) enum Native {}

/// What tying a way did.
#[allow(dead_code, reason = "nothing is ever tied here")]
pub(super) enum Tied {
    /// Nothing.
    Not,
    /// It leads there as before.
    Already,
    /// It now leads there, and led nowhere.
    New,
    /// It now leads there, and led to this block.
    Instead(u32),
}

impl Native {
    /// Native code is not made here.
    ///
    /// # Errors
    /// Always, and says why.
    pub fn new() -> Result<Self, String> {
        Err(if cfg!(feature = "jit") {
            "native code is made on Linux hosts with x86-64 processors only".to_string()
        } else {
            "this build is without native code (the feature “jit”)".to_string()
        })
    }

    /// Not called.
    pub fn translate(&mut self, _: *const Header, _: &[Uop], _: &[Place], _: bool) -> Option<(u64, usize)> {
        match *self {}
    }

    /// Not called.
    pub fn look_ahead(&mut self) {
        match *self {}
    }

    /// Not called.
    pub fn lead_to(&mut self, _: u32) -> Option<u64> {
        match *self {}
    }

    /// Not called.
    pub fn last_code(&self) -> [(u64, &[u8]); 2] {
        match *self {}
    }

    /// Not called.
    pub fn flush(&mut self) {
        match *self {}
    }

    /// Not called.
    pub fn fill(&mut self, _: usize) {
        match *self {}
    }

    /// Not called.
    pub fn part_is_empty(&self) -> bool {
        match *self {}
    }

    /// Not called.
    pub fn holds_way(&self, _: usize, _: usize) -> bool {
        match *self {}
    }

    /// Not called.
    pub fn set_limit(&mut self, _: usize) {
        match *self {}
    }

    /// Not called.
    pub fn memory(&self) -> usize {
        match *self {}
    }

    /// Not called.
    ///
    /// # Safety
    /// None needed.
    pub unsafe fn tie(&mut self, _: *mut Way, _: Header, _: u64) -> Tied {
        match *self {}
    }

    /// Not called.
    ///
    /// # Safety
    /// None needed.
    pub unsafe fn cut(&mut self, _: &[*mut Way], _: Header, _: u64) {
        match *self {}
    }
}

/// Not called: no block has native code.
pub(super) fn enter(_: &mut Cpu, _: &mut dyn Bus) {}

/// Not called.
pub(super) fn left(_: &mut Cpu) {}
