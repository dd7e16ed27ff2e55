//! The half of the benchmark that counts guest instructions.

use anyhow::{Context, Result, bail};
use tidemark_frames::Variant;
use tidemark_wire::{BenchResult, BenchRow};

use super::table::Row;
use crate::guest::build::Built;
use crate::guest::conductor::Watch;
use crate::guest::machine::Machine;
use crate::guest::options::{Mode, Options};
use crate::guest::record::{Ended, Record};
use crate::guest::run::{Spec, run};
use crate::guest::{build, qemu};
use crate::judge::points::Traces;
use crate::judge::report::crash_report;
use crate::judge::symbols::Symbols;
use crate::terminal::cli::{Accel, OutputArgs, Part, Verbosity};
use crate::terminal::console::{Console, say};

/// The result of a run in the guest.
pub struct Measured {
    pub rows: Vec<Row>,
    pub rustc: String,
    pub qemu: String,
    /// The exit code, which is 0 if every row was measured.
    pub exit_code: i32,
}

/// The data beside a row: its name, Linux's number, the aim.
struct Beside {
    name: &'static str,
    /// Linux's number. It is not known for the mixes, which are other allocators' benchmarks.
    linux: Option<f64>,
    aim: f64,
}

/// Returns the data beside a row; nothing for a row of another table.
fn beside(row: BenchRow) -> Option<Beside> {
    let (name, linux, aim) = match row {
        BenchRow::AtomicIrqsOn => ("GFP_ATOMIC order 0, pair, task, IRQs on", 699.0, 70.0),
        BenchRow::AtomicIrqsOff => ("GFP_ATOMIC order 0, pair, task, IRQs off", 699.0, 70.0),
        BenchRow::AtomicHardIrq => ("GFP_ATOMIC order 0, pair, hard interrupt", 662.0, 70.0),
        BenchRow::Kernel => ("GFP_KERNEL order 0, pair", 710.0, 70.0),
        BenchRow::Order3 => ("order 3, pair", 883.0, 150.0),
        BenchRow::Order9 => ("order 9, pair", 9_964.0, 150.0),
        BenchRow::Order10 => ("order 10, pair", 33_653.0, 250.0),
        BenchRow::Random => ("10,000 x order 0, freed at random, a frame", 1_207.0, 150.0),
        BenchRow::WorstFree => ("worst single free of that run", 313_000.0, 2_000.0),
        BenchRow::Mix => {
            let name = "mix of orders 0-9, 60-80 % full, an operation";
            return Some(Beside {
                name,
                linux: None,
                aim: 140.0,
            });
        }
        BenchRow::WorstOfMix => {
            let name = "worst single operation of that mix";
            return Some(Beside {
                name,
                linux: None,
                aim: 20_000.0,
            });
        }
        BenchRow::ZoneSkipped => ("each zone skipped on the fallback walk", 85.0, 10.0),
        BenchRow::Rebuild | BenchRow::RebuildIrqOff => return None,
        BenchRow::FailingAtomic => ("failing atomic request, 2 nodes", 1_740.0, 150.0),
        BenchRow::Metadata => ("metadata a frame", 70.0, 8.0),
    };
    let linux = Some(linux);
    Some(Beside { name, linux, aim })
}

fn row(result: &BenchResult) -> Option<Row> {
    let Beside { name, linux, aim } = beside(result.row)?;
    let units = |milli: u64| milli as f64 / 1000.0;
    Some(Row {
        name: name.to_owned(),
        value: units(result.median_milli),
        min: units(result.min_milli),
        max: units(result.max_milli),
        unit: match result.row {
            BenchRow::Metadata => "bytes",
            _ => "instructions",
        },
        anchor: linux,
        aim: Some(aim),
        note: String::new(),
    })
}

/// Builds the kernel for the benchmark, and checks that it has no schedule points.
///
/// # Errors
/// A tool is missing, or the kernel does not build, or has schedule points.
pub fn build() -> Result<Built> {
    qemu::require()?;
    let built = build::guest_for_bench()?;
    let traces = Traces::of(&built.unstripped)?;
    if !traces.is_empty() {
        bail!("the kernel to be measured has schedule points: {traces:?}");
    }
    Ok(built)
}

/// Boots the kernel for the benchmark and collects its rows.
///
/// # Errors
/// A tool is missing, the kernel does not build, or it sent no row.
pub fn measure(output: &OutputArgs) -> Result<Measured> {
    let built = build()?;
    let record = boot(&built, Mode::Bench, Variant::Seed, output)?;
    let complete = record.ended == Ended::Exit(tidemark_wire::exit_value::PASSED)
        && BenchRow::ALL
            .iter()
            .all(|wanted| record.bench.iter().any(|result| result.row == *wanted));
    Ok(Measured {
        rows: record.bench.iter().filter_map(row).collect(),
        rustc: rustc_version()?,
        qemu: record.qemu_version.unwrap_or_default(),
        exit_code: if complete { 0 } else { 1 },
    })
}

/// Runs one guest, whose time is the number of its instructions.
///
/// # Errors
/// QEMU cannot be started, or the guest sent no row.
pub fn boot(built: &Built, mode: Mode, zonelist: Variant, output: &OutputArgs) -> Result<Record> {
    let symbols = Symbols::of_files(&[&built.unstripped, &built.loader]);
    let machine = Machine {
        without: vec![Part::Dimms],
        ..Machine::usual(1, Accel::Counted)
    };
    let options = Options {
        dump: output.dump.clone(),
        ..Options::new(mode, zonelist)
    };
    let spec = Spec {
        watch: Watch::Long,
        ..Spec::new(machine, options, built)
    };
    let mut console = Console::new(output.verbosity(), output.log.as_deref())?;
    let streams = output.verbosity() == Verbosity::All;
    let record = run(&spec, |line| {
        if streams || line.contains("bench: ") {
            console.line(line);
        } else {
            console.write_log(line);
        }
    })?;
    for line in crash_report(&record, &symbols) {
        say(line);
    }
    if record.bench.is_empty() {
        bail!("the guest sent no row: {:?}", record.ended);
    }
    Ok(record)
}

fn rustc_version() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = std::process::Command::new(rustc)
        .arg("--version")
        .output()
        .context("rustc cannot be run")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
