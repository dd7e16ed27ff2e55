//! A block as a word.

use crate::base::types::{Order, Pfn};

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

    /// Returns the handle once more, for a caller that gives this one up.
    #[inline]
    pub(crate) const fn again(&self) -> Self {
        Self(self.0)
    }

    /// Returns the number of a single frame; of a larger block, one that no frame has.
    #[inline]
    pub(crate) const fn single(&self) -> Pfn {
        Pfn(self.0)
    }

    /// Returns the first frame.
    #[inline]
    pub fn pfn(&self) -> Pfn {
        Pfn(self.0 & ((1 << Self::ORDER_SHIFT) - 1))
    }

    /// Returns the size.
    #[inline]
    pub fn order(&self) -> Order {
        Order::truncated((self.0 >> Self::ORDER_SHIFT) as u8)
    }

    /// Packs into a word that is never 0, for an atomic slot.
    pub fn into_raw(self) -> u64 {
        self.pfn().0 << 8 | u64::from(self.order().get()) << 1 | 1
    }

    /// Unpacks a word made by [`FrameHandle::into_raw`]; nothing for any other. The caller takes
    /// care to unpack a word once: [`adopt`](crate::Frames::adopt) finds a second free only if
    /// nobody got the frame in between.
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
