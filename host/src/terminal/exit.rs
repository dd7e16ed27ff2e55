//! Names the exit codes that do not come from the verdict on a run.

/// Exit code of a run that the user ended: 128 + SIGINT, as in shells.
pub const EXIT_INTERRUPTED: i32 = 130;
/// Exit code for usage, a missing tool, and a configuration that the guest refuses.
pub const EXIT_USAGE: i32 = 2;
