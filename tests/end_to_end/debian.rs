//! Debian on a disk of its own, booted through GRUB (the long suite).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::endurance::{duration, resident};
use crate::files::{Folder, fetched, long, tool};
use crate::guest::{Guest, word};
use crate::linux::serial::Line;

/// A busy host may need this for what takes a minute.
const PATIENCE: Duration = Duration::from_mins(20);

/// A copy of the disk that a test may write to.
fn copy_of_the_disk(folder: &Folder) -> PathBuf {
    let copy = folder.join("debian.img");
    tool("cp", &["--sparse=always", "--reflink=auto", word(&fetched("debian-12.img")), word(&copy)]);
    copy
}

/// The file system's check, which repairs nothing and has to find nothing.
fn check_file_system(image: &Path) {
    let partition = format!("{}?offset=1048576", image.display());
    let said = tool("e2fsck", &["-fn", &partition]);
    assert!(said.contains("Pass 5"), "{said}");
}

/// Debian at work, with root's shell on the first serial line.
pub struct Debian {
    pub guest: Guest,
    serial: Line,
}

impl Debian {
    /// Boots entry number `entry` of GRUB's menu up to the login on the serial line, and logs in there.
    pub fn boot(guest: Guest, entry: usize) -> Self {
        let mut this = Self::boot_to_login(guest, entry);
        this.log_in();
        this
    }

    fn boot_to_login(mut guest: Guest, entry: usize) -> Self {
        guest.patience = PATIENCE;
        guest.wait_for("Debian 686-pae");
        let mut serial = Line::connect(&guest.folder.join("serial"));
        serial.patience = PATIENCE;
        for _ in 0..entry {
            guest.press("down");
        }
        guest.press("ret");
        serial.wait_for("hako login: ");
        Self { guest, serial }
    }

    fn log_in(&mut self) {
        self.serial.send("root\n");
        self.serial.wait_for("Password: ");
        self.serial.send("hako\n");
        self.serial.wait_for("root@hako:~# ");
        // A shell that does not echo: a command would be taken for its answer. Messages of the kernel would come in between.
        self.serial.send("exec env PS1='do''ne> ' PS2= dash\n");
        self.serial.wait_for("done> ");
        self.run("stty -echo; dmesg -n 1");
    }

    /// Runs a command and returns what it prints.
    pub fn run(&mut self, command: &str) -> String {
        self.serial.send(command);
        self.serial.send("\n");
        let said = self.serial.wait_for("done> ");
        said.trim_end_matches("done> ").replace('\r', "").trim().to_owned()
    }

    /// The guest still has the folder that the disk is in.
    #[must_use]
    fn power_off(mut self) -> Guest {
        self.serial.send("systemctl poweroff\n");
        assert_eq!(self.guest.ended(), 0, "{}", self.guest.errors());
        self.guest
    }
}

/// The arguments of a machine with this disk.
pub fn arguments(folder: &Folder, image: &Path) -> Vec<String> {
    let drive = format!("file={},format=raw,if=ide,index=0", image.display());
    let serial = format!("unix:{},server=on,wait=off", folder.join("serial").display());
    ["-m", "512", "-drive", &drive, "-serial", &serial].map(str::to_owned).to_vec()
}

pub fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// What the host's own compiler makes of `tests/guests/sums.c`.
fn sums(folder: &Folder, source: &Path) -> String {
    let program = folder.join("sums");
    tool("gcc", &["-O2", "-o", word(&program), word(source)]);
    tool(word(&program), &[])
}

