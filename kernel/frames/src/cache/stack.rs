//! The stack of a cache: blocks, by the numbers of their first frames.

use crate::base::{owner::Entry, types::Pfn};
use core::array;
use tidemark_sync::atomic::{AtomicU32, Ordering};

/// Up to `N` frame numbers below 2^32, which is enough for 16 TiB. Only gated sections use it, so
/// no interrupt or other CPU comes between its loads and stores.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct FrameStack<const N: usize> {
    count: AtomicU32,
    places: [AtomicU32; N],
}

impl<const N: usize> FrameStack<N> {
    pub(crate) fn new() -> Self {
        Self {
            count: AtomicU32::new(0),
            places: array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// Returns the number of blocks; exact inside a gated section.
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Pfn> + '_ {
        let places = self.places.iter().take(self.len() as usize);
        places.map(|pfn| Pfn(u64::from(pfn.load(Ordering::Relaxed))))
    }

    /// Puts a block on top of a stack that has room.
    #[inline]
    pub(crate) fn push(&self, pfn: Pfn) {
        let has_place = self.put(self.len(), pfn);
        debug_assert!(has_place, "{pfn} finds no place");
    }

    /// Puts a block on top of a stack of `count` blocks; returns whether there was room.
    #[inline]
    #[must_use = "what is not on the stack has to go elsewhere"]
    pub(crate) fn put(&self, count: u32, pfn: Pfn) -> bool {
        let Some(place) = self.places.get(count as usize) else {
            return false;
        };
        place.store(pfn.0 as u32, Ordering::Relaxed);
        self.count.store(count + 1, Ordering::Relaxed);
        true
    }

    /// Puts frames of one word on top, the lowest one first, and sets their entries to *cached*.
    /// Calls `step` before each.
    #[inline]
    pub(crate) fn push_word(
        &self,
        first: Pfn,
        mut mask: u64,
        entries: &[AtomicU32; 64],
        step: impl Fn(),
    ) {
        let mut free = &self.places[self.len() as usize..];
        while mask != 0 {
            // The loop takes one run of ones after the other. Mostly there is only one.
            let begin = mask.trailing_zeros();
            let end = begin + (!(mask >> begin)).trailing_zeros();
            let run = &entries[begin as usize..end as usize];
            let (places, rest) = free.split_at(run.len().min(free.len()));
            let mut pfn = first.0 as u32 | begin;
            // Both slices have one length, so that each frame takes one comparison.
            for (entry, place) in run[..places.len()].iter().zip(places) {
                step();
                entry.store(Entry::CACHED.0, Ordering::Relaxed);
                place.store(pfn, Ordering::Relaxed);
                pfn = pfn.wrapping_add(1);
            }
            free = rest;
            // The sum carries through the run, and so clears it.
            mask &= mask.wrapping_add(1 << begin);
        }
        let count = N - free.len();
        self.count.store(count as u32, Ordering::Relaxed);
    }

    /// Returns the block on top, and how many lie below it.
    #[inline]
    pub(crate) fn top(&self) -> Option<(Pfn, u32)> {
        // The index of an empty stack wraps, and is out of range: one test finds both.
        let below = self.len().wrapping_sub(1);
        let pfn = self.places.get(below as usize)?.load(Ordering::Relaxed);
        Some((Pfn(u64::from(pfn)), below))
    }

    /// Leaves the lowest `count` blocks of a stack that has at least so many.
    #[inline]
    pub(crate) fn cut_to(&self, count: u32) {
        self.count.store(count, Ordering::Relaxed);
    }

    /// Removes the top of a stack that is not empty. It loads the count again, which costs less
    /// than to keep it in a register.
    #[inline]
    pub(crate) fn drop_top(&self) {
        self.cut_to(self.len().wrapping_sub(1));
    }

    /// Takes the block on top.
    #[inline]
    pub(crate) fn pop(&self) -> Option<Pfn> {
        let (pfn, below) = self.top()?;
        self.cut_to(below);
        Some(pfn)
    }

    /// Takes up to `frames` blocks off the top. They stay readable for the rest of the gated
    /// section.
    #[inline]
    pub(crate) fn cut(&self, frames: u32) -> &[AtomicU32] {
        let count = self.len() as usize;
        let left = count.saturating_sub(frames as usize);
        self.cut_to(left as u32);
        &self.places[left..count]
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_top_comes_off_first_and_a_full_stack_takes_nothing() {
        let stack = FrameStack::<4>::new();
        assert_eq!((stack.pop(), stack.top()), (None, None));
        let put = [0, 1, 2, 3, 4, 5].map(|pfn| stack.put(stack.len(), Pfn(pfn)));
        assert_eq!(put, [true, true, true, true, false, false]);
        assert_eq!(stack.len(), 4);
        assert!(stack.iter().eq((0..4).map(Pfn)));
        assert_eq!(stack.top(), Some((Pfn(3), 3)));
        assert_eq!(stack.pop(), Some(Pfn(3)));
        let cut = stack.cut(2).iter().map(|pfn| pfn.load(Ordering::Relaxed));
        assert!(cut.eq([1, 2]));
        stack.push_word(Pfn(64), 0b1010, &entries(), || ());
        assert!(stack.iter().eq([0, 65, 67].map(Pfn)));
        assert_eq!(stack.cut(9).len(), 3);
        assert_eq!(stack.len(), 0);
    }

    fn entries() -> [AtomicU32; 64] {
        array::from_fn(|_| AtomicU32::new(Entry::FREE.0))
    }

    #[test]
    fn the_frames_of_a_word_go_on_top_in_order_and_only_they_are_cached() {
        let mut random = 1_u64;
        for round in 0..500 {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let mask = match round {
                0 => 0,
                1 => u64::MAX,
                2 => 1 << 63,
                3 => 1 << 63 | 1,
                _ if round % 2 == 0 => random & random.rotate_left(17),
                _ => random | random.rotate_left(17) | random >> 5,
            };
            let (stack, entries) = (FrameStack::<120>::new(), entries());
            stack.push(Pfn(7));
            stack.push_word(Pfn(6400), mask, &entries, || ());
            let bits = (0..64).filter(|bit| mask >> bit & 1 == 1);
            let expected = bits.map(|bit| Pfn(6400 + bit));
            assert!(
                stack.iter().eq([Pfn(7)].into_iter().chain(expected)),
                "{mask:#x}"
            );
            for (bit, entry) in entries.iter().enumerate() {
                let is_cached = Entry(entry.load(Ordering::Relaxed)) == Entry::CACHED;
                assert_eq!(is_cached, mask >> bit & 1 == 1, "{mask:#x}, {bit}");
            }
        }
    }
}
