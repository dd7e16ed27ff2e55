//! The kernels that were fetched: where they lie, what is known of them.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::packages::upstream;
use super::protocol::{self, Steps};
use super::trouble::{Outcome, Trouble};
use crate::guest::build::workspace;

/// The layout of a kernel's folder, see [`Facts`].
pub const LAYOUT: u32 = 1;

/// The folder below which everything lies.
pub fn folder() -> PathBuf {
    workspace().join("target/linux")
}

/// A kernel that is ready to be booted.
#[derive(Clone, Debug)]
pub struct Ready {
    pub folder: PathBuf,
    pub facts: Facts,
}

/// What is kept of a kernel beside its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The layout of the kernel's folder; one of another layout is fetched anew.
    pub layout: u32,
    pub release: String,
    /// The version of the package.
    pub version: String,
    pub suite: String,
    /// The titles of the changelog that tell the protocol.
    pub titles: String,
}

impl Ready {
    pub fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    pub fn initrd(&self) -> PathBuf {
        self.folder.join("initrd.gz")
    }
}

impl Facts {
    /// Returns the steps of the protocol that the kernel has.
    pub fn steps(&self) -> Steps {
        protocol::steps(upstream(&self.version), &self.titles)
    }
}

/// Returns a kernel that was fetched before.
pub fn known(release: &str) -> Option<Ready> {
    let folder = place(release);
    let facts = fs::read_to_string(folder.join("facts.json")).ok()?;
    let facts: Facts = serde_json::from_str(&facts).ok()?;
    (facts.layout == LAYOUT).then_some(Ready { folder, facts })
}

/// Returns the folder of a kernel.
pub fn place(release: &str) -> PathBuf {
    folder().join("kernels").join(release)
}

/// Removes a kernel that was fetched.
pub fn forget(release: &str) {
    let _ = fs::remove_dir_all(place(release));
    // Only where no other kernel lies in it.
    let _ = fs::remove_dir(place(""));
}

/// Returns a path as it is from the workspace's root.
pub fn shown(path: &Path) -> String {
    let path = path.strip_prefix(workspace()).unwrap_or(path);
    path.display().to_string()
}

/// Returns a size in megabytes.
pub fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// Finds a file by its name below a folder.
pub fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    find_where(folder, &|path| {
        path.file_name().is_some_and(|found| found == name) && !path.is_symlink()
    })
}

fn find_where(folder: &Path, wanted: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() && !path.is_symlink() {
            if let Some(found) = find_where(&path, wanted) {
                return Some(found);
            }
        } else if wanted(&path) {
            return Some(path);
        }
    }
    None
}

/// Hashes files, to see whether something was made of them.
pub fn stamp(files: &[PathBuf]) -> Outcome<String> {
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.file_name().hash(&mut hasher);
        let bytes = fs::read(file).map_err(|error| Trouble::of_file("read", file, &error))?;
        bytes.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}
