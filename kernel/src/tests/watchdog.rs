//! Self-tests of the watchdog: CPUs that hang on purpose, until they are found.

use super::ONE_CPU;
use super::support::{MS, ensure, eventually, everywhere::Jobs, tests, want};
use crate::arch::context::{Nmi, Task};
use crate::arch::{CpuId, cpu_id, interrupts, nmi, percpu, time};
use crate::console::{self, port::COM1};
use crate::panic;
use crate::selftest::{Group, Outcome, Report};
use crate::thread::{self, Placement, Priority};
use crate::watchdog::{self, Found, Seen, Waits};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use tidemark_wire::{LabContext, Text};

/// The group.
pub const GROUP: Group = Group {
    name: "watchdog",
    tests: tests![
        a_cpu_that_takes_interrupts_is_not_found_however_busy,
        a_cpu_with_interrupts_off_is_found_by_its_neighbour,
        a_cpu_that_hangs_with_the_serial_ports_lock_gets_its_report_out,
        a_cpu_in_an_nmis_handler_is_found_from_outside,
    ],
};

/// How long a CPU hangs at most: shorter than the host's patience.
const AT_MOST_NS: u64 = 4_700 * MS;
/// What the CPU that hangs has in r15.
const MARK: u64 = 0x7469_6465_6d61_726b;

/// When the hang of a test began. What was found before is another one's.
static SINCE: AtomicU64 = AtomicU64::new(0);
static HANGS: AtomicBool = AtomicBool::new(false);
/// Whether the report was written when the port's lock was still held.
static WAS_WRITTEN: AtomicBool = AtomicBool::new(false);

/// Returns the CPU that a test lets hang, which is the last one, and the CPU that looks at it.
fn pair() -> Option<(CpuId, CpuId)> {
    let hangs = percpu::online().last()?;
    let looks = percpu::online().filter(|&cpu| cpu != hangs).last()?;
    Some((hangs, looks))
}

/// What was found of a CPU since [`SINCE`].
fn found_now(cpu: CpuId) -> Option<&'static Found> {
    watchdog::found(cpu).filter(|found| found.at_ns() > Some(SINCE.load(SeqCst)))
}

/// Stays until the running CPU was found to hang, [`MARK`] in r15. Interrupts are off.
#[inline(never)]
fn stays_until_found() {
    let cpu = cpu_id();
    let end = SINCE.load(SeqCst) + AT_MOST_NS;
    HANGS.store(true, SeqCst);
    let mut turns = 0_u64;
    while found_now(cpu).is_none() && time::now_ns() < end {
        // SAFETY: waits a little; no memory is touched.
        unsafe {
            core::arch::asm!(
                "2:",
                "pause",
                "dec {turns}",
                "jnz 2b",
                turns = inout(reg) 200_000_u64 => turns,
                in("r15") MARK,
                options(nomem, nostack),
            );
        }
    }
    core::hint::black_box(turns);
}

fn with_interrupts_off(_: &Task, _: usize) {
    interrupts::without_interrupts(stays_until_found);
}

fn with_the_ports_lock(_: &Task, _: usize) {
    let port = COM1.lock();
    stays_until_found();
    // The NMI has come back: whatever it wrote out, it wrote around this lock.
    WAS_WRITTEN.store(!console::anything_stored(), SeqCst);
    drop(port);
}

fn busy_with_interrupts_on(_: &Task, _: usize) {
    let cpu = cpu_id();
    HANGS.store(true, SeqCst);
    let end = SINCE.load(SeqCst) + watchdog::SILENT_NS + 4 * watchdog::ASK_AGAIN_NS;
    while time::now_ns() < end && found_now(cpu).is_none() {
        core::hint::spin_loop();
    }
}

/// Runs `part` on a CPU to its end; returns whether it began and ended.
fn run_on(task: &Task, cpu: CpuId, part: thread::Entry) -> bool {
    SINCE.store(time::now_ns(), SeqCst);
    HANGS.store(false, SeqCst);
    let placement = Placement::Cpu(cpu);
    let Ok(id) = thread::spawn("test-hang", placement, Priority::Normal, part, 0) else {
        return false;
    };
    eventually(task, 4 * AT_MOST_NS, || !id.is_alive())
        && thread::join(task, id).is_ok()
        && HANGS.load(SeqCst)
}

/// Whether one of the places is in a function whose name contains `part`.
fn leads_through(found: &Found, part: &str) -> bool {
    found.places().any(|address| {
        let mut name = Text::<200>::new();
        panic::write_function(&mut name, address).is_ok() && name.as_str().contains(part)
    })
}

fn register(found: &Found, name: &str) -> Option<u64> {
    found
        .registers()
        .find(|&(known, _)| known == name)
        .map(|(_, value)| value)
}

