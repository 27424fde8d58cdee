//! A live CD with a scratch disk: its saved state is gone back to again and again, from before the disk was mounted.

use crate::files::{Folder, fetched, long, tool};
use crate::guest::{Guest, HAKO, PATIENCE, word};
use crate::linux::serial::Line;
use crate::storage::run;

/// Debian's kernel and busybox on a CD that boots.
fn live_cd(folder: &Folder) -> std::path::PathBuf {
    let tree = folder.join("tree/boot/grub");
    std::fs::create_dir_all(&tree).unwrap();
    std::fs::copy(fetched("initrd-storage.gz"), folder.join("tree/initrd")).unwrap();
    std::fs::copy(fetched("vmlinuz-686"), folder.join("tree/vmlinuz")).unwrap();
    let menu = "set timeout=0\nmenuentry live {\n linux /vmlinuz console=ttyS0 cryptomgr.notests\n initrd /initrd\n}\n";
    std::fs::write(tree.join("grub.cfg"), menu).unwrap();
    let iso = folder.join("live.iso");
    tool("grub-mkrescue", &["-d", "/usr/lib/grub/i386-pc", "-o", word(&iso), word(&folder.join("tree"))]);
    iso
}

fn line_of(guest: &Guest) -> Line {
    let mut line = Line::connect(&guest.folder.join("serial"));
    line.patience = PATIENCE * 2;
    line
}

/// Waits for a shell that has just been restored: what is typed before its memory is there is lost.
fn wake(line: &mut Line) {
    for number in 0.. {
        line.send(&format!("\necho awa''ke{number}\n"));
        let until = std::time::Instant::now() + std::time::Duration::from_secs(3);
        while std::time::Instant::now() < until {
            assert!(line.read(), "the machine has ended: {}", line.text);
            if line.text.contains(&format!("awake{number}")) {
                line.wait_for(&format!("awake{number}\r\n"));
                line.wait_for("guest# ");
                return;
            }
        }
        assert!(number < 60, "the guest does not answer: {}", line.text);
    }
}

#[test]
fn a_live_cd_goes_back_to_before_its_scratch_disk_was_mounted_again_and_again() {
    if !long() {
        return;
    }
    let folder = Folder::new("live");
    let (iso, disk) = (live_cd(&folder), folder.join("scratch.qcow2"));
    tool(HAKO, &["disk", "create", word(&disk), "64M"]);
    let serial = format!("unix:{},server=on,wait=off", folder.join("serial").display());
    let drive = format!("file={},format=qcow2,if=ide,index=0", disk.display());
    let machine =
        ["-name", "live", "-m", "128", "-cdrom", word(&iso), "-boot", "d", "-drive", &drive, "-serial", &serial];
    let mut guest = Guest::start_in(folder, &machine);
    let mut line = line_of(&guest);
    line.wait_for("guest# ");
    run(&mut line, "mke2fs /dev/sda >/dev/null 2>&1 && mount /dev/sda /mnt && echo 0 >/mnt/first && umount /mnt");
    assert_eq!(guest.monitor("savevm before the mount"), "");
    guest.quit();

    let home = guest.folder.join("states/live");
    for round in 1..=10 {
        let mut arguments = machine.to_vec();
        arguments.extend(["-loadvm", "before the mount"]);
        guest.launch(&arguments);
        line = line_of(&guest);
        wake(&mut line);
        // The CD is still read, and the disk is as it was before the mount.
        let said = run(&mut line, "mount -t iso9660 -o ro /dev/sr0 /mnt && cat /mnt/boot/grub/grub.cfg && umount /mnt");
        assert!(said.contains("menuentry live"), "round {round}: {said}");
        let said = run(&mut line, "mount -t ext4 /dev/sda /mnt && ls /mnt");
        assert!(said.contains("first") && !said.contains("round"), "round {round}: {said}");
        run(
            &mut line,
            &format!("dd if=/dev/urandom of=/mnt/round{round} bs=1k count={} 2>/dev/null", 300 + round * 77),
        );
        let sum = run(&mut line, &format!("md5sum </mnt/round{round}"));
        run(&mut line, "umount /mnt");
        line.send("poweroff\n");
        assert_eq!(guest.ended(), 0, "{}", guest.errors());

        // What was written is on the present's disk, and that is kept when the next round goes back.
        let name = format!("round {round}");
        let keeper =
            vm_core::snapshot::keeper::Keeper::open(&home, vm_core::snapshot::files::Files::default()).unwrap();
        let top = home.join(&keeper.tree().present.disks[0].top);
        drop(keeper);
        let raw = guest.folder.join("checked");
        vm_core::disk::convert::convert(
            &top,
            Some(vm_core::config::ImageFormat::Qcow2),
            &raw,
            vm_core::config::ImageFormat::Raw,
            &mut |_, _| {},
        )
        .unwrap();
        let said = tool("e2fsck", &["-fn", word(&raw)]);
        assert!(said.contains("Pass 5"), "{name}: {said}");
        let there = guest.folder.join("read");
        tool("debugfs", &["-R", &format!("dump /round{round} {}", word(&there)), word(&raw)]);
        let there = tool("md5sum", &[word(&there)]);
        assert_eq!(there.split(' ').next(), sum.split(' ').next(), "{name}");
        std::fs::remove_file(raw).unwrap();
    }
    // Every round but the last is a snapshot; the first one is as it was.
    let said = tool(HAKO, &["snapshot", "list", word(&home)]);
    assert_eq!(said.matches("Before going back").count(), 9, "{said}");
    println!("10 of 10 rounds: mounted, written, unmounted, closed; e2fsck -fn clean");
}
