//! Fills frames with the kernel's segments and maps them, its stack and the rest of the plan.

use crate::PAGE;
use crate::error::{Error, Result};
use crate::image::{Access, Image, Segment};
use crate::memory::down;
use crate::paging::{HugePages, Tables};
use crate::plan::Plan;

/// Physical memory as the loader reaches it.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    offset: u64,
}

impl Reach {
    /// Says where physical address 0 is mapped.
    ///
    /// # Safety
    ///
    /// All frames that are passed to the functions of this module are mapped for writing at this
    /// offset, and nothing else uses them.
    pub unsafe fn new(offset: u64) -> Self {
        Self { offset }
    }

    /// Where physical address 0 is mapped.
    pub fn offset(self) -> u64 {
        self.offset
    }

    /// The memory at a physical address, for `len` bytes.
    fn bytes<'a>(self, at: u64, len: u64) -> &'a mut [u8] {
        let start = (at + self.offset) as *mut u8;
        // SAFETY: `new`'s caller vouches for every frame, and this module takes one slice at a time.
        unsafe { core::slice::from_raw_parts_mut(start, len as usize) }
    }
}

/// Loads all segments, applies the relocations and maps the result.
pub fn load_image(
    image: &Image<'_>,
    plan: &Plan,
    tables: &mut Tables<'_>,
    reach: Reach,
) -> Result<()> {
    for segment in &image.segments {
        let pages = segment.pages();
        let count = (pages.end - pages.start) / PAGE;
        let frames = tables.frames().take(count)?;
        let memory = reach.bytes(frames, count * PAGE);
        fill(memory, segment, pages.start);
        relocate(memory, segment, image, plan.image_offset)?;
        map_segment(image, segment, plan, tables, frames)?;
    }
    Ok(())
}

/// Maps what is not the image: the stack, the physical memory, the recursive entry.
pub fn map_rest(plan: &Plan, tables: &mut Tables<'_>, huge: HugePages, reach: Reach) -> Result<()> {
    let pages = plan.stack_pages();
    let frames = tables.frames().take(pages)?;
    reach.bytes(frames, pages * PAGE).fill(0);
    tables.map(plan.stack_bottom, frames, pages, Access::ReadWrite)?;
    if let Some(at) = plan.physical_memory {
        tables.map_physical(at, plan.physical_end, huge)?;
    }
    if let Some(index) = plan.recursive {
        tables.map_recursive(index);
    }
    Ok(())
}

/// Copies a segment's contents to its place in its pages and zeroes what is around them.
fn fill(memory: &mut [u8], segment: &Segment<'_>, first_page: u64) {
    let start = (segment.vaddr - first_page) as usize;
    let end = start + segment.bytes.len();
    memory[..start].fill(0);
    memory[start..end].copy_from_slice(segment.bytes);
    memory[end..].fill(0);
}

/// Applies the relocations that fall into a segment.
fn relocate(
    memory: &mut [u8],
    segment: &Segment<'_>,
    image: &Image<'_>,
    offset: u64,
) -> Result<()> {
    let first_page = down(segment.vaddr);
    for relocation in image.relocations() {
        let relocation = relocation?;
        if !segment.holds(relocation.at, 8) {
            continue;
        }
        let start = (relocation.at - first_page) as usize;
        let value = relocation.addend.wrapping_add(offset);
        memory
            .get_mut(start..start + 8)
            .ok_or(Error::StrayRelocation { at: relocation.at })?
            .copy_from_slice(&value.to_le_bytes());
    }
    Ok(())
}

/// Maps a segment's pages, those of GNU_RELRO without the permission to write.
fn map_segment(
    image: &Image<'_>,
    segment: &Segment<'_>,
    plan: &Plan,
    tables: &mut Tables<'_>,
    frames: u64,
) -> Result<()> {
    let pages = segment.pages();
    let relro = image.relro.clone().unwrap_or(0..0);
    let cut = |at: u64| at.clamp(pages.start, pages.end);
    let (sealed, after) = (cut(relro.start), cut(relro.end));
    let sealed_access = match segment.access {
        Access::ReadWrite => Access::Read,
        other => other,
    };
    for (part, access) in [
        (pages.start..sealed, segment.access),
        (sealed..after, sealed_access),
        (after.max(sealed)..pages.end, segment.access),
    ] {
        let count = part.end.saturating_sub(part.start) / PAGE;
        let from = frames + (part.start - pages.start);
        tables.map(
            part.start.wrapping_add(plan.image_offset),
            from,
            count,
            access,
        )?;
    }
    Ok(())
}
