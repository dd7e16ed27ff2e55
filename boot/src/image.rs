//! The kernel's ELF file. It is read once, and checked as a whole before any of it is loaded.

use crate::error::{Error, Foreign, Result};
use crate::memory::down;
use crate::{PAGE, config};
use arrayvec::ArrayVec;
use bootloader_api::BootloaderConfig;
use core::ops::Range;
use elf::ElfBytes;
use elf::abi;
use elf::dynamic::{Dyn, DynamicTable};
use elf::endian::LittleEndian;
use elf::file::{Class, parse_ident};
use elf::parse::ParseError;
use elf::segment::ProgramHeader;

/// Most segments of type `PT_LOAD` in an image.
pub const MAX_SEGMENTS: usize = 16;

/// Largest alignment of a segment, in bytes.
const MAX_ALIGN: u64 = 1 << 30;
/// The section with the kernel's configuration.
const CONFIG_SECTION: &str = ".bootloader-config";
/// Tag of the compact table of relative relocations (gABI, 2018), which the `elf` crate does not
/// name.
const DT_RELR: i64 = 36;
/// Bytes in an `Elf64_Rela`.
const RELA_LEN: u64 = 24;

/// The permissions of a segment's pages. Writable and executable together cannot be expressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The pages can be read.
    Read,
    /// The pages can be read and written.
    ReadWrite,
    /// The pages can be read and executed.
    ReadExecute,
}

/// Whether an image can be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ET_EXEC`: the image runs at the addresses that it is linked for.
    Fixed,
    /// `ET_DYN`: the image runs anywhere once it is relocated.
    Relocatable,
}

/// A segment to load. Addresses are those of the file, before any relocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Its virtual address.
    pub vaddr: u64,
    /// Its length in memory in bytes, at least as long as `bytes` and not 0.
    pub len: u64,
    /// Its contents; what follows them is zero.
    pub bytes: &'a [u8],
    /// The permissions of its pages.
    pub access: Access,
}

impl Segment<'_> {
    /// Returns the pages that it touches. Their end is within 64 bits, as [`Image::parse`] has
    /// checked.
    pub fn pages(&self) -> Range<u64> {
        let last = down(self.vaddr + (self.len - 1));
        down(self.vaddr)..last + PAGE
    }

    /// Returns whether `len` bytes at `at` lie within it.
    pub fn holds(&self, at: u64, len: u64) -> bool {
        at.checked_sub(self.vaddr)
            .is_some_and(|offset| offset <= self.len && len <= self.len - offset)
    }
}

/// The template of thread-local storage. Its address is that of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The virtual address of the template.
    pub vaddr: u64,
    /// Bytes in the template.
    pub file_len: u64,
    /// Bytes in a thread's copy; what follows the template is zero.
    pub len: u64,
}

/// A checked kernel image.
#[derive(Clone, Debug)]
pub struct Image<'a> {
    /// Whether it can be moved.
    pub kind: Kind,
    /// Its entry point, before relocation. It lies in an executable segment.
    pub entry: u64,
    /// The segments to load, by ascending address; no two share a page.
    pub segments: ArrayVec<Segment<'a>, MAX_SEGMENTS>,
    /// The largest alignment that a segment asks for, in bytes; a page at least.
    pub align: u64,
    /// Its template of thread-local storage.
    pub tls: Option<Tls>,
    /// Pages that are read-only once relocated.
    pub relro: Option<Range<u64>>,
    /// Its relocations, as the file contains them.
    relocations: &'a [u8],
    /// The configuration that it asks of a loader.
    pub config: BootloaderConfig,
}

/// One relocation, to be applied once the image's place is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// The virtual address of the word that changes: eight bytes within a segment.
    pub at: u64,
    /// The word's new value, before the image's offset is added.
    pub addend: u64,
}

impl<'a> Image<'a> {
    /// Reads and checks a file.
    ///
    /// # Errors
    ///
    /// Returns the [`Error`] for the first fault in the file.
    pub fn parse(file: &'a [u8]) -> Result<Self> {
        let elf = open(file)?;
        let kind = match elf.ehdr.e_type {
            abi::ET_EXEC => Kind::Fixed,
            abi::ET_DYN => Kind::Relocatable,
            e_type => return Err(Error::WrongType { e_type }),
        };
        let mut image = Self {
            kind,
            entry: elf.ehdr.e_entry,
            segments: ArrayVec::new(),
            align: PAGE,
            tls: None,
            relro: None,
            relocations: &[],
            config: config::read(config_section(&elf)?)?,
        };
        let headers = elf.segments().ok_or(Error::NoSegments)?;
        for header in headers.iter() {
            image.take_in(file, &header)?;
        }
        image.check_segments()?;
        if let Some(header) = headers.iter().find(|it| it.p_type == abi::PT_DYNAMIC) {
            let table = elf
                .segment_data(&header)
                .map_err(|error| damaged(&error, "dynamic"))?;
            let table = DynamicTable::new(LittleEndian, Class::ELF64, table);
            image.relocations = image.find_relocations(table.iter())?;
        }
        for relocation in image.relocations() {
            relocation?;
        }
        Ok(image)
    }

