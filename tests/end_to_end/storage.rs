//! Disks, CDs and floppies as guests see them, and media that are changed while a guest runs.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::files::{Folder, tool};
use crate::guest::{Guest, PATIENCE, assemble, wait_until, word};
use crate::linux::Linux;
use crate::linux::serial::Line;

/// A CD with one file, `NAME.txt`, that holds its name.
fn disc(folder: &Folder, name: &str) -> PathBuf {
    let tree = folder.join(&format!("tree-{name}"));
    std::fs::create_dir_all(&tree).unwrap();
    std::fs::write(tree.join(format!("{name}.txt")), format!("this is {name}\n")).unwrap();
    let image = folder.join(&format!("{name}.iso"));
    tool("xorriso", &["-as", "mkisofs", "-quiet", "-R", "-V", name, "-o", word(&image), word(&tree)]);
    image
}

/// A file that is one long hole.
fn empty_image(path: &Path, bytes: u64) {
    std::fs::File::create(path).unwrap().set_len(bytes).unwrap();
}

/// Linux with the modules of its drives, and its shell on the serial line.
fn linux(folder: Folder, drives: &[&str]) -> (Guest, Line) {
    Linux { memory: "256", arguments: drives, ..Linux::with_modules() }.start_to_shell(folder, PATIENCE)
}

/// Runs `command` in the shell; what it prints.
pub fn run(line: &mut Line, command: &str) -> String {
    // What is typed is shown, and must look neither like the beginning nor like the end.
    line.send(&format!("echo be''gin; {command}; echo do''ne $?\n"));
    line.wait_for("\nbegin\r\n");
    let text = line.wait_for("done ");
    let status = line.wait_for("guest# ");
    assert!(status.starts_with('0'), "{command} ended with {status}:\n{text}");
    text.replace('\r', "")
}

#[test]
fn linux_finds_a_disk_with_dma_and_a_cd_and_makes_a_file_system_that_is_clean() {
    let folder = Folder::new("disk");
    let (cd, image) = (disc(&folder, "FIRST"), folder.join("disk.img"));
    empty_image(&image, 192 << 20);
    let (mut guest, mut line) = linux(folder, &["-hda", word(&image), "-cdrom", word(&cd)]);
    let messages = run(&mut line, "dmesg");
    assert!(messages.contains("HAKO HARDDISK") && messages.contains("HAKO CD-ROM"), "{messages}");
    let modes = run(&mut line, "cat /sys/class/ata_device/dev1.0/dma_mode /sys/class/ata_device/dev2.0/dma_mode");
    assert_eq!(modes.matches("XFER_UDMA_2").count(), 2, "{modes}");
    run(&mut line, "mount -t iso9660 -o ro /dev/sr0 /mnt");
    assert!(run(&mut line, "cat /mnt/FIRST.txt").contains("this is FIRST"));
    run(&mut line, "umount /mnt");

    run(&mut line, "printf 'o\\nn\\np\\n1\\n2048\\n\\nw\\n' | fdisk /dev/sda >/dev/null");
    run(&mut line, "mke2fs /dev/sda1 >/dev/null");
    run(&mut line, "mount -t ext2 /dev/sda1 /mnt");
    // 50 MB that differ from block to block.
    run(&mut line, "dd if=/dev/urandom of=/tmp/piece bs=1M count=2 2>/dev/null");
    run(&mut line, "for n in $(seq 25); do echo piece $n; cat /tmp/piece; done >/mnt/large");
    let sum = run(&mut line, "sync; md5sum /mnt/large");
    let sum = sum.lines().find_map(|text| text.strip_suffix("  /mnt/large")).expect("a check sum").to_owned();
    // Read again from the disk, not from memory.
    run(&mut line, "umount /mnt; mount -t ext2 /dev/sda1 /mnt");
    assert!(run(&mut line, "md5sum /mnt/large").contains(&sum));
    run(&mut line, "mkdir -p /mnt/a/b; ln -s ../large /mnt/a/link; umount /mnt");
    let errors = run(&mut line, "dmesg | grep -E 'I/O error|exception|frozen|failed command'; true");
    assert_eq!(errors, "done ", "the kernel had trouble with its drives");
    line.send("poweroff\n");
    assert_eq!(guest.ended(), 0, "{}", guest.errors());

    // On the host: one partition, clean, with the same file in it.
    let table = tool("sfdisk", &["--dump", word(&image)]);
    let close = table.replace(' ', "");
    assert!(close.contains("start=2048,") && close.contains("type=83"), "{table}");
    let partition = guest.folder.join("partition");
    tool(
        "dd",
        &[&format!("if={}", word(&image)), &format!("of={}", word(&partition)), "bs=1M", "skip=1", "status=none"],
    );
    tool("e2fsck", &["-fn", word(&partition)]);
    let copy = guest.folder.join("large");
    tool("debugfs", &["-R", &format!("dump /large {}", word(&copy)), word(&partition)]);
    assert!(tool("md5sum", &[word(&copy)]).starts_with(&sum), "the file differs");
    assert!(std::fs::metadata(&copy).unwrap().len() > 50 << 20);
}

