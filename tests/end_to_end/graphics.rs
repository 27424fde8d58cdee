//! Pictures that programs draw, point by point.

use crate::files::{Folder, shared};
use crate::guest::{Guest, assemble, wait_until, word};

/// The picture, once it is as large as this.
fn picture(guest: &mut Guest, size: (u32, u32)) -> Vec<u8> {
    wait_until(&format!("a picture of {size:?}"), || {
        let (width, height, pixels) = guest.picture();
        ((width, height) == size).then_some(pixels)
    })
}

/// Compares every point with what `color` says of its place.
fn compare(pixels: &[u8], width: usize, color: impl Fn(usize, usize) -> [u8; 3]) -> Result<(), String> {
    for (at, pixel) in pixels.chunks_exact(3).enumerate() {
        let (x, y) = (at % width, at / width);
        let expected = color(x, y);
        if *pixel != expected {
            return Err(format!("point {x}, {y} is {pixel:?} and not {expected:?}"));
        }
    }
    Ok(())
}

#[test]
fn freedos_has_extended_memory_and_draws_in_mode_13h() {
    let image = shared("freedos722.img");
    let mut guest = Guest::start("sierpinski", &["-m", "64", "-fda", word(&image), "-boot", "a", "-snapshot"]);
    // Its driver for extended memory, and the kernel in the high memory area behind the first MiB.
    guest.wait_for("Welcome to FreeDOS");
    let lines = guest.wait_for_screen("the prompt", |lines| lines.iter().any(|line| line == "A:\\>"));
    assert!(lines.iter().any(|line| line.contains("XMS") && line.contains("64MB")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("Kernel: allocated") && line.contains("HMA")), "{lines:#?}");
    guest.type_text("sierpi~1\n");
    // The program lights the points of 128 × 128 whose column AND row is 0, each row half a point further left than the one below.
    let lit = |x: usize, y: usize| {
        let Some(row @ ..128) = 128_usize.checked_sub(y) else { return false };
        x.checked_sub(row / 2).is_some_and(|column| column < 128 && column & row == 0)
    };
    wait_until("the whole figure", || {
        let (width, height, pixels) = guest.picture();
        if (width, height) != (320, 200) {
            return None;
        }
        compare(&pixels, 320, |x, y| if lit(x, y) { [255; 3] } else { [0; 3] }).ok()
    });
    // Back to text.
    guest.type_text(" ");
    guest.wait_for("A:\\>");
    guest.quit();
}

#[test]
fn the_vesa_bios_sets_high_resolutions_banked_and_linear() {
    let folder = Folder::new("vesa");
    let boot = assemble(&folder, "vbe.asm");
    let console = format!("file:{}", folder.join("console").display());
    let mut guest =
        Guest::start_in(folder, &["-m", "32", "-fda", word(&boot), "-boot", "a", "-snapshot", "-debugcon", &console]);
    let said = |guest: &mut Guest, line: &str| {
        wait_until(&format!("“{line}” from the guest"), || {
            let log = guest.log("console");
            assert!(!log.contains("failed"), "{log}");
            log.lines().any(|seen| seen == line).then_some(log)
        })
    };
    let log = said(&mut guest, "banked");
    for mode in ["640x480x4", "640x480x8", "800x600x15", "1024x768x16", "1280x1024x24", "1600x1200x32", "1920x1200x32"]
    {
        let row =
            log.lines().find(|line| line.starts_with(&format!("{mode} "))).unwrap_or_else(|| panic!("{mode}: {log}"));
        assert!(row.ends_with("window 64"), "{row}");
    }
    // Byte n of memory, in the colours that the program has loaded.
    let color = |n: usize| {
        let value = (n ^ n >> 8 ^ 37 * (n >> 16)) as u8;
        let widen = |six: u8| six << 2 | six >> 4;
        [widen(value >> 2), widen((value & 3) << 4), 0]
    };
    let pixels = picture(&mut guest, (640, 480));
    compare(&pixels, 640, |x, y| color(640 * y + x)).unwrap();
    guest.press("spc");
    said(&mut guest, "moved");
    wait_until("the moved picture", || {
        let pixels = picture(&mut guest, (640, 480));
        // Behind what the program has written memory is empty: colour 0.
        let place = |x: usize, y: usize| 640 * (y + 10) + x + 8;
        compare(&pixels, 640, |x, y| if place(x, y) < 5 << 16 { color(place(x, y)) } else { color(0) }).ok()
    });
    guest.press("spc");
    said(&mut guest, "linear");
    let pixels = picture(&mut guest, (1920, 1200));
    compare(&pixels, 1920, |x, y| [((x + y) >> 4) as u8, y as u8, x as u8]).unwrap();
    guest.quit();
}
