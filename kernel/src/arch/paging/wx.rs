//! The search for a page that is both writable and executable, by a walk over all tables.

use x86_64::VirtAddr;
use x86_64::structures::paging::page_table::{PageTable, PageTableEntry, PageTableFlags as Flags};

/// Returns the address of the first page below the top-level table `root` that is both writable and
/// executable. `next` returns the table that an entry points to.
pub(super) fn first<'t>(
    root: &'t PageTable,
    next: &dyn Fn(&PageTableEntry) -> &'t PageTable,
) -> Option<u64> {
    walk(root, 4, 0, next)
}

/// Walks below a table whose pages the levels above let be written and executed. `base` is the
/// first address that it translates.
fn walk<'t>(
    table: &'t PageTable,
    level: u32,
    base: u64,
    next: &dyn Fn(&PageTableEntry) -> &'t PageTable,
) -> Option<u64> {
    for (index, entry) in table.iter().enumerate() {
        let flags = entry.flags();
        // Each level can only take rights away. A page that lacks one of the two rights here lacks
        // it below.
        if !flags.contains(Flags::PRESENT | Flags::WRITABLE) || flags.contains(Flags::NO_EXECUTE) {
            continue;
        }
        let at = base | (index as u64) << (12 + 9 * (level - 1));
        if level == 1 || (level < 4 && flags.contains(Flags::HUGE_PAGE)) {
            return Some(VirtAddr::new_truncate(at).as_u64());
        }
        if let Some(found) = walk(next(entry), level - 1, at, next) {
            return Some(found);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::boxed::Box;
    use x86_64::PhysAddr;

    const BOTH: Flags = Flags::PRESENT.union(Flags::WRITABLE);
    const DATA: Flags = BOTH.union(Flags::NO_EXECUTE);

    fn table() -> &'static mut PageTable {
        Box::leak(Box::new(PageTable::new()))
    }

    /// Lets an entry of made-up tables point to another one; the table's address stands for a
    /// frame's.
    fn point(entry: &mut PageTableEntry, to: &'static PageTable, flags: Flags) {
        entry.set_addr(PhysAddr::new(core::ptr::from_ref(to) as u64), flags);
    }

    fn found(root: &PageTable) -> Option<u64> {
        first(root, &|entry| {
            // SAFETY: `point` wrote the address of a table that is never freed or changed again.
            unsafe { &*(entry.addr().as_u64() as *const PageTable) }
        })
    }

    /// Maps one page at slots 256, 1, 2 and 3, with these flags at each level, top level first, and
    /// searches for it.
    fn page(flags: [Flags; 4]) -> Option<u64> {
        let tables = [table(), table(), table(), table()];
        let [root, third, second, lowest] = tables;
        lowest[3].set_addr(PhysAddr::new(0x7000), flags[3]);
        point(&mut second[2], lowest, flags[2]);
        point(&mut third[1], second, flags[1]);
        point(&mut root[256], third, flags[0]);
        found(root)
    }

    #[test]
    fn a_page_with_both_rights_is_found_by_its_address() {
        let at = 0xffff_8000_0000_0000 | 1 << 30 | 2 << 21 | 3 << 12;
        assert_eq!(page([BOTH; 4]), Some(at));
    }

    #[test]
    fn one_level_without_a_right_takes_it_away() {
        for level in 0..4 {
            for flags in [DATA, Flags::PRESENT, Flags::empty()] {
                let mut levels = [BOTH; 4];
                levels[level] = flags;
                assert_eq!(page(levels), None, "{flags:?} at level {}", 4 - level);
            }
        }
    }

    #[test]
    fn a_huge_page_is_a_page() {
        for is_executable in [true, false] {
            let [root, third] = [table(), table()];
            let flags = if is_executable { BOTH } else { DATA };
            third[5].set_addr(PhysAddr::new(0), flags | Flags::HUGE_PAGE);
            point(&mut root[0], third, BOTH);
            assert_eq!(found(root), is_executable.then_some(5 << 30));
        }
    }

    #[test]
    fn pages_before_and_behind_do_not_hide_it() {
        let [root, third] = [table(), table()];
        for (slot, flags) in [(0, DATA), (1, BOTH), (2, DATA)] {
            third[slot].set_addr(PhysAddr::new(0), flags | Flags::HUGE_PAGE);
        }
        point(&mut root[0], third, BOTH);
        assert_eq!(found(root), Some(1 << 30));
    }
}
