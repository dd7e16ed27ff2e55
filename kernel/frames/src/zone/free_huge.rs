//! Searches for a wholly free pageblock (orders 9 and 10), and the count that keeps them from
//! missing one.
//!
//! A search looks at one pageblock after the other. One behind it may become free while the last
//! one before it is taken. So a search may find none although its zone always had one. The free
//! that completes a pageblock therefore counts it before it returns, and a search that finds
//! nothing begins again if the count has changed. A wholly free pageblock that is not counted yet
//! is still being freed.
//!
//! A search begins again only a few times. Single pageblocks that other requests give and take are
//! of no use to an order 10, and the search may run in an NMI, so it must end.

use crate::{
    base::{
        mutant::{self, Mutant, weakened},
        platform::{Platform, step},
        types::ZoneId,
    },
    pageblock::{bits::StateFilter, flags::PageblockFlags, section_meta::PageblockRef},
    zone::Zones,
};
use tidemark_sync::atomic::{AtomicU32, Ordering, fence};

/// The most looks of one search at its zone.
const LOOKS: u64 = 8;
/// The most pageblocks that the looks after the first one go through together, since a search may
/// run in an NMI. One more look is always made, so in a zone above 128 GiB a search looks twice.
const PAGEBLOCKS_AGAIN: u64 = 65_536;

/// The number of pageblocks of a zone that have become wholly free. It wraps.
#[derive(Debug, Default)]
pub(crate) struct FreeHugeSeq(AtomicU32);

impl FreeHugeSeq {
    /// Counts a pageblock that is wholly free by its state, which was changed before this call.
    pub(crate) fn note(&self) {
        // Release pairs with the acquire in `search`: a search that begins after this sees the
        // pageblock.
        let release = weakened(Mutant::RelaxedNote, Ordering::Release);
        self.0.fetch_add(1, release);
        // The fence pairs with that in `search`: a search that sees a pageblock taken which was
        // taken after this sees the count, too.
        if !mutant::is(Mutant::NoteWithoutFence) {
            fence(Ordering::SeqCst);
        }
    }

    /// Repeats a search that finds nothing until no pageblock was counted during a look, but looks
    /// at most `looks` times.
    #[inline]
    fn search<R>(&self, looks: u64, mut once: impl FnMut() -> Option<R>) -> Option<R> {
        for _ in 0..looks {
            // Acquire pairs with the release in `note`.
            let before = self.0.load(Ordering::Acquire);
            let found = once();
            if found.is_some() || mutant::is(Mutant::FreeHugeNotRecounted) {
                return found;
            }
            // The fence pairs with that in `note`.
            fence(Ordering::SeqCst);
            if self.0.load(Ordering::Relaxed) == before {
                break;
            }
        }
        None
    }
}

/// Returns the most looks of one search at a zone that spans `pageblocks` pageblocks.
fn looks(pageblocks: u64) -> u64 {
    1 + (PAGEBLOCKS_AGAIN / pageblocks.max(1)).clamp(1, LOOKS - 1)
}

