//! Kernels that are started directly: a multiboot game and memtest86+.

use std::time::Duration;

use crate::files::{fetched, long};
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

/// A look at the game: `None` once the ship has been hit.
fn look(guest: &mut Guest, what: &str, wanted: impl Fn(&[String]) -> bool) -> Option<Vec<String>> {
    let over = |lines: &[String]| lines.iter().any(|line| line.contains("GAME OVER"));
    let lines = guest.wait_for_screen(what, |lines| over(lines) || wanted(lines));
    (!over(&lines)).then_some(lines)
}

/// One game, as far as the test plays it.
fn play(guest: &mut Guest) -> Option<()> {
    let first = look(guest, "invaders", |lines| !invaders(lines).is_empty() && ship(lines).is_some())?;
    let (places, start) = (invaders(&first), ship(&first)?);
    guest.key("left", true);
    let left = look(guest, "the ship to go left", |lines| ship(lines).is_some_and(|now| now < start));
    guest.key("left", false);
    let left = ship(&left?)?;
    guest.key("right", true);
    let right = look(guest, "the ship to go right", |lines| ship(lines).is_some_and(|now| now > left));
    guest.key("right", false);
    right?;
    look(guest, "the invaders to move", |lines| !invaders(lines).is_empty() && invaders(lines) != places)?;
    Some(())
}

#[test]
fn invaders_move_and_the_ship_answers_the_arrows() {
    let kernel = fetched("invaders.exec");
    let mut guest = Guest::start("invaders", &["-m", "32", "-kernel", word(&kernel)]);
    // Their bombs fall at random: a game that is lost too early is played again.
    let games = 5;
    let played = (0..games).any(|_| {
        let done = play(&mut guest).is_some();
        if !done {
            guest.command("system_reset", serde_json::json!({}));
            guest.wait_for_screen("a new game", |lines| !lines.iter().any(|line| line.contains("GAME OVER")));
        }
        done
    });
    assert!(played, "{games} games were lost before the ship had moved both ways");
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

#[test]
fn memtest_finds_no_error_in_a_whole_pass() {
    if !long() {
        return;
    }
    let kernel = fetched("memtest86+.bin");
    let mut guest = Guest::start("pass", &["-m", "256", "-kernel", word(&kernel)]);
    guest.patience = Duration::from_hours(3);
    // Passes and errors, once there are numbers.
    let status = |lines: &[String]| {
        let (passes, errors) = lines.iter().find_map(|line| line.split_once("Pass: ")?.1.split_once("Errors: "))?;
        let number = |text: &str| text.split_whitespace().next()?.parse::<u32>().ok();
        Some((number(passes)?, number(errors)?))
    };
    let lines = guest.wait_for_screen("the end of the pass, or an error", |lines| {
        status(lines).is_some_and(|(passes, errors)| passes + errors > 0)
    });
    assert_eq!(status(&lines), Some((1, 0)), "{lines:?}");
    guest.quit();
}
