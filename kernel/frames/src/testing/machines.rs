//! Machines for tests, and helpers that fill and empty them.

use super::*;
use crate::{
    base::pin::OnCpu,
    pageblock::{bits::Isolation, section_meta::PageblockRef},
};
use std::{cell::Cell, rc::Rc};

fn leak<T>(count: usize, make: impl FnMut() -> T) -> &'static [T] {
    std::iter::repeat_with(make)
        .take(count)
        .collect::<Vec<_>>()
        .leak()
}

/// Isolates a pageblock as an offline does. Returns the frames that its zone's counter lost, or
/// `None` if it was isolated, or is gone.
pub(crate) fn isolate(frames: &TestFrames, pageblock: PageblockRef<'_>) -> Option<u32> {
    let counted = pageblock.core().isolate(Isolation::Offline(resizing()))?;
    frames.lose(pageblock.zone(), counted);
    Some(counted)
}

/// Ends an isolation by [`isolate`]. Returns the frames that the zone's counter got back, or `None`
/// if the pageblock was not isolated so.
pub(crate) fn unisolate(frames: &TestFrames, pageblock: PageblockRef<'_>) -> Option<u32> {
    let counted = pageblock.core().unisolate(Isolation::Offline(resizing()))?;
    frames.gain(pageblock.zone(), counted);
    Some(counted)
}

/// Proof that a test's thread stays on its CPU: the thread is the CPU.
pub(crate) const HERE: OnCpu<'static> = OnCpu::proven_otherwise();

/// Makes a machine without memory: `cpus` CPUs, `nodes` nodes at distance 20, and slots for 48
/// sections.
pub(crate) fn bare_machine(cpus: usize, nodes: usize) -> &'static TestFrames {
    bare_machine_of(cpus, nodes, Variant::Seed)
}

/// Makes a machine without memory, with this zonelist protocol.
pub(crate) fn bare_machine_of(cpus: usize, nodes: usize, variant: Variant) -> &'static TestFrames {
    machine(cpus, nodes, variant, 48)
}

/// Makes a machine of one CPU and node without memory, with slots for `sections` sections.
pub(crate) fn machine_of_sections(sections: usize) -> &'static TestFrames {
    machine(1, 1, Variant::Seed, sections)
}

fn machine(cpus: usize, nodes: usize, variant: Variant, sections: usize) -> &'static TestFrames {
    let storage = Storage {
        sections: leak(sections, SectionSlot::new),
        cpus: leak(cpus, CpuCaches::new),
        nodes: leak(nodes, Node::new),
        zones: leak(nodes * 4, Zone::new),
    };
    let host = Host {
        threaded: (0..cpus).map(|_| AtomicBool::new(false)).collect(),
        interrupt: (0..cpus).map(|_| AtomicU8::new(IDLE)).collect(),
        pins: (0..cpus).map(|_| AtomicUsize::new(0)).collect(),
        gates: (0..cpus).map(|_| CpuGate::new()).collect(),
        grace_asked: (0..cpus).map(|_| AtomicBool::new(false)).collect(),
        ..Host::default()
    };
    let frames: &'static TestFrames = Box::leak(Box::new(Frames::new(host, storage, variant)));
    assert!(frames.platform().frames.set(frames).is_ok());
    let mask = (u16::MAX >> (16 - nodes)) as u8;
    frames.set_topology(&Topology::flat(NodeMask(mask)));
    frames
}

/// Gives books to a section.
pub(crate) fn add_section(frames: &'static TestFrames, section: usize) {
    let meta = Box::leak(Box::new(SectionMeta::new()));
    frames.add_section(SectionNo(section), meta).unwrap();
}

/// Returns the frames of a section.
pub(crate) fn section_range(section: usize) -> PfnRange {
    PfnRange::new(SectionNo(section).start(), SectionNo(section + 1).start())
}

pub(crate) const fn zone(node: u8, kind: ZoneKind) -> ZoneId {
    ZoneId::new(NodeId(node), kind)
}

