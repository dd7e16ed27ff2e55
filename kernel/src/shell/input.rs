//! Lines from COM1. Its interrupt fills a queue, and the shell's thread edits.

use super::editor::{Editor, Typed};
use crate::arch::context::{HardIrq, Task};
use crate::console::{self, RxSink};
use crate::thread::{Ring, WaitQueue};
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Number of bytes that may be typed ahead.
const AHEAD_BYTES: usize = 1024;

/// The bytes typed ahead. The interrupt fills the queue under COM1's lock, and the shell's thread
/// empties it without a lock.
static AHEAD: Ring<u8, AHEAD_BYTES> = Ring::new();
static TYPED: WaitQueue = WaitQueue::new();
/// Number of bytes that found the queue full.
static LOST: AtomicU32 = AtomicU32::new(0);

/// The way in which a line of input ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The line is complete.
    Line,
    /// The user discarded it.
    Killed,
    /// The input has ended; there will be no more lines.
    Input,
}

/// Begins to take the bytes that arrive on COM1. It is called once.
pub fn init() {
    let is_first = console::set_rx_sink(RxSink {
        take: |byte| {
            if AHEAD.push(byte).is_err() {
                LOST.fetch_add(1, Relaxed);
            }
        },
        wake: |irq: &HardIrq| TYPED.wake_one(irq),
    });
    debug_assert!(is_first, "somebody else reads what is typed");
}

/// The echo on the console.
struct Echo<'t>(&'t Task);

impl fmt::Write for Echo<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        console::raw(self.0, format_args!("{text}"));
        Ok(())
    }
}

/// Waits for a line, and shows what is typed.
pub fn read(task: &Task, editor: &mut Editor) -> Ended {
    loop {
        let byte = next(task);
        match editor.byte(byte, &mut Echo(task)) {
            Typed::More => {}
            Typed::Line => return Ended::Line,
            Typed::Killed => return Ended::Killed,
            Typed::End => return Ended::Input,
        }
    }
}

fn next(task: &Task) -> u8 {
    let mut byte = None;
    while byte.is_none() {
        TYPED.wait_forever(task, || {
            byte = byte.or_else(|| AHEAD.pop());
            byte.is_some()
        });
    }
    byte.unwrap_or(b'\n')
}

/// Discards what was typed ahead.
pub fn discard() {
    while AHEAD.pop().is_some() {}
}

/// Returns the number of bytes lost since the last call.
pub fn lost() -> u32 {
    LOST.swap(0, Relaxed)
}
