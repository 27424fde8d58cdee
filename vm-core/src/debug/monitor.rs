//! The human monitor: one line in, text out.
//!
//! [`execute`] runs on the machine's thread against a [`MonitorTarget`]. [`serve`](serve::start) is a terminal or socket that sends
//! its lines there.

pub mod examine;
mod interrupts;
mod media;
pub mod serve;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use super::screendump::{self, Format};
use crate::bus::signals::StopReason;
use crate::calendar::utc;
use crate::cpu::block::log::CodeLog;
use crate::frame::Frame;
use crate::input::Key;
use crate::machine::interrupts::InterruptControllers;
use crate::runner::{BlockInfo, MediumChange, RunState};
use crate::snapshot::tree::{SnapshotId, SnapshotTree, words};

/// How long `sendkey` holds its keys, in milliseconds.
pub const DEFAULT_HOLD_MS: u32 = 100;
/// Longest hold, in milliseconds.
pub const MAX_HOLD_MS: u32 = 10_000;
/// Most keys pressed at once.
const MAX_KEYS: usize = 16;
/// Longest line in bytes.
pub const MAX_LINE: usize = 4096;

/// What the monitor can do with a machine.
pub trait MonitorTarget {
    /// All registers, as text for people.
    fn registers(&mut self) -> String;
    /// One register by its name (`eip`, `cs`, `cr3` …), for `$eip` in addresses.
    fn register(&mut self, name: &str) -> Option<u64>;
    /// 16, 32 or 64: how code at the present instruction is decoded.
    fn code_bits(&mut self) -> u32;
    /// What the machine is doing.
    fn state(&self) -> RunState;
    /// Drives and media.
    fn blocks(&mut self) -> Vec<BlockInfo>;
    /// Registers of the interrupt controllers.
    fn interrupt_controllers(&mut self) -> InterruptControllers;
    /// What the processor has translated.
    fn code_in_words(&mut self) -> String;
    /// Writes translations to the log from now on; everything is translated anew for it.
    fn log_code(&mut self, log: CodeLog);
    /// Reads physical memory without side effects; false where no memory is at some byte.
    fn read_physical(&mut self, address: u64, into: &mut [u8]) -> bool;
    /// Reads linear memory by the present page tables, without side effects; false where some page is not mapped.
    fn read_linear(&mut self, address: u64, into: &mut [u8]) -> bool;
    /// Pauses.
    fn pause(&mut self);
    /// Goes on.
    fn resume(&mut self);
    /// Presses the reset button.
    fn reset(&mut self);
    /// Presses the power button.
    fn power_button(&mut self);
    /// Ends the machine.
    fn quit(&mut self);
    /// Stops the machine, saves its state and ends it, as one action; without a folder to where its state belongs.
    ///
    /// # Errors
    /// In words; the machine is whole.
    fn save_and_close(&mut self, folder: &str) -> Result<(), String>;
    /// Takes a snapshot; without a name one is made up. `adopt`: of raw disks too, whose images are only read from then on.
    ///
    /// # Errors
    /// In words.
    fn save_state(&mut self, name: &str, adopt: bool) -> Result<(), String>;
    /// Deletes a snapshot.
    ///
    /// # Errors
    /// In words.
    fn delete_state(&mut self, name: &str) -> Result<(), String>;
    /// Cancels what is being done with snapshots.
    ///
    /// # Errors
    /// In words, where nothing is.
    fn cancel_snapshot(&mut self) -> Result<(), String>;
    /// All snapshots.
    ///
    /// # Errors
    /// In words.
    fn snapshots(&mut self) -> Result<SnapshotTree, String>;
    /// Goes to a saved state.
    ///
    /// # Errors
    /// In words; nothing has changed then.
    fn load_state(&mut self, name: &str) -> Result<(), String>;
    /// Presses all, holds them, releases in reverse order; returns at once.
    fn send_keys(&mut self, keys: Vec<Key>, hold_ms: u32);
    /// The picture now.
    fn screen(&mut self) -> Option<Arc<Frame>>;
    /// Does this with the medium of the drive called `drive` ([`BlockInfo::name`]).
    ///
    /// # Errors
    /// In words.
    fn change_medium(&mut self, drive: &str, change: MediumChange) -> Result<(), String>;
}

