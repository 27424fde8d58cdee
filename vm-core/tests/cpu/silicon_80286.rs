//! Every instruction of a real 286 in real mode, exceptions included.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use vm_core::cpu::flags::ARITHMETIC;
use vm_core::cpu::state::{SegReg, Segment, gpr};
use vm_core::cpu::{Cpu, Exit};

use crate::engine::ENGINES;
use crate::flat_bus::FlatBus;
use crate::moo::{self, REGISTERS, Test};

/// All that real mode reaches, with A20 open.
const MEMORY: u64 = 0x11_0000;
/// Flags that exist in real mode.
const FLAGS: u16 = 0x0fff;

/// What is not compared, and why.
struct Exclusion {
    /// The forms (the files' names), or `*`.
    form: &'static str,
    /// Which of its tests.
    applies: fn(&Test) -> bool,
    #[allow(dead_code, reason = "it is there to be read")]
    reason: &'static str,
}

const EXCLUSIONS: &[Exclusion] = &[
    Exclusion {
        form: "*",
        applies: |test| prefixes(test).contains(&0xf0),
        reason: "a 286 takes LOCK on any instruction; since the 386 most raise #UD with it",
    },
    Exclusion {
        form: "0F",
        applies: |_| true,
        reason: "opcodes that are undefined on a 286 are instructions of its successors",
    },
    Exclusion {
        form: "*",
        // The HLT behind the instruction does not count.
        applies: |test| test.bytes.len() > 11 && test.exception.is_some_and(|(vector, _)| vector == 13),
        reason: "a 286 takes instructions of up to 10 bytes, its successors up to 15",
    },
    Exclusion {
        form: "8E",
        applies: |test| matches!(test.bytes.get(prefixes(test).len() + 1).map(|modrm| modrm >> 3 & 7), Some(4 | 5)),
        reason: "FS and GS came with the 386",
    },
    Exclusion {
        form: "6D 6F A5 A7 AB AD AF",
        applies: |test| test.exception.is_some_and(|(vector, _)| vector == 13),
        reason: "a word at offset FFFF: a 286 has already moved SI, DI and CX when it faults; since the 386 strings restart",
    },
];

/// Where an exception has pushed the flags, above CS and IP. (The address in the file is that of the bus cycle: even.)
fn pushed_flags(test: &Test) -> u32 {
    let after = |n: usize| test.after.registers[n].or(test.before.registers[n]).unwrap_or(0);
    (u32::from(after(5)) << 4) + u32::from(after(8).wrapping_add(4))
}

/// The prefixes of a test's instruction.
fn prefixes(test: &Test) -> &[u8] {
    let is_prefix = |byte: &&u8| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0xf0 | 0xf2 | 0xf3);
    &test.bytes[..test.bytes.iter().take_while(is_prefix).count()]
}

