//! Blocks that are held until they are no longer wanted, and zones that are taken down by it.

use super::{KernelBlock, content, content_mut, direct_map::WORDS, frames, page_cache};
use core::mem;
use tidemark_frames::{FrameHandle, Order, Owner, ZoneId, ZoneInfo, ZoneKind};
use tidemark_sync::{ContextKind, Task};

/// Blocks on top of each other, any number of them. Dropping the pile frees them, the last one
/// first.
///
/// One of 512 carries the handles of those above it, in the first words of its memory. The others
/// are never touched: on a fresh machine the first touch of each would make the host find and clear
/// memory for it.
#[derive(Debug, Default)]
pub struct Pile {
    /// The topmost block that carries handles. Its first word is that of the one below.
    carrier: Option<KernelBlock>,
    /// How many of its words are used.
    used: usize,
    frames: u64,
}

impl Pile {
    /// An empty pile.
    pub const fn new() -> Self {
        Self {
            carrier: None,
            used: 0,
            frames: 0,
        }
    }

    /// Puts a block on top.
    pub fn push(&mut self, mut block: KernelBlock) {
        self.frames += block.order().frames();
        match &mut self.carrier {
            Some(carrier) if self.used < WORDS => {
                content_mut(carrier)[self.used] = block.leak().into_raw();
                self.used += 1;
            }
            carrier => {
                let below = carrier.take().map_or(0, |below| below.leak().into_raw());
                content_mut(&mut block)[0] = below;
                *carrier = Some(block);
                self.used = 1;
            }
        }
    }

    /// Takes the top block; nothing if the pile is empty, or if somebody else freed that block,
    /// which the allocator reports.
    pub fn pop(&mut self) -> Option<KernelBlock> {
        let carrier = self.carrier.as_ref()?;
        self.used -= 1;
        let handle = FrameHandle::from_raw(content(carrier)[self.used]);
        let mut block = handle.and_then(|handle| frames().adopt(handle).ok());
        if self.used == 0 {
            mem::swap(&mut self.carrier, &mut block);
            self.used = WORDS;
        }
        self.frames -= block.as_ref().map_or(0, |block| block.order().frames());
        block
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.carrier.is_none()
    }

    /// Frames in the pile.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Takes free frames of a zone, whatever its watermarks, until `free` are left. Returns what is
    /// free then: other users may have freed or taken some meanwhile.
    pub fn take_down(&mut self, zone: ZoneId, free: u64, owner: Owner) -> u64 {
        let mut order = Order::MAX;
        loop {
            let now = frames().zone_info(zone).free;
            if now >= free + order.frames()
                && let Some(block) = frames().alloc_in_zone(ContextKind::Task, zone, order, owner)
            {
                self.push(block);
                continue;
            }
            match order.get().checked_sub(1).and_then(Order::new) {
                Some(smaller) => order = smaller,
                None => return now,
            }
        }
    }
}

impl Drop for Pile {
    fn drop(&mut self) {
        while !self.is_empty() {
            drop(self.pop());
        }
    }
}

/// Empties the page cache and the CPUs' caches, so that reclaim, which every slow path wakes, finds
/// nothing to free while zones are held at a level.
pub fn quiet(task: &Task) {
    page_cache::drop_all(task);
    frames().drain_all(task);
}

/// Between MIN and LOW for requests without a zone flag: the fast path fails, the slow path passes.
pub fn between_min_and_low(zone: &ZoneInfo) -> u64 {
    zone.reserve[ZoneKind::Normal as usize] + (zone.min + zone.low) / 2
}

/// Whether unmovable requests may use a zone.
pub fn unmovable(zone: ZoneId) -> bool {
    zone.kind() != ZoneKind::Movable
}
