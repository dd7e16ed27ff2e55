//! An interrupt at every step of a gated section: the same-CPU protocol, enumerated.

use crate::{
    base::mutant::{self, Mutant},
    testing::*,
    *,
};
use std::{
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::atomic::Ordering,
};
use tidemark_sync::LocalIrq;

const NORMAL: ZoneId = ZoneId::new(NodeId(0), ZoneKind::Normal);

/// An event at one step.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Arrival {
    /// The drain interrupt of an offline that has just turned the caches off.
    Offline,
    /// The drain interrupt alone.
    Drain,
    /// An NMI that allocates a frame and frees one, and does so with larger blocks.
    Nmi,
    /// An NMI, and then the drain interrupt.
    NmiThenDrain,
    /// The interrupt of a grace period that waits for this CPU.
    Grace,
    /// A tick that switches the task away, which goes on as another CPU.
    Switch,
}

const ARRIVALS: [Arrival; 5] = [
    Arrival::Grace,
    Arrival::Offline,
    Arrival::Drain,
    Arrival::Nmi,
    Arrival::NmiThenDrain,
];

struct Run {
    frames: &'static TestFrames,
    held: Rc<RefCell<Vec<TestBlock>>>,
    /// For each CPU, the number of the drain that the interrupt asked for.
    drains: Rc<RefCell<Vec<u32>>>,
    /// Whether steps do not count, because their interrupts are tried elsewhere.
    quiet: Rc<Cell<bool>>,
    /// Whether there may be no larger block for an NMI.
    is_pressed: Rc<Cell<bool>>,
}

impl Run {
    fn new(frames: &'static TestFrames) -> Self {
        let held = Rc::new(RefCell::new(Vec::new()));
        for _ in 0..4 {
            held.borrow_mut().push(take(frames));
        }
        Self {
            frames,
            held,
            drains: Rc::new(RefCell::new(vec![0; frames.caches().cpus().len()])),
            quiet: Rc::default(),
            is_pressed: Rc::default(),
        }
    }

    /// Returns the function that makes the event happen.
    fn arrival(&self, arrival: Arrival) -> impl Fn() + use<> {
        let (frames, held) = (self.frames, Rc::clone(&self.held));
        let drains = Rc::clone(&self.drains);
        let is_pressed = Rc::clone(&self.is_pressed);
        move || {
            match arrival {
                Arrival::Switch => return frames.platform().switch_to(1),
                Arrival::Grace => return frames.platform().begin_grace_here(),
                _ => {}
            }
            if matches!(arrival, Arrival::Nmi | Arrival::NmiThenDrain) {
                let freed = held.borrow_mut().pop();
                drop(freed);
                let got = take(frames);
                held.borrow_mut().push(got);
                for order in [Order::COSTLY, Order::HUGE] {
                    let block = try_take(frames, order);
                    assert!(block.is_some() || is_pressed.get());
                }
            }
            if arrival == Arrival::Nmi {
                return;
            }
            if arrival == Arrival::Offline {
                frames.turn_caches_off(NORMAL);
            }
            let drain = frames.caches().drains().ask();
            drains.borrow_mut()[Host::cpu()] = drain;
            frames.drain_local(&hard_irq());
            // A drain that was acknowledged has been done, so only the gated section's own frames
            // may be left.
            let cpu = frames.this_cpu(HERE);
            if cpu.drain_state.has_drained(drain) {
                assert_eq!(cpu.held(NORMAL), 0, "acknowledged, but not drained");
            }
        }
    }
}

/// Makes one CPU, and 32 MiB of one zone. This is large enough for caches of some frames, and of
/// blocks up to order 9.
fn tiny_machine() -> &'static TestFrames {
    tiny_machine_of(1)
}

fn tiny_machine_of(cpus: usize) -> &'static TestFrames {
    let frames = bare_machine(cpus, 1);
    add_section(frames, 32);
    let start = section_range(32).start;
    let range = PfnRange::new(start, Pfn(start.0 + 8192));
    frames.online_range(range, NORMAL, &task()).unwrap();
    frames
}

fn take(frames: &'static TestFrames) -> TestBlock {
    take_order(frames, Order::ZERO)
}

fn take_order(frames: &'static TestFrames, order: Order) -> TestBlock {
    try_take(frames, order).unwrap()
}

fn try_take(frames: &'static TestFrames, order: Order) -> Option<TestBlock> {
    frames.alloc_in_zone(ContextKind::Task, NORMAL, order, test_owner(5))
}

fn plain(frames: &'static TestFrames, order: Order) -> TestBlock {
    let request = Request::nowait(order).owned_by(test_owner(5));
    frames.alloc(&task(), &request).unwrap()
}

type Work = fn(&Run);

