//! A guest that hammers every port and every address at random does no harm: no panic, no hang, no growth.

use std::path::Path;
use std::process::Command as Process;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vm_core::bus::signals::Signals;
use vm_core::bus::{Bus, Width};
use vm_core::config::{DriveConfig, DriveKind, DriveSlot, MachineConfig};
use vm_core::firmware::FirmwareChoice;
use vm_core::machine::run::Machine;
use vm_core::runner::event::EndReason;
use vm_core::runner::{Command, Reply, RunState, StartOptions, VmHandle, start};

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

/// Hardware with a disk, a CD and a floppy that nothing outside this test owns.
fn hardware(folder: &Path, memory_mib: u32) -> MachineConfig {
    let drive = |slot, kind, name: &str, bytes: u64| {
        let path = folder.join(name);
        std::fs::File::create(&path).and_then(|file| file.set_len(bytes)).expect("a scratch image");
        DriveConfig { slot, kind, path: Some(path), format: None, read_only: false, temporary: false }
    };
    MachineConfig {
        memory_mib,
        drives: vec![
            drive(DriveSlot::Floppy(0), DriveKind::Floppy, "floppy.img", 1_474_560),
            drive(DriveSlot::Ide(0), DriveKind::Disk, "disk.img", 8 << 20),
            drive(DriveSlot::Ide(2), DriveKind::Cd, "cd.iso", 1 << 20),
        ],
        ..MachineConfig::default()
    }
}

fn machine(folder: &Path) -> Machine {
    let search = FirmwareChoice::default();
    Machine::new(hardware(folder, 4), Arc::new(Signals::new()), &search, Vec::new(), Vec::new())
        .expect("SeaBIOS is installed")
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

/// The boot floppy of `hostile/hammer.asm` with a seed.
fn hammer(folder: &Path, seed: u32) -> Vec<u8> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/hammer.asm");
    let target = folder.join("hammer.bin");
    let output = Process::new("nasm").arg("-f").arg("bin").arg("-o").arg(&target).arg(&source).output();
    let output = output.expect("the package nasm is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut image = std::fs::read(&target).expect("nasm has written its output");
    let mark = 0x1234_5678_u32.to_le_bytes();
    let at = image.windows(4).position(|bytes| bytes == mark).expect("the place of the seed");
    image[at..at + 4].copy_from_slice(&seed.to_le_bytes());
    image.resize(1_474_560, 0);
    image
}

/// Resident memory of this process in KiB.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux tells of processes");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// A guest in its own machine, and what became of it so far.
struct Hammered {
    folder: std::path::PathBuf,
    vm: VmHandle,
    seed: u32,
    machines: u32,
    resets: u32,
    operations: u64,
    last: u64,
    /// Looks without progress.
    stuck: u32,
}

impl Hammered {
    fn boot(folder: &Path, seed: u32) -> VmHandle {
        let config = MachineConfig { boot: "a".to_owned(), ..hardware(folder, 8) };
        std::fs::write(folder.join("floppy.img"), hammer(folder, seed)).expect("a floppy");
        start(config, StartOptions::default()).expect("a thread")
    }

    /// Sends a command; the answer has to come soon, whatever the guest does.
    fn ask(&self, command: Command) -> Option<Reply> {
        let what = format!("{command:?}");
        match self.vm.request(command).recv_timeout(Duration::from_secs(10)) {
            Ok(answer) => answer.ok(),
            Err(error) => {
                let ended = matches!(self.vm.state(), RunState::Ended(_));
                assert!(ended, "seed {:#x}: no answer to {what}: {error}", self.seed);
                None
            }
        }
    }

    /// How often the guest has struck.
    fn count(&self) -> u64 {
        // The monitor's answer is an address and three words.
        let Some(Reply::Text(text)) = self.ask(Command::Monitor("xp /3wx 0x200000".to_owned())) else { return 0 };
        let words: Vec<u64> =
            text.split_whitespace().filter_map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()).collect();
        if words.first() == Some(&0x4841_494b) { words.get(2).copied().unwrap_or(0) } else { 0 }
    }

    /// Looks after the guest: what has stopped is started again, what no longer gets on is reset.
    fn tend(&mut self) {
        match self.vm.state() {
            RunState::Ended(EndReason::Failed(why)) => panic!("seed {:#x}: {why}", self.seed),
            RunState::Ended(_) => {
                self.machines += 1;
                self.seed = self.seed.wrapping_mul(0x9e37_79b1) | 1;
                (self.last, self.stuck) = (0, 0);
                self.vm = Self::boot(&self.folder, self.seed);
            }
            RunState::Stopped(_) => {
                self.resets += 1;
                self.ask(Command::Reset);
                self.ask(Command::Resume);
            }
            _ => {
                let count = self.count();
                if count > self.last {
                    self.operations += count - self.last;
                    self.stuck = 0;
                } else {
                    // A reset helps where the firmware still finds the floppy; else it takes another machine.
                    self.resets += 1;
                    self.stuck += 1;
                    self.ask(if self.stuck > 2 { Command::PowerOff } else { Command::Reset });
                }
                self.last = count;
            }
        }
    }
}

#[test]
fn a_guest_that_hammers_from_inside_does_no_harm() {
    let long = std::env::var_os("HAKO_LONG").is_some();
    let lasts = Duration::from_secs(if long { 60 } else { 5 });
    let folder = std::env::temp_dir().join(format!("hako-hammer-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a scratch folder");
    let seed = std::env::var("HAKO_HAMMER_SEED").map_or(0x4841_4b4f, |text| text.parse().expect("a number"));
    let vm = Hammered::boot(&folder, seed);
    let mut guest = Hammered { folder, vm, seed, machines: 1, resets: 0, operations: 0, last: 0, stuck: 0 };
    // Not a fixed time: a loaded host may take long to boot the first time.
    let patience = Instant::now();
    while guest.count() == 0 && patience.elapsed() < Duration::from_mins(1) {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_ne!(guest.count(), 0, "the guest began; {:?}", guest.vm.state());
    let before = resident();
    let began = Instant::now();
    while began.elapsed() < lasts {
        std::thread::sleep(Duration::from_millis(700));
        guest.tend();
    }
    let grown = resident().saturating_sub(before);
    eprintln!(
        "{} operations, {} machines, {} resets, {grown} KiB more than in the beginning",
        guest.operations, guest.machines, guest.resets
    );
    assert!(guest.operations > 1_000, "the guest got on");
    assert!(grown < 192 << 10, "{grown} KiB more than in the beginning");
    // It still obeys.
    if matches!(guest.vm.state(), RunState::Ended(_)) {
        guest.tend();
    }
    let asked = Instant::now();
    guest.ask(Command::Pause);
    guest.ask(Command::PowerOff);
    while !matches!(guest.vm.state(), RunState::Ended(_)) {
        assert!(asked.elapsed() < Duration::from_secs(5), "the machine did not end");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::fs::remove_dir_all(&guest.folder).expect("the scratch folder goes");
}
