//! The storm takes, signs, hands on and frees blocks of all orders. Tasks, timer ticks, call and
//! work interrupts and NMIs do so on 1 to 8 CPUs at once, and interrupt each other.
//!
//! It is bounded by operations, not by time: the option `storm` makes it longer. The context that
//! takes a block signs each of its frames and puts it into a slot. A context that finds a block in
//! the slot that it wants checks its signature and its owner, and frees it. So most blocks are
//! freed in another context or on another CPU than those that took them. At the end every block has
//! come back, no frame has an owner of the storm, and the allocator's records are consistent.

use super::support::{
    ensure,
    everywhere::{Jobs, Team, call_everywhere},
    frames::{Block, sign, unsigned},
    tests, want,
};
use crate::{
    arch::{
        context::{HardIrq, Nmi, Task},
        cpu_id, nmi, percpu, timer,
    },
    mm,
    options::{self, Plant},
    selftest::{Group, Outcome, Report},
};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use spin::Once;
use tidemark_frames::{FrameHandle, FrameState, Gfp, Order, Owner, OwnerKind, Pfn, Request};
use tidemark_sync::Context;

/// The group.
pub const GROUP: Group = Group {
    name: "storm",
    tests: tests![blocks_of_every_order_survive_every_context_on_1_to_8_cpus],
};

/// Most CPUs that take part.
const MOST_CPUS: usize = 8;
/// Slots of each CPU that takes part.
const SLOTS: usize = 32;
/// Timer interrupts a second while it storms.
const STORM_HZ: u32 = 2_000;
/// What each handler does at least on each CPU: the tasks go on until it has.
const LEAST_BY_HANDLERS: u32 = 4;
/// Most rounds that a task goes on for the handlers' sake, in multiples of its own.
const PATIENCE: u64 = 50;
/// Free frames from which the largest blocks are taken, too, and no request for 8 frames or fewer
/// may fail.
const AMPLE_FRAMES: u64 = 1 << 16;
/// The largest order on smaller machines.
const SMALL: u64 = 5;
/// Bit of an owner's number that says "the storm's"; the 20 bits below are the block's own number.
const STORM: u32 = 1 << 21;
const NUMBERS: u32 = 1 << 20;

/// The contexts that take and free.
#[derive(Clone, Copy)]
enum Source {
    Task,
    Timer,
    Call,
    Work,
    Nmi,
}

const SOURCES: [&str; 5] = ["task", "timer", "call", "work", "NMI"];

/// CPUs that take part now; 0 while there is no storm.
static TEAM: AtomicU32 = AtomicU32::new(0);
/// Whether the machine has [`AMPLE_FRAMES`].
static AMPLE: AtomicBool = AtomicBool::new(false);
/// Operations of each source on each CPU; a source's own, and on its own CPU nothing interrupts a
/// source by itself.
static MADE: [[AtomicU32; 5]; MOST_CPUS] = [const { [const { AtomicU32::new(0) }; 5] }; MOST_CPUS];
/// The sources' random numbers; as above.
static RANDOM: [[AtomicU64; 5]; MOST_CPUS] =
    [const { [const { AtomicU64::new(0) }; 5] }; MOST_CPUS];
/// Blocks that nobody works on: a handle in the low 44 bits, the block's number above, 0 for none.
static SLOT: [AtomicU64; MOST_CPUS * SLOTS] = [const { AtomicU64::new(0) }; MOST_CPUS * SLOTS];
static NUMBER: AtomicU32 = AtomicU32::new(0);
static TAKEN: AtomicU64 = AtomicU64::new(0);
static FREED: AtomicU64 = AtomicU64::new(0);
/// Requests that failed: small ones, larger ones.
static FAILED: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];
/// Blocks that were not what their owner had left.
static BROKEN: AtomicU32 = AtomicU32::new(0);
/// Blocks taken of each order.
static BY_ORDER: [AtomicU32; 11] = [const { AtomicU32::new(0) }; 11];

const HANDLE_BITS: u32 = 44;

fn owner(number: u32) -> Owner {
    Owner::new(OwnerKind::Test, STORM | number)
}

/// The number of this CPU, if it takes part.
fn taking_part() -> Option<usize> {
    let cpu = cpu_id().0;
    (cpu < TEAM.load(Acquire) as usize).then_some(cpu)
}

