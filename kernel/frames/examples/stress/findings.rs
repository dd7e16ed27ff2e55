//! What is found to be wrong while the run goes on, in any context.

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

/// Something wrong.
#[derive(Clone, Copy, Debug)]
pub enum Finding {
    /// A block came that another owner has.
    TwoOwners(Clash),
    /// A block is not any more what its owner made it.
    NotItsOwners(Clash),
    /// The allocator found an error.
    Reported(FreeError),
    /// A handle names no allocated block any more.
    NotAllocated(Pfn, Order),
    /// `validate` found an inconsistency.
    Invalid(Inconsistency),
    /// A wait that would never have ended, in a context in which the protocol has nobody wait for
    /// what it has interrupted.
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
    /// The size of its block.
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

/// Findings that are kept; more are counted only.
const KEPT: usize = 8;

static FOUND: [OnceLock<Finding>; KEPT] = [const { OnceLock::new() }; KEPT];
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// Frames with two owners, of what was found.
static DOUBLED: AtomicUsize = AtomicUsize::new(0);
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Notes something wrong, and ends the run: what comes after it would be its consequence. Any
/// context.
pub fn found(finding: Finding) {
    // Each place is set once, by the one that drew its number: nobody waits for anybody.
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

/// Whether the run is to end.
pub fn is_stopped() -> bool {
    STOPPED.load(Relaxed)
}

/// Owners that found another one at their frames.
pub fn doubled() -> usize {
    DOUBLED.load(Relaxed)
}

/// What was found, a line each.
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
