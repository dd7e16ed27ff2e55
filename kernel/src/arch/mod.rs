//! What belongs to the processor.

pub mod mem;
