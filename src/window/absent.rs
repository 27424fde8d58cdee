//! What stands in for the stand-alone window where the program is built without windows.

use vm_core::runner::VmHandle;

/// Shows nothing.
///
/// # Errors
/// Always, and says what to do.
pub fn run(_: &VmHandle, _: &str) -> anyhow::Result<()> {
    anyhow::bail!("this build is without windows (the feature “gui”): start the machine with -display none")
}
