//! Where code runs, as values without a size: what a function takes for granted is an argument.

use crate::base::platform::Platform;
use core::marker::PhantomData;
use tidemark_sync::HardIrq;

/// Proof that the running code stays on its CPU: while a pin is held, a gated section is open, or a
/// handler runs. Not `Send`.
#[derive(Clone, Copy)]
pub(crate) struct OnCpu<'p>(PhantomData<(&'p (), *const ())>);

impl<'p> OnCpu<'p> {
    const NEW: Self = Self(PhantomData);

    /// Returns the proof that a hard interrupt's handler stays on its CPU.
    #[inline]
    pub(crate) const fn of_handler(_: &'p HardIrq) -> Self {
        Self::NEW
    }

    /// Returns the proof where something else proves as much: a gated section that has been
    /// entered, or the caches of this CPU, which were found by such a proof.
    #[inline]
    pub(crate) const fn proven_otherwise() -> Self {
        Self::NEW
    }
}

/// A pin: the caller stays on its CPU until this is dropped.
#[must_use = "the pin ends when this is dropped"]
pub(crate) struct Pinned<'a, P: Platform>(&'a P);

impl<'a, P: Platform> Pinned<'a, P> {
    #[inline]
    pub(crate) fn new(platform: &'a P) -> Self {
        platform.pin();
        Self(platform)
    }

    /// Returns the proof of the pin, for as long as it lasts.
    #[inline]
    pub(crate) const fn on_cpu(&self) -> OnCpu<'_> {
        OnCpu::NEW
    }
}

impl<P: Platform> Drop for Pinned<'_, P> {
    #[inline]
    fn drop(&mut self) {
        self.0.unpin();
    }
}
