//! `tidemark lab linux`: the hazards that can be shown on Linux itself, on Debian's own kernels.
//!
//! A module of ours (`host/linux/module`) holds one request in its direct reclaim while the guest's
//! shell brings memory online or offline. docs/linux.md explains the method and what follows.

mod apt;
mod fetch;
mod initrd;
mod module;
mod natural;
mod packages;
mod plays;
mod printing;
mod protocol;
mod ready;
mod record;
mod session;
mod state;
mod tools;
mod trouble;
mod verdict;

use std::fs;
use std::time::Instant;

use anyhow::Result as Anyhow;
use serde_json::{Value, json};
use tidemark_frames::Variant;
use tidemark_wire::{Hazard, LabVerdict};

use crate::guest::qemu;
use crate::judge::json;
use crate::judge::report::seconds;
use crate::judge::words::words;
use crate::terminal::cli::LinuxArgs;
use crate::terminal::console::{BAD, GOOD, say};
use apt::{Apt, Reach};
use packages::{Kernel, newest_of_each_series, upstream};
use plays::Play;
use ready::{Ready, megabytes, shown};
use record::Record;
use session::{Images, Session};
use trouble::{Outcome, Trouble, refuse};
use verdict::{HAZARDS, judge};

/// Version of the JSON's layout.
const SCHEMA: u32 = 1;

/// Runs what is asked for and returns the program's exit code.
///
/// # Errors
/// QEMU is missing, or the result cannot be written.
pub fn run(args: &LinuxArgs) -> Anyhow<i32> {
    let done = if args.clean {
        tools::lock().map(|_lock| clean())
    } else {
        json::prepare(args.json.as_deref())?;
        run_kernels(args)
    };
    done.or_else(|trouble| {
        eprintln!("tidemark: {trouble}");
        Ok(trouble.exit_code())
    })
}

/// Removes what was fetched and built.
fn clean() -> i32 {
    let folder = ready::folder();
    match fs::remove_dir_all(&folder) {
        Ok(()) => say(format!("removed {}", shown(&folder))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            say(format!("{} is not there", shown(&folder)));
        }
        Err(error) => {
            eprintln!("tidemark: {} cannot be removed: {error}", shown(&folder));
            return 2;
        }
    }
    0
}

fn run_kernels(args: &LinuxArgs) -> Outcome<i32> {
    let started = Instant::now();
    tools::require()?;
    qemu::require().map_err(|error| Trouble::Refused(format!("{error:#}")))?;
    if args.list {
        return leaving_nothing(list);
    }
    if let Some(path) = &args.log {
        tools::prepare(path)?;
    }
    let kernels = leaving_nothing(|| get_ready(args))?;
    let mut log = String::new();
    let (mut all, mut good) = (0, 0);
    let mut results = Vec::new();
    for ready in &kernels {
        if args.natural {
            results.push(natural::run(ready, args.minutes)?);
            continue;
        }
        let record = run_kernel(ready, args)?;
        let steps = record.steps();
        for play in &record.plays {
            let judged = judge(play.hazard, &play.state);
            all += 1;
            good += usize::from(steps.expects(play.hazard, judged.verdict).unwrap_or(true));
        }
        results.push(result(&record));
        log.push_str(&record.text());
        if let Some(path) = &args.log {
            // What a later kernel comes to does not take the earlier ones away.
            tools::write(path, &log)?;
        }
    }
    let exit_code = i32::from(good < all);
    if let Some(path) = &args.json {
        let kind = if args.natural {
            "lab linux --natural"
        } else {
            "lab linux"
        };
        let value = json!({
            "schema": SCHEMA,
            "kind": kind,
            "verdict": if exit_code == 0 { "passed" } else { "failed" },
            "exit_code": exit_code,
            "kernels": results,
        });
        json::write(path, &value).map_err(|error| Trouble::Refused(format!("{error:#}")))?;
    }
    let (style, word) = if exit_code == 0 {
        (GOOD, "PASS")
    } else {
        (BAD, "FAIL")
    };
    if !args.natural {
        let total = seconds(started.elapsed());
        say(format!(
            "{style}{word}{style:#}: {good} of {all} verdicts as expected, in {total}"
        ));
    }
    say(format!(
        "{} holds {}; cargo run -- lab linux --clean removes it",
        shown(&ready::folder()),
        megabytes(size_of(&ready::folder()))
    ));
    Ok(exit_code)
}

