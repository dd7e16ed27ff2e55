//! The mistakes of each protocol, and the cells that each flips.
//!
//! A mistake that flips none shows that no scenario looks at what it breaks; one that flips too many, that a verdict hangs
//! on something else. So all cells of the protocol run, and the others must stay as they are. Two mistakes that x86 hides,
//! a missing fence and a missing grace period's ordering, are found by the models in `sync` and `frames`.

use clap::ValueEnum;
use tidemark_wire::{Hazard, LabVerdict};

use super::expected::{expected, words};
use super::{Cell, Found};
use crate::terminal::cli::{LabArgs, Mistake, Zonelist, name_of};
use crate::terminal::console::{BAD, GOOD, say};

use Hazard::{H1, H2, H2Nmi, H3, H5Begin, H5End, H7, H7Hot, H8};
use LabVerdict::{Fails, Holds, HoldsDirectOnly, NotReached};
use Zonelist::{
    GfpSeqlock, Seed, Seqlock, SeqlockAnnotated, SeqlockIrqoff, SeqlockIrqsave, SeqlockRecheck,
    Snapshot,
};

/// A mistake of some protocols, and what becomes of their cells.
struct Row {
    mistake: Mistake,
    variants: &'static [Zonelist],
    flips: &'static [(Hazard, LabVerdict)],
}

const fn row(
    mistake: Mistake,
    variants: &'static [Zonelist],
    flips: &'static [(Hazard, LabVerdict)],
) -> Row {
    Row {
        mistake,
        variants,
        flips,
    }
}

/// The table.
const ROWS: &[Row] = &[
    // A check too many: what the seed's condition on the flags is for.
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
    // One too few.
    row(
        Mistake::NoCheckBeforeOom,
        &[Seqlock, GfpSeqlock, Seed],
        &[(H1, Fails)],
    ),
    row(
        Mistake::NoCheckAtNopage,
        &[Seqlock, SeqlockRecheck, Snapshot],
        &[(H1, HoldsDirectOnly)],
    ),
    row(Mistake::NoCheckAtNopage, &[Seed], &[(H1, Fails)]),
    row(Mistake::NoCheckAtRetry, &[SeqlockRecheck], &[(H8, Fails)]),
    row(Mistake::ChangedWithoutOdd, &[Seed], &[(H1, Fails)]),
    // Waiting, where the protocol promises not to.
    row(Mistake::BeginWaits, &[Seed], &[(H2Nmi, Fails), (H3, Fails)]),
    row(Mistake::CheckWaits, &[Seed], &[(H2Nmi, Fails), (H3, Fails)]),
    // The writer.
    row(
        Mistake::InterruptsOn,
        &[
            SeqlockIrqoff,
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
    // The lists.
    row(Mistake::NoGrace, &[Snapshot], &[(H7, Fails)]),
    row(Mistake::PublishedEarly, &[Snapshot], &[(H1, Fails)]),
    row(
        Mistake::StartRemembered,
        &[Snapshot],
        &[(H1, Fails), (H8, Fails)],
    ),
    // The hot path.
    row(
        Mistake::TornRemembered,
        &[
            Zonelist::None,
            Seqlock,
            SeqlockIrqoff,
            SeqlockIrqsave,
            SeqlockAnnotated,
            SeqlockRecheck,
            GfpSeqlock,
            Seed,
        ],
        &[(H7Hot, Fails)],
    ),
];

fn row_of(mistake: Mistake, variant: Zonelist) -> Option<&'static Row> {
    ROWS.iter()
        .find(|row| row.mistake == mistake && row.variants.contains(&variant))
}

/// What becomes of a cell by a mistake; nothing if it stays.
pub fn flipped(mistake: Mistake, variant: Zonelist, hazard: Hazard) -> Option<LabVerdict> {
    let flips = row_of(mistake, variant)?.flips;
    let flip = flips.iter().find(|(known, _)| *known == hazard)?;
    Some(flip.1)
}

/// The cells of all rows, of one variant if that is asked for.
pub fn cells(args: &LabArgs) -> Vec<Cell> {
    let variants = |row: &'static Row| {
        let wanted = move |variant: &&Zonelist| args.variant.is_none_or(|one| one == **variant);
        row.variants.iter().copied().filter(move |v| wanted(&v))
    };
    ROWS.iter()
        .flat_map(|row| variants(row).map(move |variant| (row, variant)))
        .flat_map(|(row, variant)| {
            Hazard::ALL.into_iter().map(move |hazard| Cell {
                variant,
                hazard,
                mistake: Some(row.mistake),
            })
        })
        .collect()
}

