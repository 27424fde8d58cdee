//! Hako: without arguments the manager's window, else the command line.
use std::process::ExitCode;

fn main() -> ExitCode {
    hako::outlive_file_limits();
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
    if arguments.is_empty() { hako::manager() } else { hako::cli::main(arguments) }
}
