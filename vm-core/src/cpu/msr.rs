//! Model-specific registers (Intel SDM vol. 4).

use super::Cpu;
use super::cpuid::feature;
use super::fault::Fault;
use crate::bus::Bus;
use crate::bus::clock::nanos_to_ticks;

/// The time-stamp counter's rate. It is a function of guest time and does not depend on the host.
pub const TSC_HERTZ: u64 = 1_000_000_000;

const P5_MC_ADDR: u32 = 0x00;
const P5_MC_TYPE: u32 = 0x01;
const TIME_STAMP_COUNTER: u32 = 0x10;
const PLATFORM_ID: u32 = 0x17;
const EBL_CR_POWERON: u32 = 0x2a;
const BIOS_UPDT_TRIG: u32 = 0x79;
const BIOS_SIGN_ID: u32 = 0x8b;
const SYSENTER_CS: u32 = 0x174;
const SYSENTER_ESP: u32 = 0x175;
const SYSENTER_EIP: u32 = 0x176;
const EFER: u32 = 0xc000_0080;

impl Cpu {
    /// The time-stamp counter.
    pub fn tsc(&self, bus: &dyn Bus) -> u64 {
        nanos_to_ticks(bus.now(), TSC_HERTZ).wrapping_add(self.state.msr.tsc_offset)
    }

    /// RDMSR.
    ///
    /// # Errors
    /// #GP(0) for a register that this processor does not have.
    pub fn read_msr(&self, bus: &dyn Bus, number: u32) -> Result<u64, Fault> {
        let p6 = self.model.has(feature::SEP);
        match number {
            TIME_STAMP_COUNTER => Ok(self.tsc(bus)),
            P5_MC_ADDR | P5_MC_TYPE => Ok(0),
            // Neither a microcode update nor a bus that could be asked.
            PLATFORM_ID | EBL_CR_POWERON | BIOS_SIGN_ID if p6 => Ok(0),
            SYSENTER_CS if p6 => Ok(u64::from(self.state.msr.sysenter_cs)),
            SYSENTER_ESP if p6 => Ok(u64::from(self.state.msr.sysenter_esp)),
            SYSENTER_EIP if p6 => Ok(u64::from(self.state.msr.sysenter_eip)),
            EFER if self.model.efer_mask() != 0 => Ok(self.state.msr.efer),
            _ => Err(unknown(number)),
        }
    }

    /// WRMSR.
    ///
    /// # Errors
    /// #GP(0) for a register that this processor does not have or that cannot be written.
    pub fn write_msr(&mut self, bus: &mut dyn Bus, number: u32, value: u64) -> Result<(), Fault> {
        let p6 = self.model.has(feature::SEP);
        let msr = &mut self.state.msr;
        match number {
            TIME_STAMP_COUNTER => {
                // Up to and including P6, a write sets the low half and clears the high one.
                let now = nanos_to_ticks(bus.now(), TSC_HERTZ);
                msr.tsc_offset = (value & 0xffff_ffff).wrapping_sub(now);
            }
            P5_MC_ADDR | P5_MC_TYPE => {}
            EBL_CR_POWERON | BIOS_UPDT_TRIG | BIOS_SIGN_ID if p6 => {}
            SYSENTER_CS if p6 => msr.sysenter_cs = value as u32,
            SYSENTER_ESP if p6 => msr.sysenter_esp = value as u32,
            SYSENTER_EIP if p6 => msr.sysenter_eip = value as u32,
            EFER if self.model.efer_mask() != 0 => {
                if value & !self.model.efer_mask() != 0 {
                    return Err(Fault::gp(0));
                }
                if value != msr.efer {
                    msr.efer = value;
                    self.tlb.flush();
                }
            }
            _ => return Err(unknown(number)),
        }
        Ok(())
    }
}

fn unknown(number: u32) -> Fault {
    tracing::debug!(number, "the guest asked for an MSR that is not there");
    Fault::gp(0)
}
