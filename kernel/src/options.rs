//! The kernel's options: words of the fw_cfg item [`tidemark_wire::CMDLINE_ITEM`].

mod pattern;
mod topics;

pub use pattern::Pattern;
pub use topics::{Topic, Topics};

use core::fmt;
use qemu_fw_cfg::FwCfg;
use tidemark_frames::{Mistake, Variant};
use tidemark_wire::{CMDLINE_ITEM, Hazard};

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

/// How scarce the demonstration makes memory while lists are rebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// Every zone that atomic requests may use lies between its MIN and LOW watermarks.
    Even,
    /// One such zone does, and the others have nothing to give.
    Uneven,
}

/// A fault planted on purpose, so that each verdict can be seen to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// A frame that nobody gives back.
    LostFrame,
    /// A page whose content changes behind its owner's back.
    CorruptPage,
    /// An atomic request that fails outside announced pressure.
    AtomicFailure,
    /// Atomic requests that fail if they began while the count was odd.
    OddFailures,
    /// Readers that do not look whether the lists have changed.
    NoCheck,
    /// A migrated page whose content changes on the way.
    CorruptMigrated,
    /// An eject that is never written.
    MissedEject,
    /// A rebuild with interrupts on.
    IrqOn,
    /// A panic.
    Panic,
    /// A CPU that spins with interrupts off.
    Hang,
    /// A triple fault.
    TripleFault,
    /// A self-test's write into a block that it has handed on.
    StrayWrite,
    /// A watchdog that asks nobody.
    DeafWatchdog,
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

/// One option that the kernel knows.
struct Known {
    name: &'static str,
    /// What may stand after `name=`; empty if nothing may.
    values: &'static str,
    /// Sets it; None if the value is none of `values`.
    set: fn(&mut Options, &str) -> Option<()>,
}

macro_rules! known {
    ($name:literal, $values:literal, |$options:ident, $value:ident| $set:expr) => {
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
        "demo|test|shell|bench|lab|price",
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
    known!("pattern", "TEXT", |o, v| o.pattern = Pattern::new(v)?),
    known!("cycles", "1..10000", |o, v| o.cycles =
        number(v, 1, 10_000)? as u32),
    known!("seed", "NUMBER", |o, v| o.seed = number(v, 0, u64::MAX)?),
    known!(
        "zonelist",
        "none|seqlock|seqlock-irqoff|seqlock-irqsave|seqlock-annotated|seqlock-recheck|gfp-seqlock|seed|snapshot",
        |o, v| o.zonelist = Variant::from_name(v)?
    ),
    known!("pressure", "even|uneven", |o, v| o.pressure = match v {
        "even" => Pressure::Even,
        "uneven" => Pressure::Uneven,
        _ => return None,
    }),
    known!(
        "plant",
        "lost-frame|corrupt-page|atomic-failure|odd-failures|no-check|corrupt-migrated|missed-eject|irq-on|panic|hang|triple-fault|stray-write|deaf-watchdog",
        |o, v| o.plant = Some(match v {
            "lost-frame" => Plant::LostFrame,
            "corrupt-page" => Plant::CorruptPage,
            "atomic-failure" => Plant::AtomicFailure,
            "odd-failures" => Plant::OddFailures,
            "no-check" => Plant::NoCheck,
            "corrupt-migrated" => Plant::CorruptMigrated,
            "missed-eject" => Plant::MissedEject,
            "irq-on" => Plant::IrqOn,
            "panic" => Plant::Panic,
            "hang" => Plant::Hang,
            "triple-fault" => Plant::TripleFault,
            "stray-write" => Plant::StrayWrite,
            "deaf-watchdog" => Plant::DeafWatchdog,
            _ => return None,
        })
    ),
    known!("no_nmi_requests", "", |o, _v| o.nmi_requests = false),
    known!("verbose", "", |o, _v| o.verbose = true),
    known!(
        "dump",
        "zoneinfo|buddyinfo|zonelists|meminfo|interrupts|threads|dimms",
        |o, v| o.dump = Topics::parse(v)?
    ),
    known!("timer_hz", "10..10000", |o, v| o.timer_hz =
        number(v, 10, 10_000)? as u32),
    known!(
        "hazard",
        "H1|H2|H2-NMI|H3|H5-begin|H5-end|H7|H7-hot|H8",
        |o, v| { o.hazard = Hazard::from_name(v)? }
    ),
    known!(
        "mistake",
        "everybody-looks|no-check-before-oom|no-check-at-nopage|no-check-at-retry|changed-without-odd|begin-waits|check-waits|interrupts-on|not-deferred|deferred-late|annotated-inside|count-stands|no-grace|published-early|start-remembered|torn-remembered",
        |o, v| o.mistake = Some(Mistake::from_name(v)?)
    ),
    known!("storm", "200..100000000", |o, v| o.storm =
        number(v, 200, 100_000_000)? as u32),
];

fn number(text: &str, lowest: u64, highest: u64) -> Option<u64> {
    let number = text.parse().ok()?;
    (lowest..=highest).contains(&number).then_some(number)
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
        values: &'static str,
    },
    /// The command line is longer than the kernel reads, or is no text.
    Unreadable,
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Unknown(word) => write!(f, "unknown option \"{word}\""),
            Refusal::BadValue { word, values: "" } => {
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

/// Lists the known options.
pub struct KnownOptions;

impl fmt::Display for KnownOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("known options:")?;
        let mut used = 0;
        for known in KNOWN {
            let len = known.name.len() + known.values.len() + 2;
            used += len;
            if used > LIST_LINE_BYTES {
                f.write_str("\n ")?;
                used = len;
            }
            match known.values {
                "" => write!(f, " {}", known.name)?,
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
            .filter(|_| value.is_none() == known.values.is_empty())
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
