//! Says why a run on Linux has no verdict.

use std::fmt;

use crate::terminal::exit::{EXIT_INTERRUPTED, EXIT_USAGE};

/// The reason, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A tool, a package, the network or room on the disk is missing, or the module refuses the
    /// kernel.
    Refused(String),
    /// The kernel panicked, or the machine was reset.
    Crashed(String),
    /// The guest did not answer in time.
    Hung(String),
    /// The user ended the run.
    Interrupted,
}

/// The result of what may meet such trouble.
pub type Outcome<T> = Result<T, Trouble>;

impl Trouble {
    /// Returns the program's exit code.
    pub fn exit_code(&self) -> i32 {
        match self {
            Trouble::Refused(_) => EXIT_USAGE,
            Trouble::Crashed(_) => 3,
            Trouble::Hung(_) => 4,
            Trouble::Interrupted => EXIT_INTERRUPTED,
        }
    }

    /// Wraps a failed access of a file.
    pub fn of_file(what: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        Trouble::Refused(format!("{} cannot be {what}: {error}", path.display()))
    }
}

/// Refuses with a line.
pub fn refuse<T>(line: impl Into<String>) -> Outcome<T> {
    Err(Trouble::Refused(line.into()))
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Refused(line) | Trouble::Crashed(line) | Trouble::Hung(line) => {
                f.write_str(line)
            }
            Trouble::Interrupted => f.write_str("ended by the user"),
        }
    }
}

impl std::error::Error for Trouble {}
