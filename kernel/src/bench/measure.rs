//! Counts the instructions of stretches of code, and summarises the counts.

use crate::arch::context::{HardIrq, Task};
use crate::arch::ipi::{self, WorkId};
use crate::arch::time::tsc;
use crate::arch::{interrupts, paging, percpu, timer};
use crate::mm::{self, KernelBlock};
use core::hint::black_box;
use core::mem::MaybeUninit;
use tidemark_frames::{Order, Owner, OwnerKind};
use tidemark_wire::{BenchResult, BenchRow};

/// Number of blocks in the row that keeps many of them.
pub const MANY: usize = 10_000;

/// Repetitions in the rows about one pair.
pub const REPETITIONS: usize = 1001;

/// The owner of the frames that the benchmark holds.
pub const OWNER: Owner = Owner::new(OwnerKind::Test, 2);

/// Memory for samples and blocks. It belongs to the benchmark for good.
pub struct Arena {
    /// A sample for each of [`MANY`] operations.
    pub samples: &'static mut [u64],
    /// Places for [`MANY`] blocks.
    pub blocks: &'static mut [Option<KernelBlock>],
    work: WorkId,
}

impl Arena {
    /// Takes the memory and the work interrupt. Returns nothing if either cannot be had.
    pub fn new(task: &Task) -> Option<Self> {
        const BYTES: usize = MANY * (size_of::<u64>() + size_of::<Option<KernelBlock>>());
        let order = Order::new(7)?;
        const { assert!(BYTES <= 128 * 4096) };
        let block = mm::alloc_longlived(order, OWNER, task).ok()?;
        let memory = paging::phys_to_virt(block.leak().pfn().address());
        let samples = memory.cast::<u64>();
        // SAFETY: the block was just allocated and given up for good, so this is its only user. It
        // is mapped, aligned to its size and large enough for both parts. Any bytes are a `u64` or
        // uninitialised.
        let (samples, places) = unsafe {
            samples.write_bytes(0, MANY);
            (
                core::slice::from_raw_parts_mut(samples, MANY),
                core::slice::from_raw_parts_mut(
                    samples.add(MANY).cast::<MaybeUninit<Option<KernelBlock>>>(),
                    MANY,
                ),
            )
        };
        for place in places.iter_mut() {
            place.write(None);
        }
        // SAFETY: every place has just been written.
        let blocks = unsafe { &mut *(core::ptr::from_mut(places) as *mut [Option<KernelBlock>]) };
        Some(Self {
            samples,
            blocks,
            work: ipi::register_work(on_work).ok()?,
        })
    }
}

/// The error that the running CPU took interrupts in a stretch, and so may have idled or run other
/// threads.
#[derive(Clone, Copy, Debug)]
pub struct Disturbed {
    /// Number of those interrupts.
    pub interrupts: u32,
}

/// Returns the number of interrupts that the running CPU has taken, of all vectors.
fn interrupts() -> u32 {
    let cpu = percpu::current();
    (0..=u8::MAX).fold(0, |sum, vector| sum.wrapping_add(cpu.taken(vector)))
}

/// Runs a stretch without the tick. Only an interrupt wakes a CPU that idles, and only an interrupt
/// switches away a thread that does not wait. If none was taken, neither happened.
///
/// # Errors
/// Returns [`Disturbed`] if an interrupt was taken.
pub fn undisturbed<R>(stretch: impl FnOnce() -> R) -> Result<R, Disturbed> {
    timer::stop();
    let before = interrupts();
    let result = stretch();
    let interrupts = interrupts().wrapping_sub(before);
    timer::start();
    if interrupts == 0 {
        Ok(result)
    } else {
        Err(Disturbed { interrupts })
    }
}

/// Runs one operation. This is a call of its own, so that every operation is called alike.
#[inline(never)]
fn call(operation: &mut impl FnMut()) {
    operation();
}

/// Fills each sample with the cost of one operation, including that of the counting itself.
fn count(samples: &mut [u64], mut operation: impl FnMut()) {
    for sample in samples {
        let start = tsc();
        call(&mut operation);
        *sample = tsc().wrapping_sub(start);
    }
}

