//! A word for each frame that names its owner. Each allocation sets it, each free clears it. It
//! shows at once that a frame has two owners, whatever the allocator's books say.

use crate::{
    counts::COUNTS,
    cpu,
    findings::{Clash, Finding, found},
    machine::OurBlock,
    memory,
};
use std::{
    fmt,
    sync::atomic::{AtomicU32, Ordering::AcqRel},
};
use tidemark_frames::{Order, Pfn};
use tidemark_sync::ContextKind;

/// An owner in a frame's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub u32);

impl Tag {
    /// No owner.
    pub const NOBODY: Self = Self(0);
    /// The shelf on which contexts and CPUs leave blocks for each other.
    pub const SHELF: Self = Self(1);
    const CONTEXT: u32 = 1 << 16;
    const PAGE: u32 = 1 << 31;

    /// Returns the tag of a context of a CPU.
    pub const fn of(context: ContextKind, cpu: usize) -> Self {
        Self((context as u32 + 1) * Self::CONTEXT + cpu as u32)
    }

    /// Returns the tag of a page of the page cache.
    pub const fn page(number: usize) -> Self {
        Self(Self::PAGE | number as u32)
    }

    /// Returns the tag of the running context.
    pub fn here() -> Self {
        let cpu = cpu::here();
        Self::of(cpu.context(), cpu.number)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpu = self.0 % Self::CONTEXT;
        match *self {
            Self::NOBODY => write!(f, "nobody"),
            Self::SHELF => write!(f, "the shelf"),
            Self(word) if word & Self::PAGE != 0 => write!(f, "page {}", word & !Self::PAGE),
            Self(word) => match word / Self::CONTEXT {
                1 => write!(f, "a task of cpu{cpu}"),
                2 => write!(f, "an interrupt of cpu{cpu}"),
                3 => write!(f, "an NMI of cpu{cpu}"),
                _ => write!(f, "the word {word:#x}"),
            },
        }
    }
}

fn words_of(pfn: Pfn, order: Order) -> &'static [AtomicU32] {
    let first = memory::index_of(pfn);
    &memory::owners()[first..first + order.frames() as usize]
}

/// Changes the words of a block from one owner to another; returns the first frame with a word that
/// named a wrong owner.
fn change(block: &OurBlock, from: Tag, to: Tag, by: Tag) -> Option<Clash> {
    let mut clash = None;
    for (frame, word) in words_of(block.pfn(), block.order()).iter().enumerate() {
        // AcqRel: an owner's accesses to the frame come before those of the next one.
        let found = Tag(word.swap(to.0, AcqRel));
        if found != from && clash.is_none() {
            clash = Some(Clash {
                pfn: Pfn(block.pfn().0 + frame as u64),
                order: block.order(),
                by,
                found,
                cpu: cpu::here().number,
            });
        }
    }
    clash
}

/// Signs a block that was just allocated.
pub fn sign(block: &OurBlock, tag: Tag) {
    COUNTS.signed.add(1);
    if let Some(clash) = change(block, Tag::NOBODY, tag, tag) {
        found(Finding::TwoOwners(clash));
    }
}

/// Passes a block from one owner to another.
pub fn hand_on(block: &OurBlock, from: Tag, to: Tag) {
    if let Some(clash) = change(block, from, to, from) {
        found(Finding::NotItsOwners(clash));
    }
}

/// Removes the owner from the words of a block that is about to be freed.
pub fn strike(block: &OurBlock, tag: Tag) {
    hand_on(block, tag, Tag::NOBODY);
}

/// Checks that a block that is not yet handed out has no owner.
pub fn check_nobodys(pfn: Pfn, order: Order) {
    for (frame, word) in words_of(pfn, order).iter().enumerate() {
        let owner = Tag(word.load(std::sync::atomic::Ordering::Relaxed));
        if owner != Tag::NOBODY {
            found(Finding::TwoOwners(Clash {
                pfn: Pfn(pfn.0 + frame as u64),
                order,
                by: Tag::here(),
                found: owner,
                cpu: cpu::here().number,
            }));
        }
    }
}

/// Returns how many frames still have an owner, and the first one with its owner. It is called at
/// rest.
pub fn left() -> (u64, Option<(Pfn, Tag)>) {
    let words = memory::owners().iter().enumerate();
    let mut owned = words.filter_map(|(index, word)| {
        let tag = Tag(word.load(std::sync::atomic::Ordering::Relaxed));
        (tag != Tag::NOBODY).then(|| (memory::frame_at(index), tag))
    });
    let first = owned.next();
    (owned.count() as u64 + u64::from(first.is_some()), first)
}