    /// Returns the relocations. Those of an image that was parsed are all `Ok`.
    pub fn relocations(&self) -> impl Iterator<Item = Result<Relocation>> + '_ {
        let (entries, _) = self.relocations.as_chunks::<{ RELA_LEN as usize }>();
        entries.iter().map(|entry| {
            let word = |at: usize| {
                let bytes = entry[at..at + 8].first_chunk().expect("eight bytes");
                u64::from_le_bytes(*bytes)
            };
            let (at, info, addend) = (word(0), word(8), word(16));
            match info as u32 {
                abi::R_X86_64_RELATIVE if info >> 32 == 0 => {}
                kind => return Err(Error::UnknownRelocation { kind }),
            }
            if !self.segments.iter().any(|segment| segment.holds(at, 8)) {
                return Err(Error::StrayRelocation { at });
            }
            Ok(Relocation { at, addend })
        })
    }

    /// Returns the span of the file's addresses that the segments' pages cover.
    pub fn span(&self) -> Range<u64> {
        let start = self.segments.first().map_or(0, |first| first.pages().start);
        let end = self.segments.last().map_or(0, |last| last.pages().end);
        start..end
    }

    fn take_in(&mut self, file: &'a [u8], header: &ProgramHeader) -> Result<()> {
        match header.p_type {
            abi::PT_LOAD if header.p_memsz > 0 => {
                let segment = segment(file, header)?;
                let align = header.p_align.max(1);
                if !align.is_power_of_two() || align > MAX_ALIGN {
                    return Err(Error::Malformed {
                        what: "a segment's alignment is not a power of two up to 1 GiB",
                    });
                }
                self.align = self.align.max(align);
                self.segments
                    .try_push(segment)
                    .map_err(|_| Error::TooManySegments { most: MAX_SEGMENTS })
            }
            abi::PT_TLS if self.tls.is_some() => Err(Error::Malformed {
                what: "more than one segment of thread-local storage",
            }),
            abi::PT_TLS => {
                self.tls = Some(Tls {
                    vaddr: header.p_vaddr,
                    file_len: header.p_filesz,
                    len: header.p_memsz,
                });
                Ok(())
            }
            abi::PT_GNU_RELRO => {
                // As in dynamic linkers, a last page that is only partly covered stays writable.
                let end = header.p_vaddr.checked_add(header.p_memsz);
                let end = end.ok_or(Error::Malformed {
                    what: "GNU_RELRO wraps around",
                })?;
                self.relro = Some(down(header.p_vaddr)..down(end));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn check_segments(&mut self) -> Result<()> {
        if self.segments.is_empty() {
            return Err(Error::NoSegments);
        }
        self.segments.sort_unstable_by_key(|segment| segment.vaddr);
        for pair in self.segments.windows(2) {
            if pair[0].pages().end > pair[1].pages().start {
                return Err(Error::SegmentsOverlap {
                    first: pair[0].vaddr,
                    second: pair[1].vaddr,
                });
            }
        }
        let executable = |segment: &Segment<'_>| {
            segment.access == Access::ReadExecute && segment.holds(self.entry, 1)
        };
        if !self.segments.iter().any(executable) {
            return Err(Error::EntryNotExecutable { at: self.entry });
        }
        if let Some(tls) = self.tls {
            let held = |segment: &Segment<'_>| segment.holds(tls.vaddr, tls.file_len);
            if tls.file_len > tls.len || (tls.file_len > 0 && !self.segments.iter().any(held)) {
                return Err(Error::Malformed {
                    what: "the template of thread-local storage is in no segment",
                });
            }
        }
        Ok(())
    }

    /// Returns the table of relocations that the dynamic section names. It is found through the
    /// segments' addresses.
    fn find_relocations(&self, table: impl Iterator<Item = Dyn>) -> Result<&'a [u8]> {
        let (mut at, mut len, mut entry_len) = (None, 0, RELA_LEN);
        for entry in table {
            match entry.d_tag {
                abi::DT_NULL => break,
                abi::DT_RELA => at = Some(entry.d_ptr()),
                abi::DT_RELASZ => len = entry.d_val(),
                abi::DT_RELAENT => entry_len = entry.d_val(),
                abi::DT_REL | abi::DT_JMPREL | DT_RELR => {
                    return Err(Error::Malformed {
                        what: "it has REL, RELR or PLT relocations, where only RELA ones are known",
                    });
                }
                _ => {}
            }
        }
        let Some(at) = at.filter(|_| len > 0) else {
            return Ok(&[]);
        };
        if self.kind == Kind::Fixed {
            return Err(Error::Malformed {
                what: "it is not relocatable and has relocations",
            });
        }
        if entry_len != RELA_LEN || len % RELA_LEN != 0 {
            return Err(Error::Malformed {
                what: "its table of relocations has entries of a wrong size",
            });
        }
        self.segments
            .iter()
            .find_map(|segment| {
                let start = usize::try_from(at.checked_sub(segment.vaddr)?).ok()?;
                let end = start.checked_add(usize::try_from(len).ok()?)?;
                segment.bytes.get(start..end)
            })
            .ok_or(Error::Malformed {
                what: "its table of relocations is in no segment",
            })
    }
}

