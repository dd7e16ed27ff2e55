//! What the tests before left behind: nothing.

use super::support::{ensure, tests};
use crate::{
    arch::context::Task,
    mm,
    selftest::{Group, Outcome, Report},
};
use tidemark_frames::{FrameState, OwnerKind, Pfn};

/// The group; the last to run.
pub const GROUP: Group = Group {
    name: "leftovers",
    tests: tests![no_frame_is_a_tests],
};

fn no_frame_is_a_tests(_: &Task, report: &mut Report) -> Outcome {
    let mut allocated = 0_u64;
    for zone in mm::frames().zones() {
        let mut pfn = zone.span.start;
        while pfn < zone.span.end {
            let mut step = 1;
            if let FrameState::Allocated { order, owner } = mm::frames().frame_state(pfn) {
                let left = matches!(owner.kind(), OwnerKind::Test | OwnerKind::Interrupt);
                ensure!(report, !left, "{pfn}, order {order}, is of {owner} still");
                allocated += 1;
                step = order.frames();
            }
            pfn = Pfn(pfn.0 + step);
        }
    }
    ensure!(report, allocated > 0, "no frame at all is allocated");
    Outcome::Pass
}
