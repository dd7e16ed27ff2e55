//! Runs one workload on one allocator, once, for a tool that counts instructions. The tool counts
//! only the stretch in `workloads::measured_stretch`.
use crate::churn::Churn;
use crate::peers::{AxBitmap, BuddySlab, BuddySystem, FrameAlloc, Lifo, Nothing};
use crate::tidemark::Tidemark;
use crate::workloads::{self, Failures, LEAST};
use crate::{Allocator, FRAMES, SIZES};

/// The allocators for which instructions are counted.
const ALLOCATORS: [&str; 7] = [
    Tidemark::NAME,
    Nothing::NAME,
    Lifo::NAME,
    FrameAlloc::NAME,
    AxBitmap::NAME,
    BuddySlab::NAME,
    BuddySystem::NAME,
];

const HOT_PAIR: &str = "order-0 hot pair";

/// A workload of one thread.
struct Counted<A> {
    name: &'static str,
    /// Runs the workload, and returns how many operations the stretch had.
    run: fn(&A) -> u64,
}

/// Pairs that are not counted. They fill caches and run code that differs the first time.
const WARM_UP: u64 = 64;

fn hot_pair<A: Allocator>(allocator: &A, order: u8, pairs: u64) -> u64 {
    for _ in 0..WARM_UP {
        allocator.free(allocator.alloc(order).expect("memory is free"));
    }
    workloads::hot_pair(allocator, order, pairs);
    pairs
}

fn churn<A: Allocator>(allocator: &A, percent: usize) -> u64 {
    Churn::new(allocator, FRAMES, percent).run(LEAST);
    LEAST
}

fn workloads_of<A: Allocator>() -> [Counted<A>; 6] {
    [
        Counted {
            name: HOT_PAIR,
            run: |a| hot_pair(a, 0, 10_000),
        },
        Counted {
            name: "half of memory, a pair",
            run: |a| {
                workloads::half(a, 1);
                workloads::HALF as u64
            },
        },
        Counted {
            name: "order-9 hot pair",
            run: |a| hot_pair(a, 9, 1_000),
        },
        Counted {
            name: "mix of orders 0-9, 60-80 % full",
            run: |a| {
                workloads::mix(a, FRAMES, LEAST, 1, &Failures::default());
                LEAST
            },
        },
        Counted {
            name: "churn of order 0, 50 % full",
            run: |a| churn(a, 50),
        },
        Counted {
            name: "churn of order 0, 99 % full",
            run: |a| churn(a, 99),
        },
    ]
}

fn on<A: Allocator>(workload: &str) -> Option<u64> {
    let all = workloads_of::<A>();
    let counted = all.iter().find(|counted| counted.name == workload)?;
    let allocator = A::new(FRAMES);
    allocator.enter(0);
    Some((counted.run)(&allocator))
}

/// The workloads that are run on each amount of memory.
const OF_SIZES: [Counted<Tidemark>; 2] = [
    Counted {
        name: HOT_PAIR,
        run: |a| hot_pair(a, 0, 10_000),
    },
    Counted {
        name: "32,768 frames",
        run: |a| {
            workloads::many(a, 1);
            1 << 15
        },
    },
];
/// The words between an amount of memory and the workload in a name.
const MANAGED: &str = " managed, ";

/// Does what the arguments behind `--count` say. Without any, prints what can be counted. With a
/// workload and an allocator, runs one on the other and prints how many operations were in the
/// stretch.
pub fn run(arguments: &[String]) {
    match arguments {
        [] => list(),
        [workload, allocator] => {
            let operations = on_named(workload, allocator).expect("a line of the list");
            println!("{operations}");
        }
        _ => panic!("--count takes a workload and an allocator, or nothing"),
    }
}

fn list() {
    for workload in workloads_of::<Nothing>() {
        for allocator in ALLOCATORS {
            // A stack of frame numbers has no orders.
            if allocator != Lifo::NAME || workload.name == HOT_PAIR {
                println!("{}\t{allocator}", workload.name);
            }
        }
    }
    for (size, _) in SIZES {
        for what in OF_SIZES {
            let what = what.name;
            println!("{size}{MANAGED}{what}\t{}", Tidemark::NAME);
        }
    }
}

/// Runs a workload on our allocator with another amount of memory. Returns how many operations the
/// stretch had; nothing if no workload has this name.
fn on_size(workload: &str) -> Option<u64> {
    let (size, what) = workload.split_once(MANAGED)?;
    let (_, frames) = SIZES.into_iter().find(|(name, _)| *name == size)?;
    let counted = OF_SIZES.into_iter().find(|counted| counted.name == what)?;
    let allocator = Tidemark::new(frames);
    allocator.enter(0);
    Some((counted.run)(&allocator))
}

fn on_named(workload: &str, allocator: &str) -> Option<u64> {
    match allocator {
        Tidemark::NAME if workload.contains(MANAGED) => on_size(workload),
        Tidemark::NAME => on::<Tidemark>(workload),
        Nothing::NAME => on::<Nothing>(workload),
        Lifo::NAME => on::<Lifo>(workload),
        FrameAlloc::NAME => on::<FrameAlloc>(workload),
        AxBitmap::NAME => on::<AxBitmap>(workload),
        BuddySlab::NAME => on::<BuddySlab>(workload),
        BuddySystem::NAME => on::<BuddySystem>(workload),
        _ => None,
    }
}
