//! Moves records from the rings to the port: storing, the owner's loop, and the two ends (exit and
//! death).

use super::Level;
use super::deferred;
use super::port::{self, COM1, Serial};
use super::record::{LineBuffer, RECORD_WORDS, Record};
use crate::arch::{self, MAX_CPUS, time};
use crate::points;
use core::fmt::{self, Write as _};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tidemark_sync::handoff::{Finish, Handoff, Offer};
use tidemark_sync::ring::{Full, Head, Ring};
use tidemark_wire::LabPoint;

/// Number of records that one CPU can store before any is written out.
const RING_RECORDS: usize = 128;
/// Most lines that one owner writes before it leaves the rest to the console thread. This bounds
/// the time that a print can cost.
const OWNER_LINES: usize = 24;
/// How long an exit waits for the owner to finish.
const EXIT_PATIENCE_NS: u64 = 500_000_000;

/// How long a hanging CPU waits for another one to write its report out.
const HANG_PATIENCE_NS: u64 = 300_000_000;

/// The rings of all CPUs. Each CPU writes its own in every context; the owner empties them.
static RINGS: [Ring<RING_RECORDS, RECORD_WORDS>; MAX_CPUS] = [const { Ring::new() }; MAX_CPUS];
/// Number of losses already shown, for each CPU. It is written by the owner only.
static LOSSES_SHOWN: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
/// The next place in the order of all records. Relaxed suffices, because only the order of this one
/// variable matters.
static NEXT_SEQ: AtomicU64 = AtomicU64::new(0);
static OWNER: Handoff = Handoff::new();
/// Whether the last record written was raw text that did not end its line. It is written by the
/// owner only.
static LINE_OPEN: AtomicBool = AtomicBool::new(false);
/// Whether the dying routine owns the port; all other code then only stores.
static PORT_SEIZED: AtomicBool = AtomicBool::new(false);

/// Sets up COM1 for polling. From here on printing works, even before interrupts do. The boot CPU's
/// block must be loaded.
pub fn init_early() {
    COM1.lock().init();
    arch::log::set(
        |text| super::printk(Level::Warn, text),
        |text| super::printk(Level::Debug, text),
    );
}

/// Stores one line as a record of the running CPU. Any context may call it.
///
/// # Errors
///
/// Returns [`Full`] if the ring has no room.
pub(super) fn store(level: Level, line: &str) -> Result<(), Full> {
    // Interrupts are off so that a task cannot be moved or preempted with a record half stored,
    // which would hold up the records behind it. They also keep the ring in the order of the
    // numbers, apart from NMIs. A plain save and restore nests by scope, and in an NMI it changes
    // nothing.
    uncounted_interrupts_off(|| {
        let seq = NEXT_SEQ.fetch_add(1, Ordering::Relaxed);
        let mut record = Record::new(seq, time::now_ns(), level, line);
        let cpu = arch::cpu_id().0;
        record.cpu = cpu as u8;
        RINGS[cpu].push(&record.as_words())
    })
}

#[cfg(feature = "freestanding")]
fn uncounted_interrupts_off<R>(f: impl FnOnce() -> R) -> R {
    x86_64::instructions::interrupts::without_interrupts(f)
}

#[cfg(not(feature = "freestanding"))]
fn uncounted_interrupts_off<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// Waits until at least half of the running CPU's ring is free, and writes records out meanwhile.
/// Only task context may call it, with no lock held.
pub(super) fn wait_for_room() {
    while room() < RING_RECORDS / 2 {
        write_out_or_defer();
        core::hint::spin_loop();
    }
}

/// Free places in the running CPU's ring at this moment.
pub(crate) fn room() -> usize {
    RINGS[arch::cpu_id().0].room()
}

/// Writes records out if the caller's context allows it. Otherwise asks for them to be written
/// later.
pub(super) fn write_out_or_defer() {
    if deferred::must_only_store() {
        points::passed(LabPoint::PrintStored);
        deferred::ask();
    } else {
        flush(Share::Some);
    }
}

/// The number of lines that one owner writes before it leaves the rest to the console thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// A bounded number of lines, for an owner that has only printed.
    Some,
    /// All lines, until no record is left.
    All,
}

/// Writes out the stored records, or leaves that to the present owner. Task and hard-interrupt
/// context may call it, without the port's lock.
pub fn flush(share: Share) {
    if PORT_SEIZED.load(Ordering::Relaxed) || OWNER.offer() == Offer::Left {
        return;
    }
    let mut lines = 0;
    loop {
        while let Some(line) = next_line() {
            points::passed(LabPoint::PortWanted);
            {
                let mut port = COM1.lock();
                points::passed(LabPoint::PortLocked);
                port.send(line.as_bytes());
            }
            lines += 1;
            if share == Share::Some && lines >= OWNER_LINES && deferred::can_be_asked() {
                OWNER.abandon();
                deferred::ask();
                return;
            }
        }
        if OWNER.finish() == Finish::Done {
            return;
        }
    }
}

