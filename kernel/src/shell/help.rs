//! The texts that `help` and `help COMMAND` print.

use tidemark_wire::Topic;

/// What is said about a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Help {
    /// The form in which it is typed.
    pub usage: &'static str,
    /// Its effect, in a few words.
    pub does: &'static str,
    /// Further facts: limits, units, what it prints.
    pub more: &'static str,
    /// A line that can be typed as it is.
    pub example: &'static str,
}

impl Help {
    /// Returns the command's name.
    pub fn name(&self) -> &'static str {
        self.usage.split(' ').next().unwrap_or(self.usage)
    }

    /// Returns the help for the command of this name.
    pub fn of(name: &str) -> Option<&'static Help> {
        let name = match name {
            "?" => "help",
            "quit" => "exit",
            name => name,
        };
        COMMANDS.iter().find(|help| help.name() == name)
    }
}

const fn help(
    usage: &'static str,
    does: &'static str,
    more: &'static str,
    example: &'static str,
) -> Help {
    Help {
        usage,
        does,
        more,
        example,
    }
}

/// What is said about the command that shows a table.
const fn table(topic: Topic, more: &'static str) -> Help {
    help(topic.name(), topic.says(), more, topic.name())
}

/// How `alloc` is typed.
pub const ALLOC: &str = "alloc [ORDER [FLAGS] [NODE]]";
/// The usage of `free`.
pub const FREE: &str = "free HANDLE";
/// The usage of `help`.
pub const HELP: &str = "help [COMMAND]";
/// The usage of `offline`.
pub const OFFLINE: &str = "offline SECTION";
/// The usage of `online`.
pub const ONLINE: &str = "online SECTION";
/// The usage of `plug`.
pub const PLUG: &str = "plug DIMM";
/// The usage of `pull`.
pub const PULL: &str = "pull DIMM";
/// The usage of `read`.
pub const READ: &str = "read [PAGES]";
/// The usage of `test`.
pub const TEST: &str = "test [PATTERN]";

/// Every command, in the order in which `help` lists them.
pub const COMMANDS: &[Help] = &[
    table(
        Topic::Zoneinfo,
        "Numbers are pages of 4 KiB. Pages in CPUs' caches are not free: pagesets shows them.",
    ),
    table(
        Topic::Buddyinfo,
        "A column an order: the first counts single pages, the last blocks of 4 MiB.",
    ),
    table(
        Topic::Zonelists,
        "Also says how often the lists were rebuilt, and for how long interrupts were off.",
    ),
    table(Topic::Meminfo, "Numbers are KiB, as in Linux."),
    table(
        Topic::Interrupts,
        "A row a kind, a column a CPU; counted since boot.",
    ),
    table(
        Topic::Threads,
        "Each with its CPU, its priority, and whether it runs or sleeps.",
    ),
    table(
        Topic::Dimms,
        "Names the numbers that pull, plug, offline and online take.",
    ),
    help(
        OFFLINE,
        "takes a memory section (128 MiB) out of its zone",
        "Its page-cache pages move elsewhere. A page that cannot be moved keeps the section: it is named.",
        "offline 42",
    ),
    help(
        ONLINE,
        "brings a memory section (128 MiB) back into its zone",
        "Only a section that offline has taken out, or that a DIMM brought, can be brought in.",
        "online 42",
    ),
    help(
        PULL,
        "has the host pull a DIMM out of the machine",
        "All its sections are taken offline first. One that does not leave within 10 s keeps the DIMM.",
        "pull 1",
    ),
    help(
        PLUG,
        "has the host put a DIMM back",
        "Its sections are mapped and brought online; dimms shows where.",
        "plug 1",
    ),
    help(
        ALLOC,
        "allocates 2^ORDER pages; alone it lists what was allocated",
        "ORDER 0 to 10. FLAGS joined by |, with GFP_ or __GFP_ before them or not; KERNEL if none says \
         how to wait. NODE is tried first. Prints the handle that free takes.",
        "alloc 3 ATOMIC|DMA32 1",
    ),
    help(
        FREE,
        "frees what alloc gave",
        "HANDLE is the number that alloc printed.",
        "free 1",
    ),
    help(
        READ,
        "reads a file into the page cache, whose pages can be moved",
        "PAGES of 4 KiB from its start; all of it if none are named. Each page is compared word by word.",
        "read 20000",
    ),
    help(
        "drop",
        "gives the page cache's pages back",
        "What is read later is filled anew.",
        "drop",
    ),
    help(
        TEST,
        "runs the self-tests whose name contains PATTERN",
        "All of them if there is no PATTERN. Each prints a KTAP line.",
        "test zone/",
    ),
    help(
        HELP,
        "lists the commands, or explains one",
        "Tab completes a command.",
        "help alloc",
    ),
    help(
        "exit",
        "frees everything, checks the allocator's books, ends",
        "The host's exit code is 0 if the books are right. Ctrl-D does the same.",
        "exit",
    ),
];

#[cfg(test)]
mod tests {
    use super::super::command::{Bad, Command, parse};
    use super::*;

    #[test]
    fn every_command_has_a_line_and_an_example_that_can_be_typed() {
        for help in COMMANDS {
            assert!(
                !matches!(parse(help.name()), Err(Bad::Unknown(_))),
                "{help:?}"
            );
            assert!(help.usage.len() <= 28, "{help:?}");
            assert!(help.example.starts_with(help.name()), "{help:?}");
            assert!(parse(help.example).is_ok(), "{help:?}");
            assert!(
                !help.more.contains("  ") && help.more.ends_with('.'),
                "{help:?}"
            );
            assert_eq!(parse(help.name()).is_err(), {
                // A command that needs a word has it in its usage.
                help.usage.contains(' ') && !help.usage.contains('[')
            });
        }
    }

    #[test]
    fn every_table_has_a_command() {
        for topic in Topic::ALL {
            assert!(Help::of(topic.name()).is_some(), "{topic:?}");
        }
    }

    #[test]
    fn help_of_a_command_is_found_by_its_names() {
        assert_eq!(Help::of("quit"), Help::of("exit"));
        assert_eq!(Help::of("?").map(Help::name), Some("help"));
        assert_eq!(Help::of("nonsense"), None);
        assert_eq!(parse("help alloc"), Ok(Command::Help(Help::of("alloc"))));
        assert_eq!(parse("help nonsense"), Err(Bad::Unknown("nonsense")));
        assert_eq!(parse("help alloc free"), Err(Bad::Usage(HELP)));
    }
}
