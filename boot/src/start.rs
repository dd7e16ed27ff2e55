//! The whole way of the loader, from the start info to the kernel's entry point.

use crate::console::refuse;
use crate::error::{Error, Result};
use crate::frames::Frames;
use crate::hand_over::{self, Target};
use crate::image::{Access, Image};
use crate::load::{Reach, load_image, map_rest};
use crate::memory::MemoryMap;
use crate::paging::{HugePages, Tables};
use crate::plan::{Machine, Plan};
use crate::start_info::{MemmapEntry, Module, StartInfo};
use crate::{FOUR_GIB, PAGE};
use bootloader_api::BootInfo;
use bootloader_api::info::{MemoryRegion, MemoryRegions, TlsTemplate};
use core::arch::x86_64::__cpuid;
use core::convert::Infallible;
use core::mem::ManuallyDrop;
use core::ops::Range;
use core::{ptr, slice};

/// The CPUID leaf of the features that AMD introduced.
const EXTENDED_FEATURES: u32 = 0x8000_0001;
/// Bit of EDX in that leaf: no-execute.
const NX: u32 = 1 << 20;
/// Bit of EDX in that leaf: pages of 1 GiB.
const HUGE: u32 = 1 << 26;

unsafe extern "C" {
    /// The first byte of the loader's image.
    static __loader_start: u8;
    /// The first byte after the loader's image.
    static __loader_end: u8;
}

/// Boots the kernel, or prints why it cannot.
///
/// # Safety
///
/// The entry code calls it once, on one CPU, with memory below 4 GiB mapped one to one and a start
/// info at `start_info`.
pub unsafe extern "C" fn start(start_info: u64) -> ! {
    // SAFETY: the caller gives the promises that `boot` needs.
    match unsafe { boot(start_info) } {
        Ok(never) => match never {},
        Err(error) => refuse(&error),
    }
}

/// Boots the kernel, and returns only the reason why it cannot.
///
/// # Safety
///
/// The caller keeps the promises of [`start`].
unsafe fn boot(start_info: u64) -> Result<Infallible> {
    // SAFETY: QEMU put it there, below 4 GiB.
    let info = unsafe { ptr::read_unaligned(start_info as *const StartInfo) };
    info.check()?;
    // SAFETY: the start info is checked; its lists are where it says.
    let (modules, entries) = unsafe {
        (
            table::<Module>(info.modlist, info.nr_modules)?,
            table::<MemmapEntry>(info.memmap, info.memmap_entries)?,
        )
    };
    let module = modules[0];
    // SAFETY: by QEMU's description the module is there.
    let file = unsafe { module_bytes(&module)? };
    let features = __cpuid(EXTENDED_FEATURES).edx;
    if features & NX == 0 {
        return Err(Error::NoNx);
    }
    let huge = if features & HUGE == 0 {
        HugePages::No
    } else {
        HugePages::Yes
    };

    let mut map = MemoryMap::new(entries.iter().copied())?;
    map.carve(start_info..start_info + size_of::<StartInfo>() as u64);
    map.carve(extent(modules));
    map.carve(extent(entries));
    // Modules beyond the kernel are ignored, because BootInfo has no place for them.
    map.carve(module.paddr..module.paddr + module.size);
    let image = Image::parse(file)?;

    // The memory of the loader's own image is free as soon as the kernel runs, but not before.
    let mut busy = map.clone();
    busy.carve((&raw const __loader_start).addr() as u64..(&raw const __loader_end).addr() as u64);
    let window = busy.largest_free().unwrap_or(0..0);
    let mut frames = Frames::new(window);

    let hand_over = frames.take(1)?;
    // One more range will be carved out: the part of the window that is taken.
    let regions = map.regions_bound(1);
    let boot_info_len = (size_of::<BootInfo>() + regions * size_of::<MemoryRegion>()) as u64;
    let machine = Machine {
        usable_end: map.usable_end(),
        hand_over,
        boot_info_len,
    };
    let plan = Plan::new(&image, &machine)?;

    // SAFETY: the window is ordinary memory below 4 GiB that no other code uses. The loader uses
    // physical addresses as its own.
    let (mut tables, reach) = unsafe { (Tables::new(&mut frames, 0)?, Reach::new(0)) };
    load_image(&image, &plan, &mut tables, reach)?;
    map_rest(&plan, &mut tables, huge, reach)?;
    tables.map(hand_over, hand_over, 1, Access::ReadExecute)?;
    let pages = boot_info_len.div_ceil(PAGE);
    let boot_info = tables.frames().take(pages)?;
    tables.map(plan.boot_info, boot_info, pages, Access::ReadWrite)?;
    let root = tables.root();

    // No frame is taken from here on, so the map is final.
    map.carve(frames.taken());
    let contents = Contents {
        map: &map,
        plan: &plan,
        image: &image,
        module: &module,
        rsdp: info.rsdp,
    };
    let target = Target {
        root,
        stack_top: plan.stack_top(),
        boot_info: plan.boot_info,
        entry: plan.entry,
    };
    // SAFETY: BootInfo's frames and the hand-over frame were taken for this purpose, and are mapped
    // as the functions demand. The target is what the tables map.
    unsafe {
        contents.write(boot_info);
        hand_over::prepare(hand_over);
        hand_over::leave(hand_over, &target)
    }
}

