//! A block of frames as a linear value.

use crate::{FrameState, Frames, Order, Owner, Pfn, Platform};

/// An allocated block of frames. It cannot be cloned; dropping it frees it, in any context.
///
/// Two words: calls return and take it in registers.
#[must_use = "dropping a block frees it"]
pub struct Block<'f, 'm, P: Platform> {
    pub(crate) frames: &'f Frames<'m, P>,
    pub(crate) handle: FrameHandle,
}

impl<'f, 'm, P: Platform> Block<'f, 'm, P> {
    /// First frame.
    #[inline]
    pub fn pfn(&self) -> Pfn {
        self.handle.pfn()
    }

    /// Size.
    #[inline]
    pub fn order(&self) -> Order {
        self.handle.order()
    }

    /// Who owns it, as its entry says.
    pub fn owner(&self) -> Owner {
        match self.frames.frame_state(self.pfn()) {
            FrameState::Allocated { owner, .. } => owner,
            _ => Owner::NONE,
        }
    }

    /// Names the owner: a block without one is in flight, and an offline waits for it.
    pub fn set_owner(&self, owner: Owner) {
        self.frames.label(self.pfn(), self.order(), owner);
    }

    /// Splits into two halves, lower one first, with the same owner.
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
        frames.halve(self.pfn(), self.order(), half, self.owner());
        let lower = self.leak().pfn();
        let block = |pfn| frames.block(pfn, half);
        Ok((block(lower), block(Pfn(lower.0 + half.frames()))))
    }

    /// Gives up the allocator's reference: a handle can be sent through atomics. It must come back
    /// by [`Frames::adopt`], else the frames are lost.
    pub fn leak(self) -> FrameHandle {
        let handle = self.handle.again();
        core::mem::forget(self);
        handle
    }
}

impl<P: Platform> Drop for Block<'_, '_, P> {
    #[inline]
    fn drop(&mut self) {
        self.frames.free_hot(self.handle.again());
    }
}

impl<P: Platform> core::fmt::Debug for Block<'_, '_, P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Block")
            .field("pfn", &self.pfn())
            .field("order", &self.order())
            .finish_non_exhaustive()
    }
}

/// A block on its way between contexts, without its allocator. Linear: neither `Copy` nor `Clone`.
///
/// One word: the number of the first frame in bits 0 to 55, the order above.
#[derive(PartialEq, Eq)]
#[must_use = "a handle that is dropped loses its frames"]
pub struct FrameHandle(u64);

impl FrameHandle {
    const ORDER_SHIFT: u32 = 56;

    #[inline]
    pub(crate) const fn new(pfn: Pfn, order: Order) -> Self {
        Self(pfn.0 | (order.get() as u64) << Self::ORDER_SHIFT)
    }

    /// The same once more, for who gives this one up.
    #[inline]
    const fn again(&self) -> Self {
        Self(self.0)
    }

    /// The number of a single frame; of a larger block, one that no frame has.
    #[inline]
    pub(crate) const fn single(&self) -> Pfn {
        Pfn(self.0)
    }

    /// First frame.
    #[inline]
    pub fn pfn(&self) -> Pfn {
        Pfn(self.0 & ((1 << Self::ORDER_SHIFT) - 1))
    }

    /// Size.
    #[inline]
    pub fn order(&self) -> Order {
        Order::truncated((self.0 >> Self::ORDER_SHIFT) as u8)
    }

    /// Packs into a word that is never 0, for an atomic slot.
    pub fn into_raw(self) -> u64 {
        self.pfn().0 << 8 | u64::from(self.order().get()) << 1 | 1
    }

    /// Unpacks a word made by [`FrameHandle::into_raw`]; nothing for any other. The caller takes
    /// care to unpack a word once: [`Frames::adopt`] finds a second free only if nobody got the
    /// frame in between.
    pub fn from_raw(raw: u64) -> Option<Self> {
        let order = Order::new((raw >> 1 & 0x7f) as u8)?;
        (raw & 1 == 1).then_some(Self::new(Pfn(raw >> 8), order))
    }
}

impl core::fmt::Debug for FrameHandle {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("FrameHandle")
            .field("pfn", &self.pfn())
            .field("order", &self.order())
            .finish()
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
