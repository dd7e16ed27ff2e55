//! What the kernel and its host say to each other on the second serial port.
//!
//! A message is one COBS frame of [postcard](https://postcard.jamesmunns.com) bytes. It ends with a
//! zero byte, so a reader that joins late, or that meets a damaged frame, resumes at the next zero.
//! The console (COM1) carries text only; nothing here is ever parsed out of the log.
#![no_std]

mod bench;
mod frame;
mod lab;
mod options;
mod price;

pub use bench::{BenchResult, BenchRow};
pub use frame::{Decoder, MAX_FRAME_BYTES, WireError, encode};
pub use lab::{
    AtCounter, Awaited, EntryRead, Hazard, LabContext, LabPoint, LabResult, LabStep, LabVerdict,
    ListNow, Party, Role, Stay, Text, WaitsFor, ZoneName, ZoneNow,
};
pub use options::{
    Bounds, CMDLINE_ITEM, CYCLES, LEAST_MEMORY_MIB, PATTERN_BYTES, Plant, Pressure, STORM, Topic,
};
pub use price::{PriceContext, PriceRow};
pub use tidemark_facts::exit_value;

use serde::{Deserialize, Serialize};

/// Version of the messages below; [`ToHost::Hello`] carries it and the host refuses another.
pub const PROTOCOL_VERSION: u16 = 3;

/// What the shell writes when it waits for a line; the host, feeding it from a pipe, waits for
/// this.
pub const SHELL_PROMPT: &str = "tidemark> ";

/// A dumped table lies between a line of this with its name, and one of [`DUMP_END`] with its name.
pub const DUMP_BEGIN: &str = "--- ";
/// See [`DUMP_BEGIN`].
pub const DUMP_END: &str = "--- end of ";

tidemark_facts::named! {
    /// A source of allocation requests: the rows of the summary, in the order of tables.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub enum Source {
        Task = "task", "kernel threads",
        Timer = "timer", "the LAPIC timer interrupt, on every CPU",
        CallFunction = "call-function", "the call-function IPI, on every CPU",
        SerialRx = "serial-rx", "COM1's receive interrupt",
        Sci = "sci", "the ACPI system control interrupt",
        Nmi = "nmi", "the non-maskable interrupt",
    }
}

/// What happened to the requests of one [`Source`] during the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceCounts {
    /// Allocation requests made.
    pub requests: u64,
    /// Requests that returned no frame, whatever the reason.
    pub failures: u64,
    /// Failures whose walk overlapped a rebuild.
    pub failures_overlapping_rebuild: u64,
    /// Of those, the ones after which a second request, made at once, was served: the price of a
    /// reader that does not retry.
    pub failures_fresh_walk_serves: u64,
    /// Failures while the kernel had announced that it would take the zones below their marks.
    pub failures_under_announced_pressure: u64,
    /// Requests that entered the slow path.
    pub slow_path: u64,
    /// Slow-path entries that read an odd counter.
    pub odd: u64,
    /// Slow-path walks whose counter was odd, or changed, between begin and end.
    pub overlapped: u64,
    /// Retries that the counter caused.
    pub retries: u64,
}

/// The totals of a demonstration, as the guest counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Cycles completed; a cycle pulls every DIMM and puts it back.
    pub cycles: u32,
    /// Zonelist rebuilds.
    pub rebuilds: u64,
    /// Whether the protocol's writer turns interrupts off; if not, the next two are 0.
    pub irqs_off: bool,
    /// Longest stretch of one rebuild with interrupts off, in nanoseconds.
    pub irq_off_max_ns: u64,
    /// Median of the stretches with interrupts off, in nanoseconds.
    pub irq_off_median_ns: u64,
    /// Looks between the two steps of the counter that found interrupts on: 0, or the writer's lock
    /// does not do what it is for.
    pub rebuilds_with_interrupts_on: u64,
    /// Removals for which a request that may reclaim was to be held over the rebuild.
    pub probes: u64,
    /// Of those, the ones whose request chose its start before the rebuild and walked after it.
    pub probes_held: u64,
    /// How often those requests began again.
    pub probes_retries: u64,
    /// Of those requests, the ones that failed although a second one, made at once, was served.
    pub probes_failed: u64,
    /// Frames that are neither free, cached nor owned by anybody.
    pub frames_lost: u64,
    /// Pages whose content was not what their owner had written.
    pub pages_corrupted: u64,
    /// Pages that were read back and compared.
    pub pages_checked: u64,
    /// Pulls asked of the host.
    pub pulls: u64,
    /// Pulls that the host confirmed with QEMU's `DEVICE_DELETED`.
    pub pulls_confirmed: u64,
    /// DIMMs put back and onlined.
    pub plugs: u64,
    /// Frames migrated off leaving DIMMs.
    pub migrated: u64,
    /// Page-cache frames reclaimed.
    pub reclaimed: u64,
    /// Log records lost because a ring was full.
    pub log_lost: u64,
    /// Whether the oracle found everything in order at rest, at the end.
    pub validate_ok: bool,
    /// Whether every verdict that the guest can judge passed.
    pub passed: bool,
}

