//! The gated section that is open on the running CPU, as a value.

use crate::{
    base::{
        mutant::{self, Mutant},
        pin::OnCpu,
        platform::step,
        types::CpuId,
    },
    cache::{
        Caches,
        cpu::{CpuCaches, PerCpu, ThisCpu},
    },
};
use tidemark_sync::CpuGate;

/// An open gated section: only this code uses the running CPU's caches, and it stays on its CPU.
/// The section ends when [`Caches::leave_gate`], or a function that calls it, takes this value. The
/// value has no size: [`Caches::this_cpu`] finds the CPU's caches.
#[must_use = "a gated section has to be left"]
pub(crate) struct Inside<'c>(OnCpu<'c>);

impl Inside<'_> {
    /// Returns the proof that the gated section stays on its CPU.
    #[inline]
    pub(crate) const fn on_cpu(&self) -> OnCpu<'_> {
        self.0
    }
}

impl<'m, P: PerCpu> Caches<'m, P> {
    /// Returns the caches of the CPU that runs this.
    #[inline]
    pub(crate) fn this_cpu<'p>(&self, _: OnCpu<'p>) -> ThisCpu<'p>
    where
        'm: 'p,
    {
        ThisCpu::new(self.platform().caches(self.cpus()))
    }

    /// Returns the caches of the CPU that runs this, for a caller that passes one of them to the
    /// function that ends the gated section.
    #[inline]
    pub(crate) fn caches_of(&self, _: &Inside<'_>) -> &'m CpuCaches {
        self.platform().caches(self.cpus())
    }

    /// Returns the gate of the CPU that runs this.
    pub(super) fn this_gate(&self, _: OnCpu<'_>) -> &CpuGate {
        self.platform().gate(CpuId(P::cpu()))
    }

    /// Returns whether no gated section is open on a CPU, and no drain is owed.
    pub(crate) fn is_at_rest(&self, cpu: CpuId) -> bool {
        let gate = self.platform().gate(cpu);
        !gate.is_open() && !gate.owes(CpuGate::DRAIN)
    }

    /// Begins a gated section; returns `None` if one is open on this CPU. The caller need not be
    /// pinned: a task that moves between the two steps finds the other CPU's gate closed, too.
    #[doc(alias = "pcp_spin_trylock")]
    #[inline]
    pub(crate) fn enter(&self) -> Option<Inside<'_>> {
        // An interrupt between the two steps begins and ends its own gated section there, and
        // leaves the gate closed, as it found it.
        if self.platform().in_gate() && !mutant::is(Mutant::FlagNotHeeded) {
            return None;
        }
        step!(self);
        self.platform().enter_gate();
        Some(Inside(OnCpu::proven_otherwise()))
    }

    /// Ends a gated section, and does the drain if one is owed. The caller is pinned.
    #[inline]
    pub(crate) fn leave(&self, inside: Inside<'_>, cpu: ThisCpu<'_>) {
        if self.leave_gate(inside) {
            self.drain_wanted(cpu);
        }
    }

    /// Ends a gated section; returns whether anything is owed. If so, a caller with a pin then
    /// calls [`Caches::drain_wanted`], and leaves the rest to its unpin. A caller without a pin
    /// calls [`Caches::settle`].
    #[inline]
    pub(crate) fn leave_gate(&self, inside: Inside<'_>) -> bool {
        let tested_early = mutant::is(Mutant::DrainTestedBeforeClear)
            .then(|| self.this_gate(inside.on_cpu()).owes(CpuGate::DRAIN));
        step!(self);
        // One step closes the gate and tests what is owed. An interrupt before it is seen here; one
        // after it finds the gate closed and drains itself.
        let is_owed = self.platform().leave_gate();
        step!(self);
        tested_early.unwrap_or(is_owed)
    }

    /// Ends a gated section of a caller without a pin, and does what is owed.
    #[inline]
    pub(crate) fn leave_unpinned(&self, inside: Inside<'_>) {
        if self.leave_gate(inside) {
            self.settle();
        }
    }
}
