//! Proofs that code stays on its CPU, as arguments without a size.

use crate::base::platform::Platform;
use core::marker::PhantomData;
use tidemark_sync::HardIrq;

/// Proof that the running code stays on its CPU: a pin is held, a gated section is open, or a
/// handler runs. It is not `Send`.
#[derive(Clone, Copy)]
pub(crate) struct OnCpu<'p>(PhantomData<(&'p (), *const ())>);

impl<'p> OnCpu<'p> {
    const NEW: Self = Self(PhantomData);

    /// Returns the proof that a hard interrupt's handler stays on its CPU.
    #[inline]
    pub(crate) const fn of_handler(_: &'p HardIrq) -> Self {
        Self::NEW
    }

    /// Returns the proof for a caller that has another one: an open gated section, or the caches of
    /// this CPU, which such a proof led to.
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
