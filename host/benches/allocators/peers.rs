//! The other allocators, each used as its documentation says.

use crate::Allocator;
use axallocator::{BaseAllocator, PageAllocator};
use frame_alloc::{
    CpuId, DepotAllocator, NoInterruptControl, PageSize, PhysRange, PhysicalAllocator, Provenance,
    RegionInit, SummaryBuddyAllocator,
};
use std::alloc::{Layout, alloc, dealloc};
use std::cell::{Cell, UnsafeCell};
use std::num::NonZeroUsize;
use std::ptr::{self, NonNull};

const FRAME_SIZE: usize = 4096;
/// Start of the made-up addresses, which is aligned for any block.
const BASE: usize = 1 << 30;

/// A value that only one thread may use, in a type that threads may share.
struct Alone<T>(UnsafeCell<T>);

// SAFETY: the workloads of several threads are not run on the allocators that hold one.
unsafe impl<T> Sync for Alone<T> {}

impl<T> Alone<T> {
    fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    #[expect(clippy::mut_from_ref, reason = "one thread, one borrow at a time")]
    fn get(&self) -> &mut T {
        // SAFETY: only one thread uses the value (see above), and it keeps no borrow beyond a call
        // of `alloc` or `free`.
        unsafe { &mut *self.0.get() }
    }
}

/// Address space that stands for memory. The host backs the pages that are touched.
struct Span {
    start: NonNull<u8>,
    layout: Layout,
}

impl Span {
    fn new(frames: usize) -> Self {
        let layout = Layout::from_size_align(frames * FRAME_SIZE, 1 << 22).expect("a valid size");
        // SAFETY: the size is not 0.
        let start = NonNull::new(unsafe { alloc(layout) }).expect("address space");
        Self { start, layout }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        // SAFETY: `new` allocated it with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// The harness without an allocator.
pub struct Nothing;

impl Allocator for Nothing {
    const NAME: &'static str = "harness alone";
    type Block = u64;

    fn new(_frames: usize) -> Self {
        Self
    }

    fn alloc(&self, order: u8) -> Option<u64> {
        Some(order.into())
    }

    fn free(&self, block: u64) {
        std::hint::black_box(block);
    }
}

/// A bare stack of frame numbers of one CPU. It does the least that a cache must do.
pub struct Lifo(Alone<Vec<u32>>);

impl Allocator for Lifo {
    const NAME: &'static str = "bare LIFO";
    type Block = u32;

    fn new(frames: usize) -> Self {
        Self(Alone::new((0..frames as u32).collect()))
    }

    #[inline(never)]
    fn alloc(&self, _order: u8) -> Option<u32> {
        self.0.get().pop()
    }

    #[inline(never)]
    fn free(&self, block: u32) {
        self.0.get().push(block);
    }
}

thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
}

/// The thread's CPU, for `frame-alloc`.
pub struct ThreadCpu;

impl CpuId for ThreadCpu {
    fn current_cpu() -> usize {
        CPU.get()
    }
}

/// Memory at its own address, for `frame-alloc`.
pub struct Identity;

// SAFETY: the span's provenance was exposed, and its addresses are used as they are.
unsafe impl Provenance for Identity {
    unsafe fn create(phys: usize) -> NonNull<u8> {
        // SAFETY: the allocator asks only for addresses of its span, and those are not 0.
        unsafe { NonNull::new_unchecked(ptr::with_exposed_provenance_mut(phys)) }
    }

    unsafe fn destroy<T>(pointer: NonNull<T>) -> usize {
        pointer.addr().get()
    }
}

const PAGE: PageSize = PageSize::from_log2(12);

type Depot =
    DepotAllocator<SummaryBuddyAllocator<11, Identity>, ThreadCpu, 2, 128, 512, NoInterruptControl>;

/// `frame-alloc`: per-CPU magazines over a lock-free buddy. Nothing keeps interrupts out of the
/// magazines.
pub struct FrameAlloc {
    inner: Box<Depot>,
    _span: Span,
}

// SAFETY: the allocator is meant to be shared, and the span is only kept alive.
unsafe impl Sync for FrameAlloc {}

fn count(order: u8) -> NonZeroUsize {
    NonZeroUsize::new(1 << order).expect("an order of at most 10")
}

impl Allocator for FrameAlloc {
    const NAME: &'static str = "frame-alloc";
    type Block = (usize, u8);

