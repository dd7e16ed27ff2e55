//! Conducts one run: answers the guest, counts what QEMU confirms, and examines a guest that dies.
//!
//! It has no effects of its own: inputs and the time go in, actions come out. So a test can play
//! the guest and QEMU.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tidemark_wire::{Ask, Decoder, PROTOCOL_VERSION, Source, ToGuest, ToHost, exit_value};

use crate::guest::machine::Machine;
use crate::guest::qemu::{self, Input, Port};
use crate::guest::qmp::{self, Command, Message};
use crate::guest::record::{Ended, Ready, Record, TAIL_LINES};
use crate::guest::registers::parse_registers;
use crate::guest::watchdog::{Hang, Watchdog};
use crate::terminal::console::{printable, split_stamp};

/// How long a hung guest may take to answer an NMI, and a dying one to end.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// How long the other CPUs of a guest with a stuck reader may take to report where they hang.
const TELLING: Duration = Duration::from_secs(2);
/// How long QEMU may take to answer or to quit.
const QEMU_ANSWERS: Duration = Duration::from_secs(3);
/// How long a guest may take from its last message to its exit.
const DYING: Duration = Duration::from_secs(20);

/// OST source events and status codes (ACPI 6.5, section 6.3.5).
mod ost {
    pub const INSERTION: u32 = 1;
    pub const EJECTION: u32 = 3;
    pub const SUCCESS: u32 = 0;
    pub const EJECTION_IN_PROGRESS: u32 = 0x84;
}

/// An action to be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write to a connection.
    Write(Port, Vec<u8>),
    /// Pass on a whole line of the log.
    Line(String),
    /// Kill QEMU, because it does not even quit.
    Kill,
}

/// Whether a missing heartbeat is a hang.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// A missing heartbeat is a hang.
    On,
    /// A missing heartbeat is a hang, but a guest that waits for its user may be silent without
    /// limit.
    Patient,
    /// A missing heartbeat is a hang after [`LONG_PATIENCE`]. A guest of the laboratory itself
    /// finds CPUs that hang on purpose. A guest that counts instructions stops its tick meanwhile.
    Long,
    /// A missing heartbeat is no hang, because a debugger may hold the guest without limit.
    Off,
}

/// How long a guest under [`Watch::Long`] may miss any sign of life.
const LONG_PATIENCE: Duration = Duration::from_secs(40);

#[derive(Debug)]
enum State {
    Running,
    /// The guest hangs, and its CPUs report that.
    Telling {
        until: Instant,
    },
    /// QEMU was asked for the registers.
    Examining {
        until: Instant,
    },
    /// An NMI was injected into a hung guest.
    LastWords {
        until: Instant,
    },
    /// QEMU was told to quit.
    Quitting {
        until: Instant,
    },
    /// Nothing is left to do but to wait for the connections to close.
    Killed,
}

/// The purpose of a QMP command.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    Pull(u32),
    Plug(u32),
    Nmi(u32),
    Registers,
    Own,
}

/// The conductor of one run.
pub struct Conductor<'m> {
    machine: &'m Machine,
    watch: Watch,
    started: Instant,
    watchdog: Watchdog,
    state: State,
    decoder: Decoder,
    qmp_bytes: Vec<u8>,
    console_bytes: Vec<u8>,
    errors: Vec<u8>,
    pending: HashMap<u64, Purpose>,
    next_id: u64,
    open_ports: u8,
    /// The end of the run, once it is decided.
    decided: Option<Ended>,
    record: Record,
    actions: Vec<Action>,
}

impl<'m> Conductor<'m> {
    /// Returns a conductor of a guest that starts now.
    pub fn new(machine: &'m Machine, watch: Watch, now: Instant) -> Self {
        let mut conductor = Conductor {
            machine,
            watch,
            started: now,
            watchdog: Watchdog::new(now),
            state: State::Running,
            decoder: Decoder::new(),
            qmp_bytes: Vec::new(),
            console_bytes: Vec::new(),
            errors: Vec::new(),
            pending: HashMap::new(),
            next_id: 0,
            open_ports: 4,
            decided: None,
            record: Record::new(),
            actions: Vec::new(),
        };
        conductor.command(Command::Capabilities, Purpose::Own);
        conductor
    }

