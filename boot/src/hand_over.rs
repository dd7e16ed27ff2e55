//! The last steps. The code that switches address spaces lives in a frame that both spaces map at
//! its own address. That frame also has the GDT that is in force until the kernel loads its own.

use crate::PAGE;
use core::arch::{asm, global_asm};
use core::slice;
use x86_64::VirtAddr;
use x86_64::instructions::tables::lgdt;
use x86_64::structures::DescriptorTablePointer;

/// Offset of the GDT in the frame, after the code.
const GDT_AT: usize = 2048;
/// The descriptors: null, 64-bit code (selector 8) and data (16), which are in force already.
/// Accessed bits are set, because the frame is mapped read-only.
const GDT: [u64; 3] = [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];

// The registers are: RDI level-4 table, RSI top of the stack, RDX BootInfo, RCX entry point. The
// code runs wherever it is copied.
global_asm!(
    ".pushsection .rodata.hand_over, \"a\", @progbits",
    ".global hand_over_code, hand_over_code_end",
    "hand_over_code:",
    "mov cr3, rdi",
    "mov rsp, rsi",
    "xor ebp, ebp",
    // The entry point has no return address.
    "push 0",
    "mov rdi, rdx",
    "jmp rcx",
    "hand_over_code_end:",
    ".popsection",
);

unsafe extern "C" {
    static hand_over_code: u8;
    static hand_over_code_end: u8;
}

/// The kernel's entry, with the state that it starts in.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Physical address of its level-4 table.
    pub root: u64,
    /// Initial stack pointer, 16-byte aligned.
    pub stack_top: u64,
    /// Virtual address of `BootInfo`.
    pub boot_info: u64,
    /// Virtual address of its entry point.
    pub entry: u64,
}

/// Fills the frame at `frame` and loads the GDT from there.
///
/// # Safety
///
/// The frame is the loader's, and mapped for writing at its own address. It stays as it is for as
/// long as the kernel uses this GDT.
pub unsafe fn prepare(frame: u64) {
    // SAFETY: the caller vouches for the frame.
    let page = unsafe { slice::from_raw_parts_mut(frame as *mut u8, PAGE as usize) };
    page.fill(0);
    // SAFETY: both symbols are in the loader's read-only data, the second one after the first.
    let code = unsafe {
        let start = &raw const hand_over_code;
        let end = &raw const hand_over_code_end;
        slice::from_raw_parts(start, end.addr() - start.addr())
    };
    page[..code.len()].copy_from_slice(code);
    for (bytes, entry) in page[GDT_AT..].chunks_exact_mut(8).zip(GDT) {
        bytes.copy_from_slice(&entry.to_le_bytes());
    }
    let pointer = DescriptorTablePointer {
        limit: (size_of_val(&GDT) - 1) as u16,
        base: VirtAddr::new(frame + GDT_AT as u64),
    };
    // SAFETY: the table has the segments in force under their present selectors, and its frame
    // stays.
    unsafe { lgdt(&pointer) };
}

/// Switches to the kernel's address space and jumps to the kernel.
///
/// # Safety
///
/// [`prepare`] has filled `frame`, which the tables at `target.root` map executable at its own
/// address. The rest of `target` is correct in those tables.
pub unsafe fn leave(frame: u64, target: &Target) -> ! {
    // SAFETY: the caller vouches for the code at `frame` and for the address space that it enters.
    unsafe {
        asm!(
            "jmp {code}",
            code = in(reg) frame,
            in("rdi") target.root,
            in("rsi") target.stack_top,
            in("rdx") target.boot_info,
            in("rcx") target.entry,
            options(noreturn),
        )
    }
}
