//! Parses the commands that may be typed, and explains a line that is no command in one clear line.

use super::help::{ALLOC, COMMANDS, FREE, HELP, Help, OFFLINE, ONLINE, PLUG, PULL, READ, TEST};
use crate::hotplug::MAX_SLOTS;
use crate::show::Topic;
use core::fmt;
use tidemark_frames::{Gfp, MAX_NODES, NodeId, Order, SectionNo};

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'l> {
    /// An empty line.
    Nothing,
    /// Explains a command, or lists all if none is named.
    Help(Option<&'static Help>),
    /// Shows a table.
    Show(Topic),
    /// Takes a memory section out of its zone.
    Offline(SectionNo),
    /// Brings a memory section back into its zone.
    Online(SectionNo),
    /// Makes the host remove a DIMM.
    Pull(u8),
    /// Makes the host put a DIMM back.
    Plug(u8),
    /// Allocates frames.
    Alloc {
        /// The order of the block.
        order: Order,
        /// The flags of the request.
        gfp: Gfp,
        /// The node, if one is given.
        node: Option<NodeId>,
    },
    /// Lists the blocks that were allocated.
    Allocated,
    /// Frees the block with this handle.
    Free(u32),
    /// Reads the first pages of the page cache's file, or all of it.
    Read(Option<u32>),
    /// Frees the page cache's frames.
    Drop,
    /// Runs the self-tests whose name contains this.
    Test(&'l str),
    /// Ends the machine.
    Exit,
}

/// The fault in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad<'l> {
    /// There is no such command.
    Unknown(&'l str),
    /// There are too few words, or too many.
    Usage(&'static str),
    /// A word is not a number, or the number is too large.
    Number {
        /// The meaning of the word.
        what: &'static str,
        /// The word.
        word: &'l str,
        /// The largest number allowed.
        most: u64,
    },
    /// There is no such request flag.
    Flag(&'l str),
}

impl fmt::Display for Bad<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bad::Unknown(word) => write!(f, "unknown command \"{word}\": help lists the commands"),
            Bad::Usage(usage) => write!(f, "usage: {usage}"),
            Bad::Number { what, word, most } => {
                write!(f, "\"{word}\" is no {what}: a number from 0 to {most}")
            }
            Bad::Flag(word) => {
                write!(f, "unknown flag \"{word}\"; flags, joined by |:")?;
                FLAGS.iter().try_for_each(|(name, _)| write!(f, " {name}"))
            }
        }
    }
}

/// The request flags that may be typed, with or without `GFP_` or `__GFP_` before them. NOFAIL is
/// not among them, because a shell that waits for ever is no use.
const FLAGS: [(&str, Gfp); 13] = [
    ("KERNEL", Gfp::KERNEL),
    ("ATOMIC", Gfp::ATOMIC),
    ("NOWAIT", Gfp::NOWAIT),
    ("DMA", Gfp::DMA),
    ("DMA32", Gfp::DMA32),
    ("MOVABLE", Gfp::MOVABLE),
    ("HIGH", Gfp::HIGH),
    ("THISNODE", Gfp::THISNODE),
    ("NOWARN", Gfp::NOWARN),
    ("NORETRY", Gfp::NORETRY),
    ("RETRY_MAYFAIL", Gfp::RETRY_MAYFAIL),
    ("ZERO", Gfp::ZERO),
    ("MEMALLOC", Gfp::MEMALLOC),
];
/// The number of base flags at the start of [`FLAGS`], which say what may be waited for. Without
/// one of them the base is KERNEL.
const BASES: usize = 3;

/// Largest number of a memory section, for 8 TiB.
const MOST_SECTION: u64 = (8 << 40) / (128 << 20) - 1;

/// Returns the names of the commands.
pub fn names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(Help::name)
}

