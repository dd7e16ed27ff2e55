//! The verdicts that the specification's matrix gives for each cell, and those that this project
//! adds.

use tidemark_wire::{Hazard, LabVerdict};

use LabVerdict::{Fails, Holds, HoldsDirectOnly};

/// The specification's hazards, in the order of [`MATRIX`]'s columns.
const SPECIFIED: [Hazard; 7] = [
    Hazard::H1,
    Hazard::H2,
    Hazard::H3,
    Hazard::H5Begin,
    Hazard::H5End,
    Hazard::H7,
    Hazard::H8,
];

/// The specification's matrix, a row for each variant. It is a reading of the patches and threads.
/// A cell that a correct test contradicts is named in [`CONTRADICTED`]. Its H5 is one column:
/// "half" means that the begin holds and the end fails. For `seqlock` it has "n/a", which is
/// nothing here: see [`ADDED`].
const MATRIX: &[(&str, [Option<LabVerdict>; 7])] = &{
    const H: Option<LabVerdict> = Some(Holds);
    const D: Option<LabVerdict> = Some(HoldsDirectOnly);
    const F: Option<LabVerdict> = Some(Fails);
    [
        ("none", [F, H, H, H, H, F, F]),
        ("seqlock", [H, F, F, None, None, F, F]),
        ("seqlock-irqoff", [H, H, H, H, H, F, F]),
        ("seqlock-irqsave", [H, H, H, F, F, F, F]),
        ("seqlock-annotated", [H, H, H, H, F, F, F]),
        ("seqlock-recheck", [H, H, H, H, F, F, H]),
        ("gfp-seqlock", [D, H, H, H, H, F, F]),
        ("seed", [D, H, H, H, H, F, F]),
        ("snapshot", [H, H, H, H, H, H, H]),
    ]
};

/// The column that the specification does not have. Its H2 knows interrupts only, and four variants
/// keep those out by turning them off. Nothing keeps an NMI out, so each reader that waits fails.
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

/// Cells of the specification's columns that it leaves out. The validator was asked only after
/// `seqlock` had come. The hazard at which it fails there is H3, since any print inside it does.
const ADDED: &[(&str, Hazard, LabVerdict)] = &[
    ("seqlock", Hazard::H5Begin, Fails),
    ("seqlock", Hazard::H5End, Fails),
];

/// A cell that the laboratory contradicts: the verdict that it finds, and the schedule that shows
/// why.
#[derive(Clone, Copy, Debug)]
pub struct Contradiction {
    pub variant: &'static str,
    pub hazard: Hazard,
    pub found: LabVerdict,
    pub why: &'static str,
}

/// The cells where a correct test and the specification differ.
pub const CONTRADICTED: &[Contradiction] = &[];

/// Returns the specification's verdict for a cell; nothing for a variant or a hazard that it does
/// not have.
pub fn specified(variant: &str, hazard: Hazard) -> Option<LabVerdict> {
    let (_, row) = MATRIX.iter().find(|(name, _)| *name == variant)?;
    let column = SPECIFIED.iter().position(|known| *known == hazard)?;
    row.get(column).copied().flatten()
}

/// Returns this project's verdict for a cell that the specification does not have.
fn added(variant: &str, hazard: Hazard) -> Option<LabVerdict> {
    let by_nmi = BY_NMI
        .iter()
        .find(|(name, _)| *name == variant && hazard == Hazard::H2Nmi)
        .map(|(_, verdict)| *verdict);
    // The hot path is this kernel's own, and lies under every protocol.
    let hot = (hazard == Hazard::H7Hot).then_some(Holds);
    by_nmi.or(hot).or_else(|| {
        let mut cells = ADDED.iter();
        let (_, _, verdict) =
            cells.find(|(name, known, _)| (*name, *known) == (variant, hazard))?;
        Some(*verdict)
    })
}

/// Returns the contradiction of a cell, if there is one.
pub fn contradiction(variant: &str, hazard: Hazard) -> Option<&'static Contradiction> {
    CONTRADICTED
        .iter()
        .find(|cell| cell.variant == variant && cell.hazard == hazard)
}

/// Returns the verdict that a run must find: the specification's, or the one that contradicts it or
/// adds to it.
pub fn expected(variant: &str, hazard: Hazard) -> Option<LabVerdict> {
    contradiction(variant, hazard)
        .map(|cell| cell.found)
        .or_else(|| specified(variant, hazard))
        .or_else(|| added(variant, hazard))
}

/// Returns a verdict in the words of the specification.
pub fn words(verdict: LabVerdict) -> &'static str {
    match verdict {
        Holds | HoldsDirectOnly => "holds",
        Fails => "FAILS",
        LabVerdict::NotReached => "not reached",
    }
}

/// Returns the restriction of a verdict, in words.
pub fn scope(verdict: LabVerdict) -> Option<&'static str> {
    (verdict == HoldsDirectOnly).then_some("direct reclaim only")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::cli::{Zonelist, name_of};
    use clap::ValueEnum;

    #[test]
    fn every_variant_of_the_kernel_has_a_row() {
        for variant in Zonelist::value_variants() {
            for hazard in Hazard::ALL {
                let name = name_of(*variant);
                assert!(expected(&name, hazard).is_some(), "{name} {hazard:?}");
                // A hazard is either the specification's or ours.
                let is_added =
                    |cell: &&(&str, Hazard, LabVerdict)| cell.0 == name && cell.1 == hazard;
                let ours = matches!(hazard, Hazard::H2Nmi | Hazard::H7Hot)
                    || ADDED.iter().any(|cell| is_added(&cell));
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
}
