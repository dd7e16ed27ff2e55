//! The data that each CPU has for itself: one block, addressed by gs.
//!
//! The boot CPU's block is a static, so that gs works from the first line of boot. The blocks of
//! the others come from early memory. Code changes some fields by one gs-relative instruction;
//! those have named offsets below, checked at compile time.

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
/// Unless a field's documentation names other writers, only the block's own CPU writes it. Any CPU
/// may read it, and gets a value that was true a moment ago.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct PerCpu {
    self_ptr: AtomicPtr<PerCpu>,
    cpu: AtomicUsize,
    pub(super) irq_count: AtomicU32,
    pub(super) irq_saved: AtomicU32,
    pub(super) pin_count: AtomicU32,
    /// The allocator's gate of this CPU, and what the end of a gated section or a pin has to do;
    /// see `preempt`.
    pub(super) gate: CpuGate,
    /// Exceptions under way; more than one means that the dying routine has failed.
    pub(super) exception_depth: AtomicU32,
    /// 1 while the handler of a hard interrupt runs, else 0.
    pub(super) in_irq: AtomicU32,
    /// 1 while the handler of an NMI runs, else 0.
    pub(super) in_nmi: AtomicU32,
    pub(super) thread: AtomicPtr<()>,
    pub(super) apic_id: AtomicU32,
    uid: AtomicU32,
    /// Whether the CPU is online. Its own CPU sets it once, when it can take interrupts; it is
    /// cleared when the CPU stops.
    pub(super) online: AtomicBool,
    /// The first decision while the CPU was starting: by the CPU itself to take part, or by the
    /// boot CPU to give it up.
    admission: AtomicU32,
    /// Bits of work for the self-work interrupt. Any CPU sets them; this CPU clears them.
    pub(super) work: AtomicU32,
    /// Whether a caller on this CPU has halted until its call is over.
    pub(super) dozing: AtomicBool,
    /// Calls posted to this CPU: a caller on CPU n takes slot n first, and this CPU empties the
    /// slots.
    pub(super) calls: [AtomicPtr<()>; MAX_CPUS],
    /// The slots of `calls` that may hold a call, as bits.
    pub(super) calls_posted: AtomicU64,
    /// Where the CPU was interrupted when it was stopped: rip, rbp and rsp.
    pub(super) stopped_at: [AtomicU64; 3],
    /// Interrupts taken, by vector.
    pub(super) taken: [AtomicU32; 256],
    /// Words for the scheduler, which documents their writers.
    pub sched: [AtomicU64; 8],
    /// Words for the console, which documents their writers.
    pub console: [AtomicU64; 8],
    /// The CPU's part of the allocator's storage. The boot CPU writes it once, before any CPU
    /// allocates.
    caches: AtomicPtr<CpuCaches>,
    pub(super) held: HeldRanks,
    pub(super) tables: UnsafeCell<CpuTables>,
}

const _: () = assert!(MAX_CPUS == 64, "CPU masks are 64 bits");

// SAFETY: every field but `tables` is atomic. `tables` is written by its own CPU during bring-up
// only, and read by the processor afterwards.
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

    /// Returns the number of this block's CPU.
    pub fn id(&self) -> CpuId {
        CpuId(self.cpu.load(Relaxed))
    }

    /// Returns the id of its local APIC.
    pub fn apic_id(&self) -> u32 {
        self.apic_id.load(Relaxed)
    }

    /// Returns the number that the firmware's tables use for it.
    pub(super) fn uid(&self) -> u32 {
        self.uid.load(Relaxed)
    }

    /// Stores the numbers that the firmware's tables use for it. It is called before the CPU
    /// starts.
    pub(super) fn set_firmware_ids(&self, cpu: Cpu) {
        self.apic_id.store(cpu.apic_id, Relaxed);
        self.uid.store(cpu.uid, Relaxed);
    }

    fn decide(&self, decision: u32) -> bool {
        // AcqRel: either the starting CPU or the boot CPU wins, and the other sees what the winner
        // did before.
        let decided = self
            .admission
            .compare_exchange(UNDECIDED, decision, AcqRel, Acquire);
        decided.is_ok()
    }

    /// Decides that this starting CPU takes part. Returns false if the boot CPU has given it up.
    pub(super) fn admit(&self) -> bool {
        self.decide(ADMITTED)
    }

    /// Decides that this CPU is left out. Returns false if it is about to be online.
    pub(super) fn give_up(&self) -> bool {
        self.decide(GIVEN_UP)
    }

    /// Returns whether this CPU has come up and has not been stopped.
    pub fn is_online(&self) -> bool {
        self.online.load(Acquire)
    }

    /// Returns the number of interrupts of `vector` that this CPU has taken, modulo 2^32.
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
/// The blocks of all CPUs; null for absent CPUs. The boot CPU writes an entry while it prepares the
/// application processor.
static BLOCKS: [AtomicPtr<PerCpu>; MAX_CPUS] =
    [const { AtomicPtr::new(ptr::null_mut()) }; MAX_CPUS];
static ONLINE: AtomicU64 = AtomicU64::new(0);

/// Gives the boot CPU its block. Boot does this first.
pub fn init_boot_cpu() {
    let block = ptr::from_ref(&BOOT_CPU).cast_mut();
    BOOT_CPU.self_ptr.store(block, Relaxed);
    BLOCKS[0].store(block, Release);
    // SAFETY: this is a static block, initialised above.
    unsafe { load(&BOOT_CPU) };
}