/// Parses a line.
///
/// # Errors
/// Returns a [`Bad`] with the fault in the line.
pub fn parse(line: &str) -> Result<Command<'_>, Bad<'_>> {
    let mut words = line.split_ascii_whitespace();
    let Some(name) = words.next() else {
        return Ok(Command::Nothing);
    };
    let args = [words.next(), words.next(), words.next()];
    let too_many = words.next().is_some();
    let one = |usage| match args {
        [Some(word), None, _] => Ok(word),
        _ => Err(Bad::Usage(usage)),
    };
    let none = |command, usage| match args {
        [None, ..] => Ok(command),
        _ => Err(Bad::Usage(usage)),
    };
    match name {
        "help" | "?" => match args {
            [None, ..] => Ok(Command::Help(None)),
            _ => {
                let word = one(HELP)?;
                Help::of(word).map_or(Err(Bad::Unknown(word)), |help| {
                    Ok(Command::Help(Some(help)))
                })
            }
        },
        "exit" | "quit" => none(Command::Exit, "exit"),
        "offline" => Ok(Command::Offline(section(one(OFFLINE)?)?)),
        "online" => Ok(Command::Online(section(one(ONLINE)?)?)),
        "pull" => Ok(Command::Pull(dimm(one(PULL)?)?)),
        "plug" => Ok(Command::Plug(dimm(one(PLUG)?)?)),
        "free" => Ok(Command::Free(
            number("handle", one(FREE)?, u32::MAX.into())? as u32,
        )),
        "drop" => none(Command::Drop, "drop"),
        "read" => match args {
            [None, ..] => Ok(Command::Read(None)),
            _ => {
                let most = u32::MAX.into();
                let pages = number("number of pages", one(READ)?, most)?;
                Ok(Command::Read(Some(pages as u32)))
            }
        },
        "test" => match args {
            [pattern, None, _] => Ok(Command::Test(pattern.unwrap_or(""))),
            _ => Err(Bad::Usage(TEST)),
        },
        "alloc" if too_many => Err(Bad::Usage(ALLOC)),
        "alloc" => alloc(args),
        _ => match Topic::from_name(name) {
            Some(topic) => none(Command::Show(topic), topic.name()),
            None => Err(Bad::Unknown(name)),
        },
    }
}

fn alloc<'l>(args: [Option<&'l str>; 3]) -> Result<Command<'l>, Bad<'l>> {
    let [Some(order), flags, node] = args else {
        return Ok(Command::Allocated);
    };
    let most = u64::from(Order::MAX.get());
    let order = number("order", order, most)? as u8;
    let order = Order::new(order).ok_or(Bad::Usage(ALLOC))?;
    // The node may be given without flags.
    let is_number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    let (flags, node) = match (flags, node) {
        (Some(word), None) if is_number(word) => (None, Some(word)),
        both => both,
    };
    let node = node
        .map(|word| number("node", word, MAX_NODES as u64 - 1))
        .transpose()?;
    Ok(Command::Alloc {
        order,
        gfp: flags.map_or(Ok(Gfp::KERNEL), gfp)?,
        node: node.map(|node| NodeId(node as u8)),
    })
}

/// Parses `ATOMIC|DMA32`, `GFP_ATOMIC|__GFP_DMA32` and similar forms.
fn gfp(words: &str) -> Result<Gfp, Bad<'_>> {
    let mut gfp = Gfp::NONE;
    let mut has_base = false;
    for word in words.split(['|', ',']) {
        let bare = word.trim_start_matches('_');
        let bare = match bare.get(..4) {
            Some(prefix) if prefix.eq_ignore_ascii_case("GFP_") => &bare[4..],
            _ => bare,
        };
        let known = FLAGS
            .iter()
            .position(|(name, _)| name.eq_ignore_ascii_case(bare));
        let at = known.ok_or(Bad::Flag(word))?;
        gfp = gfp | FLAGS[at].1;
        has_base |= at < BASES;
    }
    Ok(if has_base { gfp } else { gfp | Gfp::KERNEL })
}

fn section(word: &str) -> Result<SectionNo, Bad<'_>> {
    Ok(SectionNo(number("section", word, MOST_SECTION)? as usize))
}

fn dimm(word: &str) -> Result<u8, Bad<'_>> {
    // A name such as `dimm0`, which the tables use, is understood as well.
    let digits = word.strip_prefix("dimm").unwrap_or(word);
    number("DIMM", digits, MAX_SLOTS as u64 - 1).map(|slot| slot as u8)
}

