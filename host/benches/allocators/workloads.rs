//! The workloads, which every allocator runs alike.

use crate::Allocator;
use rustix::time::{ClockId, clock_gettime};
use std::fmt;
use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

/// Number of blocks in the workload about half of memory.
pub const HALF: usize = crate::FRAMES / 2;
/// Least number of operations that are timed after memory was filled for them.
pub const LEAST: u64 = 1 << 16;
/// Number of blocks sent from thread to thread at once.
const BATCH: usize = 64;

/// Processor time of the running thread, which leaves out what others do on the machine.
struct Watch(Duration);

impl Watch {
    fn start() -> Self {
        Self(Self::now())
    }

    fn elapsed(&self) -> Duration {
        Self::now() - self.0
    }

    fn now() -> Duration {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    }
}

/// Runs the stretch of a workload that is measured. valgrind counts only the instructions in here.
/// It finds the stretch by this function's name (`host/src/commands/bench/counts.rs`).
#[inline(never)]
fn measured_stretch<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// Returns the processor time of a stretch.
pub fn timed(work: impl FnOnce()) -> Duration {
    let start = Watch::start();
    measured_stretch(work);
    start.elapsed()
}

/// A generator (SplitMix64, by S. Vigna).
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.next()) * limit as u128) >> 64) as usize
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// The requests of the mix that failed, and the number of all requests; of order 9 and of any
/// order.
#[derive(Default)]
pub struct Failures {
    huge: [AtomicU64; 2],
    any: [AtomicU64; 2],
}

impl Failures {
    fn count(&self, order: u8, failed: bool) {
        for counts in [Some(&self.any), (order == 9).then_some(&self.huge)]
            .into_iter()
            .flatten()
        {
            counts[0].fetch_add(u64::from(failed), Ordering::Relaxed);
            counts[1].fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [[huge_failed, huge], [failed, all]] =
            [&self.huge, &self.any].map(|c| [0, 1].map(|i| c[i].load(Ordering::Relaxed)));
        write!(
            f,
            "failed {huge_failed} of {huge} of order 9, {failed} of {all} in all"
        )
    }
}

/// Returns the time of `wanted` operations, if `done` of them took `elapsed`.
pub fn scaled(elapsed: Duration, wanted: u64, done: u64) -> Duration {
    Duration::from_nanos((elapsed.as_nanos() * u128::from(wanted) / u128::from(done.max(1))) as u64)
}

/// Allocates one block and frees it, again and again.
pub fn hot_pair<A: Allocator>(allocator: &A, order: u8, pairs: u64) -> Duration {
    timed(|| {
        for _ in 0..pairs {
            let block = black_box(allocator.alloc(black_box(order)));
            allocator.free(block.expect("memory is free"));
        }
    })
}

/// Allocates many single frames and frees them at random. Returns the times of both parts.
fn round<A: Allocator>(allocator: &A, blocks: &mut Vec<A::Block>, count: usize) -> [Duration; 2] {
    let allocated = timed(|| {
        for _ in 0..count {
            blocks.push(allocator.alloc(0).expect("half of memory is free"));
        }
    });
    Random(1).shuffle(blocks);
    let freed = timed(|| {
        for block in blocks.drain(..) {
            allocator.free(block);
        }
    });
    [allocated, freed]
}

/// Allocates half of memory frame by frame, then frees it at random. Returns the times of both.
pub fn half<A: Allocator>(allocator: &A, operations: u64) -> (Duration, Duration) {
    rounds(allocator, operations, HALF)
}

fn rounds<A: Allocator>(allocator: &A, operations: u64, count: usize) -> (Duration, Duration) {
    let mut blocks = Vec::with_capacity(count);
    let (mut times, mut done) = ([Duration::ZERO; 2], 0);
    while done < operations {
        let parts = round(allocator, &mut blocks, count);
        times = [times[0] + parts[0], times[1] + parts[1]];
        done += count as u64;
    }
    let [allocated, freed] = times.map(|time| scaled(time, operations, done));
    (allocated, freed)
}

/// Allocates 32,768 single frames and frees them at random. Returns the time of both for each
/// frame.
pub fn many<A: Allocator>(allocator: &A, operations: u64) -> Duration {
    let (allocated, freed) = rounds(allocator, operations, 1 << 15);
    allocated + freed
}

/// Does what [`half`] does on two threads, each of which has a quarter of memory.
pub fn half_on_two<A: Allocator>(allocator: &A, operations: u64) -> (Duration, Duration) {
    let [one, two] = threads(allocator, |a, _| rounds(a, operations, HALF / 2));
    ((one.0 + two.0) / 2, (one.1 + two.1) / 2)
}

/// Runs a workload on two threads at once. Returns the mean of their times.
pub fn on_two<A: Allocator>(allocator: &A, run: impl Fn(&A, usize) -> Duration + Sync) -> Duration {
    let [one, two] = threads(allocator, run);
    (one + two) / 2
}

fn threads<A: Allocator, R: Send>(allocator: &A, run: impl Fn(&A, usize) -> R + Sync) -> [R; 2] {
    let barrier = Barrier::new(2);
    let on = |cpu: usize| {
        allocator.enter(cpu);
        barrier.wait();
        run(allocator, cpu)
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| on(1));
        let own = on(0);
        [own, other.join().expect("the other thread ends")]
    })
}

