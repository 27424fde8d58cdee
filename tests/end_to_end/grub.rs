//! GRUB from a floppy, a CD and an ISO made here.

use crate::files::{Folder, fetched, tool};
use crate::guest::{Guest, word};

#[test]
fn grub_rescue_floppy_comes_to_its_menu() {
    let image = fetched("grub-rescue-floppy.img");
    let mut guest = Guest::start("grubfd", &["-m", "64", "-fda", word(&image), "-snapshot"]);
    guest.wait_for("GNU GRUB");
    guest.wait_for("GNU/Linux");
    guest.wait_for("before booting");
    // Its command line answers.
    guest.press("c");
    guest.wait_for("grub>");
    guest.type_text("echo hello-from-grub\n");
    guest.wait_for_screen("the echo", |lines| lines.iter().any(|line| line == "hello-from-grub"));
    guest.quit();
}

#[test]
fn grub_rescue_cd_comes_to_its_menu() {
    let image = fetched("grub-rescue-cdrom.iso");
    let mut guest = Guest::start("grubcd", &["-m", "64", "-cdrom", word(&image), "-boot", "d"]);
    guest.wait_for("GNU GRUB");
    guest.wait_for("highlighted");
    guest.quit();
}

#[test]
fn an_iso_of_grub_mkrescue_comes_to_its_menu() {
    let folder = Folder::new("mkrescue");
    let tree = folder.join("tree/boot/grub");
    std::fs::create_dir_all(&tree).unwrap();
    std::fs::write(tree.join("grub.cfg"), "set timeout=-1\nmenuentry 'Hako was here' { true }\n").unwrap();
    let iso = folder.join("made.iso");
    tool("grub-mkrescue", &["-d", "/usr/lib/grub/i386-pc", "-o", word(&iso), word(&folder.join("tree"))]);
    let mut guest = Guest::start_in(folder, &["-m", "64", "-cdrom", word(&iso), "-boot", "d"]);
    guest.wait_for("Hako was here");
    guest.quit();
}