/// The next random number of a source.
fn random(cpu: usize, source: Source) -> u64 {
    let state = &RANDOM[cpu][source as usize];
    let next = state
        .load(Relaxed)
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    state.store(next, Relaxed);
    next >> 24
}

/// Three of five blocks are single frames, the largest are rare.
fn order(random: u64) -> Order {
    let order = match random % 64 {
        0..40 => 0,
        40..58 => random / 64 % 8 + 1,
        58..62 => 9,
        _ => 10,
    };
    let most = if AMPLE.load(Relaxed) { 10 } else { SMALL };
    Order::new(order.min(most) as u8).unwrap_or(Order::ZERO)
}

fn request(source: Source, random: u64) -> Request {
    let order = order(random >> 8);
    let request = match (source, random % 4) {
        (Source::Task, 0) => Request::kernel(order).with(Gfp::NORETRY),
        (Source::Task, 1) if order <= Order::COSTLY => Request::kernel(order).with(Gfp::ZERO),
        (_, 2) => Request::nowait(order),
        _ => Request::atomic(order),
    };
    request.with(Gfp::NOWARN)
}

/// One operation: a block is taken, signed and put into a slot, and what was there is freed. One in
/// eight only frees.
fn operate(context: &impl Context, source: Source) {
    let Some(cpu) = taking_part() else { return };
    MADE[cpu][source as usize].fetch_add(1, Relaxed);
    let random = random(cpu, source);
    let slots = TEAM.load(Relaxed) as usize * SLOTS;
    // An NMI of the watchdog's may come when the team has just been sent home.
    let Some(place) = ((random >> 20) as usize).checked_rem(slots) else {
        return;
    };
    let slot = &SLOT[place];
    if random % 8 == 7 {
        check_and_free(slot.swap(0, AcqRel));
        return;
    }
    let number = NUMBER.fetch_add(1, Relaxed) % NUMBERS;
    let request = request(source, random >> 4).owned_by(owner(number));
    let Ok(block) = mm::frames().alloc(context, &request) else {
        FAILED[usize::from(request.order() > Order::COSTLY)].fetch_add(1, Relaxed);
        return;
    };
    take(&block, number);
    // Half a block in ten goes its own way.
    let block = if random >> 40 & 7 == 0 {
        halve(block, number, slots, random)
    } else {
        block
    };
    put(block, number, slot);
}

/// Signs a block that was taken.
fn take(block: &Block, number: u32) {
    BY_ORDER[usize::from(block.order().get())].fetch_add(1, Relaxed);
    TAKEN.fetch_add(block.order().frames(), Relaxed);
    sign(block, number.into());
}

/// Splits a block and hands the upper half on.
fn halve(block: Block, number: u32, slots: usize, random: u64) -> Block {
    match block.split() {
        Ok((low, high)) => {
            put(high, number, &SLOT[(random >> 30) as usize % slots]);
            low
        }
        Err(single) => single,
    }
}

/// Hands a block on, and frees the one that was there.
fn put(block: Block, number: u32, slot: &AtomicU64) {
    let word = block.leak().into_raw() | u64::from(number) << HANDLE_BITS;
    // Release publishes the signature, Acquire makes the other owner's visible.
    check_and_free(slot.swap(word, AcqRel));
}

fn check_and_free(word: u64) {
    let handle = word & ((1 << HANDLE_BITS) - 1);
    let number = (word >> HANDLE_BITS) as u32;
    let Some(handle) = FrameHandle::from_raw(handle) else {
        return;
    };
    let Ok(block) = mm::frames().adopt(handle) else {
        BROKEN.fetch_add(1, Relaxed);
        return;
    };
    if block.owner() != owner(number) || unsigned(&block, number.into()).is_some() {
        BROKEN.fetch_add(1, Relaxed);
    }
    FREED.fetch_add(block.order().frames(), Relaxed);
}

fn on_tick(irq: &HardIrq) {
    operate(irq, Source::Timer);
}

fn on_call(irq: &HardIrq, _: usize) {
    operate(irq, Source::Call);
}

fn on_work(irq: &HardIrq) {
    operate(irq, Source::Work);
}

