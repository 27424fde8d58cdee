//! With qemu-img as a peer where the machine has it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::*;
use crate::bus::signals::Signals;
use crate::config::{DriveKind, ImageFormat};
use crate::disk::host_file::full;
use crate::disk::host_file::log::{self, Step};
use crate::disk::image::{self, ImageError};
use crate::disk::tests::{Folder, finish, plain, read, write};
use crate::disk::{Access, BlockBackend, MediumError, Operation, open};

const MIB: u64 = 1 << 20;

/// Numbers that look random (xorshift64*).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }
}

/// Runs qemu-img; `None`: there is none.
fn qemu_img(arguments: &[&str]) -> Option<std::process::Output> {
    let output = Command::new("qemu-img").args(arguments).stdin(Stdio::null()).output().ok();
    if output.is_none() {
        eprintln!("no qemu-img here (package qemu-utils): nothing is compared with it");
    }
    output
}

/// Runs qemu-img, which must be content. Whether there is one.
fn qemu(arguments: &[&str]) -> bool {
    let Some(output) = qemu_img(arguments) else { return false };
    let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "qemu-img {arguments:?}: {text}");
    true
}

fn str(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A medium with some parts filled, some zeros.
fn pattern(bytes: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut medium = vec![0; bytes];
    for part in medium.chunks_mut(24 << 10) {
        match random.below(4) {
            0 => {}
            // Easy to compress.
            1 => part.fill(random.next() as u8),
            _ => part.fill_with(|| random.next() as u8),
        }
    }
    medium
}

fn qcow2(path: &Path) -> Box<dyn BlockBackend> {
    let access = Access { format: Some(ImageFormat::Qcow2), read_only: false, temporary: false };
    open(path, access, DriveKind::Disk, &Arc::new(Signals::new())).unwrap()
}

fn flush(backend: &mut dyn BlockBackend) {
    backend.submit(0, Operation::Flush);
    finish(backend).result.unwrap();
}

fn everything(backend: &mut dyn BlockBackend) -> Vec<u8> {
    let sectors = backend.sectors();
    let mut all = Vec::new();
    let mut random = Random(sectors);
    while (all.len() as u64) < sectors * 512 {
        let sector = all.len() as u64 / 512;
        let count = (1 + random.below(700)).min(sectors - sector);
        all.extend(read(backend, sector, count as usize));
    }
    all
}

/// Random writes of sectors, in the image and in `model`.
fn scribble(backend: &mut dyn BlockBackend, model: &mut [u8], random: &mut Random, times: u32) {
    let sectors = model.len() as u64 / 512;
    for _ in 0..times {
        let sector = random.below(sectors);
        let most = if random.below(8) == 0 { 600 } else { 16 };
        let count = (1 + random.below(most)).min(sectors - sector);
        let mut bytes = vec![0; count as usize * 512];
        if random.below(6) > 0 {
            bytes.fill_with(|| random.next() as u8);
        }
        write(backend, sector, &bytes).unwrap();
        model[sector as usize * 512..][..bytes.len()].copy_from_slice(&bytes);
    }
}

/// qemu-img finds neither damage nor, without `leaks`, lost room, and reads the same.
fn qemu_agrees(path: &Path, model: &[u8], leaks: bool) {
    let Some(check) = qemu_img(&["check", "-f", "qcow2", str(path)]) else { return };
    let text = String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
    assert!(check.status.success() || leaks && check.status.code() == Some(3), "{text}");
    let raw = path.with_extension("model");
    std::fs::write(&raw, model).unwrap();
    qemu(&["compare", "-f", "qcow2", "-F", "raw", str(path), str(&raw)]);
    std::fs::remove_file(raw).unwrap();
}

#[test]
fn a_new_image_is_written_read_and_agreed_upon() {
    let folder = Folder::new("qcow2-new");
    let path = folder.0.join("a.qcow2");
    image::create(&path, Some(40 * MIB), ImageFormat::Qcow2, None).unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() < MIB);
    qemu(&["check", "-f", "qcow2", str(&path)]);
    let mut model = vec![0; 40 * MIB as usize];
    let mut random = Random(1);
    for _ in 0..4 {
        let mut backend = plain(&path, DriveKind::Disk).unwrap();
        assert_eq!((backend.sectors(), backend.format()), (40 * MIB / 512, Some(ImageFormat::Qcow2)));
        scribble(backend.as_mut(), &mut model, &mut random, 60);
        flush(backend.as_mut());
        scribble(backend.as_mut(), &mut model, &mut random, 20);
        assert!(everything(backend.as_mut()) == model);
        let outside = write(backend.as_mut(), 40 * MIB / 512, &[1; 512]).unwrap_err();
        assert_eq!(outside.kind(), ErrorKind::InvalidInput);
        drop(backend);
        qemu_agrees(&path, &model, false);
    }
    assert!(everything(plain(&path, DriveKind::Disk).unwrap().as_mut()) == model);
}

