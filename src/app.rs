//! The manager: its window, its event loop and what it holds.

/// Opens the window and runs until it is closed.
///
/// # Errors
/// Where no window or no OpenGL context can be had.
pub fn run() -> anyhow::Result<()> {
    anyhow::bail!("the manager is not there yet")
}
