//! Work on every CPU: in interrupt handlers, in NMIs, in threads.

use crate::arch::{
    context::{HardIrq, Nmi, Task},
    cpu_id,
    entry::TrapFrame,
    ipi::{self, CallKind, WorkId},
    nmi, percpu,
};
use crate::thread::{self, Placement, Priority, ThreadId};
use crate::watchdog;
use spin::Once;
use tidemark_sync::{Hook, hook};

/// What a test runs in an NMI.
pub type NmiJob = fn(&Nmi);
/// What a test runs in the work interrupt.
pub type IrqJob = fn(&HardIrq);

static NMI_JOB: Hook<NmiJob> = hook!(fn(&Nmi));
static IRQ_JOB: Hook<IrqJob> = hook!(fn(&HardIrq));
static HOOKED: Once<Option<WorkId>> = Once::new();

fn on_nmi(nmi: &Nmi, _: &TrapFrame) {
    if let Some(job) = NMI_JOB.get()
        && !thread::quiesce::nmis_held()
        && !watchdog::sent_this_nmi()
    {
        job(nmi);
    }
}

fn on_work(irq: &HardIrq) {
    if let Some(job) = IRQ_JOB.get() {
        job(irq);
    }
}

/// What NMIs and the tests' work interrupt do while this lives. One at a time.
#[derive(Debug)]
#[must_use = "the jobs are taken away when this is dropped"]
pub struct Jobs {
    work: WorkId,
}

impl Jobs {
    /// Sets the jobs; nothing if the kernel has no room for the tests' hooks.
    pub fn set(nmi: NmiJob, irq: IrqJob) -> Option<Self> {
        let work = *HOOKED.call_once(|| {
            nmi::add_hook(on_nmi).ok()?;
            ipi::register_work(on_work).ok()
        });
        NMI_JOB.set(nmi);
        IRQ_JOB.set(irq);
        Some(Self { work: work? })
    }

    /// Asks the CPUs of a mask to run the interrupt job, if one is set; does not wait. Any context
    /// but NMI.
    pub fn raise(mask: u64) {
        if let Some(&Some(work)) = HOOKED.get() {
            ipi::raise(mask, work);
        }
    }

    /// Asks the running CPU to run the interrupt job after the NMI.
    pub fn work(&self) -> WorkId {
        self.work
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        NMI_JOB.clear();
        IRQ_JOB.clear();
    }
}

/// Runs `f` in a call interrupt on every online CPU, the own one included, and waits.
pub fn call_everywhere(f: fn(&HardIrq, usize), arg: usize, task: &Task) {
    ipi::call_on(percpu::online_mask(), CallKind::Call, f, arg, task);
}

/// The online CPUs but the running one.
pub fn others() -> u64 {
    percpu::online_mask() & !percpu::mask_of(cpu_id())
}

/// Threads that run the same function with their CPU's number, one on each online CPU.
#[derive(Debug)]
pub struct Team {
    members: [Option<ThreadId>; crate::arch::MAX_CPUS],
}

impl Team {
    /// Starts the threads; nothing if one could not be started (those that were are waited for).
    pub fn start(task: &Task, name: &str, f: fn(&Task, usize)) -> Option<Self> {
        let mut team = Self {
            members: [None; crate::arch::MAX_CPUS],
        };
        for cpu in percpu::online() {
            let started = thread::spawn(name, Placement::Cpu(cpu), Priority::Normal, f, cpu.0);
            match started {
                Ok(id) => team.members[cpu.0] = Some(id),
                Err(_) => {
                    // Those that run end by themselves; the caller reports what is missing.
                    let _ = team.join(task, super::SOON_NS);
                    return None;
                }
            }
        }
        Some(team)
    }

    /// Waits until all have ended, up to `ns` nanoseconds; returns whether they have.
    #[must_use]
    pub fn join(self, task: &Task, ns: u64) -> bool {
        let mut members = self.members.iter().flatten();
        super::eventually(task, ns, || members.clone().all(|id| !id.is_alive()))
            && members.all(|&id| thread::join(task, id).is_ok())
    }
}
