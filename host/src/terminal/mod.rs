//! What the user types and sees: the command line, the log on its way to the terminal, interruption.

pub mod cli;
pub mod console;
pub mod exit;
pub mod interrupt;
pub mod raw;
pub mod size;
