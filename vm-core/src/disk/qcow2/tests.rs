//! With qemu-img as a peer where the machine has it.

mod crash;
mod hostile;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::*;
use crate::bus::signals::Signals;
use crate::config::{DriveKind, ImageFormat};
use crate::disk::convert;
use crate::disk::host_file;
use crate::disk::image::{self, Backing, ImageError};
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

fn below(path: &str) -> Option<Backing<'_>> {
    Some(Backing { path: Path::new(path), format: None })
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
    image::create(&middle, Some(4 * MIB), ImageFormat::Qcow2, below("base.raw")).unwrap();
    let mut random = Random(9);
    let mut backend = qcow2(&middle);
    scribble(backend.as_mut(), &mut model, &mut random, 20);
    drop(backend);
    let over = |format| image::create(&top, None, ImageFormat::Qcow2, Some(Backing { path: &middle, format }));
    // What names another file could be a raw image in which a guest wrote that.
    assert!(matches!(over(None), Err(ImageError::BackingFormat(_))));
    over(Some(ImageFormat::Qcow2)).unwrap();
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
    assert!(matches!(image::create(&path, Some(MIB), ImageFormat::Raw, below("x")), Err(ImageError::RawBacking)));
    assert!(image::create(&path, None, ImageFormat::Qcow2, below("x")).is_err());
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
            assert!(matches!(image::resize(&path, size, None, false), Err(ImageError::Medium(MediumError::InUse(_)))));
            drop(backend);
            image::resize(&path, size, None, false).unwrap();
            let info = image::info(&path, None).unwrap();
            assert_eq!((info.medium_bytes, info.format), (size, ImageFormat::Qcow2));
            assert!(info.used_bytes < 8 * MIB);
            assert!(matches!(image::resize(&path, size - 512, None, false), Err(ImageError::Shrink { .. })));
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
    image::resize(&raw, 2 * MIB, None, false).unwrap();
    assert_eq!(image::info(&raw, None).unwrap().medium_bytes, 2 * MIB);
}

#[test]
fn images_shrink_only_when_asked_and_what_was_cut_off_never_comes_back() {
    let folder = Folder::new("qcow2-shrink");
    let path = folder.0.join("a.qcow2");
    let mut kinds = vec![None];
    if qemu(&["--version"]) {
        kinds.extend([Some("cluster_size=512"), Some("compat=0.10,cluster_size=4096"), Some("cluster_size=2M")]);
    }
    for kind in kinds {
        match kind {
            None => image::create(&path, Some(9 * MIB), ImageFormat::Qcow2, None).unwrap(),
            Some(options) => drop(qemu(&["create", "-f", "qcow2", "-o", options, str(&path), "9M"])),
        }
        let mut model = vec![0; 9 * MIB as usize];
        let mut backend = qcow2(&path);
        scribble(backend.as_mut(), &mut model, &mut Random(8), 300);
        drop(backend);
        let size = 4 * MIB + 512 * 77;
        let text = image::resize(&path, size, None, false).unwrap_err().to_string();
        assert!(text.contains(&size.to_string()) && text.contains("lost for good"), "{text}");
        assert!(everything(qcow2(&path).as_mut()) == model);
        image::resize(&path, size, None, true).unwrap();
        model.truncate(size as usize);
        qemu_agrees(&path, &model, true);
        image::resize(&path, 9 * MIB, None, false).unwrap();
        model.resize(9 * MIB as usize, 0);
        assert!(everything(qcow2(&path).as_mut()) == model, "{kind:?}");
        qemu_agrees(&path, &model, true);
        std::fs::remove_file(&path).unwrap();
    }
    // Over a larger image, which would show again.
    let base = folder.file("base.raw", &[3; 4096]);
    image::create(&path, None, ImageFormat::Qcow2, Some(Backing { path: &base, format: Some(ImageFormat::Raw) }))
        .unwrap();
    image::resize(&path, 1024, None, true).unwrap();
    assert_eq!(everything(qcow2(&path).as_mut()), [3; 1024]);
    let text = image::resize(&path, 4096, None, true).unwrap_err().to_string();
    assert!(text.contains("base.raw") && text.contains("appear"), "{text}");

    let raw = folder.file("b.img", &[7; 4096]);
    assert!(matches!(image::resize(&raw, 512, None, false), Err(ImageError::Shrink { was: 4096, wanted: 512, .. })));
    image::resize(&raw, 512, None, true).unwrap();
    assert_eq!(std::fs::read(&raw).unwrap(), [7; 512]);
}

