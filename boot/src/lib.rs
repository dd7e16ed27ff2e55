//! Tidemark's loader: from QEMU's PVH entry to the contract of `bootloader_api` 0.11.
//!
//! QEMU enters `entry` in 32-bit mode with the machine's description ([`start_info`]). [`start`] is
//! the whole way from there. [`memory`] puts the memory map in order, [`image`] reads the kernel's
//! ELF file, and [`plan`] chooses places in the kernel's address space. [`load`] copies the
//! segments, [`paging`] builds the page tables, and [`hand_over`] jumps to the kernel. Any fault of
//! the kernel ends as one line on COM1 ([`error`]) and an exit code of its own.
#![no_std]

#[cfg(target_feature = "avx")]
compile_error!(
    "the loader turns on SSE only: build without target-cpu or target-feature flags that enable AVX"
);

#[cfg(test)]
extern crate std;

pub mod config;
pub mod console;
#[cfg(feature = "freestanding")]
pub mod entry;
pub mod error;
pub mod frames;
pub mod hand_over;
pub mod image;
pub mod load;
// The kernel's: both images need these functions, and the file uses nothing of its crate.
#[path = "../../kernel/src/arch/mem.rs"]
pub mod mem;
pub mod memory;
pub mod paging;
pub mod plan;
pub mod space;
pub mod start;
pub mod start_info;
#[cfg(test)]
mod testing;

/// Bytes in a page and in a frame.
pub const PAGE: u64 = 4096;

/// 4 GiB: the memory that the loader itself has mapped, and the least that the kernel's map of
/// memory covers.
pub const FOUR_GIB: u64 = 1 << 32;
