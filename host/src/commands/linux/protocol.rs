//! Finds out which protocol a kernel has: by its version, and by the changelog of its package.
//!
//! A release of a stable series has what its mainline release had, and what was brought to the
//! series since. The first follows from the version, the second stands in the changelog, where each
//! commit has its title.

use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use tidemark_frames::Variant;
use tidemark_wire::{Hazard, LabVerdict};

use super::trouble::{Outcome, Trouble};

/// A step of the protocol's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What a reader is told.
    pub name: &'static str,
    /// The commit in mainline.
    pub commit: &'static str,
    /// The begin of the commit's title, as changelogs have it.
    title: &'static str,
    /// The mainline release that has it first.
    since: (u64, u64),
}

/// The steps, oldest first.
pub const STEPS: [Step; 5] = [
    Step {
        name: "counter",
        commit: "3d36424b3b58",
        title: "mm/page_alloc: fix race condition between build_all_zonelists and page",
        since: (6, 0),
    },
    Step {
        name: "interrupts off",
        commit: "1007843a9190",
        title: "mm/page_alloc: fix potential deadlock on zonelist_update_seq seqlock",
        since: (6, 3),
    },
    Step {
        name: "irqsave",
        commit: "a2ebb5157582",
        title: "mm/page_alloc: use write_seqlock_irqsave() instead",
        since: (6, 6),
    },
    Step {
        name: "annotated first",
        commit: "41b43b6c6e30",
        title: "locking/seqlock: Do the lockdep annotation before locking in",
        since: (6, 6),
    },
    Step {
        name: "recheck at retry",
        commit: "e05741fb10c3",
        title: "mm/page_alloc.c: avoid infinite retries caused by cpuset race",
        since: (6, 15),
    },
];

/// The steps that a kernel has, each with how that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steps(Vec<(Step, String)>);

/// Finds the steps of a kernel. `upstream` is its version, such as `6.1.192`.
pub fn steps(upstream: &str, changelog: &str) -> Steps {
    let base = base(upstream);
    let known = STEPS.into_iter().filter_map(|step| {
        let (major, minor) = step.since;
        let how = if base >= step.since {
            format!("mainline {major}.{minor}")
        } else if names(changelog, step.title) {
            "changelog".to_owned()
        } else {
            return None;
        };
        Some((step, how))
    });
    Steps(known.collect())
}

/// Keeps of a changelog the titles that tell the protocol.
pub fn titles(changelog: &str) -> String {
    let known = STEPS.iter().filter(|step| names(changelog, step.title));
    known.map(|step| format!("{}\n", step.title)).collect()
}

/// Returns whether a line of a changelog begins with a title. One that is reverted does not.
fn names(changelog: &str, title: &str) -> bool {
    let mut lines = changelog
        .lines()
        .map(|line| line.trim_start_matches([' ', '-', '*']));
    lines.any(|line| line.starts_with(title))
}

/// Returns the mainline release that a version is based on.
pub fn base(upstream: &str) -> (u64, u64) {
    let mut numbers = upstream
        .split('.')
        .map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

impl Steps {
    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(step, _)| step.name == name)
    }

    /// Returns the variant of ours that stands for these steps, if there is one.
    pub fn variant(&self) -> Option<Variant> {
        let (irqoff, irqsave) = (self.has("interrupts off"), self.has("irqsave"));
        let (first, recheck) = (self.has("annotated first"), self.has("recheck at retry"));
        let name = match (self.has("counter"), irqoff, irqsave, first, recheck) {
            (false, ..) => "none",
            (true, false, false, _, false) => "seqlock",
            (true, true, false, _, false) => "seqlock-irqoff",
            (true, true, false, _, true) => "seqlock-irqoff-recheck",
            (true, _, true, false, false) => "seqlock-irqsave",
            (true, _, true, true, false) => "seqlock-annotated",
            (true, _, true, true, true) => "seqlock-recheck",
            _ => return None,
        };
        Variant::ALL.into_iter().find(|known| known.name() == name)
    }

    /// Returns whether a verdict is expected of a hazard, if the steps tell.
    pub fn expects(&self, hazard: Hazard, found: LabVerdict) -> Option<bool> {
        let expected = self.expected(hazard)?;
        // Without progress the recheck comes before any stale walk. Others' shrinkers may make
        // some, and then one comes before it.
        let holds_too = expected == LabVerdict::NotReached && found == LabVerdict::Holds;
        Some(expected == found || holds_too)
    }

    /// Returns what a hazard is expected to find, if the steps tell.
    pub fn expected(&self, hazard: Hazard) -> Option<LabVerdict> {
        let (counter, recheck) = (self.has("counter"), self.has("recheck at retry"));
        Some(match hazard {
            // The start is remembered whatever else is checked.
            Hazard::H10 => LabVerdict::Fails,
            Hazard::H8 if recheck => LabVerdict::Holds,
            Hazard::H8 => LabVerdict::Fails,
            // The request starts anew before any stale walk.
            Hazard::H1 if recheck => LabVerdict::NotReached,
            Hazard::H1 if counter => LabVerdict::Holds,
            Hazard::H1 => LabVerdict::Fails,
            _ => return None,
        })
    }

    /// Returns the steps as one line.
    pub fn line(&self) -> String {
        let names: Vec<String> = self
            .0
            .iter()
            .map(|(step, how)| format!("{} ({how})", step.name))
            .collect();
        if names.is_empty() {
            "no counter".to_owned()
        } else {
            names.join(", ")
        }
    }
}

/// Reads a changelog that gzip compressed.
///
/// # Errors
/// It cannot be read.
pub fn read_changelog(path: &Path) -> Outcome<String> {
    let fail = |error| Trouble::of_file("read", path, &error);
    let file = std::fs::File::open(path).map_err(fail)?;
    let mut bytes = Vec::new();
    GzDecoder::new(file).read_to_end(&mut bytes).map_err(fail)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(upstream: &str, changelog: &str) -> Option<&'static str> {
        steps(upstream, changelog).variant().map(Variant::name)
    }

    #[test]
    fn the_changelog_and_the_version_tell_the_protocol() {
        let titles: Vec<String> = STEPS
            .iter()
            .map(|step| format!("    - {}\n", step.title))
            .collect();
        assert_eq!(name("5.10.140", ""), Some("none"));
        assert_eq!(name("5.10.150", &titles[0]), Some("seqlock"));
        assert_eq!(
            name("5.10.223", &[&*titles[0], &titles[1], &titles[3]].concat()),
            Some("seqlock-irqoff")
        );
        let revert = format!("    - Revert \"{}\"\n", STEPS[0].title);
        assert_eq!(name("5.10.150", &revert), Some("none"));
        assert_eq!(name("6.1.20", ""), Some("seqlock"));
        assert_eq!(name("6.5.1", ""), Some("seqlock-irqoff"));
        assert_eq!(name("6.12.10", ""), Some("seqlock-annotated"));
        assert_eq!(name("6.12.118", &titles[4]), Some("seqlock-recheck"));
        assert_eq!(name("7.2.13", ""), Some("seqlock-recheck"));
    }

    #[test]
    fn each_step_says_how_it_is_known() {
        let steps = steps(
            "6.1.192",
            "    - mm/page_alloc: fix potential deadlock on zonelist_update_seq seqlock\n",
        );
        assert_eq!(
            steps.line(),
            "counter (mainline 6.0), interrupts off (changelog)"
        );
        assert_eq!(steps.expected(Hazard::H8), Some(LabVerdict::Fails));
        assert_eq!(steps.expected(Hazard::H2), None);
    }
}
