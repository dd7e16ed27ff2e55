//! The kernel's options: words of the fw_cfg item [`tidemark_wire::CMDLINE_ITEM`].

mod pattern;
mod topics;

pub use pattern::Pattern;
pub use tidemark_wire::{Plant, Pressure, Topic};
pub use topics::Topics;

use Values::{Kind, Names, Nothing, Number};
use core::fmt::{self, Write as _};
use qemu_fw_cfg::FwCfg;
use tidemark_frames::{Mistake, Variant};
use tidemark_wire::{Bounds, CMDLINE_ITEM, CYCLES, Hazard, STORM};

/// Longest command line that is read, in bytes.
pub const CMDLINE_BYTES: usize = 1024;

/// Where a line of the list of known options is broken.
const LIST_LINE_BYTES: usize = 100;

/// What the kernel does after boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The demonstration.
    Demo,
    /// The self-tests.
    Test,
    /// A prompt on the console.
    Shell,
    /// The benchmark of the allocator.
    Bench,
    /// One cell of the laboratory's matrix: the hazard, in the protocol that is chosen.
    #[cfg(feature = "lab")]
    Lab,
    /// What requests that race a rebuild pay, in the protocol that is chosen.
    #[cfg(feature = "lab")]
    Price,
}

/// All options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What to do after boot.
    pub mode: Mode,
    /// Run only the self-tests whose `group/test` contains this; empty means all.
    pub pattern: Pattern,
    /// Cycles of the demonstration, or removals of a measurement of the price, 1 to 10,000.
    pub cycles: u32,
    /// Seed of the workload's choices.
    pub seed: u64,
    /// The zonelist protocol.
    pub zonelist: Variant,
    /// How scarce memory is while lists are rebuilt.
    pub pressure: Pressure,
    /// A planted fault.
    pub plant: Option<Plant>,
    /// Whether the demonstration's NMIs make requests. Readers that wait for a rebuild hang in them
    /// (H2-NMI).
    pub nmi_requests: bool,
    /// Whether debug records are shown.
    pub verbose: bool,
    /// What is shown at the end.
    pub dump: Topics,
    /// Timer interrupts a second and CPU, 10 to 10,000.
    pub timer_hz: u32,
    /// What the laboratory reaches.
    pub hazard: Hazard,
    /// The mistake that the zonelist protocol makes in the laboratory.
    pub mistake: Option<Mistake>,
    /// Rounds of each CPU's task in each of the self-tests' storms.
    pub storm: u32,
}

impl Options {
    /// What holds without a word from outside.
    pub const DEFAULT: Options = Options {
        mode: Mode::Demo,
        pattern: Pattern::EMPTY,
        cycles: 10,
        seed: 1,
        zonelist: Variant::Seed,
        pressure: Pressure::Even,
        plant: None,
        nmi_requests: true,
        verbose: false,
        dump: Topics::NONE,
        timer_hz: 1000,
        hazard: Hazard::H2,
        mistake: None,
        storm: 400,
    };
}

/// Timer interrupts a second.
const TIMER_HZ: Bounds = Bounds(10, 10_000);

/// What may stand after `name=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// Nothing, and no sign before it.
    Nothing,
    /// A word of this kind.
    Kind(&'static str),
    /// A number.
    Number(Bounds),
    /// One of these.
    Names(&'static [&'static str]),
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Values::Nothing => Ok(()),
            Values::Kind(kind) => f.write_str(kind),
            Values::Number(bounds) => write!(f, "{bounds}"),
            Values::Names(names) => {
                let mut between = "";
                names.iter().try_for_each(|name| {
                    write!(f, "{between}{name}")?;
                    between = "|";
                    Ok(())
                })
            }
        }
    }
}

/// One option that the kernel knows.
struct Known {
    name: &'static str,
    values: Values,
    /// Sets it; None if the value is none of `values`.
    set: fn(&mut Options, &str) -> Option<()>,
}

macro_rules! known {
    ($name:literal, $values:expr, |$options:ident, $value:ident| $set:expr) => {
        Known {
            name: $name,
            values: $values,
            set: |$options, $value| {
                $set;
                Some(())
            },
        }
    };
}

