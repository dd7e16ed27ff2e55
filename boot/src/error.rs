//! The faults that the kernel or the machine can have, each with one clear line.

use core::fmt;

/// Result of any function that can find the contract broken.
pub type Result<T> = core::result::Result<T, Error>;

/// A broken contract. Its `Display` says what is wrong, then what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The structure behind EBX is not a `hvm_start_info`.
    NotPvh {
        /// The value in the place of its magic number.
        magic: u32,
    },
    /// `hvm_start_info` is older than version 1, so it has no memory map.
    NoMemoryMap,
    /// The firmware's memory map has more entries than the loader has room for.
    MemoryMapTooLong {
        /// Number of entries.
        entries: usize,
    },
    /// QEMU passed no module.
    NoModule,
    /// The module is not within the memory that the loader has mapped.
    ModuleOutOfReach {
        /// Physical start.
        at: u64,
        /// Length in bytes.
        len: u64,
    },
    /// The module does not start like an ELF file.
    NotElf {
        /// Its first bytes, zeros where it is shorter.
        found: [u8; 4],
    },
    /// Headers or contents lie beyond the module's end.
    Truncated {
        /// The part that lies beyond the end.
        what: &'static str,
    },
    /// The file is an ELF file, but not of 64-bit little-endian x86-64 code.
    WrongMachine {
        /// The machine that the file is for.
        what: Foreign,
    },
    /// The file is neither an executable nor a position-independent one.
    WrongType {
        /// `e_type`.
        e_type: u16,
    },
    /// A field of the ELF file contradicts another or the format.
    Malformed {
        /// The contradiction.
        what: &'static str,
    },
    /// There is no section `.bootloader-config`.
    NoConfig,
    /// The section `.bootloader-config` cannot be read.
    BadConfig {
        /// The reason, in the words of `bootloader_api`.
        why: &'static str,
    },
    /// The kernel was built with an incompatible `bootloader_api`.
    WrongVersion {
        /// Major, minor and patch number of the kernel's version.
        kernel: [u16; 3],
        /// Major, minor and patch number of the loader's version.
        loader: [u16; 3],
    },
    /// The kernel asks for something that this loader does not do.
    Unsupported {
        /// The request, with advice.
        what: &'static str,
    },
    /// There is no segment to load.
    NoSegments,
    /// There are more segments than the loader has room for.
    TooManySegments {
        /// The most segments that the loader takes.
        most: usize,
    },
    /// A segment is both writable and executable.
    WritableAndExecutable {
        /// Its virtual address.
        at: u64,
    },
    /// Two segments share a page.
    SegmentsOverlap {
        /// Virtual address of the lower one.
        first: u64,
        /// Virtual address of the upper one.
        second: u64,
    },
    /// The entry point is in no executable segment.
    EntryNotExecutable {
        /// The entry point.
        at: u64,
    },
    /// A relocation has a type other than `R_X86_64_RELATIVE`.
    UnknownRelocation {
        /// Its type.
        kind: u32,
    },
    /// A relocation changes an address that no segment has.
    StrayRelocation {
        /// The address.
        at: u64,
    },
    /// The stack asked for is smaller than a page.
    StackTooSmall {
        /// Its size in bytes.
        len: u64,
    },
    /// A range of virtual addresses is not canonical, wraps or crosses the hole.
    NotCanonical {
        /// The object that was to be mapped there.
        what: &'static str,
        /// Its start.
        at: u64,
    },
    /// A fixed address is not aligned.
    NotAligned {
        /// The object that was to be mapped there.
        what: &'static str,
        /// Its start.
        at: u64,
        /// The alignment that it needs, in bytes.
        to: u64,
    },
    /// Two objects were to be mapped at one virtual address.
    Collision {
        /// The object that was to be mapped.
        what: &'static str,
        /// Its start.
        at: u64,
        /// The object that is there already.
        with: &'static str,
    },
    /// No free virtual addresses are left within the dynamic range.
    NoAddressSpace {
        /// The object that was to be mapped.
        what: &'static str,
        /// Its length in bytes.
        len: u64,
    },
    /// There is not enough physical memory.
    NoMemory {
        /// Bytes that were asked for.
        wanted: u64,
        /// Bytes that were left.
        left: u64,
    },
    /// The CPU has no no-execute bit.
    NoNx,
}