/// Makes one node: section 0 has 4,096 frames of DMA, with holes, and the rest DMA32; section 32 is
/// NORMAL.
pub(crate) fn small_machine(cpus: usize) -> &'static TestFrames {
    small_machine_of(cpus, Variant::Seed)
}

/// Makes a small machine with this zonelist protocol.
pub(crate) fn small_machine_of(cpus: usize, variant: Variant) -> &'static TestFrames {
    let frames = bare_machine_of(cpus, 1, variant);
    add_section(frames, 0);
    let add = |start, end, kind| {
        let range = PfnRange::new(Pfn(start), Pfn(end));
        frames.add_boot_range(range, zone(0, kind)).unwrap();
    };
    add(1, 0x9f, ZoneKind::Dma);
    add(0x100, 0x1000, ZoneKind::Dma);
    add(0x1000, SECTION_FRAMES as u64 - 77, ZoneKind::Dma32);
    frames.finish_boot();
    add_section(frames, 32);
    frames
        .online_range(section_range(32), zone(0, ZoneKind::Normal), &task())
        .unwrap();
    frames.validate_at_rest().unwrap();
    frames
}

/// Makes `cpus` CPUs, and NORMAL of `sections` memory sections from section 32 on.
pub(crate) fn normal_machine(cpus: usize, sections: usize) -> &'static TestFrames {
    let frames = bare_machine(cpus, 1);
    for section in 32..32 + sections {
        add_section(frames, section);
        let normal = zone(0, ZoneKind::Normal);
        frames
            .online_range(section_range(section), normal, &task())
            .unwrap();
    }
    frames
}

/// Makes two nodes with a NORMAL zone of 128 MiB each.
pub(crate) fn two_nodes(cpus: usize) -> &'static TestFrames {
    let frames = bare_machine(cpus, 2);
    for (node, section) in [(0, 32), (1, 34)] {
        add_section(frames, section);
        let normal = zone(node, ZoneKind::Normal);
        frames
            .online_range(section_range(section), normal, &task())
            .unwrap();
    }
    frames
}

/// Takes frames of a zone until `left` are free.
pub(crate) fn press(frames: &'static TestFrames, zone: ZoneId, left: u64) -> Vec<TestBlock> {
    let mut taken = Vec::new();
    for order in [Order::MAX, Order::HUGE, Order::COSTLY, Order::ZERO] {
        while frames.zone_info(zone).free >= left + order.frames() {
            let block = frames.alloc_in_zone(ContextKind::Task, zone, order, test_owner(0));
            let Some(block) = block else { break };
            taken.push(block);
            frames.drain_all(&task());
        }
    }
    assert_eq!(frames.zone_info(zone).free, left);
    taken
}

/// A guard that runs a function when it is dropped, also by a panic.
pub(crate) struct OnDrop<F: Fn()>(pub(crate) F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Calls `arrive` at one step, and counts all steps.
pub(crate) fn at_step(
    at: usize,
    mut arrive: impl FnMut() + 'static,
) -> (HookGuard, Rc<Cell<usize>>) {
    let steps = Rc::new(Cell::new(0));
    let count = Rc::clone(&steps);
    let hook = at_steps(move || {
        if count.replace(count.get() + 1) == at {
            arrive();
        }
    });
    (hook, steps)
}

/// Runs `work` with a drain's interrupt at each of its steps in turn.
pub(crate) fn drained_at_each_step(frames: &'static TestFrames, mut work: impl FnMut()) {
    for at in 0.. {
        let (hook, steps) = at_step(at, move || {
            frames.caches().drains().ask();
            frames.drain_local(&hard_irq());
        });
        work();
        drop(hook);
        assert!(frames.is_at_rest(CpuId(0)), "a drain is left at step {at}");
        if at >= steps.get() {
            assert!(at > 2, "{at} steps");
            return;
        }
    }
}
