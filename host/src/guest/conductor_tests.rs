//! Tests the conductor, by playing the guest and QEMU.

use super::*;
use crate::terminal::cli::Accel;
use crate::terminal::size::Mib;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

fn machine() -> Machine {
    Machine {
        cpus: 4,
        nodes: 2,
        memory: Mib(3072),
        accel: Accel::Tcg,
        without: Vec::new(),
    }
}

/// A guest and a QEMU under a conductor.
struct Play<'m> {
    conductor: Conductor<'m>,
    now: Instant,
    /// The commands that QEMU got: number and name.
    commands: Vec<(u64, String)>,
    /// The messages that the guest got.
    told: Vec<ToGuest>,
    lines: Vec<String>,
    typed: usize,
    killed: bool,
}

impl<'m> Play<'m> {
    fn new(machine: &'m Machine) -> Self {
        let now = Instant::now();
        let mut play = Play {
            conductor: Conductor::new(machine, Watch::On, now),
            now,
            commands: Vec::new(),
            told: Vec::new(),
            lines: Vec::new(),
            typed: 0,
            killed: false,
        };
        play.perform();
        play
    }

    /// Returns a play in which the guest has said hello.
    fn greeted(machine: &'m Machine) -> Self {
        let mut play = Play::new(machine);
        play.guest(ToHost::Hello {
            protocol: PROTOCOL_VERSION,
        });
        play
    }

    fn perform(&mut self) {
        for action in self.conductor.actions() {
            match action {
                Action::Write(Port::Qmp, bytes) => {
                    let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                    let id = value["id"].as_u64().unwrap();
                    let name = value["execute"].as_str().unwrap().to_owned();
                    self.commands.push((id, name));
                }
                Action::Write(Port::Wire, bytes) => {
                    let mut decoder = Decoder::new();
                    let messages = bytes
                        .iter()
                        .filter_map(|byte| decoder.push::<ToGuest>(*byte));
                    self.told.extend(messages.map(Result::unwrap));
                }
                Action::Write(_, bytes) => self.typed += bytes.len(),
                Action::Line(line) => self.lines.push(line),
                Action::Kill => self.killed = true,
            }
        }
    }

    fn input(&mut self, port: Port, bytes: &[u8]) {
        let input = Input::Bytes(port, bytes.to_vec());
        self.conductor.input(self.now, input);
        self.perform();
    }

    fn guest(&mut self, message: ToHost) {
        let mut buffer = [0; tidemark_wire::MAX_FRAME_BYTES];
        let frame = tidemark_wire::encode(&message, &mut buffer)
            .unwrap()
            .to_vec();
        self.input(Port::Wire, &frame);
    }

    fn ask(&mut self, id: u32, ask: Ask) {
        self.guest(ToHost::Ask { id, ask });
    }

    fn qemu(&mut self, line: &str) {
        self.input(Port::Qmp, format!("{line}\r\n").as_bytes());
    }

