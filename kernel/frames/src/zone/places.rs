//! Where the caches of larger blocks are among a CPU's, and how much each may hold.

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
/// Places for caches by order, a power of two: an index needs no test.
pub(crate) const SLOTS: usize = 8;
/// The place of all other orders: a cache that stays empty, and takes nothing.
const NO_SLOT: u8 = SLOTS as u8 - 1;
/// Blocks that a cache has room for: a line with their count.
pub(crate) const ROOM: usize = 15;

const _: () = assert!(CACHED_ORDERS.len() <= NO_SLOT as usize);

/// The place of each order, and of numbers that are none: an index needs no test.
static SLOT_OF: [u8; 256] = {
    let mut slots = [NO_SLOT; 256];
    let mut slot = 0;
    while slot < CACHED_ORDERS.len() {
        slots[CACHED_ORDERS[slot].get() as usize] = slot as u8;
        slot += 1;
    }
    slots
};

/// Returns the place of an order among the caches.
#[inline]
pub(crate) fn slot_of(order: Order) -> usize {
    SLOT_OF[usize::from(order.get())] as usize % SLOTS
}

/// Returns whether an order has caches.
#[inline]
pub(crate) fn has_slot(order: Order) -> bool {
    slot_of(order) != NO_SLOT as usize
}

/// Returns the most blocks of an order in a cache.
#[inline]
pub(crate) const fn most(order: Order) -> u32 {
    if order.get() < Order::HUGE.get() {
        ROOM as u32
    } else {
        1
    }
}

/// Returns the orders, as bits, that a CPU may keep blocks of, if its share of a zone is so many
/// frames.
pub(crate) fn cached_orders(share: u64) -> u32 {
    let fits = |order: &&Order| u64::from(most(**order)) * order.frames() * 2 <= share;
    let orders = CACHED_ORDERS.iter().filter(fits);
    orders.fold(0, |bits, order| bits | 1 << order.get())
}

/// Places of a CPU's caches of blocks: of each zone and kind as many as there are slots.
pub(crate) const PLACES: usize = CACHES * SLOTS;

/// Returns the place of a cache of blocks, by the number of the zone's and kind's cache of single
/// frames.
#[inline]
pub(crate) fn place_of(cache: usize, order: Order) -> usize {
    cache % CACHES * SLOTS + slot_of(order)
}

/// Returns the places of a zone.
pub(crate) fn places_of(zone: ZoneId) -> Range<usize> {
    let caches = PageblockFlags::caches_of(zone);
    caches.start * SLOTS..caches.end * SLOTS
}

/// Returns whether a place is some order's.
pub(crate) const fn is_used(place: usize) -> bool {
    place % SLOTS < CACHED_ORDERS.len()
}

/// Returns the most blocks in the cache at a place of a zone, of which these orders are cached, as
/// bits.
pub(crate) fn limit_at(place: usize, orders: u32) -> u32 {
    let order = CACHED_ORDERS.get(place % SLOTS);
    let is_cached = |order: &&Order| orders >> order.get() & 1 == 1;
    order.filter(is_cached).map_or(0, |&order| most(order))
}
