//! The allocator in another kernel, the smallest one that shows everything that it needs.
//!
//! `cargo run -p tidemark-frames --example other_kernel`
//!
//! This "kernel" is a process. Its one CPU is the main thread, and its memory is an allocation of
//! the host. Its timer interrupt is a real signal, which comes at any instruction, even in an
//! allocation, and allocates. Read it in this order:
//!
//! 1. [`Machine`] implements [`Platform`] (and, below it, [`LocalIrq`]): everything that the
//!    allocator needs of a kernel. A method's documentation in the trait is its contract.
//! 2. [`boot`] gives the allocator memory for its books and adds the first memory.
//! 3. [`tick`] is the interrupt handler, [`work`] the task that it interrupts.
//! 4. [`pages`] fills a page cache in memory that is meant to leave; then that memory leaves, and
//!    the allocator has the pages moved, one by one, by [`Machine::migrate`].
//! 5. At the end `validate_at_rest` recounts everything.
#![cfg(all(target_os = "linux", not(loom)))]

use std::{
    ptr,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::*},
    },
    time::{Duration, Instant},
};
use tidemark_frames::{
    AllocReport, Block, CpuCaches, CpuId, FRAME_SIZE, FrameHandle, FrameState, Frames, FreeError,
    MigrateError, Node, NodeId, OomOutcome, Order, Owner, OwnerKind, PerCpu, Pfn, PfnRange,
    Platform, Request, SECTION_FRAMES, SectionMeta, SectionNo, SectionSlot, Storage, Topology,
    Variant, Zone, ZoneId, ZoneKind,
};
use tidemark_sync::{ContextKind, CpuGate, HardIrq, HeldRanks, IrqOff, LocalIrq, Task};

// ---------------------------------------------------------------------------------------------
// The machine: 256 MiB of memory from the physical address 128 MiB on, one CPU, one node.

/// The memory at boot, in a zone that every request may use.
const BOOT_SECTION: SectionNo = SectionNo(1);
/// The "DIMM". It comes later, holds only movable blocks, and leaves again.
const DIMM_SECTION: SectionNo = SectionNo(2);

const NODE: NodeId = NodeId(0);
const BOOT_ZONE: ZoneId = ZoneId::new(NODE, ZoneKind::Dma32);
const DIMM_ZONE: ZoneId = ZoneId::new(NODE, ZoneKind::Movable);

/// The allocator: a kernel has one for the whole machine, for good.
static FRAMES: OnceLock<Frames<'static, Machine>> = OnceLock::new();
/// Address of the machine's memory in this process.
static MEMORY: AtomicUsize = AtomicUsize::new(0);
/// Time of the boot.
static BOOTED: OnceLock<Instant> = OnceLock::new();

type OurBlock = Block<'static, 'static, Machine>;

fn frames() -> &'static Frames<'static, Machine> {
    FRAMES.get().expect("boot has made the allocator")
}

/// Returns the frames of a memory section.
fn range_of(block: SectionNo) -> PfnRange {
    PfnRange::new(block.start(), SectionNo(block.0 + 1).start())
}

/// Returns the first word of a frame, by the machine's "direct map".
fn word(pfn: Pfn) -> *mut u64 {
    let offset = (pfn.0 - BOOT_SECTION.start().0) * FRAME_SIZE;
    ptr::with_exposed_provenance_mut::<u64>(MEMORY.load(Relaxed) + offset as usize)
}

fn write(pfn: Pfn, value: u64) {
    // SAFETY: every frame lies in the machine's memory, and only its owner calls this.
    unsafe { word(pfn).write_volatile(value) };
}

fn read(pfn: Pfn) -> u64 {
    // SAFETY: as in `write`.
    unsafe { word(pfn).read_volatile() }
}

// --------------------------------------------------------------------------------------------- The
// platform: what the allocator needs of a kernel.

/// This kernel, as the allocator sees it.
struct Machine;

/// Nested interrupts-off sections. Interrupts are off while this is above 0.
static IRQS_OFF: AtomicU32 = AtomicU32::new(0);
/// Whether interrupts were off before the outermost interrupts-off section.
static WERE_OFF: AtomicBool = AtomicBool::new(false);
/// The ranks of the locks that the CPU holds, for the lock validator.
static HELD: HeldRanks = HeldRanks::new();

/// `LocalIrq` is for the few places that turn interrupts off: the writers of the zonelists. The
/// allocation and freeing of frames never do.
impl LocalIrq for Machine {
    fn push_off() {
        // Interrupts go off before the count: a tick between the two steps would see one of them
        // done.
        let were_off = mask_tick(libc::SIG_BLOCK);
        if IRQS_OFF.fetch_add(1, Relaxed) == 0 {
            WERE_OFF.store(were_off, Relaxed);
        }
    }

