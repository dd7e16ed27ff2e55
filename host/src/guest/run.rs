//! Runs one guest from QEMU's start to its end.

use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::guest::build::Built;
use crate::guest::conductor::{Action, Conductor, Watch};
use crate::guest::machine::{Images, Machine, Wiring};
use crate::guest::options::Options;
use crate::guest::qemu::{Input, Port, Qemu};
use crate::guest::record::Record;
use crate::terminal::interrupt;

/// Longest wait between two looks at the time.
const TICK: Duration = Duration::from_millis(50);

/// One run.
#[derive(Clone, Debug)]
pub struct Spec {
    pub machine: Machine,
    pub options: Options,
    pub built: Built,
    /// The image that is booted instead of the kernel.
    pub kernel_image: Option<PathBuf>,
    /// Arguments for QEMU, after ours.
    pub extra: Vec<std::ffi::OsString>,
    pub watch: Watch,
}

impl Spec {
    /// Describes a run of the kernel that was built. Nothing is added to QEMU's arguments, and a
    /// missing heartbeat is a hang.
    pub fn new(machine: Machine, options: Options, built: &Built) -> Self {
        Spec {
            machine,
            options,
            built: built.clone(),
            kernel_image: None,
            extra: Vec::new(),
            watch: Watch::On,
        }
    }

    /// Returns QEMU's arguments.
    pub fn arguments(&self, wiring: Wiring) -> Vec<std::ffi::OsString> {
        let images = Images {
            loader: &self.built.loader,
            kernel: self.kernel_image.as_ref().unwrap_or(&self.built.kernel),
        };
        let mut args = self
            .machine
            .arguments(images, &self.options.command_line(), wiring);
        if self.watch == Watch::Off {
            args.extend(["-s", "-S"].map(Into::into));
        }
        args.extend(self.extra.iter().cloned());
        args
    }
}

/// Runs a guest to its end and gives each line of its log to `on_line`.
///
/// # Errors
/// QEMU cannot be started or waited for. Later faults are in the record.
pub fn run(spec: &Spec, on_line: impl FnMut(&str)) -> Result<Record> {
    run_with(spec, &mut Lines(on_line))
}

/// Runs a guest to its end and keeps its log.
///
/// # Errors
/// Fails where [`run`] does.
pub fn run_logged(spec: &Spec) -> Result<(Record, Vec<String>)> {
    let mut log = Vec::new();
    let record = run(spec, |line| log.push(line.to_owned()))?;
    Ok((record, log))
}

/// What is connected to the guest's console: a terminal, a pipe, or a reader of lines.
pub trait Front {
    /// Takes the channel by which what the user types can be sent, as [`Input::Typed`]. QEMU runs
    /// already.
    fn started(&mut self, _inputs: Sender<Input>) {}
    /// Takes what the console wrote. Returns what is to be typed.
    fn console(&mut self, _bytes: &[u8]) -> Vec<u8> {
        Vec::new()
    }
    /// Takes what the user typed, or nothing at the end of the input.
    fn typed(&mut self, _bytes: Option<Vec<u8>>) -> Typing {
        Typing::Send(Vec::new())
    }
    /// Takes a whole line of the log.
    fn line(&mut self, _line: &str) {}
}

/// The fate of what the user typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typing {
    /// The bytes go to the guest.
    Send(Vec<u8>),
    /// The user wants the run to end.
    Quit,
}

/// A front that only reads lines.
struct Lines<F>(F);

impl<F: FnMut(&str)> Front for Lines<F> {
    fn line(&mut self, line: &str) {
        (self.0)(line);
    }
}

/// Runs a guest to its end with a front connected to its console.
///
/// # Errors
/// Fails where [`run`] does.
pub fn run_with(spec: &Spec, front: &mut impl Front) -> Result<Record> {
    let started = Instant::now();
    let mut qemu = Qemu::start(|ports| spec.arguments(Wiring::Inherited(ports)))?;
    front.started(qemu.sender());
    let mut conductor = Conductor::new(&spec.machine, spec.watch, started);
    let mut ticked = started;
    loop {
        let mut killed = false;
        for action in conductor.actions() {
            match action {
                Action::Write(port, bytes) => qemu.write(port, &bytes),
                Action::Line(line) => front.line(&line),
                Action::Kill => killed = true,
            }
        }
        if killed || conductor.is_over() {
            break;
        }
        let input = qemu.input(TICK);
        let now = Instant::now();
        // A verdict about silence waits until everything that has arrived is read, but not for
        // ever.
        if input.is_none() || now - ticked > 40 * TICK {
            ticked = now;
            conductor.tick(now);
        }
        match input {
            None => {}
            Some(Input::Typed(typed)) => match front.typed(typed) {
                Typing::Send(bytes) => qemu.write(Port::Console, &bytes),
                Typing::Quit => conductor.interrupt(now),
            },
            Some(input) => {
                if let Input::Bytes(Port::Console, bytes) = &input {
                    let typed = front.console(bytes);
                    qemu.write(Port::Console, &typed);
                }
                conductor.input(now, input);
            }
        }
        if interrupt::requested() {
            conductor.interrupt(now);
        }
    }
    let status = if conductor.is_over() {
        qemu.end().context("QEMU could not be waited for")?
    } else {
        qemu.kill().context("QEMU could not be killed")?
    };
    Ok(conductor.finish(status, Instant::now()))
}
