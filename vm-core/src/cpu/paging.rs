//! Paging: from linear to physical addresses (Intel SDM vol. 3A, chapter 4).
//!
//! Two kinds of tables: two levels of 32-bit entries, and with CR4.PAE three levels of 64-bit entries, of which the first
//! four stand in registers ([`CpuState::pdpte`](super::state::CpuState::pdpte)).

use super::Cpu;
use super::cpuid::feature;
use super::fault::{Fault, Vector};
use super::state::{cr0, cr4, efer};
use crate::bus::Bus;

/// Bits of an entry of any table.
pub mod entry {
    /// The entry is valid.
    pub const PRESENT: u64 = 1 << 0;
    /// Writes are allowed.
    pub const WRITABLE: u64 = 1 << 1;
    /// Privilege level 3 may come in.
    pub const USER: u64 = 1 << 2;
    /// The entry has been used for a translation.
    pub const ACCESSED: u64 = 1 << 5;
    /// The page has been written to.
    pub const DIRTY: u64 = 1 << 6;
    /// In the directory, with CR4.PSE or CR4.PAE: the entry maps 4 MiB (with PAE: 2 MiB) itself.
    pub const LARGE: u64 = 1 << 7;
    /// With CR4.PGE: survives a load of CR3.
    pub const GLOBAL: u64 = 1 << 8;
    /// With `IA32_EFER.NXE`, in 64-bit entries: no code.
    pub const NO_EXECUTE: u64 = 1 << 63;
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
    /// The access was a fetch of code (only with PAE and `IA32_EFER.NXE`).
    pub const FETCH: u32 = 1 << 4;
}

/// Bits of a physical address.
const PHYSICAL_BITS: u32 = 36;
/// The page address in a 64-bit entry.
const ADDRESS: u64 = (1 << PHYSICAL_BITS) - 0x1000;
/// Bits of a 64-bit entry above the physical address, without the last one.
const TOO_HIGH: u64 = (1 << 63) - (1 << PHYSICAL_BITS);
/// Bits of a page-directory-pointer entry that must be clear.
const POINTER_RESERVED: u64 = TOO_HIGH | entry::NO_EXECUTE | 0x1e6;

/// Whether a page-directory-pointer entry cannot be loaded (Intel SDM vol. 3A, 4.4.1).
pub const fn pdpte_is_bad(pointer: u64) -> bool {
    pointer & entry::PRESENT != 0 && pointer & POINTER_RESERVED != 0
}

/// What an access wants of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// To write.
    pub write: bool,
    /// To fetch code.
    pub fetch: bool,
    /// With the rights of privilege level 3.
    pub user: bool,
}

impl Wish {
    /// To read data.
    pub const fn read(user: bool) -> Self {
        Self { write: false, fetch: false, user }
    }

    /// To write.
    pub const fn write(user: bool) -> Self {
        Self { write: true, fetch: false, user }
    }

    /// To fetch code.
    pub const fn fetch(user: bool) -> Self {
        Self { write: false, fetch: true, user }
    }
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

/// Entries of 32 bits: two levels of tables.
const SHORT: u32 = 4;
/// Entries of 64 bits: PAE.
const LONG: u32 = 8;

impl Cpu {
    /// Whether CR0.PG is on.
    #[inline]
    pub fn paging(&self) -> bool {
        self.state.cr[0] & cr0::PG != 0
    }

    /// Whether CR0.PG and CR4.PAE are on.
    #[inline]
    pub fn pae_paging(&self) -> bool {
        self.paging() && self.state.cr[4] & cr4::PAE != 0
    }

    /// Whether entries may close pages to execution.
    fn no_execute(&self) -> bool {
        self.state.cr[4] & cr4::PAE != 0 && self.state.msr.efer & efer::NXE != 0
    }

    /// Reserved bits of any entry.
    fn reserved<const SIZE: u32>(&self) -> u64 {
        if SIZE == SHORT { 0 } else { TOO_HIGH | if self.no_execute() { 0 } else { entry::NO_EXECUTE } }
    }

