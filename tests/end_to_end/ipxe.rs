//! iPXE, started directly and from its CD.

use crate::files::fetched;
use crate::guest::{Guest, word};

/// From the banner to an answer of its command line.
fn answers(mut guest: Guest) {
    guest.wait_for("Open Source Network Boot Firmware");
    guest.wait_for("Press Ctrl-B");
    // It waits two seconds for the key.
    guest.press("ctrl-b");
    guest.wait_for("iPXE>");
    guest.type_text("echo hello-from-ipxe\n");
    guest.wait_for_screen("the echo", |lines| lines.iter().any(|line| line == "hello-from-ipxe"));
    guest.quit();
}

#[test]
fn ipxe_started_directly_shows_its_banner_and_answers() {
    answers(Guest::start("ipxe", &["-m", "64", "-kernel", word(&fetched("ipxe.lkrn"))]));
}

#[test]
fn ipxe_from_its_cd_shows_its_banner_and_answers() {
    answers(Guest::start("ipxecd", &["-m", "64", "-cdrom", word(&fetched("ipxe.iso")), "-boot", "d"]));
}