#[test]
fn images_are_converted_whole_and_checked() {
    let folder = Folder::new("qcow2-convert");
    let mut model = pattern(5 * MIB as usize + 700, 31);
    model[MIB as usize..3 * MIB as usize].fill(0);
    let raw = folder.file("a.img", &model);
    let mut padded = model.clone();
    padded.resize(model.len().next_multiple_of(512), 0);
    let (one, two) = (folder.0.join("one.qcow2"), folder.0.join("two.img"));
    let mut steps = Vec::new();
    convert::convert(&raw, None, &one, ImageFormat::Qcow2, &mut |done, all| steps.push((done, all))).unwrap();
    assert_eq!(steps.last(), Some(&(padded.len() as u64, padded.len() as u64)));
    qemu_agrees(&one, &padded, false);
    assert!(image::info(&one, None).unwrap().used_bytes < padded.len() as u64);
    convert::convert(&one, None, &two, ImageFormat::Raw, &mut |_, _| ()).unwrap();
    assert!(std::fs::read(&two).unwrap() == padded);
    // With all that is below it.
    let (top, flat) = (folder.0.join("top.qcow2"), folder.0.join("flat.qcow2"));
    image::create(&top, Some(6 * MIB), ImageFormat::Qcow2, below("one.qcow2")).unwrap();
    let mut backend = qcow2(&top);
    padded.resize(6 * MIB as usize, 0);
    scribble(backend.as_mut(), &mut padded, &mut Random(12), 9);
    let refused = convert::convert(&top, None, &flat, ImageFormat::Qcow2, &mut |_, _| ());
    assert!(matches!(refused, Err(ImageError::Medium(MediumError::InUse(_)))));
    drop(backend);
    convert::convert(&top, None, &flat, ImageFormat::Qcow2, &mut |_, _| ()).unwrap();
    assert!(image::info(&flat, None).unwrap().below.is_empty());
    qemu_agrees(&flat, &padded, false);
    assert!(matches!(
        convert::convert(&raw, None, &flat, ImageFormat::Raw, &mut |_, _| ()),
        Err(ImageError::Exists(_))
    ));
    // No drafts are left behind.
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 5);

    for good in [&raw, &top, &flat] {
        convert::check(good, None).unwrap();
    }
    let mut damaged = std::fs::read(&one).unwrap();
    damaged[(2 << 16) + 1] = 0;
    std::fs::write(&one, damaged).unwrap();
    let text = convert::check(&one, None).unwrap_err().to_string();
    assert!(text.contains("counted as free"), "{text}");
}

#[test]
fn an_image_in_use_is_refused_by_the_tools_of_qemu_and_theirs_by_us() {
    let folder = Folder::new("qcow2-locks");
    let base = folder.file("base.img", &vec![1; 65536]);
    let top = folder.0.join("top.qcow2");
    image::create(&top, None, ImageFormat::Qcow2, below("base.img")).unwrap();
    let backend = qcow2(&top);
    let complaint = |arguments: &[&str]| {
        let output = qemu_img(arguments)?;
        assert!(!output.status.success(), "qemu-img {arguments:?} was content");
        Some(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let attempts: [&[&str]; 4] = [
        &["info", str(&top)],
        &["check", str(&top)],
        &["resize", "-f", "qcow2", str(&top), "1M"],
        // Below an image in use nothing may be written.
        &["resize", "-f", "raw", str(&base), "1M"],
    ];
    for attempt in attempts {
        let Some(text) = complaint(attempt) else { return };
        assert!(text.contains("lock"), "{attempt:?}: {text}");
    }
    drop(backend);
    qemu(&["check", str(&top)]);

    // The other way round.
    let mut theirs = Command::new("stdbuf")
        .args(["-oL", "qemu-io", "-f", "qcow2", str(&top)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it comes with qemu-img");
    let mut commands = theirs.stdin.take().unwrap();
    // One line: it does not look for a second one before there is more to read.
    std::io::Write::write_all(&mut commands, b"read 0 512\n").unwrap();
    let answers = std::io::BufReader::new(theirs.stdout.take().unwrap());
    let mut lines = std::io::BufRead::lines(answers).map_while(Result::ok);
    assert!(lines.any(|line| line.contains("512/512")), "it has not opened the image");
    assert!(matches!(plain(&top, DriveKind::Disk), Err(MediumError::InUse(_))));
    drop(commands);
    theirs.wait().unwrap();
    drop(plain(&top, DriveKind::Disk).unwrap());
}
