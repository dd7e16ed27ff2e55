//! Runs the programs that fetch and build: apt, dpkg-deb, tar, make, a compiler.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};

use super::trouble::{Outcome, Trouble, refuse};
use crate::guest::build::workspace;
use crate::terminal::console::say;
use crate::terminal::interrupt;

/// The programs, each with the package that brings it.
const NEEDED: [(&str, &str); 8] = [
    ("apt-get", "apt"),
    ("apt-cache", "apt"),
    ("dpkg-deb", "dpkg"),
    ("tar", "tar"),
    ("xz", "xz-utils"),
    ("make", "make"),
    ("gcc", "gcc"),
    ("strip", "binutils"),
];

/// Checks that every program is there.
///
/// # Errors
/// One is missing; the line says how to get it.
pub fn require() -> Outcome<()> {
    for (program, package) in NEEDED {
        if find(program).is_none() {
            return refuse(match program {
                "apt-get" | "apt-cache" | "dpkg-deb" => format!(
                    "{program} is missing: lab linux fetches Debian's kernels, and needs Debian"
                ),
                _ => format!("{program} is missing: apt-get install {package}"),
            });
        }
    }
    Ok(())
}

/// Returns whether a program is on the path.
pub fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// A command that speaks English and reads nothing.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C").stdin(Stdio::null());
    command
}

/// Runs a command and returns what it wrote.
///
/// # Errors
/// It cannot be started, or it failed; the line has its own reason. The user ended the run; the
/// command is ended then, with all that it started.
pub fn run(command: &mut Command, what: &str) -> Outcome<String> {
    let output = finish(command, what)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let words = String::from_utf8_lossy(&output.stderr).into_owned() + &text;
    refuse(format!("{what}: {}", reason(&words)))
}

/// Waits for a command, unless the user ends the run.
fn finish(command: &mut Command, what: &str) -> Outcome<Output> {
    let fail = |error: std::io::Error| Trouble::Refused(format!("{what}: {error}"));
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own can be ended as a whole.
        .process_group(0)
        .spawn()
        .map_err(fail)?;
    let group = Pid::from_child(&child);
    let (sender, receiver) = channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let mut is_ended = false;
    loop {
        match receiver.recv_timeout(Duration::from_millis(50)) {
            Ok(_) if is_ended || interrupt::requested() => return Err(Trouble::Interrupted),
            Ok(output) => return output.map_err(fail),
            Err(RecvTimeoutError::Timeout) if interrupt::requested() && !is_ended => {
                let _ = kill_process_group(group, Signal::TERM);
                is_ended = true;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Trouble::Interrupted),
        }
    }
}

/// Finds the line that says why a program failed.
pub fn reason(words: &str) -> String {
    let lines = || {
        let lines = words.lines().map(str::trim);
        lines.filter(|line| !line.is_empty() && !line.contains("ing directory '"))
    };
    let tells = |line: &&str| {
        line.starts_with("E: ")
            || line.contains("No space left")
            || line.contains("rror: ")
            || line.contains("not found")
            || line.contains("error while loading")
    };
    // Without room nothing else matters.
    let full = lines().find(|line| line.contains("No space left"));
    let line = full
        .or_else(|| lines().find(tells))
        .or_else(|| lines().next_back());
    line.map_or("it did not say why".to_owned(), |line| {
        line.trim_start_matches("E: ").to_owned()
    })
}

/// Creates a folder with those above it.
///
/// # Errors
/// It cannot be created.
pub fn create(folder: &Path) -> Outcome<()> {
    std::fs::create_dir_all(folder).map_err(|error| Trouble::of_file("created", folder, &error))
}

/// Reads a text.
///
/// # Errors
/// It cannot be read.
pub fn read(path: &Path) -> Outcome<String> {
    std::fs::read_to_string(path).map_err(|error| Trouble::of_file("read", path, &error))
}

/// Returns the folder of our sources.
pub fn sources() -> PathBuf {
    workspace().join("host/linux")
}

/// Locks our sources for as long as what is returned lives, so that one call at a time fetches and
/// builds in this clone.
///
/// # Errors
/// The user ended the run while another call was at it.
pub fn lock() -> Outcome<File> {
    let folder = sources();
    let fail = |error: std::io::Error| Trouble::of_file("locked", &folder, &error);
    let file = File::open(&folder).map_err(fail)?;
    let mut is_told = false;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK | Errno::INTR) if interrupt::requested() => {
                return Err(Trouble::Interrupted);
            }
            Err(Errno::WOULDBLOCK) if !is_told => {
                say("waiting for another lab linux, which fetches or builds in this clone");
                is_told = true;
            }
            Err(Errno::WOULDBLOCK | Errno::INTR) => thread::sleep(Duration::from_millis(50)),
            Err(error) => return Err(fail(error.into())),
        }
    }
}

/// Checks that a file can be written, before work that takes long. Its content stays until then.
///
/// # Errors
/// It cannot be written.
pub fn prepare(path: &Path) -> Outcome<()> {
    let opened = File::options().create(true).append(true).open(path);
    let opened = opened.map(drop);
    opened.map_err(|error| Trouble::of_file("written", path, &error))
}

/// Writes a text.
///
/// # Errors
/// It cannot be written.
pub fn write(path: &Path, text: &str) -> Outcome<()> {
    std::fs::write(path, text).map_err(|error| Trouble::of_file("written", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_line_that_tells_it() {
        let apt = "Get:1 x\nW: weak\nE: Failed to fetch http://x  Could not connect\nE: Some index files failed\n";
        assert_eq!(reason(apt), "Failed to fetch http://x  Could not connect");
        let make = "make: Entering\nmain.c:3:1: error: unknown type name 'x'\nmake: *** Error 2\n";
        assert_eq!(reason(make), "main.c:3:1: error: unknown type name 'x'");
        let full = "E: Write error - write (28: No space left on device)\nE: more\n";
        assert!(reason(full).contains("No space left"), "{}", reason(full));
        let silent = "make[1]: *** [x.o] Error 1\nmake: Leaving directory '/x'\n";
        assert_eq!(reason(silent), "make[1]: *** [x.o] Error 1");
        assert_eq!(reason("\n"), "it did not say why");
    }

    #[test]
    fn a_command_that_fails_says_why() {
        let trouble = run(
            command("sh").args(["-c", "echo 'E: no' >&2; exit 3"]),
            "asking",
        )
        .unwrap_err();
        assert_eq!(trouble, Trouble::Refused("asking: no".to_owned()));
        let trouble = run(&mut command("no-such-program"), "asking").unwrap_err();
        assert!(trouble.to_string().starts_with("asking: "), "{trouble}");
    }
}
