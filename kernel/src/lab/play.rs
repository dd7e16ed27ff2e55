//! What the roles of every scenario have at hand: zones at a level, requests, interrupts, a spare.

use super::stage::{self, HANDLED};
use crate::arch::context::{HardIrq, Nmi, Task};
use crate::arch::entry::TrapFrame;
use crate::arch::ipi::{self, WorkId};
use crate::arch::{CpuId, cpu_id, nmi};
use crate::console;
use crate::hotplug::{self, SlotPhase, SlotView};
use crate::link;
use crate::mm::{self, page_cache};
use crate::thread::{self, Placement, Priority, ThreadId};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use tidemark_frames::{
    FrameHandle, Gfp, NodeId, NodeMask, Order, Owner, OwnerKind, Request, WalkInfo, ZoneId,
    ZoneInfo, ZoneKind,
};
use tidemark_sync::{Context, ContextKind};
use tidemark_wire::{Ask, LabPoint, Role};

/// The node whose memory the scenarios squeeze: the one with a DIMM in a MOVABLE zone.
pub const NODE: NodeId = NodeId(1);

/// The owner of what the laboratory holds.
const OWNER: Owner = Owner::new(OwnerKind::Test, 7);

/// How the machine is not the one that the scenarios need.
pub type Obstacle = &'static str;

static WORK: spin::Once<WorkId> = spin::Once::new();
/// The CPU whose next NMI is the scenario's, plus one. Cleared by its handler.
static NMI_EXPECTED: AtomicU32 = AtomicU32::new(0);
/// Whether a byte that COM1 receives is the scenario's.
static TTY_EXPECTED: AtomicBool = AtomicBool::new(false);
static FEEDING: AtomicBool = AtomicBool::new(false);

/// Registers the laboratory's interrupt, NMI and tty handlers. Once.
///
/// # Errors
///
/// The kernel has no room for one of them.
pub fn init() -> Result<(), Obstacle> {
    let work = ipi::register_work(on_work).map_err(|_| "no work bit is free")?;
    WORK.call_once(|| work);
    nmi::add_hook(on_nmi).map_err(|_| "no NMI hook is free")?;
    console::set_rx_alloc_hook(on_byte);
    Ok(())
}

/// Asks this CPU for the laboratory's interrupt. Any context.
pub fn raise() {
    if let Some(&work) = WORK.get() {
        ipi::raise_self(work);
    }
}

/// Makes the next NMI on `cpu` the scenario's.
pub fn expect_nmi(cpu: CpuId) {
    NMI_EXPECTED.store(cpu.0 as u32 + 1, Release);
}

fn on_work(irq: &HardIrq) {
    if stage::is_open() {
        stage::in_handler(Role::Reader, || {
            stage::step(LabPoint::IrqTaken, 0);
            request(irq, Kind::Atomic);
            stage::step(LabPoint::IrqOver, 0);
        });
        HANDLED.fetch_add(1, Release);
    }
}

fn on_nmi(nmi: &Nmi, _frame: &TrapFrame) {
    let me = cpu_id().0 as u32 + 1;
    let mine = NMI_EXPECTED.compare_exchange(me, 0, Acquire, Relaxed);
    if stage::is_open() && mine.is_ok() {
        stage::in_handler(Role::Reader, || {
            stage::step(LabPoint::NmiTaken, 0);
            request(nmi, Kind::Atomic);
            stage::step(LabPoint::NmiOver, 0);
        });
        HANDLED.fetch_add(1, Release);
    }
}

/// COM1's receive interrupt as the reader's part; it lasts until this is dropped.
#[derive(Debug)]
pub struct TtyPart(Option<u8>);

impl TtyPart {
    /// Begins the part if the scenario waits for a byte.
    pub fn begin() -> Self {
        let begins = stage::is_open() && TTY_EXPECTED.load(Acquire);
        let before = begins.then(|| stage::begin_handler(Role::Reader));
        if begins {
            stage::step(LabPoint::IrqTaken, 1);
        }
        TtyPart(before)
    }
}

