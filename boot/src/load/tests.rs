//! Images are loaded into page tables on the host, and read back through them.

use super::*;
use crate::frames::Frames;
use crate::plan::{HUGE_PAGE, LARGE_PAGE, Machine};
use crate::testing::{Elf, R, RW, RX, Random, parse};
use bootloader_api::BootloaderConfig;
use bootloader_api::config::Mapping;
use elf::abi::{PT_GNU_RELRO, PT_TLS};
use std::boxed::Box;
use std::vec::Vec;
use x86_64::VirtAddr;
use x86_64::structures::paging::mapper::{MappedFrame, Translate, TranslateResult};
use x86_64::structures::paging::{PageTable, PageTableFlags, PageTableIndex};

const BASE: u64 = 0xffff_ffff_8000_0000;
const PAGES: usize = 256;

#[derive(Clone)]
#[repr(align(4096))]
struct Frame {
    bytes: [u8; PAGE as usize],
}

/// The memory of a machine, from physical address 0 on.
struct Memory(Box<[Frame]>);

impl Memory {
    /// Returns memory full of junk, so that bytes that are not filled show.
    fn new() -> Self {
        let bytes = [0xa5; PAGE as usize];
        Self(std::vec![Frame { bytes }; PAGES].into())
    }

    fn offset(&mut self) -> u64 {
        self.0[0].bytes.as_mut_ptr().addr() as u64
    }

    fn frames(&self) -> Frames {
        Frames::new(0..PAGES as u64 * PAGE)
    }
}

/// Returns what a virtual address is mapped to: physical address, size of its page, flags of the
/// last level.
fn look(tables: &Tables<'_>, at: u64) -> Option<(u64, u64, PageTableFlags)> {
    match tables.mapper().translate(VirtAddr::new(at)) {
        TranslateResult::Mapped {
            frame,
            offset,
            flags,
        } => {
            let start = frame.start_address().as_u64();
            Some((start + offset, MappedFrame::size(&frame), flags))
        }
        _ => None,
    }
}

/// Returns whether a page may be written, and whether it may be executed.
fn rights(flags: PageTableFlags) -> (bool, bool) {
    let writable = flags.contains(PageTableFlags::WRITABLE);
    (writable, !flags.contains(PageTableFlags::NO_EXECUTE))
}

