//! Images that are damaged, made up, or of a kind that is not served.

use super::*;

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

/// What other programs really write.
#[test]
fn images_of_qemu_that_are_not_served_are_refused_with_the_way_out() {
    let folder = Folder::new("qcow2-kinds");
    let create = |name: &str, arguments: &[&str]| {
        let path = folder.0.join(name);
        let all = [&["create"], arguments, &[str(&path), "4M"]].concat();
        // A build of QEMU may lack one or the other.
        let output = qemu_img(&all)?;
        if !output.status.success() {
            eprintln!("not made here: qemu-img {all:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        output.status.success().then_some(path)
    };
    let data_file = format!("data_file={}", str(&folder.0.join("data.raw")));
    let secret = ["--object", "secret,id=s,data=x", "-f", "qcow2"];
    let luks = [&secret[..], &["-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"]].concat();
    let cases: [(&str, &[&str], &str, &str); 12] = [
        ("zstd", &["-f", "qcow2", "-o", "compression_type=zstd"], "zstd", "convert"),
        ("extended", &["-f", "qcow2", "-o", "extended_l2=on"], "subclusters", "convert"),
        ("external", &["-f", "qcow2", "-o", &data_file], "another file", "convert"),
        ("luks", &luks, "encrypted", "convert"),
        ("qcow", &["-f", "qcow"], "version 1", "convert"),
        ("vmdk", &["-f", "vmdk"], "VMDK", "convert"),
        ("flat", &["-f", "vmdk", "-o", "subformat=monolithicFlat"], "VMDK", "convert"),
        ("vdi", &["-f", "vdi"], "VDI", "convert"),
        ("vhdx", &["-f", "vhdx"], "VHDX", "convert"),
        ("vhd", &["-f", "vpc"], "VHD", "convert"),
        ("fixed", &["-f", "vpc", "-o", "subformat=fixed,force_size"], "VHD", "convert -f vpc"),
        ("parallels", &["-f", "parallels"], "Parallels", "convert"),
    ];
    let mut made = 0;
    for (name, arguments, reason, advice) in cases {
        let Some(path) = create(name, arguments) else { continue };
        made += 1;
        let Err(error) = plain(&path, DriveKind::Disk) else { panic!("{name} was accepted") };
        let text = error.to_string();
        assert!(text.contains(reason) && text.contains(advice) && text.contains("qemu-img"), "{name}: {text}");
    }
    if let Some(path) = create("snapshots", &["-f", "qcow2"]) {
        assert!(made > 6, "qemu-img made {made} images only");
        qemu(&["snapshot", "-c", "first", str(&path)]);
        let text = plain(&path, DriveKind::Disk).err().unwrap().to_string();
        assert!(text.contains("internal snapshots") && text.contains("qemu-img convert"), "{text}");
    }
}

#[test]
fn tables_without_end_are_refused_before_they_are_read() {
    let folder = Folder::new("qcow2-endless");
    let path = folder.0.join("a.qcow2");
    image::create(&path, Some(MIB), ImageFormat::Qcow2, None).unwrap();
    // 2 MiB clusters, and 9,000 L2 tables, each in a place of its own of a file that is all holes.
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let at = |cluster: u64| cluster << 21;
    host_file::write_at(&file, 20, &21_u32.to_be_bytes()).unwrap();
    host_file::write_at(&file, 24, &(9000_u64 << 39).to_be_bytes()).unwrap();
    host_file::write_at(&file, 36, &9000_u32.to_be_bytes()).unwrap();
    host_file::write_at(&file, 40, &at(2).to_be_bytes()).unwrap();
    host_file::write_at(&file, 48, &at(1).to_be_bytes()).unwrap();
    let l1: Vec<u8> = (3..9003).flat_map(|cluster| (1 << 63 | at(cluster)).to_be_bytes()).collect();
    host_file::write_at(&file, at(2), &l1).unwrap();
    file.set_len(at(9003)).unwrap();
    let text = plain(&path, DriveKind::Disk).err().unwrap().to_string();
    assert!(text.contains("bytes of L2 tables"), "{text}");
}
