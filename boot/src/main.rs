//! The loader as an image; everything but the panic handler is in the library.
#![no_std]
#![no_main]

use core::panic::PanicInfo;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    tidemark_boot::console::die(info)
}
