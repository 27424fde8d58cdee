//! Kills, power cuts and full disks.

use super::*;
use crate::disk::host_file::full;
use crate::disk::host_file::log::{self, Step};

/// The other half of [`killed_at_any_time_nothing_flushed_is_lost`]: writes until it is killed, and says what is flushed.
#[test]
fn writer_to_be_killed() {
    let Some(path) = std::env::var_os("HAKO_QCOW2_VICTIM").map(PathBuf::from) else { return };
    let mut random = Random(std::process::id().into());
    let mut backend = qcow2(&path);
    let sectors = backend.sectors();
    loop {
        let mut writes = Vec::new();
        for _ in 0..=random.below(12) {
            let (sector, value) = (random.below(sectors), 1 + random.below(255) as u8);
            writes.push((sector, (1 + random.below(200)).min(sectors - sector), value));
        }
        // Said before the first as begun, and after the flush as safe.
        let words: Vec<_> = writes.iter().map(|(sector, count, value)| format!("{sector} {count} {value}")).collect();
        println!("\nbegun {}", words.join(","));
        for (sector, count, value) in writes {
            write(backend.as_mut(), sector, &vec![value; count as usize * 512]).unwrap();
        }
        flush(backend.as_mut());
        println!("\nsafe");
    }
}

#[test]
fn killed_at_any_time_nothing_flushed_is_lost() {
    let folder = Folder::new("qcow2-kill");
    let path = folder.0.join("a.qcow2");
    let times = if std::env::var_os("HAKO_LONG").is_some() { 300 } else { 12 };
    let bytes = 24 * MIB as usize;
    let mut random = Random(77);
    for round in 0..times {
        let _ = std::fs::remove_file(&path);
        let small = round % 3 == 1 && qemu(&["create", "-f", "qcow2", "-o", "cluster_size=512", str(&path), "24M"]);
        if !small {
            image::create(&path, Some(bytes as u64), ImageFormat::Qcow2, None).unwrap();
        }
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["disk::qcow2::tests::crash::writer_to_be_killed", "--exact", "--nocapture"])
            .env("HAKO_QCOW2_VICTIM", &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(60 + random.below(200)));
        victim.kill().unwrap();
        let said = victim.wait_with_output().unwrap().stdout;
        let said = String::from_utf8_lossy(&said);
        // What each sector may be: its value when it was last flushed, or any written since.
        let mut safe = vec![0; bytes / 512];
        let mut open: Vec<Vec<u8>> = vec![Vec::new(); bytes / 512];
        let mut flushes = 0;
        let mut begun: Vec<(usize, usize, u8)> = Vec::new();
        for line in said.lines() {
            if let Some(list) = line.strip_prefix("begun ") {
                let number = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok());
                for write in list.split(',') {
                    let mut parts = write.split(' ');
                    let parts = (number(parts.next()), number(parts.next()), number(parts.next()));
                    if let (Some(sector), Some(count), Some(value)) = parts {
                        begun.push((sector as usize, count as usize, value as u8));
                    }
                }
            } else if line == "safe" {
                flushes += 1;
                for (sector, count, value) in begun.drain(..) {
                    safe[sector..sector + count].fill(value);
                }
            }
        }
        for (sector, count, value) in begun {
            open[sector..sector + count].iter_mut().for_each(|values| values.push(value));
        }
        if let Some(check) = qemu_img(&["check", "-f", "qcow2", str(&path)]) {
            let text = String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
            assert!(matches!(check.status.code(), Some(0 | 3)), "after {flushes} flushes: {text}");
        }
        let mut backend = qcow2(&path);
        let now = everything(backend.as_mut());
        for (sector, bytes) in now.chunks(512).enumerate() {
            let value = bytes[0];
            assert!(bytes.iter().all(|byte| *byte == value), "sector {sector} is torn");
            let known = value == safe[sector] || open[sector].contains(&value);
            assert!(known, "sector {sector} holds {value} and not {} after {flushes} flushes", safe[sector]);
        }
        // And it goes on.
        write(backend.as_mut(), 1, &[9; 512]).unwrap();
        flush(backend.as_mut());
    }
}