/// A monitor command: name and short name, arguments, what it does, how.
struct Row {
    name: &'static str,
    short: &'static str,
    arguments: &'static str,
    help: &'static str,
    run: fn(&str, &mut dyn MonitorTarget) -> Result<String, String>,
}

#[rustfmt::skip]
const COMMANDS: &[Row] = &[
    Row { name: "cancelvm",         short: "",  arguments: "",                 help: "cancel the savevm, loadvm or delvm that another monitor waits for", run: |_, machine| machine.cancel_snapshot().map(|()| String::new()) },
    Row { name: "change",           short: "",  arguments: "DRIVE [-f] FILE [FORMAT [ACCESS]]", help: "put another medium into a drive", run: media::change },
    Row { name: "cont",             short: "c", arguments: "",                 help: "go on",                                      run: |_, machine| tell(machine, |machine| machine.resume()) },
    Row { name: "delvm",            short: "",  arguments: "NAME",             help: "delete a snapshot",                          run: |name, machine| named(name).and_then(|name| machine.delete_state(name)).map(|()| String::new()) },
    Row { name: "eject",            short: "",  arguments: "[-f] DRIVE",       help: "take the medium out of a drive; -f: also if the guest has locked it", run: media::eject },
    Row { name: "help",             short: "?", arguments: "[COMMAND]",        help: "this list",                                  run: |name, _| help(name) },
    Row { name: "info",             short: "",  arguments: "TOPIC",            help: "registers, status, block, pic, lapic, jit, snapshots, version", run: info },
    Row { name: "loadvm",           short: "",  arguments: "NAME",             help: "go to a snapshot; the present is kept as one", run: |name, machine| named(name).and_then(|name| machine.load_state(name)).map(|()| String::new()) },
    Row { name: "log",              short: "",  arguments: "ITEMS [RANGES]",   help: "write translations to the log: in_asm,op,clif,out_asm of 0x1000..0x1fff,0x8000+0x10; none ends it", run: log },
    Row { name: "quit",             short: "q", arguments: "",                 help: "end the machine as if its plug were pulled", run: |_, machine| tell(machine, |machine| machine.quit()) },
    Row { name: "save_and_close",   short: "",  arguments: "[FOLDER]",         help: "stop, save the state and end, as one action; the next start goes on there", run: |folder, machine| machine.save_and_close(folder).map(|()| String::new()) },
    Row { name: "savevm",           short: "",  arguments: "[-a] [NAME]",      help: "take a snapshot; -a: raw disks are adopted for it", run: savevm },
    Row { name: "screendump",       short: "",  arguments: "FILE [-f FORMAT]", help: "write the picture to a file, as ppm or png", run: dump },
    Row { name: "sendkey",          short: "",  arguments: "KEYS [HOLD]",      help: "press keys: ctrl-alt-delete; HOLD in ms",    run: sendkey },
    Row { name: "stop",             short: "s", arguments: "",                 help: "pause",                                      run: |_, machine| tell(machine, |machine| machine.pause()) },
    Row { name: "system_powerdown", short: "",  arguments: "",                 help: "press the power button",                     run: |_, machine| tell(machine, |machine| machine.power_button()) },
    Row { name: "system_reset",     short: "",  arguments: "",                 help: "press the reset button",                     run: |_, machine| tell(machine, |machine| machine.reset()) },
    Row { name: "x",                short: "",  arguments: "/FORMAT ADDRESS",  help: "show linear memory: x/10xw 0x7c00, x/5i $eip", run: |line, machine| examine::examine(line, machine, examine::Space::Linear) },
    Row { name: "xp",               short: "",  arguments: "/FORMAT ADDRESS",  help: "show physical memory",                       run: |line, machine| examine::examine(line, machine, examine::Space::Physical) },
];

