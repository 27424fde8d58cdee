//! The accident that Hako was made for: Linux writes to its disk, a state is saved, Linux goes on, and the state is loaded again.

use std::path::{Path, PathBuf};

use vm_core::config::{DriveConfig, DriveKind, DriveSlot, ImageFormat, MachineConfig};
use vm_core::disk::convert;
use vm_core::snapshot::files::Files;
use vm_core::snapshot::keeper::Keeper;

use crate::files::{Folder, fetched, long, tool};
use crate::guest::{Guest, HAKO, word};
use crate::linux::serial::Line;
use crate::storage::run;

/// Works on files without end, at random by the seed in `/tmp/seed`: new ones, parts written over, renamed, longer, shorter, gone. What must be
/// on the disk stands in memory: names and check sums in `/tmp/sums`, the number of the last round in `/tmp/n`.
const WRITER: &str = r#"cat >/tmp/write <<'END'
n=$(cat /tmp/n)
s=$(cat /tmp/seed)
any() { s=$(((s * 1103515245 + 12345) & 0x7fffffff)); x=$(((s >> 8) % $1)); }
old() { any $(wc -l </tmp/sums); f=$(sed -n "$((x + 1))s/^[^ ]*  //p" /tmp/sums); }
forget() { grep -v "  $1$" /tmp/sums >/tmp/fewer; mv /tmp/fewer /tmp/sums; }
learn() { sum=$(md5sum <$1); echo "${sum%% *}  $1" >>/tmp/sums; }
noise() { dd if=/dev/urandom of=$1 bs=512 count=$2 conv=notrunc seek=$3 2>/dev/null; }
while [ ! -e /tmp/stop ]; do
    n=$((n + 1))
    any 6
    mkdir -p /mnt/work/$x
    file=/mnt/work/$x/$n
    any 300
    noise $file $((x + 1)) 0
    learn $file
    old
    any 5
    case $x in
    0) any 40; forget $f; noise $f 3 $x; learn $f ;;
    1) forget $f; mv $f ${f%/*}/moved$n; learn ${f%/*}/moved$n ;;
    2) any 90; forget $f; dd if=/dev/urandom bs=512 count=$x 2>/dev/null >>$f; learn $f ;;
    3) any 20000; forget $f; truncate -s $x $f; learn $f ;;
    esac
    while [ $(wc -l </tmp/sums) -gt 60 ]; do
        old
        forget $f
        rm $f
    done
    any 7
    case $x in
    0) sync ;;
    1) echo 3 >/proc/sys/vm/drop_caches ;;
    esac
    echo $s >/tmp/seed
    echo $n >/tmp/next
    mv /tmp/next /tmp/n
done
touch /tmp/stopped
END
"#;

struct Diary {
    guest: Guest,
    line: Line,
    disk: PathBuf,
}

impl Diary {
    /// Linux with an ext4 disk, on which it writes.
    fn open(name: &str, seed: u32) -> Self {
        let folder = Folder::new(name);
        let (raw, disk) = (folder.join("raw.img"), folder.join("disk.qcow2"));
        tool("truncate", &["-s", "64M", word(&raw)]);
        tool("mke2fs", &["-q", "-t", "ext4", word(&raw)]);
        convert::convert(&raw, Some(ImageFormat::Raw), &disk, ImageFormat::Qcow2, &mut |_, _| {}).unwrap();
        let (kernel, initrd) = (fetched("vmlinuz-686"), fetched("initrd-storage.gz"));
        let serial = format!("unix:{},server=on,wait=off", folder.join("serial").display());
        let guest = Guest::start_in(
            folder,
            &[
                "-name",
                "diary",
                "-accel",
                "jit",
                "-m",
                "96",
                "-kernel",
                word(&kernel),
                "-initrd",
                word(&initrd),
                "-append",
                "console=ttyS0 cryptomgr.notests",
                "-hda",
                word(&disk),
                "-serial",
                &serial,
            ],
        );
        let mut line = Line::connect(&guest.folder.join("serial"));
        line.wait_for("guest# ");
        line.send(WRITER);
        let mut diary = Self { guest, line, disk };
        diary.run(&format!(
            "mount -t ext4 /dev/sda /mnt; mkdir /mnt/work; echo 0 >/tmp/n; echo {seed} >/tmp/seed; >/tmp/sums"
        ));
        diary.write();
        diary
    }

    fn run(&mut self, command: &str) -> String {
        run(&mut self.line, command)
    }

    /// Lets the guest write.
    fn write(&mut self) {
        self.run("rm -f /tmp/stop /tmp/stopped; (sh /tmp/write &)");
    }

    /// The number of the round that has been written last.
    fn number(&mut self) -> u32 {
        let said = self.run("cat /tmp/n");
        said.lines().next().and_then(|line| line.trim().parse().ok()).unwrap_or_else(|| panic!("a number: {said}"))
    }

    /// Waits until so many more files have been written.
    fn wait(&mut self, more: u32) -> u32 {
        let until = self.number() + more;
        loop {
            let now = self.number();
            if now >= until {
                return now;
            }
        }
    }

    fn monitor(&mut self, line: &str) {
        let said = self.guest.monitor(line);
        assert_eq!(said, "", "{line}");
    }

    /// Stops writing. All that memory knows must be on the disk, as the disk has it and not as memory does; then the disk is let go.
    fn close(&mut self, what: &str) {
        self.run("touch /tmp/stop; until [ -e /tmp/stopped ]; do sleep 1; done");
        self.run("sync; echo 3 >/proc/sys/vm/drop_caches");
        let said = self.run("md5sum -c /tmp/sums >/tmp/said; grep -v ': OK$' /tmp/said; grep -c ': OK$' /tmp/said");
        let count = said.lines().next().and_then(|line| line.trim().parse::<u32>().ok());
        assert!(count.is_some_and(|count| count > 3), "{what}: the disk is not of the moment of memory:\n{said}");
        let errors =
            self.run("grep -c '^/dev/sda /mnt ext4 rw' /proc/mounts; dmesg | grep -E 'EXT4-fs (error|warning)'; true");
        assert_eq!(errors.lines().next(), Some("1"), "{what}: {errors}");
        assert!(!errors.contains("EXT4"), "{what}: {errors}");
        self.run("umount /mnt");
    }
}

/// The disk at `image` holds a file system without any fault.
fn check(image: &Path, format: ImageFormat, what: &str) {
    let raw = image.with_extension("checked");
    convert::convert(image, Some(format), &raw, ImageFormat::Raw, &mut |_, _| {})
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let said = tool("e2fsck", &["-fn", word(&raw)]);
    assert!(said.contains("Pass 5"), "{what}: {said}");
    std::fs::remove_file(raw).unwrap();
}

/// Takes `rounds` snapshots while the guest writes, and goes back to one of them after each.
fn keep_a_diary(name: &str, rounds: u32) {
    let mut seed = 0x2006_0401_u32;
    let mut diary = Diary::open(name, seed);
    let mut random = |below: u32| {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        seed % below
    };
    let mut taken = Vec::new();
    for round in 1..=rounds {
        let before = diary.wait(2 + random(3));
        diary.monitor(&format!("savevm day {round}"));
        let after = diary.number();
        taken.push((round, before..=after));
        // The guest goes on, and what is in its memory then fits no earlier disk.
        diary.wait(3 + random(6));
        let (day, numbers) = taken[random(taken.len() as u32) as usize].clone();
        diary.monitor(&format!("loadvm day {day}"));
        let now = diary.number();
        assert!(*numbers.start() <= now, "round {round}: {now} is not of {numbers:?}");
        let what = format!("round {round}, day {day}");
        diary.close(&what);
        diary.monitor(&format!("savevm clean {round}"));
        diary.run("mount -t ext4 /dev/sda /mnt");
        diary.write();
        // Nobody keeps all of them; what others need must stay.
        if taken.len() > 8 {
            let (old, _) = taken.remove(random(8) as usize);
            diary.monitor(&format!("delvm day {old}"));
        }
    }
    diary.wait(4);
    diary.close("the end");
    diary.line.send("poweroff\n");
    assert_eq!(diary.guest.ended(), 0, "{}", diary.guest.errors());

    let home = diary.guest.folder.join("states/diary");
    for round in 1..=rounds {
        let (folder, name) = (diary.guest.folder.join(&format!("clean-{round}")), format!("clean {round}"));
        tool(HAKO, &["snapshot", "export", word(&home), &name, word(&folder)]);
        check(&folder.join("drive-1.qcow2"), ImageFormat::Qcow2, &name);
        std::fs::remove_dir_all(folder).unwrap();
    }
    let drive = DriveConfig {
        slot: DriveSlot::Ide(0),
        kind: DriveKind::Disk,
        path: Some(diary.disk.clone()),
        format: Some(ImageFormat::Qcow2),
        read_only: false,
        temporary: false,
    };
    let mut config = MachineConfig { drives: vec![drive], ..MachineConfig::default() };
    Keeper::open(&home, Files::default()).unwrap().configure(&mut config).unwrap();
    let present = config.drives.remove(0).path.unwrap();
    assert_ne!(present, diary.disk, "the machine runs on an overlay");
    check(&present, ImageFormat::Qcow2, "the present");
    println!("{rounds} of {rounds} rounds: every file right, e2fsck -fn clean");
}

#[test]
fn going_back_while_linux_writes_never_hurts_its_file_system() {
    keep_a_diary("diary", if long() { 100 } else { 3 });
}
