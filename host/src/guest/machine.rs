//! The machine that QEMU is to provide, as QEMU's command line.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use tidemark_wire::exit_value;

use crate::terminal::cli::{Accel, Part};
use crate::terminal::size::Mib;

/// The program that runs the guest.
pub const QEMU: &str = "qemu-system-x86_64";
/// Number of DIMMs that the host removes and puts back.
pub const DIMMS: u8 = 2;
/// Size of each DIMM.
pub const DIMM_SIZE: Mib = Mib(256);
/// Unit of hot-plug, a memory section, in MiB: nodes begin on it where memory suffices.
const BLOCK: u64 = (tidemark_frames::SECTION_FRAMES as u64 * tidemark_frames::FRAME_SIZE) >> 20;

/// A machine: its parts, and how QEMU runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub cpus: u16,
    pub nodes: u8,
    pub memory: Mib,
    pub accel: Accel,
    /// The parts that the machine lacks.
    pub without: Vec<Part>,
}

/// The ends of QEMU's character devices.
#[derive(Clone, Copy, Debug)]
pub enum Wiring {
    /// File descriptors that QEMU inherits.
    Inherited(PortFds),
    /// The wiring for a run by hand: console on the terminal, messages nowhere, QMP on a socket.
    ByHand,
}

/// QEMU's ends of the three connections.
#[derive(Clone, Copy, Debug)]
pub struct PortFds {
    pub console: i32,
    pub wire: i32,
    pub qmp: i32,
}

/// The two images of a run.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    pub loader: &'a Path,
    pub kernel: &'a Path,
}

impl Machine {
    /// Returns a machine of two nodes and 3 GiB that lacks nothing.
    pub fn usual(cpus: u16, accel: Accel) -> Self {
        Machine {
            cpus,
            nodes: 2,
            memory: Mib(3072),
            accel,
            without: Vec::new(),
        }
    }

    /// Returns whether SRAT names the nodes. QEMU writes one as soon as memory can be plugged in,
    /// so a machine without it has no DIMMs either.
    pub fn has_srat(&self) -> bool {
        !self.without.contains(&Part::Srat)
    }

    /// Returns the number of DIMMs.
    pub fn dimms(&self) -> u8 {
        if self.has_srat() && !self.without.contains(&Part::Dimms) {
            DIMMS
        } else {
            0
        }
    }

    /// Returns the node that a DIMM belongs to.
    pub fn dimm_node(&self, dimm: u8) -> u8 {
        dimm.min(self.nodes - 1)
    }

    /// Returns the MiB of each node: even shares, on boundaries of memory sections where memory
    /// suffices. The last node gets the rest.
    fn node_sizes(&self) -> Vec<u64> {
        let nodes = u64::from(self.nodes);
        let unit = if self.memory.0 >= BLOCK * nodes {
            BLOCK
        } else {
            2
        };
        let share = self.memory.0 / nodes / unit * unit;
        let mut sizes = vec![share; usize::from(self.nodes)];
        sizes[usize::from(self.nodes) - 1] = self.memory.0 - share * (nodes - 1);
        sizes
    }

    /// Returns the node of a CPU. The CPUs of a node have consecutive numbers.
    fn cpu_node(&self, cpu: u16) -> u8 {
        (u32::from(cpu) * u32::from(self.nodes) / u32::from(self.cpus)) as u8
    }

