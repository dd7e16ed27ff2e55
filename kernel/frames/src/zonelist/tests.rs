//! Each protocol, with a reader in the middle of its rebuild.

use super::{Readers, Variant, Writes};
use crate::base::mutant::{self, Mutant};
use crate::{testing::*, *};
use std::{
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use tidemark_sync::Context;

const SINGLE: Order = Order::ZERO;
const MOVABLE: ZoneId = ZoneId::new(NodeId(0), ZoneKind::Movable);
const NORMAL: ZoneId = ZoneId::new(NodeId(0), ZoneKind::Normal);

impl Readers {
    /// Returns whether a request with these flags is one of these readers.
    fn include(self, gfp: Gfp) -> bool {
        match self {
            Self::Nobody => false,
            Self::Reclaiming => gfp.contains(Gfp::DIRECT_RECLAIM),
            Self::Everybody => true,
        }
    }
}

fn traced(
    frames: &'static TestFrames,
    context: &impl Context,
    gfp: Gfp,
) -> (Result<TestBlock, AllocError>, WalkInfo) {
    let mut info = WalkInfo::default();
    let request = Request::new(gfp | Gfp::NOWARN, SINGLE);
    let result = frames.alloc_traced(context, &request, &mut info);
    (result, info)
}

/// Takes each zone that unmovable requests use down to between MIN and LOW.
fn below_low(frames: &'static TestFrames) -> Vec<Vec<TestBlock>> {
    let zones = frames.zones().collect::<Vec<_>>();
    let of = |zone: &ZoneInfo| press(frames, zone.id, (zone.low + zone.reserve[2]).min(zone.free));
    zones.iter().map(of).collect()
}

#[test]
fn names_are_the_specifications_and_lead_back() {
    let names = "none seqlock seqlock-irqoff seqlock-irqoff-recheck seqlock-irqsave \
                 seqlock-annotated seqlock-recheck gfp-seqlock seed snapshot";
    assert_eq!(Variant::ALL.map(Variant::name).join(" "), names);
    for variant in Variant::ALL {
        assert_eq!(Variant::from_name(variant.name()), Some(variant));
        assert_eq!(bare_machine_of(1, 1, variant).variant(), variant);
    }
    assert_eq!(Variant::from_name("seq"), None);
    assert_eq!(Variant::default(), Variant::Seed);
}

#[test]
fn a_request_amid_a_rebuild_waits_where_its_variant_waits_and_nowhere_else() {
    const PATIENCE: usize = 100;
    for variant in Variant::ALL {
        for gfp in [Gfp::ATOMIC, Gfp::KERNEL | Gfp::NORETRY] {
            let frames = small_machine_of(2, variant);
            frames
                .platform()
                .patience
                .store(PATIENCE, Ordering::Relaxed);
            let held = below_low(frames);
            let met = Rc::new(Cell::new(WalkInfo::default()));
            let meets = Rc::clone(&met);
            let hook = at_points(move |point| {
                if point == Point::RebuildOdd {
                    assert_eq!(frames.rebuild_counter() % 2, 1);
                    let reader = || traced(frames, &task(), gfp);
                    let (block, info) = on_cpu(1, reader);
                    assert!(block.is_ok(), "{variant:?} {gfp:?}: {info:?}");
                    meets.set(info);
                }
            });
            frames.rebuild(&task());
            drop(hook);
            let info = met.get();
            assert!(
                info.slow && info.odd && info.overlapped,
                "{variant:?}: {info:?}"
            );
            let spins = if variant.rules().waits.include(gfp) {
                PATIENCE as u32
            } else {
                0
            };
            assert_eq!(info.spins, spins, "{variant:?} {gfp:?}");
            assert_eq!(info.retries, 0, "{variant:?} {gfp:?}");
            let after = traced(frames, &task(), gfp).1;
            assert!(after.slow && !after.odd && !after.overlapped && after.spins == 0);
            drop(held);
            assert_sound(frames);
        }
    }
}

/// What the writer has and has not done at one of its points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct At {
    point: Point,
    is_odd: bool,
    irqs_off: bool,
    is_deferred: bool,
}

