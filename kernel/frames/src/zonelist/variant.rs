//! The table of the protocols: their names, origins and rules.

use super::protocol::Protocol;
use crate::base::platform::Platform;
use {Interrupts::*, Readers::*, Writes::*};

/// Declares the variants, and the functions that make their protocols. A row is
///
/// `Variant = "name", "what it is, in a line", "where it comes from", module::Type { rules },`
///
/// The dollar sign before the rows is for the macro that it declares.
macro_rules! variants {
    ($dollar:tt
        $(
            $(#[$more:meta])*
            $variant:ident = $name:literal, $says:literal, $origin:literal,
            $module:ident::$protocol:ident { $($rule:ident: $value:ident),* $(,)? },
        )+
    ) => {
        tidemark_facts::named! {
            /// The protocol between readers and the writer of the lists, chosen at boot.
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
            pub enum Variant {
                $($(#[$more])* $variant = $name, $says,)+
            }
        }

        impl Variant {
            /// Returns the origin of the protocol: a commit, a mail, or this project.
            pub const fn origin(self) -> &'static str {
                match self {
                    $(Self::$variant => $origin,)+
                }
            }

            /// Returns the rules of its readers and its writer.
            pub const fn rules(self) -> Rules {
                match self {
                    $(Self::$variant => Rules { $($rule: $value),* },)+
                }
            }
        }

        /// The protocol in force, with its counters and locks.
        pub(crate) enum Chosen<P: Platform> {
            $($variant(super::$module::$protocol<P>),)+
        }

        impl<P: Platform> Chosen<P> {
            pub(crate) fn new(variant: Variant) -> Self {
                match variant {
                    $(Variant::$variant => Self::$variant(super::$module::$protocol::new()),)+
                }
            }

            pub(crate) fn variant(&self) -> Variant {
                match self {
                    $(Self::$variant(_) => Variant::$variant,)+
                }
            }

            pub(crate) fn protocol(&self) -> &dyn Protocol<P> {
                match self {
                    $(Self::$variant(protocol) => protocol,)+
                }
            }
        }

        /// Runs an expression with the protocol in force as its own type. So the variant is tested
        /// once, and not at each step of the protocol.
        macro_rules! with_protocol {
            ($dollar chosen:expr, $dollar protocol:ident => $dollar done:expr) => {
                match $dollar chosen {
                    $($crate::zonelist::Chosen::$variant($dollar protocol) => $dollar done,)+
                }
            };
        }
        pub(crate) use with_protocol;
    };
}

variants! { $
    /// A plain spinlock serialises writers, as before August 2022.
    None = "none", "a spinlock for writers; readers take no notice", "Linux before August 2022",
        none::Unprotected { waits: Nobody, looks: Nobody, interrupts: On, writes: InPlace },
    /// The writer uses `write_seqlock`.
    Seqlock = "seqlock", "readers wait while the counter is odd; interrupts stay on",
        "Linux commit 3d36424b3b58",
        seqlock::Seqlock { waits: Everybody, looks: Everybody, interrupts: On, writes: InPlace },
    /// The writer turns interrupts off, defers the console, and uses `write_seqlock`.
    SeqlockIrqoff = "seqlock-irqoff", "the same with interrupts off, then the console deferred",
        "Linux commit 1007843a9190",
        seqlock_irqoff::SeqlockIrqoff {
            waits: Everybody, looks: Everybody, interrupts: Off, writes: InPlace
        },
    /// The writer is as `SeqlockIrqoff`'s, but annotated before the first increment.
    SeqlockIrqoffRecheck = "seqlock-irqoff-recheck", "the same, and readers look at retry, too",
        "Linux commit e05741fb10c3 in the stable series 5.10, 5.15 and 6.1",
        seqlock_irqoff_recheck::SeqlockIrqoffRecheck {
            waits: Everybody, looks: Everybody, interrupts: Off, writes: InPlace
        },
    /// The writer uses `write_seqlock_irqsave`, annotated after the increment, and then defers the
    /// console.
    SeqlockIrqsave = "seqlock-irqsave", "the counter first, then the console deferred",
        "Linux commit a2ebb5157582",
        seqlock_irqsave::SeqlockIrqsave {
            waits: Everybody, looks: Everybody, interrupts: Off, writes: InPlace
        },
    /// It is as `SeqlockIrqsave`, but annotated before the first increment.
    SeqlockAnnotated = "seqlock-annotated",
        "the validator is told of the begin before the counter is odd",
        "Linux commit 41b43b6c6e30",
        seqlock_annotated::SeqlockAnnotated {
            waits: Everybody, looks: Everybody, interrupts: Off, writes: InPlace
        },
    /// Otherwise it is as `SeqlockAnnotated`.
    SeqlockRecheck = "seqlock-recheck", "readers look at retry, too",
        "Linux commit e05741fb10c3",
        seqlock_recheck::SeqlockRecheck {
            waits: Everybody, looks: Everybody, interrupts: Off, writes: InPlace
        },
    /// Otherwise it is as `Seqlock`.
    GfpSeqlock = "gfp-seqlock", "only requests that may reclaim wait and look",
        "Tetsuo Handa's proposal of April 2023",
        gfp_seqlock::GfpSeqlock {
            waits: Reclaiming, looks: Reclaiming, interrupts: On, writes: InPlace
        },
    /// The writer holds a private spinlock with interrupts off, and changes a bare counter.
    #[default]
    Seed = "seed", "nobody waits; only requests that may reclaim look again",
        "Tetsuo Handa's mail of 29 July 2023",
        seed::Seed { waits: Nobody, looks: Reclaiming, interrupts: Off, writes: InPlace },
    /// Entries are whole words, and replaced lists are reused after a grace period.
    Snapshot = "snapshot", "new lists beside the old ones, put in force by one store",
        "this project's own",
        snapshot::Snapshot { waits: Nobody, looks: Everybody, interrupts: Off, writes: Beside },
}

/// The rules of a protocol's readers and its writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The readers that wait for an even counter at their begin.
    pub waits: Readers,
    /// The readers that check whether the lists have changed, before OOM and at `nopage`.
    pub looks: Readers,
    /// Whether the writer has interrupts on while it rewrites, or publishes.
    pub interrupts: Interrupts,
    /// The place where the writer writes.
    pub writes: Writes,
}

/// A set of readers, which may be in an interrupt's or an NMI's handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// No reader.
    Nobody,
    /// Requests that may reclaim.
    Reclaiming,
    /// All readers.
    Everybody,
}

/// Whether interrupts are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupts {
    /// Interrupts are on.
    On,
    /// Interrupts are off.
    Off,
}

/// The place where lists are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// The side that readers read.
    InPlace,
    /// A side that no reader reads, which then replaces the other one.
    Beside,
}

impl Variant {
    /// Returns whether every reader waits for an even counter at its begin, even in an interrupt's
    /// or an NMI's handler.
    pub const fn every_reader_waits(self) -> bool {
        matches!(self.rules().waits, Readers::Everybody)
    }

    /// Returns whether the writer rewrites, or publishes, with interrupts off.
    pub const fn writes_with_interrupts_off(self) -> bool {
        matches!(self.rules().interrupts, Interrupts::Off)
    }
}
