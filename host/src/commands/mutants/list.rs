//! The list of deliberate mistakes: the contents of an entry, and where it applies.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::text::{self, Place};

/// The folder of the lists, below the workspace's root.
pub const FOLDER: &str = "kernel/mutants";

/// The crates with sources that may be changed: folder and package.
pub const CRATES: [(&str, &str); 2] = [
    ("kernel/frames", "tidemark-frames"),
    ("kernel/sync", "tidemark-sync"),
];

/// The folders of other crates of the workspace that those need.
pub const NEEDED: [&str; 1] = ["kernel/facts"];

/// Seconds that a named test may take until it counts as having no verdict.
const DEADLINE_S: u64 = 120;
/// The deadline, in seconds, where a test that does not end reveals the mistake.
const HANG_S: u64 = 15;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    mutant: Vec<Mutant>,
}

/// One mistake.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// A unique name of lower-case words joined by `-`, which says what goes wrong.
    pub name: String,
    /// The path of the source, below the workspace's root.
    pub file: String,
    /// The text before `old`, if `old` alone is found more than once.
    after: Option<String>,
    /// The text that is replaced.
    old: String,
    /// The text that replaces it.
    new: String,
    /// The fault that the kernel would have.
    pub why: Option<String>,
    /// The tests of which at least one must fail.
    #[serde(default)]
    pub by: Tests,
    /// The reason why the kernel would have no fault, so that no test can fail.
    pub equivalent: Option<String>,
    /// The reason why no test of the host can fail although the kernel would have a fault.
    pub out_of_reach: Option<String>,
    /// Whether a test that does not end reveals this mistake.
    #[serde(default)]
    hangs: bool,
    deadline_s: Option<u64>,
}

/// One filter or several, as the file gives them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(untagged)]
pub enum Tests {
    #[default]
    None,
    One(String),
    Many(Vec<String>),
}

/// A binary of tests: that of a crate, built with or without loom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Suite {
    pub package: &'static str,
    pub loom: bool,
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with = if self.loom { " with loom" } else { "" };
        write!(f, "{}{with}", self.package)
    }
}

/// The demand of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A named test fails.
    Caught,
    /// The mistake compiles.
    Equivalent,
    /// The mistake compiles.
    OutOfReach,
}

impl Mutant {
    /// Returns what the entry demands.
    ///
    /// # Errors
    /// The entry has none or several of `by`, `equivalent` and `out_of_reach`.
    pub fn kind(&self) -> Result<Kind> {
        let has_tests = self.filters().next().is_some();
        match (has_tests, &self.equivalent, &self.out_of_reach) {
            (true, None, None) => Ok(Kind::Caught),
            (false, Some(_), None) => Ok(Kind::Equivalent),
            (false, None, Some(_)) => Ok(Kind::OutOfReach),
            _ => bail!("exactly one of by, equivalent and out_of_reach is wanted"),
        }
    }

    /// Returns the reason of an entry that names no tests.
    pub fn reason(&self) -> &str {
        let reason = self.equivalent.as_ref().or(self.out_of_reach.as_ref());
        reason.map_or("", |reason| reason.trim())
    }

    /// Returns the filters as the file gives them.
    pub fn filters(&self) -> impl Iterator<Item = &str> {
        let (one, many) = match &self.by {
            Tests::None => (None, [].as_slice()),
            Tests::One(one) => (Some(one), [].as_slice()),
            Tests::Many(many) => (None, many.as_slice()),
        };
        one.into_iter().chain(many).map(String::as_str)
    }

    /// Returns the tests: their suites, and what their names contain.
    ///
    /// # Errors
    /// The file is in no crate of [`CRATES`].
    pub fn tests(&self) -> Result<Vec<(Suite, &str)>> {
        let own = self.package()?;
        let suite = |filter| {
            let (loom, filter) = prefixed(filter, "loom:");
            let (of_frames, filter) = prefixed(filter, "frames:");
            let package = if of_frames { CRATES[0].1 } else { own };
            (Suite { package, loom }, filter)
        };
        Ok(self.filters().map(suite).collect())
    }

    /// Returns the package of the file.
    ///
    /// # Errors
    /// The file is in no crate of [`CRATES`].
    pub fn package(&self) -> Result<&'static str> {
        let is_in = |folder: &str| {
            let rest = self.file.strip_prefix(folder);
            rest.is_some_and(|rest| rest.starts_with("/src/"))
        };
        let found = CRATES.iter().find(|(folder, _)| is_in(folder));
        let (_, package) = found.with_context(|| format!("{} is in no crate here", self.file))?;
        Ok(package)
    }

    /// Returns how many seconds a run of its tests may take.
    pub fn deadline_s(&self) -> u64 {
        let usual = if self.hangs { HANG_S } else { DEADLINE_S };
        self.deadline_s.unwrap_or(usual)
    }

    /// Returns whether a test that does not end counts.
    pub fn hangs(&self) -> bool {
        self.hangs
    }

    /// Returns the source with the mistake in it.
    ///
    /// # Errors
    /// `old` or `after` is not found exactly once, or nothing changes.
    pub fn applied(&self, source: &str) -> Result<String> {
        let place = self.place(source)?;
        let mistaken = place.replace(source, &self.new);
        ensure!(
            text::squeezed(&self.old) != text::squeezed(&self.new),
            "new does not differ from old"
        );
        Ok(mistaken)
    }

    fn place(&self, source: &str) -> Result<Place> {
        let Some(after) = &self.after else {
            return match text::places(source, &self.old).as_slice() {
                [place] => Ok(*place),
                [] => bail!("old is not in {}", self.file),
                many => bail!("old is in {} {} times", self.file, many.len()),
            };
        };
        let from = match text::places(source, after).as_slice() {
            [place] => *place,
            [] => bail!("after is not in {}", self.file),
            many => bail!("after is in {} {} times", self.file, many.len()),
        };
        let mut places = text::places(source, &self.old).into_iter();
        let behind = places.find(|place| place.begins_behind(from));
        behind.with_context(|| format!("old is not behind after in {}", self.file))
    }

    /// Checks what needs no build: names, kinds, and that the entry applies.
    ///
    /// # Errors
    /// The error says what is wrong with the entry.
    pub fn check(&self, workspace: &Path) -> Result<()> {
        let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        ensure!(
            !self.name.is_empty() && self.name.chars().all(is_word),
            "a name is lower-case words joined by -"
        );
        let kind = self.kind()?;
        ensure!(
            kind == Kind::Equivalent || self.why.is_some(),
            "why is missing: what would go wrong"
        );
        self.tests()?;
        let path = workspace.join(&self.file);
        let source = fs::read_to_string(&path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        self.applied(&source)?;
        Ok(())
    }
}

/// Returns whether a filter begins with the prefix, and the rest of the filter.
fn prefixed<'a>(filter: &'a str, prefix: &str) -> (bool, &'a str) {
    match filter.strip_prefix(prefix) {
        Some(rest) => (true, rest),
        None => (false, filter),
    }
}

/// Reads the lists of a workspace, in the order of their files' names.
///
/// # Errors
/// A file cannot be read or is no list, or two entries have one name.
pub fn read(workspace: &Path) -> Result<Vec<Mutant>> {
    let folder = workspace.join(FOLDER);
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            paths.push(path);
        }
    }
    paths.sort();
    let mut list = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let file: File = toml::from_str(&text).with_context(|| path.display().to_string())?;
        list.extend(file.mutant);
    }
    let mut names = BTreeSet::new();
    for mutant in &list {
        ensure!(
            names.insert(&mutant.name),
            "two mutants are called {}",
            mutant.name
        );
    }
    Ok(list)
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
