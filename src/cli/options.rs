//! The options of `hako run`, one row each, as QEMU users spell them.

use std::fmt::Write as _;
use std::path::PathBuf;

use vm_core::config::{Accelerator, DriveKind, DriveSlot, MachineConfig, SecondEngine};
use vm_core::cpu::block::log::CodeLog;
use vm_core::cpu::cpuid::CpuModel;

use super::chardev::{Chardev, Target};
use super::drive::DriveRequest;
use super::keyval::KeyVal;
use super::{CliError, device, refuse};

/// Where the guest's screen goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Display {
    /// A window of its own.
    Window,
    /// Nowhere; QMP can still take pictures.
    None,
}

/// All that a command line asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub config: MachineConfig,
    pub drives: Vec<DriveRequest>,
    pub temporary: bool,
    pub firmware_folder: Option<PathBuf>,
    pub bios: Option<PathBuf>,
    pub kernel: Option<PathBuf>,
    pub initrd: Option<String>,
    pub append: Option<String>,
    pub display: Option<Display>,
    pub nographic: bool,
    pub nodefaults: bool,
    pub serials: Vec<Target>,
    pub monitors: Vec<Target>,
    pub qmps: Vec<Target>,
    pub debug_ports: Vec<(u16, Target)>,
    pub chardevs: Vec<Chardev>,
    pub paused: bool,
    pub load: Option<String>,
    pub discard: bool,
    pub log_items: Option<String>,
    pub log_ranges: String,
    pub help: bool,
}

struct Row {
    names: &'static [&'static str],
    /// Empty: the option stands alone.
    argument: &'static str,
    help: &'static str,
    set: fn(&mut Request, &str) -> Result<(), CliError>,
}

