//! Entries that are read, and remembered, from a list that is being rewritten.

use super::*;

/// Makes node 0 with NORMAL in section 32, and node 1 with MOVABLE in section 34 and NORMAL in
/// section 36.
fn two_nodes_one_with_movable(variant: Variant) -> &'static TestFrames {
    let frames = bare_machine_of(2, 2, variant);
    let zones = [
        (32, NORMAL),
        (34, zone(1, ZoneKind::Movable)),
        (36, zone(1, ZoneKind::Normal)),
    ];
    for (block, zone) in zones {
        add_section(frames, block);
        frames
            .online_range(section_range(block), zone, &task())
            .unwrap();
    }
    frames
}

/// While node 0's list is rewritten, an entry pairs MOVABLE with NORMAL's index (H7). A handler's
/// first request walks the list by index; its CPU must not remember a MOVABLE cache.
#[test]
fn a_torn_entry_is_not_remembered_by_the_hot_path() {
    let variants = Variant::ALL.into_iter();
    for variant in variants.filter(|variant| !variant.rules().waits.include(Gfp::ATOMIC)) {
        let frames = two_nodes_one_with_movable(variant);
        let movable = zone(1, ZoneKind::Movable);
        let page = Owner::new(OwnerKind::PageCache, 1);
        // CPU 0 has frames of MOVABLE in its cache, and refills it now and then.
        let fill = move || {
            on_cpu(0, || {
                drop(
                    frames
                        .alloc_in_zone(ContextKind::Task, movable, SINGLE, page)
                        .unwrap(),
                );
            });
        };
        fill();
        let got = Rc::new(RefCell::new(Vec::new()));
        let theirs = Rc::clone(&got);
        let hook = at_points(move |point| {
            if point == Point::OfflineLeft {
                fill();
            }
            if point == Point::RebuildEntry {
                for _ in 0..3 {
                    let request = Request::atomic(SINGLE).owned_by(test_owner(7));
                    let block = on_cpu(0, || frames.alloc(&nmi(), &request));
                    theirs
                        .borrow_mut()
                        .extend(block.map(|block| frames.zone_of(block.pfn())));
                }
            }
        });
        let until = frames.platform().now_ns() + 10_000_000;
        frames
            .offline_range(section_range(32), until, &task())
            .unwrap();
        drop(hook);
        let got = got.take();
        assert!(got.len() > 6, "{variant:?}: {got:?}");
        assert!(!got.contains(&Some(movable)), "{variant:?}: {got:?}");
        assert_sound(frames);
    }
}

/// A walk during a rebuild of `snapshot` sees the old list or the new one.
#[test]
fn a_walk_amid_a_snapshots_rebuild_sees_a_whole_list() {
    let frames = two_nodes_one_with_movable(Variant::Snapshot);
    let list = move || {
        let list = frames.zonelist(NodeId(0), ListKind::Fallback);
        list.iter().collect::<Vec<_>>()
    };
    let before = list();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let sees = Rc::clone(&seen);
    let hook = at_points(move |point| {
        if matches!(point, Point::RebuildEntry | Point::RebuildOdd) {
            sees.borrow_mut().push(list());
        }
    });
    frames
        .offline_range(section_range(32), u64::MAX, &task())
        .unwrap();
    drop(hook);
    assert_ne!(before, list());
    let seen = seen.take();
    assert!(
        seen.len() > 2 && seen.iter().all(|list| *list == before),
        "{seen:?}"
    );
    assert_sound(frames);
}
