//! Reads what apt tells about packages, and chooses those that a kernel needs.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::protocol::base;

/// A package that can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    pub name: String,
    pub version: String,
    /// Size of the archive, in bytes.
    pub size: u64,
    /// Names of the packages that it depends on; of alternatives, the first.
    pub depends: Vec<String>,
}

/// A kernel that can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The release, as `uname -r` tells it: `6.1.0-56-amd64`.
    pub release: String,
    /// The version of its package: `6.1.192-2`.
    pub version: String,
    /// The suites that have it: `bookworm-security`.
    pub suites: Vec<String>,
}

/// Returns the upstream part of a package's version.
pub fn upstream(version: &str) -> &str {
    let end = version.find(['-', '+', '~']).unwrap_or(version.len());
    &version[..end]
}

/// Reads the output of `apt-cache show`. Of several versions of a package the first counts, which
/// is the newest.
pub fn parse_show(text: &str) -> Vec<Package> {
    let mut packages: Vec<Package> = Vec::new();
    for stanza in text.split("\n\n") {
        let field = |name: &str| {
            let mut lines = stanza.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let (Some(name), Some(version)) = (field("Package"), field("Version")) else {
            continue;
        };
        if packages.iter().any(|known| known.name == name) {
            continue;
        }
        let depends = [field("Pre-Depends"), field("Depends")];
        packages.push(Package {
            name: name.to_owned(),
            version: version.to_owned(),
            size: field("Size")
                .and_then(|size| size.parse().ok())
                .unwrap_or(0),
            depends: depends.into_iter().flatten().flat_map(names).collect(),
        });
    }
    packages
}

/// Lists the names of a field such as `a (>= 1), b | c`.
fn names(field: &str) -> impl Iterator<Item = String> {
    field
        .split(',')
        .filter_map(|one| one.split_whitespace().next())
        .map(str::to_owned)
}

/// Reads the output of `apt-cache madison` for packages of kernels. Oldest first.
pub fn parse_madison(text: &str) -> Vec<Kernel> {
    let mut found: BTreeMap<String, Kernel> = BTreeMap::new();
    for line in text.lines() {
        let mut columns = line.split('|').map(str::trim);
        let (Some(name), Some(version), Some(source)) =
            (columns.next(), columns.next(), columns.next())
        else {
            continue;
        };
        let Some(release) = name.strip_prefix("linux-image-") else {
            continue;
        };
        // The source is an address, the suite with its component, an architecture and a kind.
        let mut words = source.split_whitespace();
        let suite = words.nth(1).and_then(|suite| suite.split('/').next());
        if !is_generic(release) || words.nth(1) != Some("Packages") {
            continue;
        }
        let kernel = found.entry(release.to_owned()).or_insert_with(|| Kernel {
            release: release.to_owned(),
            version: version.to_owned(),
            suites: Vec::new(),
        });
        let suite = suite.unwrap_or_default().to_owned();
        if !kernel.suites.contains(&suite) {
            kernel.suites.push(suite);
        }
    }
    let mut kernels: Vec<Kernel> = found.into_values().collect();
    kernels.sort_by(|a, b| {
        compare(&a.version, &b.version).then_with(|| compare(&a.release, &b.release))
    });
    kernels
}

/// Returns whether a release is a kernel for ordinary PCs: not of a cloud, not real-time, signed.
fn is_generic(release: &str) -> bool {
    let begins = release.starts_with(|sign: char| sign.is_ascii_digit());
    // A package without a patch level only points to the newest kernel of a series.
    let is_pointer = release
        .split('-')
        .next()
        .is_none_or(|number| number.matches('.').count() < 2);
    let special = ["-cloud-", "-rt-"]
        .iter()
        .any(|word| release.contains(word));
    begins && release.ends_with("-amd64") && !is_pointer && !special
}

/// Compares two versions as people read them: numbers by value, the rest by letters.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (pieces(a), pieces(b));
    a.cmp(&b)
}

fn pieces(version: &str) -> Vec<(u64, String)> {
    let mut pieces = Vec::new();
    let mut rest = version;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let end = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        pieces.push((number.parse().unwrap_or(0), after[..end].to_owned()));
        rest = &after[end..];
    }
    pieces
}

/// Chooses the newest kernel of each series, such as 6.1. Oldest first. A suite may have several
/// series: the newest of a suite alone would leave its ordinary kernel out.
pub fn newest_of_each_series(kernels: &[Kernel]) -> Vec<Kernel> {
    let mut newest: BTreeMap<(u64, u64), &Kernel> = BTreeMap::new();
    for kernel in kernels {
        newest.insert(base(upstream(&kernel.version)), kernel);
    }
    newest.into_values().cloned().collect()
}

/// Returns whether a package, on which the kernel's own depend, is needed as well.
pub fn is_part(name: &str, release: &str) -> bool {
    let of_kernel = ["linux-base-", "linux-binary-"]
        .iter()
        .any(|begin| name.strip_prefix(begin) == Some(release));
    of_kernel
        || name.starts_with("linux-kbuild-")
        || (name.starts_with("linux-headers-") && name.ends_with("-common"))
}

#[cfg(test)]
#[path = "packages_tests.rs"]
mod tests;
