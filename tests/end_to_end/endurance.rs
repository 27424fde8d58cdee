//! A machine that works for a long time neither leaks nor stalls, and its clock keeps time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::files::{Folder, long, tool};
use crate::guest::word;
use crate::linux::Linux;
use crate::linux::serial::Line;

/// How long the guest may take to answer while it works.
const ANSWER: Duration = Duration::from_mins(2);
/// Seconds between two looks.
const LOOK: Duration = Duration::from_secs(10);
/// How far the guest's clock may run from the host's, in seconds; it is read in whole ones.
const DRIFT: i64 = 3;

/// How long the guest works: an hour, or as many minutes as `HAKO_ENDURANCE` says.
pub fn duration() -> Duration {
    let minutes = std::env::var("HAKO_ENDURANCE").ok().map(|minutes| minutes.parse().expect("HAKO_ENDURANCE: minutes"));
    Duration::from_mins(minutes.unwrap_or(60))
}

/// What the guest does over and over: noise, check sums, compression, disk, processes, floating point and text on the screen.
const LOAD: &str = r#"cat >/tmp/load <<'END'
n=0
while :; do
    dd if=/dev/urandom of=/mnt/noise bs=64k count=48 2>/dev/null
    before=$(md5sum </mnt/noise)
    gzip -c /mnt/noise >/mnt/noise.gz
    sync
    echo 3 >/proc/sys/vm/drop_caches
    [ "$(gunzip -c /mnt/noise.gz | md5sum)" = "$before" ] || echo "differs in round $n" >>/tmp/wrong
    for i in $(seq 100); do $(which true); done
    [ "$(awk 'BEGIN { for (i = 1; i < 20000; i++) s += 1 / (i * i); printf "%.6f", s }')" = 1.644884 ] || echo "awk in round $n" >>/tmp/wrong
    ls -lR /sys/class /bin >/dev/tty1
    n=$((n + 1))
    echo $n >/tmp/next
    mv /tmp/next /tmp/rounds
done
END
echo 0 >/tmp/rounds; mount -t ext4 /dev/sda /mnt && sh /tmp/load &
"#;

fn host_seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// Memory of the process that lies in RAM, in KiB.
pub fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Rounds of the load, and how far the guest's clock is ahead of the host's.
fn look(serial: &mut Line) -> (u64, i64) {
    let asked = Instant::now();
    serial.send("echo =$(cat /tmp/rounds) $(date +%s) $(cat /tmp/wrong 2>/dev/null)=\n");
    // The command's echo has a “$” behind its “=”.
    let answer = loop {
        serial.wait_for("=");
        let answer = serial.wait_for("=");
        if !answer.contains('$') {
            break answer;
        }
    };
    assert!(asked.elapsed() < ANSWER, "the guest answered after {:?}", asked.elapsed());
    let mut words = answer.trim_end_matches('=').split_whitespace();
    let rounds = words.next().unwrap().parse().unwrap();
    let clock: i64 = words.next().unwrap().parse().unwrap();
    assert_eq!(words.next(), None, "what was computed or read is wrong: {answer}");
    (rounds, clock - host_seconds())
}

/// Lets the guest work for `time`.
fn endure(name: &str, time: Duration) {
    let folder = Folder::new(name);
    let disk = folder.write("disk.img", &[]);
    tool("truncate", &["-s", "64M", word(&disk)]);
    tool("mke2fs", &["-q", "-t", "ext4", word(&disk)]);
    let drive = format!("file={},format=raw,if=ide,index=0", disk.display());
    let linux = Linux {
        append: "console=ttyS0 console=tty0 cryptomgr.notests",
        arguments: &["-drive", &drive],
        ..Linux::with_modules()
    };
    let (mut guest, mut serial) = linux.start_to_shell(folder, Duration::from_mins(20));
    serial.send(LOAD);
    serial.send("echo the load ru''ns\n");
    serial.wait_for("the load runs");
    let (_, ahead) = look(&mut serial);

    let (started, mut before, mut progress) = (Instant::now(), 0, Instant::now());
    let mut warm = None;
    while started.elapsed() < time {
        std::thread::sleep(LOOK);
        let (rounds, now_ahead) = look(&mut serial);
        assert!((now_ahead - ahead).abs() <= DRIFT, "the guest's clock ran {} s away", now_ahead - ahead);
        if rounds > before {
            (before, progress) = (rounds, Instant::now());
        }
        assert!(progress.elapsed() < 2 * ANSWER, "round {before} does not end");
        let (width, height, _) = guest.picture();
        assert!(width > 0 && height > 0);
        let memory = resident(guest.process());
        // The guest's memory and the translated code fill up first.
        if started.elapsed() > time / 4 {
            let warm = *warm.get_or_insert(memory);
            assert!(memory < warm + warm / 10 + 16 * 1024, "memory grew from {warm} to {memory} KiB");
        }
    }
    assert!(before > 2, "{before} rounds");
    println!("{before} rounds in {:?}, {} KiB at the end", started.elapsed(), resident(guest.process()));
    serial.send("poweroff\n");
    assert_eq!(guest.ended(), 0, "{}", guest.errors());
}

#[test]
fn an_hour_of_mixed_load_neither_leaks_nor_stalls() {
    if long() {
        endure("hour", duration());
    }
}
