//! Interrupts, messages between CPUs, NMIs, time, translations.

mod clocks;

use super::support::{
    MS, SOON_NS, ensure,
    everywhere::{Jobs, Team, call_everywhere, others},
    tests, walk, want,
};
use crate::{
    arch::{
        CpuId, Irqs,
        context::{HardIrq, Nmi, Task},
        cpu_id, exceptions, interrupts,
        ipi::{self, CallKind},
        nmi,
        paging::{self, phys_to_virt},
        percpu, pin, preempt, time, tlb, vectors, without_interrupts,
    },
    selftest::{Group, Outcome, Report},
};
use clocks::{
    a_cpus_own_time_leaves_its_instruments_out, every_cpu_ticks,
    the_clock_agrees_with_the_legacy_timer, the_clock_does_not_step_back_between_cpus,
};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use tidemark_sync::IrqOff;

/// The group.
pub const GROUP: Group = Group {
    name: "arch",
    tests: tests![
        irq_off_sections_end_in_any_order,
        pins_nest_and_leave_interrupts_alone,
        a_call_reaches_each_cpu_and_only_it,
        a_call_is_waited_for,
        calls_from_every_cpu_at_once_all_arrive,
        an_nmi_to_oneself_is_taken_and_counted,
        an_nmi_reaches_every_other_cpu,
        work_raised_in_an_nmi_runs_after_it,
        a_spurious_interrupt_is_counted_and_survived,
        the_clock_agrees_with_the_legacy_timer,
        a_cpus_own_time_leaves_its_instruments_out,
        the_clock_does_not_step_back_between_cpus,
        every_cpu_ticks,
        a_shootdown_takes_translations_down_everywhere,
    ],
};

fn irq_off_sections_end_in_any_order(_: &Task, report: &mut Report) -> Outcome {
    ensure!(
        report,
        interrupts::interrupts_enabled(),
        "the test began with interrupts off"
    );
    let first = IrqOff::<Irqs>::new();
    let second = IrqOff::<Irqs>::new();
    let third = without_interrupts(IrqOff::<Irqs>::new);
    ensure!(
        report,
        Irqs::depth() == 3,
        "depth {} with three sections",
        Irqs::depth()
    );
    for (open, section) in [(2, first), (1, third)] {
        drop(section);
        ensure!(
            report,
            !interrupts::interrupts_enabled(),
            "on again with {open} sections open"
        );
        ensure!(
            report,
            Irqs::depth() == open,
            "depth {} with {open} open",
            Irqs::depth()
        );
    }
    drop(second);
    ensure!(
        report,
        interrupts::interrupts_enabled(),
        "off with no section open"
    );
    Outcome::Pass
}

fn pins_nest_and_leave_interrupts_alone(_: &Task, report: &mut Report) -> Outcome {
    let before = preempt::pin_depth();
    let outer = pin();
    let inner = pin();
    drop(outer);
    ensure!(
        report,
        preempt::pin_depth() == before + 1,
        "{} pins",
        preempt::pin_depth()
    );
    ensure!(
        report,
        interrupts::interrupts_enabled(),
        "a pin turned interrupts off"
    );
    drop(inner);
    ensure!(
        report,
        preempt::pin_depth() == before,
        "{} pins left",
        preempt::pin_depth()
    );
    Outcome::Pass
}

static ARRIVED: [AtomicU32; crate::arch::MAX_CPUS] =
    [const { AtomicU32::new(0) }; crate::arch::MAX_CPUS];

fn reset() {
    for count in &ARRIVED {
        count.store(0, SeqCst);
    }
}

fn arrive() {
    ARRIVED[cpu_id().0].fetch_add(1, SeqCst);
}

fn arrived(cpu: CpuId) -> u32 {
    ARRIVED[cpu.0].load(SeqCst)
}

fn arrive_in_call(_: &HardIrq, _: usize) {
    arrive();
}

