//! The claims on virtual addresses of the kernel's space.

use crate::PAGE;
use crate::error::{Error, Result};
use arrayvec::ArrayVec;
use core::ops::RangeInclusive;

/// Bytes of addresses that one entry of the level-4 table covers.
pub const ENTRY_SPAN: u64 = 1 << 39;
/// Number of entries in the level-4 table.
const ENTRIES: u64 = 512;
/// Most ranges that can be claimed.
const MAX_CLAIMS: usize = 32;

/// The address space. Claims are ranges of whole pages. They include their last byte, so that the
/// top of the space can be claimed.
#[derive(Debug)]
pub struct AddressSpace {
    claims: ArrayVec<(RangeInclusive<u64>, &'static str), MAX_CLAIMS>,
    /// The range of dynamic addresses, first and last byte.
    dynamic: RangeInclusive<u64>,
}

impl AddressSpace {
    /// Starts without claims. The lowest 512 GiB are never given out dynamically, because identity
    /// mappings are there.
    pub fn new(dynamic_start: Option<u64>, dynamic_end: Option<u64>) -> Self {
        let start = dynamic_start.unwrap_or(0).max(ENTRY_SPAN);
        // `dynamic_end` names the last page that may be used.
        let end = dynamic_end.unwrap_or(u64::MAX) | (PAGE - 1);
        Self {
            claims: ArrayVec::new(),
            dynamic: start..=end,
        }
    }

    /// Claims whole pages around `len` bytes at a fixed address; `len` is not 0.
    ///
    /// # Errors
    ///
    /// Returns the [`Error`] if the range is not canonical, collides with a claim, or is one claim
    /// too many.
    pub fn claim(&mut self, what: &'static str, at: u64, len: u64) -> Result<()> {
        let outside = Error::NotCanonical { what, at };
        let last = at.checked_add(len - 1).ok_or(outside)?;
        let range = at & !(PAGE - 1)..=last | (PAGE - 1);
        let half = |at: u64| match at >> 47 {
            0 => Some(false),
            0x1_ffff => Some(true),
            _ => None,
        };
        let lower = half(*range.start()).ok_or(outside)?;
        if half(*range.end()) != Some(lower) {
            return Err(outside);
        }
        if let Some((_, with)) = self.claims.iter().find(|(claim, _)| meet(claim, &range)) {
            return Err(Error::Collision { what, at, with });
        }
        self.claims
            .try_push((range, what))
            .map_err(|_| Error::Collision {
                what,
                at,
                with: "the loader's limit on mappings",
            })
    }

    /// Claims as [`Self::claim`] does, at an address that has to be a multiple of `to`.
    ///
    /// # Errors
    ///
    /// Returns the [`Error`] of [`Self::claim`], or one for an address that is not aligned.
    pub fn claim_aligned(&mut self, what: &'static str, at: u64, len: u64, to: u64) -> Result<()> {
        if !at.is_multiple_of(to) {
            return Err(Error::NotAligned { what, at, to });
        }
        self.claim(what, at, len)
    }

