//! The arrival and the removal of one DIMM.

use super::board::Obstacle;
use super::policy::OnlineAs;
use super::slot::SlotState;
use crate::arch::paging::PagingError;
use crate::mm::carve::DimmCut;
use crate::mm::{alloc_longlived, direct_map, frames};
use core::fmt;
use core::mem::{align_of, size_of};
use core::ops::Range;
use tidemark_frames::{
    AddError, AllocError, FRAME_SIZE, NodeId, OfflineError, OfflineStats, OnlineError, OnlineStats,
    Order, Owner, OwnerKind, Pfn, PfnRange, SectionMeta, SectionNo, ZoneId, ZoneKind,
};
use tidemark_sync::Task;

/// A DIMM in a slot.
#[derive(Clone, Debug)]
pub(super) struct Dimm {
    pub address: u64,
    pub size_bytes: u64,
    pub cut: DimmCut,
    pub zone: ZoneId,
    pub kind: OnlineAs,
}

/// A reason why a DIMM could not be brought online.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArriveError {
    Books(AllocError),
    Add(AddError),
    Map(PagingError),
    Online(OnlineError),
}

impl fmt::Display for ArriveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Books(_) => f.write_str("no memory for its books"),
            Self::Add(AddError::TooHigh { .. }) => {
                f.write_str("it lies at 16 TiB or above, where this kernel manages no memory")
            }
            Self::Add(error) => write!(f, "its sections cannot be added: {error:?}"),
            Self::Map(error) => write!(f, "it cannot be mapped: {error:?}"),
            Self::Online(error) => write!(f, "its frames cannot be onlined: {error:?}"),
        }
    }
}

/// A reason why a DIMM could not leave; everything was undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeaveError {
    Offline(OfflineError),
    Unmap(PagingError),
}

impl LeaveError {
    pub fn obstacle(&self) -> Obstacle {
        match *self {
            Self::Offline(
                OfflineError::Unmovable { at, owner } | OfflineError::Deadline { at, owner },
            ) => Obstacle::Frame { at, owner },
            _ => Obstacle::Other,
        }
    }
}

impl fmt::Display for LeaveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offline(OfflineError::Unmovable { at, owner }) => {
                write!(f, "frame {at} belongs to {owner} and cannot be moved")
            }
            Self::Offline(OfflineError::Deadline { at, owner }) => {
                write!(f, "frame {at} of {owner} was still in use at the deadline")
            }
            Self::Offline(error) => write!(f, "{error:?}"),
            Self::Unmap(error) => write!(f, "it cannot be unmapped: {error:?}"),
        }
    }
}

impl Dimm {
    /// Describes a DIMM by the registers of its slot.
    pub fn new(state: &SlotState, node: u8, kind: OnlineAs) -> Self {
        let zone = match kind {
            OnlineAs::Normal => ZoneKind::Normal,
            OnlineAs::Movable => ZoneKind::Movable,
        };
        Self {
            address: state.address,
            size_bytes: state.size_bytes,
            cut: DimmCut::new(state.address, state.size_bytes),
            zone: ZoneId::new(NodeId(node), zone),
            kind,
        }
    }

    /// Returns the number of usable frames.
    pub fn frames(&self) -> u64 {
        let frames = self.cut.frames();
        frames.end - frames.start
    }

    /// Returns the usable frames.
    pub fn range(&self) -> PfnRange {
        let frames = self.cut.frames();
        PfnRange::new(Pfn(frames.start), Pfn(frames.end))
    }

    fn bytes(&self) -> Range<u64> {
        let frames = self.cut.frames();
        frames.start * FRAME_SIZE..frames.end * FRAME_SIZE
    }

    /// Maps the DIMM, gives its memory sections their metadata, and hands its frames to their zone.
    ///
    /// # Errors
    ///
    /// Returns an [`ArriveError`]; the DIMM is unmapped again.
    pub fn arrive(&self, task: &Task) -> Result<OnlineStats, ArriveError> {
        if self.cut.sections.is_empty() {
            return Ok(OnlineStats::default());
        }
        direct_map::add(self.bytes(), task).map_err(ArriveError::Map)?;
        let mapped = Mapped { dimm: self, task };
        for section in self.cut.sections.clone() {
            add_books(SectionNo(section as usize), task)?;
        }
        let stats = frames()
            .online_range(self.range(), self.zone, task)
            .map_err(ArriveError::Online)?;
        mapped.keep();
        Ok(stats)
    }

    /// Empties the DIMM and unmaps it on every CPU. After that it can be ejected. `deadline_ns` is
    /// since boot.
    ///
    /// # Errors
    ///
    /// Returns a [`LeaveError`]. The DIMM is online again, unless mapping it again fails.
    pub fn leave(&self, deadline_ns: u64, task: &Task) -> Result<OfflineStats, LeaveError> {
        if self.cut.sections.is_empty() {
            return Ok(OfflineStats::default());
        }
        let stats = frames()
            .offline_range(self.range(), deadline_ns, task)
            .map_err(LeaveError::Offline)?;
        if let Err(error) = direct_map::remove(self.bytes(), task) {
            // Part of the DIMM may be unmapped. Mapping what is mapped already changes nothing.
            let remapped = direct_map::add(self.bytes(), task);
            if remapped.is_ok() {
                let online = frames().online_range(self.range(), self.zone, task);
                debug_assert!(
                    online.is_ok(),
                    "a range that has just left does not come back"
                );
            }
            return Err(LeaveError::Unmap(error));
        }
        Ok(stats)
    }
}

/// Unmaps a DIMM again when it is dropped, unless it is kept.
struct Mapped<'a> {
    dimm: &'a Dimm,
    task: &'a Task,
}

impl Mapped<'_> {
    fn keep(self) {
        core::mem::forget(self);
    }
}

impl Drop for Mapped<'_> {
    fn drop(&mut self) {
        // An unused DIMM that stays partly mapped does no harm until the next arrival.
        let _ = direct_map::remove(self.dimm.bytes(), self.task);
    }
}

/// Gives a memory section its metadata, unless it has had some since an earlier arrival. The
/// metadata stays for good, so it lies in memory that never leaves.
fn add_books(section: SectionNo, task: &Task) -> Result<(), ArriveError> {
    const BYTES: u64 = size_of::<SectionMeta>() as u64;
    const _: () = assert!(align_of::<SectionMeta>() as u64 <= FRAME_SIZE);
    if frames().has_section(section) {
        return Ok(());
    }
    let order = Order::new(BYTES.div_ceil(FRAME_SIZE).next_power_of_two().ilog2() as u8)
        .expect("a section's books fit a block of frames");
    let owner = Owner::new(OwnerKind::Kernel, section.0 as u32);
    let mut room = alloc_longlived(order, owner, task).map_err(ArriveError::Books)?;
    direct_map::content_mut(&mut room).fill(0);
    let start = direct_map::content(&room).as_ptr();
    // The frames are given away for good.
    let _ = room.leak();
    // SAFETY: the frames belong to this memory section for good, and are zeroed, aligned to their
    // size and large enough. Zeroes are valid metadata, which consists of atomics only.
    let books: &'static SectionMeta = unsafe { &*start.cast() };
    frames()
        .add_section(section, books)
        .map_err(ArriveError::Add)
}