    /// Lets QEMU answer its last command.
    fn answers(&mut self, name: &str, answer: &str) {
        let (id, last) = self.commands.last().cloned().unwrap();
        assert_eq!(last, name);
        self.qemu(&format!(r#"{{"id": {id}, {answer}}}"#));
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.conductor.tick(self.now);
        self.perform();
    }

    fn beats(&mut self) {
        for seq in 0..20 {
            self.now += Duration::from_millis(100);
            self.guest(ToHost::Heartbeat {
                seq,
                now_ns: 0,
                silent_cpu: None,
            });
        }
    }

    /// Lets QEMU end with a status code.
    fn end(mut self, code: i32) -> Record {
        for port in [Port::Console, Port::Wire, Port::Qmp, Port::Errors] {
            assert!(!self.conductor.is_over());
            self.conductor.input(self.now, Input::Closed(port));
        }
        assert!(self.conductor.is_over());
        self.conductor
            .finish(ExitStatus::from_raw(code << 8), self.now)
    }
}

const DONE: &str = r#""return": {}"#;

#[test]
fn a_pull_is_asked_answered_and_confirmed() {
    let machine = machine();
    let mut play = Play::greeted(&machine);
    play.ask(1, Ask::Pull { dimm: 1 });
    play.answers("device_del", DONE);
    let answer = ToGuest::Answer {
        id: 1,
        accepted: true,
    };
    assert_eq!(play.told, [answer]);
    play.qemu(
        r#"{"event": "ACPI_DEVICE_OST", "data": {"info": {"device": "dimm1", "source": 3, "status": 132, "slot": "1"}}}"#,
    );
    play.qemu(r#"{"event": "DEVICE_DELETED", "data": {"device": "dimm1"}}"#);
    assert_eq!(play.told[2], ToGuest::DeviceDeleted { dimm: 1 });
    play.ask(2, Ask::Plug { dimm: 1 });
    play.answers("device_add", DONE);
    let host = play.end(0x21).host;
    assert_eq!((host.pulls, host.device_deleted, host.plugs), (1, 1, 1));
    assert_eq!((host.ost_ejecting, host.guest_exits), (1, 1));
}

#[test]
fn what_qemu_refuses_is_told_and_counted() {
    let machine = machine();
    let mut play = Play::greeted(&machine);
    play.ask(5, Ask::Pull { dimm: 0 });
    play.answers("device_del", r#""error": {"desc": "busy"}"#);
    let refused = ToGuest::Answer {
        id: 5,
        accepted: false,
    };
    assert_eq!(play.told, [refused]);
    play.ask(6, Ask::Plug { dimm: 9 });
    assert_eq!(play.told.len(), 2);
    assert_eq!(play.commands.len(), 2, "no such DIMM, no command");
    assert_eq!(play.end(0x21).host.refused_by_qemu, 2);
}

#[test]
fn bytes_are_typed_and_nmis_injected() {
    let machine = machine();
    let mut play = Play::greeted(&machine);
    play.ask(1, Ask::Type { bytes: 40 });
    assert_eq!(play.typed, 40);
    play.ask(2, Ask::InjectNmi);
    play.answers("inject-nmi", DONE);
    assert_eq!(play.told.len(), 2);
    let host = play.end(0x21).host;
    assert_eq!((host.typed, host.nmis), (40, 1));
}

#[test]
fn a_guest_of_another_protocol_gets_nothing_done() {
    let machine = machine();
    let mut play = Play::new(&machine);
    play.guest(ToHost::Hello { protocol: 999 });
    play.ask(1, Ask::Pull { dimm: 0 });
    let refused = ToGuest::Answer {
        id: 1,
        accepted: false,
    };
    assert_eq!(play.told, [refused]);
    assert_eq!(play.end(0x21).host.pulls, 0);
}

#[test]
fn lines_are_whole_and_harmless() {
    let machine = machine();
    let mut play = Play::new(&machine);
    play.input(Port::Console, b"one\r\ntw");
    play.input(Port::Console, b"o\x1b[2J\n\xff\nlast");
    assert_eq!(play.lines, ["one", "two\u{fffd}[2J", "\u{fffd}"]);
    let record = play.end(0x25);
    assert_eq!(record.tail.back().map(String::as_str), Some("last"));
    assert_eq!(record.ended, Ended::Exit(exit_value::CRASHED));
}

#[test]
fn a_hang_is_examined_poked_and_ended() {
    let machine = machine();
    let mut play = Play::greeted(&machine);
    play.beats();
    play.wait(Duration::from_secs(4));
    assert_eq!(play.commands.len(), 1);
    play.wait(Duration::from_secs(2));
    play.answers(
        "human-monitor-command",
        r#""return": "CPU#2\r\nRIP=ffffffff80001000 RFL=00000002 HLT=0\r\n""#,
    );
    assert_eq!(play.commands.last().unwrap().1, "inject-nmi");
    play.input(Port::Console, b"cpu2 was here\n");
    play.wait(Duration::from_secs(4));
    assert_eq!(play.commands.last().unwrap().1, "quit");
    let record = play.end(0);
    assert!(matches!(record.ended, Ended::Hung(_)));
    assert_eq!(record.registers[0].cpu, 2);
    assert_eq!(
        record.tail.back().map(String::as_str),
        Some("cpu2 was here")
    );
}

#[test]
fn a_guest_with_a_stuck_reader_is_heard_examined_and_ended_without_a_poke() {
    let machine = machine();
    let mut play = Play::greeted(&machine);
    play.beats();
    let (cpu, context, rip) = (1, tidemark_wire::LabContext::Nmi, 0xffff_ffff_8000_1000);
    play.guest(ToHost::StuckReader { cpu, context, rip });
    play.input(Port::Console, b"cpu0 waits, too\n");
    play.wait(Duration::from_secs(1));
    assert_eq!(play.commands.len(), 1);
    play.wait(Duration::from_secs(2));
    play.answers(
        "human-monitor-command",
        r#""return": "CPU#1\r\nRIP=ffffffff80001000 RFL=00000002 HLT=0\r\n""#,
    );
    assert_eq!(play.commands.last().unwrap().1, "quit");
    let record = play.end(0);
    assert_eq!(
        record.ended,
        Ended::Hung(Hang::StuckReader { cpu, context, rip })
    );
    assert_eq!(record.registers[0].cpu, 1);
}

#[test]
fn a_qemu_that_does_not_even_quit_is_killed() {
    let machine = machine();
    let mut play = Play::greeted(&machine);
    play.conductor.interrupt(play.now);
    play.perform();
    assert_eq!(play.commands.last().unwrap().1, "quit");
    play.wait(Duration::from_secs(2));
    assert!(!play.killed);
    play.wait(Duration::from_secs(2));
    assert!(play.killed);
}

#[test]
fn a_reset_is_a_triple_fault() {
    let machine = machine();
    let mut play = Play::greeted(&machine);
    play.qemu(r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}"#);
    play.answers(
        "human-monitor-command",
        r#""return": "CPU#1\r\nRIP=ffffffff80002000 RFL=00000002 HLT=0\r\n""#,
    );
    assert_eq!(play.commands.last().unwrap().1, "quit");
    let record = play.end(0);
    assert_eq!(record.ended, Ended::Reset);
    assert_eq!(record.registers[0].rip, 0xffff_ffff_8000_2000);
}

#[test]
fn a_qemu_that_stops_at_the_guests_exit_is_told_to_quit_and_keeps_its_value() {
    let machine = machine();
    let mut play = Play::greeted(&machine);
    play.qemu(r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}"#);
    assert_eq!(play.commands.last().unwrap().1, "quit");
    let record = play.end(exit_value::qemu_status(exit_value::PASSED));
    assert_eq!(record.ended, Ended::Exit(exit_value::PASSED));
    assert_eq!(record.host.guest_exits, 1);
}

#[test]
fn a_panic_that_never_exits_is_still_a_panic() {
    let machine = machine();
    let mut play = Play::greeted(&machine);
    play.beats();
    play.guest(ToHost::Crash { cpu: 3, rip: 1 });
    play.input(Port::Console, b"[    1.000000] cpu3: panic: at the disco\n");
    play.wait(DYING);
    assert_eq!(play.commands.last().unwrap().1, "quit");
    let record = play.end(0);
    assert_eq!(record.ended, Ended::Exit(exit_value::CRASHED));
    assert_eq!(record.crash, Some((3, 1)));
    assert_eq!(record.panic.as_deref(), Some("at the disco"));
}

#[test]
fn a_qemu_that_ends_by_itself_is_quoted() {
    let machine = machine();
    let mut play = Play::new(&machine);
    play.input(Port::Errors, b"qemu: bad option\n");
    let expected = Ended::Qemu {
        how: "status 1".to_owned(),
        words: "qemu: bad option".to_owned(),
    };
    assert_eq!(play.end(1).ended, expected);
}

#[test]
fn a_guest_that_waits_for_its_user_may_be_silent_but_not_without_a_heartbeat() {
    let machine = machine();
    for (watch, is_hang) in [(Watch::On, true), (Watch::Patient, false)] {
        let mut play = Play::greeted(&machine);
        play.conductor.watch = watch;
        play.guest(ToHost::Ready {
            cpus: 4,
            cpus_left_out: 0,
            nodes: 2,
        });
        for _ in 0..100 {
            play.beats();
            play.wait(Duration::ZERO);
        }
        let examined =
            |play: &Play<'_>| play.commands.iter().any(|(_, name)| name.contains("human"));
        assert_eq!(examined(&play), is_hang, "{watch:?}");
        play.wait(Duration::from_secs(60));
        assert!(examined(&play), "{watch:?}");
    }
}