#[test]
fn each_writer_takes_its_steps_in_its_own_order() {
    for variant in Variant::ALL {
        let frames = small_machine_of(1, variant);
        let seen = Rc::new(RefCell::new(Vec::new()));
        let sees = Rc::clone(&seen);
        let hook = at_points(move |point| {
            if point != Point::RebuildEntry {
                sees.borrow_mut().push(At {
                    point,
                    is_odd: frames.rebuild_counter() % 2 == 1,
                    irqs_off: irqs_are_off(),
                    is_deferred: frames.platform().deferred.load(Ordering::Relaxed) > 0,
                });
            }
        });
        frames.rebuild(&task());
        drop(hook);
        let annotates = !matches!(variant, Variant::None | Variant::Seed | Variant::Snapshot);
        let defers = annotates && variant.writes_with_interrupts_off();
        let defers_first = matches!(
            variant,
            Variant::SeqlockIrqoff | Variant::SeqlockIrqoffRecheck
        );
        let told_first = matches!(
            variant,
            Variant::SeqlockIrqoffRecheck | Variant::SeqlockAnnotated | Variant::SeqlockRecheck
        );
        let irqs_off = variant.writes_with_interrupts_off();
        let at = |point, is_odd, is_deferred| At {
            point,
            is_odd,
            irqs_off,
            is_deferred,
        };
        let mut expected = vec![
            at(Point::RebuildOdd, true, defers),
            at(Point::RebuildEven, true, defers),
        ];
        if annotates {
            expected.insert(0, at(Point::AnnotateBegin, !told_first, defers_first));
            expected.push(at(Point::AnnotateEnd, true, defers_first));
        } else {
            // The lock validator is told of the spinlock. The observers' counter changes inside of
            // it or around it.
            let is_inside = variant == Variant::Snapshot;
            let told = |point, irqs_off| At {
                point,
                is_odd: is_inside,
                irqs_off,
                is_deferred: false,
            };
            expected.insert(0, told(Point::AnnotateBegin, false));
            expected.push(told(Point::AnnotateEnd, irqs_off));
        }
        assert_eq!(*seen.borrow(), expected, "{variant:?}");
        assert_eq!(frames.rebuild_counter() % 2, 0);
        assert!(!irqs_are_off());
        let stats = frames.rebuild_stats();
        assert_eq!(stats.irq_off_last_ns > 0, irqs_off, "{variant:?}");
    }
}

/// NORMAL has nothing free, and MOVABLE comes before it, so an unmovable request starts at entry 1.
/// Then `act` takes MOVABLE away and gives memory to NORMAL, which is entry 0 from then on.
struct StaleStart {
    frames: &'static TestFrames,
    low: [Vec<TestBlock>; 2],
}

impl StaleStart {
    fn new(variant: Variant) -> (Self, impl FnMut()) {
        let frames = small_machine_of(1, variant);
        let low = [ZoneKind::Dma, ZoneKind::Dma32].map(|kind| press(frames, zone(0, kind), 0));
        add_section(frames, 33);
        frames
            .online_range(section_range(33), MOVABLE, &task())
            .unwrap();
        let mut taken = Some(press(frames, NORMAL, 0));
        let act = move || {
            let Some(taken) = taken.take() else { return };
            frames
                .offline_range(section_range(33), u64::MAX, &task())
                .unwrap();
            drop(taken);
            frames.drain_all(&task());
        };
        (Self { frames, low }, act)
    }

    fn end(self) {
        drop(self.low);
        assert_sound(self.frames);
    }
}

#[test]
fn h1_who_looks_again_is_served_and_who_does_not_fails_with_memory_free() {
    for variant in Variant::ALL {
        let requests = [Gfp::NOWAIT, Gfp::KERNEL | Gfp::NORETRY, Gfp::KERNEL];
        for gfp in requests {
            let (machine, mut act) = StaleStart::new(variant);
            let frames = machine.frames;
            let ooms = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&ooms);
            *frames.platform().oom.lock().unwrap() = Some(Box::new(move |_| {
                counted.fetch_add(1, Ordering::Relaxed);
                OomOutcome::NoVictim
            }));
            let mut once = true;
            let hook = at_points(move |point| {
                if point == Point::SlowWalk && std::mem::take(&mut once) {
                    act();
                }
            });
            let (result, info) = traced(frames, &task(), gfp);
            drop(hook);
            let looks = variant.rules().looks.include(gfp);
            assert_eq!(result.is_ok(), looks, "{variant:?} {gfp:?}: {info:?}");
            assert!(
                info.overlapped && !info.odd,
                "{variant:?} {gfp:?}: {info:?}"
            );
            // A protocol that keeps no position needs no second walk.
            let goes_back = looks && variant.rules().writes == Writes::InPlace;
            assert_eq!(info.retries > 0, goes_back, "{variant:?} {gfp:?}");
            let spurious_oom = !looks && gfp == Gfp::KERNEL;
            assert_eq!(ooms.load(Ordering::Relaxed), spurious_oom.into());
            drop(result);
            machine.end();
        }
    }
}

