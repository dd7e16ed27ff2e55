//! The request under test: its kinds, its result, and the memory that there is for it.

use super::super::stage;
use super::{NODE, OWNER};
use crate::mm;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use tidemark_frames::{
    FrameHandle, Gfp, ListKind, NodeMask, Order, Pfn, Request, WalkInfo, ZoneId, ZoneInfo, ZoneKind,
};
use tidemark_sync::Context;
use tidemark_wire::{LabPoint, ListNow, Role, ZoneName, ZoneNow};

/// The kinds of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// GFP_KERNEL, which may reclaim.
    Kernel,
    /// GFP_KERNEL that does not wake the background reclaimer.
    KernelAlone,
    /// GFP_KERNEL of a task that reclaims already (PF_MEMALLOC). It ignores the watermarks and
    /// reclaims no more, so that it comes to `nopage` at once.
    KernelReclaimer,
    /// GFP_ATOMIC.
    Atomic,
    /// GFP_ATOMIC that may use MOVABLE zones.
    AtomicMovable,
    /// GFP_KERNEL | GFP_DMA from the reader's own node, which is not the squeezed one. The hot path
    /// serves it.
    Dma,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::Kernel,
        Self::KernelAlone,
        Self::KernelReclaimer,
        Self::Atomic,
        Self::AtomicMovable,
        Self::Dma,
    ];

    fn request(self) -> Request {
        match self {
            Self::Kernel => Request::kernel(Order::ZERO),
            Self::KernelAlone => Request::kernel(Order::ZERO).without(Gfp::KSWAPD_RECLAIM),
            Self::KernelReclaimer => Request::kernel(Order::ZERO).with(Gfp::MEMALLOC),
            Self::Atomic => Request::atomic(Order::ZERO),
            Self::AtomicMovable => Request::atomic(Order::ZERO).with(Gfp::MOVABLE),
            Self::Dma => Request::kernel(Order::ZERO).with(Gfp::DMA),
        }
    }

    /// Returns the highest kind of zone that the request may use.
    fn highest(self) -> ZoneKind {
        match self {
            Self::AtomicMovable => ZoneKind::Movable,
            Self::Dma => ZoneKind::Dma,
            _ => ZoneKind::Normal,
        }
    }
}

/// The kind of the request under test.
static KIND: AtomicU32 = AtomicU32::new(Kind::Atomic as u32);

/// Sets the kind of request that a handler makes.
pub fn handlers_make(kind: Kind) {
    KIND.store(kind as u32, Release);
}

/// Returns the kind of the request under test.
pub(super) fn kind() -> Kind {
    Kind::ALL[KIND.load(Acquire) as usize]
}

/// The result of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It got a frame of this zone.
    Got(ZoneKind),
    /// It got none, and a fresh walk would have found none either.
    Failed,
    /// It got none, although a fresh walk would have found memory.
    FailedWithMemoryFree,
}

/// The result of the last request under test.
static FATE: AtomicU32 = AtomicU32::new(NO_FATE);
/// How often changed lists made that request begin again.
static RETRIES: AtomicU32 = AtomicU32::new(0);
/// Whether the frame of a request is kept, and the handle of the one that was kept.
static KEEPS: AtomicBool = AtomicBool::new(false);
static KEPT: AtomicU64 = AtomicU64::new(0);

const NO_FATE: u32 = u32::MAX;
const FAILED: u32 = u32::MAX - 1;
const FAILED_WITH_MEMORY_FREE: u32 = u32::MAX - 2;

/// Returns the result of the last request under test, and how often it began again. Returns nothing
/// if none was made since the last call.
pub fn take_fate() -> Option<(Fate, u32)> {
    let fate = match FATE.swap(NO_FATE, AcqRel) {
        NO_FATE => return None,
        FAILED => Fate::Failed,
        FAILED_WITH_MEMORY_FREE => Fate::FailedWithMemoryFree,
        kind => Fate::Got(ZoneKind::ALL[kind as usize]),
    };
    Some((fate, RETRIES.load(Relaxed)))
}

