//! Runs the programs that fetch and build: apt, dpkg-deb, tar, make, a compiler.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::trouble::{Outcome, Trouble, refuse};
use crate::terminal::interrupt;

/// The programs, each with the package that brings it.
const NEEDED: [(&str, &str); 6] = [
    ("apt-get", "apt"),
    ("apt-cache", "apt"),
    ("dpkg-deb", "dpkg"),
    ("tar", "tar"),
    ("make", "make"),
    ("gcc", "gcc"),
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
/// It cannot be started, or it failed; the line has its own reason.
pub fn run(command: &mut Command, what: &str) -> Outcome<String> {
    let output = command
        .output()
        .map_err(|error| Trouble::Refused(format!("{what}: {error}")))?;
    if interrupt::requested() {
        return Err(Trouble::Interrupted);
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let words = String::from_utf8_lossy(&output.stderr).into_owned() + &text;
    refuse(format!("{what}: {}", reason(&words)))
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