impl<'m, P: Platform> Zones<'m, P> {
    /// Searches a zone for a wholly free pageblock, from pageblock `hint` on.
    #[inline]
    pub(crate) fn search_huge<R>(
        &self,
        zone: ZoneId,
        hint: u64,
        mut visit: impl FnMut(PageblockRef<'m>, PageblockFlags) -> Option<R>,
    ) -> Option<R> {
        let (first, end) = self.zone(zone).span();
        self.zone(zone).free_huge.search(looks(end - first), || {
            step!(self);
            let visit = |pageblock: PageblockRef<'m>,
                         flags: PageblockFlags,
                         _: &mut StateFilter| visit(pageblock, flags);
            let found = self.search(zone, hint, u32::MAX, StateFilter::EMPTY, visit);
            step!(self);
            found
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{testing::*, *};
    use std::{cell::RefCell, panic::catch_unwind, rc::Rc};

    const NORMAL: ZoneId = ZoneId::new(NodeId(0), ZoneKind::Normal);

    fn take(frames: &'static TestFrames) -> Option<TestBlock> {
        frames.alloc_in_zone(ContextKind::Task, NORMAL, Order::HUGE, test_owner(1))
    }

    /// Three pageblocks may be free. From step `first` of a search on, another CPU takes them in
    /// turn, and has two of them at most.
    fn chased(first: usize) {
        let frames = normal_machine(2, 3);
        let mut taken: Vec<_> = std::iter::from_fn(|| take(frames)).collect();
        assert_eq!(taken.len(), 3 * 64);
        for block in 0..3 {
            drop(taken.remove(block * 63));
        }
        frames.drain_all(&task());
        let theirs = Rc::new(RefCell::new(on_cpu(1, || take(frames))));
        assert!(theirs.borrow().is_some());
        let (mut step, ours) = (0, Rc::clone(&theirs));
        let exchange = move || {
            // The number of exchanges is bounded, since the search goes on for as long as
            // pageblocks come and go.
            step += 1;
            if (first..first + 8).contains(&step) {
                on_cpu(1, || {
                    let next = take(frames);
                    ours.replace(next);
                    frames.drain_local(&hard_irq());
                });
            }
        };
        let hook = at_steps(exchange);
        let found = take(frames);
        drop(hook);
        assert!(found.is_some(), "a pageblock was free all the time");
        drop((found, taken, theirs.take()));
        frames.drain_all(&task());
        assert_sound(frames);
    }

    #[test]
    fn a_search_ends_though_pageblocks_come_and_go_for_ever() {
        let frames = normal_machine(2, 1);
        let mut taken: Vec<_> = std::iter::from_fn(|| take(frames)).collect();
        // The other half of this pair stays taken, so no order 10 can come of it.
        drop(taken.remove(7));
        frames.drain_all(&task());
        let theirs = Rc::new(RefCell::new(None));
        let (mut steps, ours) = (0, Rc::clone(&theirs));
        let hook = at_steps(move || {
            steps += 1;
            assert!(steps < 1_000, "the search goes on and on");
            on_cpu(1, || {
                ours.replace(None);
                frames.drain_local(&hard_irq());
                ours.replace(take(frames));
            });
        });
        let found = frames.alloc_in_zone(ContextKind::Task, NORMAL, Order::MAX, test_owner(2));
        drop(hook);
        assert!(found.is_none());
        drop((taken, theirs.take()));
        frames.drain_all(&task());
        assert_sound(frames);
    }

    /// Counts the looks of a search that finds nothing, while `coming` pageblocks become free
    /// during each of its first `during` looks.
    fn looked(coming: u32, during: u64) -> u64 {
        let (free_huge, mut looks) = (FreeHugeSeq::default(), 0);
        let found = free_huge.search(LOOKS, || {
            looks += 1;
            if looks <= during {
                (0..coming).for_each(|_| free_huge.note());
            }
            None::<()>
        });
        assert!(found.is_none());
        looks
    }

    #[test]
    fn a_search_begins_again_while_pageblocks_come_and_ends_where_none_does() {
        assert_eq!(looked(1, 0), 1);
        for during in 1..LOOKS {
            assert_eq!(looked(1, during), during + 1);
            assert_eq!(looked(2, during), during + 1);
        }
        assert_eq!(looked(1, 100), 8);
    }

    #[test]
    fn a_search_of_any_zone_looks_twice_and_of_none_at_more_pageblocks_again_than_128_gib_have() {
        for gib in [0, 1, 16, 18, 19, 64, 128, 129, 1024, 16 * 1024] {
            let pageblocks = gib << 9;
            let looks = looks(pageblocks);
            assert!((2..=LOOKS).contains(&looks), "{gib} GiB: {looks}");
            let is_bounded = looks == 2 || (looks - 1) * pageblocks <= 128 << 9;
            assert!(is_bounded, "{gib} GiB: {looks}");
        }
        assert_eq!([1, 18, 64, 1024].map(|gib| looks(gib << 9)), [8, 8, 3, 2]);
    }

    #[test]
    fn a_whole_pageblock_is_had_while_one_is_free_all_the_time() {
        let chase = || (0..8).for_each(chased);
        chase();
        let mistake = Mutant::FreeHugeNotRecounted;
        let caught = catch_unwind(|| mutant::with(mistake, chase));
        assert!(caught.is_err(), "{mistake:?} passes");
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::{model, sync::Arc, thread};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use tidemark_sync::atomic::AtomicBool;

    struct Zone {
        is_free: [AtomicBool; 3],
        free_huge: FreeHugeSeq,
    }

    impl Zone {
        fn take(&self, pageblock: usize) -> bool {
            let is_free = &self.is_free[pageblock];
            is_free.load(Ordering::Relaxed)
                && is_free
                    .compare_exchange(true, false, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
        }

        fn give(&self, pageblock: usize) {
            self.is_free[pageblock].store(true, Ordering::Release);
            self.free_huge.note();
        }
    }

    /// A thread has a pageblock, and exchanges it for the next one twice, with two at most at a
    /// time. Another thread searches; one of the three is always free.
    fn exchanged() {
        model(|| {
            let zone = Arc::new(Zone {
                is_free: [false, true, true].map(AtomicBool::new),
                free_huge: FreeHugeSeq::default(),
            });
            let other = Arc::clone(&zone);
            let exchange = thread::spawn(move || {
                for pageblock in 0..2 {
                    // If the search has taken it, the search has found one.
                    if !other.take(pageblock + 1) {
                        break;
                    }
                    other.give(pageblock);
                }
            });
            let found = zone
                .free_huge
                .search(LOOKS, || (0..3).find(|&pageblock| zone.take(pageblock)));
            assert!(found.is_some(), "a pageblock was free all the time");
            exchange.join().unwrap();
        });
    }

    #[test]
    fn a_search_finds_a_pageblock_if_one_is_free_all_the_time() {
        exchanged();
        for mistake in [
            Mutant::FreeHugeNotRecounted,
            Mutant::RelaxedNote,
            Mutant::NoteWithoutFence,
        ] {
            let caught = catch_unwind(AssertUnwindSafe(|| mutant::with(mistake, exchanged)));
            assert!(caught.is_err(), "{mistake:?} passes");
        }
    }
}
