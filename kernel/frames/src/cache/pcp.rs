//! Per-CPU caches of single frames, and the drain of all caches.
//!
//! The platform's `CpuGate` makes its CPU's caches private for the length of a gated section,
//! without masking anything. An interrupt or NMI that finds the gate open goes straight to the
//! zone. A gated section keeps the caller on its CPU as a pin does, so no other task of this CPU
//! can be inside.
//!
//! The order of steps is: test that the gate is closed, open it, compiler fence, test that the
//! cache may be used, work, compiler fence. The last step closes the gate and tests what is owed. A
//! free tests the `CacheLimit`, a refill and a pop of the general path whether caches are off, and
//! the hot path nothing. Blocks come out by `alloc/hot`, and in by `cache/free` and `cache/one`.
//!
//! Only the drain interrupt on the CPU itself makes a drain owed. If the gate is closed, the
//! interrupt drains at once; otherwise the gated section that it hit drains on its way out.
//! `drained` follows `wanted` only when the caches are empty, so no waiter takes the interrupt for
//! the drain.

use crate::{
    base::{
        mutant::{self, Mutant},
        pin::{OnCpu, Pinned},
        platform::step,
        types::{CpuId, Order, Pfn, ZoneId},
    },
    cache::{
        Caches,
        cpu::{PerCpu, ThisCpu},
        events::{CONTEXTS, Counter},
        inside::Inside,
        stack::FrameStack,
    },
    pageblock::{migrate_type::MigrateType, section_meta::PageblockRef},
    zone::policy::CAPACITY,
};
use core::{array, ops::Deref};
use tidemark_sync::{
    ContextKind, CpuGate, HardIrq, Task,
    atomic::{AtomicU32, Ordering, compiler_fence},
};

/// A cache of single frames of one zone and migrate type.
#[doc(alias = "per_cpu_pages")]
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Pcp {
    /// Number of frames that the hot path took out, by kind of context.
    taken: [Counter; CONTEXTS],
    /// The last frame for which [`Pcp::is_apart`] was asked: it was freed while the cache was full.
    last: AtomicU32,
    frames: FrameStack<CAPACITY>,
}

// The size is a power of two, so that a shift of its number finds a cache.
#[cfg(not(loom))]
const _: () = assert!(size_of::<Pcp>() == 512);

/// The numbers of a CPU's drains. Only the CPU itself uses them, but drains' initiators read
/// `drained`.
#[derive(Debug, Default)]
pub(crate) struct DrainState {
    /// Number of the drain that the interrupt asked for last. Only the interrupt writes it.
    wanted: AtomicU32,
    /// Number of the last drain done.
    drained: AtomicU32,
}

impl Deref for Pcp {
    type Target = FrameStack<CAPACITY>;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.frames
    }
}

impl Pcp {
    pub(crate) fn new() -> Self {
        Self {
            taken: array::from_fn(|_| Counter::new()),
            last: AtomicU32::new(0),
            frames: FrameStack::new(),
        }
    }

    /// Returns whether a frame is in another word of 64 than the frame of the last call.
    #[inline]
    pub(crate) fn is_apart(&self, pfn: Pfn) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        self.last.store(pfn.0 as u32, Ordering::Relaxed);
        (last ^ pfn.0 as u32) >= 64
    }

    /// Returns the counter of frames that the hot path took out for this kind of context.
    #[inline]
    pub(crate) fn taken_by(&self, context: ContextKind) -> &Counter {
        &self.taken[context as usize]
    }

    /// Returns how many frames the hot path took out, by kind of context.
    pub(crate) fn taken(&self) -> [u64; CONTEXTS] {
        array::from_fn(|context| self.taken[context].get())
    }
}

/// Number of the last drain that was asked for; numbers wrap.
#[derive(Debug)]
pub(crate) struct Drains(AtomicU32);

