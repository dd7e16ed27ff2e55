//! Runs the tests of the host, by `cargo test`.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::commands::cases::print_part;
use crate::guest::build;
use crate::judge::tally::Tally;
use crate::terminal::cli::{OutputArgs, Verbosity};
use crate::terminal::console::say;
use crate::terminal::interrupt;

/// How far the models are explored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    Short,
    Full,
}

impl Depth {
    /// Returns the bound on preemptions in the search; most races need two.
    fn preemptions(self) -> u32 {
        match self {
            Depth::Short => 3,
            Depth::Full => 5,
        }
    }
}

/// The example that shows the allocator in another kernel. It asserts what it shows.
const EXAMPLE: &str = "other_kernel";

/// Runs the workspace's tests, the models that loom explores, and the example.
///
/// # Errors
/// Cargo cannot be run.
pub fn run(pattern: Option<&str>, depth: Depth, output: &OutputArgs) -> Result<Tally> {
    let mut total = Tally::default();
    let mut command = build::cargo();
    command.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    let what = "cargo test --workspace";
    total.add(&cargo_tests("host", what, command, pattern, output)?);
    if total.not_ok > 0 || interrupt::requested() {
        return Ok(total);
    }
    let mut command = build::cargo();
    command
        .args(["test", "--locked", "--target-dir", "target/loom", "--lib"])
        .args(["-p", "tidemark-sync", "-p", "tidemark-frames"])
        .env("RUSTFLAGS", "--cfg loom")
        .env("LOOM_MAX_PREEMPTIONS", depth.preemptions().to_string());
    let what = format!(
        "every interleaving of the lock-free parts, up to {} preemptions",
        depth.preemptions()
    );
    total.add(&cargo_tests("loom", &what, command, pattern, output)?);
    if pattern.is_none_or(|pattern| EXAMPLE.contains(pattern)) && !interrupt::requested() {
        total.add(&example(output)?);
    }
    Ok(total)
}

fn example(output: &OutputArgs) -> Result<Tally> {
    let started = Instant::now();
    let ran = build::cargo()
        .args(["run", "--quiet", "--locked", "-p", "tidemark-frames"])
        .args(["--example", EXAMPLE])
        .stdin(Stdio::null())
        .output()
        .context("cargo could not be run")?;
    let result = if ran.status.success() {
        Ok(())
    } else {
        Err(format!("example {EXAMPLE} failed"))
    };
    if result.is_err() || output.verbosity() == Verbosity::All {
        for text in [&ran.stdout, &ran.stderr] {
            String::from_utf8_lossy(text).lines().for_each(say);
        }
    }
    let tally = Tally::one(result);
    let what =
        "the allocator in another kernel: cargo run -p tidemark-frames --example other_kernel";
    print_part("example", what, &tally, started.elapsed());
    Ok(tally)
}

fn cargo_tests(
    name: &str,
    what: &str,
    mut command: Command,
    pattern: Option<&str>,
    output: &OutputArgs,
) -> Result<Tally> {
    let started = Instant::now();
    command
        .args(pattern)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    if output.verbosity() != Verbosity::All {
        // Cargo shows its progress only on a terminal, but its errors always.
        command.arg("--quiet");
    }
    let mut child = command.spawn().context("cargo could not be run")?;
    let Some(stdout) = child.stdout.take() else {
        bail!("cargo test has no output");
    };
    let mut tally = Tally::default();
    let mut lines = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let line = line.context("cargo's output could not be read")?;
        if let Some((passed, failed, ignored)) = closing_line(&line) {
            tally.ok += passed;
            tally.not_ok += failed;
            tally.skipped += ignored;
        }
        if output.verbosity() == Verbosity::All {
            say(&line);
        } else {
            lines.push(line);
        }
    }
    let status = child.wait().context("cargo could not be waited for")?;
    if !status.success() {
        tally.not_ok = tally.not_ok.max(1);
        tally.problems.push(format!("{name}: `{what}` failed"));
        for line in &lines {
            say(line);
        }
    }
    print_part(name, what, &tally, started.elapsed());
    Ok(tally)
}

/// Reads `test result: ok. 12 passed; 0 failed; 1 ignored; …`.
fn closing_line(line: &str) -> Option<(u64, u64, u64)> {
    let rest = line.trim().strip_prefix("test result: ")?;
    let rest = rest.split_once(". ")?.1;
    let number = |name: &str| {
        rest.split("; ")
            .find_map(|part| part.strip_suffix(name)?.trim().parse().ok())
    };
    Some((number("passed")?, number("failed")?, number("ignored")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_closing_line_is_read() {
        assert_eq!(
            closing_line(
                "test result: FAILED. 12 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s"
            ),
            Some((12, 2, 1))
        );
        assert_eq!(closing_line("running 3 tests"), None);
    }
}
