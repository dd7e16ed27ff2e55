//! The memory of a scenario: zones at a level, a spare, and a page cache that always has pages to
//! reclaim.

use super::super::stage;
use super::{NODE, OWNER, Obstacle};
use crate::arch::context::Task;
use crate::mm::{self, page_cache};
use crate::thread;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use tidemark_frames::{FrameHandle, Order, ZoneId, ZoneInfo, ZoneKind};
use tidemark_wire::LabPoint;

static FEEDING: AtomicBool = AtomicBool::new(false);

/// The handles of blocks, in the order in which they were taken. The scenario's own thread writes
/// them.
pub struct Stack<const N: usize> {
    used: AtomicU32,
    handles: [AtomicU64; N],
}

impl<const N: usize> Stack<N> {
    const fn new() -> Self {
        Self {
            used: AtomicU32::new(0),
            handles: [const { AtomicU64::new(0) }; N],
        }
    }

    /// Takes a block of a zone, whatever its watermarks, and keeps it.
    fn take(&self, zone: ZoneId, order: Order) -> Option<()> {
        let place = self.handles.get(self.used.load(Relaxed) as usize)?;
        let block =
            mm::frames().alloc_in_zone(tidemark_sync::ContextKind::Task, zone, order, OWNER)?;
        place.store(block.leak().into_raw(), Relaxed);
        self.used.fetch_add(1, Release);
        Some(())
    }

    /// Frees every block, and returns the number of frames. Any context may call it, but only one
    /// at a time.
    fn free(&self) -> u64 {
        let used = self.used.swap(0, AcqRel) as usize;
        let mut frames = 0;
        for place in &self.handles[..used] {
            if let Some(handle) = FrameHandle::from_raw(place.swap(0, Relaxed)) {
                frames += handle.order().frames();
                // The allocator reports a block that is not adopted, and the oracle finds it.
                drop(mm::frames().adopt(handle));
            }
        }
        frames
    }
}

static HELD: Stack<8192> = Stack::new();
static SPARE: Stack<64> = Stack::new();

/// Frees the spare that the scenario keeps ready; returns the number of frames. Any context may
/// call it.
pub fn free_spare() -> u64 {
    SPARE.free()
}

/// The level that a zone of the squeezed node is taken down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// No frame is free, so every request fails.
    Empty,
    /// The fast path fails, and the slow path serves the request.
    BetweenMinAndLow,
}

/// Takes the squeezed node's NORMAL zone down to a level, and the zones below it until they are
/// empty. Keeps `spare` blocks of 4 MiB of NORMAL ready for [`free_spare`].
///
/// # Errors
///
/// Returns an obstacle if a zone could not be brought there.
pub fn squeeze(task: &Task, level: Level, spare: usize) -> Result<(), Obstacle> {
    page_cache::drop_all(task);
    mm::frames().drain_all(task);
    let normal = ZoneId::new(NODE, ZoneKind::Normal);
    for _ in 0..spare {
        SPARE
            .take(normal, Order::MAX)
            .ok_or("the NORMAL zone has no spare")?;
    }
    for zone in mm::frames().zones() {
        if zone.id.node() == NODE && zone.id.kind() <= ZoneKind::Normal {
            let is_normal = zone.id.kind() == ZoneKind::Normal;
            take_down(&zone, if is_normal { level } else { Level::Empty })?;
        }
    }
    Ok(())
}

fn take_down(zone: &ZoneInfo, level: Level) -> Result<(), Obstacle> {
    let wanted = match level {
        Level::Empty => 0,
        Level::BetweenMinAndLow => {
            zone.reserve[ZoneKind::Normal as usize] + (zone.min + zone.low) / 2
        }
    };
    let mut order = Order::MAX.get();
    loop {
        let size = Order::new(order).ok_or("no such order")?;
        let now = mm::frames().zone_info(zone.id).free;
        if now <= wanted {
            return Ok(());
        }
        let taken = now >= wanted + size.frames() && HELD.take(zone.id, size).is_some();
        if taken {
            continue;
        }
        match order.checked_sub(1) {
            Some(smaller) => order = smaller,
            None if now <= wanted + 64 => return Ok(()),
            None => return Err("a zone could not be taken down"),
        }
    }
}

/// Puts a frame of the squeezed node's MOVABLE zone into this CPU's per-CPU cache. The caller stays
/// on its CPU.
///
/// # Errors
///
/// Returns an obstacle if the zone has none.
pub fn cache_movable() -> Result<(), Obstacle> {
    let movable = ZoneId::new(NODE, ZoneKind::Movable);
    mm::frames()
        .alloc_in_zone(
            tidemark_sync::ContextKind::Task,
            movable,
            Order::ZERO,
            OWNER,
        )
        .map(drop)
        .ok_or("the MOVABLE zone has no frame")
}

/// Frees everything that the scenario holds.
pub fn release(task: &Task) {
    SPARE.free();
    HELD.free();
    page_cache::drop_all(task);
    mm::frames().drain_all(task);
}

/// Puts pages into the cache until told to stop, so that reclaim always finds some. They come from
/// the squeezed node if the caller runs there. `first` pages are in memory before [`LabPoint::Fed`]
/// is reached.
pub fn feed(task: &Task, first: u32) {
    FEEDING.store(true, Release);
    let pages = page_cache::pages();
    for page in 0..first.min(pages) {
        // A page that finds no frame is merely left out.
        let _ = page_cache::read(page, task);
    }
    stage::step(LabPoint::Fed, page_cache::resident() as u64);
    let mut page = first;
    while FEEDING.load(Acquire) {
        let _ = page_cache::read(page % pages, task);
        page = page.wrapping_add(1);
        thread::sleep_ns(task, 20_000);
    }
    page_cache::drop_all(task);
}

/// Ends the feeding. Any context may call it.
pub fn stop_feeding() {
    FEEDING.store(false, Release);
}
