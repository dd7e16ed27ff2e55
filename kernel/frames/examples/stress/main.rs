//! The allocator under stress. Threads are CPUs; real signals are interrupts, calls and NMIs.
//!
//! `cargo run --release -p tidemark-frames --example stress -- --seconds 60 --zonelist all`
//!
//! Tasks take, split, pass on and free blocks of every order, and fill a page cache. Interrupts and
//! NMIs do so in the middle of that. Memory leaves, and comes back in another zone. Each frame has
//! a word that names its owner, so that two owners are found at once. At the end everything is
//! freed and the oracle counts. The last line is `SOUND`, or says what is wrong; the exit code is
//! 0, or 1. It is 2 for an option that is not known.
//!
//! | module | |
//! |---|---|
//! | [`machine`], [`switches`] | the platform: what the allocator wants of a kernel |
//! | [`cpu`], [`signals`] | CPUs, and what interrupts them |
//! | [`memory`] | the machine's blocks and zones |
//! | [`requests`], [`shelf`], [`owners`] | how blocks come and go, and the words that name their owners |
//! | [`tasks`], [`handlers`], [`pages`], [`hotplug`] | what CPUs, interrupts and the hot-plug thread do |
//! | [`findings`], [`counts`], [`report`], [`watchdog`] | what is found, counted and said |
//! | [`plant`] | faults on purpose |
//!
//! A run without a finding is no proof: of 53 subtle mistakes that were built in on purpose, such
//! runs found none. The enumerations, the models and the mutants are there to find those.
#![cfg(all(target_os = "linux", not(loom)))]

mod args;
mod counts;
mod cpu;
mod findings;
mod handlers;
mod hotplug;
mod machine;
mod memory;
mod owners;
mod pages;
mod plant;
mod random;
mod report;
mod requests;
mod shelf;
mod signals;
mod switches;
mod tasks;
mod watchdog;

use args::{Args, Zonelists};
use cpu::Doing;
use machine::frames;
use std::{
    process::{Command, ExitCode},
    sync::{
        Barrier, LazyLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};
use tidemark_frames::Variant;
use tidemark_sync::Task;

fn main() -> ExitCode {
    if std::env::args().any(|word| word == "--help") {
        println!("{}", args::USAGE);
        return ExitCode::SUCCESS;
    }
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(what) => {
            eprintln!("stress: {what}");
            return ExitCode::from(2);
        }
    };
    let is_sound = match args.zonelists {
        Zonelists::One(variant) => run(variant, args),
        Zonelists::All => run_all(&args),
    };
    ExitCode::from(u8::from(!is_sound))
}

/// Runs every protocol in a process of its own, one after the other; returns whether all are sound.
fn run_all(args: &Args) -> bool {
    let seconds = (args.seconds / Variant::ALL.len() as u64).max(1);
    let mut wrong = Vec::new();
    for variant in Variant::ALL {
        if let Err(what) = run_process(args, variant, seconds) {
            wrong.push(format!("{}: {what}", variant.name()));
        }
    }
    report::print_verdict(&wrong);
    wrong.is_empty()
}

fn run_process(args: &Args, variant: Variant, seconds: u64) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let child = Command::new(program)
        .args(args.for_one(variant, seconds))
        .spawn();
    let mut child = child.map_err(|error| error.to_string())?;
    // The process has a watchdog of its own. This one is for a process in which that hangs, too.
    let deadline = Instant::now() + Duration::from_secs(seconds + 3 * args.hang_seconds + 60);
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(status.to_string()),
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err("does not end".to_owned());
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Runs one protocol in this process, once; returns whether it is sound.
fn run(variant: Variant, args: Args) -> bool {
    std::panic::set_hook(Box::new(report::on_panic));
    plant::choose(args.plant);
    cpu::boot(args.cpus, args.seed);
    signals::install();
    // This thread plays the first CPU before that begins, and after it has ended.
    cpu::become_cpu(0);
    memory::boot(variant, args.cpus);
    let run_cpu = |number| move || run_cpu(number, args);
    let threads: Vec<_> = (0..args.cpus)
        .map(|number| thread::spawn(run_cpu(number)))
        .collect();
    let (time, hang) = (args.seconds, args.hang_seconds);
    watchdog::watch(
        &threads,
        Duration::from_secs(time),
        Duration::from_secs(hang),
    );
    report::conclude(variant, &args)
}

/// Number of CPUs that have come to the end of a stage. The others may still wait for their answers
/// to calls.
static IDLE: AtomicUsize = AtomicUsize::new(0);

/// Runs a CPU's thread from its begin to its end.
fn run_cpu(number: usize, args: Args) {
    static TOGETHER: LazyLock<Barrier> = LazyLock::new(|| Barrier::new(cpu::all().len()));
    signals::attach(number);
    // SAFETY: this thread is its CPU's task; it holds no lock.
    let task = unsafe { Task::mint() };
    TOGETHER.wait();
    signals::arm(true);
    signals::start_timers();
    if number == cpu::of_hotplug().number {
        hotplug::work(&task, args.exchange);
    } else {
        tasks::work(&task);
    }
    wait_for_others(1);
    signals::arm(false);
    wait_for_others(2);
    handlers::clear(number);
    wait_for_others(3);
    if number == 0 {
        shelf::clear();
        pages::drop_all();
        frames().drain_all(&task);
    }
    // Until here this CPU answers the drain's calls.
    wait_for_others(4);
    signals::detach();
}

/// Waits, and takes interrupts, until every CPU has come here for the `nth` time.
fn wait_for_others(nth: usize) {
    let cpu = cpu::here();
    cpu.doing(Doing::WaitForOthers);
    cpu.goes_on();
    IDLE.fetch_add(1, SeqCst);
    while IDLE.load(SeqCst) < nth * cpu::all().len() {
        thread::yield_now();
    }
}
