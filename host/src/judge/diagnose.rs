//! Says what went wrong with a guest that crashed or hung, on which CPU and in which function.

use std::path::Path;

use object::{Object, ObjectSymbol, SymbolKind};

use crate::guest::build::workspace;
use crate::guest::record::{Ended, Record};
use crate::guest::watchdog::Hang;

/// Where a CPU was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuState {
    pub cpu: u16,
    pub rip: u64,
    /// Whether it waits in `hlt`.
    pub halted: bool,
    /// Whether it takes interrupts.
    pub interrupts: bool,
    /// Whether it has a table of interrupt handlers at all.
    pub has_idt: bool,
}

/// Reads what `info registers -a` prints.
pub fn parse_registers(text: &str) -> Vec<CpuState> {
    let mut states: Vec<CpuState> = Vec::new();
    let mut cpu = 0;
    for line in text.lines() {
        let line = line.trim();
        if let Some(number) = line.strip_prefix("CPU#") {
            cpu = number.parse().unwrap_or(0);
        }
        if let (Some(table), Some(state)) = (line.strip_prefix("IDT="), states.last_mut()) {
            let limit = table.split_whitespace().nth(1);
            state.has_idt = limit.is_none_or(|limit| !limit.trim_matches('0').is_empty());
        }
        let field = |name: &str| {
            let rest = line.split(name).nth(1)?;
            let digits: String = rest.chars().take_while(char::is_ascii_hexdigit).collect();
            u64::from_str_radix(&digits, 16).ok()
        };
        if let Some(rip) = field("RIP=").or_else(|| field("EIP=")) {
            let flags = field("RFL=").or_else(|| field("EFL=")).unwrap_or(0);
            states.push(CpuState {
                cpu,
                rip,
                halted: field("HLT=") == Some(1),
                interrupts: flags & 0x200 != 0,
                has_idt: true,
            });
        }
    }
    states
}

/// Function names and source lines by address.
#[derive(Default)]
pub struct Symbols {
    /// (address, size, name), by address.
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
    /// The functions of several ELF files; one that cannot be read contributes none.
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

    /// [`name`](Self::name), and the line of the source where that is known.
    pub fn place(&self, address: u64) -> String {
        let name = self.name(address);
        match self.line(address) {
            Some(line) => format!("{name} ({line})"),
            None => name,
        }
    }

    /// `file:line`, the file as it is called from the project's root. Of what is inlined there, the
    /// innermost that is the project's own.
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

    /// `function+0xoffset`, or the bare address.
    pub fn name(&self, address: u64) -> String {
        let next = self
            .functions
            .partition_point(|(start, ..)| *start <= address);
        let found = self.functions[..next]
            .iter()
            .rev()
            .take(8)
            // Assembly symbols have no size: they reach to the next one.
            .find(|(start, size, _)| {
                address - start < *size || (*size == 0 && address - start < 4096)
            });
        match found {
            Some((start, _, name)) => format!("{name}+{:#x}", address - start),
            None => format!("{address:#x}"),
        }
    }
}

/// One line that names the kind, the CPU and the place; `None` for a run that ended in order.
pub fn headline(record: &Record, symbols: &Symbols) -> Option<String> {
    let place = |state: &CpuState| format!("cpu{} at {}", state.cpu, symbols.place(state.rip));
    Some(match &record.ended {
        Ended::Exit(tidemark_wire::exit_value::CRASHED) => match record.crash {
            Some((cpu, rip)) => format!("panic on cpu{cpu} at {}", symbols.place(rip)),
            None => "panic; the kernel did not say where".to_owned(),
        },
        Ended::Reset => {
            let states = &record.registers;
            match faulting(states) {
                Some(state) => format!("triple fault on {}", place(state)),
                None => "triple fault; QEMU gave no registers".to_owned(),
            }
        }
        Ended::Hung(hang @ Hang::StuckReader { rip, .. }) => {
            format!("hang: {hang}, at {}", symbols.place(*rip))
        }
        Ended::Hung(hang) => {
            let named = hang.cpu().or(record.crash.map(|(cpu, _)| cpu));
            let states = &record.registers;
            let state = named
                .and_then(|cpu| states.iter().find(|state| state.cpu == cpu))
                .or_else(|| suspect(states));
            match state {
                Some(state) => format!("hang ({hang}): {}", place(state)),
                None => format!("hang ({hang})"),
            }
        }
        _ => return None,
    })
}

/// The CPU that most likely hangs: it runs with interrupts off, or at least does not wait for one.
fn suspect(states: &[CpuState]) -> Option<&CpuState> {
    states
        .iter()
        .find(|state| !state.interrupts)
        .or_else(|| states.iter().find(|state| !state.halted))
        .or(states.first())
}

/// The CPU whose fault most likely reset the machine: QEMU does not say which it was, but leaves it
/// running at the instruction that it could not get past.
fn faulting(states: &[CpuState]) -> Option<&CpuState> {
    states
        .iter()
        .find(|state| !state.has_idt)
        .or_else(|| {
            states
                .iter()
                .find(|state| !state.halted && !state.interrupts)
        })
        .or_else(|| suspect(states))
}

/// Where every CPU was, a line each.
pub fn places(record: &Record, symbols: &Symbols) -> Vec<String> {
    record
        .registers
        .iter()
        .map(|state| {
            let how = match (state.halted, state.interrupts) {
                (true, true) => "halted",
                (true, false) => "halted, interrupts off",
                (false, true) => "running",
                (false, false) => "running, interrupts off",
            };
            format!("cpu{}: {} ({how})", state.cpu, symbols.name(state.rip))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "\r
CPU#0\r
RAX=0000000000000000 RBX=0000000000000000 RCX=0000000000000000 RDX=0000000000000000\r
R12=0000000000000000 R13=0000000000000000 R14=0000000000000000 R15=0000000000000000\r
RIP=ffffffff80001234 RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1\r
\r
CPU#11\r
RAX=0000000000000000 RBX=0000000000000000 RCX=0000000000000000 RDX=0000000000000000\r
RIP=ffffffff80004321 RFL=00000046 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0\r
GDT=     ffff800000001000 0000004f\r
IDT=     ffff800000002000 00000fff\r
\r
CPU#2\r
RIP=ffffffff80004444 RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0\r
GDT=     ffff800000001000 0000004f\r
IDT=     0000000000000000 00000000\r
";

    #[test]
    fn registers_of_every_cpu_are_read() {
        let states = parse_registers(DUMP);
        assert_eq!(
            states,
            [
                CpuState {
                    cpu: 0,
                    rip: 0xffff_ffff_8000_1234,
                    halted: true,
                    interrupts: true,
                    has_idt: true,
                },
                CpuState {
                    cpu: 11,
                    rip: 0xffff_ffff_8000_4321,
                    halted: false,
                    interrupts: false,
                    has_idt: true,
                },
                CpuState {
                    cpu: 2,
                    rip: 0xffff_ffff_8000_4444,
                    halted: false,
                    interrupts: true,
                    has_idt: false,
                },
            ]
        );
        assert_eq!(suspect(&states).map(|state| state.cpu), Some(11));
        assert_eq!(faulting(&states).map(|state| state.cpu), Some(2));
    }

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
        let named =
            |function: &&(u64, u64, String)| function.2.ends_with("diagnose::tests::marked");
        let (address, ..) = symbols.functions.iter().find(named).unwrap();
        let place = symbols.place(*address);
        // The function is three lines long, and tells the one in the middle.
        let is_within =
            |line: u32| place.ends_with(&format!("marked+0x0 (host/src/judge/diagnose.rs:{line})"));
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
