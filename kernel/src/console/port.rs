//! COM1: its lock, and the one way around it.

use crate::arch::{Irqs, time};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tidemark_sync::{IrqSpinLock, Rank};
use uart_16550::backend::PioBackend;
use uart_16550::spec::registers::{FifoTriggerLevel, IER};
use uart_16550::{BaudRate, Config, Uart16550};

const BASE: u16 = 0x3f8;
/// How long a port may take nothing before it counts as stuck: a busy host may not read for a
/// while.
const STUCK_NS: u64 = 5_000_000_000;
/// Polls of the line status between two looks at the clock.
const POLLS: u32 = 1024;
/// How long a port may be stuck, in polls, for the time before there is a clock.
const STUCK_POLLS: u32 = 20_000_000;

/// Texts of which a port that was stuck did not take the rest.
static CUT: AtomicU64 = AtomicU64::new(0);

/// Texts cut short so far because a port was stuck.
pub(super) fn cut_total() -> u64 {
    CUT.load(Relaxed)
}

/// A serial port that is polled for sending and interrupts for receiving.
#[derive(Debug)]
pub struct Serial(Uart16550<PioBackend>);

impl Serial {
    /// Names a port.
    ///
    /// # Safety
    /// Eight ports from `base` belong to a 16550 or to nobody, and what this value does to them
    /// disturbs no other user.
    pub const unsafe fn at(base: u16) -> Self {
        // SAFETY: the caller's promise.
        match unsafe { Uart16550::new_port(base) } {
            Ok(port) => Serial(port),
            Err(_) => panic!("eight ports do not fit"),
        }
    }

    /// Sets the port up and tells whether one is there.
    pub fn init(&mut self) -> bool {
        let config = Config {
            baud_rate: BaudRate::Baud115200,
            // A byte that arrives alone interrupts at once instead of after a time-out.
            fifo_trigger_level: Some(FifoTriggerLevel::One),
            ..Config::DEFAULT
        };
        self.0.init(config).is_ok()
    }

    /// Sends all bytes; gives the rest up, and counts that, if the port takes nothing for seconds.
    pub fn send(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        let (mut polls, mut since_ns) = (0_u32, 0);
        while !rest.is_empty() {
            let sent = self.0.send_bytes(rest);
            rest = &rest[sent..];
            polls = if sent > 0 { 0 } else { polls + 1 };
            if polls == 0 || !polls.is_multiple_of(POLLS) {
                continue;
            }
            let now_ns = time::now_ns();
            if polls == POLLS {
                since_ns = now_ns;
            }
            if now_ns - since_ns > STUCK_NS || polls > STUCK_POLLS {
                CUT.fetch_add(1, Relaxed);
                return;
            }
        }
    }

    /// Takes one received byte, if there is one.
    pub fn receive(&mut self) -> Option<u8> {
        self.0.try_receive_byte().ok()
    }

    /// Makes received bytes interrupt.
    pub fn interrupt_on_receive(&mut self) {
        self.0.enable_interrupts(IER::DATA_READY);
    }
}

/// COM1, under the port lock that senders and the receive interrupt share.
pub static COM1: IrqSpinLock<Serial, Irqs> = IrqSpinLock::new(
    Rank::SerialPort,
    // SAFETY: on every q35 these are COM1's ports; the lock makes this the only user, but for
    // `broken_open`'s.
    unsafe { Serial::at(BASE) },
);

/// COM1 without its lock.
///
/// # Safety
/// No other CPU sends any more, or boot has not begun to share the port; and what a lock holder on
/// this CPU had under way is lost.
pub unsafe fn broken_open() -> Serial {
    // SAFETY: the caller's promise. Not initialised again, which would throw away what the FIFO
    // holds: this value then sends one byte a poll, which every state of the device takes.
    unsafe { Serial::at(BASE) }
}
