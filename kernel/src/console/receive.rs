//! Bytes that arrive on COM1. An interrupt takes them under the port's lock and has a frame
//! allocated for them, as a tty does.

use super::port::COM1;
use crate::arch::context::HardIrq;
use crate::arch::irq;
use crate::points;
use tidemark_sync::{Hook, hook};
use tidemark_wire::LabPoint;

/// The legacy interrupt of COM1.
const IRQ: u8 = 4;
/// Most bytes taken in one interrupt.
const BYTES_PER_IRQ: usize = 64;

/// The reader of what is typed.
#[derive(Clone, Copy, Debug)]
pub struct RxSink {
    /// Takes one byte, in the interrupt, with the port's lock held. It takes no lock and wakes no
    /// thread.
    pub take: fn(u8),
    /// Wakes the reader, in the same interrupt, after the port's lock was released.
    pub wake: fn(&HardIrq),
}

/// A function that takes a frame for a byte.
pub type RxAllocHook = fn(&HardIrq, u8);

static HOOK: Hook<RxAllocHook> = hook!(fn(&HardIrq, u8));
static SINK: spin::Once<RxSink> = spin::Once::new();

/// Sets the function that takes a frame for each byte that COM1 receives, replacing the one so far.
/// It is called in COM1's interrupt with the port's lock held.
pub fn set_rx_alloc_hook(hook: RxAllocHook) {
    HOOK.set(hook);
}

/// Removes the function that takes frames for received bytes.
pub fn clear_rx_alloc_hook() {
    HOOK.clear();
}

/// Sets, once, the reader of the bytes that COM1 receives. The frame for each is still taken,
/// before. Returns whether there was no reader so far.
pub fn set_rx_sink(sink: RxSink) -> bool {
    let mut is_first = false;
    SINK.call_once(|| {
        is_first = true;
        sink
    });
    is_first
}

pub(super) fn init() {
    match irq::request_isa(IRQ, on_receive) {
        Ok(()) => COM1.lock().interrupt_on_receive(),
        Err(error) => crate::warn!("console: COM1 receives nothing: {error:?}"),
    }
}

fn on_receive(irq: &HardIrq) {
    let (hook, sink) = (HOOK.get(), SINK.get());
    let mut taken = 0;
    {
        // This is dropped after the port's lock.
        #[cfg(feature = "lab")]
        let _part = points::TtyPart::begin();
        let mut port = COM1.lock();
        points::passed(LabPoint::PortLocked);
        while taken < BYTES_PER_IRQ
            && let Some(byte) = port.receive()
        {
            taken += 1;
            // The lock is held on purpose: the hook allocates what the tty layer allocates (H3).
            if let Some(hook) = hook {
                hook(irq, byte);
            }
            if let Some(sink) = sink {
                (sink.take)(byte);
            }
        }
        points::passed(LabPoint::PortFreed);
    }
    // The port's lock is released here, because the wait queue's lock comes before it in the lock
    // order.
    if let Some(sink) = sink.filter(|_| taken > 0) {
        (sink.wake)(irq);
    }
}
