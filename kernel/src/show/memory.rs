//! The tables of zones, free blocks, zonelists and memory, with the fields of /proc's.

use crate::arch::percpu;
use crate::mm::{self, page_cache};
use core::fmt::{self, Write};
use tidemark_frames::{
    CacheInfo, CpuId, FRAME_SIZE, ListKind, NodeId, ORDERS, ZoneEvents, ZoneId, ZoneInfo,
};

/// Writes every zone with memory, as /proc/zoneinfo does.
pub(super) fn zoneinfo(f: &mut impl Write) -> fmt::Result {
    for info in mm::frames().zones() {
        let caches =
            percpu::online().filter_map(|cpu| Some((cpu, mm::frames().cache_info(info.id, cpu)?)));
        zone(f, &info, &mm::frames().zone_events(info.id), caches)?;
    }
    Ok(())
}

fn zone(
    f: &mut impl Write,
    zone: &ZoneInfo,
    events: &ZoneEvents,
    caches: impl Iterator<Item = (CpuId, CacheInfo)>,
) -> fmt::Result {
    let (node, kind) = (zone.id.node(), zone.id.kind());
    writeln!(f, "Node {node}, zone {kind:>8}")?;
    writeln!(f, "  pages free     {}", zone.free)?;
    for (name, frames) in [
        ("min", zone.min),
        ("low", zone.low),
        ("high", zone.high),
        ("spanned", zone.span.len()),
        ("present", zone.present),
        ("managed", zone.managed),
    ] {
        writeln!(f, "        {name:<8} {frames}")?;
    }
    let [dma, dma32, normal, movable] = zone.reserve;
    writeln!(
        f,
        "        protection: ({dma}, {dma32}, {normal}, {movable})"
    )?;
    writeln!(f, "      nr_reserved_highatomic {}", zone.high_atomic)?;
    self::events(f, events)?;
    writeln!(f, "  pagesets")?;
    for (cpu, cache) in caches {
        writeln!(f, "    cpu: {}", cpu.0)?;
        writeln!(f, "              count: {}", cache.count)?;
        writeln!(f, "              larger: {}", cache.in_blocks)?;
        writeln!(f, "              high:  {}", cache.high)?;
        writeln!(f, "              batch: {}", cache.batch)?;
    }
    writeln!(f, "  start_pfn:           {}", zone.span.start.0)
}

/// Writes what happened in a zone since boot: lines of a name and numbers, as /proc/vmstat has them
/// for the machine.
fn events(f: &mut impl Write, events: &ZoneEvents) -> fmt::Result {
    fn line(f: &mut impl Write, name: &str, numbers: &[u64]) -> fmt::Result {
        write!(f, "      {name}")?;
        for number in numbers {
            write!(f, " {number}")?;
        }
        f.write_char('\n')
    }
    let by_context = |context: usize| events.allocs.iter().map(|order| order[context]).sum();
    for (context, name) in ["task", "irq", "nmi"].into_iter().enumerate() {
        let (served, failed): (u64, u64) = (by_context(context), events.failures[context]);
        write!(
            f,
            "      pgalloc_{name} {served}\n      pgalloc_fail_{name} {failed}\n"
        )?;
    }
    let by_order = events.allocs.map(|contexts| contexts.into_iter().sum());
    line(f, "pgalloc_by_order", &by_order)?;
    line(f, "pgalloc_zones_passed_over", &events.fallbacks)?;
    for (name, number) in [
        ("migratetype_steal", events.steals),
        ("pcp_refill", events.refills),
        ("pcp_refill_pages", events.refilled),
        ("pcp_drain", events.drains),
        ("pcp_drain_pages", events.drained),
        ("compact_stall", events.compactions),
        ("compact_success", events.compacted),
        ("compact_fail", events.compactions_failed()),
        ("compact_migrated_pages", events.compact_migrated),
    ] {
        line(f, name, &[number])?;
    }
    Ok(())
}

/// Writes the free blocks of order 0 to 10 of every zone with memory, as /proc/buddyinfo does.
pub(super) fn buddyinfo(f: &mut impl Write) -> fmt::Result {
    for info in mm::frames().zones() {
        free_blocks(f, info.id, mm::frames().free_blocks(info.id))?;
    }
    Ok(())
}

