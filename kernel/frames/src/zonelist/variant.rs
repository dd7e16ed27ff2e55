//! The protocols by name.

/// The protocol between readers and the writer of the lists, chosen at boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Variant {
    /// A plain spinlock around the writer; readers check nothing.
    None,
    /// `write_seqlock` with interrupts on; readers wait while the counter is odd.
    Seqlock,
    /// Interrupts off, then the console deferred, then `write_seqlock`.
    SeqlockIrqoff,
    /// `write_seqlock_irqsave`, then the console deferred; annotated after the increment.
    SeqlockIrqsave,
    /// As `SeqlockIrqsave`, but annotated before the first increment.
    SeqlockAnnotated,
    /// As `SeqlockAnnotated`, but readers check at `retry`, too.
    SeqlockRecheck,
    /// As `Seqlock`, but only requests that may reclaim take part.
    GfpSeqlock,
    /// The seed: a private spinlock with interrupts off, and a bare counter for which no reader
    /// waits.
    #[default]
    Seed,
    /// Lists that are built beside the old ones and published by one store.
    Snapshot,
}

impl Variant {
    /// Every variant, in historical order.
    pub const ALL: [Self; 9] = [
        Self::None,
        Self::Seqlock,
        Self::SeqlockIrqoff,
        Self::SeqlockIrqsave,
        Self::SeqlockAnnotated,
        Self::SeqlockRecheck,
        Self::GfpSeqlock,
        Self::Seed,
        Self::Snapshot,
    ];

    /// Returns the name used on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Seqlock => "seqlock",
            Self::SeqlockIrqoff => "seqlock-irqoff",
            Self::SeqlockIrqsave => "seqlock-irqsave",
            Self::SeqlockAnnotated => "seqlock-annotated",
            Self::SeqlockRecheck => "seqlock-recheck",
            Self::GfpSeqlock => "gfp-seqlock",
            Self::Seed => "seed",
            Self::Snapshot => "snapshot",
        }
    }

    /// Returns the variant of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|variant| variant.name() == name)
    }

    /// Returns whether every reader waits for an even counter at its begin, even in an interrupt's
    /// or an NMI's handler.
    pub const fn every_reader_waits(self) -> bool {
        !matches!(
            self,
            Self::None | Self::GfpSeqlock | Self::Seed | Self::Snapshot
        )
    }

    /// Returns whether the writer rewrites, or publishes, with interrupts off.
    pub const fn writes_with_interrupts_off(self) -> bool {
        !matches!(self, Self::None | Self::Seqlock | Self::GfpSeqlock)
    }
}