/// Does what writes below our folder, while no other call does. A first call that comes to nothing
/// leaves nothing; a kernel that it fetched before something failed stays.
fn leaving_nothing<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    let _lock = tools::lock()?;
    let existed = ready::folder().exists();
    let done = work();
    if done.is_err() && !existed && !ready::place("").exists() {
        let _ = fs::remove_dir_all(ready::folder());
    }
    done
}

/// Fetches and builds what is not there yet.
fn get_ready(args: &LinuxArgs) -> Outcome<Vec<Ready>> {
    let mut kernels: Vec<Ready> = Vec::new();
    let mut missing = Vec::new();
    let mut names: Vec<&String> = Vec::new();
    for release in &args.kernel {
        if !names.contains(&release) {
            names.push(release);
        }
    }
    for release in names {
        match ready::known(release) {
            Some(ready) => kernels.push(ready),
            None => missing.push(release.clone()),
        }
    }
    let mut fetched = Vec::new();
    if args.kernel.is_empty() || !missing.is_empty() {
        let (apt, wanted) = choose(&missing)?;
        let known: Vec<Option<Ready>> = wanted
            .iter()
            .map(|kernel| ready::known(&kernel.release))
            .collect();
        let mut needs = Vec::new();
        for (kernel, known) in wanted.iter().zip(&known) {
            if known.is_none() {
                needs.push(fetch::needs(&apt, kernel)?);
            }
        }
        fetch::announce(&needs)?;
        kernels.extend(known.into_iter().flatten());
        for needs in &needs {
            fetched.push(needs.kernel.release.clone());
            kernels.push(fetch::fetch(&apt, needs)?);
        }
    }
    for ready in &kernels {
        let made = initrd::make(ready);
        if made.is_err() && fetched.contains(&ready.facts.release) {
            ready::forget(&ready.facts.release);
        }
        made?;
    }
    kernels.sort_by(|a, b| packages::compare(&a.facts.version, &b.facts.version));
    Ok(kernels)
}

/// Chooses kernels of the archive: those that are named, or the newest of each series of this
/// machine's Debian.
fn choose(names: &[String]) -> Outcome<(Apt, Vec<Kernel>)> {
    let own = Apt::update(&ready::folder(), Reach::Own)?;
    let kernels = own.kernels()?;
    if names.is_empty() {
        let newest = newest_of_each_series(&kernels);
        if newest.is_empty() {
            return refuse("the archive has no kernel for this machine's Debian");
        }
        return Ok((own, newest));
    }
    let pick = |kernels: &[Kernel], name: &String| {
        let mut all = kernels.iter();
        all.find(|kernel| kernel.release == *name).cloned()
    };
    let found: Vec<Kernel> = names
        .iter()
        .filter_map(|name| pick(&kernels, name))
        .collect();
    if found.len() == names.len() {
        return Ok((own, found));
    }
    let all = Apt::update(&ready::folder(), Reach::All)?;
    let kernels = all.kernels()?;
    let mut found = Vec::new();
    for name in names {
        let Some(kernel) = pick(&kernels, name) else {
            return refuse(format!(
                "Debian's archive has no kernel {name}; cargo run -- lab linux --list names those that it has"
            ));
        };
        found.push(kernel);
    }
    Ok((all, found))
}

