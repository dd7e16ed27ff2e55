//! Handles Ctrl-C: the run in progress ends, its summary is printed, and QEMU does not stay behind.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::terminal::exit::EXIT_INTERRUPTED;
use crate::terminal::raw;

/// How often the user asked for an end. The signal's thread writes it and the run's loop reads it.
/// Relaxed suffices, because only the number itself is passed on.
static ASKED: AtomicU32 = AtomicU32::new(0);

/// Makes Ctrl-C, SIGTERM and SIGHUP count as requests instead of ending the program. The third one
/// ends the program at once.
///
/// # Errors
/// The handlers could not be set.
pub fn catch() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| {
        if ASKED.fetch_add(1, Ordering::Relaxed) >= 2 {
            raw::restore();
            // QEMU dies with us, because it asked for SIGKILL at its parent's death.
            std::process::exit(EXIT_INTERRUPTED);
        }
    })
}

/// Returns whether the user asked for an end.
pub fn requested() -> bool {
    ASKED.load(Ordering::Relaxed) > 0
}
