//! Model-specific registers (Intel SDM vol. 4).

pub mod mca;
pub mod mtrr;

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
const APIC_BASE: u32 = 0x1b;
const MISC_ENABLE: u32 = 0x1a0;
const SYSENTER_CS: u32 = 0x174;
const SYSENTER_ESP: u32 = 0x175;
const SYSENTER_EIP: u32 = 0x176;
const EFER: u32 = 0xc000_0080;

/// Bits of `IA32_APIC_BASE`.
pub mod apic_base {
    /// The processor that starts first; read-only.
    pub const BSP: u64 = 1 << 8;
    /// The local APIC is there.
    pub const ENABLE: u64 = 1 << 11;
    /// Its page.
    pub const ADDRESS: u64 = 0xf_ffff_f000;
    /// After a reset.
    pub const RESET: u64 = 0xfee0_0000 | ENABLE | BSP;
    /// Bits that can be written.
    pub const WRITABLE: u64 = ENABLE | ADDRESS;
}

/// Bits of `IA32_MISC_ENABLE` on a Pentium M.
pub mod misc_enable {
    /// Fast strings, thermal control and its kind, `SpeedStep`, the limit for CPUID's leaves: kept, of no effect.
    pub const WRITABLE: u64 = 1 << 0 | 1 << 3 | 1 << 13 | 1 << 16 | 1 << 22;
    /// There is neither branch trace store nor precise event sampling; performance monitoring (bit 7) is not there either.
    pub const HARD_WIRED: u64 = 1 << 11 | 1 << 12;
    /// After a reset.
    pub const RESET: u64 = 1 << 0;
}

impl Cpu {
    /// Whether there is `IA32_MISC_ENABLE`: from the Pentium M on.
    fn has_misc_enable(&self) -> bool {
        let signature = self.model.signature();
        signature >> 8 & 15 == 6 && signature >> 4 & 15 >= 9
    }

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
            APIC_BASE if self.model.has(feature::APIC) => Ok(self.state.msr.apic_base),
            MISC_ENABLE if self.has_misc_enable() => Ok(self.state.msr.misc_enable | misc_enable::HARD_WIRED),
            _ => self.read_block(number).ok_or_else(|| unknown(number)),
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
            APIC_BASE if self.model.has(feature::APIC) => {
                if value & !(apic_base::WRITABLE | apic_base::BSP) != 0 {
                    return Err(Fault::gp(0));
                }
                msr.apic_base = value & apic_base::WRITABLE | msr.apic_base & apic_base::BSP;
                bus.set_apic_base(msr.apic_base);
            }
            MISC_ENABLE if self.has_misc_enable() => {
                if value & !(misc_enable::WRITABLE | misc_enable::HARD_WIRED) != 0 {
                    return Err(Fault::gp(0));
                }
                self.state.msr.misc_enable = value & misc_enable::WRITABLE;
            }
            _ => {
                if !self.write_block(number, value) {
                    return Err(unknown(number));
                }
            }
        }
        Ok(())
    }

    /// Registers that come in blocks, where the model has them.
    fn read_block(&self, number: u32) -> Option<u64> {
        if self.model.has(Self::block_feature(number)) {
            self.state.msr.mtrr.read(number).or_else(|| self.state.msr.mca.read(number))
        } else {
            None
        }
    }

    fn write_block(&mut self, number: u32, value: u64) -> bool {
        self.model.has(Self::block_feature(number))
            && (self.state.msr.mtrr.write(number, value) || self.state.msr.mca.write(number, value))
    }

    /// The feature that a register of a block goes with.
    fn block_feature(number: u32) -> u32 {
        match number {
            mtrr::PAT => feature::PAT,
            mtrr::CAP | 0x200..0x300 => feature::MTRR,
            _ => feature::MCA,
        }
    }
}

fn unknown(number: u32) -> Fault {
    tracing::debug!(number, "the guest asked for an MSR that is not there");
    Fault::gp(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::cpuid::CpuModel;
    use crate::cpu::testbus::protected;

    #[test]
    fn each_model_has_its_registers() {
        let (mut cpu, mut bus) = protected(16);
        assert_eq!(cpu.read_msr(&bus, 0xfe), Ok(0x508));
        assert_eq!(cpu.read_msr(&bus, 0x277), Ok(0x0007_0406_0007_0406));
        assert_eq!(cpu.read_msr(&bus, 0x179), Ok(0x105));
        cpu.write_msr(&mut bus, 0x2ff, 0xc06).unwrap();
        assert_eq!(cpu.read_msr(&bus, 0x2ff), Ok(0xc06));
        assert_eq!(cpu.write_msr(&mut bus, 0x2ff, 0x1c06), Err(Fault::gp(0)));
        assert_eq!(cpu.read_msr(&bus, 0x1a0), Err(Fault::gp(0)));
        cpu.model = CpuModel::PentiumM;
        assert_eq!(cpu.read_msr(&bus, 0x1a0), Ok(0x1801));
        cpu.write_msr(&mut bus, 0x1a0, 0x1_1808).unwrap();
        assert_eq!(cpu.read_msr(&bus, 0x1a0), Ok(0x1_1808));
        assert_eq!(cpu.write_msr(&mut bus, 0x1a0, 1 << 34), Err(Fault::gp(0)));
        cpu.model = CpuModel::Pentium;
        for number in [0xfe, 0x200, 0x277, 0x2ff, 0x179, 0x400, 0x174, 0x1b, 0x1a0, 0xc000_0080] {
            assert_eq!(cpu.read_msr(&bus, number), Err(Fault::gp(0)), "{number:#x}");
            assert_eq!(cpu.write_msr(&mut bus, number, 0), Err(Fault::gp(0)), "{number:#x}");
        }
        assert_eq!(cpu.read_msr(&bus, 0x01), Ok(0));
    }
}
