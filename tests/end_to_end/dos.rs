//! Real-mode systems from floppies: `FreeDOS` and `MikeOS`.

use crate::files::{Folder, shared, tool, writable};
use crate::guest::{Guest, assemble_as, word};

/// The last line that is not empty.
fn last(lines: &[String]) -> &str {
    lines.iter().rev().find(|line| !line.is_empty()).map_or("", String::as_str)
}

fn at_prompt(lines: &[String]) -> bool {
    last(lines) == "A:\\>"
}

#[test]
fn freedos_lists_its_floppy_and_a_copied_file_is_on_the_image() {
    let folder = Folder::new("dos");
    let image = writable(&shared("freedos722.img"), &folder);
    let mut guest = Guest::start_in(folder, &["-m", "64", "-fda", word(&image), "-boot", "a"]);
    guest.wait_for_screen("FreeDOS's prompt", at_prompt);
    guest.type_text("dir\n");
    guest.wait_for("bytes free");
    guest.wait_for_screen("the prompt after dir", at_prompt);
    guest.type_text("cls\ncopy readme hako.txt\n");
    guest.wait_for_screen("the prompt after copy", |lines| {
        at_prompt(lines) && lines.iter().any(|line| line.contains("hako.txt"))
    });
    guest.type_text("cls\ntype hako.txt\n");
    guest.wait_for("trademark of Jim Hall");
    guest.quit();
    let copied = tool("mtype", &["-i", word(&image), "::HAKO.TXT"]);
    assert_eq!(copied, tool("mtype", &["-i", word(&image), "::README"]));
    assert!(copied.contains("Ripcord"), "{copied}");
}

#[test]
fn freedos_fills_extended_memory_and_finds_it_again() {
    let folder = Folder::new("xms");
    let image = writable(&shared("freedos722.img"), &folder);
    tool("mcopy", &["-i", word(&image), word(&assemble_as(&folder, "xms.asm", "xms.com")), "::XMS.COM"]);
    let mut guest = Guest::start_in(folder, &["-m", "64", "-fda", word(&image), "-boot", "a"]);
    guest.wait_for_screen("FreeDOS's prompt", at_prompt);
    guest.type_text("cls\nxms\n");
    // Its whole line: a slow host shows a part of it first.
    let lines = guest.wait_for_screen("the program's answer and the prompt after it", |lines| {
        at_prompt(lines) && lines.iter().any(|line| line.starts_with("XMS: "))
    });
    assert!(lines.iter().any(|line| line == "XMS: 40 MB hold what was written"), "{lines:?}");
    guest.quit();
}

#[test]
fn a_temporary_floppy_forgets_what_was_written() {
    let folder = Folder::new("snapshot");
    let image = writable(&shared("freedos722.img"), &folder);
    let before = std::fs::read(&image).unwrap();
    let mut guest = Guest::start_in(folder, &["-m", "64", "-fda", word(&image), "-snapshot"]);
    guest.wait_for_screen("FreeDOS's prompt", at_prompt);
    guest.type_text("copy readme hako.txt\ntype hako.txt\n");
    guest.wait_for("trademark of Jim Hall");
    guest.quit();
    assert!(std::fs::read(&image).unwrap() == before, "the image has changed");
}

#[test]
fn save_and_close_in_the_middle_of_a_dir_goes_on_without_a_stuck_key() {
    let folder = Folder::new("sleep");
    let image = writable(&shared("freedos722.img"), &folder);
    let state = folder.join("state");
    let mut arguments = vec!["-m", "64", "-fda", word(&image)];
    let mut guest = Guest::start_in(folder, &arguments);
    guest.wait_for_screen("FreeDOS's prompt", at_prompt);
    guest.type_text("cls\ndir /s");
    guest.wait_for("dir /s");
    // Down and never up: the machine is put to sleep with a key held.
    guest.key("ret", true);
    guest.wait_for_screen("the beginning of the list", |lines| lines.iter().any(|line| line.contains("Directory of")));
    guest.command("x-save-and-close", serde_json::json!({ "folder": state }));
    assert_eq!(guest.ended(), 0, "{}", guest.errors());
    arguments.extend(["-loadvm", word(&state)]);
    guest.launch(&arguments);
    guest.wait_for("Total files listed");
    let lines = guest.wait_for_screen("the prompt after dir", at_prompt);
    // The firmware has not waited in vain for an interrupt that was lost over night.
    assert_eq!(guest.log("firmware.log"), "");
    let prompts = lines.iter().filter(|line| line.as_str() == "A:\\>").count();
    assert_eq!(prompts, 1, "Enter is stuck: {lines:?}");
    guest.type_text("echo awake\n");
    guest.wait_for_screen("its echo", |lines| lines.iter().any(|line| line == "awake"));
    guest.quit();
}

#[test]
fn a_state_does_not_meet_a_disk_that_has_changed() {
    let folder = Folder::new("changed");
    let image = writable(&shared("freedos722.img"), &folder);
    let state = folder.join("state");
    let mut guest = Guest::start_in(folder, &["-m", "64", "-fda", word(&image)]);
    guest.wait_for_screen("FreeDOS's prompt", at_prompt);
    guest.command("x-save-and-close", serde_json::json!({ "folder": state }));
    assert_eq!(guest.ended(), 0, "{}", guest.errors());
    let mut bytes = std::fs::read(&image).unwrap();
    bytes[700_000] ^= 0xff;
    std::fs::write(&image, &bytes).unwrap();
    let (code, _, errors) = crate::guest::run_to_end(&[
        "run",
        "-display",
        "none",
        "-m",
        "64",
        "-fda",
        word(&image),
        "-loadvm",
        word(&state),
    ]);
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("freedos722.img"), "{errors}");
    assert!(std::fs::read(&image).unwrap() == bytes, "the image was touched");
}

#[test]
fn mikeos_shows_its_dialog_and_runs_a_program() {
    let mut guest = Guest::start("mikeos", &["-m", "16", "-fda", word(&shared("mikeos.flp")), "-snapshot"]);
    guest.wait_for("Thanks for trying out MikeOS!");
    guest.press("ret");
    guest.wait_for("EDIT.BIN");
    // A program from the list: the editor.
    guest.press("down");
    guest.press("ret");
    guest.wait_for("MikeOS Text Editor");
    guest.quit();
}
