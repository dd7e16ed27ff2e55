//! The demonstration, from its options to its exit code.

use anyhow::Result;

use crate::commands::{lab, suite};
use crate::guest::conductor::Watch;
use crate::guest::machine::{Machine, Wiring, kvm_obstacle, shell_line};
use crate::guest::options::{Mode, Options};
use crate::guest::record::{Ended, Record};
use crate::guest::run::Spec;
use crate::guest::watchdog::Hang;
use crate::guest::{build, qemu};
use crate::judge::diagnose::Symbols;
use crate::judge::json;
use crate::judge::report::{crash_report, summary};
use crate::judge::verdict::{Expectation, Verdict, judge};
use crate::terminal::cli::{Accel, DemoArgs, Verbosity, Zonelist};
use crate::terminal::console::{Console, say};

/// Runs the demonstration and returns the program's exit code.
///
/// # Errors
/// A tool is missing, the kernel does not build, or a result cannot be written.
pub fn run(args: &DemoArgs) -> Result<i32> {
    json::prepare(args.output.json.as_deref())?;
    let mut console = Console::new(args.output.verbosity(), args.output.log.as_deref())?;
    if !args.print_qemu {
        qemu::require()?;
    }
    let spec = spec(args)?;
    if args.print_qemu {
        say(shell_line(&spec.arguments(Wiring::ByHand)));
        return Ok(0);
    }
    let talks = args.output.verbosity() != Verbosity::Quiet;
    if talks {
        say(format!(
            "tidemark: {}; seed {}, {} cycles",
            spec.machine, args.seed, args.cycles
        ));
    }
    if args.gdb {
        say(format!(
            "QEMU waits for: gdb {} -ex 'target remote :1234'",
            spec.built.unstripped.display()
        ));
    }
    let record = crate::guest::run::run(&spec, |line| console.line(line))?;
    console.unfold();
    let expected = Expectation {
        cycles: args.cycles,
        dimms: spec.machine.dimms(),
        cpus: args.cpus,
        zonelist: args.zonelist,
        pressure: args.pressure,
    };
    let verdict = explained(judge(&expected, &record), args.zonelist, &record);
    let symbols = Symbols::of_files(&[&spec.built.unstripped, &spec.built.loader]);
    for line in crash_report(&record, &symbols) {
        say(line);
    }
    for line in summary(&expected, &record, &verdict) {
        say(line);
    }
    if let Some(path) = &args.output.json {
        let machine = spec.machine.to_string();
        let value =
            json::demonstration(&record, &verdict, &symbols, &expected, args.seed, &machine);
        json::write(path, &value)?;
    }
    Ok(verdict.outcome.exit_code())
}

/// Puts a hang at a hazard of the protocol's down to it: the hazard, what the laboratory's matrix says of it, and the
/// command that shows it alone.
pub fn explained(mut verdict: Verdict, zonelist: Zonelist, record: &Record) -> Verdict {
    if let Ended::Hung(Hang::StuckReader { context, .. }) = record.ended {
        verdict
            .reasons
            .insert(0, lab::explanation(zonelist, context));
    }
    verdict
}

fn spec(args: &DemoArgs) -> Result<Spec> {
    let machine = Machine {
        cpus: args.cpus,
        nodes: args.nodes,
        memory: args.memory,
        accel: usable(args.accel),
        without: args.without.clone(),
    };
    Ok(Spec {
        machine,
        options: Options {
            mode: Mode::Demo {
                cycles: args.cycles,
                seed: args.seed,
                nmi_requests: !args.no_nmi_requests,
                pressure: args.pressure,
            },
            zonelist: args.zonelist,
            plant: args.plant,
            verbose: suite::wants_details(&args.output),
            dump: args.output.dump.clone(),
        },
        built: build::guest()?,
        kernel_image: args.kernel_image.clone(),
        extra: args.extra.clone(),
        watch: if args.gdb { Watch::Off } else { Watch::On },
    })
}

/// KVM if it was asked for and can run a guest here; else TCG.
pub fn usable(accel: Accel) -> Accel {
    match (accel, kvm_obstacle()) {
        (Accel::Kvm, Some(obstacle)) => {
            say(format!("tidemark: no KVM here ({obstacle}): TCG instead"));
            Accel::Tcg
        }
        (Accel::Kvm, None) => {
            say("tidemark: nobody has tried KVM yet: results are untested");
            Accel::Kvm
        }
        (accel @ (Accel::Tcg | Accel::Counted), _) => accel,
    }
}
