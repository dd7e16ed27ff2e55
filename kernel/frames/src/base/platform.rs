//! The trait [`Platform`]: what the allocator needs of its surroundings.

use crate::base::{
    cpuset::Cpuset,
    mistake::Mistake,
    outcome::WalkInfo,
    owner::{Entry, FrameState, Owner},
    request::Gfp,
    types::{CpuId, MAX_NODES, NodeId, NodeMask, Order, Pfn, ZoneId, ZoneKind},
};
use core::ops::ControlFlow;
use tidemark_sync::{ContextKind, CpuGate, LocalIrq, Task, atomic::spin_loop};

/// The surroundings of the allocator: the kernel, a host test or a model checker.
///
/// Unless its doc says otherwise, the allocator may call a method in any context, an NMI included.
pub trait Platform: LocalIrq + Sized {
    /// Keeps the caller on its CPU until [`Platform::unpin`]: no preemption. Pins are counted, so
    /// they nest.
    fn pin(&self);

    /// Ends one pin. In a task it may switch threads, if a switch is due. It does what the platform
    /// owes at the end of pins and gated sections, such as the acknowledgement of a grace period.
    fn unpin(&self);

    /// Returns the gate of a CPU's caches: the word that says whether a gated section is open
    /// there, and what is owed at its end.
    ///
    /// A gated section keeps its caller on its CPU as a pin does. So code that tests for pins
    /// (preemption, grace periods) must test [`CpuGate::holds`], too. It may leave its work to the
    /// section's end by [`CpuGate::owe`], with bits from [`CpuGate::PLATFORM`] on.
    fn gate(&self, cpu: CpuId) -> &CpuGate;

    /// Returns whether a gated section is open on the running CPU. The caller need not be pinned.
    ///
    /// This method and the next two act on the gate of the CPU that runs them. The defaults look it
    /// up by the CPU's number. If tasks move between CPUs, the platform must find the gate and
    /// change it in one instruction.
    #[inline]
    fn in_gate(&self) -> bool {
        self.gate(CpuId(Self::cpu())).is_open()
    }

    /// Begins a gated section, just after [`Platform::in_gate`] has returned `false`. A task that
    /// was moved to another CPU in between finds the gate closed there, too. No task is switched
    /// away inside a gated section, and those of handlers end before they return.
    #[inline]
    fn enter_gate(&self) {
        self.gate(CpuId(Self::cpu())).begin();
    }

    /// Ends a gated section, and returns whether anything is owed. The caller then does what the
    /// allocator owes, and pins and unpins, so that [`Platform::unpin`] does what the platform
    /// owes.
    #[inline]
    fn leave_gate(&self) -> bool {
        self.gate(CpuId(Self::cpu())).end()
    }

    /// Returns the node of the CPU that runs this.
    fn local_node(&self) -> NodeId;

    /// Returns whether this CPU is online: drains interrupt it and wait for it.
    fn cpu_online(&self, cpu: CpuId) -> bool;

    /// Returns the monotonic time in nanoseconds.
    fn now_ns(&self) -> u64;

    /// Returns the monotonic time in nanoseconds that the running CPU spends on its own work. A
    /// platform with hooks at its schedule points may leave out what hooks and NMIs took. The
    /// caller has interrupts off.
    #[inline]
    fn own_ns(&self) -> u64 {
        self.now_ns()
    }

    /// Lets time pass in a task that waits, by a yield or a spin. Task context.
    fn relax(&self, task: &Task);

    /// Runs [`Frames::drain_local`](crate::Frames::drain_local) in hard-interrupt context on every
    /// online CPU but the caller's, and returns when all these handlers have run. Task context,
    /// interrupts on.
    fn drain_others(&self, task: &Task);

    /// Asks the background reclaimer of `node` to run. An NMI may only set a bit and interrupt its
    /// own CPU.
    fn wake_reclaim(&self, node: NodeId, context: ContextKind);