#[test]
fn images_of_qemu_are_read_and_written_right() {
    let folder = Folder::new("qcow2-qemu");
    let raw = folder.file("m.raw", &pattern(5 * MIB as usize + 512, 7));
    let path = folder.0.join("a.qcow2");
    let kinds = [
        "compat=v3",
        "compat=0.10",
        "compat=v3,cluster_size=512",
        "compat=v3,cluster_size=4096,refcount_bits=1",
        "compat=v3,cluster_size=2M,refcount_bits=64",
        "compat=v3,lazy_refcounts=on",
        "compat=v3,preallocation=metadata",
        "compat=v3,preallocation=full",
        "packed compat=v3",
        "packed compat=0.10,cluster_size=4096",
        "packed compat=v3,cluster_size=2M",
    ];
    for (seed, kind) in kinds.into_iter().enumerate() {
        let (packed, options) = kind.strip_prefix("packed ").map_or((false, kind), |options| (true, options));
        let mut arguments = vec!["convert", "-f", "raw", "-O", "qcow2", "-o", options, str(&raw), str(&path)];
        if packed {
            arguments.insert(1, "-c");
        }
        if !qemu(&arguments) {
            return;
        }
        let mut model = std::fs::read(&raw).unwrap();
        let before = std::fs::read(&path).unwrap();
        let mut backend = plain(&path, DriveKind::Disk).unwrap();
        assert!(everything(backend.as_mut()) == model, "{kind}");
        drop(backend);
        assert!(std::fs::read(&path).unwrap() == before, "reading {kind} has changed the file");

        let mut backend = plain(&path, DriveKind::Disk).unwrap();
        let mut random = Random(100 + seed as u64);
        for _ in 0..4 {
            scribble(backend.as_mut(), &mut model, &mut random, 30);
            flush(backend.as_mut());
        }
        assert!(everything(backend.as_mut()) == model, "{kind}");
        drop(backend);
        // With the smallest clusters the tables move, and the old ones are given up.
        qemu_agrees(&path, &model, kind.contains("size=512"));
    }
}

#[test]
fn chains_read_through_and_only_the_top_is_written() {
    let folder = Folder::new("qcow2-chain");
    let mut model = pattern(3 * MIB as usize, 3);
    let base = folder.file("base.raw", &model);
    model.resize(4 * MIB as usize, 0);
    let (middle, top) = (folder.0.join("middle.qcow2"), folder.0.join("top.qcow2"));
    // Larger than what it lies over; named relative to its own folder.
    image::create(&middle, Some(4 * MIB), ImageFormat::Qcow2, Some(Path::new("base.raw"))).unwrap();
    let mut random = Random(9);
    let mut backend = qcow2(&middle);
    scribble(backend.as_mut(), &mut model, &mut random, 20);
    drop(backend);
    image::create(&top, None, ImageFormat::Qcow2, Some(&middle)).unwrap();
    let below = [std::fs::read(&base).unwrap(), std::fs::read(&middle).unwrap()];
    let mut backend = qcow2(&top);
    assert!(everything(backend.as_mut()) == model);
    scribble(backend.as_mut(), &mut model, &mut random, 60);
    assert!(everything(backend.as_mut()) == model);

    // What is below is locked against writing, and still readable.
    assert!(matches!(plain(&base, DriveKind::Disk), Err(MediumError::InUse(_))));
    let reading = Access { format: None, read_only: true, temporary: false };
    drop(open(&middle, reading, DriveKind::Disk, &Arc::new(Signals::new())).unwrap());
    drop(backend);
    qemu_agrees(&top, &model, false);
    assert!(below == [std::fs::read(&base).unwrap(), std::fs::read(&middle).unwrap()]);

    // Over all of it, a temporary one.
    let before = std::fs::read(&top).unwrap();
    let temporary = Access { format: None, read_only: false, temporary: true };
    let mut backend = open(&top, temporary, DriveKind::Disk, &Arc::new(Signals::new())).unwrap();
    scribble(backend.as_mut(), &mut model, &mut random, 30);
    assert!(everything(backend.as_mut()) == model);
    drop(backend);
    assert!(std::fs::read(&top).unwrap() == before);
}

