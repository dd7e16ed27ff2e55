//! Finds tables, and reads them without leaving their bounds.

use core::fmt;

/// Access to physical memory.
pub trait PhysicalMemory<'m> {
    /// Returns `len` bytes at physical address `start`, if all of them can be read.
    fn bytes(&self, start: u64, len: usize) -> Option<&'m [u8]>;
}

/// A fault in the firmware's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcpiError {
    /// The root pointer is not a valid one.
    NoRoot { at: u64 },
    /// A table lies where no memory is mapped, or claims an absurd length.
    Unreadable { at: u64, len: u64 },
    /// A table's bytes do not add up to 0.
    Checksum { signature: [u8; 4], at: u64 },
    /// A table ends inside a field.
    Truncated { signature: [u8; 4], offset: usize },
    /// A record within a table has an impossible length.
    Record { signature: [u8; 4], offset: usize },
    /// A table that the kernel needs is not there.
    Missing { signature: [u8; 4] },
}

struct Name([u8; 4]);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Display for AcpiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoRoot { at } => write!(f, "no ACPI root pointer at {at:#x}"),
            Self::Unreadable { at, len } => {
                write!(f, "ACPI table at {at:#x} of {len:#x} bytes cannot be read")
            }
            Self::Checksum { signature, at } => {
                write!(
                    f,
                    "ACPI table {} at {at:#x} has a bad checksum",
                    Name(signature)
                )
            }
            Self::Truncated { signature, offset } => {
                write!(
                    f,
                    "ACPI table {} ends before offset {offset:#x}",
                    Name(signature)
                )
            }
            Self::Record { signature, offset } => {
                write!(
                    f,
                    "ACPI table {} has a bad record at {offset:#x}",
                    Name(signature)
                )
            }
            Self::Missing { signature } => write!(f, "no ACPI table {}", Name(signature)),
        }
    }
}

const HEADER: usize = 36;
/// Most bytes in a table; a longer length is taken for damage.
const MAX_TABLE: u64 = 1 << 20;

/// A table whose length and checksum are right.
#[derive(Debug, Clone, Copy)]
pub struct Table<'m> {
    bytes: &'m [u8],
    signature: [u8; 4],
}

impl<'m> Table<'m> {
    /// Takes a whole table, header included, found at physical address `at`.
    ///
    /// # Errors
    ///
    /// Returns an [`AcpiError`] if it is shorter than a header or its checksum is wrong.
    pub fn new(bytes: &'m [u8], at: u64) -> Result<Self, AcpiError> {
        let signature = first(bytes).ok_or(AcpiError::Unreadable {
            at,
            len: bytes.len() as u64,
        })?;
        if bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) != 0 {
            return Err(AcpiError::Checksum { signature, at });
        }
        Ok(Self { bytes, signature })
    }

    fn at<'p>(phys: u64, memory: &impl PhysicalMemory<'p>) -> Result<Table<'p>, AcpiError> {
        let bad = |len| AcpiError::Unreadable { at: phys, len };
        let header = memory.bytes(phys, HEADER).ok_or(bad(HEADER as u64))?;
        let len = field(header, 4).map(u32::from_le_bytes).unwrap_or(0);
        let len = u64::from(len);
        if !(HEADER as u64..=MAX_TABLE).contains(&len) {
            return Err(bad(len));
        }
        Table::new(memory.bytes(phys, len as usize).ok_or(bad(len))?, phys)
    }

    fn read<const N: usize>(&self, offset: usize) -> Result<[u8; N], AcpiError> {
        field(self.bytes, offset).ok_or(AcpiError::Truncated {
            signature: self.signature,
            offset: offset + N,
        })
    }

    /// Returns the byte at `offset`.
    ///
    /// # Errors
    ///
    /// Returns [`AcpiError::Truncated`] if the table ends before.
    pub fn u8(&self, offset: usize) -> Result<u8, AcpiError> {
        self.read::<1>(offset).map(|[byte]| byte)
    }

    /// Returns the little-endian 16 bits at `offset`.
    ///
    /// # Errors
    ///
    /// Returns [`AcpiError::Truncated`] if the table ends before.
    pub fn u16(&self, offset: usize) -> Result<u16, AcpiError> {
        self.read(offset).map(u16::from_le_bytes)
    }

    /// Returns the little-endian 32 bits at `offset`.
    ///
    /// # Errors
    ///
    /// Returns [`AcpiError::Truncated`] if the table ends before.
    pub fn u32(&self, offset: usize) -> Result<u32, AcpiError> {
        self.read(offset).map(u32::from_le_bytes)
    }

    /// Returns the little-endian 64 bits at `offset`.
    ///
    /// # Errors
    ///
    /// Returns [`AcpiError::Truncated`] if the table ends before.
    pub fn u64(&self, offset: usize) -> Result<u64, AcpiError> {
        self.read(offset).map(u64::from_le_bytes)
    }

    /// Iterates over the (type, length, …) records from `offset` to the end. Each is a table of its
    /// own, with offsets from the record's start.
    pub fn records(&self, offset: usize) -> impl Iterator<Item = Result<Table<'m>, AcpiError>> {
        let (bytes, signature) = (self.bytes, self.signature);
        let mut next = offset;
        core::iter::from_fn(move || {
            if next >= bytes.len() {
                return None;
            }
            let start = next;
            let len = usize::from(bytes.get(start + 1).copied().unwrap_or(0));
            match bytes.get(start..start + len) {
                Some(record) if len >= 2 => {
                    next = start + len;
                    Some(Ok(Table {
                        bytes: record,
                        signature,
                    }))
                }
                _ => {
                    next = bytes.len();
                    Some(Err(AcpiError::Record {
                        signature,
                        offset: start,
                    }))
                }
            }
        })
    }
}

