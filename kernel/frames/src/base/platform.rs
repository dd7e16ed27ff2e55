//! What the allocator needs of its surroundings.

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
/// Unless said otherwise a method may be called in any context, an NMI included.
pub trait Platform: LocalIrq + Sized {
    /// Keeps the caller on its CPU (counted; no preemption) until [`Platform::unpin`].
    fn pin(&self);

    /// Ends one pin. In a task it may switch threads if one is due.
    fn unpin(&self);

    /// Returns the word of a CPU about the gated section of its caches that is open there.
    ///
    /// A gated section keeps its caller on its CPU as a pin does: whatever looks at pins
    /// (preemption, grace periods) looks at [`CpuGate::holds`], too, and may leave what it wants to
    /// the end by [`CpuGate::owe`], with bits from [`CpuGate::PLATFORM`] on.
    fn gate(&self, cpu: CpuId) -> &CpuGate;

    /// Returns whether a gated section is open on the running CPU. The caller need not be pinned.
    ///
    /// This and the next two are done by the word of the CPU that runs them. The defaults look it
    /// up by number: a platform whose tasks move between CPUs reaches its word in the same
    /// instruction that changes it, and one that counts instructions does it without a lock.
    #[inline]
    fn in_gate(&self) -> bool {
        self.gate(CpuId(Self::cpu())).is_open()
    }

    /// Begins a gated section, where none was open a moment ago. A task that was moved to another
    /// CPU in between finds none there either: a gated section of a task does not survive a switch,
    /// and those of interrupts are over when they return.
    #[inline]
    fn enter_gate(&self) {
        self.gate(CpuId(Self::cpu())).begin();
    }

    /// Ends a gated section; returns whether anything is owed. The allocator's share of that is
    /// done by whoever ended it, which then pins and unpins: so [`Platform::unpin`] does the
    /// platform's.
    #[inline]
    fn leave_gate(&self) -> bool {
        self.gate(CpuId(Self::cpu())).end()
    }

    /// Returns the node of the CPU that runs this.
    fn local_node(&self) -> NodeId;

    /// Returns whether this CPU came up: its cache is drained, and waited for.
    fn cpu_online(&self, cpu: CpuId) -> bool;

    /// Returns the monotonic time in nanoseconds.
    fn now_ns(&self) -> u64;

    /// Returns the monotonic time in nanoseconds of what the running CPU does by itself: a platform
    /// whose schedule points have hooks may leave out what hooks and NMIs took. Interrupts off.
    #[inline]
    fn own_ns(&self) -> u64 {
        self.now_ns()
    }

    /// Lets time pass in a task that waits: yields, or spins.
    fn relax(&self, task: &Task);

    /// Runs [`Frames::drain_local`](crate::Frames::drain_local) in hard-interrupt context on every
    /// online CPU but the caller's, and returns when all handlers have run.
    fn drain_others(&self, task: &Task);

    /// Asks the background reclaimer of `node` to run. From an NMI only a bit and a self-IPI.
    fn wake_reclaim(&self, node: NodeId, context: ContextKind);

    /// Returns the nodes whose reclaimer need not be asked: it has been, and has not begun to look
    /// since, or there is none. A node may be missing here.
    #[inline]
    fn reclaimers_asked(&self) -> NodeMask {
        NodeMask::NONE
    }

    /// Frees up to `frames` reclaimable frames of `node` in zones up to `highest`; returns how
    /// many.
    fn shrink(&self, node: NodeId, highest: ZoneKind, frames: usize, task: &Task) -> usize;

    /// Returns about how many frames of `node` could be reclaimed from zones up to `highest`.
    fn reclaimable(&self, node: NodeId, highest: ZoneKind) -> usize;

    /// Moves the content of a movable block elsewhere and frees the block. `owner` is what the
    /// entry of its first frame said; the platform must cope with its having changed meanwhile.
    /// What it requests above order 0 for that goes without DIRECT_RECLAIM: it would compact in
    /// turn.
    fn migrate(&self, pfn: Pfn, owner: Owner, task: &Task) -> Result<(), MigrateError>;

