//! The command line of `lab`, and of `lab price`.

use clap::{Args, Subcommand, ValueEnum};

use super::{Accel, LabArgs, OutputArgs, Plant, Zonelist, name_of, parse_cpus};

/// `lab`, alone or with a command of its own.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct LabLine {
    #[command(subcommand)]
    pub command: Option<LabCommand>,
    #[command(flatten)]
    pub args: LabArgs,
}

#[derive(Clone, Debug, Subcommand)]
pub enum LabCommand {
    /// Measures how many of the requests that race a rebuild fail although a fresh walk serves them.
    ///
    /// One zone alone has memory, and 4 MiB of the movable memory before it leave and come back. Each
    /// protocol runs in a guest of its own, once with readers as they come and once with readers that
    /// stay inside their walk while lists are rewritten.
    Price(PriceArgs),
}

/// The price.
#[derive(Args, Clone, Debug)]
pub struct PriceArgs {
    /// Only these protocols.
    ///
    /// Example: lab price --variant none,seed
    #[arg(long, value_enum, value_name = "NAME", value_delimiter = ',')]
    pub variant: Vec<Zonelist>,
    /// How often memory leaves, and comes back, in each half: 1 to 10,000.
    ///
    /// Example: lab price --removals 1000
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub removals: u32,
    /// Number of CPUs, 1 to 64.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = parse_cpus)]
    pub cpus: u16,
    /// How QEMU runs the guest.
    #[arg(long, value_enum, default_value_t = Accel::Tcg)]
    pub accel: Accel,
    #[command(flatten)]
    pub output: OutputArgs,
    /// Makes the verdict fail on purpose.
    #[arg(long, value_enum, hide = true)]
    pub plant: Option<Plant>,
}

/// Reads the name of a protocol, or `all`.
pub(super) fn parse_zonelists(text: &str) -> Result<Vec<Zonelist>, String> {
    if text == "all" {
        return Ok(Zonelist::value_variants().to_vec());
    }
    let found = Zonelist::from_str(text, false).map(|zonelist| vec![zonelist]);
    found.map_err(|_| {
        let names: Vec<String> = Zonelist::value_variants()
            .iter()
            .map(|zonelist| name_of(*zonelist))
            .collect();
        format!("one of all, {} is wanted", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, Command, parse};
    use super::*;

    fn parsed(words: &str) -> Result<Cli, String> {
        parse(words.split(' ').map(Into::into))
    }

    #[test]
    fn lab_is_a_matrix_or_the_price() {
        let Some(Command::Lab(lab)) = parsed("tidemark lab --variant seed").unwrap().command else {
            panic!("no lab");
        };
        assert!(lab.command.is_none());
        assert_eq!(lab.args.variant, Some(Zonelist::Seed));
        let words = "tidemark lab price --variant none,seed --removals 10 --cpus 2";
        let Some(Command::Lab(lab)) = parsed(words).unwrap().command else {
            panic!("no lab");
        };
        let Some(LabCommand::Price(price)) = lab.command else {
            panic!("no price");
        };
        assert_eq!(price.variant, [Zonelist::None, Zonelist::Seed]);
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
    fn a_rebuild_is_counted_in_one_protocol_or_in_all() {
        assert_eq!(parse_zonelists("seed"), Ok(vec![Zonelist::Seed]));
        let all = parse_zonelists("all").unwrap();
        assert_eq!(all, Zonelist::value_variants());
        assert!(parse_zonelists("none-such").is_err());
    }
}
