//! The command line: `hako run …` with QEMU's spelling, `hako --help`, `--version`, `--capabilities`.

mod asleep;
mod capabilities;
mod chardev;
mod device;
mod disk;
mod drive;
mod keyval;
mod options;
mod run;
mod snapshot;
mod transfer;

use std::ffi::OsString;
use std::process::ExitCode;

const HELP: &str = "\
Hako makes, runs, saves and goes back to PC virtual machines.

hako                 open the manager
hako run [OPTIONS]   run one machine; “hako run --help” lists the options
hako disk …          make disk images, resize, convert, look at them; “hako disk --help” says how
hako snapshot …      the snapshots of a machine; “hako snapshot --help” says what one can do
hako export …        write a machine with all its snapshots into one file: “hako export MACHINE FILE”
hako import FILE     take a machine over from such a file
hako --capabilities  what the machine's processor and devices lack so far
hako --help          this text
hako --version       the version
";

/// Why the command line was not carried out; the text names what is wrong and says what would work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
struct CliError(String);

/// An error in words.
fn refuse<T>(text: impl Into<String>) -> Result<T, CliError> {
    Err(CliError(text.into()))
}

/// Carries out what `arguments` (without the program's name) ask for.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    match carry_out(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hako: {error}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(arguments: Vec<OsString>) -> Result<ExitCode, CliError> {
    let arguments = arguments.into_iter().map(text).collect::<Result<Vec<String>, CliError>>()?;
    let (first, rest) = arguments.split_first().map_or(("--help", &[][..]), |(first, rest)| (first.as_str(), rest));
    let alone = |text: String| match rest.first() {
        None => {
            print!("{text}");
            Ok(ExitCode::SUCCESS)
        }
        Some(extra) => refuse(format!("{extra}: not expected after {first}")),
    };
    match first {
        "run" => run::run(rest),
        "disk" => disk::run(rest),
        "snapshot" => snapshot::run(rest),
        "export" => transfer::export(rest),
        "import" => transfer::import(rest),
        "--help" | "-help" | "-h" | "help" => alone(HELP.to_owned()),
        "--version" | "-version" | "-V" => alone(format!("hako {}\n", env!("CARGO_PKG_VERSION"))),
        "--capabilities" => alone(capabilities::TEXT.to_owned()),
        option if option.starts_with('-') && options::known(option) => {
            refuse(format!("{option} belongs to “hako run”: try “hako run {}”", arguments.join(" ")))
        }
        other => refuse(format!(
            "{other}: not known; there are run, disk, snapshot, export, import, --capabilities, --help and --version"
        )),
    }
}

fn text(argument: OsString) -> Result<String, CliError> {
    argument.into_string().map_err(|argument| {
        CliError(format!("{}: not valid Unicode; give the file a link with a plain name", argument.to_string_lossy()))
    })
}
