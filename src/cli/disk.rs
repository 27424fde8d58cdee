//! `hako disk create|resize|info`: images on the command line.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use vm_core::config::ImageFormat;
use vm_core::disk::image::{self, ImageInfo};

use super::{CliError, refuse};

const HELP: &str = "\
hako disk create FILE [SIZE] [--format qcow2|raw] [--backing IMAGE]
                             a new, empty disk; nothing is overwritten. With --backing, what is not written yet reads as
                             that image, which must stay as it is (a relative path starts at FILE's folder)
hako disk resize FILE SIZE   make a disk larger while no machine uses it
hako disk info FILE          format, sizes, and what lies below

SIZE is in bytes, or with k, M, G or T (512M, 20G). --format says how FILE is read where it is there already.
";

/// What was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Arguments {
    plain: Vec<String>,
    format: Option<ImageFormat>,
    backing: Option<PathBuf>,
}

/// Carries out what follows `hako disk`.
pub fn run(arguments: &[String]) -> Result<ExitCode, CliError> {
    let Some((command, rest)) = arguments.split_first() else {
        return refuse(format!("hako disk: what is to be done?\n\n{HELP}"));
    };
    let arguments = parse(rest)?;
    let plain: Vec<&str> = arguments.plain.iter().map(String::as_str).collect();
    let failed = |error: &dyn std::fmt::Display| CliError(error.to_string());
    match (command.as_str(), &plain[..]) {
        ("--help" | "-h" | "help", _) => print!("{HELP}"),
        ("create", [file, size @ ..]) if size.len() < 2 => {
            let size = size.first().map(|size| bytes(size)).transpose()?;
            if size.is_none() && arguments.backing.is_none() {
                return refuse("hako disk create: how large? For example: hako disk create disk.qcow2 20G");
            }
            let format = arguments.format.unwrap_or(ImageFormat::Qcow2);
            image::create(Path::new(file), size, format, arguments.backing.as_deref())
                .map_err(|error| failed(&error))?;
        }
        (_, _) if arguments.backing.is_some() => return refuse("--backing belongs to “hako disk create”"),
        ("resize", [file, size]) => {
            image::resize(Path::new(file), bytes(size)?, arguments.format).map_err(|error| failed(&error))?;
        }
        ("info", [file]) => {
            let info = image::info(Path::new(file), arguments.format).map_err(|error| failed(&error))?;
            print!("{}", words(&info));
        }
        ("create" | "resize" | "info", _) => {
            return refuse(format!("hako disk {command}: too few or too many words\n\n{HELP}"));
        }
        (other, _) => return refuse(format!("hako disk {other}: not known; there are create, resize and info")),
    }
    Ok(ExitCode::SUCCESS)
}

fn parse(arguments: &[String]) -> Result<Arguments, CliError> {
    let mut parsed = Arguments::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
            _ => (argument.as_str(), None),
        };
        let mut value = || {
            let value = value.clone().or_else(|| rest.next().cloned()).filter(|value| !value.is_empty());
            value.ok_or_else(|| CliError(format!("{name}: its value is missing")))
        };
        match name {
            "--format" => {
                let name = value()?;
                let format = ImageFormat::from_name(&name);
                let unknown = || CliError(format!("--format {name}: not known; there are qcow2 and raw"));
                parsed.format = Some(format.ok_or_else(unknown)?);
            }
            "--backing" => parsed.backing = Some(value()?.into()),
            option if option.starts_with("--") => {
                return refuse(format!("{option}: not known; there are --format and --backing"));
            }
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
        disk(&format!("create {} --backing a.qcow2", path("b.qcow2"))).unwrap();
        disk(&format!("create --format=raw {} 1M", path("c.img"))).unwrap();
        disk(&format!("resize {} 128M", path("b.qcow2"))).unwrap();
        disk(&format!("info {}", path("b.qcow2"))).unwrap();
        let info = image::info(&folder.join("b.qcow2"), None).unwrap();
        let text = words(&info);
        assert!(text.contains("qcow2, clusters of 64 KiB") && text.contains("128 MiB"), "{text}");
        assert!(text.contains("a.qcow2 (qcow2)"), "{text}");
        for (line, word) in [
            (format!("create {} 64M", path("a.qcow2")), "not touched"),
            (format!("create {}", path("d.qcow2")), "how large"),
            (format!("create {} 1M --format vmdk", path("d")), "vmdk"),
            (format!("create {} 1M --backing nothing", path("d")), "nothing"),
            (format!("resize {} 1M", path("a.qcow2")), "shrinking"),
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
