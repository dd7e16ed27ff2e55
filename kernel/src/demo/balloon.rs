//! Holds every zone that atomic requests may use between its MIN and LOW marks, so that they reach
//! the slow path.

use crate::arch::{context::Task, time};
use crate::mm::{self, KernelBlock};
use crate::thread;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};
use tidemark_frames::{
    FrameHandle, MAX_ZONES, Order, Owner, OwnerKind, ZoneId, ZoneInfo, ZoneKind,
};

/// How often the balloon looks at the zones while it is wanted.
const LOOK_EVERY_NS: u64 = 500_000;

/// Whether the balloon is wanted. Written by the demonstration and by its hook at the schedule
/// points; read by the balloon's thread.
static WANTED: AtomicBool = AtomicBool::new(false);
/// Set by the balloon's thread while every zone is where it is wanted. Release/Acquire with the
/// waiters: what the thread did to the zones has happened.
static TIGHT: AtomicBool = AtomicBool::new(false);
/// Set when the thread is to end.
static OVER: AtomicBool = AtomicBool::new(false);
/// Zones that are left alone because they are leaving: bit = index of the zone.
static SPARED: AtomicU32 = AtomicU32::new(0);

/// Asks for the squeeze; [`is_tight`] says when it is there. Any context.
pub fn squeeze() {
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

/// Leaves these zones alone. Any context.
pub fn spare(zone: Option<ZoneId>) {
    SPARED.store(zone.map_or(0, |zone| 1 << zone.index()), Release);
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

/// The frames of one zone that the balloon holds, as a list that runs through the frames.
#[derive(Clone, Copy, Default)]
struct Held {
    first: u64,
}

impl Held {
    fn push(&mut self, mut block: KernelBlock) {
        mm::content_mut(&mut block)[0] = self.first;
        self.first = block.leak().into_raw();
    }

    /// Frees the block taken last; returns its frames.
    fn pop(&mut self) -> u64 {
        let Some(handle) = FrameHandle::from_raw(self.first) else {
            return 0;
        };
        match mm::frames().adopt(handle) {
            Ok(block) => {
                self.first = mm::content(&block)[0];
                block.order().frames()
            }
            Err(handle) => {
                self.first = 0;
                crate::warn!("demo: the balloon lost frame {}", handle.pfn());
                0
            }
        }
    }
}

/// The balloon's thread.
pub fn thread(task: &Task, _: usize) {
    let mut held = [Held::default(); MAX_ZONES];
    while !OVER.load(Acquire) {
        if WANTED.load(Acquire) {
            let tight = adjust_all(&mut held);
            // Not if the squeeze was called off meanwhile: `relax` has cleared it for good.
            TIGHT.store(tight && WANTED.load(Acquire), Release);
        } else {
            release_all(&mut held);
        }
        thread::sleep_until(task, time::now_ns() + LOOK_EVERY_NS);
    }
    release_all(&mut held);
}

fn release_all(held: &mut [Held; MAX_ZONES]) {
    for zone in held.iter_mut() {
        while zone.pop() != 0 {}
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
        if SPARED.load(Acquire) >> zone.id.index() & 1 != 0 {
            while held.pop() != 0 {}
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
    let owner = Owner::new(OwnerKind::Balloon, zone.index() as u32);
    let mut order = Order::MAX;
    loop {
        let now = mm::frames().zone_info(zone);
        let (min, _, middle) = window(&now);
        if now.free <= min + (middle - min) / 2 && held.first != 0 {
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
        match mm::frames().alloc_in_zone(zone, order, owner) {
            Some(block) => held.push(block),
            None => match order.get().checked_sub(1).and_then(Order::new) {
                Some(smaller) => order = smaller,
                None => return,
            },
        }
    }
}