    fn pop_off() {
        let were_off = WERE_OFF.load(Relaxed);
        if IRQS_OFF.fetch_sub(1, Relaxed) == 1 && !were_off {
            mask_tick(libc::SIG_UNBLOCK);
        }
    }

    fn cpu() -> usize {
        0
    }

    fn held() -> &'static HeldRanks {
        &HELD
    }
}

/// Masks or unmasks the tick; returns whether it was masked before.
fn mask_tick(how: libc::c_int) -> bool {
    // SAFETY: both sets are initialised by libc before they are read.
    unsafe {
        let (mut tick, mut before) = std::mem::zeroed();
        libc::sigemptyset(&mut tick);
        libc::sigaddset(&mut tick, libc::SIGALRM);
        libc::pthread_sigmask(how, &tick, &mut before);
        libc::sigismember(&before, libc::SIGALRM) == 1
    }
}

/// Number of errors that the allocator has reported. There are none here.
static FAULTS: AtomicU32 = AtomicU32::new(0);

impl PerCpu for Machine {}

impl Platform for Machine {
    // A pin keeps the caller on its CPU. There is no other CPU and no other thread to switch to.
    fn pin(&self) {}
    fn unpin(&self) {}

    // The tick reads here whether it has interrupted a gated section. With several CPUs each has
    // its own gate.
    fn gate(&self, _: CpuId) -> &CpuGate {
        static SECTION: CpuGate = CpuGate::new();
        &SECTION
    }

    fn local_node(&self) -> NodeId {
        NODE
    }

    fn cpu_online(&self, cpu: CpuId) -> bool {
        cpu == CpuId(0)
    }

    fn now_ns(&self) -> u64 {
        BOOTED
            .get()
            .map_or(0, |booted| booted.elapsed().as_nanos() as u64)
    }

    fn relax(&self, _: &Task) {
        std::thread::yield_now();
    }

    // With several CPUs, this would interrupt each of the others, let the handler call
    // `Frames::drain_local`, and wait until all handlers have run.
    fn drain_others(&self, _: &Task) {}

    // A grace period ends when every CPU was seen outside its pins and gated sections. The caller
    // is a task without a pin, and on the only CPU.
    fn begin_grace(&self, _: &Task) {}
    fn wait_for_grace(&self, _: &Task) {}

    /// No task is confined to some nodes here, so requests need not ask.
    fn any_cpuset(&self) -> bool {
        false
    }

    // This kernel has no background reclaimer, and nothing that could be reclaimed.
    fn wake_reclaim(&self, _: NodeId, _: ContextKind) {}
    fn shrink(&self, _: NodeId, _: ZoneKind, _: usize, _: &Task) -> usize {
        0
    }
    fn reclaimable(&self, _: NodeId, _: ZoneKind) -> usize {
        0
    }
    fn oom(&self, _: &AllocReport, _: &Task) -> OomOutcome {
        OomOutcome::NoVictim
    }

    /// Moves a page of the page cache, because the memory that it lies in is to leave, or is needed
    /// for a larger block.
    fn migrate(&self, from: Pfn, owner: Owner, task: &Task) -> Result<(), MigrateError> {
        if owner.kind() != OwnerKind::PageCache {
            return Err(MigrateError::Unmovable);
        }
        let page = PAGES.get(owner.number() as usize);
        let page = page.ok_or(MigrateError::Unmovable)?;
        let target = frames().alloc(task, &Request::movable(Order::ZERO).owned_by(owner));
        let target = target.map_err(|_| MigrateError::Busy)?;
        write(target.pfn(), read(from));
        // The page's number leads to the new frame from now on, and this function frees the old
        // one.
        let handle = FrameHandle::from_raw(page.swap(target.leak().into_raw(), AcqRel));
        let old = handle.and_then(|handle| frames().adopt(handle).ok());
        assert_eq!(old.map(|block| block.pfn()), Some(from));
        Ok(())
    }

    fn zero(&self, pfn: Pfn, order: Order) {
        for frame in 0..order.frames() {
            let word = word(Pfn(pfn.0 + frame));
            // SAFETY: the block was just taken and not yet handed out, so it has no other user.
            unsafe { word.cast::<u8>().write_bytes(0, FRAME_SIZE as usize) };
        }
    }

    fn report(&self, _: &FreeError) {
        FAULTS.fetch_add(1, Relaxed);
    }
}

// ---------------------------------------------------------------------------------------------
// Boot.

/// Allocates memory for the allocator's books, which stays for good. A kernel takes it from the
/// boot map.
fn books<T>(count: usize, book: impl FnMut() -> T) -> &'static [T] {
    let books: Vec<T> = std::iter::repeat_with(book).take(count).collect();
    books.leak()
}