    /// Whether a directory entry maps a page itself.
    #[inline]
    fn is_large<const SIZE: u32>(&self, directory: u64) -> bool {
        directory & entry::LARGE != 0 && (SIZE == LONG || self.state.cr[4] & cr4::PSE != 0)
    }

    /// Reserved bits of an entry that maps a large page.
    fn large_reserved<const SIZE: u32>(&self) -> u64 {
        // Bit 12 is the page's PAT bit. With PSE-36 bits 13 to 16 are bits 32 to 35 of the physical address.
        let pat = if self.model.has(feature::PAT) { 0 } else { 1 << 12 };
        let address = match SIZE {
            LONG => 0x001f_e000,
            _ if self.model.has(feature::PSE36) => 0x003e_0000,
            _ => 0x003f_e000,
        };
        self.reserved::<SIZE>() | address | pat
    }

    /// Physical address of the directory entry for `linear`; `None`: there is no directory.
    #[inline]
    fn directory_at<const SIZE: u32>(&self, linear: u32) -> Option<u64> {
        if SIZE == SHORT {
            return Some(self.state.cr[3] & 0xffff_f000 | u64::from(linear >> 22) << 2);
        }
        let pointer = self.state.pdpte[(linear >> 30) as usize];
        (pointer & entry::PRESENT != 0).then_some(pointer & ADDRESS | u64::from(linear >> 21 & 0x1ff) << 3)
    }

    /// Walks the tables for `linear`, checks rights, and sets accessed and dirty bits.
    ///
    /// # Errors
    /// A page fault, with CR2 set; then no bit in the tables has changed.
    pub fn walk(&mut self, bus: &mut dyn Bus, linear: u32, wish: Wish) -> Result<Mapping, Fault> {
        if !self.paging() {
            let physical = u64::from(linear & !0xfff) & self.tlb.a20_mask();
            return Ok(Mapping { physical, writable: true, global: false, large: false });
        }
        if self.state.cr[4] & cr4::PAE == 0 {
            self.walk_tables::<SHORT>(bus, linear, wish)
        } else {
            self.walk_tables::<LONG>(bus, linear, wish)
        }
    }

    fn walk_tables<const SIZE: u32>(&mut self, bus: &mut dyn Bus, linear: u32, wish: Wish) -> Result<Mapping, Fault> {
        let mask = self.tlb.a20_mask();
        let global_pages = self.state.cr[4] & cr4::PGE != 0;

        let Some(directory_at) = self.directory_at::<SIZE>(linear) else {
            return Err(self.page_fault(linear, wish, 0));
        };
        let directory_at = directory_at & mask;
        let directory = self.read_physical(bus, directory_at, SIZE);
        if directory & entry::PRESENT == 0 {
            return Err(self.page_fault(linear, wish, 0));
        }
        if self.is_large::<SIZE>(directory) {
            if directory & self.large_reserved::<SIZE>() != 0 {
                return Err(self.page_fault(linear, wish, error::PRESENT | error::RESERVED));
            }
            let allowed = self.check_rights(linear, directory, directory & entry::NO_EXECUTE != 0, wish)?;
            let used = directory | entry::ACCESSED | if wish.write { entry::DIRTY } else { 0 };
            if used != directory {
                self.write_physical(bus, directory_at, 4, used & 0xffff_ffff);
            }
            return Ok(Mapping {
                physical: large_page::<SIZE>(directory, linear) & mask,
                writable: allowed && used & entry::DIRTY != 0,
                global: global_pages && directory & entry::GLOBAL != 0,
                large: true,
            });
        }
        let reserved = self.reserved::<SIZE>();
        if directory & reserved != 0 {
            return Err(self.page_fault(linear, wish, error::PRESENT | error::RESERVED));
        }

        let table_at = table_at::<SIZE>(directory, linear) & mask;
        let table = self.read_physical(bus, table_at, SIZE);
        if table & entry::PRESENT == 0 {
            return Err(self.page_fault(linear, wish, 0));
        }
        if table & reserved != 0 {
            return Err(self.page_fault(linear, wish, error::PRESENT | error::RESERVED));
        }
        let closed = (directory | table) & entry::NO_EXECUTE != 0;
        let allowed = self.check_rights(linear, directory & table, closed, wish)?;
        if directory & entry::ACCESSED == 0 {
            self.write_physical(bus, directory_at, 4, (directory | entry::ACCESSED) & 0xffff_ffff);
        }
        let used = table | entry::ACCESSED | if wish.write { entry::DIRTY } else { 0 };
        if used != table {
            self.write_physical(bus, table_at, 4, used & 0xffff_ffff);
        }
        Ok(Mapping {
            physical: table & ADDRESS & mask,
            writable: allowed && used & entry::DIRTY != 0,
            global: global_pages && table & entry::GLOBAL != 0,
            large: false,
        })
    }

