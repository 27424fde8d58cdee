//! DMA: what drive and bus master do together.

use super::*;

const START: u32 = 1;
const TO_MEMORY: u32 = 8;
const ACTIVE: u32 = 1;
const FAILED: u32 = 2;
const INTERRUPT: u32 = 4;

/// Where the tests put their table.
const TABLE: u32 = 0x8000;

impl Rig {
    /// Writes a table of (address, count) rows and points the bus master at it.
    fn table(&self, rows: &[(u32, u32)]) {
        for (n, (address, count)) in rows.iter().enumerate() {
            let last = if n + 1 == rows.len() { 1 << 31 } else { 0 };
            let row = u64::from(*address) | u64::from(count | last) << 32;
            self.ram.write(u64::from(TABLE) + 8 * n as u64, &row.to_le_bytes());
        }
    }

    fn master(&mut self, command: u32) {
        self.ide.write_bus_master(4, Width::Dword, TABLE);
        self.ide.write_bus_master(2, Width::Byte, FAILED | INTERRUPT);
        self.ide.write_bus_master(0, Width::Byte, command);
    }

    fn master_status(&self) -> u32 {
        self.ide.read_bus_master(2, Width::Byte) & 7
    }

    fn memory(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.ram.read(address, &mut bytes);
        bytes
    }
}

#[test]
fn sectors_go_to_the_regions_of_the_table_and_one_interrupt_ends_the_command() {
    let mut rig = Rig::disk(image(1000));
    rig.table(&[(0x1000, 0x200), (0x3000, 0x302), (0x2000, 0xfe)]);
    rig.set([0, 3, 10, 0, 0, 0xe0]);
    rig.command(0xc8);
    rig.ide.advance(0);
    assert_eq!((rig.ide.alternate_status(), rig.lines.level()), (0x58, 0), "the drive asks, nobody moves");
    rig.master(START | TO_MEMORY);
    assert_eq!((rig.master_status(), rig.lines.level()), (INTERRUPT, 1 << 14));
    assert_eq!(rig.wait(), (0x50, true));
    assert_eq!(rig.registers(), [0, 0, 12, 0, 0, 0xe0]);
    let moved = [rig.memory(0x1000, 0x200), rig.memory(0x3000, 0x302), rig.memory(0x2000, 0xfe)].concat();
    assert_eq!(moved, [[11; 512], [12; 512], [13; 512]].concat());
    assert_eq!(rig.memory(0x20fe, 2), [0, 0], "not a byte more");
    rig.ide.write_bus_master(0, Width::Byte, 0);
    rig.ide.write_bus_master(2, Width::Byte, INTERRUPT);
    assert_eq!(rig.master_status(), 0);
}

#[test]
fn a_long_48_bit_write_goes_in_chunks_and_reaches_the_medium_before_the_interrupt() {
    let mut rig = Rig::disk(vec![0; 1000 * 512]);
    let bytes: Vec<u8> = (0..600 * 512).map(|n| (n / 512 + n) as u8).collect();
    rig.ram.write(0x1_0000, &bytes);
    let rows: Vec<_> = (0..5).map(|n| (0x1_0000 + 0x1_0000 * n, if n == 4 { 0xb000 } else { 0 })).collect();
    rig.table(&rows);
    rig.set([0, 2, 0, 0, 0, 0xe0]);
    rig.set([0, 0x58, 7, 0, 0, 0xe0]);
    rig.command(0x35);
    rig.media[0].lock().unwrap().held = true;
    rig.master(START);
    assert_eq!((rig.ide.alternate_status(), rig.master_status()), (status::BSY, ACTIVE));
    rig.media[0].lock().unwrap().held = false;
    assert_eq!(rig.wait(), (0x50, true));
    assert_eq!(rig.master_status(), INTERRUPT);
    let control = rig.media[0].lock().unwrap();
    assert_eq!(control.requests, 3);
    assert!(control.bytes[7 * 512..607 * 512] == bytes[..] && control.bytes[607 * 512] == 0);
}

