//! Names for addresses, from the symbol table of the kernel's own image.

use core::fmt::{self, Write};
use elf::ElfBytes;
use elf::abi::STT_FUNC;
use elf::endian::LittleEndian;
use tidemark_wire::Text;

/// The kernel's ELF file in memory.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    file: &'static [u8],
    load_offset: u64,
}

/// A function, and an offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'i> {
    /// The function's symbol, mangled.
    pub symbol: &'i str,
    /// Bytes from the start of the function.
    pub offset: u64,
}

impl Place<'_> {
    /// Returns whether the function only carries a panic from its origin to here.
    pub fn is_panic_machinery(&self) -> bool {
        let mut start = Text::<40>::new();
        // It cuts and never fails: the beginning is all that is asked about.
        let _ = write!(start, "{:#}", rustc_demangle::demangle(self.symbol));
        [
            "core::panicking::",
            "core::option::",
            "core::result::",
            "core::slice::index::",
            "core::str::",
            "tidemark_kernel::panic::",
            "tidemark_kernel::die",
            "__rustc::rust_begin_unwind",
            "rust_begin_unwind",
        ]
        .iter()
        .any(|carrier| start.as_str().starts_with(carrier))
    }
}

impl fmt::Display for Place<'_> {
    /// Writes `function+0x12`, without the hash of the symbol.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = rustc_demangle::demangle(self.symbol);
        write!(f, "{name:#}+{:#x}", self.offset)
    }
}

impl Image {
    /// Returns the image in `file`. `load_offset` is the amount that was added to the file's
    /// addresses when it was loaded.
    pub fn new(file: &'static [u8], load_offset: u64) -> Self {
        Image { file, load_offset }
    }

    /// Returns the function that contains `address`. It reads the whole symbol table, so only
    /// reports call it.
    pub fn place_of(&self, address: u64) -> Option<Place<'static>> {
        let file = ElfBytes::<LittleEndian>::minimal_parse(self.file).ok()?;
        let (symbols, strings) = file.symbol_table().ok()??;
        let address = address.wrapping_sub(self.load_offset);
        symbols
            .iter()
            .filter(|symbol| symbol.st_symtype() == STT_FUNC)
            .filter_map(|symbol| {
                let offset = address.checked_sub(symbol.st_value)?;
                (offset < symbol.st_size.max(1)).then_some((offset, symbol.st_name))
            })
            .min()
            .and_then(|(offset, name)| {
                let symbol = strings.get(name as usize).ok()?;
                Some(Place { symbol, offset })
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::string::ToString;

    #[inline(never)]
    fn a_function_to_find() -> u64 {
        std::hint::black_box(1)
    }

    /// Returns the image of our own program, at the address where it is loaded.
    fn this_program() -> Image {
        let file: &'static [u8] = std::fs::read("/proc/self/exe").unwrap().leak();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let path = std::env::current_exe().unwrap();
        let base = maps
            .lines()
            .find(|line| line.ends_with(path.to_str().unwrap()))
            .and_then(|line| line.split('-').next())
            .and_then(|base| u64::from_str_radix(base, 16).ok())
            .unwrap();
        Image::new(file, base)
    }

    #[test]
    fn an_address_in_a_function_has_its_name_and_offset() {
        a_function_to_find();
        let address = a_function_to_find as fn() -> u64 as usize as u64;
        let place = this_program().place_of(address + 1).unwrap();
        assert_eq!(place.offset, 1);
        let text = place.to_string();
        assert!(
            text.ends_with("symbols::tests::a_function_to_find+0x1"),
            "{text}"
        );
    }

    #[test]
    fn what_carries_a_panic_is_known_by_its_name() {
        let carries = |symbol| Place { symbol, offset: 1 }.is_panic_machinery();
        assert!(carries("_ZN4core9panicking9panic_fmt17h0123456789abcdefE"));
        assert!(carries("_RNvCs5QKde7ScR4H_7___rustc17rust_begin_unwind"));
        assert!(!carries(
            "_ZN15tidemark_kernel4demo3run17h0123456789abcdefE"
        ));
    }

    #[test]
    fn an_address_in_no_function_has_no_name() {
        assert_eq!(this_program().place_of(1), None);
        assert_eq!(this_program().place_of(u64::MAX), None);
    }

    #[test]
    fn an_image_that_is_no_elf_has_no_names() {
        assert_eq!(Image::new(b"not an ELF file", 0).place_of(5), None);
        assert_eq!(Image::new(&[], 0).place_of(5), None);
    }
}