impl Drains {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Asks for a drain; returns its number. Caches that were turned off, and pageblocks that were
    /// isolated, before this call are so for every gated section behind the drain.
    pub(crate) fn ask(&self) -> u32 {
        // Release pairs with the acquire in `last`; later additions carry it on. Acquire pairs with
        // the release of earlier additions: a CPU that drains itself for this number without an
        // interrupt acknowledges the earlier drains, too. So it must see which caches their
        // initiators have turned off.
        let order = mutant::weakened_to(
            Mutant::DrainAskedWithoutAcquire,
            Ordering::Release,
            mutant::weakened(Mutant::RelaxedDrainAsked, Ordering::AcqRel),
        );
        self.0.fetch_add(1, order).wrapping_add(1)
    }

    /// Returns the number of the last drain that was asked for. The drain's interrupt reads it.
    fn last(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }
}

impl DrainState {
    /// Returns whether drain number `drain` is done. Its acquire pairs with the release in
    /// `acknowledge`: the frames are back in their pageblocks.
    fn has_drained(&self, drain: u32) -> bool {
        !is_newer(drain, self.drained.load(Ordering::Acquire))
    }

    /// Stores that a drain is done. The gated section that did it calls this.
    fn acknowledge(&self, drain: u32) {
        if is_newer(drain, self.drained.load(Ordering::Relaxed)) {
            let release = mutant::weakened(Mutant::RelaxedDrained, Ordering::Release);
            self.drained.store(drain, release);
        }
    }
}

impl<'m, P: PerCpu> Caches<'m, P> {
    /// Takes a single frame from this CPU's cache of a zone, which is filled first if it is empty.
    /// Returns `None` if the cache cannot be used now, or the zone has nothing for it.
    #[inline]
    pub(crate) fn take_cached(
        &self,
        zone: ZoneId,
        migrate_type: MigrateType,
        cpu: ThisCpu<'_>,
    ) -> Option<Pfn> {
        let cache = cpu.cache(zone, migrate_type);
        self.take_from(zone, Order::ZERO, cache, cpu, |inside| {
            self.refill(zone, migrate_type, cache, cpu, inside);
        })
    }

    /// Takes a single frame from a cache, without a refill.
    pub(crate) fn take_left_over(
        &self,
        zone: ZoneId,
        cache: &Pcp,
        cpu: ThisCpu<'_>,
    ) -> Option<Pfn> {
        self.take_from(zone, Order::ZERO, cache, cpu, |_| ())
    }