#[test]
fn a_table_that_is_too_long_leaves_the_master_active_and_one_that_is_too_short_the_drive_waiting() {
    let mut rig = Rig::disk(image(10));
    rig.table(&[(0x1000, 0x1000)]);
    rig.set([0, 1, 0, 0, 0, 0xe0]);
    rig.command(0xc8);
    rig.ide.advance(0);
    rig.master(START | TO_MEMORY);
    assert_eq!(rig.master_status(), INTERRUPT | ACTIVE);
    rig.ide.write_bus_master(0, Width::Byte, 0);
    assert_eq!(rig.master_status(), INTERRUPT);
    rig.wait();
    rig.table(&[(0x1000, 0x100)]);
    rig.command(0xc8);
    rig.ide.advance(0);
    rig.set([0, 1, 0, 0, 0, 0xe0]);
    rig.master(START | TO_MEMORY);
    assert_eq!((rig.master_status(), rig.wait()), (0, (0x58, false)), "neither active nor interrupt: an error");
    rig.ide.write_control(CONTROL_SRST);
    rig.ide.write_control(0);
    assert_eq!(rig.wait(), (0x50, false));
}

#[test]
fn regions_and_table_stay_within_their_64_kib() {
    let mut rig = Rig::disk(image(10));
    rig.table(&[(0x2_ff00, 0x200)]);
    rig.set([0, 1, 0, 0, 0, 0xe0]);
    rig.command(0xc8);
    rig.ide.advance(0);
    rig.master(START | TO_MEMORY);
    rig.wait();
    assert_eq!(
        (rig.memory(0x2_ff00, 1), rig.memory(0x2_0000, 0x101), rig.memory(0x3_0000, 1)),
        (vec![1], [vec![1; 0x100], vec![0]].concat(), vec![0],)
    );
    // The second row of a table at the end of 64 KiB is at their start.
    rig.ram.write(0x5_fff8, &(0x6000_u64 | 0x100 << 32).to_le_bytes());
    rig.ram.write(0x5_0000, &(0x7000_u64 | 0x8000_0100 << 32).to_le_bytes());
    rig.set([0, 1, 1, 0, 0, 0xe0]);
    rig.command(0xc8);
    rig.ide.advance(0);
    rig.ide.write_bus_master(0, Width::Byte, 0);
    rig.ide.write_bus_master(4, Width::Dword, 0x5_fff8);
    rig.ide.write_bus_master(0, Width::Byte, START | TO_MEMORY);
    assert_eq!(rig.wait(), (0x50, true));
    assert_eq!((rig.memory(0x60ff, 1), rig.memory(0x70ff, 1)), (vec![2], vec![2]));
}

#[test]
fn nothing_at_an_address_is_an_error_and_ends_the_master_alone() {
    for (table, row) in [(TABLE, (0x10_0000, 2)), (TABLE, (0xffff_fffe, 0)), (0x10_0000, (0, 0))] {
        let mut rig = Rig::disk(image(10));
        rig.table(&[row]);
        rig.set([0, 1, 0, 0, 0, 0xe0]);
        rig.command(0xc8);
        rig.ide.advance(0);
        rig.ide.write_bus_master(4, Width::Dword, table);
        rig.ide.write_bus_master(0, Width::Byte, START | TO_MEMORY);
        assert_eq!((rig.master_status(), rig.ide.alternate_status()), (FAILED, 0x58));
    }
}

#[test]
fn nothing_moves_the_wrong_way_or_while_the_function_may_not_master_the_bus() {
    let mut rig = Rig::disk(image(10));
    rig.table(&[(0x1000, 0x200)]);
    rig.set([0, 1, 0, 0, 0, 0xe0]);
    rig.command(0xc8);
    rig.ide.advance(0);
    rig.master(START);
    assert_eq!((rig.master_status(), rig.ide.alternate_status()), (ACTIVE, 0x58));
    rig.ide.write_bus_master(0, Width::Byte, 0);
    rig.enable.set(false);
    rig.master(START | TO_MEMORY);
    assert_eq!((rig.master_status(), rig.ide.alternate_status()), (ACTIVE, 0x58));
    rig.enable.set(true);
    assert_eq!(rig.wait(), (0x50, true));
}