    /// Returns nodes that need no call of [`Platform::wake_reclaim`]. Such a node has no reclaimer,
    /// or one that has been asked and has not begun to look since. The set may leave out such
    /// nodes.
    #[inline]
    fn reclaimers_asked(&self) -> NodeMask {
        NodeMask::NONE
    }

    /// Frees up to `frames` reclaimable frames of `node` in zones up to `highest`, and returns how
    /// many it freed. Task context.
    fn shrink(&self, node: NodeId, highest: ZoneKind, frames: usize, task: &Task) -> usize;

    /// Returns about how many frames of `node` could be reclaimed from zones up to `highest`.
    fn reclaimable(&self, node: NodeId, highest: ZoneKind) -> usize;

    /// Moves the content of a movable block elsewhere and frees the block. `owner` is what the
    /// entry of its first frame said; the platform must cope with an owner that has changed since.
    /// Its own requests above order 0 must not have DIRECT_RECLAIM, or they would compact in turn.
    /// Task context.
    ///
    /// # Errors
    ///
    /// [`MigrateError::Busy`] if the block cannot be moved at this moment;
    /// [`MigrateError::Unmovable`] if its owner cannot move it at all.
    fn migrate(&self, pfn: Pfn, owner: Owner, task: &Task) -> Result<(), MigrateError>;

    /// Returns whether each free claims its block by a locked exchange, so that a second free that
    /// races with it is found at once. Otherwise it is found when a cache hands the frame out a
    /// second time, or is drained.
    #[inline]
    fn frees_by_exchange(&self) -> bool {
        false
    }

    /// Returns whether [`Platform::cpuset`] returns a cpuset for any task. While it does, no task's
    /// request takes the hot path. Every request of a task asks this, so it should be one load at
    /// most.
    fn any_cpuset(&self) -> bool;

    /// Returns the nodes that the task's requests may use, if they may not use all. The fast path
    /// asks this, too, so it should be cheap where no cpuset is in force. The answer may change at
    /// any time: a request reads it again before it gives up.
    #[inline]
    fn cpuset(&self, task: &Task) -> Option<Cpuset> {
        let _ = task;
        None
    }

    /// Returns what the task may take of the memory reserves. The answer may change at any time.
    fn memalloc_role(&self, task: &Task) -> MemallocRole {
        let _ = task;
        MemallocRole::Ordinary
    }

    /// Reports that no progress is possible, and kills a victim if there is one. Task context.
    fn oom(&self, report: &AllocReport, task: &Task) -> OomOutcome;

    /// Receives the report of a failed request without NOWARN.
    fn alloc_failed(&self, report: &AllocReport, context: ContextKind) {
        let _ = (report, context);
    }

    /// Fills a block with zeroes.
    fn zero(&self, pfn: Pfn, order: Order);

    /// Receives an error that a free, a pop from a cache or a drain has found. The frame was left
    /// alone.
    fn report(&self, error: &FreeError);

    /// Takes one turn of a wait that may never end: for an even counter, in any context. In a run
    /// of the laboratory the watchdog may end the wait by `Break`; the request then goes on with an
    /// odd counter.
    #[inline]
    fn spin(&self, at: Spin) -> ControlFlow<()> {
        let _ = at;
        spin_loop();
        ControlFlow::Continue(())
    }

    /// Runs `work` with this CPU's printing deferred. The caller stays on its CPU.
    fn with_console_deferred(&self, work: &mut dyn FnMut()) {
        work();
    }

    /// Begins a grace period: asks every online CPU to acknowledge as soon as it is outside its
    /// pins and gated sections. It waits only until all have been asked. At most one grace period
    /// runs at a time. Task context, interrupts on, no spinlock and no pin held.
    fn begin_grace(&self, task: &Task);

    /// Waits for the end of the grace period that was begun last, if one was: every online CPU has
    /// acknowledged, or has stopped. The context is that of [`Platform::begin_grace`].
    fn wait_for_grace(&self, task: &Task);

