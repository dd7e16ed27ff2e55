//! The context tokens; minted here by the entry paths, and by the scheduler for tasks.

pub use tidemark_sync::context::{HardIrq, Nmi, Task};
