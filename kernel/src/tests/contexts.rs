//! What comes from outside: NMIs that the host raises, bytes that a serial port receives.

use super::support::{
    SOON_NS, ensure, eventually,
    frames::{OWNER, sign, unsigned},
    host, tests,
};
use crate::{
    arch::{
        MAX_CPUS,
        context::{HardIrq, Task},
        nmi, percpu,
    },
    console, mm,
    selftest::{Group, Outcome, Report},
};
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use tidemark_frames::{Gfp, Order, Request};
use tidemark_wire::Ask;

/// The group.
pub const GROUP: Group = Group {
    name: "contexts",
    tests: tests![
        an_nmi_of_the_hosts_reaches_every_cpu,
        each_byte_that_com1_receives_allocates,
    ],
};

/// What the frames are signed with.
const TAG: u64 = 0x7370_726d;

static FAILED: AtomicU32 = AtomicU32::new(0);
static BROKEN: AtomicU32 = AtomicU32::new(0);

/// QEMU raises the NMI line of every CPU's local APIC: LINT1, programmed as the tables say.
fn an_nmi_of_the_hosts_reaches_every_cpu(task: &Task, report: &mut Report) -> Outcome {
    if let Some(reason) = host::missing() {
        return Outcome::Skip(reason);
    }
    let mut before = [0; MAX_CPUS];
    for cpu in percpu::online() {
        before[cpu.0] = nmi::count(cpu);
    }
    let asked = host::ask(task, Ask::InjectNmi);
    ensure!(report, asked == Ok(true), "{asked:?}");
    let missed = || percpu::online().find(|&cpu| nmi::count(cpu) == before[cpu.0]);
    let taken = eventually(task, SOON_NS, || missed().is_none());
    ensure!(report, taken, "{:?} took none", missed());
    Outcome::Pass
}

static RECEIVED: AtomicU32 = AtomicU32::new(0);

/// As a tty's buffer does: with the port's lock held, in its interrupt.
fn on_byte(irq: &HardIrq, _: u8) {
    RECEIVED.fetch_add(1, SeqCst);
    let request = Request::atomic(Order::ZERO)
        .with(Gfp::NOWARN)
        .owned_by(OWNER);
    match mm::frames().alloc(irq, &request) {
        Ok(block) => {
            sign(&block, TAG);
            if unsigned(&block, TAG).is_some() {
                BROKEN.fetch_add(1, SeqCst);
            }
        }
        Err(_) => {
            FAILED.fetch_add(1, SeqCst);
        }
    }
}

fn each_byte_that_com1_receives_allocates(task: &Task, report: &mut Report) -> Outcome {
    if let Some(reason) = host::missing() {
        return Outcome::Skip(reason);
    }
    const BYTES: u8 = 40;
    for count in [&RECEIVED, &FAILED, &BROKEN] {
        count.store(0, SeqCst);
    }
    console::set_rx_alloc_hook(on_byte);
    let asked = host::ask(task, Ask::Type { bytes: BYTES });
    ensure!(report, asked == Ok(true), "{asked:?}");
    let all = eventually(task, SOON_NS, || RECEIVED.load(SeqCst) >= u32::from(BYTES));
    let [received, failed, broken] = [&RECEIVED, &FAILED, &BROKEN].map(|count| count.load(SeqCst));
    ensure!(report, all, "{received} of {BYTES} bytes came");
    ensure!(
        report,
        failed + broken == 0,
        "{failed} requests failed, {broken} frames were broken"
    );
    Outcome::Pass
}
