//! Debian's 32-bit kernel with busybox.

use std::time::Duration;

use crate::files::{Folder, fetched};
use crate::guest::{Guest, PATIENCE, word};
use serial::Line;

/// Debian's kernel with busybox on a PC.
pub struct Linux<'a> {
    /// Memory in MiB.
    pub memory: &'a str,
    /// Its name among the fetched guests.
    pub kernel: &'a str,
    pub initrd: &'a str,
    /// Words for the kernel.
    pub append: &'a str,
    /// More arguments of the machine.
    pub arguments: &'a [&'a str],
}

impl Default for Linux<'_> {
    fn default() -> Self {
        Self {
            memory: "128",
            kernel: "vmlinuz-686",
            initrd: "initrd.gz",
            append: "console=ttyS0 console=tty0",
            arguments: &[],
        }
    }
}

impl Linux<'_> {
    /// The same with the kernel's modules for drives and file systems.
    pub fn with_modules() -> Self {
        Self { initrd: "initrd-storage.gz", ..Self::default() }
    }

    /// Starts it with its first serial line in the socket `serial` of the folder.
    pub fn start(&self, folder: Folder) -> Guest {
        // A kernel that belongs to modules is kept with them: the initial disk first.
        let initrd = fetched(self.initrd);
        let kernel = fetched(self.kernel);
        let serial = format!("unix:{},server=on,wait=off", folder.join("serial").display());
        let mut arguments = vec!["-m", self.memory, "-kernel", word(&kernel), "-initrd", word(&initrd)];
        arguments.extend(["-append", self.append, "-serial", &serial]);
        arguments.extend(self.arguments);
        Guest::start_in(folder, &arguments)
    }

    /// Starts it and waits, with this patience, for the shell on its serial line.
    pub fn start_to_shell(&self, folder: Folder, patience: Duration) -> (Guest, Line) {
        let guest = self.start(folder);
        let mut line = Line::connect(&guest.folder.join("serial"));
        line.patience = patience;
        line.wait_for("guest# ");
        (guest, line)
    }
}

/// The other end of the serial line.
pub mod serial {
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::os::unix::net::UnixStream;
    use std::path::Path;
    use std::time::{Duration, Instant};

    use crate::guest::PATIENCE;

    pub struct Line {
        stream: UnixStream,
        /// All that has come and was not yet looked past.
        pub text: String,
        /// How long anything may take.
        pub patience: Duration,
    }

    impl Line {
        pub fn connect(path: &Path) -> Self {
            let stream = UnixStream::connect(path).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            Self { stream, text: String::new(), patience: PATIENCE }
        }

        pub fn send(&mut self, text: &str) {
            self.stream.write_all(text.as_bytes()).unwrap();
        }

        /// Takes in what has come; false once the machine has ended.
        pub fn read(&mut self) -> bool {
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => self.text.push_str(&String::from_utf8_lossy(&buffer[..count])),
                // The second where the tests were stopped and go on.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => return false,
            }
            true
        }

        /// Reads until `needle` has come; what came up to its end.
        pub fn wait_for(&mut self, needle: &str) -> String {
            let until = Instant::now() + self.patience;
            loop {
                if let Some(at) = self.text.find(needle) {
                    let rest = self.text.split_off(at + needle.len());
                    return std::mem::replace(&mut self.text, rest);
                }
                assert!(Instant::now() < until, "waited in vain for “{needle}” on the serial line:\n{}", self.text);
                assert!(self.read(), "the serial line ended before “{needle}”:\n{}", self.text);
            }
        }
    }
}

#[test]
fn linux_comes_to_a_shell_on_the_screen_and_on_the_serial_line() {
    let (mut guest, mut serial) = Linux::default().start_to_shell(Folder::new("linux"), PATIENCE);
    guest.wait_for("guest#");
    // On the screen.
    guest.type_text("clear\nhead -n 5 /proc/cpuinfo\n");
    guest.wait_for("GenuineIntel");
    guest.type_text("clear\nls /\n");
    guest.wait_for_screen("the list", |lines| lines.iter().any(|line| line.contains("init") && line.contains("proc")));
    // On the serial line.
    serial.send("cat /proc/cpuinfo\n");
    serial.wait_for("GenuineIntel");
    serial.wait_for("guest# ");
    serial.send("echo $((6 * 7)); ls -d /proc\n");
    serial.wait_for("42");
    serial.wait_for("/proc");
    guest.type_text("poweroff\n");
    assert_eq!(guest.ended(), 0, "{}", guest.errors());
}

#[test]
fn the_kernel_for_pae_comes_to_a_shell() {
    let linux = Linux { kernel: "vmlinuz-686-pae", ..Linux::default() };
    let (mut guest, mut serial) = linux.start_to_shell(Folder::new("linux-pae"), PATIENCE);
    // What makes the default processor a Pentium M.
    serial.send("echo $(grep -o -w -E 'pae|nx|sse|sse2|rdrand' /proc/cpuinfo | sort)\n");
    serial.wait_for("\nnx pae rdrand sse sse2");
    serial.send("poweroff\n");
    assert_eq!(guest.ended(), 0, "{}", guest.errors());
}

#[test]
fn the_power_button_and_interrupt_end_a_machine() {
    let mut guest = Guest::start("interrupt", &["-m", "32"]);
    guest.wait_for("No bootable device");
    guest.interrupt();
    assert_eq!(guest.ended(), 0, "{}", guest.errors());
}