impl Drop for TtyPart {
    fn drop(&mut self) {
        if let Some(before) = self.0 {
            stage::end_handler(before);
        }
    }
}

/// Makes the next byte that COM1 receives the scenario's.
pub fn expect_byte() {
    TTY_EXPECTED.store(true, Release);
}

/// Under the port's lock: the tty layer has a buffer allocated for a received byte.
fn on_byte(irq: &HardIrq, _byte: u8) {
    if stage::is_open() && TTY_EXPECTED.swap(false, AcqRel) {
        request(irq, Kind::Atomic);
        HANDLED.fetch_add(1, Release);
    }
}

/// The two kinds of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// GFP_KERNEL: may reclaim.
    Kernel,
    /// GFP_KERNEL that does not wake the background reclaimer.
    KernelAlone,
    /// GFP_ATOMIC.
    Atomic,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A frame of this zone.
    Got(ZoneKind),
    /// Nothing, and a fresh walk would have found nothing either.
    Failed,
    /// Nothing, although a fresh walk would have found memory.
    FailedWithMemoryFree,
}

/// Makes the request under test on the squeezed node, as the reader, and gives the frame back.
pub fn request(context: &impl Context, kind: Kind) -> (Fate, WalkInfo) {
    let request = match kind {
        Kind::Kernel => Request::kernel(Order::ZERO),
        Kind::KernelAlone => Request::kernel(Order::ZERO).without(Gfp::KSWAPD_RECLAIM),
        Kind::Atomic => Request::atomic(Order::ZERO),
    };
    let request = request
        .with(Gfp::NOWARN)
        .owned_by(OWNER)
        .on_node(NODE)
        .among(NodeMask::only(NODE));
    stage::step(LabPoint::Request, u64::from(kind == Kind::Atomic));
    let mut walk = WalkInfo::default();
    let block = mm::frames().alloc_traced(context, &request, &mut walk);
    let fate = match &block {
        Ok(block) => {
            let zone = mm::frames().zone_of(block.pfn());
            Fate::Got(zone.map_or(ZoneKind::Dma, ZoneId::kind))
        }
        Err(_) if fresh_walk_finds() => Fate::FailedWithMemoryFree,
        Err(_) => Fate::Failed,
    };
    match fate {
        Fate::Got(kind) => stage::step(LabPoint::Got, kind as u64),
        Fate::Failed => stage::step(LabPoint::Failed, 0),
        Fate::FailedWithMemoryFree => stage::step(LabPoint::Failed, 1),
    }
    drop(block);
    (fate, walk)
}

/// Whether a walk of the list as it is now would find a zone above its HIGH mark for the request
/// under test. Any context.
pub fn fresh_walk_finds() -> bool {
    let list = mm::frames().zonelist(NODE, tidemark_frames::ListKind::Fallback);
    list.iter()
        .filter(|zone| zone.node() == NODE && zone.kind() <= ZoneKind::Normal)
        .map(|zone| mm::frames().zone_info(zone))
        .any(|zone| zone.free > zone.high + zone.reserve[ZoneKind::Normal as usize])
}

/// Handles of blocks, in the order in which they were taken. Written by the scenario's own thread.
pub struct Stack<const N: usize> {
    used: AtomicU32,
    handles: [AtomicU64; N],
}

impl<const N: usize> Stack<N> {
    const fn new() -> Self {
        Self {
            used: AtomicU32::new(0),
            handles: [const { AtomicU64::new(0) }; N],
        }
    }

    /// Takes a block of a zone, whatever its marks, and keeps it.
    fn take(&self, zone: ZoneId, order: Order) -> Option<()> {
        let place = self.handles.get(self.used.load(Relaxed) as usize)?;
        let block = mm::frames().alloc_in_zone(ContextKind::Task, zone, order, OWNER)?;
        place.store(block.leak().into_raw(), Relaxed);
        self.used.fetch_add(1, Release);
        Some(())
    }

