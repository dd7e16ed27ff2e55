//! The fallback lists and the protocols that say who may look at them.

/// The protocol between readers and the writer of the lists, chosen at boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Variant {
    /// The seed: a private spinlock with interrupts off, a bare counter, no waiting.
    #[default]
    Seed,
}

impl Variant {
    /// Every variant.
    pub const ALL: [Self; 1] = [Self::Seed];

    /// The name used on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seed => "seed",
        }
    }
}

/// Which list of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// All nodes, nearest first.
    Fallback,
    /// The node itself: THISNODE.
    NoFallback,
}
