//! Tiny guests of our own: what the command line connects to ports works.

use crate::files::Folder;
use crate::guest::{Guest, run_to_end, word};

/// A 1.44 MB floppy whose boot sector is `code`.
fn floppy(folder: &Folder, code: &[u8]) -> std::path::PathBuf {
    let mut image = vec![0; 1_474_560];
    image[..code.len()].copy_from_slice(code);
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    folder.write("boot.img", &image)
}

/// `mov dx, port; mov al, value; out dx, al`.
fn out(port: u16, value: u8) -> Vec<u8> {
    let [low, high] = port.to_le_bytes();
    vec![0xba, low, high, 0xb0, value, 0xee]
}

/// `sti; 1: hlt; jmp 1b`.
const SLEEP: [u8; 4] = [0xfb, 0xf4, 0xeb, 0xfd];

fn text_to(port: u16, text: &str) -> Vec<u8> {
    text.bytes().flat_map(|byte| out(port, byte)).collect()
}

#[test]
fn isa_debug_exit_leaves_with_an_odd_code() {
    let folder = Folder::new("exit");
    let image = floppy(&folder, &out(0xf4, 0x10));
    let (code, _, errors) = run_to_end(&[
        "run",
        "-display",
        "none",
        "-m",
        "16",
        "-fda",
        word(&image),
        "-boot",
        "a",
        "-device",
        "isa-debug-exit,iobase=0xf4,iosize=0x04",
    ]);
    assert_eq!(code, 0x21, "{errors}");
}

#[test]
fn the_debug_console_and_a_serial_line_write_files() {
    let folder = Folder::new("ports");
    let (console, serial) = (folder.join("console"), folder.join("serial"));
    let code = [text_to(0xe9, "hello e9\n"), text_to(0x3f8, "hi"), out(0xf4, 0)].concat();
    let image = floppy(&folder, &code);
    let (code, _, errors) = run_to_end(&[
        "run",
        "-display",
        "none",
        "-m",
        "16",
        "-fda",
        word(&image),
        "-device",
        "isa-debug-exit,iobase=0xf4,iosize=1",
        "-debugcon",
        &format!("file:{}", console.display()),
        "-serial",
        &format!("file:{}", serial.display()),
    ]);
    assert_eq!(code, 1, "{errors}");
    assert_eq!(std::fs::read_to_string(&console).unwrap(), "hello e9\n");
    // The receiver may drop a byte that comes before the first has left; the first is always there.
    assert!(std::fs::read_to_string(&serial).unwrap().starts_with('h'));
}

#[test]
fn a_reset_ends_a_machine_that_may_not_reboot() {
    let folder = Folder::new("noreboot");
    let image = floppy(&folder, &out(0x64, 0xfe));
    let (code, _, errors) = run_to_end(&["run", "-display", "none", "-m", "16", "-fda", word(&image), "-no-reboot"]);
    assert_eq!(code, 0, "{errors}");
}

/// `lidt [zero]; int3` with an empty table: nothing can handle the breakpoint, nor the fault about it.
const TRIPLE_FAULT: [u8; 13] = [0x2e, 0x0f, 0x01, 0x1e, 0x07, 0x7c, 0xcc, 0, 0, 0, 0, 0, 0];

#[test]
fn a_triple_fault_stops_the_machine_says_so_and_a_reset_helps() {
    let folder = Folder::new("triple");
    let image = floppy(&folder, &TRIPLE_FAULT);
    let mut guest = Guest::start_in(folder, &["-m", "16", "-fda", word(&image)]);
    guest.qmp().event("STOP", crate::guest::PATIENCE);
    assert!(guest.monitor("info status").contains("triple fault"));
    assert!(guest.errors().contains("triple fault"), "{}", guest.errors());
    guest.command("system_reset", serde_json::json!({}));
    guest.qmp().event("RESET", crate::guest::PATIENCE);
    // It boots, and falls again.
    guest.qmp().event("STOP", crate::guest::PATIENCE);
    guest.quit();
}

#[test]
fn a_triple_fault_that_nobody_could_help_ends_with_an_error() {
    let folder = Folder::new("triple1");
    let image = floppy(&folder, &TRIPLE_FAULT);
    let (code, _, errors) = run_to_end(&["run", "-display", "none", "-m", "16", "-fda", word(&image)]);
    assert_eq!(code, 1);
    assert!(errors.contains("triple fault"), "{errors}");
}

#[test]
fn stop_holds_the_guest_and_cont_lets_it_go_on() {
    let folder = Folder::new("stop");
    let image = floppy(&folder, &SLEEP);
    let mut guest = Guest::start_in(folder, &["-m", "16", "-fda", word(&image), "-S"]);
    assert!(guest.monitor("info status").contains("paused"));
    let status = guest.command("query-status", serde_json::json!({}));
    assert_eq!(status["running"], false);
    guest.command("cont", serde_json::json!({}));
    guest.qmp().event("RESUME", crate::guest::PATIENCE);
    let loaded = |guest: &mut Guest| guest.monitor("x/1xh 0x7dfe").contains("0xaa55");
    crate::guest::wait_until("the boot sector in memory", || loaded(&mut guest).then_some(()));
    guest.command("stop", serde_json::json!({}));
    guest.qmp().event("STOP", crate::guest::PATIENCE);
    let ticks = guest.monitor("xp/1xw 0x46c");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(guest.monitor("xp/1xw 0x46c"), ticks, "the clock of a paused guest runs");
    assert!(guest.monitor("info registers").contains("EIP="));
    assert!(guest.monitor("info block").contains("boot.img"));
    guest.command("cont", serde_json::json!({}));
    crate::guest::wait_until("the clock to go on", || (guest.monitor("xp/1xw 0x46c") != ticks).then_some(()));
    guest.quit();
}