#[test]
fn what_cannot_be_opened_is_said_in_words_with_the_way_out() {
    let folder = Folder::new("qcow2-refused");
    let good = folder.0.join("good.qcow2");
    image::create(&good, Some(MIB), ImageFormat::Qcow2, None).unwrap();
    let good = std::fs::read(good).unwrap();
    let with = |name: &str, at: usize, bytes: &[u8]| {
        let mut image = good.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        folder.file(name, &image)
    };
    let backing = |name: &str, below: &str| {
        let path = folder.0.join(name);
        let file = std::fs::File::create(&path).unwrap();
        make::write_empty(&file, MIB, Some((below, ImageFormat::Qcow2))).unwrap();
        path
    };
    let long = "x".repeat(300);
    let far = (1_u64 << 40).to_be_bytes();
    let cases = [
        (with("version", 4, &[0, 0, 0, 9]), "version 9", "qemu-img convert"),
        (with("dirty", 79, &[1]), "not closed properly", "qemu-img check -r all"),
        (with("corrupt", 79, &[2]), "marked as damaged", "qemu-img check -r all"),
        (with("data file", 79, &[4]), "in another file", "qemu-img convert"),
        (with("zstd", 79, &[8]), "zstd", "qemu-img convert"),
        (with("subclusters", 79, &[16]), "subclusters", "qemu-img convert"),
        (with("future", 73, &[1]), "does not know", "qemu-img convert"),
        (with("encrypted", 35, &[2]), "encrypted", "qemu-img convert"),
        (with("snapshots", 63, &[3]), "internal snapshots", "qemu-img convert"),
        (with("clusters", 23, &[40]), "clusters of 2^40", "qemu-img check"),
        (with("no clusters", 23, &[0]), "clusters of 2^0", "qemu-img check"),
        (with("counts", 99, &[9]), "refcounts of 2^9", "qemu-img check"),
        (with("huge", 24, &[0x10]), "too short for its size", "qemu-img check"),
        (with("far L1", 40, &far), "first table is not inside", "qemu-img check"),
        (with("far counts", 48, &far), "refcount table is not inside", "qemu-img check"),
        (with("many counts", 56, &[0xff; 4]), "refcount table has", "qemu-img check"),
        (with("crooked L1", 47, &[8]), "first table has", "qemu-img check"),
        (with("L2 outside", 3 << 16, &far), "L2 table at", "qemu-img check"),
        (
            with("L2 on the header", 3 << 16, &(1_u64 << 63 | 1 << 16).to_be_bytes()),
            "share cluster 1",
            "qemu-img check",
        ),
        (with("block outside", 1 << 16, &far), "refcount block at", "qemu-img check"),
        (with("not counted", (2 << 16) + 7, &[0]), "counted as free", "qemu-img check"),
        (with("name outside", 8, &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9]), "not inside its header", "qemu-img check"),
        (with("extensions", 104, &[1; 8]), "extensions are cut off", "qemu-img check"),
        (backing("missing below", "nothing.qcow2"), "nothing.qcow2” does not exist", "check the path"),
        (backing("device below", "/dev/zero"), "/dev/zero” is not a file", "choose an image"),
        (backing("folder below", "."), "is a folder", "choose a file"),
        (backing("network below", "nbd://localhost/x"), "nbd://localhost/x", "qemu-img convert"),
        (backing("json below", "json:{}"), "json:{}", "qemu-img convert"),
        (backing("itself below", "itself below"), "lies below itself", "qemu-img rebase"),
        (backing("long name below", &long), "cannot be opened", "too long"),
    ];
    for (path, reason, advice) in cases {
        let Err(error) = plain(&path, DriveKind::Disk) else { panic!("{} was accepted", path.display()) };
        let text = error.to_string();
        assert!(
            text.contains(reason) && text.contains(advice) || text.contains("too long"),
            "{}: {text}",
            path.display()
        );
        assert!(text.contains(str(&path)), "{text}");
    }
    // A ring.
    let (one, two) = (backing("one", "two"), backing("two", "one"));
    let text = plain(&one, DriveKind::Disk).err().unwrap().to_string();
    assert!(text.contains("lies below itself") && text.contains(str(&two)), "{text}");
    // An image that only looks like one by what a guest wrote may not name files.
    let inner = backing("inner", "/etc/hostname");
    let mut outer = std::fs::read(backing("outer", "inner")).unwrap();
    // Its format is taken away.
    outer[104..108].copy_from_slice(&0x1234_5678_u32.to_be_bytes());
    let text = plain(&folder.file("outer", &outer), DriveKind::Disk).err().unwrap().to_string();
    assert!(text.contains("names a file below it") && text.contains(str(&inner)), "{text}");
}