const KNOWN: &[Known] = &[
    known!(
        "mode",
        Names(&["demo", "test", "shell", "bench", "lab", "price"]),
        |o, v| o.mode = match v {
            "demo" => Mode::Demo,
            "test" => Mode::Test,
            "shell" => Mode::Shell,
            "bench" => Mode::Bench,
            #[cfg(feature = "lab")]
            "lab" => Mode::Lab,
            #[cfg(feature = "lab")]
            "price" => Mode::Price,
            _ => return None,
        }
    ),
    known!("pattern", Kind("TEXT"), |o, v| o.pattern = Pattern::new(v)?),
    known!("cycles", Number(CYCLES), |o, v| o.cycles =
        number(v, CYCLES)?),
    known!("seed", Kind("NUMBER"), |o, v| o.seed = v.parse().ok()?),
    known!("zonelist", Names(&Variant::NAMES), |o, v| o.zonelist =
        Variant::from_name(v)?),
    known!("pressure", Names(&Pressure::NAMES), |o, v| o.pressure =
        Pressure::from_name(v)?),
    known!("plant", Names(&Plant::NAMES), |o, v| o.plant =
        Some(Plant::from_name(v)?)),
    known!("no_nmi_requests", Nothing, |o, _v| o.nmi_requests = false),
    known!("verbose", Nothing, |o, _v| o.verbose = true),
    known!("dump", Names(&Topic::NAMES), |o, v| o.dump =
        Topics::parse(v)?),
    known!("timer_hz", Number(TIMER_HZ), |o, v| o.timer_hz =
        number(v, TIMER_HZ)?),
    known!("hazard", Names(&Hazard::NAMES), |o, v| o.hazard =
        Hazard::from_name(v)?),
    known!("mistake", Names(&Mistake::NAMES), |o, v| o.mistake =
        Some(Mistake::from_name(v)?)),
    known!("storm", Number(STORM), |o, v| o.storm = number(v, STORM)?),
];

fn number(text: &str, bounds: Bounds) -> Option<u32> {
    let number = text.parse().ok()?;
    bounds.range::<u32>().contains(&number).then_some(number)
}

/// What is wrong with a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal<'c> {
    /// No such option.
    Unknown(&'c str),
    /// The option does not take this value.
    BadValue {
        /// The whole word.
        word: &'c str,
        /// What it could be.
        values: Values,
    },
    /// The command line is longer than the kernel reads, or is no text.
    Unreadable,
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Unknown(word) => write!(f, "unknown option \"{word}\""),
            Refusal::BadValue {
                word,
                values: Values::Nothing,
            } => {
                write!(f, "bad option \"{word}\": it takes no value")
            }
            Refusal::BadValue { word, values } => {
                write!(f, "bad option \"{word}\": the value is one of {values}")
            }
            Refusal::Unreadable => {
                write!(
                    f,
                    "the options are not text of at most {CMDLINE_BYTES} bytes"
                )
            }
        }
    }
}

/// Counts the bytes that are written.
struct Length(usize);

impl fmt::Write for Length {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

/// Lists the known options.
pub struct KnownOptions;

impl fmt::Display for KnownOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("known options:")?;
        let mut used = 0;
        for known in KNOWN {
            let mut values = Length(0);
            write!(values, "{}", known.values)?;
            let len = known.name.len() + values.0 + 2;
            used += len;
            if used > LIST_LINE_BYTES {
                f.write_str("\n ")?;
                used = len;
            }
            match known.values {
                Values::Nothing => write!(f, " {}", known.name)?,
                values => write!(f, " {}={values}", known.name)?,
            }
        }
        Ok(())
    }
}

/// Parses a command line: words between white space, `name` or `name=value`; the last word about an
/// option wins.
///
/// # Errors
/// [`Refusal`] of the first word that is wrong.
pub fn parse(cmdline: &str) -> Result<Options, Refusal<'_>> {
    let mut options = Options::DEFAULT;
    for word in cmdline.split_ascii_whitespace() {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let known = KNOWN
            .iter()
            .find(|known| known.name == name)
            .ok_or(Refusal::Unknown(word))?;
        value
            .or(Some(""))
            .filter(|_| value.is_none() == (known.values == Values::Nothing))
            .and_then(|value| (known.set)(&mut options, value))
            .ok_or(Refusal::BadValue {
                word,
                values: known.values,
            })?;
    }
    Ok(options)
}

static OPTIONS: spin::Once<Options> = spin::Once::new();

/// The options of this boot: the defaults until [`init`] has read them.
pub fn get() -> &'static Options {
    OPTIONS.get().unwrap_or(&Options::DEFAULT)
}

/// Reads and parses the options, once, by way of `buffer`.
///
/// # Errors
/// [`Refusal`] of the first word that is wrong.
pub fn init(buffer: &mut [u8; CMDLINE_BYTES]) -> Result<&'static Options, Refusal<'_>> {
    let options = read(buffer).and_then(parse)?;
    Ok(OPTIONS.call_once(|| options))
}

/// Reads the item; an absent one, and a machine without fw_cfg, have no words.
fn read(buffer: &mut [u8; CMDLINE_BYTES]) -> Result<&str, Refusal<'static>> {
    // SAFETY: the ports belong to fw_cfg or, without QEMU, to nobody; nothing else in the kernel
    // uses them.
    let Ok(mut fw_cfg) = (unsafe { FwCfg::new_for_x86() }) else {
        return Ok("");
    };
    let Some(file) = fw_cfg.find_file(CMDLINE_ITEM) else {
        return Ok("");
    };
    let text = buffer.get_mut(..file.size()).ok_or(Refusal::Unreadable)?;
    fw_cfg.read_file_to_buffer(&file, text);
    let text = core::str::from_utf8(text).map_err(|_| Refusal::Unreadable)?;
    Ok(text.trim_end_matches('\0'))
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
