//! The command line.
use std::ffi::OsString;
use std::process::ExitCode;

/// Carries out what `arguments` (without the program's name) ask for.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let first = arguments.into_iter().next().unwrap_or_default();
    eprintln!("hako: {}: not known", first.to_string_lossy());
    ExitCode::FAILURE
}
