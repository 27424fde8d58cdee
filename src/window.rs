//! The lean stand-alone window of `hako run -display window`.

use vm_core::runner::VmHandle;

/// Shows the machine's screen until it ends or the window is closed, on the calling (main) thread. Closing the window sends
/// [`vm_core::runner::Command::PowerOff`].
///
/// # Errors
/// In words: no display server, or no usable GPU driver (with the name of the package that brings one).
pub fn run(machine: &VmHandle, title: &str) -> anyhow::Result<()> {
    let _ = (machine, title);
    anyhow::bail!("the stand-alone window is not there yet; use the manager, or -display none")
}