/// Carries out one line and returns what it prints (lines end with a newline).
///
/// # Errors
/// In words that name what was not understood or did not work.
pub fn execute(line: &str, machine: &mut dyn MonitorTarget) -> Result<String, String> {
    if line.len() > MAX_LINE {
        return Err(format!("the line is longer than {MAX_LINE} bytes"));
    }
    let line = line.trim();
    if line.is_empty() {
        return Ok(String::new());
    }
    // "x/4xw 0" has no blank after its name.
    let end = line.find(|c: char| c.is_whitespace() || c == '/').unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    let row = COMMANDS.iter().find(|row| row.name == name || (!row.short.is_empty() && row.short == name));
    let row = row.ok_or_else(|| format!("{name}: no such command; “help” lists what there is"))?;
    (row.run)(rest.trim(), machine)
}

#[expect(clippy::unnecessary_wraps, reason = "rows of the table have one type")]
fn tell(machine: &mut dyn MonitorTarget, action: fn(&mut dyn MonitorTarget)) -> Result<String, String> {
    action(machine);
    Ok(String::new())
}

fn help(name: &str) -> Result<String, String> {
    let mut text = String::new();
    for row in COMMANDS.iter().filter(|row| name.is_empty() || row.name == name || row.short == name) {
        let names = if row.short.is_empty() { row.name.to_owned() } else { format!("{}|{}", row.name, row.short) };
        let usage = format!("{names} {}", row.arguments);
        let _ = writeln!(text, "{usage:<36} {}", row.help);
    }
    if text.is_empty() { Err(format!("{name}: no such command")) } else { Ok(text) }
}

/// A state's name: one word that is safe as a file name.
fn named(name: &str) -> Result<&str, String> {
    let safe = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ');
    if name.is_empty() {
        Err("a name is missing".to_owned())
    } else if name.len() > 100 || name.starts_with('.') || !name.chars().all(safe) {
        Err(format!("{name}: a state's name has up to 100 letters, digits, blanks, “-”, “_” and “.”"))
    } else {
        Ok(name)
    }
}

fn log(arguments: &str, machine: &mut dyn MonitorTarget) -> Result<String, String> {
    let (items, ranges) = arguments.split_once(char::is_whitespace).unwrap_or((arguments, ""));
    machine.log_code(CodeLog::parse(items, ranges)?);
    Ok(String::new())
}

fn savevm(arguments: &str, machine: &mut dyn MonitorTarget) -> Result<String, String> {
    let (name, adopt) = match arguments.strip_prefix("-a").filter(|rest| rest.is_empty() || rest.starts_with(' ')) {
        Some(rest) => (rest.trim(), true),
        None => (arguments, false),
    };
    let name = if name.is_empty() { name } else { named(name)? };
    machine.save_state(name, adopt).map(|()| String::new())
}

/// The tree as a table, children below their parents.
pub fn snapshots_in_words(tree: &SnapshotTree) -> String {
    fn below(tree: &SnapshotTree, parent: Option<SnapshotId>, depth: usize, text: &mut String) {
        // A tree that was checked has no rings.
        for snapshot in tree.snapshots.iter().filter(|snapshot| snapshot.parent == parent) {
            let name = format!("{}{}", "  ".repeat(depth.min(20)), snapshot.name);
            let now = if tree.present == Some(snapshot.id) { " ← now" } else { "" };
            let memory = if snapshot.has_memory { "" } else { " (disks only)" };
            let size = words(snapshot.own_bytes);
            let _ =
                writeln!(text, "{:<4} {name:<32} {} {size:>10}{memory}{now}", snapshot.id.0, utc(snapshot.taken_at));
            below(tree, Some(snapshot.id), depth + 1, text);
        }
    }
    if tree.snapshots.is_empty() {
        return "there are no snapshots\n".to_owned();
    }
    let mut text = format!("{:<4} {:<32} {:<19} {:>10}\n", "ID", "NAME", "TAKEN (UTC)", "OWN BYTES");
    below(tree, None, 0, &mut text);
    text
}

