//! Turns the machine's memory map into an allocator that holds all of the memory.

use super::carve::{self, FRAME_BYTES, SECTION_FRAMES};
use super::nodes::{self, MAX_NODES, Nodes};
use super::page_cache::{self, PageSlot};
use super::report::Size;
use super::{FRAMES, Kernel, NODES, frames, platform, reclaim};
use crate::arch::acpi::Tables;
use crate::arch::early::{BumpAllocator, MemoryMap, Range};
use crate::arch::percpu::{self, CpuId};
use crate::{info, warn};
use bootloader_api::info::{MemoryRegion, MemoryRegionKind};
use core::fmt;
use core::mem::{align_of, size_of};
use tidemark_frames::{
    CpuCaches, Frames, MAX_CPUS, Node, NodeId, NodeMask, Pfn, PfnRange, SectionMeta, SectionNo,
    SectionSlot, Storage, Topology, Variant, Zone, ZoneId, ZoneKind,
};
use tidemark_sync::Task;
use tidemark_wire::LEAST_MEMORY_MIB;

const SECTION_BYTES: u64 = SECTION_FRAMES * FRAME_BYTES;
/// Least memory that the kernel works with.
const LEAST_BYTES: u64 = LEAST_MEMORY_MIB << 20;
/// Room for DIMMs above the last memory where no table says how much there may be.
const DEFAULT_WINDOW_FRAMES: u64 = (64 << 30) / FRAME_BYTES;
/// Most frames that the table of memory sections is made for (8 TiB).
const MOST_FRAMES: u64 = (8 << 40) / FRAME_BYTES;
const _: () = assert!(MOST_FRAMES <= SectionNo::END.start().0);
/// The page cache's file has one page for this many frames of the machine's memory.
const FILE_PART: u64 = 8;
/// Most pages of the file: the number in an owner has 22 bits.
const MOST_PAGES: u64 = 1 << 22;

/// The error for a machine with too little memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLittle {
    bytes: u64,
}

impl fmt::Display for TooLittle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} MiB of memory: Tidemark needs at least {} MiB",
            self.bytes >> 20,
            LEAST_MEMORY_MIB
        )
    }
}

/// Checks that a machine has at least [`LEAST_MEMORY_MIB`].
///
/// # Errors
/// Returns [`TooLittle`] if it has less.
pub fn check_size(regions: &[MemoryRegion]) -> Result<(), TooLittle> {
    let ram = |kind| {
        matches!(
            kind,
            MemoryRegionKind::Usable | MemoryRegionKind::Bootloader
        )
    };
    let end = regions
        .iter()
        .filter(|r| ram(r.kind))
        .map(|r| r.end)
        .max()
        .unwrap_or(0);
    // Firmware keeps less than 1 MiB for its tables at the end of memory.
    let bytes = end.next_multiple_of(1 << 20);
    if bytes < LEAST_BYTES {
        return Err(TooLittle { bytes });
    }
    Ok(())
}

/// Takes early memory as a slice of `count` elements of a type for which zeroes are a value.
///
/// # Safety
///
/// Zeroed memory must be a valid `T`.
unsafe fn zeroed<T>(memory: &mut BumpAllocator, count: usize) -> &'static mut [T] {
    let bytes = size_of::<T>() * count;
    let align = align_of::<T>().max(FRAME_BYTES as usize);
    let Some(room) = memory.alloc_zeroed(bytes.max(1), align) else {
        panic!(
            "no {bytes} bytes of memory at boot for {}",
            core::any::type_name::<T>()
        );
    };
    // SAFETY: the memory belongs to this caller for good, is large enough and aligned. Zeroes are a
    // valid `T`, by the caller's promise.
    unsafe { core::slice::from_raw_parts_mut(room.as_mut_ptr().cast::<T>(), count) }
}

