//! `hako export` and `hako import`: a machine with all its snapshots as one file.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use super::snapshot::{home, trouble};
use super::{CliError, refuse};
use crate::library::{self, Library};

const EXPORT: &str = "\
hako export MACHINE FILE    write a machine that is off, or sleeps in a saved state, with all its snapshots into a new file

MACHINE is the name of a machine of the library, or a machine's folder. The file is a plain tar archive; it has everything that the
machine needs: disks, floppies, CDs, the kernel.
";
const IMPORT: &str = "\
hako import FILE            take a machine over from a file that “hako export” wrote; it appears in the library
";

/// Says how far it is, where somebody looks.
fn progress() -> impl FnMut(u64, u64) -> bool {
    let (watched, mut told) = (std::io::stderr().is_terminal(), u64::MAX);
    move |done, all| {
        let percent = done.saturating_mul(100).checked_div(all).unwrap_or(100);
        if watched && percent != told {
            told = percent;
            let _ = write!(std::io::stderr(), "\r{percent} %{}", if done == all { "\n" } else { "" });
        }
        true
    }
}

/// Carries out what follows `hako export`.
pub fn export(arguments: &[String]) -> Result<ExitCode, CliError> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["--help" | "help"] => print!("{EXPORT}"),
        [machine, file] => library::export(&home(machine)?, Path::new(file), &mut progress()).map_err(trouble)?,
        _ => return refuse(format!("hako export: which machine, and into which file?\n\n{EXPORT}")),
    }
    Ok(ExitCode::SUCCESS)
}

/// Carries out what follows `hako import`.
pub fn import(arguments: &[String]) -> Result<ExitCode, CliError> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["--help" | "help"] => print!("{IMPORT}"),
        [file] => {
            let library = Library::of_person().map_err(|error| CliError(format!("{error:#}")))?;
            let id = library::import(&library, Path::new(file), &mut progress()).map_err(trouble)?;
            println!("{}", library.folder(&id).display());
        }
        _ => return refuse(format!("hako import: which file?\n\n{IMPORT}")),
    }
    Ok(ExitCode::SUCCESS)
}
