//! Kernels that are started directly: a multiboot game and memtest86+.

use crate::files::fetched;
use crate::guest::{Guest, word};

/// Column of the ship, which is "/ \" in the last row with something in it.
fn ship(lines: &[String]) -> Option<usize> {
    let row = lines.iter().rev().find(|line| !line.trim().is_empty())?;
    row.chars().position(|c| c == '/')
}

fn invaders(lines: &[String]) -> Vec<(usize, usize)> {
    let mut places = Vec::new();
    for (row, line) in lines.iter().enumerate() {
        let columns: Vec<char> = line.chars().collect();
        places.extend(
            columns.windows(3).enumerate().filter(|(_, three)| *three == ['-', '*', '-']).map(|(at, _)| (row, at)),
        );
    }
    places
}

#[test]
fn invaders_move_and_the_ship_answers_the_arrows() {
    let kernel = fetched("invaders.exec");
    let mut guest = Guest::start("invaders", &["-m", "32", "-kernel", word(&kernel)]);
    let first = guest.wait_for_screen("invaders", |lines| !invaders(lines).is_empty() && ship(lines).is_some());
    let places = invaders(&first);
    guest.wait_for_screen("the invaders to move", |lines| !invaders(lines).is_empty() && invaders(lines) != places);
    let column = guest.wait_for_screen("the ship", |lines| ship(lines).is_some());
    let column = ship(&column).unwrap();
    for _ in 0..5 {
        guest.press("left");
    }
    let lines = guest.wait_for_screen("the ship to go left", |lines| ship(lines).is_some_and(|now| now < column));
    let column = ship(&lines).unwrap();
    for _ in 0..10 {
        guest.press("right");
    }
    guest.wait_for_screen("the ship to go right", |lines| ship(lines).is_some_and(|now| now > column));
    guest.quit();
}

#[test]
fn memtest_tests_memory() {
    let kernel = fetched("memtest86+.bin");
    let mut guest = Guest::start("memtest", &["-m", "32", "-kernel", word(&kernel)]);
    guest.wait_for("Memtest86+ v6.10");
    guest.wait_for_screen("a test that has begun", |lines| {
        lines.iter().any(|line| line.contains("Test #") && line.contains('['))
    });
    let lines = guest.text().unwrap();
    assert!(lines.iter().any(|line| line.contains("31MB") || line.contains("32MB")), "{lines:?}");
    guest.quit();
}
