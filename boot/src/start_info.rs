//! QEMU's description of the machine: version 1 of `hvm_start_info` in Xen's PVH boot protocol
//! (xen/include/public/arch-x86/hvm/start_info.h).

use crate::error::{Error, Result};

/// The value of [`StartInfo::magic`].
pub const MAGIC: u32 = 0x336e_c578;

/// The description itself. Every address in it is physical.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct StartInfo {
    /// The magic number, [`MAGIC`].
    pub magic: u32,
    /// Version; from 1 on there is a memory map.
    pub version: u32,
    /// Flags, none of which concerns this loader.
    pub flags: u32,
    /// Number of entries in the list of modules.
    pub nr_modules: u32,
    /// Address of the list of modules.
    pub modlist: u64,
    /// Address of the command line.
    pub cmdline: u64,
    /// Address of the ACPI RSDP, 0 if unknown.
    pub rsdp: u64,
    /// Address of the memory map.
    pub memmap: u64,
    /// Number of entries in the memory map.
    pub memmap_entries: u32,
    /// Reserved, zero.
    pub reserved: u32,
}

/// An entry of the list of modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Module {
    /// Its start.
    pub paddr: u64,
    /// Its length in bytes.
    pub size: u64,
    /// Address of its command line.
    pub cmdline: u64,
    /// Reserved, zero.
    pub reserved: u64,
}

/// An entry of the memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct MemmapEntry {
    /// Its start.
    pub addr: u64,
    /// Its length in bytes.
    pub size: u64,
    /// Its type, as in E820.
    pub kind: u32,
    /// Reserved, zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<StartInfo>() == 56);
const _: () = assert!(size_of::<Module>() == 32);
const _: () = assert!(size_of::<MemmapEntry>() == 24);

impl StartInfo {
    /// Checks that this is a start info with a memory map and at least one module.
    ///
    /// # Errors
    ///
    /// Returns the [`Error`] for the first part that is missing.
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