/// Returns whether the running CPU's ring holds any record.
pub(crate) fn anything_stored() -> bool {
    RINGS[arch::cpu_id().0].head() != Head::Empty
}

/// Whether no CPU's ring holds anything.
pub(crate) fn all_written() -> bool {
    RINGS.iter().all(|ring| ring.head() == Head::Empty)
}

/// Takes the next line in the order of all CPUs. Only the owner may call it.
///
/// A record that its writer has not finished delays the later ones of its own CPU, not those of
/// other CPUs. The order is therefore exact except for records that are stored at the same moment.
fn next_line() -> Option<LineBuffer> {
    let oldest = RINGS
        .iter()
        .filter(|ring| ring.head() == Head::Ready)
        .min_by_key(|ring| ring.peek(0));
    if let Some(words) = oldest.and_then(Ring::take) {
        let record = Record::from_words(&words);
        let ends_open = record.level == Level::Raw && !record.text().ends_with('\n');
        let was_open = LINE_OPEN.swap(ends_open, Ordering::Relaxed);
        let before = if was_open && record.level != Level::Raw {
            "\n"
        } else {
            ""
        };
        return Some(formatted(format_args!("{before}{record}")));
    }
    (0..MAX_CPUS).find_map(loss_line)
}

/// Returns a line with the number of records of a CPU that were lost since the last such line.
fn loss_line(cpu: usize) -> Option<LineBuffer> {
    let lost = RINGS[cpu].lost();
    let shown = LOSSES_SHOWN[cpu].swap(lost, Ordering::Relaxed);
    (lost > shown).then(|| {
        let lost = lost - shown;
        let mut record = Record::new(0, time::now_ns(), Level::Warn, "");
        record.cpu = cpu as u8;
        formatted(format_args!(
            "{}… {lost} records lost on cpu{cpu}\n",
            record.prefix()
        ))
    })
}

/// Returns the prefix of a line that the running CPU prints at this moment. It serves the dying
/// routine.
pub(crate) fn prefix() -> LineBuffer {
    let mut record = Record::new(0, time::now_ns(), Level::Info, "");
    record.cpu = arch::cpu_id().0 as u8;
    formatted(format_args!("{}", record.prefix()))
}

fn formatted(line: fmt::Arguments<'_>) -> LineBuffer {
    let mut buffer = LineBuffer::new();
    // The buffer holds the longest line; it cuts longer ones and never fails.
    let _ = buffer.write_fmt(line);
    buffer
}

/// Returns the number of records lost so far because a ring was full, over all CPUs, plus the texts
/// cut short by a port that was stuck.
pub fn lost_total() -> u64 {
    RINGS.iter().map(Ring::lost).sum::<u64>() + port::cut_total()
}

/// Writes everything out before an orderly exit. It becomes the owner if the present one finishes
/// in time, and otherwise takes the port from it.
pub(crate) fn finish_before_exit() {
    let done = time::spin_until(EXIT_PATIENCE_NS, || {
        if OWNER.offer() == Offer::Left {
            return false;
        }
        while let Some(line) = next_line() {
            COM1.lock().send(line.as_bytes());
        }
        OWNER.abandon();
        true
    });
    if !done {
        drain_after_stop();
    }
}

/// Takes the port away from its owner, writes out what the rings hold except torn records, and
/// returns the port.
///
/// It is for a CPU after the other CPUs have stopped.
pub(crate) fn drain_after_stop() -> Serial {
    PORT_SEIZED.store(true, Ordering::Relaxed);
    // SAFETY: the other CPUs have stopped or did not react to an NMI. On this CPU the lock's holder
    // does not go on.
    let mut port = unsafe { port::broken_open() };
    drain_to(&mut port);
    port
}

/// Writes out what the rings hold, from the NMI of a CPU that seems to hang, whichever CPU owns the
/// port.
///
/// If the present owner does not write the records within a while, it is part of the hang. A torn
/// line is then better than none.
pub(crate) fn write_out_from_hang() {
    let written = time::spin_until(HANG_PATIENCE_NS, || {
        !anything_stored() || OWNER.offer() == Offer::Owner
    });
    if written && !anything_stored() {
        return;
    }
    PORT_SEIZED.store(true, Ordering::Relaxed);
    // SAFETY: no CPU has written for a while. If one does after all, lines mix, and nothing worse
    // happens.
    drain_to(&mut unsafe { port::broken_open() });
    OWNER.abandon();
    PORT_SEIZED.store(false, Ordering::Relaxed);
}

fn drain_to(port: &mut Serial) {
    for _ in 0..RING_RECORDS * MAX_CPUS {
        if let Some(line) = next_line() {
            port.send(line.as_bytes());
        } else if LINE_OPEN.swap(false, Ordering::Relaxed) {
            port.send(b"\n");
        } else if let Some(torn) = RINGS.iter().find(|ring| ring.head() == Head::InFlight) {
            torn.skip();
        } else {
            break;
        }
    }
}
