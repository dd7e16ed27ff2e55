//! What each CPU has for itself: one block, addressed by gs.
//!
//! The boot CPU's block is a static, so that gs works from the first line of boot; the others' come
//! from early memory. Fields that code changes by one gs-relative instruction are named by the
//! offsets below, checked at compile time.

use super::acpi::Cpu;
use super::gdt::CpuTables;
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering::*};
use tidemark_sync::{CpuGate, HeldRanks};

use tidemark_frames::CpuCaches;
pub use tidemark_frames::{CpuId, MAX_CPUS};

/// One CPU's block.
///
/// Unless a field says otherwise, only its own CPU writes it and anyone may read it: a reader
/// elsewhere gets a value that was true a moment ago.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct PerCpu {
    self_ptr: AtomicPtr<PerCpu>,
    cpu: AtomicUsize,
    pub(super) irq_count: AtomicU32,
    pub(super) irq_saved: AtomicU32,
    pub(super) pin_count: AtomicU32,
    /// The allocator's gate of this CPU, and what the end of a section or a pin has
    /// to look after; see `preempt`.
    pub(super) gate: CpuGate,
    /// Exceptions under way; more than one means that dying goes wrong.
    pub(super) exception_depth: AtomicU32,
    /// 1 while a hard interrupt's handler runs.
    pub(super) in_irq: AtomicU32,
    /// 1 while an NMI's handler runs.
    pub(super) in_nmi: AtomicU32,
    pub(super) thread: AtomicPtr<()>,
    pub(super) apic_id: AtomicU32,
    uid: AtomicU32,
    /// Written once by its own CPU when it can take interrupts, cleared when it stops.
    pub(super) online: AtomicBool,
    /// Who decided first while the CPU was starting: itself to take part, or the boot CPU to give
    /// up.
    admission: AtomicU32,
    /// Work bits for the self-work interrupt; set by anyone, cleared by this CPU.
    pub(super) work: AtomicU32,
    /// A caller on this CPU has halted until its call is over.
    pub(super) dozing: AtomicBool,
    /// Calls posted to this CPU: slot n by a caller on CPU n, taken by this CPU.
    pub(super) calls: [AtomicPtr<()>; MAX_CPUS],
    /// Which slots of `calls` may hold something.
    pub(super) calls_posted: AtomicU64,
    /// Where it was when it was stopped: the interrupted rip, rbp and rsp.
    pub(super) stopped_at: [AtomicU64; 3],
    /// Interrupts taken, by vector.
    pub(super) taken: [AtomicU32; 256],
    /// Words for the scheduler; it says who may write them.
    pub sched: [AtomicU64; 8],
    /// Words for the console; it says who may write them.
    pub console: [AtomicU64; 8],
    /// The CPU's part of the allocator's storage; written once, by the boot CPU, before anybody
    /// allocates.
    caches: AtomicPtr<CpuCaches>,
    pub(super) held: HeldRanks,
    pub(super) tables: UnsafeCell<CpuTables>,
}

const _: () = assert!(MAX_CPUS == 64, "CPU masks are 64 bits");

// SAFETY: every field but `tables` is atomic; `tables` is written by its own CPU during bring-up
// only and read by the processor afterwards.
unsafe impl Sync for PerCpu {}

const UNDECIDED: u32 = 0;
const ADMITTED: u32 = 1;
const GIVEN_UP: u32 = 2;

const _: () = assert!(offset_of!(PerCpu, self_ptr) == 0);
const _: () = assert!(offset_of!(PerCpu, cpu) == 8);

impl PerCpu {
    /// Returns an empty block.
    pub const fn new() -> Self {
        Self {
            self_ptr: AtomicPtr::new(ptr::null_mut()),
            cpu: AtomicUsize::new(0),
            irq_count: AtomicU32::new(0),
            irq_saved: AtomicU32::new(0),
            pin_count: AtomicU32::new(0),
            gate: CpuGate::new(),
            exception_depth: AtomicU32::new(0),
            in_irq: AtomicU32::new(0),
            in_nmi: AtomicU32::new(0),
            thread: AtomicPtr::new(ptr::null_mut()),
            apic_id: AtomicU32::new(0),
            uid: AtomicU32::new(0),
            online: AtomicBool::new(false),
            admission: AtomicU32::new(UNDECIDED),
            work: AtomicU32::new(0),
            dozing: AtomicBool::new(false),
            calls: [const { AtomicPtr::new(ptr::null_mut()) }; MAX_CPUS],
            calls_posted: AtomicU64::new(0),
            stopped_at: [const { AtomicU64::new(0) }; 3],
            taken: [const { AtomicU32::new(0) }; 256],
            sched: [const { AtomicU64::new(0) }; 8],
            console: [const { AtomicU64::new(0) }; 8],
            caches: AtomicPtr::new(ptr::null_mut()),
            held: HeldRanks::new(),
            tables: UnsafeCell::new(CpuTables::new()),
        }
    }

