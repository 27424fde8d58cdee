//! Folders and images that tests work with.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder that is gone when the test has passed; a failed test leaves it for whoever looks.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Short: the path of a Unix socket has 107 bytes.
        let path = std::env::temp_dir().join(format!("hako-{}-{number}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file in the folder.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// Whether the tests that take minutes run, too (`packaging/test.sh --long`).
pub fn long() -> bool {
    std::env::var_os("HAKO_LONG").is_some()
}

/// A guest from Debian's packages, fetched where it is not there yet.
///
/// # Panics
/// Where it cannot be fetched: a guest that is not there is a failed test.
pub fn fetched(name: &str) -> PathBuf {
    let folder = match std::env::var_os("HAKO_GUESTS") {
        Some(folder) => PathBuf::from(folder),
        None => match std::env::var_os("XDG_CACHE_HOME") {
            Some(cache) => PathBuf::from(cache).join("hako/guests"),
            None => PathBuf::from(std::env::var_os("HOME").expect("a home folder")).join(".cache/hako/guests"),
        },
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/fetch-guests.sh");
    // It keeps what is there, and makes the initrd anew where its script has changed.
    let output = Command::new(script).arg(&folder).arg(name).output().expect("the script runs");
    assert!(output.status.success(), "{name} could not be fetched:\n{}", String::from_utf8_lossy(&output.stderr));
    folder.join(name)
}

/// An image of `shared/guests`, found in the folders above the project.
pub fn shared(name: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let given = std::env::var_os("HAKO_SHARED").map(PathBuf::from);
    let above = here.ancestors().map(|folder| folder.join("shared"));
    let found =
        given.into_iter().chain(above).map(|folder| folder.join("guests").join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("{name} is not in shared/guests above {} (HAKO_SHARED may name the folder)", here.display())
    })
}

/// A copy of `image` that a guest may write to.
pub fn writable(image: &Path, folder: &Folder) -> PathBuf {
    let copy = folder.join(image.file_name().unwrap().to_str().unwrap());
    std::fs::write(&copy, std::fs::read(image).unwrap()).unwrap();
    copy
}

/// Runs a tool of the host and returns what it printed.
pub fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error} (packaging/test.sh installs it)"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
