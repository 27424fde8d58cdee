//! Speed of the engines: six integer programs and two of SSE2, millions of guest instructions a second each.
//!
//! `cargo run -p vm-core --release --example cpu_speed -- [jit|jit=cranelift|jit=regions] [PROGRAM]`. Needs gcc that can compile for i386 (no library).

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use vm_core::bus::clock::Nanos;
use vm_core::bus::ram::{GuestRam, PAGE_SIZE};
use vm_core::bus::signals::Signals;
use vm_core::bus::{Bus, CodePolicy, PhysPage, Width};
use vm_core::cpu::cpuid::CpuModel;
use vm_core::cpu::state::{Segment, cr0, cr4, gpr};
use vm_core::cpu::{Compilation, Cpu, Exit};

/// RAM and nothing else.
struct Ram {
    ram: GuestRam,
    signals: Arc<Signals>,
}

impl Bus for Ram {
    fn page(&self, address: u64) -> PhysPage {
        let host = self.ram.host(address & !(PAGE_SIZE - 1), PAGE_SIZE);
        PhysPage { read: host, write: host, code: CodePolicy::Ram }
    }
    fn ram(&self) -> &GuestRam {
        &self.ram
    }
    fn read(&mut self, _: u64, width: Width) -> u64 {
        width.mask()
    }
    fn write(&mut self, _: u64, _: Width, _: u64) {}
    fn port_in(&mut self, _: u16, width: Width) -> u32 {
        width.mask() as u32
    }
    fn port_out(&mut self, _: u16, _: Width, _: u32) {}
    fn interrupt_pending(&mut self) -> bool {
        false
    }
    fn acknowledge_interrupt(&mut self) -> u8 {
        0
    }
    fn signals(&self) -> &Signals {
        &self.signals
    }
    fn now(&self) -> Nanos {
        0
    }
}

fn tool(name: &str, arguments: &[&str]) -> Result<(), String> {
    let status = Command::new(name).args(arguments).status().map_err(|error| format!("{name}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{name}: {status}")) }
}

/// Compiles the guest programs to a flat image that begins at 1 MiB; also where it starts.
fn image() -> Result<(Vec<u8>, u32), String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/cpu_speed/programs.c");
    let folder = std::env::temp_dir().join(format!("hako-cpu-speed-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let path = |name: &str| folder.join(name).display().to_string();
    let (elf, flat) = (path("programs.elf"), path("programs.bin"));
    let outcome = tool(
        "gcc",
        &[
            "-m32",
            "-O2",
            "-march=pentiumpro",
            "-ffreestanding",
            "-fno-pic",
            "-no-pie",
            "-nostdlib",
            "-static",
            "-fno-tree-vectorize",
            "-fno-tree-loop-distribute-patterns",
            "-fno-stack-protector",
            "-fcf-protection=none",
            "-fno-asynchronous-unwind-tables",
            "-Wl,-Ttext=0x100000,--build-id=none",
            "-o",
            &elf,
            &source.display().to_string(),
        ],
    )
    .and_then(|()| tool("objcopy", &["-O", "binary", &elf, &flat]))
    .and_then(|()| {
        let read = |path: &str| std::fs::read(path).map_err(|error| error.to_string());
        let entry = read(&elf)?
            .get(24..28)
            .map(|field| field.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte)));
        Ok((read(&flat)?, entry.ok_or("the linker wrote no header")?))
    });
    let _ = std::fs::remove_dir_all(&folder);
    outcome
}

/// Time that this thread has had a core, so that a busy host does not count.
fn seconds_on_cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

fn main() -> Result<(), String> {
    // A small stack: handlers that did not go on by jumps would soon be through it.
    let thread = std::thread::Builder::new().stack_size(128 << 10).spawn(measure).map_err(|error| error.to_string())?;
    thread.join().map_err(|_| "the measurement panicked".to_string())?
}

fn measure() -> Result<(), String> {
    let (image, entry) = image()?;
    let mut words = std::env::args().skip(1).peekable();
    let engine = words.next_if(|word| word.starts_with("jit"));
    let only = words.next();
    let mut product = 1.0;
    let names = ["sieve", "crc", "matrix", "quicksort", "fib", "machine", "mandelbrot", "saxpy"];
    let integer = 6;
    let mut measured = 0;
    for (number, name) in names.iter().enumerate() {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let signals = Arc::new(Signals::new());
        let ram = GuestRam::new(8 << 20, &signals).map_err(|error| error.to_string())?;
        ram.write(0x10_0000, &image);
        let mut bus = Ram { ram, signals };
        let mut cpu = Cpu::new(CpuModel::default());
        match engine.as_deref() {
            Some("jit=regions") => cpu.use_regions(Compilation::Behind)?,
            Some("jit=cranelift") => {
                cpu.use_native_code()?;
                cpu.use_regions(Compilation::Behind)?;
            }
            Some(_) => cpu.use_native_code()?,
            None => {}
        }
        let data = Segment { base: 0, limit: u32::MAX, rights: 0xc093, selector: 16 };
        cpu.state.seg = [data; 6];
        cpu.state.seg[1] = Segment { rights: 0xc09b, selector: 8, ..data };
        cpu.state.cr[0] |= cr0::PE;
        cpu.state.cr[4] |= cr4::OSFXSR;
        cpu.state.gpr[gpr::RSP] = 0x70_0000;
        cpu.state.gpr[gpr::RAX] = number as u64;
        cpu.state.rip = u64::from(entry);
        cpu.state_changed();
        let start = seconds_on_cpu();
        while cpu.run(&mut bus, 100_000) == Exit::Budget {}
        let seconds = seconds_on_cpu() - start;
        let mips = cpu.retired as f64 / seconds / 1e6;
        if number < integer {
            product *= mips;
            measured += 1;
        }
        println!(
            "{name:10} {mips:6.0} MIPS  {:>9} instructions  result {:08x}  {} dispatches, {} blocks, {} misses, \
             {} instructions native in {} us, {} in regions in {} us that executed {} %",
            cpu.retired,
            cpu.state.gpr[gpr::RAX],
            cpu.code.stats.dispatches,
            cpu.code.stats.blocks,
            cpu.tlb.misses,
            cpu.code.stats.native_instructions,
            cpu.code.stats.native_nanos / 1000,
            cpu.code.stats.region_instructions,
            cpu.code.stats.region_nanos / 1000,
            100 * cpu.code.stats.region_executed / cpu.retired.max(1),
        );
    }
    println!("geometric mean of the integer programs {:.0} MIPS", product.powf(1.0 / f64::from(measured.max(1))));
    Ok(())
}