    /// Marks a step at which tests let an interrupt or NMI come. A platform that does nothing here
    /// pays nothing for it. The caller may be inside a gated section; it holds no lock, and nothing
    /// may sleep here.
    #[inline(always)]
    fn step(&self, step: &'static Step) {
        let _ = step;
    }

    /// Marks a schedule point, at which tests and the laboratory may stop or delay the caller.
    #[inline(always)]
    fn point(&self, point: Point) {
        let _ = point;
    }

    /// Returns whether the zonelist protocol makes this mistake on purpose. Only rebuilds and the
    /// slow path ask; a platform that returns the constant `false` pays nothing for it.
    #[inline(always)]
    fn planted(&self, mistake: Mistake) -> bool {
        let _ = mistake;
        false
    }
}

/// Nodes, their distances, and which of them have CPUs.
#[derive(Clone, Copy, Debug)]
pub struct Topology {
    /// Nodes of the machine.
    pub nodes: NodeMask,
    /// Nodes with CPUs.
    pub with_cpus: NodeMask,
    /// SLIT distances, row by row; 10 is local.
    pub distance: [[u8; MAX_NODES]; MAX_NODES],
}

impl Topology {
    /// One node, with all memory and CPUs.
    pub const SINGLE: Self = Self::flat(NodeMask(1));

    /// Returns these nodes, all with CPUs, at distance 20 from each other.
    pub const fn flat(nodes: NodeMask) -> Self {
        let mut distance = [[20; MAX_NODES]; MAX_NODES];
        let mut node = 0;
        while node < MAX_NODES {
            distance[node][node] = 10;
            node += 1;
        }
        Self {
            nodes,
            with_cpus: nodes,
            distance,
        }
    }
}

/// Why a block could not be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrateError {
    /// The block is in use at this moment, or no target was found. A later try may succeed.
    Busy,
    /// The owner cannot be moved at all.
    Unmovable,
}

/// A task's share of the memory reserves, whatever its flags. Requests with NOMEMALLOC do not get
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemallocRole {
    /// Nothing special.
    Ordinary,
    /// The task is an OOM victim. So that it can end, its requests keep only half of the floor that
    /// their flags give them.
    Victim,
    /// The task reclaims. Its requests ignore the watermarks, as with MEMALLOC, and do not reclaim
    /// in turn.
    Reclaimer,
}

/// What the OOM hook achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OomOutcome {
    /// A victim was killed, or is dying: memory will come.
    VictimKilled,
    /// No victim is left.
    NoVictim,
}

/// A request that failed, or is about to.
#[derive(Clone, Copy, Debug)]
pub struct AllocReport {
    /// Its order.
    pub order: Order,
    /// Its flags.
    pub gfp: Gfp,
    /// The node that it wanted.
    pub node: NodeId,
    /// Nodes that it could use: those that its caller permits, within its task's cpuset.
    pub nodes: NodeMask,
    /// What its walks met.
    pub walk: WalkInfo,
}

/// What a free, a pop from a cache or a drain found wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreeFault {
    /// The frame is free already.
    DoubleFree,
    /// The frame is in a cache already.
    DoubleFreeCached,
    /// The block was allocated with another order.
    WrongOrder,
    /// The frame is not the allocator's, or not the first one of a block.
    Foreign,
    /// A frame in a cache is not marked as cached: two CPUs freed it at once.
    CacheCorrupt,
    /// The bits of the block were clear already. This check comes last, and finds what the others
    /// have missed.
    BitsClear,
}

/// An error found by a free, a pop from a cache or a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeError {
    /// What was wrong.
    pub fault: FreeFault,
    /// The frame.
    pub pfn: Pfn,
    /// Order that was expected.
    pub order: Order,
    /// What the frame's entry says.
    pub found: FrameState,
    /// The CPU that found it.
    pub cpu: CpuId,
}

/// Where a wait may never end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Spin {
    /// A reader of the zonelists waits for an even counter, as in `read_seqbegin`.
    ReadBegin,
}

