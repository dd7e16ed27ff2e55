//! Holds every zone that atomic requests may use between its MIN and LOW marks, so that they reach
//! the slow path.

use crate::arch::{context::Task, time};
use crate::mm::{self, KernelBlock};
use crate::thread;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};
use tidemark_frames::{
    FrameHandle, MAX_ZONES, Order, Owner, OwnerKind, ZoneId, ZoneInfo, ZoneKind,
};
use tidemark_sync::ContextKind;

/// How often the balloon looks at the zones while it is wanted.
const LOOK_EVERY_NS: u64 = 500_000;

/// Whether the balloon is wanted. Written by the demonstration and by its hook at the schedule
/// points; read by the balloon's thread.
static WANTED: AtomicBool = AtomicBool::new(false);
/// Set by the balloon's thread while every zone is where it is wanted. Release/Acquire with the
/// waiters: what the thread did to the zones has happened.
static TIGHT: AtomicBool = AtomicBool::new(false);
/// Number of squeezes; counted before one begins.
static SQUEEZES: AtomicU32 = AtomicU32::new(0);
/// Cleared when the squeeze begins, set by the balloon's thread once it holds nothing any more.
static RELEASED: AtomicBool = AtomicBool::new(true);
/// Set when the thread is to end.
static OVER: AtomicBool = AtomicBool::new(false);

/// Asks for the squeeze; [`is_tight`] says when it is there. Any context.
pub fn squeeze() {
    SQUEEZES.fetch_add(1, Release);
    RELEASED.store(false, Release);
    WANTED.store(true, Release);
}

/// Lets go again. Any context.
pub fn relax() {
    WANTED.store(false, Release);
    TIGHT.store(false, Release);
}

/// Whether every zone that atomic requests may use lies between MIN and LOW. Any context.
pub fn is_tight() -> bool {
    TIGHT.load(Acquire)
}

/// Whether the zones are squeezed now or have been since `since`, an earlier [`squeezes`]. A request
/// that may not go below MIN can then find the little that is left taken by others, and larger
/// blocks not at all; atomic requests have their reserve below MIN and must not fail. Any context.
pub fn is_announced(since: u32) -> bool {
    WANTED.load(Acquire) || !RELEASED.load(Acquire) || squeezes() != since
}

/// How often the zones have been squeezed. Any context.
pub fn squeezes() -> u32 {
    SQUEEZES.load(Acquire)
}

/// Ends the thread once it has let go.
pub fn finish() {
    relax();
    OVER.store(true, Release);
}

/// The free frames at which an atomic request passes MIN but not LOW, and the middle between the
/// two. What a lower zone keeps back for itself counts for both marks.
fn window(zone: &ZoneInfo) -> (u64, u64, u64) {
    let reserve = zone.reserve[ZoneKind::Normal as usize];
    let (min, low) = (zone.min + reserve, zone.low + reserve);
    (min, low, min + (low - min) / 2)
}

/// Words of an index frame: the index frame before it, then handles.
const INDEX_WORDS: usize = 512;

/// What the balloon holds of one zone: a stack of handles, in frames of the zone that are chained.
///
/// The blocks themselves are never touched: on a fresh machine the first touch of each would make
/// the host find and clear memory for it, which takes longer than all the rest.
struct Held {
    /// The index frame in use, if anything is held, and how many of its words are used.
    index: Option<KernelBlock>,
    used: usize,
}

impl Held {
    const NONE: Self = Self {
        index: None,
        used: 0,
    };

    fn is_empty(&self) -> bool {
        self.index.is_none()
    }

    /// Keeps a block; gives it back, and returns false, if there is no frame to note it in.
    fn push(&mut self, zone: ZoneId, block: KernelBlock) -> bool {
        if self.used == INDEX_WORDS || self.index.is_none() {
            let Some(mut index) =
                mm::frames().alloc_in_zone(ContextKind::Task, zone, Order::ZERO, owner(zone))
            else {
                return false;
            };
            let before = self.index.take();
            mm::content_mut(&mut index)[0] = before.map_or(0, |index| index.leak().into_raw());
            (self.index, self.used) = (Some(index), 1);
        }
        if let Some(index) = &mut self.index {
            mm::content_mut(index)[self.used] = block.leak().into_raw();
            self.used += 1;
        }
        true
    }

    /// Frees what was taken last; returns whether there was anything.
    fn pop(&mut self) -> bool {
        let Some(index) = &self.index else {
            return false;
        };
        self.used -= 1;
        let word = mm::content(index)[self.used];
        if self.used > 0 {
            drop(adopt(word));
        } else {
            // The index frame goes, and the full one before it is in use again.
            self.index = adopt(word);
            self.used = INDEX_WORDS;
        }
        true
    }
}

/// Takes a block back whose handle was kept; nothing for a word that is none.
fn adopt(word: u64) -> Option<KernelBlock> {
    match mm::frames().adopt(FrameHandle::from_raw(word)?) {
        Ok(block) => Some(block),
        Err(handle) => {
            crate::warn!(
                "demo: the balloon's frame {} was freed by somebody else",
                handle.pfn()
            );
            None
        }
    }
}

fn owner(zone: ZoneId) -> Owner {
    Owner::new(OwnerKind::Balloon, zone.index() as u32)
}

/// The balloon's thread.
pub fn thread(task: &Task, _: usize) {
    let mut held = [const { Held::NONE }; MAX_ZONES];
    while !OVER.load(Acquire) {
        if WANTED.load(Acquire) {
            let tight = adjust_all(&mut held);
            // Not if the squeeze was called off meanwhile: `relax` has cleared it for good.
            TIGHT.store(tight && WANTED.load(Acquire), Release);
        } else {
            release_all(&mut held);
            TIGHT.store(false, Release);
            if !WANTED.load(Acquire) {
                RELEASED.store(true, Release);
            }
        }
        thread::sleep_until(task, time::now_ns() + LOOK_EVERY_NS);
    }
    release_all(&mut held);
}

fn release_all(held: &mut [Held; MAX_ZONES]) {
    for zone in held.iter_mut() {
        while zone.pop() {}
    }
}

/// Brings every zone into its window; returns whether all of them are in it.
fn adjust_all(held: &mut [Held; MAX_ZONES]) -> bool {
    let mut tight = true;
    for zone in mm::frames().zones() {
        let held = &mut held[zone.id.index()];
        if zone.id.kind() == ZoneKind::Movable {
            continue;
        }
        adjust(zone.id, held);
        let now = mm::frames().zone_info(zone.id);
        let (_, low, _) = window(&now);
        tight &= now.free <= low;
    }
    tight
}

fn adjust(zone: ZoneId, held: &mut Held) {
    let mut order = Order::MAX;
    loop {
        let now = mm::frames().zone_info(zone);
        let (min, _, middle) = window(&now);
        if now.free <= min + (middle - min) / 2 && !held.is_empty() {
            // Too far down: other users took frames meanwhile. Small blocks were taken last.
            held.pop();
            if mm::frames().zone_info(zone).free > middle {
                return;
            }
            continue;
        }
        if now.free < middle + order.frames() {
            match order.get().checked_sub(1).and_then(Order::new) {
                Some(smaller) => order = smaller,
                None => return,
            }
            continue;
        }
        match mm::frames().alloc_in_zone(ContextKind::Task, zone, order, owner(zone)) {
            Some(block) => {
                if !held.push(zone, block) {
                    return;
                }
            }
            None => match order.get().checked_sub(1).and_then(Order::new) {
                Some(smaller) => order = smaller,
                None => return,
            },
        }
    }
}
