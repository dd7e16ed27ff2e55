//! What the guest writes to QEMU's device `isa-debug-exit`, and where: QEMU then exits with twice
//! that and one.

/// The device's port.
pub const PORT: u16 = 0xf4;

/// Every verdict passed.
pub const PASSED: u32 = 0x10;
/// A verdict failed.
pub const FAILED: u32 = 0x11;
/// The kernel panicked, or died of an exception.
pub const CRASHED: u32 = 0x12;
/// The kernel refused its configuration (too little memory, too many CPUs, an unknown option).
pub const REFUSED: u32 = 0x13;
/// The loader refused the kernel image.
pub const LOADER_REFUSED: u32 = 0x14;

/// Every value.
pub const ALL: [u32; 5] = [PASSED, FAILED, CRASHED, REFUSED, LOADER_REFUSED];

/// Returns QEMU's exit status for a value.
pub const fn qemu_status(value: u32) -> i32 {
    (value as i32) * 2 + 1
}
