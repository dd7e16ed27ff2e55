//! The allocator as a whole: against a plain model, and under threads.

use crate::{pageblock::migrate_type::MigrateType, testing::*, *};
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

#[derive(Clone, Debug)]
enum Action {
    Alloc {
        cpu: usize,
        order: u8,
        flags: u8,
    },
    InZone {
        cpu: usize,
        zone: usize,
        order: u8,
    },
    Free {
        cpu: usize,
        which: usize,
    },
    AllocBulk {
        cpu: usize,
        order: u8,
        count: usize,
    },
    FreeBulk {
        cpu: usize,
        which: usize,
        count: usize,
    },
    Split {
        which: usize,
    },
    Drain,
    Offline {
        block: usize,
        half: bool,
    },
    Online {
        block: usize,
        half: bool,
        movable: bool,
    },
}

fn action() -> impl Strategy<Value = Action> {
    let cpu = 0..3_usize;
    let order = prop_oneof![4 => Just(0_u8), 3 => 0..=10_u8];
    prop_oneof![
        8 => (cpu.clone(), order.clone(), 0..6_u8)
            .prop_map(|(cpu, order, flags)| Action::Alloc { cpu, order, flags }),
        3 => (cpu.clone(), 0..4_usize, order.clone())
            .prop_map(|(cpu, zone, order)| Action::InZone { cpu, zone, order }),
        1 => (cpu.clone(), order, 1..150_usize)
            .prop_map(|(cpu, order, count)| Action::AllocBulk { cpu, order, count }),
        1 => (cpu.clone(), any::<usize>(), 1..150_usize)
            .prop_map(|(cpu, which, count)| Action::FreeBulk { cpu, which, count }),
        8 => (cpu, any::<usize>()).prop_map(|(cpu, which)| Action::Free { cpu, which }),
        2 => any::<usize>().prop_map(|which| Action::Split { which }),
        1 => Just(Action::Drain),
        1 => (32..34_usize, any::<bool>())
            .prop_map(|(block, half)| Action::Offline { block, half }),
        1 => (32..34_usize, any::<bool>(), any::<bool>())
            .prop_map(|(block, half, movable)| Action::Online { block, half, movable }),
    ]
}

/// The plain model: allocated blocks by first frame. It has no bits, caches or counters.
struct Model {
    frames: &'static TestFrames,
    live: BTreeMap<u64, TestBlock>,
    managed: u64,
    next_owner: u32,
    /// Allocations and failures by context, which the allocator's counters must show.
    events: ZoneEvents,
}

impl Model {
    fn insert(&mut self, block: TestBlock, wanted: Option<MigrateType>) {
        let (start, end) = (block.pfn().0, block.pfn().0 + block.order().frames());
        let below = self.live.range(..end).next_back();
        let is_apart = below.is_none_or(|(at, other)| at + other.order().frames() <= start);
        assert!(is_apart, "{block:?} overlaps {below:?}");
        assert_eq!(start % block.order().frames(), 0);
        let zone = self.frames.zone_of(block.pfn()).unwrap();
        let (pageblock, _) = self.frames.pageblock_of(block.pfn()).unwrap();
        // A pageblock changes its migrate type only after a steal.
        if wanted.is_some_and(|wanted| pageblock.migrate_type() != wanted.within(zone)) {
            assert!(self.frames.zone_events(zone).steals > 0);
        }
        self.live.insert(start, block);
    }

    fn remove(&mut self, which: usize) -> Option<TestBlock> {
        let key = *self.live.keys().nth(which.checked_rem(self.live.len())?)?;
        self.live.remove(&key)
    }

    fn range(block: usize, half: bool) -> PfnRange {
        let whole = section_range(block);
        let middle = whole.start.0 + whole.len() / 2;
        if half {
            PfnRange::new(whole.start, Pfn(middle))
        } else {
            whole
        }
    }

    fn owner(&mut self) -> Owner {
        self.next_owner += 1;
        test_owner(self.next_owner)
    }

