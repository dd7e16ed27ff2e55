//! The work of interrupts and NMIs: they allocate, keep, pass on and free blocks, whatever they
//! have interrupted.

use crate::{
    counts::COUNTS,
    cpu::{self, Cpu, MAX_CPUS},
    machine::OurBlock,
    owners::Tag,
    plant::{self, Plant},
    requests,
    shelf::{self, Place},
};
use tidemark_frames::FrameHandle;
use tidemark_sync::{Context, ContextKind};

/// Blocks that handlers of one kind on one CPU keep.
type Keep = [Place; 16];

/// The blocks that the interrupts and the NMIs of each CPU keep.
static KEEPS: [[Keep; 2]; MAX_CPUS] =
    [const { [const { [const { Place::new() }; 16] }; 2] }; MAX_CPUS];

fn keep(cpu: usize, context: ContextKind) -> &'static Keep {
    &KEEPS[cpu][usize::from(context == ContextKind::Nmi)]
}

/// Does the work of an interrupt's or an NMI's handler on its CPU.
pub fn work(context: &impl Context, cpu: &Cpu) {
    let (kind, random) = (context.kind(), cpu.random());
    let tag = Tag::of(kind, cpu.number);
    COUNTS.handlers[kind as usize].add(1);
    for _ in 0..1 + random.below(3) {
        let place = &keep(cpu.number, kind)[random.below(16)];
        if let Some(block) = place.take() {
            let_go(block, tag);
        } else if random.one_in(12) {
            requests::bulk(context, random);
        } else if random.one_in(6) {
            if let Some(block) = shelf::take(tag) {
                requests::give(block, tag);
            }
        } else if let Some(block) = requests::take(context, &requests::of_handler(random), tag)
            && let Some(before) = place.put(block)
        {
            // An NMI in between has kept a block here, too.
            requests::give(before, tag);
        }
    }
}

/// Gives up a block that the handler has kept: frees it, whole or in halves, or passes it on.
fn let_go(block: OurBlock, tag: Tag) {
    if plant::is_due(Plant::LostFrame) {
        let _lost: FrameHandle = block.leak();
        return;
    }
    let random = cpu::here().random();
    match random.below(8) {
        0..=1 => shelf::put(block, tag),
        2 => match block.split() {
            Ok((lower, upper)) => {
                requests::give(upper, tag);
                requests::give(lower, tag);
            }
            Err(single) => requests::give(single, tag),
        },
        _ => requests::give(block, tag),
    }
}

/// Frees the blocks that the handlers of a CPU have kept, when they no longer come.
pub fn clear(cpu: usize) {
    for context in [ContextKind::HardIrq, ContextKind::Nmi] {
        for block in keep(cpu, context).iter().filter_map(Place::take) {
            requests::give(block, Tag::of(context, cpu));
        }
    }
}
