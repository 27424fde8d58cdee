//! The program around the engine: the manager's window, the library of machines and the command line.
//!
//! Nothing in here emulates; [`vm_core`] does, and is met only through commands, events and frames.

pub mod app;
pub mod cli;
pub mod dialog;
pub mod grab;
pub mod jobs;
pub mod keymap;
pub mod library;
pub mod preferences;
pub mod session;
pub mod theme;
pub mod ui_command;
pub mod view;
pub mod widget;
pub mod window;

use std::process::ExitCode;

/// Lets a write beyond the host's limit on file sizes (`ulimit -f`) fail like one to a full disk, where it would end the program.
pub fn outlive_file_limits() {
    #[cfg(unix)]
    {
        let flag = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        if let Err(error) = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, flag) {
            tracing::warn!("SIGXFSZ: {error}");
        }
    }
}

/// Opens the manager's window and stays until it is closed.
pub fn manager() -> ExitCode {
    match app::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hako: {error:#}");
            ExitCode::FAILURE
        }
    }
}