    fn apply(&mut self, action: &Action) {
        let frames = self.frames;
        match *action {
            Action::Alloc { cpu, order, flags } => {
                let order = Order::new(order).unwrap();
                let base = match flags {
                    0 => Request::atomic(order),
                    1 => Request::nowait(order),
                    2 => Request::movable(order).with(Gfp::NORETRY),
                    3 => Request::kernel(order).with(Gfp::NORETRY | Gfp::DMA32),
                    4 => Request::kernel(order).with(Gfp::NORETRY | Gfp::THISNODE),
                    _ => Request::kernel(order).with(Gfp::RETRY_MAYFAIL),
                };
                let request = base.owned_by(self.owner());
                if let Ok(block) = on_cpu(cpu, || frames.alloc(&task(), &request)) {
                    let zone = frames.zone_of(block.pfn()).unwrap();
                    assert!(zone.kind() <= request.gfp().highest_zone());
                    assert_eq!(block.owner(), request.owner());
                    self.events.allocs[order.get() as usize][0] += 1;
                    self.insert(block, Some(MigrateType::of(request.gfp())));
                } else {
                    self.events.failures[0] += 1;
                }
            }
            Action::InZone {
                cpu,
                zone: at,
                order,
            } => {
                let (order, owner) = (Order::new(order).unwrap(), self.owner());
                let id = zone(0, ZoneKind::ALL[at]);
                let block = on_cpu(cpu, || {
                    frames.alloc_in_zone(ContextKind::Task, id, order, owner)
                });
                if let Some(block) = block {
                    assert_eq!(frames.zone_of(block.pfn()), Some(id));
                    self.events.allocs[order.get() as usize][0] += 1;
                    self.insert(block, Some(MigrateType::of_owner(owner)));
                } else if order == Order::ZERO {
                    // Single frames never fail while one is free, however scattered.
                    assert_eq!(frames.zone_info(id).free, 0);
                }
            }
            Action::AllocBulk { cpu, order, count } => {
                let owner = self.owner();
                let request = Request::nowait(Order::new(order).unwrap()).owned_by(owner);
                let mut blocks = Vec::from_iter((0..count).map(|_| None));
                let came = on_cpu(cpu, || frames.alloc_bulk(&nmi(), &request, &mut blocks));
                let came = came.unwrap_or_else(|_| {
                    self.events.failures[2] += 1;
                    0
                });
                self.events.allocs[order as usize][2] += came as u64;
                assert!(blocks[came..].iter().all(Option::is_none));
                for block in blocks.into_iter().flatten() {
                    assert_eq!((block.owner(), block.order()), (owner, request.order()));
                    self.insert(block, Some(MigrateType::of(request.gfp())));
                }
            }
            Action::FreeBulk { cpu, which, count } => {
                let mut blocks = (0..count).map(|_| self.remove(which)).collect::<Vec<_>>();
                let held = blocks.iter().flatten().count();
                assert_eq!(on_cpu(cpu, || frames.free_bulk(&mut blocks)), held);
            }
            Action::Free { cpu, which } => {
                let block = self.remove(which);
                on_cpu(cpu, || drop(block));
            }
            Action::Split { which } => match self.remove(which).map(Block::split) {
                Some(Ok((lower, upper))) => {
                    self.insert(lower, None);
                    self.insert(upper, None);
                }
                Some(Err(single)) => self.insert(single, None),
                None => {}
            },
            Action::Drain => frames.drain_all(&task()),
            Action::Offline { block, half } => {
                let range = Self::range(block, half);
                let used = self.live.range(range.start.0..range.end.0).next();
                let used = used.map(|(_, block)| (block.pfn(), block.owner()));
                match frames.offline_range(range, 0, &task()) {
                    Ok(stats) => {
                        assert_eq!(used, None);
                        self.managed -= stats.frames;
                    }
                    Err(OfflineError::Unmovable { at, owner }) => {
                        assert_eq!(used, Some((at, owner)));
                    }
                    Err(OfflineError::Hole { .. } | OfflineError::TwoZones { .. }) => {}
                    Err(other) => panic!("{other:?} with {used:?} in the way"),
                }
            }
            Action::Online {
                block,
                half,
                movable,
            } => {
                let kind = if movable {
                    ZoneKind::Movable
                } else {
                    ZoneKind::Normal
                };
                let range = Self::range(block, half);
                if let Ok(stats) = frames.online_range(range, zone(0, kind), &task()) {
                    self.managed += stats.frames;
                }
            }
        }
    }

    fn check_events(&self) {
        let mut sum = ZoneEvents::default();
        for kind in ZoneKind::ALL {
            let events = self.frames.zone_events(zone(0, kind));
            for (sum, counts) in sum.allocs.iter_mut().zip(events.allocs) {
                *sum = std::array::from_fn(|context| sum[context] + counts[context]);
            }
            sum.failures = std::array::from_fn(|at| sum.failures[at] + events.failures[at]);
            let fallbacks: u64 = events.fallbacks.iter().sum();
            assert!(fallbacks <= events.allocated());
            assert!(events.refills <= events.refilled && events.drains <= events.drained);
        }
        assert_eq!(sum, self.events);
    }

    fn check(&self) {
        self.check_events();
        let census = assert_sound(self.frames);
        assert_eq!(census.managed, self.managed);
        let live: u64 = self.live.values().map(|block| block.order().frames()).sum();
        assert_eq!(census.allocated, live);
        assert_eq!(census.free + census.cached, self.managed - live);
        self.frames.validate().unwrap();
    }
}

