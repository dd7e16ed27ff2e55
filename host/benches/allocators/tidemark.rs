//! Our allocator, with threads as CPUs.

use crate::Allocator;
use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::arch::asm;
use std::cell::Cell;
use std::thread::LocalKey;
use tidemark_frames::{
    AllocReport, Block, CpuCaches, CpuId, Frames, FreeError, MigrateError, Node, NodeId,
    OomOutcome, Order, Owner, OwnerKind, PerCpu, Pfn, PfnRange, Platform, Request, SectionMeta,
    SectionNo, SectionSlot, Storage, Topology, Variant, Zone, ZoneId, ZoneKind,
};
use tidemark_sync::{ContextKind, CpuGate, HardIrq, HeldRanks, LocalIrq, Task};

/// The first frame: 4 GiB, where NORMAL begins.
const FIRST: u64 = 1 << 20;
const CPUS: usize = 2;
const OWNER: Owner = Owner::new(OwnerKind::Test, 3);

/// A request of each order. It is made once, as by a caller that makes equal requests again and
/// again.
static REQUESTS: [Request; 11] = {
    let mut requests = [Request::atomic(Order::ZERO).owned_by(OWNER); 11];
    let mut order = 0;
    while order < requests.len() {
        if let Some(order) = Order::new(order as u8) {
            requests[order.get() as usize] = Request::atomic(order).owned_by(OWNER);
        }
        order += 1;
    }
    requests
};

/// A CPU's gate word on cache lines of its own: two of them, because processors fetch two together.
#[repr(align(128))]
struct Line(CpuGate);

static GATES: [Line; CPUS] = [const { Line(CpuGate::new()) }; CPUS];

thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
    /// The gate word of this CPU.
    static GATE: Cell<Option<&'static CpuGate>> = const { Cell::new(None) };
    /// This CPU's part of the storage of the allocator that the thread entered last.
    static CACHES: Cell<Option<&'static CpuCaches>> = const { Cell::new(None) };
    static HELD: &'static HeldRanks = Box::leak(Box::new(HeldRanks::new()));
}

/// Makes the running thread a CPU. Any thread that allocates has done so before.
fn become_cpu(cpu: usize, caches: &'static [CpuCaches]) {
    CPU.set(cpu);
    GATE.set(Some(&GATES[cpu].0));
    CACHES.set(Some(&caches[cpu]));
}

/// Returns a reference that belongs to the CPU that runs this. It is one load, as by a kernel's
/// per-CPU register.
///
/// # Safety
/// The thread is a CPU.
#[inline]
unsafe fn of_this_cpu<T>(of: &'static LocalKey<Cell<Option<&'static T>>>) -> &'static T {
    let of_this_cpu = of.get();
    debug_assert!(of_this_cpu.is_some(), "the thread is no CPU");
    // SAFETY: `become_cpu` has set it, as the caller promises.
    unsafe { of_this_cpu.unwrap_unchecked() }
}

/// Returns the gate word of this thread.
#[inline]
fn gate() -> &'static CpuGate {
    // SAFETY: a thread is made a CPU by `new` or `enter` before it allocates.
    unsafe { of_this_cpu(&GATE) }
}

/// A process as the allocator's surroundings. A thread is a CPU; nothing interrupts it and nothing
/// moves it, so pinning has nothing to do.
pub struct Threads;

impl LocalIrq for Threads {
    fn push_off() {}

    fn pop_off() {}

    fn cpu() -> usize {
        CPU.get()
    }

    fn held() -> &'static HeldRanks {
        HELD.with(|held| *held)
    }
}

impl PerCpu for Threads {
    #[inline]
    fn caches<'m>(&self, _all: &'m [CpuCaches]) -> &'m CpuCaches {
        // SAFETY: a thread is made a CPU by `new` or `enter` before it allocates.
        unsafe { of_this_cpu(&CACHES) }
    }
}

impl Platform for Threads {
    fn pin(&self) {}

    fn unpin(&self) {}

    fn gate(&self, cpu: CpuId) -> &CpuGate {
        &GATES[cpu.0].0
    }

    #[inline]
    fn in_gate(&self) -> bool {
        gate().is_open()
    }

    #[inline]
    fn enter_gate(&self) {
        // SAFETY: this is one instruction on a word that only this thread writes, and that is never
        // freed. It has no memory option, so it is a compiler fence as well.
        unsafe { asm!("inc dword ptr [{}]", in(reg) gate(), options(nostack)) };
    }

