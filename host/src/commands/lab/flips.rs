//! Lists the cells that planted mistakes are run on, and finds which of them flipped.

use tidemark_frames::{Mistake, Variant};
use tidemark_wire::{Hazard, LabVerdict};

use super::cells::Cell;
use super::expected::expected;
use super::found::Found;
use super::planted::{ROWS, Row};
use crate::guest::machine::Machine;
use crate::judge::words::words;
use crate::terminal::cli::LabArgs;
use crate::terminal::console::{BAD, GOOD, say};

/// Returns the cells of all rows, or those of one variant if that is asked for.
pub fn cells(args: &LabArgs) -> Vec<Cell> {
    let variants = |row: &'static Row| {
        let wanted =
            move |variant: &&Variant| args.variant.is_none_or(|one| one.variant == **variant);
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

/// Returns a few cells that mistakes flip, for the short suite.
pub fn sample() -> Vec<Cell> {
    [
        (Mistake::EverybodyLooks, Variant::Seed, Hazard::H2Nmi),
        (Mistake::NoCheckBeforeOom, Variant::Seed, Hazard::H1),
        (Mistake::NotDeferred, Variant::SeqlockAnnotated, Hazard::H3),
    ]
    .into_iter()
    .map(|(mistake, variant, hazard)| Cell {
        variant,
        hazard,
        mistake: Some(mistake),
    })
    .collect()
}

/// Returns what is wrong with a mistake's cells: those that did not flip although they must, and
/// those that flipped although they must not.
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

/// Returns a short verdict that keeps "holds" and "holds for requests that may reclaim" apart.
fn short(verdict: Option<LabVerdict>) -> &'static str {
    match verdict {
        Some(LabVerdict::HoldsDirectOnly) => "holds°",
        Some(verdict) => words(verdict),
        None => "-",
    }
}

/// Prints the cells that each mistake flipped.
pub fn print_table(found: &[Found], args: &LabArgs) {
    say(format!(
        "{}, a fresh guest a cell; all {} cells of a row run",
        Machine::usual(args.cpus, args.accel),
        Hazard::ALL.len()
    ));
    say(format!(
        "{:<20} {:<23} cells that flip",
        "mistake", "variant"
    ));
    for mistake in Mistake::ALL {
        for variant in Variant::ALL {
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
                    let before = expected(variant, cell.cell.hazard);
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
            let (mistake, variant) = (mistake.name(), variant.name());
            say(format!(
                "{mistake:<20} {variant:<23} {} {mark}",
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
    use crate::commands::lab::planted::flipped;

    #[test]
    fn a_mistake_of_the_sample_flips_its_cell() {
        assert_eq!(sample().len(), 3);
        for cell in sample() {
            let mistake = cell.mistake.unwrap();
            assert!(flipped(mistake, cell.variant, cell.hazard).is_some());
        }
    }
}