    /// Returns QEMU's arguments. `options` are the kernel's options.
    pub fn arguments(&self, images: Images<'_>, options: &str, wiring: Wiring) -> Vec<OsString> {
        let mut args = Arguments::default();
        args.flags("-no-user-config -nodefaults -display none -no-reboot");
        args.pair("-name", "tidemark");
        args.pair("-machine", "q35");
        args.pair("-cpu", "max");
        args.pair("-accel", accelerator(self.accel));
        if self.accel == Accel::Counted {
            // Time is the number of instructions, and nothing from outside reaches the guest.
            args.pair("-icount", "shift=0,sleep=off");
            args.pair("-rtc", "base=2026-01-01,clock=vm");
            args.pair("-seed", "1");
        }
        args.pair("-smp", self.topology());
        self.add_memory(&mut args);
        args.path("-kernel", images.loader);
        args.path("-initrd", images.kernel);
        args.pair(
            "-fw_cfg",
            format!(
                "name={},string={}",
                tidemark_wire::CMDLINE_ITEM,
                options.replace(',', ",,")
            ),
        );
        args.pair(
            "-device",
            format!("isa-debug-exit,iobase={:#x},iosize=4", exit_value::PORT),
        );
        match wiring {
            Wiring::Inherited(ports) => {
                // A guest that resets itself by a triple fault stays as it was, to be examined.
                args.flags("-no-shutdown");
                for (name, fd) in [
                    ("console", ports.console),
                    ("wire", ports.wire),
                    ("qmp", ports.qmp),
                ] {
                    args.pair("-chardev", format!("socket,id={name},fd={fd}"));
                }
            }
            Wiring::ByHand => {
                args.pair("-chardev", "stdio,id=console,signal=on");
                args.pair("-chardev", "null,id=wire");
                args.pair("-chardev", "socket,id=qmp,path=qmp.sock,server=on,wait=off");
            }
        }
        args.pair("-serial", "chardev:console");
        args.pair("-serial", "chardev:wire");
        args.pair("-mon", "chardev=qmp,mode=control");
        args.0
    }

    /// Returns one socket for each node if CPUs divide evenly, which leaves gaps between APIC ids.
    /// Otherwise returns one for each CPU.
    fn topology(&self) -> String {
        let (cpus, nodes) = (self.cpus, u16::from(self.nodes));
        let sockets = if cpus.is_multiple_of(nodes) {
            nodes
        } else {
            cpus
        };
        format!(
            "{cpus},sockets={sockets},cores={},threads=1",
            cpus / sockets
        )
    }

    fn add_memory(&self, args: &mut Arguments) {
        if !self.has_srat() {
            args.pair("-m", format!("{}M", self.memory.0));
            return;
        }
        if self.dimms() == 0 {
            args.pair("-m", format!("{}M", self.memory.0));
        } else {
            let most = self.memory.0 + 8 * 1024;
            args.pair("-m", format!("{}M,slots=4,maxmem={most}M", self.memory.0));
        }
        for (node, size) in self.node_sizes().into_iter().enumerate() {
            args.pair(
                "-object",
                format!("memory-backend-ram,id=ram{node},size={size}M,reserve=off"),
            );
            args.pair("-numa", format!("node,nodeid={node},memdev=ram{node}"));
        }
        let cores = self.cores_per_socket();
        for cpu in 0..self.cpus {
            let (socket, core) = (cpu / cores, cpu % cores);
            args.pair(
                "-numa",
                format!(
                    "cpu,node-id={},socket-id={socket},core-id={core},thread-id=0",
                    self.cpu_node(cpu)
                ),
            );
        }
        for from in 0..self.nodes {
            for to in from + 1..self.nodes {
                let distance = 10 + 10 * u32::from(to - from);
                args.pair("-numa", format!("dist,src={from},dst={to},val={distance}"));
            }
        }
        for dimm in 0..self.dimms() {
            args.pair(
                "-object",
                format!("memory-backend-ram,id=mem{dimm},size={}M", DIMM_SIZE.0),
            );
            args.pair(
                "-device",
                format!(
                    "pc-dimm,id=dimm{dimm},memdev=mem{dimm},node={}",
                    self.dimm_node(dimm)
                ),
            );
        }
    }

    fn cores_per_socket(&self) -> u16 {
        let nodes = u16::from(self.nodes);
        if self.cpus.is_multiple_of(nodes) {
            self.cpus / nodes
        } else {
            1
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        write!(
            f,
            "{}, {}, {}, {}",
            plural(self.cpus.into(), "CPU"),
            if self.has_srat() {
                plural(self.nodes.into(), "node")
            } else {
                "no SRAT".to_owned()
            },
            self.memory,
            match self.dimms() {
                0 => "no DIMMs".to_owned(),
                n => format!("{} of {DIMM_SIZE}", plural(n.into(), "DIMM")),
            }
        )
    }
}

fn accelerator(accel: Accel) -> &'static str {
    match accel {
        Accel::Tcg => "tcg,thread=multi",
        Accel::Kvm => "kvm",
        Accel::Counted => "tcg,thread=single",
    }
}

