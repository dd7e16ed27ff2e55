//! The kernel's options, as its fw_cfg item carries them.

use tidemark_frames::{Mistake, Variant};
use tidemark_wire::{Plant, Pressure};

/// The task of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The demonstration.
    Demo {
        cycles: u32,
        seed: u64,
        /// Whether NMIs make requests as well.
        nmi_requests: bool,
        pressure: Pressure,
    },
    /// The self-tests whose name contains the pattern.
    Test {
        pattern: Option<String>,
        /// Rounds of the storm; without it, the kernel chooses.
        storm: Option<u32>,
    },
    /// The prompt on the console.
    Shell,
    /// The benchmark.
    Bench,
    /// The benchmark's rows about a rebuild of the zonelists.
    BenchRebuild,
    /// The price that requests racing a rebuild pay.
    Price { removals: u32 },
    /// One cell of the laboratory's matrix.
    Lab {
        hazard: tidemark_wire::Hazard,
        /// The mistake that the protocol is to make, if any.
        mistake: Option<Mistake>,
    },
}

/// The kernel's options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub mode: Mode,
    pub zonelist: Variant,
    pub plant: Option<Plant>,
    /// Whether the kernel logs the lines that only `-v` and `--log` show.
    pub verbose: bool,
    /// The tables that the kernel shows at the end.
    pub dump: Vec<String>,
}

impl Options {
    /// Asks for a mode with a protocol. No fault is planted, no details are logged, and no table is
    /// shown.
    pub fn new(mode: Mode, zonelist: Variant) -> Self {
        Options {
            mode,
            zonelist,
            plant: None,
            verbose: false,
            dump: Vec::new(),
        }
    }

    /// Returns the options as words separated by spaces.
    pub fn command_line(&self) -> String {
        let mut words = match &self.mode {
            Mode::Demo {
                cycles,
                seed,
                nmi_requests,
                pressure,
            } => {
                let mut words = vec![
                    "mode=demo".to_owned(),
                    format!("cycles={cycles}"),
                    format!("seed={seed}"),
                ];
                if !nmi_requests {
                    words.push("no_nmi_requests".to_owned());
                }
                if *pressure != Pressure::Even {
                    words.push(format!("pressure={}", pressure.name()));
                }
                words
            }
            Mode::Test { pattern, storm } => {
                let mut words = vec!["mode=test".to_owned()];
                words.extend(pattern.as_ref().map(|p| format!("pattern={p}")));
                words.extend(storm.map(|rounds| format!("storm={rounds}")));
                words
            }
            Mode::Shell => vec!["mode=shell".to_owned()],
            Mode::Bench => vec!["mode=bench".to_owned()],
            Mode::BenchRebuild => vec!["mode=bench".to_owned(), "pattern=rebuild".to_owned()],
            Mode::Price { removals } => vec![
                "mode=price".to_owned(),
                format!("cycles={removals}"),
                "pressure=uneven".to_owned(),
            ],
            Mode::Lab { hazard, mistake } => {
                let mut words = vec!["mode=lab".to_owned(), format!("hazard={}", hazard.name())];
                words.extend(mistake.map(|mistake| format!("mistake={}", mistake.name())));
                words
            }
        };
        words.push(format!("zonelist={}", self.zonelist.name()));
        words.extend(self.plant.map(|plant| format!("plant={}", plant.name())));
        if self.verbose {
            words.push("verbose".to_owned());
        }
        if !self.dump.is_empty() {
            words.push(format!("dump={}", self.dump.join(",")));
        }
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_words() {
        let mut options = Options {
            mode: Mode::Demo {
                cycles: 3,
                seed: 7,
                nmi_requests: true,
                pressure: Pressure::Even,
            },
            zonelist: Variant::Seed,
            plant: Some(Plant::LostFrame),
            verbose: true,
            dump: vec!["zoneinfo".to_owned(), "dimms".to_owned()],
        };
        assert_eq!(
            options.command_line(),
            "mode=demo cycles=3 seed=7 zonelist=seed plant=lost-frame verbose dump=zoneinfo,dimms"
        );
        options.mode = Mode::Demo {
            cycles: 3,
            seed: 7,
            nmi_requests: false,
            pressure: Pressure::Uneven,
        };
        assert!(
            options
                .command_line()
                .starts_with("mode=demo cycles=3 seed=7 no_nmi_requests pressure=uneven ")
        );
        options.mode = Mode::Price { removals: 40 };
        assert!(
            options
                .command_line()
                .starts_with("mode=price cycles=40 pressure=uneven zonelist=")
        );
        options.mode = Mode::Test {
            pattern: Some("pcp".to_owned()),
            storm: Some(500),
        };
        (options.plant, options.verbose) = (None, false);
        options.dump.clear();
        assert_eq!(
            options.command_line(),
            "mode=test pattern=pcp storm=500 zonelist=seed"
        );
        options.mode = Mode::Shell;
        assert_eq!(options.command_line(), "mode=shell zonelist=seed");
    }
}