    /// Where `linear` leads now, for debuggers: no rights, no fault, no accessed bit.
    pub fn look_up(&self, bus: &dyn Bus, linear: u32) -> Option<u64> {
        if !self.paging() {
            Some(u64::from(linear) & self.tlb.a20_mask())
        } else if self.state.cr[4] & cr4::PAE == 0 {
            self.look_up_in::<SHORT>(bus, linear)
        } else {
            self.look_up_in::<LONG>(bus, linear)
        }
    }

    fn look_up_in<const SIZE: u32>(&self, bus: &dyn Bus, linear: u32) -> Option<u64> {
        let mask = self.tlb.a20_mask();
        let read = |address: u64| {
            let mut bytes = [0; 8];
            bus.ram().read(address & mask, &mut bytes[..SIZE as usize]);
            u64::from_le_bytes(bytes)
        };
        let directory = read(self.directory_at::<SIZE>(linear)?);
        if directory & entry::PRESENT == 0 {
            return None;
        }
        let page = if self.is_large::<SIZE>(directory) {
            large_page::<SIZE>(directory, linear)
        } else {
            let table = read(table_at::<SIZE>(directory, linear));
            if table & entry::PRESENT == 0 {
                return None;
            }
            table & ADDRESS
        };
        Some((page | u64::from(linear & 0xfff)) & mask)
    }

    /// The four page-directory-pointer entries that `cr3` leads to (Intel SDM vol. 3A, 4.4.1).
    ///
    /// # Errors
    /// #GP(0) where one that is present has a reserved bit set.
    pub(super) fn read_pdptes(&mut self, bus: &mut dyn Bus, cr3: u64) -> Result<[u64; 4], Fault> {
        let mask = self.tlb.a20_mask();
        let mut pointers = [0; 4];
        for (n, pointer) in pointers.iter_mut().enumerate() {
            *pointer = self.read_physical(bus, (cr3 & 0xffff_ffe0 | 8 * n as u64) & mask, 8);
        }
        if pointers.iter().any(|&pointer| pdpte_is_bad(pointer)) { Err(Fault::gp(0)) } else { Ok(pointers) }
    }

    /// MOV to CR0 and all that follows from it.
    ///
    /// # Errors
    /// #GP(0) for a combination that is not allowed.
    pub fn set_cr0(&mut self, bus: &mut dyn Bus, value: u64) -> Result<(), Fault> {
        let paging_unprotected = value & (cr0::PG | cr0::PE) == cr0::PG;
        let write_through_uncached = value & (cr0::NW | cr0::CD) == cr0::NW;
        if paging_unprotected || write_through_uncached {
            return Err(Fault::gp(0));
        }
        let value = value & cr0::KNOWN | cr0::ET;
        let changed = value ^ self.state.cr[0];
        let pae = value & cr0::PG != 0 && self.state.cr[4] & cr4::PAE != 0;
        if pae && changed & (cr0::CD | cr0::NW | cr0::PG) != 0 {
            self.state.pdpte = self.read_pdptes(bus, self.state.cr[3])?;
        }
        self.state.cr[0] = value;
        if changed & (cr0::PE | cr0::WP | cr0::PG) != 0 {
            self.tlb.flush();
        }
        Ok(())
    }