fn free_blocks(f: &mut impl Write, zone: ZoneId, blocks: [u64; ORDERS]) -> fmt::Result {
    write!(f, "Node {}, zone {:>8} ", zone.node(), zone.kind())?;
    for count in blocks {
        write!(f, "{count:6} ")?;
    }
    f.write_char('\n')
}

/// Writes the zonelists in the order in which requests try them, and how they have been rebuilt.
pub(super) fn zonelists(f: &mut impl Write) -> fmt::Result {
    let rebuilds = mm::frames().rebuild_stats();
    let variant = mm::frames().variant();
    write!(
        f,
        "protocol {}, {} rebuilds; ",
        variant.name(),
        rebuilds.count
    )?;
    if variant.writes_with_interrupts_off() {
        writeln!(
            f,
            "interrupts off: last {} ns, median {} ns, longest {} ns",
            rebuilds.irq_off_last_ns, rebuilds.irq_off_median_ns, rebuilds.irq_off_max_ns
        )?;
    } else {
        writeln!(f, "interrupts stay on")?;
    }
    for node in mm::nodes_with_lists() {
        for (kind, name) in [
            (ListKind::Fallback, "FALLBACK:"),
            (ListKind::NoFallback, "NOFALLBACK:"),
        ] {
            list(f, node, name, mm::frames().zonelist(node, kind).iter())?;
        }
    }
    Ok(())
}

fn list(
    f: &mut impl Write,
    node: NodeId,
    name: &str,
    zones: impl Iterator<Item = ZoneId>,
) -> fmt::Result {
    write!(f, "Node {node}, {name:<11}")?;
    for zone in zones {
        write!(f, " {}:{}", zone.node(), zone.kind())?;
    }
    f.write_char('\n')
}

/// The memory of a node or of the machine, in frames.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    total: u64,
    free: u64,
    /// Free frames in the per-CPU caches.
    pcp: u64,
    /// Frames with pages of the page cache.
    cached: u64,
    low: u64,
    /// Frames that the zones keep back at most. Each zone keeps its HIGH watermark and its largest
    /// lowmem reserve.
    kept: u64,
}

impl Memory {
    /// Adds the frames of one zone.
    fn add(&mut self, zone: &ZoneInfo, page_cache: u64) {
        self.total += zone.managed;
        self.free += zone.free;
        self.pcp += zone.cached;
        self.cached += page_cache;
        self.low += zone.low;
        let reserve = zone.reserve.into_iter().max().unwrap_or(0);
        self.kept += (zone.high + reserve).min(zone.managed);
    }

    /// Returns the frames that could be had easily: the free ones beyond those kept back, and most
    /// of the page cache.
    fn available(&self) -> u64 {
        let cache = self.cached - (self.cached / 2).min(self.low);
        (self.free + cache).saturating_sub(self.kept)
    }

    fn write(&self, f: &mut impl Write, before: fmt::Arguments<'_>) -> fmt::Result {
        for (name, frames) in [
            ("MemTotal:", self.total),
            ("MemFree:", self.free),
            ("MemAvailable:", self.available()),
            ("MemUsed:", self.total.saturating_sub(self.free)),
            ("Cached:", self.cached),
            ("PcpFree:", self.pcp),
        ] {
            let kib = frames * FRAME_SIZE / 1024;
            writeln!(f, "{before}{name:<15} {kib:>8} kB")?;
        }
        Ok(())
    }
}