/// What the guest asks of the host: a fixed list, nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// Ask QEMU to remove this DIMM (`device_del`).
    Pull {
        /// Number of the DIMM, from 0.
        dimm: u8,
    },
    /// Put this DIMM back (`device_add`).
    Plug {
        /// Number of the DIMM, from 0.
        dimm: u8,
    },
    /// Inject an NMI into every CPU through LINT1 (`inject-nmi`).
    InjectNmi,
    /// Say whether the laboratory's result and every step of its trace have arrived.
    LabHeard,
    /// Type this many bytes into COM1.
    Type {
        /// Number of bytes, 1 to 255.
        bytes: u8,
    },
}

/// From the guest to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToHost {
    /// First message.
    Hello {
        /// [`PROTOCOL_VERSION`] of the guest.
        protocol: u16,
    },
    /// Boot is over; the demonstration or the tests begin.
    Ready {
        /// CPUs that came up.
        cpus: u16,
        /// CPUs that the tables name but that did not come up.
        cpus_left_out: u16,
        /// Nodes with memory.
        nodes: u8,
    },
    /// Sent every 100 ms of guest time by a thread; carries what every CPU's timer has counted.
    Heartbeat {
        /// Number of this heartbeat, from 0.
        seq: u32,
        /// Guest time since boot, in nanoseconds.
        now_ns: u64,
        /// A CPU whose timer has not ticked since at least ten heartbeats.
        silent_cpu: Option<u16>,
    },
    /// The guest asks for something and waits for [`ToGuest::Answer`] with the same number.
    Ask {
        /// Number of the request, from 1.
        id: u32,
        /// What is asked.
        ask: Ask,
    },
    /// One row of the summary.
    Counts {
        /// What made the requests.
        source: Source,
        /// What happened to them.
        counts: SourceCounts,
    },
    /// The totals; the guest exits after it.
    Totals(Totals),
    /// One row of the benchmark.
    Bench(BenchResult),
    /// One row of the price.
    Price(PriceRow),
    /// The kernel is dying; COM1 has the words.
    Crash {
        /// CPU that died first.
        cpu: u16,
        /// Instruction pointer where it was.
        rip: u64,
    },
    /// A reader of the zonelists waits for the rebuild that it has interrupted, so for ever.
    StuckReader {
        /// Its CPU, which is the writer's.
        cpu: u16,
        /// What it is: an interrupt's or an NMI's handler.
        context: LabContext,
        /// Instruction pointer where it waits.
        rip: u64,
    },
    /// A step of the laboratory's trace, in order.
    LabStep(LabStep),
    /// What the laboratory found; the guest exits after it.
    LabResult(LabResult),
}

/// From the host to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToGuest {
    /// QEMU accepted or refused what was asked.
    Answer {
        /// Number of the request.
        id: u32,
        /// Whether QEMU accepted it.
        accepted: bool,
    },
    /// QEMU sent `DEVICE_DELETED` for this DIMM.
    DeviceDeleted {
        /// Number of the DIMM, from 0.
        dimm: u8,
    },
    /// QEMU sent `ACPI_DEVICE_OST` for this DIMM's slot.
    Ost {
        /// Number of the DIMM, from 0.
        dimm: u8,
        /// OST source event.
        source: u32,
        /// OST status code.
        status: u32,
    },
}