#[test]
fn a_tower_of_images_ends() {
    let folder = Folder::new("qcow2-tower");
    let path = |n: usize| folder.0.join(format!("{n}"));
    std::fs::write(path(0), vec![5; MIB as usize]).unwrap();
    for n in 1..=chain::MAX_LAYERS {
        let format = if n == 1 { ImageFormat::Raw } else { ImageFormat::Qcow2 };
        let file = std::fs::File::create(path(n)).unwrap();
        make::write_empty(&file, MIB, Some((&(n - 1).to_string(), format))).unwrap();
    }
    let mut backend = qcow2(&path(chain::MAX_LAYERS - 1));
    assert_eq!(read(backend.as_mut(), 100, 300), vec![5; 300 * 512]);
    write(backend.as_mut(), 7, &[6; 512]).unwrap();
    assert_eq!(read(backend.as_mut(), 6, 3), [[5; 512], [6; 512], [5; 512]].concat());
    drop(backend);
    let text = plain(&path(chain::MAX_LAYERS), DriveKind::Disk).err().unwrap().to_string();
    assert!(text.contains("are the most") && text.contains("qemu-img convert"), "{text}");
}

#[test]
fn images_are_made_whole_or_not_at_all_and_grow() {
    let folder = Folder::new("qcow2-make");
    let path = folder.0.join("a.qcow2");
    for size in [0, 511, image::MAX_NEW_BYTES + 1, u64::MAX] {
        assert!(matches!(image::create(&path, Some(size), ImageFormat::Qcow2, None), Err(ImageError::Size(_))));
    }
    assert!(matches!(
        image::create(&path, Some(MIB), ImageFormat::Raw, Some(Path::new("x"))),
        Err(ImageError::RawBacking)
    ));
    assert!(image::create(&path, None, ImageFormat::Qcow2, Some(Path::new("x"))).is_err());
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 0);
    image::create(&path, Some(image::MAX_NEW_BYTES), ImageFormat::Qcow2, None).unwrap();
    qemu(&["check", "-f", "qcow2", str(&path)]);
    assert!(matches!(image::create(&path, Some(MIB), ImageFormat::Raw, None), Err(ImageError::Exists(_))));
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1);
    let mut backend = qcow2(&path);
    let last = image::MAX_NEW_BYTES / 512 - 1;
    write(backend.as_mut(), last, &[4; 512]).unwrap();
    assert_eq!(read(backend.as_mut(), last - 1, 2), [[0; 512], [4; 512]].concat());
    drop(backend);
    std::fs::remove_file(&path).unwrap();

    // By the header alone, in the room of the table, and with a table that moves.
    let mut kinds = vec![None];
    if qemu(&["--version"]) {
        kinds.extend([Some("cluster_size=65536"), Some("cluster_size=512"), Some("compat=0.10,cluster_size=4096")]);
    }
    for kind in kinds {
        match kind {
            None => image::create(&path, Some(MIB), ImageFormat::Qcow2, None).unwrap(),
            Some(options) => {
                qemu(&["create", "-f", "qcow2", "-o", options, str(&path), "1M"]);
            }
        }
        let mut model = vec![0; MIB as usize];
        let mut random = Random(5);
        for size in [2 * MIB + 512, 700 * MIB, 3000 * MIB] {
            let mut backend = qcow2(&path);
            scribble(backend.as_mut(), &mut model, &mut random, 20);
            assert!(matches!(image::resize(&path, size, None), Err(ImageError::Medium(MediumError::InUse(_)))));
            drop(backend);
            image::resize(&path, size, None).unwrap();
            let info = image::info(&path, None).unwrap();
            assert_eq!((info.medium_bytes, info.format), (size, ImageFormat::Qcow2));
            assert!(info.used_bytes < 8 * MIB);
            assert!(matches!(image::resize(&path, size - 512, None), Err(ImageError::Shrink { .. })));
            let mut backend = qcow2(&path);
            assert_eq!(read(backend.as_mut(), 0, MIB as usize / 512), model);
            assert_eq!(read(backend.as_mut(), size / 512 - 1, 1), [0; 512]);
        }
        if let Some(check) = qemu_img(&["check", "-f", "qcow2", str(&path)]) {
            // A table that moved leaves its old place unused.
            assert!(matches!(check.status.code(), Some(0 | 3)), "{}", String::from_utf8_lossy(&check.stdout));
        }
        std::fs::remove_file(&path).unwrap();
    }

    let raw = folder.0.join("b.img");
    image::create(&raw, Some(MIB), ImageFormat::Raw, None).unwrap();
    image::resize(&raw, 2 * MIB, None).unwrap();
    assert_eq!(image::info(&raw, None).unwrap().medium_bytes, 2 * MIB);
}

