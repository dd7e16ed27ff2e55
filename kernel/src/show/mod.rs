//! The kernel's state as tables, in the form of Linux's /proc.
//!
//! A table is read while the machine goes on. Each number was true a moment ago, but not all at the
//! same moment.

mod devices;
mod memory;

use crate::arch::context::Task;
use crate::console;
pub use crate::options::{Topic, Topics};
use core::fmt;
use tidemark_wire::{DUMP_BEGIN, DUMP_END};

/// The whole table of a topic.
pub struct Table(pub Topic);

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Topic::Zoneinfo => memory::zoneinfo(f),
            Topic::Buddyinfo => memory::buddyinfo(f),
            Topic::Zonelists => memory::zonelists(f),
            Topic::Meminfo => memory::meminfo(f),
            Topic::Interrupts => devices::interrupts(f),
            Topic::Threads => devices::threads(f),
            Topic::Dimms => devices::dimms(f),
        }
    }
}

/// Prints topics, each between two lines that name it, without time stamps.
pub fn dump(task: &Task, topics: Topics) {
    for topic in topics.iter() {
        let (name, table) = (topic.name(), Table(topic));
        console::raw(
            task,
            format_args!("{DUMP_BEGIN}{name}\n{table}{DUMP_END}{name}\n"),
        );
    }
}