/// A few cells that mistakes flip, for the short suite.
pub fn sample() -> Vec<Cell> {
    [
        (Mistake::EverybodyLooks, Seed, H2Nmi),
        (Mistake::NoCheckBeforeOom, Seed, H1),
        (Mistake::NotDeferred, SeqlockAnnotated, H3),
    ]
    .into_iter()
    .map(|(mistake, variant, hazard)| Cell {
        variant,
        hazard,
        mistake: Some(mistake),
    })
    .collect()
}

/// What is wrong with a mistake's cells: those that did not flip as they must, and those that did and must not.
pub fn problems<'f>(found: impl Iterator<Item = &'f Found>) -> Vec<String> {
    found
        .filter(|cell| !cell.is_expected())
        .map(|cell| {
            let must = cell.cell.expected().map_or("nothing", words);
            let verdict = words(cell.verdict);
            let trouble = cell.trouble.as_deref().unwrap_or_default();
            let hazard = cell.cell.hazard.name();
            format!("{hazard} is {verdict}, not {must}: {} {trouble}", cell.how)
        })
        .collect()
}

/// A verdict that tells "holds" and "holds for requests that may reclaim" apart.
fn short(verdict: Option<LabVerdict>) -> &'static str {
    match verdict {
        Some(HoldsDirectOnly) => "holds°",
        Some(verdict) => words(verdict),
        None => "-",
    }
}

/// Prints which cells each mistake flipped.
pub fn print_table(found: &[Found], args: &LabArgs) {
    say(format!(
        "{}, a fresh guest a cell; all {} cells of a row run",
        super::running::machine(args),
        Hazard::ALL.len()
    ));
    say(format!(
        "{:<20} {:<18} cells that flip",
        "mistake", "variant"
    ));
    for &mistake in Mistake::value_variants() {
        for &variant in Zonelist::value_variants() {
            let own = || {
                found.iter().filter(move |cell| {
                    (cell.cell.mistake, cell.cell.variant) == (Some(mistake), variant)
                })
            };
            if own().next().is_none() {
                continue;
            }
            let flips: Vec<String> = own()
                .filter_map(|cell| {
                    let before = expected(&name_of(variant), cell.cell.hazard);
                    let change = (before != Some(cell.verdict)).then_some(cell.verdict);
                    change.map(|after| {
                        let hazard = cell.cell.hazard.name();
                        format!("{hazard} {}→{}", short(before), short(Some(after)))
                    })
                })
                .collect();
            let problems = problems(own());
            let mark = if problems.is_empty() {
                format!("{GOOD}✓{GOOD:#}")
            } else {
                format!("{BAD}✗{BAD:#}")
            };
            let (mistake, variant) = (name_of(mistake), name_of(variant));
            say(format!(
                "{mistake:<20} {variant:<18} {} {mark}",
                flips.join(", ")
            ));
            for problem in problems {
                say(format!("  {BAD}unexpected{BAD:#}: {problem}"));
            }
        }
    }
    say("° for requests that may reclaim only");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_flips_something_and_is_the_kernels() {
        let names: Vec<String> = Mistake::value_variants()
            .iter()
            .map(|m| name_of(*m))
            .collect();
        let kernels = tidemark_frames::Mistake::ALL.map(tidemark_frames::Mistake::name);
        assert_eq!(names, kernels);
        for &mistake in Mistake::value_variants() {
            assert!(ROWS.iter().any(|row| row.mistake == mistake), "{mistake:?}");
        }
        for row in ROWS {
            assert!(!row.flips.is_empty() && !row.variants.is_empty());
            for variant in row.variants {
                for &(hazard, verdict) in row.flips {
                    let before = expected(&name_of(*variant), hazard);
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
        assert_eq!(sample().len(), 3);
        for cell in sample() {
            let mistake = cell.mistake.unwrap();
            assert!(flipped(mistake, cell.variant, cell.hazard).is_some());
        }
    }
}