/// The work that is interrupted. Each goes through other branches.
const WORK: [(&str, Work); 10] = [
    ("a free into the cache", |run| {
        let block = run.held.borrow_mut().pop();
        drop(block);
    }),
    ("a plain single frame, without a walk", |run| {
        drop(plain(run.frames, Order::ZERO));
        let block = plain(run.frames, Order::ZERO);
        run.held.borrow_mut().push(block);
    }),
    ("an allocation from the cache", |run| {
        let block = take(run.frames);
        run.held.borrow_mut().push(block);
    }),
    ("an allocation that refills", |run| {
        run.frames.drain_all(&task());
        let block = take(run.frames);
        run.held.borrow_mut().push(block);
    }),
    ("a free that drains a batch", |run| {
        let high = run.frames.zone(NORMAL).cache_high();
        let drains = || run.frames.zone_events(NORMAL).drains;
        run.quiet.set(true);
        let more = (0..2 * high).map(|_| take(run.frames));
        let mut more = more.collect::<Vec<_>>().into_iter();
        // A full cache gives back a batch at a time.
        while more.len() > 20 {
            drop(more.next());
        }
        run.quiet.set(false);
        let before = drains();
        drop(more);
        assert!(drains() > before, "no batch went back");
    }),
    ("an order 3 from the cache and back", |run| {
        drop(take_order(run.frames, Order::COSTLY));
    }),
    ("an order 9 into the cache and out again", |run| {
        drop(take_order(run.frames, Order::HUGE));
        drop(take_order(run.frames, Order::HUGE));
    }),
    LARGER,
    ("an allocation in bulk", |run| {
        let request = Request::nowait(Order::ZERO).owned_by(test_owner(5));
        let mut more = [const { None }; 6];
        run.frames.alloc_bulk(&task(), &request, &mut more).unwrap();
        run.held.borrow_mut().extend(more.into_iter().flatten());
    }),
    ("a free in bulk", |run| {
        let mut all = run.held.take().into_iter().map(Some).collect::<Vec<_>>();
        // These are the blocks that an NMI frees meanwhile.
        run.held.borrow_mut().extend(all.pop().flatten());
        run.frames.free_bulk(&mut all);
    }),
];

/// Larger blocks that are allocated and freed without a walk.
const LARGER: (&str, Work) = ("a plain order 3, and a 9, without a walk", |run| {
    for order in [Order::COSTLY, Order::HUGE] {
        drop(plain(run.frames, order));
        drop(plain(run.frames, order));
    }
});

/// Runs `work` with `arrivals` at the given steps; returns how many steps there were.
fn interrupted(frames: &'static TestFrames, work: Work, arrivals: &[(usize, Arrival)]) -> usize {
    frames.drain_all(&task());
    let run = Run::new(frames);
    let steps = Rc::new(Cell::new(0));
    let hook = {
        let (steps, quiet) = (Rc::clone(&steps), Rc::clone(&run.quiet));
        let arrivals = arrivals
            .iter()
            .map(|&(at, arrival)| (at, run.arrival(arrival)))
            .collect::<Vec<_>>();
        at_steps(move || {
            if quiet.get() {
                return;
            }
            let step = steps.replace(steps.get() + 1);
            for (_, arrive) in arrivals.iter().filter(|(at, _)| *at == step) {
                arrive();
            }
        })
    };
    // The work begins on CPU 0, and may end on another one.
    on_cpu(0, || work(&run));
    drop(hook);
    let grace_is_over = frames.platform().grace_is_over();
    assert!(grace_is_over, "a grace period waits for ever");
    for (number, cpu) in run.frames.caches().cpus().iter().enumerate() {
        let is_at_rest = run.frames.is_at_rest(CpuId(number));
        assert!(is_at_rest, "a gate or a drain is left behind");
        let drain = run.drains.borrow()[number];
        assert!(
            cpu.drain_state.has_drained(drain),
            "a drain is never acknowledged"
        );
    }
    if run.frames.caches_are_off(NORMAL) {
        let cached = run.frames.cached_frames(NORMAL);
        assert_eq!(cached, 0, "a frame lies in a cache that is off and drained");
        run.frames.turn_caches_on(NORMAL);
    }
    run.held.borrow_mut().clear();
    assert_sound(run.frames);
    steps.get()
}

fn enumerate_one(all: &[(&str, Work)]) {
    enumerate_on(tiny_machine(), all);
}

fn enumerate_on(frames: &'static TestFrames, all: &[(&str, Work)]) {
    for &(name, work) in all {
        let steps = interrupted(frames, work, &[]);
        assert!(steps > 4, "{name} has no steps");
        for at in 0..steps {
            for arrival in ARRIVALS {
                interrupted(frames, work, &[(at, arrival)]);
            }
        }
    }
}

#[test]
fn any_interrupt_may_come_at_any_step() {
    enumerate_one(&WORK);
}

