//! Frames that the user of the shell holds, and memory sections that the user took out.

use crate::arch::{context::Task, time};
use crate::console;
use crate::mm::{
    self, KernelBlock,
    page_cache::{self, Lookup},
    report::Flags,
};
use core::fmt;
use tidemark_frames::{
    AllocError, Gfp, NodeId, OfflineError, OnlineError, Order, Owner, OwnerKind, PfnRange, Request,
    SectionNo, WalkInfo, ZoneId,
};

/// Most blocks that may be held at a time.
const HELD: usize = 64;
/// Most memory sections that may be offline at a time.
const OFFLINE: usize = 64;
/// How long an offline may wait for frames in use, and the time that it gets for each page to move.
const PATIENCE_NS: u64 = 2_000_000_000;
const PER_PAGE_NS: u64 = 250_000;

/// A block allocated by hand. Its owner is a test with the handle's number.
struct Held {
    handle: u32,
    block: KernelBlock,
    gfp: Gfp,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "handle {}: order {}, frame {}",
            self.handle,
            self.block.order(),
            self.block.pfn()
        )?;
        if let Some(zone) = mm::frames().zone_of(self.block.pfn()) {
            write!(f, ", {zone}")?;
        }
        write!(f, ", {}", Flags(self.gfp))
    }
}

/// What the user of the shell has. Dropping it frees the blocks, but leaves offline memory sections
/// offline.
pub struct Belongings {
    held: [Option<Held>; HELD],
    last_handle: u32,
    offline: [Option<(SectionNo, ZoneId)>; OFFLINE],
}

impl Belongings {
    /// Returns belongings without blocks or memory sections.
    pub const fn new() -> Self {
        Belongings {
            held: [const { None }; HELD],
            last_handle: 0,
            offline: [None; OFFLINE],
        }
    }

    /// Allocates a block, and prints the result.
    pub fn alloc(&mut self, order: Order, gfp: Gfp, node: Option<NodeId>, task: &Task) {
        let Some(place) = self.held.iter_mut().find(|place| place.is_none()) else {
            return say(
                task,
                format_args!("{HELD} handles are in use: free some first"),
            );
        };
        if node.is_some_and(|node| usize::from(node.0) >= mm::machine_nodes().len()) {
            let nodes = mm::machine_nodes().len();
            return say(task, format_args!("the machine has {nodes} nodes, from 0"));
        }
        let handle = self.last_handle + 1;
        let mut request = Request::new(gfp, order).owned_by(Owner::new(OwnerKind::Test, handle));
        if let Some(node) = node {
            request = request.on_node(node);
        }
        let mut walk = WalkInfo::default();
        match mm::frames().alloc_traced(task, &request, &mut walk) {
            Ok(block) => {
                self.last_handle = handle;
                let held = place.insert(Held { handle, block, gfp });
                say(task, format_args!("{held}{}", Way(walk)));
            }
            Err(AllocError::NoNode(node)) => say(task, format_args!("there is no node {node}")),
            Err(AllocError::NoMemory { .. }) => say(
                task,
                format_args!("no block of order {order} for {}{}", Flags(gfp), Way(walk)),
            ),
        }
    }

    /// Lists the blocks that are allocated.
    pub fn list(&self, task: &Task) {
        for held in self.held.iter().flatten() {
            say(task, format_args!("{held}"));
        }
        if self.held.iter().flatten().next().is_none() {
            say(task, format_args!("nothing is allocated"));
        }
    }

    /// Frees the block of a handle.
    pub fn free(&mut self, handle: u32, task: &Task) {
        let is_it = |held: &mut Held| held.handle == handle;
        match self.held.iter_mut().find_map(|held| held.take_if(is_it)) {
            Some(held) => say(
                task,
                format_args!(
                    "handle {handle}: {} freed",
                    Pages(held.block.order().frames())
                ),
            ),
            None => say(
                task,
                format_args!("no handle {handle}: alloc alone lists them"),
            ),
        }
    }

    /// Frees every block; returns how many handles there were.
    pub fn free_all(&mut self) -> usize {
        let handles = self.held.iter_mut().filter_map(Option::take);
        handles.map(drop).count()
    }

    /// Returns a memory section in this range that the user took offline.
    pub fn offline_in(&self, range: PfnRange) -> Option<SectionNo> {
        let sections = self.offline.iter().flatten().map(|(section, _)| *section);
        sections
            .filter(|section| range.contains(section.start()))
            .min()
    }

    /// Takes a memory section out of its zone.
    pub fn offline(&mut self, section: SectionNo, task: &Task) {
        let number = section.0;
        let is_it = |place: &&Option<(SectionNo, ZoneId)>| place.is_some_and(|(b, _)| b == section);
        if self.offline.iter().any(|place| is_it(&place)) {
            return say(task, format_args!("section {number} is offline already"));
        }
        let Some(place) = self.offline.iter_mut().find(|place| place.is_none()) else {
            return say(
                task,
                format_args!("{OFFLINE} sections are offline: bring some back first"),
            );
        };
        let Some(zone) = mm::frames().zone_of(section.start()) else {
            return say(
                task,
                format_args!("section {number} is not there: dimms names the DIMMs' sections"),
            );
        };
        let began = time::now_ns();
        let pages = page_cache::resident_in_zone(zone) as u64;
        let deadline = began + PATIENCE_NS + pages * PER_PAGE_NS;
        match mm::frames().offline_range(frames_of(section), deadline, task) {
            Ok(stats) => {
                *place = Some((section, zone));
                let rebuilt = if stats.zone_emptied {
                    "; the zone is empty now, the lists are rebuilt"
                } else {
                    ""
                };
                say(
                    task,
                    format_args!(
                        "section {number} left {zone}: {}, {} of them migrated, {} ms{rebuilt}",
                        Pages(stats.frames),
                        stats.migrated,
                        (time::now_ns() - began) / 1_000_000
                    ),
                );
            }
            Err(error) => say(
                task,
                format_args!("section {number} stays in {zone}: {}", Refused(error)),
            ),
        }
    }

