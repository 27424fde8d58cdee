//! Paging: from linear to physical addresses (Intel SDM vol. 3A, chapter 4).

use super::Cpu;
use super::fault::{Fault, Vector};
use super::state::{cr0, cr4};
use crate::bus::Bus;

/// Bits of a page-directory or page-table entry.
pub mod entry {
    /// The entry is valid.
    pub const PRESENT: u32 = 1 << 0;
    /// Writes are allowed.
    pub const WRITABLE: u32 = 1 << 1;
    /// Privilege level 3 may come in.
    pub const USER: u32 = 1 << 2;
    /// The entry has been used for a translation.
    pub const ACCESSED: u32 = 1 << 5;
    /// The page has been written to.
    pub const DIRTY: u32 = 1 << 6;
    /// In the directory, with CR4.PSE: the entry maps 4 MiB itself.
    pub const LARGE: u32 = 1 << 7;
    /// With CR4.PGE: survives a load of CR3.
    pub const GLOBAL: u32 = 1 << 8;
    /// Bits of a 4 MiB entry that must be clear: this processor has neither PSE-36 nor PAT.
    pub const LARGE_RESERVED: u32 = 0x003f_f000;
}

/// Bits of a page fault's error code.
pub mod error {
    /// The page was present: its rights forbid the access, or a reserved bit is set.
    pub const PRESENT: u32 = 1 << 0;
    /// The access was a write.
    pub const WRITE: u32 = 1 << 1;
    /// The access came from privilege level 3.
    pub const USER: u32 = 1 << 2;
    /// A reserved bit is set in an entry.
    pub const RESERVED: u32 = 1 << 3;
}

/// What an access wants of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// To write.
    pub write: bool,
    /// With the rights of privilege level 3.
    pub user: bool,
}

/// One page as the tables map it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Physical address of the 4 KiB page, with the A20 gate applied.
    pub physical: u64,
    /// A write of the same kind needs no look at the tables: it is allowed, and the dirty bit is set.
    pub writable: bool,
    /// Survives a load of CR3.
    pub global: bool,
    /// Part of a page of more than 4 KiB.
    pub large: bool,
}

impl Cpu {
    /// Whether CR0.PG is on.
    #[inline]
    pub fn paging(&self) -> bool {
        self.state.cr[0] & cr0::PG != 0
    }

    /// Walks the tables for `linear`, checks rights, and sets accessed and dirty bits.
    ///
    /// # Errors
    /// A page fault, with CR2 set; then no bit in the tables has changed.
    pub fn walk(&mut self, bus: &mut dyn Bus, linear: u32, wish: Wish) -> Result<Mapping, Fault> {
        let mask = self.tlb.a20_mask();
        if !self.paging() {
            let physical = u64::from(linear & !0xfff) & mask;
            return Ok(Mapping { physical, writable: true, global: false, large: false });
        }
        let global_pages = self.state.cr[4] & cr4::PGE != 0;

        let directory_at = (self.state.cr[3] & 0xffff_f000 | u64::from(linear >> 22) << 2) & mask;
        let directory = self.read_physical(bus, directory_at, 4) as u32;
        if directory & entry::PRESENT == 0 {
            return Err(self.page_fault(linear, wish, 0));
        }
        if directory & entry::LARGE != 0 && self.state.cr[4] & cr4::PSE != 0 {
            if directory & entry::LARGE_RESERVED != 0 {
                return Err(self.page_fault(linear, wish, error::PRESENT | error::RESERVED));
            }
            let allowed = self.page_write_allowed(directory, wish.user);
            self.check_rights(linear, directory, allowed, wish)?;
            let used = directory | entry::ACCESSED | if wish.write { entry::DIRTY } else { 0 };
            if used != directory {
                self.write_physical(bus, directory_at, 4, u64::from(used));
            }
            return Ok(Mapping {
                physical: u64::from(directory & 0xffc0_0000 | linear & 0x003f_f000) & mask,
                writable: allowed && used & entry::DIRTY != 0,
                global: global_pages && directory & entry::GLOBAL != 0,
                large: true,
            });
        }

        let table_at = u64::from(directory & 0xffff_f000 | (linear >> 12 & 0x3ff) << 2) & mask;
        let table = self.read_physical(bus, table_at, 4) as u32;
        if table & entry::PRESENT == 0 {
            return Err(self.page_fault(linear, wish, 0));
        }
        let rights = directory & table;
        let allowed = self.page_write_allowed(rights, wish.user);
        self.check_rights(linear, rights, allowed, wish)?;
        if directory & entry::ACCESSED == 0 {
            self.write_physical(bus, directory_at, 4, u64::from(directory | entry::ACCESSED));
        }
        let used = table | entry::ACCESSED | if wish.write { entry::DIRTY } else { 0 };
        if used != table {
            self.write_physical(bus, table_at, 4, u64::from(used));
        }
        Ok(Mapping {
            physical: u64::from(table & 0xffff_f000) & mask,
            writable: allowed && used & entry::DIRTY != 0,
            global: global_pages && table & entry::GLOBAL != 0,
            large: false,
        })
    }

