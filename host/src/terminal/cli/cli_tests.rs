use super::*;
use crate::terminal::release::Zonelist;
use crate::terminal::size::Mib;
use clap::CommandFactory;
use tidemark_frames::Variant;

fn parsed(line: &str) -> Result<Cli, String> {
    parse(line.split_whitespace().map(OsString::from))
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_defaults_are_the_machine_of_the_demonstration() {
    let cli = parsed("tidemark").unwrap();
    assert_eq!((cli.demo.cpus, cli.demo.nodes), (4, 2));
    assert_eq!((cli.demo.memory, cli.demo.cycles), (Mib(3072), 10));
}

#[test]
fn what_is_wrong_is_said_on_one_line() {
    for (line, part) in [
        ("tidemark --bogus", "--bogus"),
        ("tidemark --cpus 65", "at most 64 CPUs"),
        ("tidemark --cpus 0", "from 1 to 64"),
        ("tidemark --memory 31M", "32 MiB or more"),
        ("tidemark --nodes 9", "from 1 to 8"),
        ("tidemark --cycles 0", "0 is not in"),
        ("tidemark --accel xen", "tcg, kvm"),
        ("tidemark tset", "tset"),
        ("tidemark --zonelist seqcount", "seqlock-irqoff-recheck, "),
        ("tidemark --zonelist linux-5.4.290", "6.0 to 6.19"),
        ("tidemark lab --variant linux-7.9", "7.0 to 7.2"),
        ("tidemark -v -q", "cannot be used with"),
        ("tidemark test --full --cpus 2", "cannot be used with"),
    ] {
        let error = parsed(line).expect_err(line);
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains(part), "{line}: {error}");
    }
}

#[test]
fn what_follows_the_dashes_is_for_qemu() {
    let cli = parsed("tidemark --cpus 2 -- -d int").unwrap();
    assert_eq!(cli.demo.extra, ["-d", "int"]);
}

#[test]
fn every_visible_option_of_the_demonstration_has_an_example() {
    for arg in Cli::command().get_arguments() {
        let hidden = arg.is_hide_set() || arg.get_long().is_none();
        if hidden || ["help", "version"].contains(&arg.get_id().as_str()) {
            continue;
        }
        let help = arg.get_long_help().map(ToString::to_string);
        assert!(help.is_some_and(|h| h.contains("Example:")), "{arg}");
    }
}

#[test]
fn lab_is_a_matrix_or_the_price() {
    let Some(Command::Lab(lab)) = parsed("tidemark lab --variant seed").unwrap().command else {
        panic!("no lab");
    };
    assert!(lab.command.is_none());
    assert_eq!(lab.args.variant, Some(Zonelist::of(Variant::Seed)));
    let words = "tidemark lab price --variant none,seed --removals 10 --cpus 2";
    let Some(Command::Lab(lab)) = parsed(words).unwrap().command else {
        panic!("no lab");
    };
    let Some(LabCommand::Price(price)) = lab.command else {
        panic!("no price");
    };
    assert_eq!(
        price.variant,
        [Variant::None, Variant::Seed].map(Zonelist::of)
    );
    assert_eq!((price.removals, price.cpus), (10, 2));
    for wrong in [
        "tidemark lab --show price",
        "tidemark lab price --removals 0",
        "tidemark lab price --variant seqcount",
    ] {
        assert!(parsed(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_protocol_is_named_by_a_release_of_linux() {
    let cli = parsed("tidemark --zonelist linux-6.1.192").unwrap();
    assert_eq!(cli.demo.zonelist.variant, Variant::SeqlockIrqoffRecheck);
    assert!(cli.demo.zonelist.release.is_some());
}