/// Writes the machine's memory as /proc/meminfo does, then each node's part as its own meminfo
/// does.
pub(super) fn meminfo(f: &mut impl Write) -> fmt::Result {
    let memory = |node: Option<NodeId>| {
        let mut memory = Memory::default();
        for zone in mm::frames().zones() {
            if node.is_none_or(|node| node == zone.id.node()) {
                memory.add(&zone, page_cache::resident_in_zone(zone.id) as u64);
            }
        }
        memory
    };
    memory(None).write(f, format_args!(""))?;
    for node in mm::nodes_with_lists() {
        memory(Some(node)).write(f, format_args!("Node {node} "))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::string::String;
    use tidemark_frames::{Pfn, PfnRange, ZoneKind};

    fn dma32() -> ZoneInfo {
        ZoneInfo {
            id: ZoneId::new(NodeId(1), ZoneKind::Dma32),
            free: 1000,
            cached: 40,
            min: 100,
            low: 125,
            high: 150,
            managed: 4000,
            present: 4096,
            reserve: [0, 0, 16, 24],
            high_atomic: 0,
            span: PfnRange::new(Pfn(4096), Pfn(12288)),
        }
    }

    #[test]
    fn a_zone_has_the_fields_of_proc_zoneinfo() {
        let mut text = String::new();
        let cache = CacheInfo {
            count: 40,
            in_blocks: 520,
            high: 62,
            batch: 15,
        };
        let mut events = ZoneEvents {
            fallbacks: [1, 0, 0, 2],
            failures: [0, 8, 9],
            steals: 10,
            refills: 11,
            refilled: 12,
            drains: 13,
            drained: 14,
            compactions: 15,
            compacted: 5,
            compact_migrated: 16,
            ..ZoneEvents::default()
        };
        events.allocs[0] = [100, 20, 3];
        events.allocs[10] = [4, 0, 0];
        let dma32 = ZoneInfo {
            high_atomic: 512,
            ..dma32()
        };
        zone(&mut text, &dma32, &events, [(CpuId(3), cache)].into_iter()).unwrap();
        let expected = "\
Node 1, zone    DMA32
  pages free     1000
        min      100
        low      125
        high     150
        spanned  8192
        present  4096
        managed  4000
        protection: (0, 0, 16, 24)
      nr_reserved_highatomic 512
      pgalloc_task 104
      pgalloc_fail_task 0
      pgalloc_irq 20
      pgalloc_fail_irq 8
      pgalloc_nmi 3
      pgalloc_fail_nmi 9
      pgalloc_by_order 123 0 0 0 0 0 0 0 0 0 4
      pgalloc_zones_passed_over 1 0 0 2
      migratetype_steal 10
      pcp_refill 11
      pcp_refill_pages 12
      pcp_drain 13
      pcp_drain_pages 14
      compact_stall 15
      compact_success 5
      compact_fail 10
      compact_migrated_pages 16
  pagesets
    cpu: 3
              count: 40
              larger: 520
              high:  62
              batch: 15
  start_pfn:           4096
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_line_of_buddyinfo_is_proc_buddyinfos() {
        let mut text = String::new();
        let id = ZoneId::new(NodeId(0), ZoneKind::Normal);
        free_blocks(&mut text, id, [1, 0, 3, 0, 0, 0, 0, 0, 0, 1, 123_456]).unwrap();
        let expected = "Node 0, zone   Normal      1      0      3      0      0      0      0      0      0      1 123456 \n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_list_is_one_line() {
        let mut text = String::new();
        let zones = [ZoneKind::Normal, ZoneKind::Dma32].map(|kind| ZoneId::new(NodeId(1), kind));
        list(&mut text, NodeId(1), "FALLBACK:", zones.into_iter()).unwrap();
        list(&mut text, NodeId(0), "NOFALLBACK:", [].into_iter()).unwrap();
        assert_eq!(
            text,
            "Node 1, FALLBACK:   1:Normal 1:DMA32\nNode 0, NOFALLBACK:\n"
        );
    }

    #[test]
    fn memory_is_in_kilobytes() {
        let mut memory = Memory::default();
        memory.add(&dma32(), 500);
        memory.add(&dma32(), 0);
        // 2000 are free, 500 are cached of which 250 stay, and 2 × (150 + 24) are kept.
        assert_eq!(memory.available(), 2000 + 250 - 348);
        let mut text = String::new();
        memory.write(&mut text, format_args!("Node 1 ")).unwrap();
        assert!(text.starts_with(
            "Node 1 MemTotal:          32000 kB\nNode 1 MemFree:            8000 kB\n"
        ));
        assert!(text.contains("Node 1 Cached:             2000 kB\n"));
    }

    #[test]
    fn available_is_never_below_zero() {
        let mut memory = Memory::default();
        memory.add(&ZoneInfo { free: 1, ..dma32() }, 0);
        assert_eq!(memory.available(), 0);
    }
}
