//! Fetches a kernel: its packages, and of each what is needed.

use std::fs;
use std::path::{Path, PathBuf};

use super::apt::Apt;
use super::initrd::DRIVERS;
use super::module;
use super::packages::{Kernel, Package, is_part};
use super::protocol;
use super::ready::{Facts, LAYOUT, Ready, find, folder, megabytes, place, shown};
use super::tools::{self, command, run};
use super::trouble::{Outcome, Trouble, refuse};
use crate::terminal::console::say;

/// Room that is needed for each byte of the archives, unpacked and built.
const ROOM: u64 = 5;
/// The libraries that the tools of a newer release's headers need.
const LIBRARIES: [&str; 1] = ["libc6"];

/// Unpacks of archive `$1` into folder `$2` the files of patterns `$3`. tar fails where a pattern
/// fits no file, as most do, so what else it says decides.
const UNPACK: &str = "set -f; dpkg-deb --fsys-tarfile \"$1\" | tar -x -C \"$2\" --wildcards $3 \
    2>\"$2/tar.log\"; ! grep -v -e 'Not found in archive' -e 'Exiting with failure' \"$2/tar.log\" >&2";

/// The packages of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    pub kernel: Kernel,
    pub packages: Vec<Package>,
}

impl Needs {
    /// Bytes of the archives.
    pub fn size(&self) -> u64 {
        self.packages.iter().map(|package| package.size).sum()
    }
}

/// Finds out which packages a kernel needs.
///
/// # Errors
/// One of them cannot be had.
pub fn needs(apt: &Apt, kernel: &Kernel) -> Outcome<Needs> {
    let release = &kernel.release;
    let mut names = vec![
        format!("linux-image-{release}"),
        format!("linux-headers-{release}"),
        "busybox-static".to_owned(),
    ];
    // Newer kernels come in parts.
    names.push(format!("linux-modules-{release}"));
    let mut packages = apt.show(&names)?;
    let more: Vec<String> = packages
        .iter()
        .flat_map(|package| &package.depends)
        .filter(|name| is_part(name, release))
        .cloned()
        .collect();
    packages.extend(apt.show(&more)?);
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    packages.dedup_by(|a, b| a.name == b.name);
    for needed in &names[..3] {
        if !packages.iter().any(|package| package.name == *needed) {
            return refuse(format!("the archive has no {needed}"));
        }
    }
    Ok(Needs {
        kernel: kernel.clone(),
        packages,
    })
}

/// Says what is fetched, and whether there is room for it.
///
/// # Errors
/// The disk has too little room.
pub fn announce(needs: &[Needs]) -> Outcome<()> {
    for one in needs {
        say(format!(
            "{}: {} packages of {}, {}, into {}",
            one.kernel.release,
            one.packages.len(),
            one.kernel.suites.join(" and "),
            megabytes(one.size()),
            shown(&place(&one.kernel.release))
        ));
        for package in &one.packages {
            say(format!(
                "  {:<44} {}",
                package.name,
                megabytes(package.size)
            ));
        }
    }
    let need = ROOM * needs.iter().map(Needs::size).sum::<u64>();
    tools::create(&folder())?;
    let fail =
        |error: rustix::io::Errno| Trouble::of_file("asked for its room", &folder(), &error.into());
    let room = rustix::fs::statvfs(folder()).map_err(fail)?;
    let free = room.f_bavail * room.f_frsize;
    if free < need {
        return refuse(format!(
            "{} has room for {}, and {} are needed",
            shown(&folder()),
            megabytes(free),
            megabytes(need)
        ));
    }
    Ok(())
}

/// Fetches and unpacks a kernel, and returns it. What is there already is not fetched again.
///
/// # Errors
/// A package cannot be had or unpacked. Nothing is left behind then.
pub fn fetch(apt: &Apt, needs: &Needs) -> Outcome<Ready> {
    let release = &needs.kernel.release;
    let place = place(release);
    let part = Removed(folder().join("part"));
    let _ = fs::remove_dir_all(&part.0);
    let archives = part.0.join("archives");
    let names: Vec<String> = needs
        .packages
        .iter()
        .map(|package| format!("{}={}", package.name, package.version))
        .collect();
    say(format!("{release}: fetching the packages"));
    apt.download(&names, &archives)?;
    say(format!("{release}: unpacking them"));
    unpack(&part.0, &archives, release)?;
    if let Some(suite) = needs.kernel.suites.first() {
        libraries(apt, &part.0, suite)?;
    }
    let changelog = changelog(&part.0.join("image"));
    let Some(changelog) = changelog else {
        return refuse(format!("the packages of {release} have no changelog"));
    };
    let changelog = protocol::read_changelog(&changelog)?;
    let facts = Facts {
        layout: LAYOUT,
        release: release.clone(),
        version: needs.kernel.version.clone(),
        suite: needs.kernel.suites.join(" and "),
        titles: protocol::titles(&changelog),
    };
    let text = serde_json::to_string_pretty(&facts).unwrap_or_default();
    tools::write(&part.0.join("facts.json"), &text)?;
    for folder in ["archives", "image"] {
        let _ = fs::remove_dir_all(part.0.join(folder));
    }
    let _ = fs::remove_dir_all(&place);
    tools::create(place.parent().unwrap_or(&place))?;
    fs::rename(&part.0, &place).map_err(|error| Trouble::of_file("created", &place, &error))?;
    Ok(Ready {
        folder: place,
        facts,
    })
}

