//! A raw disk that is written in place: Save & Close is its only save, and until that is resumed or given up the disk sleeps.

use crate::files::Folder;
use crate::guest::{Guest, run_to_end, word};
use crate::kills::{count, counter, works};

#[test]
fn a_raw_disk_in_place_sleeps_with_its_state_beside_it() {
    let folder = Folder::new("in-place");
    let disk = counter(&folder);
    let state = folder.join("counter.img.state");
    let drive = format!("file={},format=raw,if=ide,index=0", disk.display());
    let machine = ["-name", "in place", "-m", "8", "-nodefaults", "-drive", &drive];
    let exit = ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x1"];
    let arguments: Vec<&str> = machine.iter().chain(&exit).copied().collect();
    let mut guest = Guest::start_in(folder, &arguments);
    works(&mut guest);
    let said = guest.monitor("savevm never");
    assert!(said.contains("writes in place") && said.contains("Save & Close"), "{said}");
    let before = works(&mut guest);
    // The machine ends with the answer, which may be lost.
    let _ = guest.qmp().command("human-monitor-command", &serde_json::json!({ "command-line": "save_and_close" }));
    assert_eq!(guest.ended(), 0, "{}", guest.errors());
    assert!(state.join("state.ron").is_file() && state.join("sums.ron").is_file());

    // Nobody starts it by mistake.
    let refused = |more: &[&str]| {
        let mut all = vec!["run", "-display", "none"];
        all.extend(&arguments);
        all.extend(more);
        let bytes = std::fs::read(&disk).unwrap();
        let (code, _, errors) = run_to_end(&all);
        assert_ne!(code, 0, "{errors}");
        assert!(std::fs::read(&disk).unwrap() == bytes, "the disk was written to");
        errors
    };
    let errors = refused(&[]);
    assert!(errors.contains("sleeps with a saved state") && errors.contains("-discard-state"), "{errors}");
    let load = ["-loadvm", word(&state)];
    let resumed: Vec<&str> = arguments.iter().chain(&load).copied().collect();
    guest.launch(&resumed);
    assert!(count(&mut guest) >= before, "it goes on from there");
    works(&mut guest);
    // It has written, and its process ends: the state fits no more.
    guest.kill();
    assert!(refused(&[]).contains("sleeps"));
    let errors = refused(&load);
    assert!(errors.contains("has changed since the state was saved"), "{errors}");
    let discarded: Vec<&str> = arguments.iter().copied().chain(["-discard-state"]).collect();
    guest.launch(&discarded);
    works(&mut guest);
    guest.quit();
    assert!(!state.join("state.ron").exists());
    guest.launch(&arguments);
    works(&mut guest);
    guest.quit();
}
