//! Per-CPU caches of single frames, behind an owner flag.
//!
//! The flag (`CpuGate`, the platform's) makes its CPU's caches private for the length of a gated
//! section without masking anything: an interrupt or NMI that finds it set goes straight to the
//! zone. It keeps the caller on its CPU as a pin does, so nobody else of this CPU can be inside.
//! Order of steps: test the flag, set it, compiler fence, test whether the cache may take
//! (`CacheLimit`), work, compiler fence, clear the flag and in the same step test what is owed. The
//! short way in and out of these caches is `hot`.
//!
//! Only the drain interrupt on the CPU itself asks for a drain. It reads the flag: clear means it
//! drains at once; set means that the gated section it interrupted does so on its way out.
//! `drained` follows `wanted` only when the caches are empty, so a waiter never takes the arrival
//! of the interrupt for the drain itself.

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

/// Single frames of one zone, on a stack.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Pcp {
    /// Frames that the hot path took out, by kind of context.
    taken: [Counter; CONTEXTS],
    /// The last frame that was freed while the cache was full.
    last: AtomicU32,
    frames: FrameStack<CAPACITY>,
}

// A power of two: where a cache is follows from its number by a shift.
#[cfg(not(loom))]
const _: () = assert!(size_of::<Pcp>() == 512);

/// The drain's two numbers. Own CPU only, but for `drained`, which the drain's initiator reads.
#[derive(Debug, Default)]
pub(crate) struct DrainState {
    /// Number of the drain that the interrupt asked for last; written by that interrupt only.
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

    /// Returns whether a frame is not of the same word as the last one of which this was asked.
    #[inline]
    pub(crate) fn is_apart(&self, pfn: Pfn) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        self.last.store(pfn.0 as u32, Ordering::Relaxed);
        (last ^ pfn.0 as u32) >= 64
    }

    /// Returns the count of frames that the hot path took out for contexts of this kind.
    #[inline]
    pub(crate) fn taken_by(&self, context: ContextKind) -> &Counter {
        &self.taken[context as usize]
    }

    /// Counts the frames that the hot path took out, by kind of context.
    pub(crate) fn taken(&self) -> [u64; CONTEXTS] {
        array::from_fn(|context| self.taken[context].get())
    }
}

/// Number of the last drain that somebody asked for; numbers wrap.
#[derive(Debug)]
pub(crate) struct Drains(AtomicU32);

impl Drains {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Asks for a drain; returns its number. What was turned off or isolated before is off and
    /// isolated for every gated section behind it.
    pub(crate) fn ask(&self) -> u32 {
        // Release pairs with the acquire in `last`; the additions of others carry it on. Acquire
        // pairs with the release of earlier ones: a CPU that drains itself for this number without
        // an interrupt acknowledges those, too, so it must see what their initiators shut.
        let order = mutant::weakened_to(
            Mutant::DrainAskedWithoutAcquire,
            Ordering::Release,
            mutant::weakened(Mutant::RelaxedDrainAsked, Ordering::AcqRel),
        );
        self.0.fetch_add(1, order).wrapping_add(1)
    }

    /// Returns the last one asked for; the drain's interrupt reads it.
    fn last(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }
}

impl DrainState {
    /// Returns whether drain number `drain` is done. Pairs with the release in `acknowledge`: the
    /// frames are back in their pageblocks.
    fn has_drained(&self, drain: u32) -> bool {
        !is_newer(drain, self.drained.load(Ordering::Acquire))
    }

    /// Notes a drain as done; inside the gated section that did it.
    fn acknowledge(&self, drain: u32) {
        if is_newer(drain, self.drained.load(Ordering::Relaxed)) {
            let release = mutant::weakened(Mutant::RelaxedDrained, Ordering::Release);
            self.drained.store(drain, release);
        }
    }
}

impl<'m, P: PerCpu> Caches<'m, P> {
    /// Takes a single frame from this CPU's cache of a zone, filling it first if it is empty.
    /// Nothing if the cache cannot be used now, or the zone has nothing to fill it with.
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

