//! What can go wrong with a machine, and what its window offers then.

use std::path::{Path, PathBuf};

use crate::desktop::{Desktop, Picture, theme};
use crate::files::{shared, tool, writable};
use crate::guest::{wait_until, word};

/// A machine with a floppy in the library, not started.
fn floppy(desktop: &Desktop, id: &str, image: &Path, more: &str) {
    let drive = format!("(slot: \"fda\", kind: \"floppy\", path: Some({:?}){more})", word(image));
    desktop.machine(id, &format!("    boot: \"a\",\n    drives: [{drive}],\n"));
}

fn open(desktop: &mut Desktop) {
    let nowhere = desktop.folder.join("nowhere");
    desktop.start(&[], &nowhere);
}

/// The middle of the first button of a banner.
fn step_of_banner(picture: &Picture) -> Option<(usize, usize)> {
    let (x, y) = picture.area_of(theme::BANNER, (0, 0), (160, 6))?;
    let (x, y) = picture.area_of(theme::BUTTON, (x, y), (20, 6))?;
    Some((x + 10, y + 10))
}

#[test]
fn a_guest_whose_processor_shuts_down_is_offered_a_reset() {
    let mut desktop = Desktop::new("triple");
    // The first time it ends in a triple fault; what it notes in the clock chip's memory outlives the reset.
    #[rustfmt::skip]
    let code = [
        0xb0, 0x50,                   // 00 mov al, 50h
        0xe6, 0x70,                   // 02 out 70h, al
        0xe4, 0x71,                   // 04 in al, 71h
        0x3c, 0x5a,                   // 06 cmp al, 5ah
        0x74, 0x0e,                   // 08 je 18h
        0xb0, 0x50,                   // 0a mov al, 50h
        0xe6, 0x70,                   // 0c out 70h, al
        0xb0, 0x5a,                   // 0e mov al, 5ah
        0xe6, 0x71,                   // 10 out 71h, al
        0x0f, 0x01, 0x1e, 0x40, 0x7c, // 12 lidt [7c40h], a table of no entries
        0xcc,                         // 17 int3
        0x31, 0xc0,                   // 18 xor ax, ax
        0x8e, 0xd8,                   // 1a mov ds, ax
        0xbe, 0x50, 0x7c,             // 1c mov si, 7c50h
        0xac,                         // 1f lodsb
        0x08, 0xc0,                   // 20 or al, al
        0x74, 0x09,                   // 22 jz 2dh
        0xb4, 0x0e,                   // 24 mov ah, 0eh
        0xbb, 0x07, 0x00,             // 26 mov bx, 7
        0xcd, 0x10,                   // 29 int 10h
        0xeb, 0xf2,                   // 2b jmp 1fh
        0xfa, 0xf4,                   // 2d cli; hlt
    ];
    let mut sector = vec![0; 1_474_560];
    sector[..code.len()].copy_from_slice(&code);
    sector[0x50..0x5a].copy_from_slice(b"back again");
    sector[510..512].copy_from_slice(&[0x55, 0xaa]);
    let image = desktop.folder.write("crash.img", &sector);
    floppy(&desktop, "crash", &image, "");
    open(&mut desktop);
    desktop.press("ctrl+Return");
    let reset = desktop.wait_for_picture("the banner", step_of_banner);
    desktop.keep("triple-fault.png");
    desktop.click(reset);
    desktop.wait_for("back again");
    assert!(step_of_banner(&desktop.picture()).is_none(), "the banner stays");
}

/// How large a file the running program may write, as of now.
fn limit_files(desktop: &Desktop, bytes: &str) {
    tool("prlimit", &["--pid", &desktop.process().to_string(), &format!("--fsize={bytes}:unlimited")]);
}

#[test]
fn a_disk_that_fails_waits_for_the_person_and_trying_again_goes_on() {
    let mut desktop = Desktop::new("full");
    let image = writable(&shared("freedos722.img"), &desktop.folder);
    floppy(&desktop, "full", &image, "");
    open(&mut desktop);
    desktop.press("ctrl+Return");
    desktop.wait_for("A:\\>");
    limit_files(&desktop, "0");
    desktop.type_text("copy readme hako.txt\n");
    let again = desktop.wait_for_picture("the banner", step_of_banner);
    desktop.keep("disk-failed.png");
    // Nothing has changed on the host: it fails again, and is offered again.
    desktop.click(again);
    let again = desktop.wait_for_picture("the banner once more", step_of_banner);
    limit_files(&desktop, "unlimited");
    desktop.click(again);
    desktop.wait_for_picture("the banner to go", |picture| step_of_banner(picture).is_none().then_some(()));
    desktop.press("ctrl+g");
    desktop.type_text("cls\ntype hako.txt\n");
    desktop.wait_for("trademark of Jim Hall");
    let copied = tool("mtype", &["-i", word(&image), "::HAKO.TXT"]);
    assert_eq!(copied, tool("mtype", &["-i", word(&image), "::README"]), "what the guest wrote is on the image");
}