    #[inline]
    fn leave_gate(&self) -> bool {
        // SAFETY: this is one instruction on the same word, and a compiler fence as above.
        unsafe {
            asm!("dec dword ptr [{}]", "jne {}", in(reg) gate(), label { return true },
                options(nostack));
        }
        false
    }

    fn local_node(&self) -> NodeId {
        NodeId(0)
    }

    fn cpu_online(&self, _cpu: CpuId) -> bool {
        true
    }

    fn now_ns(&self) -> u64 {
        0
    }

    fn relax(&self, _task: &Task) {
        std::thread::yield_now();
    }

    fn drain_others(&self, _task: &Task) {
        unreachable!("no workload drains the caches of another thread");
    }

    fn any_cpuset(&self) -> bool {
        false
    }

    fn wake_reclaim(&self, _node: NodeId, _context: ContextKind) {}

    fn shrink(&self, _node: NodeId, _highest: ZoneKind, _frames: usize, _task: &Task) -> usize {
        0
    }

    fn reclaimable(&self, _node: NodeId, _highest: ZoneKind) -> usize {
        0
    }

    fn migrate(&self, _pfn: Pfn, _owner: Owner, _task: &Task) -> Result<(), MigrateError> {
        Err(MigrateError::Unmovable)
    }

    fn oom(&self, _report: &AllocReport, _task: &Task) -> OomOutcome {
        OomOutcome::NoVictim
    }

    fn zero(&self, _pfn: Pfn, _order: Order) {}

    fn report(&self, error: &FreeError) {
        panic!("a workload freed what it had not: {error:?}");
    }

    fn begin_grace(&self, _task: &Task) {}

    fn wait_for_grace(&self, _task: &Task) {}
}

/// The allocator and its metadata, for the rest of the process.
pub struct Tidemark {
    frames: &'static Frames<'static, Threads>,
    cpus: &'static [CpuCaches],
    task: HardIrq,
}

// SAFETY: the token only states that the caller does not wait, and it is only ever read.
unsafe impl Sync for Tidemark {}

fn zeroed<T>() -> &'static T {
    let layout = Layout::new::<T>();
    // SAFETY: the layout is not empty.
    let memory = unsafe { alloc_zeroed(layout) };
    if memory.is_null() {
        handle_alloc_error(layout);
    }
    // SAFETY: the memory is fresh, aligned and never freed. The callers' types consist of atomics
    // only, for which zeroes are a value.
    unsafe { &*memory.cast::<T>() }
}

fn leak<T>(count: usize, make: impl FnMut() -> T) -> &'static [T] {
    std::iter::repeat_with(make)
        .take(count)
        .collect::<Vec<_>>()
        .leak()
}

impl Allocator for Tidemark {
    const NAME: &'static str = "tidemark";
    type Block = Block<'static, 'static, Threads>;

    fn new(frames: usize) -> Self {
        let range = PfnRange::new(Pfn(FIRST), Pfn(FIRST + frames as u64));
        let per_section = tidemark_frames::SECTION_FRAMES as u64;
        let sections = range.start.0 / per_section..range.end.0.div_ceil(per_section);
        let cpus = leak(CPUS, CpuCaches::new);
        become_cpu(0, cpus);
        let storage = Storage {
            sections: leak(sections.end as usize, SectionSlot::new),
            cpus,
            nodes: leak(1, Node::new),
            zones: leak(4, Zone::new),
        };
        let allocator: &'static _ =
            Box::leak(Box::new(Frames::new(Threads, storage, Variant::Seed)));
        allocator.set_topology(&Topology::SINGLE);
        for section in sections {
            allocator
                .add_section(SectionNo(section as usize), zeroed::<SectionMeta>())
                .expect("a section gets its books once");
        }
        allocator
            .add_boot_range(range, ZoneId::new(NodeId(0), ZoneKind::Normal))
            .expect("the range has books");
        allocator.finish_boot();
        Self {
            frames: allocator,
            cpus,
            // SAFETY: the requests do not wait, as those of a handler must not. The token has no
            // other consequence.
            task: unsafe { HardIrq::mint() },
        }
    }

    fn enter(&self, cpu: usize) {
        become_cpu(cpu, self.cpus);
    }

    #[inline]
    fn alloc(&self, order: u8) -> Option<Self::Block> {
        let request = REQUESTS.get(usize::from(order))?;
        self.frames.alloc(&self.task, request).ok()
    }

    #[inline]
    fn free(&self, block: Self::Block) {
        drop(block);
    }
}
