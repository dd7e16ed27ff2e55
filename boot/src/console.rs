//! The loader's last output: one line on COM1, then the machine's end.

use crate::error::Error;
use core::fmt::{Display, Write as _};
use core::panic::PanicInfo;
use tidemark_facts::exit_value;
use uart_16550::{Config, Uart16550Tty};
use x86_64::instructions::{hlt, port::Port};

/// The first port of COM1.
const COM1: u16 = 0x3f8;

/// Prints what is wrong and ends the machine.
pub fn refuse(error: &Error) -> ! {
    end(error)
}

/// Ends the machine after a panic, which is a mistake of the loader's own.
pub fn die(info: &PanicInfo<'_>) -> ! {
    end(&format_args!(
        "loader: {}, at {}; report this",
        info.message(),
        info.location()
            .map_or(&"unknown place" as &dyn Display, |place| place),
    ))
}

fn end(line: &dyn Display) -> ! {
    // SAFETY: no other code uses COM1 while the loader runs, and it runs on one CPU.
    if let Ok(mut com1) = unsafe { Uart16550Tty::new_port(COM1, Config::default()) } {
        // A failure here cannot be reported in any other way.
        let _ = writeln!(com1, "boot: {line}");
    }
    let mut exit = Port::<u32>::new(exit_value::PORT);
    // SAFETY: writing there ends QEMU, or does nothing where the device is missing.
    unsafe { exit.write(exit_value::LOADER_REFUSED) };
    loop {
        hlt();
    }
}
