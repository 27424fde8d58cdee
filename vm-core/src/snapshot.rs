//! Saved states and snapshots.
//!
//! Snapshots are [`keeper`]'s: a tree of them, with memory and all disks in one instant. The rest of this page is Save & Close.
//!
//! A state is a folder with two files: `state.ron`, readable, with the hardware, the media and every device; and
//! a raw file of memories that it names. Writing the new `state.ron` in place of the old by rename is the one
//! moment at which a state comes into being; before it the old state is whole, after it the new one.

pub mod archive;
pub mod files;
pub mod keeper;
pub mod manifest;
pub mod memory;
pub mod pack;
pub mod section;
mod store;
pub mod thin;
pub mod tree;

pub use store::{Progress, StateError, discard, exists, load, save};
pub(crate) use store::{drain, fits};

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// The host's time in seconds since 1970 (UTC).
pub(crate) fn host_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Writes `bytes` to `path` so that after a power cut at any moment the file is the old one or the new one, whole: a
/// temporary file beside it, synced, renamed, and the folder synced.
///
/// # Errors
/// What the host says; the old file is then as it was.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = folder.join(name);
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    });
    if written.is_err() {
        // The error itself is what matters; the rest of a failed write is only in the way.
        let _ = std::fs::remove_file(&temporary);
        return written;
    }
    sync_folder(folder)
}

/// Brings the names in a folder to stable storage, on hosts where a folder can be opened.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}
