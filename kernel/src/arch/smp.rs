//! Starts the other CPUs: INIT, then STARTUP, to all of them at once. Intel SDM volume 3, 9.4.

mod trampoline;

use super::acpi::{Cpu, Madt};
use super::apic::{self, Message};
use super::early::BumpAllocator;
use super::paging::{self, PagingError};
use super::percpu::{self, CpuId, MAX_CPUS, PerCpu};
use super::{gdt, idt, port, time, timer};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering::*};
use heapless::Vec;
use tidemark_sync::{Hook, hook};
use x86_64::registers::control::Cr3;
use x86_64::structures::paging::PhysFrame;

/// Pages in an application processor's first stack, on which it later idles.
const STACK_PAGES: usize = 8;
/// How long a CPU may take after the last STARTUP.
const DEADLINE_NS: u64 = 2_000_000_000;
/// How long to wait before the second STARTUP, for a CPU that missed the first.
const SECOND_STARTUP_NS: u64 = 20_000_000;

/// The result of starting the other CPUs.
#[derive(Debug, Clone)]
pub struct Report {
    /// Number of CPUs that are online, the boot CPU included.
    pub online: usize,
    /// APIC ids of the CPUs that did not come up in time; they are left out.
    pub failed: Vec<u32, MAX_CPUS>,
    /// Number of CPUs left out because they are beyond [`MAX_CPUS`] or an 8-bit APIC id cannot name
    /// them.
    pub left_out: usize,
}

/// Why no CPU could be brought up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmpError {
    /// Memory or addresses ran out.
    Paging(PagingError),
    /// There is no free frame below 640 KiB, or none below 4 GiB, for the trampoline.
    NoLowFrame,
}

impl From<PagingError> for SmpError {
    fn from(error: PagingError) -> Self {
        Self::Paging(error)
    }
}

impl fmt::Display for SmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paging(error) => write!(f, "application processors: {error}"),
            Self::NoLowFrame => write!(f, "no low frame for the trampoline"),
        }
    }
}

/// The function that an application processor runs once it is set up. It starts with interrupts off
/// and the tick started, on a stack of its own.
pub type ApMain = fn(CpuId) -> !;

static AP_MAIN: Hook<ApMain> = hook!(fn(CpuId) -> !);
/// The top of each CPU's first stack; written before the CPU starts.
static STACK_TOP: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// Gives each CPU a number: the boot CPU 0, the others as the firmware lists them. CPUs that an
/// 8-bit APIC id cannot name, and those beyond [`MAX_CPUS`], are counted as left out.
fn number(cpus: impl Iterator<Item = Cpu>, boot: u32) -> (Vec<(CpuId, Cpu), MAX_CPUS>, usize) {
    let mut numbered = Vec::new();
    let mut left_out = 0;
    for cpu in cpus.filter(|cpu| cpu.apic_id != boot) {
        let id = CpuId(numbered.len() + 1);
        if id.0 >= MAX_CPUS || cpu.apic_id >= 0xff || numbered.push((id, cpu)).is_err() {
            left_out += 1;
        }
    }
    (numbered, left_out)
}

/// Starts the other CPUs; each sets itself up and calls `ap_main`. Returns when all are online or
/// their time is over. It is called on the boot CPU, in task context, with interrupts on or off.
///
/// # Errors
///
/// Returns an [`SmpError`] if memory for the CPUs cannot be had.
pub fn start_others(
    madt: &Madt<'_>,
    early: &mut BumpAllocator,
    ap_main: ApMain,
) -> Result<Report, SmpError> {
    let (others, left_out) = number(madt.cpus(), apic::id());
    let mut report = Report {
        online: 1,
        failed: Vec::new(),
        left_out,
    };
    if others.is_empty() {
        return Ok(report);
    }
    AP_MAIN.set(ap_main);
    let low = early.alloc_real_mode().ok_or(SmpError::NoLowFrame)?;
    let page = paging::phys_to_virt(low.start_address().as_u64());
    let setup = trampoline::Setup {
        cr3: paging::identity_tables(low, &mut || early.frame())?
            .try_into()
            .map_err(|_| SmpError::NoLowFrame)?,
        kernel_cr3: Cr3::read().0.start_address().as_u64(),
        entry: ap_entry as *const () as u64,
    };
    let phys = low.start_address().as_u64() as u32;
    // SAFETY: the page is a frame of its own below 640 KiB.
    unsafe { trampoline::write(page, phys, setup) };
    for (id, cpu) in &others {
        prepare(*id, *cpu, early)?;
        // SAFETY: the page was written above.
        unsafe { trampoline::set_word(page, cpu.apic_id as u8, id.0 as u64 | 1 << 32) };
    }
    wake(&others, low);
    for (id, cpu) in &others {
        let block = percpu::of(*id);
        if block.give_up() {
            // The push cannot fail: the report has room for every CPU.
            let _ = report.failed.push(cpu.apic_id);
        } else {
            // The CPU has started and has a few instructions to go.
            time::spin_until(DEADLINE_NS, || block.is_online());
        }
    }
    report.online = percpu::online_count();
    Ok(report)
}

