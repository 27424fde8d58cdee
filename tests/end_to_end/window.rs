//! Guests in the manager's window, and in a window of their own.

use std::time::Duration;

use crate::desktop::theme::{ACCENT, ATTENTION, BUTTON, FIELD};
use crate::desktop::{Desktop, Picture};
use crate::files::{fetched, shared, tool, writable};
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
    desktop.wait_for_end("freedos");
    // The picture of a machine that is asleep is dimmed, and nothing of it is found.
    wait_until("the machine to be asleep", || {
        let picture = desktop.picture();
        ["COM", "EXE", "bytes"].iter().all(|word| picture.find(word).is_none()).then_some(())
    });
    // Once: what is pressed too often would fill the guest's small buffer of keys.
    desktop.press("ctrl+Return");
    desktop.wait_for("bytes free");
    // All in one frame, as a fast typist on a slow host.
    desktop.xdotool(&[
        "key", "--delay", "0", "ctrl+g", "c", "l", "s", "Return", "e", "c", "h", "o", "space", "a", "w", "a", "k", "e",
        "Return",
    ]);
    desktop.wait_for("A:\\>echo awake");
}

#[test]
fn mikeos_in_the_window_runs_a_program() {
    let desktop = with_floppy("mikeos", &shared("mikeos.flp"));
    // Its dialogs are coloured; its editor's last line is black on grey too. The list has black letters on white, so look for
    // the end of each step by what changes.
    let dialog = |picture: &Picture| picture.column_of([0xaa, 0x00, 0x00]);
    desktop.wait_for_picture("the dialog", dialog);
    // Whole, not while it is being drawn.
    desktop.settle();
    let first = dialog(&desktop.picture()).expect("the dialog");
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
fn a_machine_of_the_command_line_has_a_window_of_its_own_that_saves_it_or_switches_it_off() {
    let mut desktop = Desktop::new("own");
    let nowhere = std::path::Path::new("/nonexistent");
    desktop.start(&["run", "-display", "window", "-m", "16"], nowhere);
    wait_until("a picture in the window", || (desktop.picture().lit() > 500).then_some(()));
    // The question is there when its button is, in the accent colour; while it is, the guest's picture is dimmed.
    let asked = |desktop: &Desktop, what: &str| {
        desktop.press("alt+F4");
        desktop.wait_for_picture(what, |picture| picture.column_of(ACCENT));
    };
    asked(&desktop, "the question");
    desktop.keep("own-closing.png");
    desktop.press("Escape");
    desktop.wait_for_picture("the guest's picture alone", |picture| picture.column_of(ACCENT).is_none().then_some(()));
    asked(&desktop, "the question once more");
    desktop.press("Return");
    assert_eq!(desktop.ended(), 0, "{}", desktop.errors());
    let told = desktop.errors();
    let (_, rest) = told.split_once("-loadvm ").unwrap_or_else(|| panic!("no word of the state: {told}"));
    let (state, _) = rest.split_once(" goes on").unwrap();

    desktop.start(&["run", "-display", "window", "-m", "16", "-loadvm", state], nowhere);
    wait_until("the picture again", || (desktop.picture().lit() > 500).then_some(()));
    asked(&desktop, "the question of the machine that goes on");
    desktop.press("Tab");
    desktop.press("Return");
    assert_eq!(desktop.ended(), 0, "{}", desktop.errors());
    assert!(!desktop.errors().contains("saved"), "{}", desktop.errors());
}

#[test]
fn a_window_of_its_own_says_what_it_needs_where_there_is_no_vulkan() {
    let mut desktop = Desktop::new("novulkan");
    let nowhere = std::path::Path::new("/nonexistent");
    let none = [("VK_DRIVER_FILES", "/nonexistent"), ("VK_ICD_FILENAMES", "/nonexistent")];
    desktop.launch(&["run", "-display", "window", "-m", "16"], nowhere, &none);
    assert_eq!(desktop.ended(), 1);
    assert!(desktop.errors().contains("mesa-vulkan-drivers"), "{}", desktop.errors());
}

#[test]
fn another_floppy_is_put_in_and_taken_out_while_the_guest_runs() {
    let mut desktop = Desktop::new("insert");
    let first = writable(&shared("freedos722.img"), &desktop.folder);
    let second = desktop.folder.join("second.img");
    tool("mformat", &["-C", "-f", "1440", "-v", "SECOND", "-i", word(&second), "::"]);
    let letter = desktop.folder.write("letter", b"from the second floppy\r\n");
    tool("mcopy", &["-i", word(&second), word(&letter), "::LETTER.TXT"]);
    desktop.machine(
        "insert",
        &format!(
            "    boot: \"a\",\n    drives: [(slot: \"fda\", kind: \"floppy\", path: Some({:?}))],\n",
            word(&first)
        ),
    );
    let nowhere = desktop.folder.join("nowhere");
    desktop.start(&[], &nowhere);
    desktop.press("ctrl+Return");
    desktop.wait_for("A:\\>");
    // By its name in the palette, and the path typed.
    desktop.press("ctrl+alt");
    desktop.press("ctrl+shift+k");
    desktop.type_text("insert into floppy\n");
    // The palette has a field too; only the dialog has a button in the accent colour, and dims the others.
    desktop
        .wait_for_picture("the dialog", |picture| picture.area_of(ACCENT, (320, 0), (30, 4)).filter(|(_, y)| *y > 300));
    desktop.press("ctrl+a");
    desktop.type_text(&format!("{}\n", word(&second)));
    let definition = desktop.data().join("machines/insert/machine.ron");
    let says = |text: &str| std::fs::read_to_string(&definition).unwrap().contains(text);
    wait_until("the definition to name it", || says("second.img").then_some(()));
    // DOS takes a floppy for the same for 37 ticks from its last access: the BIOS tells it of no line for changes.
    std::thread::sleep(Duration::from_secs(3));
    desktop.press("ctrl+g");
    desktop.type_text("cls\ntype letter.txt\n");
    desktop.wait_for("from the second floppy");
    desktop.press("ctrl+alt");
    desktop.press("ctrl+shift+k");
    desktop.type_text("eject floppy\n");
    wait_until("the definition to name none", || says("path: None").then_some(()));
    desktop.press("ctrl+g");
    desktop.type_text("cls\ndir\n");
    desktop.wait_for("ot ready");
}

#[test]
fn a_machine_with_a_kernel_is_made_by_clicks_and_comes_to_a_shell() {
    let mut desktop = Desktop::new("made");
    let (kernel, initrd) = (fetched("vmlinuz-686"), fetched("initrd.gz"));
    desktop.prefer(None);
    let nowhere = desktop.folder.join("nowhere");
    desktop.start(&[], &nowhere);
    desktop.press("ctrl+n");
    // The fields that are as wide as a path, from the top: name, CD, floppy, kernel, RAM disk, command line.
    let fields = |picture: &Picture| {
        let mut fields = Vec::new();
        let mut from = 0;
        while let Some((x, y)) = picture.area_of(FIELD, (320, from), (200, 4)) {
            fields.push((x + 20, y + 10));
            from = y + 30;
        }
        (fields.len() == 6).then_some(fields)
    };
    desktop.wait_for_picture("the form", fields);
    // A form that has just come is still being laid out.
    desktop.settle();
    let fields = fields(&desktop.picture()).expect("the form");
    // No file chooser here: that is said, and paths are typed.
    let (x, y) = fields[3];
    let choose = desktop.wait_for_picture("its button", |picture| picture.area_of(BUTTON, (x + 200, y), (20, 4)));
    desktop.click((choose.0 + 8, choose.1 + 2));
    desktop.wait_for_picture("the words", |picture| picture.area_of(ATTENTION, (320, 100), (3, 1)));
    for (field, text) in [(0, "Linux by clicks"), (3, word(&kernel)), (4, word(&initrd))] {
        desktop.click(fields[field]);
        desktop.settle();
        desktop.type_text(text);
        desktop.settle();
    }
    desktop.keep("new-machine.png");
    let (x, y) = desktop.wait_for_picture("Create", |picture| picture.area_of(ACCENT, (320, 300), (30, 4)));
    desktop.click((x + 10, y + 10));
    let definition = desktop.data().join("machines/linux-by-clicks/machine.ron");
    wait_until("the machine", || definition.is_file().then_some(()));
    // The dialog is gone when the toolbar above it can be pressed again; the empty screen has the colour of a field.
    desktop.wait_for_picture("Start in the toolbar", |picture| {
        picture.area_of(ACCENT, (320, 80), (30, 4)).filter(|&(_, y)| y < 130)
    });
    desktop.press("ctrl+Return");
    desktop.wait_for("guest#");
}

#[test]
fn full_screen_comes_and_goes_and_ends_with_the_machine() {
    let mut desktop = with_floppy("whole", &shared("freedos722.img"));
    desktop.wait_for("A:\\>");
    let size = |desktop: &Desktop| {
        let told = desktop.xdotool(&["getactivewindow", "getwindowgeometry", "--shell"]);
        told.contains("WIDTH=1280\n") && told.contains("HEIGHT=900\n")
    };
    let becomes = |desktop: &Desktop, whole: bool| {
        wait_until("the window's size", || (size(desktop) == whole).then_some(()));
    };
    desktop.press("ctrl+alt");
    desktop.press("F11");
    becomes(&desktop, true);
    desktop.wait_for("A:\\>");
    // The guest types on in full screen; then Ctrl-Alt and F11 come back.
    desktop.press("ctrl+g");
    desktop.type_text("cls\necho whole\n");
    desktop.wait_for("whole");
    desktop.press("ctrl+alt");
    desktop.press("F11");
    becomes(&desktop, false);
    desktop.press("F11");
    becomes(&desktop, true);
    desktop.press("ctrl+s");
    becomes(&desktop, false);
    // The pointer is free again.
    desktop.hand("mousemove 10 10");
}