    /// Returns this block's CPU.
    pub fn id(&self) -> CpuId {
        CpuId(self.cpu.load(Relaxed))
    }

    /// Returns its local APIC's id.
    pub fn apic_id(&self) -> u32 {
        self.apic_id.load(Relaxed)
    }

    /// Returns what the firmware's tables call it.
    pub(super) fn uid(&self) -> u32 {
        self.uid.load(Relaxed)
    }

    /// Notes what the firmware calls it; before the CPU starts.
    pub(super) fn set_firmware_ids(&self, cpu: Cpu) {
        self.apic_id.store(cpu.apic_id, Relaxed);
        self.uid.store(cpu.uid, Relaxed);
    }

    fn decide(&self, decision: u32) -> bool {
        // AcqRel: one of the starting CPU and the boot CPU wins, and sees what the other did
        // before.
        let decided = self
            .admission
            .compare_exchange(UNDECIDED, decision, AcqRel, Acquire);
        decided.is_ok()
    }

    /// Decides that this starting CPU takes part; false if the boot CPU has given it up.
    pub(super) fn admit(&self) -> bool {
        self.decide(ADMITTED)
    }

    /// Decides that this CPU is left out; false if it is about to be online.
    pub(super) fn give_up(&self) -> bool {
        self.decide(GIVEN_UP)
    }

    /// Tells whether this CPU has come up and has not been stopped.
    pub fn is_online(&self) -> bool {
        self.online.load(Acquire)
    }

    /// Returns how many interrupts of `vector` this CPU has taken, modulo 2^32.
    pub fn taken(&self, vector: u8) -> u32 {
        self.taken[usize::from(vector)].load(Relaxed)
    }
}

impl Default for PerCpu {
    fn default() -> Self {
        Self::new()
    }
}

static BOOT_CPU: PerCpu = PerCpu::new();
/// Written by the boot CPU while it prepares an application processor; null for absent CPUs.
static BLOCKS: [AtomicPtr<PerCpu>; MAX_CPUS] =
    [const { AtomicPtr::new(ptr::null_mut()) }; MAX_CPUS];
static ONLINE: AtomicU64 = AtomicU64::new(0);

/// Gives the boot CPU its block; the first thing that boot does.
pub fn init_boot_cpu() {
    let block = ptr::from_ref(&BOOT_CPU).cast_mut();
    BOOT_CPU.self_ptr.store(block, Relaxed);
    BLOCKS[0].store(block, Release);
    // SAFETY: a static block, initialised above.
    unsafe { load(&BOOT_CPU) };
}

/// Prepares the block of an application processor.
///
/// # Safety
/// `block` points to memory for a `PerCpu`, given away for good.
pub(super) unsafe fn create(cpu: CpuId, from: Cpu, block: *mut PerCpu) -> &'static PerCpu {
    // SAFETY: the caller gives memory of the right size and alignment away.
    let block = unsafe {
        block.write(PerCpu::new());
        &*block
    };
    block
        .self_ptr
        .store(ptr::from_ref(block).cast_mut(), Relaxed);
    block.cpu.store(cpu.0, Relaxed);
    block.set_firmware_ids(from);
    // Release: pairs with the Acquire in `get`, publishing the block's contents.
    BLOCKS[cpu.0].store(ptr::from_ref(block).cast_mut(), Release);
    block
}

/// Points this CPU's gs at `block`.
///
/// # Safety
/// `block` belongs to this CPU.
pub(super) unsafe fn load(block: &'static PerCpu) {
    #[cfg(feature = "freestanding")]
    x86_64::registers::model_specific::GsBase::write(x86_64::VirtAddr::from_ptr(block));
    #[cfg(not(feature = "freestanding"))]
    let _ = block;
}

/// Returns the running CPU's block. Unless pinned, the caller may already be elsewhere.
pub fn current() -> &'static PerCpu {
    #[cfg(feature = "freestanding")]
    {
        let block: *const PerCpu;
        // SAFETY: gs points to this CPU's block since `load`, and its first word to itself.
        unsafe {
            core::arch::asm!("mov {}, gs:[0]", out(reg) block, options(nostack, preserves_flags, readonly));
            &*block
        }
    }
    #[cfg(not(feature = "freestanding"))]
    &BOOT_CPU
}

/// Returns the running CPU. Unless pinned, the caller may already be elsewhere.
pub fn cpu_id() -> CpuId {
    #[cfg(feature = "freestanding")]
    {
        let cpu: usize;
        // SAFETY: reads this CPU's number from its block.
        unsafe {
            core::arch::asm!("mov {}, gs:[{}]", out(reg) cpu, const offset_of!(PerCpu, cpu),
                options(nostack, preserves_flags, readonly));
        }
        CpuId(cpu)
    }
    #[cfg(not(feature = "freestanding"))]
    current().id()
}

