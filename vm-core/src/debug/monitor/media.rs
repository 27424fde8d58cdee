//! `change`, `eject` and `info block`.

use std::fmt::Write as _;

use super::MonitorTarget;
use crate::config::{DriveKind, ImageFormat};
use crate::runner::{BlockInfo, MediumAccess, MediumChange};

/// The first word of `text` and what follows it.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim();
    let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (first, rest.trim())
}

/// Takes `-f` off the beginning.
fn forced(text: &str) -> (bool, &str) {
    match word(text) {
        ("-f", rest) => (true, rest),
        _ => (false, text.trim()),
    }
}

/// Takes the last word off where `meaning` knows it, and it is not all there is.
fn last_word<T>(text: &mut &str, meaning: impl Fn(&str) -> Option<T>) -> Option<T> {
    let (before, last) = text.rsplit_once(char::is_whitespace)?;
    let found = meaning(last)?;
    *text = before.trim_end();
    Some(found)
}

/// `change DRIVE [-f] FILE [FORMAT [ACCESS]]`. A file's name may have blanks; in quotes it may end like a format.
pub(super) fn change(arguments: &str, machine: &mut dyn MonitorTarget) -> Result<String, String> {
    let (force, rest) = forced(arguments);
    let (drive, rest) = word(rest);
    let (also, mut rest) = forced(rest);
    if drive.is_empty() || rest.is_empty() {
        return Err("change needs a drive (see “info block”) and a file".to_owned());
    }
    let (quoted, mut options) = match rest.strip_prefix('"') {
        None => (None, ""),
        Some(text) => {
            let (file, options) = text.split_once('"').ok_or("the quotes around the file's name do not end")?;
            (Some(file), options.trim())
        }
    };
    let text = if quoted.is_some() { &mut options } else { &mut rest };
    // A blank before quoted options makes their first word a last word, too.
    let padded = format!(" {text}");
    let mut left = if quoted.is_some() { padded.as_str() } else { *text };
    let access = last_word(&mut left, MediumAccess::from_name);
    let format = last_word(&mut left, ImageFormat::from_name);
    let path = match quoted {
        Some(file) if left.trim().is_empty() => file,
        Some(_) => {
            let unknown = left.trim();
            return Err(format!(
                "{unknown}: not understood; after the file come raw or qcow2, then retain, read-only or read-write"
            ));
        }
        None => left,
    };
    let change =
        MediumChange::Insert { path: path.into(), format, access: access.unwrap_or_default(), force: force || also };
    machine.change_medium(drive, change)?;
    Ok(String::new())
}

/// `eject [-f] DRIVE`.
pub(super) fn eject(arguments: &str, machine: &mut dyn MonitorTarget) -> Result<String, String> {
    let (force, drive) = forced(arguments);
    if drive.is_empty() {
        return Err("eject needs a drive (see “info block”)".to_owned());
    }
    machine.change_medium(drive, MediumChange::Eject { force })?;
    Ok(String::new())
}

/// `info block`.
pub(super) fn in_words(blocks: &[BlockInfo]) -> String {
    let mut text = String::new();
    for block in blocks {
        let name = block.name();
        let kind = match block.kind {
            DriveKind::Disk => "hard disk",
            DriveKind::Cd => "CD-ROM",
            DriveKind::Floppy => "floppy",
        };
        let _ = match &block.path {
            None => writeln!(text, "{name}: {kind}, empty"),
            Some(path) => {
                let rights = if block.read_only { ", read-only" } else { "" };
                let fate = if block.temporary { ", changes are dropped at the end" } else { "" };
                let (path, format) = (path.display(), block.format);
                writeln!(text, "{name}: {kind}, {path} ({format}, {} bytes{rights}{fate})", block.bytes)
            }
        };
        if let Some(open) = block.tray_open {
            let lock = if block.locked { "locked" } else { "not locked" };
            let tray = if open { "open" } else { "closed" };
            let _ = writeln!(text, "    Removable device: {lock}, tray {tray}");
        }
    }
    if text.is_empty() { "no drives\n".to_owned() } else { text }
}