fn on_nmi(nmi: &Nmi) {
    operate(nmi, Source::Nmi);
}

/// Several single frames at once, freed at once.
fn in_bulk(task: &Task, cpu: usize) {
    let number = NUMBER.fetch_add(1, Relaxed) % NUMBERS;
    let request = Request::nowait(Order::ZERO).owned_by(owner(number));
    let mut blocks = [const { None }; 20];
    let most = 1 + random(cpu, Source::Task) as usize % blocks.len();
    if mm::frames()
        .alloc_bulk(task, &request, &mut blocks[..most])
        .is_err()
    {
        FAILED[0].fetch_add(1, Relaxed);
    }
    for block in blocks.iter().flatten() {
        take(block, number);
    }
    for block in blocks.iter().flatten() {
        if block.owner() != owner(number) || unsigned(block, number.into()).is_some() {
            BROKEN.fetch_add(1, Relaxed);
        }
        FREED.fetch_add(1, Relaxed);
    }
    mm::frames().free_bulk(&mut blocks);
}

/// What a planted fault does once in a while.
fn plant(task: &Task, cpu: usize) {
    let number = NUMBER.fetch_add(1, Relaxed) % NUMBERS;
    let request = Request::kernel(Order::ZERO).owned_by(owner(number));
    let slot = &SLOT[cpu * SLOTS];
    match options::get().plant {
        Some(Plant::StrayWrite) => {
            let Ok(block) = mm::frames().alloc(task, &request) else {
                return;
            };
            take(&block, number);
            let pfn = block.pfn();
            put(block, number, slot);
            // The block is somebody else's by now: this write is the fault.
            super::support::frames::deface(pfn);
        }
        Some(Plant::LostFrame) => {
            if let Ok(block) = mm::frames().alloc(task, &request) {
                take(&block, number);
                // The handle is dropped on purpose: this is the fault.
                drop(block.leak());
            }
        }
        _ => {}
    }
}

/// Whether each handler on this CPU has done its least.
fn handlers_have(cpu: usize) -> bool {
    MADE[cpu][1..]
        .iter()
        .all(|made| made.load(Relaxed) >= LEAST_BY_HANDLERS)
}

/// One CPU's task: does its own operations, and interrupts everybody.
fn worker(task: &Task, cpu: usize) {
    if cpu >= TEAM.load(Acquire) as usize {
        return;
    }
    let team = u64::from(TEAM.load(Relaxed));
    let rounds = u64::from(options::get().storm);
    for round in 0..rounds * PATIENCE {
        if round >= rounds && handlers_have(cpu) {
            break;
        }
        operate(task, Source::Task);
        let other = percpu::CpuId((random(cpu, Source::Task) % team) as usize);
        nmi::send(other);
        if round.is_multiple_of(2) {
            Jobs::raise(percpu::mask_of(other));
        }
        if round.is_multiple_of(16) {
            call_everywhere(on_call, 0, task);
            in_bulk(task, cpu);
        }
        if round.is_multiple_of(64) {
            plant(task, cpu);
            mm::frames().drain_all(task);
        }
    }
}

/// A higher tick for as long as it lives.
struct FastTick<'t> {
    task: &'t Task,
    before: u32,
}

fn restart_timer(_: &HardIrq, _: usize) {
    timer::start();
}

impl<'t> FastTick<'t> {
    fn new(task: &'t Task) -> Self {
        let before = timer::hz();
        timer::set_hz(STORM_HZ);
        call_everywhere(restart_timer, 0, task);
        Self { task, before }
    }
}

impl Drop for FastTick<'_> {
    fn drop(&mut self) {
        timer::set_hz(self.before);
        call_everywhere(restart_timer, 0, self.task);
    }
}

/// The first frame that has an owner of the storm still.
fn left_behind() -> Option<(Pfn, Owner)> {
    for zone in mm::frames().zones() {
        let mut pfn = zone.span.start;
        while pfn < zone.span.end {
            let mut step = 1;
            if let FrameState::Allocated { order, owner } = mm::frames().frame_state(pfn) {
                if owner.kind() == OwnerKind::Test && owner.number() & STORM != 0 {
                    return Some((pfn, owner));
                }
                step = order.frames();
            }
            pfn = Pfn(pfn.0 + step);
        }
    }
    None
}

