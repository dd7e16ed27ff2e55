//! QEMU's description of the machine: `hvm_start_info` of Xen's PVH boot protocol
//! (xen/include/public/arch-x86/hvm/start_info.h), version 1.

use crate::error::{Error, Result};

/// Value of [`StartInfo::magic`].
pub const MAGIC: u32 = 0x336e_c578;

/// The description itself; every address in it is physical.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct StartInfo {
    /// [`MAGIC`].
    pub magic: u32,
    /// Version; from 1 on there is a memory map.
    pub version: u32,
    /// Flags, none of which concerns us.
    pub flags: u32,
    /// Number of entries in the list of modules.
    pub nr_modules: u32,
    /// The list of modules.
    pub modlist: u64,
    /// The command line.
    pub cmdline: u64,
    /// The ACPI RSDP, 0 if unknown.
    pub rsdp: u64,
    /// The memory map.
    pub memmap: u64,
    /// Number of entries in the memory map.
    pub memmap_entries: u32,
    /// Zero.
    pub reserved: u32,
}

/// An entry of the list of modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Module {
    /// Where it starts.
    pub paddr: u64,
    /// Its length in bytes.
    pub size: u64,
    /// Its command line.
    pub cmdline: u64,
    /// Zero.
    pub reserved: u64,
}

/// An entry of the memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct MemmapEntry {
    /// Where it starts.
    pub addr: u64,
    /// Its length in bytes.
    pub size: u64,
    /// Its type, as in E820.
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<StartInfo>() == 56);
const _: () = assert!(size_of::<Module>() == 32);
const _: () = assert!(size_of::<MemmapEntry>() == 24);

impl StartInfo {
    /// Checks that this is a description that has a memory map and at least one module.
    pub fn check(&self) -> Result<()> {
        if self.magic != MAGIC {
            return Err(Error::NotPvh { magic: self.magic });
        }
        if self.version < 1 || self.memmap_entries == 0 {
            return Err(Error::NoMemoryMap);
        }
        if self.nr_modules == 0 {
            return Err(Error::NoModule);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: StartInfo = StartInfo {
        magic: MAGIC,
        version: 1,
        flags: 0,
        nr_modules: 1,
        modlist: 0x1000,
        cmdline: 0,
        rsdp: 0xf_5000,
        memmap: 0x2000,
        memmap_entries: 7,
        reserved: 0,
    };

    #[test]
    fn names_what_is_missing() {
        assert_eq!(GOOD.check(), Ok(()));
        let magic = 0x2bad_b002;
        assert_eq!(
            StartInfo { magic, ..GOOD }.check(),
            Err(Error::NotPvh { magic })
        );
        let old = StartInfo { version: 0, ..GOOD };
        assert_eq!(old.check(), Err(Error::NoMemoryMap));
        let alone = StartInfo {
            nr_modules: 0,
            ..GOOD
        };
        assert_eq!(alone.check(), Err(Error::NoModule));
    }
}
