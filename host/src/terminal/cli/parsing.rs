//! Reads the values of options that have bounds.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Arg, Command};
use tidemark_frames::Variant;
use tidemark_wire::{LEAST_MEMORY_MIB, PATTERN_BYTES};

use super::values::Shard;
use crate::terminal::release::Zonelist;
use crate::terminal::size::{self, Mib};

/// Most CPUs that the kernel runs with; more is refused.
pub const MAX_CPUS: u16 = tidemark_frames::MAX_CPUS as u16;
/// Most NUMA nodes that a machine may have.
pub const MAX_NODES: u8 = tidemark_frames::MAX_NODES as u8;
/// Fewest MiB that the kernel runs with; less is refused.
pub const MIN_MEMORY: Mib = Mib(LEAST_MEMORY_MIB);

pub(super) fn parse_cpus(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(n) if n > MAX_CPUS => Err(format!("the kernel runs at most {MAX_CPUS} CPUs")),
        Ok(n) if n > 0 => Ok(n),
        _ => Err(format!("a number from 1 to {MAX_CPUS} is wanted")),
    }
}

pub(super) fn parse_nodes(text: &str) -> Result<u8, String> {
    match text.parse::<u8>() {
        Ok(n) if (1..=MAX_NODES).contains(&n) => Ok(n),
        _ => Err(format!("a number from 1 to {MAX_NODES} is wanted")),
    }
}

pub(super) fn parse_memory(text: &str) -> Result<Mib, String> {
    let memory = size::parse(text)?;
    if memory < MIN_MEMORY {
        return Err(format!("the kernel needs {MIN_MEMORY} or more"));
    }
    Ok(memory)
}

pub(super) fn parse_shard(text: &str) -> Result<Shard, String> {
    let parts = text.split_once('/');
    let number = |text: &str| text.parse::<usize>().ok();
    match parts.and_then(|(index, of)| Some((number(index)?, number(of)?))) {
        Some((index, of)) if (1..=of).contains(&index) => Ok(Shard { index, of }),
        _ => Err("a part like 1/2 is wanted".to_owned()),
    }
}

pub(super) fn parse_pattern(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > PATTERN_BYTES || text.contains(char::is_whitespace) {
        return Err(format!(
            "1 to {PATTERN_BYTES} characters without white space are wanted"
        ));
    }
    Ok(text.to_owned())
}

/// Reads one of a table's names, in any case of letters if the option says so.
pub(super) fn one_of<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    name: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    reads(all, name, move |one| PossibleValue::new(name(one)))
}

/// As [`one_of`]; the help says what each is.
pub(super) fn one_of_explained<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    name: fn(T) -> &'static str,
    says: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    reads(all, name, move |one| {
        PossibleValue::new(name(one)).help(says(one))
    })
}

fn reads<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    name: fn(T) -> &'static str,
    shown: impl Fn(T) -> PossibleValue,
) -> impl TypedValueParser<Value = T> {
    let values = all.iter().copied().map(shown);
    PossibleValuesParser::new(values).try_map(move |typed| {
        let mut all = all.iter().copied();
        all.find(|one| name(*one).eq_ignore_ascii_case(&typed))
            .ok_or("a name is wanted")
    })
}

/// Reads the name of a protocol, or a release of Linux.
#[derive(Clone, Copy, Debug)]
pub(super) struct ZonelistName;

impl TypedValueParser for ZonelistName {
    type Value = Zonelist;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Zonelist, clap::Error> {
        Zonelist::parse.parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let names = Variant::NAMES.into_iter().chain(["linux-X"]);
        Some(Box::new(names.map(PossibleValue::new)))
    }
}

/// Reads the name of a protocol, a release of Linux, or `all`.
pub(super) fn parse_zonelists(text: &str) -> Result<Vec<Zonelist>, String> {
    if text == "all" {
        return Ok(Variant::ALL.map(Zonelist::of).to_vec());
    }
    Zonelist::parse(text).map(|zonelist| vec![zonelist])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rebuild_is_counted_in_one_protocol_or_in_all() {
        let seed = Zonelist::of(Variant::Seed);
        assert_eq!(parse_zonelists("seed"), Ok(vec![seed]));
        let all = parse_zonelists("all").unwrap();
        assert_eq!(all, Variant::ALL.map(Zonelist::of));
        assert!(parse_zonelists("none-such").is_err());
    }
}