#[rustfmt::skip]
const OPTIONS: &[Row] = &[
    Row { names: &["-help", "-h"],      argument: "",                      help: "this list",                                                 set: |request, _| { request.help = true; Ok(()) } },
    Row { names: &["-name"],            argument: "NAME",                  help: "the machine's name, in titles and messages",                set: name },
    Row { names: &["-machine", "-M"],   argument: "pc",                    help: "the kind of machine; also pc,accel=jit,hpet=on|off",        set: machine },
    Row { names: &["-accel"],           argument: "interp|jit|diff=A,B",   help: "the engine; jit (jit=template, jit=cranelift) makes native code; diff runs two and compares, from=N with the instructions from the Nth", set: |request, text| accel(request, "-accel", text) },
    Row { names: &["-cpu"],             argument: "pentium-m",             help: "the processor; also 486, pentium, pentium2, pentium3, max", set: cpu },
    Row { names: &["-smp"],             argument: "1",                     help: "the number of processors",                                  set: smp },
    Row { names: &["-m"],               argument: "[size=]MEGS",           help: "memory in MiB, or with k, M or G",                          set: |request, text| { request.config.memory_mib = device::memory(text)?; Ok(()) } },
    Row { names: &["-bios"],            argument: "FILE",                  help: "this firmware instead of SeaBIOS",                          set: |request, text| { request.bios = Some(text.into()); Ok(()) } },
    Row { names: &["-L"],               argument: "FOLDER",                help: "look for firmware here first",                              set: |request, text| { request.firmware_folder = Some(text.into()); Ok(()) } },
    Row { names: &["-fda"],             argument: "FILE",                  help: "image in floppy drive A",                                   set: |request, text| fixed(request, DriveSlot::Floppy(0), DriveKind::Floppy, text) },
    Row { names: &["-fdb"],             argument: "FILE",                  help: "image in floppy drive B",                                   set: |request, text| fixed(request, DriveSlot::Floppy(1), DriveKind::Floppy, text) },
    Row { names: &["-hda"],             argument: "FILE",                  help: "image of the first hard disk",                              set: |request, text| fixed(request, DriveSlot::Ide(0), DriveKind::Disk, text) },
    Row { names: &["-hdb"],             argument: "FILE",                  help: "image of the second hard disk",                             set: |request, text| fixed(request, DriveSlot::Ide(1), DriveKind::Disk, text) },
    Row { names: &["-hdc"],             argument: "FILE",                  help: "image of the third hard disk (the place of -cdrom)",        set: |request, text| fixed(request, DriveSlot::Ide(2), DriveKind::Disk, text) },
    Row { names: &["-hdd"],             argument: "FILE",                  help: "image of the fourth hard disk",                             set: |request, text| fixed(request, DriveSlot::Ide(3), DriveKind::Disk, text) },
    Row { names: &["-cdrom"],           argument: "FILE",                  help: "ISO image in the CD drive",                                 set: |request, text| fixed(request, DriveSlot::Ide(2), DriveKind::Cd, text) },
    Row { names: &["-drive"],           argument: "file=,if=,…",           help: "a drive: file, if=ide|floppy, index, media=disk|cdrom, format=raw|qcow2, snapshot, readonly", set: |request, text| { request.drives.push(DriveRequest::parse(text)?); Ok(()) } },
    Row { names: &["-snapshot"],        argument: "",                      help: "what the guest writes is gone at the end",                  set: |request, _| { request.temporary = true; Ok(()) } },
    Row { names: &["-boot"],            argument: "[order=]LETTERS",       help: "a floppy, c disk, d CD, in this order",                     set: |request, text| { request.config.boot = device::boot(text)?; Ok(()) } },
    Row { names: &["-kernel"],          argument: "FILE",                  help: "start this Linux or multiboot kernel",                      set: |request, text| { request.kernel = Some(text.into()); Ok(()) } },
    Row { names: &["-initrd"],          argument: "FILE",                  help: "its initial RAM disk (multiboot: modules, with commas)",    set: |request, text| { request.initrd = Some(text.to_owned()); Ok(()) } },
    Row { names: &["-append"],          argument: "TEXT",                  help: "its command line",                                          set: |request, text| { request.append = Some(text.to_owned()); Ok(()) } },
    Row { names: &["-vga"],             argument: "std|none",              help: "the display adapter",                                       set: vga },
    Row { names: &["-display"],         argument: "window|none",           help: "where the screen goes",                                     set: display },
    Row { names: &["-nographic"],       argument: "",                      help: "no window; serial line and monitor share the terminal",     set: |request, _| { request.nographic = true; Ok(()) } },
    Row { names: &["-nodefaults"],      argument: "",                      help: "no empty floppy and CD drive",                              set: |request, _| { request.nodefaults = true; Ok(()) } },
    Row { names: &["-no-user-config"],  argument: "",                      help: "understood; there is none",                                 set: |_, _| Ok(()) },
    Row { names: &["-nic"],             argument: "none",                  help: "network: none yet",                                         set: |_, text| network("-nic", text) },
    Row { names: &["-net"],             argument: "none",                  help: "network: none yet",                                         set: |_, text| network("-net", text) },
    Row { names: &["-serial"],          argument: "BACKEND",               help: "the next serial port: stdio, mon:stdio, file:, unix:, chardev:, null, none", set: |request, text| { request.serials.push(Target::parse("-serial", text)?); Ok(()) } },
    Row { names: &["-debugcon"],        argument: "BACKEND",               help: "the debug console, port 0xe9",                              set: |request, text| { request.debug_ports.push((0xe9, Target::parse("-debugcon", text)?)); Ok(()) } },
    Row { names: &["-device"],          argument: "isa-debug-exit,…",      help: "isa-debug-exit,iobase=,iosize= or isa-debugcon,iobase=,chardev=", set: device::add },
    Row { names: &["-chardev"],         argument: "BACKEND,id=…",          help: "a far end for several: null, stdio, file,path=, socket,path=,server=,wait=,reconnect=; mux=on", set: |request, text| { request.chardevs.push(Chardev::parse(text)?); Ok(()) } },
    Row { names: &["-mon"],             argument: "chardev=,mode=",        help: "a monitor on a -chardev; mode=control is QMP",              set: monitor_on },
    Row { names: &["-monitor"],         argument: "BACKEND",               help: "the monitor for people",                                    set: |request, text| { request.monitors.push(Target::parse("-monitor", text)?); Ok(()) } },
    Row { names: &["-qmp"],             argument: "BACKEND",               help: "the monitor for programs: unix:PATH,server=on,wait=off or stdio", set: |request, text| { request.qmps.push(Target::parse("-qmp", text)?); Ok(()) } },
    Row { names: &["-rtc"],             argument: "base=,clock=",          help: "the clock: base=utc, localtime or a date; after a snapshot clock=host follows the host again, vm keeps the saved time", set: |request, text| { (request.config.rtc, request.config.keep_saved_time) = device::rtc(text)?; Ok(()) } },
    Row { names: &["-no-hpet"],         argument: "",                      help: "without high precision event timers",                       set: |request, _| { request.config.hpet = false; Ok(()) } },
    Row { names: &["-no-reboot"],       argument: "",                      help: "end where the guest resets",                                set: |request, _| { request.config.no_reboot = true; Ok(()) } },
    Row { names: &["-no-shutdown"],     argument: "",                      help: "pause where the guest switches the power off",              set: |request, _| { request.config.no_shutdown = true; Ok(()) } },
    Row { names: &["-S"],               argument: "",                      help: "wait at the first instruction for “cont”",                  set: |request, _| { request.paused = true; Ok(()) } },
    Row { names: &["-d"],               argument: "ITEMS",                 help: "log translations on standard error: in_asm, op, clif, out_asm", set: |request, text| { request.log_items = Some(text.to_owned()); Ok(()) } },
    Row { names: &["-dfilter"],         argument: "RANGES",                help: "only of these offsets in CS: 0x1000..0x1fff,0x8000+0x10",   set: |request, text| { text.clone_into(&mut request.log_ranges); Ok(()) } },
    Row { names: &["-loadvm"],          argument: "NAME",                  help: "start from a saved state: a name of “savevm”, or its folder", set: |request, text| { request.load = Some(text.to_owned()); Ok(()) } },
    Row { names: &["-discard-state"],   argument: "",                      help: "give up the saved state beside a disk (DISK.state) and start the disk as it is", set: |request, _| { request.discard = true; Ok(()) } },
];

