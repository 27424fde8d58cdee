//! A guest that hammers every port and every address at random does no harm: no panic, no hang, no growth.

use std::sync::Arc;

use vm_core::bus::signals::Signals;
use vm_core::bus::{Bus, Width};
use vm_core::config::{DriveConfig, DriveKind, DriveSlot, MachineConfig};
use vm_core::firmware::FirmwareChoice;
use vm_core::machine::run::Machine;

/// xorshift64*: the same numbers on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// A machine with a disk, a CD and a floppy that nothing outside this test owns.
fn machine(folder: &std::path::Path) -> Machine {
    let drive = |slot, kind, name: &str, bytes: u64| {
        let path = folder.join(name);
        std::fs::File::create(&path).and_then(|file| file.set_len(bytes)).expect("a scratch image");
        DriveConfig { slot, kind, path: Some(path), read_only: false, temporary: false }
    };
    let config = MachineConfig {
        memory_mib: 4,
        drives: vec![
            drive(DriveSlot::Floppy(0), DriveKind::Floppy, "floppy.img", 1_474_560),
            drive(DriveSlot::Ide(0), DriveKind::Disk, "disk.img", 8 << 20),
            drive(DriveSlot::Ide(2), DriveKind::Cd, "cd.iso", 1 << 20),
        ],
        ..MachineConfig::default()
    };
    let search = FirmwareChoice::default();
    Machine::new(config, Arc::new(Signals::new()), &search, Vec::new(), Vec::new()).expect("SeaBIOS is installed")
}

/// Ports where chips are get most of the blows; a few go anywhere.
fn port(random: &mut Random) -> u16 {
    const BLOCKS: &[(u16, u16)] = &[
        (0x00, 0x20),
        (0x20, 2),
        (0x40, 4),
        (0x60, 5),
        (0x70, 8),
        (0x80, 16),
        (0x92, 1),
        (0xa0, 2),
        (0xb2, 2),
        (0xc0, 32),
        (0x170, 8),
        (0x1ce, 3),
        (0x1f0, 8),
        (0x376, 1),
        (0x3b0, 48),
        (0x3f0, 8),
        (0x4d0, 2),
        (0x510, 12),
        (0xcf8, 8),
        (0xafe0, 4),
    ];
    if random.below(16) == 0 {
        return random.next() as u16;
    }
    let (base, count) = BLOCKS[random.below(BLOCKS.len() as u64) as usize];
    base + random.below(u64::from(count)) as u16
}

fn address(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => 0xa_0000 + random.below(0x2_0000),
        1 => 0xc_0000 + random.below(0x4_0000),
        2 => 0xe000_0000 + random.below(0x2000_0000),
        _ => random.next() & 0xffff_ffff,
    }
}

#[test]
fn random_ports_and_addresses_do_no_harm() {
    let folder = std::env::temp_dir().join(format!("hako-hostile-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a scratch folder");
    let rounds: u64 = std::env::var("HAKO_HOSTILE_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000_000);
    let mut machine = machine(&folder);
    machine.resume();
    let mut random = Random(0x4841_4b4f);
    for round in 0..rounds {
        let width = [Width::Byte, Width::Word, Width::Dword][random.below(3) as usize];
        // The reset and power-off ports end a machine; that they do no more is another test's matter.
        let (_, board) = machine.parts();
        match random.below(8) {
            0..=2 => board.port_out(port(&mut random), width, random.next() as u32),
            3..=5 => drop(board.port_in(port(&mut random), width)),
            6 => {
                let at = address(&mut random) & !(width.bytes() - 1);
                board.write(at, width, random.next() & width.mask());
                let _ = board.read(at, width);
            }
            _ => {
                let page = board.page(address(&mut random));
                let _ = (page.read, page.write);
            }
        }
        if round % 64 == 0 {
            if board.interrupt_pending() {
                board.acknowledge_interrupt();
            }
            machine.service_stopped();
            machine.signals().take_stop();
            machine.signals().take_reset();
        }
        if round % 4096 == 0 {
            let _ = machine.render();
        }
        if round % 100_000 == 0 {
            machine.reset();
        }
    }
    let saved = machine.sections();
    machine.load_sections(&saved).expect("what a machine saves it can load");
    assert_eq!(machine.sections(), saved);
    drop(machine);
    std::fs::remove_dir_all(&folder).expect("the scratch folder goes");
}