/// Requests of orders 0 to 9, each order half as often as the one before, while memory is 60 to 80
/// % full. Blocks are freed at random.
struct Mix<'a, A: Allocator> {
    allocator: &'a A,
    random: Random,
    blocks: Vec<(A::Block, u8)>,
    low: usize,
    high: usize,
    used: usize,
    grows: bool,
}

impl<A: Allocator> Mix<'_, A> {
    /// Does one operation, and counts a request in `failures`.
    fn step(&mut self, failures: Option<&Failures>) {
        if self.grows {
            let order = self.random.next().trailing_zeros().min(9) as u8;
            let block = self.allocator.alloc(order);
            if let Some(failures) = failures {
                failures.count(order, block.is_none());
            }
            if let Some(block) = block {
                self.blocks.push((block, order));
                self.used += 1 << order;
            }
            self.grows = self.used < self.high;
        } else if !self.blocks.is_empty() {
            let place = self.random.below(self.blocks.len());
            let (block, order) = self.blocks.swap_remove(place);
            self.allocator.free(block);
            self.used -= 1 << order;
            self.grows = self.used <= self.low;
        }
    }
}

/// Returns the time of this many operations of the mix in `frames` frames.
pub fn mix<A: Allocator>(
    allocator: &A,
    frames: usize,
    operations: u64,
    seed: u64,
    failures: &Failures,
) -> Duration {
    let mut mix = Mix {
        allocator,
        random: Random(seed),
        blocks: Vec::with_capacity(frames),
        low: frames * 60 / 100,
        high: frames * 80 / 100,
        used: 0,
        grows: true,
    };
    // The loop brings the filling to the level at which the counting begins. It is bounded, so that
    // a request that fails does not hold it up for ever.
    for _ in 0..frames {
        if mix.used >= mix.low {
            break;
        }
        mix.step(None);
    }
    let done = operations.max(LEAST);
    let elapsed = timed(|| (0..done).for_each(|_| mix.step(Some(failures))));
    for (block, _) in mix.blocks {
        allocator.free(block);
    }
    scaled(elapsed, operations, done)
}

/// Lets one thread allocate single frames and another one free them. The time is that of the wall
/// clock, because both threads' work and waiting count.
pub fn handed_on<A: Allocator>(allocator: &A, operations: u64) -> Duration {
    let batches = operations.div_ceil(BATCH as u64);
    let (give, take) = sync_channel::<Vec<A::Block>>(64);
    let (give_back, empty) = sync_channel::<Vec<A::Block>>(64);
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            allocator.enter(1);
            for mut batch in take {
                batch.drain(..).for_each(|block| allocator.free(block));
                // The other side may have ended already.
                let _ = give_back.try_send(batch);
            }
        });
        for _ in 0..batches {
            let mut batch = empty
                .try_recv()
                .unwrap_or_else(|_| Vec::with_capacity(BATCH));
            batch.extend((0..BATCH).map(|_| allocator.alloc(0).expect("memory is free")));
            give.send(batch).expect("the other thread takes it");
        }
        drop(give);
    });
    scaled(start.elapsed(), operations, batches * BATCH as u64)
}
