//! Interrupt-off sections that nest by count.

use crate::HeldRanks;
use core::marker::PhantomData;

/// What a lock needs of the CPU it runs on. The kernel implements it by single `gs`-relative
/// instructions, host tests by thread-locals. Only [`LocalIrq::cpu`] may be called from an NMI.
pub trait LocalIrq {
    /// Turns maskable interrupts off and counts one more section. The outermost section remembers
    /// whether they were on.
    fn push_off();

    /// Ends one section. The end of the outermost one turns interrupts on again if they were on
    /// before it.
    fn pop_off();

    /// Returns the number of the CPU that runs this, from 0. It stays true only while the caller is
    /// pinned.
    fn cpu() -> usize;

    /// Returns the ranks of the locks that this CPU holds. It is called with interrupts off.
    fn held() -> &'static HeldRanks;
}

/// A section with interrupts off; dropping it ends the section. Sections may be dropped in any
/// order.
#[derive(Debug)]
#[must_use = "interrupts are on again as soon as this is dropped"]
pub struct IrqOff<L: LocalIrq> {
    /// Not `Send`: the count belongs to the CPU that began the section.
    _here: PhantomData<(*const (), L)>,
}

impl<L: LocalIrq> IrqOff<L> {
    /// Begins a section. Task and hard-interrupt context may call it.
    #[inline]
    pub fn new() -> Self {
        L::push_off();
        Self { _here: PhantomData }
    }
}

impl<L: LocalIrq> Default for IrqOff<L> {
    fn default() -> Self {
        Self::new()
    }
}

impl<L: LocalIrq> Drop for IrqOff<L> {
    #[inline]
    fn drop(&mut self) {
        L::pop_off();
    }
}