/// Reads the headers of a file for this machine.
fn open(file: &[u8]) -> Result<ElfBytes<'_, LittleEndian>> {
    let mut found = [0; 4];
    for (to, from) in found.iter_mut().zip(file) {
        *to = *from;
    }
    if found != abi::ELFMAGIC {
        return Err(Error::NotElf { found });
    }
    let unreadable = |error: ParseError| damaged(&error, "headers");
    // `parse_ident` indexes into these bytes.
    if file.len() < abi::EI_NIDENT {
        return Err(unreadable(ParseError::BadOffset(0)));
    }
    let (_, class, ..) = parse_ident::<LittleEndian>(file).map_err(unreadable)?;
    if class != Class::ELF64 {
        return Err(Error::WrongMachine {
            what: Foreign::Class(abi::ELFCLASS32),
        });
    }
    let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(unreadable)?;
    match elf.ehdr.e_machine {
        abi::EM_X86_64 => Ok(elf),
        machine => Err(Error::WrongMachine {
            what: Foreign::Machine(machine),
        }),
    }
}

/// Returns the contents of the section with the kernel's configuration.
fn config_section<'a>(elf: &ElfBytes<'a, LittleEndian>) -> Result<&'a [u8]> {
    let unreadable = |error: ParseError| damaged(&error, "section headers");
    let (headers, names) = elf.section_headers_with_strtab().map_err(unreadable)?;
    let (Some(headers), Some(names)) = (headers, names) else {
        return Err(Error::NoConfig);
    };
    let header = headers
        .iter()
        .find(|header| {
            let name = names.get_raw(header.sh_name as usize);
            name.is_ok_and(|name| name == CONFIG_SECTION.as_bytes())
        })
        .ok_or(Error::NoConfig)?;
    let (bytes, compression) = elf
        .section_data(&header)
        .map_err(|error| damaged(&error, CONFIG_SECTION))?;
    if compression.is_some() {
        return Err(Error::BadConfig {
            why: "the section is compressed",
        });
    }
    Ok(bytes)
}

/// Reads a header of type `PT_LOAD`.
fn segment<'a>(file: &'a [u8], header: &ProgramHeader) -> Result<Segment<'a>> {
    if header.p_filesz > header.p_memsz {
        return Err(Error::Malformed {
            what: "a segment is longer in the file than in memory",
        });
    }
    // A last page above the segment must fit as well, so that the end of its pages can be
    // expressed.
    if header.p_vaddr.checked_add(header.p_memsz).is_none()
        || header.p_vaddr + (header.p_memsz - 1) >= u64::MAX - PAGE
    {
        return Err(Error::NotCanonical {
            what: "a segment",
            at: header.p_vaddr,
        });
    }
    let bytes = usize::try_from(header.p_offset)
        .ok()
        .zip(usize::try_from(header.p_filesz).ok())
        .and_then(|(start, len)| file.get(start..start.checked_add(len)?))
        .ok_or(Error::Truncated {
            what: "a segment's contents lie",
        })?;
    let writable = header.p_flags & abi::PF_W != 0;
    let executable = header.p_flags & abi::PF_X != 0;
    let access = match (writable, executable) {
        (true, true) => return Err(Error::WritableAndExecutable { at: header.p_vaddr }),
        (true, false) => Access::ReadWrite,
        (false, true) => Access::ReadExecute,
        (false, false) => Access::Read,
    };
    Ok(Segment {
        vaddr: header.p_vaddr,
        len: header.p_memsz,
        bytes,
        access,
    })
}

/// Returns what a parse error means for the file.
fn damaged(error: &ParseError, what: &'static str) -> Error {
    match *error {
        ParseError::UnsupportedElfClass(class) => Error::WrongMachine {
            what: Foreign::Class(class),
        },
        ParseError::UnsupportedElfEndianness(data) => Error::WrongMachine {
            what: Foreign::Endianness(data),
        },
        ParseError::SliceReadError(_) | ParseError::BadOffset(_) => Error::Truncated {
            what: match what {
                "headers" => "its headers lie",
                "dynamic" => "its dynamic table lies",
                "section headers" => "its section headers lie",
                _ => "its configuration lies",
            },
        },
        _ => Error::Malformed {
            what: match what {
                "headers" => "its headers contradict each other",
                "dynamic" => "its dynamic table cannot be read",
                "section headers" => "its section headers cannot be read",
                _ => "its configuration cannot be read",
            },
        },
    }
}

#[cfg(test)]
mod tests;