    /// Takes up to `wanted` single frames from this CPU's cache of a zone, without a refill. Calls
    /// `got` with the pageblock and index of each; returns how many it took.
    pub(crate) fn take_from_cache(
        &self,
        zone: ZoneId,
        migrate_type: MigrateType,
        wanted: u32,
        cpu: ThisCpu<'_>,
        got: &mut impl FnMut(PageblockRef<'m>, u32),
    ) -> u32 {
        let Some(inside) = self.enter() else {
            return 0;
        };
        step!(self);
        let mut taken = 0;
        if !self.zones.caches_are_off(zone) {
            let cache = cpu.cache(zone, migrate_type);
            while taken < wanted
                && let Some((pageblock, frame)) = self
                    .pop_checked(cache, Order::ZERO, &inside)
                    .and_then(|pfn| self.books().pageblock_of(pfn))
            {
                step!(self);
                got(pageblock, frame);
                taken += 1;
            }
        }
        step!(self);
        self.leave(inside, cpu);
        taken
    }

    /// Does all that is owed at the end of a gated section. Any context; the caller need not be
    /// pinned.
    #[cold]
    pub(crate) fn settle(&self) {
        // The end of the pin does what the platform owes.
        let pinned = Pinned::new(self.platform());
        self.drain_wanted(self.this_cpu(pinned.on_cpu()));
    }

    /// Drains until no drain is owed. Returns at once if a gated section is open, which then drains
    /// at its end. An NMI with a gated section of its own, just after another one has closed the
    /// gate, may do the whole drain here, and leave nothing to do.
    #[cold]
    pub(crate) fn drain_wanted(&self, cpu: ThisCpu<'_>) {
        while self.this_gate(cpu.on_cpu()).owes(CpuGate::DRAIN) {
            step!(self);
            let Some(inside) = self.enter() else {
                return;
            };
            // The bit is cleared before the number is read: a later interrupt sets it anew.
            self.this_gate(inside.on_cpu()).take(CpuGate::DRAIN);
            step!(self);
            self.drain_gate(inside, cpu, cpu.drain_state.wanted.load(Ordering::Relaxed));
        }
    }

    /// Empties the caches for drain number `drain`, which was read inside this gated section, and
    /// ends the section.
    fn drain_gate(&self, inside: Inside<'_>, cpu: ThisCpu<'_>, drain: u32) {
        for (zone, events) in self.zones.zone_ids().zip(&cpu.events) {
            let caches = cpu.caches(zone).iter();
            for cache in caches.filter(|cache| cache.len() > 0) {
                self.drain_cache(zone, cache, cache.len(), events, &inside);
            }
            self.drain_blocks(cpu.block_caches(zone), events, &inside);
        }
        step!(self);
        cpu.drain_state.acknowledge(drain);
        // The caller tests next what is owed.
        let _ = inside;
        self.platform().leave_gate();
        step!(self);
    }

    /// Handles the drain interrupt: empties this CPU's caches, or leaves that to the gated section
    /// that it interrupted, which does it at its end.
    #[doc(alias = "drain_local_pages")]
    pub(crate) fn drain_local(&self, irq: &HardIrq) {
        let cpu = self.this_cpu(OnCpu::of_handler(irq));
        let drain_state = &cpu.drain_state;
        let wanted = self.drains.last();
        drain_state.wanted.store(wanted, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        step!(self);
        self.this_gate(cpu.on_cpu()).owe(CpuGate::DRAIN);
        if mutant::is(Mutant::DrainAcknowledgedEarly) {
            drain_state.acknowledge(wanted);
        }
        compiler_fence(Ordering::SeqCst);
        self.drain_wanted(cpu);
    }

    /// Empties every online CPU's caches, and returns when all are drained. Only a task may call
    /// it: it waits for the other CPUs.
    #[doc(alias = "drain_all_pages")]
    pub(crate) fn drain_all(&self, task: &Task) {
        let drain = self.drains.ask();
        self.drain_here(drain);
        while self.any_undrained(drain) {
            self.platform().drain_others(task);
            // The task may have moved to another CPU before it asked the others. Then the CPU that
            // it asked from was left out, and is drained from here, or asked in the next round.
            self.drain_here(drain);
            if self.any_undrained(drain) {
                // A handler that interrupted a gated section left the drain to it. The section
                // stays on its CPU and waits for nothing, so it ends.
                self.platform().relax(task);
            }
        }
    }

    /// Returns whether an online CPU has not done drain number `drain` yet.
    fn any_undrained(&self, drain: u32) -> bool {
        let mut cpus = self.cpus.iter().enumerate();
        cpus.any(|(number, cpu)| {
            !cpu.drain_state.has_drained(drain) && self.platform().cpu_online(CpuId(number))
        })
    }

    /// Drains the CPU that the initiator runs on now, unless it has done this drain.
    fn drain_here(&self, drain: u32) {
        let pinned = Pinned::new(self.platform());
        let cpu = self.this_cpu(pinned.on_cpu());
        if !cpu.drain_state.has_drained(drain) {
            self.drain_this_cpu(cpu, drain);
        }
    }

    /// Drains the initiator's own CPU. A pinned task cannot have interrupted a gated section, so
    /// the gate is closed.
    fn drain_this_cpu(&self, cpu: ThisCpu<'_>, drain: u32) {
        let Some(inside) = self.enter() else {
            unreachable!("a pinned task met a gate of its own CPU");
        };
        self.drain_gate(inside, cpu, drain);
        self.drain_wanted(cpu);
    }

    /// Returns the number of frames in all CPUs' caches of a zone; exact at rest.
    pub(crate) fn cached_frames(&self, zone: ZoneId) -> u64 {
        self.cpus.iter().map(|cpu| cpu.held(zone)).sum()
    }
}

/// Returns whether drain number `a` was asked for after `b`; numbers wrap.
#[inline]
const fn is_newer(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 > 0
}

#[cfg(all(test, not(loom)))]
#[path = "pcp_tests.rs"]
mod tests;

#[cfg(all(test, not(loom)))]
#[path = "pcp_drain_tests.rs"]
mod drain_tests;

#[cfg(all(test, loom))]
#[path = "pcp_loom.rs"]
mod models;