/// Returns QEMU's command line as a shell takes it.
pub fn shell_line(args: &[OsString]) -> String {
    let mut line = QEMU.to_owned();
    for arg in args {
        let text = arg.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=,./:+@%".contains(c);
        line.push_str(if text.starts_with('-') {
            " \\\n  "
        } else {
            " "
        });
        if !text.is_empty() && text.chars().all(plain) {
            line.push_str(&text);
        } else {
            line.push_str(&format!("'{}'", text.replace('\'', r"'\''")));
        }
    }
    line
}

#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn flags(&mut self, words: &str) {
        self.0.extend(words.split(' ').map(OsString::from));
    }

    fn pair(&mut self, name: &str, value: impl Into<OsString>) {
        self.0.push(name.into());
        self.0.push(value.into());
    }

    fn path(&mut self, name: &str, value: &Path) {
        self.pair(name, value.as_os_str());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(cpus: u16, nodes: u8, memory: u64) -> Machine {
        Machine {
            cpus,
            nodes,
            memory: Mib(memory),
            accel: Accel::Tcg,
            without: Vec::new(),
        }
    }

    fn line(machine: &Machine) -> String {
        let images = Images {
            loader: Path::new("boot"),
            kernel: Path::new("kernel"),
        };
        let args = machine.arguments(images, "mode=demo seed=1", Wiring::ByHand);
        shell_line(&args)
    }

    #[test]
    fn nodes_share_memory_evenly_and_lose_none() {
        for (nodes, memory) in [(1, 3072), (2, 3072), (4, 3072), (8, 1100), (2, 48), (8, 33)] {
            let sizes = machine(1, nodes, memory).node_sizes();
            assert_eq!(sizes.iter().sum::<u64>(), memory);
            assert!(sizes.iter().all(|&size| size > 0));
            if memory >= 128 * u64::from(nodes) {
                assert!(sizes[1..].is_empty() || sizes[0].is_multiple_of(128));
            }
        }
    }

    #[test]
    fn cpus_are_spread_over_the_nodes_in_runs() {
        let four = machine(4, 2, 3072);
        let nodes: Vec<u8> = (0..4).map(|cpu| four.cpu_node(cpu)).collect();
        assert_eq!(nodes, [0, 0, 1, 1]);
        let few = machine(2, 4, 3072);
        assert_eq!([few.cpu_node(0), few.cpu_node(1)], [0, 2]);
        assert_eq!(
            machine(6, 2, 64).topology(),
            "6,sockets=2,cores=3,threads=1"
        );
        assert_eq!(
            machine(3, 2, 64).topology(),
            "3,sockets=3,cores=1,threads=1"
        );
    }

    #[test]
    fn dimms_sit_on_the_first_two_nodes() {
        let text = line(&machine(4, 2, 3072));
        assert!(text.contains("id=dimm0,memdev=mem0,node=0"), "{text}");
        assert!(text.contains("id=dimm1,memdev=mem1,node=1"), "{text}");
        assert!(line(&machine(4, 1, 3072)).contains("id=dimm1,memdev=mem1,node=0"));
    }

    #[test]
    fn what_a_machine_lacks_is_not_on_the_line() {
        let mut bare = machine(4, 2, 3072);
        bare.without = vec![Part::Dimms];
        let text = line(&bare);
        assert!(!text.contains("dimm") && text.contains("-numa"), "{text}");
        bare.without = vec![Part::Srat];
        let text = line(&bare);
        assert!(!text.contains("slots") && !text.contains("-numa"), "{text}");
        assert_eq!(bare.dimms(), 0);
    }

    #[test]
    fn the_printed_line_quotes_what_a_shell_would_split() {
        let text = line(&machine(1, 1, 64));
        assert!(
            text.contains("'name=opt/org.tidemark/cmdline,string=mode=demo seed=1'"),
            "{text}"
        );
    }
}