fn run(actions: &[Action], check_every: usize) {
    let frames = small_machine(3);
    add_section(frames, 33);
    let mut model = Model {
        frames,
        live: BTreeMap::new(),
        managed: assert_sound(frames).managed,
        next_owner: 0,
        events: ZoneEvents::default(),
    };
    for (step, action) in actions.iter().enumerate() {
        model.apply(action);
        if step % check_every == 0 {
            model.check();
        }
    }
    model.live.clear();
    model.check();
    frames.drain_all(&task());
    assert_eq!(assert_sound(frames).free, model.managed);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn short_runs_agree_with_the_model_after_each_step(
        actions in prop::collection::vec(action(), 1..60)
    ) {
        run(&actions, 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn long_runs_agree_with_the_model(actions in prop::collection::vec(action(), 3_000..4_000)) {
        run(&actions, 500);
    }
}

/// Returns the next random number of a thread; the seed is the thread's number.
fn next(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[test]
fn threads_never_share_a_frame_while_a_dimm_goes_and_comes() {
    const CPUS: usize = 4;
    const OPERATIONS: usize = 20_000;
    /// Cycles of the DIMM that the threads go on for, so that the test ends.
    const CYCLES: usize = 5;
    const MOST_OPERATIONS: usize = 4_000_000;
    let frames = small_machine(CPUS + 1);
    let before = assert_sound(frames);
    // One stamp for each frame names its owner, so that two owners would meet here.
    let stamps: &[std::sync::atomic::AtomicU32] = Box::leak(
        std::iter::repeat_with(|| std::sync::atomic::AtomicU32::new(0))
            .take(33 * SECTION_FRAMES)
            .collect(),
    );
    let stamp = |block: &TestBlock, from: u32, to: u32| {
        for pfn in block.pfn().0..block.pfn().0 + block.order().frames() {
            let was = stamps[pfn as usize].swap(to, Ordering::Relaxed);
            assert_eq!(was, from, "frame {pfn:#x}");
        }
    };
    // Threads exchange blocks here, first in first out. So many are freed on another CPU, and none
    // stays for long.
    let exchange = Mutex::new(Vec::<TestBlock>::new());
    for cpu in 0..CPUS {
        frames.platform().threaded[cpu].store(true, Ordering::Release);
    }
    let done = AtomicUsize::new(0);
    let worker = |cpu: usize| {
        on_cpu(cpu, || {
            let me = cpu as u32 + 1;
            let mut state = me as u64;
            let mut held = Vec::new();
            let goes_on = |operation| {
                operation < OPERATIONS
                    || operation < MOST_OPERATIONS && done.load(Ordering::Relaxed) < CYCLES
            };
            for _ in (0..).take_while(|&operation| goes_on(operation)) {
                let order = [0, 0, 0, 0, 1, 3, 6, 7, 8, 9, 10][(next(&mut state) % 11) as usize];
                let request = Request::atomic(Order::new(order).unwrap());
                let request = request.owned_by(test_owner(me)).with(Gfp::NOWARN);
                let allocated = frames.alloc(&hard_irq(), &request);
                let frees = allocated.is_err() || held.len() >= 24;
                if let Ok(block) = allocated {
                    stamp(&block, 0, me);
                    held.push(block);
                }
                if frees && !held.is_empty() {
                    let which = next(&mut state) as usize % held.len();
                    let block = held.swap_remove(which);
                    stamp(&block, me, 0);
                    let other = {
                        let mut exchange = exchange.lock().unwrap();
                        exchange.push(block);
                        (exchange.len() > 8).then(|| exchange.remove(0))
                    };
                    drop(other);
                }
            }
            for block in held {
                stamp(&block, me, 0);
            }
            frames.platform().threaded[cpu].store(false, Ordering::Release);
        });
    };
    let range = section_range(32);
    let normal = zone(0, ZoneKind::Normal);
    std::thread::scope(|scope| {
        let worker = &worker;
        let spawn = |cpu| scope.spawn(move || worker(cpu));
        let workers = (0..CPUS).map(spawn).collect::<Vec<_>>();
        on_cpu(CPUS, || {
            while !workers.iter().all(|worker| worker.is_finished()) {
                let deadline_ns = frames.platform().now_ns() + 1_000_000_000;
                match frames.offline_range(range, deadline_ns, &task()) {
                    Ok(_) => {
                        frames.online_range(range, normal, &task()).unwrap();
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(OfflineError::Unmovable { .. } | OfflineError::Deadline { .. }) => {}
                    Err(other) => panic!("{other:?}"),
                }
                frames.validate().unwrap();
            }
        });
        for worker in workers {
            worker.join().unwrap();
        }
    });
    let cycles = done.into_inner();
    assert!(cycles >= CYCLES, "only {cycles} cycles under load");
    exchange.lock().unwrap().clear();
    frames.drain_all(&task());
    let after = assert_sound(frames);
    assert_eq!(after.free, before.managed);
    assert_eq!(after.allocated, 0);
}
