//! The work of a CPU's task until the run ends.

use crate::{
    cpu::{self, Doing},
    findings,
    machine::{OurBlock, frames},
    owners::Tag,
    pages, plant,
    random::Random,
    requests, shelf, switches,
};
use tidemark_frames::{Owner, OwnerKind, ZoneKind};
use tidemark_sync::Task;

/// The most blocks, and frames, that a task holds.
const MOST_BLOCKS: usize = 60;
const MOST_FRAMES: u64 = 6_000;

/// The blocks of a task.
struct Held {
    blocks: Vec<OurBlock>,
    tag: Tag,
}

impl Held {
    fn any(&mut self, random: &Random) -> Option<OurBlock> {
        let count = self.blocks.len();
        (count > 0).then(|| self.blocks.swap_remove(random.below(count)))
    }

    fn is_too_much(&self) -> bool {
        let frames = self.blocks.iter().map(|block| block.order().frames());
        self.blocks.len() > MOST_BLOCKS || frames.sum::<u64>() > MOST_FRAMES
    }

    fn free(&self, block: OurBlock) {
        let before = cpu::here().doing(Doing::Free);
        requests::give(block, self.tag);
        cpu::here().doing(before);
    }
}

/// Works until the run is stopped, and frees everything.
pub fn work(task: &Task) {
    let mut held = Held {
        blocks: Vec::with_capacity(MOST_BLOCKS + 2),
        tag: Tag::here(),
    };
    let cpu = cpu::here();
    let random = cpu.random();
    while !findings::is_stopped() {
        plant::hang_if_due();
        act(task, random, &mut held);
        while held.is_too_much() {
            if let Some(block) = held.any(random) {
                held.free(block);
            }
        }
        if cpu.number == 0 {
            reclaim_in_background();
        }
        cpu.goes_on();
    }
    while let Some(block) = held.any(random) {
        held.free(block);
        cpu.goes_on();
    }
}

fn act(task: &Task, random: &Random, held: &mut Held) {
    let cpu = cpu::here();
    match random.below(18) {
        0..=5 => {
            cpu.doing(Doing::Alloc);
            let block = requests::take(task, &requests::of_task(random), held.tag);
            held.blocks.extend(block);
        }
        6..=9 => {
            if let Some(block) = held.any(random) {
                held.free(block);
            }
        }
        10 => {
            cpu.doing(Doing::Split);
            match held.any(random).map(OurBlock::split) {
                Some(Ok((lower, upper))) => held.blocks.extend([lower, upper]),
                Some(Err(single)) => held.blocks.push(single),
                None => {}
            }
        }
        11 => requests::bulk(task, random),
        12 => {
            cpu.doing(Doing::HandOn);
            if let Some(block) = held.any(random) {
                block.set_owner(Owner::new(OwnerKind::Test, random.below(1_000) as u32));
                shelf::put(block, held.tag);
            }
        }
        13 => {
            cpu.doing(Doing::HandOn);
            held.blocks.extend(shelf::take(held.tag));
        }
        14..=16 => pages::read(task, random, 8),
        _ => pages::drop_one(random),
    }
    cpu.doing(Doing::Nothing);
}

/// Does the work of a background reclaimer: the task of CPU 0 tests whether one is wanted.
fn reclaim_in_background() {
    while let Some(node) = switches::take_reclaim() {
        let wanted = frames().reclaim_wanted(node).min(512);
        pages::shrink(node, ZoneKind::Movable, wanted as usize);
    }
}
