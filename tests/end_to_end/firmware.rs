//! SeaBIOS alone.

use crate::guest::Guest;

#[test]
fn seabios_finds_nothing_to_boot_and_says_so() {
    let mut guest = Guest::start("nothing", &["-m", "32"]);
    guest.wait_for("No bootable device");
    let lines = guest.text().unwrap();
    assert!(lines.iter().any(|line| line.contains("SeaBIOS")), "{lines:?}");
    let (width, height, pixels) = guest.picture();
    assert_eq!((width, height), (720, 400));
    assert!(pixels.iter().any(|value| *value > 100), "the picture is black");
    guest.quit();
}

#[test]
fn a_reset_starts_the_firmware_again() {
    let mut guest = Guest::start("reset", &["-m", "32"]);
    guest.wait_for("No bootable device");
    let before = guest.log("firmware.log").matches("SeaBIOS (version").count();
    guest.command("system_reset", serde_json::json!({}));
    guest.qmp().event("RESET", crate::guest::PATIENCE);
    crate::guest::wait_until("SeaBIOS to start again", || {
        (guest.log("firmware.log").matches("SeaBIOS (version").count() > before).then_some(())
    });
    guest.wait_for("No bootable device");
    guest.quit();
}