/// Makes the next requests under test keep their frames. [`give_back`] finds the last one of these.
pub fn keep_frames(keeps: bool) {
    KEEPS.store(keeps, Release);
}

/// Makes the request under test, as the reader, and frees the frame unless it is to be kept. All
/// kinds but [`Kind::Dma`] are confined to the squeezed node.
pub fn request(context: &impl Context, kind: Kind) -> Fate {
    handlers_make(kind);
    let mut request = kind.request().with(Gfp::NOWARN).owned_by(OWNER);
    if kind != Kind::Dma {
        request = request.on_node(NODE).among(NodeMask::only(NODE));
    }
    stage::step(LabPoint::Request, kind as u64);
    let mut walk = WalkInfo::default();
    let block = mm::frames().alloc_traced(context, &request, &mut walk);
    let fate = match &block {
        Ok(block) => {
            let zone = mm::frames().zone_of(block.pfn());
            Fate::Got(zone.map_or(ZoneKind::Dma, ZoneId::kind))
        }
        Err(_) if fresh_walk_serves() => Fate::FailedWithMemoryFree,
        Err(_) => Fate::Failed,
    };
    let number = match fate {
        Fate::Got(kind) => {
            stage::step(LabPoint::Got, kind as u64);
            kind as u32
        }
        Fate::Failed => {
            stage::step(LabPoint::Failed, 0);
            FAILED
        }
        Fate::FailedWithMemoryFree => {
            stage::step(LabPoint::Failed, 1);
            FAILED_WITH_MEMORY_FREE
        }
    };
    if let Ok(block) = block
        && KEEPS.load(Acquire)
    {
        stage::step(LabPoint::Kept, block.pfn().0);
        KEPT.store(block.leak().into_raw(), Release);
    }
    RETRIES.store(walk.retries, Relaxed);
    FATE.store(number, Release);
    fate
}

/// Frees the kept frame; returns its number.
pub fn give_back() -> Option<Pfn> {
    let handle = FrameHandle::from_raw(KEPT.swap(0, AcqRel))?;
    let block = mm::frames().adopt(handle).ok()?;
    Some(block.pfn())
}

/// Returns the zones of the squeezed node that the request under test may use.
fn usable() -> impl Iterator<Item = ZoneInfo> {
    let highest = kind().highest();
    mm::frames()
        .zones()
        .filter(move |zone| zone.id.node() == NODE && zone.id.kind() <= highest)
}

/// Returns whether a zone is above MIN for the request under test, whatever the lists contain. A
/// walk from the beginning of whole lists would serve the request. Any context may call it.
pub fn fresh_walk_serves() -> bool {
    usable().any(|zone| zone.free > zone.min + reserve(&zone))
}

/// Returns what a zone keeps back from the request under test.
fn reserve(zone: &ZoneInfo) -> u64 {
    zone.reserve[kind().highest() as usize]
}

/// Writes the squeezed node's list and its zones into the trace.
pub fn note_memory() {
    let list = mm::frames().zonelist(NODE, ListKind::Fallback);
    let mut zones = [None; 8];
    for (place, zone) in zones.iter_mut().zip(list.iter()) {
        *place = Some(ZoneName(zone.index() as u8));
    }
    let list = ListNow(zones).pack();
    stage::note(Role::Watchdog, LabPoint::ListNow, list);
    for zone in mm::frames().zones().filter(|zone| zone.id.node() == NODE) {
        let cut = |frames: u64| u32::try_from(frames).unwrap_or(u32::MAX);
        let now = ZoneNow {
            zone: ZoneName(zone.id.index() as u8),
            free: cut(zone.free),
            min: cut(zone.min + reserve(&zone)),
            low: cut(zone.low + reserve(&zone)),
        };
        stage::note(Role::Watchdog, LabPoint::ZoneNow, now.pack());
    }
}
