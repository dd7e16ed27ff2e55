//! Sizes and watermarks of one machine against a table worked by hand.

use crate::{testing::*, *};

/// A zone of the table: managed frames; MIN, LOW, HIGH; lowmem reserves by highest zone.
type Row = (ZoneId, u64, [u64; 3], [u64; 4]);

const fn at(node: u8, kind: ZoneKind) -> ZoneId {
    ZoneId::new(NodeId(node), kind)
}

/// QEMU with two nodes of 2 GiB and 1 GiB, and a DIMM of 256 MiB in each, the second one MOVABLE.
/// These are the zones of the kernel after boot.
///
/// Managed below MOVABLE: 849,098 frames, 3,396,392 kB. √(16 × 3,396,392) = 7,371 kB, 1,842 frames.
/// Shares: 3,996 → 8; 389,120 → 844; 65,536 → 142; 128,302 → 278; 262,144 → 568. In no zone a
/// quarter of the share is more than a thousandth of the zone, so 3, 389, 65, 128 and 262 lie
/// between the watermarks. MOVABLE has a MIN of 65,536 / 1,024 = 64, and 65 between the watermarks.
/// Reserves: DMA a 256th of (389,120; 454,656; the same), DMA32 of (65,536; the same), on node 1 of
/// (262,144; 327,680); NORMAL a 32nd of 65,536.
const AFTER_BOOT: [Row; 6] = [
    (
        at(0, ZoneKind::Dma),
        3_996,
        [8, 11, 14],
        [0, 1_520, 1_776, 1_776],
    ),
    (
        at(0, ZoneKind::Dma32),
        389_120,
        [844, 1_233, 1_622],
        [0, 0, 256, 256],
    ),
    (at(0, ZoneKind::Normal), 65_536, [142, 207, 272], [0; 4]),
    (
        at(1, ZoneKind::Dma32),
        128_302,
        [278, 406, 534],
        [0, 0, 1_024, 1_280],
    ),
    (
        at(1, ZoneKind::Normal),
        262_144,
        [568, 830, 1_092],
        [0, 0, 0, 2_048],
    ),
    (at(1, ZoneKind::Movable), 65_536, [64, 129, 194], [0; 4]),
];

/// That machine without the DIMMs. It has 783,562 frames, 3,134,248 kB; √(16 × 3,134,248) = 7,081
/// kB, 1,770 frames. Shares: 9; 878; 289; 592.
const WITHOUT_DIMMS: [Row; 4] = [
    (
        at(0, ZoneKind::Dma),
        3_996,
        [9, 12, 15],
        [0, 1_520, 1_520, 1_520],
    ),
    (at(0, ZoneKind::Dma32), 389_120, [878, 1_267, 1_656], [0; 4]),
    (
        at(1, ZoneKind::Dma32),
        128_302,
        [289, 417, 545],
        [0, 0, 1_024, 1_024],
    ),
    (at(1, ZoneKind::Normal), 262_144, [592, 854, 1_116], [0; 4]),
];

/// Makes the machine of the tables, with its DIMMs.
fn machine() -> &'static TestFrames {
    let frames = bare_machine(2, 2);
    (0..44).for_each(|block| add_section(frames, block));
    let add = |start: u64, frames_there: u64, zone| {
        let range = PfnRange::new(Pfn(start), Pfn(start + frames_there));
        frames.add_boot_range(range, zone).unwrap();
    };
    add(1, 3_996, at(0, ZoneKind::Dma));
    add(0x1000, 389_120, at(0, ZoneKind::Dma32));
    add(0x6_0000, 128_302, at(1, ZoneKind::Dma32));
    add(0x10_0000, 262_144, at(1, ZoneKind::Normal));
    frames.finish_boot();
    for (block, zone) in [
        (40, at(0, ZoneKind::Normal)),
        (42, at(1, ZoneKind::Movable)),
    ] {
        for block in [block, block + 1] {
            frames
                .online_range(section_range(block), zone, &task())
                .unwrap();
        }
    }
    frames
}

fn rows(frames: &TestFrames) -> Vec<Row> {
    let row = |zone: ZoneInfo| {
        let watermarks = [zone.min, zone.low, zone.high];
        (zone.id, zone.managed, watermarks, zone.reserve)
    };
    frames.zones().map(row).collect()
}

#[test]
fn the_zones_of_a_given_machine_have_the_watermarks_and_reserves_of_the_table() {
    let frames = machine();
    assert_eq!(rows(frames), AFTER_BOOT);
    for block in 40..44 {
        frames
            .offline_range(section_range(block), 0, &task())
            .unwrap();
    }
    assert_eq!(rows(frames), WITHOUT_DIMMS);
    assert_sound(frames);
}

#[test]
fn the_fast_path_stops_at_low_and_the_slow_path_at_min_of_the_table() {
    let frames = machine();
    let id = at(0, ZoneKind::Normal);
    let among = NodeMask::only(NodeId(0));
    let request = Request::nowait(Order::ZERO).among(among).on_node(NodeId(0));
    let others = [ZoneKind::Dma, ZoneKind::Dma32].map(|kind| press(frames, at(0, kind), 0));
    let held = press(frames, id, 208);
    let (mut blocks, mut first_slow) = (Vec::new(), None);
    loop {
        // The caches are drained, so that the request depends on the counter.
        frames.drain_all(&task());
        let (free, mut info) = (frames.zone_info(id).free, WalkInfo::default());
        let Ok(block) = frames.alloc_traced(&task(), &request, &mut info) else {
            assert_eq!(free, 142);
            break;
        };
        blocks.push(block);
        if info.slow && first_slow.is_none() {
            first_slow = Some(free);
        }
    }
    assert_eq!(first_slow, Some(207));
    drop((others, held, blocks));
    assert_sound(frames);
}
