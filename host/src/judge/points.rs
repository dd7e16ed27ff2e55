//! Proves from a kernel's image what its schedule points cost. It finds the functions of the
//! laboratory, and the functions of the allocator that look for a hook.

use std::path::Path;

use anyhow::{Context, Result};
use iced_x86::{Decoder, DecoderOptions, OpKind};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

/// The statics that hold a hook, and the modules of the functions of the allocator and of its
/// platform.
const HOOKS: [&str; 2] = ["points::HOOK", "points::STEP_HOOK"];
const ALLOCATOR: [&str; 2] = ["tidemark_frames::", "mm::platform::"];
const LABORATORY: &str = "tidemark_kernel::lab::";

/// The traces of the points in an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// The functions and statics of the laboratory.
    pub laboratory: Vec<String>,
    /// The functions of the allocator that look for a hook.
    pub looking: Vec<String>,
}

impl Traces {
    /// Reads a linked image with its symbols.
    ///
    /// # Errors
    /// The image cannot be read, or has no code or no symbols.
    pub fn of(image: &Path) -> Result<Self> {
        let bytes =
            std::fs::read(image).with_context(|| format!("no image {}", image.display()))?;
        Self::of_elf(&bytes).with_context(|| format!("{} cannot be examined", image.display()))
    }

    fn of_elf(elf: &[u8]) -> Result<Self> {
        let file = object::File::parse(elf)?;
        let text = file.section_by_name(".text").context("it has no code")?;
        let (start, code) = (text.address(), text.data()?);
        let symbols: Vec<(u64, u64, SymbolKind, String)> = file
            .symbols()
            .filter(|symbol| symbol.is_definition())
            .filter_map(|symbol| {
                let name = format!("{:#}", rustc_demangle::demangle(symbol.name().ok()?));
                Some((symbol.address(), symbol.size(), symbol.kind(), name))
            })
            .collect();
        anyhow::ensure!(symbols.len() > 100, "it has no symbols");
        let hooks: Vec<u64> = symbols
            .iter()
            .filter(|(.., name)| HOOKS.iter().any(|hook| name.ends_with(hook)))
            .map(|(address, ..)| *address)
            .collect();
        let mut traces = Traces::default();
        for (address, size, kind, name) in &symbols {
            if name.contains(LABORATORY) {
                traces.laboratory.push(name.clone());
            }
            let is_of_the_allocator = ALLOCATOR.iter().any(|part| name.contains(part));
            if *kind != SymbolKind::Text || !is_of_the_allocator || *address < start {
                continue;
            }
            let from = (address - start) as usize;
            let body = code.get(from..from + *size as usize).unwrap_or_default();
            if hooks.iter().any(|&hook| refers(body, *address, hook)) {
                traces.looking.push(name.clone());
            }
        }
        Ok(traces)
    }

    /// Returns whether there is no trace of the points, so that they cost nothing.
    pub fn is_empty(&self) -> bool {
        self.laboratory.is_empty() && self.looking.is_empty()
    }
}

/// Returns whether an instruction of the code at an address refers to a static: as an operand in
/// memory, by distance or by its address, or as a number.
fn refers(code: &[u8], at: u64, target: u64) -> bool {
    let decoder = Decoder::with_ip(64, code, at, DecoderOptions::NONE);
    decoder.into_iter().any(|instruction| {
        let in_memory =
            |operand| operand == OpKind::Memory && instruction.memory_displacement64() == target;
        instruction.op_kinds().any(in_memory)
            || (0..instruction.op_count()).any(|operand| {
                instruction.try_immediate(operand).is_ok_and(|number| {
                    number == target || i64::from(number as u32 as i32) as u64 == target
                })
            })
    })
}

/// Checks both builds. The one that is measured has no trace of the points. The other one has some,
/// which proves that the check sees them.
///
/// # Errors
/// The error says what is wrong.
pub fn check(measured: &Traces, used: &Traces) -> Result<(), String> {
    let some = |names: &[String]| names.first().cloned().unwrap_or_default();
    if !measured.is_empty() {
        return Err(format!(
            "points/the_measured_kernel_has_none: {} functions of the laboratory ({}), {} of the allocator look for a hook ({})",
            measured.laboratory.len(),
            some(&measured.laboratory),
            measured.looking.len(),
            some(&measured.looking)
        ));
    }
    if used.laboratory.is_empty() || used.looking.is_empty() {
        return Err(format!(
            "points/the_measured_kernel_has_none: they are not seen where they are: {} and {} functions",
            used.laboratory.len(),
            used.looking.len()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_seen_in_each_form_and_no_other_number_is() {
        let (at, target) = (0xffff_ffff_8000_1000_u64, 0xffff_ffff_802e_b7e8_u64);
        let absolute = [0x48, 0x8b, 0x04, 0x25, 0xe8, 0xb7, 0x2e, 0x80];
        assert!(refers(&absolute, at, target));
        // The code is: mov rax, [rip + distance]; cmp qword ptr [rip + distance], 0.
        for behind in [0_u64, 1] {
            let distance = target.wrapping_sub(at + 7 + behind) as u32;
            let mut code = match behind {
                0 => vec![0x48, 0x8b, 0x05],
                _ => vec![0x48, 0x83, 0x3d],
            };
            code.extend(distance.to_le_bytes());
            code.extend(vec![0; behind as usize]);
            assert!(refers(&code, at, target), "{behind}");
            assert!(!refers(&code, at + 16, target), "{behind}");
            // A neighbouring address does not count.
            assert!(!refers(&code, at, target + 1), "{behind}");
            // Equal bytes do not count either if they are a part of something else: here a number
            // in movabs rax.
            let mut number = vec![0x48, 0xb8, 0x05];
            number.extend(distance.to_le_bytes());
            number.extend([0; 3]);
            assert!(!refers(&number, at, target), "{behind}");
        }
        assert!(!refers(&absolute, at, target + 8));
        assert!(!refers(&[], at, target));
    }

    #[test]
    fn only_a_build_without_points_beside_one_with_them_passes() {
        let none = Traces::default();
        let both = Traces {
            laboratory: vec!["tidemark_kernel::lab::stage::OPEN".to_owned()],
            looking: vec!["tidemark_frames::alloc::slow::alloc_slow".to_owned()],
        };
        let one = |laboratory| Traces {
            laboratory: if laboratory {
                both.laboratory.clone()
            } else {
                Vec::new()
            },
            looking: if laboratory {
                Vec::new()
            } else {
                both.looking.clone()
            },
        };
        assert!(check(&none, &both).is_ok());
        assert!(check(&both, &both).is_err());
        assert!(check(&none, &none).is_err());
        for laboratory in [true, false] {
            assert!(check(&one(laboratory), &both).is_err());
            assert!(check(&none, &one(laboratory)).is_err());
        }
    }
}