    /// Returns the actions to be taken now.
    pub fn actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Returns whether every connection is closed, which means that QEMU is ending.
    pub fn is_over(&self) -> bool {
        self.open_ports == 0
    }

    /// Takes what a connection brought.
    pub fn input(&mut self, now: Instant, input: Input) {
        match input {
            Input::Bytes(Port::Console, bytes) => self.console(now, &bytes),
            Input::Bytes(Port::Wire, bytes) => {
                for byte in bytes {
                    match self.decoder.push(byte) {
                        Some(Ok(message)) => self.message(now, message),
                        Some(Err(_)) => self.record.damaged_messages += 1,
                        None => {}
                    }
                }
            }
            Input::Bytes(Port::Qmp, bytes) => {
                for byte in bytes {
                    if byte != b'\n' {
                        self.qmp_bytes.push(byte);
                        continue;
                    }
                    let line = std::mem::take(&mut self.qmp_bytes);
                    if let Ok(message) = qmp::parse(&String::from_utf8_lossy(&line)) {
                        self.qemu(now, message);
                    }
                }
            }
            Input::Bytes(Port::Errors, bytes) => self.errors.extend(bytes),
            Input::Typed(_) => {}
            Input::Closed(port) => {
                self.open_ports -= 1;
                if port == Port::Console && !self.console_bytes.is_empty() {
                    self.console(now, b"\n");
                }
            }
        }
    }

    /// Lets time pass while no input is waiting.
    pub fn tick(&mut self, now: Instant) {
        match self.state {
            State::Running => {
                if self.watch == Watch::Patient && self.record.ready.is_some() {
                    self.watchdog.progress(now);
                }
                if self.watch != Watch::Off
                    && let Some(hang) = self.watchdog.check(now)
                    && (self.watch != Watch::Long || hang.waited() > LONG_PATIENCE)
                {
                    self.examine(now, Ended::Hung(hang));
                }
            }
            State::Telling { until } if now >= until => {
                if let Some(ended) = self.decided.take() {
                    self.examine(now, ended);
                }
            }
            State::Examining { until } if now >= until => self.examined(now),
            State::LastWords { until } if now >= until => self.quit(now),
            State::Quitting { until } if now >= until => {
                self.state = State::Killed;
                self.actions.push(Action::Kill);
            }
            _ => {}
        }
    }

    /// Ends the run because the user wants it.
    pub fn interrupt(&mut self, now: Instant) {
        if matches!(self.state, State::Running | State::Telling { .. }) {
            self.decided = Some(Ended::Interrupted);
            self.quit(now);
        }
    }

    /// Returns the record, once QEMU has ended with `status`.
    pub fn finish(mut self, status: std::process::ExitStatus, now: Instant) -> Record {
        let guest_exit = exit_value::ALL
            .into_iter()
            .find(|value| status.code() == Some(exit_value::qemu_status(*value)));
        self.record.host.guest_exits = u64::from(guest_exit.is_some());
        self.record.ended = match (self.decided, guest_exit) {
            (Some(ended), _) => ended,
            (None, Some(value)) => Ended::Exit(value),
            (None, None) => Ended::Qemu {
                how: qemu::describe(status),
                words: String::from_utf8_lossy(&self.errors).trim().to_owned(),
            },
        };
        self.record.wall = now - self.started;
        self.record
    }

    fn console(&mut self, now: Instant, bytes: &[u8]) {
        for &byte in bytes {
            if byte != b'\n' {
                self.console_bytes.push(byte);
                continue;
            }
            let raw = std::mem::take(&mut self.console_bytes);
            let line = printable(&String::from_utf8_lossy(&raw));
            self.watchdog.progress(now);
            if self.record.tail.len() == TAIL_LINES {
                self.record.tail.pop_front();
            }
            self.record.tail.push_back(line.clone());
            let text = split_stamp(&line).map_or(line.as_str(), |(_, text)| text);
            if let (None, Some(words)) = (&self.record.panic, text.strip_prefix("panic: ")) {
                self.record.panic = Some(words.to_owned());
            }
            self.actions.push(Action::Line(line));
        }
    }