/// Runs one operation, and returns its cost, including that of the counting itself, and its result.
pub fn timed<R>(operation: impl FnOnce() -> R) -> (u64, R) {
    let start = tsc();
    let result = operation();
    (tsc().wrapping_sub(start), result)
}

/// Returns the cost of the counting itself, which is constant under `-icount`.
fn harness(samples: &mut [u64]) -> u64 {
    count(samples, || black_box(()));
    samples.sort_unstable();
    samples[samples.len() / 2]
}

/// Fills each sample with the cost of one operation, without that of the counting itself.
pub fn sample(samples: &mut [u64], operation: impl FnMut()) {
    let harness = harness(samples);
    count(samples, operation);
    for sample in samples {
        *sample = sample.saturating_sub(harness);
    }
}

/// Samples an operation after 64 operations that are not counted.
pub fn sample_warm(samples: &mut [u64], mut operation: impl FnMut()) {
    (0..64).for_each(|_| operation());
    sample(samples, operation);
}

/// The median and the extremes of some samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    median_milli: u64,
    min_milli: u64,
    max_milli: u64,
    repetitions: u32,
}

impl Spread {
    /// Summarises samples, which it sorts.
    ///
    /// # Panics
    ///
    /// Panics if there is no sample.
    pub fn of(samples: &mut [u64]) -> Self {
        samples.sort_unstable();
        Self {
            median_milli: samples[samples.len() / 2] * 1000,
            min_milli: samples[0] * 1000,
            max_milli: samples[samples.len() - 1] * 1000,
            repetitions: samples.len() as u32,
        }
    }

    /// Returns the spread of a number, in thousandths, that was found once from this many
    /// operations.
    pub fn exactly(milli: u64, repetitions: u32) -> Self {
        Self {
            median_milli: milli,
            min_milli: milli,
            max_milli: milli,
            repetitions,
        }
    }

    /// Returns the median, in thousandths.
    pub fn median_milli(&self) -> u64 {
        self.median_milli
    }

    /// Returns a spread of the maximum alone.
    pub fn worst(&self) -> Self {
        Self::exactly(self.max_milli, self.repetitions)
    }

    /// Returns the spread as a message.
    pub fn result(&self, row: BenchRow) -> BenchResult {
        BenchResult {
            row,
            median_milli: self.median_milli,
            min_milli: self.min_milli,
            max_milli: self.max_milli,
            repetitions: self.repetitions,
        }
    }
}

/// The samples that the work interrupt is to fill, and the function that fills them.
struct Job {
    samples: &'static mut [u64],
    fill: fn(&HardIrq, &mut [u64]),
}

/// The job lent to the interrupt handler; locked with interrupts off.
static JOB: spin::Mutex<Option<Job>> = spin::Mutex::new(None);

fn on_work(irq: &HardIrq) {
    if let Some(job) = &mut *JOB.lock() {
        (job.fill)(irq, &mut job.samples[..REPETITIONS]);
    }
}

impl Arena {
    /// Fills the samples inside the handler of a hard interrupt. One run of the handler does all
    /// repetitions.
    ///
    /// # Errors
    /// Returns [`Disturbed`] if another interrupt was taken in its place or after it.
    pub fn in_hard_irq(&mut self, fill: fn(&HardIrq, &mut [u64])) -> Result<Spread, Disturbed> {
        timer::stop();
        let samples = core::mem::take(&mut self.samples);
        interrupts::without_interrupts(|| *JOB.lock() = Some(Job { samples, fill }));
        let before = interrupts();
        // Interrupts are on, so the handler has run when this returns, or runs right afterwards.
        ipi::raise_self(self.work);
        crate::arch::time::spin_until(1_000_000_000, || interrupts() != before);
        let interrupts = interrupts().wrapping_sub(before);
        let job = interrupts::without_interrupts(|| JOB.lock().take());
        timer::start();
        if let Some(job) = job {
            self.samples = job.samples;
        }
        if interrupts != 1 {
            return Err(Disturbed { interrupts });
        }
        Ok(Spread::of(&mut self.samples[..REPETITIONS]))
    }
}
