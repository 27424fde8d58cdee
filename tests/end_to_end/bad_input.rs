//! Images that are no images, and two machines at one disk.

use crate::files::Folder;
use crate::guest::{Guest, run_to_end, word};

/// Every drive option with an image that cannot work ends with an error that names the file.
#[test]
fn an_image_that_cannot_be_used_is_named() {
    let folder = Folder::new("images");
    let missing = folder.join("missing.img");
    let directory = folder.join("directory.img");
    std::fs::create_dir(&directory).unwrap();
    let empty = folder.write("empty.img", b"");
    for image in [&missing, &directory, &empty] {
        for option in ["-fda", "-hda", "-cdrom"] {
            let (code, _, errors) = run_to_end(&["run", "-display", "none", "-m", "16", option, word(image)]);
            assert_eq!(code, 1, "{option} {}: {errors}", image.display());
            assert!(errors.contains(word(image)), "{option} {}: {errors}", image.display());
            assert!(!errors.contains("panicked"), "{errors}");
        }
    }
}

#[test]
fn a_truncated_disk_boots_into_an_error_of_the_firmware_not_of_ours() {
    let folder = Folder::new("truncated");
    let image = folder.write("short.img", &[0xff; 700]);
    let mut guest = Guest::start_in(folder, &["-m", "16", "-hda", word(&image), "-boot", "c"]);
    guest.wait_for("No bootable device");
    guest.quit();
}

#[test]
fn a_second_machine_is_refused_a_disk_that_is_in_use() {
    let folder = Folder::new("twice");
    let image = folder.write("disk.img", &vec![0; 1 << 20]);
    let mut guest = Guest::start_in(folder, &["-m", "16", "-hda", word(&image)]);
    // On a busy host the second process may be the first to look at the disk.
    guest.wait_for("SeaBIOS");
    let (code, _, errors) = run_to_end(&["run", "-display", "none", "-m", "16", "-hda", word(&image)]);
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains(word(&image)), "{errors}");
    guest.wait_for("No bootable device");
    guest.quit();
}

#[test]
fn kernels_that_are_none_are_refused_in_words() {
    let folder = Folder::new("kernels");
    let empty = folder.write("empty", b"");
    let noise: Vec<u8> = (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let noise = folder.write("noise", &noise);
    for kernel in [&empty, &noise] {
        let (code, _, errors) = run_to_end(&["run", "-display", "none", "-m", "16", "-kernel", word(kernel)]);
        assert_eq!(code, 1, "{errors}");
        assert!(errors.contains(word(kernel)), "{errors}");
    }
}