    /// Where `linear` leads now, for debuggers: no rights, no fault, no accessed bit.
    pub fn look_up(&self, bus: &dyn Bus, linear: u32) -> Option<u64> {
        let mask = self.tlb.a20_mask();
        if !self.paging() {
            return Some(u64::from(linear) & mask);
        }
        let read = |address: u64| {
            let mut bytes = [0; 4];
            bus.ram().read(address & mask, &mut bytes);
            u32::from_le_bytes(bytes)
        };
        let directory = read(self.state.cr[3] & 0xffff_f000 | u64::from(linear >> 22) << 2);
        if directory & entry::PRESENT == 0 {
            return None;
        }
        if directory & entry::LARGE != 0 && self.state.cr[4] & cr4::PSE != 0 {
            return Some(u64::from(directory & 0xffc0_0000 | linear & 0x003f_ffff) & mask);
        }
        let table = read(u64::from(directory & 0xffff_f000 | (linear >> 12 & 0x3ff) << 2));
        (table & entry::PRESENT != 0).then_some(u64::from(table & 0xffff_f000 | linear & 0xfff) & mask)
    }

    /// Whether entries with these combined rights let a write through.
    fn page_write_allowed(&self, rights: u32, user: bool) -> bool {
        rights & entry::WRITABLE != 0 || !user && self.state.cr[0] & cr0::WP == 0
    }

    fn check_rights(&mut self, linear: u32, rights: u32, writable: bool, wish: Wish) -> Result<(), Fault> {
        if wish.user && rights & entry::USER == 0 || wish.write && !writable {
            return Err(self.page_fault(linear, wish, error::PRESENT));
        }
        Ok(())
    }

