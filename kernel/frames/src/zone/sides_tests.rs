//! Cache limits and words above LOW, after moves of a zone's counter by single frames and by many.

use super::*;
use crate::{testing::*, *};

const NORMAL: ZoneId = zone(0, ZoneKind::Normal);

fn free(frames: &TestFrames) -> u64 {
    frames.zone(NORMAL).free()
}

/// Moves the zone's counter alone.
fn move_to(frames: &TestFrames, to: u64) {
    let now = free(frames);
    if to < now {
        frames.lose(NORMAL, (now - to) as u32);
    } else {
        frames.gain(NORMAL, (to - now) as u32);
    }
}

/// Demands that everything has followed the watermarks, by the zone's statistics.
fn assert_followed(frames: &TestFrames) {
    let (info, now) = (frames.zone_info(NORMAL), free(frames));
    let mut demanded = 0;
    if now < info.low {
        demanded |= BELOW_LOW;
    }
    if now < info.high {
        demanded |= BELOW_HIGH;
    }
    for highest in [ZoneKind::Normal, ZoneKind::Movable] {
        let is_above = now > info.low + info.reserve[highest as usize];
        let word = frames.above_low.zones(highest);
        assert_eq!(
            word >> NORMAL.index() & 1 == 1,
            is_above,
            "{now} {highest:?}"
        );
        if is_above {
            demanded |= above_low(highest);
        }
    }
    for highest in [ZoneKind::Dma, ZoneKind::Dma32] {
        assert_eq!(frames.above_low.zones(highest) >> NORMAL.index() & 1, 0);
    }
    let sides = frames.zone(NORMAL).sides.now();
    assert_eq!(sides, demanded, "at {now} frames");
    assert!(frames.cache_limits_are_right(NORMAL), "at {now} frames");
    let flags = crate::pageblock::flags::PageblockFlags::caches_of(NORMAL);
    for cache_limit in &frames.cache_limits[flags] {
        assert_eq!(cache_limit.is_for(0), now >= info.low, "at {now} frames");
    }
}

/// Makes a machine in which NORMAL keeps a lowmem reserve from requests for MOVABLE.
fn machine() -> &'static TestFrames {
    let frames = small_machine(1);
    add_section(frames, 33);
    let movable = zone(0, ZoneKind::Movable);
    frames
        .online_range(section_range(33), movable, &task())
        .unwrap();
    assert!(frames.zone_info(NORMAL).reserve[ZoneKind::Movable as usize] > 100);
    frames
}

#[test]
fn a_zone_that_moves_by_a_frame_is_followed() {
    let frames = machine();
    let info = frames.zone_info(NORMAL);
    let highest = info.high + info.reserve[ZoneKind::Movable as usize];
    assert_followed(frames);
    let way = 0..=highest + 5;
    for to in way.clone().rev().chain(way) {
        move_to(frames, to);
        assert_followed(frames);
    }
    move_to(frames, info.free);
    assert_sound(frames);
}

#[test]
fn a_zone_that_crosses_its_watermarks_at_once_is_followed() {
    let frames = machine();
    let info = frames.zone_info(NORMAL);
    let reserve = info.reserve[ZoneKind::Movable as usize];
    let places = [info.low, info.high, info.low + reserve, info.high + reserve];
    let near = places
        .into_iter()
        .flat_map(|watermark| [watermark - 1, watermark, watermark + 1]);
    let near = near.chain([0, info.free]).collect::<Vec<_>>();
    for &from in &near {
        for &to in &near {
            move_to(frames, from);
            move_to(frames, to);
            assert_followed(frames);
        }
    }
    move_to(frames, info.free);
    assert_sound(frames);
}

/// The zone's watermarks are one number. With the lowmem reserve it is the highest that is
/// followed.
#[test]
fn a_zone_of_a_few_frames_is_followed_down_to_its_watermarks() {
    let frames = bare_machine(1, 1);
    let dma = zone(0, ZoneKind::Dma);
    add_section(frames, 0);
    let few = PfnRange::new(Pfn(0x100), Pfn(0x120));
    frames.add_boot_range(few, dma).unwrap();
    frames.finish_boot();
    add_section(frames, 32);
    frames
        .online_range(section_range(32), NORMAL, &task())
        .unwrap();
    let info = frames.zone_info(dma);
    assert_eq!(info.low, info.high);
    let highest = frames.zone(dma).highest_followed() as u32;
    let above = (highest + 3).saturating_sub(info.free as u32);
    frames.gain(dma, above);
    for free in (0..highest + 3).rev() {
        frames.lose(dma, 1);
        let sides = frames.zone(dma).sides.now();
        assert_eq!(sides, frames.sides_of(dma), "at {free} frames");
    }
    frames.gain(dma, info.free as u32);
    assert_sound(frames);
}

#[test]
fn the_oracle_says_of_rooms_that_are_wrong() {
    let frames = machine();
    let is_told = || {
        let found = frames.validate_at_rest();
        matches!(found, Err(Inconsistency::CacheLimit { zone: NORMAL }))
    };
    let cache_limits = [
        Zones::<Host>::tell_cache_limits,
        Zones::<Host>::tell_block_cache_limits,
    ];
    for tell in cache_limits {
        tell(frames, NORMAL, true);
        assert!(is_told());
        tell(frames, NORMAL, false);
        assert_sound(frames);
    }
    let right = frames.sides_of(NORMAL);
    frames.zone(NORMAL).sides.follow(|| right ^ BELOW_HIGH);
    assert!(is_told());
    frames.zone(NORMAL).sides.follow(|| right);
    assert_sound(frames);
}
