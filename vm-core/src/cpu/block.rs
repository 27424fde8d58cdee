//! The block cache.

use super::Cpu;
use crate::bus::Bus;

impl Cpu {
    /// Drops translated code of these bytes of physical memory: they have just been written.
    pub fn invalidate_code(&mut self, bus: &mut dyn Bus, physical: u64, len: u64) {
        let _ = (bus, physical, len);
    }
}