    /// MOV to CR3.
    ///
    /// # Errors
    /// #GP(0) where PAE paging is in use and a page-directory-pointer entry has a reserved bit set.
    pub fn set_cr3(&mut self, bus: &mut dyn Bus, value: u64) -> Result<(), Fault> {
        if self.pae_paging() {
            self.state.pdpte = self.read_pdptes(bus, value)?;
        }
        self.state.cr[3] = value & self.model.cr3_mask();
        self.tlb.flush_local();
        Ok(())
    }

    /// MOV to CR4.
    ///
    /// # Errors
    /// #GP(0) for bits that this model does not have, and as [`Cpu::set_cr3`].
    pub fn set_cr4(&mut self, bus: &mut dyn Bus, value: u64) -> Result<(), Fault> {
        if value & !self.model.cr4_mask() != 0 {
            return Err(Fault::gp(0));
        }
        let changed = value ^ self.state.cr[4];
        if changed & (cr4::PAE | cr4::PGE | cr4::PSE) != 0 {
            if self.paging() && value & cr4::PAE != 0 {
                self.state.pdpte = self.read_pdptes(bus, self.state.cr[3])?;
            }
            self.tlb.flush();
        }
        self.state.cr[4] = value;
        if changed & cr4::DE != 0 {
            self.rearm();
        }
        Ok(())
    }

    /// Whether the combined rights let `wish` through; then whether they let a write of the same level through.
    fn check_rights(&mut self, linear: u32, rights: u64, closed: bool, wish: Wish) -> Result<bool, Fault> {
        let writable = rights & entry::WRITABLE != 0 || !wish.user && self.state.cr[0] & cr0::WP == 0;
        if wish.user && rights & entry::USER == 0 || wish.write && !writable || wish.fetch && closed {
            return Err(self.page_fault(linear, wish, error::PRESENT));
        }
        Ok(writable)
    }