    /// Frees everything; returns how many frames that were. Any context, one at a time.
    fn free(&self) -> u64 {
        let used = self.used.swap(0, AcqRel) as usize;
        let mut frames = 0;
        for place in &self.handles[..used] {
            if let Some(handle) = FrameHandle::from_raw(place.swap(0, Relaxed)) {
                frames += handle.order().frames();
                // One that is not adopted is reported by the allocator, and the oracle finds it.
                drop(mm::frames().adopt(handle));
            }
        }
        frames
    }
}

static HELD: Stack<8192> = Stack::new();
static SPARE: Stack<64> = Stack::new();

/// Frees what the scenario keeps ready; returns how many frames. Any context.
pub fn free_spare() -> u64 {
    SPARE.free()
}

/// What a zone of the squeezed node is taken down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// No frame is free: no request passes.
    Empty,
    /// The fast path fails, the slow path passes.
    BetweenMinAndLow,
}

/// Takes the squeezed node's zones that unmovable requests may use down to a level; `spare` blocks of
/// 4 MiB of the highest of them are kept ready for [`free_spare`].
///
/// # Errors
///
/// A zone could not be brought there.
pub fn squeeze(task: &Task, level: Level, spare: usize) -> Result<(), Obstacle> {
    page_cache::drop_all(task);
    mm::frames().drain_all(task);
    let normal = ZoneId::new(NODE, ZoneKind::Normal);
    for _ in 0..spare {
        SPARE
            .take(normal, Order::MAX)
            .ok_or("the NORMAL zone has no spare")?;
    }
    for zone in mm::frames().zones() {
        if zone.id.node() == NODE && zone.id.kind() <= ZoneKind::Normal {
            take_down(&zone, level)?;
        }
    }
    Ok(())
}

fn take_down(zone: &ZoneInfo, level: Level) -> Result<(), Obstacle> {
    let wanted = match level {
        Level::Empty => 0,
        Level::BetweenMinAndLow => {
            zone.reserve[ZoneKind::Normal as usize] + (zone.min + zone.low) / 2
        }
    };
    let mut order = Order::MAX.get();
    loop {
        let size = Order::new(order).ok_or("no such order")?;
        let now = mm::frames().zone_info(zone.id).free;
        if now <= wanted {
            return Ok(());
        }
        let taken = now >= wanted + size.frames() && HELD.take(zone.id, size).is_some();
        if taken {
            continue;
        }
        match order.checked_sub(1) {
            Some(smaller) => order = smaller,
            None if now <= wanted + 64 => return Ok(()),
            None => return Err("a zone could not be taken down"),
        }
    }
}

/// Gives everything back.
pub fn release(task: &Task) {
    SPARE.free();
    HELD.free();
    page_cache::drop_all(task);
    mm::frames().drain_all(task);
}

/// The slot of the MOVABLE DIMM of the squeezed node, which is all of its zone.
static SLOT: spin::Once<usize> = spin::Once::new();

/// Finds that slot; once, while the DIMM is there.
///
/// # Errors
///
/// The machine has none.
fn slot() -> Result<usize, Obstacle> {
    let movable = ZoneId::new(NODE, ZoneKind::Movable);
    if let Some(&slot) = SLOT.get() {
        return Ok(slot);
    }
    let slot = (0..hotplug::MAX_SLOTS)
        .find(|&slot| hotplug::view(slot).zone == Some(movable))
        .ok_or("no MOVABLE DIMM on node 1")?;
    Ok(*SLOT.call_once(|| slot))
}

/// Which way the DIMM goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is pulled: QMP `device_del`, the system control interrupt, offline, the map taken down, eject.
    Out,
    /// It is put back: QMP `device_add`, the system control interrupt, mapped, online.
    In,
}

