//! Reads the values of options that have bounds.

use clap::ValueEnum;

use super::values::{Shard, Zonelist, name_of};
use crate::terminal::size::{self, Mib};

/// Fewest MiB that the kernel runs with; less is refused.
pub const MIN_MEMORY: Mib = Mib(32);
/// Most CPUs that the kernel runs with; more is refused.
pub const MAX_CPUS: u16 = 64;
/// Most NUMA nodes that a machine may have.
pub const MAX_NODES: u8 = 8;

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
    if text.is_empty() || text.len() > 48 || text.contains(char::is_whitespace) {
        return Err("1 to 48 characters without white space are wanted".to_owned());
    }
    Ok(text.to_owned())
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
    use super::*;

    #[test]
    fn a_rebuild_is_counted_in_one_protocol_or_in_all() {
        assert_eq!(parse_zonelists("seed"), Ok(vec![Zonelist::Seed]));
        let all = parse_zonelists("all").unwrap();
        assert_eq!(all, Zonelist::value_variants());
        assert!(parse_zonelists("none-such").is_err());
    }
}
