//! The threads' stacks. They are mapped at boot, each with a guard page below, and never lie in
//! memory that may leave.

use core::{
    ops::Range,
    sync::atomic::{
        AtomicU64, AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use super::{links::Slot, sched, switch::Saved, table::MAX_SPAWNED};
use crate::arch::{
    MAX_CPUS,
    irq::IrqError,
    paging::{self, FrameSource, PagingError},
};
use x86_64::structures::paging::PhysFrame;

/// Bytes in a thread's stack.
pub const STACK_BYTES: u64 = 32 * 1024;

const FRAMES: usize = (STACK_BYTES / 4096) as usize;

/// Number of threads that a machine can have beside its idle ones: a base, plus some for each CPU.
const BASE_THREADS: usize = 32;
const THREADS_PER_CPU: usize = 6;

/// The lowest addresses of the stacks of the slots from `MAX_CPUS` on. They are set once, by
/// `init`.
static BOTTOMS: [AtomicU64; MAX_SPAWNED] = [const { AtomicU64::new(0) }; MAX_SPAWNED];
/// Number of those stacks. Release pairs with the Acquire in `count`: it publishes `BOTTOMS`.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// A reason why threads could not be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitError {
    /// There was no memory for a stack.
    NoFrame,
    /// A stack could not be mapped.
    Paging(PagingError),
    /// The table of a hook is full.
    Irq(IrqError),
}

impl From<PagingError> for InitError {
    fn from(error: PagingError) -> Self {
        Self::Paging(error)
    }
}

impl From<IrqError> for InitError {
    fn from(error: IrqError) -> Self {
        Self::Irq(error)
    }
}

/// Maps the stacks of a machine with `cpus` CPUs from memory that stays (`frames`), and sets the
/// scheduler's hooks. It is called once, on the boot CPU, before any CPU's [`super::init_cpu`].
/// Returns how many threads there can be beside the idle ones.
///
/// # Errors
///
/// Returns an [`InitError`] if memory, addresses or hooks run out.
pub fn init(cpus: usize, frames: FrameSource<'_>) -> Result<usize, InitError> {
    let wanted = (BASE_THREADS + THREADS_PER_CPU * cpus).min(MAX_SPAWNED);
    for bottom in &BOTTOMS[..wanted] {
        let mut stack = [None::<PhysFrame>; FRAMES];
        for frame in &mut stack {
            *frame = Some(frames().ok_or(InitError::NoFrame)?);
        }
        let stack = stack.map(|frame| match frame {
            Some(frame) => frame,
            None => unreachable!("every frame was set"),
        });
        bottom.store(paging::map_stack(&stack, &mut *frames)?.bottom, Relaxed);
    }
    COUNT.store(wanted, Release);
    sched::set_hooks()?;
    Ok(wanted)
}

/// Returns the number of slots from `MAX_CPUS` on that have a stack.
pub(super) fn count() -> usize {
    COUNT.load(Acquire)
}

fn bounds(index: usize) -> Range<u64> {
    let bottom = BOTTOMS[index].load(Relaxed);
    bottom..bottom + STACK_BYTES
}

/// Writes at the top of the stack of `slot` what the first switch to a new thread loads. It lies
/// below two zero words, which end backtraces. Returns the stack pointer.
///
/// # Safety
///
/// The slot has a stack, and the caller owns it: no thread runs on it.
pub(super) unsafe fn prepare(slot: Slot, saved: Saved) -> u64 {
    let top = bounds(slot as usize - MAX_CPUS).end;
    let end = top - 16;
    let rsp = end - size_of::<Saved>() as u64;
    // SAFETY: both lie in the stack, which is mapped and the caller's. They are 8-byte aligned,
    // because the stack's end is aligned to 16.
    unsafe {
        (end as *mut [u64; 2]).write([0; 2]);
        (rsp as *mut Saved).write(saved);
    }
    rsp
}
