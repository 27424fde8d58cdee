//! Guests in the manager's window, and in a window of their own.

use crate::desktop::{Desktop, Picture};
use crate::files::{fetched, shared, writable};
use crate::guest::{wait_until, word};

/// A library of one machine with a floppy, started.
fn with_floppy(name: &str, image: &std::path::Path) -> Desktop {
    let mut desktop = Desktop::new(name);
    let image = writable(image, &desktop.folder);
    desktop.machine(
        name,
        &format!(
            "    boot: \"a\",\n    drives: [(slot: \"fda\", kind: \"floppy\", path: Some({:?}))],\n",
            word(&image)
        ),
    );
    let nowhere = desktop.folder.join("nowhere");
    desktop.start(&[], &nowhere);
    desktop.press("ctrl+Return");
    desktop
}

#[test]
fn the_first_start_offers_invaders_and_the_ship_answers_in_the_window() {
    let guests = fetched("invaders.exec").parent().unwrap().to_owned();
    fetched("memtest86+.bin");
    let mut desktop = Desktop::new("first");
    desktop.prefer(None);
    desktop.start(&[], &guests);
    wait_until("the examples", || {
        let listing = std::fs::read_dir(desktop.data().join("machines")).ok()?;
        (listing.count() == 2).then_some(())
    });
    desktop.press("ctrl+Return");
    let ship = |picture: &Picture| magenta(picture);
    let before = desktop.wait_for_picture("the ship", ship);
    desktop.keep("invaders.png");
    desktop.press("ctrl+g");
    desktop.key("Left", true);
    desktop.wait_for_picture("the ship to go left", |picture| ship(picture).filter(|now| *now + 8 < before));
    desktop.key("Left", false);
    desktop.press("ctrl+alt");
}

/// Column of the ship, by its colour.
fn magenta(picture: &Picture) -> Option<usize> {
    picture.column_of([0xaa, 0x00, 0xaa])
}

#[test]
fn seabios_is_seen_in_the_window() {
    let mut desktop = Desktop::new("empty");
    desktop.machine("empty", "");
    let nowhere = desktop.folder.join("nowhere");
    desktop.start(&[], &nowhere);
    desktop.press("ctrl+Return");
    desktop.wait_for("No bootable device");
}

#[test]
fn freedos_in_the_window_lists_sleeps_and_goes_on() {
    let desktop = with_floppy("freedos", &shared("freedos722.img"));
    desktop.wait_for("A:\\>");
    desktop.press("ctrl+g");
    desktop.type_text("dir\n");
    desktop.wait_for("bytes free");
    desktop.keep("freedos.png");
    desktop.type_text("cls\ndir /s\n");
    desktop.wait_for("Directory of");
    // Ctrl-Alt gives the keyboard back, then Save & Close.
    desktop.press("ctrl+alt");
    desktop.press("ctrl+s");
    let state = desktop.data().join("machines/freedos/state");
    wait_until("the saved state", || state.join("state.ron").is_file().then_some(()));
    // The picture of a machine that is asleep is dimmed, and nothing of it is found.
    wait_until("the machine to be asleep", || {
        let picture = desktop.picture();
        ["COM", "EXE", "bytes"].iter().all(|word| picture.find(word).is_none()).then_some(())
    });
    wait_until("the machine to be awake", || {
        desktop.press("ctrl+Return");
        desktop.picture().find("bytes free").is_some().then_some(())
    });
    desktop.press("ctrl+g");
    desktop.type_text("cls\necho awake\n");
    desktop.wait_for("awake");
}

#[test]
fn mikeos_in_the_window_runs_a_program() {
    let desktop = with_floppy("mikeos", &shared("mikeos.flp"));
    // Its dialogs are coloured; its editor's last line is black on grey too. The list has black letters on white, so look for
    // the end of each step by what changes.
    let dialog = |picture: &Picture| picture.column_of([0xaa, 0x00, 0x00]);
    let first = desktop.wait_for_picture("the dialog", dialog);
    desktop.keep("mikeos.png");
    desktop.press("ctrl+g");
    desktop.press("Return");
    desktop.wait_for_picture("the list, which is narrower", |picture| dialog(picture).filter(|now| *now > first));
    desktop.press("Down");
    desktop.press("Return");
    // The editor fills the screen with white around its own list.
    desktop.wait_for_picture("the editor", |picture| picture.column_of([0xff, 0xff, 0xff]).filter(|now| *now < first));
}

#[test]
fn grub_from_floppy_and_cd_is_seen_in_the_window() {
    let desktop = with_floppy("grub", &fetched("grub-rescue-floppy.img"));
    desktop.wait_for("GNU GRUB");
    desktop.wait_for("before booting");
    drop(desktop);
    let mut desktop = Desktop::new("grubcd");
    let image = fetched("grub-rescue-cdrom.iso");
    let drive = format!("(slot: \"hdc\", kind: \"cd\", path: Some({:?}), read_only: true)", word(&image));
    desktop.machine("grubcd", &format!("    boot: \"d\",\n    drives: [{drive}],\n"));
    let nowhere = desktop.folder.join("nowhere");
    desktop.start(&[], &nowhere);
    desktop.press("ctrl+Return");
    desktop.wait_for("GNU GRUB");
    desktop.wait_for("before booting");
}

#[test]
fn linux_in_the_window_comes_to_a_shell_and_powers_off() {
    let mut desktop = Desktop::new("linux");
    let (kernel, initrd) = (fetched("vmlinuz-686"), fetched("initrd.gz"));
    desktop.machine(
        "linux",
        &format!("    kernel: Some({:?}),\n    initrd: Some({:?}),\n    append: \"\",\n", word(&kernel), word(&initrd)),
    );
    let nowhere = desktop.folder.join("nowhere");
    desktop.start(&[], &nowhere);
    desktop.press("ctrl+Return");
    desktop.wait_for("guest#");
    desktop.press("ctrl+g");
    desktop.type_text("clear; ls /\n");
    desktop.wait_for("proc");
    desktop.type_text("poweroff\n");
    desktop.wait_for_picture("the guest's picture to go", |picture| picture.find("guest#").is_none().then_some(()));
}

#[test]
fn a_machine_of_the_command_line_has_a_window_of_its_own() {
    let mut desktop = Desktop::new("own");
    desktop.start(&["run", "-display", "window", "-m", "16"], std::path::Path::new("/nonexistent"));
    wait_until("a picture in the window", || (desktop.picture().lit() > 500).then_some(()));
    desktop.press("alt+F4");
    assert_eq!(desktop.ended(), 0);
}
