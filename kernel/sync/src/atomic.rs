//! The atomics that shared algorithms use: `core`'s, or loom's under `--cfg loom`.
//!
//! loom does not model compiler fences; what relies on them (same-CPU protocols) is tested by
//! enumeration instead.

#[cfg(not(loom))]
pub use core::{
    hint::spin_loop,
    sync::atomic::{
        AtomicBool, AtomicI32, AtomicI64, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64,
        AtomicUsize, Ordering, compiler_fence, fence,
    },
};

#[cfg(loom)]
pub use core::sync::atomic::compiler_fence;
#[cfg(loom)]
pub use loom::{
    hint::spin_loop,
    sync::atomic::{
        AtomicBool, AtomicI32, AtomicI64, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64,
        AtomicUsize, Ordering, fence,
    },
};

/// Fences fully in models. Elsewhere it is nothing: the accesses on either side of it are SeqCst,
/// one of them a read-modify-write or a store, which orders them by itself. loom takes SeqCst
/// accesses for weaker ones, and SeqCst fences for what they are.
#[inline(always)]
pub fn fence_for_models() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}
