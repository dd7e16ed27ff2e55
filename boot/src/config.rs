//! The kernel's configuration: the bytes of its section, the version that made them, and the
//! options that this loader lacks.

use crate::PAGE;
use crate::error::{Error, Result};
use bootloader_api::{BootInfo, BootloaderConfig};

/// Offset of the version in the section, after the UUID.
const VERSION_AT: usize = 16;

/// The version of a `bootloader_api`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    numbers: [u16; 3],
    pre_release: bool,
}

impl Version {
    /// Returns the version that this loader implements.
    fn ours() -> Self {
        let version = BootInfo::new((&mut [][..]).into()).api_version;
        Self {
            numbers: [
                version.version_major(),
                version.version_minor(),
                version.version_patch(),
            ],
            pre_release: version.pre_release(),
        }
    }

    /// Returns the version in a section. `BootloaderConfig` reads it but does not give it out.
    fn of(section: &[u8]) -> Option<Self> {
        let bytes = section.get(VERSION_AT..VERSION_AT + 7)?;
        let number = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Some(Self {
            numbers: [number(0), number(2), number(4)],
            pre_release: bytes[6] != 0,
        })
    }

    /// Returns whether two versions are compatible by the rule of semantic versioning. Below 1.0
    /// the minor number counts as the major one does above; a pre-release is compatible only with
    /// itself.
    fn suits(&self, other: &Self) -> bool {
        if self.pre_release || other.pre_release {
            return self == other;
        }
        let ([major, minor, _], [other_major, other_minor, _]) = (self.numbers, other.numbers);
        major == other_major && (major > 0 || minor == other_minor)
    }
}

/// Reads the section and checks what can be checked without the rest of the kernel.
///
/// # Errors
///
/// Returns the [`Error`] of a section that cannot be read, has an incompatible
/// version, or asks for what the loader lacks.
pub fn read(section: &[u8]) -> Result<BootloaderConfig> {
    let ours = Version::ours();
    let config = BootloaderConfig::deserialize(section).map_err(|why| Error::BadConfig { why })?;
    let theirs = Version::of(section).ok_or(Error::BadConfig { why: "invalid len" })?;
    if !theirs.suits(&ours) {
        return Err(Error::WrongVersion {
            kernel: theirs.numbers,
            loader: ours.numbers,
        });
    }
    if config.kernel_stack_size < PAGE {
        return Err(Error::StackTooSmall {
            len: config.kernel_stack_size,
        });
    }
    if config.mappings.aslr {
        return Err(Error::Unsupported {
            what: "mappings.aslr is set, which this loader does not do; leave it false",
        });
    }
    Ok(config)
}