fn prepare(id: CpuId, cpu: Cpu, early: &mut BumpAllocator) -> Result<(), SmpError> {
    let memory = early
        .alloc_zeroed(size_of::<PerCpu>(), 4096)
        .ok_or(PagingError::NoFrame)?;
    // SAFETY: this is page-aligned early memory of that size, given away here.
    let block = unsafe { percpu::create(id, cpu, memory.as_mut_ptr().cast()) };
    // SAFETY: the CPU has not started, so it does not use the tables, and only this CPU prepares
    // them.
    unsafe { gdt::prepare(block, early)? };
    let stack = gdt::early_stack(early, STACK_PAGES)?;
    STACK_TOP[id.0].store(stack.top, Relaxed);
    Ok(())
}

/// Wakes all CPUs and waits for them; the delays are for all at once.
fn wake(others: &[(CpuId, Cpu)], page: PhysFrame) {
    let startup = Message::Startup((page.start_address().as_u64() >> 12) as u8);
    let to_missing = |message| {
        for (id, cpu) in others {
            if !percpu::of(*id).is_online() {
                apic::send(cpu.apic_id, message);
            }
        }
    };
    let all_online = || others.iter().all(|(id, _)| percpu::of(*id).is_online());
    to_missing(Message::Init);
    // The SDM's 10 ms are for the 82489DX; a few microseconds suffice since the P6.
    time::spin_ns(200_000);
    to_missing(startup);
    if !time::spin_until(SECOND_STARTUP_NS, all_online) {
        to_missing(startup);
        time::spin_until(DEADLINE_NS, all_online);
    }
}

/// Receives a CPU from the trampoline. It loads the kernel's tables first, then the stack of the
/// CPU in rsi.
#[unsafe(naked)]
extern "C" fn ap_entry() -> ! {
    core::arch::naked_asm!(
        "mov cr3, rdi",
        "mov edi, esi",
        "lea rax, [rip + {stacks}]",
        "mov rsp, [rax + rdi * 8]",
        "xor ebp, ebp",
        "call {rust}",
        "ud2",
        stacks = sym STACK_TOP,
        rust = sym ap_rust,
    )
}

extern "C" fn ap_rust(cpu: usize) -> ! {
    let block = percpu::of(CpuId(cpu));
    if !block.admit() {
        port::halt_forever();
    }
    // SAFETY: this CPU's block and tables were prepared before it was started. Loading the segments
    // clears gs, so the block is loaded afterwards.
    unsafe {
        gdt::load(block);
        percpu::load(block);
    }
    idt::load();
    let tables = super::tables().expect("the boot CPU has read them");
    apic::enable(&tables.madt, block.uid());
    timer::start();
    percpu::set_online();
    let main = AP_MAIN.get().expect("`start_others` sets it first");
    main(CpuId(cpu))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_numbered_without_gaps_from_the_boot_cpu_on() {
        let cpus = [0, 4, 8, 300, 12].map(|apic_id| Cpu { apic_id, uid: 0 });
        let (others, left_out) = number(cpus.into_iter(), 4);
        let numbers: Vec<_, 8> = others.iter().map(|(id, cpu)| (id.0, cpu.apic_id)).collect();
        assert_eq!(numbers.as_slice(), [(1, 0), (2, 8), (3, 12)]);
        assert_eq!(left_out, 1);
    }

    #[test]
    fn cpus_beyond_the_64th_are_left_out() {
        let cpus = (0..80).map(|apic_id| Cpu { apic_id, uid: 0 });
        let (others, left_out) = number(cpus, 0);
        assert_eq!((others.len(), left_out), (63, 16));
    }
}