fn read_nodes(tables: &Tables<'_>) -> Nodes {
    let srat = match &tables.srat {
        Ok(srat) => srat.as_ref(),
        Err(error) => {
            warn!("SRAT ignored: {error}");
            None
        }
    };
    let slit = match &tables.slit {
        Ok(slit) => slit.as_ref(),
        Err(error) => {
            warn!("SLIT ignored: {error}");
            None
        }
    };
    let memory = srat.iter().flat_map(|srat| srat.memory());
    let cpus = srat.iter().flat_map(|srat| srat.cpus());
    Nodes::new(
        memory.map(|m| nodes::MemoryAffinity {
            start: m.start,
            size_bytes: m.len,
            proximity: m.domain,
            hot_pluggable: m.hotpluggable,
        }),
        cpus.map(|cpu| cpu.domain),
        |from, to| slit.and_then(|slit| slit.distance(from, to)),
    )
}

fn topology(nodes: &Nodes, tables: &Tables<'_>) -> Topology {
    let mut mask = NodeMask::NONE;
    let mut distance = [[nodes::DISTANCE_REMOTE; MAX_NODES]; MAX_NODES];
    for (from, row) in distance.iter_mut().enumerate().take(nodes.len()) {
        mask = mask.with(NodeId(from as u8));
        for (to, entry) in row.iter_mut().enumerate().take(nodes.len()) {
            *entry = nodes.distance(from, to);
        }
    }
    let mut with_cpus = NodeMask::NONE;
    if let Ok(Some(srat)) = &tables.srat {
        for cpu in srat.cpus() {
            if let Some(node) = nodes.node_of_proximity(cpu.domain) {
                with_cpus = with_cpus.with(NodeId(node));
            }
        }
    }
    if with_cpus == NodeMask::NONE {
        with_cpus = NodeMask::only(NodeId(0));
    }
    Topology {
        nodes: mask,
        with_cpus,
        distance,
    }
}

fn frames_in(ranges: &[Range]) -> u64 {
    ranges.iter().map(|r| (r.end - r.start) / FRAME_BYTES).sum()
}

/// Returns the number of frames that the table of memory sections must cover: memory at boot and
/// every DIMM that may come.
fn frames_to_cover(map: &[Range], tables: &Tables<'_>) -> u64 {
    let memory = map.iter().map(|r| r.end / FRAME_BYTES).max().unwrap_or(0);
    let srat = tables.srat.as_ref().ok().and_then(Option::as_ref);
    let window = srat
        .iter()
        .flat_map(|srat| srat.memory())
        .filter(|m| m.hotpluggable)
        .map(|m| m.start.saturating_add(m.len) / FRAME_BYTES)
        .max()
        .unwrap_or(memory + DEFAULT_WINDOW_FRAMES);
    memory.max(window).min(MOST_FRAMES)
}

/// Makes the allocator and gives it all memory that boot has left; sets up the page cache and its
/// file. It is called once, on the boot CPU, before threads and other CPUs.
///
/// # Panics
///
/// Panics if the memory at boot does not suffice for the allocator's metadata.
pub fn init(mut memory: BumpAllocator, tables: &Tables<'_>, variant: Variant, seed: u64) {
    let nodes = NODES.call_once(|| read_nodes(tables));
    if nodes.ignored() > 0 {
        warn!(
            "{} proximity domains or ranges beyond {MAX_NODES} nodes go to node 0",
            nodes.ignored()
        );
    }
    let (ranges, len) = (memory.map().ranges, memory.map().len);
    let before = &ranges[..len];
    let total_frames = frames_in(before);
    let cover = frames_to_cover(before, tables);
    let cpus = tables.madt.cpus().count().clamp(1, MAX_CPUS);
    // SAFETY: these types consist of atomics only, as their documentation promises, so zeroes are a
    // value.
    let (cpus, node_storage, zones, pages) = unsafe {
        (
            zeroed::<CpuCaches>(&mut memory, cpus),
            zeroed::<Node>(&mut memory, nodes.len()),
            zeroed::<Zone>(&mut memory, nodes.len() * ZoneKind::ALL.len()),
            zeroed::<PageSlot>(
                &mut memory,
                (total_frames / FILE_PART).clamp(64, MOST_PAGES) as usize,
            ),
        )
    };
    for (number, caches) in cpus.iter().enumerate() {
        percpu::set_caches(CpuId(number), caches);
    }
    let sections = section_table(&mut memory, cover.div_ceil(SECTION_FRAMES) as usize);
    FRAMES.call_once(|| {
        let storage = Storage {
            sections,
            cpus,
            nodes: node_storage,
            zones,
        };
        Frames::new(Kernel, storage, variant)
    });
    frames().set_topology(&topology(nodes, tables));
    for section in 0..cover.div_ceil(SECTION_FRAMES) {
        let (start, end) = (section * SECTION_BYTES, (section + 1) * SECTION_BYTES);
        if before.iter().any(|r| r.start < end && start < r.end) {
            // SAFETY: the type consists of atomics only, as its documentation promises, so zeroes
            // are a value.
            let meta = unsafe { zeroed::<SectionMeta>(&mut memory, 1) };
            frames()
                .add_section(SectionNo(section as usize), &meta[0])
                .expect("a section's books are handed in once");
        }
    }
    page_cache::init(pages, seed);
    let map = memory.into_memory_map();
    hand_over(&map, nodes);
    frames().finish_boot();
    tell(total_frames, &map, nodes);
}

