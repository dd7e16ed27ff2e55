//! COM1: its lock, and the one way to use it without the lock.

use crate::arch::{Irqs, time};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tidemark_sync::{IrqSpinLock, Rank};
use uart_16550::backend::PioBackend;
use uart_16550::spec::registers::{FifoTriggerLevel, IER};
use uart_16550::{BaudRate, Config, Uart16550};

const BASE: u16 = 0x3f8;
/// How long a port may take no byte before it counts as stuck. A busy host may not read for a
/// while.
const STUCK_NS: u64 = 5_000_000_000;
/// Number of polls of the line status between two looks at the clock.
const POLLS: u32 = 1024;
/// How many polls a port may be stuck for, while there is no clock.
const STUCK_POLLS: u32 = 20_000_000;

/// Number of texts cut short because a port was stuck.
static CUT: AtomicU64 = AtomicU64::new(0);

/// Returns the number of texts cut short so far because a port was stuck.
pub(super) fn cut_total() -> u64 {
    CUT.load(Relaxed)
}

/// A serial port that is polled for sending and interrupts for receiving.
#[derive(Debug)]
pub struct Serial(Uart16550<PioBackend>);

impl Serial {
    /// Returns the port at the I/O address `base`, without touching it.
    ///
    /// # Safety
    /// The eight ports from `base` on belong to a 16550 or to no device, and what this value does
    /// to them disturbs no other user.
    pub const unsafe fn at(base: u16) -> Self {
        // SAFETY: the caller makes the promise that the call needs.
        match unsafe { Uart16550::new_port(base) } {
            Ok(port) => Serial(port),
            Err(_) => panic!("eight ports do not fit"),
        }
    }

    /// Sets the port up and returns whether there is one.
    pub fn init(&mut self) -> bool {
        let config = Config {
            baud_rate: BaudRate::Baud115200,
            // A byte that arrives alone then interrupts at once instead of after a time-out.
            fifo_trigger_level: Some(FifoTriggerLevel::One),
            ..Config::DEFAULT
        };
        self.0.init(config).is_ok()
    }

    /// Sends all bytes. If the port takes none for seconds, it drops the rest and counts that.
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

    /// Makes received bytes raise an interrupt.
    pub fn interrupt_on_receive(&mut self) {
        self.0.enable_interrupts(IER::DATA_READY);
    }
}

/// COM1, under the port lock that senders and the receive interrupt share.
pub static COM1: IrqSpinLock<Serial, Irqs> = IrqSpinLock::new(
    Rank::SerialPort,
    // SAFETY: on every q35 these are COM1's ports. The lock makes this the only user, apart from
    // the value of `broken_open`.
    unsafe { Serial::at(BASE) },
);

/// Returns COM1 without its lock.
///
/// # Safety
/// No other CPU sends any more, or boot has not begun to share the port. What a lock holder on this
/// CPU was sending is lost.
pub unsafe fn broken_open() -> Serial {
    // SAFETY: the caller makes the promise that the call needs. The port is not initialised again,
    // because that would discard the bytes in the FIFO. This value therefore sends one byte a poll,
    // which the device accepts in every state.
    unsafe { Serial::at(BASE) }
}
