//! Non-maskable interrupts.

use super::context::Nmi;
use super::entry::TrapFrame;
use super::irq::IrqError;
use super::percpu::{self, CpuId};
use super::{apic, ipi, vectors};
use core::sync::atomic::Ordering::*;
use tidemark_sync::{Hooks, hook};

/// A handler that an NMI calls. It takes no lock, wakes no thread and must not fault. The return
/// from a fault would let the next NMI in on the stack of this one.
pub type Handler = fn(&Nmi, &TrapFrame);

static HOOKS: Hooks<Handler, 8> = Hooks([const { hook!(fn(&Nmi, &TrapFrame)) }; 8]);

/// Adds a handler that every NMI calls; up to eight.
///
/// # Errors
///
/// Returns [`IrqError::Full`] if there are eight already.
pub fn add_hook(handler: Handler) -> Result<(), IrqError> {
    HOOKS.add(handler).map(drop).ok_or(IrqError::Full)
}

pub(super) fn dispatch(frame: &TrapFrame) {
    let block = percpu::current();
    block.in_nmi.store(1, Relaxed);
    ipi::stop_if_asked(frame);
    // SAFETY: this is the handler of the NMI, and the token ends with it.
    let token = unsafe { Nmi::mint() };
    #[cfg(feature = "lab")]
    super::own_time::leaving_out(|| call_hooks(&token, frame));
    #[cfg(not(feature = "lab"))]
    call_hooks(&token, frame);
    block.in_nmi.store(0, Relaxed);
}

fn call_hooks(token: &Nmi, frame: &TrapFrame) {
    for hook in HOOKS.iter() {
        hook(token, frame);
    }
}

/// Returns whether `cpu` is in the handler of an NMI, where no other NMI reaches it. Any context
/// may call it.
pub fn is_in(cpu: CpuId) -> bool {
    percpu::get(cpu).is_some_and(|block| block.in_nmi.load(Relaxed) != 0)
}

/// Sends an NMI to `cpu`, which may be the running one, in physical destination mode. Any context
/// may call it.
pub fn send(cpu: CpuId) {
    if let Some(block) = percpu::get(cpu) {
        apic::send(block.apic_id.load(Relaxed), apic::Message::Nmi);
    }
}

/// Returns the number of NMIs that `cpu` has taken.
pub fn count(cpu: CpuId) -> u32 {
    percpu::of(cpu).taken(vectors::NMI)
}
