//! The whole allocator on a few CPUs, explored by shuttle: at every step of allocations and frees
//! it chooses which CPU goes on. A failure prints a schedule that repeats it.
//!
//! loom looks at every interleaving of a few accesses. These tests look at some interleavings of
//! whole operations: caches, searches, drains and offlines together. Accesses between two steps are
//! not interleaved, and none is reordered.

use crate::{
    base::mutant::{self, Mutant},
    testing::*,
    *,
};
use shuttle::{
    Config, Runner,
    rand::{Rng, thread_rng},
    scheduler::{PctScheduler, RandomScheduler},
    thread,
};
use std::{
    env,
    panic::catch_unwind,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
};

const NORMAL: ZoneId = ZoneId::new(NodeId(0), ZoneKind::Normal);

const SEED: u64 = 1;
/// The most seeds that a mistake is looked for with. Most mistakes are found with the first one.
const SEEDS: u64 = 16;

/// Explores a scenario: half of the executions choose at random at each step, half have a few
/// preemptions at random places. The schedules are the same in each run.
fn explore(seed: u64, scenario: impl Fn() + Send + Sync + 'static) {
    let is_long = env::var_os("TIDEMARK_LONG").is_some();
    let executions = if is_long { 1000 } else { 60 };
    let scenario = Arc::new(scenario);
    let config = || {
        let mut config = Config::new();
        config.stack_size = 1 << 20;
        config.silence_warnings = true;
        config
    };
    let again = Arc::clone(&scenario);
    // A failed execution may have left another CPU's number behind.
    Runner::new(RandomScheduler::new_from_seed(seed, executions), config())
        .run(move || on_cpu(0, || again()));
    Runner::new(PctScheduler::new_from_seed(seed, 4, executions), config())
        .run(move || on_cpu(0, || scenario()));
}

/// Explores a scenario with a mistake, which must be found. It tries several seeds, since a step
/// more or less in the source changes the schedules of a seed.
fn assert_caught(mistake: Mutant, scenario: fn()) {
    let is_caught =
        |seed| catch_unwind(|| mutant::with(mistake, || explore(seed, scenario))).is_err();
    let mut seeds = SEED..SEED + SEEDS;
    assert!(seeds.any(is_caught), "{mistake:?} passes");
}

/// Runs `work` on every CPU at once, and returns when all are done. A CPU that is done before takes
/// interrupts until then.
fn on_all(frames: &'static TestFrames, work: impl Fn(usize) + Send + Sync + 'static) {
    let host = frames.platform();
    let set_explored = |is_explored| {
        for threaded in &host.threaded {
            threaded.store(is_explored, Ordering::Relaxed);
        }
        host.is_explored.store(is_explored, Ordering::Relaxed);
    };
    set_explored(true);
    let (work, cpus) = (Arc::new(work), host.threaded.len());
    let busy = Arc::new(AtomicUsize::new(cpus));
    let threads: Vec<_> = (0..cpus)
        .map(|cpu| {
            let (work, busy) = (Arc::clone(&work), Arc::clone(&busy));
            let run = move || {
                work(cpu);
                busy.fetch_sub(1, Ordering::Relaxed);
                while busy.load(Ordering::Relaxed) > 0 {
                    frames.platform().relax(&task());
                }
            };
            thread::spawn(move || on_cpu(cpu, run))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    set_explored(false);
    on_cpu(0, || {
        frames.drain_all(&task());
        assert_sound(frames);
    });
}

/// The owner of each frame of the zone; 0 is none.
struct Owners(Vec<AtomicU32>);

impl Owners {
    fn new(blocks: usize) -> Self {
        Self(
            (0..blocks * SECTION_FRAMES)
                .map(|_| AtomicU32::new(0))
                .collect(),
        )
    }

    fn each(&self, block: &TestBlock) -> impl Iterator<Item = &AtomicU32> {
        let first = (block.pfn().0 - section_range(32).start.0) as usize;
        self.0[first..first + block.order().frames() as usize].iter()
    }

    fn sign(&self, block: &TestBlock, cpu: usize) {
        for owner in self.each(block) {
            let before = owner.swap(cpu as u32 + 1, Ordering::Relaxed);
            assert_eq!(before, 0, "{block:?} is CPU {}'s already", before - 1);
        }
    }

    fn strike_out(&self, block: &TestBlock, cpu: usize) {
        for owner in self.each(block) {
            assert_eq!(owner.swap(0, Ordering::Relaxed), cpu as u32 + 1);
        }
    }
}

/// Lets two CPUs allocate and free every order, and drain, in a zone with little left. The third
/// one takes half of a section away and brings it back.
fn storm() {
    let frames = normal_machine(3, 1);
    let owners = Owners::new(1);
    let block = section_range(32);
    let middle = Pfn(block.start.0 + block.len() / 2);
    let taken = press(frames, NORMAL, block.len() / 2 + 6 * 512);
    // The upper half can leave, unless the others have taken frames of it.
    let (low, high): (Vec<_>, Vec<_>) = taken.into_iter().partition(|block| block.pfn() < middle);
    drop(high);
    on_all(frames, move |cpu| {
        if cpu == 2 {
            let upper = PfnRange::new(middle, block.end);
            for _ in 0..2 {
                let deadline = frames.platform().now_ns() + 40_000;
                if frames.offline_range(upper, deadline, &task()).is_ok() {
                    frames.online_range(upper, NORMAL, &task()).unwrap();
                }
            }
            return;
        }
        let mut held = Vec::new();
        for _ in 0..20 {
            let mut random = thread_rng();
            match random.gen_range(0..8) {
                0..5 => {
                    let order = Order::new(random.gen_range(0..=10)).unwrap();
                    let request = match random.gen_range(0..3) {
                        0 => Request::nowait(order),
                        1 => Request::movable(order).with(Gfp::NORETRY),
                        _ => Request::atomic(order).with(Gfp::MEMALLOC),
                    };
                    let owner = test_owner(cpu as u32 + 1);
                    if let Ok(block) = frames.alloc(&task(), &request.owned_by(owner)) {
                        owners.sign(&block, cpu);
                        held.push(block);
                    }
                }
                5..7 if !held.is_empty() => {
                    let block = held.swap_remove(random.gen_range(0..held.len()));
                    owners.strike_out(&block, cpu);
                    drop(block);
                }
                7 => frames.drain_all(&task()),
                _ => {}
            }
        }
        for block in held {
            owners.strike_out(&block, cpu);
        }
    });
    drop(low);
    assert_sound(frames);
}

#[test]
fn no_two_cpus_ever_have_the_same_frame_and_none_is_lost() {
    explore(SEED, storm);
    assert_caught(Mutant::ClaimWithoutRollback, storm);
    assert_caught(Mutant::EntryAfterBits, storm);
}

/// Lets two CPUs take single frames and free them into their caches. They keep none.
fn offline() {
    let frames = normal_machine(3, 1);
    let block = section_range(32);
    on_all(frames, move |cpu| {
        if cpu < 2 {
            for _ in 0..20 {
                drop(frames.alloc_in_zone(ContextKind::Task, NORMAL, Order::ZERO, test_owner(1)));
            }
        } else {
            for _ in 0..2 {
                let deadline = frames.platform().now_ns() + 100_000;
                frames.offline_range(block, deadline, &task()).unwrap();
                frames.online_range(block, NORMAL, &task()).unwrap();
            }
        }
    });
}

#[test]
fn no_frame_stays_in_a_cache_and_keeps_its_block() {
    explore(SEED, offline);
    assert_caught(Mutant::IsolationTestedBeforeFlag, offline);
}
