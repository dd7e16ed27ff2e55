//! A block of frames as a linear value.

use crate::{
    base::{
        handle::FrameHandle,
        owner::{FrameState, Owner},
        types::{Order, Pfn},
    },
    cache::cpu::PerCpu,
    frames::Frames,
};

/// An allocated block of 2^order frames. It cannot be cloned. Dropping it frees it, in any context.
///
/// It has two words, so that calls pass it in registers.
#[must_use = "dropping a block frees it"]
pub struct Block<'f, 'm, P: PerCpu> {
    pub(crate) frames: &'f Frames<'m, P>,
    pub(crate) handle: FrameHandle,
}

impl<'f, 'm, P: PerCpu> Block<'f, 'm, P> {
    /// Returns the first frame.
    #[inline]
    pub fn pfn(&self) -> Pfn {
        self.handle.pfn()
    }

    /// Returns the order.
    #[inline]
    pub fn order(&self) -> Order {
        self.handle.order()
    }

    /// Returns the owner in the block's entry. Any context.
    pub fn owner(&self) -> Owner {
        match self.frames.frame_state(self.pfn()) {
            FrameState::Allocated { owner, .. } => owner,
            _ => Owner::NONE,
        }
    }

    /// Sets the owner. A block without one counts as a birth under way, and an offline waits for
    /// it. Any context.
    pub fn set_owner(&self, owner: Owner) {
        self.frames.books().label(self.pfn(), self.order(), owner);
    }

    /// Splits into two halves of the next lower order, lower one first, with the same owner. Any
    /// context.
    ///
    /// # Errors
    ///
    /// Returns the block unchanged if its order is 0.
    pub fn split(self) -> Result<(Self, Self), Self> {
        let half = self.order().get().checked_sub(1).and_then(Order::new);
        let Some(half) = half else {
            return Err(self);
        };
        let frames = self.frames;
        frames
            .caches()
            .halve(self.pfn(), self.order(), half, self.owner());
        let lower = self.leak().pfn();
        let block = |pfn| frames.block(pfn, half);
        Ok((block(lower), block(Pfn(lower.0 + half.frames()))))
    }

    /// Turns the block into a handle, which can be stored in an atomic word. The frames are lost
    /// unless [`Frames::adopt`] takes the handle back. Any context.
    pub fn leak(self) -> FrameHandle {
        let handle = self.handle.again();
        core::mem::forget(self);
        handle
    }
}

impl<'m, P: PerCpu> Frames<'m, P> {
    /// Turns a handle back into a block. Any context.
    ///
    /// # Errors
    ///
    /// Returns the handle if no such block is allocated; the error is reported to the platform.
    pub fn adopt<'f>(&'f self, handle: FrameHandle) -> Result<Block<'f, 'm, P>, FrameHandle> {
        if self
            .caches()
            .check_allocated(handle.pfn(), handle.order())
            .is_none()
        {
            return Err(handle);
        }
        Ok(self.block(handle.pfn(), handle.order()))
    }

    /// Frees a block by number.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn free_raw(&self, pfn: Pfn, order: Order) {
        self.caches().free_hot(FrameHandle::new(pfn, order));
    }
}

impl<P: PerCpu> Drop for Block<'_, '_, P> {
    #[inline]
    fn drop(&mut self) {
        self.frames.caches().free_hot(self.handle.again());
    }
}

impl<P: PerCpu> core::fmt::Debug for Block<'_, '_, P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Block")
            .field("pfn", &self.pfn())
            .field("order", &self.order())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_survives_its_word_and_other_words_are_refused() {
        for order in (0..=10).filter_map(Order::new) {
            let pfn = Pfn(0xfff_ffff);
            let handle = FrameHandle::new(pfn, order);
            assert_eq!((handle.pfn(), handle.order()), (pfn, order));
            assert_eq!(handle.single() == pfn, order == Order::ZERO);
            let raw = handle.again().into_raw();
            assert_ne!(raw, 0);
            assert_eq!(FrameHandle::from_raw(raw), Some(handle));
        }
        assert_eq!(FrameHandle::from_raw(0), None);
        for order in 11..0x80 {
            assert_eq!(FrameHandle::from_raw(order << 1 | 1), None, "order {order}");
        }
    }
}