fn enumerate_two() {
    let frames = tiny_machine();
    // The other ones repeat what the first two do. All of them take minutes.
    let most = match std::env::var_os("TIDEMARK_LONG") {
        Some(_) => WORK.len(),
        None => 3,
    };
    for (_, work) in &WORK[..most] {
        let steps = interrupted(frames, *work, &[]);
        for first in 0..steps + 2 {
            for second in first..steps + 2 {
                for arrivals in [
                    [Arrival::Drain, Arrival::Offline],
                    [Arrival::Offline, Arrival::NmiThenDrain],
                    [Arrival::Nmi, Arrival::Drain],
                ] {
                    interrupted(
                        frames,
                        *work,
                        &[(first, arrivals[0]), (second, arrivals[1])],
                    );
                }
            }
        }
    }
}

#[test]
fn any_two_interrupts_may_come_at_any_two_steps() {
    enumerate_two();
}

/// Switches a task away at each step where it may be switched, alone and behind a drain's
/// interrupt.
fn enumerate_switches() {
    let frames = tiny_machine_of(2);
    for (_, work) in &[WORK[0], WORK[1], LARGER] {
        // From the second time on the hot path knows the first cache.
        on_cpu(1, || interrupted(frames, *work, &[]));
        let steps = interrupted(frames, *work, &[]);
        for first in 0..=steps {
            interrupted(frames, *work, &[(first, Arrival::Switch)]);
            for second in first..=steps {
                for before in [Arrival::Drain, Arrival::Nmi, Arrival::Grace] {
                    let arrivals = [(first, before), (second, Arrival::Switch)];
                    interrupted(frames, *work, &arrivals);
                }
            }
        }
    }
}

#[test]
fn a_task_may_be_switched_away_at_any_step_but_in_a_section() {
    enumerate_switches();
    for mistake in [
        Mutant::SwitchedInside,
        Mutant::SwitchedBeforeDrain,
        Mutant::SwitchedBeforeGrace,
    ] {
        let caught = catch_unwind(AssertUnwindSafe(|| {
            mutant::with(mistake, enumerate_switches);
        }));
        assert!(caught.is_err(), "{mistake:?} passes");
    }
}

#[test]
fn every_swapped_step_is_noticed() {
    for mistake in [
        Mutant::DrainTestedBeforeClear,
        Mutant::IsolationTestedBeforeFlag,
        Mutant::DrainAcknowledgedEarly,
        Mutant::FlagNotHeeded,
        Mutant::FlagClearedEarly,
    ] {
        let enumerate = || {
            enumerate_one(&WORK);
            enumerate_two();
        };
        let caught = catch_unwind(AssertUnwindSafe(|| mutant::with(mistake, enumerate)));
        assert!(caught.is_err(), "{mistake:?} passes");
    }
}

#[test]
fn room_for_a_larger_block_that_is_looked_at_too_early_is_noticed() {
    let mistake = Mutant::IsolationTestedBeforeFlag;
    let enumerate = || enumerate_one(&[LARGER]);
    let caught = catch_unwind(AssertUnwindSafe(|| mutant::with(mistake, enumerate)));
    assert!(caught.is_err(), "{mistake:?} passes");
}

#[test]
fn a_drain_ends_although_its_initiator_moves() {
    let frames = tiny_machine_of(3);
    for (from, to) in [(0, 1), (0, 2), (1, 0)] {
        // Each CPU gets something to drain.
        (0..3).for_each(|cpu| on_cpu(cpu, || drop(take(frames))));
        let asked = frames.platform().drains.load(Ordering::Relaxed);
        frames.platform().moves_to.store(to + 1, Ordering::Relaxed);
        on_cpu(from, || frames.drain_all(&task()));
        assert_eq!(frames.cached_frames(NORMAL), 0);
        let rounds = frames.platform().drains.load(Ordering::Relaxed) - asked;
        assert_eq!(
            rounds, 1,
            "the CPU that was left out is drained by the task itself"
        );
        assert_sound(frames);
    }
}

#[test]
fn cached_frames_that_are_drained_into_an_isolated_pageblock_stay_isolated() {
    let frames = tiny_machine();
    let block = take(frames);
    let (pageblock, _) = frames.pageblock_of(block.pfn()).unwrap();
    drop(block);
    assert!(frames.cached_frames(NORMAL) > 0);
    isolate(frames, pageblock).unwrap();
    let free = frames.zone_info(NORMAL).free;
    frames.drain_all(&task());
    assert_eq!(frames.cached_frames(NORMAL), 0);
    assert_eq!(pageblock.core().state().free(), 512);
    assert_eq!(frames.zone_info(NORMAL).free, free);
    unisolate(frames, pageblock).unwrap();
    assert_sound(frames);
}

#[path = "pcp_pressed_tests.rs"]
mod pressed;