/// Makes the allocator, and gives it the memory at boot.
fn boot() {
    BOOTED.get_or_init(Instant::now);
    let blocks = [BOOT_SECTION, DIMM_SECTION];
    let memory: Vec<u64> = vec![0; blocks.len() * SECTION_FRAMES * FRAME_SIZE as usize / 8];
    MEMORY.store(memory.leak().as_mut_ptr().expose_provenance(), Relaxed);
    let storage = Storage {
        // The table goes up to the highest section that may ever come. Section 0 has no books, so
        // no memory.
        sections: books(DIMM_SECTION.0 + 1, SectionSlot::new),
        cpus: books(1, CpuCaches::new),
        nodes: books(1, Node::new),
        // A node always has four zones, populated or not.
        zones: books(ZoneKind::ALL.len(), Zone::new),
    };
    let made = Frames::new(Machine, storage, Variant::Seed);
    let frames = FRAMES.get_or_init(|| made);
    frames.set_topology(&Topology::SINGLE);
    for block in blocks {
        let meta = &books(1, SectionMeta::new)[0];
        frames.add_section(block, meta).expect("the block is new");
    }
    // Boot memory may be any frames. Here it is all of the section but its first 100 ("the kernel's
    // image").
    let all = range_of(BOOT_SECTION);
    let usable = PfnRange::new(Pfn(all.start.0 + 100), all.end);
    let added = frames.add_boot_range(usable, BOOT_ZONE);
    assert_eq!(added, Ok(usable.len()));
    // This computes watermarks and builds the lists. From here on every context may allocate.
    frames.finish_boot();
}

// ---------------------------------------------------------------------------------------------
// The interrupt.

/// Frames that the handler holds, as handles in atomic words.
static TAKEN: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];
static TICKS: AtomicU32 = AtomicU32::new(0);
/// Ticks that came while the task was inside the allocator.
static INSIDE: AtomicU32 = AtomicU32::new(0);
/// Whether the task is inside the allocator.
static IS_INSIDE: AtomicBool = AtomicBool::new(false);
static FAILED: AtomicU32 = AtomicU32::new(0);

/// Handles the tick: takes a frame, signs it, and frees the one that it took 64 ticks ago.
///
/// It may have interrupted the task anywhere in `alloc` or in a free, between any two instructions.
/// That does not matter to it: there is no lock that the task could hold.
extern "C" fn tick(_: libc::c_int) {
    // SAFETY: this is the entry of the interrupt's handler; signals of its kind are masked in it.
    let irq = unsafe { HardIrq::mint() };
    let nth = TICKS.fetch_add(1, Relaxed);
    INSIDE.fetch_add(u32::from(IS_INSIDE.load(Relaxed)), Relaxed);
    let request = Request::atomic(Order::ZERO).owned_by(Owner::new(OwnerKind::Interrupt, nth));
    let Ok(block) = frames().alloc(&irq, &request) else {
        FAILED.fetch_add(1, Relaxed);
        return;
    };
    write(block.pfn(), signature(block.pfn(), OwnerKind::Interrupt));
    let place = &TAKEN[nth as usize % TAKEN.len()];
    give_back(place.swap(block.leak().into_raw(), Relaxed));
}

/// Returns what an owner writes into a frame. Two owners of one frame would notice.
fn signature(pfn: Pfn, owner: OwnerKind) -> u64 {
    pfn.0 << 8 | owner as u64
}

/// Turns a handle back into a block, checks its signature, and frees it.
fn give_back(raw: u64) {
    let Some(handle) = FrameHandle::from_raw(raw) else {
        return;
    };
    match frames().adopt(handle) {
        Ok(block) => check(&block, OwnerKind::Interrupt),
        Err(_) => {
            FAULTS.fetch_add(1, Relaxed);
        }
    }
}

fn check(block: &OurBlock, owner: OwnerKind) {
    if read(block.pfn()) != signature(block.pfn(), owner) {
        FAULTS.fetch_add(1, Relaxed);
    }
}

/// Starts or stops the timer.
fn set_timer(every: Duration) {
    let every = libc::timeval {
        tv_sec: 0,
        tv_usec: every.as_micros() as libc::suseconds_t,
    };
    let timer = libc::itimerval {
        it_interval: every,
        it_value: every,
    };
    // SAFETY: the handler is a function for one argument, as a handler without SA_SIGINFO has it;
    // it calls nothing that is not async-signal-safe. Both structures are initialised.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = tick as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(libc::sigaction(libc::SIGALRM, &action, ptr::null_mut()), 0);
        let set = libc::setitimer(libc::ITIMER_REAL, &timer, ptr::null_mut());
        assert_eq!(set, 0);
    }
}

