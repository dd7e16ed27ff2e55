//! What the self-tests share: checks that name what they found, page-table walks, piles of frames,
//! pressure on the zones, work on every CPU.

use crate::{
    arch::{context::Task, time},
    mm, thread,
};
use tidemark_frames::{Order, Owner, OwnerKind};
use x86_64::{PhysAddr, structures::paging::PhysFrame};

pub mod dimms;
pub mod everywhere;
pub mod frames;
pub mod host;
pub mod walk;

/// Fails the running test with a line unless a condition holds.
macro_rules! ensure {
    ($report:expr, $condition:expr, $($text:tt)+) => {
        if !$condition {
            $report.note(format_args!($($text)+));
            return $crate::selftest::Outcome::Fail;
        }
    };
}

/// Unwraps a `Some` or an `Ok`, or fails the running test with a line.
macro_rules! want {
    ($report:expr, $value:expr, $($text:tt)+) => {
        match $crate::tests::support::Wanted::into_option($value) {
            Some(value) => value,
            None => {
                $report.note(format_args!($($text)+));
                return $crate::selftest::Outcome::Fail;
            }
        }
    };
}

/// One table line a test: the name is the function's.
macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        &[$($crate::selftest::Test { name: stringify!($name), run: $name }),+]
    };
}

pub(crate) use {ensure, tests, want};

/// What [`want!`] unwraps.
pub trait Wanted<T> {
    /// The value, if there is one.
    fn into_option(self) -> Option<T>;
}

impl<T> Wanted<T> for Option<T> {
    fn into_option(self) -> Option<T> {
        self
    }
}

impl<T, E> Wanted<T> for Result<T, E> {
    fn into_option(self) -> Option<T> {
        self.ok()
    }
}

/// A millisecond in nanoseconds.
pub const MS: u64 = 1_000_000;
/// The deadline of what should take microseconds, generous for a machine that emulates many CPUs on
/// few.
pub const SOON_NS: u64 = 2_000 * MS;

/// Sleeps, tick by tick, until a condition holds; false if it does not within `ns` nanoseconds.
#[must_use]
pub fn eventually(task: &Task, ns: u64, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = time::now_ns() + ns;
    loop {
        if condition() {
            return true;
        }
        if time::now_ns() >= deadline {
            return condition();
        }
        thread::sleep_ns(task, MS);
    }
}

/// Frames for page tables that a test makes: they stay with the tables for good.
pub fn table_frames(task: &Task) -> impl FnMut() -> Option<PhysFrame> + '_ {
    || {
        let owner = Owner::new(OwnerKind::PageTable, 0);
        let block = mm::alloc_longlived(Order::ZERO, owner, task).ok()?;
        let address = PhysAddr::new(block.leak().pfn().address());
        Some(PhysFrame::containing_address(address))
    }
}
