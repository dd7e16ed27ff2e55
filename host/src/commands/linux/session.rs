//! A kernel of Linux under QEMU, with a shell on its serial line that the host types into.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use super::trouble::{Outcome, Trouble, refuse};
use crate::guest::machine::PortFds;
use crate::guest::qemu::{Input, Port, Qemu};
use crate::guest::qmp::{self, Command, Message};
use crate::terminal::interrupt;

/// Longest time from QEMU's start to the shell.
const BOOT: Duration = Duration::from_secs(180);
/// Longest wait between two looks at the time.
const TICK: Duration = Duration::from_millis(50);
/// The line by which the guest's first process says that it is ready.
const READY: &str = "zonelist_lab: shell ready";
/// Size of the DIMM that is plugged in, in MiB.
pub const DIMM_MIB: u32 = 128;

/// What is booted.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    pub kernel: &'a Path,
    pub initrd: &'a Path,
    /// A file for a slow disk, with its operations a second.
    pub disk: Option<(&'a Path, u32)>,
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The exit code of the shell's command.
    pub code: i32,
    pub text: String,
}

/// A running guest.
pub struct Session {
    qemu: Qemu,
    /// What the console wrote and nobody has read.
    console: String,
    qmp: String,
    /// What QEMU wrote to its standard error.
    errors: String,
    /// Everything that the console wrote.
    pub log: String,
    commands: u64,
    qmp_commands: u64,
    /// Time from QEMU's start to the shell.
    pub boot: Duration,
}

impl Session {
    /// Boots a kernel and waits for its shell.
    ///
    /// # Errors
    /// QEMU cannot be started, or the kernel does not come up.
    pub fn boot(images: Images<'_>) -> Outcome<Session> {
        let started = Instant::now();
        let qemu = Qemu::start(|fds| arguments(images, fds))
            .map_err(|error| Trouble::Refused(format!("{error:#}")))?;
        let mut session = Session {
            qemu,
            console: String::new(),
            qmp: String::new(),
            errors: String::new(),
            log: String::new(),
            commands: 0,
            qmp_commands: 0,
            boot: Duration::ZERO,
        };
        session.wait(BOOT, "its shell", |session| {
            session.console.contains(READY).then_some(())
        })?;
        session.boot = started.elapsed();
        session.qmp(Command::Capabilities)?;
        // The shell itself must survive when memory is short.
        session.run(
            "export PATH=/bin PS1= PS2=; stty -echo; echo -1000 > /proc/self/oom_score_adj",
            30,
        )?;
        Ok(session)
    }

    /// Runs a command of the shell, which must succeed, and returns what it wrote.
    ///
    /// # Errors
    /// It failed, did not end in time (in seconds), or the guest is gone.
    pub fn run(&mut self, command: &str, seconds: u64) -> Outcome<String> {
        let answer = self.ask(command, seconds)?;
        if answer.code == 0 {
            return Ok(answer.text);
        }
        let words = answer.text.lines().last().unwrap_or("without a word");
        refuse(format!(
            "in the guest, `{command}` fails with {}: {words}",
            answer.code
        ))
    }

    /// Runs a command of the shell.
    ///
    /// # Errors
    /// It did not end in time (in seconds), or the guest is gone.
    pub fn ask(&mut self, command: &str, seconds: u64) -> Outcome<Answer> {
        self.commands += 1;
        let mark = format!("@@{}@", self.commands);
        // The quotes keep the mark out of an echo of the command.
        let line = format!("{{ {command}\n}} 2>&1; echo '@''@{}@'$?@\n", self.commands);
        self.console.clear();
        self.qemu.write(Port::Console, line.as_bytes());
        self.wait(Duration::from_secs(seconds), command, |session| {
            answer(&session.console, &mark)
        })
    }

    /// Gives QEMU a command and waits until it is done.
    ///
    /// # Errors
    /// QEMU refuses it.
    pub fn qmp(&mut self, command: Command) -> Outcome<()> {
        self.qmp_commands += 1;
        let number = self.qmp_commands;
        self.qemu.write(Port::Qmp, command.line(number).as_bytes());
        let done = self.wait(Duration::from_secs(30), "QEMU's answer", |session| {
            session.take_answer(number)
        })?;
        done.or_else(|why| refuse(format!("QEMU refuses a command: {why}")))
    }

    /// Looks for QEMU's answer to a command, and drops what comes before it.
    fn take_answer(&mut self, number: u64) -> Option<Result<(), String>> {
        while let Some((line, rest)) = self.qmp.split_once('\n') {
            let message = qmp::parse(line);
            self.qmp = rest.to_owned();
            match message {
                Ok(Message::Done { id, .. }) if id == number => return Some(Ok(())),
                Ok(Message::Failed { id, why }) if id == number => return Some(Err(why)),
                _ => {}
            }
        }
        None
    }

