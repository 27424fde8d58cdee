//! Somebody who types fast.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::desktop::Desktop;
use crate::files::Folder;
use crate::guest::{PATIENCE, assemble, keys_of, word};
use crate::linux::Linux;

#[test]
fn two_thousand_characters_at_thirty_a_second_all_arrive_once() {
    let (mut guest, mut serial) = Linux::default().start_to_shell(Folder::new("typing"), PATIENCE);
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

/// How long a fixed piece of work takes on this host now.
fn work() -> Duration {
    let start = Instant::now();
    let mut sum = 0_u32;
    for number in 0..4_000_000_u32 {
        sum = std::hint::black_box(sum.rotate_left(5) ^ number);
    }
    std::hint::black_box(sum);
    start.elapsed()
}

/// So often somebody looks at the window while somebody types.
const LOOKS: usize = 200;

#[test]
fn the_window_answers_while_somebody_types_fast_into_a_working_guest() {
    let mut desktop = Desktop::new("answers");
    let image = assemble(&desktop.folder, "typist.asm");
    // A second card, for the pointer to walk over.
    desktop.machine("zz", "");
    let drive = format!("(slot: \"fda\", kind: \"floppy\", path: Some({:?}))", word(&image));
    desktop.machine("typist", &format!("    boot: \"a\",\n    drives: [{drive}],\n"));
    let nowhere = desktop.folder.join("nowhere");
    desktop.start(&[], &nowhere);
    desktop.press("ctrl+Return");
    desktop.wait_for("ready");
    let text: String =
        (0..2000).map(|n| char::from(b"the quick brown fox jumps over the lazy dog 0123456"[n % 51])).collect();
    let file = desktop.folder.write("text", text.as_bytes());
    let display = desktop.display().to_owned();
    let start = Instant::now();
    let typist = std::thread::spawn({
        let file = file.clone();
        move || {
            // Of the 33 ms between two characters, some go for the keys themselves.
            let typed = Command::new("xdotool")
                .args(["type", "--delay", "31", "--file", word(&file)])
                .env("DISPLAY", display)
                .status();
            assert!(typed.unwrap().success());
            Instant::now()
        }
    });
    // The pointer goes on the card and off it; what is measured is the time from there to the changed picture.
    let (left, top) = desktop.corner();
    let card = (left + 200, top + 122);
    let beside = (left + 200, top + 400);
    let calm = desktop.pixel(card);
    let mut answers = Vec::new();
    let mut works = Vec::new();
    for look in 0..LOOKS {
        let (to, on) = if look % 2 == 0 { (card, true) } else { (beside, false) };
        let asked = Instant::now();
        desktop.hand(&format!("mousemove {} {}", to.0, to.1));
        while (desktop.pixel((card.0 - 20, card.1)) == calm) == on {
            assert!(asked.elapsed() < PATIENCE, "the card never answers: {}", desktop.dump("display.png").display());
            std::thread::sleep(Duration::from_micros(500));
        }
        answers.push(asked.elapsed());
        works.push(work());
        // Anywhere between two pictures of the guest.
        std::thread::sleep(Duration::from_millis(200 + 7 * (look as u64 % 13)));
    }
    let typed_at = typist.join().unwrap();
    let took = typed_at - start;
    assert!(took < Duration::from_secs(100), "typing took {took:?}");
    answers.sort();
    works.sort();
    // What other programs take of the host is not the window's: on a host that is busy with three times its cores, all takes three times.
    let slower = works[LOOKS / 2].as_secs_f64() / works[0].as_secs_f64();
    let (median, late, worst) = (answers[LOOKS / 2], answers[LOOKS * 95 / 100], answers[LOOKS - 1]);
    println!(
        "answers: median {median:?}, 95 of 100 within {late:?}, worst {worst:?}; the host is {slower:.1} times slower than when it is quiet"
    );
    assert!(
        late < Duration::from_millis(100).mul_f64(slower),
        "median {median:?}, 95 of 100 within {late:?}, worst {worst:?}, on a host that is {slower:.1} times slower than when it is quiet"
    );
    desktop.press("Return");
    let sum = text.bytes().fold(0_u16, |sum, byte| sum.rotate_left(1).wrapping_add(u16::from(byte)));
    desktop.wait_for(&format!("keys {:04x} sum {sum:04x}", text.len()));
    // No key is down: nothing more comes.
    desktop.type_text("calm\n");
    desktop.wait_for("keys 0004");
}
