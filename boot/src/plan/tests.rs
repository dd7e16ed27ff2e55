//! Wishes are met or refused by name. Places that are left open do not collide with any other.

use super::*;
use crate::error::Error;
use crate::testing::{Elf, R, parse};
use bootloader_api::BootloaderConfig;
use core::ops::Range;
use std::vec::Vec;

const BASE: u64 = 0xffff_ffff_8000_0000;
const UPPER: u64 = 0xffff_8000_0000_0000;
const GIB: u64 = 1 << 30;
const MACHINE: Machine = Machine {
    usable_end: 0x1_4000_0000,
    hand_over: 0x7ffd_7000,
    boot_info_len: 700,
};

fn config() -> BootloaderConfig {
    let mut config = BootloaderConfig::new_default();
    config.mappings.physical_memory = Some(Mapping::Dynamic);
    config.mappings.page_table_recursive = Some(Mapping::Dynamic);
    config
}

fn plan_for(elf: &Elf) -> Result<Plan> {
    Plan::new(&parse(&elf.build()), &MACHINE)
}

fn plan(config: &BootloaderConfig) -> Result<Plan> {
    plan_for(&Elf::kernel(BASE, config))
}

fn ranges(plan: &Plan) -> Vec<Range<u64>> {
    let mut ranges = std::vec![
        MACHINE.hand_over..MACHINE.hand_over + PAGE,
        plan.image_offset.wrapping_add(BASE)..plan.image_offset.wrapping_add(BASE + 0x6000),
        plan.stack_bottom - PAGE..plan.stack_bottom + plan.stack_pages() * PAGE,
        plan.boot_info..plan.boot_info + PAGE,
    ];
    ranges.extend(plan.physical_memory.map(|at| at..at + plan.physical_end));
    ranges.extend(plan.recursive.map(|index| {
        let at = u64::from(index) << 39 | if index > 255 { UPPER } else { 0 };
        at..at + ENTRY_SPAN - 1
    }));
    ranges.sort_by_key(|range| range.start);
    ranges
}

#[test]
fn dynamic_places_do_not_meet() {
    let plan = plan(&config()).expect("a good plan");
    assert_eq!((plan.image_offset, plan.entry), (0, BASE + 0x1010));
    assert_eq!(plan.stack_len, 80 * 1024);
    assert_eq!(plan.stack_top(), plan.stack_bottom + 80 * 1024);
    let ranges = ranges(&plan);
    assert_eq!(ranges.len(), 6);
    for pair in ranges.windows(2) {
        assert!(pair[0].end <= pair[1].start, "{ranges:x?}");
    }
}

#[test]
fn dynamic_places_keep_to_the_range_asked_for() {
    let mut config = config();
    config.mappings.dynamic_range_start = Some(UPPER);
    let plan = plan(&config).expect("a good plan");
    assert!(ranges(&plan)[1..].iter().all(|range| range.start >= UPPER));
    config.mappings.dynamic_range_end = Some(UPPER + 2 * ENTRY_SPAN - 1);
    assert!(matches!(
        super::tests::plan(&config),
        Err(Error::NoAddressSpace { .. })
    ));
}

#[test]
fn fixed_places_are_honoured() {
    let mut config = config();
    config.mappings.kernel_stack = Mapping::FixedAddress(UPPER + 0xf_0000);
    config.mappings.boot_info = Mapping::FixedAddress(UPPER);
    config.mappings.physical_memory = Some(Mapping::FixedAddress(UPPER + ENTRY_SPAN));
    config.mappings.page_table_recursive = Some(Mapping::FixedAddress(UPPER + 3 * ENTRY_SPAN));
    config.kernel_stack_size = 0x1_2345;
    let plan = plan(&config).expect("a good plan");
    assert_eq!(
        plan.stack_bottom,
        UPPER + 0xf_1000,
        "the guard page is below"
    );
    assert_eq!(plan.stack_top(), UPPER + 0xf_1000 + 0x1_2340);
    assert_eq!(plan.stack_pages(), 0x13);
    assert_eq!(plan.boot_info, UPPER);
    assert_eq!(plan.physical_memory, Some(UPPER + ENTRY_SPAN));
    assert_eq!(plan.recursive, Some(256 + 3));
}

