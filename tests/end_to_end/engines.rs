//! Engines against each other on whole guests, and states that pass from one to the other.
//!
//! Under `-accel diff` the machine stops at the first register, flag or byte that differs; what it says is on standard error.

use std::time::Duration;

use crate::debian::{self, Debian};
use crate::files::{Folder, fetched, long, shared, writable};
use crate::guest::{Guest, word};
use crate::linux::serial::Line;

/// The prompt of FreeDOS.
fn at_prompt(lines: &[String]) -> bool {
    lines.iter().rev().find(|line| !line.is_empty()).is_some_and(|line| line == "A:\\>")
}

/// A guest on both engines, in lockstep.
fn both(name: &str, arguments: &[&str]) -> Guest {
    both_in(Folder::new(name), arguments)
}

/// The same, with a folder that is there already.
fn both_in(folder: Folder, arguments: &[&str]) -> Guest {
    let mut all = vec!["-accel", "diff=interp,jit"];
    all.extend(arguments);
    let mut guest = Guest::start_in(folder, &all);
    // Everything happens twice.
    guest.patience *= 4;
    guest.hopeless = Some("differ: ");
    guest
}

/// The engines have not differed so far.
fn agreed(mut guest: Guest) {
    assert_eq!(guest.monitor("info status").trim(), "VM status: running", "{}", guest.errors());
    guest.quit();
}

#[test]
fn freedos_runs_the_same_on_both_engines() {
    let image = shared("freedos722.img");
    // How often the machines look at their serial lines is compared: not oftener where the host's disk takes longer for one.
    let mut guest = both("both-dos", &["-m", "16", "-fda", word(&image), "-boot", "a", "-serial", "null"]);
    guest.wait_for_screen("FreeDOS's prompt", at_prompt);
    guest.type_text("dir\n");
    guest.wait_for("bytes free");
    agreed(guest);
}

#[test]
fn a_state_saved_under_one_engine_goes_on_under_the_other() {
    let folder = Folder::new("engines");
    let image = writable(&shared("freedos722.img"), &folder);
    let state = folder.join("state");
    let drive = ["-m", "16", "-fda", word(&image)];
    let mut engines = ["interp", "jit", "interp"].into_iter().zip(["one", "two", "three"]);
    let (engine, _) = engines.next().expect("the first");
    let mut guest = Guest::start_in(folder, &[&["-accel", engine], &drive[..]].concat());
    guest.wait_for_screen("FreeDOS's prompt", at_prompt);
    for (engine, word_) in engines {
        guest.command("x-save-and-close", serde_json::json!({ "folder": state }));
        assert_eq!(guest.ended(), 0, "{}", guest.errors());
        guest.launch(&[&["-accel", engine, "-loadvm", word(&state)], &drive[..]].concat());
        guest.type_text(&format!("cls\necho {word_}\n"));
        guest.wait_for_screen("the echo", |lines| lines.iter().any(|line| line == word_));
        let label = if engine == "jit" { "engine: JIT" } else { "engine: interpreter" };
        assert!(guest.monitor("info jit").contains(label), "{}", guest.monitor("info jit"));
    }
    guest.quit();
}

#[test]
fn the_interpreter_alone_runs_freedos() {
    let image = shared("freedos722.img");
    let mut guest = Guest::start("interp", &["-accel", "interp", "-m", "16", "-fda", word(&image), "-snapshot"]);
    guest.wait_for_screen("FreeDOS's prompt", at_prompt);
    let story = guest.monitor("info jit");
    assert!(story.contains("engine: interpreter") && story.contains("native: 0"), "{story}");
    guest.quit();
}