fn corpus() -> PathBuf {
    let shared = std::env::var_os("HAKO_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    shared.join("cpu-80286")
}

/// `flags-mask` of each form in the corpus's metadata.
fn defined_flags(folder: &Path) -> HashMap<String, u16> {
    let text = std::fs::read_to_string(folder.join("metadata.json")).expect("the corpus has a metadata.json");
    let metadata: serde_json::Value = serde_json::from_str(&text).expect("metadata.json is JSON");
    let mask = |form: &serde_json::Value| form["flags-mask"].as_u64().unwrap_or(0xffff) as u16;
    let mut masks = HashMap::new();
    for (opcode, form) in metadata["opcodes"].as_object().expect("opcodes") {
        if let Some(groups) = form["reg"].as_object() {
            for (reg, form) in groups {
                masks.insert(format!("{opcode}.{reg}"), mask(form));
            }
        } else {
            masks.insert(opcode.clone(), mask(form));
        }
    }
    masks
}

struct Bench {
    bus: FlatBus,
    /// What RAM should hold.
    shadow: Vec<u8>,
}

impl Bench {
    fn put(&mut self, memory: &[(u32, u8)], into_ram: bool) {
        for &(address, byte) in memory {
            self.shadow[address as usize] = byte;
            if into_ram {
                self.bus.memory.write(u64::from(address), &[byte]);
            }
        }
    }

    /// Runs one test; says how it went wrong.
    fn run(&mut self, cpu: &mut Cpu, test: &Test, defined: u16) -> Result<(), String> {
        cpu.reset();
        self.bus.forget_code();
        let before = |n: usize| test.before.registers[n].unwrap_or(0);
        for (n, register) in [(0, gpr::RAX), (1, gpr::RBX), (2, gpr::RCX), (3, gpr::RDX)] {
            cpu.state.gpr[register] = u64::from(before(n));
        }
        for (n, seg) in [(4, SegReg::Cs), (5, SegReg::Ss), (6, SegReg::Ds), (7, SegReg::Es)] {
            cpu.state.seg[seg as usize] = Segment::real(before(n));
        }
        for (n, register) in [(8, gpr::RSP), (9, gpr::RBP), (10, gpr::RSI), (11, gpr::RDI)] {
            cpu.state.gpr[register] = u64::from(before(n));
        }
        cpu.state.rip = u64::from(before(12));
        cpu.state.flags.set(u32::from(before(13) & FLAGS));
        cpu.fpu.init();
        cpu.state_changed();
        self.put(&test.before.memory, true);
        if let Some((13, _)) = test.exception {
            // In real mode a 286 raises 13 for the stack segment, too; since the 386 that is 12.
            let same: Vec<_> = (0..4).map(|n| (0x30 + n, self.shadow[0x34 + n as usize])).collect();
            self.put(&same, true);
        }

        let exit = cpu.run(&mut self.bus, 0x4_0000);

        self.put(&test.after.memory, false);
        let mut wrong = String::new();
        if exit != Exit::Halted {
            let _ = write!(wrong, " left with {exit:?};");
        }
        for (n, name) in REGISTERS.iter().enumerate() {
            let mask = if n == 13 { FLAGS & defined } else { 0xffff };
            let got = match n {
                0..=3 => cpu.state.gpr[[gpr::RAX, gpr::RBX, gpr::RCX, gpr::RDX][n]] as u16,
                4..=7 => cpu.state.segment([SegReg::Cs, SegReg::Ss, SegReg::Ds, SegReg::Es][n - 4]).selector,
                8..=11 => cpu.state.gpr[[gpr::RSP, gpr::RBP, gpr::RSI, gpr::RDI][n - 8]] as u16,
                12 => cpu.state.rip as u16,
                _ => cpu.state.flags.get() as u16,
            };
            let expected = test.after.registers[n].unwrap_or(before(n));
            if (got ^ expected) & mask != 0 {
                let _ = write!(wrong, " {name} {:04x} expected {:04x};", got & mask, expected & mask);
            }
        }
        self.compare_memory(test, defined, &mut wrong);
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    /// Compares all of RAM, then clears it.
    fn compare_memory(&mut self, test: &Test, defined: u16, wrong: &mut String) {
        if let Some((vector, _)) = test.exception {
            let pushed = pushed_flags(test);
            // Undefined flags stay undefined on the stack; a division that fails leaves all of them so.
            let defined = if vector == 0 { defined & !(ARITHMETIC as u16) } else { defined };
            for (offset, mask) in [(0, defined as u8), (1, ((defined & FLAGS) >> 8) as u8)] {
                let at = (pushed + offset) as usize % self.shadow.len();
                let got = self.bus.bytes()[at];
                self.shadow[at] = self.shadow[at] & mask | got & !mask;
            }
        }
        let mut dirty = Vec::new();
        if self.bus.bytes() != self.shadow {
            let differing =
                self.bus.bytes().iter().zip(&self.shadow).enumerate().filter(|(_, (got, expected))| got != expected);
            for (address, (got, expected)) in differing.take(64) {
                if dirty.len() < 6 {
                    let _ = write!(wrong, " [{address:05x}] {got:02x} expected {expected:02x};");
                }
                dirty.push((address as u32, 0));
            }
        }
        if dirty.len() >= 64 {
            self.bus.memory.write(0, &vec![0; MEMORY as usize]);
            self.shadow.fill(0);
        }
        self.put(&dirty, true);
        for state in [&test.before, &test.after] {
            let zeros: Vec<_> = state.memory.iter().map(|&(address, _)| (address, 0)).collect();
            self.put(&zeros, true);
        }
        self.put(&[0x30, 0x31, 0x32, 0x33].map(|at| (at, 0)), true);
        // Whatever undefined flags were pushed.
        if test.exception.is_some() {
            let pushed = pushed_flags(test);
            self.put(&[(pushed, 0), (pushed + 1, 0)].map(|(at, zero)| (at % MEMORY as u32, zero)), true);
        }
    }
}

#[test]
fn every_form_does_what_a_286_does() {
    let folder = corpus();
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error} (HAKO_SHARED names the folder above it)", folder.display()))
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(".MOO.gz"))
        .collect();
    files.sort();
    assert!(files.len() > 300, "only {} forms in {}", files.len(), folder.display());
    let masks = defined_flags(&folder);
    let only = std::env::var("HAKO_80286_FORM").ok();
    for engine in ENGINES {
        let mut bench = Bench { bus: FlatBus::new(MEMORY), shadow: vec![0; MEMORY as usize] };
        let mut cpu = (engine.make)();
        let mut failures: BTreeMap<String, (u32, String)> = BTreeMap::new();
        let (mut run, mut excluded) = (0, 0);
        for path in &files {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let form = name.trim_end_matches(".MOO.gz").to_owned();
            if only.as_ref().is_some_and(|only| *only != form) {
                continue;
            }
            let defined = masks.get(&form).copied().unwrap_or(0xffff);
            for test in moo::read(path).unwrap() {
                let skip = |rule: &&Exclusion| {
                    (rule.form == "*" || rule.form.split(' ').any(|name| name == form)) && (rule.applies)(&test)
                };
                if EXCLUSIONS.iter().find(skip).is_some() {
                    excluded += 1;
                    continue;
                }
                run += 1;
                if let Err(wrong) = bench.run(&mut cpu, &test, defined) {
                    let entry = failures.entry(form.clone()).or_default();
                    entry.0 += 1;
                    if entry.0 <= 3 || only.is_some() {
                        let _ = writeln!(
                            entry.1,
                            "  #{} {} {:02x?}:{wrong} {:?}",
                            test.index, test.name, test.bytes, test.exception
                        );
                    }
                }
            }
        }
        eprintln!("{}: {run} tests of a 286 run, {excluded} excluded", engine.name);
        let mut report = String::new();
        for (form, (count, text)) in &failures {
            let _ = writeln!(report, "{form}: {count} tests\n{text}");
        }
        assert!(failures.is_empty(), "{}: {} forms differ from a 286\n{report}", engine.name, failures.len());
    }
}
