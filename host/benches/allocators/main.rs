//! Times the frame allocator beside other crates: every workload on equal numbers of frames in one
//! run. An iteration is 1,024 operations, so that a nanosecond of it is little; of a hot pair it is
//! one operation.
//!
//! With `--count` nothing is timed: one workload runs on one allocator, for a tool that counts.

mod churn;
mod counts;
mod peers;
mod tidemark;
mod workloads;

use churn::Churn;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput, measurement::WallTime};
use peers::{AxBitmap, BuddySlab, BuddySystem, FrameAlloc, Lifo, Nothing};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;
use tidemark::Tidemark;
use workloads::Failures;

/// An allocator under test.
pub trait Allocator: Sync {
    /// Its name in the table.
    const NAME: &'static str;
    /// An allocated block.
    type Block: Send;

    /// Makes an allocator of `frames` frames of 4 KiB.
    fn new(frames: usize) -> Self;
    /// Makes the thread CPU number `cpu` of the allocator, 0 or 1.
    fn enter(&self, cpu: usize) {
        let _ = cpu;
    }
    /// Allocates 2^`order` frames.
    fn alloc(&self, order: u8) -> Option<Self::Block>;
    /// Frees a block.
    fn free(&self, block: Self::Block);
}

/// Frames that every allocator manages: 1 GiB.
const FRAMES: usize = 1 << 18;

/// The results of the benchmark that are no times, by "workload/allocator".
#[derive(Default)]
pub struct Notes(BTreeMap<String, String>);

impl Notes {
    fn add(&mut self, workload: &str, name: &str, note: impl Display) {
        self.0
            .insert(format!("{workload}/{name}"), note.to_string());
    }
}

/// Operations in an iteration. Criterion writes the number beside its results, which are divided by
/// it.
const OPERATIONS: u64 = 1024;

fn group<'c>(criterion: &'c mut Criterion, workload: &str) -> BenchmarkGroup<'c, WallTime> {
    let mut group = criterion.benchmark_group(workload);
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(OPERATIONS));
    group
}

/// Times a workload of one function, `rounds(allocator, operations)`, which returns the time of
/// that many operations.
fn time<A: Allocator>(
    criterion: &mut Criterion,
    workload: &str,
    allocator: &A,
    run: impl Fn(&A, u64) -> Duration,
) {
    group(criterion, workload).bench_function(A::NAME, |bencher| {
        allocator.enter(0);
        bencher.iter_custom(|iterations| run(allocator, iterations * OPERATIONS));
    });
}

/// The allocators, each with its memory. Every workload runs on one after the other, so that a
/// ratio compares what was measured within seconds.
struct Contestants {
    ours: Tidemark,
    frame_alloc: FrameAlloc,
    bitmap: AxBitmap,
    slab: BuddySlab,
    system: BuddySystem,
}

/// Times a workload on every allocator, and without one.
macro_rules! on_all {
    ($criterion:ident, $all:ident, $workload:expr, $run:expr) => {
        time($criterion, $workload, &Nothing, $run);
        time($criterion, $workload, &$all.ours, $run);
        time($criterion, $workload, &$all.frame_alloc, $run);
        time($criterion, $workload, &$all.bitmap, $run);
        time($criterion, $workload, &$all.slab, $run);
        time($criterion, $workload, &$all.system, $run);
    };
}

/// Times a workload on every allocator that threads may share.
macro_rules! on_shared {
    ($criterion:ident, $all:ident, $workload:expr, $run:expr) => {
        time($criterion, $workload, &$all.ours, $run);
        time($criterion, $workload, &$all.frame_alloc, $run);
    };
}

fn hot_pairs(criterion: &mut Criterion, all: &Contestants) {
    let workload = "order-0 hot pair";
    time(criterion, workload, &Lifo::new(FRAMES), |a, n| {
        workloads::hot_pair(a, 0, n)
    });
    on_all!(criterion, all, workload, |a, n| workloads::hot_pair(
        a, 0, n
    ));
    on_shared!(criterion, all, "order-0 hot pair, 2 threads", |a, n| {
        workloads::on_two(a, |a, _| workloads::hot_pair(a, 0, n))
    });
    on_all!(criterion, all, "order-9 hot pair", |a, n| {
        workloads::hot_pair(a, 9, n)
    });
}