fn a_call_reaches_each_cpu_and_only_it(task: &Task, report: &mut Report) -> Outcome {
    for target in percpu::online() {
        reset();
        ipi::call_on(
            percpu::mask_of(target),
            CallKind::Call,
            arrive_in_call,
            0,
            task,
        );
        for cpu in percpu::online() {
            let expected = u32::from(cpu == target);
            ensure!(
                report,
                arrived(cpu) == expected,
                "a call to cpu{} ran {} times on cpu{}",
                target.0,
                arrived(cpu),
                cpu.0
            );
        }
    }
    Outcome::Pass
}

fn a_call_is_waited_for(task: &Task, report: &mut Report) -> Outcome {
    fn slow(_: &HardIrq, _: usize) {
        time::spin_ns(2 * MS);
        arrive();
    }
    reset();
    call_everywhere(slow, 0, task);
    for cpu in percpu::online() {
        ensure!(
            report,
            arrived(cpu) == 1,
            "the call returned before cpu{} had done it",
            cpu.0
        );
    }
    Outcome::Pass
}

/// Calls that each CPU makes in the storm.
const CALLS: u32 = 200;

fn calls_from_every_cpu_at_once_all_arrive(task: &Task, report: &mut Report) -> Outcome {
    fn storm(task: &Task, _: usize) {
        for _ in 0..CALLS {
            call_everywhere(arrive_in_call, 0, task);
        }
    }
    reset();
    let team = want!(report, Team::start(task, "test-calls", storm), "no threads");
    ensure!(
        report,
        team.join(task, 10 * SOON_NS),
        "the calls did not end"
    );
    let expected = CALLS * percpu::online_count() as u32;
    for cpu in percpu::online() {
        ensure!(
            report,
            arrived(cpu) == expected,
            "{} of {expected} calls ran on cpu{}",
            arrived(cpu),
            cpu.0
        );
    }
    Outcome::Pass
}

fn arrive_in_nmi(_: &Nmi) {
    arrive();
}

fn nothing(_: &HardIrq) {}

fn an_nmi_to_oneself_is_taken_and_counted(_: &Task, report: &mut Report) -> Outcome {
    let _jobs = want!(
        report,
        Jobs::set(arrive_in_nmi, nothing),
        "no room for hooks"
    );
    reset();
    let _pinned = pin();
    let here = cpu_id();
    for round in 1..=100 {
        let before = nmi::count(here);
        // Interrupts off or on makes no difference to an NMI: every second one finds them off.
        let _off = (round % 2 == 0).then(IrqOff::<Irqs>::new);
        nmi::send(here);
        ensure!(
            report,
            time::spin_until(SOON_NS, || arrived(here) == round),
            "NMI {round} was not taken"
        );
        ensure!(
            report,
            nmi::count(here) == before + 1,
            "NMI {round} was not counted once"
        );
    }
    Outcome::Pass
}

fn an_nmi_reaches_every_other_cpu(_: &Task, report: &mut Report) -> Outcome {
    if percpu::online_count() == 1 {
        return Outcome::Skip(super::ONE_CPU);
    }
    let _jobs = want!(
        report,
        Jobs::set(arrive_in_nmi, nothing),
        "no room for hooks"
    );
    reset();
    let _pinned = pin();
    for cpu in percpu::cpus_in(others()) {
        let before = nmi::count(cpu);
        nmi::send(cpu);
        ensure!(
            report,
            time::spin_until(SOON_NS, || arrived(cpu) == 1),
            "cpu{} took none",
            cpu.0
        );
        ensure!(
            report,
            nmi::count(cpu) == before + 1,
            "cpu{} counted none",
            cpu.0
        );
    }
    ensure!(report, arrived(cpu_id()) == 0, "the sender took one itself");
    Outcome::Pass
}

fn work_raised_in_an_nmi_runs_after_it(_: &Task, report: &mut Report) -> Outcome {
    static WORK: spin::Once<ipi::WorkId> = spin::Once::new();
    fn raise(nmi: &Nmi) {
        if let Some(&work) = WORK.get() {
            ipi::raise_from_nmi(nmi, work);
        }
    }
    fn run(_: &HardIrq) {
        arrive();
    }
    let jobs = want!(report, Jobs::set(raise, run), "no room for hooks");
    WORK.call_once(|| jobs.work());
    reset();
    let _pinned = pin();
    for cpu in percpu::online() {
        nmi::send(cpu);
        ensure!(
            report,
            time::spin_until(SOON_NS, || arrived(cpu) == 1),
            "cpu{} did not run it",
            cpu.0
        );
    }
    Outcome::Pass
}

