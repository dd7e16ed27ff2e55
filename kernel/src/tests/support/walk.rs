//! A page-table walk of its own: it shares no code with the mapper that it checks.

use crate::arch::paging::phys_to_virt;
use x86_64::registers::control::Cr3;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// A mapping, with the permissions of all levels taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// First virtual address.
    pub virt: u64,
    /// First physical address.
    pub phys: u64,
    /// Size in bytes: 4 KiB, 2 MiB or 1 GiB.
    pub len: u64,
    /// Whether it can be written.
    pub writable: bool,
    /// Whether it can be executed.
    pub executable: bool,
}

/// What a walk meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The frame of a page table.
    Table {
        /// Its physical address.
        phys: u64,
    },
    /// A mapping.
    Leaf(Leaf),
}

#[derive(Clone, Copy)]
struct Level {
    table: u64,
    depth: u32,
    virt: u64,
    writable: bool,
    executable: bool,
}

/// Where the running CPU's page tables begin.
fn root() -> Level {
    Level {
        table: Cr3::read().0.start_address().as_u64(),
        depth: 4,
        virt: 0,
        writable: true,
        executable: true,
    }
}

fn entry(table: u64, index: usize) -> u64 {
    let table = phys_to_virt(table).cast::<u64>();
    // SAFETY: a page table in use is a frame of 512 entries in the direct map. Another CPU may
    // write the entry at this moment: volatile, and a whole word.
    unsafe { table.add(index).read_volatile() }
}

/// What entry `index` of a table leads to, if anything.
fn descend(level: Level, index: usize) -> Option<Result<Leaf, Level>> {
    let entry = entry(level.table, index);
    if entry & PRESENT == 0 {
        return None;
    }
    let shift = 12 + 9 * (level.depth - 1);
    let mut virt = level.virt | (index as u64) << shift;
    if level.depth == 4 && index >= 256 {
        virt |= 0xffff << 48;
    }
    let writable = level.writable && entry & WRITABLE != 0;
    let executable = level.executable && entry & NO_EXECUTE == 0;
    if level.depth == 1 || entry & LARGE != 0 {
        let len = 1 << shift;
        Some(Ok(Leaf {
            virt,
            phys: entry & ADDRESS & !(len - 1),
            len,
            writable,
            executable,
        }))
    } else {
        Some(Err(Level {
            table: entry & ADDRESS,
            depth: level.depth - 1,
            virt,
            writable,
            executable,
        }))
    }
}

/// Shows `see` every page table and mapping of the running CPU, in ascending order of addresses.
/// Nobody changes mappings meanwhile.
pub fn for_each(see: &mut dyn FnMut(Seen)) {
    fn walk(level: Level, see: &mut dyn FnMut(Seen)) {
        see(Seen::Table { phys: level.table });
        for index in 0..512 {
            match descend(level, index) {
                Some(Ok(leaf)) => see(Seen::Leaf(leaf)),
                Some(Err(below)) => walk(below, see),
                None => {}
            }
        }
    }
    walk(root(), see);
}

/// The mapping that covers an address on the running CPU.
pub fn lookup(virt: u64) -> Option<Leaf> {
    let mut level = root();
    loop {
        let shift = 12 + 9 * (level.depth - 1);
        match descend(level, (virt >> shift & 511) as usize)? {
            Ok(leaf) => return Some(leaf),
            Err(below) => level = below,
        }
    }
}