#[test]
fn h8_a_stale_start_is_gone_round_from_for_ever_unless_retry_looks_again() {
    /// More than the 16 rounds without progress, and more than the verdict asks for.
    const ENDLESS: usize = 80;
    for variant in Variant::ALL {
        let (machine, mut act) = StaleStart::new(variant);
        let frames = machine.frames;
        // Reclaim makes progress all the time, in zones that do not help.
        *frames.platform().shrink.lock().unwrap() = Some(Box::new(|_, _, _| 1));
        let rounds = Rc::new(Cell::new(0));
        let counted = Rc::clone(&rounds);
        let low = Rc::new(RefCell::new(Some(machine.low)));
        let lows = Rc::clone(&low);
        let hook = at_points(move |point| match point {
            Point::SlowWalk => act(),
            Point::SlowRetry => {
                counted.set(counted.get() + 1);
                if counted.get() == ENDLESS {
                    // This ends the test.
                    lows.borrow_mut().take();
                }
            }
            _ => {}
        });
        let (result, info) = traced(frames, &task(), Gfp::KERNEL);
        drop(hook);
        assert!(result.is_ok(), "{variant:?}");
        let ends = matches!(
            variant,
            Variant::SeqlockIrqoffRecheck | Variant::SeqlockRecheck | Variant::Snapshot
        );
        assert_eq!(rounds.get() < 4, ends, "{variant:?}: {info:?}");
        assert_eq!(rounds.get() >= ENDLESS, !ends, "{variant:?}: {info:?}");
        drop((result, low));
        assert_sound(frames);
    }
}

/// MOVABLE memory comes while an unmovable request reclaims. The entry that the request starts from
/// is then MOVABLE's.
#[test]
fn h10_a_start_that_is_not_tested_again_takes_a_zone_that_the_request_may_not_use() {
    for variant in Variant::ALL {
        let frames = small_machine_of(1, variant);
        let held = [ZoneKind::Dma, ZoneKind::Dma32, ZoneKind::Normal];
        let mut held = Vec::from(held.map(|kind| press(frames, zone(0, kind), 0)));
        add_section(frames, 33);
        *frames.platform().shrink.lock().unwrap() = Some(Box::new(move |_, _, _| {
            if held.is_empty() {
                return 0;
            }
            held.clear();
            frames.drain_all(&task());
            let online = frames.online_range(section_range(33), MOVABLE, &task());
            assert!(online.unwrap().zone_was_empty);
            1
        }));
        let (result, info) = traced(frames, &task(), Gfp::KERNEL);
        let kind = frames.zone_of(result.unwrap().pfn()).unwrap().kind();
        let holds = variant == Variant::Snapshot;
        assert_eq!(kind != ZoneKind::Movable, holds, "{variant:?}: {info:?}");
        // The request succeeds before any check.
        assert_eq!(info.retries, 0, "{variant:?}: {info:?}");
        *frames.platform().shrink.lock().unwrap() = None;
        frames.drain_all(&task());
        assert_sound(frames);
    }
}

#[test]
fn snapshot_walks_again_what_was_published_after_its_walk() {
    for (variant, served) in [(Variant::Seed, false), (Variant::Snapshot, true)] {
        for context_is_task in [true, false] {
            let frames = small_machine_of(1, variant);
            let held = frames.zones().map(|zone| press(frames, zone.id, 0));
            let held = held.collect::<Vec<_>>();
            add_section(frames, 33);
            let mut once = true;
            let hook = at_points(move |point| {
                if point == Point::SlowCheckNopage && std::mem::take(&mut once) {
                    let online = frames.online_range(section_range(33), MOVABLE, &task());
                    assert!(online.unwrap().zone_was_empty);
                }
            });
            let gfp = Gfp::NOWAIT | Gfp::MOVABLE;
            let (result, info) = if context_is_task {
                traced(frames, &task(), gfp)
            } else {
                traced(frames, &nmi(), gfp)
            };
            drop(hook);
            assert_eq!(result.is_ok(), served, "{variant:?}: {info:?}");
            assert_eq!(info.retries, served.into());
            assert_eq!(info.spins, 0);
            drop((result, held));
            assert_sound(frames);
        }
    }
}

