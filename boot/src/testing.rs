//! Makes kernel images to order, for the tests.

use crate::image::Image;
use bootloader_api::BootloaderConfig;
use std::vec::Vec;

/// The permissions of a program header: read here, then read and write, then read and execute.
pub const R: u32 = 4;
pub const RW: u32 = 6;
pub const RX: u32 = 5;
pub const RWX: u32 = 7;

/// A program header to be written.
#[derive(Clone)]
pub struct Header {
    pub kind: u32,
    pub flags: u32,
    pub vaddr: u64,
    pub bytes: Vec<u8>,
    pub memory_len: u64,
    pub align: u64,
}

/// An image to be written.
#[derive(Clone)]
pub struct Elf {
    pub e_type: u16,
    pub machine: u16,
    pub entry: u64,
    pub headers: Vec<Header>,
    pub section_name: &'static str,
    pub config: Vec<u8>,
}

impl Elf {
    /// Returns a kernel as the linker script makes it: constants, code, and data followed by zeros.
    pub fn kernel(base: u64, config: &BootloaderConfig) -> Self {
        Self {
            e_type: elf::abi::ET_EXEC,
            machine: elf::abi::EM_X86_64,
            entry: base + 0x1010,
            headers: Vec::new(),
            section_name: ".bootloader-config",
            config: config.serialize().to_vec(),
        }
        .load(R, base, b"constants", 9)
        .load(RX, base + 0x1000, &[0xcc; 0x20], 0x20)
        .load(RW, base + 0x2ff0, &[0x11; 0x20], 0x2020)
    }

    /// Adds a segment to load.
    pub fn load(self, flags: u32, vaddr: u64, bytes: &[u8], memory_len: u64) -> Self {
        self.header(elf::abi::PT_LOAD, flags, vaddr, bytes, memory_len)
    }

    /// Adds any program header.
    pub fn header(mut self, kind: u32, flags: u32, vaddr: u64, bytes: &[u8], len: u64) -> Self {
        self.headers.push(Header {
            kind,
            flags,
            vaddr,
            bytes: bytes.to_vec(),
            memory_len: len,
            align: 0x1000,
        });
        self
    }

    /// Makes the image position-independent with these relocations (address, type, addend), in
    /// segments of their own from `at` on.
    pub fn relocations(mut self, at: u64, entries: &[(u64, u64, u64)]) -> Self {
        self.e_type = elf::abi::ET_DYN;
        let table = words(
            entries
                .iter()
                .flat_map(|&(at, info, addend)| [at, info, addend]),
        );
        let dynamic = words([
            elf::abi::DT_RELA as u64,
            at,
            elf::abi::DT_RELASZ as u64,
            table.len() as u64,
            elf::abi::DT_RELAENT as u64,
            24,
            0,
            0,
        ]);
        let len = dynamic.len() as u64;
        self.load(R, at, &table, table.len() as u64)
            .load(R, at + 0x1000, &dynamic, len)
            .header(elf::abi::PT_DYNAMIC, R, at + 0x1000, &dynamic, len)
    }

    /// Writes the file.
    pub fn build(&self) -> Vec<u8> {
        let mut file = std::vec![0; 64 + 56 * self.headers.len()];
        let mut at = 64;
        for header in &self.headers {
            let offset = file.len() as u64;
            file.extend(&header.bytes);
            file[at..at + 4].copy_from_slice(&header.kind.to_le_bytes());
            file[at + 4..at + 8].copy_from_slice(&header.flags.to_le_bytes());
            let fields = words([
                offset,
                header.vaddr,
                header.vaddr,
                header.bytes.len() as u64,
                header.memory_len,
                header.align,
            ]);
            file[at + 8..at + 56].copy_from_slice(&fields);
            at += 56;
        }
        let config = file.len() as u64;
        file.extend(&self.config);
        let mut names = std::vec![0];
        names.extend(self.section_name.as_bytes());
        names.push(0);
        let names_at = file.len() as u64;
        file.extend(&names);
        let sections = file.len() as u64;
        file.extend(section(0, 0, 0, 0));
        file.extend(section(
            1,
            elf::abi::SHT_PROGBITS,
            config,
            self.config.len() as u64,
        ));
        file.extend(section(
            0,
            elf::abi::SHT_STRTAB,
            names_at,
            names.len() as u64,
        ));

        file[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
        file[16..18].copy_from_slice(&self.e_type.to_le_bytes());
        file[18..20].copy_from_slice(&self.machine.to_le_bytes());
        file[20] = 1;
        file[24..48].copy_from_slice(&words([self.entry, 64, sections]));
        let counts = [64, 56, self.headers.len() as u16, 64, 3, 2];
        for (at, count) in (52..64).step_by(2).zip(counts) {
            file[at..at + 2].copy_from_slice(&count.to_le_bytes());
        }
        file
    }
}

/// Parses a file that must be good.
///
/// # Panics
///
/// Panics if the file is not good.
pub fn parse(file: &[u8]) -> Image<'_> {
    Image::parse(file).expect("a good image")
}

fn words(words: impl IntoIterator<Item = u64>) -> Vec<u8> {
    words.into_iter().flat_map(u64::to_le_bytes).collect()
}

fn section(name: u32, kind: u32, offset: u64, len: u64) -> Vec<u8> {
    let mut header = std::vec![0; 64];
    header[..4].copy_from_slice(&name.to_le_bytes());
    header[4..8].copy_from_slice(&kind.to_le_bytes());
    header[24..40].copy_from_slice(&words([offset, len]));
    header
}

/// A small generator of repeatable numbers (SplitMix64, Steele et al., OOPSLA 2014).
pub struct Random(pub u64);

impl Random {
    /// Returns the next number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}
