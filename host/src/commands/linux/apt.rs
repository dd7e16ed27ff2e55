//! Asks Debian's archive by apt, with lists of its own, so that nothing of the machine changes and
//! no right is needed.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::packages::{Kernel, Package, parse_madison, parse_show};
use super::tools::{self, run};
use super::trouble::{Outcome, Trouble, refuse};
use crate::terminal::console::say;

/// Suites of Debian that may have other kernels, oldest first.
const SUITES: [&str; 5] = ["bullseye", "bookworm", "trixie", "forky", "sid"];
/// Keys of the archive, where Debian puts them.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The suites that are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Those of the Debian release that this machine runs.
    Own,
    /// All that the archive may have.
    All,
}

/// A line of apt's sources.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Source {
    address: String,
    suite: String,
}

/// The archive, as one set of suites sees it.
pub struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Reads the lists of the suites anew. They are kept below `folder`.
    ///
    /// # Errors
    /// This is no Debian, the archive cannot be reached, or the lists cannot be written.
    pub fn update(folder: &Path, reach: Reach) -> Outcome<Apt> {
        let codename = codename(&tools::read(Path::new("/etc/os-release"))?)?;
        say(match reach {
            Reach::Own => "asking Debian's archive what this machine's release has",
            Reach::All => "asking Debian's archive what every suite has",
        });
        let format = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)";
        let targets = run(
            tools::command("apt-get").args([
                "indextargets",
                "--format",
                format,
                "Created-By: Packages",
            ]),
            "the machine's apt sources",
        )?;
        let own = own_sources(&targets, &codename);
        if own.is_empty() {
            return refuse(format!(
                "the machine's apt sources name no archive of Debian {codename}"
            ));
        }
        let (name, sources) = match reach {
            Reach::Own => ("apt-own", own),
            Reach::All => ("apt-all", other_sources(&own, &codename)),
        };
        let apt = Apt {
            folder: folder.join(name),
        };
        tools::create(&apt.folder.join("lists/partial"))?;
        tools::create(&apt.folder.join("cache/archives/partial"))?;
        let keys = Path::new(KEYS).exists();
        let lines: Vec<String> = sources.iter().map(|one| line(one, keys)).collect();
        tools::write(&apt.folder.join("sources.list"), &lines.concat())?;
        let mut update = apt.command("apt-get");
        if reach == Reach::Own {
            update.arg("-oAPT::Update::Error-Mode=any");
        }
        match run(update.arg("update"), "Debian's archive cannot be asked") {
            // A suite that does not exist is no reason to give up the others.
            Err(_) if reach == Reach::All && !apt.kernels()?.is_empty() => {}
            other => drop(other?),
        }
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = tools::command(program);
        let place =
            |name: &str, file: &str| format!("-o{name}={}", self.folder.join(file).display());
        command
            .arg("-q")
            .arg(place("Dir::Etc::sourcelist", "sources.list"))
            .arg("-oDir::Etc::sourceparts=/dev/null")
            .arg(place("Dir::State::lists", "lists"))
            .arg(place("Dir::Cache", "cache"))
            .args([
                "-oAPT::Sandbox::User=",
                "-oAPT::Architecture=amd64",
                "-oAPT::Architectures::=amd64",
            ])
            .args(["-oAcquire::Languages=none", "-oAcquire::GzipIndexes=true"])
            .args(["-oAcquire::IndexTargets::deb::DEP-11::DefaultEnabled=false"])
            .args(["-oAcquire::Retries=2", "-oAcquire::http::Timeout=30"]);
        command
    }

    /// Lists the kernels that can be had, oldest first.
    ///
    /// # Errors
    /// apt fails.
    pub fn kernels(&self) -> Outcome<Vec<Kernel>> {
        let names = run(
            self.command("apt-cache").args(["pkgnames", "linux-image-"]),
            "the archive's kernels",
        )?;
        let names: Vec<&str> = names
            .lines()
            .filter(|name| name.ends_with("-amd64"))
            .collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let text = run(
            self.command("apt-cache").arg("madison").args(&names),
            "the archive's kernels",
        )?;
        Ok(parse_madison(&text))
    }

    /// Describes packages; those that do not exist are left out.
    ///
    /// # Errors
    /// apt fails.
    pub fn show(&self, names: &[String]) -> Outcome<Vec<Package>> {
        let mut packages = Vec::new();
        for name in names {
            // apt fails where one of several names is unknown.
            match run(self.command("apt-cache").arg("show").arg(name), name) {
                Ok(text) => packages.extend(parse_show(&text)),
                Err(Trouble::Interrupted) => return Err(Trouble::Interrupted),
                Err(_) => {}
            }
        }
        Ok(packages)
    }

    /// Fetches the archives of packages into a folder. `names` may have a suite: `libc6/sid`.
    ///
    /// # Errors
    /// One cannot be had, or the disk is full.
    pub fn download(&self, names: &[String], into: &Path) -> Outcome<()> {
        tools::create(into)?;
        let mut download = self.command("apt-get");
        download.arg("download").args(names).current_dir(into);
        run(&mut download, "the packages cannot be fetched").map(drop)
    }
}

