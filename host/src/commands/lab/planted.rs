//! The mistakes of each protocol, and the cells that each flips.
//!
//! A mistake that flips no cell shows that no scenario looks at what it breaks. One that flips too
//! many shows that a verdict depends on something else. So all cells of the protocol run, and the
//! others must stay as they are. x86 hides two mistakes: a missing fence, and a missing ordering of
//! a grace period. The models in `sync` and `frames` find those.

use tidemark_frames::{Mistake, Variant};
use tidemark_wire::{Hazard, LabVerdict};

use Hazard::{H1, H2, H2Nmi, H3, H5Begin, H5End, H7, H7Hot, H8, H10};
use LabVerdict::{Fails, Holds, HoldsDirectOnly, NotReached};
use Variant::{
    GfpSeqlock, Seed, Seqlock, SeqlockAnnotated, SeqlockIrqoff, SeqlockIrqoffRecheck,
    SeqlockIrqsave, SeqlockRecheck, Snapshot,
};

/// A mistake of some protocols, and the new verdicts of their cells.
pub struct Row {
    pub mistake: Mistake,
    pub variants: &'static [Variant],
    pub flips: &'static [(Hazard, LabVerdict)],
}

const fn row(
    mistake: Mistake,
    variants: &'static [Variant],
    flips: &'static [(Hazard, LabVerdict)],
) -> Row {
    Row {
        mistake,
        variants,
        flips,
    }
}

/// The table.
pub const ROWS: &[Row] = &[
    // One check too many: the reason for the seed's condition on the flags.
    row(
        Mistake::EverybodyLooks,
        &[Seed],
        &[(H1, Holds), (H2Nmi, Fails), (H3, Fails)],
    ),
    row(
        Mistake::EverybodyLooks,
        &[GfpSeqlock],
        &[
            (H1, Holds),
            (H2, Fails),
            (H2Nmi, Fails),
            (H3, Fails),
            (H5Begin, Fails),
            (H5End, Fails),
        ],
    ),
    // One check too few.
    row(
        Mistake::NoCheckBeforeOom,
        &[Seqlock, GfpSeqlock, Seed],
        &[(H1, Fails)],
    ),
    row(
        Mistake::NoCheckAtNopage,
        &[Seqlock, SeqlockIrqoffRecheck, SeqlockRecheck, Snapshot],
        &[(H1, HoldsDirectOnly)],
    ),
    row(Mistake::NoCheckAtNopage, &[Seed], &[(H1, Fails)]),
    row(
        Mistake::NoCheckAtRetry,
        &[SeqlockIrqoffRecheck, SeqlockRecheck],
        &[(H8, Fails)],
    ),
    row(Mistake::ChangedWithoutOdd, &[Seed], &[(H1, Fails)]),
    // A wait where the protocol promises none.
    row(Mistake::BeginWaits, &[Seed], &[(H2Nmi, Fails), (H3, Fails)]),
    row(Mistake::CheckWaits, &[Seed], &[(H2Nmi, Fails), (H3, Fails)]),
    // Mistakes of the writer.
    row(
        Mistake::InterruptsOn,
        &[
            SeqlockIrqoff,
            SeqlockIrqoffRecheck,
            SeqlockIrqsave,
            SeqlockAnnotated,
            SeqlockRecheck,
        ],
        &[(H2, Fails)],
    ),
    row(
        Mistake::NotDeferred,
        &[SeqlockIrqoff],
        &[(H3, Fails), (H5Begin, Fails), (H5End, Fails)],
    ),
    // Here the counter is still even at the begin.
    row(
        Mistake::NotDeferred,
        &[SeqlockIrqoffRecheck],
        &[(H3, Fails), (H5End, Fails)],
    ),
    row(
        Mistake::NotDeferred,
        &[SeqlockIrqsave, SeqlockAnnotated, SeqlockRecheck],
        &[(H3, Fails)],
    ),
    row(
        Mistake::DeferredLate,
        &[SeqlockIrqoff],
        &[(H5Begin, Fails), (H5End, Fails)],
    ),
    row(
        Mistake::DeferredLate,
        &[SeqlockIrqoffRecheck],
        &[(H5End, Fails)],
    ),
    row(
        Mistake::AnnotatedInside,
        &[SeqlockAnnotated, SeqlockRecheck],
        &[(H5Begin, Fails)],
    ),
    row(
        Mistake::CountStands,
        &[Seed],
        &[
            (H1, Fails),
            (H2, NotReached),
            (H2Nmi, NotReached),
            (H3, NotReached),
        ],
    ),
    // Mistakes about the lists.
    row(Mistake::NoGrace, &[Snapshot], &[(H7, Fails)]),
    row(Mistake::PublishedEarly, &[Snapshot], &[(H1, Fails)]),
    row(
        Mistake::StartRemembered,
        &[Snapshot],
        &[(H1, Fails), (H8, Fails), (H10, Fails)],
    ),
    // Mistakes of the hot path.
    row(
        Mistake::TornRemembered,
        &[
            Variant::None,
            Seqlock,
            SeqlockIrqoff,
            SeqlockIrqoffRecheck,
            SeqlockIrqsave,
            SeqlockAnnotated,
            SeqlockRecheck,
            GfpSeqlock,
            Seed,
        ],
        &[(H7Hot, Fails)],
    ),
];

