//! Each CPU's own data: caches of single frames and of larger blocks, and counters.

pub(crate) mod batch;
pub(crate) mod blocks;
pub(crate) mod cpu;
pub(crate) mod events;
pub(crate) mod first_caches;
pub(crate) mod free;
pub(crate) mod inside;
mod one;
pub(crate) mod pcp;
pub(crate) mod stack;

use crate::{
    base::platform::Platform,
    cache::{cpu::CpuCaches, pcp::Drains},
    pageblock::books::Books,
    zone::Zones,
};

/// Every CPU's caches, over the zones that they are filled from.
#[repr(C)]
pub struct Caches<'m, P> {
    zones: Zones<'m, P>,
    cpus: &'m [CpuCaches],
    drains: Drains,
}

impl<'m, P: Platform> Caches<'m, P> {
    pub(crate) fn new(zones: Zones<'m, P>, cpus: &'m [CpuCaches]) -> Self {
        for cpu in cpus {
            cpu.first_caches.forget();
        }
        Self {
            zones,
            cpus,
            drains: Drains::new(),
        }
    }

    #[inline]
    pub(crate) fn platform(&self) -> &P {
        self.zones.platform()
    }

    #[inline]
    pub(crate) fn books(&self) -> &Books<'m> {
        self.zones.books()
    }

    #[inline]
    pub(crate) fn zones(&self) -> &Zones<'m, P> {
        &self.zones
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn drains(&self) -> &Drains {
        &self.drains
    }

    /// Returns the caches of every CPU, by its number.
    pub(crate) fn cpus(&self) -> &'m [CpuCaches] {
        self.cpus
    }
}
