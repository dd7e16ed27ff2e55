//! Lines from COM1: its interrupt fills a queue, the shell's thread edits.

use super::editor::{Editor, Typed};
use crate::arch::context::{HardIrq, Task};
use crate::console::{self, RxSink};
use crate::thread::{Ring, WaitQueue};
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Bytes that may be typed ahead.
const AHEAD_BYTES: usize = 1024;

/// Filled by the interrupt under COM1's lock, emptied by the shell's thread; lock-free.
static AHEAD: Ring<u8, AHEAD_BYTES> = Ring::new();
static TYPED: WaitQueue = WaitQueue::new();
/// Bytes that found the queue full.
static LOST: AtomicU32 = AtomicU32::new(0);

/// How a line of input ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It is there.
    Line,
    /// The user threw it away.
    Killed,
    /// There will be no more.
    Input,
}

/// Begins to take what arrives on COM1. Once.
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

/// Echo on the console.
struct Echo<'t>(&'t Task);

impl fmt::Write for Echo<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        console::raw(self.0, format_args!("{text}"));
        Ok(())
    }
}

/// Waits for a line, showing what is typed.
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
        // Without a deadline it cannot time out.
        let _ = TYPED.wait_until(task, None, || {
            byte = byte.or_else(|| AHEAD.pop());
            byte.is_some()
        });
    }
    byte.unwrap_or(b'\n')
}

/// Throws away what was typed ahead.
pub fn discard() {
    while AHEAD.pop().is_some() {}
}

/// Bytes lost since the last call.
pub fn lost() -> u32 {
    LOST.swap(0, Relaxed)
}