/// What `query-block` says of the CD drive.
fn cd_drive(guest: &mut Guest) -> Value {
    let drives = guest.command("query-block", json!({}));
    let mut drives = drives.as_array().into_iter().flatten();
    drives.find(|drive| drive["device"] == "ide1-cd0").expect("a CD drive").clone()
}

#[test]
fn linux_keeps_a_mounted_cd_and_takes_another_once_it_has_let_go() {
    let folder = Folder::new("cdswap");
    let (first, second, third) = (disc(&folder, "FIRST"), disc(&folder, "SECOND"), disc(&folder, "THIRD"));
    let (mut guest, mut line) = linux(folder, &["-cdrom", word(&first)]);
    run(&mut line, "mount -t iso9660 -o ro /dev/sr0 /mnt");
    assert!(run(&mut line, "cat /mnt/FIRST.txt").contains("this is FIRST"));
    // Mounted is locked: refused in words, on both ways in.
    assert!(guest.monitor("info block").contains(": locked, tray closed"));
    let refused = guest.monitor("eject ide1-cd0");
    assert!(refused.contains("locked") && refused.contains("try again"), "{refused}");
    let arguments = json!({ "id": "ide1-cd0", "filename": second });
    let refused = guest.qmp().command("blockdev-change-medium", &arguments).unwrap_err();
    assert!(format!("{refused:?}").contains("locked"), "{refused:?}");
    assert!(run(&mut line, "cat /mnt/FIRST.txt").contains("this is FIRST"));
    run(&mut line, "umount /mnt");
    assert!(guest.monitor("info block").contains("not locked"));
    assert_eq!(guest.monitor(&format!("change ide1-cd0 {}", word(&second))), "");
    for open in [true, false] {
        let event = guest.qmp().event("DEVICE_TRAY_MOVED", PATIENCE);
        assert_eq!((&event["data"]["id"], &event["data"]["tray-open"]), (&json!("ide1-cd0"), &json!(open)));
    }
    run(&mut line, "mount -t iso9660 -o ro /dev/sr0 /mnt");
    assert!(run(&mut line, "cat /mnt/SECOND.txt").contains("this is SECOND"));
    // By force it goes even so.
    assert_eq!(guest.monitor("eject -f ide1-cd0"), "");
    let drive = cd_drive(&mut guest);
    assert!(drive.get("inserted").is_none() && drive["tray_open"] == json!(true), "{drive}");
    run(&mut line, "umount /mnt");
    let gone = run(&mut line, "dd if=/dev/sr0 of=/dev/null count=1 2>&1; true");
    assert!(gone.contains("No medium found"), "{gone}");
    guest.command("blockdev-change-medium", json!({ "id": "ide1-cd0", "filename": third }));
    run(&mut line, "mount -t iso9660 -o ro /dev/sr0 /mnt");
    assert!(run(&mut line, "cat /mnt/THIRD.txt").contains("this is THIRD"));
    // The guest opens the tray itself, once nobody uses the disc any more.
    guest.qmp().events.clear();
    run(&mut line, "echo 1 >/proc/sys/dev/cdrom/autoeject; umount /mnt");
    let event = guest.qmp().event("DEVICE_TRAY_MOVED", PATIENCE);
    assert_eq!(event["data"]["tray-open"], json!(true));
    let drive = cd_drive(&mut guest);
    assert!(drive["tray_open"] == json!(true) && drive.get("inserted").is_some(), "the disc lies in it: {drive}");
    guest.command("blockdev-close-tray", json!({ "id": "ide1-cd0" }));
    run(&mut line, "dd if=/dev/sr0 of=/dev/null count=1 2>/dev/null");
    line.send("poweroff\n");
    assert_eq!(guest.ended(), 0, "{}", guest.errors());
}

#[test]
fn linux_writes_a_floppy_and_sees_that_it_was_changed() {
    let folder = Folder::new("fdswap");
    let (first, second) = (folder.join("first.img"), folder.join("second.img"));
    for (path, name) in [(&first, "FIRST"), (&second, "SECOND")] {
        tool("mformat", &["-C", "-f", "1440", "-v", name, "-i", word(path), "::"]);
    }
    let (mut guest, mut line) = linux(folder, &["-fda", word(&first)]);
    run(&mut line, "mount -t vfat /dev/fd0 /mnt");
    run(&mut line, "dd if=/dev/urandom of=/mnt/noise bs=1k count=200 2>/dev/null");
    let sum = run(&mut line, "umount /mnt; mount -t vfat /dev/fd0 /mnt; md5sum /mnt/noise; umount /mnt");
    let sum = sum.lines().find_map(|text| text.strip_suffix("  /mnt/noise")).expect("a check sum").to_owned();
    assert_eq!(guest.monitor(&format!("change floppy0 {}", word(&second))), "");
    // In its first five minutes Linux does not look for a change at each opening (it compares with time 0), so that the first read fails.
    run(&mut line, "mount -t vfat /dev/fd0 /mnt 2>/dev/null || mount -t vfat /dev/fd0 /mnt");
    let list = run(&mut line, "ls /mnt; echo of the second >/mnt/text; umount /mnt");
    assert!(!list.contains("noise"), "{list}");
    assert_eq!(guest.monitor("eject floppy0"), "");
    let gone = run(&mut line, "dd if=/dev/fd0 of=/dev/null count=1 2>&1; true");
    assert!(gone.contains("No such device") || gone.contains("error"), "{gone}");
    line.send("poweroff\n");
    assert_eq!(guest.ended(), 0, "{}", guest.errors());
    assert_eq!(tool("mtype", &["-i", word(&second), "::TEXT"]), "of the second\n");
    let copy = guest.folder.join("noise");
    tool("mcopy", &["-i", word(&first), "::NOISE", word(&copy)]);
    assert!(tool("md5sum", &[word(&copy)]).starts_with(&sum), "the file differs");
}

