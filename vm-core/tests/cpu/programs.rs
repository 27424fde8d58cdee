//! The programs of `tests/cpu`: assembled with nasm, run on every engine, compared with the text that they promise.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use vm_core::bus::Bus;
use vm_core::cpu::Exit;
use vm_core::cpu::state::{SegReg, Segment};

use crate::engine::ENGINES;
use crate::flat_bus::FlatBus;

/// Where a program is loaded and starts.
const START: u64 = 0x8000;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cpu")
}

fn assemble(source: &Path) -> Vec<u8> {
    let name = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let target = std::env::temp_dir().join(format!("hako-cpu-{}-{name}.bin", std::process::id()));
    let output = Command::new("nasm")
        .arg("-f")
        .arg("bin")
        .arg("-I")
        .arg(format!("{}/", folder().display()))
        .arg("-o")
        .args([&target, &source.to_path_buf()])
        .output()
        .expect("the package nasm is installed");
    assert!(output.status.success(), "{}: {}", source.display(), String::from_utf8_lossy(&output.stderr));
    let code = std::fs::read(&target).expect("nasm has written its output");
    let _ = std::fs::remove_file(target);
    code
}

#[test]
fn programs_write_what_they_promise() {
    let mut sources: Vec<_> = std::fs::read_dir(folder())
        .expect("tests/cpu is beside the crates")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "asm"))
        .collect();
    sources.sort();
    assert!(!sources.is_empty());
    let only = std::env::var("HAKO_CPU_PROGRAM").ok();
    let mut failures = Vec::new();
    for source in sources {
        let name = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let text = std::fs::read_to_string(&source).expect("a readable program");
        let expected: Vec<_> = text.lines().filter_map(|line| Some(line.strip_prefix(";>")?.trim())).collect();
        let code = assemble(&source);
        for engine in ENGINES {
            let mut bus = FlatBus::new(0x100_0000);
            bus.smi = true;
            bus.ram().write(START, &code);
            bus.forget_code();
            let mut cpu = (engine.make)();
            cpu.state.seg[SegReg::Cs as usize] = Segment::real(0);
            cpu.state.rip = START;
            cpu.state_changed();
            let mut end = Exit::Attention;
            for _ in 0..200 {
                end = cpu.run(&mut bus, 100_000);
                if !matches!(end, Exit::Attention | Exit::Budget) {
                    break;
                }
                bus.signals().take_raised();
            }
            match end {
                Exit::Halted => {}
                Exit::TripleFault => bus.text.push_str("[triple fault]\n"),
                other => {
                    let _ = writeln!(bus.text, "[{other:?} at {:x}]", cpu.state.rip);
                }
            }
            let got: Vec<_> = bus.text.lines().map(str::trim).collect();
            if got != expected {
                let list = |lines: &[&str]| format!("    {}\n", lines.join("\n    "));
                failures.push(format!(
                    "{name} on the {}:\n  expected\n{}  got\n{}",
                    engine.name,
                    list(&expected),
                    list(&got)
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
