//! Errors that any context finds while the run goes on.

use crate::owners::Tag;
use std::{
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};
use tidemark_frames::{FreeError, Inconsistency, Order, Pfn, Variant, ZoneId};
use tidemark_sync::ContextKind;

/// An error.
#[derive(Clone, Copy, Debug)]
pub enum Finding {
    /// A request got a block that another owner has.
    TwoOwners(Clash),
    /// A block no longer has the owner that holds it.
    NotItsOwners(Clash),
    /// The allocator found an error.
    Reported(FreeError),
    /// A handle no longer names an allocated block.
    NotAllocated(Pfn, Order),
    /// `validate` found an inconsistency.
    Invalid(Inconsistency),
    /// A wait that would never have ended, in a context in which the protocol rules out a wait for
    /// interrupted code.
    Endless(Variant, ContextKind),
    /// A block from a zone that its request may not use, with a protocol that rules that out.
    Stray(Pfn, Order, ZoneId),
    /// Memory could not come back.
    NotOnline(&'static str),
}

/// A frame with the wrong owner.
#[derive(Clone, Copy, Debug)]
pub struct Clash {
    /// The frame.
    pub pfn: Pfn,
    /// The order of its block.
    pub order: Order,
    /// The owner that looked.
    pub by: Tag,
    /// The owner that its word names.
    pub found: Tag,
    /// The CPU that looked.
    pub cpu: usize,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TwoOwners(clash) => write!(f, "two owners: {clash}"),
            Self::NotItsOwners(clash) => write!(f, "not its owner's any more: {clash}"),
            Self::Reported(error) => write!(f, "reported: {error:?}"),
            Self::NotAllocated(pfn, order) => {
                write!(
                    f,
                    "frame {:#x} of order {} is not allocated any more",
                    pfn.0,
                    order.get()
                )
            }
            Self::Invalid(inconsistency) => write!(f, "validate: {inconsistency:?}"),
            Self::Endless(variant, context) => {
                let name = variant.name();
                write!(f, "a wait given up ({context:?}), which {name} rules out")
            }
            Self::Stray(pfn, order, zone) => write!(
                f,
                "a request may not have frame {:#x} of order {}: it is of {zone:?}",
                pfn.0,
                order.get()
            ),
            Self::NotOnline(why) => write!(f, "memory did not come back: {why}"),
        }
    }
}

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cpu{} has frame {:#x} of an order {} as {}, and finds {}",
            self.cpu,
            self.pfn.0,
            self.order.get(),
            self.by,
            self.found
        )
    }
}

/// The most findings that are kept. More are only counted.
const KEPT: usize = 8;

static FOUND: [OnceLock<Finding>; KEPT] = [const { OnceLock::new() }; KEPT];
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// Number of findings of frames with two owners.
static DOUBLED: AtomicUsize = AtomicUsize::new(0);
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Records an error, and ends the run, since later errors would follow from it. Any context.
pub fn found(finding: Finding) {
    // Each place is set once, by the context that drew its number, so no context waits for another.
    if let Some(place) = FOUND.get(COUNT.fetch_add(1, Relaxed)) {
        let _ = place.set(finding);
    }
    if let Finding::TwoOwners(_) | Finding::NotItsOwners(_) = finding {
        DOUBLED.fetch_add(1, Relaxed);
    }
    stop();
}

/// Ends the run: tasks give back what they have.
pub fn stop() {
    STOPPED.store(true, Relaxed);
}

/// Returns whether the run must end.
pub fn is_stopped() -> bool {
    STOPPED.load(Relaxed)
}

/// Returns how many owners found another one at their frames.
pub fn doubled() -> usize {
    DOUBLED.load(Relaxed)
}

/// Returns a line for each finding.
pub fn lines() -> Vec<String> {
    let mut lines: Vec<String> = FOUND
        .iter()
        .filter_map(OnceLock::get)
        .map(Finding::to_string)
        .collect();
    let more = COUNT.load(Relaxed).saturating_sub(lines.len());
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines
}