    /// Finds and claims room in entries of the level-4 table that have no other claim. The address
    /// is aligned to 512 GiB.
    ///
    /// # Errors
    ///
    /// Returns [`Error::NoAddressSpace`] if there is no such room.
    pub fn find(&mut self, what: &'static str, len: u64) -> Result<u64> {
        let full = Error::NoAddressSpace { what, len };
        for index in 0..ENTRIES {
            let at = entry_start(index);
            let span = len
                .max(1)
                .checked_next_multiple_of(ENTRY_SPAN)
                .ok_or(full)?;
            let Some(last) = at.checked_add(span - 1) else {
                break;
            };
            let range = at..=last;
            let inside = self.dynamic.contains(&at) && self.dynamic.contains(&last);
            if inside
                && !self.claims.iter().any(|(claim, _)| meet(claim, &range))
                && self.claim(what, at, len).is_ok()
            {
                return Ok(at);
            }
        }
        Err(full)
    }
}

/// Returns the first address that an entry of the level-4 table covers.
fn entry_start(index: u64) -> u64 {
    let low = index * ENTRY_SPAN;
    if index < ENTRIES / 2 {
        low
    } else {
        low | !((1 << 48) - 1)
    }
}

/// Returns whether two ranges share a byte.
fn meet(a: &RangeInclusive<u64>, b: &RangeInclusive<u64>) -> bool {
    a.start() <= b.end() && b.start() <= a.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOP: u64 = 0xffff_8000_0000_0000;

    fn everywhere() -> AddressSpace {
        AddressSpace::new(None, None)
    }

    #[test]
    fn finds_the_lowest_entries_that_nobody_uses() {
        let mut space = everywhere();
        assert_eq!(space.find("a", 1), Ok(ENTRY_SPAN));
        space.claim("b", 3 * ENTRY_SPAN + 0x5000, 1).expect("free");
        assert_eq!(space.find("c", 2 * ENTRY_SPAN), Ok(4 * ENTRY_SPAN));
        assert_eq!(space.find("d", ENTRY_SPAN), Ok(2 * ENTRY_SPAN));
    }

    #[test]
    fn keeps_within_the_dynamic_range() {
        let mut upper = AddressSpace::new(Some(TOP), Some(TOP + 2 * ENTRY_SPAN - PAGE));
        assert_eq!(upper.find("a", 1), Ok(TOP));
        assert_eq!(upper.find("b", ENTRY_SPAN), Ok(TOP + ENTRY_SPAN));
        let what = "c";
        assert_eq!(
            upper.find(what, 1),
            Err(Error::NoAddressSpace { what, len: 1 })
        );
        // This range is one page shorter than the entry.
        let mut short = AddressSpace::new(Some(TOP), Some(TOP + ENTRY_SPAN - 2 * PAGE));
        assert!(short.find("a", 1).is_err());
        let mut top = AddressSpace::new(Some(TOP + 255 * ENTRY_SPAN), None);
        assert_eq!(top.find("a", ENTRY_SPAN), Ok(TOP + 255 * ENTRY_SPAN));
        assert!(AddressSpace::new(Some(1), Some(0)).find("a", 1).is_err());
    }

    #[test]
    fn never_crosses_the_hole_or_the_end() {
        let mut space = everywhere();
        let half = 256 * ENTRY_SPAN;
        assert_eq!(
            space.find("a", half),
            Ok(TOP),
            "the lower half lacks its first entry"
        );
        assert!(space.find("b", half).is_err());
        for at in [half, half - PAGE + 1, TOP - 1, 0x1234_5678_9abc_d000] {
            let error = everywhere().claim("c", at, PAGE);
            assert!(matches!(error, Err(Error::NotCanonical { .. })), "{at:#x}");
        }
        assert!(everywhere().claim("d", u64::MAX - 0xfff, 0x1001).is_err());
        assert_eq!(everywhere().claim("d", u64::MAX - 0xfff, 0x1000), Ok(()));
        assert!(everywhere().find("e", u64::MAX).is_err());
    }

    #[test]
    fn names_both_parties_of_a_collision() {
        let mut space = everywhere();
        space.claim("first", TOP + 0x1800, 0x1000).expect("free");
        let collision = |what, at| Error::Collision {
            what,
            at,
            with: "first",
        };
        let at = TOP + 0x2fff;
        assert_eq!(space.claim("b", at, 1), Err(collision("b", at)));
        assert_eq!(space.claim("c", TOP, 0x1001), Err(collision("c", TOP)));
        assert_eq!(space.claim("d", TOP, 0x1000), Ok(()));
        assert_eq!(space.claim("e", TOP + 0x3000, 1), Ok(()));
        let to = 0x20_0000;
        let at = TOP + 0x1000;
        assert_eq!(
            space.claim_aligned("f", at, 1, to),
            Err(Error::NotAligned { what: "f", at, to })
        );
    }
}