fn section_table(memory: &mut BumpAllocator, count: usize) -> &'static [SectionSlot<'static>] {
    use core::mem::MaybeUninit;
    // SAFETY: uninitialised memory may hold anything, zeroes included.
    let room = unsafe { zeroed::<MaybeUninit<SectionSlot<'static>>>(memory, count) };
    for slot in room.iter_mut() {
        slot.write(SectionSlot::new());
    }
    // SAFETY: every element has been written.
    unsafe { &*(core::ptr::from_ref(room) as *const [SectionSlot<'static>]) }
}

fn hand_over(map: &MemoryMap, nodes: &Nodes) {
    if map.dropped_bytes > 0 {
        warn!(
            "{} bytes of a memory map in too many pieces are not used",
            map.dropped_bytes
        );
    }
    for range in map.as_slice() {
        let mut whole = carve::whole_frames(range.start..range.end);
        // Frame 0 stays out: some code takes its address for null.
        whole.start = whole.start.max(1);
        carve::cut(
            whole,
            nodes.affinities(),
            carve::PAGEBLOCK_FRAMES,
            |piece, node| {
                let range = PfnRange::new(Pfn(piece.start), Pfn(piece.end));
                let kind = ZoneKind::of_boot_memory(range.start);
                let zone = ZoneId::new(NodeId(node), kind);
                if let Err(error) = frames().add_boot_range(range, zone) {
                    warn!(
                        "frames {}-{} are not used: {error:?}",
                        range.start, range.end
                    );
                }
            },
        );
    }
}

fn tell(total_frames: u64, map: &MemoryMap, nodes: &Nodes) {
    let left = frames_in(map.as_slice());
    let nodes = nodes.len();
    info!(
        "memory: {} on {nodes} node{}, {} of it for the allocator's books and the page cache's table",
        Size(total_frames),
        if nodes == 1 { "" } else { "s" },
        Size(total_frames - left)
    );
}

/// Notes which CPU is on which node, and starts the background reclaimers, which need threads. It
/// is called once, when all CPUs are up.
pub fn start(tables: &Tables<'_>, _task: &Task) {
    if let Ok(Some(srat)) = &tables.srat {
        for cpu in crate::arch::percpu::online() {
            let apic_id = crate::arch::percpu::of(cpu).apic_id();
            let domain = srat.domain_of(apic_id);
            let node = domain.and_then(machine_node);
            platform::set_cpu_node(cpu.0, node.unwrap_or(0));
        }
    }
    reclaim::start(super::machine_nodes().len());
}

fn machine_node(domain: u32) -> Option<u8> {
    super::machine_nodes().node_of_proximity(domain)
}
