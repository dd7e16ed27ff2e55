//! The Tidemark kernel.
#![no_std]

#[cfg(target_feature = "avx")]
compile_error!(
    "the entry stubs save SSE registers only: build without target-cpu or target-feature flags that turn AVX on"
);

pub mod arch;
pub mod console;
pub mod hotplug;
pub mod link;
pub mod mm;
pub mod options;
pub mod panic;
pub mod selftest;
pub mod tests;
pub mod thread;

use bootloader_api::BootInfo;
use core::fmt::Write as _;
use core::panic::PanicInfo;
use tidemark_wire::exit_value;
use uart_16550::{Config, Uart16550Tty};
use x86_64::instructions::{hlt, port::Port};

/// Boots the kernel: the order of boot, top to bottom.
pub fn kmain(boot_info: &'static mut BootInfo) -> ! {
    // SAFETY: COM1's ports are there on every q35, and nothing else uses them this early.
    if let Ok(mut com1) = unsafe { Uart16550Tty::new_port(0x3f8, Config::default()) } {
        let _ = writeln!(com1, "tidemark");
        for region in boot_info.memory_regions.iter() {
            let _ = writeln!(
                com1,
                "{:#014x}..{:#014x} {:?}",
                region.start, region.end, region.kind
            );
        }
    }
    exit(exit_value::PASSED)
}

/// Ends the machine after a panic.
pub fn die(info: &PanicInfo<'_>) -> ! {
    // SAFETY: the machine ends here; whoever used the port before does not go on.
    if let Ok(mut com1) = unsafe { Uart16550Tty::new_port(0x3f8, Config::default()) } {
        let _ = writeln!(com1, "{info}");
    }
    exit(exit_value::CRASHED)
}

/// Ends QEMU with a value of [`exit_value`]; without the exit device, halts for good.
pub fn exit(value: u32) -> ! {
    let mut port = Port::<u32>::new(0xf4);
    // SAFETY: the debug-exit device does nothing but end the machine.
    unsafe { port.write(value) };
    loop {
        hlt();
    }
}