fn field<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

fn first(bytes: &[u8]) -> Option<[u8; 4]> {
    (bytes.len() >= HEADER).then(|| field(bytes, 0))?
}

/// The RSDT or XSDT.
pub struct Root<'p, 'm, M> {
    table: Table<'m>,
    entry_bytes: usize,
    memory: &'p M,
}

impl<'p, 'm, M: PhysicalMemory<'m>> Root<'p, 'm, M> {
    /// Follows the root pointer at physical address `rsdp`.
    ///
    /// # Errors
    ///
    /// Returns an [`AcpiError`] if the pointer or the table behind it is malformed.
    pub fn find(rsdp: u64, memory: &'p M) -> Result<Self, AcpiError> {
        let bad = AcpiError::NoRoot { at: rsdp };
        let pointer = memory.bytes(rsdp, 20).ok_or(bad)?;
        let sum = pointer
            .iter()
            .fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        if !pointer.starts_with(b"RSD PTR ") || sum != 0 {
            return Err(bad);
        }
        let rsdt = field(pointer, 16).map(u32::from_le_bytes).ok_or(bad)?;
        // From revision 2 on there is an XSDT with 64-bit entries; firmware may leave it 0.
        let xsdt = if pointer[15] >= 2 {
            memory
                .bytes(rsdp, 36)
                .and_then(|pointer| field(pointer, 24))
                .map_or(0, u64::from_le_bytes)
        } else {
            0
        };
        let (at, entry_bytes) = if xsdt != 0 {
            (xsdt, 8)
        } else {
            (u64::from(rsdt), 4)
        };
        Ok(Self {
            table: Table::at(at, memory)?,
            entry_bytes,
            memory,
        })
    }

    /// Returns the first table of this signature, if there is one.
    ///
    /// # Errors
    ///
    /// Returns an [`AcpiError`] if that table is malformed.
    pub fn table(&self, signature: &[u8; 4]) -> Result<Option<Table<'m>>, AcpiError> {
        for entry in self.table.bytes[HEADER..].chunks_exact(self.entry_bytes) {
            let mut address = [0; 8];
            address[..self.entry_bytes].copy_from_slice(entry);
            let address = u64::from_le_bytes(address);
            let found = self.memory.bytes(address, 4);
            if found.is_some_and(|bytes| bytes == signature) {
                return Table::at(address, self.memory).map(Some);
            }
        }
        Ok(None)
    }
}