/// Prepares the block of an application processor.
///
/// # Safety
/// `block` points to memory for a `PerCpu` that is given away for good.
pub(super) unsafe fn create(cpu: CpuId, from: Cpu, block: *mut PerCpu) -> &'static PerCpu {
    // SAFETY: the caller gives away memory of the right size and alignment.
    let block = unsafe {
        block.write(PerCpu::new());
        &*block
    };
    block
        .self_ptr
        .store(ptr::from_ref(block).cast_mut(), Relaxed);
    block.cpu.store(cpu.0, Relaxed);
    block.set_firmware_ids(from);
    // Release pairs with the Acquire in `get`: it publishes the block's contents.
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

/// Returns the running CPU's block. Unless pinned, the caller may be on another CPU already.
pub fn current() -> &'static PerCpu {
    #[cfg(feature = "freestanding")]
    {
        let block: *const PerCpu;
        // SAFETY: gs has pointed to this CPU's block since `load`, and the block's first word
        // points to the block.
        unsafe {
            core::arch::asm!("mov {}, gs:[0]", out(reg) block, options(nostack, preserves_flags, readonly));
            &*block
        }
    }
    #[cfg(not(feature = "freestanding"))]
    &BOOT_CPU
}

/// Returns the running CPU's number. Unless pinned, the caller may be on another CPU already.
pub fn cpu_id() -> CpuId {
    #[cfg(feature = "freestanding")]
    {
        let cpu: usize;
        // SAFETY: this reads the CPU's number from its own block.
        unsafe {
            core::arch::asm!("mov {}, gs:[{}]", out(reg) cpu, const offset_of!(PerCpu, cpu),
                options(nostack, preserves_flags, readonly));
        }
        CpuId(cpu)
    }
    #[cfg(not(feature = "freestanding"))]
    current().id()
}

/// Returns the gate of `cpu`. Any context may call it.
///
/// # Panics
/// Panics if there is no such CPU.
pub fn gate(cpu: CpuId) -> &'static CpuGate {
    &of(cpu).gate
}

/// Sets `cpu`'s part of the allocator's storage. It is called once, before that CPU allocates.
pub fn set_caches(cpu: CpuId, caches: &'static CpuCaches) {
    if let Some(block) = get(cpu) {
        // Release pairs with the acquire of the message that tells the CPU to begin.
        block
            .caches
            .store(ptr::from_ref(caches).cast_mut(), Release);
    }
}

/// Returns the running CPU's part of the allocator's storage, by one load. The caller is pinned, or
/// inside a gated section.
///
/// # Safety
/// [`set_caches`] was called for this CPU.
#[cfg(feature = "freestanding")]
#[inline]
pub unsafe fn caches() -> &'static CpuCaches {
    let caches: *const CpuCaches;
    // SAFETY: this is one gs-relative read of a field of this CPU's block. The pointer was made
    // from a `&'static` by `set_caches`, which the caller promises was called.
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
/// Panics if there is no such CPU.
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

/// Returns the number of CPUs that are online.
pub fn online_count() -> usize {
    online_mask().count_ones() as usize
}

/// Iterates over the CPUs that are online now.
pub fn online() -> impl Iterator<Item = CpuId> {
    cpus_in(online_mask())
}

/// Iterates over the CPUs in a mask.
pub fn cpus_in(mask: u64) -> impl Iterator<Item = CpuId> {
    (0..MAX_CPUS)
        .filter(move |cpu| mask >> cpu & 1 != 0)
        .map(CpuId)
}

/// Returns the mask that contains only `cpu`.
pub fn mask_of(cpu: CpuId) -> u64 {
    1 << cpu.0
}

/// Marks the running CPU as online.
pub(super) fn set_online() {
    let block = current();
    block.online.store(true, Release);
    ONLINE.fetch_or(mask_of(block.id()), Release);
}

/// Marks `cpu` as stopped: no CPU waits for it from now on.
pub(super) fn set_offline(cpu: CpuId) {
    if let Some(block) = get(cpu) {
        block.online.store(false, Release);
        ONLINE.fetch_and(!mask_of(cpu), Release);
    }
}

/// Returns what the scheduler stored with [`set_thread`]; null before the scheduler runs. Any
/// context may call it.
pub fn thread() -> *mut () {
    #[cfg(feature = "freestanding")]
    {
        let thread: *mut ();
        // SAFETY: this is one gs-relative read, so it cannot mix the values of two CPUs.
        unsafe {
            core::arch::asm!("mov {}, gs:[{}]", out(reg) thread, const offset_of!(PerCpu, thread),
                options(nostack, preserves_flags, readonly));
        }
        thread
    }
    #[cfg(not(feature = "freestanding"))]
    current().thread.load(Relaxed)
}

/// Returns whether the running CPU is in an NMI. Any context may call it.
pub fn in_nmi() -> bool {
    current().in_nmi.load(Relaxed) != 0
}

/// Returns whether the running CPU is in the handler of a hard interrupt. Any context may call it.
pub fn in_irq() -> bool {
    current().in_irq.load(Relaxed) != 0
}

/// Stores the running CPU's current thread. The scheduler calls it with interrupts off.
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
