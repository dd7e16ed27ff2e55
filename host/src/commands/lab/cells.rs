//! Lists the cells of the matrix. Each is a protocol at a hazard, with an expected verdict.

use tidemark_frames::{Mistake, Variant};
use tidemark_wire::{Hazard, LabVerdict};

use super::{expected, planted};
use crate::terminal::cli::LabArgs;

/// A cell of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub variant: Variant,
    pub hazard: Hazard,
    /// The mistake that the protocol is to make.
    pub mistake: Option<Mistake>,
}

impl Cell {
    /// The cell of the protocol as it is.
    pub fn of(variant: Variant, hazard: Hazard) -> Self {
        Cell {
            variant,
            hazard,
            mistake: None,
        }
    }

    pub fn name(self) -> String {
        format!("{} {}", self.variant.name(), self.hazard.name())
    }

    pub fn expected(self) -> Option<LabVerdict> {
        let flipped = self
            .mistake
            .and_then(|mistake| planted::flipped(mistake, self.variant, self.hazard));
        flipped.or_else(|| expected::expected(self.variant, self.hazard))
    }

    /// Returns the command that repeats exactly this cell.
    pub fn command(self, cpus: u16) -> String {
        let mistake = self
            .mistake
            .map(|mistake| format!(" --mistake {}", mistake.name()))
            .unwrap_or_default();
        format!(
            "cargo run -- lab --variant {} --hazard {}{mistake} --cpus {cpus} --show",
            self.variant.name(),
            self.hazard.name()
        )
    }
}

/// Lists the cells that are asked for.
pub fn cells(args: &LabArgs) -> Vec<Cell> {
    let mut cells = Vec::new();
    for variant in Variant::ALL {
        for hazard in Hazard::ALL {
            let wanted = args.variant.is_none_or(|wanted| wanted.variant == variant)
                && args.hazard.is_none_or(|wanted| wanted == hazard);
            if wanted {
                cells.push(Cell {
                    variant,
                    hazard,
                    mistake: args.mistake,
                });
            }
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::cli;

    #[test]
    fn the_command_repeats_the_cell() {
        let cell = Cell::of(Variant::Seed, Hazard::H2);
        let line = cell.command(2);
        let words = line.strip_prefix("cargo run -- ").unwrap();
        let line = format!("tidemark {words}");
        let line = cli::parse(line.split_whitespace().map(Into::into)).unwrap();
        let Some(cli::Command::Lab(cli::LabLine { args, .. })) = line.command else {
            panic!("not the lab command");
        };
        assert_eq!(cells(&args), [cell]);
        assert!(args.show.is_some() && args.cpus == 2);
    }
}