/// A place in the source at which tests and the laboratory interrupt an allocation or a free. Steps
/// are compared by place, and need no names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Step {
    /// File, from the root of the workspace.
    pub file: &'static str,
    /// Line, from 1.
    pub line: u32,
}

/// Marks a step: see [`Platform::step`]. It stands on a line of its own, since its line is the
/// step's number.
macro_rules! step {
    ($frames:expr) => {
        $frames.platform().step(
            const {
                &$crate::base::platform::Step {
                    file: file!(),
                    line: line!(),
                }
            },
        )
    };
}
pub(crate) use step;

/// Marks a step that code reaches only if another CPU has raced with it. Tests of the host
/// interrupt there as at a [`step!`]. The list of steps for a kernel's own interrupts and NMIs
/// leaves it out, since no handler of the same CPU leads there.
macro_rules! window {
    ($frames:expr) => {
        $crate::base::platform::step!($frames)
    };
}
pub(crate) use window;

/// Named schedule points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    /// Rebuild: the counter is odd, no list is changed yet. The writers' lock is held, and
    /// interrupts are off where the protocol turns them off. In `snapshot`: the new lists are about
    /// to be published.
    RebuildOdd,
    /// Rebuild: an entry's zone is stored, its index not yet. In `snapshot`, where an entry is one
    /// word: an entry of the side that no walk reads is stored, and no lock is held.
    RebuildEntry,
    /// Rebuild: the lists are written, the counter is about to become even. In `snapshot`: the new
    /// lists are published, and are not written until the rebuild after next.
    RebuildEven,
    /// Rebuild: the lock validator is told of the writer's begin. The counter is odd already in
    /// `seqlock-irqsave`, and still even in `seqlock-annotated`. In `none`, `seed` and `snapshot`
    /// it is told of their spinlock, about to be taken.
    AnnotateBegin,
    /// Rebuild: the lock validator is told of the writer's end; the counter is still odd. In
    /// `none`, `seed` and `snapshot` it is told of their spinlock, about to be released.
    AnnotateEnd,
    /// Slow path: the cookie has just been read.
    SlowBegin,
    /// Slow path: the preferred entry has been chosen, the walk is about to begin.
    SlowWalk,
    /// Slow path: a walk found nothing.
    SlowWalked,
    /// Slow path: a round begins, at `retry`.
    SlowRetry,
    /// Slow path: the check before OOM is next.
    SlowCheckOom,
    /// Slow path: the check at `nopage` is next.
    SlowCheckNopage,
    /// Walk of the slow path: an entry's index was read, its zone not yet. The caller is
    /// pinned.
    WalkEntry,
    /// Walk of the slow path: both halves of an entry were read. The caller is pinned.
    EntryRead {
        /// Position of the entry in its list.
        at: u8,
        /// The index.
        index: u8,
        /// The zone.
        zone: ZoneId,
    },
    /// Hot path: it reads from a list which zone serves a class first. An entry's index was read,
    /// its zone not yet. The caller is pinned.
    NoteEntry,
    /// Hot path: this zone's cache is remembered as the first of a class. The caller is pinned.
    FirstNoted {
        /// The zone.
        zone: ZoneId,
    },
    /// Offline: caches are off and drained, the range is isolated.
    OfflineIsolated,
    /// Offline: one scan of the range is done.
    OfflineScanned,
    /// Offline: the frames have left the zone, the zonelists still name it.
    OfflineLeft,
    /// Offline: everything is done.
    OfflineDone,
    /// Online: the frames are counted but isolated, the zonelists are about to be rebuilt.
    OnlineCounted,
    /// Online: everything is done.
    OnlineDone,
}

/// Reports an error to the platform.
#[cold]
pub(crate) fn report_fault<P: Platform>(
    platform: &P,
    fault: FreeFault,
    pfn: Pfn,
    order: Order,
    found: Entry,
) {
    platform.report(&FreeError {
        fault,
        pfn,
        order,
        found: found.state(),
        cpu: CpuId(P::cpu()),
    });
}