fn info(topic: &str, machine: &mut dyn MonitorTarget) -> Result<String, String> {
    match topic {
        "registers" => {
            let mut text = machine.registers();
            if !text.ends_with('\n') {
                text.push('\n');
            }
            Ok(text)
        }
        "status" => Ok(format!("VM status: {}\n", status_in_words(&machine.state()))),
        "block" => Ok(media::in_words(&machine.blocks())),
        "pic" => Ok(interrupts::pic_in_words(&machine.interrupt_controllers())),
        "lapic" => interrupts::local_apic_in_words(&machine.interrupt_controllers()),
        "jit" => Ok(machine.code_in_words()),
        "snapshots" => Ok(snapshots_in_words(&machine.snapshots()?)),
        "version" => Ok(concat!(env!("CARGO_PKG_VERSION"), "\n").to_owned()),
        "" => Err("info needs a topic: registers, status, block, pic, lapic, jit, snapshots or version".to_owned()),
        other => Err(format!(
            "info {other}: no such topic; there are registers, status, block, pic, lapic, jit, snapshots and version"
        )),
    }
}

/// `running`, or `paused (…)` with the reason.
pub fn status_in_words(state: &RunState) -> String {
    match state {
        RunState::Starting => "paused (starting)".to_owned(),
        RunState::Running => "running".to_owned(),
        RunState::Paused => "paused".to_owned(),
        RunState::Saving => "paused (a state is being saved)".to_owned(),
        RunState::Stopped(StopReason::TripleFault) => "paused (triple fault: only a reset helps)".to_owned(),
        RunState::Stopped(StopReason::PowerOff) => "paused (the guest switched the power off)".to_owned(),
        RunState::Stopped(StopReason::DebugExit(value)) => format!("paused (isa-debug-exit {value})"),
        RunState::Stopped(StopReason::DiskError(text)) => format!("paused (disk error: {text})"),
        RunState::Stopped(StopReason::Damaged(text)) => format!("paused (damaged: {text})"),
        RunState::Stopped(StopReason::EnginesDiffer(text)) => format!("paused ({text})"),
        RunState::Ended(_) => "ended".to_owned(),
    }
}

/// The keys of `ctrl-alt-delete`, by name or as `0x1e` (scan-code set 1).
///
/// # Errors
/// Names the key that there is not.
pub fn parse_keys(text: &str) -> Result<Vec<Key>, String> {
    let keys = text.split('-').map(key_named).collect::<Result<Vec<_>, _>>()?;
    if keys.len() > MAX_KEYS {
        return Err(format!("more than {MAX_KEYS} keys at once"));
    }
    Ok(keys)
}

fn key_named(name: &str) -> Result<Key, String> {
    if let Some(code) = name.strip_prefix("0x").and_then(|digits| u16::from_str_radix(digits, 16).ok()) {
        return key_numbered(code).ok_or_else(|| format!("{name}: no key has this code"));
    }
    let usual = match name {
        "enter" => "ret",
        "escape" => "esc",
        "space" => "spc",
        "alt_l" => "alt",
        "ctrl_l" => "ctrl",
        "shift_l" => "shift",
        "asterisk" => "kp_multiply",
        other => other,
    };
    Key::from_qcode(usual).ok_or_else(|| format!("{name}: no key has this name"))
}

/// The key with this number in the protocol: its set-1 code, plus 0x80 where that has the prefix 0xE0.
pub fn key_numbered(number: u16) -> Option<Key> {
    Key::ALL.iter().copied().find(|key| match key.set1() {
        0xe11d => number == 0xc6,
        code if code > 0xff => number == (code & 0x7f) | 0x80,
        code => number == code,
    })
}

fn sendkey(arguments: &str, machine: &mut dyn MonitorTarget) -> Result<String, String> {
    let mut words = arguments.split_whitespace();
    let keys = parse_keys(words.next().ok_or("sendkey needs keys, such as ctrl-alt-delete")?)?;
    let hold = match words.next() {
        None => DEFAULT_HOLD_MS,
        Some(word) => word.parse().map_err(|_| format!("{word}: not a time in milliseconds"))?,
    };
    machine.send_keys(keys, hold.min(MAX_HOLD_MS));
    Ok(String::new())
}