/// Lists the kernels that can be had.
fn list() -> Outcome<i32> {
    let apt = Apt::update(&ready::folder(), Reach::All)?;
    let kernels = apt.kernels()?;
    say("kernels of Debian's archive, oldest first (--kernel NAME)");
    for kernel in &kernels {
        let here = if ready::known(&kernel.release).is_some() {
            ", fetched"
        } else {
            ""
        };
        say(format!(
            "  {:<28}{:<20}{}{here}",
            kernel.release,
            kernel.version,
            kernel.suites.join(", ")
        ));
    }
    Ok(0)
}

/// Boots a kernel and plays the hazards.
fn run_kernel(ready: &Ready, args: &LinuxArgs) -> Outcome<Record> {
    let (kernel, initrd) = (ready.kernel(), ready.initrd());
    let images = Images {
        kernel: &kernel,
        initrd: &initrd,
        disk: None,
    };
    let mut session = Session::boot(images)?;
    let steps = ready.facts.steps();
    printing::kernel(&ready.facts, &steps, session.boot);
    let plant = if args.plant.is_some() { "plant=1" } else { "" };
    plays::load(&mut session, plant)?;
    let block = session.plug()?;
    let hazards: Vec<Hazard> = match args.hazard {
        Some(hazard) => vec![hazard],
        None => HAZARDS.to_vec(),
    };
    let mut all = Vec::new();
    for hazard in hazards {
        let mut found: Vec<Play> = Vec::new();
        for time in 0..args.times {
            found.push(plays::play(&mut session, hazard, block, time == 0)?);
        }
        printing::plays(hazard, &found.iter().collect::<Vec<_>>(), &steps);
        if args.show {
            found.iter().take(1).for_each(printing::show);
        }
        all.append(&mut found);
    }
    plays::unload(&mut session)?;
    Ok(Record {
        command: format!(
            "cargo run -- lab linux --kernel {} --log FILE",
            ready.facts.release
        ),
        facts: ready.facts.clone(),
        plays: all,
    })
}

/// Returns the result of a kernel, for programs.
fn result(record: &Record) -> Value {
    let steps = record.steps();
    let plays = record.plays.iter().map(|play| {
        let judged = judge(play.hazard, &play.state);
        json!({
            "hazard": play.hazard.name(),
            "verdict": words(judged.verdict),
            "expected": steps.expected(play.hazard).map(words),
            "how": judged.how,
            "stale_walks": play.state.request.stale,
            "rounds": play.state.request.rounds_after,
            "zone": play.state.page.as_ref().map(|page| &page.zone),
        })
    });
    json!({
        "release": record.facts.release,
        "version": record.facts.version,
        "protocol": steps.line(),
        "variant": steps.variant().map(Variant::name),
        "plays": plays.collect::<Vec<_>>(),
    })
}

/// What a recorded run found on a kernel.
#[derive(Clone, Debug)]
pub struct Confirmed {
    /// The upstream version: `6.1.192`.
    pub version: String,
    /// The variant of ours that stands for its protocol.
    pub variant: Variant,
    pub verdicts: Vec<(Hazard, LabVerdict)>,
}

/// Judges the recorded runs of kernels for which one of our variants stands.
///
/// # Errors
/// A record does not have the form.
pub fn confirmed() -> Result<Vec<Confirmed>, String> {
    let of = |record: Record| {
        let verdict = |play: &Play| (play.hazard, judge(play.hazard, &play.state).verdict);
        Some(Confirmed {
            version: upstream(&record.facts.version).to_owned(),
            variant: record.steps().variant()?,
            verdicts: record.plays.iter().map(verdict).collect(),
        })
    };
    Ok(record::kept()?.into_iter().filter_map(of).collect())
}

fn size_of(folder: &std::path::Path) -> u64 {
    let Ok(list) = fs::read_dir(folder) else {
        return 0;
    };
    list.flatten()
        .map(|entry| match entry.metadata() {
            Ok(facts) if facts.is_dir() => size_of(&entry.path()),
            Ok(facts) => facts.len(),
            Err(_) => 0,
        })
        .sum()
}