/// Loads an image and gives the tables to `check`, with a function that reads memory through them.
fn loaded(elf: &Elf, check: impl FnOnce(&Plan, &Tables<'_>, &dyn Fn(u64, u64) -> Vec<u8>)) {
    let file = elf.build();
    let image = parse(&file);
    let machine = Machine {
        usable_end: PAGES as u64 * PAGE,
        hand_over: 0x1000,
        boot_info_len: 100,
    };
    let plan = Plan::new(&image, &machine).expect("a good plan");
    let mut memory = Memory::new();
    let mut frames = memory.frames();
    let offset = memory.offset();
    // SAFETY: `memory` lives until the end, and is used only through the tables and `read`.
    let (mut tables, reach) = unsafe {
        (
            Tables::new(&mut frames, offset).expect("room"),
            Reach::new(offset),
        )
    };
    load_image(&image, &plan, &mut tables, reach).expect("room");
    map_rest(&plan, &mut tables, HugePages::Yes, reach).expect("room");
    let read = |at: u64, len: u64| {
        (at..at + len)
            .map(|at| {
                let (physical, ..) = look(&tables, at).expect("mapped");
                // SAFETY: the page belongs to `memory`.
                unsafe { *((physical + offset) as *const u8) }
            })
            .collect()
    };
    check(&plan, &tables, &read);
}

fn config() -> BootloaderConfig {
    let mut config = BootloaderConfig::new_default();
    config.kernel_stack_size = 0x2000;
    config
}

#[test]
fn segments_have_their_contents_zeros_and_rights() {
    loaded(&Elf::kernel(BASE, &config()), |_, tables, read| {
        assert_eq!(read(BASE, 10), b"constants\0");
        assert_eq!(read(BASE + 0x1000, 0x21)[..0x20], [0xcc; 0x20]);
        assert_eq!(read(BASE + 0x2000, 0xff0), [0; 0xff0]);
        assert_eq!(read(BASE + 0x2ff0, 0x20), [0x11; 0x20]);
        assert_eq!(read(BASE + 0x3010, 0x2ff0), [0; 0x2ff0]);
        let rights_at = |at| look(tables, BASE + at).map(|(_, _, flags)| rights(flags));
        assert_eq!(rights_at(0), Some((false, false)));
        assert_eq!(rights_at(0x1000), Some((false, true)));
        for at in [0x2000, 0x3000, 0x4000, 0x5000] {
            assert_eq!(rights_at(at), Some((true, false)));
        }
        assert_eq!(rights_at(0x6000), None);
    });
}

#[test]
fn the_stack_has_a_guard_and_no_code() {
    loaded(&Elf::kernel(BASE, &config()), |plan, tables, read| {
        let bottom = plan.stack_bottom;
        assert!(look(tables, bottom - 1).is_none(), "guard page");
        assert_eq!(read(bottom, 0x2000), [0; 0x2000]);
        let (.., flags) = look(tables, bottom).expect("mapped");
        assert_eq!(rights(flags), (true, false));
        assert!(look(tables, bottom + 0x2000).is_none());
    });
}

#[test]
fn relocations_move_with_the_image() {
    let relocations = [(0x2ff8, 8, 0x1010), (0x3000, 8, 0u64.wrapping_sub(16))];
    let pie = Elf::kernel(0, &config()).relocations(0x8000, &relocations);
    loaded(&pie, |plan, _, read| {
        let offset = plan.image_offset;
        assert_ne!(offset, 0);
        let value = |addend: u64| addend.wrapping_add(offset).to_le_bytes();
        assert_eq!(read(offset + 0x2ff8, 8), value(0x1010));
        assert_eq!(read(offset + 0x3000, 8), value(0u64.wrapping_sub(16)));
        assert_eq!(read(offset + 0x2ff0, 8), [0x11; 8]);
    });
}

#[test]
fn relro_seals_its_pages_only() {
    let elf = Elf::kernel(BASE, &config()).header(PT_GNU_RELRO, R, BASE + 0x3000, &[], 0x1fff);
    loaded(&elf, |_, tables, _| {
        let writable = |at| rights(look(tables, BASE + at).expect("mapped").2).0;
        assert_eq!(
            [0x2000, 0x3000, 0x4000, 0x5000].map(writable),
            [true, false, true, true]
        );
        assert_eq!(
            rights(look(tables, BASE + 0x1000).expect("mapped").2),
            (false, true)
        );
    });
}

#[test]
fn physical_memory_takes_the_largest_pages_that_fit() {
    let mut memory = Memory::new();
    let offset = memory.offset();
    let map = |to, huge| {
        let mut frames = memory.frames();
        // SAFETY: `memory` outlives the tables, and no other code uses it.
        let mut tables = unsafe { Tables::new(&mut frames, offset).expect("room") };
        let end = 2 * HUGE_PAGE + 3 * LARGE_PAGE;
        tables.map_physical(to, end, huge).expect("room");
        assert!(look(&tables, to + end).is_none());
        [0, HUGE_PAGE + 5, 2 * HUGE_PAGE + LARGE_PAGE].map(|at| {
            let (physical, size, flags) = look(&tables, to + at).expect("mapped");
            assert_eq!(physical, at);
            assert_eq!(rights(flags), (true, false));
            size
        })
    };
    let to = 0xffff_8000_0000_0000;
    assert_eq!(map(to, HugePages::Yes), [HUGE_PAGE, HUGE_PAGE, LARGE_PAGE]);
    assert_eq!(map(to, HugePages::No), [LARGE_PAGE; 3]);
    assert_eq!(map(to + LARGE_PAGE, HugePages::Yes), [LARGE_PAGE; 3]);
}

#[test]
fn the_recursive_entry_points_to_its_table() {
    let mut config = config();
    config.mappings.page_table_recursive = Some(Mapping::Dynamic);
    let elf = Elf::kernel(BASE, &config);
    let file = elf.build();
    let image = parse(&file);
    let machine = Machine {
        usable_end: PAGES as u64 * PAGE,
        hand_over: 0x1000,
        boot_info_len: 100,
    };
    let plan = Plan::new(&image, &machine).expect("a good plan");
    let mut memory = Memory::new();
    let mut frames = memory.frames();
    let offset = memory.offset();
    // SAFETY: `memory` outlives the tables, and no other code uses it.
    let (mut tables, reach) = unsafe {
        (
            Tables::new(&mut frames, offset).expect("room"),
            Reach::new(offset),
        )
    };
    map_rest(&plan, &mut tables, HugePages::No, reach).expect("room");
    let root = tables.root();
    let index = plan.recursive.expect("asked for");
    // SAFETY: the root is a table within `memory`, and the tables are not changed any more.
    let table = unsafe { &*((root + offset) as *const PageTable) };
    let entry = &table[PageTableIndex::new(index)];
    assert_eq!(entry.addr().as_u64(), root);
    assert_eq!(rights(entry.flags()), (true, false));
}

#[test]
fn running_out_of_memory_is_an_error() {
    let file = Elf::kernel(BASE, &config()).build();
    let image = parse(&file);
    let machine = Machine {
        usable_end: 0,
        hand_over: 0x1000,
        boot_info_len: 100,
    };
    let plan = Plan::new(&image, &machine).expect("a good plan");
    for pages in 0..=16 {
        let mut memory = Memory::new();
        let offset = memory.offset();
        let mut frames = Frames::new(0..pages * PAGE);
        // SAFETY: `memory` outlives the tables, and no other code uses it.
        let result = unsafe { Tables::new(&mut frames, offset) }.and_then(|mut tables| {
            // SAFETY: `memory` outlives this value, and no other code uses it.
            let reach = unsafe { Reach::new(offset) };
            load_image(&image, &plan, &mut tables, reach)?;
            map_rest(&plan, &mut tables, HugePages::Yes, reach)
        });
        // These are the root, 6 pages of segments and 3 tables, then 2 pages of stack and 3 tables.
        match pages {
            0..15 => assert!(matches!(result, Err(Error::NoMemory { .. })), "{pages}"),
            _ => assert_eq!(result, Ok(()), "{pages}"),
        }
    }
}

/// A damaged file is refused, or it loads. The loader never panics, and no page is writable and
/// executable.
#[test]
fn no_damage_breaks_the_loader() {
    const SEED: u64 = 0x7469_6465_6d61_726b;
    let mut random = Random(SEED);
    let originals = [
        Elf::kernel(BASE, &config())
            .header(PT_TLS, R, BASE + 0x2ff0, &[0x11; 8], 24)
            .header(PT_GNU_RELRO, R, BASE + 0x2ff0, &[], 0x1010)
            .build(),
        Elf::kernel(0, &config())
            .relocations(0x8000, &[(0x2ff8, 8, 1), (0x3000, 8, 2)])
            .load(RW, 0x2_0000, &[], 0x1000)
            .load(RX, 0x3_0000, &[0xc3], 1)
            .build(),
    ];
    let mut memory = Memory::new();
    let offset = memory.offset();
    let (mut loads, mut refusals) = (0, 0);
    for round in 0..20_000 {
        let mut file = originals[round % 2].clone();
        damage(&mut file, &mut random);
        let mut frames = memory.frames();
        let result = Image::parse(&file).and_then(|image| {
            let machine = Machine {
                usable_end: random.below(1 << 34),
                hand_over: 0x1000,
                boot_info_len: 100,
            };
            let plan = Plan::new(&image, &machine)?;
            // SAFETY: `memory` outlives the tables, and no other code uses it.
            let (mut tables, reach) =
                unsafe { (Tables::new(&mut frames, offset)?, Reach::new(offset)) };
            load_image(&image, &plan, &mut tables, reach)?;
            map_rest(&plan, &mut tables, HugePages::Yes, reach)?;
            for segment in &image.segments {
                let at = segment.vaddr.wrapping_add(plan.image_offset);
                let (.., flags) = look(&tables, at).expect("a loaded segment is mapped");
                assert_ne!(rights(flags), (true, true), "round {round}");
            }
            let entry = look(&tables, plan.entry).map(|(.., flags)| rights(flags));
            assert_eq!(entry, Some((false, true)), "round {round}");
            Ok(())
        });
        match result {
            Ok(()) => loads += 1,
            Err(error) => {
                refusals += 1;
                let line = std::format!("{error}");
                assert!(line.contains(": ") && !line.contains('\n'), "{line}");
            }
        }
    }
    assert!(loads > 1000 && refusals > 1000, "{loads} of 20000 loaded");
}

/// Changes a few bytes. Extreme values find more than arbitrary ones, headers more than contents.
fn damage(file: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(3) {
        let end = if random.below(2) == 0 {
            512
        } else {
            file.len() as u64
        };
        let at = random.below(end) as usize;
        let any = random.below(256) as u8;
        let value = [0, 1, 0x7f, 0x80, 0xff, any][random.below(6) as usize];
        let len = [1, 2, 4, 8][random.below(4) as usize];
        let end = (at + len).min(file.len());
        file[at..end].fill(value);
    }
    if random.below(8) == 0 {
        file.truncate(random.below(file.len() as u64) as usize);
    }
}