fn row(option: &str) -> Option<&'static Row> {
    // QEMU takes two dashes for one.
    let option = option.strip_prefix('-').filter(|rest| rest.starts_with('-')).unwrap_or(option);
    OPTIONS.iter().find(|row| row.names.contains(&option))
}

/// Whether this is an option of `hako run`.
pub fn known(option: &str) -> bool {
    row(option).is_some()
}

/// The list of options.
pub fn help() -> String {
    let mut text = String::from("hako run [OPTIONS] [DISK IMAGE]\n\n");
    for row in OPTIONS {
        let usage = format!("{} {}", row.names.join(", "), row.argument);
        let _ = writeln!(text, "{usage:<30} {}", row.help);
    }
    text.push_str(
        "\nWithout format= an image is taken for what it begins like. A guest then may not write the beginning of another\n\
         format into the first sector of a raw image: it would be believed at the next start. With format=raw it may.\n",
    );
    text
}

/// Parses the arguments after `run`.
pub fn parse(arguments: &[String]) -> Result<Request, CliError> {
    let mut request = Request::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if !argument.starts_with('-') {
            fixed(&mut request, DriveSlot::Ide(0), DriveKind::Disk, argument)?;
            continue;
        }
        let row = row(argument).ok_or_else(|| unknown(argument))?;
        let value = if row.argument.is_empty() {
            ""
        } else {
            arguments
                .next()
                .ok_or_else(|| CliError(format!("{argument} needs an argument: {argument} {}", row.argument)))?
        };
        (row.set)(&mut request, value)?;
    }
    match &request.log_items {
        // Where it is wrong the machine should not even start.
        Some(items) => {
            CodeLog::parse(items, &request.log_ranges).map_err(|error| CliError(format!("-d: {error}")))?;
        }
        None if !request.log_ranges.is_empty() => return refuse("-dfilter is for -d, which is missing"),
        None => {}
    }
    Ok(request)
}

