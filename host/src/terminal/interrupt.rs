//! Ctrl-C: the run in progress ends, its summary is printed, and QEMU does not stay behind.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::terminal::exit::EXIT_INTERRUPTED;
use crate::terminal::raw;

/// How often the user asked for an end. Written by the signal's thread, read by the run's loop; the
/// number itself is all that is passed on, so Relaxed suffices.
static ASKED: AtomicU32 = AtomicU32::new(0);

/// Notes Ctrl-C, SIGTERM and SIGHUP instead of dying of them. A third one ends the program at once.
///
/// # Errors
/// The handlers could not be set.
pub fn catch() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| {
        if ASKED.fetch_add(1, Ordering::Relaxed) >= 2 {
            raw::restore();
            // QEMU dies with us: it asked for SIGKILL at its parent's death.
            std::process::exit(EXIT_INTERRUPTED);
        }
    })
}

/// Whether the user asked for an end.
pub fn requested() -> bool {
    ASKED.load(Ordering::Relaxed) > 0
}