fn dump(arguments: &str, machine: &mut dyn MonitorTarget) -> Result<String, String> {
    let (path, format) = match arguments.split_once(" -f ") {
        Some((path, format)) => (path, format.trim()),
        None => (arguments, "ppm"),
    };
    let format = Format::from_name(format).ok_or_else(|| format!("{format}: not a format; there are ppm and png"))?;
    if path.trim().is_empty() {
        return Err("screendump needs a file".to_owned());
    }
    let frame = machine.screen().ok_or("the machine shows no picture")?;
    screendump::write(&frame, Path::new(path.trim()), format)?;
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DriveKind, DriveSlot, ImageFormat};

    #[derive(Default)]
    pub struct Fake {
        pub memory: Vec<u8>,
        said: Vec<String>,
    }

    impl MonitorTarget for Fake {
        fn registers(&mut self) -> String {
            "EAX=00000001".to_owned()
        }
        fn register(&mut self, name: &str) -> Option<u64> {
            (name == "eip").then_some(4)
        }
        fn code_bits(&mut self) -> u32 {
            16
        }
        fn state(&self) -> RunState {
            RunState::Stopped(StopReason::TripleFault)
        }
        fn interrupt_controllers(&mut self) -> InterruptControllers {
            interrupts::tests::controllers()
        }
        fn log_code(&mut self, log: CodeLog) {
            assert!(log.ops && log.host && !log.guest);
        }
        fn code_in_words(&mut self) -> String {
            "native: 2, with 9 instructions".to_owned()
        }
        fn blocks(&mut self) -> Vec<BlockInfo> {
            vec![BlockInfo {
                slot: DriveSlot::Ide(2),
                kind: DriveKind::Cd,
                path: Some("/tmp/a.iso".into()),
                read_only: true,
                temporary: false,
                bytes: 2048,
                format: ImageFormat::Raw,
                tray_open: Some(false),
                locked: true,
            }]
        }
        fn read_physical(&mut self, address: u64, into: &mut [u8]) -> bool {
            self.memory
                .get(address as usize..)
                .and_then(|rest| rest.get(..into.len()))
                .map(|bytes| into.copy_from_slice(bytes))
                .is_some()
        }
        fn read_linear(&mut self, address: u64, into: &mut [u8]) -> bool {
            self.read_physical(address, into)
        }
        fn pause(&mut self) {
            self.said.push("pause".to_owned());
        }
        fn resume(&mut self) {}
        fn reset(&mut self) {}
        fn power_button(&mut self) {}
        fn quit(&mut self) {}
        fn save_and_close(&mut self, folder: &str) -> Result<(), String> {
            self.said.push(format!("close into “{folder}”"));
            Ok(())
        }
        fn save_state(&mut self, name: &str, adopt: bool) -> Result<(), String> {
            self.said.push(format!("save {name}{}", if adopt { " and adopt" } else { "" }));
            Ok(())
        }
        fn delete_state(&mut self, name: &str) -> Result<(), String> {
            self.said.push(format!("delete {name}"));
            Ok(())
        }
        fn cancel_snapshot(&mut self) -> Result<(), String> {
            self.said.push("cancel".to_owned());
            Ok(())
        }
        fn snapshots(&mut self) -> Result<SnapshotTree, String> {
            Ok(SnapshotTree::default())
        }
        fn load_state(&mut self, _: &str) -> Result<(), String> {
            Err("there is none".to_owned())
        }
        fn send_keys(&mut self, keys: Vec<Key>, hold_ms: u32) {
            self.said.push(format!("{keys:?} {hold_ms}"));
        }
        fn screen(&mut self) -> Option<Arc<Frame>> {
            None
        }
        fn change_medium(&mut self, drive: &str, change: MediumChange) -> Result<(), String> {
            self.said.push(format!("{drive} {change:?}"));
            Ok(())
        }
    }

    #[test]
    fn lines_reach_the_machine() {
        let mut machine = Fake::default();
        let mut say = |line| execute(line, &mut machine);
        assert_eq!(say("info registers").unwrap(), "EAX=00000001\n");
        assert!(say("info jit").unwrap().contains("native: 2, with 9 instructions"));
        say("log op,out_asm 0x1000..0x1fff").unwrap();
        assert!(say("log registers").unwrap_err().contains("in_asm"));
        assert!(say("info status").unwrap().contains("triple fault"));
        assert!(say("info pic").unwrap().contains("pic1: "));
        assert!(say("info lapic").unwrap().contains("LVT0"));
        assert_eq!(
            say("info block").unwrap(),
            "ide1-cd0: CD-ROM, /tmp/a.iso (raw, 2048 bytes, read-only)\n    Removable device: locked, tray closed\n"
        );
        say("s").unwrap();
        say("savevm before lunch").unwrap();
        say("sendkey ctrl-alt-delete 250").unwrap();
        say("sendkey 0x1e-0xcb").unwrap();
        say("eject ide1-cd0").unwrap();
        assert!(say("help").unwrap().lines().count() == COMMANDS.len());
        assert_eq!(
            machine.said,
            [
                "pause",
                "save before lunch",
                "[ControlLeft, AltLeft, Delete] 250",
                "[A, ArrowLeft] 100",
                "ide1-cd0 Eject { force: false }"
            ]
        );
    }

    #[test]
    fn media_are_named_with_blanks_quotes_format_and_access() {
        let mut machine = Fake::default();
        for line in [
            "change ide1-cd0 /tmp/my file.iso",
            "change floppy0 -f /tmp/a.img raw read-only",
            "change -f floppy0 raw",
            "change floppy0 \"/tmp/a raw\" qcow2",
            "change floppy0 \"/tmp/b\"",
            "eject -f ide1-cd0",
        ] {
            execute(line, &mut machine).unwrap();
        }
        let insert = |path, rest| format!("Insert {{ path: {path:?}, {rest} }}");
        assert_eq!(
            machine.said,
            [
                format!("ide1-cd0 {}", insert("/tmp/my file.iso", "format: None, access: Retain, force: false")),
                format!("floppy0 {}", insert("/tmp/a.img", "format: Some(Raw), access: ReadOnly, force: true")),
                format!("floppy0 {}", insert("raw", "format: None, access: Retain, force: true")),
                format!("floppy0 {}", insert("/tmp/a raw", "format: Some(Qcow2), access: Retain, force: false")),
                format!("floppy0 {}", insert("/tmp/b", "format: None, access: Retain, force: false")),
                "ide1-cd0 Eject { force: true }".to_owned(),
            ]
        );
        for (line, word) in [
            ("change floppy0", "file"),
            ("change floppy0 \"/tmp/a", "quotes"),
            ("change floppy0 \"/tmp/a\" vmdk", "vmdk"),
            ("eject -f", "drive"),
        ] {
            assert!(execute(line, &mut machine).unwrap_err().contains(word), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let mut machine = Fake::default();
        for (line, word) in [
            ("frobnicate", "frobnicate"),
            ("info usb", "usb"),
            ("sendkey ctrl-hyper", "hyper"),
            ("savevm ../../etc/x", "../../etc/x"),
            ("loadvm x", "there is none"),
            ("screendump /tmp/x", "no picture"),
            ("screendump /tmp/x -f gif", "gif"),
            ("sendkey a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a", "16"),
        ] {
            let error = execute(line, &mut machine).unwrap_err();
            assert!(error.contains(word), "{line}: {error}");
        }
    }

    #[test]
    fn memory_is_shown_in_every_format() {
        let mut machine = Fake { memory: (0..64).collect(), ..Fake::default() };
        machine.memory[4..7].copy_from_slice(&[0x31, 0xc0, 0xf4]);
        let mut say = |line| execute(line, &mut machine);
        assert_eq!(say("xp/2xw 8").unwrap(), "00000008: 0x0b0a0908 0x0f0e0d0c\n");
        assert_eq!(say("x /3db 8+2*1").unwrap(), "0000000a: 10 11 12\n");
        assert_eq!(
            say("x/2i $eip").unwrap(),
            "00000004:  31c0                 xor ax,ax\n00000006:  f4                   hlt\n"
        );
        assert!(say("xp/17xb 0").unwrap().lines().count() == 2);
        assert!(say("xp/4xw 62").unwrap_err().contains("0000003e"));
        assert!(say("xp/99999999xg 0").unwrap_err().contains("at most"));
        assert!(say("xp/2xw").unwrap_err().contains("address"));
        assert!(say("xp/2xq 0").unwrap_err().contains('q'));
        assert!(say("xp 0x").unwrap_err().contains("0x"));
        assert!(say("x $rip").unwrap_err().contains("rip"));
    }
}