/// Returns how many entries one rebuild stores with interrupts off, and in all.
fn entries_stored(nodes: usize, variant: Variant) -> (usize, usize) {
    let frames = bare_machine_of(1, nodes, variant);
    for node in 0..nodes {
        add_section(frames, node);
        let zone = zone(node as u8, ZoneKind::Dma32);
        frames.add_boot_range(section_range(node), zone).unwrap();
    }
    frames.finish_boot();
    let stored = Rc::new(Cell::new((0, 0)));
    let counted = Rc::clone(&stored);
    let _hook = at_points(move |point| {
        if point == Point::RebuildEntry {
            let (off, all) = counted.get();
            counted.set((off + usize::from(irqs_are_off()), all + 1));
        }
    });
    frames.rebuild(&task());
    stored.get()
}

#[test]
fn snapshot_stores_no_entry_with_interrupts_off_however_many_nodes_there_are() {
    for nodes in [1, 2, MAX_NODES] {
        let entries = nodes * nodes + nodes;
        assert_eq!(entries_stored(nodes, Variant::Seed), (entries, entries));
        assert_eq!(entries_stored(nodes, Variant::Snapshot), (0, entries));
    }
}

/// A reader on another CPU stops inside its walk while the lists are rebuilt twice. It goes on when
/// the writer waits for it, or writes the side that it reads.
fn two_rebuilds_around_one_walk() {
    static IS_IN: AtomicBool = AtomicBool::new(false);
    static HAS_LEFT: AtomicBool = AtomicBool::new(false);
    static IS_OVERTAKEN: AtomicBool = AtomicBool::new(false);
    for flag in [&IS_IN, &HAS_LEFT, &IS_OVERTAKEN] {
        flag.store(false, Ordering::SeqCst);
    }
    let frames = small_machine_of(2, Variant::Snapshot);
    let held = below_low(frames);
    let host = frames.platform();
    host.wait_for_grace(&task());
    let waits = host.grace_waits.load(Ordering::SeqCst);
    let waited_for = move || host.grace_waits.load(Ordering::SeqCst) > waits;
    host.threaded[1].store(true, Ordering::SeqCst);
    let reader = std::thread::spawn(move || {
        on_cpu(1, || {
            let hook = at_points(move |point| {
                if point == Point::WalkEntry && !IS_IN.swap(true, Ordering::SeqCst) {
                    while !waited_for() && !IS_OVERTAKEN.load(Ordering::SeqCst) {
                        // Interrupts come, but the gated section is open.
                        host.take_interrupts();
                        std::thread::yield_now();
                    }
                    for _ in 0..100 {
                        host.take_interrupts();
                    }
                    HAS_LEFT.store(true, Ordering::SeqCst);
                }
            });
            let (block, info) = traced(frames, &task(), Gfp::ATOMIC);
            drop(hook);
            assert!(block.is_ok() && info.slow && info.retries == 0);
            drop(block);
            host.threaded[1].store(false, Ordering::SeqCst);
        });
    });
    while !IS_IN.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
    let is_second = Rc::new(Cell::new(false));
    let second = Rc::clone(&is_second);
    let hook = at_points(move |point| {
        if point == Point::RebuildEntry && second.get() {
            IS_OVERTAKEN.store(true, Ordering::SeqCst);
            assert!(
                HAS_LEFT.load(Ordering::SeqCst),
                "written while it is walked"
            );
        }
    });
    // The first rebuild neither waits for the reader nor writes the side that it reads.
    frames.rebuild(&task());
    assert!(!HAS_LEFT.load(Ordering::SeqCst));
    is_second.set(true);
    let written = catch_unwind(AssertUnwindSafe(|| frames.rebuild(&task())));
    drop(hook);
    reader.join().unwrap();
    if let Err(panic) = written {
        std::panic::resume_unwind(panic);
    }
    drop(held);
    assert_sound(frames);
}

#[test]
fn snapshot_reuses_lists_when_their_last_reader_has_left() {
    two_rebuilds_around_one_walk();
    let mutant = || mutant::with(Mutant::ReuseWithoutGrace, two_rebuilds_around_one_walk);
    assert!(
        catch_unwind(AssertUnwindSafe(mutant)).is_err(),
        "nobody notices a reuse before the grace period"
    );
}

#[path = "torn_tests.rs"]
mod torn;
