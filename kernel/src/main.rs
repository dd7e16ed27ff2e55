//! The kernel as an image: the entry point that the loader calls, and the panic handler.
#![no_std]
#![no_main]

use bootloader_api::config::Mapping;
use bootloader_api::{BootloaderConfig, entry_point};
use core::panic::PanicInfo;

/// The requests to the loader: a map of all physical memory, and a stack for boot.
const CONFIG: BootloaderConfig = {
    let mut config = BootloaderConfig::new_default();
    config.mappings.physical_memory = Some(Mapping::Dynamic);
    // The kernel uses only the upper half: identity mappings and the trampoline need the lower one.
    config.mappings.dynamic_range_start = Some(0xffff_8000_0000_0000);
    config.kernel_stack_size = 64 * 1024;
    config
};

entry_point!(tidemark_kernel::kmain, config = &CONFIG);

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    tidemark_kernel::die(info)
}
