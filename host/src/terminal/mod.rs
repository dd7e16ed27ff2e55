//! Holds what the user types and sees: the command line, and the log on its way to the terminal.

pub mod cli;
pub mod console;
pub mod exit;
pub mod interrupt;
pub mod raw;
pub mod release;
pub mod size;
