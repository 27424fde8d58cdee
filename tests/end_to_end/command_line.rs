//! The command line and QMP's manners.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

use serde_json::json;

use crate::guest::{Guest, PATIENCE, run_to_end};
use crate::qmp::{Qmp, Refusal};

#[test]
fn help_version_and_capabilities_are_printed() {
    for (arguments, word) in [
        (&["--help"][..], "--capabilities"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
        (&["--capabilities"], "KVM"),
        (&["run", "--help"], "-drive"),
    ] {
        let (code, output, errors) = run_to_end(arguments);
        assert_eq!((code, errors.as_str()), (0, ""), "{arguments:?}");
        assert!(output.contains(word), "{arguments:?}: {output}");
    }
}

#[test]
fn an_unknown_or_unsupported_option_is_an_error_that_names_it() {
    for (arguments, words) in [
        (&["frobnicate"][..], &["frobnicate"][..]),
        (&["-m", "64"], &["hako run"]),
        (&["run", "-frobnicate"], &["-frobnicate"]),
        (&["run", "-accel", "kvm"], &["kvm", "interp"]),
        (&["run", "-accel", "jit=faster"], &["jit=faster", "interp"]),
        (&["run", "-accel", "tcg"], &["tcg", "interp"]),
        (&["run", "-smp", "2"], &["-smp"]),
        (&["run", "-m", "0"], &["-m 0"]),
        (&["run", "-m", "99999999"], &["99999999"]),
        (&["run", "-device", "virtio-net"], &["virtio-net"]),
        (&["run", "-display", "none", "-serial", "tcp:localhost:1"], &["tcp"]),
        (&["run", "-display", "none", "-loadvm", "never-saved"], &["never-saved"]),
        (&["run", "-display", "none", "-bios", "/nonexistent/bios.bin"], &["/nonexistent/bios.bin"]),
        (&["run", "-display", "none", "-kernel", "/nonexistent/kernel"], &["/nonexistent/kernel"]),
    ] {
        let (code, _, errors) = run_to_end(arguments);
        assert_eq!(code, 1, "{arguments:?}: {errors}");
        for word in words {
            assert!(errors.contains(word), "{arguments:?}: {errors}");
        }
        assert!(!errors.contains("panicked"), "{arguments:?}: {errors}");
    }
}

#[test]
fn qmp_survives_whoever_talks_to_it() {
    let mut guest = Guest::start("manners", &["-m", "16"]);
    let socket = guest.folder.join("qmp");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    for (line, word) in [
        ("hello", "JSON"),
        ("[1, 2]", "object"),
        (r#"{"execute": 5}"#, "execute"),
        (r#"{"execute": "no-such-thing"}"#, "no-such-thing"),
        (r#"{"execute": "stop", "arguments": {"x": 1}}"#, "x"),
    ] {
        match guest.qmp().raw(line) {
            Err(Refusal::Error(text)) => assert!(text.contains(word), "{line}: {text}"),
            other => panic!("{line}: {other:?}"),
        }
    }
    assert!(guest.command("query-version", json!({}))["qemu"]["major"].is_u64());
    let commands = guest.command("query-commands", json!({}));
    assert!(commands.as_array().unwrap().iter().any(|row| row["name"] == "x-screen-text"));
    assert!(guest.monitor("help").contains("savevm"));
    assert!(guest.monitor("frobnicate").contains("frobnicate"));
    guest.quit();
    guest.launch(&["-m", "16"]);
    // A peer that floods without end and reads nothing does not take the machine with it.
    drop(guest.qmp().raw("{}"));
    guest.interrupt();
    assert_eq!(guest.ended(), 0);
    assert!(!socket.exists(), "the socket is left behind");
}

#[test]
fn a_flood_without_a_reader_is_bounded_and_the_next_peer_is_served() {
    let folder = crate::files::Folder::new("flood");
    let second = folder.join("second");
    let qmp = format!("unix:{},server=on,wait=off", second.display());
    let mut guest = Guest::start_in(folder, &["-m", "16", "-qmp", &qmp]);
    let mut peer = UnixStream::connect(&second).unwrap();
    peer.set_write_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
    let mut greeting = [0; 16];
    peer.read_exact(&mut greeting).unwrap();
    peer.write_all(b"{\"execute\": \"qmp_capabilities\"}\n").unwrap();
    for _ in 0..200_000 {
        // The server stops reading once its answers are not read.
        if peer.write_all(b"{\"execute\": \"query-commands\"}\n").is_err() {
            break;
        }
    }
    // The first socket is not disturbed.
    assert!(guest.command("query-status", json!({}))["status"].is_string());
    drop(peer);
    let mut next = crate::guest::wait_until("the next peer's turn", || Qmp::connect(&second, PATIENCE));
    assert!(next.command("query-status", &json!({})).is_ok());
    guest.quit();
}
