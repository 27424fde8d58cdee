//! `hako disk create|resize|info|check|convert`: images on the command line.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use vm_core::config::ImageFormat;
use vm_core::disk::convert;
use vm_core::disk::image::{self, Backing, ImageError, ImageInfo};

use super::{CliError, refuse};

const HELP: &str = "\
hako disk create [-f qcow2|raw] [-b IMAGE [-F qcow2|raw]] FILE [SIZE]
                             a new, empty disk; nothing is overwritten. With -b, what is not written yet reads as that
                             image, which must stay as it is (a relative path starts at FILE's folder); -F is its format
hako disk resize [--shrink] FILE SIZE
                             make a disk larger while no machine uses it, or to +SIZE more; smaller only with --shrink:
                             what is at its end is lost
hako disk info FILE          format, sizes, and what lies below
hako disk check FILE         look through its tables and those below: could a machine use it?
hako disk convert [-O qcow2|raw] FILE NEW
                             copy a disk, with all that lies below it, into a new image

SIZE is in bytes, or with k, M, G or T (512M, 20G). -f (--format) says how FILE is read; without it, it is taken for what it
begins like. -b and -F are --backing and --backing-format too, and -O is --output.
";

/// What was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Arguments {
    plain: Vec<String>,
    format: Option<ImageFormat>,
    backing: Option<PathBuf>,
    backing_format: Option<ImageFormat>,
    output: Option<ImageFormat>,
    shrink: bool,
}

