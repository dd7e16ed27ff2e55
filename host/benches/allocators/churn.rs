//! The workload that replaces single frames while memory is nearly full, or half full.

use crate::Allocator;
use crate::workloads::{LEAST, Random, scaled, timed};
use std::time::Duration;

/// Number of blocks that are replaced. It is equal at every filling, so the cost of the workload
/// itself does not depend on the filling.
const WORKING: usize = 4096;
/// Blocks freed before as many are allocated again: more than a per-CPU cache holds.
const BATCH: usize = 1024;

/// Memory filled so that the free frames lie scattered at random. Everything is allocated frame by
/// frame, then blocks are freed at random until the wanted percentage is left. Most of those are
/// ballast, which stays; the rest is the working set.
pub struct Churn<'a, A: Allocator> {
    allocator: &'a A,
    random: Random,
    ballast: Vec<A::Block>,
    working: Vec<A::Block>,
}

impl<'a, A: Allocator> Churn<'a, A> {
    /// Fills an allocator of `frames` frames to `percent` per cent.
    pub fn new(allocator: &'a A, frames: usize, percent: usize) -> Self {
        let mut random = Random(3);
        let mut blocks: Vec<A::Block> = (0..frames).map_while(|_| allocator.alloc(0)).collect();
        let left = blocks.len() * percent / 100;
        random.shuffle(&mut blocks);
        for block in blocks.drain(left..) {
            allocator.free(block);
        }
        Self {
            allocator,
            random,
            working: blocks.split_off(left - WORKING),
            ballast: blocks,
        }
    }

    /// Returns the time of this many operations; a replacement is two.
    pub fn run(&mut self, operations: u64) -> Duration {
        let batches = operations.max(LEAST).div_ceil(2 * BATCH as u64);
        let elapsed = timed(|| (0..batches).for_each(|_| self.batch()));
        scaled(elapsed, operations, batches * 2 * BATCH as u64)
    }

    /// Frees blocks of the working set at random, and fills it up again.
    fn batch(&mut self) {
        for _ in 0..BATCH {
            let place = self.random.below(self.working.len());
            self.allocator.free(self.working.swap_remove(place));
        }
        for _ in 0..BATCH {
            let block = self.allocator.alloc(0);
            self.working.push(block.expect("as many were freed"));
        }
    }
}

impl<A: Allocator> Drop for Churn<'_, A> {
    fn drop(&mut self) {
        for block in self.ballast.drain(..).chain(self.working.drain(..)) {
            self.allocator.free(block);
        }
    }
}
