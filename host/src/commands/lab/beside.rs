//! The columns of Linux beside the matrix: what the recorded runs of `lab linux` found on the
//! kernels that have a protocol.

use tidemark_frames::Variant;
use tidemark_wire::{Hazard, LabVerdict};

use crate::commands::linux::{Confirmed, confirmed};
use crate::judge::words::words;

/// The hazards that were played on Linux, in the order of the matrix.
const PLAYED: [Hazard; 3] = [Hazard::H1, Hazard::H8, Hazard::H10];
/// Width of the kernel's version, in characters.
const VERSION: usize = 12;

/// The columns.
pub struct Columns {
    rows: Vec<Confirmed>,
    /// Width of a column, in characters.
    width: usize,
}

impl Columns {
    /// Reads the recorded runs.
    ///
    /// # Errors
    /// A record does not have the form.
    pub fn read(width: usize) -> Result<Self, String> {
        let rows = confirmed()?;
        Ok(Columns { rows, width })
    }

    /// Returns the head of the columns.
    pub fn head(&self) -> String {
        let width = self.width;
        let names: Vec<String> = PLAYED
            .iter()
            .map(|hazard| format!("{:<width$}", hazard.name()))
            .collect();
        format!("| {:<VERSION$}{}", "on Linux", names.concat())
    }

    /// Returns the lines of a protocol, one a kernel that has it.
    pub fn lines(&self, variant: Variant) -> Vec<String> {
        let rows = self.rows.iter().filter(|row| row.variant == variant);
        let width = self.width;
        let line = |row: &Confirmed| {
            let verdict = |hazard: &Hazard| {
                let found = row.verdicts.iter().find(|(known, _)| known == hazard);
                match found {
                    Some((_, LabVerdict::NotReached)) => "none",
                    Some((_, verdict)) => words(*verdict),
                    None => "-",
                }
            };
            let cells: Vec<String> = PLAYED
                .iter()
                .map(|hazard| format!("{:<width$}", verdict(hazard)))
                .collect();
            format!("| {:<VERSION$}{}", row.version, cells.concat())
        };
        rows.map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kernel_stands_beside_its_protocol() {
        let columns = Columns::read(10).unwrap();
        let lines = |name: &str| {
            let variant = Variant::ALL.into_iter().find(|known| known.name() == name);
            columns.lines(variant.unwrap())
        };
        let irqoff = lines("seqlock-irqoff");
        assert_eq!(irqoff.len(), 1);
        assert_eq!(
            irqoff[0].trim_end(),
            "| 5.10.223    holds     FAILS     FAILS"
        );
        let recheck = lines("seqlock-irqoff-recheck");
        assert_eq!(recheck.len(), 2);
        assert_eq!(
            recheck[1].trim_end(),
            "| 6.1.192     none      holds     FAILS"
        );
        assert!(lines("snapshot").is_empty());
        assert_eq!(columns.head().find("H1"), recheck[1].find("none"));
    }
}