/// Waits until the program has said this line on the debug console.
fn wait_for_line(guest: &mut Guest, line: &str) -> String {
    wait_until(&format!("“{line}” from the guest"), || {
        let log = guest.log("console");
        log.lines().any(|seen| seen == line).then_some(log)
    })
}

/// A floppy that boots this program, with its debug console in the file `console`.
fn program(folder: Folder, source: &str, drives: &[&str]) -> Guest {
    let boot = assemble(&folder, source);
    let console = format!("file:{}", folder.join("console").display());
    let mut arguments = vec!["-m", "32", "-fda", word(&boot), "-boot", "a", "-debugcon", &console];
    arguments.extend(drives);
    Guest::start_in(folder, &arguments)
}

#[test]
fn a_program_without_a_system_follows_a_cd_that_is_changed() {
    let folder = Folder::new("packets");
    let (first, second, third) = (disc(&folder, "FIRST"), disc(&folder, "SECOND"), disc(&folder, "THIRD"));
    let mut guest = program(folder, "cd.asm", &["-cdrom", word(&first)]);
    wait_for_line(&mut guest, "disc FIRST");
    assert_eq!(guest.monitor(&format!("change ide1-cd0 {}", word(&second))), "");
    guest.press("spc");
    let log = wait_for_line(&mut guest, "disc SECOND");
    assert!(log.contains("sense 062800"), "{log}");
    wait_for_line(&mut guest, "locked");
    assert!(guest.monitor("eject ide1-cd0").contains("locked"));
    let log = wait_for_line(&mut guest, "opened");
    assert!(log.contains("eject request"), "{log}");
    wait_until("the open tray", || guest.monitor("info block").contains("not locked, tray open").then_some(()));
    assert_eq!(guest.monitor("eject ide1-cd0"), "");
    guest.press("spc");
    // There is none for a while.
    wait_for_line(&mut guest, "sense 023A02");
    assert_eq!(guest.monitor(&format!("change ide1-cd0 {}", word(&third))), "");
    let log = wait_for_line(&mut guest, "end");
    assert!(log.contains("disc THIRD") && log.matches("sense 062800").count() == 2, "{log}");
    guest.quit();
}

#[test]
fn the_bios_formats_writes_and_reads_a_floppy_that_is_then_changed() {
    let folder = Folder::new("format");
    let (first, second) = (folder.join("first.img"), folder.join("second.img"));
    std::fs::write(&first, vec![0x11; 1_474_560]).unwrap();
    let mut other = vec![0x22; 1_474_560];
    other[..8].copy_from_slice(b"ANOTHER!");
    std::fs::write(&second, other).unwrap();
    let mut guest = program(folder, "floppy.asm", &["-fdb", word(&first)]);
    let log = wait_until("the track to be read", || {
        Some(guest.log("console")).filter(|log| log.contains("filler") || log.contains("failed"))
    });
    assert!(log.starts_with("type 04 cylinders 4F sectors 12\nformatted\nwritten\nfiller "), "{log}");
    assert_eq!(guest.monitor(&format!("change floppy1 {}", word(&second))), "");
    guest.press("spc");
    let log = wait_for_line(&mut guest, "end");
    assert!(log.contains("changed 80\nANOTHER!\nend"), "{log}");
    guest.quit();
    let image = std::fs::read(&first).unwrap();
    let track = &image[(5 * 2 + 1) * 18 * 512..][..18 * 512];
    assert!(track[6 * 512..9 * 512].iter().all(|byte| *byte == 0x5a));
    let filler = track[0];
    assert!(filler != 0x11 && track[..6 * 512].iter().chain(&track[9 * 512..]).all(|byte| *byte == filler));
    assert!(image[..(5 * 2 + 1) * 18 * 512].iter().all(|byte| *byte == 0x11), "another track has changed");
    assert!(image[(5 * 2 + 2) * 18 * 512..].iter().all(|byte| *byte == 0x11), "another track has changed");
}