#[test]
fn a_read_error_ends_a_dma_command_where_it_is() {
    let mut rig = Rig::disk(image(300));
    rig.table(&[(0x1_0000, 0), (0x2_0000, 0), (0x3_0000, 0)]);
    rig.set([0, 0x2c, 0, 0, 0, 0xe0]);
    rig.set([0, 1, 0, 0, 0, 0xe0]);
    rig.set([0, 0x2d, 0, 0, 0, 0xe0]);
    rig.command(0x25);
    rig.master(START | TO_MEMORY);
    // 301 sectors of 300.
    assert_eq!(rig.wait(), (0x51, true));
    assert_eq!(rig.registers()[..4], [error::IDNF, 1, 0x2c, 1]);
    assert_eq!(rig.memory(0x1_0000 + 299 * 512, 2), [300_u32 as u8; 2]);
}

#[test]
fn the_chosen_mode_is_shown() {
    let mut rig = Rig::disk(image(10));
    let identify = |rig: &mut Rig| {
        rig.command(0xec);
        rig.wait();
        let bytes = rig.words(256);
        [63, 88].map(|n| u16::from_le_bytes([bytes[2 * n], bytes[2 * n + 1]]))
    };
    for (mode, words) in [(0x42, [0x0007, 0x0407]), (0x0c, [0x0007, 0x0407]), (0x21, [0x0207, 0x0007])] {
        rig.set([3, mode, 0, 0, 0, 0xa0]);
        rig.command(0xef);
        assert_eq!(rig.wait(), (0x50, true));
        assert_eq!(identify(&mut rig), words);
    }
    rig.set([3, 0x45, 0, 0, 0, 0xa0]);
    rig.command(0xef);
    assert_eq!(rig.wait(), (0x51, true), "Ultra DMA 5 is beyond the channel");
}

#[test]
fn a_sleeping_drive_hears_only_a_reset() {
    let mut rig = Rig::disk(image(10));
    rig.command(0xe6);
    assert_eq!(rig.wait(), (0x50, true));
    rig.command(0xec);
    assert_eq!(rig.wait(), (0x50, false));
    rig.ide.write_control(CONTROL_SRST);
    rig.ide.write_control(0);
    rig.command(0xe5);
    assert_eq!((rig.wait(), rig.registers()[1]), ((0x50, true), 0), "in standby");
}

#[test]
fn a_transfer_under_way_goes_on_after_a_load() {
    for (command, master) in [(0xc8, START | TO_MEMORY), (0xca, START)] {
        let mut rig = Rig::disk(image(10));
        rig.table(&[(0x1000, 0x100), (0x2000, 0x300)]);
        rig.ram.write(0x1000, &[0xaa; 0x100]);
        rig.ram.write(0x2000, &[0xbb; 0x300]);
        rig.enable.set(false);
        rig.set([0, 2, 4, 0, 0, 0xe0]);
        rig.command(command);
        rig.ide.advance(0);
        rig.master(master);
        let saved = rig.ide.save();
        let mut other = Rig::disk(image(10));
        other.ide.load(&saved).unwrap();
        other.table(&[(0x1000, 0x100), (0x2000, 0x300)]);
        other.ram.write(0x1000, &[0xaa; 0x100]);
        other.ram.write(0x2000, &[0xbb; 0x300]);
        assert_eq!(other.wait(), (0x50, true));
        if command == 0xc8 {
            assert_eq!((other.memory(0x10ff, 1), other.memory(0x22ff, 2)), (vec![5], vec![6, 0]));
        } else {
            let bytes = &other.media[0].lock().unwrap().bytes;
            assert_eq!((bytes[4 * 512], bytes[4 * 512 + 0x100], bytes[6 * 512]), (0xaa, 0xbb, 7));
        }
    }
}