fn a_cpu_that_takes_interrupts_is_not_found_however_busy(
    task: &Task,
    report: &mut Report,
) -> Outcome {
    let Some((cpu, _)) = pair() else {
        return Outcome::Skip(ONE_CPU);
    };
    let before = watchdog::ticks(cpu);
    let ended = run_on(task, cpu, busy_with_interrupts_on);
    ensure!(report, ended, "the busy thread did not end");
    let ticks = watchdog::ticks(cpu).wrapping_sub(before);
    ensure!(report, ticks > 20, "cpu{} ticked {ticks} times", cpu.0);
    ensure!(report, found_now(cpu).is_none(), "it was found to hang");
    Outcome::Pass
}

/// What must be known of a CPU that an NMI found in [`stays_until_found`].
fn check(report: &mut Report, found: &Found, looks: CpuId, through: &str) -> Outcome {
    let silent_ms = found.silent_ns() / MS;
    ensure!(
        report,
        silent_ms >= watchdog::SILENT_NS / MS,
        "silent for {silent_ms} ms only"
    );
    ensure!(
        report,
        found.by() == looks.0,
        "cpu{} noticed, not cpu{}",
        found.by(),
        looks.0
    );
    ensure!(
        report,
        (found.seen(), found.context(), found.waits())
            == (Seen::ByNmi, LabContext::Task, Waits::No),
        "{:?}, {:?}, {:?}",
        found.seen(),
        found.context(),
        found.waits()
    );
    let registers = found.registers().count();
    ensure!(report, registers == 18, "{registers} registers");
    let flags = want!(report, register(found, "rflags"), "no flags");
    ensure!(
        report,
        flags & 1 << 9 == 0,
        "interrupts were on: {flags:#x}"
    );
    let mark = register(found, "r15");
    // The loop between two looks at the clock takes nearly all of its time; r15 is its own there.
    ensure!(report, mark == Some(MARK), "r15 is {mark:x?}");
    for part in ["stays_until_found", through] {
        ensure!(
            report,
            leads_through(found, part),
            "the backtrace lacks {part}"
        );
    }
    Outcome::Pass
}

fn a_cpu_with_interrupts_off_is_found_by_its_neighbour(
    task: &Task,
    report: &mut Report,
) -> Outcome {
    let Some((cpu, looks)) = pair() else {
        return Outcome::Skip(ONE_CPU);
    };
    let ended = run_on(task, cpu, with_interrupts_off);
    ensure!(report, ended, "the thread that hung did not end");
    let found = want!(report, found_now(cpu), "cpu{} was not found", cpu.0);
    check(report, found, looks, "without_interrupts")
}

fn a_cpu_that_hangs_with_the_serial_ports_lock_gets_its_report_out(
    task: &Task,
    report: &mut Report,
) -> Outcome {
    let Some((cpu, looks)) = pair() else {
        return Outcome::Skip(ONE_CPU);
    };
    // A CPU that printed now would wait for the port, and be found to hang as well.
    console::flush(console::Share::All);
    WAS_WRITTEN.store(false, SeqCst);
    let ended = run_on(task, cpu, with_the_ports_lock);
    ensure!(report, ended, "the thread that hung did not end");
    let found = want!(report, found_now(cpu), "cpu{} was not found", cpu.0);
    ensure!(
        report,
        WAS_WRITTEN.load(SeqCst),
        "the report was not written while the port's lock was held"
    );
    check(report, found, looks, "with_the_ports_lock")
}

/// The CPU whose NMI stays, plus one.
static STAYS: AtomicU32 = AtomicU32::new(0);

fn stays(_: &Nmi) {
    let me = cpu_id();
    let mine = STAYS.compare_exchange(me.0 as u32 + 1, 0, SeqCst, SeqCst);
    if mine.is_ok() {
        let end = SINCE.load(SeqCst) + AT_MOST_NS;
        while found_now(me).is_none() && time::now_ns() < end {
            core::hint::spin_loop();
        }
        HANGS.store(true, SeqCst);
    }
}

fn a_cpu_in_an_nmis_handler_is_found_from_outside(task: &Task, report: &mut Report) -> Outcome {
    let Some((cpu, looks)) = pair() else {
        return Outcome::Skip(ONE_CPU);
    };
    let _jobs = want!(report, Jobs::set(stays, |_| {}), "no room for hooks");
    SINCE.store(time::now_ns(), SeqCst);
    HANGS.store(false, SeqCst);
    STAYS.store(cpu.0 as u32 + 1, SeqCst);
    nmi::send(cpu);
    let over = eventually(task, 4 * AT_MOST_NS, || HANGS.load(SeqCst));
    ensure!(report, over, "the NMI's handler did not end");
    let found = want!(report, found_now(cpu), "cpu{} was not found", cpu.0);
    ensure!(
        report,
        (found.seen(), found.context(), found.by())
            == (Seen::FromOutside, LabContext::Nmi, looks.0),
        "{:?}, {:?}, by cpu{}",
        found.seen(),
        found.context(),
        found.by()
    );
    let names = ["rip", "rsp", "rbp", "rflags"];
    ensure!(
        report,
        found.registers().map(|(name, _)| name).eq(names),
        "other registers"
    );
    let rip = register(found, "rip");
    ensure!(
        report,
        rip.is_some_and(|rip| rip != 0),
        "what the NMI interrupted is not known: {rip:x?}"
    );
    Outcome::Pass
}
