//! The kernel's implementation of what the allocator needs of its surroundings.

use super::{cpuset, direct_map, frames, free_errors, oom, page_cache, reclaim, warnings};
use crate::arch::{self, Irqs};
use crate::{console, points, thread, warn};
use core::sync::atomic::{AtomicU8, Ordering};
use tidemark_frames::{
    AllocReport, CpuId, Cpuset, FreeError, MAX_CPUS, MemallocRole, MigrateError, NodeId, NodeMask,
    OomOutcome, Order, Owner, PerCpu, Pfn, Platform, Point, ZoneKind,
};
use tidemark_sync::{ContextKind, CpuGate, HardIrq, HeldRanks, LocalIrq, Task};
use tidemark_wire::LabPoint;

/// The kernel as the allocator's platform.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel;

/// The node of each CPU. It is written at boot before other CPUs run; any context reads it.
static CPU_NODE: [AtomicU8; MAX_CPUS] = [const { AtomicU8::new(0) }; MAX_CPUS];

/// Sets the node of a CPU. It is called at boot.
pub(super) fn set_cpu_node(cpu: usize, node: u8) {
    if let Some(entry) = CPU_NODE.get(cpu) {
        entry.store(node, Ordering::Relaxed);
    }
}

/// Returns the node of a CPU. Any context may call it.
#[inline]
pub fn node_of_cpu(cpu: usize) -> NodeId {
    NodeId(
        CPU_NODE
            .get(cpu)
            .map_or(0, |node| node.load(Ordering::Relaxed)),
    )
}

impl LocalIrq for Kernel {
    fn push_off() {
        <Irqs as LocalIrq>::push_off();
    }

    fn pop_off() {
        <Irqs as LocalIrq>::pop_off();
    }

    fn cpu() -> usize {
        <Irqs as LocalIrq>::cpu()
    }

    fn held() -> &'static HeldRanks {
        <Irqs as LocalIrq>::held()
    }
}

impl PerCpu for Kernel {
    #[cfg(feature = "freestanding")]
    #[inline]
    fn caches<'m>(&self, _all: &'m [tidemark_frames::CpuCaches]) -> &'m tidemark_frames::CpuCaches {
        // SAFETY: `mm::init` sets every CPU's part of the storage when it makes the allocator.
        unsafe { arch::percpu::caches() }
    }
}

impl Platform for Kernel {
    fn pin(&self) {
        arch::preempt::pin_raw();
    }

    #[inline]
    fn unpin(&self) {
        arch::preempt::unpin_raw();
    }

    fn gate(&self, cpu: CpuId) -> &CpuGate {
        arch::percpu::gate(cpu)
    }

    #[inline]
    fn in_gate(&self) -> bool {
        arch::preempt::in_gate()
    }

    #[inline]
    fn enter_gate(&self) {
        arch::preempt::enter_gate();
    }

    #[inline]
    fn leave_gate(&self) -> bool {
        arch::preempt::leave_gate()
    }

    #[inline]
    fn local_node(&self) -> NodeId {
        node_of_cpu(Self::cpu())
    }

    fn cpu_online(&self, cpu: CpuId) -> bool {
        arch::percpu::online_mask() >> cpu.0 & 1 == 1
    }

    fn now_ns(&self) -> u64 {
        arch::time::now_ns()
    }

    #[cfg(feature = "lab")]
    fn own_ns(&self) -> u64 {
        arch::own_time::now_ns()
    }

    fn relax(&self, task: &Task) {
        thread::sleep_ns(task, reclaim::RELAX_NS);
    }

    fn drain_others(&self, task: &Task) {
        fn drain(irq: &HardIrq, _: usize) {
            frames().drain_local(irq);
        }
        arch::ipi::call_on_others(arch::ipi::CallKind::Drain, drain, 0, task);
    }

    #[cfg(feature = "lab")]
    fn spin(&self, _at: tidemark_frames::Spin) -> core::ops::ControlFlow<()> {
        points::turn()
    }

    fn begin_grace(&self, task: &Task) {
        points::passed(LabPoint::GraceBegin);
        thread::grace::begin(task);
    }

    fn wait_for_grace(&self, task: &Task) {
        points::passed(LabPoint::GraceWait);
        thread::grace::wait(task);
    }

    fn with_console_deferred(&self, section: &mut dyn FnMut()) {
        let _deferred = console::Deferred::enter();
        section();
    }

    fn wake_reclaim(&self, node: NodeId, _context: ContextKind) {
        reclaim::wake(node);
    }

    #[inline]
    fn reclaimers_asked(&self) -> NodeMask {
        reclaim::asked_already()
    }

    fn shrink(&self, node: NodeId, highest: ZoneKind, frames: usize, task: &Task) -> usize {
        reclaim::direct(node, highest, frames, task)
    }

    fn reclaimable(&self, node: NodeId, highest: ZoneKind) -> usize {
        page_cache::resident_in(node, highest)
    }

    fn migrate(&self, pfn: Pfn, owner: Owner, task: &Task) -> Result<(), MigrateError> {
        page_cache::migrate(pfn, owner, task)
    }

    #[inline]
    fn frees_by_exchange(&self) -> bool {
        cfg!(feature = "lab")
    }

    #[inline]
    fn any_cpuset(&self) -> bool {
        thread::any_cpuset()
    }

    #[inline]
    fn cpuset(&self, task: &Task) -> Option<Cpuset> {
        cpuset::current(task)
    }

    #[inline]
    fn memalloc_role(&self, task: &Task) -> MemallocRole {
        cpuset::memalloc_role(task)
    }

    fn oom(&self, report: &AllocReport, task: &Task) -> OomOutcome {
        #[cfg(feature = "lab")]
        if points::takes_oom() {
            return OomOutcome::NoVictim;
        }
        oom::handle(report, task)
    }

    fn alloc_failed(&self, report: &AllocReport, context: ContextKind) {
        warnings::failed(report, context);
    }

    fn zero(&self, pfn: Pfn, order: Order) {
        for frame in 0..order.frames() {
            // SAFETY: the allocator zeroes a block after it has taken it and before it hands it
            // out. No other code has the block then, and allocated memory is mapped.
            unsafe { direct_map::words_mut(Pfn(pfn.0 + frame)) }.fill(0);
        }
    }

    fn report(&self, error: &FreeError) {
        free_errors::record(error);
        warn!(
            "bad free on cpu{}: {:?} of frame {} order {}; its entry says {:?}",
            error.cpu.0, error.fault, error.pfn, error.order, error.found
        );
    }

    #[cfg(feature = "lab")]
    #[inline(always)]
    fn step(&self, step: &'static tidemark_frames::Step) {
        points::stepped(step);
    }

    #[cfg(feature = "lab")]
    fn planted(&self, mistake: tidemark_frames::Mistake) -> bool {
        points::is_planted(mistake)
    }

    fn point(&self, point: Point) {
        #[cfg(feature = "lab")]
        points::reached(point);
        #[cfg(not(feature = "lab"))]
        let _ = point;
    }
}
