//! Freeing: the checks, then the cache or the area.

use crate::{
    Block, FrameHandle, FrameState, Frames, FreeFault, Order, Owner, Pfn, Platform, ZoneId,
    memory::AreaRef,
    owner::Entry,
    platform::{step, window},
    whole::Returned,
};
use tidemark_sync::atomic::{AtomicU32, Ordering};

impl<'m, P: Platform> Frames<'m, P> {
    /// Frees a block by number.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn free_raw(&self, pfn: Pfn, order: Order) {
        self.free_hot(FrameHandle::new(pfn, order));
    }

    /// Claims a block whose entry was checked for its free, if the platform wants that: then the
    /// entry says free from here on, a death in flight. Returns whether nobody else had claimed it.
    #[inline]
    pub(crate) fn claim_for_free(&self, place: &AtomicU32, order: Order) -> bool {
        if !self.platform.frees_by_exchange() {
            return true;
        }
        // Between the check and this another free of the block may do both.
        window!(self);
        let claim = |entry| {
            let entry = Entry(entry);
            entry.is_allocated(order).then_some(Entry::FREE.0)
        };
        // Relaxed: the two frees agree on the entry alone.
        place
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim)
            .is_ok()
    }

    /// Reports a free that lost to another one of the same block.
    #[cold]
    pub(crate) fn report_late(&self, pfn: Pfn, order: Order) {
        let found = self.area_of(pfn);
        let entry = found.map_or(Entry::ABSENT, |(area, frame)| area.entry_now(frame));
        self.report_fault(FreeFault::DoubleFree, pfn, order, entry);
    }

    /// The area and index of an allocated block; reports why not, otherwise.
    #[inline]
    pub(crate) fn check_allocated(&self, pfn: Pfn, order: Order) -> Option<(AreaRef<'m>, u32)> {
        let found = self.area_of(pfn);
        let entry = found.map_or(Entry::ABSENT, |(area, frame)| area.entry_now(frame));
        if entry.is_allocated(order) {
            return found;
        }
        self.report_not_allocated(FrameHandle::new(pfn, order), entry);
        None
    }

    /// Reports why a block cannot be freed: its entry was found to say something else.
    #[cold]
    #[inline(never)]
    pub(crate) fn report_not_allocated(&self, handle: FrameHandle, entry: Entry) {
        let (pfn, order) = (handle.pfn(), handle.order());
        let found = self.area_of(pfn);
        let is_gone = found.is_none_or(|(area, _)| !area.core().state().is_present());
        let fault = match entry.state() {
            _ if is_gone => FreeFault::Foreign,
            FrameState::Free => FreeFault::DoubleFree,
            FrameState::Cached => FreeFault::DoubleFreeCached,
            FrameState::Allocated { .. } => FreeFault::WrongOrder,
            FrameState::Absent => FreeFault::Foreign,
        };
        self.report_fault(fault, pfn, order, entry);
    }

    /// A larger block, into its areas; its entry says free already. Pinned.
    pub(crate) fn return_block(&self, area: AreaRef<'m>, frame: u32, order: Order) {
        match order {
            Order::MAX => self.free_pair(area),
            Order::HUGE => self.free_area(area),
            _ => self.free_run_of(area, frame, order),
        }
    }

    /// Orders 1 to 8, into the area.
    fn free_run_of(&self, area: AreaRef<'m>, frame: u32, order: Order) {
        // Read before the addition, after which the area may leave.
        let zone = area.zone();
        let (cleared, before) = area.core().free(frame, order);
        if u64::from(cleared) != order.frames() {
            let pfn = Pfn(area.start().0 + u64::from(frame));
            self.report_fault(FreeFault::BitsClear, pfn, order, Entry::FREE);
        }
        step!(self);
        self.gain_returned(zone, Returned::to(before, cleared));
    }

    /// Order 9.
    fn free_area(&self, area: AreaRef<'m>) {
        let zone = area.zone();
        let Some(before) = area.core().give() else {
            self.report_fault(FreeFault::BitsClear, area.start(), Order::HUGE, Entry::FREE);
            return;
        };
        step!(self);
        self.gain_returned(zone, Returned::whole(&[before]));
    }

    /// Order 10.
    fn free_pair(&self, area: AreaRef<'m>) {
        let zone = area.zone();
        let Some(before) = area.core().pair.give() else {
            self.report_fault(FreeFault::BitsClear, area.start(), Order::MAX, Entry::FREE);
            return;
        };
        step!(self);
        self.gain_returned(zone, Returned::whole(&before));
    }

    /// Takes a handle back as a block.
    ///
    /// # Errors
    ///
    /// Returns the handle if no such block is allocated; the error is reported to the platform.
    pub fn adopt<'f>(&'f self, handle: FrameHandle) -> Result<Block<'f, 'm, P>, FrameHandle> {
        if self.check_allocated(handle.pfn(), handle.order()).is_none() {
            return Err(handle);
        }
        Ok(self.block(handle.pfn(), handle.order()))
    }

    /// What a frame's entry says; [`FrameState::Absent`] for what is not the allocator's.
    pub fn frame_state(&self, pfn: Pfn) -> FrameState {
        match self.area_of(pfn) {
            Some((area, frame)) if area.core().state().is_present() => {
                area.entry_now(frame).state()
            }
            _ => FrameState::Absent,
        }
    }

    /// Changes the owner of an allocated block by its first frame, if it is `from` now; returns
    /// whether it was.
    pub fn change_owner(&self, pfn: Pfn, from: Owner, to: Owner) -> bool {
        let Some((area, frame)) = self.area_of(pfn) else {
            return false;
        };
        let FrameState::Allocated { order, .. } = area.entry_now(frame).state() else {
            return false;
        };
        // Relaxed: the entry is a label; what it labels is published by whoever hands the frame on.
        area.entry(frame)
            .compare_exchange(
                Entry::allocated(order, from).0,
                Entry::allocated(order, to).0,
                Ordering::Relaxed,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    /// Writes the entry of an allocated block; its sole owner calls it.
    pub(crate) fn label(&self, pfn: Pfn, order: Order, owner: Owner) {
        if let Some((area, frame)) = self.area_of(pfn) {
            let entry = Entry::allocated(order, owner);
            area.entry(frame).store(entry.0, Ordering::Relaxed);
        }
    }

    /// Turns an allocated block into two halves; its sole owner calls it. An offline that scans
    /// meanwhile may see the upper half without an entry: in flight, it looks again.
    pub(crate) fn halve(&self, pfn: Pfn, order: Order, half: Order, owner: Owner) {
        if order == Order::HUGE
            && let Some((area, _)) = self.area_of(pfn)
        {
            area.core().break_up();
        }
        step!(self);
        self.label(pfn, half, owner);
        step!(self);
        self.label(Pfn(pfn.0 + half.frames()), half, owner);
    }

    /// The zone of a frame's area, while that is online.
    pub fn zone_of(&self, pfn: Pfn) -> Option<ZoneId> {
        let (area, _) = self.area_of(pfn)?;
        area.core().state().is_present().then(|| area.zone())
    }
}

#[cfg(all(test, not(loom)))]
#[path = "free_tests.rs"]
mod tests;
