//! The context tokens (DESIGN 3), until `tidemark-sync` has them.

use core::marker::PhantomData;

/// Proof of task context.
#[derive(Debug)]
pub struct Task(PhantomData<*mut ()>);
/// Proof of a hard interrupt's handler.
#[derive(Debug)]
pub struct HardIrq(PhantomData<*mut ()>);
/// Proof of an NMI's handler.
#[derive(Debug)]
pub struct Nmi(PhantomData<*mut ()>);

macro_rules! mint {
    ($($token:ident),*) => {$(
        impl $token {
            /// Makes a token.
            ///
            /// # Safety
            /// The caller runs in that context for as long as the token lives.
            pub const unsafe fn mint() -> Self {
                Self(PhantomData)
            }
        }
    )*};
}
mint!(Task, HardIrq, Nmi);
