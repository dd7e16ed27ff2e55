//! Tests use every part of the allocator through the allocator itself. Other code names the part.

use crate::{
    cache::{Caches, cpu::PerCpu},
    frames::Frames,
    pageblock::books::Books,
    testing::Host,
    zone::Zones,
};
use core::ops::Deref;

impl PerCpu for Host {}

impl<'m, P: PerCpu> Deref for Frames<'m, P> {
    type Target = Caches<'m, P>;

    fn deref(&self) -> &Self::Target {
        self.caches()
    }
}

impl<'m, P: PerCpu> Deref for Caches<'m, P> {
    type Target = Zones<'m, P>;

    fn deref(&self) -> &Self::Target {
        self.zones()
    }
}

impl<'m, P: PerCpu> Deref for Zones<'m, P> {
    type Target = Books<'m>;

    fn deref(&self) -> &Self::Target {
        self.books()
    }
}