/// Returns the gate of `cpu`. Any context.
///
/// # Panics
/// If there is no such CPU.
pub fn gate(cpu: CpuId) -> &'static CpuGate {
    &of(cpu).gate
}

/// Says which part of the allocator's storage is `cpu`'s; once, before that CPU allocates.
pub fn set_caches(cpu: CpuId, caches: &'static CpuCaches) {
    if let Some(block) = get(cpu) {
        // Release: pairs with whatever tells the CPU to begin.
        block
            .caches
            .store(ptr::from_ref(caches).cast_mut(), Release);
    }
}

/// Returns the running CPU's part of the allocator's storage, by one load. Pinned, or inside
/// a section.
///
/// # Safety
/// [`set_caches`] was called for this CPU.
#[cfg(feature = "freestanding")]
#[inline]
pub unsafe fn caches() -> &'static CpuCaches {
    let caches: *const CpuCaches;
    // SAFETY: one gs-relative read of a field of this CPU's block. What it points to was given as
    // a `&'static` by `set_caches`, which the caller says was called.
    unsafe {
        core::arch::asm!("mov {}, gs:[{}]", out(reg) caches, const offset_of!(PerCpu, caches),
            options(nostack, preserves_flags, readonly));
        &*caches
    }
}

/// Returns the block of `cpu`, if that CPU was found at boot.
pub fn get(cpu: CpuId) -> Option<&'static PerCpu> {
    let block = BLOCKS.get(cpu.0)?.load(Acquire);
    // SAFETY: blocks are published once, complete, and never freed.
    unsafe { block.as_ref() }
}

/// Returns the block of `cpu`.
///
/// # Panics
/// If there is no such CPU.
pub fn of(cpu: CpuId) -> &'static PerCpu {
    match get(cpu) {
        Some(block) => block,
        None => panic!("cpu{} does not exist", cpu.0),
    }
}

/// Returns the CPUs that have come up and have not been stopped, as a bit mask.
pub fn online_mask() -> u64 {
    ONLINE.load(Acquire)
}

/// Returns how many CPUs are online.
pub fn online_count() -> usize {
    online_mask().count_ones() as usize
}

/// Iterates over the CPUs that are online now.
pub fn online() -> impl Iterator<Item = CpuId> {
    cpus_in(online_mask())
}

/// Iterates over the CPUs of a mask.
pub fn cpus_in(mask: u64) -> impl Iterator<Item = CpuId> {
    (0..MAX_CPUS)
        .filter(move |cpu| mask >> cpu & 1 != 0)
        .map(CpuId)
}

/// Returns the bit of `cpu` in a mask.
pub fn mask_of(cpu: CpuId) -> u64 {
    1 << cpu.0
}

/// Marks the running CPU as online.
pub(super) fn set_online() {
    let block = current();
    block.online.store(true, Release);
    ONLINE.fetch_or(mask_of(block.id()), Release);
}

/// Marks `cpu` as stopped: nobody waits for it from now on.
pub(super) fn set_offline(cpu: CpuId) {
    if let Some(block) = get(cpu) {
        block.online.store(false, Release);
        ONLINE.fetch_and(!mask_of(cpu), Release);
    }
}

/// Returns what the scheduler stored with [`set_thread`]; null before it runs. Usable anywhere.
pub fn thread() -> *mut () {
    #[cfg(feature = "freestanding")]
    {
        let thread: *mut ();
        // SAFETY: one gs-relative read: it cannot mix two CPUs' values.
        unsafe {
            core::arch::asm!("mov {}, gs:[{}]", out(reg) thread, const offset_of!(PerCpu, thread),
                options(nostack, preserves_flags, readonly));
        }
        thread
    }
    #[cfg(not(feature = "freestanding"))]
    current().thread.load(Relaxed)
}

/// Tells whether the running CPU is in an NMI. Any context.
pub fn in_nmi() -> bool {
    current().in_nmi.load(Relaxed) != 0
}

/// Tells whether the running CPU is in a hard interrupt's handler. Any context.
pub fn in_irq() -> bool {
    current().in_irq.load(Relaxed) != 0
}

/// Stores the running CPU's current thread; the scheduler calls it with interrupts off.
pub fn set_thread(thread: *mut ()) {
    current().thread.store(thread, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_lists_its_cpus_in_order() {
        let cpus: [Option<CpuId>; 3] = {
            let mut cpus = cpus_in(1 << 63 | 1 << 5 | 1);
            core::array::from_fn(|_| cpus.next())
        };
        assert_eq!(cpus, [Some(CpuId(0)), Some(CpuId(5)), Some(CpuId(63))]);
        assert_eq!(cpus_in(0).next(), None);
    }
}
