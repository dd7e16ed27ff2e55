//! Builds the guest, describes its machine, runs it under QEMU and records its output.

pub mod accel;
pub mod build;
pub mod conductor;
pub mod machine;
pub mod options;
pub mod qemu;
pub mod qmp;
pub mod record;
pub mod registers;
pub mod run;
pub mod several;
pub mod watchdog;
