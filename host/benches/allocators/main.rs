//! Times the frame allocator beside other crates: the same workloads on the same number of frames in
//! one run. Numbers are nanoseconds an operation; a hot pair is one operation.

mod peers;
mod tidemark;
mod workloads;

use criterion::{BenchmarkGroup, Criterion, SamplingMode, measurement::WallTime};
use peers::{AxBitmap, BuddySlab, BuddySystem, FrameAlloc, Lifo, Nothing};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;
use tidemark::Tidemark;
use workloads::Failures;

/// An allocator under test. `new` manages that many frames.
pub trait Allocator: Sync {
    /// What it is called in the table.
    const NAME: &'static str;
    /// An allocated block.
    type Block: Send;

    /// Makes one that manages `frames` frames of 4 KiB.
    fn new(frames: usize) -> Self;
    /// Makes the thread its CPU number `cpu`, 0 or 1.
    fn enter(&self, cpu: usize) {
        let _ = cpu;
    }
    /// Allocates 2^`order` frames.
    fn alloc(&self, order: u8) -> Option<Self::Block>;
    /// Frees them.
    fn free(&self, block: Self::Block);
}

/// Frames of the machine that all allocators manage: 1 GiB.
const FRAMES: usize = 1 << 18;

/// The benchmark's results that are no times, by "workload/allocator".
#[derive(Default)]
pub struct Notes(BTreeMap<String, String>);

impl Notes {
    fn add(&mut self, workload: &str, name: &str, note: impl Display) {
        self.0
            .insert(format!("{workload}/{name}"), note.to_string());
    }
}

fn group<'c>(criterion: &'c mut Criterion, workload: &str) -> BenchmarkGroup<'c, WallTime> {
    let mut group = criterion.benchmark_group(workload);
    group.sampling_mode(SamplingMode::Flat);
    group
}

/// Times a workload of one function `rounds(allocator, operations) -> time of that many`.
fn time<A: Allocator>(
    criterion: &mut Criterion,
    workload: &str,
    allocator: &A,
    run: impl Fn(&A, u64) -> Duration,
) {
    group(criterion, workload).bench_function(A::NAME, |bencher| {
        allocator.enter(0);
        bencher.iter_custom(|operations| run(allocator, operations));
    });
}

/// The allocators, each with its memory. Every workload goes to one after the other, so that a ratio
/// compares what was measured within seconds.
struct Contestants {
    ours: Tidemark,
    frame_alloc: FrameAlloc,
    bitmap: AxBitmap,
    slab: BuddySlab,
    system: BuddySystem,
}

/// Times a workload on every allocator.
macro_rules! on_all {
    ($criterion:ident, $all:ident, $workload:expr, $run:expr) => {
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
    time(criterion, workload, &Nothing, |a, n| {
        workloads::hot_pair(a, 0, n)
    });
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
    alone(criterion, notes, &all.ours);
    alone(criterion, notes, &all.frame_alloc);
    alone(criterion, notes, &all.bitmap);
    alone(criterion, notes, &all.slab);
    alone(criterion, notes, &all.system);
    together(criterion, notes, &all.ours);
    together(criterion, notes, &all.frame_alloc);
}

fn fillings(criterion: &mut Criterion, all: &Contestants) {
    for percent in [50, 99] {
        let workload = format!("churn of order 0, {percent} % full");
        on_all!(criterion, all, &workload, |a, n| {
            workloads::churn(a, FRAMES, percent, n)
        });
    }
}

/// Ours alone, from 256 MiB to 1 TiB.
fn sizes(criterion: &mut Criterion) {
    for shift in [16, 18, 22, 26, 28] {
        let frames = 1usize << shift;
        let allocator = Tidemark::new(frames);
        allocator.enter(0);
        let size = match frames >> 18 {
            0 => "256 MiB".to_owned(),
            gib @ 1..1024 => format!("{gib} GiB"),
            gib => format!("{} TiB", gib >> 10),
        };
        let workload = format!("size {size}, order-0 hot pair");
        time(criterion, &workload, &allocator, |a, n| {
            workloads::hot_pair(a, 0, n)
        });
        let workload = format!("size {size}, 32,768 frames, a frame");
        time(criterion, &workload, &allocator, workloads::many);
    }
}

fn main() {
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