/// An option that there is not, with the nearest that there is.
fn unknown(option: &str) -> CliError {
    let reason = match option.trim_start_matches('-') {
        "enable-kvm" => "KVM is not there yet; the interpreter (-accel interp) runs everywhere",
        "netdev" => "there is no network yet; -nic none works",
        "usb" | "usbdevice" => "there is no USB yet; keyboard and mouse are PS/2",
        "audiodev" | "audio" | "soundhw" => "there is no sound yet",
        "vnc" | "spice" => "there is no remote display; -display window and -display none work",
        "daemonize" => "not there; start it in the background, with -display none and -qmp unix:…",
        "gdb" | "s" => "there is no gdb server yet; the monitor shows registers and memory",
        _ => "not known; “hako run -help” lists what there is",
    };
    CliError(format!("{option}: {reason}"))
}

fn fixed(request: &mut Request, slot: DriveSlot, kind: DriveKind, path: &str) -> Result<(), CliError> {
    if path.is_empty() {
        return refuse("the name of a disk image is empty");
    }
    request.drives.push(DriveRequest::fixed(slot, kind, path));
    Ok(())
}

fn name(request: &mut Request, text: &str) -> Result<(), CliError> {
    let mut pairs = KeyVal::parse("-name", text, Some("guest"))?;
    request.config.name = pairs.need("guest")?;
    pairs.finish("guest")
}

fn machine(request: &mut Request, text: &str) -> Result<(), CliError> {
    let mut pairs = KeyVal::parse("-machine", text, Some("type"))?;
    if let Some(kind) = pairs.take("type").filter(|kind| kind != "pc") {
        return refuse(format!("-machine {kind}: not there; “pc” is an i440FX/PIIX PC"));
    }
    if let Some(engine) = pairs.take("accel") {
        accel(request, "-machine accel", &engine)?;
    }
    if let Some(there) = pairs.switch("hpet")? {
        request.config.hpet = there;
    }
    pairs.finish("type, accel, hpet")
}

fn accel(request: &mut Request, option: &str, text: &str) -> Result<(), CliError> {
    request.config.second = None;
    let Some(both) = text.strip_prefix("diff=") else {
        request.config.accelerator = engine(option, text)?;
        return Ok(());
    };
    let mut parts = both.split(',');
    let (Some(first), Some(second)) = (parts.next(), parts.next()) else {
        return refuse(format!("{option} {text}: two engines are to be compared, as in diff=interp,jit"));
    };
    request.config.accelerator = engine(option, first)?;
    let mut second = SecondEngine { accelerator: engine(option, second)?, trace_from: None };
    for part in parts {
        let from = part.strip_prefix("from=").and_then(|number| number.parse().ok());
        if from.is_none() {
            return refuse(format!("{option} {text}: {part} is not known; from= and the number of an instruction is"));
        }
        second.trace_from = from;
    }
    request.config.second = Some(second);
    Ok(())
}

/// An engine that this host has.
fn engine(option: &str, text: &str) -> Result<Accelerator, CliError> {
    let accelerator = match text {
        "interp" => Accelerator::Interpreter,
        "jit" => Accelerator::Templates,
        "jit=template" if Accelerator::HAS_TEMPLATES => Accelerator::Templates,
        "jit=template" => {
            return refuse(format!("{option} {text}: templates are for Linux on x86-64 only; “jit” and “interp” work"));
        }
        "jit=cranelift" => Accelerator::Cranelift,
        "kvm" | "tcg" => {
            return refuse(format!(
                "{option} {text}: not there yet; “interp” and “jit” work (see hako --capabilities)"
            ));
        }
        other => return refuse(format!("{option} {other}: not known; “interp” and “jit” work")),
    };
    match accelerator.available() {
        Ok(()) => Ok(accelerator),
        Err(reason) => refuse(format!("{option} {text}: {reason}; “interp” works")),
    }
}

fn cpu(request: &mut Request, text: &str) -> Result<(), CliError> {
    CpuModel::from_name(text).map_err(|error| CliError(format!("-cpu: {error}")))?;
    text.clone_into(&mut request.config.cpu);
    Ok(())
}

