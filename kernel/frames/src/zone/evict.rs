//! Moving blocks out of isolated pageblocks, for an offline and for a compaction.

use crate::{
    base::{
        owner::{FrameState, Owner},
        platform::{MigrateError, Platform, step},
        types::{Order, Pfn},
    },
    pageblock::section_meta::{PAGEBLOCK_FRAMES, PageblockRef},
    zone::Zones,
};
use core::ops::Range;
use tidemark_sync::{Task, atomic::Ordering};

/// Whether a scan that has met an unmovable frame still moves the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtUnmovable {
    /// The scan goes on: the unmovable frame may be freed meanwhile.
    GoOn,
    /// The scan stops: the pageblock is of use only if all can be moved.
    Stop,
}

/// What a scan found.
#[derive(Debug)]
pub(crate) struct Scan {
    at_unmovable: AtUnmovable,
    /// Frames that were moved away.
    pub(crate) migrated: u64,
    /// The first frame that cannot be moved, and its owner.
    pub(crate) unmovable: Option<(Pfn, Owner)>,
    /// The first frame that is about to be freed or allocated, or can be tried again.
    pub(crate) pending: Option<(Pfn, Owner)>,
}

impl Scan {
    pub(crate) const fn new(at_unmovable: AtUnmovable) -> Self {
        Self {
            at_unmovable,
            migrated: 0,
            unmovable: None,
            pending: None,
        }
    }

    fn stops(&self) -> bool {
        self.at_unmovable == AtUnmovable::Stop && self.unmovable.is_some()
    }
}

impl<'m, P: Platform> Zones<'m, P> {
    /// Looks at every frame in a part of an isolated pageblock that is not free, and moves the
    /// blocks that can be moved. Returns how many blocks, and frames under way, it found.
    pub(crate) fn scan_frames(
        &self,
        pageblock: PageblockRef<'m>,
        frames: Range<u32>,
        scan: &mut Scan,
        task: &Task,
    ) -> u32 {
        let mut used = 0;
        let mut frame = frames.start;
        while frame < frames.end && !scan.stops() {
            let word = pageblock.core().bits.0[frame as usize / 64].load(Ordering::Relaxed);
            let is_taken = pageblock.core().state().is_taken();
            if word >> (frame % 64) & 1 == 0 && !is_taken {
                // Go on to the next set bit of the word, if there is one.
                let rest = word >> (frame % 64);
                frame += if rest == 0 {
                    64 - frame % 64
                } else {
                    rest.trailing_zeros()
                };
                continue;
            }
            used += 1;
            step!(self);
            let pfn = Pfn(pageblock.start().0 + u64::from(frame));
            let size = match pageblock.entry_now(frame).state() {
                FrameState::Allocated { order, owner } => {
                    self.evict(pfn, order, owner, scan, task);
                    order.frames() as u32
                }
                // A birth or a death is under way: bits and entry are not written at once. Or this
                // is the upper half of an order 10, which has its entry in the lower half.
                FrameState::Free | FrameState::Cached | FrameState::Absent => {
                    scan.pending.get_or_insert((pfn, Owner::NONE));
                    if is_taken { PAGEBLOCK_FRAMES as u32 } else { 1 }
                }
            };
            frame += size;
        }
        used
    }

    /// Moves one allocated block away, or notes it as pending or unmovable.
    fn evict(&self, pfn: Pfn, order: Order, owner: Owner, scan: &mut Scan, task: &Task) {
        if owner == Owner::NONE {
            scan.pending.get_or_insert((pfn, owner));
            return;
        }
        let moved = if owner.kind().is_movable() {
            self.platform.migrate(pfn, owner, task)
        } else {
            Err(MigrateError::Unmovable)
        };
        match moved {
            Ok(()) => scan.migrated += order.frames(),
            Err(MigrateError::Busy) => {
                scan.pending.get_or_insert((pfn, owner));
            }
            Err(MigrateError::Unmovable) => {
                scan.unmovable.get_or_insert((pfn, owner));
            }
        }
    }
}
