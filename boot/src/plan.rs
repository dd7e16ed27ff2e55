//! The layout of the kernel's address space: the kernel's wishes, checked and completed.

use crate::error::Result;
use crate::image::{Image, Kind};
use crate::memory::down;
use crate::space::{AddressSpace, ENTRY_SPAN};
use crate::{FOUR_GIB, PAGE};
use bootloader_api::config::Mapping;

/// Bytes in a large page.
pub const LARGE_PAGE: u64 = 2 << 20;
/// Bytes in a huge page.
pub const HUGE_PAGE: u64 = 1 << 30;

/// The facts about the machine that a plan depends on.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// End of the highest usable memory, a physical address.
    pub usable_end: u64,
    /// Address of the frame with the code that jumps to the kernel. It is mapped at its own
    /// address.
    pub hand_over: u64,
    /// Bytes that BootInfo and its memory regions take.
    pub boot_info_len: u64,
}

/// The plan. Addresses are virtual, except for `physical_end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The offset that is added, wrapping, to every address of the image.
    pub image_offset: u64,
    /// The kernel's entry point.
    pub entry: u64,
    /// Lowest address of the stack. The page below is its guard and stays unmapped.
    pub stack_bottom: u64,
    /// Bytes of stack that the kernel asked for; its pages may hold a few more.
    pub stack_len: u64,
    /// The address of `BootInfo`.
    pub boot_info: u64,
    /// The address where physical address 0 is mapped, if the kernel wants physical memory mapped.
    pub physical_memory: Option<u64>,
    /// End of the physical memory that is mapped.
    pub physical_end: u64,
    /// The level-4 entry that points to the level-4 table, if the kernel wants one.
    pub recursive: Option<u16>,
}

impl Plan {
    /// Makes the plan. It claims fixed addresses first, so that no dynamic one is in their way.
    ///
    /// # Errors
    ///
    /// Returns the [`Error`](crate::error::Error) if a wish cannot be met, or if there is no room
    /// left.
    pub fn new(image: &Image<'_>, machine: &Machine) -> Result<Self> {
        let wishes = &image.config.mappings;
        let mut space = AddressSpace::new(wishes.dynamic_range_start, wishes.dynamic_range_end);
        space.claim("the loader's hand-over page", machine.hand_over, PAGE)?;

        let physical_end = machine
            .usable_end
            .max(FOUR_GIB)
            .next_multiple_of(LARGE_PAGE);
        let guarded_stack_len = PAGE.saturating_add(image.config.kernel_stack_size);

        let fixed_base = claim_image(&mut space, image)?;
        let stack = Wish::new("the kernel's stack", wishes.kernel_stack, guarded_stack_len);
        let stack = stack.claim_fixed(&mut space, PAGE)?;
        let boot_info = Wish::new("BootInfo", wishes.boot_info, machine.boot_info_len);
        let boot_info = boot_info.claim_fixed(&mut space, PAGE)?;
        let physical = wishes
            .physical_memory
            .map(|wish| {
                Wish::new("physical memory", wish, physical_end).claim_fixed(&mut space, LARGE_PAGE)
            })
            .transpose()?;
        let recursive = wishes
            .page_table_recursive
            .map(|wish| {
                Wish::new("the recursive page table", wish, ENTRY_SPAN)
                    .claim_fixed(&mut space, ENTRY_SPAN)
            })
            .transpose()?;

        let image_offset = match fixed_base {
            Some(offset) => offset,
            None => {
                let span = image.span();
                let start = span.start - span.start % image.align;
                space
                    .find("the kernel's image", span.end - start)?
                    .wrapping_sub(start)
            }
        };
        let guard = stack.place(&mut space)?;
        let physical_memory = physical.map(|wish| wish.place(&mut space)).transpose()?;
        let recursive = recursive.map(|wish| wish.place(&mut space)).transpose()?;
        Ok(Self {
            image_offset,
            entry: image.entry.wrapping_add(image_offset),
            stack_bottom: guard + PAGE,
            stack_len: image.config.kernel_stack_size,
            boot_info: boot_info.place(&mut space)?,
            physical_memory,
            physical_end,
            recursive: recursive.map(|at| (at >> 39) as u16 & 0x1ff),
        })
    }

    /// Returns the initial stack pointer. The System V ABI wants 16 bytes of alignment at a call.
    pub fn stack_top(&self) -> u64 {
        (self.stack_bottom + self.stack_len) & !15
    }

    /// Returns the number of the stack's pages, without its guard.
    pub fn stack_pages(&self) -> u64 {
        self.stack_len.div_ceil(PAGE)
    }
}

/// Claims the addresses of an image that has fixed ones. Returns its offset, or none for an image
/// that can go anywhere.
fn claim_image(space: &mut AddressSpace, image: &Image<'_>) -> Result<Option<u64>> {
    let offset = match (image.kind, image.config.mappings.kernel_base) {
        (Kind::Fixed, Mapping::Dynamic) => 0,
        (Kind::Fixed, Mapping::FixedAddress(_)) => {
            return Err(crate::error::Error::Unsupported {
                what: "kernel_base is fixed, but the image is not relocatable; leave it Dynamic or link a static PIE",
            });
        }
        (Kind::Relocatable, Mapping::Dynamic) => return Ok(None),
        (Kind::Relocatable, Mapping::FixedAddress(base)) => {
            if base % image.align != 0 {
                return Err(crate::error::Error::NotAligned {
                    what: "the kernel's image",
                    at: base,
                    to: image.align,
                });
            }
            base
        }
    };
    for segment in &image.segments {
        let pages = segment.pages();
        let at = down(pages.start).wrapping_add(offset);
        space.claim("a segment of the kernel", at, pages.end - pages.start)?;
    }
    Ok(Some(offset))
}

/// A range that the kernel may have fixed.
struct Wish {
    what: &'static str,
    at: Option<u64>,
    len: u64,
}

impl Wish {
    fn new(what: &'static str, mapping: Mapping, len: u64) -> Self {
        let at = match mapping {
            Mapping::Dynamic => None,
            Mapping::FixedAddress(at) => Some(at),
        };
        Self { what, at, len }
    }

    fn claim_fixed(self, space: &mut AddressSpace, align: u64) -> Result<Self> {
        if let Some(at) = self.at {
            space.claim_aligned(self.what, at, self.len, align)?;
        }
        Ok(self)
    }

    fn place(&self, space: &mut AddressSpace) -> Result<u64> {
        match self.at {
            Some(at) => Ok(at),
            None => space.find(self.what, self.len),
        }
    }
}

#[cfg(test)]
mod tests;
