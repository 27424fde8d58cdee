//! Debian 12's installer for 32-bit PCs (the long suite).

use std::time::{Duration, Instant};

use serde_json::json;

use crate::files::{fetched, long};
use crate::guest::{Guest, word};

fn start(name: &str, initrd: &str, arguments: &[&str]) -> Guest {
    let (kernel, initrd) = (fetched("installer-linux"), fetched(initrd));
    let mut all = vec!["-kernel", word(&kernel), "-initrd", word(&initrd)];
    all.extend(arguments);
    let mut guest = Guest::start(name, &all);
    // A busy host may need this for what takes two minutes.
    guest.patience = Duration::from_mins(40);
    guest
}

#[test]
fn the_text_installer_goes_through_its_first_dialogs_and_has_a_shell() {
    if !long() {
        return;
    }
    let mut guest = start(
        "installer",
        "installer-text.gz",
        &["-m", "512", "-append", "vga=normal fb=false nomodeset cryptomgr.notests"],
    );
    guest.wait_for("Select a language");
    guest.wait_for("English");
    guest.press("ret");
    guest.wait_for("Select your location");
    guest.wait_for("United States");
    guest.press("ret");
    guest.wait_for("Configure the keyboard");
    guest.press("alt-f2");
    guest.wait_for("Please press Enter to activate this console");
    guest.press("ret");
    guest.wait_for("built-in shell (ash)");
    guest.type_text("echo $((6 * 7)) on $(tty)\n");
    guest.wait_for_screen("the shell's answer", |lines| lines.iter().any(|line| line == "42 on /dev/tty2"));
    guest.press("alt-f1");
    guest.wait_for("American English");
    guest.press("ret");
    guest.wait_for_screen("the end of the third dialog", |lines| {
        !lines.iter().any(|line| line.contains("American English"))
    });
    guest.quit();
}

/// First and last row of the selected line in the graphical installer's white list: a column of pixels right of the words is of
/// the selection's green there.
fn selected(guest: &mut Guest) -> Option<(usize, usize)> {
    let (width, height, pixels) = guest.picture();
    let column: Vec<&[u8]> =
        pixels.chunks(3).skip(width as usize * 5 / 8).step_by(width as usize).take(height as usize).collect();
    // Below the banner, which has such a green, too.
    let list = column.iter().position(|pixel| *pixel == [255; 3])?;
    let green = |pixel: &[u8]| pixel[0] < 64 && (110..150).contains(&pixel[1]) && (110..150).contains(&pixel[2]);
    let first = list + column[list..].iter().position(|pixel| green(pixel))?;
    let last = first + column[first..].iter().take_while(|pixel| green(pixel)).count() - 1;
    let framed = column.get(last + 3).is_some_and(|below| *below == [255; 3]);
    (framed && (12..40).contains(&(last - first))).then_some((first, last))
}

fn wait_for_selection(guest: &mut Guest, what: &str, wanted: impl Fn(usize, usize) -> bool) -> (usize, usize) {
    let until = Instant::now() + guest.patience;
    loop {
        if let Some((first, last)) = selected(guest).filter(|(first, last)| wanted(*first, *last)) {
            return (first, last);
        }
        assert!(Instant::now() < until, "waited in vain for {what}; {:?} is selected", selected(guest));
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn click(guest: &mut Guest) {
    for down in [true, false] {
        let data = json!({ "button": "left", "down": down });
        guest.command("input-send-event", json!({ "events": [{ "type": "btn", "data": data }] }));
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Puts the host's pointer at a place of the guest's picture, as the window does where the guest takes VMware's absolute positions.
fn point(guest: &mut Guest, (x, y): (usize, usize)) {
    let (width, height, _) = guest.picture();
    let axis = |axis: &str, place: usize, size: u32| {
        // The middle of the pixel, of a picture that is 0x8000 wide and high.
        let value = (place * 2 + 1) * 0x4000 / size as usize;
        json!({ "type": "abs", "data": { "axis": axis, "value": value } })
    };
    let events = [axis("x", x, width), axis("y", y, height)];
    guest.command("input-send-event", json!({ "events": events }));
}

/// Whether X's arrow, black with a white edge, has its tip at this place; around it there must be nothing black.
fn arrow_at((width, _, pixels): &(u32, u32, Vec<u8>), (x, y): (usize, usize)) -> bool {
    let black = |x: usize, y: usize| pixels[(y * *width as usize + x) * 3..][..3] == [0; 3];
    let places = || (y - 8..y + 24).flat_map(|row| (x - 8..x + 24).map(move |column| (column, row)));
    let body: Vec<_> = places().filter(|(column, row)| black(*column, *row)).collect();
    let left = body.iter().map(|(column, _)| *column).min();
    let top = body.iter().map(|(_, row)| *row).min();
    let near = |found: Option<usize>, wanted: usize| found.is_some_and(|found| found.abs_diff(wanted) <= 2);
    body.len() > 30 && near(left, x) && near(top, y)
}

#[test]
fn the_graphical_installer_draws_its_languages_and_follows_keys_mouse_and_the_hosts_pointer() {
    if !long() {
        return;
    }
    let mut guest = start("gtk", "installer-gtk.gz", &["-m", "1024", "-append", "vga=788 cryptomgr.notests"]);
    // Once the list is drawn it scrolls, so that its language comes from further down to the list's middle.
    let (width, height) = (1024, 768);
    let (english, _) = wait_for_selection(&mut guest, "the list of languages", |first, _| first < height * 2 / 3);
    let (columns, rows, _) = guest.picture();
    assert_eq!((columns as usize, rows as usize), (width, height), "what the driver for the display chooses");
    guest.press("down");
    wait_for_selection(&mut guest, "the next language", |first, _| first > english);
    // The pointer stands in the middle of the screen.
    let middle = height / 2;
    click(&mut guest);
    let (clicked, _) =
        wait_for_selection(&mut guest, "the language in the middle", |first, last| (first..=last).contains(&middle));
    for _ in 0..10 {
        let data = json!({ "axis": "y", "value": -6 });
        guest.command("input-send-event", json!({ "events": [{ "type": "rel", "data": data }] }));
        std::thread::sleep(Duration::from_millis(100));
    }
    click(&mut guest);
    let (above, last) = wait_for_selection(&mut guest, "a language above", |first, _| first < clicked);
    // The host's pointer, without a grab: the guest's is where it is, and nowhere else. There is nothing black on the banner and
    // between the buttons.
    let mut before = None;
    for place in [(90, 20), (700, 50), (400, 730)] {
        point(&mut guest, place);
        let until = Instant::now() + guest.patience;
        loop {
            let picture = guest.picture();
            if arrow_at(&picture, place) && !before.is_some_and(|before| arrow_at(&picture, before)) {
                break;
            }
            assert!(Instant::now() < until, "the pointer does not come to {place:?} (see screen.png)");
            std::thread::sleep(Duration::from_millis(500));
        }
        before = Some(place);
    }
    // And it clicks what is there: three lines further down.
    let wanted = above + 3 * (last - above + 1) + 4;
    point(&mut guest, (width / 2, wanted));
    click(&mut guest);
    wait_for_selection(&mut guest, "the language under the host's pointer", |first, last| {
        (first..=last).contains(&wanted)
    });
    guest.quit();
}
