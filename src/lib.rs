//! The program around the engine: the manager's window, the library of machines and the command line.
//!
//! Nothing in here emulates; [`vm_core`] does, and is met only through commands, events and frames.

#[cfg(feature = "gui")]
pub mod app;
pub mod cli;
#[cfg(feature = "gui")]
pub mod dialog;
#[cfg(feature = "gui")]
pub mod grab;
#[cfg(feature = "gui")]
pub mod jobs;
#[cfg(feature = "gui")]
pub mod keymap;
#[cfg_attr(not(feature = "gui"), allow(dead_code, unused_imports, reason = "most of it is the manager's"))]
pub mod library;
#[cfg(feature = "gui")]
pub mod preferences;
#[cfg(feature = "gui")]
pub mod session;
#[cfg(feature = "gui")]
pub mod theme;
#[cfg(feature = "gui")]
pub mod ui_command;
#[cfg(feature = "gui")]
pub mod view;
#[cfg(feature = "gui")]
pub mod widget;
#[cfg(feature = "gui")]
pub mod window;
#[cfg(not(feature = "gui"))]
#[path = "window/absent.rs"]
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
#[cfg(feature = "gui")]
pub fn manager() -> ExitCode {
    match app::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hako: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Says that there is no manager's window in this build.
#[cfg(not(feature = "gui"))]
pub fn manager() -> ExitCode {
    eprintln!("hako: this build is without windows (the feature “gui”): “hako run -display none …” runs a machine");
    ExitCode::FAILURE
}