/// Has the host pull the DIMM, or put it back, and waits until the hot-plug thread is done with it. In a scenario that
/// thread plays the writer from the asking on.
///
/// # Errors
///
/// The host does not answer or refuses, or the DIMM does not come or go.
pub fn hotplug(task: &Task, way: Way) -> Result<(), Obstacle> {
    let slot = slot()?;
    let before = hotplug::view(slot);
    let dimm = slot as u8;
    let (point, ask) = match way {
        Way::Out => (LabPoint::AsksToPull, Ask::Pull { dimm }),
        Way::In => (LabPoint::AsksToPlug, Ask::Plug { dimm }),
    };
    stage::step(point, 0);
    if stage::is_open()
        && let Some(thread) = hotplug::thread()
    {
        stage::hand_over(Role::Writer, thread);
    }
    let deleted = link::dimm_events(dimm).deleted;
    match link::ask(task, ask) {
        Ok(true) => {}
        Ok(false) => return Err("QEMU refuses to move the DIMM"),
        Err(_) => return Err("the host does not answer"),
    }
    let deadline = crate::arch::time::now_ns() + DEADLINE_NS;
    let is_done = |view: &SlotView| match way {
        Way::Out => view.removals > before.removals,
        Way::In => view.arrivals > before.arrivals || view.phase == SlotPhase::Failed,
    };
    let view =
        hotplug::wait(slot, deadline, is_done, task).map_err(|_| "the DIMM does not move")?;
    match (way, view.phase) {
        (Way::In, SlotPhase::Online) => Ok(()),
        // QEMU forgets the device after the eject: only then can it be put back.
        (Way::Out, SlotPhase::Empty) => {
            let gone = |events: &link::DimmEvents| events.deleted > deleted;
            let (_, confirmed) = link::wait_dimm(task, dimm, deadline, gone);
            confirmed
                .then_some(())
                .ok_or("QEMU does not confirm that the DIMM is gone")
        }
        _ => Err("the DIMM does not move"),
    }
}

/// How long a role may take for its part.
pub const DEADLINE_NS: u64 = 25_000_000_000;

/// Starts a role's thread on a CPU.
///
/// # Errors
///
/// No thread could be made.
pub fn cast(
    name: &str,
    cpu: CpuId,
    part: fn(&Task, usize),
    argument: usize,
) -> Result<ThreadId, Obstacle> {
    let placement = Placement::Cpu(cpu);
    thread::spawn(name, placement, Priority::Normal, part, argument)
        .map_err(|_| "no thread for a role")
}

/// Waits until the threads have ended.
///
/// # Errors
///
/// One has not, within [`DEADLINE_NS`].
pub fn wait_for(task: &Task, threads: &[ThreadId]) -> Result<(), Obstacle> {
    let deadline = crate::arch::time::now_ns() + DEADLINE_NS;
    while threads.iter().any(|thread| thread.is_alive()) {
        if crate::arch::time::now_ns() >= deadline {
            return Err("a role does not end");
        }
        thread::sleep_ns(task, 1_000_000);
    }
    Ok(())
}

/// Puts pages into the cache until told to stop, so that reclaim always finds some; they come from the
/// squeezed node if the caller runs there. `first` pages are there before [`LabPoint::Fed`] is reached.
pub fn feed(task: &Task, first: u32) {
    FEEDING.store(true, Release);
    let pages = page_cache::pages();
    for page in 0..first.min(pages) {
        // A page that finds no frame is one fewer.
        let _ = page_cache::read(page, task);
    }
    stage::step(LabPoint::Fed, page_cache::resident() as u64);
    let mut page = first;
    while FEEDING.load(Acquire) {
        let _ = page_cache::read(page % pages, task);
        page = page.wrapping_add(1);
        thread::sleep_ns(task, 20_000);
    }
    page_cache::drop_all(task);
}

/// Ends the feeding. Any context.
pub fn stop_feeding() {
    FEEDING.store(false, Release);
}