    /// A page fault at `linear`; writes CR2.
    fn page_fault(&mut self, linear: u32, wish: Wish, why: u32) -> Fault {
        self.state.cr[2] = u64::from(linear);
        let bit = |on: bool, bit: u32| if on { bit } else { 0 };
        let how = bit(wish.write, error::WRITE)
            | bit(wish.user, error::USER)
            | bit(wish.fetch && self.no_execute(), error::FETCH);
        Fault::with_error(Vector::PageFault, why | how)
    }
}

/// Physical address of the table entry for `linear` that a directory entry leads to.
fn table_at<const SIZE: u32>(directory: u64, linear: u32) -> u64 {
    if SIZE == SHORT {
        directory & 0xffff_f000 | u64::from(linear >> 12 & 0x3ff) << 2
    } else {
        directory & ADDRESS | u64::from(linear >> 12 & 0x1ff) << 3
    }
}

/// Physical address of the 4 KiB page for `linear` in the large page of a directory entry.
fn large_page<const SIZE: u32>(directory: u64, linear: u32) -> u64 {
    let linear = u64::from(linear);
    if SIZE == SHORT {
        directory & 0xffc0_0000 | (directory >> 13 & 15) << 32 | linear & 0x003f_f000
    } else {
        directory & ADDRESS & !0x001f_ffff | linear & 0x001f_f000
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::cpuid::CpuModel;
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
        cpu.set_cr0(&mut bus, cpu.state.cr[0] | cr0::PG).unwrap();
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
        cpu.set_cr0(&mut bus, cpu.state.cr[0] | cr0::WP).unwrap();
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
        bus.put32(0x4004, 0x0002_0087);
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

    /// PAE tables: pointers at 0x9000, a directory at 0xa000, a table at 0xb000 that maps 64 KiB one to one.
    fn extended() -> (Cpu, TestBus) {
        let (mut cpu, mut bus) = protected(32);
        cpu.model = CpuModel::PentiumM;
        bus.put32(0x9000, 0xa001);
        bus.put32(0xa000, 0xb007);
        for page in 0..16 {
            bus.put32(0xb000 + 8 * page, (page as u32) << 12 | 7);
        }
        cpu.set_cr4(&mut bus, cr4::PAE | cr4::PGE).unwrap();
        cpu.set_cr3(&mut bus, 0x9000).unwrap();
        cpu.set_cr0(&mut bus, cpu.state.cr[0] | cr0::PG).unwrap();
        (cpu, bus)
    }

    #[test]
    fn three_levels_with_registers_for_the_first() {
        let (mut cpu, mut bus) = extended();
        bus.put(0x6123, &[7]);
        assert_eq!(cpu.load::<u8>(&mut bus, 0x6123), Ok(7));
        assert_eq!(cpu.look_up(&bus, 0x6123), Some(0x6123));
        assert_eq!((bus.get32(0xa000), bus.get32(0xb030)), (0xb027, 0x6027));
        assert_eq!(cpu.load::<u8>(&mut bus, 0x4000_0000), Err(page_fault(0)));
        assert_eq!(cpu.look_up(&bus, 0x4000_0000), None);
        // A large page, with its address above 4 GiB.
        bus.put32(0xa008, 0x0000_0087);
        bus.put32(0xa00c, 0xf);
        assert_eq!(cpu.look_up(&bus, 0x21_2345), Some(0xf_0001_2345));
        assert_eq!(cpu.walk(&mut bus, 0x21_2345, Wish::write(true)).unwrap().physical, 0xf_0001_2000);
        assert_eq!(bus.get32(0xa008), 0xe7);
        // A bad pointer is refused where it would be loaded, and what was there stays.
        bus.put32(0x9018, 0x21);
        assert_eq!(cpu.set_cr3(&mut bus, 0x9000), Err(Fault::gp(0)));
        assert_eq!(cpu.set_cr4(&mut bus, cr4::PAE), Err(Fault::gp(0)));
        assert_eq!(cpu.state.cr[4], cr4::PAE | cr4::PGE);
        cpu.set_cr4(&mut bus, cr4::PAE | cr4::PGE | cr4::TSD).unwrap();
        assert_eq!(cpu.load::<u8>(&mut bus, 0x6123), Ok(7));
        let section = cpu.save();
        let mut other = Cpu::new(CpuModel::PentiumM);
        other.load_state(&section).unwrap();
        assert_eq!(other.state.pdpte, [0xa001, 0, 0, 0]);
    }

    #[test]
    fn no_execute_closes_pages_to_fetches_alone() {
        let (mut cpu, mut bus) = extended();
        bus.put32(0xb034, 1 << 31);
        assert_eq!(cpu.load::<u8>(&mut bus, 0x6000), Err(page_fault(9)), "reserved while NXE is off");
        cpu.write_msr(&mut bus, 0xc000_0080, efer::NXE).unwrap();
        assert_eq!(cpu.load::<u8>(&mut bus, 0x6000), Ok(0));
        assert_eq!(cpu.fetch_page(&mut bus, 0x6000), Err(page_fault(0x11)));
        assert_eq!(cpu.fetch_page(&mut bus, 0x7000), Ok(0x7000));
        assert_eq!(cpu.fetch_page(&mut bus, 0x20_0000), Err(page_fault(0x10)));
        level(&mut cpu, 3);
        assert_eq!(cpu.fetch_page(&mut bus, 0x6000), Err(page_fault(0x15)));
        assert_eq!(cpu.write_msr(&mut bus, 0xc000_0080, 1), Err(Fault::gp(0)));
        cpu.model = CpuModel::Pentium2;
        assert_eq!(cpu.read_msr(&bus, 0xc000_0080), Err(Fault::gp(0)));
    }
}