/// Boots one of the kernels and puts it to work; the file system and all that was computed has to be right.
fn works(name: &str, entry: usize, release: &str) {
    if !long() {
        return;
    }
    let folder = Folder::new(name);
    let image = copy_of_the_disk(&folder);
    let host_sums = fetched("debian-12.img").with_extension("md5");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/sums.c");
    let expected = sums(&folder, &source);
    let arguments = arguments(&folder, &image);
    let mut debian = Debian::boot_to_login(Guest::start_in(folder, &words(&arguments)), entry);

    // A login on the screen, too.
    debian.guest.wait_for("hako login:");
    debian.guest.type_text("root\n");
    debian.guest.wait_for("Password:");
    debian.guest.type_text("hako\n");
    debian.guest.wait_for("root@hako:~#");
    debian.guest.type_text("clear; uname -r\n");
    debian.guest.wait_for_screen("the kernel's name", |lines| lines.iter().any(|line| line.ends_with(release)));
    debian.log_in();

    // All programs and 200 MB of noise are on the disk as the host wrote them: one sum over the list of sums.
    let here = tool("md5sum", &[word(&host_sums)]);
    let there = debian.run("cd /; find srv/noise usr/bin usr/sbin -type f | LC_ALL=C sort | xargs md5sum | md5sum; cd");
    assert_eq!(there.split(' ').next(), here.split(' ').next(), "{there}");

    let program = std::fs::read_to_string(&source).unwrap();
    debian.run(&format!("cat >sums.c <<'END'\n{program}END"));
    assert_eq!(debian.run("gcc -O2 -o sums sums.c && ./sums"), expected.trim());

    let said = debian.run(
        "sqlite3 test.db 'create table t(a integer primary key, b text); with recursive c(x) as (select 1 union all \
         select x + 1 from c where x < 20000) insert into t select x, x * x from c; \
         select count(*), sum(a), sum(b % 1009) from t where b like \"%7%\";'",
    );
    let squares: Vec<u64> = (1..=20_000).map(|x: u64| x * x).filter(|b| b.to_string().contains('7')).collect();
    let roots: u64 = squares.iter().map(|b| b.isqrt()).sum();
    let rest: u64 = squares.iter().map(|b| b % 1009).sum();
    assert_eq!(said, format!("{}|{roots}|{rest}", squares.len()));

    let said = debian
        .run("python3 -c 'import hashlib; print(hashlib.sha256(open(\"/srv/noise\", \"rb\").read()).hexdigest())'");
    let host = debian.run("sha256sum /srv/noise");
    assert_eq!(host.split(' ').next(), Some(said.as_str()), "python3 and coreutils agree");
    // Its floating point is the x87's there, where a sum may end in other digits.
    let said =
        debian.run("python3 -c 'print(\"%.12f\" % sum(1 / n ** 2 for n in range(1, 100001)), 3 ** 200 % 10 ** 12)'");
    let zeta: f64 = (1..=100_000).map(|n| 1.0 / f64::from(n).powi(2)).sum();
    assert_eq!(said, format!("{zeta:.12} 384699044001"));

    let said = debian.run(
        "tar -C / -cf t.tar usr/include etc && mkdir t && tar -C t -xf t.tar && diff -r --no-dereference /etc t/etc && \
         diff -r --no-dereference /usr/include t/usr/include && echo the same",
    );
    assert_eq!(said, "the same");
    // The disk goes with the guest's folder.
    let guest = debian.power_off();
    check_file_system(&image);
    drop(guest);
}

#[test]
fn debian_works_with_the_686_kernel() {
    works("debian", 0, "-686");
}

#[test]
fn debian_works_with_the_686_pae_kernel() {
    works("debian-pae", 1, "-686-pae");
}

#[test]
fn an_hour_of_compiling_takes_no_more_memory() {
    if !long() {
        return;
    }
    let folder = Folder::new("compiling");
    let image = copy_of_the_disk(&folder);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/sums.c");
    let expected = sums(&folder, &source);
    let arguments = arguments(&folder, &image);
    let mut debian = Debian::boot(Guest::start_in(folder, &words(&arguments)), 0);
    let program = std::fs::read_to_string(&source).unwrap();
    debian.run(&format!("cat >sums.c <<'END'\n{program}END"));
    debian.run(r"seq 400 | sed 's,.*,int f&(int x) { int i; for (i = 0; i < &; i++) x = x * & + i / (x | 1); return x; },' >many.c");
    let (started, mut rounds, mut warm) = (Instant::now(), 0, None);
    while started.elapsed() < duration() {
        assert_eq!(debian.run("gcc -O2 -o sums sums.c && ./sums && gcc -O2 -c many.c"), expected.trim());
        rounds += 1;
        let memory = resident(debian.guest.process());
        // The guest's memory and the translated code fill up first.
        if started.elapsed() > duration() / 4 {
            let warm = *warm.get_or_insert(memory);
            assert!(memory < warm + 32 * 1024, "memory grew from {warm} to {memory} KiB in {rounds} rounds");
        }
    }
    let engine = debian.guest.monitor("info jit");
    println!("{rounds} rounds, from {warm:?} to {} KiB; {engine}", resident(debian.guest.process()));
    let _guest = debian.power_off();
    check_file_system(&image);
}

#[test]
fn debian_repairs_its_disk_after_the_plug_was_pulled() {
    if !long() {
        return;
    }
    let folder = Folder::new("plug");
    let image = copy_of_the_disk(&folder);
    let arguments = arguments(&folder, &image);
    let mut debian = Debian::boot(Guest::start_in(folder, &words(&arguments)), 0);
    // Something on the disk for certain, and something that is just being written.
    debian.run("cp /usr/bin/* /opt; sync; md5sum /opt/* >/root/sums; sync");
    debian.run("(while :; do cp -r /usr/include /root/a; rm -r /root/a; done) & sleep 3");
    debian.guest.quit();

    debian.guest.launch(&words(&arguments));
    let mut debian = Debian::boot_to_login(debian.guest, 0);
    debian.log_in();
    let said = debian.run(
        "dmesg | grep -c 'EXT4-fs.*recovery complete\\|orphan cleanup'; journalctl -b | grep 'recovering journal'",
    );
    assert!(said.contains("recovering journal") || !said.starts_with('0'), "nothing was repaired: {said}");
    assert_eq!(debian.run("md5sum -c --quiet /root/sums && echo all are there"), "all are there");
    assert_eq!(debian.run("findmnt -no OPTIONS / | grep -c '^rw'"), "1", "the disk can be written to");
    // The disk goes with the guest's folder.
    let guest = debian.power_off();
    check_file_system(&image);
    drop(guest);
}
