//! The command line.

use crate::plant::Plant;
use tidemark_frames::Variant;

/// What `--help` prints, and the error for an option that is not known ends with.
pub const USAGE: &str = "usage: stress [--seconds N] [--zonelist NAME|all] [--cpus N] [--seed N] \
    [--exchange on|off|alternate] [--hang SECONDS] [--plant NAME]";

/// Which zonelist protocols run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zonelists {
    /// This one.
    One(Variant),
    /// Every one, each in a process of its own; the seconds are divided between them.
    All,
}

/// Whether frees claim their block by a locked exchange: `Platform::frees_by_exchange`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// Always.
    On,
    /// Never.
    Off,
    /// In every other cycle of the hot-plug thread.
    Alternate,
}

/// What the user asks for.
#[derive(Clone, Copy, Debug)]
pub struct Args {
    /// How long the CPUs work, in seconds, 1 to 86,400.
    pub seconds: u64,
    /// The protocols.
    pub zonelists: Zonelists,
    /// CPUs, 2 to [`crate::cpu::MAX_CPUS`]; the last one plugs memory.
    pub cpus: usize,
    /// Where the random choices begin. It repeats what is asked for, not when it happens.
    pub seed: u64,
    /// How frees claim their block.
    pub exchange: Exchange,
    /// A CPU that has not gone on for so many seconds hangs.
    pub hang_seconds: u64,
    /// The fault to make.
    pub plant: Option<Plant>,
}

impl Args {
    /// Reads the options.
    ///
    /// # Errors
    /// One line that says which option or value is wrong.
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

    /// The options of a process that runs one protocol for `seconds`.
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