    fn message(&mut self, now: Instant, message: ToHost) {
        match message {
            ToHost::Hello { protocol } => self.record.protocol = Some(protocol),
            ToHost::Ready {
                cpus,
                cpus_left_out,
                nodes,
            } => {
                self.record.ready = Some(Ready {
                    cpus,
                    cpus_left_out,
                    nodes,
                    after: now - self.started,
                });
            }
            ToHost::Heartbeat { silent_cpu, .. } => self.watchdog.heartbeat(now, silent_cpu),
            ToHost::Ask { id, ask } => {
                self.watchdog.progress(now);
                self.asked(id, ask);
            }
            ToHost::Counts { source, counts } => {
                if let Some(index) = Source::ALL.iter().position(|s| *s == source) {
                    self.record.counts[index] = Some(counts);
                }
            }
            ToHost::LabStep(step) => self.record.add_lab_step(step),
            ToHost::LabResult(result) => self.record.lab = Some(result),
            ToHost::Price(row) => self.record.price.push(row),
            ToHost::Totals(totals) => self.record.totals = Some(totals),
            ToHost::Bench(result) => {
                self.watchdog.progress(now);
                self.record.bench.push(result);
            }
            ToHost::StuckReader { cpu, context, rip } => {
                // The reader cannot go on any more. What other CPUs have to report comes within
                // moments.
                if matches!(self.state, State::Running) {
                    self.decided = Some(Ended::Hung(Hang::StuckReader { cpu, context, rip }));
                    self.state = State::Telling {
                        until: now + TELLING,
                    };
                }
            }
            ToHost::Crash { cpu, rip } => {
                self.record.crash.get_or_insert((cpu, rip));
                // A dying kernel prints at length, and sends no heartbeats meanwhile.
                if matches!(self.state, State::Running) {
                    self.decided = Some(Ended::Exit(exit_value::CRASHED));
                    self.state = State::LastWords { until: now + DYING };
                }
            }
        }
    }

    fn asked(&mut self, id: u32, ask: Ask) {
        if self.record.protocol != Some(PROTOCOL_VERSION) {
            return self.tell(ToGuest::Answer {
                id,
                accepted: false,
            });
        }
        match ask {
            Ask::Pull { dimm } | Ask::Plug { dimm } if dimm >= self.machine.dimms() => {
                self.record.host.refused_by_qemu += 1;
                self.tell(ToGuest::Answer {
                    id,
                    accepted: false,
                });
            }
            Ask::Pull { dimm } => {
                self.record.host.pulls += 1;
                self.command(Command::Pull { dimm }, Purpose::Pull(id));
            }
            Ask::Plug { dimm } => {
                let node = self.machine.dimm_node(dimm);
                self.command(Command::Plug { dimm, node }, Purpose::Plug(id));
            }
            Ask::LabHeard => {
                let accepted = self.record.has_whole_lab();
                self.tell(ToGuest::Answer { id, accepted });
            }
            Ask::InjectNmi => self.command(Command::InjectNmi, Purpose::Nmi(id)),
            Ask::Type { bytes } => {
                let letters = (b'a'..=b'z').cycle().take(bytes.into()).collect();
                self.record.host.typed += u64::from(bytes);
                self.actions.push(Action::Write(Port::Console, letters));
                self.tell(ToGuest::Answer { id, accepted: true });
            }
        }
    }

