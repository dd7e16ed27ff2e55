//! A stack of blocks by their first frames, of which each CPU has one for each kind that it caches.

use crate::{Pfn, memory::bits_of};
use core::array;
use tidemark_sync::atomic::{AtomicU32, Ordering};

/// At most `N` frame numbers below 2^32, 16 TiB. Touched inside sections only, so that what is read
/// here and written back there is one step.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Stack<const N: usize> {
    count: AtomicU32,
    places: [AtomicU32; N],
}

impl<const N: usize> Stack<N> {
    pub(crate) fn new() -> Self {
        Self {
            count: AtomicU32::new(0),
            places: array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// How many there are; exact inside a section.
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Pfn> + '_ {
        let places = self.places.iter().take(self.len() as usize);
        places.map(|pfn| Pfn(u64::from(pfn.load(Ordering::Relaxed))))
    }

    /// Puts one on top, if there is room.
    #[inline]
    pub(crate) fn push(&self, pfn: Pfn) {
        self.put(self.len(), pfn);
    }

    /// Puts one on top of the `count` that there are, if there is room.
    #[inline]
    pub(crate) fn put(&self, count: u32, pfn: Pfn) {
        if let Some(place) = self.places.get(count as usize) {
            place.store(pfn.0 as u32, Ordering::Relaxed);
            self.count.store(count + 1, Ordering::Relaxed);
        }
    }

    /// Puts frames of one word on top, the lowest one first, and tells `put` of each.
    #[inline]
    pub(crate) fn push_word(&self, first: Pfn, mask: u64, mut put: impl FnMut(u32)) {
        let mut room = self.places[self.len() as usize..].iter();
        for (bit, place) in bits_of(mask).zip(&mut room) {
            put(bit);
            place.store(first.0 as u32 | bit, Ordering::Relaxed);
        }
        let count = N - room.len();
        self.count.store(count as u32, Ordering::Relaxed);
    }

    /// The one on top, and how many lie below it.
    #[inline]
    pub(crate) fn top(&self) -> Option<(Pfn, u32)> {
        // An empty stack wraps to a place that does not exist: one test for both.
        let below = self.len().wrapping_sub(1);
        let pfn = self.places.get(below as usize)?.load(Ordering::Relaxed);
        Some((Pfn(u64::from(pfn)), below))
    }

    /// Leaves the lowest `count`, of more.
    #[inline]
    pub(crate) fn cut_to(&self, count: u32) {
        self.count.store(count, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn pop(&self) -> Option<Pfn> {
        let (pfn, below) = self.top()?;
        self.cut_to(below);
        Some(pfn)
    }

    /// Takes up to `frames` off the top. They stay readable for the rest of the section.
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
        let stack = Stack::<4>::new();
        assert_eq!((stack.pop(), stack.top()), (None, None));
        (0..6).for_each(|pfn| stack.push(Pfn(pfn)));
        assert_eq!(stack.len(), 4);
        assert!(stack.iter().eq((0..4).map(Pfn)));
        assert_eq!(stack.top(), Some((Pfn(3), 3)));
        assert_eq!(stack.pop(), Some(Pfn(3)));
        let cut = stack.cut(2).iter().map(|pfn| pfn.load(Ordering::Relaxed));
        assert!(cut.eq([1, 2]));
        stack.push_word(Pfn(64), 0b1010, |_| ());
        assert!(stack.iter().eq([0, 65, 67].map(Pfn)));
        assert_eq!(stack.cut(9).len(), 3);
        assert_eq!(stack.len(), 0);
    }
}