/// Linux to its shell and a little beyond, on both.
fn linux(kernel: &str) {
    let (kernel, initrd) = (fetched(kernel), fetched("initrd.gz"));
    let folder = Folder::new("both-linux");
    let socket = folder.join("serial");
    let serial = format!("unix:{},server=on,wait=off", socket.display());
    let guest = both(
        "both-linux",
        &[
            "-m",
            "128",
            "-kernel",
            word(&kernel),
            "-initrd",
            word(&initrd),
            "-append",
            "console=ttyS0",
            "-serial",
            &serial,
        ],
    );
    let mut line = Line::connect(&socket);
    line.patience = guest.patience;
    line.wait_for("guest# ");
    line.send(
        "ls -lR /proc | tail -n 1; dmesg | md5sum; i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; echo at $i\n",
    );
    line.wait_for("at 2000");
    agreed(guest);
}

#[test]
fn linux_runs_the_same_on_both_engines() {
    if long() {
        linux("vmlinuz-686");
    }
}

#[test]
fn linux_with_pae_runs_the_same_on_both_engines() {
    if long() {
        linux("vmlinuz-686-pae");
    }
}

#[test]
fn small_systems_run_the_same_on_both_engines() {
    if !long() {
        return;
    }
    let mut mikeos = both("both-mike", &["-m", "16", "-fda", word(&shared("mikeos.flp"))]);
    mikeos.wait_for("Thanks for trying out MikeOS!");
    mikeos.press("ret");
    mikeos.wait_for("EDIT.BIN");
    agreed(mikeos);
    let mut grub = both("both-grub", &["-m", "64", "-fda", word(&fetched("grub-rescue-floppy.img"))]);
    grub.wait_for("before booting");
    agreed(grub);
    let mut cd = both("both-cd", &["-m", "64", "-cdrom", word(&fetched("grub-rescue-cdrom.iso")), "-boot", "d"]);
    cd.wait_for("highlighted");
    agreed(cd);
    let mut ipxe = both("both-ipxe", &["-m", "64", "-kernel", word(&fetched("ipxe.lkrn"))]);
    ipxe.wait_for("Press Ctrl-B");
    agreed(ipxe);
    let mut invaders = both("both-invaders", &["-m", "32", "-kernel", word(&fetched("invaders.exec"))]);
    let first = invaders.wait_for("-*-");
    invaders.press("left");
    invaders.wait_for_screen("the game to go on", |lines| *lines != *first);
    agreed(invaders);
}

#[test]
fn memtest_runs_the_same_on_both_engines() {
    if !long() {
        return;
    }
    let mut guest = both("both-memtest", &["-m", "8", "-kernel", word(&fetched("memtest86+.bin"))]);
    guest.patience = Duration::from_hours(1);
    // A whole pass had not come to its end after eight minutes.
    let lines = guest.wait_for_screen("the third test", |lines| lines.iter().any(|line| line.contains("Test #2")));
    assert!(lines.iter().any(|line| line.contains("Errors: 0")), "{lines:?}");
    agreed(guest);
}

#[test]
fn the_installer_runs_the_same_on_both_engines() {
    if !long() {
        return;
    }
    let (kernel, initrd) = (fetched("installer-linux"), fetched("installer-text.gz"));
    let words = "vga=normal fb=false nomodeset cryptomgr.notests";
    let mut guest =
        both("both-installer", &["-m", "512", "-kernel", word(&kernel), "-initrd", word(&initrd), "-append", words]);
    guest.patience = Duration::from_hours(1);
    guest.wait_for("Select a language");
    guest.wait_for("English");
    guest.press("ret");
    guest.wait_for("Select your location");
    agreed(guest);
}

#[test]
fn debian_boots_from_its_disk_the_same_on_both_engines() {
    if !long() {
        return;
    }
    let folder = Folder::new("both-disk");
    let mut arguments = debian::arguments(&folder, &fetched("debian-12.img"));
    arguments.push("-snapshot".to_owned());
    let mut debian = Debian::boot(both_in(folder, &debian::words(&arguments)), 0);
    let squares = "python3 -c 'print(len({n * n % 103: str(n) for n in range(40000)}))'";
    assert_eq!(debian.run(squares), "52");
    agreed(debian.guest);
}
