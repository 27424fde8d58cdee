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
