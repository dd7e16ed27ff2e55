//! Names addresses of the guest: functions, and lines of the sources.

use std::path::Path;

use object::{Object, ObjectSymbol, SymbolKind};

use crate::guest::build::workspace;

/// The names of functions and the lines of the sources, by address.
#[derive(Default)]
pub struct Symbols {
    /// The functions: (address, size, name), sorted by address.
    functions: Vec<(u64, u64, String)>,
    /// The files that have source lines.
    lines: Vec<addr2line::Loader>,
}

impl std::fmt::Debug for Symbols {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Symbols")
            .field("functions", &self.functions)
            .field("lines", &self.lines.len())
            .finish()
    }
}

impl Symbols {
    /// Reads the functions of several ELF files. A file that cannot be read contributes none.
    pub fn of_files(files: &[&Path]) -> Self {
        let mut symbols = Symbols::default();
        for bytes in files.iter().filter_map(|file| std::fs::read(file).ok()) {
            symbols.add(&bytes);
        }
        symbols.functions.sort();
        let lines = files
            .iter()
            .filter_map(|file| addr2line::Loader::new(file).ok());
        symbols.lines = lines.collect();
        symbols
    }

    /// Returns [`name`](Self::name), and the line of the source where that is known.
    pub fn place(&self, address: u64) -> String {
        let name = self.name(address);
        match self.line(address) {
            Some(line) => format!("{name} ({line})"),
            None => name,
        }
    }

    /// Returns `file:line`, with the path from the project's root. Of code inlined there, it
    /// returns the innermost place that is the project's own.
    fn line(&self, address: u64) -> Option<String> {
        let root = workspace();
        let line_in = |loader: &addr2line::Loader| {
            let mut frames = loader.find_frames(address).ok()?;
            while let Some(frame) = frames.next().ok()? {
                let place = frame.location.and_then(|at| Some((at.file?, at.line?)));
                if let Some((file, line)) = place
                    && let Ok(file) = Path::new(file).strip_prefix(&root)
                {
                    return Some(format!("{}:{line}", file.display()));
                }
            }
            None
        };
        self.lines.iter().find_map(line_in)
    }

    fn add(&mut self, elf: &[u8]) {
        let Ok(file) = object::File::parse(elf) else {
            return;
        };
        for symbol in file.symbols().filter(|s| s.is_definition()) {
            let code = matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Label);
            if let (true, Ok(name)) = (code, symbol.name()) {
                let name = format!("{:#}", rustc_demangle::demangle(name));
                self.functions.push((symbol.address(), symbol.size(), name));
            }
        }
    }

    /// Returns `function+0xoffset`, or the bare address.
    pub fn name(&self, address: u64) -> String {
        let next = self
            .functions
            .partition_point(|(start, ..)| *start <= address);
        let found = self.functions[..next]
            .iter()
            .rev()
            .take(8)
            // Assembly symbols have no size, so they reach to the next one.
            .find(|(start, size, _)| {
                address - start < *size || (*size == 0 && address - start < 4096)
            });
        match found {
            Some((start, _, name)) => format!("{name}+{:#x}", address - start),
            None => format!("{address:#x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_function_and_an_offset() {
        let symbols = Symbols {
            functions: vec![
                (0x1000, 0x20, "one".to_owned()),
                (0x1040, 0x10, "two".to_owned()),
                (0x2000, 0, "stub".to_owned()),
            ],
            ..Symbols::default()
        };
        assert_eq!(symbols.name(0x1000), "one+0x0");
        assert_eq!(symbols.name(0x101f), "one+0x1f");
        assert_eq!(symbols.name(0x1020), "0x1020");
        assert_eq!(symbols.name(0x1048), "two+0x8");
        assert_eq!(symbols.name(0x2010), "stub+0x10");
        assert_eq!(symbols.name(0xfff), "0xfff");
    }

    #[inline(never)]
    fn marked() -> u32 {
        line!()
    }

    #[test]
    fn a_place_has_its_line_in_the_source() {
        let symbols = Symbols::of_files(&[std::env::current_exe().unwrap().as_path()]);
        let named = |function: &&(u64, u64, String)| function.2.ends_with("symbols::tests::marked");
        let (address, ..) = symbols.functions.iter().find(named).unwrap();
        let place = symbols.place(*address);
        // The function is three lines long, and returns the number of the middle one.
        let is_within =
            |line: u32| place.ends_with(&format!("marked+0x0 (host/src/judge/symbols.rs:{line})"));
        assert!((marked() - 1..=marked() + 1).any(is_within), "{place}");
        assert_eq!(symbols.place(1), "0x1");
    }

    #[test]
    fn our_own_functions_are_found_by_address() {
        let exe = std::env::current_exe().unwrap();
        let symbols = Symbols::of_files(&[exe.as_path()]);
        assert!(
            symbols
                .functions
                .iter()
                .any(|(_, _, name)| name.contains("our_own_functions_are_found_by_address"))
        );
    }
}