/// A folder that is removed when this goes.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Finds the kernel's changelog. Newer packages have Debian's name for it.
fn changelog(image: &Path) -> Option<PathBuf> {
    let names = ["changelog.gz", "changelog.Debian.gz"];
    names.iter().find_map(|name| find(image, name))
}

/// Unpacks what is needed of each archive.
fn unpack(part: &Path, archives: &Path, release: &str) -> Outcome<()> {
    let image = part.join("image");
    tools::create(&image)?;
    let list =
        fs::read_dir(archives).map_err(|error| Trouble::of_file("read", archives, &error))?;
    for archive in list.flatten().map(|entry| entry.path()) {
        let name = archive
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let what = format!("{name} cannot be unpacked");
        if name.starts_with("linux-headers-") || name.starts_with("linux-kbuild-") {
            let headers = part.join("headers");
            run(
                command("dpkg-deb").arg("-x").args([&archive, &headers]),
                &what,
            )?;
        } else {
            run(
                command("sh")
                    .arg("-c")
                    .arg(UNPACK)
                    .args(["sh".as_ref(), archive.as_os_str(), image.as_os_str()])
                    .arg("*vmlinuz* */linux-*/changelog*.gz */virtio*.ko* */busybox"),
                &what,
            )?;
        }
    }
    let vmlinuz = find(&image, "vmlinuz").or_else(|| find(&image, &format!("vmlinuz-{release}")));
    for (from, to) in [(vmlinuz, "vmlinuz"), (find(&image, "busybox"), "busybox")] {
        let Some(from) = from else {
            return refuse(format!("the packages of {release} have no {to}"));
        };
        let to = part.join(to);
        fs::rename(&from, &to).map_err(|error| Trouble::of_file("created", &to, &error))?;
    }
    modules(&image, &part.join("modules"))
}

/// Copies the drivers of the slow disk, uncompressed.
fn modules(image: &Path, to: &Path) -> Outcome<()> {
    tools::create(to)?;
    for name in DRIVERS {
        let plain = find(image, &format!("{name}.ko"));
        let packed = find(image, &format!("{name}.ko.xz"));
        let file = to.join(format!("{name}.ko"));
        let failed = |error| Trouble::of_file("created", &file, &error);
        if let Some(from) = plain {
            fs::copy(from, &file).map(drop).map_err(failed)?;
        } else if let Some(from) = packed {
            let output = fs::File::create(&file).map_err(failed)?;
            let mut unpack = command("xz");
            unpack.arg("-dc").arg(from).stdout(output);
            let status = unpack
                .status()
                .map_err(|error| Trouble::Refused(format!("xz: {error}")))?;
            if !status.success() {
                return refuse(format!("xz does not unpack {name}.ko.xz"));
            }
        }
    }
    Ok(())
}

/// Fetches the C library of the kernel's own release, if the tools of its headers need it.
fn libraries(apt: &Apt, part: &Path, suite: &str) -> Outcome<()> {
    let tools: Vec<PathBuf> = module::TOOLS
        .iter()
        .filter_map(|name| find(&part.join("headers"), name))
        .collect();
    if tools.iter().all(|tool| module::runs(tool)) {
        return Ok(());
    }
    let archives = part.join("archives/libraries");
    let suite = suite.trim_end_matches("-security");
    let names: Vec<String> = LIBRARIES
        .iter()
        .map(|name| format!("{name}/{suite}"))
        .collect();
    apt.download(&names, &archives)?;
    let list =
        fs::read_dir(&archives).map_err(|error| Trouble::of_file("read", &archives, &error))?;
    for archive in list.flatten().map(|entry| entry.path()) {
        let libraries = part.join("libraries");
        run(
            command("dpkg-deb").arg("-x").args([&archive, &libraries]),
            "a library cannot be unpacked",
        )?;
    }
    Ok(())
}