fn row_of(mistake: Mistake, variant: Variant) -> Option<&'static Row> {
    ROWS.iter()
        .find(|row| row.mistake == mistake && row.variants.contains(&variant))
}

/// What becomes of a cell by a mistake; nothing if it stays.
pub fn flipped(mistake: Mistake, variant: Variant, hazard: Hazard) -> Option<LabVerdict> {
    let flips = row_of(mistake, variant)?.flips;
    let flip = flips.iter().find(|(known, _)| *known == hazard)?;
    Some(flip.1)
}

#[cfg(test)]
mod tests {
    use super::super::expected::expected;
    use super::*;

    #[test]
    fn every_mistake_flips_something() {
        for mistake in Mistake::ALL {
            assert!(ROWS.iter().any(|row| row.mistake == mistake), "{mistake:?}");
        }
        for row in ROWS {
            assert!(!row.flips.is_empty() && !row.variants.is_empty());
            for variant in row.variants {
                for &(hazard, verdict) in row.flips {
                    let before = expected(*variant, hazard);
                    assert_ne!(
                        before,
                        Some(verdict),
                        "{:?} {variant:?} {hazard:?}",
                        row.mistake
                    );
                }
            }
        }
    }

    #[test]
    fn every_hazard_is_flipped_by_a_mistake() {
        for hazard in Hazard::ALL {
            let flips = |row: &Row| row.flips.iter().any(|(known, _)| *known == hazard);
            assert!(ROWS.iter().any(flips), "{hazard:?}");
        }
    }

    #[test]
    fn a_mistake_and_a_variant_stand_in_one_row() {
        for row in ROWS {
            for variant in row.variants {
                let rows = ROWS.iter().filter(|other| {
                    other.mistake == row.mistake && other.variants.contains(variant)
                });
                assert_eq!(rows.count(), 1, "{:?} {variant:?}", row.mistake);
            }
        }
    }

    fn flips_by_mistake(hazard: Hazard) -> bool {
        let variants = Variant::ALL;
        let mistakes = Mistake::ALL;
        let fails = |mistake: &Mistake| {
            let flipped = |variant: &Variant| flipped(*mistake, *variant, hazard);
            variants
                .iter()
                .any(|variant| flipped(variant) == Some(Fails))
        };
        mistakes.iter().any(fails)
    }

    #[test]
    fn every_hazard_has_cells_of_both_kinds() {
        // Otherwise a test that always gives one verdict would pass. A verdict that no protocol
        // gives comes from one with a mistake.
        for hazard in Hazard::ALL {
            let variants = Variant::ALL.iter();
            let cells = || variants.clone().filter_map(|v| expected(*v, hazard));
            let mistake = flips_by_mistake(hazard);
            assert!(
                cells().any(|verdict| verdict == Fails) || mistake,
                "{hazard:?}"
            );
            assert!(cells().any(|verdict| verdict == Holds), "{hazard:?}");
        }
    }
}
