//! The memory of a scenario: zones at a level, a spare, and a page cache that always has pages to
//! reclaim.

use super::super::stage;
use super::{NODE, OWNER, Obstacle};
use crate::arch::context::Task;
use crate::mm::{self, Pile, page_cache};
use crate::thread;
use core::mem;
use core::sync::atomic::{AtomicBool, Ordering::*};
use spin::Mutex;
use tidemark_frames::{Order, ZoneId, ZoneKind};
use tidemark_sync::ContextKind;
use tidemark_wire::LabPoint;

static FEEDING: AtomicBool = AtomicBool::new(false);

static HELD: Mutex<Pile> = Mutex::new(Pile::new());
static SPARE: Mutex<Pile> = Mutex::new(Pile::new());

/// Frees what the scenario keeps ready; returns how many frames. Any context: nothing is put there
/// meanwhile.
pub fn free_spare() -> u64 {
    let spare = mem::take(&mut *SPARE.lock());
    spare.frames()
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
    mm::quiet(task);
    let normal = ZoneId::new(NODE, ZoneKind::Normal);
    for _ in 0..spare {
        let block = mm::frames().alloc_in_zone(ContextKind::Task, normal, Order::MAX, OWNER);
        SPARE
            .lock()
            .push(block.ok_or("the NORMAL zone has no spare")?);
    }
    for zone in mm::frames().zones() {
        if zone.id.node() == NODE && zone.id.kind() <= ZoneKind::Normal {
            let is_normal = zone.id.kind() == ZoneKind::Normal;
            let wanted = match level {
                Level::BetweenMinAndLow if is_normal => mm::between_min_and_low(&zone),
                _ => 0,
            };
            if HELD.lock().take_down(zone.id, wanted, OWNER) > wanted + 64 {
                return Err("a zone could not be taken down");
            }
        }
    }
    Ok(())
}

/// Puts a frame of the squeezed node's MOVABLE zone into this CPU's cache. The caller stays on its
/// CPU.
///
/// # Errors
///
/// Returns an obstacle if the zone has none.
pub fn cache_movable() -> Result<(), Obstacle> {
    let movable = ZoneId::new(NODE, ZoneKind::Movable);
    mm::frames()
        .alloc_in_zone(ContextKind::Task, movable, Order::ZERO, OWNER)
        .map(drop)
        .ok_or("the MOVABLE zone has no frame")
}

/// Frees everything that the scenario holds.
pub fn release(task: &Task) {
    free_spare();
    drop(mem::take(&mut *HELD.lock()));
    mm::quiet(task);
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
