//! Lists the machines that the self-tests run on, and which self-tests each is for.

use crate::guest::machine::Machine;
use crate::terminal::cli::{Part, TestArgs};
use crate::terminal::size::Mib;
use tidemark_frames::Variant;

/// One machine that the self-tests run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    pub name: &'static str,
    pub machine: Machine,
    /// The protocol of its zonelists.
    pub zonelist: Variant,
    /// Only the self-tests whose name contains this run on it; empty means all.
    pub only: &'static str,
}

/// The machines of `test`, or of `test --full`, or the one that the options describe.
pub fn configurations(args: &TestArgs) -> Vec<Configuration> {
    let configuration = |name, cpus, nodes, memory, without: &[Part]| Configuration {
        name,
        machine: Machine {
            cpus,
            nodes,
            memory: Mib(memory),
            accel: args.accel,
            without: without.to_vec(),
        },
        zonelist: Variant::Seed,
        only: "",
    };
    if is_custom(args) {
        let usual = Machine::usual(4, args.accel);
        return vec![Configuration {
            name: "custom",
            machine: Machine {
                cpus: args.cpus.unwrap_or(usual.cpus),
                nodes: args.nodes.unwrap_or(usual.nodes),
                memory: args.memory.unwrap_or(usual.memory),
                without: args.without.clone(),
                ..usual
            },
            zonelist: args.zonelist.map_or(Variant::Seed, |asked| asked.variant),
            only: "",
        }];
    }
    let mut list = vec![
        configuration("1cpu-1node", 1, 1, 3072, &[]),
        configuration("4cpu-2node", 4, 2, 3072, &[]),
        configuration("2cpu-48m", 2, 1, 48, &[]),
    ];
    if args.full {
        list.extend([
            configuration("8cpu-4node", 8, 4, 3072, &[]),
            configuration("16cpu", 16, 2, 3072, &[]),
            configuration("no-srat", 4, 2, 3072, &[Part::Srat]),
            configuration("no-dimms", 4, 2, 3072, &[Part::Dimms]),
            configuration("8g", 4, 2, 8192, &[]),
        ]);
        // The other machines have the seed. These are called like their protocols.
        let others = Variant::ALL
            .into_iter()
            .filter(|other| *other != Variant::Seed);
        list.extend(others.map(|zonelist| Configuration {
            zonelist,
            only: "zonelist/",
            ..configuration(zonelist.name(), 4, 2, 3072, &[])
        }));
    } else {
        list.push(Configuration {
            only: "storm/",
            ..configuration("8cpu-storm", 8, 2, 3072, &[])
        });
    }
    // QEMU takes memory as the guest touches it. Booting touches little of it; the other self-tests
    // touch much.
    list.push(Configuration {
        only: "boot/",
        ..configuration("16g", 4, 2, 16_384, &[])
    });
    list
}

/// Returns why a machine's memory cannot be had here, if it cannot. Some kernels count memory when
/// it is asked for, not when it is touched.
pub fn obstacle(machine: &Machine) -> Option<String> {
    let strict = std::fs::read_to_string("/proc/sys/vm/overcommit_memory")
        .is_ok_and(|mode| mode.trim() == "2");
    let left = || {
        let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
        let number = |name: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        Some(number("CommitLimit:")?.saturating_sub(number("Committed_AS:")?) / 1024)
    };
    let left = left().filter(|&left| strict && left < machine.memory.0)?;
    Some(format!(
        "{left} MiB may be promised here (vm.overcommit_memory is 2), {} are wanted",
        machine.memory.0
    ))
}

/// Returns the pattern for a machine's self-tests: the user's pattern, restricted to those that the
/// machine is for. Returns nothing if it is for none of them.
pub fn pattern(configuration: &Configuration, args: &TestArgs) -> Option<String> {
    let (wanted, only) = (args.pattern.as_deref().unwrap_or(""), configuration.only);
    if only.contains(wanted) {
        return Some(only.to_owned());
    }
    wanted.starts_with(only).then(|| wanted.to_owned())
}

/// Returns whether the options describe a machine.
pub fn is_custom(args: &TestArgs) -> bool {
    args.cpus.is_some()
        || args.nodes.is_some()
        || args.memory.is_some()
        || args.zonelist.is_some()
        || !args.without.is_empty()
}

#[cfg(test)]
#[path = "configurations_tests.rs"]
mod tests;
