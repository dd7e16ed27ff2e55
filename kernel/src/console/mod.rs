//! The console: log records from any context, written out on COM1.
//!
//! [`printk`] formats in the caller's context, stores one record a line in the CPU's ring, and
//! never waits for a ring. A caller that may take the port then tries to become the console's
//! owner. The owner writes out the records of all CPUs in order, and takes the port's lock for one
//! line at a time.
//!
//! Some callers only store: an NMI, a caller in a [`Deferred`] section, and a holder of the port's
//! lock or a later one. A work interrupt to the same CPU gets their records written afterwards.

mod deferred;
mod output;
pub(crate) mod port;
mod receive;
mod record;

use crate::arch::context::Task;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

pub use deferred::Deferred;
pub(crate) use deferred::must_only_store;
pub use output::{Share, flush, init_early, lost_total};
pub(crate) use output::{
    all_written, anything_stored, drain_after_stop, finish_before_exit, prefix, room,
    write_out_from_hang,
};
pub use receive::{RxSink, clear_rx_alloc_hook, set_rx_alloc_hook, set_rx_sink};

/// The importance of a record, and the look of its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// A line without a time stamp, as the self-tests' KTAP needs it.
    Plain,
    /// A warning that something is wrong; `warning: ` stands before the text.
    Warn,
    /// An event that a reader of the log should know of.
    Info,
    /// A detail, shown only with the option `verbose`; `debug: ` stands before the text.
    Debug,
    /// Text without a stamp before it or a line end after it, such as the shell's prompt and echo.
    Raw,
}

impl Level {
    fn from_code(code: u8) -> Self {
        match code {
            0 => Level::Plain,
            1 => Level::Warn,
            2 => Level::Info,
            3 => Level::Debug,
            _ => Level::Raw,
        }
    }
}

static SHOW_DEBUG: AtomicBool = AtomicBool::new(false);

/// Stores the lines of a text as records. Where the caller's context allows, writes them out.
///
/// Any context may call it, an NMI included, once the boot CPU has its per-CPU block. Records that
/// a full ring refuses are counted, and the count is shown as a line.
pub fn printk(level: Level, text: fmt::Arguments<'_>) {
    if level == Level::Debug && !SHOW_DEBUG.load(Ordering::Relaxed) {
        return;
    }
    put(level, text, || {});
}

/// Prints lines without a time stamp. It loses none, because it waits for room in the ring.
pub fn plain(_task: &Task, text: fmt::Arguments<'_>) {
    put(Level::Plain, text, output::wait_for_room);
}

/// Prints text without stamps, and with only the line ends that it contains. It loses nothing,
/// because it waits for room in the ring.
///
/// A log line that comes before such a text has ended its line begins a new one.
pub fn raw(_task: &Task, text: fmt::Arguments<'_>) {
    put(Level::Raw, text, output::wait_for_room);
}

fn put(level: Level, text: fmt::Arguments<'_>, wait: fn()) {
    let mut pieces = record::Pieces::new(level == Level::Raw, |piece: &str| {
        wait();
        // A refused record is counted by the ring.
        let _ = output::store(level, piece);
    });
    // The writer above never fails; a Display that does loses the rest of its own text only.
    let _ = fmt::write(&mut pieces, text);
    pieces.finish();
    output::write_out_or_defer();
}

/// Logs an event that a reader of the log should know of.
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

/// Starts the parts that need interrupts and threads: COM1's receive interrupt, deferred printing
/// and the console thread.
pub fn init(task: &Task) {
    deferred::init(task);
    receive::init();
}

/// Shows or hides records of [`Level::Debug`].
pub fn show_debug(show: bool) {
    SHOW_DEBUG.store(show, Ordering::Relaxed);
}
