//! Stands in until the floppy controller is there: drives that never answer.
#![allow(missing_docs, clippy::unused_self, clippy::needless_pass_by_value, clippy::unnecessary_wraps)]
use std::sync::Arc;

use crate::bus::clock::Clock;
use crate::bus::irq::IrqLine;
use crate::bus::signals::Signals;
use crate::dev::Device;
use crate::dev::dma::DmaHandle;
use crate::disk::BlockBackend;
use crate::snapshot::section::{LoadError, Section};

pub struct Fdc;

impl Fdc {
    pub fn new(_: IrqLine, _: DmaHandle, _: Clock, _: &Arc<Signals>) -> Self {
        Self
    }
    pub fn attach(&mut self, _: usize, _: Option<Box<dyn BlockBackend>>) {}
    pub fn change_medium(&mut self, _: usize, _: Option<Box<dyn BlockBackend>>) -> Result<(), String> {
        Ok(())
    }
    pub fn medium(&mut self, _: usize) -> Option<&mut (dyn BlockBackend + 'static)> {
        None
    }
    pub fn requests(&self, _: usize) -> u64 {
        0
    }
    pub fn busy(&self) -> bool {
        false
    }
    pub fn retry(&mut self) {}
    pub fn drive_type(&self, _: usize) -> u8 {
        0
    }
    pub fn read(&mut self, _: u16) -> u8 {
        0xff
    }
    pub fn write(&mut self, _: u16, _: u8) {}
}

impl Device for Fdc {
    fn name(&self) -> &'static str {
        "fdc"
    }
    fn reset(&mut self) {}
    fn save(&self) -> Section {
        Section::encode("fdc", 1, &())
    }
    fn load(&mut self, _: &Section) -> Result<(), LoadError> {
        Ok(())
    }
}