    fn new(frames: usize) -> Self {
        let span = Span::new(frames);
        let inner = Box::new(Depot::new(PAGE, SummaryBuddyAllocator::new(PAGE)));
        let base = span.start.as_ptr().expose_provenance();
        let len = frames * FRAME_SIZE;
        // SAFETY: the span belongs to us alone and is mapped at its address, and there is only one
        // thread yet.
        unsafe { inner.try_init(base, len, &[PhysRange { base, len }]) }.expect("a valid span");
        Self { inner, _span: span }
    }

    fn enter(&self, cpu: usize) {
        CPU.set(cpu);
    }

    fn alloc(&self, order: u8) -> Option<Self::Block> {
        let base = self.inner.allocate_physical(PAGE, count(order)).ok()?;
        Some((base, order))
    }

    fn free(&self, (base, order): Self::Block) {
        // SAFETY: `alloc` allocated it with this count, and the caller has given it up.
        unsafe { self.inner.deallocate_physical(PAGE, count(order), base) };
    }
}

/// The bitmap of `axallocator`.
pub struct AxBitmap(Alone<axallocator::BitmapPageAllocator<FRAME_SIZE>>);

impl Allocator for AxBitmap {
    const NAME: &'static str = "axallocator bitmap";
    type Block = (usize, u8);

    fn new(frames: usize) -> Self {
        let mut inner = axallocator::BitmapPageAllocator::new();
        inner.init(BASE, frames * FRAME_SIZE);
        Self(Alone::new(inner))
    }

    fn alloc(&self, order: u8) -> Option<Self::Block> {
        let pages = 1 << order;
        let base = self.0.get().alloc_pages(pages, pages * FRAME_SIZE).ok()?;
        Some((base, order))
    }

    fn free(&self, (base, order): Self::Block) {
        self.0.get().dealloc_pages(base, 1 << order);
    }
}

/// The frame allocator of `buddy_system_allocator`.
pub struct BuddySystem(Alone<buddy_system_allocator::FrameAllocator<11>>);

impl Allocator for BuddySystem {
    const NAME: &'static str = "buddy_system_allocator";
    type Block = (usize, u8);

    fn new(frames: usize) -> Self {
        let mut inner = buddy_system_allocator::FrameAllocator::new();
        inner.add_frame(0, frames);
        Self(Alone::new(inner))
    }

    fn alloc(&self, order: u8) -> Option<Self::Block> {
        Some((self.0.get().alloc(1 << order)?, order))
    }

    fn free(&self, (start, order): Self::Block) {
        self.0.get().dealloc(start, 1 << order);
    }
}

/// The buddy of `buddy-slab-allocator`, which keeps a part of the span for its metadata.
pub struct BuddySlab {
    inner: Alone<buddy_slab_allocator::BuddyAllocator<FRAME_SIZE>>,
    _span: Span,
}

// SAFETY: the workloads of several threads are not run on this allocator.
unsafe impl Sync for BuddySlab {}

impl Allocator for BuddySlab {
    const NAME: &'static str = "buddy-slab-allocator";
    type Block = (usize, u8);

    fn new(frames: usize) -> Self {
        let span = Span::new(frames);
        let mut inner = buddy_slab_allocator::BuddyAllocator::new();
        // SAFETY: the span belongs to us alone and outlives the allocator. By the allocator's
        // documentation its bytes are written before they are read.
        unsafe {
            let region = std::slice::from_raw_parts_mut(span.start.as_ptr(), span.layout.size());
            inner.init(region).expect("a valid region");
        }
        Self {
            inner: Alone::new(inner),
            _span: span,
        }
    }

    fn alloc(&self, order: u8) -> Option<Self::Block> {
        // Its blocks are aligned from the end of its metadata on, so a larger alignment may not be
        // had.
        let base = self.inner.get().alloc_pages(1 << order, FRAME_SIZE).ok()?;
        Some((base, order))
    }

    fn free(&self, (base, order): Self::Block) {
        self.inner.get().dealloc_pages(base, 1 << order);
    }
}