    fn qemu(&mut self, now: Instant, message: Message) {
        match message {
            Message::Greeting { version } => self.record.qemu_version = Some(version),
            Message::Done { id, value } => {
                let purpose = self.pending.remove(&id);
                if let Some(Purpose::Registers) = purpose {
                    let text = value.as_str().unwrap_or_default();
                    self.record.registers = parse_registers(text);
                    self.examined(now);
                }
                self.answer(purpose, true);
            }
            Message::Failed { id, .. } => {
                let purpose = self.pending.remove(&id);
                if let Some(Purpose::Registers) = purpose {
                    self.examined(now);
                }
                self.answer(purpose, false);
            }
            Message::DeviceDeleted { dimm } => {
                self.record.host.device_deleted += 1;
                self.tell(ToGuest::DeviceDeleted { dimm });
            }
            Message::Ost {
                dimm,
                source,
                status,
            } => {
                let counts = &mut self.record.host;
                match (source, status) {
                    (ost::INSERTION, ost::SUCCESS) => counts.ost_inserted += 1,
                    (ost::EJECTION, ost::EJECTION_IN_PROGRESS) => counts.ost_ejecting += 1,
                    (ost::EJECTION, ost::SUCCESS) | (ost::INSERTION, _) => {}
                    (ost::EJECTION, _) => counts.ost_refused += 1,
                    _ => {}
                }
                self.tell(ToGuest::Ost {
                    dimm,
                    source,
                    status,
                });
            }
            Message::Shutdown { reason } => {
                // With `-no-reboot` a reset stops the machine, and the kernel never asks for one. A
                // guest that ends the machine by the exit device ends QEMU 7 with it. A newer QEMU
                // stops, as `-no-shutdown` says, keeps the value and waits to be told.
                match reason.as_str() {
                    _ if !matches!(self.state, State::Running) => {}
                    "guest-reset" => self.examine(now, Ended::Reset),
                    "guest-shutdown" => self.quit(now),
                    _ => {}
                }
            }
            Message::Other => {}
        }
    }

    fn answer(&mut self, purpose: Option<Purpose>, accepted: bool) {
        let counts = &mut self.record.host;
        let id = match purpose {
            Some(Purpose::Pull(id)) => {
                counts.refused_by_qemu += u64::from(!accepted);
                id
            }
            Some(Purpose::Plug(id)) => {
                counts.refused_by_qemu += u64::from(!accepted);
                counts.plugs += u64::from(accepted);
                id
            }
            Some(Purpose::Nmi(id)) => {
                counts.nmis += u64::from(accepted);
                id
            }
            _ => return,
        };
        self.tell(ToGuest::Answer { id, accepted });
    }

    fn examine(&mut self, now: Instant, ended: Ended) {
        self.decided = Some(ended);
        self.state = State::Examining {
            until: now + QEMU_ANSWERS,
        };
        self.command(Command::Registers, Purpose::Registers);
    }

    /// Ends the run after a hang, when the registers have come or will not come.
    fn examined(&mut self, now: Instant) {
        let has_told = matches!(self.decided, Some(Ended::Hung(Hang::StuckReader { .. })));
        if matches!(self.decided, Some(Ended::Hung(_))) && !has_told {
            self.command(Command::InjectNmi, Purpose::Own);
            self.state = State::LastWords {
                until: now + LAST_WORDS,
            };
        } else {
            self.quit(now);
        }
    }

    fn quit(&mut self, now: Instant) {
        self.command(Command::Quit, Purpose::Own);
        self.state = State::Quitting {
            until: now + QEMU_ANSWERS,
        };
    }

    fn command(&mut self, command: Command, purpose: Purpose) {
        self.next_id += 1;
        self.pending.insert(self.next_id, purpose);
        let line = command.line(self.next_id).into_bytes();
        self.actions.push(Action::Write(Port::Qmp, line));
    }

    fn tell(&mut self, message: ToGuest) {
        let mut buffer = [0; tidemark_wire::MAX_FRAME_BYTES];
        if let Ok(frame) = tidemark_wire::encode(&message, &mut buffer) {
            self.actions.push(Action::Write(Port::Wire, frame.to_vec()));
        }
    }
}

#[cfg(test)]
#[path = "conductor_tests.rs"]
mod tests;