    /// A page fault at `linear`; writes CR2.
    fn page_fault(&mut self, linear: u32, wish: Wish, why: u32) -> Fault {
        self.state.cr[2] = u64::from(linear);
        let write = if wish.write { error::WRITE } else { 0 };
        let user = if wish.user { error::USER } else { 0 };
        Fault::with_error(Vector::PageFault, why | write | user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testbus::{TestBus, level, protected};

    const TABLE: u64 = 0x5000;

    /// Directory at 0x4000, one table at 0x5000 that maps 4 MiB to themselves with all rights, paging on.
    fn paged() -> (Cpu, TestBus) {
        let (mut cpu, mut bus) = protected(64);
        bus.put32(0x4000, TABLE as u32 | 7);
        for page in 0..64 {
            bus.put32(TABLE + 4 * page, (page as u32) << 12 | 7);
        }
        cpu.state.cr[3] = 0x4000;
        cpu.set_cr0(cpu.state.cr[0] | cr0::PG).unwrap();
        (cpu, bus)
    }

    fn map(cpu: &mut Cpu, bus: &mut TestBus, page: u64, entry: u32) {
        bus.put32(TABLE + 4 * page, entry);
        cpu.tlb.flush();
    }

    fn page_fault(error: u32) -> Fault {
        Fault::with_error(Vector::PageFault, error)
    }

    #[test]
    fn accessed_comes_with_a_read_and_dirty_with_the_first_write() {
        let (mut cpu, mut bus) = paged();
        cpu.load::<u8>(&mut bus, 0x6000).unwrap();
        assert_eq!(bus.get32(0x4000), TABLE as u32 | 0x27);
        assert_eq!(bus.get32(TABLE + 4 * 6), 0x6027);
        cpu.store::<u8>(&mut bus, 0x6001, 1).unwrap();
        assert_eq!(bus.get32(TABLE + 4 * 6), 0x6067);
    }

    #[test]
    fn rights_and_write_protection() {
        let (mut cpu, mut bus) = paged();
        map(&mut cpu, &mut bus, 6, 0x6001);
        cpu.store::<u8>(&mut bus, 0x6000, 9).unwrap();
        cpu.set_cr0(cpu.state.cr[0] | cr0::WP).unwrap();
        assert_eq!(cpu.store::<u8>(&mut bus, 0x6123, 9), Err(page_fault(3)));
        assert_eq!(cpu.state.cr[2], 0x6123);
        level(&mut cpu, 3);
        assert_eq!(cpu.load::<u8>(&mut bus, 0x6000), Err(page_fault(5)));
        assert_eq!(cpu.store::<u8>(&mut bus, 0x6000, 0), Err(page_fault(7)));
        assert_eq!(cpu.load_system::<u8>(&mut bus, 0x6000), Ok(9));
        assert_eq!(cpu.load::<u8>(&mut bus, 0x40_0000), Err(page_fault(4)));
        map(&mut cpu, &mut bus, 6, 0x6005);
        assert_eq!(cpu.load::<u8>(&mut bus, 0x6000), Ok(9));
        assert_eq!(cpu.load_for_write::<u8>(&mut bus, 0x6000), Err(page_fault(7)));
    }

    #[test]
    fn a_store_across_pages_writes_all_or_nothing() {
        let (mut cpu, mut bus) = paged();
        map(&mut cpu, &mut bus, 7, 0);
        assert_eq!(cpu.store::<u32>(&mut bus, 0x6ffe, u32::MAX), Err(page_fault(2)));
        assert_eq!(cpu.state.cr[2], 0x7000);
        assert_eq!(bus.get16(0x6ffe), 0);
        // Neighbours in linear memory need not be neighbours in physical memory.
        map(&mut cpu, &mut bus, 7, 0x9007);
        cpu.store::<u32>(&mut bus, 0x6ffe, 0x4433_2211).unwrap();
        assert_eq!((bus.get16(0x6ffe), bus.get16(0x9000)), (0x2211, 0x4433));
        assert_eq!(cpu.load::<u32>(&mut bus, 0x6ffe), Ok(0x4433_2211));
    }

    #[test]
    fn large_pages_need_pse_and_clear_reserved_bits() {
        let (mut cpu, mut bus) = paged();
        bus.put32(0x4004, 0x0000_0087);
        cpu.state.cr[4] = cr4::PSE;
        bus.put(0x1234, &[0x77]);
        assert_eq!(cpu.load::<u8>(&mut bus, 0x40_1234), Ok(0x77));
        assert_eq!(cpu.look_up(&bus, 0x40_1234), Some(0x1234));
        bus.put32(0x4004, 0x0000_2087);
        cpu.tlb.flush_page(0x40_1000);
        assert_eq!(cpu.load::<u8>(&mut bus, 0x40_1234), Err(page_fault(9)));
    }

    #[test]
    fn a_stale_entry_stays_until_it_is_flushed() {
        let (mut cpu, mut bus) = paged();
        bus.put(0x6000, &[1]);
        bus.put(0x7000, &[2]);
        assert_eq!(cpu.load::<u8>(&mut bus, 0x6000), Ok(1));
        bus.put32(TABLE + 4 * 6, 0x7007);
        assert_eq!(cpu.load::<u8>(&mut bus, 0x6000), Ok(1));
        cpu.tlb.flush_page(0x6fff);
        assert_eq!(cpu.load::<u8>(&mut bus, 0x6000), Ok(2));
    }
}