/// The target of an ELF file that is not for this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// It is not 64-bit: the class byte.
    Class(u8),
    /// It is not little-endian: the data byte.
    Endianness(u8),
    /// It is for another processor: `e_machine`.
    Machine(u16),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotPvh { magic } => write!(
                f,
                "machine: no PVH start info (its magic number reads {magic:#x}); start this image with QEMU's -kernel"
            ),
            Self::NoMemoryMap => write!(
                f,
                "machine: PVH start info without a memory map; use QEMU 4.0 or later"
            ),
            Self::MemoryMapTooLong { entries } => write!(
                f,
                "machine: {entries} entries in the memory map; raise MAX_ENTRIES in the loader"
            ),
            Self::NoModule => write!(
                f,
                "kernel image: none; pass the kernel's ELF file with QEMU's -initrd"
            ),
            Self::ModuleOutOfReach { at, len } => write!(
                f,
                "kernel image: {len} bytes at {at:#x} are not all below 4 GiB; pass a smaller image"
            ),
            Self::NotElf { found } => write!(
                f,
                "kernel image: not an ELF file (it starts with {found:02x?}); pass the kernel's ELF file with -initrd"
            ),
            Self::Truncated { what } => write!(
                f,
                "kernel image: truncated, {what} past its end; build or copy it again"
            ),
            Self::WrongMachine {
                what: Foreign::Class(class),
            } => write!(
                f,
                "kernel image: not 64-bit (ELF class {class}); build it for x86_64"
            ),
            Self::WrongMachine {
                what: Foreign::Endianness(data),
            } => write!(
                f,
                "kernel image: not little-endian (ELF data encoding {data}); build it for x86_64"
            ),
            Self::WrongMachine {
                what: Foreign::Machine(machine),
            } => write!(
                f,
                "kernel image: for another processor (ELF machine {machine}); build it for x86_64"
            ),
            Self::WrongType { e_type } => write!(
                f,
                "kernel image: not an executable (ELF type {e_type}); link it as ET_EXEC or as a static PIE"
            ),
            Self::Malformed { what } => {
                write!(f, "kernel image: malformed, {what}; build it again")
            }
            Self::NoConfig => write!(
                f,
                "kernel image: no section .bootloader-config; use bootloader_api::entry_point! and keep the section in the linker script"
            ),
            Self::BadConfig { why } => write!(
                f,
                "kernel configuration: {why}; build the kernel with bootloader_api 0.11"
            ),
            Self::WrongVersion { kernel, loader } => write!(
                f,
                "kernel configuration: made by bootloader_api {}.{}.{}, not compatible with {}.{}.{}; build the kernel with bootloader_api {}.{}",
                kernel[0],
                kernel[1],
                kernel[2],
                loader[0],
                loader[1],
                loader[2],
                loader[0],
                loader[1]
            ),
            Self::Unsupported { what } => write!(f, "kernel configuration: {what}"),
            Self::NoSegments => write!(
                f,
                "kernel image: no segment to load; check the linker script's PHDRS"
            ),
            Self::TooManySegments { most } => write!(
                f,
                "kernel image: more than {most} segments to load; merge some in the linker script"
            ),
            Self::WritableAndExecutable { at } => write!(
                f,
                "kernel image: the segment at {at:#x} is writable and executable; give code and data segments of their own"
            ),
            Self::SegmentsOverlap { first, second } => write!(
                f,
                "kernel image: the segments at {first:#x} and {second:#x} share a page; align each to 4096"
            ),
            Self::EntryNotExecutable { at } => write!(
                f,
                "kernel image: the entry point {at:#x} is in no executable segment; check ENTRY in the linker script"
            ),
            Self::UnknownRelocation { kind } => write!(
                f,
                "kernel image: relocation type {kind} is not known; link statically so that only R_X86_64_RELATIVE is left"
            ),
            Self::StrayRelocation { at } => write!(
                f,
                "kernel image: a relocation at {at:#x}, in no segment; link it again"
            ),
            Self::StackTooSmall { len } => write!(
                f,
                "kernel configuration: a stack of {len} bytes; set kernel_stack_size to 4096 or more"
            ),
            Self::NotCanonical { what, at } => write!(
                f,
                "address space: {what} at {at:#x} is not within one half of the canonical addresses; choose another address"
            ),
            Self::NotAligned { what, at, to } => write!(
                f,
                "address space: {what} at {at:#x} is not aligned; choose a multiple of {to:#x}"
            ),
            Self::Collision { what, at, with } => write!(
                f,
                "address space: {what} at {at:#x} collides with {with}; choose another address or Mapping::Dynamic"
            ),
            Self::NoAddressSpace { what, len } => write!(
                f,
                "address space: no room for {what} ({len:#x} bytes) in the dynamic range; widen dynamic_range_start and _end"
            ),
            Self::NoMemory { wanted, left } => write!(
                f,
                "memory: {wanted} bytes wanted, {left} left; give the machine more with -m"
            ),
            Self::NoNx => write!(
                f,
                "machine: the CPU has no NX bit; use -cpu qemu64 or a later model"
            ),
        }
    }
}

impl core::error::Error for Error {}