/// The images that the mutations start from.
fn seeds(folder: &Folder) -> Vec<Vec<u8>> {
    let mut model = vec![0; 2 * MIB as usize];
    let path = folder.0.join("seed.qcow2");
    image::create(&path, Some(2 * MIB), ImageFormat::Qcow2, None).unwrap();
    let mut backend = qcow2(&path);
    scribble(backend.as_mut(), &mut model, &mut Random(2), 6);
    drop(backend);
    let mut images = vec![std::fs::read(&path).unwrap()];
    let raw = folder.file("seed.raw", &pattern(256 << 10, 11));
    for options in ["cluster_size=512", "cluster_size=4096,refcount_bits=1", "compat=0.10,cluster_size=1024"] {
        for packed in [false, true] {
            let mut arguments = vec!["convert", "-f", "raw", "-O", "qcow2", "-o", options, str(&raw), str(&path)];
            if packed {
                arguments.insert(1, "-c");
            }
            if qemu(&arguments) {
                images.push(std::fs::read(&path).unwrap());
            }
        }
    }
    images
}

/// Panics of imago on a mutant's own thread are expected and need not be printed; all others are.
fn quiet_panics() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().name() != Some("disk mutant.qcow2") {
            hook(info);
        }
    }));
}

/// No mutation of an image panics through, hangs or is written where it is refused.
#[test]
fn mutated_images_are_an_error_or_a_medium() {
    let folder = Folder::new("qcow2-fuzz");
    let seeds = seeds(&folder);
    let times = if std::env::var_os("HAKO_LONG").is_some() { 100_000 } else { 3_000 };
    let mut random = Random(0x1234_5678);
    let path = folder.0.join("mutant.qcow2");
    let (mut opened, mut failed) = (0, 0);
    quiet_panics();
    for round in 0..times {
        let mut image = seeds[random.below(seeds.len() as u64) as usize].clone();
        for _ in 0..=random.below(4) {
            // Header and tables lie in front; new images of ours have theirs in the first five clusters.
            let reach = [104, 512, 8192, image.len() as u64][random.below(4) as usize].min(image.len() as u64);
            let at = random.below(reach) as usize;
            match random.below(5) {
                0 => image[at] ^= 1 << random.below(8),
                1 => image[at] = random.next() as u8,
                2 => {
                    let at = at & !7;
                    let value = [0, u64::MAX, 1 << 63, 1 << 62, 512, 65536, random.next()][random.below(7) as usize];
                    let end = image.len().min(at + 8);
                    image[at..end].copy_from_slice(&value.to_be_bytes()[..end - at]);
                }
                3 => image.truncate(at),
                _ => {
                    // One entry over another.
                    let (from, to) = (at & !7, random.below(reach) as usize & !7);
                    let bytes: Vec<u8> = image.iter().skip(from).take(8).copied().collect();
                    let end = image.len().min(to + bytes.len());
                    if to < end {
                        image[to..end].copy_from_slice(&bytes[..end - to]);
                    }
                }
            }
            if image.is_empty() {
                break;
            }
        }
        std::fs::write(&path, &image).unwrap();
        let access = Access { format: Some(ImageFormat::Qcow2), read_only: round % 3 == 0, temporary: false };
        match open(&path, access, DriveKind::Disk, &Arc::new(Signals::new())) {
            Err(error) => assert!(error.to_string().contains("mutant.qcow2"), "{error}"),
            Ok(mut backend) => {
                opened += 1;
                for _ in 0..6 {
                    let sector = random.below(backend.sectors());
                    let count = (1 + random.below(64)).min(backend.sectors() - sector);
                    let buffer = vec![0x77; count as usize * 512];
                    let operation = match random.below(3) {
                        0 => Operation::Read { sector, buffer },
                        1 => Operation::Write { sector, buffer },
                        _ => Operation::Flush,
                    };
                    backend.submit(0, operation);
                    failed += u32::from(finish(backend.as_mut()).result.is_err());
                }
            }
        }
    }
    assert!(opened > times / 20, "of {times} mutants {opened} were opened");
    eprintln!("{opened} of {times} mutants were opened, {failed} requests failed");
}

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
            .args(["disk::qcow2::tests::writer_to_be_killed", "--exact", "--nocapture"])
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