/// Carries out what follows `hako disk`.
pub fn run(arguments: &[String]) -> Result<ExitCode, CliError> {
    let Some((command, rest)) = arguments.split_first() else {
        return refuse(format!("hako disk: what is to be done?\n\n{HELP}"));
    };
    let arguments = parse(rest)?;
    let plain: Vec<&str> = arguments.plain.iter().map(String::as_str).collect();
    check_options(command, &arguments)?;
    let failed = |error: &dyn std::fmt::Display| CliError(error.to_string());
    match (command.as_str(), &plain[..]) {
        ("--help" | "-h" | "help", _) => print!("{HELP}"),
        ("create", [file, size @ ..]) if size.len() < 2 => {
            let size = size.first().map(|size| bytes(size)).transpose()?;
            if size.is_none() && arguments.backing.is_none() {
                return refuse("hako disk create: how large? For example: hako disk create disk.qcow2 20G");
            }
            let format = arguments.format.unwrap_or(ImageFormat::Qcow2);
            let backing = arguments.backing.as_deref();
            let backing = backing.map(|path| Backing { path, format: arguments.backing_format });
            image::create(Path::new(file), size, format, backing).map_err(|error| failed(&error))?;
        }
        ("resize", [file, size]) => resize(Path::new(file), size, &arguments)?,
        ("check", [file]) => {
            let format = convert::check(Path::new(file), arguments.format).map_err(|error| failed(&error))?;
            match format {
                ImageFormat::Qcow2 => println!("{file}: its tables are sound"),
                ImageFormat::Raw => {
                    println!("{file}: a raw image can be opened, and has no tables that could be checked");
                }
            }
        }
        ("convert", [from, to]) => {
            let wanted = arguments.output.unwrap_or(ImageFormat::Qcow2);
            convert::convert(Path::new(from), arguments.format, Path::new(to), wanted, &mut |_, _| ())
                .map_err(|error| failed(&error))?;
        }
        ("info", [file]) => {
            let info = image::info(Path::new(file), arguments.format).map_err(|error| failed(&error))?;
            print!("{}", words(&info));
        }
        ("create" | "resize" | "info" | "check" | "convert", _) => {
            return refuse(format!("hako disk {command}: too few or too many words\n\n{HELP}"));
        }
        (other, _) => {
            return refuse(format!("hako disk {other}: not known; there are create, resize, info, check and convert"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn resize(path: &Path, size: &str, arguments: &Arguments) -> Result<(), CliError> {
    let wanted = match size.strip_prefix('+') {
        None => bytes(size)?,
        Some(more) => {
            let info = image::info(path, arguments.format).map_err(|error| CliError(error.to_string()))?;
            let wanted = info.medium_bytes.checked_add(bytes(more)?);
            wanted.ok_or_else(|| CliError(format!("{size}: too much")))?
        }
    };
    image::resize(path, wanted, arguments.format, arguments.shrink).map_err(|error| match error {
        ImageError::Shrink { .. } => CliError(format!("{error}; then say --shrink")),
        other => CliError(other.to_string()),
    })
}

/// Refuses options that the command has no use for.
fn check_options(command: &str, arguments: &Arguments) -> Result<(), CliError> {
    let options = [
        ("--backing", "create", arguments.backing.is_some()),
        ("--backing-format", "create", arguments.backing_format.is_some()),
        ("--shrink", "resize", arguments.shrink),
        ("--output", "convert", arguments.output.is_some()),
    ];
    match options.into_iter().find(|(_, owner, given)| *given && *owner != command) {
        Some((option, owner, _)) => refuse(format!("{option} belongs to “hako disk {owner}”")),
        None if arguments.backing_format.is_some() && arguments.backing.is_none() => {
            refuse("--backing-format says how the image of --backing is read, and there is none")
        }
        None => Ok(()),
    }
}

fn parse(arguments: &[String]) -> Result<Arguments, CliError> {
    let mut parsed = Arguments::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
            _ => (argument.as_str(), None),
        };
        let given = value.is_some();
        let mut value = || {
            let value = value.clone().or_else(|| rest.next().cloned()).filter(|value| !value.is_empty());
            value.ok_or_else(|| CliError(format!("{name}: its value is missing")))
        };
        let mut format = || {
            let value = value()?;
            let unknown = || CliError(format!("{name} {value}: not known; there are qcow2 and raw"));
            ImageFormat::from_name(&value).map(Some).ok_or_else(unknown)
        };
        match name {
            "-f" | "--format" => parsed.format = format()?,
            "-F" | "--backing-format" => parsed.backing_format = format()?,
            "-O" | "--output" => parsed.output = format()?,
            "-b" | "--backing" => parsed.backing = Some(value()?.into()),
            "--shrink" if !given => parsed.shrink = true,
            "--" => parsed.plain.extend(rest.by_ref().cloned()),
            option if option.starts_with('-') => return refuse(format!("{option}: not known\n\n{HELP}")),
            _ => parsed.plain.push(argument.clone()),
        }
    }
    Ok(parsed)
}

/// A size as it is typed.
fn bytes(text: &str) -> Result<u64, CliError> {
    let wrong = || CliError(format!("{text}: not a size; write bytes, or a number with k, M, G or T, such as 20G"));
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

fn words(info: &ImageInfo) -> String {
    use crate::library::size_words;
    let mut text = format!(
        "{}\n  format  {}{}\n  size    {} ({} bytes)\n  takes   {} on this computer\n",
        info.path.display(),
        info.format,
        info.cluster.map_or_else(String::new, |cluster| format!(", clusters of {}", size_words(cluster))),
        size_words(info.medium_bytes),
        info.medium_bytes,
        size_words(info.used_bytes),
    );
    for (path, format) in &info.below {
        let _ = writeln!(text, "  over    {} ({format})", path.display());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(line: &str) -> Result<ExitCode, CliError> {
        run(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn sizes_are_read_as_they_are_written() {
        assert_eq!(bytes("512").unwrap(), 512);
        assert_eq!(bytes("20G").unwrap(), 20 << 30);
        assert_eq!(bytes("3MiB").unwrap(), 3 << 20);
        for wrong in ["", "G", "-1", "1.5G", "12x", "99999999999T"] {
            assert!(bytes(wrong).unwrap_err().0.contains("not a size"), "{wrong}");
        }
    }

    #[test]
    fn disks_are_made_grown_and_described() {
        let folder = std::env::temp_dir().join(format!("hako-cli-disk-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = |name: &str| folder.join(name).display().to_string();
        disk(&format!("create {} 64M", path("a.qcow2"))).unwrap();
        disk(&format!("create -f qcow2 -b a.qcow2 -F qcow2 {}", path("b.qcow2"))).unwrap();
        disk(&format!("create --format=raw {} 1M", path("c.img"))).unwrap();
        disk(&format!("resize {} 256M", path("b.qcow2"))).unwrap();
        disk(&format!("resize --shrink {} 100M", path("b.qcow2"))).unwrap();
        disk(&format!("resize {} +28M", path("b.qcow2"))).unwrap();
        for image in ["a.qcow2", "b.qcow2", "c.img"] {
            disk(&format!("check {}", path(image))).unwrap();
        }
        disk(&format!("convert -f raw -O qcow2 {} {}", path("c.img"), path("d.qcow2"))).unwrap();
        assert_eq!(image::info(&folder.join("d.qcow2"), None).unwrap().format, ImageFormat::Qcow2);
        disk(&format!("info {}", path("b.qcow2"))).unwrap();
        let info = image::info(&folder.join("b.qcow2"), None).unwrap();
        let text = words(&info);
        assert!(text.contains("qcow2, clusters of 64 KiB") && text.contains("128 MiB"), "{text}");
        assert!(text.contains("a.qcow2 (qcow2)"), "{text}");
        for (line, word) in [
            (format!("create {} 64M", path("a.qcow2")), "not touched"),
            (format!("create {}", path("e.qcow2")), "how large"),
            (format!("create {} 1M -F raw", path("e.qcow2")), "there is none"),
            (format!("info --shrink {}", path("a.qcow2")), "hako disk resize"),
            (format!("info --shrink=yes {}", path("a.qcow2")), "not known"),
            (format!("resize -b x {} 1G", path("a.qcow2")), "hako disk create"),
            (format!("convert {} {}", path("a.qcow2"), path("c.img")), "not touched"),
            (format!("convert {} -O vdi {}", path("a.qcow2"), path("e")), "vdi"),
            (format!("resize {} +99999999T", path("a.qcow2")), "99999999T"),
            (format!("create {} 1M --format vmdk", path("d")), "vmdk"),
            (format!("create {} 1M --backing nothing", path("d")), "nothing"),
            (format!("resize {} 1M", path("a.qcow2")), "then say --shrink"),
            (format!("resize {} 1M", path("nothing")), "does not exist"),
            (format!("info {} more", path("a.qcow2")), "too many"),
            ("erase x".to_owned(), "erase"),
            (String::new(), "what is to be done"),
        ] {
            let error = disk(&line).unwrap_err().0;
            assert!(error.contains(word), "{line}: {error}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
