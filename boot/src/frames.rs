//! Physical memory for what the loader leaves to the kernel: one window, filled from its top
//! downwards.
//!
//! One window keeps the loader's frames in one region of the kernel's memory map. QEMU puts the
//! module at the top of low memory, and the window usually ends right below it.

use crate::PAGE;
use crate::error::{Error, Result};
use core::ops::Range;
use x86_64::PhysAddr;
use x86_64::structures::paging::{FrameAllocator, PhysFrame, Size4KiB};

/// The window of free frames, and what was taken of it.
#[derive(Debug)]
pub struct Frames {
    floor: u64,
    next: u64,
    top: u64,
    /// The last request that did not fit. [`FrameAllocator`] cannot return a reason, so its users
    /// ask for it here.
    refused: Option<Error>,
}

impl Frames {
    /// Starts with a window of whole pages, all of it free.
    pub fn new(window: Range<u64>) -> Self {
        Self {
            floor: window.start,
            next: window.end,
            top: window.end,
            refused: None,
        }
    }

    /// Takes `pages` contiguous frames; returns the physical address of the lowest. Their contents
    /// are undefined.
    ///
    /// # Errors
    ///
    /// Returns [`Error::NoMemory`] if the window has not as many left.
    pub fn take(&mut self, pages: u64) -> Result<u64> {
        let left = self.next - self.floor;
        let wanted = pages.saturating_mul(PAGE);
        if wanted > left {
            let error = Error::NoMemory { wanted, left };
            self.refused = Some(error);
            return Err(error);
        }
        self.next -= wanted;
        Ok(self.next)
    }

    /// Returns the range of physical addresses that has been taken so far.
    pub fn taken(&self) -> Range<u64> {
        self.next..self.top
    }

    /// Returns the error of the last request that did not fit.
    pub fn refusal(&self) -> Option<Error> {
        self.refused
    }
}

// SAFETY: `take` gives out each frame of the window once.
unsafe impl FrameAllocator<Size4KiB> for Frames {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let at = self.take(1).ok()?;
        Some(PhysFrame::containing_address(PhysAddr::new(at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_each_frame_once_and_says_what_is_missing() {
        let mut frames = Frames::new(0x10_0000..0x10_4000);
        assert_eq!(frames.take(1), Ok(0x10_3000));
        assert_eq!(frames.take(2), Ok(0x10_1000));
        assert_eq!(frames.taken(), 0x10_1000..0x10_4000);
        let error = Error::NoMemory {
            wanted: 0x2000,
            left: 0x1000,
        };
        assert_eq!(frames.take(2), Err(error));
        assert_eq!(frames.take(1), Ok(0x10_0000));
        assert!(frames.allocate_frame().is_none());
        assert!(frames.take(u64::MAX).is_err());
    }
}
