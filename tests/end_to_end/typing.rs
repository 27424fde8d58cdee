//! Somebody who types fast.

use std::time::{Duration, Instant};

use crate::guest::keys_of;
use crate::linux::{self, serial};

#[test]
fn two_thousand_characters_at_thirty_a_second_all_arrive_once() {
    let mut guest = linux::start("typing");
    let mut serial = serial::Line::connect(&guest.folder.join("serial"));
    serial.wait_for("guest# ");
    guest.wait_for("guest#");
    // Something to do meanwhile.
    serial.send("while :; do :; done &\n");
    serial.wait_for("guest# ");
    guest.type_text("clear; cat >/tmp/typed\n");
    guest.wait_for_screen("an empty screen", |lines| !lines.iter().any(|line| line.contains("BusyBox")));
    let text: String = (0..2000)
        .map(|n| match n % 50 {
            49 => '\n',
            m => char::from(b"the quick brown fox jumps over the lazy dog 0123456"[m]),
        })
        .collect();
    let start = Instant::now();
    for (number, character) in text.chars().enumerate() {
        // 30 a second, counted from the start, so that no lateness adds up.
        let due = start + Duration::from_micros(33_333) * number as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let keys = keys_of(character);
        for key in &keys {
            guest.key(key, true);
        }
        for key in keys.iter().rev() {
            guest.key(key, false);
        }
    }
    let took = start.elapsed();
    assert!(took < Duration::from_secs(100), "typing took {took:?}");
    guest.press("ctrl-d");
    guest.wait_for("guest#");
    serial.send("echo BEGIN; cat /tmp/typed; echo END\n");
    // The echo of the command itself has both words on one line.
    serial.wait_for("BEGIN\r\n");
    let typed = serial.wait_for("END\r\n").replace("\r\n", "\n");
    assert_eq!(typed.trim_end_matches("END\n"), text);
    // No key is down: nothing more comes.
    guest.type_text("clear\n");
    guest.wait_for_screen("one prompt", |lines| lines.iter().filter(|line| !line.is_empty()).count() == 1);
    guest.quit();
}