/// The file after a power cut at step `cut`: what was synced before is there, of the rest any sectors in any order.
fn after_a_cut(before: &[u8], steps: &[Step], cut: usize, random: &mut Random) -> Vec<u8> {
    let synced = steps[..cut].iter().rposition(|step| matches!(step, Step::Sync)).unwrap_or(0);
    let mut file = before.to_vec();
    // How much of what is not synced arrives.
    let luck = random.below(101);
    for (index, step) in steps[..cut].iter().enumerate() {
        match step {
            Step::Sync => {}
            Step::Grow(bytes) => {
                if index < synced || random.below(100) < luck {
                    file.resize(file.len().max(*bytes as usize), 0);
                }
            }
            Step::Write(offset, bytes) => {
                let mut at = *offset as usize;
                // The disk writes whole sectors.
                for part in bytes.chunk_by_sector(at) {
                    if index < synced || random.below(100) < luck {
                        file.resize(file.len().max(at + part.len()), 0);
                        file[at..at + part.len()].copy_from_slice(part);
                    }
                    at += part.len();
                }
            }
        }
    }
    file
}

trait BySector {
    /// Cuts bytes that start at `at` where sectors begin.
    fn chunk_by_sector(&self, at: usize) -> impl Iterator<Item = &[u8]>;
}

impl BySector for Vec<u8> {
    fn chunk_by_sector(&self, at: usize) -> impl Iterator<Item = &[u8]> {
        let first = (512 - at % 512).min(self.len());
        std::iter::once(&self[..first]).chain(self[first..].chunks(512))
    }
}

/// The power is cut at any step, and the disk had written what it liked of what it was not told to sync.
#[test]
fn a_power_cut_loses_nothing_that_was_flushed() {
    let folder = Folder::new("qcow2-cut");
    let long = if std::env::var_os("HAKO_LONG").is_some() { 40 } else { 1 };
    let path = folder.0.join("a.qcow2");
    let raw = folder.file("m.raw", &pattern(2 * MIB as usize, 21));
    let kinds = [
        None,
        Some("compat=v3,cluster_size=512"),
        Some("compat=v3,cluster_size=4096,refcount_bits=64"),
        Some("packed compat=v3,cluster_size=4096"),
        Some("packed compat=v3,cluster_size=65536"),
    ];
    let mut random = Random(0x0bad_cafe);
    for kind in kinds {
        let mut model = vec![0; 2 * MIB as usize];
        let _ = std::fs::remove_file(&path);
        match kind {
            None => image::create(&path, Some(2 * MIB), ImageFormat::Qcow2, None).unwrap(),
            Some(options) => {
                let (packed, options) = options.strip_prefix("packed ").map_or((false, options), |rest| (true, rest));
                let mut arguments = vec!["convert", "-f", "raw", "-O", "qcow2", "-o", options, str(&raw), str(&path)];
                if packed {
                    arguments.insert(1, "-c");
                }
                if !qemu(&arguments) {
                    continue;
                }
                model = std::fs::read(&raw).unwrap();
            }
        }
        let before = std::fs::read(&path).unwrap();
        let mut image = chain::open(&path, true).unwrap().image;
        log::start();
        // What was flushed when so many steps were done, and what was written since, newest last.
        let mut history = vec![(0, model.clone(), Vec::new())];
        for _ in 0..14 {
            for _ in 0..=random.below(8) {
                let sectors = model.len() as u64 / 512;
                let sector = random.below(sectors);
                let count = (1 + random.below(100)).min(sectors - sector) as usize;
                let bytes = vec![random.next() as u8; count * 512];
                // Before it is written: the cut may come in the middle.
                history.last_mut().unwrap().2.push((sector as usize, bytes.clone()));
                image.write(sector * 512, &bytes).unwrap();
                model[sector as usize * 512..][..bytes.len()].copy_from_slice(&bytes);
            }
            image.flush().unwrap();
            history.push((log::steps(), model.clone(), Vec::new()));
        }
        let steps = log::take();
        drop(image);
        for _ in 0..60 * long {
            let cut = random.below(steps.len() as u64 + 1) as usize;
            std::fs::write(&path, after_a_cut(&before, &steps, cut, &mut random)).unwrap();
            // It opens for writing: nothing in use is counted as free.
            let opened = chain::open(&path, true);
            let mut image = opened.map_or_else(|error| panic!("{kind:?}, {cut}: {error}"), |opened| opened.image);
            let mut now = vec![0; model.len()];
            image.read(0, &mut now).unwrap();
            drop(image);
            let (_, safe, since) = history.iter().rfind(|(step, ..)| *step <= cut).unwrap();
            for (sector, bytes) in now.chunks(512).enumerate() {
                let was = |(from, bytes): &(usize, Vec<u8>), now: &[u8]| {
                    let at = sector.checked_sub(*from)? * 512;
                    bytes.get(at..at + 512).map(|bytes| bytes == now)
                };
                let known =
                    *bytes == safe[sector * 512..][..512] || since.iter().any(|write| was(write, bytes) == Some(true));
                assert!(known, "{kind:?}: sector {sector} is lost after a cut at step {cut} of {}", steps.len());
            }
            if random.below(10) == 0
                && let Some(check) = qemu_img(&["check", "-f", "qcow2", str(&path)])
            {
                let text = String::from_utf8_lossy(&check.stdout).into_owned();
                assert!(matches!(check.status.code(), Some(0 | 3)), "{kind:?}: {text}");
            }
        }
    }
}

