//! The QEMU process and its three connections. It never outlives this program.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::guest::machine::{PortFds, QEMU};

/// Checks that QEMU is installed, before anything is built for it.
///
/// # Errors
/// QEMU is not installed; the message says how to install it.
pub fn require() -> Result<()> {
    let answer = Command::new(QEMU)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match answer {
        Err(error) => Err(not_started(&error)),
        Ok(_) => Ok(()),
    }
}

fn not_started(error: &io::Error) -> anyhow::Error {
    if error.kind() == io::ErrorKind::NotFound {
        anyhow!("{QEMU} is not installed: run ./run.sh, or `apt-get install qemu-system-x86`")
    } else {
        anyhow!("{QEMU} cannot be started: {error}")
    }
}

/// A connection to the guest or to QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// COM1, which carries text.
    Console,
    /// COM2, which carries messages.
    Wire,
    /// QEMU's machine protocol.
    Qmp,
    /// The standard error of QEMU.
    Errors,
}

/// What a connection brought.
#[derive(Debug)]
pub enum Input {
    Bytes(Port, Vec<u8>),
    Closed(Port),
    /// What our own user typed; nothing at the end of the input.
    Typed(Option<Vec<u8>>),
}

/// How long QEMU may take to end once it was told to.
const END: Duration = Duration::from_secs(3);

/// A running QEMU. Dropping it kills the process and waits for it.
pub struct Qemu {
    child: Child,
    console: UnixStream,
    wire: UnixStream,
    qmp: UnixStream,
    inputs: Receiver<Input>,
    sender: Sender<Input>,
}

impl Qemu {
    /// Starts QEMU; `arguments` receives the file descriptors that QEMU inherits.
    ///
    /// # Errors
    /// QEMU is not installed (the message says how to install it) or cannot be started.
    pub fn start(arguments: impl FnOnce(PortFds) -> Vec<OsString>) -> Result<Qemu> {
        let (console, console_end) = UnixStream::pair()?;
        let (wire, wire_end) = UnixStream::pair()?;
        let (qmp, qmp_end) = UnixStream::pair()?;
        let ends: [OwnedFd; 3] = [console_end.into(), wire_end.into(), qmp_end.into()];
        let fds = ends.each_ref().map(AsRawFd::as_raw_fd);
        let mut command = Command::new(QEMU);
        command
            .args(arguments(PortFds {
                console: fds[0],
                wire: fds[1],
                qmp: fds[2],
            }))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // QEMU has a group of its own, so that Ctrl-C reaches only us, and we end QEMU in
            // order.
            .process_group(0);
        let inherit = move || {
            // If we are killed, so is QEMU. The signal is tied to the thread that starts QEMU,
            // which is the main one.
            set_parent_process_death_signal(Some(Signal::KILL))?;
            for end in &ends {
                rustix::io::fcntl_setfd(end, rustix::io::FdFlags::empty())?;
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes two kinds of system call and nothing
        // else. It allocates nothing and takes no lock.
        unsafe { command.pre_exec(inherit) };
        let mut child = command.spawn().map_err(|error| not_started(&error))?;
        // Our copies of QEMU's ends are dropped with the command, so that QEMU's death closes the
        // connections.
        drop(command);
        let (sender, inputs) = mpsc::channel();
        let errors = child.stderr.take().context("QEMU has no standard error")?;
        let qemu = Qemu {
            child,
            console,
            wire,
            qmp,
            inputs,
            sender: sender.clone(),
        };
        for (port, stream) in [
            (Port::Console, &qemu.console),
            (Port::Wire, &qemu.wire),
            (Port::Qmp, &qemu.qmp),
        ] {
            // A hung guest stops reading, and writing to it must not hang us as well.
            stream.set_write_timeout(Some(Duration::from_secs(1)))?;
            read_on_thread(port, stream.try_clone()?, sender.clone());
        }
        read_on_thread(Port::Errors, errors, sender);
        Ok(qemu)
    }

    /// Returns the next input, or `None` after `wait`.
    pub fn input(&self, wait: Duration) -> Option<Input> {
        self.inputs.recv_timeout(wait).ok()
    }

    /// Returns the channel that takes other inputs.
    pub fn sender(&self) -> Sender<Input> {
        self.sender.clone()
    }

    /// Writes to a connection. It ignores a guest that is gone or does not read, which is noticed
    /// elsewhere.
    pub fn write(&mut self, port: Port, bytes: &[u8]) {
        let stream = match port {
            Port::Console => &mut self.console,
            Port::Wire => &mut self.wire,
            Port::Qmp => &mut self.qmp,
            Port::Errors => return,
        };
        let _ = stream.write_all(bytes);
    }

    /// Kills QEMU.
    ///
    /// # Errors
    /// The process could not be waited for.
    pub fn kill(mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.child.wait()
    }

    /// Waits for the end, and kills QEMU if that takes too long.
    ///
    /// # Errors
    /// The process could not be waited for.
    pub fn end(mut self) -> io::Result<ExitStatus> {
        let deadline = Instant::now() + END;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.kill()
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // Both calls fail only if the process has been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Describes how a process ended.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no status".to_owned(),
    }
}

fn read_on_thread(port: Port, mut from: impl Read + Send + 'static, to: Sender<Input>) {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            match from.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
                Ok(n) => {
                    if to.send(Input::Bytes(port, buffer[..n].to_vec())).is_err() {
                        return;
                    }
                }
            }
        }
        let _ = to.send(Input::Closed(port));
    });
}
