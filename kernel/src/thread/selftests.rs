//! Self-tests of threads, interrupts and the switch between them; run in the guest.

use crate::selftest::Group;

/// Everything that this module checks.
pub const GROUP: Group = Group {
    name: "thread",
    tests: &[],
};