    /// Plugs the DIMM in. Returns the number of the memory block that comes, which stays offline.
    ///
    /// # Errors
    /// It does not come.
    pub fn plug(&mut self) -> Outcome<u64> {
        self.run(
            "echo offline > /sys/devices/system/memory/auto_online_blocks",
            30,
        )?;
        let list = "ls /sys/devices/system/memory";
        let before = self.run(list, 30)?;
        self.qmp(Command::Plug { dimm: 0, node: 0 })?;
        let come = "for i in $(seq 400); do [ $(ls /sys/devices/system/memory | wc -l) -gt %N ] && break; usleep 50000; done; ";
        let come = come.replace("%N", &before.split_whitespace().count().to_string());
        let after = self.run(&format!("{come}{list}"), 60)?;
        let known: Vec<&str> = before.split_whitespace().collect();
        let new = after.split_whitespace().find(|name| !known.contains(name));
        let number = new.and_then(|name| name.strip_prefix("memory")?.parse().ok());
        number.ok_or_else(|| Trouble::Refused("the guest does not see the DIMM".to_owned()))
    }

    /// Waits until `done` finds something.
    fn wait<T>(
        &mut self,
        patience: Duration,
        what: &str,
        done: impl Fn(&mut Session) -> Option<T>,
    ) -> Outcome<T> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(found) = done(self) {
                return Ok(found);
            }
            if interrupt::requested() {
                return Err(Trouble::Interrupted);
            }
            if Instant::now() > deadline {
                return Err(Trouble::Hung(format!(
                    "the guest did not come to `{what}` within {} s; its last line: {}",
                    patience.as_secs(),
                    self.last_line()
                )));
            }
            match self.qemu.input(TICK) {
                Some(Input::Bytes(port, bytes)) => self.take(port, &bytes),
                Some(Input::Closed(Port::Console)) => return Err(self.ended()),
                _ => {}
            }
        }
    }

    fn take(&mut self, port: Port, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes).replace('\r', "");
        match port {
            Port::Console => {
                self.console.push_str(&text);
                self.log.push_str(&text);
            }
            Port::Qmp => self.qmp.push_str(&text),
            Port::Errors => self.errors.push_str(&text),
            Port::Wire => {}
        }
    }

    fn last_line(&self) -> String {
        let mut lines = self.log.lines().map(str::trim);
        let last = lines.rfind(|line| !line.is_empty());
        last.unwrap_or("none").to_owned()
    }

    /// Says why QEMU ended.
    fn ended(&mut self) -> Trouble {
        while let Some(input) = self.qemu.input(TICK) {
            if let Input::Bytes(port, bytes) = input {
                self.take(port, &bytes);
            }
        }
        let panic = self.log.lines().find(|line| line.contains("Kernel panic"));
        match panic {
            Some(line) => Trouble::Crashed(format!("the guest ended: {}", line.trim())),
            None if self.errors.is_empty() => Trouble::Crashed(format!(
                "the guest ended; its last line: {}",
                self.last_line()
            )),
            None => Trouble::Refused(format!("QEMU ended: {}", self.errors.trim())),
        }
    }
}

/// Finds the answer that ends with a mark, if it has come.
fn answer(console: &str, mark: &str) -> Option<Answer> {
    let (text, rest) = console.split_once(mark)?;
    let (code, _) = rest.split_once('@')?;
    Some(Answer {
        code: code.parse().ok()?,
        text: text.trim().to_owned(),
    })
}

fn arguments(images: Images<'_>, fds: PortFds) -> Vec<OsString> {
    let mut args: Vec<OsString> = "-no-user-config -nodefaults -display none -no-reboot \
        -name tidemark-linux -machine q35 -cpu max,la57=off -accel tcg,thread=multi -smp 2 \
        -m 512M,slots=4,maxmem=4G"
        .split_whitespace()
        .map(OsString::from)
        .collect();
    let mut pair = |name: &str, value: OsString| args.extend([name.into(), value]);
    pair("-kernel", images.kernel.into());
    pair("-initrd", images.initrd.into());
    pair(
        "-append",
        "console=ttyS0 mitigations=off nokaslr panic=-1 loglevel=4".into(),
    );
    pair(
        "-object",
        format!("memory-backend-ram,id=mem0,size={DIMM_MIB}M").into(),
    );
    for (name, fd) in [("console", fds.console), ("qmp", fds.qmp)] {
        pair("-chardev", format!("socket,id={name},fd={fd}").into());
    }
    pair("-serial", "chardev:console".into());
    pair("-mon", "chardev=qmp,mode=control".into());
    if let Some((file, operations)) = images.disk {
        let mut drive =
            OsString::from("if=none,id=swap,format=raw,cache=unsafe,throttling.iops-total=");
        drive.push(format!("{operations},file="));
        drive.push(file);
        pair("-drive", drive);
        pair("-device", "virtio-blk-pci,drive=swap".into());
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_with_its_mark() {
        let text = "{ ls\n} 2>&1; echo '@''@7@'$?@\none\ntwo\n@@7@0@\n";
        let found = answer(text, "@@7@").unwrap();
        assert_eq!((found.code, found.text.ends_with("one\ntwo")), (0, true));
        assert_eq!(answer("one\n@@7@12", "@@7@"), None);
        assert_eq!(answer("one\n@@7@1@", "@@7@").unwrap().code, 1);
    }
}
