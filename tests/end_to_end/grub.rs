//! GRUB from a floppy, a CD, and an ISO and a hard disk made here.

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

#[test]
fn grub_on_a_hard_disk_comes_to_its_menu() {
    let folder = Folder::new("grubhd");
    let core = folder.join("core.img");
    tool(
        "grub-mkimage",
        &[
            "-O",
            "i386-pc",
            "-p",
            "(hd0,msdos1)/grub",
            "-o",
            word(&core),
            "biosdisk",
            "part_msdos",
            "fat",
            "normal",
            "configfile",
        ],
    );
    let (boot, core) = (std::fs::read("/usr/lib/grub/i386-pc/boot.img").unwrap(), std::fs::read(core).unwrap());
    // The rest of GRUB follows the boot sector. A FAT partition of 15 MiB, for LBA, begins at the first MiB.
    let mut disk = vec![0; 16 << 20];
    disk[..440].copy_from_slice(&boot[..440]);
    disk[446..462].copy_from_slice(&[0x80, 0, 0, 0, 0x0e, 0, 0, 0, 0x00, 0x08, 0, 0, 0x00, 0x78, 0, 0]);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk[512..][..core.len()].copy_from_slice(&core);
    let image = folder.write("disk.img", &disk);
    let partition = format!("{}@@1M", word(&image));
    tool("mformat", &["-i", &partition, "-h", "16", "-s", "63", "-T", "30720", "::"]);
    tool("mmd", &["-i", &partition, "::grub"]);
    let menu = folder.write("grub.cfg", b"set timeout=-1\nmenuentry 'From a hard disk' { true }\n");
    tool("mcopy", &["-i", &partition, word(&menu), "::grub/grub.cfg"]);
    let drive = format!("file={},format=raw,if=ide,index=0", word(&image));
    let mut guest = Guest::start_in(folder, &["-m", "64", "-drive", &drive, "-boot", "c"]);
    guest.wait_for("From a hard disk");
    guest.press("c");
    guest.wait_for("grub>");
    guest.quit();
}
