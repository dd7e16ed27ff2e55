//! Builds the programs of the guest with an inner cargo.
//!
//! The guest needs its own profile, flags and target directory. `dev` and `release` unwind, and a
//! host crate's features must not reach the kernel. RUSTFLAGS variables would silently replace the
//! flags that the kernel depends on.

use std::ffi::OsString;
use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The triple of both the host and the guest.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
const PROFILE: &str = "freestanding";
const FLAGS: &str = r#"target.x86_64-unknown-linux-gnu.rustflags=["-Cno-redzone=yes","-Cforce-frame-pointers=yes","-Crelocation-model=static","-Ccode-model=kernel"]"#;
/// The packages that are built, with their features.
const WHAT: &str = "--locked -p tidemark-boot -p tidemark-kernel \
    --features tidemark-boot/freestanding,tidemark-kernel/freestanding";

/// The purpose of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Any purpose but measuring: it has the schedule points, at which hooks may be set.
    Use,
    /// Measuring: the points compile to nothing.
    Bench,
}

impl Purpose {
    /// Returns the target directory. Each purpose has its own, since a common one would discard the
    /// other's build.
    fn target_dir(self) -> &'static str {
        match self {
            Purpose::Use => "target/guest",
            Purpose::Bench => "target/guest-bench",
        }
    }
}

/// The images of the guest.
#[derive(Clone, Debug)]
pub struct Built {
    /// The loader.
    pub loader: PathBuf,
    /// The kernel as QEMU gets it, with symbols but without DWARF.
    pub kernel: PathBuf,
    /// The kernel as linked, for debuggers and for the lookup of addresses.
    pub unstripped: PathBuf,
}

/// Returns the root of the workspace that this program was built from.
pub fn workspace() -> PathBuf {
    let host = Path::new(env!("CARGO_MANIFEST_DIR"));
    host.parent().unwrap_or(host).to_owned()
}