fn number<'l>(what: &'static str, word: &'l str, most: u64) -> Result<u64, Bad<'l>> {
    let bad = Bad::Number { what, word, most };
    // `parse` alone would accept a sign.
    let digits = word.bytes().all(|byte| byte.is_ascii_digit());
    let number = word.parse().ok().filter(|_| digits).ok_or(bad)?;
    if number > most { Err(bad) } else { Ok(number) }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::string::ToString;

    fn order(order: u8) -> Order {
        Order::new(order).unwrap()
    }

    #[test]
    fn every_command_is_read() {
        for (line, command) in [
            ("", Command::Nothing),
            ("   ", Command::Nothing),
            ("help", Command::Help(None)),
            ("  exit ", Command::Exit),
            ("zoneinfo", Command::Show(Topic::Zoneinfo)),
            ("dimms", Command::Show(Topic::Dimms)),
            ("offline 34", Command::Offline(SectionNo(34))),
            ("online 34", Command::Online(SectionNo(34))),
            ("pull 0", Command::Pull(0)),
            ("plug dimm1", Command::Plug(1)),
            ("alloc", Command::Allocated),
            ("free 7", Command::Free(7)),
            ("read", Command::Read(None)),
            ("read 500", Command::Read(Some(500))),
            ("drop", Command::Drop),
            ("test", Command::Test("")),
            ("test zone/", Command::Test("zone/")),
        ] {
            assert_eq!(parse(line), Ok(command), "{line}");
        }
    }

    #[test]
    fn alloc_takes_order_flags_and_node_in_this_order() {
        let alloc = |order_no, gfp, node: Option<u8>| {
            Ok(Command::Alloc {
                order: order(order_no),
                gfp,
                node: node.map(NodeId),
            })
        };
        assert_eq!(parse("alloc 0"), alloc(0, Gfp::KERNEL, None));
        assert_eq!(parse("alloc 10 1"), alloc(10, Gfp::KERNEL, Some(1)));
        assert_eq!(
            parse("alloc 3 atomic|DMA32 1"),
            alloc(3, Gfp::ATOMIC | Gfp::DMA32, Some(1))
        );
        assert_eq!(
            parse("alloc 0 GFP_NOWAIT,__GFP_THISNODE"),
            alloc(0, Gfp::NOWAIT | Gfp::THISNODE, None)
        );
        // A modifier alone modifies KERNEL.
        assert_eq!(
            parse("alloc 0 MOVABLE"),
            alloc(0, Gfp::KERNEL | Gfp::MOVABLE, None)
        );
    }

    #[test]
    fn what_is_wrong_is_said_on_one_line() {
        for (line, words) in [
            ("zone", "unknown command \"zone\": help lists the commands"),
            ("Help", "unknown command \"Help\": help lists the commands"),
            ("zoneinfo 1", "usage: zoneinfo"),
            ("offline", "usage: offline SECTION"),
            ("offline 1 2", "usage: offline SECTION"),
            ("offline x", "\"x\" is no section: a number from 0 to 65535"),
            (
                "offline -1",
                "\"-1\" is no section: a number from 0 to 65535",
            ),
            ("pull 99", "\"99\" is no DIMM"),
            ("alloc 11", "\"11\" is no order: a number from 0 to 10"),
            ("alloc 0 KERNEL 8", "\"8\" is no node: a number from 0 to 7"),
            ("alloc 0 KERNEL 0 0", "usage: alloc [ORDER"),
            (
                "alloc 0 KERNEL|FAST",
                "unknown flag \"FAST\"; flags, joined by |: KERNEL ATOMIC",
            ),
            ("alloc 0 |", "unknown flag \"\""),
            ("alloc 0 1 KERNEL", "\"KERNEL\" is no node"),
            ("free", "usage: free HANDLE"),
            ("free 4294967296", "\"4294967296\" is no handle"),
            ("read all", "\"all\" is no number of pages"),
            ("drop it", "usage: drop"),
            ("exit now", "usage: exit"),
            ("test a b", "usage: test [PATTERN]"),
        ] {
            let said = parse(line).unwrap_err().to_string();
            assert!(said.starts_with(words), "{line}: {said}");
            assert!(!said.contains('\n'));
        }
    }
}
