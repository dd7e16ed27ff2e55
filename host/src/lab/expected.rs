//! What the specification's matrix says of each cell, and what this project adds to it.

use tidemark_wire::{Hazard, LabVerdict};

use LabVerdict::{Fails, Holds, HoldsDirectOnly};

/// The specification's hazards, in the order of [`MATRIX`]'s columns.
const SPECIFIED: [Hazard; 5] = [Hazard::H1, Hazard::H2, Hazard::H3, Hazard::H7, Hazard::H8];

/// The specification's matrix, a row a variant. It is a reading of the patches and threads; a cell that a right test
/// contradicts is named in [`CONTRADICTED`].
const MATRIX: &[(&str, [LabVerdict; 5])] = &[
    ("none", [Fails, Holds, Holds, Fails, Fails]),
    ("seqlock", [Holds, Fails, Fails, Fails, Fails]),
    ("seqlock-irqoff", [Holds, Holds, Holds, Fails, Fails]),
    ("seqlock-irqsave", [Holds, Holds, Holds, Fails, Fails]),
    ("seqlock-annotated", [Holds, Holds, Holds, Fails, Fails]),
    ("seqlock-recheck", [Holds, Holds, Holds, Fails, Holds]),
    ("gfp-seqlock", [HoldsDirectOnly, Holds, Holds, Fails, Fails]),
    ("seed", [HoldsDirectOnly, Holds, Holds, Fails, Fails]),
    ("snapshot", [Holds, Holds, Holds, Holds, Holds]),
];

/// The column that the specification does not have: its H2 knows interrupts only, and four variants keep those out by
/// turning them off. Nothing keeps an NMI out, so each reader that waits fails.
const BY_NMI: &[(&str, LabVerdict)] = &[
    ("none", Holds),
    ("seqlock", Fails),
    ("seqlock-irqoff", Fails),
    ("seqlock-irqsave", Fails),
    ("seqlock-annotated", Fails),
    ("seqlock-recheck", Fails),
    ("gfp-seqlock", Holds),
    ("seed", Holds),
    ("snapshot", Holds),
];

/// A cell that the laboratory contradicts: what it finds, and the schedule that shows why.
#[derive(Clone, Copy, Debug)]
pub struct Contradiction {
    pub variant: &'static str,
    pub hazard: Hazard,
    pub found: LabVerdict,
    pub why: &'static str,
}

/// Cells where a right test and the specification differ.
pub const CONTRADICTED: &[Contradiction] = &[];

/// What the specification says of a cell; nothing for a variant or a hazard that it does not have.
pub fn specified(variant: &str, hazard: Hazard) -> Option<LabVerdict> {
    let (_, row) = MATRIX.iter().find(|(name, _)| *name == variant)?;
    let column = SPECIFIED.iter().position(|known| *known == hazard)?;
    row.get(column).copied()
}

/// What this project says of a cell that the specification does not have.
fn added(variant: &str, hazard: Hazard) -> Option<LabVerdict> {
    let (_, verdict) = BY_NMI
        .iter()
        .find(|(name, _)| *name == variant && hazard == Hazard::H2Nmi)?;
    Some(*verdict)
}

/// The contradiction of a cell, if there is one.
pub fn contradiction(variant: &str, hazard: Hazard) -> Option<&'static Contradiction> {
    CONTRADICTED
        .iter()
        .find(|cell| cell.variant == variant && cell.hazard == hazard)
}

/// What a run must find: what the specification says, or what contradicts it or adds to it.
pub fn expected(variant: &str, hazard: Hazard) -> Option<LabVerdict> {
    contradiction(variant, hazard)
        .map(|cell| cell.found)
        .or_else(|| specified(variant, hazard))
        .or_else(|| added(variant, hazard))
}

/// A verdict in the words of the specification.
pub fn words(verdict: LabVerdict) -> &'static str {
    match verdict {
        Holds | HoldsDirectOnly => "holds",
        Fails => "FAILS",
        LabVerdict::NotReached => "not reached",
    }
}

/// What restricts a verdict, in words.
pub fn scope(verdict: LabVerdict) -> Option<&'static str> {
    (verdict == HoldsDirectOnly).then_some("direct reclaim only")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Zonelist, name_of};
    use clap::ValueEnum;

    #[test]
    fn every_variant_of_the_kernel_has_a_row() {
        for variant in Zonelist::value_variants() {
            for hazard in Hazard::ALL {
                let name = name_of(*variant);
                assert!(expected(&name, hazard).is_some(), "{name} {hazard:?}");
                // A hazard is the specification's or ours.
                let ours = hazard == Hazard::H2Nmi;
                assert_eq!(
                    specified(&name, hazard).is_none(),
                    ours,
                    "{name} {hazard:?}"
                );
            }
        }
    }

    #[test]
    fn a_contradiction_differs_from_the_specification_and_says_why() {
        for cell in CONTRADICTED {
            let specified = specified(cell.variant, cell.hazard);
            assert_ne!(Some(cell.found), specified, "{cell:?}");
            assert!(!cell.why.is_empty());
        }
    }

    #[test]
    fn every_hazard_has_cells_of_both_kinds() {
        // Else a test that always says the same would pass.
        for hazard in Hazard::ALL {
            let variants = Zonelist::value_variants().iter();
            let cells = || {
                variants
                    .clone()
                    .filter_map(|v| expected(&name_of(*v), hazard))
            };
            assert!(cells().any(|verdict| verdict == Fails), "{hazard:?}");
            assert!(cells().any(|verdict| verdict == Holds), "{hazard:?}");
        }
    }
}