/// Returns the cargo that runs us, or the one on the path.
pub fn cargo() -> Command {
    let mut command =
        Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(workspace());
    for (name, _) in std::env::vars_os() {
        if is_of_outer_build(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    command
}

/// Returns whether a variable would change how the inner cargo builds: flags, and what `cargo run`
/// sets.
fn is_of_outer_build(name: &str) -> bool {
    name.ends_with("RUSTFLAGS")
        || name == "CARGO_TARGET_DIR"
        || name.starts_with("CARGO_BUILD_TARGET")
        || name.starts_with("CARGO_PKG_")
        || name.starts_with("CARGO_MANIFEST_")
        || name.starts_with("CARGO_PROFILE_")
}

/// Returns a cargo command over the guest's packages.
fn guest_command(verb: &str, purpose: Purpose) -> Command {
    let mut command = cargo();
    command
        .arg(verb)
        .args(WHAT.split_whitespace())
        .args(["--profile", PROFILE, "--target", TRIPLE, "--config", FLAGS])
        .args(["--target-dir", purpose.target_dir()])
        .stdin(Stdio::null());
    if purpose == Purpose::Bench {
        command.arg("--no-default-features");
    }
    if !std::io::stderr().is_terminal() {
        command.arg("--quiet");
    }
    command
}

/// Runs clippy over the guest as it is built, and returns the program's exit code.
///
/// # Errors
/// Cargo cannot be run.
pub fn lint_guest() -> Result<i32> {
    for purpose in [Purpose::Use, Purpose::Bench] {
        let mut command = guest_command("clippy", purpose);
        let status = command.args(["--", "-D", "warnings"]).status()?;
        if !status.success() {
            return Ok(1);
        }
    }
    Ok(0)
}

/// Builds the loader and the kernel. On a terminal cargo shows its progress.
///
/// # Errors
/// Cargo could not be run, or the build failed. Cargo has then printed its own errors on standard
/// error.
pub fn guest() -> Result<Built> {
    built(Purpose::Use)
}

/// Builds the loader and the kernel to be measured, without the schedule points.
///
/// # Errors
/// Fails where [`guest`] does.
pub fn guest_for_bench() -> Result<Built> {
    built(Purpose::Bench)
}

fn built(purpose: Purpose) -> Result<Built> {
    let root = workspace();
    if !root.join("Cargo.toml").is_file() {
        bail!(
            "the kernel's sources are not at {}; run tidemark from its source tree",
            root.display()
        );
    }
    let status = guest_command("build", purpose)
        .stdout(Stdio::null())
        .status()
        .context("cargo could not be run to build the kernel")?;
    if !status.success() {
        bail!("the kernel did not build");
    }
    let images = root.join(purpose.target_dir()).join(TRIPLE).join(PROFILE);
    let unstripped = images.join("tidemark-kernel");
    let kernel = images.join("tidemark-kernel.stripped");
    let linked = fs::read(&unstripped)
        .with_context(|| format!("the kernel is not at {}", unstripped.display()))?;
    replace(&kernel, &strip_dwarf(&linked)?)?;
    Ok(Built {
        loader: images.join("tidemark-boot"),
        kernel,
        unstripped,
    })
}

/// Builds the benchmark `allocators` and returns its path.
///
/// # Errors
/// Cargo cannot be run, or the build failed. Cargo has then printed its own errors on standard
/// error.
pub fn benchmark() -> Result<PathBuf> {
    let what = ["bench", "--no-run", "-p", "tidemark", "--bench"];
    program(&what, "allocators").context("the benchmark of the allocators did not build")
}

/// Builds the allocator's example `stress` and returns its path.
///
/// # Errors
/// Fails where [`benchmark`] does.
pub fn stress() -> Result<PathBuf> {
    let what = ["build", "--release", "-p", "tidemark-frames", "--example"];
    program(&what, "stress").context("the stress of the allocator did not build")
}

/// Builds a program by cargo's options for its kind, and returns its path.
fn program(what: &[&str], name: &str) -> Result<PathBuf> {
    let mut command = cargo();
    command
        .args(what)
        .args([name, "--locked", "--message-format=json"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    if !std::io::stderr().is_terminal() {
        command.arg("--quiet");
    }
    let output = command.output().context("cargo could not be run")?;
    if !output.status.success() {
        bail!("cargo failed");
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    executable(&messages, name).context("cargo did not say where it is")
}

/// Returns the program of a target, from cargo's messages.
fn executable(messages: &str, target: &str) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        if message["target"]["name"] != target {
            return None;
        }
        Some(PathBuf::from(message["executable"].as_str()?))
    })
}

/// Puts a file in place in one step, so that another run never boots half of it.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let folder = path.parent().context("the image has no folder")?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    std::io::Write::write_all(&mut file, bytes)?;
    file.persist(path)?;
    Ok(())
}

/// Removes the sections that only debuggers read. Symbols stay, for the kernel's backtraces.
///
/// # Errors
/// The bytes are no ELF file that can be rewritten.
pub fn strip_dwarf(elf: &[u8]) -> Result<Vec<u8>> {
    let mut builder =
        object::build::elf::Builder::read(elf).context("the kernel is no ELF file")?;
    for section in builder.sections.iter_mut() {
        let name = section.name.to_string();
        if name.starts_with(".debug_") || name.starts_with(".comment") {
            section.delete = true;
        }
    }
    let mut stripped = Vec::with_capacity(elf.len());
    builder
        .write(&mut stripped)
        .context("the kernel could not be stripped")?;
    Ok(stripped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::{Object, ObjectSegment, ObjectSymbol};

    #[test]
    fn stripping_drops_dwarf_and_keeps_symbols_and_segments() {
        // The test program itself is an ELF file with symbols and DWARF.
        let path = std::env::current_exe().unwrap();
        let before = fs::read(path).unwrap();
        let after = strip_dwarf(&before).unwrap();
        let (before, after) = (
            object::File::parse(&*before).unwrap(),
            object::File::parse(&*after).unwrap(),
        );
        assert!(before.section_by_name(".debug_line").is_some());
        assert!(after.section_by_name(".debug_line").is_none());
        assert_eq!(before.entry(), after.entry());
        let segments = |file: &object::File<'_>| -> Vec<(u64, u64)> {
            file.segments().map(|s| (s.address(), s.size())).collect()
        };
        assert_eq!(segments(&before), segments(&after));
        let data = |file: &object::File<'_>| -> Vec<u8> {
            let first = file.segments().nth(1).unwrap();
            first.data().unwrap().to_vec()
        };
        assert_eq!(data(&before), data(&after));
        let symbols = after.symbols().filter(|s| s.is_definition()).count();
        assert!(symbols > 100);
    }

    #[test]
    fn cargo_says_where_a_program_is() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"tidemark"},"executable":"/t/a"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"bench"},"executable":"/t/b"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(executable(messages, "bench"), Some(PathBuf::from("/t/b")));
        assert_eq!(executable(messages, "other"), None);
    }

    #[test]
    fn flags_of_the_outer_build_do_not_reach_the_kernel() {
        for name in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_RUSTFLAGS",
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
            "CARGO_TARGET_DIR",
        ] {
            assert!(is_of_outer_build(name), "{name}");
        }
        for name in [
            "CARGO_HOME",
            "RUSTUP_TOOLCHAIN",
            "PATH",
            "CARGO_NET_OFFLINE",
        ] {
            assert!(!is_of_outer_build(name), "{name}");
        }
    }
}