fn smp(_: &mut Request, text: &str) -> Result<(), CliError> {
    let mut pairs = KeyVal::parse("-smp", text, Some("cpus"))?;
    match pairs.need("cpus")?.as_str() {
        "1" => pairs.finish("cpus"),
        other => refuse(format!("-smp {other}: one processor is all there is yet; use -smp 1")),
    }
}

fn vga(request: &mut Request, text: &str) -> Result<(), CliError> {
    request.config.vga = match text {
        "std" => true,
        "none" => false,
        other => return refuse(format!("-vga {other}: not there; std and none are")),
    };
    Ok(())
}

fn display(request: &mut Request, text: &str) -> Result<(), CliError> {
    request.display = Some(match text {
        "window" => Display::Window,
        "none" => Display::None,
        other => return refuse(format!("-display {other}: not there; window and none are")),
    });
    Ok(())
}

fn network(option: &str, text: &str) -> Result<(), CliError> {
    if text == "none" { Ok(()) } else { refuse(format!("{option} {text}: there is no network yet; use {option} none")) }
}

fn monitor_on(request: &mut Request, text: &str) -> Result<(), CliError> {
    let mut pairs = KeyVal::parse("-mon", text, Some("chardev"))?;
    let target = Target::Shared(pairs.need("chardev")?);
    match pairs.take("mode").as_deref() {
        None | Some("readline") => request.monitors.push(target),
        Some("control") => request.qmps.push(target),
        Some(other) => return refuse(format!("-mon mode={other}: must be readline or control")),
    }
    pairs.finish("chardev, mode")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_as_one_types_it() {
        let request = parse(&words(
            "-M pc,hpet=off -m 64 -smp 1 -accel interp -cpu pentium2 -fda a.img -cdrom b.iso -boot d -snapshot -vga std \
             -display none -nodefaults -nic none -net none -serial mon:stdio -qmp unix:/tmp/q,server,nowait \
             -debugcon file:/tmp/log -device isa-debug-exit,iobase=0xf4,iosize=0x04 -rtc base=utc -name test \
             --no-reboot -no-shutdown -S -kernel k -initrd i -append quiet",
        ))
        .unwrap();
        assert_eq!(request.config.memory_mib, 64);
        assert!(!request.config.hpet);
        assert_eq!(request.config.debug_exit, Some((0xf4, 4)));
        assert_eq!(request.config.boot, "d");
        assert!(request.config.no_reboot && request.config.no_shutdown && request.paused && request.temporary);
        assert_eq!(request.drives.len(), 2);
        assert_eq!(request.qmps.len(), 1);
        assert_eq!(request.append.as_deref(), Some("quiet"));
    }

    #[test]
    fn an_unknown_or_unsupported_option_is_named() {
        for (line, word) in [
            ("-frobnicate", "-frobnicate"),
            ("-enable-kvm", "KVM"),
            ("-accel kvm", "interp"),
            ("-accel tcg", "interp"),
            ("-accel jit=faster", "interp"),
            ("-d cpu", "in_asm"),
            ("-d op -dfilter here", "here"),
            ("-dfilter 0x1000", "-d"),
            ("-accel diff=interp", "diff=interp,jit"),
            ("-accel diff=interp,tcg", "tcg"),
            ("-accel diff=interp,interp,from=here", "from=here"),
            ("-M q35", "q35"),
            ("-M pc,hpet=maybe", "hpet=maybe"),
            ("-smp 4", "-smp 1"),
            ("-cpu host", "pentium-m"),
            ("-vga qxl", "qxl"),
            ("-display gtk", "gtk"),
            ("-nic user", "network"),
            ("-device e1000", "e1000"),
            ("-m", "-m"),
            ("-fda", "-fda"),
        ] {
            let error = parse(&words(line)).unwrap_err().to_string();
            assert!(error.contains(word), "{line}: {error}");
        }
    }

    #[test]
    fn every_row_is_spelled_like_an_option() {
        let names: Vec<_> = OPTIONS.iter().flat_map(|row| row.names).collect();
        for (index, name) in names.iter().enumerate() {
            assert!(name.starts_with('-') && !name.starts_with("--"), "{name}");
            assert!(!names[..index].contains(name), "{name} stands there twice");
            assert!(help().contains(**name));
        }
    }
}
