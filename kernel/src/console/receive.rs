//! Bytes that arrive on COM1: an interrupt takes them under the port's lock and has a frame allocated for them, as a tty does.

use super::port::COM1;
use crate::arch::context::HardIrq;
use crate::arch::irq;
use core::sync::atomic::{AtomicU64, Ordering};

/// COM1's legacy interrupt.
const IRQ: u8 = 4;
/// Bytes taken in one interrupt at most.
const BYTES_PER_IRQ: usize = 64;

static HOOK: spin::Once<fn(&HardIrq, u8)> = spin::Once::new();
static RECEIVED: AtomicU64 = AtomicU64::new(0);

/// Sets, once, what takes a frame for each byte that COM1 receives; called in its interrupt with the port's lock held.
pub fn set_rx_alloc_hook(hook: fn(&HardIrq, u8)) {
    HOOK.call_once(|| hook);
}

/// Bytes received on COM1 since boot.
pub fn received_total() -> u64 {
    RECEIVED.load(Ordering::Relaxed)
}

pub(super) fn init() {
    match irq::request_isa(IRQ, on_receive) {
        Ok(()) => COM1.lock().interrupt_on_receive(),
        Err(error) => crate::warn!("console: COM1 receives nothing: {error:?}"),
    }
}

fn on_receive(irq: &HardIrq) {
    let mut port = COM1.lock();
    for _ in 0..BYTES_PER_IRQ {
        let Some(byte) = port.receive() else { break };
        RECEIVED.fetch_add(1, Ordering::Relaxed);
        // Under the lock on purpose: what the hook allocates, the tty layer allocates (H3).
        if let Some(hook) = HOOK.get() {
            hook(irq, byte);
        }
    }
}
