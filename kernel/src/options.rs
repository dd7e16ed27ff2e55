//! The kernel's options: words of the fw_cfg item [`tidemark_wire::CMDLINE_ITEM`].

/// What the kernel does after boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The demonstration.
    Demo,
    /// The self-tests.
    Test,
}

/// A fault planted on purpose, so that each verdict can be seen to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// A frame that nobody gives back.
    LostFrame,
    /// A page whose content changes behind its owner's back.
    CorruptPage,
    /// An atomic request that fails outside announced pressure.
    AtomicFailure,
    /// An eject that is never written.
    MissedEject,
    /// Interrupts left off on one CPU.
    IrqOn,
    /// A panic.
    Panic,
    /// A CPU that spins with interrupts off.
    Hang,
    /// A triple fault.
    TripleFault,
}

/// The zonelist protocol chosen at boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zonelist {
    /// The spinlock with interrupts off around a bare counter.
    Seed,
}

/// All options, each with its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What to do after boot.
    pub mode: Mode,
    /// Run only the self-tests whose `group/name` contains this; empty means all.
    pub pattern: Pattern,
    /// Cycles of the demonstration, 1 to 10,000.
    pub cycles: u32,
    /// Seed of the workload's choices.
    pub seed: u64,
    /// The zonelist protocol.
    pub zonelist: Zonelist,
    /// A planted fault.
    pub plant: Option<Plant>,
    /// Whether debug records are shown.
    pub verbose: bool,
    /// Timer interrupts a second and CPU, 10 to 1,000.
    pub timer_hz: u32,
    /// Use at most this many CPUs, 1 to 64.
    pub cpus: u32,
}

/// A short piece of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    bytes: [u8; 48],
    len: u8,
}

impl Pattern {
    /// The text.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len as usize]).unwrap_or("")
    }
}

/// The options of this boot: the defaults until [`init`] has read them.
pub fn get() -> &'static Options {
    todo!()
}

/// Reads and parses the options. On an unknown one or a bad value prints one line that names it, and the known ones, and exits `REFUSED`.
pub fn init() {
    todo!()
}