    /// Takes a single frame that is left in a cache, without filling that.
    pub(crate) fn take_left_over(
        &self,
        zone: ZoneId,
        cache: &Pcp,
        cpu: ThisCpu<'_>,
    ) -> Option<Pfn> {
        self.take_from(zone, Order::ZERO, cache, cpu, |_| ())
    }

    /// Takes up to `wanted` single frames out of this CPU's cache of a zone, without filling it,
    /// and gives each to `got`; returns how many.
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

    /// Does all that is owed at the end of a gated section. Any context, not pinned.
    #[cold]
    pub(crate) fn settle(&self) {
        // The end of the pin does what is the platform's.
        let pinned = Pinned::new(self.platform());
        self.drain_wanted(self.this_cpu(pinned.on_cpu()));
    }

    /// Drains until nothing more is wanted, unless it interrupted a gated section, which will. An
    /// NMI that ends a gated section in the gap between another one's flag and test may come here,
    /// too: it finds the flag clear, does the whole drain, and leaves nothing to do.
    #[cold]
    pub(crate) fn drain_wanted(&self, cpu: ThisCpu<'_>) {
        while self.this_gate(cpu.on_cpu()).owes(CpuGate::DRAIN) {
            step!(self);
            let Some(inside) = self.enter() else {
                return;
            };
            // Before the number is read: an interrupt after that asks anew.
            self.this_gate(inside.on_cpu()).take(CpuGate::DRAIN);
            step!(self);
            self.drain_gate(inside, cpu, cpu.drain_state.wanted.load(Ordering::Relaxed));
        }
    }

    /// Completes a gated section that empties the caches for drain number `drain`, read inside it.
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
        // The caller looks next at what is owed.
        let _ = inside;
        self.platform().leave_gate();
        step!(self);
    }

    /// Handles the drain IPI: empties this CPU's caches, or leaves that to the gated section that
    /// it interrupted, which does it on its way out.
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

    /// Empties every CPU's caches and returns when all of them are drained. Not on behalf of an
    /// interrupt: it waits for the others.
    pub(crate) fn drain_all(&self, task: &Task) {
        let drain = self.drains.ask();
        self.drain_here(drain);
        while self.any_undrained(drain) {
            self.platform().drain_others(task);
            // Between its own share and the asking the task may have moved: then the CPU where it
            // asked from was left out. It is drained from here, or asked in the next round.
            self.drain_here(drain);
            if self.any_undrained(drain) {
                // A handler that interrupted a gated section left the drain to it. That gated
                // section keeps its CPU, so it ends without being waited for by anybody else.
                self.platform().relax(task);
            }
        }
    }

    /// Returns whether a CPU that is online has yet to do drain number `drain`.
    fn any_undrained(&self, drain: u32) -> bool {
        let mut cpus = self.cpus.iter().enumerate();
        cpus.any(|(number, cpu)| {
            !cpu.drain_state.has_drained(drain) && self.platform().cpu_online(CpuId(number))
        })
    }

    /// Drains the CPU on which the initiator is now, unless that is done.
    fn drain_here(&self, drain: u32) {
        let pinned = Pinned::new(self.platform());
        let cpu = self.this_cpu(pinned.on_cpu());
        if !cpu.drain_state.has_drained(drain) {
            self.drain_this_cpu(cpu, drain);
        }
    }

    /// Drains the initiator's own CPU. As a task that is pinned it cannot have interrupted a
    /// gated section.
    fn drain_this_cpu(&self, cpu: ThisCpu<'_>, drain: u32) {
        let Some(inside) = self.enter() else {
            unreachable!("a pinned task met a gate of its own CPU");
        };
        self.drain_gate(inside, cpu, drain);
        self.drain_wanted(cpu);
    }

    /// Counts the frames in all caches of a zone; exact at rest.
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