fn reset(cpus: usize) {
    let counts = MADE.iter().flatten().chain(&FAILED).chain(&BY_ORDER);
    counts.for_each(|count| count.store(0, Relaxed));
    for count in [&TAKEN, &FREED] {
        count.store(0, Relaxed);
    }
    BROKEN.store(0, Relaxed);
    let seed = options::get().seed;
    for (number, state) in RANDOM.iter().flatten().enumerate() {
        state.store((seed << 20 | number as u64) << 16 | cpus as u64, Relaxed);
    }
    AMPLE.store(mm::frames().free_frames() >= AMPLE_FRAMES, Relaxed);
}

/// One storm on the first `cpus` CPUs.
fn storm(task: &Task, cpus: usize, report: &mut Report) -> Outcome {
    reset(cpus);
    let fast = FastTick::new(task);
    // Release: a CPU that takes part sees what was reset.
    TEAM.store(cpus as u32, Release);
    let team = Team::start(task, "test-storm", worker);
    let ended = team.is_some_and(|team| team.join(task, u64::MAX / 2));
    // Handlers that run still put nothing into slots once this is seen everywhere.
    TEAM.store(0, Release);
    drop(fast);
    ensure!(report, ended, "no threads");
    // An NMI or work interrupt that was on its way when TEAM changed has ended: these run after it.
    call_everywhere(|_, _| (), 0, task);
    for slot in &SLOT {
        check_and_free(slot.swap(0, AcqRel));
    }
    mm::frames().drain_all(task);
    let [small, large] = [&FAILED[0], &FAILED[1]].map(|count| count.load(Relaxed));
    let made = |source: usize| {
        let by_cpu = MADE[..cpus].iter().map(move |made| &made[source]);
        by_cpu.map(|made| u64::from(made.load(Relaxed)))
    };
    let [taken, freed] = [&TAKEN, &FREED].map(|count| count.load(Relaxed));
    report.note(format_args!(
        "{cpus} CPUs: task {} timer {} call {} work {} NMI {}, {taken} frames, {} failed",
        made(0).sum::<u64>(),
        made(1).sum::<u64>(),
        made(2).sum::<u64>(),
        made(3).sum::<u64>(),
        made(4).sum::<u64>(),
        small + large
    ));
    let broken = BROKEN.load(Relaxed);
    ensure!(report, broken == 0, "{broken} blocks were broken");
    ensure!(
        report,
        taken == freed,
        "{taken} frames taken, {freed} given back"
    );
    let left = left_behind();
    ensure!(report, left.is_none(), "left behind: {left:?}");
    let ample = AMPLE.load(Relaxed);
    ensure!(
        report,
        !ample || small == 0,
        "{small} requests of 8 frames or fewer failed, with memory free"
    );
    for (source, name) in SOURCES.iter().enumerate() {
        let least = made(source).min().unwrap_or(0);
        ensure!(
            report,
            least >= u64::from(LEAST_BY_HANDLERS),
            "{name}: {least} operations only on one CPU"
        );
    }
    let most = if ample { 10 } else { SMALL as usize };
    for (order, taken) in BY_ORDER[..=most].iter().enumerate() {
        let taken = taken.load(Relaxed);
        ensure!(
            report,
            taken > 0 || !ample,
            "no block of order {order} was taken"
        );
    }
    if let Err(unsound) = mm::oracle::recount(task) {
        report.note(format_args!("{unsound}"));
        return Outcome::Fail;
    }
    Outcome::Pass
}

fn blocks_of_every_order_survive_every_context_on_1_to_8_cpus(
    task: &Task,
    report: &mut Report,
) -> Outcome {
    static TICKS: Once<bool> = Once::new();
    let ticks = *TICKS.call_once(|| timer::add_hook(on_tick).is_ok());
    ensure!(report, ticks, "no room for a timer hook");
    let _jobs = want!(report, Jobs::set(on_nmi, on_work), "no room for hooks");
    let most = percpu::online()
        .enumerate()
        .take_while(|&(number, cpu)| number == cpu.0 && number < MOST_CPUS)
        .count();
    for cpus in 1..=most {
        if storm(task, cpus, report) == Outcome::Fail {
            return Outcome::Fail;
        }
    }
    Outcome::Pass
}
