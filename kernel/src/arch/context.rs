//! The context tokens. The entry paths mint them here, and the scheduler mints those of tasks.

pub use tidemark_sync::context::{HardIrq, Nmi, Task};