// ---------------------------------------------------------------------------------------------
// Tasks.

/// Takes and frees blocks of several sizes until the timer has interrupted this often enough.
fn work(task: &Task) -> u64 {
    let mut held: Vec<OurBlock> = Vec::new();
    let (mut operations, mut random) = (0_u64, 1_u64);
    let deadline = Instant::now() + Duration::from_secs(20);
    while INSIDE.load(Relaxed) < 200 && Instant::now() < deadline {
        operations += 1;
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let order = Order::new([0, 0, 0, 0, 1, 3, 7, 9][(random >> 60) as usize % 8]);
        let request = Request::kernel(order.expect("the order is at most 10"));
        let request = request.owned_by(Owner::new(OwnerKind::Task, 1));
        IS_INSIDE.store(true, Relaxed);
        let block = frames().alloc(task, &request);
        IS_INSIDE.store(false, Relaxed);
        let block = block.expect("memory is plenty");
        write(block.pfn(), signature(block.pfn(), OwnerKind::Task));
        held.push(block);
        if held.len() > 24 {
            let block = held.swap_remove((random >> 40) as usize % held.len());
            check(&block, OwnerKind::Task);
            IS_INSIDE.store(true, Relaxed);
            // Dropping a block frees it.
            drop(block);
            IS_INSIDE.store(false, Relaxed);
        }
    }
    operations
}

/// A page cache, with a handle for each page. The allocator names a page by its number when it must
/// be moved.
static PAGES: [AtomicU64; 1000] = [const { AtomicU64::new(0) }; 1000];

/// Fills the page cache. Movable requests prefer the zone of memory that is meant to leave.
fn pages(task: &Task) {
    for (number, page) in PAGES.iter().enumerate() {
        let owner = Owner::new(OwnerKind::PageCache, number as u32);
        let block = frames().alloc(task, &Request::movable(Order::ZERO).owned_by(owner));
        let block = block.expect("memory is plenty");
        write(block.pfn(), number as u64);
        page.store(block.leak().into_raw(), Release);
    }
}

/// Returns how many pages with the right content lie in a range.
fn pages_in(range: PfnRange) -> usize {
    let right = |&(number, page): &(usize, &AtomicU64)| {
        let handle = FrameHandle::from_raw(page.load(Acquire));
        handle.is_some_and(|handle| {
            range.contains(handle.pfn()) && read(handle.pfn()) == number as u64
        })
    };
    PAGES.iter().enumerate().filter(right).count()
}

fn main() {
    boot();
    // SAFETY: the main thread is this kernel's task; it holds no lock.
    let task = &unsafe { Task::mint() };

    set_timer(Duration::from_micros(100));
    let operations = work(task);
    println!(
        "{operations} blocks taken by the task; {} interrupts, {} of them inside the allocator",
        TICKS.load(Relaxed),
        INSIDE.load(Relaxed)
    );

    // Memory comes while the interrupts go on: any range of whole 4 MiB.
    let dimm = range_of(DIMM_SECTION);
    let came = frames().online_range(dimm, DIMM_ZONE, task);
    println!("the DIMM comes: {came:?}");
    pages(task);
    let before = pages_in(dimm);
    println!("{before} of {} pages lie in it", PAGES.len());

    // It leaves again. An unmovable frame in it would make this fail at the deadline, with the
    // owner's name.
    let deadline_ns = Machine.now_ns() + 5_000_000_000;
    let left = frames().offline_range(dimm, deadline_ns, task);
    println!("the DIMM leaves: {left:?}");
    let after = pages_in(range_of(BOOT_SECTION));
    println!("{after} pages lie elsewhere, and are what they were");
    assert_eq!(frames().frame_state(dimm.start), FrameState::Absent);

    // The machine is at rest now: no code runs in the allocator, and no interrupt comes. So the
    // recount is exact.
    set_timer(Duration::ZERO);
    let irqs_off = IrqOff::<Machine>::new();
    let census = frames().validate_at_rest();
    drop(irqs_off);
    println!("validate: {census:?}");
    for handle in TAKEN.iter().chain(&PAGES) {
        match FrameHandle::from_raw(handle.swap(0, Relaxed)) {
            Some(handle) => drop(frames().adopt(handle)),
            None => continue,
        }
    }
    frames().drain_all(task);
    let census = frames().validate_at_rest().expect("the books are right");

    assert!(INSIDE.load(Relaxed) >= 200, "too few interrupts hit it");
    assert_eq!((before, after), (PAGES.len(), PAGES.len()));
    assert_eq!((FAULTS.load(Relaxed), FAILED.load(Relaxed)), (0, 0));
    assert_eq!((census.allocated, census.free), (0, census.managed));
    println!("everything came back: {} frames are free", census.free);
}