fn halves(criterion: &mut Criterion, all: &Contestants) {
    on_all!(criterion, all, "half of memory, allocate", |a, n| {
        workloads::half(a, n).0
    });
    on_all!(criterion, all, "half of memory, free at random", |a, n| {
        workloads::half(a, n).1
    });
    on_shared!(
        criterion,
        all,
        "half of memory, allocate, 2 threads",
        |a, n| { workloads::half_on_two(a, n).0 }
    );
    on_shared!(
        criterion,
        all,
        "half of memory, free at random, 2 threads",
        |a, n| { workloads::half_on_two(a, n).1 }
    );
    let handed = "allocated on one thread, freed on another";
    time(criterion, handed, &Nothing, workloads::handed_on);
    on_shared!(criterion, all, handed, workloads::handed_on);
}

fn mixes(criterion: &mut Criterion, notes: &mut Notes, all: &Contestants) {
    fn alone<A: Allocator>(criterion: &mut Criterion, notes: &mut Notes, allocator: &A) {
        let workload = "mix of orders 0-9, 60-80 % full";
        let failures = Failures::default();
        time(criterion, workload, allocator, |a, n| {
            workloads::mix(a, FRAMES, n, 1, &failures)
        });
        notes.add(workload, A::NAME, &failures);
    }
    fn together<A: Allocator>(criterion: &mut Criterion, notes: &mut Notes, allocator: &A) {
        let workload = "mix of orders 0-9, 60-80 % full, 2 threads";
        let failures = Failures::default();
        time(criterion, workload, allocator, |a, n| {
            workloads::on_two(a, |a, cpu| {
                workloads::mix(a, FRAMES / 2, n, cpu as u64, &failures)
            })
        });
        notes.add(workload, A::NAME, &failures);
    }
    time(
        criterion,
        "mix of orders 0-9, 60-80 % full",
        &Nothing,
        |a, n| workloads::mix(a, FRAMES, n, 1, &Failures::default()),
    );
    alone(criterion, notes, &all.ours);
    alone(criterion, notes, &all.frame_alloc);
    alone(criterion, notes, &all.bitmap);
    alone(criterion, notes, &all.slab);
    alone(criterion, notes, &all.system);
    together(criterion, notes, &all.ours);
    together(criterion, notes, &all.frame_alloc);
}

fn fillings(criterion: &mut Criterion, all: &Contestants) {
    fn at<A: Allocator>(criterion: &mut Criterion, allocator: &A, percent: usize) {
        let workload = format!("churn of order 0, {percent} % full");
        // It is filled once, and only if it is to run.
        let churn = RefCell::new(None);
        time(criterion, &workload, allocator, |_, n| {
            let mut churn = churn.borrow_mut();
            let churn = churn.get_or_insert_with(|| Churn::new(allocator, FRAMES, percent));
            churn.run(n)
        });
    }
    for percent in [50, 99] {
        at(criterion, &Nothing, percent);
        at(criterion, &all.ours, percent);
        at(criterion, &all.frame_alloc, percent);
        at(criterion, &all.bitmap, percent);
        at(criterion, &all.slab, percent);
        at(criterion, &all.system, percent);
    }
}

/// The amounts of memory to manage, with their numbers of frames.
const SIZES: [(&str, usize); 5] = [
    ("256 MiB", 1 << 16),
    ("1 GiB", 1 << 18),
    ("16 GiB", 1 << 22),
    ("256 GiB", 1 << 26),
    ("1 TiB", 1 << 28),
];

/// Times our allocator alone, on 256 MiB to 1 TiB.
fn sizes(criterion: &mut Criterion) {
    for (size, frames) in SIZES {
        let allocator = Tidemark::new(frames);
        allocator.enter(0);
        let workload = format!("{size} managed, order-0 hot pair");
        time(criterion, &workload, &allocator, |a, n| {
            workloads::hot_pair(a, 0, n)
        });
        let workload = format!("{size} managed, 32,768 frames");
        time(criterion, &workload, &allocator, workloads::many);
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, rest @ ..] = &arguments[..]
        && first == "--count"
    {
        return counts::run(rest);
    }
    let mut criterion = Criterion::default()
        .configure_from_args()
        .without_plots()
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
        .sample_size(15)
        .nresamples(1000);
    let mut notes = Notes::default();
    let all = Contestants {
        ours: Tidemark::new(FRAMES),
        frame_alloc: FrameAlloc::new(FRAMES),
        bitmap: AxBitmap::new(FRAMES),
        slab: BuddySlab::new(FRAMES),
        system: BuddySystem::new(FRAMES),
    };
    hot_pairs(&mut criterion, &all);
    halves(&mut criterion, &all);
    mixes(&mut criterion, &mut notes, &all);
    fillings(&mut criterion, &all);
    sizes(&mut criterion);
    criterion.final_summary();
    if let Some(path) = std::env::var_os("TIDEMARK_BENCH_NOTES") {
        let text = serde_json::to_string(&notes.0).expect("text is JSON");
        std::fs::write(path, text).expect("the notes can be written");
    }
}
