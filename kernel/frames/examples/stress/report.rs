//! The summary of a run, and the checks that can fail it.

use crate::{
    args::Args,
    counts::{COUNTS, Count},
    cpu, findings, hotplug,
    machine::frames,
    owners, plant,
};
use std::panic::PanicHookInfo;
use tidemark_frames::{Variant, ZoneEvents, ZoneId, ZoneKind};
use tidemark_sync::ContextKind;

/// Returns every zone that the machine may have.
fn zones() -> impl Iterator<Item = ZoneId> {
    let nodes = 0..crate::memory::NODES as u8;
    nodes
        .flat_map(|node| ZoneKind::ALL.map(|kind| ZoneId::new(tidemark_frames::NodeId(node), kind)))
}

fn sum(of: impl Fn(&ZoneEvents) -> u64) -> u64 {
    zones().map(|zone| of(&frames().zone_events(zone))).sum()
}

fn by_context(counts: &[Count; 3]) -> String {
    let [task, irq, nmi] = counts.each_ref().map(Count::get);
    format!("task {task}, irq {irq}, nmi {nmi}")
}

/// Prints the summary and the verdict; returns whether everything is sound. It is called at rest,
/// when everything is freed and drained.
pub fn conclude(variant: Variant, args: &Args) -> bool {
    let mut wrong = findings::lines();
    let census = frames().validate_at_rest();
    let managed: u64 = frames().zones().map(|zone| zone.managed).sum();
    let (words_left, first_left) = owners::left();
    let lost = match census {
        Ok(census) => census.allocated,
        Err(_) => words_left,
    };
    match census {
        Ok(census) => {
            if census.cached != 0 || census.free + census.allocated != managed {
                wrong.push(format!(
                    "the counts do not agree: {census:?}, {managed} managed"
                ));
            }
        }
        Err(inconsistency) => wrong.push(format!("validate_at_rest: {inconsistency:?}")),
    }
    if managed != hotplug::present() {
        let present = hotplug::present();
        wrong.push(format!("{managed} frames are managed, {present} are there"));
    }
    if lost > 0 || words_left > 0 {
        let whose = first_left.map_or_else(String::new, |(pfn, tag)| {
            format!("; frame {:#x} is with {tag}", pfn.0)
        });
        wrong.push(format!("{lost} frames lost{whose}"));
    }
    if wrong.is_empty() {
        wrong.extend(not_exercised());
    }
    print_summary(variant, args, lost);
    print_verdict(&wrong);
    wrong.is_empty()
}

/// Returns the events that a run must have met and has not met. Without them it shows nothing.
pub fn not_exercised() -> Vec<String> {
    let allocated = |context: ContextKind| {
        sum(|events| {
            events
                .allocs
                .iter()
                .map(|by_context| by_context[context as usize])
                .sum()
        })
    };
    let wanted = [
        ("allocations in tasks", allocated(ContextKind::Task)),
        ("allocations in interrupts", allocated(ContextKind::HardIrq)),
        ("allocations in NMIs", allocated(ContextKind::Nmi)),
        ("blocks that left", COUNTS.offlined.get()),
        (
            "blocks that came back in another zone",
            COUNTS.zone_changes.get(),
        ),
        ("migrations", COUNTS.migrated.get()),
        ("reclaimed pages", COUNTS.reclaimed.get()),
        ("compactions", sum(|events| events.compactions)),
    ];
    let planted = ("planted fault", u64::from(!plant::is_pending()));
    let wanted = wanted.into_iter().chain([planted]);
    let missing = wanted.filter(|&(_, count)| count == 0);
    missing
        .map(|(what, _)| format!("not exercised: no {what}"))
        .collect()
}

fn print_summary(variant: Variant, args: &Args, lost: u64) {
    let of_context = |context: usize| {
        let events = sum(|events| {
            events
                .allocs
                .iter()
                .map(|by_context| by_context[context])
                .sum()
        });
        let failed = sum(|events| events.failures[context]);
        format!("{events} ({failed} failed)")
    };
    let (offlined, stayed) = (COUNTS.offlined.get(), COUNTS.stayed.get());
    let rows = [
        (
            "allocations",
            format!(
                "task {}, irq {}, nmi {}; {} blocks handed on, {} signed",
                of_context(0),
                of_context(1),
                of_context(2),
                COUNTS.handed_on.get(),
                COUNTS.signed.get(),
            ),
        ),
        (
            "handlers",
            format!(
                "{} interrupts, {} NMIs",
                COUNTS.handlers[1].get(),
                COUNTS.handlers[2].get()
            ),
        ),
        (
            "memory",
            format!(
                "{offlined} blocks left, {} changed zone, {stayed} stayed; {} pages moved, {} reclaimed",
                COUNTS.zone_changes.get(),
                COUNTS.migrated.get(),
                COUNTS.reclaimed.get(),
            ),
        ),
        (
            "zones",
            format!(
                "{} compactions ({} got a block), {} steals, {} refills; high-atomic {} frames at most",
                sum(|events| events.compactions),
                sum(|events| events.compacted),
                sum(|events| events.steals),
                sum(|events| events.refills),
                COUNTS.high_atomic.get(),
            ),
        ),
        (
            "rebuilds",
            format!(
                "{}; requests traced at an odd count: {}; that overlapped one: {}; {} retries",
                frames().rebuild_stats().count,
                by_context(&COUNTS.odd),
                by_context(&COUNTS.overlapped),
                COUNTS.retries.get(),
            ),
        ),
        (
            "waits",
            format!(
                "{} turns; given up: {}",
                COUNTS.waited.get(),
                by_context(&COUNTS.given_up),
            ),
        ),
        (
            "wrong",
            format!(
                "{lost} frames lost, {} doubled, {} strays (H7)",
                findings::doubled(),
                COUNTS.strays.get(),
            ),
        ),
        (
            "oracle",
            format!(
                "{} looks in the run, {} failures told",
                COUNTS.validated.get(),
                COUNTS.warned.get(),
            ),
        ),
    ];
    println!(
        "{}, {} CPUs, {} s, seed {}",
        variant.name(),
        args.cpus,
        args.seconds,
        args.seed
    );
    for (name, row) in rows {
        println!("  {name:<12} {row}");
    }
}

/// Prints the last line.
pub fn print_verdict(wrong: &[String]) {
    match wrong {
        [] => println!("SOUND"),
        _ => println!("WRONG: {}", wrong.join("; ")),
    }
}

/// Prints what is wrong and where each CPU is, and ends the process at once.
pub fn end_now(what: &str) -> ! {
    let places: Vec<String> = cpu::all().iter().map(cpu::Cpu::whereabouts).collect();
    println!("{}", places.join("\n"));
    findings::lines().iter().for_each(|line| println!("{line}"));
    print_verdict(&[what.to_owned()]);
    // SAFETY: no obligations. The other threads may hold any lock, so nothing runs at exit.
    unsafe { libc::_exit(1) }
}

/// Ends the run with the message of a panic on any CPU.
pub fn on_panic(info: &PanicHookInfo<'_>) {
    // This comes first because it needs no memory: the panic may be that of a handler which has
    // interrupted `malloc`.
    println!("{info}");
    let backtrace = std::backtrace::Backtrace::force_capture();
    println!("{backtrace}");
    end_now("a panic");
}