/// Something in the colour of trouble, in the centre of the window.
fn trouble(picture: &Picture) -> Option<(usize, usize)> {
    picture.area_of(theme::ATTENTION, (320, 0), (1, 5))
}

#[test]
fn two_machines_run_at_once_but_not_on_one_disk() {
    let mut desktop = Desktop::new("twice");
    let shared_image = writable(&shared("freedos722.img"), &desktop.folder);
    let other = desktop.folder.join("other.img");
    std::fs::copy(&shared_image, &other).unwrap();
    floppy(&desktop, "c", &shared_image, "");
    floppy(&desktop, "b", &other, "");
    floppy(&desktop, "a", &shared_image, "");
    open(&mut desktop);
    desktop.press("ctrl+Return");
    desktop.wait_for("A:\\>");
    // The next one has a disk of its own.
    desktop.press("ctrl+alt");
    desktop.press("ctrl+Next");
    desktop.wait_for_picture("the second machine, off", |picture| picture.find("A:\\>").is_none().then_some(()));
    desktop.press("ctrl+Return");
    desktop.wait_for("A:\\>");
    let threads = std::fs::read_dir(format!("/proc/{}/task", desktop.process())).unwrap();
    let names: Vec<_> =
        threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("comm")).unwrap()).collect();
    for name in ["vm a\n", "vm b\n"] {
        assert!(names.iter().any(|other| other == name), "{name} is none of {names:?}");
    }
    // The third wants the disk of the first.
    desktop.press("ctrl+alt");
    desktop.press("ctrl+Next");
    desktop.wait_for_picture("the third machine, off", |picture| picture.find("A:\\>").is_none().then_some(()));
    desktop.press("ctrl+Return");
    desktop.wait_for_picture("its refusal in words", trouble);
    desktop.keep("disk-in-use.png");
    // The first has not noticed.
    desktop.press("ctrl+Prior");
    desktop.press("ctrl+Prior");
    desktop.wait_for("A:\\>");
    desktop.press("ctrl+g");
    desktop.type_text("cls\necho still here\n");
    desktop.wait_for("still here");
}

/// Saves the machine, resumes it, lets the guest say "after", and kills Hako.
fn left_behind(name: &str, more: &str, afterwards: &str) -> (Desktop, PathBuf) {
    let mut desktop = Desktop::new(name);
    let image = writable(&shared("freedos722.img"), &desktop.folder);
    floppy(&desktop, name, &image, more);
    open(&mut desktop);
    desktop.press("ctrl+Return");
    desktop.wait_for("A:\\>");
    desktop.type_text("cls\necho before\n");
    desktop.wait_for("before");
    desktop.press("ctrl+alt");
    desktop.press("ctrl+s");
    desktop.wait_for_end(name);
    wait_until("the machine to be asleep", || desktop.picture().find("before").is_none().then_some(()));
    // Once: what is pressed too often would fill the guest's small buffer of keys.
    desktop.press("ctrl+Return");
    desktop.wait_for("before");
    desktop.press("ctrl+g");
    desktop.type_text(afterwards);
    desktop.wait_for("after");
    desktop.kill();
    open(&mut desktop);
    (desktop, image)
}

#[test]
fn a_resumed_machine_that_changed_nothing_resumes_once_more_after_a_crash() {
    let (desktop, _) = left_behind("crashed", ", read_only: true", "echo after\n");
    desktop.keep("left-behind.png");
    desktop.press("ctrl+Return");
    desktop.wait_for("before");
    assert!(desktop.picture().find("after").is_none(), "that was never saved");
    desktop.press("ctrl+g");
    desktop.type_text("echo again\n");
    desktop.wait_for("again");
    // Closed in order: nothing is said the next time.
    desktop.press("ctrl+alt");
    desktop.press("ctrl+s");
    desktop.wait_for_end("crashed");
}

#[test]
fn a_state_whose_disk_went_on_before_a_crash_is_refused_and_nothing_is_written() {
    let (desktop, image) = left_behind("wenton", "", "copy readme hako.txt\necho after\n");
    let before = std::fs::read(&image).unwrap();
    let state = desktop.data().join("machines/wenton/state/state.ron");
    let saved = std::fs::read(&state).unwrap();
    desktop.press("ctrl+Return");
    // Behind a dialog all else is dim, the button of the toolbar too.
    desktop.wait_for_picture("the refusal", |picture| {
        picture.area_of(theme::ACCENT, (320, 0), (30, 4)).filter(|(_, y)| *y > 300)
    });
    desktop.keep("refused.png");
    // The safe button has the focus.
    desktop.press("Return");
    desktop.wait_for_picture("the reason", trouble);
    assert!(std::fs::read(&image).unwrap() == before, "the disk has changed");
    assert_eq!(std::fs::read(&state).unwrap(), saved, "the state has changed");
}
