//! The trace: a buffer of fixed size that any context of any CPU appends to without a lock.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use tidemark_wire::{LabContext, LabPoint, LabStep, Role};

/// Most steps of one run.
pub const CAPACITY: usize = 1024;

/// One step. The context that took the place writes it once; it is read after the run.
struct Slot {
    /// CPU, context, role and point, a byte each, and a set bit above them. 0 means that it is
    /// unwritten.
    head: AtomicU64,
    at_us: AtomicU64,
    detail: AtomicU64,
}

/// The steps, in the order in which their places were taken.
pub struct Trace {
    /// Number of places taken; those above [`CAPACITY`] were dropped.
    taken: AtomicU32,
    slots: [Slot; CAPACITY],
}

const WRITTEN: u64 = 1 << 32;

impl Trace {
    /// Returns an empty trace.
    pub const fn new() -> Self {
        Self {
            taken: AtomicU32::new(0),
            slots: [const {
                Slot {
                    head: AtomicU64::new(0),
                    at_us: AtomicU64::new(0),
                    detail: AtomicU64::new(0),
                }
            }; CAPACITY],
        }
    }

    /// Appends a step. Any context may call it, an NMI included.
    pub fn push(
        &self,
        at_us: u64,
        cpu: usize,
        context: LabContext,
        role: Role,
        point: LabPoint,
        detail: u64,
    ) {
        // Relaxed suffices: the order of this one variable is the order of the steps. A role that
        // another one saw at a point (by Release and Acquire there) took its place before.
        let order = self.taken.fetch_add(1, Relaxed) as usize;
        let Some(slot) = self.slots.get(order) else {
            return;
        };
        slot.at_us.store(at_us, Relaxed);
        slot.detail.store(detail, Relaxed);
        let head = cpu as u64
            | (context as u64) << 8
            | (role as u64) << 16
            | (point as u64) << 24
            | WRITTEN;
        // Release pairs with the Acquire in `steps`.
        slot.head.store(head, Release);
    }

    /// Returns the number of steps that found no room.
    pub fn dropped(&self) -> u32 {
        self.taken.load(Relaxed).saturating_sub(CAPACITY as u32)
    }

    /// Returns the number of steps, dropped ones included.
    pub fn taken(&self) -> u32 {
        self.taken.load(Relaxed)
    }

    /// Returns the steps so far, in order.
    pub fn steps(&self) -> impl Iterator<Item = LabStep> + '_ {
        self.slots
            .iter()
            .enumerate()
            .take(self.taken() as usize)
            .filter_map(|(order, slot)| {
                let head = slot.head.load(Acquire);
                let byte = |at: u32| (head >> (8 * at)) as u8;
                let step = LabStep {
                    order: order as u32,
                    at_us: slot.at_us.load(Relaxed),
                    cpu: byte(0),
                    context: LabContext::of(byte(1).into()),
                    role: Role::of(byte(2).into()),
                    point: *LabPoint::ALL.get(usize::from(byte(3)))?,
                    detail: slot.detail.load(Relaxed),
                };
                (head & WRITTEN != 0).then_some(step)
            })
    }
}

impl Default for Trace {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::{boxed::Box, thread, vec::Vec};

    #[test]
    fn steps_come_back_as_they_were_and_overflow_is_counted() {
        let trace = Box::new(Trace::new());
        for n in 0..CAPACITY as u64 + 5 {
            let point = LabPoint::ALL[n as usize % LabPoint::ALL.len()];
            trace.push(n, 63, LabContext::Nmi, Role::Feeder, point, n << 32);
        }
        assert_eq!((trace.dropped(), trace.taken()), (5, CAPACITY as u32 + 5));
        let mut steps = 0;
        for (n, step) in trace.steps().enumerate() {
            let expected = LabStep {
                order: n as u32,
                at_us: n as u64,
                cpu: 63,
                context: LabContext::Nmi,
                role: Role::Feeder,
                point: LabPoint::ALL[n % LabPoint::ALL.len()],
                detail: (n as u64) << 32,
            };
            assert_eq!(step, expected);
            steps += 1;
        }
        assert_eq!(steps, CAPACITY);
    }

    #[test]
    fn writers_at_the_same_time_lose_nothing() {
        let trace: &'static Trace = Box::leak(Box::new(Trace::new()));
        let push = move |cpu| {
            for n in 0..200 {
                let (role, point) = (Role::Reader, LabPoint::Start);
                trace.push(0, cpu, LabContext::Task, role, point, n);
            }
        };
        let writers: Vec<_> = (0..4).map(|cpu| thread::spawn(move || push(cpu))).collect();
        writers.into_iter().for_each(|w| w.join().unwrap());
        for cpu in 0..4 {
            let own: Vec<u64> = trace
                .steps()
                .filter(|step| step.cpu == cpu)
                .map(|step| step.detail)
                .collect();
            assert!(own.into_iter().eq(0..200));
        }
    }
}
