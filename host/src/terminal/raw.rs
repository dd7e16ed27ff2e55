//! The user's terminal in raw mode, and back, whatever happens.

use std::io::{self, IsTerminal, stdin};
use std::sync::Mutex;

use rustix::termios::{OptionalActions, OutputModes, Termios, tcgetattr, tcsetattr};

/// How the terminal was before; nothing while it is that way.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Raw mode, for as long as this lives.
#[must_use = "the terminal is restored when this is dropped"]
#[derive(Debug)]
pub struct Raw(());

impl Raw {
    /// Makes standard input raw if it is a terminal: each key goes to the guest at once, Ctrl-C as
    /// well. Output stays as it is, so that a line feed begins a new line.
    ///
    /// # Errors
    /// The terminal does not say how it is, or does not change.
    pub fn enter() -> io::Result<Option<Raw>> {
        if !stdin().is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        raw.output_modes |= before.output_modes & (OutputModes::OPOST | OutputModes::ONLCR);
        *BEFORE.lock().unwrap_or_else(|lock| lock.into_inner()) = Some(before);
        tcsetattr(stdin(), OptionalActions::Flush, &raw)?;
        Ok(Some(Raw(())))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Makes the terminal what it was, if it is raw. It does not wait, so that
/// the end of the program may call it.
pub fn restore() {
    if let Ok(mut before) = BEFORE.try_lock()
        && let Some(before) = before.take()
    {
        // A terminal that has gone away needs no mode.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &before);
    }
}
