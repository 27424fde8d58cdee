//! The terminal that Hako was started from: raw while a machine uses it, as it was before on every way out.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use rustix::termios::{
    InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, isatty, tcgetattr, tcsetattr,
};

/// How the terminal was before [`raw`].
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);
static HOOK: Once = Once::new();
/// Standard input and output have one user.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Hands each key to the machine as it is typed, without echo. Where standard input is no terminal, nothing happens.
///
/// `signal_keys`: Ctrl-C still interrupts the program (`-serial stdio`); else it goes to the guest (`mon:stdio`).
/// A panic of any thread puts the terminal back; so must whoever ends the process ([`restore`]).
///
/// # Errors
/// What the host says to the new settings.
pub fn raw(signal_keys: bool) -> io::Result<()> {
    let stdin = io::stdin();
    if !isatty(&stdin) {
        return Ok(());
    }
    let before = tcgetattr(&stdin)?;
    let mut modes = before.clone();
    modes.input_modes -= InputModes::BRKINT
        | InputModes::ICRNL
        | InputModes::IGNBRK
        | InputModes::IGNCR
        | InputModes::INLCR
        | InputModes::ISTRIP
        | InputModes::IXON
        | InputModes::PARMRK;
    // "\n" of our own messages still starts a line.
    modes.output_modes |= OutputModes::OPOST;
    modes.local_modes -= LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::IEXTEN;
    if !signal_keys {
        modes.local_modes -= LocalModes::ISIG;
    }
    // Ctrl-Z would leave a raw terminal behind.
    modes.special_codes[SpecialCodeIndex::VSUSP] = 0;
    modes.special_codes[SpecialCodeIndex::VMIN] = 1;
    modes.special_codes[SpecialCodeIndex::VTIME] = 0;
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(before);
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            previous(info);
        }));
    });
    tcsetattr(&stdin, OptionalActions::Now, &modes)?;
    Ok(())
}

/// Puts the terminal back as it was; harmless where it was never changed.
pub fn restore() {
    if let Some(before) = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // There is nobody left to tell.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}

/// The one claim to standard input and output; the end of it restores the terminal.
#[derive(Debug)]
pub struct Claim(());

impl Claim {
    /// The claim, if nobody holds it.
    pub fn take() -> Option<Self> {
        (!TAKEN.swap(true, Ordering::AcqRel)).then_some(Self(()))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        restore();
        TAKEN.store(false, Ordering::Release);
    }
}
