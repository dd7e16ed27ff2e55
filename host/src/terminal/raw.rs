//! Puts the user's terminal into raw mode, and back in every case.

use std::io::{self, IsTerminal, stdin};
use std::sync::Mutex;

use rustix::termios::{OptionalActions, OutputModes, Termios, tcgetattr, tcsetattr};

/// The terminal's mode before; nothing while it is not raw.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Keeps raw mode for as long as it lives.
#[must_use = "the terminal is restored when this is dropped"]
#[derive(Debug)]
pub struct Raw(());

impl Raw {
    /// Makes standard input raw if it is a terminal. Each key then goes to the guest at once,
    /// Ctrl-C as well. Output stays unchanged, so that a line feed begins a new line.
    ///
    /// # Errors
    /// The mode of the terminal cannot be read or changed.
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

/// Puts the terminal back into its former mode, if it is raw. It does not wait, so that the end of
/// the program may call it.
pub fn restore() {
    if let Ok(mut before) = BEFORE.try_lock()
        && let Some(before) = before.take()
    {
        // A terminal that has gone away needs no mode.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &before);
    }
}
