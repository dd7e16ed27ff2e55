//! Tests reach every part of the allocator by the allocator itself. Only they do: what the
//! allocator consists of names its parts.

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