    /// Returns whether each free claims its block by a locked exchange, so that a second one that
    /// races with it is found at once. Without, it is found when the frame is handed out twice or
    /// its cache drained.
    #[inline]
    fn frees_by_exchange(&self) -> bool {
        false
    }

    /// Returns whether [`Platform::cpuset`] gives a cpuset for any task at all: while it does,
    /// tasks' requests go without the hot path. Asked by every request of a task, so one load at
    /// most.
    fn any_cpuset(&self) -> bool;

    /// Returns the nodes that the task's requests may use, if that is not all of them; asked by the
    /// fast path, too, so cheap where no cpuset is in force. It may change at any time: a request
    /// that has begun looks again before it gives up.
    #[inline]
    fn cpuset(&self, task: &Task) -> Option<Cpuset> {
        let _ = task;
        None
    }

    /// Returns what the task may take of the memory reserves. It may change at any time.
    fn memalloc_role(&self, task: &Task) -> MemallocRole {
        let _ = task;
        MemallocRole::Ordinary
    }

    /// Reports that no progress is possible, and kills a victim if there is one.
    fn oom(&self, report: &AllocReport, task: &Task) -> OomOutcome;

    /// Hears that a request failed which did not ask for silence.
    fn alloc_failed(&self, report: &AllocReport, context: ContextKind) {
        let _ = (report, context);
    }

    /// Fills a block with zeroes.
    fn zero(&self, pfn: Pfn, order: Order);

    /// Hears that a free, or a pop from a cache, found something that cannot be; the frame was left
    /// alone.
    fn report(&self, error: &FreeError);

    /// Takes one turn of a wait that may never end: for an even count, in any context. In a
    /// lab run the watchdog may tell the waiter to give up; the request then goes on without.
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

    /// Begins a grace period: asks every online CPU to say when it is outside its pins and gated
    /// sections, at once or at its unpin. It waits for the asking only. One at a time; task
    /// context, interrupts on, no spinlock and no pin held.
    fn begin_grace(&self, task: &Task);

    /// Waits for the end of the grace period that was begun last, if one was: every CPU has said
    /// so, but for those that are not online or have stopped. As [`Platform::begin_grace`].
    fn wait_for_grace(&self, task: &Task);

    /// Marks a step inside a same-CPU protocol: an interrupt or NMI may come right here. A
    /// platform that does nothing here pays nothing for it. The caller may be inside a gated
    /// section of its CPU's cache: no lock is held, nothing may sleep.
    #[inline(always)]
    fn step(&self, step: &'static Step) {
        let _ = step;
    }

    /// Marks a schedule point.
    #[inline(always)]
    fn point(&self, point: Point) {
        let _ = point;
    }

    /// Returns whether the zonelist protocol makes this mistake on purpose. Asked by rebuilds and
    /// the slow path only; a platform that answers with the constant `false` pays nothing.
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
    /// One node with everything.
    pub const SINGLE: Self = Self::flat(NodeMask(1));

    /// Returns these nodes, all with CPUs, 20 from each other.
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

/// Why a frame could not be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrateError {
    /// Try again later: the frame is in use at this moment, or no target frame was found.
    Busy,
    /// The owner cannot be moved at all.
    Unmovable,
}

/// What a task is to the memory reserves, flags aside. NOMEMALLOC takes it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemallocRole {
    /// Nothing special.
    Ordinary,
    /// It has been chosen as an OOM victim, and may take what it needs in order to end: half of
    /// what its flags leave of MIN.
    Victim,
    /// It reclaims: it ignores the watermarks, as with MEMALLOC, and reclaims no more inside.
    Reclaimer,
}

/// What the OOM hook achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OomOutcome {
    /// A victim was killed, or is dying: memory will come.
    VictimKilled,
    /// There is nobody left to kill.
    NoVictim,
}

