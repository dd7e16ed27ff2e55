//! A block as a word.

use crate::base::types::{Order, Pfn};

/// A block without its allocator, in one word that can be passed between contexts. The type is
/// linear: it is neither `Copy` nor `Clone`.
///
/// Bits 0 to 55 hold the number of the first frame, the bits above hold the order. A dropped handle
/// does not free its block.
#[derive(PartialEq, Eq)]
#[must_use = "a handle that is dropped loses its frames"]
pub struct FrameHandle(u64);

impl FrameHandle {
    const ORDER_SHIFT: u32 = 56;

    #[inline]
    pub(crate) const fn new(pfn: Pfn, order: Order) -> Self {
        Self(pfn.0 | (order.get() as u64) << Self::ORDER_SHIFT)
    }

    /// Returns a copy, for a caller that gives this handle up.
    #[inline]
    pub(crate) const fn again(&self) -> Self {
        Self(self.0)
    }

    /// Returns the whole word as a frame number. It is the frame's number at order 0; for a larger
    /// block it is a number that no frame has.
    #[inline]
    pub(crate) const fn single(&self) -> Pfn {
        Pfn(self.0)
    }

    /// Returns the first frame.
    #[inline]
    pub fn pfn(&self) -> Pfn {
        Pfn(self.0 & ((1 << Self::ORDER_SHIFT) - 1))
    }

    /// Returns the order.
    #[inline]
    pub fn order(&self) -> Order {
        Order::truncated((self.0 >> Self::ORDER_SHIFT) as u8)
    }

    /// Packs into a word that is never 0, for an atomic slot.
    pub fn into_raw(self) -> u64 {
        self.pfn().0 << 8 | u64::from(self.order().get()) << 1 | 1
    }

    /// Unpacks a word made by [`FrameHandle::into_raw`]; returns `None` for a word that cannot come
    /// from there. The caller must unpack a word only once: [`adopt`](crate::Frames::adopt) finds a
    /// second free only if the frame was not allocated again in between.
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
