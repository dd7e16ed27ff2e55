//! The console: log records from any context, written out on COM1.
//!
//! [`printk`] formats in the caller's context, stores one record a line in the CPU's ring and never waits. Whoever may take
//! the port then tries to become the console's owner; the owner writes out every CPU's records in order. An NMI, and a
//! caller inside a [`Deferred`] section, only stores: a self-IPI gets the records written afterwards.

use crate::arch::context::HardIrq;
use core::fmt;

/// How much a record matters, and how its line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// A line without a time stamp: the self-tests' KTAP.
    Plain,
    /// Something is wrong; `warning: ` stands before the text.
    Warn,
    /// Part of the story.
    Info,
    /// Shown only with the option `verbose`; `debug: ` stands before the text.
    Debug,
}

/// Stores the lines of a text as records and, where the caller's context allows, writes them out.
///
/// Callable from every context, an NMI included, and from boot's first instruction on. Never waits for another CPU's lock
/// from an NMI or while deferred; counts what it cannot store.
pub fn printk(level: Level, text: fmt::Arguments<'_>) {
    let _ = (level, text);
    todo!()
}

/// Logs a part of the story.
#[macro_export]
macro_rules! info {
    ($($arg:tt)*) => { $crate::console::printk($crate::console::Level::Info, ::core::format_args!($($arg)*)) };
}

/// Logs that something is wrong.
#[macro_export]
macro_rules! warn {
    ($($arg:tt)*) => { $crate::console::printk($crate::console::Level::Warn, ::core::format_args!($($arg)*)) };
}

/// Logs a detail, shown only with the option `verbose`.
#[macro_export]
macro_rules! debug {
    ($($arg:tt)*) => { $crate::console::printk($crate::console::Level::Debug, ::core::format_args!($($arg)*)) };
}

/// Defers printing on this CPU while it lives: records are stored and written out after the last one ends.
///
/// The caller stays on its CPU meanwhile (interrupts off, or pinned).
#[must_use]
#[derive(Debug)]
pub struct Deferred {
    _cpu: core::marker::PhantomData<*const ()>,
}

impl Deferred {
    /// Begins a deferred section on this CPU; sections nest.
    pub fn enter() -> Self {
        todo!()
    }
}

/// Sets up COM1 for polling; from here on [`printk`] works, before per-CPU data and interrupts do.
pub fn init_early() {
    todo!()
}

/// Starts what needs interrupts and threads: COM1's receive interrupt and the console thread.
pub fn init() {
    todo!()
}

/// What takes a frame for each byte that COM1 receives; called in COM1's interrupt with the port's lock held.
pub fn set_rx_alloc_hook(hook: fn(&HardIrq, u8)) {
    let _ = hook;
    todo!()
}

/// Records lost so far because a ring was full, over all CPUs.
pub fn lost_total() -> u64 {
    todo!()
}

/// Shows or hides records of [`Level::Debug`].
pub fn show_debug(show: bool) {
    let _ = show;
    todo!()
}
