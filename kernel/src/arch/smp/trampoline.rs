//! The code that an application processor starts with. It leads from real mode to the kernel's
//! entry.
//!
//! It is copied to one frame below 640 KiB and runs from there, in tables of its own. Those are the
//! kernel's plus that one page, read-only and executable at its physical address. So the kernel's
//! own tables never hold that mapping, and no CPU does once it has left the trampoline.

use core::ptr;
use x86_64::registers::control::{Cr0, Cr4, Efer, EferFlags};

/// Offset of the parameters in the page.
const PARAMS: usize = 0x200;
/// Offset of the table of words by APIC id in the page.
const BLOCKS: usize = 0x800;

/// The parameters that the code reads; its offsets are in the code below.
#[repr(C)]
struct Params {
    gdt: [u64; 3],
    gdt_limit: u16,
    gdt_base: [u16; 2],
    pad: u16,
    far_offset: u32,
    far_segment: u32,
    cr3: u32,
    cr4: u32,
    efer: u64,
    cr0: u64,
    entry: u64,
    kernel_cr3: u64,
}

const _: () = assert!(core::mem::offset_of!(Params, gdt_limit) == 24);
const _: () = assert!(core::mem::offset_of!(Params, far_offset) == 32);
const _: () = assert!(core::mem::offset_of!(Params, cr3) == 40);
const _: () = assert!(core::mem::offset_of!(Params, efer) == 48);
const _: () = assert!(core::mem::offset_of!(Params, entry) == 64);

// Real mode begins with CS at the page and IP 0. Long mode is entered at once: PAE and the tables
// come first, then EFER with long mode and no-execute. The tables use no-execute, so it is set
// before paging. Paging and protection come last, together.
//
// The 64-bit part finds its word by the APIC id of CPUID leaf 1; 0 sends the CPU to sleep. edi
// keeps the page's address throughout.
core::arch::global_asm!(
    ".pushsection .rodata.trampoline, \"a\", @progbits",
    ".balign 16",
    ".globl tidemark_trampoline, tidemark_trampoline_64, tidemark_trampoline_end",
    ".code16",
    "tidemark_trampoline:",
    "cli",
    "cld",
    "movw %cs, %ax",
    "movw %ax, %ds",
    "xorl %edi, %edi",
    "movw %ax, %di",
    "shll $4, %edi",
    "lgdtl 0x200 + 24",
    "movl 0x200 + 44, %eax",
    "movl %eax, %cr4",
    "movl 0x200 + 40, %eax",
    "movl %eax, %cr3",
    "movl $0xc0000080, %ecx",
    "movl 0x200 + 48, %eax",
    "movl 0x200 + 52, %edx",
    "wrmsr",
    "movl 0x200 + 56, %eax",
    "movl %eax, %cr0",
    "ljmpl *0x200 + 32",
    ".code64",
    "tidemark_trampoline_64:",
    "movl $16, %eax",
    "movl %eax, %ds",
    "movl %eax, %es",
    "movl %eax, %ss",
    "movl $1, %eax",
    "cpuid",
    "shrl $24, %ebx",
    "movl %edi, %edi",
    "movq 0x800(%rdi, %rbx, 8), %rsi",
    "testq %rsi, %rsi",
    "jz 3f",
    "movq 0x200 + 64(%rdi), %rax",
    "movq 0x200 + 72(%rdi), %rdi",
    "jmpq *%rax",
    // This CPU was not asked to start.
    "3: cli",
    "hlt",
    "jmp 3b",
    "tidemark_trampoline_end:",
    ".popsection",
    options(att_syntax),
);

unsafe extern "C" {
    static tidemark_trampoline: u8;
    static tidemark_trampoline_64: u8;
    static tidemark_trampoline_end: u8;
}

/// The parameters that every starting CPU needs.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// The trampoline's own tables; their physical address is below 4 GiB.
    pub cr3: u32,
    /// The physical address of the kernel's tables.
    pub kernel_cr3: u64,
    /// The address that the code jumps to, with `kernel_cr3` in rdi and the CPU's word in rsi.
    pub entry: u64,
}

/// Writes the trampoline to `page`, whose physical address is `phys`.
///
/// # Safety
/// `page` is a writable page below 1 MiB that no other code uses.
pub unsafe fn write(page: *mut u8, phys: u32, setup: Setup) {
    let start = &raw const tidemark_trampoline;
    let len = (&raw const tidemark_trampoline_end) as usize - start as usize;
    let long_mode = (&raw const tidemark_trampoline_64) as usize - start as usize;
    assert!(len <= PARAMS, "the trampoline grew into its parameters");
    let gdt = phys + PARAMS as u32;
    let params = Params {
        // The descriptors are null, 64-bit code and data.
        gdt: [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff],
        gdt_limit: 23,
        gdt_base: [gdt as u16, (gdt >> 16) as u16],
        pad: 0,
        far_offset: phys + long_mode as u32,
        far_segment: 8,
        cr3: setup.cr3,
        cr4: Cr4::read_raw() as u32,
        // Turning paging on makes long mode active; only its enabling is written here.
        efer: (Efer::read() - EferFlags::LONG_MODE_ACTIVE).bits(),
        cr0: Cr0::read_raw(),
        entry: setup.entry,
        kernel_cr3: setup.kernel_cr3,
    };
    // SAFETY: the page is the caller's; the parts lie within it and do not overlap.
    unsafe {
        page.write_bytes(0, 4096);
        ptr::copy_nonoverlapping(start, page, len);
        page.add(PARAMS).cast::<Params>().write_unaligned(params);
    }
}

/// Sets the word that the CPU with this APIC id passes on to the entry. 0 sends the CPU to sleep.
///
/// # Safety
/// The caller has called [`write()`] on `page`, and keeps its promises.
pub unsafe fn set_word(page: *mut u8, apic_id: u8, word: u64) {
    // SAFETY: 256 words from 0x800 on end with the page.
    unsafe {
        page.add(BLOCKS)
            .cast::<u64>()
            .add(usize::from(apic_id))
            .write_volatile(word);
    }
}