    /// Brings back a memory section that was taken out.
    pub fn online(&mut self, section: SectionNo, task: &Task) {
        let number = section.0;
        let found = self
            .offline
            .iter_mut()
            .find(|place| place.is_some_and(|(b, _)| b == section));
        let Some((place, zone)) = found.and_then(|place| {
            let zone = (*place)?.1;
            Some((place, zone))
        }) else {
            return say(
                task,
                format_args!("section {number} is not offline: only what offline took comes back"),
            );
        };
        match mm::frames().online_range(frames_of(section), zone, task) {
            Ok(stats) => {
                *place = None;
                let rebuilt = if stats.zone_was_empty {
                    "; the zone was empty, the lists are rebuilt"
                } else {
                    ""
                };
                say(
                    task,
                    format_args!(
                        "section {number} joined {zone}: {} pages{rebuilt}",
                        stats.frames
                    ),
                );
            }
            Err(OnlineError::Present { at }) => {
                *place = None;
                say(
                    task,
                    format_args!("section {number} is there already, from frame {at} on"),
                );
            }
            Err(error) => say(
                task,
                format_args!("section {number} stays offline: {error:?}"),
            ),
        }
    }
}

fn frames_of(section: SectionNo) -> PfnRange {
    PfnRange::new(section.start(), SectionNo(section.0 + 1).start())
}

/// Prints one line.
pub fn say(task: &Task, line: fmt::Arguments<'_>) {
    console::raw(task, format_args!("{line}\n"));
}

/// A number of pages, in words.
pub struct Pages(pub u64);

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} page{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}

/// Reads pages of the synthetic file, the first `pages` or all, and compares those that were in
/// memory.
pub fn read_pages(pages: Option<u32>, task: &Task) {
    let wanted = pages.unwrap_or(u32::MAX).min(page_cache::pages());
    let (mut hits, mut filled) = (0, 0);
    for page in 0..wanted {
        match page_cache::read(page, task) {
            Ok(Lookup::Hit) => hits += 1,
            Ok(Lookup::Filled) => filled += 1,
            Err(error) => {
                return say(task, format_args!("page {page} of the file: {error:?}"));
            }
        }
    }
    say(
        task,
        format_args!(
            "{} of the file read: {hits} were in memory and right, {filled} filled; {} in memory now",
            Pages(wanted.into()),
            page_cache::resident()
        ),
    );
}

/// Frees the page cache's frames.
pub fn drop_pages(task: &Task) {
    let dropped = page_cache::drop_all(task) as u64;
    say(task, format_args!("{} dropped", Pages(dropped)));
}

/// The course of a request, where it is worth mentioning.
struct Way(WalkInfo);

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WalkInfo {
            slow,
            overlapped,
            retries,
            ..
        } = self.0;
        if slow {
            f.write_str(", by the slow path")?;
        }
        if overlapped {
            f.write_str(", over a rebuild")?;
        }
        match retries {
            0 => Ok(()),
            retries => write!(f, ", {retries} retries"),
        }
    }
}

/// The reason why a memory section stays.
struct Refused(OfflineError);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            OfflineError::Unmovable { at, owner } => {
                write!(f, "frame {at} belongs to {owner} and cannot be moved")
            }
            OfflineError::Deadline { at, owner } => {
                write!(f, "frame {at} of {owner} was still in use at the deadline")
            }
            OfflineError::Hole { at } => write!(f, "frame {at} is not the allocator's"),
            OfflineError::TwoZones { at } => write!(f, "frame {at} begins another zone"),
            OfflineError::Misaligned => f.write_str("it is not whole"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::string::ToString;
    use tidemark_frames::{Pfn, ZoneKind};

    #[test]
    fn a_refusal_names_the_culprit() {
        let error = OfflineError::Unmovable {
            at: Pfn(0x11_0005),
            owner: Owner::new(OwnerKind::Test, 3),
        };
        assert_eq!(
            Refused(error).to_string(),
            "frame 0x110005 belongs to test 3 and cannot be moved"
        );
    }

    #[test]
    fn the_way_is_told_where_it_was_not_the_fast_one() {
        assert_eq!(Way(WalkInfo::default()).to_string(), "");
        let walk = WalkInfo {
            slow: true,
            odd: true,
            overlapped: true,
            retries: 2,
            ..WalkInfo::default()
        };
        let said = Way(walk).to_string();
        assert_eq!(said, ", by the slow path, over a rebuild, 2 retries");
    }

    #[test]
    fn the_first_offline_section_of_a_range_is_found() {
        let mut mine = Belongings::new();
        let zone = ZoneId::new(NodeId(0), ZoneKind::Normal);
        let range = PfnRange::new(SectionNo(32).start(), SectionNo(34).start());
        assert_eq!(mine.offline_in(range), None);
        mine.offline[5] = Some((SectionNo(33), zone));
        mine.offline[6] = Some((SectionNo(34), zone));
        assert_eq!(mine.offline_in(range), Some(SectionNo(33)));
    }
}