/// Does `part`; where the disk is full, makes room and does it again. How often it was full.
fn with_room(
    image: &mut Qcow2Image,
    random: &mut Random,
    mut part: impl FnMut(&mut Qcow2Image) -> io::Result<()>,
) -> u32 {
    let mut times = 0;
    loop {
        match part(image) {
            Ok(()) => return times,
            Err(error) => assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}"),
        }
        times += 1;
        full::after((times < 6).then(|| random.below(40)));
    }
}

/// The host's disk becomes full at any step; the request fails as such, and when it is tried again with room nothing is lost.
#[test]
fn a_full_disk_fails_requests_and_loses_nothing() {
    let folder = Folder::new("qcow2-full");
    let (path, copy) = (folder.0.join("a.qcow2"), folder.0.join("copy.qcow2"));
    let raw = folder.file("m.raw", &pattern(2 * MIB as usize, 22));
    let times = if std::env::var_os("HAKO_LONG").is_some() { 200 } else { 4 };
    let kinds =
        [None, Some("compat=v3,cluster_size=512"), Some("packed compat=v3,cluster_size=4096"), Some("compat=0.10")];
    let mut random = Random(0xf011);
    let mut failures = 0;
    for kind in kinds {
        for _ in 0..times {
            let mut model = vec![0; 2 * MIB as usize];
            let _ = std::fs::remove_file(&path);
            match kind {
                None => image::create(&path, Some(2 * MIB), ImageFormat::Qcow2, None).unwrap(),
                Some(options) => {
                    let (packed, options) =
                        options.strip_prefix("packed ").map_or((false, options), |rest| (true, rest));
                    let mut arguments =
                        vec!["convert", "-f", "raw", "-O", "qcow2", "-o", options, str(&raw), str(&path)];
                    if packed {
                        arguments.insert(1, "-c");
                    }
                    if !qemu(&arguments) {
                        break;
                    }
                    model = std::fs::read(&raw).unwrap();
                }
            }
            let mut opened = chain::open(&path, true).unwrap();
            let image = &mut opened.image;
            let mut safe = model.clone();
            full::after(Some(random.below(300)));
            for step in 0..60 {
                let sector = random.below(model.len() as u64 / 512);
                let count = (1 + random.below(200)).min(model.len() as u64 / 512 - sector) as usize;
                let bytes = vec![random.next() as u8; count * 512];
                failures += with_room(image, &mut random, |image| image.write(sector * 512, &bytes));
                model[sector as usize * 512..][..bytes.len()].copy_from_slice(&bytes);
                if random.below(5) == 0 {
                    let again = with_room(image, &mut random, Image::flush);
                    failures += again;
                    safe.clone_from(&model);
                }
                if step % 20 == 7 {
                    let mut now = vec![0; model.len()];
                    image.read(0, &mut now).unwrap();
                    assert!(now == model, "{kind:?}: reads other bytes after {failures} failures");
                }
                if step == 30 {
                    // Killed here, it would be as good as after any other kill.
                    std::fs::copy(&path, &copy).unwrap();
                    full::after(None);
                    let killed = chain::open(&copy, true);
                    let mut killed = killed.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
                    let mut now = vec![0; safe.len()];
                    killed.image.read(0, &mut now).unwrap();
                    let lost = |n: usize| now[n] != safe[n] && safe[n] == model[n];
                    assert!(!(0..now.len()).step_by(512).any(lost), "{kind:?}: something flushed is lost");
                    full::after(Some(random.below(100)));
                }
            }
            full::after(None);
            image.flush().unwrap();
            drop(opened);
            qemu_agrees(&path, &model, true);
        }
    }
    assert!(failures > times, "the disk was full {failures} times only");
}
