//! The interactive use of the kernel: a prompt on the serial console.

mod command;
mod dimms;
mod editor;
mod help;
mod history;
mod input;
mod memory;

use crate::arch::context::Task;
use crate::console;
use crate::mm::{
    self,
    oracle::{self, Recount},
};
use crate::show::Table;
use crate::thread::{self, Placement, Priority};
use crate::{hotplug, tests, warn};
use command::Command;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use editor::Editor;
use help::Help;
use input::Ended;
use memory::{Belongings, say};

/// The text before the cursor. The host waits for it when it feeds lines from a pipe.
pub use tidemark_wire::SHELL_PROMPT as PROMPT;

/// The result of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The allocator's records were consistent.
    Sound,
    /// They were not, or could not be checked; the console has reported it.
    Unsound,
}

static SOUND: AtomicBool = AtomicBool::new(false);

/// Runs the shell in a thread of its own until the user leaves it.
pub fn run(task: &Task) -> Verdict {
    input::init();
    let spawned = thread::spawn("shell", Placement::Any, Priority::Normal, session, 0);
    match spawned {
        // The join cannot fail: the shell's thread is not the caller itself.
        Ok(shell) => {
            let _ = thread::join(task, shell);
        }
        Err(error) => warn!("shell: no thread: {error:?}"),
    }
    // `join` orders this load after the thread's store.
    if SOUND.load(Relaxed) {
        Verdict::Sound
    } else {
        Verdict::Unsound
    }
}

fn session(task: &Task, _: usize) {
    let mut editor = Editor::new();
    let mut mine = Belongings::new();
    say(task, format_args!("help lists the commands; exit ends"));
    loop {
        let lost = input::lost();
        if lost > 0 {
            say(
                task,
                format_args!("{lost} bytes were typed too far ahead and are lost"),
            );
        }
        console::raw(task, format_args!("{PROMPT}"));
        match input::read(task, &mut editor) {
            Ended::Killed => continue,
            Ended::Input => break,
            Ended::Line => {}
        }
        match command::parse(editor.line()) {
            Ok(Command::Exit) => break,
            Ok(command) => execute(task, command, &mut mine),
            Err(bad) => say(task, format_args!("{bad}")),
        }
    }
    SOUND.store(leave(task, mine) == Verdict::Sound, Relaxed);
}

fn execute(task: &Task, command: Command<'_>, mine: &mut Belongings) {
    match command {
        Command::Nothing | Command::Exit => {}
        Command::Help(None) => {
            for Help { usage, does, .. } in help::COMMANDS {
                say(task, format_args!("  {usage:<28}  {does}"));
            }
            say(task, format_args!("help COMMAND says more about one"));
        }
        Command::Help(Some(help)) => {
            say(task, format_args!("{}: {}", help.usage, help.does));
            say(task, format_args!("{}", help.more));
            say(task, format_args!("example: {}", help.example));
        }
        Command::Show(topic) => console::raw(task, format_args!("{}", Table(topic))),
        Command::Offline(section) => mine.offline(section, task),
        Command::Online(section) => mine.online(section, task),
        Command::Pull(dimm) => pull(task, dimm, mine),
        Command::Plug(dimm) => dimms::plug(task, dimm),
        Command::Alloc { order, gfp, node } => mine.alloc(order, gfp, node, task),
        Command::Allocated => mine.list(task),
        Command::Free(handle) => mine.free(handle, task),
        Command::Read(pages) => memory::read_pages(pages, task),
        Command::Drop => memory::drop_pages(task),
        Command::Test(pattern) => test(task, pattern),
    }
}

fn pull(task: &Task, dimm: u8, mine: &Belongings) {
    let range = hotplug::view(usize::from(dimm)).range;
    match range.and_then(|range| mine.offline_in(range)) {
        Some(section) => say(
            task,
            format_args!(
                "section {0} of dimm{dimm} is offline: online {0} brings it back first",
                section.0
            ),
        ),
        None => dimms::pull(task, dimm),
    }
}

fn test(task: &Task, pattern: &str) {
    let summary = tests::run(task, pattern);
    // Some tests make the host type.
    input::discard();
    let ran = summary.ok + summary.not_ok + summary.skipped;
    if ran == 0 {
        return say(task, format_args!("no test's name contains \"{pattern}\""));
    }
    say(
        task,
        format_args!(
            "{} passed, {} failed, {} skipped",
            summary.ok, summary.not_ok, summary.skipped
        ),
    );
}

/// Frees what the user holds, and checks the allocator's records with the whole machine at rest.
fn leave(task: &Task, mut mine: Belongings) -> Verdict {
    let handles = mine.free_all();
    if handles > 0 {
        say(
            task,
            format_args!(
                "freed what {handles} handle{} stood for",
                if handles == 1 { "" } else { "s" }
            ),
        );
    }
    mm::frames().drain_all(task);
    match oracle::recount(task) {
        Ok(Recount { census, .. }) => {
            say(
                task,
                format_args!(
                    "validate: ok, {} pages managed, {} free, {} allocated",
                    census.managed, census.free, census.allocated
                ),
            );
            return Verdict::Sound;
        }
        Err(unsound) => say(task, format_args!("validate: {unsound}")),
    }
    Verdict::Unsound
}
