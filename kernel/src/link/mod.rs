//! COM2: the messages between the kernel and its host.
//!
//! Without a second port, or without a host behind it, no call here waits for long: messages go
//! nowhere and requests fail.

mod inbox;

use crate::arch::context::{HardIrq, Task};
use crate::arch::{Irqs, irq, time};
use crate::console::port::Serial;
use crate::thread::WaitQueue;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use inbox::Inbox;
use tidemark_sync::{IrqSpinLock, Rank};
use tidemark_wire::{
    Ask, Decoder, LabContext, MAX_FRAME_BYTES, PROTOCOL_VERSION, ToGuest, ToHost, encode,
};

pub use inbox::DimmEvents;

const BASE: u16 = 0x2f8;
/// The legacy interrupt of COM2.
const IRQ: u8 = 3;
/// How long a request waits for its answer: many times what QEMU needs on a busy machine.
const ANSWER_PATIENCE_NS: u64 = 10_000_000_000;

/// How long the report of a hang waits for the port's lock.
const STUCK_PATIENCE_NS: u64 = 300_000_000;

/// The reason why a request got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// There is no second serial port.
    NoPort,
    /// The host did not answer before the deadline.
    NoAnswer {
        /// How long the request waited, in nanoseconds.
        waited_ns: u64,
    },
}

/// The port, and the part of the next message that has arrived.
struct Link {
    port: Serial,
    decoder: Decoder,
}

static LINK: IrqSpinLock<Link, Irqs> = IrqSpinLock::new(
    Rank::Link,
    Link {
        // SAFETY: on every q35 these are COM2's ports, if it is there. Only this lock's holder and
        // a dying CPU use them.
        port: unsafe { Serial::at(BASE) },
        decoder: Decoder::new(),
    },
);
static PRESENT: AtomicBool = AtomicBool::new(false);
static NEXT_ID: AtomicU32 = AtomicU32::new(1);
/// The messages from the host. The receive interrupt writes it; waiting threads read it.
static INBOX: Inbox = Inbox::new();
/// The threads that wait for the inbox to change.
static CHANGED: WaitQueue = WaitQueue::new();

/// Looks for the second port and sends the hello. Interrupts and threads need not run yet.
pub fn init() {
    PRESENT.store(LINK.lock().port.init(), Ordering::Relaxed);
    transmit(&ToHost::Hello {
        protocol: PROTOCOL_VERSION,
    });
}

/// Starts the receive interrupt. Interrupts and threads run already.
pub fn start() {
    if present() {
        match irq::request_isa(IRQ, on_receive) {
            Ok(()) => LINK.lock().port.interrupt_on_receive(),
            Err(error) => crate::warn!("link: COM2 receives nothing: {error:?}"),
        }
    } else {
        crate::warn!("link: no second serial port; nothing can be asked of the host");
    }
}

/// Returns whether there is a second serial port.
pub fn present() -> bool {
    PRESENT.load(Ordering::Relaxed)
}

/// Sends a message; waits only for the port's lock. Without a port it does nothing.
pub fn send(_task: &Task, message: &ToHost) {
    transmit(message);
}

fn transmit(message: &ToHost) {
    let mut buffer = [0; MAX_FRAME_BYTES];
    if let (true, Ok(frame)) = (present(), encode(message, &mut buffer)) {
        LINK.lock().port.send(frame);
    }
}

/// Reports a crash to the host, around the port's lock. The dying routine calls it, when the other
/// CPUs have stopped.
pub(crate) fn send_crash(cpu: u16, rip: u64) {
    // SAFETY: no other CPU sends any more.
    unsafe { send_around_the_lock(&ToHost::Crash { cpu, rip }) };
}

/// Reports to the host a reader that waits for the rebuild that it has interrupted. Any context of
/// that CPU or its neighbour may call it. Neither gets any further otherwise, so a lock that stays
/// taken is bypassed.
pub(crate) fn send_stuck_reader(cpu: u16, context: LabContext, rip: u64) {
    time::spin_until(STUCK_PATIENCE_NS, || !LINK.is_locked());
    // SAFETY: a holder of the lock has had its time and will not go on. If it goes on after all,
    // one message is damaged.
    unsafe { send_around_the_lock(&ToHost::StuckReader { cpu, context, rip }) };
}

/// Sends a message around the port's lock.
///
/// # Safety
/// No other code sends meanwhile, or the damage to what it sends is the smaller evil.
unsafe fn send_around_the_lock(message: &ToHost) {
    let mut buffer = [0; MAX_FRAME_BYTES];
    if let (true, Ok(frame)) = (present(), encode(message, &mut buffer)) {
        // SAFETY: the ports are COM2's, and the caller promises that no other code uses them.
        let mut port = unsafe { Serial::at(BASE) };
        // A zero byte ends a message that may have been under way.
        port.send(&[0]);
        port.send(frame);
    }
}

/// Asks the host for something and waits for its answer, ten seconds at most.
///
/// # Errors
/// Returns a [`LinkError`] if no answer comes. A refusal is an answer: `Ok(false)`.
pub fn ask(task: &Task, ask: Ask) -> Result<bool, LinkError> {
    if !present() {
        return Err(LinkError::NoPort);
    }
    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    let started = time::now_ns();
    send(task, &ToHost::Ask { id, ask });
    let mut answer = None;
    let _ = CHANGED.wait_until(task, started + ANSWER_PATIENCE_NS, || {
        answer = INBOX.answer_to(id);
        answer.is_some()
    });
    answer.ok_or_else(|| LinkError::NoAnswer {
        waited_ns: time::now_ns() - started,
    })
}

/// Returns the events of a DIMM so far. A caller takes them before it asks for something, and then
/// waits for a change.
pub fn dimm_events(dimm: u8) -> DimmEvents {
    INBOX.dimm(dimm)
}

/// Waits until `done` holds for a DIMM's events or the clock reaches `deadline_ns` (since boot).
/// Returns the last state seen, and whether `done` held.
pub fn wait_dimm(
    task: &Task,
    dimm: u8,
    deadline_ns: u64,
    done: impl Fn(&DimmEvents) -> bool,
) -> (DimmEvents, bool) {
    let mut seen = dimm_events(dimm);
    let in_time = CHANGED.wait_until(task, deadline_ns, || {
        seen = dimm_events(dimm);
        done(&seen)
    });
    (seen, in_time.is_ok())
}

fn on_receive(irq: &HardIrq) {
    let mut changed = false;
    {
        let mut link = LINK.lock();
        while let Some(byte) = link.port.receive() {
            // Bytes that are no message were damaged on their way; a request that waits for it
            // times out.
            if let Some(Ok(message)) = link.decoder.push::<ToGuest>(byte) {
                INBOX.put(&message);
                changed = true;
            }
        }
    }
    if changed {
        CHANGED.wake_all(irq);
    }
}
