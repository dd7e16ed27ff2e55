//! The verdicts that the specification's matrix gives for each cell, and those that this project
//! adds.

use tidemark_frames::Variant;
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

/// What is expected of a variant.
struct Row {
    variant: Variant,
    /// A cell a hazard of [`SPECIFIED`].
    verdicts: [Option<LabVerdict>; 7],
    /// What this project says of H2-NMI.
    by_nmi: LabVerdict,
}

const fn row(variant: Variant, verdicts: [Option<LabVerdict>; 7], by_nmi: LabVerdict) -> Row {
    Row {
        variant,
        verdicts,
        by_nmi,
    }
}

const H: Option<LabVerdict> = Some(Holds);
const D: Option<LabVerdict> = Some(HoldsDirectOnly);
const F: Option<LabVerdict> = Some(Fails);

/// The specification's matrix, and a column that it does not have. The matrix is a reading of the
/// patches and threads; a cell that a right test contradicts is named in [`CONTRADICTED`]. Its H5
/// is one column: "half" says that the begin holds and the end fails. Of `seqlock` it says "n/a",
/// which is nothing here: see [`ADDED`].
///
/// Its H2 knows interrupts only, and four variants keep those out by turning them off. Nothing
/// keeps an NMI out, so each reader that waits fails.
const MATRIX: &[Row] = &[
    row(Variant::None, [F, H, H, H, H, F, F], Holds),
    row(Variant::Seqlock, [H, F, F, None, None, F, F], Fails),
    row(Variant::SeqlockIrqoff, [H, H, H, H, H, F, F], Fails),
    row(Variant::SeqlockIrqsave, [H, H, H, F, F, F, F], Fails),
    row(Variant::SeqlockAnnotated, [H, H, H, H, F, F, F], Fails),
    row(Variant::SeqlockRecheck, [H, H, H, H, F, F, H], Fails),
    row(Variant::GfpSeqlock, [D, H, H, H, H, F, F], Holds),
    row(Variant::Seed, [D, H, H, H, H, F, F], Holds),
    row(Variant::Snapshot, [H, H, H, H, H, H, H], Holds),
];

/// The variants that the specification does not have, in the same columns.
///
/// `seqlock-irqoff-recheck` differs from `seqlock-irqoff` in H8 alone: its check at `retry` makes a
/// request begin again once the counter has changed. No cell shows that it is annotated earlier,
/// since the console is deferred around its lock.
const MORE: &[Row] = &[row(
    Variant::SeqlockIrqoffRecheck,
    [H, H, H, H, H, F, H],
    Fails,
)];

fn row_of(rows: &[Row], variant: Variant) -> Option<&Row> {
    rows.iter().find(|row| row.variant == variant)
}

impl Row {
    /// Returns the verdict of a hazard that the specification has.
    fn verdict(&self, hazard: Hazard) -> Option<LabVerdict> {
        let column = SPECIFIED.iter().position(|known| *known == hazard)?;
        self.verdicts.get(column).copied().flatten()
    }
}

/// Cells of the specification's columns that it leaves out. `seqlock` came before the validator was
/// asked about it; what fails there is H3, since any print inside it does.
const ADDED: &[(Variant, Hazard, LabVerdict)] = &[
    (Variant::Seqlock, Hazard::H5Begin, Fails),
    (Variant::Seqlock, Hazard::H5End, Fails),
];

/// A cell that the laboratory contradicts: the verdict that it finds, and the schedule that shows
/// why.
#[derive(Clone, Copy, Debug)]
pub struct Contradiction {
    pub variant: Variant,
    pub hazard: Hazard,
    pub found: LabVerdict,
    pub why: &'static str,
}

/// The cells where a correct test and the specification differ.
pub const CONTRADICTED: &[Contradiction] = &[];

/// What the specification says of a cell; nothing for a variant or a hazard that it does not have.
pub fn specified(variant: Variant, hazard: Hazard) -> Option<LabVerdict> {
    row_of(MATRIX, variant)?.verdict(hazard)
}

/// What this project says of a cell that the specification does not have.
fn added(variant: Variant, hazard: Hazard) -> Option<LabVerdict> {
    if hazard == Hazard::H2Nmi {
        let row = row_of(MATRIX, variant).or_else(|| row_of(MORE, variant));
        return row.map(|row| row.by_nmi);
    }
    if let Some(verdict) = row_of(MORE, variant).and_then(|row| row.verdict(hazard)) {
        return Some(verdict);
    }
    // The hot path is this kernel's own, and is under every protocol.
    let hot = (hazard == Hazard::H7Hot).then_some(Holds);
    // Every protocol but one remembers where a request's walks start.
    let start = (hazard == Hazard::H10).then_some(match variant {
        Variant::Snapshot => Holds,
        _ => Fails,
    });
    hot.or(start).or_else(|| {
        let mut cells = ADDED.iter();
        let (_, _, verdict) =
            cells.find(|(other, known, _)| (*other, *known) == (variant, hazard))?;
        Some(*verdict)
    })
}

/// The contradiction of a cell, if there is one.
pub fn contradiction(variant: Variant, hazard: Hazard) -> Option<&'static Contradiction> {
    CONTRADICTED
        .iter()
        .find(|cell| cell.variant == variant && cell.hazard == hazard)
}

/// What a run must find: what the specification says, or what contradicts it or adds to it.
pub fn expected(variant: Variant, hazard: Hazard) -> Option<LabVerdict> {
    contradiction(variant, hazard)
        .map(|cell| cell.found)
        .or_else(|| specified(variant, hazard))
        .or_else(|| added(variant, hazard))
}

/// Returns the restriction of a verdict, in words.
pub fn scope(verdict: LabVerdict) -> Option<&'static str> {
    (verdict == HoldsDirectOnly).then_some("direct reclaim only")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variant_of_the_kernel_has_a_row() {
        for variant in Variant::ALL {
            for hazard in Hazard::ALL {
                assert!(
                    expected(variant, hazard).is_some(),
                    "{variant:?} {hazard:?}"
                );
                // A cell is the specification's or ours.
                let is_added =
                    |cell: &&(Variant, Hazard, LabVerdict)| (cell.0, cell.1) == (variant, hazard);
                let ours = matches!(hazard, Hazard::H2Nmi | Hazard::H7Hot | Hazard::H10)
                    || row_of(MORE, variant).is_some()
                    || ADDED.iter().any(|cell| is_added(&cell));
                assert_eq!(
                    specified(variant, hazard).is_none(),
                    ours,
                    "{variant:?} {hazard:?}"
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