/// The contents of BootInfo.
struct Contents<'a> {
    map: &'a MemoryMap,
    plan: &'a Plan,
    image: &'a Image<'a>,
    module: &'a Module,
    rsdp: u64,
}

impl Contents<'_> {
    /// Writes BootInfo and the memory regions after it to the frames at `at`. The pointer in it is
    /// valid in the kernel's address space.
    ///
    /// # Safety
    ///
    /// The frames have room for both, are mapped for writing at their own address, and belong to no
    /// other code.
    unsafe fn write(&self, at: u64) {
        let regions = self.map.regions();
        let behind = size_of::<BootInfo>();
        // SAFETY: the caller vouches for the room. BootInfo's size is a multiple of the regions'
        // alignment.
        unsafe {
            let to = (at as usize + behind) as *mut MemoryRegion;
            ptr::copy_nonoverlapping(regions.as_ptr(), to, regions.len());
        }
        let there = (self.plan.boot_info as usize + behind) as *mut MemoryRegion;
        // SAFETY: this slice is valid only in the kernel's address space. Here it is only stored:
        // its address and length are copied, and no access goes through it.
        let slice: &'static mut [MemoryRegion] =
            unsafe { slice::from_raw_parts_mut(there, regions.len()) };
        let mut info = ManuallyDrop::new(BootInfo::new(MemoryRegions::from(slice)));
        let offset = self.plan.image_offset;
        info.physical_memory_offset = self.plan.physical_memory.into();
        info.recursive_index = self.plan.recursive.into();
        info.rsdp_addr = Some(self.rsdp).filter(|&at| at != 0).into();
        info.tls_template = self
            .image
            .tls
            .map(|tls| TlsTemplate {
                start_addr: tls.vaddr.wrapping_add(offset),
                file_size: tls.file_len,
                mem_size: tls.len,
            })
            .into();
        info.kernel_addr = self.module.paddr;
        info.kernel_len = self.module.size;
        info.kernel_image_offset = offset;
        info.kernel_stack_bottom = self.plan.stack_bottom;
        info.kernel_stack_len = self.plan.stack_len;
        // SAFETY: the caller vouches for the room, whose start is page-aligned.
        unsafe { (at as *mut ManuallyDrop<BootInfo>).write(info) };
    }
}

const _: () = assert!(size_of::<BootInfo>().is_multiple_of(align_of::<MemoryRegion>()));

/// Returns a list that the start info points to.
///
/// # Safety
///
/// There are `count` elements at `at`, if that is below 4 GiB.
unsafe fn table<T>(at: u64, count: u32) -> Result<&'static [T]> {
    let len = u64::from(count) * size_of::<T>() as u64;
    let reachable = at != 0 && at.checked_add(len).is_some_and(|end| end <= FOUR_GIB);
    if !reachable || !(at as usize).is_multiple_of(align_of::<T>()) {
        return Err(Error::NotPvh {
            magic: crate::start_info::MAGIC,
        });
    }
    // SAFETY: the caller vouches for the list, which is mapped.
    Ok(unsafe { slice::from_raw_parts(at as *const T, count as usize) })
}

/// Returns a module's contents.
///
/// # Safety
///
/// The module is where its entry says, if that is below 4 GiB.
unsafe fn module_bytes(module: &Module) -> Result<&'static [u8]> {
    let (at, len) = (module.paddr, module.size);
    if len == 0 {
        return Err(Error::NoModule);
    }
    if at == 0 || at.checked_add(len).is_none_or(|end| end > FOUR_GIB) {
        return Err(Error::ModuleOutOfReach { at, len });
    }
    // SAFETY: the caller vouches for the module, which is mapped.
    Ok(unsafe { slice::from_raw_parts(at as *const u8, len as usize) })
}

/// Returns the addresses of a list.
fn extent<T>(list: &[T]) -> Range<u64> {
    let range = list.as_ptr_range();
    range.start.addr() as u64..range.end.addr() as u64
}
