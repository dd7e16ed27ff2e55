//! The atomics that shared algorithms use: `core`'s, or loom's under `--cfg loom`.
//!
//! loom does not model compiler fences. The protocols that rely on them run on one CPU, and are
//! tested by enumerating their steps instead.

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

/// Executes a SeqCst fence in loom's models, and nothing elsewhere.
///
/// Outside of models the accesses on either side order themselves: they are SeqCst, and one of them
/// is a store or a read-modify-write. In its models, loom treats SeqCst accesses as weaker ones,
/// but models SeqCst fences faithfully.
#[inline(always)]
pub fn fence_for_models() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}