#[test]
fn nothing_that_is_not_asked_for_is_mapped() {
    let plan = plan(&BootloaderConfig::new_default()).expect("a good plan");
    assert_eq!((plan.physical_memory, plan.recursive), (None, None));
}

#[test]
fn broken_wishes_are_refused() {
    let refusal = |change: &dyn Fn(&mut BootloaderConfig)| {
        let mut config = config();
        change(&mut config);
        plan(&config).expect_err("a broken wish")
    };
    let fixed = |at| Mapping::FixedAddress(at);
    assert!(matches!(
        refusal(&|it| it.mappings.physical_memory = Some(fixed(UPPER + PAGE))),
        Error::NotAligned { to: LARGE_PAGE, .. }
    ));
    assert!(matches!(
        refusal(&|it| it.mappings.boot_info = fixed(UPPER + 8)),
        Error::NotAligned { to: PAGE, .. }
    ));
    assert!(matches!(
        refusal(&|it| it.mappings.page_table_recursive = Some(fixed(UPPER + GIB))),
        Error::NotAligned { to: ENTRY_SPAN, .. }
    ));
    assert!(matches!(
        refusal(&|it| it.mappings.kernel_stack = fixed(1 << 47)),
        Error::NotCanonical { .. }
    ));
    assert!(matches!(
        refusal(&|it| it.mappings.kernel_stack = fixed(BASE + 0x3000)),
        Error::Collision { .. }
    ));
    assert!(matches!(
        refusal(&|it| it.mappings.physical_memory = Some(fixed(0))),
        Error::Collision { .. }
    ));
    assert!(matches!(
        refusal(&|it| it.kernel_stack_size = u64::MAX),
        Error::NoAddressSpace { .. }
    ));
    assert!(matches!(
        refusal(&|it| it.mappings.kernel_base = fixed(UPPER)),
        Error::Unsupported { .. }
    ));
    assert!(matches!(
        plan_for(&Elf::kernel(0x1234_0000_0000_0000, &config())),
        Err(Error::NotCanonical { .. })
    ));
    let hand_over = Elf::kernel(BASE, &config()).load(R, MACHINE.hand_over, &[0], 1);
    assert!(matches!(plan_for(&hand_over), Err(Error::Collision { .. })));
}

#[test]
fn a_relocatable_image_goes_where_there_is_room() {
    let dynamic = Elf::kernel(0x20_0000, &config()).relocations(0x30_0000, &[]);
    let plan = plan_for(&dynamic).expect("a good plan");
    assert_eq!(plan.image_offset, ENTRY_SPAN - 0x20_0000);
    assert_eq!(plan.entry, ENTRY_SPAN + 0x1010);
    let mut config = config();
    config.mappings.kernel_base = Mapping::FixedAddress(BASE);
    let fixed = Elf::kernel(0x20_0000, &config).relocations(0x30_0000, &[]);
    assert_eq!(plan_for(&fixed).expect("a good plan").image_offset, BASE);
    config.mappings.kernel_base = Mapping::FixedAddress(BASE + 1);
    let crooked = Elf::kernel(0x20_0000, &config).relocations(0x30_0000, &[]);
    assert!(matches!(plan_for(&crooked), Err(Error::NotAligned { .. })));
}

#[test]
fn covers_four_gib_and_all_usable_memory_but_no_more() {
    let end = |usable_end| {
        let file = Elf::kernel(BASE, &config()).build();
        let machine = Machine {
            usable_end,
            ..MACHINE
        };
        Plan::new(&parse(&file), &machine)
            .expect("a good plan")
            .physical_end
    };
    assert_eq!(end(48 << 20), 4 * GIB);
    assert_eq!(end(5 * GIB), 5 * GIB);
    assert_eq!(end(5 * GIB + PAGE), 5 * GIB + LARGE_PAGE);
}
