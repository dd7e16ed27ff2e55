//! The demonstration, from its options to its exit code.

use anyhow::Result;

use crate::commands::lab;
use crate::guest::accel::usable;
use crate::guest::conductor::Watch;
use crate::guest::machine::{Machine, Wiring, shell_line};
use crate::guest::options::{Mode, Options};
use crate::guest::run::{Spec, run as run_guest};
use crate::guest::{build, qemu};
use crate::judge::json;
use crate::judge::report::{crash_report, summary};
use crate::judge::symbols::Symbols;
use crate::judge::verdict::{Expectation, judge};
use crate::terminal::cli::{DemoArgs, Verbosity};
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
        args.zonelist.alias().iter().for_each(say);
    }
    if args.gdb {
        say(format!(
            "QEMU waits for: gdb {} -ex 'target remote :1234'",
            spec.built.unstripped.display()
        ));
    }
    let record = run_guest(&spec, |line| console.line(line))?;
    console.unfold();
    let expected = Expectation {
        cycles: args.cycles,
        dimms: spec.machine.dimms(),
        cpus: args.cpus,
        zonelist: args.zonelist,
        pressure: args.pressure,
    };
    let verdict = lab::explained(judge(&expected, &record), args.zonelist.variant, &record);
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

fn spec(args: &DemoArgs) -> Result<Spec> {
    let machine = Machine {
        cpus: args.cpus,
        nodes: args.nodes,
        memory: args.memory,
        accel: usable(args.accel),
        without: args.without.clone(),
    };
    let mode = Mode::Demo {
        cycles: args.cycles,
        seed: args.seed,
        nmi_requests: !args.no_nmi_requests,
        pressure: args.pressure,
    };
    let options = Options {
        plant: args.plant,
        verbose: args.output.wants_details(),
        dump: args.output.dump.clone(),
        ..Options::new(mode, args.zonelist.variant)
    };
    Ok(Spec {
        kernel_image: args.kernel_image.clone(),
        extra: args.extra.clone(),
        watch: if args.gdb { Watch::Off } else { Watch::On },
        ..Spec::new(machine, options, &build::guest()?)
    })
}
