//! Nobody is held: a guest that swaps to a slow disk, threads that allocate, and memory that is
//! onlined as Movable. Counts how often the hazard happens by itself.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::initrd::DRIVERS;
use super::plays;
use super::printing;
use super::ready::{self, Ready};
use super::session::{Images, Session};
use super::trouble::{Outcome, Trouble};
use crate::judge::report::seconds;
use crate::terminal::console::say;

/// Size of the disk that the guest swaps to.
const DISK: u64 = 2 << 30;
/// Operations a second of that disk.
const OPERATIONS: u32 = 300;
/// Threads that allocate GFP_KERNEL pages and look at their zone.
const THREADS: u32 = 6;
/// Processes that touch more memory than there is, and MiB of each.
const HOGS: (u32, u32) = (2, 300);
/// Direct reclaims after which memory comes online, and the seconds that they may take.
const RECLAIMS: i64 = 40;
const BEFORE: u64 = 45;

/// A file that is removed when this goes.
struct Disk(PathBuf);

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// How often memory came online, and how often at least one page was misplaced then.
    onlines: u32,
    hits: u32,
    /// Pages that were misplaced.
    misplaced: i64,
    requests: i64,
    reclaims: i64,
    /// The memory did not go offline again.
    pinned: bool,
}

/// What one onlining came to.
struct Online {
    /// Direct reclaims before it.
    reclaims: i64,
    /// Pages that were misplaced.
    misplaced: i64,
    /// The memory went offline again.
    is_gone: bool,
}

/// Runs the load for some minutes.
///
/// # Errors
/// The guest fails, or the disk's file cannot be created.
pub fn run(ready: &Ready, minutes: u32) -> Outcome<Value> {
    let disk = Disk(ready::folder().join(format!("swap-{}", std::process::id())));
    let made = fs::File::create(&disk.0).and_then(|file| file.set_len(DISK));
    made.map_err(|error| Trouble::of_file("created", &disk.0, &error))?;
    let (kernel, initrd) = (ready.kernel(), ready.initrd());
    let mut session = Session::boot(Images {
        kernel: &kernel,
        initrd: &initrd,
        disk: Some((&disk.0, OPERATIONS)),
    })?;
    printing::kernel(&ready.facts, &ready.facts.steps(), session.boot);
    say(format!(
        "  nobody is held: {THREADS} threads allocate GFP_KERNEL, {} processes touch {} MiB each of 512, \
         swap on a disk of {OPERATIONS} operations a second; {minutes} min",
        HOGS.0, HOGS.1
    ));
    plays::load(&mut session, "")?;
    let block = session.plug()?;
    begin_load(&mut session)?;
    let until = Instant::now() + Duration::from_secs(u64::from(minutes) * 60);
    let mut counts = Counts::default();
    while Instant::now() < until || counts.onlines == 0 {
        let Online {
            reclaims,
            misplaced,
            is_gone,
        } = once(&mut session, block)?;
        counts.onlines += 1;
        counts.hits += u32::from(misplaced > 0);
        counts.misplaced += misplaced;
        counts.reclaims += reclaims;
        say(format!(
            "  online {:>3}: {reclaims} direct reclaims before it, {misplaced} GFP_KERNEL pages of Movable",
            counts.onlines
        ));
        if !is_gone {
            counts.pinned = true;
            say(format!(
                "  memory block {block} does not go offline: somebody else holds a page of it that \
                 cannot move; the run ends here"
            ));
            break;
        }
    }
    plays::load_threads(&mut session, 0)?;
    counts.requests = plays::read(&mut session)?.load.requests;
    say(format!(
        "  {} of {} onlines with a misplaced page, {} pages, {} requests, {} direct reclaims",
        counts.hits, counts.onlines, counts.misplaced, counts.requests, counts.reclaims
    ));
    say(format!(
        "  a rate under emulation is of this setting, and says nothing about other machines ({} of load)",
        seconds(Duration::from_secs(u64::from(minutes) * 60))
    ));
    Ok(json!({
        "release": ready.facts.release,
        "version": ready.facts.version,
        "onlines": counts.onlines,
        "onlines_with_misplaced": counts.hits,
        "misplaced": counts.misplaced,
        "requests": counts.requests,
        "direct_reclaims": counts.reclaims,
        "pinned": counts.pinned,
    }))
}

/// Turns the swap on and starts the threads.
fn begin_load(session: &mut Session) -> Outcome<()> {
    // Which of them needs which has changed, so each is tried as often as there are drivers. What
    // the kernel has built in is no file.
    for driver in DRIVERS.iter().cycle().take(DRIVERS.len() * 3) {
        session.ask(
            &format!("[ ! -e /mod/{driver}.ko ] || insmod /mod/{driver}.ko"),
            60,
        )?;
    }
    session.run(
        "for i in $(seq 200); do [ -e /dev/vda ] && break; usleep 50000; done; mkswap /dev/vda >/dev/null && swapon /dev/vda",
        120,
    )?;
    plays::load_threads(session, THREADS)
}

/// Has the guest swap, brings the memory online, and takes it away again.
fn once(session: &mut Session, block: u64) -> Outcome<Online> {
    let (hogs, size) = HOGS;
    let begin = reclaims(session)?;
    let start = format!("for i in $(seq {hogs}); do hog {size} </dev/null >/dev/null 2>&1 & done");
    session.run(&start, 300)?;
    let deadline = Instant::now() + Duration::from_secs(BEFORE);
    let mut reclaimed = 0;
    while reclaimed < RECLAIMS && Instant::now() < deadline {
        session.run("usleep 500000", 300)?;
        reclaimed = reclaims(session)? - begin;
    }
    let known = plays::read(session)?.load.misplaced;
    plays::set_block(session, block, true, 120)?;
    session.run("usleep 500000", 300)?;
    let misplaced = plays::read(session)?.load.misplaced - known;
    // The block can go only when nobody holds a page of it that cannot move.
    session.run("killall hog; sleep 1", 300)?;
    plays::load_threads(session, 0)?;
    let is_gone = plays::set_block(session, block, false, 60)?;
    plays::load_threads(session, THREADS)?;
    Ok(Online {
        reclaims: reclaimed,
        misplaced,
        is_gone,
    })
}

/// Reads how often requests went to direct reclaim since boot.
fn reclaims(session: &mut Session) -> Outcome<i64> {
    let text = session.run("grep -E '^allocstall_' /proc/vmstat", 300)?;
    let numbers = text
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1));
    Ok(numbers
        .filter_map(|number| number.parse::<i64>().ok())
        .sum())
}
