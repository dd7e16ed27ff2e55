//! Plays a hazard in a running guest, and keeps what the module told.

use std::time::Instant;

use tidemark_wire::Hazard;

use super::session::Session;
use super::state::{self, State};
use super::trouble::{Outcome, Trouble, refuse};

/// Pages that come free once the request sleeps: room for memory to be onlined, and what a walk
/// from the first entry would find.
const SPARE: u32 = 15_000;
/// Seconds that a command of the module may take; the module itself gives up after 100.
const COMMAND: u64 = 150;
/// Seconds that the block may take to go offline when nothing holds it.
const OFFLINE: u64 = 60;
/// How long the block may take to go offline while the misplaced page lives, in seconds.
const PINNED: u64 = 5;

/// The folder of a memory block.
fn block_file(block: u64) -> String {
    format!("/sys/devices/system/memory/memory{block}/state")
}

/// What came of a play.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Play {
    pub hazard: Hazard,
    /// What the module told when the play was over, as it was written.
    pub text: String,
    pub state: State,
    /// How the block went offline while a misplaced page lived, and after.
    pub pinned: Option<Pinned>,
}

/// How the memory block of a misplaced page went offline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// It went offline within the time that it had.
    pub while_held: bool,
    /// Seconds that it had.
    pub seconds: u64,
    /// Milliseconds that it took once the page was free; none if it did not go then, either.
    pub after_ms: Option<u64>,
}

/// Loads the module.
///
/// # Errors
/// The module refuses the kernel.
pub fn load(session: &mut Session, parameters: &str) -> Outcome<()> {
    let answer = session.ask(&format!("insmod /zonelist_lab.ko {parameters}"), 60)?;
    if answer.code == 0 {
        return Ok(());
    }
    let words = session
        .ask("dmesg | grep 'zonelist_lab: refused' | tail -n 1", 30)?
        .text;
    match words.split_once("zonelist_lab: refused: ") {
        Some((_, why)) => refuse(format!("the module refuses this kernel: {why}")),
        None => refuse(format!("the module does not load: {}", answer.text)),
    }
}

/// Unloads the module, which gives back all that it took.
///
/// # Errors
/// It does not unload.
pub fn unload(session: &mut Session) -> Outcome<()> {
    session.run("rmmod zonelist_lab", 60).map(drop)
}

/// Plays a hazard with the memory of a block that is offline, and leaves it offline.
///
/// # Errors
/// A step of the play fails, or the guest is gone.
pub fn play(session: &mut Session, hazard: Hazard, block: u64, show_pinned: bool) -> Outcome<Play> {
    let file = block_file(block);
    let (online, offline) = (
        format!("echo online_movable > {file}"),
        format!("echo offline > {file}"),
    );
    let movable_leaves = hazard != Hazard::H10;
    if movable_leaves {
        session.run(&online, 60)?;
    }
    command(session, &format!("request {SPARE}"))?;
    let rewrite = if movable_leaves { &offline } else { &online };
    session.run(rewrite, 60)?;
    command(
        session,
        &format!("progress {}", i32::from(hazard != Hazard::H1)),
    )?;
    command(session, "go")?;
    let text = session.run("cat /proc/zonelist_lab", 30)?;
    let state = state::parse(&text).map_err(Trouble::Refused)?;
    let is_misplaced = state
        .page
        .as_ref()
        .is_some_and(|page| page.index > state.highest);
    let mut pinned = None;
    if show_pinned && is_misplaced {
        command(session, "give")?;
        let held = session.ask(
            &format!("timeout {PINNED} sh -c '{offline}'; cat {file}"),
            PINNED + 30,
        )?;
        pinned = Some(Pinned {
            while_held: held.text.ends_with("offline"),
            seconds: PINNED,
            after_ms: None,
        });
    }
    command(session, "end")?;
    let freed = Instant::now();
    let state_after = session.run(
        &format!("grep -q offline {file} || timeout {OFFLINE} sh -c '{offline}'; cat {file}"),
        OFFLINE + 60,
    )?;
    if let Some(pinned) = &mut pinned {
        let ms = u64::try_from(freed.elapsed().as_millis()).unwrap_or(u64::MAX);
        pinned.after_ms = state_after.ends_with("offline").then_some(ms);
    } else if !state_after.ends_with("offline") {
        return refuse(format!(
            "memory block {block} does not go offline after {}",
            hazard.name()
        ));
    }
    Ok(Play {
        hazard,
        text,
        state,
        pinned,
    })
}

/// Gives the module a command.
fn command(session: &mut Session, command: &str) -> Outcome<()> {
    session
        .run(&format!("echo {command} > /proc/zonelist_lab"), COMMAND)
        .map(drop)
}

/// Starts or ends the threads of the load.
///
/// # Errors
/// The module refuses.
pub fn load_threads(session: &mut Session, threads: u32) -> Outcome<()> {
    command(session, &format!("load {threads}"))
}

/// Reads the state.
///
/// # Errors
/// The guest is gone, or the state is none.
pub fn read(session: &mut Session) -> Outcome<State> {
    let text = session.run("cat /proc/zonelist_lab", 120)?;
    state::parse(&text).map_err(Trouble::Refused)
}

/// Brings the block online as Movable, or takes it offline; says whether that was done in time.
///
/// # Errors
/// The guest is gone.
pub fn set_block(session: &mut Session, block: u64, online: bool, seconds: u64) -> Outcome<bool> {
    let (file, word) = (
        block_file(block),
        if online { "online_movable" } else { "offline" },
    );
    let wanted = if online { "online" } else { "offline" };
    let line = format!("timeout {seconds} sh -c 'echo {word} > {file}'; cat {file}");
    let answer = session.ask(&line, seconds + 120)?;
    Ok(answer.text.ends_with(wanted))
}
