//! A copy of the two crates in which the mistakes are made, with what they need, and the builds of
//! cargo there.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::list::{CRATES, NEEDED, Suite};
use crate::guest::build;
use crate::terminal::interrupt;

/// Most preemptions that models explore.
const PREEMPTIONS: &str = "3";
/// Options for a build without DWARF, which would take half of the build's time.
const FASTER: [&str; 2] = ["--config", "profile.dev.debug=0"];
/// Options for a build without optimisation. The allocator is built anew for each mistake, and few
/// of its tests run, so optimising it costs more than it saves. The models, however, take millions
/// of steps.
const UNOPTIMISED: [&str; 2] = [
    "--config",
    "profile.dev.package.tidemark-frames.opt-level=0",
];
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The copy. It is a workspace of its own, with target directories of its own.
pub struct Tree {
    root: PathBuf,
    /// The lock file, locked for as long as the copy is in use.
    _lock: File,
}

/// The end of a run of tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ran {
    Passed,
    /// A test failed, or the process died. The text names the first test that failed, if it is
    /// known.
    Failed(String),
    /// The run was ended at its deadline.
    TooLong,
}

impl Tree {
    /// Brings the copy up to date. Files that have not changed are not written, so that they are
    /// not built again.
    ///
    /// # Errors
    /// A file cannot be read or written, the workspace's manifest is malformed, or another run has
    /// the copy.
    pub fn new(name: &str) -> Result<Self> {
        let workspace = build::workspace();
        let root = workspace.join("target/mutants").join(name);
        fs::create_dir_all(&root)?;
        let lock = File::create(root.join("lock"))?;
        if lock.try_lock().is_err() {
            bail!("another run is at work in {}", root.display());
        }
        for folder in folders() {
            copy(&workspace.join(folder), &root.join(folder))?;
        }
        let manifest = fs::read_to_string(workspace.join("Cargo.toml"))?;
        let mut manifest: toml::Table = manifest.parse()?;
        let members: Vec<_> = folders().map(toml::Value::from).collect();
        manifest
            .get_mut("workspace")
            .and_then(toml::Value::as_table_mut)
            .context("Cargo.toml has no workspace")?
            .insert("members".to_owned(), members.into());
        write(
            &root.join("Cargo.toml"),
            toml::to_string(&manifest)?.as_bytes(),
        )?;
        // Cargo removes the entries that the two crates do not need, so the file is copied once.
        if !root.join("Cargo.lock").exists() {
            fs::copy(workspace.join("Cargo.lock"), root.join("Cargo.lock"))?;
        }
        Ok(Tree { root, _lock: lock })
    }

    /// Returns the text of a source.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn source(&self, file: &str) -> Result<String> {
        fs::read_to_string(self.root.join(file)).with_context(|| file.to_owned())
    }

    /// Writes a source again, so that cargo sees a change.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        fs::write(self.root.join(file), text).with_context(|| file.to_owned())
    }

    /// Builds a suite. Returns its binary, or the compiler's error.
    ///
    /// # Errors
    /// Cargo cannot be run.
    pub fn build(&self, suite: Suite) -> Result<Result<PathBuf, String>> {
        let mut command = build::cargo();
        command
            .current_dir(&self.root)
            .args(["test", "--no-run", "--lib", "--quiet", "-p", suite.package])
            .args(FASTER)
            .args(["--message-format", "json"])
            .args(["--target-dir", if suite.loom { "loom" } else { "host" }])
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        if suite.loom {
            command.env("RUSTFLAGS", "--cfg loom");
        } else {
            command.args(UNOPTIMISED);
        }
        let output = command.output().context("cargo could not be run")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let messages: Vec<Value> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        if !output.status.success() {
            let error = messages.iter().find_map(error_of);
            let said = || String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Ok(Err(error.unwrap_or_else(said)));
        }
        let binary = messages.iter().rev().find_map(|m| m["executable"].as_str());
        match binary {
            Some(path) => Ok(Ok(path.into())),
            None => bail!("cargo names no binary of {suite}"),
        }
    }

    /// Returns the names of a binary's tests.
    ///
    /// # Errors
    /// The binary cannot be run.
    pub fn names(&self, binary: &Path) -> Result<Vec<String>> {
        let output = Command::new(binary).arg("--list").output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let name = |line: &str| Some(line.strip_suffix(": test")?.to_owned());
        Ok(text.lines().filter_map(name).collect())
    }

    /// Runs the tests whose names contain one of the filters.
    ///
    /// # Errors
    /// The binary cannot be run.
    pub fn run(&self, binary: &Path, filters: &[&str], deadline: Duration) -> Result<Ran> {
        // The output goes to a file, because a pipe that no thread empties would stop the tests.
        let mut written = tempfile::NamedTempFile::new()?;
        let mut child = Command::new(binary)
            .args(filters)
            .current_dir(&self.root)
            .env("LOOM_MAX_PREEMPTIONS", PREEMPTIONS)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(written.reopen()?)
            .stderr(Stdio::null())
            .spawn()
            .context("a binary of tests could not be run")?;
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if started.elapsed() > deadline || interrupt::requested() {
                child.kill()?;
                child.wait()?;
                return Ok(Ran::TooLong);
            }
            std::thread::sleep(LOOK_AGAIN);
        };
        if status.success() {
            return Ok(Ran::Passed);
        }
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut written, &mut text)?;
        let text = String::from_utf8_lossy(&text);
        let failed = |line: &str| {
            let name = line.strip_prefix("test ")?;
            let (name, end) = name.split_once(" ... ").or(name.split_once(" - should"))?;
            end.contains("FAILED").then(|| name.to_owned())
        };
        let died = || format!("the tests' process died: {status}");
        Ok(Ran::Failed(
            text.lines().find_map(failed).unwrap_or_else(died),
        ))
    }
}

/// Returns the compiler's first error, in one line with its place.
fn error_of(message: &Value) -> Option<String> {
    let message = &message["message"];
    if message["level"] != "error" {
        return None;
    }
    let place = &message["spans"][0];
    Some(format!(
        "{} at {}:{}",
        message["message"].as_str()?,
        place["file_name"].as_str().unwrap_or("?"),
        place["line_start"]
    ))
}

/// The folders that are copied.
fn folders() -> impl Iterator<Item = &'static str> {
    CRATES.into_iter().map(|(folder, _)| folder).chain(NEEDED)
}

/// Makes the folder `to` equal to the folder `from`.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let mut there = BTreeSet::new();
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        there.insert(entry.file_name());
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            write(&target, &fs::read(entry.path())?)?;
        }
    }
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if !there.contains(&entry.file_name()) {
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

/// Writes a file unless it has this content already.
fn write(path: &Path, text: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(path, text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The copy builds by itself: a crate of the workspace that a copied one needs is copied, too.
    #[test]
    fn every_crate_that_the_copy_needs_is_in_it() {
        let workspace = build::workspace();
        let manifest = |folder: &str| -> toml::Table {
            let text = fs::read_to_string(workspace.join(folder).join("Cargo.toml")).unwrap();
            text.parse().unwrap()
        };
        let copied: BTreeSet<String> = folders()
            .map(|folder| {
                manifest(folder)["package"]["name"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        for folder in folders() {
            for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
                let manifest = manifest(folder);
                let needs = manifest.get(table).and_then(toml::Value::as_table);
                let ours = needs.into_iter().flat_map(toml::Table::keys);
                for name in ours.filter(|name| name.starts_with("tidemark")) {
                    assert!(copied.contains(name), "{folder} needs {name}");
                }
            }
        }
    }
}
