//! The command line.

use crate::plant::Plant;
use tidemark_frames::Variant;

/// The text that `--help` prints, and that ends the error for an unknown option.
pub const USAGE: &str = "usage: stress [--seconds N] [--zonelist NAME|all] [--cpus N] [--seed N] \
    [--exchange on|off|alternate] [--hang SECONDS] [--plant NAME]";

/// The zonelist protocols to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zonelists {
    /// This protocol.
    One(Variant),
    /// Every protocol, each in a process of its own. They share the seconds.
    All,
}

/// Whether frees claim their block by a locked exchange: `Platform::frees_by_exchange`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// They always do.
    On,
    /// They never do.
    Off,
    /// They do in every other cycle of the hot-plug thread.
    Alternate,
}

/// The options of a run.
#[derive(Clone, Copy, Debug)]
pub struct Args {
    /// How long the CPUs work, in seconds, 1 to 86,400.
    pub seconds: u64,
    /// The protocols.
    pub zonelists: Zonelists,
    /// Number of CPUs, 2 to [`crate::cpu::MAX_CPUS`]. The last one plugs memory.
    pub cpus: usize,
    /// Seed of the random choices. It repeats the requests, but not their times.
    pub seed: u64,
    /// How frees claim their block.
    pub exchange: Exchange,
    /// Seconds without progress after which a CPU counts as hung.
    pub hang_seconds: u64,
    /// The fault to make.
    pub plant: Option<Plant>,
}

impl Args {
    /// Reads the options.
    ///
    /// # Errors
    /// Returns one line that names the wrong option or value.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut args = Self {
            seconds: 10,
            zonelists: Zonelists::One(Variant::default()),
            cpus: 4,
            seed: 1,
            exchange: Exchange::Alternate,
            hang_seconds: 20,
            plant: None,
        };
        let mut words = words.into_iter();
        while let Some(option) = words.next() {
            let mut value = || {
                let value = words.next();
                value.ok_or_else(|| format!("{option} needs a value; {USAGE}"))
            };
            match option.as_str() {
                "--seconds" => args.seconds = number(&option, &value()?, 1..=86_400)?,
                "--cpus" => {
                    let most = crate::cpu::MAX_CPUS as u64;
                    args.cpus = number(&option, &value()?, 2..=most)? as usize;
                }
                "--seed" => args.seed = number(&option, &value()?, 0..=u64::MAX)?,
                "--hang" => args.hang_seconds = number(&option, &value()?, 1..=3_600)?,
                "--zonelist" => args.zonelists = zonelists(&value()?)?,
                "--exchange" => args.exchange = exchange(&value()?)?,
                "--plant" => {
                    let name = value()?;
                    let plant = Plant::from_name(&name);
                    args.plant =
                        Some(plant.ok_or_else(|| unknown("plant", &name, Plant::names()))?);
                }
                _ => return Err(format!("unknown option {option}; {USAGE}")),
            }
        }
        Ok(args)
    }

    /// Returns the options of a process that runs one protocol for `seconds`.
    pub fn for_one(&self, variant: Variant, seconds: u64) -> Vec<String> {
        let exchange = match self.exchange {
            Exchange::On => "on",
            Exchange::Off => "off",
            Exchange::Alternate => "alternate",
        };
        let mut options = vec![
            ("--seconds", seconds.to_string()),
            ("--zonelist", variant.name().to_owned()),
            ("--cpus", self.cpus.to_string()),
            ("--seed", self.seed.to_string()),
            ("--exchange", exchange.to_owned()),
            ("--hang", self.hang_seconds.to_string()),
        ];
        options.extend(self.plant.map(|plant| ("--plant", plant.name().to_owned())));
        let words = |(option, value): (&str, String)| [option.to_owned(), value];
        options.into_iter().flat_map(words).collect()
    }
}

fn number(option: &str, value: &str, range: std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    let number = value.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| {
        let (least, most) = (range.start(), range.end());
        format!("{option} {value}: a number from {least} to {most} is wanted")
    })
}

fn zonelists(name: &str) -> Result<Zonelists, String> {
    if name == "all" {
        return Ok(Zonelists::All);
    }
    let names = Variant::NAMES.join(", ") + ", all";
    let variant = Variant::from_name(name);
    variant
        .map(Zonelists::One)
        .ok_or_else(|| unknown("zonelist", name, names))
}

fn exchange(name: &str) -> Result<Exchange, String> {
    match name {
        "on" => Ok(Exchange::On),
        "off" => Ok(Exchange::Off),
        "alternate" => Ok(Exchange::Alternate),
        _ => Err(unknown("exchange", name, "on, off, alternate".to_owned())),
    }
}

fn unknown(what: &str, name: &str, known: String) -> String {
    format!("unknown {what} {name}; there are {known}")
}
