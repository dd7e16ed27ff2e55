//! The places of a CPU's caches of larger blocks, and how much each may hold.

use crate::{
    base::types::{Order, ZoneId},
    pageblock::flags::{CACHES, PageblockFlags},
};
use core::ops::Range;

/// The orders that have caches, lowest first.
pub(crate) const CACHED_ORDERS: [Order; 5] = [
    Order::ONE,
    Order::TWO,
    Order::COSTLY,
    Order::HUGE,
    Order::MAX,
];
/// Slots for caches by order, a power of two, so that an index needs no test.
pub(crate) const SLOTS: usize = 8;
/// The slot of all other orders: a cache that stays empty.
const NO_SLOT: u8 = SLOTS as u8 - 1;
/// Blocks that fit into a cache: with their count they fill a cache line.
pub(crate) const ROOM: usize = 15;

const _: () = assert!(CACHED_ORDERS.len() <= NO_SLOT as usize);

/// The slot of each order, and of numbers that are no order, so that an index needs no test.
static SLOT_OF: [u8; 256] = {
    let mut slots = [NO_SLOT; 256];
    let mut slot = 0;
    while slot < CACHED_ORDERS.len() {
        slots[CACHED_ORDERS[slot].get() as usize] = slot as u8;
        slot += 1;
    }
    slots
};

/// Returns the slot of an order among the caches.
#[inline]
pub(crate) fn slot_of(order: Order) -> usize {
    SLOT_OF[usize::from(order.get())] as usize % SLOTS
}

/// Returns whether an order has caches.
#[inline]
pub(crate) fn has_slot(order: Order) -> bool {
    slot_of(order) != NO_SLOT as usize
}

/// Returns the most blocks of an order that a cache may hold.
#[inline]
pub(crate) const fn most(order: Order) -> u32 {
    if order.get() < Order::HUGE.get() {
        ROOM as u32
    } else {
        1
    }
}

/// Returns the orders, as bits, that a CPU may cache if its share of a zone is `share` frames.
pub(crate) fn cached_orders(share: u64) -> u32 {
    let fits = |order: &&Order| u64::from(most(**order)) * order.frames() * 2 <= share;
    let orders = CACHED_ORDERS.iter().filter(fits);
    orders.fold(0, |bits, order| bits | 1 << order.get())
}

/// Places of a CPU's caches of larger blocks: one for each slot of each zone and migrate type.
pub(crate) const PLACES: usize = CACHES * SLOTS;

/// Returns the place of a cache of larger blocks, by the number of the cache of single frames with
/// the same zone and migrate type.
#[inline]
pub(crate) fn place_of(cache: usize, order: Order) -> usize {
    cache % CACHES * SLOTS + slot_of(order)
}

/// Returns the places of a zone.
pub(crate) fn places_of(zone: ZoneId) -> Range<usize> {
    let caches = PageblockFlags::caches_of(zone);
    caches.start * SLOTS..caches.end * SLOTS
}

/// Returns whether a place has an order that is cached.
pub(crate) const fn is_used(place: usize) -> bool {
    place % SLOTS < CACHED_ORDERS.len()
}

/// Returns the most blocks in the cache at a place, in a zone with these cached orders, given as
/// bits.
pub(crate) fn limit_at(place: usize, orders: u32) -> u32 {
    let order = CACHED_ORDERS.get(place % SLOTS);
    let is_cached = |order: &&Order| orders >> order.get() & 1 == 1;
    order.filter(is_cached).map_or(0, |&order| most(order))
}
