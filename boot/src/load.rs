//! Fills frames with the kernel's segments, and maps them, the stack and the rest of the plan.

use crate::PAGE;
use crate::error::{Error, Result};
use crate::image::{Access, Image, Segment};
use crate::memory::down;
use crate::paging::{HugePages, Tables};
use crate::plan::Plan;

/// The loader's access to physical memory.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    offset: u64,
}

impl Reach {
    /// Returns the access where physical address 0 is mapped at `offset`.
    ///
    /// # Safety
    ///
    /// The window that the tables' frames come from is mapped for writing at this offset for as
    /// long as the loader runs. No other code uses the window.
    pub unsafe fn new(offset: u64) -> Self {
        Self { offset }
    }

    /// Takes fresh frames. Returns their address and their contents, which are undefined so far.
    fn take<'a>(self, pages: u64, tables: &mut Tables<'_>) -> Result<(u64, &'a mut [u8])> {
        let at = tables.frames().take(pages)?;
        let start = (at + self.offset) as *mut u8;
        // SAFETY: the caller of `new` vouches that the frames are mapped there. They were taken
        // just now, so no other slice covers them.
        let bytes = unsafe { core::slice::from_raw_parts_mut(start, (pages * PAGE) as usize) };
        Ok((at, bytes))
    }
}

/// Loads all segments, applies the relocations and maps the result.
///
/// # Errors
///
/// Returns the [`Error`] if memory runs out, or if a page is mapped already.
pub fn load_image(
    image: &Image<'_>,
    plan: &Plan,
    tables: &mut Tables<'_>,
    reach: Reach,
) -> Result<()> {
    for segment in &image.segments {
        let pages = segment.pages();
        let count = (pages.end - pages.start) / PAGE;
        let (frames, memory) = reach.take(count, tables)?;
        fill(memory, segment, pages.start);
        relocate(memory, segment, image, plan.image_offset)?;
        map_segment(image, segment, plan, tables, frames)?;
    }
    Ok(())
}

/// Maps everything but the image: the stack, the physical memory, the recursive entry.
///
/// # Errors
///
/// Returns the [`Error`] if memory runs out, or if a page is mapped already.
pub fn map_rest(plan: &Plan, tables: &mut Tables<'_>, huge: HugePages, reach: Reach) -> Result<()> {
    let pages = plan.stack_pages();
    let (frames, memory) = reach.take(pages, tables)?;
    memory.fill(0);
    tables.map(plan.stack_bottom, frames, pages, Access::ReadWrite)?;
    if let Some(at) = plan.physical_memory {
        tables.map_physical(at, plan.physical_end, huge)?;
    }
    if let Some(index) = plan.recursive {
        tables.map_recursive(index);
    }
    Ok(())
}

/// Copies a segment's contents to their place in its pages, and zeroes the rest of the pages.
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

/// Maps a segment's pages; those of GNU_RELRO are mapped read-only.
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

#[cfg(test)]
mod tests;