fn a_spurious_interrupt_is_counted_and_survived(_: &Task, report: &mut Report) -> Outcome {
    let _pinned = pin();
    let here = percpu::current();
    for round in 0..3 {
        let before = [vectors::SPURIOUS, vectors::LEGACY].map(|vector| here.taken(vector));
        #[cfg(feature = "freestanding")]
        // SAFETY: both vectors have handlers; a software interrupt enters them as hardware would.
        unsafe {
            core::arch::asm!("int 0xff", "int 0x20");
        }
        let after = [vectors::SPURIOUS, vectors::LEGACY].map(|vector| here.taken(vector));
        ensure!(
            report,
            after == before.map(|count| count.wrapping_add(1)),
            "round {round}: {before:?} became {after:?}"
        );
    }
    Outcome::Pass
}

/// Physical addresses beyond all memory, that nothing answers: QEMU reads them as some constant.
const NOWHERE: u64 = 96 << 30;
/// The size mapped there.
const NOWHERE_BYTES: u64 = 2 << 20;

/// The CPUs that can read some of the pages that [`probe_nowhere`] tries.
static READABLE: AtomicU64 = AtomicU64::new(0);

/// Tries to read pages spread over what is mapped: which of them a CPU keeps a translation of, or
/// drops it for another page's, is its own business.
fn probe_nowhere(_: &HardIrq, address: usize) {
    let bit = percpu::mask_of(cpu_id());
    let pages = (0..NOWHERE_BYTES).step_by(7 * 4096);
    let readable = pages
        .filter(|page| exceptions::probe_read(address as u64 + page).is_some())
        .count();
    if readable > 0 {
        READABLE.fetch_or(bit, SeqCst);
    } else {
        READABLE.fetch_and(!bit, SeqCst);
    }
}

fn a_shootdown_takes_translations_down_everywhere(task: &Task, report: &mut Report) -> Outcome {
    let address = phys_to_virt(NOWHERE) as usize;
    ensure!(
        report,
        walk::lookup(address as u64).is_none(),
        "{NOWHERE:#x} is mapped already"
    );
    let readable_on = || {
        call_everywhere(probe_nowhere, address, task);
        READABLE.load(SeqCst)
    };
    ensure!(
        report,
        readable_on() == 0,
        "readable though unmapped: {:#x}",
        READABLE.load(SeqCst)
    );
    let mut stale_ever = 0;
    for round in 0..5 {
        let mut source = super::support::table_frames(task);
        let added = paging::direct_map_add(NOWHERE, NOWHERE_BYTES, &mut source);
        ensure!(
            report,
            added.is_ok(),
            "round {round}: could not map: {added:?}"
        );
        let mapped_on = readable_on();
        let removed = paging::direct_map_remove(NOWHERE, NOWHERE_BYTES, &mut source);
        let stale_on = readable_on();
        stale_ever |= stale_on;
        tlb::shootdown(address as u64, NOWHERE_BYTES, task);
        let left_on = readable_on();
        ensure!(
            report,
            removed.is_ok(),
            "round {round}: could not unmap: {removed:?}"
        );
        ensure!(
            report,
            mapped_on == percpu::online_mask(),
            "mapped, readable on {mapped_on:#x}"
        );
        ensure!(
            report,
            left_on == 0,
            "round {round}: after the shootdown CPUs {left_on:#x} read it still (before: {stale_on:#x})"
        );
    }
    ensure!(
        report,
        walk::lookup(address as u64).is_none(),
        "mapped in the tables still"
    );
    // Else there was nothing to take down, and nothing was shown.
    ensure!(
        report,
        stale_ever & others() == others(),
        "before the shootdowns, stale on CPUs {stale_ever:#x} only"
    );
    Outcome::Pass
}