/// Finds the code name of the machine's Debian.
fn codename(os_release: &str) -> Outcome<String> {
    let field = |name: &str| {
        let mut lines = os_release.lines();
        lines.find_map(|line| {
            Some(
                line.strip_prefix(name)?
                    .strip_prefix('=')?
                    .trim_matches('"'),
            )
        })
    };
    match (field("ID"), field("VERSION_CODENAME")) {
        (Some("debian"), Some(name)) if !name.is_empty() => Ok(name.to_owned()),
        (id, _) => refuse(format!(
            "lab linux runs Debian's kernels and needs a released Debian to fetch them; this is {}",
            id.unwrap_or("unknown")
        )),
    }
}

/// Picks the archive's main and security parts out of what `apt-get indextargets` tells.
fn own_sources(targets: &str, codename: &str) -> Vec<Source> {
    let mut sources: Vec<Source> = targets
        .lines()
        .filter_map(|line| {
            let mut columns = line.split('|');
            let (address, suite, component) = (columns.next()?, columns.next()?, columns.next()?);
            let wanted = suite == codename || suite == format!("{codename}-security");
            (wanted && component == "main").then(|| Source {
                address: address.to_owned(),
                suite: suite.to_owned(),
            })
        })
        .collect();
    sources.sort();
    sources.dedup();
    sources
}

/// Lists every suite, at the addresses of the machine's own.
fn other_sources(own: &[Source], codename: &str) -> Vec<Source> {
    let mut sources = own.to_vec();
    for suite in SUITES.iter().filter(|suite| **suite != codename) {
        for known in own {
            let is_security = known.suite != codename;
            // What is not released has no security part.
            if is_security && ["forky", "sid"].contains(suite) {
                continue;
            }
            sources.push(Source {
                address: known.address.clone(),
                suite: known.suite.replacen(codename, suite, 1),
            });
        }
    }
    sources
}

fn line(source: &Source, keys: bool) -> String {
    let keys = if keys {
        format!(" signed-by={KEYS}")
    } else {
        String::new()
    };
    format!(
        "deb [arch=amd64{keys}] {} {} main\n",
        source.address, source.suite
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: &str = "\
http://a.invalid/debian/|bookworm|main
http://a.invalid/debian/|bookworm|contrib
http://a.invalid/debian/|bookworm-updates|main
http://a.invalid/security/|bookworm-security|main
http://b.invalid/other/|stable|main
";

    #[test]
    fn the_machines_own_addresses_are_used_for_every_suite() {
        let own = own_sources(TARGETS, "bookworm");
        let lines: String = own.iter().map(|source| line(source, false)).collect();
        assert_eq!(
            lines,
            "deb [arch=amd64] http://a.invalid/debian/ bookworm main\n\
             deb [arch=amd64] http://a.invalid/security/ bookworm-security main\n"
        );
        let all = other_sources(&own, "bookworm");
        let suites: Vec<&str> = all.iter().map(|source| source.suite.as_str()).collect();
        assert_eq!(
            suites,
            [
                "bookworm",
                "bookworm-security",
                "bullseye",
                "bullseye-security",
                "trixie",
                "trixie-security",
                "forky",
                "sid"
            ]
        );
        assert!(line(&own[0], true).contains("signed-by="));
    }

    #[test]
    fn another_system_than_debian_is_refused() {
        let debian = "NAME=x\nID=debian\nVERSION_CODENAME=bookworm\n";
        assert_eq!(codename(debian).unwrap(), "bookworm");
        for other in [
            "ID=fedora\n",
            "ID=ubuntu\nVERSION_CODENAME=noble\n",
            "ID=debian\n",
            "",
        ] {
            let line = codename(other).unwrap_err().to_string();
            assert!(
                line.starts_with("lab linux runs Debian's kernels"),
                "{line}"
            );
        }
    }
}