/// A request that failed, or is about to.
#[derive(Clone, Copy, Debug)]
pub struct AllocReport {
    /// Its size.
    pub order: Order,
    /// Its flags.
    pub gfp: Gfp,
    /// The node it wanted.
    pub node: NodeId,
    /// Nodes that it could use: what its caller permits, within its task's cpuset.
    pub nodes: NodeMask,
    /// What its walks met.
    pub walk: WalkInfo,
}

/// What a free, or a pop from a cache, demanded and did not find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreeFault {
    /// The frame is free already.
    DoubleFree,
    /// The frame lies in a cache already.
    DoubleFreeCached,
    /// The block was allocated with another order.
    WrongOrder,
    /// Not a frame of the allocator, or not the first one of a block.
    Foreign,
    /// A frame in a cache is not marked as cached: two CPUs freed it at once.
    CacheCorrupt,
    /// The bits of the block were clear already: the last line of defence.
    BitsClear,
}

/// A detected error, with both parties where known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeError {
    /// What was wrong.
    pub fault: FreeFault,
    /// The frame.
    pub pfn: Pfn,
    /// Order that the caller gave.
    pub order: Order,
    /// What the frame's entry says.
    pub found: FrameState,
    /// The CPU that found it.
    pub cpu: CpuId,
}

/// Where somebody waits for somebody who may never come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Spin {
    /// A reader of the zonelists at an odd count: `read_seqbegin`.
    ReadBegin,
}

/// A step of the fast path and of what it calls, by its place in the source: tests and the
/// laboratory interrupt there. Steps are compared by place, and need no names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Step {
    /// File, from the root of the workspace.
    pub file: &'static str,
    /// Line, from 1.
    pub line: u32,
}

/// A step of a protocol or of what it calls: see [`Platform::step`]. On a line of its own,
/// since the line is the step's number.
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

/// A place where another CPU may come between, on a way that only such a race opens: tests and
/// explorations stand there as at a [`step!`]. It is not in the list of steps at which a kernel's
/// own interrupts and NMIs are to be tried, since no handler of the same CPU leads there.
macro_rules! window {
    ($frames:expr) => {
        $crate::base::platform::step!($frames)
    };
}
pub(crate) use window;

/// Named schedule points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    /// Rebuild: the count is odd, no list is changed yet; the writers' lock is held, interrupts are
    /// off where the variant has them off. In `snapshot`: the new lists are about to be published.
    RebuildOdd,
    /// Rebuild: an entry's zone is stored, its index not yet. In `snapshot`, where they are one
    /// word: an entry of the lists that nobody reads is stored; no lock is held.
    RebuildEntry,
    /// Rebuild: the lists are written, the count is about to become even. In `snapshot`: the new
    /// lists are published, and may be written by nobody until the next rebuild.
    RebuildEven,
    /// Rebuild: the lock validator is told of the writer's begin. The count is odd already in
    /// `seqlock-irqsave`, and still even in `seqlock-annotated`. In `none`, `seed` and `snapshot`
    /// it is told of their spinlock, about to be taken.
    AnnotateBegin,
    /// Rebuild: the lock validator is told of the writer's end; the count is odd still. In `none`,
    /// `seed` and `snapshot` it is told of their spinlock, about to be released.
    AnnotateEnd,
    /// Slow path: the cookie has just been read.
    SlowBegin,
    /// Slow path: the preferred entry has been chosen, the walk is about to begin.
    SlowWalk,
    /// Slow path: a walk found nothing.
    SlowWalked,
    /// Slow path: a round begins, at `retry`.
    SlowRetry,
    /// Slow path: the retry check before OOM is next.
    SlowCheckOom,
    /// Slow path: the retry check at `nopage` is next.
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
    /// Hot path: it looks which zone serves requests of a class first; an entry's index was read,
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

/// Hands an error of a free to the platform.
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
