//! `tidemark shell`: connects the user, or a pipe, to the guest's console.

pub mod endtoend;
mod script;

use std::fs::File;
use std::io::{Read, Write, stdin, stdout};
use std::sync::mpsc::Sender;
use std::thread;

use anyhow::{Context, Result};

use crate::guest::accel::usable;
use crate::guest::build;
use crate::guest::conductor::Watch;
use crate::guest::machine::Machine;
use crate::guest::options::{Mode, Options};
use crate::guest::qemu::{self, Input};
use crate::guest::record::Ended;
use crate::guest::run::{Front, Spec, Typing, run_with};
use crate::judge::report::crash_report;
use crate::judge::symbols::Symbols;
use crate::judge::verdict;
use crate::terminal::cli::ShellArgs;
use crate::terminal::console::say;
use crate::terminal::raw::Raw;
use script::Script;
use tidemark_wire::exit_value::PASSED;

/// Ctrl-], which ends the machine whatever the guest does.
const ESCAPE: u8 = 0x1d;

/// Runs a session and returns the program's exit code.
///
/// # Errors
/// A tool is missing, the kernel does not build, or the terminal or the log cannot be used.
pub fn run(args: &ShellArgs) -> Result<i32> {
    qemu::require()?;
    let log = args.log.as_ref().map(|path| {
        File::create(path).with_context(|| format!("the log {} cannot be written", path.display()))
    });
    let log = log.transpose()?;
    let spec = spec(args)?;
    say(format!("tidemark: {}", spec.machine));
    args.zonelist.alias().iter().for_each(say);
    let raw = Raw::enter().context("the terminal cannot be made raw")?;
    if raw.is_some() {
        say("tidemark: Ctrl-] ends the machine at once");
    }
    let mut session = Session {
        script: raw.is_none().then(Script::default),
        log,
        in_line: false,
    };
    let record = run_with(&spec, &mut session);
    drop(raw);
    if session.in_line {
        say("");
    }
    let record = record?;
    let symbols = Symbols::of_files(&[&spec.built.unstripped, &spec.built.loader]);
    for line in crash_report(&record, &symbols) {
        say(line);
    }
    Ok(match (verdict::of_ending(&record), &record.ended) {
        (Some(verdict), _) => {
            eprintln!("tidemark: {}", verdict.reasons.join("; "));
            verdict.outcome.exit_code()
        }
        (None, Ended::Exit(PASSED)) => 0,
        (None, _) => {
            eprintln!("tidemark: the allocator's books are wrong");
            1
        }
    })
}

fn spec(args: &ShellArgs) -> Result<Spec> {
    let machine = Machine {
        cpus: args.cpus,
        nodes: args.nodes,
        memory: args.memory,
        accel: usable(args.accel),
        without: args.without.clone(),
    };
    let options = Options {
        verbose: args.verbose,
        ..Options::new(Mode::Shell, args.zonelist.variant)
    };
    Ok(Spec {
        extra: args.extra.clone(),
        watch: Watch::Patient,
        ..Spec::new(machine, options, &build::guest()?)
    })
}

/// The terminal or the pipe that is connected to the console.
struct Session {
    /// The lines from a pipe. With a terminal there are none, because each key goes through at
    /// once.
    script: Option<Script>,
    log: Option<File>,
    /// Whether the console's last line has no end yet.
    in_line: bool,
}

impl Front for Session {
    fn started(&mut self, inputs: Sender<Input>) {
        thread::spawn(move || {
            let mut buffer = [0; 1024];
            loop {
                let typed = match stdin().lock().read(&mut buffer) {
                    Ok(0) | Err(_) => None,
                    Ok(n) => Some(buffer[..n].to_vec()),
                };
                let is_end = typed.is_none();
                if inputs.send(Input::Typed(typed)).is_err() || is_end {
                    return;
                }
            }
        });
    }

    fn console(&mut self, bytes: &[u8]) -> Vec<u8> {
        // A terminal that has gone away, or a full disk, is no reason to fail.
        let mut out = stdout().lock();
        let _ = out.write_all(bytes).and_then(|()| out.flush());
        self.in_line = bytes.last().map_or(self.in_line, |&byte| byte != b'\n');
        if let Some(log) = &mut self.log {
            let _ = log.write_all(bytes);
        }
        match &mut self.script {
            Some(script) => script.console(bytes),
            None => Vec::new(),
        }
    }

    fn typed(&mut self, bytes: Option<Vec<u8>>) -> Typing {
        match (&mut self.script, bytes) {
            (Some(script), bytes) => Typing::Send(script.typed(bytes.as_deref())),
            // The terminal is gone, so no user will type `exit`.
            (None, None) => Typing::Quit,
            (None, Some(bytes)) if bytes.contains(&ESCAPE) => Typing::Quit,
            (None, Some(bytes)) => Typing::Send(bytes),
        }
    }
}
