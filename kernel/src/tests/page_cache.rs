//! The page cache: what its frames hold survives reclaim and migration, and corruption is seen.

use super::support::{SOON_NS, ensure, everywhere::Team, frames::quiet, tests, want};
use crate::{
    arch::context::Task,
    mm::{self, page_cache},
    selftest::{Group, Outcome, Report},
};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use tidemark_frames::{Owner, OwnerKind, Platform, ZoneKind};

/// The group.
pub const GROUP: Group = Group {
    name: "page_cache",
    tests: tests![
        pages_are_right_after_reclaim,
        pages_are_right_after_migration,
        pages_are_right_while_all_cpus_read_and_reclaim_runs,
        a_flipped_bit_is_seen,
    ],
};

/// Pages that the tests work on.
fn pages() -> u32 {
    page_cache::pages().min(1_000)
}

fn read_all(task: &Task) -> bool {
    (0..pages()).all(|page| page_cache::read(page, task).is_ok())
}

/// Frees up to `wanted` pages on every node, as reclaim does.
fn shrink(task: &Task, wanted: usize) -> usize {
    mm::nodes_with_lists()
        .map(|node| {
            mm::frames()
                .platform()
                .shrink(node, ZoneKind::Movable, wanted, task)
        })
        .sum()
}

fn pages_are_right_after_reclaim(task: &Task, report: &mut Report) -> Outcome {
    quiet(task);
    ensure!(report, read_all(task), "a page could not be read");
    let resident = page_cache::resident();
    ensure!(
        report,
        resident == pages() as usize,
        "{resident} pages in memory"
    );
    let freed = shrink(task, resident / 2);
    ensure!(report, freed > 0, "nothing was reclaimed");
    ensure!(
        report,
        page_cache::resident() == resident - freed,
        "{resident} - {freed} is not {}",
        page_cache::resident()
    );
    let filled = page_cache::counters().filled;
    ensure!(report, read_all(task), "a page could not be read again");
    let again = page_cache::counters().filled - filled;
    ensure!(
        report,
        again == freed as u64,
        "{freed} pages went, {again} were filled"
    );
    let verified = page_cache::verify_all(task);
    ensure!(report, verified.corrupted == 0, "{verified:?}");
    ensure!(
        report,
        verified.checked == u64::from(pages()),
        "{verified:?}"
    );
    Outcome::Pass
}

fn pages_are_right_after_migration(task: &Task, report: &mut Report) -> Outcome {
    quiet(task);
    ensure!(report, read_all(task), "a page could not be read");
    for page in 0..pages() {
        let from = want!(report, page_cache::frame_of(page), "page {page} is gone");
        let owner = Owner::new(OwnerKind::PageCache, page);
        let moved = mm::frames().platform().migrate(from, owner, task);
        ensure!(report, moved.is_ok(), "page {page}: {moved:?}");
        let to = want!(report, page_cache::frame_of(page), "page {page} is gone");
        ensure!(report, to != from, "page {page} is in {from} still");
        let right = want!(report, page_cache::check(page, task), "page {page} is gone");
        ensure!(report, right.is_ok(), "page {page}: {right:?}");
    }
    // A frame that is another page's, or nobody's, is not moved.
    let wrong = Owner::new(OwnerKind::PageCache, 0);
    let other = want!(report, page_cache::frame_of(1), "page 1 is gone");
    let moved = mm::frames().platform().migrate(other, wrong, task);
    ensure!(
        report,
        moved.is_err(),
        "page 0 was moved from the frame of page 1"
    );
    Outcome::Pass
}

static STOP: AtomicBool = AtomicBool::new(false);
static READ: AtomicU64 = AtomicU64::new(0);
/// The quarter of the file that is read now. Readers are many and quick: of a file that they read
/// all of, reclaim would find every page read since its last look.
static PART: AtomicU32 = AtomicU32::new(0);
static WRONG: AtomicU64 = AtomicU64::new(0);

fn pages_are_right_while_all_cpus_read_and_reclaim_runs(
    task: &Task,
    report: &mut Report,
) -> Outcome {
    fn reader(task: &Task, cpu: usize) {
        let mut page = cpu as u32;
        while !STOP.load(SeqCst) {
            page = page.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let quarter = pages() / 4;
            let first = PART.load(SeqCst) * quarter;
            match page_cache::read(first + (page >> 8) % quarter, task) {
                Ok(_) => READ.fetch_add(1, SeqCst),
                Err(_) => WRONG.fetch_add(1, SeqCst),
            };
        }
    }
    quiet(task);
    STOP.store(false, SeqCst);
    READ.store(0, SeqCst);
    WRONG.store(0, SeqCst);
    let team = want!(
        report,
        Team::start(task, "test-reader", reader),
        "no threads"
    );
    let mut reclaimed = 0;
    let enough = super::support::eventually(task, 5 * SOON_NS, || {
        reclaimed += shrink(task, 32);
        PART.store((PART.load(SeqCst) + 1) % 4, SeqCst);
        READ.load(SeqCst) >= 5_000 && reclaimed >= 500
    });
    STOP.store(true, SeqCst);
    ensure!(report, team.join(task, SOON_NS), "the readers did not end");
    let [read, wrong] = [&READ, &WRONG].map(|count| count.load(SeqCst));
    ensure!(report, wrong == 0, "{wrong} of {read} readings were wrong");
    ensure!(
        report,
        enough,
        "{read} readings, {reclaimed} frames reclaimed"
    );
    Outcome::Pass
}

fn a_flipped_bit_is_seen(task: &Task, report: &mut Report) -> Outcome {
    quiet(task);
    ensure!(report, read_all(task), "a page could not be read");
    let page = want!(report, page_cache::corrupt_one(task), "no page in memory");
    super::CORRUPTIONS_EXPECTED.fetch_add(1, SeqCst);
    let verified = page_cache::verify_all(task);
    ensure!(report, verified.corrupted == 1, "page {page}: {verified:?}");
    ensure!(
        report,
        page_cache::frame_of(page).is_none(),
        "page {page} was kept"
    );
    ensure!(
        report,
        page_cache::read(page, task).is_ok(),
        "page {page} cannot be read again"
    );
    Outcome::Pass
}
