//! Bringing up the other CPUs.

use super::percpu::CpuId;

/// What came of bringing up the other CPUs.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// How many CPUs are online, the boot CPU included.
    pub online: usize,
    /// APIC ids of CPUs that did not come up in time; `failed_count` are valid.
    pub failed: [u32; super::MAX_CPUS],
    /// How many CPUs did not come up.
    pub failed_count: usize,
}

/// What an application processor runs once it is set up: interrupts off, on a stack of its own.
pub type ApMain = fn(CpuId) -> !;
